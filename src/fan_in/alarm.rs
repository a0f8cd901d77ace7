//! The alarm: until when a consumer that sleeps may sleep on.

use crate::sync::{AtomicU64, Ordering, fence};

/// When a consumer that sleeps has to look at the time-outs, in ns of the shared's clock; 0: it is awake.
pub(super) struct Alarm(AtomicU64);

impl Alarm {
    /// The consumer is awake.
    pub(super) fn new() -> Self {
        Alarm(AtomicU64::new(0))
    }

    /// Consumer, which is about to sleep: when the first source is due that somebody is in. `due`, which says when each is, is asked
    /// after the consumer has said that it sleeps.
    pub(super) fn look(&self, due: impl Iterator<Item = u64>) -> u64 {
        self.0.store(u64::MAX, Ordering::Relaxed);
        fence(Ordering::SeqCst); // pairs with the one in `SourceLane::enter`
        let due = due.min().unwrap_or(u64::MAX);
        self.0.fetch_min(due, Ordering::Relaxed); // it may have been lowered further meanwhile
        due
    }

    /// Consumer: whether somebody has entered a source meanwhile that is due before that.
    pub(super) fn is_before(&self, due: u64) -> bool {
        self.0.load(Ordering::Relaxed) < due // behind the fence of `Listener::wait`
    }

    /// Consumer: is awake.
    pub(super) fn awake(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// Worker: has entered a source that is due then, and said so. Whether to notify.
    pub(super) fn entered(&self, due: u64) -> bool {
        self.0.load(Ordering::Relaxed) > due && self.0.fetch_min(due, Ordering::Relaxed) > due
    }
}
