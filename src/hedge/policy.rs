//! When to hedge, and how often: a delay, and a budget.
//!
//! The delay says when a request is slow; the budget sees to it that a back end on which everything
//! is slow is not sent twice the load. Both are shared by all clones of a policy, whoever uses them.
//!
//! The budget is a token bucket (as in gRPC's retry throttling, proposal A6, and Finagle's
//! `RetryBudget`): a request adds its share of a token, a hedge takes a whole one. The reserve lets a
//! few through where requests are so rare that their shares would never add up.

use crate::sync::{Arc, Mutex};
#[cfg(feature = "percentile")]
use hdrhistogram::Histogram;
use std::time::Duration;

/// So many requests' shares are saved up at most: what a quiet hour has saved must not all be spent on
/// a back end in trouble.
const SAVED: f64 = 1_000.0;

/// When a slow request is sent a second time, and how much extra load that may be.
///
/// Made by [`after`](Self::after) (a fixed delay) or, with the feature `percentile`, by
/// [`percentile`](Self::percentile) (the delay follows what was seen). Clones share what they have
/// seen, the budget and the counts, so one policy can stand for one back end in the whole program.
/// The options are those of the clone that they are called on.
///
/// **The budget**: at most a [share](Self::budget) of the requests (5 % unless told otherwise) is sent
/// twice, and a [reserve](Self::reserve) of 10 on top. When it is spent, requests simply go on
/// unhedged.
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
    /// How many tokens are out: below 0 there are savings.
    used: f64,
    #[cfg(feature = "percentile")]
    latency: Option<Latency>,
}

/// What a [`HedgePolicy`] has counted.
///
/// `sent` are those of `won`, of `lost`, and of the copies that still run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HedgeStats {
    /// How many requests there were, each counted once.
    pub requests: u64,
    /// How many copies were sent because a request was slow.
    pub sent: u64,
    /// How many of these gave the result that counted.
    pub won: u64,
    /// How many of these came too late, failed, or found that they were not needed.
    pub lost: u64,
    /// How many requests were slow and went on unhedged, as the budget was spent.
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

    /// Hedges what has taken longer than `delay`.
    ///
    /// The usual advice is the 95th percentile of what the back end takes, which makes about 5 % extra
    /// load (Dean and Barroso, *The Tail at Scale*, 2013). With a delay of 0 everything is hedged at
    /// once, as far as the budget goes.
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

    /// Hedges what has taken longer than `percent` percent of what was seen lately.
    ///
    /// Every result and every loser is recorded, to two digits, and forgotten after between 1,000 and
    /// 2,000 later ones. Nothing is hedged before the [warm-up](Self::warm_up) is over. The delay is at
    /// least 1 ms, or the [floor](Self::floor).
    ///
    /// A percentile alone drifts up when the whole back end gets slow, until it hedges nothing: give it
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
    /// assert_eq!(policy.delay(), None); // nothing has been seen yet
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

    /// The delay is never shorter than this.
    #[must_use = "it is this handle's option"]
    pub fn floor(self, floor: Duration) -> Self {
        HedgePolicy { floor, ..self }
    }

    /// The delay is never longer than this. It wins over the [floor](Self::floor).
    #[must_use = "it is this handle's option"]
    pub fn cap(self, cap: Duration) -> Self {
        HedgePolicy { cap, ..self }
    }

    /// How many results a percentile must have seen before anything is hedged; 100 unless told
    /// otherwise. A fixed delay needs none.
    #[cfg(feature = "percentile")]
    #[must_use = "it is this handle's option"]
    pub fn warm_up(self, results: u64) -> Self {
        HedgePolicy {
            warm_up: results,
            ..self
        }
    }

    /// Which share of the requests may be hedged, from 0 to 1; 0.05 unless told otherwise.
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

    /// How many hedges more than their share there may be; 10 unless told otherwise.
    #[must_use = "it is this handle's option"]
    pub fn reserve(self, hedges: u32) -> Self {
        HedgePolicy {
            reserve: f64::from(hedges),
            ..self
        }
    }

    /// After which time a request is slow now; `None` while nothing is hedged.
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

    /// What has happened so far, in all clones.
    pub fn stats(&self) -> HedgeStats {
        self.shared.lock().stats
    }

    /// One request of a program that hedges by itself, asynchronous code for example: then the policy, its
    /// budget and its counts can be shared by all of the program.
    /// [`hedge`](crate::Fanfold::hedge) and [`hedge_slow`](crate::Stage::hedge_slow) do without.
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

    /// A request begins.
    pub(crate) fn begin(&self) {
        let mut seen = self.shared.lock();
        seen.stats.requests += 1;
        seen.used = (seen.used - self.share).max(-SAVED * self.share);
    }

    /// A request is slow: whether it may be hedged, which takes a token out of the budget and is
    /// counted.
    #[must_use = "if it may, the hedge has been counted"]
    pub(crate) fn try_hedge(&self) -> bool {
        let mut seen = self.shared.lock();
        // Sums of shares are not exact, and the last of them must not be missed by a hair.
        let granted = seen.used + 1.0 <= self.reserve + 1e-6;
        if granted {
            seen.used += 1.0;
            seen.stats.sent += 1;
        } else {
            seen.stats.refused += 1;
        }
        granted
    }

    /// A hedge is over: whether its result was the one that counted.
    pub(crate) fn end(&self, won: bool) {
        let stats = &mut self.shared.lock().stats;
        *(if won { &mut stats.won } else { &mut stats.lost }) += 1;
    }

    /// There was nothing to send.
    pub(crate) fn unsend(&self) {
        let mut seen = self.shared.lock();
        seen.stats.sent -= 1;
        seen.used -= 1.0;
    }

    /// A hedge was not needed before it began: it costs nothing.
    pub(crate) fn spare(&self) {
        self.end(false);
        self.shared.lock().used -= 1.0;
    }

    /// A request, or its hedge, took so long. Whether that was the last of the warm-up, so that there is
    /// a delay from now on.
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
/// One that was hedged and is dropped without [`end`](Self::end) counts as lost: its copy was of no use.
#[derive(Debug)]
#[must_use = "when it is dropped the request is over"]
pub struct Request {
    policy: HedgePolicy,
    hedged: bool,
}

impl Request {
    /// The request is slow: whether a copy of it may be sent. That takes a token out of the budget and is counted;
    /// a request has one copy at most.
    #[must_use = "if it may, the copy has been counted"]
    pub fn try_hedge(&mut self) -> bool {
        let may = !self.hedged && self.policy.try_hedge();
        self.hedged |= may;
        may
    }

    /// The request, or its copy, took so long to answer. To be called for each that has.
    pub fn record(&self, took: Duration) {
        self.policy.record(took);
    }

    /// The request is over: whether the answer of its copy was the one that counted.
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

/// How long things took lately.
#[cfg(feature = "percentile")]
#[derive(Debug)]
struct Latency {
    /// In µs. Those before this one are kept until it is full.
    now: Histogram<u32>,
    before: Histogram<u32>,
    total: u64,
    /// What was asked last, what the answer was, and of which total.
    known: Option<(f64, Duration, u64)>,
}

#[cfg(feature = "percentile")]
impl Latency {
    /// So many are seen before the older ones are forgotten.
    const FULL: u64 = 1_000;
    /// An answer is good until so many more have been seen.
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
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_budget_is_a_share_and_a_reserve() {
        let policy = HedgePolicy::after(MS).budget(0.05).reserve(3);
        let sent = (0..10_000).filter(|_| {
            policy.begin();
            policy.try_hedge()
        });
        let sent = sent.count();
        assert_eq!(sent, 500 + 3);
        let stats = policy.stats();
        assert_eq!((stats.requests, stats.sent), (10_000, 503));
        assert_eq!(stats.refused, 10_000 - 503);
    }

    #[test]
    fn a_request_is_hedged_once_and_lost_unless_its_copy_has_won() {
        let policy = HedgePolicy::after(MS).budget(0.0).reserve(3);
        let mut request = policy.request();
        assert!(request.try_hedge());
        assert!(!request.try_hedge(), "one copy is enough");
        request.end(true);
        let mut request = policy.request();
        assert!(request.try_hedge());
        request.end(false);
        let mut request = policy.request();
        assert!(request.try_hedge());
        drop(request);
        policy.request().end(true); // it was not hedged
        let mut request = policy.request();
        assert!(!request.try_hedge(), "the budget is spent");
        let stats = policy.stats();
        assert_eq!((stats.requests, stats.sent), (5, 3));
        assert_eq!((stats.won, stats.lost, stats.refused), (1, 2, 1));
    }

    #[test]
    fn savings_have_an_end() {
        let policy = HedgePolicy::after(MS).budget(0.1).reserve(2);
        (0..1_000_000).for_each(|_| policy.begin());
        assert_eq!((0..1_000).filter(|_| policy.try_hedge()).count(), 100 + 2);
    }

    #[test]
    fn without_a_share_there_is_the_reserve_and_without_both_nothing() {
        for (reserve, sent) in [(0, 0), (7, 7)] {
            let policy = HedgePolicy::after(MS).budget(0.0).reserve(reserve);
            (0..100).for_each(|_| policy.begin());
            assert_eq!((0..100).filter(|_| policy.try_hedge()).count(), sent);
        }
    }

    #[test]
    fn what_was_not_needed_costs_nothing() {
        let policy = HedgePolicy::after(MS).budget(0.0).reserve(1);
        for _ in 0..10 {
            assert!(policy.try_hedge());
            policy.spare();
        }
        assert!(policy.try_hedge());
        policy.end(true);
        assert!(!policy.try_hedge());
        let stats = policy.stats();
        assert_eq!((stats.sent, stats.won, stats.lost), (11, 1, 10));
    }

    #[test]
    fn clones_share_what_they_saw_and_keep_their_options() {
        let policy = HedgePolicy::after(MS);
        let slower = policy.clone().floor(5 * MS);
        policy.begin();
        slower.begin();
        assert_eq!(policy.stats().requests, 2);
        assert_eq!((policy.delay(), slower.delay()), (Some(MS), Some(5 * MS)));
        assert_eq!(slower.cap(3 * MS).delay(), Some(3 * MS));
    }

    #[cfg(feature = "percentile")]
    #[test]
    fn a_percentile_warms_up_follows_and_forgets() {
        let policy = HedgePolicy::percentile(90.0).warm_up(50);
        for millis in 1..50 {
            assert!(!policy.record(millis * MS));
            assert_eq!(policy.delay(), None);
        }
        assert!(policy.record(50 * MS));
        let delay = policy.delay().expect("it is warm");
        assert!((45 * MS..47 * MS).contains(&delay), "{delay:?}");
        (0..2_000).for_each(|_| assert!(!policy.record(2 * MS)));
        let delay = policy.delay().expect("it is warm");
        assert!((2 * MS..3 * MS).contains(&delay), "{delay:?}");
        let floor = policy.clone().floor(20 * MS);
        assert_eq!(floor.delay(), Some(20 * MS));
        assert_eq!(policy.cap(MS).delay(), Some(MS));
    }

    #[cfg(feature = "percentile")]
    #[test]
    fn an_answer_that_was_given_is_not_kept_for_long() {
        let policy = HedgePolicy::percentile(90.0).warm_up(100);
        (0..100).for_each(|_| _ = policy.record(MS));
        let delay = policy.delay().expect("it is warm");
        assert!(delay < 2 * MS, "{delay:?}");
        (0..100).for_each(|_| _ = policy.record(50 * MS));
        let delay = policy.delay().expect("it is warm");
        assert!(delay > 40 * MS, "{delay:?}");
    }

    #[cfg(feature = "percentile")]
    #[test]
    fn a_time_beyond_all_measure_is_an_hour() {
        let policy = HedgePolicy::percentile(50.0).warm_up(1);
        assert!(policy.record(Duration::MAX));
        let delay = policy.delay().expect("it is warm");
        assert!(delay >= Duration::from_secs(3_500), "{delay:?}");
    }
}
