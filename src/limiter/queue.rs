//! [`Limiter`]: the queue of threads that wait for a permit, and the clock of the rate.
//!
//! # Actors
//!
//! `governor` decides (GCRA: one number, the time at which the bucket will be full again). A thread
//! that gets no permit at once joins the end of the queue, and only the first in the queue asks
//! again. So permits are given out in the order of arrival and no thread starves. Only the first
//! waiter sleeps by the clock; the others sleep until they are first. A waiter that leaves the
//! queue, with a permit, without one or by a panic, wakes the new first.
//!
//! - *Joining against leaving.* Both happen under the lock. A waiter that joins checks afterwards,
//!   also under the lock, whether it is first. So either it sees that it is, or the waiter that
//!   leaves sees it.
//! - *A waiter that gives up.* Its token's hook or [`context`] wakes it. It checks before each
//!   sleep, and the sleeper remembers a wake-up that comes between the check and the sleep.
//! - *A newcomer against the queue.* It may take a permit at once only if the queue is empty.
//!
//! The clock and the token's hooks are user code, so they run without the lock.
//!
//! # Ticks
//!
//! `governor` counts in whole nanoseconds: at 7,000,000 per second a permit costs 142.857 ns, and
//! all rates from a billion up would be the same. But it does not care what a nanosecond is. It is
//! given ticks, of which a permit costs a whole number `cost`, and the clock is converted:
//! `ticks = time · items · cost / per`, always from the start, so that no error adds up.
//!
//! # Sleeps that are too long
//!
//! No sleep ends exactly on time; a limiter that ignored the difference would turn 10,000 per
//! second into 6,000. So oversleep, up to [`LATE`], is subtracted from the time until it is
//! compensated for: permits that fell due meanwhile are given out at the time at which they were
//! due. Only a sleeper that wakes too late adds to it. While no thread asks for a permit, nothing
//! is owed.

use crate::cancel::CancelToken;
use crate::error::Cancelled;
use crate::limiter::clock::{Clock, RealClock, Sleeper};
use crate::limiter::rate::Rate;
use crate::runtime::context::{self, Interrupt};
use crate::sync::{Arc, AtomicU64, Mutex, Ordering};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

/// The most oversleep that is compensated for: 1 % of any second.
const LATE: Duration = Duration::from_millis(10);
/// The most ticks that a permit costs: precise enough in time, and the largest burst times this is
/// far below `u64::MAX`.
const MOST_TICKS: u64 = 1 << 20;

/// Gives out permits at a [`Rate`] to all its users. Clones are the same limiter. Needs the feature
/// `throttle`.
///
/// One limiter may [throttle](crate::Fanfold::throttle) several sources, and closures may ask it
/// too. Permits are given out in the order in which they were asked for. A permit is not returned.
///
/// # Examples
///
/// ```
/// use fanfold::{Fanfold, Limiter};
///
/// // A service that allows 500 calls per second; a page needs one or two of them.
/// let calls = Limiter::new(500);
/// let pages = (0..20).par_map_ordered(4, {
///     let calls = calls.clone();
///     move |page| {
///         calls.acquire()?;
///         if page % 2 == 0 {
///             calls.acquire()?;
///         }
///         Ok(page)
///     }
/// });
/// let pages: Result<Vec<_>, fanfold::Cancelled> = pages.collect();
/// assert_eq!(pages.unwrap().len(), 20);
/// ```
#[derive(Clone)]
pub struct Limiter(Arc<LimiterShared>);

struct LimiterShared {
    rate: Rate,
    clock: Box<dyn Clock>,
    start: Duration,
    pace: TickRate,
    state: Mutex<LineState>,
}

struct LineState {
    gcra: RateLimiter<NotKeyed, InMemoryState, ManualHand, NoOpMiddleware<Nanos>>,
    /// By how many ticks the time of `gcra` is behind: the oversleep not yet compensated for.
    behind: u64,
    line: VecDeque<Arc<Waiter>>,
}

/// The clock that `governor` reads: it shows the ticks it is set to.
#[derive(Debug, Default)]
struct ManualHand(AtomicU64);

impl governor::clock::Clock for ManualHand {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.load(Ordering::Relaxed).into() // set and read under the limiter's lock
    }
}

/// Converts between time and ticks.
#[derive(Clone, Copy, Debug)]
struct TickRate {
    ticks: u64,
    nanos: u64,
}

impl TickRate {
    /// Rounded down. The result is far enough below `u64::MAX` that nothing overflows.
    fn ticks(self, time: Duration) -> u64 {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let ticks = u128::from(nanos) * u128::from(self.ticks) / u128::from(self.nanos);
        u64::try_from(ticks).unwrap_or(u64::MAX).min(u64::MAX / 2)
    }

    /// Rounded up, so that at that time [`ticks`](Self::ticks) returns at least this many.
    fn time(self, ticks: u64) -> Duration {
        let nanos = (u128::from(ticks) * u128::from(self.nanos)).div_ceil(u128::from(self.ticks));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

impl LineState {
    /// Takes a permit, or returns when there will be one.
    fn take(&mut self, now: u64) -> Result<(), u64> {
        let Err(due) = self.check(now.saturating_sub(self.behind)) else {
            return Ok(());
        };
        if due > now {
            self.behind = 0;
            return Err(due);
        }
        // The permit fell due while a waiter overslept.
        self.behind = now - due;
        self.check(due)
    }

    fn check(&self, at: u64) -> Result<(), u64> {
        self.gcra.clock().0.store(at, Ordering::Relaxed);
        self.gcra
            .check()
            .map_err(|not_until| not_until.earliest_possible().as_u64())
    }
}

/// A thread in the queue.
#[derive(Debug, Default)]
struct Waiter {
    sleeper: Sleeper,
}

impl Interrupt for Waiter {
    fn interrupt(&self) {
        self.sleeper.wake();
    }
}

/// A place in the queue; its drop leaves the queue.
struct InLine<'a> {
    shared: &'a LimiterShared,
    waiter: Arc<Waiter>,
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        let was_first = state.is_first(&self.waiter);
        state
            .line
            .retain(|waiter| !Arc::ptr_eq(waiter, &self.waiter));
        let first = state.line.front().filter(|_| was_first).cloned();
        drop(state);
        if let Some(first) = first {
            first.sleeper.wake();
        }
    }
}

impl LineState {
    fn is_first(&self, waiter: &Arc<Waiter>) -> bool {
        self.line
            .front()
            .is_some_and(|first| Arc::ptr_eq(first, waiter))
    }
}

impl Limiter {
    /// Makes a limiter on the real clock.
    ///
    /// # Panics
    ///
    /// If the rate is not more than 0.
    #[track_caller]
    pub fn new(rate: impl Into<Rate>) -> Self {
        Limiter::make(rate.into(), Box::new(RealClock::new()))
    }

    /// Makes a limiter on another clock, such as a test's
    /// [`ManualClock`](crate::testing::ManualClock).
    ///
    /// # Panics
    ///
    /// If the rate is not more than 0.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::{Limiter, testing::ManualClock};
    /// use std::time::Duration;
    ///
    /// let clock = ManualClock::new();
    /// let limiter = Limiter::with_clock(4, clock.clone());
    /// assert!(limiter.try_acquire() && !limiter.try_acquire());
    /// clock.advance(Duration::from_millis(250));
    /// assert!(limiter.try_acquire() && !limiter.try_acquire());
    /// ```
    #[track_caller]
    pub fn with_clock(rate: impl Into<Rate>, clock: impl Clock + 'static) -> Self {
        Limiter::make(rate.into(), Box::new(clock))
    }

    #[track_caller]
    fn make(rate: Rate, clock: Box<dyn Clock>) -> Self {
        let (items, nanos) = rate.ratio();
        // At most one tick per nanosecond, unless there are more items than that.
        let cost = (nanos / items).clamp(1, MOST_TICKS);
        let quota = Quota::with_period(Duration::from_nanos(cost))
            .expect("at least a tick")
            .allow_burst(rate.burst);
        Limiter(Arc::new(LimiterShared {
            rate,
            start: clock.now(),
            clock,
            pace: TickRate {
                ticks: items * cost,
                nanos,
            },
            state: Mutex::new(LineState {
                gcra: RateLimiter::direct_with_clock(quota, ManualHand::default()),
                behind: 0,
                line: VecDeque::new(),
            }),
        }))
    }

    /// The rate at which the limiter gives out permits.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::{Limiter, Rate};
    ///
    /// assert_eq!(Limiter::new(10).rate(), Rate::from(10));
    /// ```
    pub fn rate(&self) -> Rate {
        self.0.rate
    }

    /// Takes a permit; blocks until there is one and all earlier requests have theirs.
    ///
    /// Inside a closure of a stage the wait ends with the stage
    /// ([`CancelToken::current`](CancelToken::current)).
    ///
    /// # Errors
    ///
    /// [`Cancelled`] if that token is tripped; then no permit is taken.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::{Cancelled, Fanfold, Limiter};
    ///
    /// let limiter = Limiter::new(1000);
    /// let words = ["to", "be"].into_iter().try_par_map_ordered(2, move |word| {
    ///     limiter.acquire()?;
    ///     Ok::<_, Cancelled>(word.len())
    /// });
    /// assert_eq!(words.collect::<Vec<_>>(), [Ok(2), Ok(2)]);
    /// ```
    pub fn acquire(&self) -> Result<(), Cancelled> {
        let token = CancelToken::current();
        token.check()?;
        self.acquire_on(Some(&token))
    }

    /// Takes a permit if there is one and no thread is waiting for it; does not block.
    ///
    /// # Examples
    ///
    /// ```
    /// let limiter = fanfold::Limiter::new(0.1);
    /// assert!(limiter.try_acquire());
    /// assert!(!limiter.try_acquire());
    /// ```
    pub fn try_acquire(&self) -> bool {
        let now = self.0.now();
        let mut state = self.0.state.lock();
        state.line.is_empty() && state.take(now).is_ok()
    }

    /// Takes a permit, unless the token is tripped or the wait is interrupted from outside the
    /// source in which this thread is.
    pub(crate) fn acquire_on(&self, token: Option<&CancelToken>) -> Result<(), Cancelled> {
        let shared = &*self.0;
        let now = shared.now();
        let mut state = shared.state.lock();
        if state.line.is_empty() && state.take(now).is_ok() {
            return Ok(());
        }
        let waiter = Arc::new(Waiter::default());
        state.line.push_back(Arc::clone(&waiter));
        drop(state);
        let place = InLine { shared, waiter };
        shared.wait(&place.waiter, token)
    }
}

impl LimiterShared {
    fn now(&self) -> u64 {
        self.pace.ticks(self.clock.now().saturating_sub(self.start))
    }

    fn wait(&self, waiter: &Arc<Waiter>, token: Option<&CancelToken>) -> Result<(), Cancelled> {
        context::tell_outer(waiter);
        let _hook = token.map(|token| {
            let sleeper = waiter.sleeper.clone();
            token.on_cancel(move || sleeper.wake())
        });
        let mut slept_until = None;
        loop {
            if let Some(token) = token {
                token.check()?;
            }
            if context::is_unwanted() {
                context::tell_cut();
                return Err(Cancelled::default());
            }
            let now = self.now();
            let mut state = self.state.lock();
            if !state.is_first(waiter) {
                drop(state);
                waiter.sleeper.wait();
                continue;
            }
            if let Some(until) = slept_until {
                state.behind = now.saturating_sub(until).min(self.pace.ticks(LATE));
            }
            let Err(due) = state.take(now) else {
                return Ok(());
            };
            drop(state);
            slept_until = Some(due);
            let until = self.start.saturating_add(self.pace.time(due));
            self.clock.sleep(until, &waiter.sleeper);
        }
    }
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limiter")
            .field("rate", &self.0.rate)
            .field("clock", &self.0.clock)
            .field("waiting", &self.0.state.lock().line.len())
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
