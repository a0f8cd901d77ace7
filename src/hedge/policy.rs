//! When to hedge, and how often: a delay, and a budget.
//!
//! The delay says when a request is slow. The budget prevents a back end that is slow on everything
//! from getting twice the load. All clones of a policy share both.
//!
//! The budget is a token bucket (as in gRPC's retry throttling, proposal A6, and Finagle's
//! `RetryBudget`): a request adds its share of a token, a hedge takes a whole one. The reserve lets
//! a few hedges through where requests are so rare that their shares would never add up.

use crate::sync::{Arc, Mutex};
#[cfg(feature = "percentile")]
use hdrhistogram::Histogram;
use std::time::Duration;

/// The number of requests whose shares can be saved up: the savings of a quiet hour must not all be
/// spent on a back end in trouble.
const SAVED: f64 = 1_000.0;

/// When a slow request is sent a second time, and how much extra load that may cause.
///
/// Made by [`after`](Self::after) (a fixed delay) or, with the feature `percentile`, by
/// [`percentile`](Self::percentile) (a delay that follows the recorded times). Clones share the
/// recorded times, the budget and the counts, so one policy can stand for one back end in the whole
/// program. Options apply only to the clone on which they are called.
///
/// **The budget**: at most a [share](Self::budget) of the requests (5 % by default) is sent twice,
/// plus a [reserve](Self::reserve) of 10. When it is spent, requests simply go on unhedged.
///
/// # Examples
///
/// ```
/// use fanfold::{Fanfold, HedgePolicy};
/// use std::time::Duration;
///
/// let policy = HedgePolicy::after(Duration::from_millis(50));
/// let squares = (0..100_u64).par_map_ordered(4, |x| x * x).hedge_slow(&policy);
/// assert_eq!(squares.sum::<u64>(), 328_350);
/// assert_eq!(policy.stats().requests, 100);
/// ```
#[derive(Clone, Debug)]
pub struct HedgePolicy {
    delay: PolicyDelay,
    floor: Duration,
    cap: Duration,
    #[cfg(feature = "percentile")]
    warm_up: u64,
    share: f64,
    reserve: f64,
    shared: Arc<Mutex<Latencies>>,
}

#[derive(Clone, Copy, Debug)]
enum PolicyDelay {
    Fixed(Duration),
    #[cfg(feature = "percentile")]
    Quantile(f64),
}

#[derive(Debug)]
struct Latencies {
    stats: HedgeStats,
    /// How many tokens are taken; negative if there are savings.
    used: f64,
    #[cfg(feature = "percentile")]
    latency: Option<Latency>,
}

/// The counts of a [`HedgePolicy`].
///
/// `sent` is the sum of `won`, `lost` and the copies that are still running.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HedgeStats {
    /// The number of requests, each counted once.
    pub requests: u64,
    /// How many copies were sent because a request was slow.
    pub sent: u64,
    /// How many of these copies gave the result that counted.
    pub won: u64,
    /// How many of these copies came too late, failed, or turned out not to be needed.
    pub lost: u64,
    /// How many slow requests went on unhedged because the budget was spent.
    pub refused: u64,
}

impl HedgePolicy {
    fn new(delay: PolicyDelay, floor: Duration) -> Self {
        HedgePolicy {
            delay,
            floor,
            cap: Duration::MAX,
            #[cfg(feature = "percentile")]
            warm_up: 100,
            share: 0.05,
            reserve: 10.0,
            shared: Arc::new(Mutex::new(Latencies {
                stats: HedgeStats::default(),
                used: 0.0,
                #[cfg(feature = "percentile")]
                latency: None,
            })),
        }
    }

    /// Hedges requests that take longer than `delay`.
    ///
    /// The usual advice is the 95th percentile of the back end's times, which makes about 5 % extra
    /// load (Dean and Barroso, *The Tail at Scale*, 2013). With a delay of 0 every request is
    /// hedged at once, as far as the budget allows.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let policy = fanfold::HedgePolicy::after(Duration::from_millis(10));
    /// assert_eq!(policy.delay(), Some(Duration::from_millis(10)));
    /// ```
    pub fn after(delay: Duration) -> Self {
        HedgePolicy::new(PolicyDelay::Fixed(delay), Duration::ZERO)
    }

    /// Hedges requests that take longer than `percent` percent of the recent ones.
    ///
    /// Every result and every loser is recorded, to two digits, and forgotten after between 1,000
    /// and 2,000 later ones. Nothing is hedged before the [warm-up](Self::warm_up) is over. The
    /// delay is at least 1 ms, or the [floor](Self::floor).
    ///
    /// A percentile alone drifts up when the whole back end gets slow, until nothing is hedged: set
    /// a [cap](Self::cap) as well.
    ///
    /// # Panics
    ///
    /// If `percent` is not above 0 and below 100.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let policy = fanfold::HedgePolicy::percentile(95.0).cap(Duration::from_millis(500));
    /// assert_eq!(policy.delay(), None); // nothing has been recorded yet
    /// ```
    #[cfg(feature = "percentile")]
    #[track_caller]
    pub fn percentile(percent: f64) -> Self {
        assert!(
            percent > 0.0 && percent < 100.0,
            "a percentile is above 0 and below 100: write 95.0 to hedge the slowest 5 %"
        );
        HedgePolicy::new(
            PolicyDelay::Quantile(percent / 100.0),
            Duration::from_millis(1),
        )
    }

    /// Sets the shortest delay.
    #[must_use = "it is this handle's option"]
    pub fn floor(self, floor: Duration) -> Self {
        HedgePolicy { floor, ..self }
    }

    /// Sets the longest delay. It takes precedence over the [floor](Self::floor).
    #[must_use = "it is this handle's option"]
    pub fn cap(self, cap: Duration) -> Self {
        HedgePolicy { cap, ..self }
    }

    /// How many results a percentile must have recorded before anything is hedged; 100 by default.
    /// A fixed delay needs none.
    #[cfg(feature = "percentile")]
    #[must_use = "it is this handle's option"]
    pub fn warm_up(self, results: u64) -> Self {
        HedgePolicy {
            warm_up: results,
            ..self
        }
    }

    /// The share of the requests that may be hedged, from 0 to 1; 0.05 by default.
    ///
    /// The shares of the last 1,000 requests can be saved up.
    ///
    /// # Panics
    ///
    /// If `share` is not from 0 to 1.
    #[must_use = "it is this handle's option"]
    #[track_caller]
    pub fn budget(self, share: f64) -> Self {
        assert!(
            (0.0..=1.0).contains(&share),
            "a budget is a share from 0 to 1: write 0.05 for 5 % more requests"
        );
        HedgePolicy { share, ..self }
    }

    /// How many hedges are allowed on top of the share; 10 by default.
    #[must_use = "it is this handle's option"]
    pub fn reserve(self, hedges: u32) -> Self {
        HedgePolicy {
            reserve: f64::from(hedges),
            ..self
        }
    }

    /// The time after which a request now counts as slow; `None` while nothing is hedged.
    pub fn delay(&self) -> Option<Duration> {
        let delay = match self.delay {
            PolicyDelay::Fixed(delay) => delay,
            #[cfg(feature = "percentile")]
            PolicyDelay::Quantile(quantile) => {
                let mut seen = self.shared.lock();
                let latency = seen.latency.as_mut();
                latency.filter(|l| l.total >= self.warm_up)?.at(quantile)
            }
        };
        Some(delay.max(self.floor).min(self.cap))
    }

    /// The counts so far, of all clones.
    pub fn stats(&self) -> HedgeStats {
        self.shared.lock().stats
    }

    /// One request of a program that does its own hedging, for example in asynchronous code. So the
    /// whole program can share the policy, its budget and its counts.
    /// [`hedge`](crate::Fanfold::hedge) and [`hedge_slow`](crate::Stage::hedge_slow) do not need this.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::HedgePolicy;
    /// use std::time::Duration;
    ///
    /// let policy = HedgePolicy::after(Duration::from_millis(10));
    /// let mut request = policy.request();
    /// let first = Duration::from_millis(70); // what the request would take
    /// let second = Duration::from_millis(5); // and a copy of it
    /// let mut took = first;
    /// if let Some(delay) = policy.delay().filter(|delay| *delay < first && request.try_hedge()) {
    ///     took = first.min(delay + second);
    /// }
    /// request.record(took);
    /// request.end(took < first);
    /// assert_eq!(took, Duration::from_millis(15));
    /// assert_eq!(policy.stats().won, 1);
    /// ```
    pub fn request(&self) -> Request {
        self.begin();
        Request {
            policy: self.clone(),
            hedged: false,
        }
    }

    /// Counts a new request.
    pub(crate) fn begin(&self) {
        let mut seen = self.shared.lock();
        seen.stats.requests += 1;
        seen.used = (seen.used - self.share).max(-SAVED * self.share);
    }

    /// Whether a slow request may be hedged. If so, takes a token out of the budget and counts it.
    #[must_use = "if it may, the hedge has been counted"]
    pub(crate) fn try_hedge(&self) -> bool {
        let mut seen = self.shared.lock();
        // Sums of shares are not exact: the tolerance keeps rounding from losing the last one.
        let granted = seen.used + 1.0 <= self.reserve + 1e-6;
        if granted {
            seen.used += 1.0;
            seen.stats.sent += 1;
        } else {
            seen.stats.refused += 1;
        }
        granted
    }

    /// Counts a finished hedge: `won` if its result was the one that counted.
    pub(crate) fn end(&self, won: bool) {
        let stats = &mut self.shared.lock().stats;
        *(if won { &mut stats.won } else { &mut stats.lost }) += 1;
    }

    /// Takes back a hedge for which there was no replica.
    pub(crate) fn unsend(&self) {
        let mut seen = self.shared.lock();
        seen.stats.sent -= 1;
        seen.used -= 1.0;
    }

    /// Counts a hedge that was not needed before it began; it costs no budget.
    pub(crate) fn spare(&self) {
        self.end(false);
        self.shared.lock().used -= 1.0;
    }

    /// Records how long a request, or its hedge, took. Returns whether that ended the warm-up, so
    /// that there is a delay from now on.
    pub(crate) fn record(&self, time: Duration) -> bool {
        match self.delay {
            PolicyDelay::Fixed(_) => {
                let _ = time;
                false
            }
            #[cfg(feature = "percentile")]
            PolicyDelay::Quantile(_) => {
                let mut seen = self.shared.lock();
                let latency = seen.latency.get_or_insert_with(Latency::new);
                latency.record(time);
                latency.total == self.warm_up
            }
        }
    }
}

/// One request under a [`HedgePolicy`]; made by [`HedgePolicy::request`].
///
/// A hedged request that is dropped without [`end`](Self::end) counts as lost: its copy was of no use.
#[derive(Debug)]
#[must_use = "when it is dropped the request is over"]
pub struct Request {
    policy: HedgePolicy,
    hedged: bool,
}

impl Request {
    /// Whether a copy of the slow request may be sent. If so, takes a token out of the budget and
    /// counts it; a request has at most one copy.
    #[must_use = "if it may, the copy has been counted"]
    pub fn try_hedge(&mut self) -> bool {
        let may = !self.hedged && self.policy.try_hedge();
        self.hedged |= may;
        may
    }

    /// Records how long the request, or its copy, took. Call it for each answer.
    pub fn record(&self, took: Duration) {
        self.policy.record(took);
    }

    /// Ends the request; `copy_won` says whether the copy's answer was the one that counted.
    pub fn end(mut self, copy_won: bool) {
        if std::mem::take(&mut self.hedged) {
            self.policy.end(copy_won);
        }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        if self.hedged {
            self.policy.end(false);
        }
    }
}

/// The recent times.
#[cfg(feature = "percentile")]
#[derive(Debug)]
struct Latency {
    /// In µs. The histogram before it is kept until this one is full.
    now: Histogram<u32>,
    before: Histogram<u32>,
    total: u64,
    /// The last quantile asked for, its answer, and the total at that time.
    known: Option<(f64, Duration, u64)>,
}

#[cfg(feature = "percentile")]
impl Latency {
    /// How many times are recorded before older ones are forgotten.
    const FULL: u64 = 1_000;
    /// An answer is reused until this many more times are recorded.
    const STALE: u64 = 32;
    /// In µs: an hour.
    const MOST: u64 = 3_600_000_000;

    fn new() -> Self {
        let empty = Histogram::new_with_max(Self::MOST, 2).expect("the range is a valid one");
        Latency {
            before: empty.clone(),
            now: empty,
            total: 0,
            known: None,
        }
    }

    fn record(&mut self, time: Duration) {
        if self.now.len() >= Self::FULL {
            std::mem::swap(&mut self.now, &mut self.before);
            self.now.reset();
        }
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.now.saturating_record(micros);
        self.total += 1;
    }

    fn at(&mut self, quantile: f64) -> Duration {
        if let Some((asked, answer, total)) = self.known {
            if asked.total_cmp(&quantile).is_eq() && self.total - total < Self::STALE {
                return answer;
            }
        }
        let mut all = self.now.clone();
        all.add(&self.before).expect("both have the same range");
        let answer = Duration::from_micros(all.value_at_quantile(quantile));
        self.known = Some((quantile, answer, self.total));
        answer
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
