//! Helpers for the tests of programs that use this crate.

use crate::runtime::registry;

#[cfg(feature = "throttle")]
mod manual_clock;
#[cfg(feature = "throttle")]
pub use crate::testing::manual_clock::ManualClock;

/// Asserts that no stage is left that was started on behalf of this thread.
///
/// A stage is left while it is running, or if it was forgotten (`mem::forget`) outside a scope. A
/// stage that has ended or was dropped is not left: no thread holds anything of it. A stage that
/// has ended early (by an error, a panic, a token or a timeout) is left only while a closure or its
/// source has not returned; its threads have ten seconds to leave. A stage that is the source of
/// another runs until it ends itself or the other is dropped. A stage belongs to the thread that
/// called its first `next()`. A stage inside a closure belongs to the thread whose stage runs the
/// closure, so tests that run in parallel do not disturb one another.
///
/// # Panics
///
/// If a stage is left; the message names it (see [`named`](crate::Stage::named)).
///
/// # Examples
///
/// ```
/// use fanfold::Fanfold;
///
/// let mut numbers = (0..).par_map_ordered(2, |x: u64| x);
/// assert_eq!(numbers.next(), Some(0));
/// drop(numbers);
/// fanfold::testing::assert_quiescent();
/// ```
#[track_caller]
pub fn assert_quiescent() {
    let alive = registry::alive();
    assert!(
        alive.is_empty(),
        "stages are still running, or were forgotten: {}. Drop each, or run it to its end, before \
         this call",
        alive.join(", ")
    );
}
