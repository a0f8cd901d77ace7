// A boxed iterator without `Send`.
use fanfold::Fanfold;

fn sum(numbers: Box<dyn Iterator<Item = u64>>) -> u64 {
    numbers.par_map_ordered(4, |x| x + 1).sum()
}

fn main() {
    println!("{}", sum(Box::new(0..3)));
}
