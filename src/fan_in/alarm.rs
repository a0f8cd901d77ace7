//! The alarm: the time until which a sleeping consumer may sleep.

use crate::sync::{AtomicU64, Ordering, fence};

/// When a sleeping consumer must check the timeouts, in ns of the shared clock; 0 if it is awake.
pub(super) struct Alarm(AtomicU64);

impl Alarm {
    /// The consumer is awake.
    pub(super) fn new() -> Self {
        Alarm(AtomicU64::new(0))
    }

    /// Consumer, about to sleep: returns when the first source with a worker in it is due.
    /// Announces that it sleeps first, and only then evaluates `due`, which gives the time of each.
    pub(super) fn look(&self, due: impl Iterator<Item = u64>) -> u64 {
        self.0.store(u64::MAX, Ordering::Relaxed);
        fence(Ordering::SeqCst); // pairs with the one in `SourceLane::enter`
        let due = due.min().unwrap_or(u64::MAX);
        self.0.fetch_min(due, Ordering::Relaxed); // it may have been lowered meanwhile
        due
    }

    /// Consumer: whether a worker has meanwhile entered a source that is due before `due`.
    pub(super) fn is_before(&self, due: u64) -> bool {
        self.0.load(Ordering::Relaxed) < due // after the fence of `Listener::wait`
    }

    /// Consumer: has woken up.
    pub(super) fn awake(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// Worker: has entered a source that is due at `due`, and announced it. Returns whether to notify.
    pub(super) fn entered(&self, due: u64) -> bool {
        self.0.load(Ordering::Relaxed) > due && self.0.fetch_min(due, Ordering::Relaxed) > due
    }
}
