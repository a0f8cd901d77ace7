//! What a stage does, and what limits it.
//!
//! [`Stage::stats`](crate::Stage::stats) gives a handle. A [`Snapshot`] has counts and sums that only grow, so the difference
//! of two says what happened in between: an [`Interval`], with rates, shares and the [`Bottleneck`].
//! `docs/faster.md` ("Why is my pipeline not faster?") has a picture of each, and what helps against it.
//!
//! ```
//! use fanfold::Fanfold;
//! use std::time::Duration;
//!
//! let mut pages = (0..40).par_map_ordered(2, |page| {
//!     std::thread::sleep(Duration::from_millis(1));
//!     page
//! });
//! let stats = pages.stats();
//! let before = stats.snapshot();
//! assert_eq!(pages.count(), 40);
//! let all = stats.snapshot().since(&before);
//! println!("{:.0} pages a second; {}", all.rate(), all.bottleneck());
//! ```

use crate::runtime::meter::{Meter, Totals};
use crate::sync::{Arc, Instant};
use std::fmt;
use std::time::Duration;

mod bottleneck;
mod interval;
#[cfg(feature = "metrics")]
mod metrics;
#[cfg(feature = "percentile")]
mod times;

pub use crate::runtime::pilot::WidthReason;
pub use bottleneck::{Bottleneck, limiting_stage, table};
pub use interval::Interval;
#[cfg(feature = "metrics")]
pub use metrics::MetricsPublisher;
#[cfg(feature = "percentile")]
pub use times::{ItemTimes, Times};

/// A handle on the statistics of a stage: made by [`Stage::stats`](crate::Stage::stats).
///
/// It outlives the stage, and may be asked from any thread.
#[derive(Clone)]
pub struct StageStats {
    name: Arc<str>,
    meter: Arc<Meter>,
}

impl fmt::Debug for StageStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StageStats")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl StageStats {
    pub(crate) fn new(name: Arc<str>, meter: Arc<Meter>) -> Self {
        StageStats { name, meter }
    }

    /// The name of the stage, or that of its operator.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the stage has done so far.
    ///
    /// The counts of items lag by the chunks that are being run, of at most some hundred microseconds, and are in
    /// order all the same: `admitted` ≥ `started` ≥ `finished` ≥ `yielded`. Once the stage has been dropped they tally:
    /// each item that was admitted has been yielded, or has another fate.
    pub fn snapshot(&self) -> Snapshot {
        let now = Snapshot::new(&self.name, &self.meter.totals(Instant::now()));
        #[cfg(feature = "percentile")]
        let now = Snapshot {
            items: self.meter.item_times().map(ItemTimes::new),
            ..now
        };
        now
    }

    /// Keeps the times of each item: how long its closure took, and how long it was in flight.
    ///
    /// For stages that run one closure for each item of one source: in order, without an order, or by key. Others have no
    /// such times: an item of `par_flat_map` runs on while its outputs are taken, and a merge runs no closure. Costs some
    /// 200 ns for each item, and such a stage does not run cheap items on the consumer's thread.
    ///
    /// # Panics
    ///
    /// After the first `next()`.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    /// use std::time::Duration;
    ///
    /// let mut pages = (0..100).par_map_ordered(2, |x| x + 1);
    /// let stats = pages.stats().item_times();
    /// assert_eq!(pages.count(), 100);
    /// let times = stats.snapshot().items.unwrap();
    /// assert_eq!((times.service().len(), times.delay().len()), (100, 100));
    /// assert!(times.delay().quantile(0.5) <= times.delay().max());
    /// ```
    #[cfg(feature = "percentile")]
    #[doc(alias("histogram", "latency"))]
    #[track_caller]
    #[must_use]
    pub fn item_times(self) -> Self {
        assert!(
            self.meter.time_items(),
            "item_times goes before the first `next()` of the stage: stage.stats().item_times()"
        );
        self
    }
}

/// The same part of `run` as `used` is of `looked`.
fn part_of(run: Duration, used: Duration, looked: Duration) -> Option<Duration> {
    (!looked.is_zero()).then(|| run.mul_f64(interval::share(used.min(looked), looked)))
}

/// What a stage has done up to some time.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Snapshot {
    /// The name of the stage.
    pub name: Arc<str>,
    /// From the first `next()` to now, or to the end of the stage.
    pub elapsed: Duration,
    /// The stage yields nothing more, and time does not pass any more.
    pub has_ended: bool,
    /// How many items were pulled from the source.
    pub admitted: u64,
    /// How many closures have begun.
    pub started: u64,
    /// How many have ended.
    pub finished: u64,
    /// How many items were handed over.
    pub yielded: u64,
    /// How many items had no outputs: a filter has made nothing of them.
    pub filtered: u64,
    /// How many items gave an error after which nothing counts.
    pub failed: u64,
    /// How many closures panicked, and calls of the source.
    pub panicked: u64,
    /// How many items took longer than their [time limit](crate::Stage::item_timeout).
    pub timed_out: u64,
    /// How many items were dropped: they came after a failure, a cancellation or the drop of the stage.
    pub discarded: u64,
    /// How many items may be in flight now. Without a bound of the user's it adapts to what items cost, and more may be in
    /// flight than it has come down to. Of `par_flat_map` it counts outputs, of a merge the buffers of all sources.
    pub in_flight_limit: u64,
    /// The most that have been in flight when items were pulled.
    pub peak_in_flight: u64,
    /// With [`in_flight_weight`](crate::Stage::in_flight_weight): what the items in flight weighed when some were pulled last.
    pub in_flight_weight: Option<Weight>,
    /// How many closures may run at once: now, or in the end.
    pub width: usize,
    /// Why, if the width finds itself ([`Workers::auto`](crate::Workers::auto)).
    pub width_reason: Option<WidthReason>,
    /// The most threads that ran closures at once.
    pub peak_running: usize,
    /// How many threads of the pool the stage has now. They come when there is something to do, and stay until the end: up
    /// to the width, or the largest it has had, and one more to watch a source that may block.
    pub threads: usize,
    /// Where the permits to run closures have spent their time.
    pub time: StageTime,
    /// Where the consumer has spent its time.
    pub consumer: ConsumerTime,
    /// What the consumer waits for now.
    pub head: Option<HeadItem>,
    /// Copies of slow items, with [`hedge_slow`](crate::Stage::hedge_slow).
    pub hedges: Hedges,
    /// What the engine has done meanwhile.
    pub engine: Engine,
    /// How long closures have taken, if that was [asked for](StageStats::item_times).
    #[cfg(feature = "percentile")]
    pub items: Option<ItemTimes>,
    /// How many items have left the stage.
    gone: u64,
    room_blocked: Duration,
    /// For how long a CPU was used while threads looked, and for how long they looked.
    looked: (Duration, Duration),
}

/// Where the permits of a stage have spent their time: it has as many as it is wide, and a thread needs one to run a closure.
/// The four add up to the width times the time that has passed; if the width was [changed](crate::WorkersHandle), to the
/// sum of that for each width. A closure too many, which ends before the stage has become as narrow as it was told to be, is
/// not in there. A stage that runs no closures, such as a merge, has one permit for each source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StageTime {
    /// A closure ran.
    pub run: Duration,
    /// A thread was inside the source.
    pub source: Duration,
    /// Nothing was to be done, because the bound was full.
    pub room: Duration,
    /// Nothing was to be done: the source was busy, or had ended.
    pub spare: Duration,
    /// The part of `run` in which a CPU was used; in the rest closures waited, or other programs had the CPU. An estimate from
    /// a part of the runs. `None` without the feature `cpu-time`, where the platform does not tell, and before the first run.
    pub run_cpu: Option<Duration>,
}

/// Where the consumer has spent its time. `head`, `own` and `away` add up to the time that has passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConsumerTime {
    /// In `next()`, while there was nothing to take; or in the source, if it pulls that itself.
    pub head: Duration,
    /// The part of `head` in which the bound was full: everybody waited for one item. This is what order costs.
    pub blocked: Duration,
    /// It ran items itself, because they were too cheap to hand over. Seen once in a millisecond.
    pub own: Duration,
    /// It took what was ready, or was with its user.
    pub away: Duration,
}

/// What items weigh, in the unit of the user's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Weight {
    /// Together, when some were pulled last.
    pub sum: u64,
    /// The most so far.
    pub peak: u64,
    /// What they may weigh.
    pub limit: u64,
}

/// The item that is to be handed over next, and that the consumer waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeadItem {
    /// The number of the item in the source. Without an order, how many items were handed over.
    pub seq: u64,
    /// For how long the consumer has been waiting.
    pub waited: Duration,
}

/// Copies of slow items.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hedges {
    /// How many were sent.
    pub sent: u64,
    /// How many of them gave the result that counted.
    pub won: u64,
    /// How many were not sent, because the budget of the policy was used up.
    pub refused: u64,
}

/// What the engine has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Engine {
    /// How often a worker took a part of another one's items.
    pub steals: u64,
    /// How often a sleeping worker was woken for work.
    pub wakeups: u64,
    /// How often the consumer napped while results flowed.
    pub naps: u64,
    /// How many items the consumer has run itself, because they were too cheap to hand over.
    pub own_items: u64,
}

impl StageTime {
    /// All four: the width times the time that has passed.
    pub fn total(&self) -> Duration {
        self.run + self.source + self.room + self.spare
    }
}

impl Snapshot {
    fn new(name: &Arc<str>, totals: &Totals) -> Self {
        let ended = totals.failed + totals.panicked + totals.timed_out + totals.discarded;
        let handed_over = totals.taken.saturating_sub(ended - totals.left);
        let filtered = totals.filtered.min(handed_over);
        let [sent, won, refused] = totals.hedges;
        let started = (totals.ran + totals.running as u64).min(totals.pulled);
        Snapshot {
            name: Arc::clone(name),
            elapsed: totals.elapsed,
            has_ended: totals.over,
            admitted: totals.pulled,
            started: started.max(totals.ran),
            finished: totals.ran,
            yielded: handed_over - filtered,
            filtered,
            failed: totals.failed,
            panicked: totals.panicked,
            timed_out: totals.timed_out,
            discarded: totals.discarded,
            in_flight_limit: totals.bound,
            peak_in_flight: totals.peak_in_flight,
            in_flight_weight: totals.weight_limit.map(|limit| Weight {
                sum: totals.weight,
                peak: totals.peak_weight,
                limit,
            }),
            width: totals.width,
            width_reason: totals.width_reason,
            peak_running: totals.peak_running,
            threads: totals.threads,
            time: StageTime {
                run: totals.run,
                source: totals.source,
                room: totals.room,
                spare: totals.spare,
                run_cpu: part_of(totals.run, totals.run_cpu, totals.run_looked),
            },
            consumer: ConsumerTime {
                head: totals.head,
                blocked: totals.blocked,
                own: totals.own,
                away: totals.elapsed.saturating_sub(totals.head + totals.own),
            },
            head: totals.waits_since.map(|since| HeadItem {
                seq: totals.taken,
                waited: since.elapsed(),
            }),
            hedges: Hedges { sent, won, refused },
            engine: Engine {
                steals: totals.steals,
                wakeups: totals.wakeups,
                naps: totals.naps,
                own_items: totals.own_items,
            },
            #[cfg(feature = "percentile")]
            items: None,
            gone: totals.taken + totals.left,
            room_blocked: totals.room_blocked,
            looked: (totals.run_cpu, totals.run_looked),
        }
    }

    /// How many items have been pulled and not been handed over.
    pub fn in_flight(&self) -> u64 {
        self.admitted.saturating_sub(self.gone)
    }

    /// How many of them have not begun.
    pub fn queued(&self) -> u64 {
        self.in_flight() - self.running() - self.parked()
    }

    /// How many of them run.
    pub fn running(&self) -> u64 {
        (self.started - self.finished).min(self.in_flight())
    }

    /// How many of them are finished, and wait for their turn or for the consumer.
    pub fn parked(&self) -> u64 {
        let done = self.finished.saturating_sub(self.gone);
        done.min(self.in_flight() - self.running())
    }

    /// What has happened since `before`, an earlier snapshot of the same stage.
    ///
    /// # Panics
    ///
    /// If `before` is of another stage, or later.
    #[track_caller]
    pub fn since(&self, before: &Snapshot) -> Interval {
        Interval::between(before, self)
    }
}
