//! How wide an [`auto`](crate::Workers::auto) stage should be: a state machine that is told what has happened in an
//! interval, and answers with a width and the reason for it. It has no clock, no thread and no lock, so that each of its
//! decisions can be tested with exact figures (`pilot/tests.rs`). [`Helm`](crate::runtime::helm::Helm) measures for it.
//!
//! **The model.** Items that wait for `w − c` and compute for `c` keep all cores busy if `cores × w / c` of them run at
//! once (`Workers::io`). That is the most that the width may be. It cannot be the only rule: where a server or a lock has
//! reached its limit, `w` grows with the width, and the formula asks for more and more.
//!
//! **The test.** So each step is tested by what it gains in throughput, and taken back if it gains too little.
//!
//! | phase | what it does |
//! | --- | --- |
//! | free | doubles the width, unless a gate is shut: the source, the consumer or the head of the line, with a bound that does not grow with the width, limits the stage (closures run less than [`BUSY`] of the time), the cores are used up, or the cap is reached |
//! | doubling | goes on if the step gave a quarter of what was added ([`WORTH`]). If not, it returns to as many as the new throughput needs at the old time per item (Little's law), which is where the curve bends. Not if items compute less than before: then they are others, and the two do not compare |
//! | held | tries a step of an eighth, up and down in turn, after 8 intervals, then 16, 32, 64. Begins anew if the work has changed |
//! | probing | keeps more workers for 3 % more throughput, fewer for 1 % less, if that is seen twice in a row |
//!
//! **The guard.** If items take longer than at their best in the last ten seconds, by so much that a quarter of the closures
//! must be queueing somewhere, it tries a tenth less, and stays there if nothing is lost. **The need.** If the source or the
//! consumer limits the stage for 8 intervals, the width falls to 1.25 times what was in use on average.
//!
//! Where the rules come from: the start and its end from TCP BBR, the guard from Vegas, useful time as the measure from DS2
//! (OSDI 2018), the gate of the cores and the sampling error from the thread pool of .NET.

use crate::sync::xorshift;
use std::fmt::{self, Display};
use std::time::Duration;

/// Closures that run for less of the time are not what limits the stage.
const BUSY: f64 = 0.9;
/// The same of an interval after which the stage has grown fast: the new threads come one after the other.
const BUSY_YOUNG: f64 = 0.8;
/// If the consumer waits for the head so much of the time while the bound is full, order is what limits the stage. More
/// workers help if the bound grows with them.
const BLOCKED: f64 = 0.2;
/// A source that limits the stage is asked at least for so much of the time: only one thread at a time is in it.
const ASKED: f64 = 0.5;
/// Closures that use a CPU so much of their time compute, and do not wait.
const COMPUTES: f64 = 0.8;
/// Of this share on they need a core each.
const ONE_EACH: f64 = 0.9;
/// So much of all cores is all of them.
const SATURATED: f64 = 0.9;
/// What a step must give of what it adds. A doubling: 25 % more.
const WORTH: f64 = 0.25;
/// An interval lasts as long as so many items, one after the other: with `n` workers there are 7 `n` of them, and to miss
/// one of each worker's is an error of 15 %.
const ROUNDS: f64 = 7.0;
const SHORTEST: f64 = 0.010;
const LONGEST: f64 = 2.0;
/// If items are so long that the interval cannot have seven, it has two.
const LEAST_ROUNDS: f64 = 2.0;
/// After a change of the width the stage is left alone for as long as an item takes, and at least this long.
const SETTLE: f64 = 0.002;
/// How many intervals in a row must say the same.
const LIMITED: u32 = 8;
const LIMITED_HELD: u32 = 3;
const CHANGED: u32 = 2;
const TWICE: u32 = 2;
/// After how many quiet intervals a step is tried.
const PATIENCE: u32 = 8;
const LONGEST_PATIENCE: u32 = 64;
/// By what factor a time or the throughput must have moved if the work is another one.
const MOVED_TIME: f64 = 1.3;
const MOVED_RATE: f64 = 1.2;
/// By what factor items must compute longer if that is why all cores are in use.
const FLOOD: f64 = 1.5;
/// The CPU time of items is not compared if they use less of a CPU than this.
const SOME_CPU: f64 = 0.05;
/// What a probe must keep of the throughput: up, down, and where items queue.
const UP: f64 = 1.03;
const DOWN: f64 = 0.99;
const GUARDED: f64 = 0.97;
/// For how long the least time of an item is remembered: between this and twice this, in seconds.
const MEMORY: f64 = 5.0;
/// How much more than was in use is kept.
const RESERVE: f64 = 1.25;

/// Why the width of an [`auto`](crate::Workers::auto) stage is what it is: [`Snapshot::width_reason`](crate::stats::Snapshot).
/// `Display` says it in a line.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum WidthReason {
    /// The stage has just begun, and too few items are finished to tell.
    Measuring,
    /// Another width is being tried.
    Probing {
        /// The width before.
        from: usize,
        /// The one that is tried.
        to: usize,
    },
    /// Closures compute, and there are no more cores.
    CpuBound {
        /// How many cores are there for this stage: those that the process may use, without what other such stages use.
        cores: usize,
    },
    /// Closures wait, and so many of them use all cores.
    Waiting {
        /// How long a closure waits for each second in which it uses a CPU.
        wait_per_cpu: f64,
    },
    /// The source gives no more: workers wait for it.
    SourceLimits,
    /// The consumer takes no more: the bound is full of results.
    ConsumerLimits,
    /// The head of the line: the bound is full, and the consumer waits for one item. A larger
    /// [`in_flight`](crate::Stage::in_flight) helps, or [`hedge_slow`](crate::Stage::hedge_slow), or no order. More workers
    /// help as far as the default bound grows with them, so with that bound the stage is as wide as the cap here.
    Head,
    /// More workers finished no more items.
    NoGain {
        /// The width that was tried.
        at: usize,
        /// How many times as many items it finished.
        gained: f64,
    },
    /// Items take longer the more of them run: they wait for one another, for a server, a disk or a lock.
    Queueing {
        /// How long an item took at best, lately.
        least: Duration,
        /// How long it took when the width was set.
        now: Duration,
    },
    /// The cap of the user's.
    Cap,
}

impl Display for WidthReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            WidthReason::Measuring => f.write_str("measuring: too few items are finished to tell"),
            WidthReason::Probing { from, to } => {
                write!(f, "probing: {to} workers instead of {from}")
            }
            WidthReason::CpuBound { cores } => {
                write!(f, "closures compute, and there are {cores} cores for them")
            }
            WidthReason::Waiting { wait_per_cpu } => write!(
                f,
                "closures wait {wait_per_cpu:.1} times as long as they compute, and so many use all cores"
            ),
            WidthReason::SourceLimits => f.write_str("the source gives no more"),
            WidthReason::ConsumerLimits => f.write_str("the consumer takes no more"),
            WidthReason::Head => f.write_str(
                "the bound is full behind one slow item; a larger in_flight, hedge_slow or unordered helps",
            ),
            WidthReason::NoGain { at, gained } => write!(
                f,
                "{at} workers finished {gained:.2} times as many items, which is not worth it"
            ),
            WidthReason::Queueing { least, now } => write!(
                f,
                "items queue: they took {now:.1?} with more workers, and {least:.1?} at best"
            ),
            WidthReason::Cap => f.write_str("the cap"),
        }
    }
}

impl WidthReason {
    /// Whether it is a gate, which may open, and not the outcome of a test.
    fn is_gate(self) -> bool {
        use WidthReason::{Cap, CpuBound, Waiting};
        matches!(self, CpuBound { .. } | Waiting { .. } | Cap) || self.is_demand()
    }

    /// Whether something else than the workers limits the stage.
    fn is_demand(self) -> bool {
        use WidthReason::{ConsumerLimits, Head, SourceLimits};
        matches!(self, SourceLimits | ConsumerLimits | Head)
    }
}

/// What has happened in an interval.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sample {
    pub(crate) elapsed: Duration,
    /// The four states of permits, summed over them.
    pub(crate) run: Duration,
    pub(crate) source: Duration,
    pub(crate) room: Duration,
    pub(crate) spare: Duration,
    /// For how long the consumer waited while the bound was full.
    pub(crate) blocked: Duration,
    /// Which share of `run` used a CPU. `None`: it is not known.
    pub(crate) cpu: Option<f64>,
    pub(crate) finished: u64,
    /// How many cores there are for this stage.
    pub(crate) cores: f64,
}

/// What to do until the next look.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Course {
    /// Too little has happened: the same interval goes on for so long.
    GoOn(Duration),
    /// The next interval begins after `settle`, if the width has changed, and lasts for `measure`.
    Next { settle: Duration, measure: Duration },
}

/// What an interval has shown; times in seconds.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// Items a second.
    rate: f64,
    /// What an item takes.
    service: f64,
    /// The share of that which it uses a CPU.
    cpu: Option<f64>,
    /// How many closures ran, on average, and how many cores they used.
    running: f64,
    used: f64,
    /// Which share of the permits' time closures ran.
    share: f64,
}

impl Seen {
    fn cpu_time(&self) -> Option<f64> {
        let cpu = self.cpu.filter(|cpu| *cpu >= SOME_CPU)?;
        Some(cpu * self.service)
    }

    /// Whether its items compute less than those of `before`, so that they are others: more workers, or fewer, may make an
    /// item compute longer, as they share caches and spin on locks, and never the reverse.
    fn computes_less_than(&self, before: &Seen) -> bool {
        let most = self.cpu.map(|cpu| cpu.max(SOME_CPU) * self.service);
        most.zip(before.cpu_time())
            .is_some_and(|(now, then)| now * MOVED_TIME < then)
    }

    /// Whether its items are others than those of `before`.
    fn differs_from(&self, before: &Seen) -> bool {
        moved(self.service, before.service) > MOVED_TIME
            || moved(self.rate, before.rate) > MOVED_RATE
            || self.differs_in_cpu(before)
    }

    fn differs_in_cpu(&self, before: &Seen) -> bool {
        let times = self.cpu_time().zip(before.cpu_time());
        times.is_some_and(|(now, then)| moved(now, then) > MOVED_TIME)
    }

    /// Moves a fifth of the way to `now`.
    fn follow(&mut self, now: &Seen) {
        let step = |from: &mut f64, to: f64| *from += 0.2 * (to - *from);
        step(&mut self.rate, now.rate);
        step(&mut self.service, now.service);
        if let (Some(from), Some(to)) = (&mut self.cpu, now.cpu) {
            step(from, to);
        }
    }
}

/// The larger through the smaller one.
fn moved(a: f64, b: f64) -> f64 {
    if a > b { a / b } else { b / a }
}

/// The least time of an item in the last seconds.
#[derive(Clone, Copy, Debug)]
struct Least {
    now: f64,
    before: f64,
    age: f64,
}

impl Least {
    const NONE: Least = Least {
        now: f64::INFINITY,
        before: f64::INFINITY,
        age: 0.0,
    };

    fn note(&mut self, elapsed: f64, service: f64) {
        self.age += elapsed;
        if self.age >= MEMORY {
            (self.before, self.now, self.age) = (self.now, f64::INFINITY, 0.0);
        }
        self.now = self.now.min(service);
    }

    fn get(&self) -> f64 {
        self.now.min(self.before)
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Probe {
    Up,
    Down,
    Guard,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// `limited`: for how many intervals the source or the consumer has limited the stage.
    Free {
        limited: u32,
    },
    Doubling {
        from: usize,
        base: Seen,
    },
    Held {
        /// What it was like so far. `None`: the first interval will tell.
        since: Option<Seen>,
        quiet: u32,
        patience: u32,
        next: Probe,
        changed: u32,
        limited: u32,
    },
    Probing {
        from: usize,
        base: Seen,
        probe: Probe,
        good: u32,
        patience: u32,
        before: WidthReason,
    },
}

/// See the head of this file.
#[derive(Clone, Debug)]
pub(crate) struct Pilot {
    width: usize,
    cap: usize,
    reason: WidthReason,
    phase: Phase,
    /// What an item takes, as far as is known.
    service: Option<f64>,
    cpu: Option<f64>,
    /// What an item computes, smoothed.
    computes: Option<f64>,
    least: Least,
    /// Whether the bound grows with the width, so that more workers get further past a slow head.
    bound_follows: bool,
    random: u64,
}

impl Pilot {
    /// A stage that begins with as many workers as there are cores.
    pub(crate) fn new(width: usize, cap: usize, bound_follows: bool) -> Self {
        Pilot {
            width,
            cap,
            reason: WidthReason::Measuring,
            phase: Phase::Free { limited: 0 },
            service: None,
            cpu: None,
            computes: None,
            least: Least::NONE,
            bound_follows,
            random: 0x9e37_79b9_7f4a_7c15,
        }
    }

    pub(crate) fn width(&self) -> usize {
        self.width
    }

    pub(crate) fn reason(&self) -> WidthReason {
        self.reason
    }

    /// How long the first interval lasts.
    pub(crate) fn first() -> Duration {
        Duration::from_secs_f64(SHORTEST)
    }

    /// What has happened, and what is to be done. Afterwards [`width`](Self::width) and [`reason`](Self::reason) hold.
    pub(crate) fn observe(&mut self, sample: &Sample) -> Course {
        let seen = match self.see(sample) {
            Ok(seen) => seen,
            Err(wait) => return Course::GoOn(Duration::from_secs_f64(wait)),
        };
        self.least.note(sample.elapsed.as_secs_f64(), seen.service);
        if self.is_flooded(sample, &seen) {
            // From the start, and not step by step: a width for closures that wait takes hundreds of times as long for
            // an interval with closures that compute.
            self.width = whole_cores(sample).min(self.cap);
            self.phase = Phase::Free { limited: 0 };
            self.reason = WidthReason::CpuBound {
                cores: whole_cores(sample),
            };
            self.least = Least::NONE;
            self.service = seen.cpu.map(|cpu| cpu * seen.service);
            self.computes = None;
        } else {
            let gate = self.gate(sample, &seen);
            self.step(sample, &seen, gate);
            if let Some(now) = seen.cpu.map(|cpu| cpu * seen.service) {
                let before = self.computes.get_or_insert(now);
                *before += 0.2 * (now - *before);
            }
        }
        let service = self.service.unwrap_or(0.0);
        Course::Next {
            settle: Duration::from_secs_f64(service.clamp(SETTLE, LONGEST)),
            measure: Duration::from_secs_f64(interval(service) * self.jitter()),
        }
    }

    /// `Err`: it is too early to tell, for so many seconds.
    fn see(&mut self, sample: &Sample) -> Result<Seen, f64> {
        let elapsed = sample.elapsed.as_secs_f64().max(1e-9);
        let run = sample.run.as_secs_f64();
        let running = run / elapsed;
        let total = (sample.run + sample.source + sample.room + sample.spare).as_secs_f64();
        let share = if total > 0.0 { run / total } else { 0.0 };
        self.cpu = sample.cpu.or(self.cpu);
        if sample.finished > 0 {
            let service = run / sample.finished as f64;
            // Much longer than what the interval was made for.
            if running >= 0.5 && elapsed < 0.5 * interval(service) {
                return Err(interval(service) - elapsed);
            }
            self.service = Some(service);
        } else if running >= 0.5 {
            return Err(elapsed.clamp(SHORTEST, LONGEST));
        }
        Ok(Seen {
            rate: sample.finished as f64 / elapsed,
            service: self.service.unwrap_or(0.0),
            cpu: self.cpu,
            running,
            used: self.cpu.unwrap_or(0.0) * running,
            share,
        })
    }

    /// Whether closures that waited so far compute now, more at once than there are cores. Their time says nothing then:
    /// most of it they wait for a core.
    fn is_flooded(&self, sample: &Sample, seen: &Seen) -> bool {
        let more = (seen.cpu.zip(self.computes))
            .is_some_and(|(cpu, before)| cpu * seen.service > FLOOD * before);
        more && seen.used >= SATURATED * sample.cores && self.width > 2 * whole_cores(sample)
    }

    /// Why the stage must not grow. `None`: it may.
    fn gate(&self, sample: &Sample, seen: &Seen) -> Option<WidthReason> {
        let cores = whole_cores(sample);
        let full = |cpu: f64| {
            if cpu >= COMPUTES {
                WidthReason::CpuBound { cores }
            } else {
                WidthReason::Waiting {
                    wait_per_cpu: (1.0 - cpu) / cpu.max(1e-9),
                }
            }
        };
        // First the cores: of more closures than cores some wait for one before they run, so that they do not run all the
        // time.
        if let Some(cpu) = seen.cpu {
            let is_full = seen.used >= SATURATED * sample.cores && self.width >= cores;
            if is_full || (seen.share >= BUSY && self.width >= self.most_for_cores(sample)) {
                return Some(full(cpu));
            }
        }
        let is_capped = self.width >= self.cap;
        let is_behind_head = share(sample.blocked, sample.elapsed) >= BLOCKED;
        if is_behind_head && self.bound_follows && !is_capped {
            return None;
        }
        let is_young = matches!(self.phase, Phase::Doubling { .. });
        if seen.share < if is_young { BUSY_YOUNG } else { BUSY } {
            let computes = seen
                .cpu
                .filter(|cpu| *cpu >= COMPUTES && self.width >= cores);
            return Some(if is_behind_head {
                WidthReason::Head
            } else if sample.room > sample.source + sample.spare {
                WidthReason::ConsumerLimits
            } else if let Some(cpu) = computes.filter(|_| !is_asked(sample)) {
                // Other programs have the cores.
                full(cpu)
            } else {
                WidthReason::SourceLimits
            });
        }
        is_capped.then_some(WidthReason::Cap)
    }

    /// How many closures use all cores.
    fn most_for_cores(&self, sample: &Sample) -> usize {
        match self.cpu {
            None => usize::MAX,
            Some(cpu) if cpu >= ONE_EACH => whole_cores(sample),
            Some(cpu) => (sample.cores / cpu.max(1e-9)).ceil() as usize,
        }
    }

    fn step(&mut self, sample: &Sample, seen: &Seen, gate: Option<WidthReason>) {
        match self.phase {
            Phase::Free { limited } => self.free(sample, seen, gate, limited),
            Phase::Doubling { from, base } => self.doubled(sample, seen, gate, from, &base),
            Phase::Held { .. } => self.held(sample, seen, gate),
            Phase::Probing { .. } => self.probed(sample, seen, gate),
        }
    }

    fn free(&mut self, sample: &Sample, seen: &Seen, gate: Option<WidthReason>, limited: u32) {
        let Some(reason) = gate else {
            let to = (2 * self.width)
                .min(self.cap)
                .min(self.most_for_cores(sample));
            self.phase = Phase::Doubling {
                from: self.width,
                base: *seen,
            };
            self.go(to);
            return;
        };
        self.reason = reason;
        if reason.is_demand() {
            // Fewer workers would make it worse where the bound is the default one, which shrinks with them.
            let limited = if reason == WidthReason::Head {
                0
            } else {
                limited + 1
            };
            self.phase = Phase::Free { limited };
            if limited >= LIMITED {
                self.phase = Phase::Free { limited: 0 };
                let need = (RESERVE * seen.running).ceil() as usize;
                self.width = self.width.min(need.max(1));
            }
        } else if matches!(reason, WidthReason::CpuBound { cores } if self.width <= cores) {
            self.phase = Phase::Free { limited: 0 };
        } else {
            self.hold(reason, PATIENCE, Probe::Down);
        }
    }

    /// Tries another width.
    fn go(&mut self, to: usize) {
        self.reason = WidthReason::Probing {
            from: self.width,
            to,
        };
        self.width = to;
    }

    fn hold(&mut self, reason: WidthReason, patience: u32, next: Probe) {
        self.reason = reason;
        self.phase = Phase::Held {
            since: None,
            quiet: 0,
            patience,
            next,
            changed: 0,
            limited: 0,
        };
    }

    fn doubled(
        &mut self,
        sample: &Sample,
        seen: &Seen,
        gate: Option<WidthReason>,
        from: usize,
        base: &Seen,
    ) {
        let gained = seen.rate / base.rate.max(1e-9);
        let added = self.width as f64 / from as f64 - 1.0;
        let is_worth = gained >= 1.0 + WORTH * added || seen.computes_less_than(base);
        if is_worth || gate.is_some_and(WidthReason::is_demand) {
            self.free(sample, seen, gate, 0);
            return;
        }
        // As many as are busy with this throughput if each item takes as long as before.
        let bend = (seen.rate * base.service).ceil() as usize;
        let at = self.width;
        self.width = bend.clamp(from, at);
        self.hold(WidthReason::NoGain { at, gained }, PATIENCE, Probe::Up);
    }

    fn held(&mut self, sample: &Sample, seen: &Seen, gate: Option<WidthReason>) {
        let Phase::Held {
            since,
            quiet,
            patience,
            next,
            changed,
            limited,
        } = &mut self.phase
        else {
            return;
        };
        let since = since.get_or_insert(*seen);
        let is_limited = gate.is_some_and(WidthReason::is_demand);
        *limited = if is_limited { *limited + 1 } else { 0 };
        *changed = if seen.differs_from(since) {
            *changed + 1
        } else {
            0
        };
        let reopened = gate.is_none() && self.reason.is_gate();
        let queue = self.width as f64 * (1.0 - self.least.get() / seen.service.max(1e-9));
        let is_queueing = queue > (self.width as f64 / 4.0).max(3.0) && !seen.differs_in_cpu(since);
        if *changed >= CHANGED && is_queueing && !is_limited {
            // What they wait for has become slower: more of them would wait longer.
            *since = *seen;
            *changed = 0;
        }
        if *limited >= LIMITED_HELD || *changed >= CHANGED || reopened {
            self.free(sample, seen, gate, 0);
            return;
        }
        if is_limited || *changed > 0 {
            return;
        }
        since.follow(seen);
        *quiet += 1;
        let (base, next, patience) = (*since, *next, *patience);
        let is_due = *quiet >= patience;
        let eighth = (self.width / 8).max(1);
        if is_queueing && seen.rate <= UP * base.rate {
            let less = (self.width as f64 * 0.9) as usize;
            self.probe(Probe::Guard, less, base, patience);
        } else if is_due && next == Probe::Up && gate.is_none() {
            let more = (self.width + eighth).min(self.cap);
            self.probe(
                Probe::Up,
                more.min(self.most_for_cores(sample)),
                base,
                patience,
            );
        } else if is_due && self.width > 1 {
            self.probe(Probe::Down, self.width - eighth, base, patience);
        }
    }

    fn probe(&mut self, probe: Probe, to: usize, base: Seen, patience: u32) {
        self.phase = Phase::Probing {
            from: self.width,
            base,
            probe,
            good: 0,
            patience,
            before: self.reason,
        };
        self.go(to.max(1));
    }

    fn probed(&mut self, sample: &Sample, seen: &Seen, gate: Option<WidthReason>) {
        let Phase::Probing {
            from,
            base,
            probe,
            good,
            patience,
            before,
        } = self.phase
        else {
            return;
        };
        let at = self.width;
        let gained = seen.rate / base.rate.max(1e-9);
        let (keeps, times, next) = match probe {
            Probe::Up => (UP, TWICE, Probe::Up),
            Probe::Down => (DOWN, TWICE, Probe::Down),
            Probe::Guard => (GUARDED, 1, Probe::Down),
        };
        // Of fewer workers that are as fast as before, none has nothing to do.
        if let Some(reason) = gate.filter(|reason| reason.is_demand()) {
            self.width = from;
            self.phase = Phase::Free { limited: 1 };
            self.reason = reason;
        } else if probe == Probe::Up && seen.computes_less_than(&base) {
            self.free(sample, seen, gate, 0);
        } else if gained < keeps {
            self.width = from;
            let reason = match probe {
                Probe::Up => WidthReason::NoGain { at, gained },
                Probe::Down => before,
                Probe::Guard => {
                    // So this is what the work takes.
                    self.least = Least::NONE;
                    before
                }
            };
            let next = match probe {
                Probe::Up => Probe::Down,
                Probe::Down | Probe::Guard => Probe::Up,
            };
            self.hold(reason, (2 * patience).min(LONGEST_PATIENCE), next);
        } else if good + 1 < times {
            self.phase = Phase::Probing {
                from,
                base,
                probe,
                good: good + 1,
                patience,
                before,
            };
        } else if probe == Probe::Up && gained - 1.0 >= (at as f64 / from as f64 - 1.0) / 2.0 {
            // All of it is in use: there may be much more.
            self.free(sample, seen, gate, 0);
        } else {
            let reason = match probe {
                Probe::Up => before,
                Probe::Down => WidthReason::NoGain {
                    at: from,
                    gained: 1.0 / gained,
                },
                Probe::Guard => WidthReason::Queueing {
                    least: Duration::from_secs_f64(self.least.get()),
                    now: Duration::from_secs_f64(base.service),
                },
            };
            self.hold(reason, PATIENCE, next);
        }
    }

    /// Between 0.8 and 1.2, so that intervals keep no step with what the work does periodically.
    fn jitter(&mut self) -> f64 {
        self.random = xorshift(self.random);
        0.8 + 0.4 * (self.random >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// How long an interval lasts if an item takes so long.
fn interval(service: f64) -> f64 {
    (ROUNDS * service).clamp(SHORTEST, LONGEST.max(LEAST_ROUNDS * service))
}

fn whole_cores(sample: &Sample) -> usize {
    (sample.cores.round() as usize).max(1)
}

/// Whether a thread was in the source for much of the time, and so waited for it.
fn is_asked(sample: &Sample) -> bool {
    share(sample.source, sample.elapsed) >= ASKED
}

fn share(part: Duration, all: Duration) -> f64 {
    part.as_secs_f64() / all.as_secs_f64().max(1e-9)
}

#[cfg(all(test, not(loom)))]
mod tests;
