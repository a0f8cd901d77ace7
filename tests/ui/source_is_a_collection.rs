// A collection is not an iterator.
use fanfold::Fanfold;

fn main() {
    let numbers = vec![1_u64, 2];
    println!("{}", numbers.par_map_ordered(4, |x| x + 1).sum::<u64>());
}
