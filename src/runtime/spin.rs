//! Waiting briefly without a sleep.
//!
//! Waking a thread takes 20 to 50 µs, and costs the waking thread 8 µs (measured on two virtual cores). So a
//! thread that waits for something imminent offers its core again and again instead. A thread that has work
//! takes the core; if no thread wants it, this thread looks again at once.

use crate::sync::{Instant, yield_now};
use std::time::Duration;

/// How long one such wait is.
const MOMENT: Duration = Duration::from_micros(40);

/// A short wait that has begun.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spin(Instant);

impl Spin {
    pub(crate) fn begin() -> Self {
        Spin(Instant::now())
    }

    /// Offers the core. Afterwards the caller looks again. `false`: the time is over. Time does not pass in a
    /// model, so there the result is always `false`.
    pub(crate) fn turn(self) -> bool {
        if cfg!(loom) || self.0.elapsed() >= MOMENT {
            return false;
        }
        yield_now();
        true
    }
}

/// Decides whether a short wait before a sleep is worth its time: not if the last ones were in vain, and then
/// only now and again.
#[derive(Debug)]
pub(crate) struct SpinPolicy {
    /// How many of the next sleeps begin without a short wait.
    skip: u32,
    /// How many will, if the next short wait is in vain too.
    next: u32,
}

/// After at most this many sleeps without a short wait, one is tried again.
const MOST: u32 = 64;

impl SpinPolicy {
    pub(crate) fn new() -> Self {
        SpinPolicy { skip: 0, next: 1 }
    }

    /// Looks again and again for a short time until `ready` returns `true`. Does not look at all if that was
    /// in vain lately.
    pub(crate) fn look(&mut self, mut ready: impl FnMut() -> bool) -> bool {
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        let spin = Spin::begin();
        while spin.turn() {
            if ready() {
                self.next = 1;
                return true;
            }
        }
        self.skip = self.next;
        self.next = (self.next * 2).min(MOST);
        false
    }
}
