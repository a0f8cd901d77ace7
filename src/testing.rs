//! Help for the tests of programs that use this crate.

use crate::runtime::registry;

#[cfg(feature = "throttle")]
mod manual_clock;
#[cfg(feature = "throttle")]
pub use crate::testing::manual_clock::ManualClock;

/// Asserts that no stage is left that was started on behalf of this thread.
///
/// A stage is left while it is running, or when it was forgotten (`mem::forget`) outside of a
/// scope. One that has come to its end or was dropped is not: then no thread holds anything of it. One
/// that has ended early (by an error, a panic, a token or a time-out) is left only while a closure or
/// its source has not returned; its threads have a second to leave. A stage that is the source of
/// another runs until it ends itself or the other is dropped. A stage belongs to the thread that called its first `next()`, and one inside a closure to the thread
/// whose stage runs the closure, so tests that run side by side do not disturb one another.
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
