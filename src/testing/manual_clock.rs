//! A clock that a test moves.

use crate::limiter::{Clock, Sleeper};
use crate::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// A [`Clock`] that stands still until a test moves it. Clones are the same clock. Needs the
/// feature `throttle`.
///
/// Threads that sleep on it do not sleep for real time: they wake when the clock moves past their time.
///
/// # Examples
///
/// ```
/// use fanfold::testing::ManualClock;
/// use fanfold::{Fanfold, Limiter};
/// use std::time::Duration;
///
/// let clock = ManualClock::new();
/// let mut items = (0..3).throttle(Limiter::with_clock(2, clock.clone()));
/// assert_eq!(items.next(), Some(0));
///
/// let second = std::thread::spawn(move || items.next());
/// clock.wait_for_sleepers(1);
/// clock.advance(Duration::from_millis(500));
/// assert_eq!(second.join().unwrap(), Some(1));
/// ```
#[derive(Clone, Debug, Default)]
pub struct ManualClock(Arc<Hands>);

#[derive(Debug, Default)]
struct Hands {
    jumps: bool,
    state: Mutex<ClockState>,
    /// A thread has gone to sleep.
    asleep: Condvar,
}

#[derive(Debug, Default)]
struct ClockState {
    now: Duration,
    asleep: Vec<(Duration, Sleeper)>,
}

impl ClockState {
    /// Moves the clock, and takes out the sleepers whose time has come.
    fn move_to(&mut self, now: Duration) -> Vec<Sleeper> {
        self.now = self.now.max(now);
        let mut due = Vec::new();
        self.asleep.retain(|(until, sleeper)| {
            let asleep = *until > self.now;
            if !asleep {
                due.push(sleeper.clone());
            }
            asleep
        });
        due
    }
}

impl ManualClock {
    /// Makes a clock that shows zero, and that only [`advance`](Self::advance) moves.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a clock that each sleep moves to its end at once: a million items at two per second
    /// take no time, and then it shows 500,000 seconds.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::testing::ManualClock;
    /// use fanfold::{Fanfold, Limiter, limiter::Clock};
    ///
    /// let clock = ManualClock::jumping();
    /// assert_eq!((0..=100).throttle(Limiter::with_clock(2, clock.clone())).count(), 101);
    /// assert_eq!(clock.now().as_secs(), 50);
    /// ```
    pub fn jumping() -> Self {
        ManualClock(Arc::new(Hands {
            jumps: true,
            ..Hands::default()
        }))
    }

    /// Moves the clock forward, and wakes all sleepers whose time has come.
    pub fn advance(&self, by: Duration) {
        let due = {
            let mut state = self.0.state.lock();
            let now = state.now.saturating_add(by);
            state.move_to(now)
        };
        due.iter().for_each(Sleeper::wake);
    }

    /// How many threads sleep on it. Of the threads that wait for one limiter, only the first does.
    pub fn sleepers(&self) -> usize {
        self.0.state.lock().asleep.len()
    }

    /// Blocks until at least `n` threads sleep on it.
    pub fn wait_for_sleepers(&self, n: usize) {
        let mut state = self.0.state.lock();
        while state.asleep.len() < n {
            state = self.0.asleep.wait(state);
        }
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Duration {
        self.0.state.lock().now
    }

    fn sleep(&self, until: Duration, sleeper: &Sleeper) {
        let mut state = self.0.state.lock();
        if state.now >= until {
            return;
        }
        if self.0.jumps {
            let due = state.move_to(until);
            drop(state);
            due.iter().for_each(Sleeper::wake);
            return;
        }
        state.asleep.push((until, sleeper.clone()));
        self.0.asleep.notify_all();
        drop(state);
        sleeper.wait();
        // If it was woken for another reason, its entry is still there.
        let mut state = self.0.state.lock();
        state.asleep.retain(|(_, other)| !other.is(sleeper));
    }
}
