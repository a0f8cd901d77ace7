//! Time as a limiter sees it: the real one, or one that a test moves.

use crate::sync::{Arc, Condvar, Instant, Mutex};
use std::fmt;
use std::time::Duration;

/// What a [`Limiter`](crate::Limiter) reads the time from, and sleeps on. Needs the feature
/// `throttle`.
///
/// A limiter has the real clock unless [`with_clock`](crate::Limiter::with_clock) gives it another:
/// [`ManualClock`](crate::testing::ManualClock) in a test, or one of your own.
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
///     limiter.acquire().unwrap(); // an item a second, so to speak
/// }
/// ```
pub trait Clock: fmt::Debug + Send + Sync {
    /// The time since a moment that stays the same. It never goes back.
    fn now(&self) -> Duration;

    /// Blocks until that time has come or `sleeper` is woken. It may return earlier: who calls it
    /// looks at the time again.
    fn sleep(&self, until: Duration, sleeper: &Sleeper);
}

/// A thread that sleeps on a [`Clock`], and that others may wake before its time. Clones are the
/// same sleeper. Needs the feature `throttle`.
///
/// A wake-up is remembered: it ends the next wait if there is none at the moment.
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
    /// Makes one that nobody has woken yet.
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn is(&self, other: &Sleeper) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Ends its wait, or the next one.
    pub fn wake(&self) {
        *self.0.woken.lock() = true;
        self.0.wake.notify_all();
    }

    /// Blocks until it is woken.
    pub fn wait(&self) {
        let mut woken = self.0.woken.lock();
        while !std::mem::take(&mut *woken) {
            woken = self.0.wake.wait(woken);
        }
    }

    /// Blocks until it is woken, or so much of real time has passed. It may return earlier.
    pub fn wait_timeout(&self, limit: Duration) {
        let mut woken = self.0.woken.lock();
        if !*woken && !limit.is_zero() {
            woken = self.0.wake.wait_timeout(woken, limit);
        }
        *woken = false;
    }
}

/// The time that passes by itself.
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
