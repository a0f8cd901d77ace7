// It needs another `.local()`.
use fanfold::Fanfold;
use std::rc::Rc;

fn main() {
    let three = Rc::new(3);
    let numbers = (0..9_u64)
        .map(move |x| x * *three)
        .local()
        .par_map_ordered(4, |x| x + 1);
    assert_eq!(numbers.local().par_filter(2, |x| *x > 1).count(), 8);
}
