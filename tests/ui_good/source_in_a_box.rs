// `.local()`, or `+ Send`.
use fanfold::Fanfold;

fn sum(numbers: Box<dyn Iterator<Item = u64>>) -> u64 {
    numbers.local().par_map_ordered(4, |x| x + 1).sum()
}

fn sum_of_sent(numbers: Box<dyn Iterator<Item = u64> + Send>) -> u64 {
    numbers.par_map_ordered(4, |x| x + 1).sum()
}

fn main() {
    assert_eq!((sum(Box::new(0..3)), sum_of_sent(Box::new(0..3))), (6, 6));
}
