//! P4: the first result of a stage on a warm pool does not wait for the end of a time slice.
//!
//! A clock cannot tell whose slice it was: beside a busy process every result waits for a slice of that
//! process now and then. So the test counts the items that the stage's workers begin meanwhile.

use fanfold::Fanfold;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// About a microsecond, even without optimization.
const STEPS: u64 = if cfg!(debug_assertions) { 100 } else { 1_000 };

fn work(x: u64) -> u64 {
    (0..STEPS).fold(x, |h, _| black_box(h.wrapping_mul(0x9E37_79B9_7F4A_7C15)))
}

/// How many items are begun before the first result is yielded.
fn begun_until_the_first_is_out() -> usize {
    // The workers of the previous stage should be asleep: a warm pool, not a busy one.
    std::thread::sleep(Duration::from_millis(2));
    let begun = Arc::new(AtomicUsize::new(0));
    let mut stage = (0..4096).filter(|_| true).par_map_ordered(2, {
        let begun = Arc::clone(&begun);
        move |x| {
            begun.fetch_add(1, Ordering::Relaxed);
            work(x)
        }
    });
    assert_eq!(stage.next(), Some(work(0)));
    begun.load(Ordering::Relaxed)
}

/// Usually the count is 3, and 7 on a busy machine. If the workers keep both cores, and the consumer or the worker
/// with the first item is queued behind them, it is the work of a Linux time slice, 1.4 to 3 ms: a thousand items,
/// or all.
#[test]
fn the_first_result_does_not_wait_for_a_time_slice() {
    let mut begun: Vec<_> = (0..200).map(|_| begun_until_the_first_is_out()).collect();
    begun.sort_unstable();
    let mostly = begun[begun.len() / 2];
    assert!(mostly < 200, "mostly {mostly}, of {begun:?}");
}
