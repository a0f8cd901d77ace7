// Send only the part that the workers need.
use fanfold::Fanfold;
use std::rc::Rc;

fn main() {
    let numbers = vec![Rc::new(1_u64)].into_iter().map(|x| *x).local();
    assert_eq!(numbers.par_map_ordered(4, |x| x).sum::<u64>(), 1);
}
