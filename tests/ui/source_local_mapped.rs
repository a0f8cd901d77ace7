// A local source is not an iterator.
use fanfold::Fanfold;

fn main() {
    let numbers = (0..9_u64).local().map(|x| x + 1);
    println!("{}", numbers.par_map_ordered(4, |x| x).sum::<u64>());
}
