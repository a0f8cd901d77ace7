//! The time of a limiter: real time, or one that a test moves.

use crate::sync::{Arc, Condvar, Instant, Mutex};
use std::fmt;
use std::time::Duration;

/// The clock that a [`Limiter`](crate::Limiter) reads and sleeps on. Needs the feature `throttle`.
///
/// A limiter uses the real clock unless [`with_clock`](crate::Limiter::with_clock) gives it
/// another: [`ManualClock`](crate::testing::ManualClock) in a test, or your own.
///
/// # Examples
///
/// ```
/// use fanfold::{Limiter, limiter::{Clock, Sleeper}};
/// use std::time::{Duration, Instant};
///
/// /// Runs a thousand times as fast.
/// #[derive(Debug)]
/// struct Hurry(Instant);
///
/// impl Clock for Hurry {
///     fn now(&self) -> Duration {
///         self.0.elapsed() * 1000
///     }
///     fn sleep(&self, until: Duration, sleeper: &Sleeper) {
///         sleeper.wait_timeout(until.saturating_sub(self.now()) / 1000);
///     }
/// }
///
/// let limiter = Limiter::with_clock(1, Hurry(Instant::now()));
/// for _ in 0..3 {
///     limiter.acquire().unwrap(); // one item per second of this clock
/// }
/// ```
pub trait Clock: fmt::Debug + Send + Sync {
    /// The time since a fixed moment. It never goes back.
    fn now(&self) -> Duration;

    /// Blocks until that time has come or `sleeper` is woken. It may return earlier: the caller
    /// checks the time again.
    fn sleep(&self, until: Duration, sleeper: &Sleeper);
}

/// A thread that sleeps on a [`Clock`], and that other threads may wake early. Clones are the same
/// sleeper. Needs the feature `throttle`.
///
/// A wake-up is remembered: without a wait to end, it ends the next one.
///
/// # Examples
///
/// ```
/// let sleeper = fanfold::limiter::Sleeper::new();
/// let other = sleeper.clone();
/// std::thread::spawn(move || other.wake());
/// sleeper.wait();
/// ```
#[derive(Clone, Debug, Default)]
pub struct Sleeper(Arc<Bed>);

#[derive(Debug, Default)]
struct Bed {
    woken: Mutex<bool>,
    wake: Condvar,
}

impl Sleeper {
    /// Makes a sleeper that has not been woken yet.
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn is(&self, other: &Sleeper) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Ends the current wait, or the next one.
    pub fn wake(&self) {
        *self.0.woken.lock() = true;
        self.0.wake.notify_all();
    }

    /// Blocks until the sleeper is woken.
    pub fn wait(&self) {
        let mut woken = self.0.woken.lock();
        while !std::mem::take(&mut *woken) {
            woken = self.0.wake.wait(woken);
        }
    }

    /// Blocks until the sleeper is woken or this much real time has passed. It may return earlier.
    pub fn wait_timeout(&self, limit: Duration) {
        let mut woken = self.0.woken.lock();
        if !*woken && !limit.is_zero() {
            woken = self.0.wake.wait_timeout(woken, limit);
        }
        *woken = false;
    }
}

/// The clock of real time.
#[derive(Debug)]
pub(crate) struct RealClock(Instant);

impl RealClock {
    pub(crate) fn new() -> Self {
        RealClock(Instant::now())
    }
}

impl Clock for RealClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn sleep(&self, until: Duration, sleeper: &Sleeper) {
        sleeper.wait_timeout(until.saturating_sub(self.now()));
    }
}
