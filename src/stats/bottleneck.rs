//! What limits a stage, and a chain of stages.

use crate::stats::HeadItem;
use crate::stats::interval::{Interval, per_second, share};
use crate::sync::cores;
use std::fmt::{self, Display, Write};
use std::time::Duration;

/// An interval that is shorter, or in which fewer items were finished, says too little.
const LEAST_TIME: Duration = Duration::from_secs(1);
const LEAST_ITEMS: u64 = 100;
/// Shares from which on something limits the stage: closures run; nothing was there to run, and the consumer waits; everybody
/// waits for one item; the consumer is away; the bound is full although there is something to take.
const BUSY: f64 = 0.9;
const STARVED: f64 = 0.5;
const BLOCKED: f64 = 0.2;
const AWAY: f64 = 0.9;
const STOPPED: f64 = 0.2;
/// A source that gives more than so many times what is pulled is not what limits the stage, though its workers have nothing to
/// do: they may be waiting for a core.
const ASKED_ENOUGH: f64 = 2.0;
/// From this share of a CPU on, closures compute and do not wait; and of all cores, no core is left for more of them.
const CPU_BOUND: f64 = 0.8;

/// What limits a stage: made by [`Interval::bottleneck`]. `Display` says it in a line, with the evidence and what may help.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Bottleneck {
    /// The interval is shorter than a second, or fewer than 100 items were finished in it.
    Unknown,
    /// The source: it gives so many items a second while a thread is in it.
    Source {
        /// In items a second.
        rate: f64,
    },
    /// The closures: they run all the time.
    Workers {
        /// How many items a second so many workers finish.
        rate: f64,
        /// How many closures may run at once.
        width: usize,
        /// How many times as fast the stage could be with more workers, before the source or the consumer limits it.
        headroom: f64,
        /// Whether closures use a CPU 80 % of their time, or 80 % of the CPU time of all cores, and there are no more cores than
        /// workers: more of them do not help.
        /// `false` where that is not known (see [`StageTime::run_cpu`](crate::stats::StageTime::run_cpu)).
        cpu_bound: bool,
    },
    /// The head of the line: the bound is full, and everybody waits for one slow item.
    Head {
        /// Which share of the time that was.
        share: f64,
        /// How many items may be in flight.
        in_flight: u64,
        /// The item that all waited for at the end of the interval, if they did.
        head: Option<HeadItem>,
    },
    /// The consumer: what is ready waits for it.
    Consumer {
        /// How many items a second it takes.
        rate: f64,
    },
    /// None of these alone.
    Balanced,
}

impl Interval {
    /// What limits the stage in this interval.
    ///
    /// | verdict | if |
    /// | --- | --- |
    /// | [`Unknown`](Bottleneck::Unknown) | it is shorter than a second, or fewer than 100 items were finished |
    /// | [`Workers`](Bottleneck::Workers) | permits ran closures 90 % of their time, or closures used 80 % of the CPU time of all cores |
    /// | [`Head`](Bottleneck::Head) | the consumer waited for the head 20 % of the time while the bound was full |
    /// | [`Consumer`](Bottleneck::Consumer) | it was away 90 % of the time, or permits had no room 20 % of their time while there was something to take |
    /// | [`Source`](Bottleneck::Source) | permits were in the source or had nothing to do 50 % of their time, the consumer waited 50 % of the time, and the source gave less than twice of what was handed over while it was asked |
    /// | [`Balanced`](Bottleneck::Balanced) | otherwise |
    ///
    /// The first one that holds. The rates are those of operational analysis (Denning and Buzen, 1978): what is done in the
    /// time in which it is done, and not in all of it.
    pub fn bottleneck(&self) -> Bottleneck {
        if self.elapsed < LEAST_TIME || self.finished < LEAST_ITEMS {
            return Bottleneck::Unknown;
        }
        let (workers, consumer) = (&self.time, &self.consumer);
        let room_ready = workers.room.saturating_sub(self.room_blocked);
        let hungry = workers.source + workers.spare;
        let width = self.end.width;
        if self.uses_all_cores() {
            Bottleneck::Workers {
                rate: per_second(self.finished, self.elapsed),
                width,
                headroom: 1.0,
                cpu_bound: true,
            }
        } else if self.share_of_workers(workers.run) >= BUSY {
            let rate = per_second(self.finished, workers.run) * width as f64;
            let others = self.source_rate().min(self.consumer_rate());
            Bottleneck::Workers {
                rate,
                width,
                headroom: (others / rate).max(1.0),
                cpu_bound: self.cpu_share().is_some_and(|share| share >= CPU_BOUND)
                    && width >= cores(),
            }
        } else if self.share(consumer.blocked) >= BLOCKED {
            Bottleneck::Head {
                share: self.share(consumer.blocked),
                in_flight: self.end.in_flight_limit,
                head: self.end.head,
            }
        } else if self.share(consumer.away) >= AWAY || self.share_of_workers(room_ready) >= STOPPED
        {
            Bottleneck::Consumer {
                rate: self.consumer_rate(),
            }
        } else if self.share_of_workers(hungry) >= STARVED
            && self.share(consumer.head) >= STARVED
            && self.source_rate() < ASKED_ENOUGH * self.admitted_rate()
        {
            Bottleneck::Source {
                rate: self.source_rate(),
            }
        } else {
            Bottleneck::Balanced
        }
    }

    /// Whether closures use nearly all of the machine's CPU time. Of more workers than cores some wait for a core in a closure,
    /// and some before it, so they do not seem to run all the time.
    fn uses_all_cores(&self) -> bool {
        let cores = cores();
        let all = self.elapsed * u32::try_from(cores).unwrap_or(u32::MAX);
        let used = self.time.run_cpu;
        self.end.width >= cores && used.is_some_and(|used| share(used, all) >= CPU_BOUND)
    }

    fn source_rate(&self) -> f64 {
        per_second(self.admitted, self.time.source)
    }

    fn admitted_rate(&self) -> f64 {
        per_second(self.admitted, self.elapsed)
    }

    fn consumer_rate(&self) -> f64 {
        per_second(self.yielded + self.filtered, self.consumer.away)
    }
}

impl Bottleneck {
    /// In a word, for a column of a table.
    pub fn name(&self) -> &'static str {
        match self {
            Bottleneck::Unknown => "unknown",
            Bottleneck::Source { .. } => "source",
            Bottleneck::Workers { .. } => "workers",
            Bottleneck::Head { .. } => "head",
            Bottleneck::Consumer { .. } => "consumer",
            Bottleneck::Balanced => "balanced",
        }
    }
}

impl Display for Bottleneck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Bottleneck::Unknown => write!(
                f,
                "unknown: it takes a second and 100 items to tell what limits a stage"
            ),
            Bottleneck::Source { rate } => write!(
                f,
                "the source: it gives {rate:.0} items a second, and the workers wait for them; more \
                 workers do not help, a faster source does: read_ahead, larger reads, or several \
                 sources with merge"
            ),
            Bottleneck::Workers {
                rate,
                width,
                headroom,
                cpu_bound,
            } => {
                write!(
                    f,
                    "the workers: {width} of them finish {rate:.0} items a second and never wait; "
                )?;
                if cpu_bound {
                    f.write_str(
                        "more of them do not help, as they use a CPU nearly all the time and there is no \
                         core left; only a cheaper closure does",
                    )
                } else if headroom >= 1.1 {
                    write!(
                        f,
                        "more of them give up to {:.1} times as much, if a core is free for each or \
                         they wait",
                        headroom.min(99.0)
                    )
                } else {
                    f.write_str("more of them do not help, as the others are no faster")
                }
            }
            Bottleneck::Head {
                share,
                in_flight,
                head,
            } => {
                write!(
                    f,
                    "the head of the line: {:.0} % of the time all waited for one slow item, with the bound \
                     of {in_flight} full behind it",
                    share * 100.0
                )?;
                if let Some(HeadItem { seq, waited, .. }) = head {
                    write!(f, " (now for number {seq}, for {waited:.1?})")?;
                }
                f.write_str("; a larger in_flight, hedge_slow or unordered helps")
            }
            Bottleneck::Consumer { rate } => write!(
                f,
                "the consumer: it takes {rate:.0} items a second, and what is ready waits for it; do \
                 more in the closure, or let several threads consume (fan_out)"
            ),
            Bottleneck::Balanced => f.write_str(
                "balanced: source, workers and consumer all wait for one another now and then",
            ),
        }
    }
}

/// Which stage of a chain limits it, the one next to the source being number 0. `None`: the consumer of the last one does, or
/// there are no stages.
///
/// A stage that is limited by its consumer waits for the next one. So it is the first that is not.
///
/// # Examples
///
/// ```
/// use fanfold::stats::limiting_stage;
///
/// assert_eq!(limiting_stage(&[]), None);
/// ```
pub fn limiting_stage(chain: &[Interval]) -> Option<usize> {
    let is_stopped = |stage: &Interval| matches!(stage.bottleneck(), Bottleneck::Consumer { .. });
    chain.iter().position(|stage| !is_stopped(stage))
}

/// A line for each stage of a chain, the one next to the source first, and one for the consumer. What
/// [limits](limiting_stage) the chain is marked with `<`.
///
/// # Examples
///
/// ```
/// use fanfold::Fanfold;
/// use fanfold::stats::table;
///
/// let mut fetch = (0..100).par_map_ordered(2, |x| x + 1).named("fetch");
/// let fetched = fetch.stats();
/// let mut parse = fetch.par_map_ordered(2, |x| x * 2).named("parse");
/// let parsed = parse.stats();
/// let before = [fetched.snapshot(), parsed.snapshot()];
/// assert_eq!(parse.count(), 100);
/// let now = [fetched.snapshot(), parsed.snapshot()];
/// let chain: Vec<_> = now.iter().zip(&before).map(|(now, before)| now.since(before)).collect();
/// println!("{}", table(&chain));
/// ```
pub fn table(chain: &[Interval]) -> String {
    let limits = limiting_stage(chain);
    let name = |stage: &Interval| stage.end.name.chars().count();
    let width = chain
        .iter()
        .map(name)
        .max()
        .unwrap_or(0)
        .max("consumer".len());
    let mut text = format!(
        "{:width$}  items/s  running    run source  room spare   in flight  queued/running/parked  limit",
        "stage"
    );
    let marked = |text: &mut String, limits: bool, verdict: Bottleneck| {
        if limits && verdict != Bottleneck::Unknown {
            let _ = write!(text, "  < {verdict}");
        }
    };
    for (place, stage) in chain.iter().enumerate() {
        let percent = |time| 100.0 * stage.share_of_workers(time);
        let (end, time) = (&stage.end, &stage.time);
        let _ = write!(
            text,
            "\n{:width$} {:8.0} {:>8}   {:3.0}%   {:3.0}%  {:3.0}%  {:3.0}% {:>11} {:>22}",
            end.name,
            stage.rate(),
            format!("{}/{}", end.running(), end.width),
            percent(time.run),
            percent(time.source),
            percent(time.room),
            percent(time.spare),
            format!("{}/{}", end.in_flight(), end.in_flight_limit),
            format!("{}/{}/{}", end.queued(), end.running(), end.parked()),
        );
        marked(&mut text, limits == Some(place), stage.bottleneck());
    }
    if let Some(last) = chain.last() {
        let percent = |time| 100.0 * last.share(time);
        let _ = write!(
            text,
            "\n{:width$}  in next() {:.0} %, away {:.0} %",
            "consumer",
            percent(last.consumer.head + last.consumer.own),
            percent(last.consumer.away)
        );
        marked(&mut text, limits.is_none(), last.bottleneck());
    }
    text
}

#[cfg(all(test, not(loom)))]
mod tests;
