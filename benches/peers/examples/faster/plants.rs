//! Stages of which it is known what limits them.

use fanfold::Fanfold;
use fanfold::stats::{Bottleneck, Interval};
use std::fmt;
use std::hint::black_box;
use std::thread::sleep;
use std::time::{Duration, Instant};

const MS: Duration = Duration::from_millis(1);

/// A stage, to be run with several widths or bounds.
pub struct Plant {
    pub name: &'static str,
    pub title: &'static str,
    /// For how long the source sleeps for each item, and the consumer.
    source: Duration,
    consumer: Duration,
    work: Work,
    sizes: Sizes,
    /// What limits it with the first size and with the last one.
    pub ends: [&'static str; 2],
}

/// What the closure does.
#[derive(Clone, Copy)]
enum Work {
    Sleep(Duration),
    /// So many steps, of some nanoseconds or less.
    Compute(u64),
    /// The first time for one item in fifty, the second one for the others.
    OneInFifty(Duration, Duration),
}

/// What is varied.
#[derive(Clone, Copy)]
pub enum Sizes {
    /// The width, from 1 to 64, with this bound or the default one.
    Widths(Option<usize>),
    /// The bound, from 4 to 1,024, with this width.
    Bounds(usize),
}

pub const ALL: [Plant; 6] = [
    Plant {
        name: "source",
        title: "The source takes 0.5 ms, the closure waits for 7 ms",
        source: Duration::from_micros(500),
        consumer: Duration::ZERO,
        work: Work::Sleep(Duration::from_millis(7)),
        sizes: Sizes::Widths(None),
        ends: ["workers", "source"],
    },
    Plant {
        name: "waiting",
        title: "The closure waits for 5 ms",
        source: Duration::ZERO,
        consumer: Duration::ZERO,
        work: Work::Sleep(Duration::from_millis(5)),
        sizes: Sizes::Widths(None),
        ends: ["workers", "workers"],
    },
    Plant {
        name: "computing",
        title: "The closure computes for about 1 ms",
        source: Duration::ZERO,
        consumer: Duration::ZERO,
        work: Work::Compute(1_000_000),
        sizes: Sizes::Widths(None),
        ends: ["workers", "workers, CPU-bound"],
    },
    Plant {
        name: "head",
        title: "One item in fifty takes 50 ms, the others 1 ms: 16 workers",
        source: Duration::ZERO,
        consumer: Duration::ZERO,
        work: Work::OneInFifty(Duration::from_millis(50), MS),
        sizes: Sizes::Bounds(16),
        ends: ["head", "workers"],
    },
    Plant {
        name: "head-width",
        title: "One item in fifty takes 50 ms, the others 1 ms: in_flight(64)",
        source: Duration::ZERO,
        consumer: Duration::ZERO,
        work: Work::OneInFifty(Duration::from_millis(50), MS),
        sizes: Sizes::Widths(Some(64)),
        ends: ["workers", "head"],
    },
    Plant {
        name: "consumer",
        title: "The consumer takes 1 ms, the closure waits for 4 ms",
        source: Duration::ZERO,
        consumer: MS,
        work: Work::Sleep(Duration::from_millis(4)),
        sizes: Sizes::Widths(None),
        ends: ["workers", "consumer"],
    },
];

/// What a stage has done with one width and one bound.
pub struct Point {
    name: &'static str,
    pub width: usize,
    pub bound: Option<usize>,
    pub interval: Interval,
    pub verdict: Bottleneck,
}

impl Plant {
    pub fn varies(&self) -> Sizes {
        self.sizes
    }

    /// The widths, each with its bound.
    pub fn sizes(&self) -> impl Iterator<Item = (usize, Option<usize>)> + use<> {
        let sizes = self.sizes;
        let powers = match sizes {
            Sizes::Widths(_) => 0..7,
            Sizes::Bounds(_) => 2..11,
        };
        powers.map(|power| 1 << power).map(move |size| match sizes {
            Sizes::Widths(bound) => (size, bound),
            Sizes::Bounds(width) => (width, Some(size)),
        })
    }

    /// Runs it for this time, and for a tenth of it before.
    pub fn measure(&self, (width, bound): (usize, Option<usize>), time: Duration) -> Point {
        let (pause, work) = (self.source, self.work);
        let source = (0_u64..).inspect(move |_| nap(pause));
        let stage = source.par_map_ordered(width, move |number| work.run(number));
        let mut stage = match bound {
            Some(bound) => stage.in_flight(bound),
            None => stage,
        };
        let stats = stage.stats();
        let mut consume = |time: Duration| {
            let began = Instant::now();
            while began.elapsed() < time && stage.next().is_some() {
                nap(self.consumer);
            }
        };
        consume(time / 10);
        let before = stats.snapshot();
        consume(time);
        let interval = stats.snapshot().since(&before);
        Point {
            name: self.name,
            width,
            bound,
            verdict: interval.bottleneck(),
            interval,
        }
    }
}

impl Work {
    fn run(&self, number: u64) -> u64 {
        match *self {
            Work::Sleep(time) => nap(time),
            Work::OneInFifty(slow, _) if number % 50 == 49 => nap(slow),
            Work::OneInFifty(_, fast) => nap(fast),
            Work::Compute(steps) => return work(number, steps),
        }
        number
    }
}

/// So many steps of work.
pub fn work(number: u64, steps: u64) -> u64 {
    (0..steps).fold(number, |x, step| {
        black_box(x.wrapping_mul(6_364_136_223_846_793_005) ^ step)
    })
}

/// `sleep` gives the core away even if there is no time to sleep.
pub fn nap(time: Duration) {
    if !time.is_zero() {
        sleep(time);
    }
}

impl Point {
    /// The verdict in a word or two.
    pub fn label(&self) -> &'static str {
        match self.verdict {
            Bottleneck::Workers {
                cpu_bound: true, ..
            } => "workers, CPU-bound",
            verdict => verdict.name(),
        }
    }
}

impl fmt::Display for Point {
    /// A row of the table.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = &self.interval;
        write!(f, "| {} | {} | ", self.name, self.width)?;
        match self.bound {
            Some(bound) => write!(f, "{bound}")?,
            None => write!(f, "({})", at.end.in_flight_limit)?,
        }
        write!(f, " | {:.0}", at.rate())?;
        let (time, consumer) = (&at.time, &at.consumer);
        for part in [time.run, time.source, time.room, time.spare] {
            write!(f, " | {:.0} %", 100.0 * at.share_of_workers(part))?;
        }
        match at.cpu_share() {
            Some(share) => write!(f, " | {:.0} %", 100.0 * share)?,
            None => write!(f, " | –")?,
        }
        for part in [consumer.head, consumer.blocked, consumer.away] {
            write!(f, " | {:.0} %", 100.0 * at.share(part))?;
        }
        write!(f, " | {} |", self.verdict)
    }
}
