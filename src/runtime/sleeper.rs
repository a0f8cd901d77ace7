//! What a consumer sleeps on, and how it is called.
//!
//! A consumer that waits parks its thread. One that is polled does not wait: it leaves a waker behind, and returns.
//! Whoever calls it does both: unparks the thread, and wakes the waker, which is gone with that.
//!
//! # The handshake poll / call
//!
//! The consumer stores the waker, and looks once more whether there is something for it; the caller makes that visible,
//! and then looks for the waker. Both go through the lock of the waker. So if the caller has it first, the look comes after
//! what was made visible; and if the consumer has it first, the caller finds the waker. There is no announcement in
//! between that may be missed: that is the schedulers' own, which spares the call where nobody sleeps, and they keep to
//! the same order (first the waker, then the announcement, then the look).

use crate::sync::{Arc, Mutex, Parker, Unparker, bug};
use std::task::Waker;
use std::time::Duration;

/// The side of the consumer.
#[derive(Debug)]
pub(crate) struct Sleeper {
    parker: Parker,
    caller: Caller,
    /// The call that it is in must not wait.
    polled: bool,
}

/// The side of those that have something for the consumer.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    unparker: Unparker,
    waker: Arc<Mutex<Option<Waker>>>,
}

impl Sleeper {
    pub(crate) fn new() -> Self {
        let parker = Parker::new();
        let caller = Caller {
            unparker: parker.unparker().clone(),
            waker: Arc::default(),
        };
        Sleeper {
            parker,
            caller,
            polled: false,
        }
    }

    pub(crate) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Sleeps until it is called, which may have happened before. May also return for nothing.
    pub(crate) fn park(&self) {
        self.parker.park();
    }

    pub(crate) fn park_timeout(&self, limit: Duration) {
        self.parker.park_timeout(limit);
    }

    /// Leaves this waker behind, before the look for which the consumer was asked.
    #[cfg(any(feature = "futures", all(test, loom)))]
    pub(crate) fn begin_poll(&mut self, waker: &Waker) {
        self.polled = true;
        let mut slot = self.caller.waker.lock();
        // Mostly it is gone, or the same.
        let former = match &*slot {
            Some(known) if known.will_wake(waker) => None,
            _ => slot.replace(waker.clone()),
        };
        // Without the lock: the drop of a task is its executor's code.
        drop(slot);
        drop(former);
    }

    #[cfg(any(feature = "futures", all(test, loom)))]
    pub(crate) fn end_poll(&mut self) {
        self.polled = false;
    }

    /// Whether this call must not wait. What it has announced is left in force if it finds nothing.
    pub(crate) fn is_polled(&self) -> bool {
        self.polled
    }
}

impl Caller {
    /// Wakes the consumer.
    pub(crate) fn unpark(&self) {
        self.unparker.unpark();
        if bug("a_waker_is_left_asleep") {
            return;
        }
        let waker = self.waker.lock().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

#[cfg(all(test, loom))]
pub(crate) mod models;
