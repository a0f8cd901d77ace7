//! The rows: what was measured on two cores, and what is asked for beyond them.

use crate::costs::Costs;
use crate::sim::{self, Change, Outcome, Plant, Work};

/// A row of `benches/throughput.rs` as measured on two cores.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// What `throughput` calls it.
    pub name: &'static str,
    /// What an item costs in the sequential loop.
    pub work: Work,
    /// How many.
    pub items: u64,
    /// The loop's time divided by the stage's.
    pub speed_up: f64,
}

/// `cargo bench --bench throughput -- ratios`, medians, 2026-11-29, on the machine of [`Costs::MEASURED`]. An
/// item "of 100 ns" takes 61 in the loop, where a core works on the next item before this one is done.
pub const MEASURED: [Measured; 5] = [
    Measured {
        name: "100 ns",
        work: Work::even(61.0),
        items: 3_000_000,
        speed_up: 1.77,
    },
    Measured {
        name: "1 µs",
        work: Work::even(960.0),
        items: 300_000,
        speed_up: 1.94,
    },
    Measured {
        name: "10 µs",
        work: Work::even(10_000.0),
        items: 30_000,
        speed_up: 1.96,
    },
    Measured {
        name: "100 µs",
        work: Work::even(100_000.0),
        items: 3_000,
        speed_up: 1.95,
    },
    Measured {
        name: "1 µs, each 256th 1 ms",
        work: Work::skewed(960.0, 256, 1e6),
        items: 61_440,
        speed_up: 1.92,
    },
];

impl Measured {
    /// What the simulator says instead: the median of a few seeds.
    pub fn simulated(&self) -> f64 {
        let plant = Plant {
            cores: 2,
            work: self.work,
            source: 0.0,
            items: self.items,
            change: Change::default(),
        };
        let run = |seed| sim::run(&plant, &Costs::MEASURED, seed).speed_up;
        let mut all: Vec<f64> = (1..=5).map(run).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    }
}

/// What is asked for: nanoseconds of an item in its closure and in the source, and cores.
pub const ITEMS: [f64; 5] = [100.0, 350.0, 1e3, 1e4, 1e5];
/// Nanoseconds of an item in the source.
pub const SOURCES: [f64; 3] = [2.0, 50.0, 300.0];
/// As it was built, and what might be changed.
pub const CHANGES: [(&str, Change); 4] = [
    (
        "As built",
        Change {
            queue: false,
            short_pulls: false,
        },
    ),
    (
        "Workers wait for the source in a queue",
        Change {
            queue: true,
            short_pulls: false,
        },
    ),
    (
        "Pulls take 20 µs at most and are waited for",
        Change {
            queue: false,
            short_pulls: true,
        },
    ),
    (
        "Both",
        Change {
            queue: true,
            short_pulls: true,
        },
    ),
];
/// How many cores, and as many workers.
pub const CORES: [usize; 8] = [2, 4, 8, 16, 32, 64, 128, 256];

/// The middle one of three runs beyond two cores, each long enough for 100 ms if nothing but the cores and the
/// source limits it.
pub fn ask(item: f64, source: f64, cores: usize, change: Change) -> Outcome {
    const NANOS: f64 = 1e8;
    let each = ((item + source) / cores as f64).max(source + Costs::MEASURED.pull);
    let plant = Plant {
        cores,
        work: Work::even(item),
        source,
        items: (NANOS / each) as u64,
        change,
    };
    let mut runs = [1, 2, 3].map(|seed| sim::run(&plant, &Costs::MEASURED, seed));
    runs.sort_by_key(|outcome| outcome.nanos);
    runs[1]
}

/// The first thing that saturates: what is used most, if a tenth of the cores or more is lost.
pub fn saturated(outcome: &Outcome, cores: usize) -> &'static str {
    const GOOD: f64 = 0.9;
    /// Less than this is not much.
    const MUCH: f64 = 0.5;
    const NOTABLE: f64 = 0.05;
    if outcome.speed_up >= GOOD * cores as f64 {
        return "nothing";
    }
    let most = outcome.source.max(outcome.scheduler).max(outcome.consumer);
    // The source's lock is held for three reasons, and only one of them is the source.
    let other = outcome.sections.max(outcome.hand_over);
    if most < MUCH {
        return match outcome {
            Outcome { no_room, .. } if *no_room >= NOTABLE => "bound",
            Outcome { waking, .. } if *waking >= NOTABLE => "wake-ups",
            _ => "costs of an item", // what a worker and the consumer do besides the closure
        };
    }
    if most == outcome.consumer {
        "consumer"
    } else if most == outcome.source && outcome.pulls >= other {
        "source"
    } else if most == outcome.source && outcome.hand_over > outcome.sections {
        "source's lock"
    } else if outcome.thieves > outcome.scheduler / 2.0 {
        "scheduler's lock, by thieves"
    } else {
        "scheduler's lock"
    }
}
