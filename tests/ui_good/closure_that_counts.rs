// An atomic, or `fold` on the consumer's thread.
use fanfold::Fanfold;
use std::sync::atomic::{AtomicUsize, Ordering};

fn main() {
    let n = AtomicUsize::new(0);
    let numbers = (0..9_u64).par_map_ordered(4, |x| {
        n.fetch_add(1, Ordering::Relaxed);
        x
    });
    assert_eq!((numbers.count(), n.into_inner()), (9, 9));
}
