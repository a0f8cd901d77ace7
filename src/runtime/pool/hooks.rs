//! What the user runs at the start and at the end of each thread of a pool.

use crate::sync::{Arc, Condvar, Mutex};
use crate::unwind::{bury, catch};
use std::cell::Cell;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};

thread_local! {
    /// This thread is in a hook.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is in a hook. It leases no thread then: that one, or one that it starts, would run the
/// same hook, and so on without end.
pub(super) fn is_inside() -> bool {
    INSIDE.get()
}

/// A closure of the user, called with the index of the thread on which it runs.
#[derive(Clone)]
pub(super) struct ThreadHook(Arc<dyn Fn(usize) + Send + Sync>);

impl ThreadHook {
    pub(super) fn new(f: impl Fn(usize) + Send + Sync + 'static) -> Self {
        ThreadHook(Arc::new(f))
    }

    /// Runs it. `false`: it has panicked.
    pub(super) fn run(&self, index: usize) -> bool {
        INSIDE.set(true);
        let outcome = catch(|| (self.0)(index));
        INSIDE.set(false);
        outcome.map_err(bury).is_ok()
    }
}

impl fmt::Debug for ThreadHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadHook").finish_non_exhaustive()
    }
}

// A panic of the closure is caught, and nothing of the pool depends on what the closure owns.
impl UnwindSafe for ThreadHook {}
impl RefUnwindSafe for ThreadHook {}

/// How a new thread tells the thread that leases it whether it has passed its start hook.
#[derive(Default)]
pub(super) struct Start {
    passed: Mutex<Option<bool>>,
    told: Condvar,
}

impl Start {
    pub(super) fn tell(&self, passed: bool) {
        *self.passed.lock() = Some(passed);
        self.told.notify_one();
    }

    pub(super) fn wait(&self) -> bool {
        let mut passed = self.passed.lock();
        loop {
            match *passed {
                Some(passed) => return passed,
                None => passed = self.told.wait(passed),
            }
        }
    }
}
