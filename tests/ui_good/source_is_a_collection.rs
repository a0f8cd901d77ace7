// `iter` lends the items, and `into_iter` gives them away.
use fanfold::Fanfold;

fn main() {
    let numbers = vec![1_u64, 2];
    println!("{}", numbers.iter().par_map_ordered(4, |x| x + 1).sum::<u64>());
    println!("{}", numbers.into_iter().par_map_ordered(4, |x| x + 1).sum::<u64>());
}
