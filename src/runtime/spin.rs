//! Waiting briefly without a sleep.
//!
//! Waking a thread takes 20 to 50 µs, and costs the waking thread 8 µs (measured on two virtual cores). So a
//! thread that waits for something imminent offers its core again and again instead. A thread that has work
//! takes the core; if no thread wants it, this thread looks again at once.
//!
//! If another program wants the core, it keeps it for a whole time slice, some milliseconds, and what this thread
//! waits for lies there meanwhile. A thread that sleeps gets a core at once when it is woken. So a thread whose
//! offer has cost it that much makes none for [some time](Dear).

use crate::sync::{Instant, yield_now};
use std::cell::Cell;
use std::time::Duration;

/// How long one such wait is.
const MOMENT: Duration = Duration::from_micros(40);
/// An offer that takes this long has cost a time slice.
const SLICE: Duration = Duration::from_micros(400);
/// No offer is made for this many times what the last one has cost, which bounds the loss to 3 %.
const PAUSE: u32 = 32;
/// After that again, for twice as long each time, as long as offers cost a time slice; up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Until when offers of the core are too dear; pure, with times from outside.
#[derive(Clone, Copy, Debug)]
struct Dear {
    until: Option<Instant>,
    pause: Duration,
}

impl Dear {
    const NEVER: Self = Dear {
        until: None,
        pause: Duration::ZERO,
    };

    /// An offer has been made, took so long, and is over now.
    fn made(&mut self, took: Duration, now: Instant) {
        *self = if took < SLICE {
            Dear::NEVER
        } else {
            let pause = (2 * self.pause).max(PAUSE * took).min(LONGEST_PAUSE);
            let until = now.checked_add(pause);
            Dear { until, pause }
        };
    }

    fn is_over(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| now >= until)
    }
}

thread_local! {
    /// What offers cost this thread: another one may have a core that nobody else wants.
    static DEAR: Cell<Dear> = const { Cell::new(Dear::NEVER) };
}

/// A short wait that has begun.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spin(Instant);

impl Spin {
    /// `None`: a sleep is better.
    pub(crate) fn begin() -> Option<Self> {
        let now = Instant::now();
        DEAR.get().is_over(now).then_some(Spin(now))
    }

    /// Offers the core. Afterwards the caller looks again. `false`: the time is over. Time does not pass in a
    /// model, so there the result is always `false`.
    pub(crate) fn turn(self) -> bool {
        if cfg!(loom) {
            return false;
        }
        let before = self.0.elapsed();
        if before >= MOMENT {
            return false;
        }
        yield_now();
        let after = self.0.elapsed();
        let mut dear = DEAR.get();
        dear.made(after.saturating_sub(before), self.0 + after);
        DEAR.set(dear);
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
        let Some(spin) = Spin::begin() else {
            return false;
        };
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

#[cfg(all(test, not(loom)))]
mod tests;
