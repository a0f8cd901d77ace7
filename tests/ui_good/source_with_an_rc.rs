// `.local()` keeps it on its thread.
use fanfold::Fanfold;
use std::rc::Rc;

fn main() {
    let three = Rc::new(3);
    let source = (0..9_u64).map(move |x| x * *three);
    assert_eq!(
        source.local().par_map_ordered(4, |x| x + 1).sum::<u64>(),
        117
    );
}
