// A width is a `usize`: a second integer would leave the type of every literal open.
use fanfold::Fanfold;

fn main() {
    let n: i32 = 4;
    println!("{}", (0..9_u64).par_map_ordered(n, |x| x).count());
}
