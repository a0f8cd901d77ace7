// A width is a `usize`.
use fanfold::Fanfold;

fn main() {
    println!("{}", (0..9_u64).par_map_ordered(-1, |x| x).count());
}
