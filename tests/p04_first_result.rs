//! P4: the first result of a stage on a warm pool does not wait for the end of a time slice.
//!
//! A clock cannot tell whose slice it was: beside a busy process every result waits for one of that now and
//! then. So what counts is what the workers of the stage do meanwhile.

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

/// How many items are begun until the first of them is out.
fn begun_until_the_first_is_out() -> usize {
    // The workers of the stage before are to be asleep: a warm pool, not a running one.
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

/// Mostly it is 3, and 7 on a busy machine. Where the workers keep both cores and the consumer, or the worker that
/// has the first item, is queued behind them, it is what they do in a time slice of Linux, 1.4 to 3 ms: a thousand
/// or all.
#[test]
fn the_first_result_waits_for_nobodys_time_slice() {
    let mut begun: Vec<_> = (0..200).map(|_| begun_until_the_first_is_out()).collect();
    begun.sort_unstable();
    let mostly = begun[begun.len() / 2];
    assert!(mostly < 200, "mostly {mostly}, of {begun:?}");
}
