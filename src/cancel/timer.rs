//! The timer: one thread per process that notifies entries when their deadline has come. If it
//! cannot be started, waiting threads check the clock instead ([`keep_time`]).

use crate::sync::Arc;
use crate::unwind::Payload;

pub(super) use self::imp::*;

/// An entry that is notified when its time has come.
pub(crate) trait Expires: Send + Sync {
    /// Returns a panic of user code.
    #[cfg_attr(loom, allow(dead_code))]
    fn expire(self: Arc<Self>) -> Option<Payload>;
}

#[cfg(not(loom))]
mod imp {
    use super::Expires;
    use crate::sync::{
        Arc, AtomicBool, Condvar, Instant, Mutex, MutexGuard, Ordering, fixed, spawn,
    };
    use crate::unwind;
    use std::collections::BTreeMap;

    struct Timer {
        /// The process in which the thread runs: a forked child needs its own.
        started: Option<u32>,
        /// When the thread next checks by itself; `None` if it sleeps without limit.
        looks: Option<Instant>,
        /// A map and not a heap, so that a dropped token can remove its entry.
        entries: BTreeMap<(Instant, u64), Arc<dyn Expires>>,
    }

    static TIMER: Mutex<Timer> = Mutex::new(Timer {
        started: None,
        looks: None,
        entries: BTreeMap::new(),
    });
    static EARLIER: Condvar = Condvar::new();
    /// Whether there may be entries but no thread.
    static LACKS_THREAD: AtomicBool = AtomicBool::new(false);

    /// Notifies `what` at that time; `number` is its unique number.
    pub(crate) fn add(at: Instant, number: u64, what: Arc<dyn Expires>) {
        let mut timer = TIMER.lock();
        timer.entries.insert((at, number), what);
        let here = fixed::process();
        if timer.started != Some(here) {
            // If this fails, the entry stays, and the next `add` tries again.
            let started = spawn("fanfold-timer", None, run);
            timer.started = started.is_ok().then_some(here);
            // Relaxed: a hint for `keep_time`, which takes the lock.
            LACKS_THREAD.store(started.is_err(), Ordering::Relaxed);
        } else if timer.looks.is_none_or(|looks| at < looks) {
            EARLIER.notify_one();
        }
    }

    pub(crate) fn is_started() -> bool {
        TIMER.lock().started == Some(fixed::process())
    }

    /// Wakes no thread: at worst the timer checks once per removed entry with nothing to do.
    pub(crate) fn remove(at: Instant, number: u64) {
        TIMER.lock().entries.remove(&(at, number));
    }

    #[cfg(test)]
    pub(crate) fn holds(at: Instant, number: u64) -> bool {
        TIMER.lock().entries.contains_key(&(at, number))
    }

    fn run() {
        let mut timer = TIMER.lock();
        loop {
            let first = timer.entries.first_key_value().map(|(&(at, _), _)| at);
            timer.looks = first;
            let left = first.map(|at| at.saturating_duration_since(Instant::now()));
            timer = match left {
                None => EARLIER.wait(timer),
                Some(left) if left.is_zero() => trip_first(timer),
                Some(left) => EARLIER.wait_timeout(timer, left),
            };
        }
    }

    fn trip_first(mut timer: MutexGuard<'static, Timer>) -> MutexGuard<'static, Timer> {
        let due = timer.entries.pop_first();
        drop(timer);
        if let Some(panic) = due.and_then(|(_, what)| what.expire()) {
            unwind::bury(panic);
        }
        TIMER.lock()
    }

    pub(crate) fn keep_time() {
        if !LACKS_THREAD.load(Ordering::Relaxed) {
            return;
        }
        let mut timer = TIMER.lock();
        let now = Instant::now();
        let is_due = |timer: &Timer| {
            let first = timer.entries.first_key_value();
            timer.started.is_none() && first.is_some_and(|(&(at, _), _)| at <= now)
        };
        while is_due(&timer) {
            timer = trip_first(timer);
        }
    }
}

/// A loom model has no clock: nothing is ever due.
#[cfg(loom)]
mod imp {
    use super::Expires;
    use crate::sync::{Arc, Instant};

    pub(crate) fn add(_: Instant, _: u64, _: Arc<dyn Expires>) {}

    pub(crate) fn is_started() -> bool {
        false
    }

    pub(crate) fn remove(_: Instant, _: u64) {}

    pub(crate) fn keep_time() {}
}
