//! Counts the threads that hold a part of a stage, so that its end can wait for them.

use crate::runtime::registry;
use crate::runtime::spin::Spin;
use crate::sync::{Arc, Condvar, Instant, Mutex};

/// Counts the threads that hold a part of a stage.
#[derive(Debug, Default)]
pub(crate) struct Latch {
    count: Mutex<usize>,
    zero: Condvar,
}

impl Latch {
    /// Counts one more thread, until the value is dropped.
    pub(crate) fn count(self: &Arc<Self>) -> Counted {
        *self.count.lock() += 1;
        Counted(Arc::clone(self))
    }

    /// A counted thread holds nothing any more.
    fn down(&self) {
        let mut count = self.count.lock();
        *count -= 1;
        // Under the lock: a thread in `wait` has either seen the 0, or is already waiting for this.
        if *count == 0 {
            self.zero.notify_all();
        }
    }

    pub(crate) fn is_zero(&self) -> bool {
        *self.count.lock() == 0
    }

    pub(crate) fn wait(&self) {
        // Threads of a stage that ends are about to leave, and that is sooner than this thread could fall
        // asleep and be woken.
        if let Some(spin) = Spin::begin() {
            while !self.is_zero() && spin.turn() {}
        }
        let mut count = self.count.lock();
        while *count > 0 {
            count = self.zero.wait(count);
        }
    }
}

impl registry::HeldThreads for Latch {
    fn count(&self) -> usize {
        *self.count.lock()
    }

    fn is_held_at(&self, time: Instant) -> bool {
        let mut count = self.count.lock();
        while *count > 0 {
            // The notification at 0 ends the wait early; any other end of the wait is checked against the
            // time.
            let left = time.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            count = self.zero.wait_timeout(count, left);
        }
        false
    }
}

/// A thread counts as long as this exists. Dropped on unwind too, after a bug in this crate.
#[derive(Debug)]
pub(crate) struct Counted(Arc<Latch>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.down();
    }
}
