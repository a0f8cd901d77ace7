//! The pilot with simulated plants and a simulated clock: what limits each of them is known by construction, so is the
//! width that is right.

use super::{Course, Pilot, Sample, WidthReason};
use std::time::Duration;

/// Closures that each take `item` seconds, `cpu` of that on a core; and what limits them.
#[derive(Clone, Copy, Debug)]
struct Plant {
    item: f64,
    cpu: f64,
    cores: f64,
    /// How many items a server works on at once. The others queue within their closures.
    slots: f64,
    /// Items a second.
    source: f64,
    consumer: f64,
    /// More closures than these never run, as the bound is full behind the head of the line.
    head: f64,
    /// The same for each worker, where the bound grows with the width.
    head_each: f64,
    /// Whether the CPU time is known.
    clock: bool,
    /// By what share the count of items is wrong, this way and that.
    noise: f64,
}

const SLEEPS: Plant = Plant {
    item: 0.010,
    cpu: 0.000_02,
    cores: 2.0,
    slots: f64::INFINITY,
    source: f64::INFINITY,
    consumer: f64::INFINITY,
    head: f64::INFINITY,
    head_each: f64::INFINITY,
    clock: true,
    noise: 0.0,
};

const COMPUTES: Plant = Plant {
    item: 0.001,
    cpu: 0.001,
    ..SLEEPS
};

impl Plant {
    /// So many closures run at most, whatever else there is.
    fn past_head(&self, width: usize) -> f64 {
        self.head.min(self.head_each * width as f64)
    }

    fn rate(&self, width: usize) -> f64 {
        let workers = (width as f64).min(self.past_head(width)) / self.item;
        let server = (self.slots / self.item).min(self.cores / self.cpu);
        workers.min(server).min(self.source).min(self.consumer)
    }

    fn sample(&self, width: usize, elapsed: f64, wrong: f64) -> Sample {
        let (n, rate, head) = (width as f64, self.rate(width), self.past_head(width));
        // Without demand the others have nothing to do; else all are in closures, and queue there.
        let demand = self.source.min(self.consumer).min(head / self.item);
        let running = if demand <= rate { rate * self.item } else { n };
        let of = |permits: f64| Duration::from_secs_f64((permits * elapsed).max(0.0));
        let none = Duration::ZERO;
        // One of them is in the source.
        let idle = of(n - running);
        let asks = of((n - running).clamp(0.0, 1.0));
        let starves = self.source <= self.consumer && head.is_infinite();
        let blocks = head < n;
        Sample {
            elapsed: of(1.0),
            run: of(running),
            source: if starves { asks } else { none },
            room: if starves { none } else { idle },
            spare: if starves {
                idle.saturating_sub(asks)
            } else {
                none
            },
            blocked: if blocks { of(0.9) } else { none },
            cpu: self.clock.then_some(self.cpu * rate / running),
            finished: (rate * elapsed * wrong).round() as u64,
            cores: self.cores,
        }
    }
}

/// A pilot, its plant, and the time in seconds.
struct Flight {
    pilot: Pilot,
    plant: Plant,
    time: f64,
    course: Course,
    turn: u64,
    /// Each width that was set, and when.
    widths: Vec<(f64, usize)>,
    reasons: Vec<WidthReason>,
}

impl Flight {
    fn new(plant: Plant, cap: usize) -> Self {
        let start = (plant.cores as usize).min(cap);
        Flight {
            pilot: Pilot::new(start, cap, plant.head.is_infinite()),
            plant,
            time: 0.0,
            course: Course::Next {
                settle: Duration::ZERO,
                measure: Pilot::first(),
            },
            turn: 0,
            widths: vec![(0.0, start)],
            reasons: Vec::new(),
        }
    }

    /// One interval, which is made longer as long as the pilot asks for that.
    fn step(&mut self) {
        let Course::Next { settle, measure } = self.course else {
            panic!("an interval that goes on is not over");
        };
        let width = self.pilot.width();
        let changed = self.widths.len() > 1 && self.time <= self.widths[self.widths.len() - 1].0;
        self.time += if changed { settle.as_secs_f64() } else { 0.0 };
        self.turn += 1;
        let wrong =
            1.0 + self.plant.noise * [1.0, -1.0, 0.3, -0.6, 0.8, -0.2][self.turn as usize % 6];
        let mut elapsed = measure.as_secs_f64();
        loop {
            let sample = self.plant.sample(width, elapsed, wrong);
            match self.pilot.observe(&sample) {
                Course::GoOn(wait) => elapsed += wait.as_secs_f64(),
                course @ Course::Next { .. } => {
                    self.course = course;
                    break;
                }
            }
        }
        self.time += elapsed;
        self.reasons.push(self.pilot.reason());
        if self.pilot.width() != width {
            self.widths.push((self.time, self.pilot.width()));
        }
    }

    fn fly(&mut self, seconds: f64) -> &mut Self {
        let end = self.time + seconds;
        while self.time < end {
            self.step();
        }
        self
    }

    /// When the width was first this or more.
    fn reached(&self, width: usize) -> f64 {
        let at = self.widths.iter().find(|(_, now)| *now >= width);
        at.unwrap_or_else(|| panic!("never {width}: {:?}", self.widths))
            .0
    }

    fn widest(&self) -> usize {
        self.widths
            .iter()
            .map(|(_, width)| *width)
            .max()
            .unwrap_or(0)
    }

    /// The reason, or that for which a probe was begun.
    fn settled(&mut self) -> WidthReason {
        for _ in 0..200 {
            match self.pilot.reason() {
                WidthReason::Probing { .. } => self.step(),
                reason => return reason,
            }
        }
        panic!("it probes all the time: {:?}", self.widths);
    }
}

#[test]
fn closures_that_compute_get_a_worker_for_each_core_and_keep_it() {
    for cores in [1, 2, 8, 64] {
        let plant = Plant {
            cores: cores as f64,
            ..COMPUTES
        };
        let mut flight = Flight::new(plant, 256);
        flight.fly(30.0);
        assert_eq!(flight.widths, [(0.0, cores)]);
        assert_eq!(flight.pilot.reason(), WidthReason::CpuBound { cores });
    }
}

#[test]
fn closures_that_sleep_get_all_of_the_cap_within_a_second() {
    let mut flight = Flight::new(SLEEPS, 256);
    flight.fly(1.0);
    assert!(flight.reached(256) < 0.8, "{:?}", flight.widths);
    let steps: Vec<usize> = flight.widths.iter().map(|(_, width)| *width).collect();
    assert_eq!(steps, [2, 4, 8, 16, 32, 64, 128, 256]);
    assert_eq!(flight.settled(), WidthReason::Cap);
}

#[test]
fn the_cap_holds_also_where_it_is_below_the_cores() {
    for cap in [1, 2, 3, 5, 100] {
        let mut flight = Flight::new(SLEEPS, cap);
        flight.fly(20.0);
        assert_eq!(flight.widest(), cap);
        assert!(flight.rate_share() > 0.8);
    }
    let mut flight = Flight::new(COMPUTES, 1);
    flight.fly(5.0);
    assert_eq!(flight.widths, [(0.0, 1)]);
}

impl Flight {
    /// The throughput to that of the cap.
    fn rate_share(&self) -> f64 {
        self.plant.rate(self.pilot.width()) / self.plant.rate(self.pilot.cap)
    }
}

#[test]
fn the_formula_is_the_most_where_closures_wait_and_compute() {
    // cores × w / c = 2 × 10 / 0.5
    let plant = Plant {
        cpu: 0.000_5,
        ..SLEEPS
    };
    let mut flight = Flight::new(plant, 256);
    flight.fly(10.0);
    let WidthReason::Waiting { wait_per_cpu } = flight.settled() else {
        panic!("{:?}", flight.pilot);
    };
    assert!((wait_per_cpu - 19.0).abs() < 0.5, "{wait_per_cpu}");
    assert!(
        (36..=41).contains(&flight.pilot.width()),
        "{:?}",
        flight.widths
    );
    assert!(flight.widest() <= 41, "{:?}", flight.widths);
}

#[test]
fn a_server_of_so_many_slots_is_found() {
    for slots in [4, 13, 40, 150] {
        for noise in [0.0, 0.02] {
            let plant = Plant {
                slots: f64::from(slots),
                noise,
                ..SLEEPS
            };
            let mut flight = Flight::new(plant, 1024);
            flight.fly(30.0);
            let reason = flight.settled();
            let width = flight.pilot.width() as f64 / f64::from(slots);
            assert!((0.9..=1.4).contains(&width), "{slots}: {:?}", flight.widths);
            let is_test = matches!(
                reason,
                WidthReason::NoGain { .. } | WidthReason::Queueing { .. }
            );
            assert!(is_test, "{reason:?}");
            // The plain formula would have asked for ever more.
            assert!(flight.widest() <= 4 * slots as usize, "{:?}", flight.widths);
        }
    }
}

#[test]
fn a_lock_needs_one_worker() {
    let plant = Plant {
        slots: 1.0,
        item: 0.001,
        ..SLEEPS
    };
    let mut flight = Flight::new(plant, 256);
    flight.fly(10.0);
    flight.settled();
    assert!(flight.pilot.width() <= 2, "{:?}", flight.widths);
    assert!(flight.widest() <= 4, "{:?}", flight.widths);
}

#[test]
fn without_the_clock_of_the_cpu_the_throughput_decides() {
    let plant = Plant {
        clock: false,
        ..COMPUTES
    };
    let mut flight = Flight::new(plant, 256);
    flight.fly(5.0);
    let tried = flight
        .reasons
        .iter()
        .find(|reason| matches!(reason, WidthReason::NoGain { .. }));
    assert!(
        matches!(tried, Some(WidthReason::NoGain { at: 4, .. })),
        "{tried:?}"
    );
    flight.settled();
    assert!(
        (1..=3).contains(&flight.pilot.width()),
        "{:?}",
        flight.widths
    );
    assert!(flight.widest() <= 4, "{:?}", flight.widths);
    let mut flight = Flight::new(
        Plant {
            clock: false,
            ..SLEEPS
        },
        256,
    );
    assert!(flight.fly(1.0).reached(256) < 0.8);
}

#[test]
fn a_slow_source_gets_what_it_needs_and_a_fast_one_more() {
    let slow = Plant {
        source: 1000.0,
        ..SLEEPS
    };
    let mut flight = Flight::new(slow, 256);
    flight.fly(5.0);
    assert_eq!(flight.pilot.reason(), WidthReason::SourceLimits);
    // Ten are busy.
    assert_eq!(flight.pilot.width(), 13, "{:?}", flight.widths);
    assert!(flight.widest() <= 16, "{:?}", flight.widths);
    let widths = flight.widths.len();
    flight.fly(30.0);
    assert_eq!(flight.widths.len(), widths, "it stays: {:?}", flight.widths);
    flight.plant.source = f64::INFINITY;
    let began = flight.time;
    flight.fly(2.0);
    assert!(flight.reached(256) - began < 1.0, "{:?}", flight.widths);
    // Much slower than that: a single worker is enough.
    flight.plant.source = 20.0;
    flight.fly(10.0);
    assert_eq!(flight.pilot.width(), 1, "{:?}", flight.widths);
}

#[test]
fn a_slow_consumer_gets_what_it_needs() {
    let mut flight = Flight::new(
        Plant {
            consumer: 500.0,
            ..SLEEPS
        },
        256,
    );
    flight.fly(5.0);
    assert_eq!(flight.pilot.reason(), WidthReason::ConsumerLimits);
    assert_eq!(flight.pilot.width(), 7, "{:?}", flight.widths);
}

#[test]
fn a_slow_head_lets_the_width_neither_grow_nor_shrink() {
    let mut flight = Flight::new(
        Plant {
            head: 20.0,
            ..SLEEPS
        },
        256,
    );
    flight.fly(10.0);
    assert_eq!(flight.pilot.reason(), WidthReason::Head);
    assert_eq!(flight.pilot.width(), 32, "{:?}", flight.widths);
    assert!(flight.reached(32) < 1.0);
}

#[test]
fn where_the_bound_grows_too_the_width_grows_behind_a_slow_head() {
    let mut flight = Flight::new(
        Plant {
            head_each: 0.3,
            ..SLEEPS
        },
        256,
    );
    flight.fly(10.0);
    assert_eq!(flight.settled(), WidthReason::Head);
    assert!(flight.reached(256) < 2.0, "{:?}", flight.widths);
    // But not beyond what else there is: ten workers get as far past the head as the server needs.
    let mut flight = Flight::new(
        Plant {
            head_each: 0.3,
            slots: 3.0,
            ..SLEEPS
        },
        256,
    );
    flight.fly(20.0);
    flight.settled();
    assert!(flight.widest() <= 32, "{:?}", flight.widths);
    assert!(
        (8..=16).contains(&flight.pilot.width()),
        "{:?}",
        flight.widths
    );
}

#[test]
fn work_that_changes_from_cpu_to_sleep_and_back_is_followed_within_two_seconds() {
    let mut flight = Flight::new(COMPUTES, 256);
    flight.fly(3.0);
    for _ in 0..3 {
        assert_eq!(flight.pilot.width(), 2, "{:?}", flight.widths);
        flight.plant = SLEEPS;
        let began = flight.time;
        flight.fly(2.0);
        let wide = flight
            .widths
            .iter()
            .find(|(at, now)| *at > began && *now == 256);
        assert!(
            wide.is_some_and(|(at, _)| at - began < 2.0),
            "{:?}",
            flight.widths
        );
        flight.fly(5.0);
        flight.plant = COMPUTES;
        let began = flight.time;
        flight.fly(2.0);
        let narrow = flight
            .widths
            .iter()
            .find(|(at, now)| *at > began && *now == 2);
        assert!(
            narrow.is_some_and(|(at, _)| at - began < 2.0),
            "{:?}",
            flight.widths
        );
        flight.fly(3.0);
    }
}

#[test]
fn a_step_is_not_judged_by_what_other_items_did_before_it() {
    let ms = Duration::from_millis;
    let mut pilot = Pilot::new(2, 256, true);
    // Items that wait for half of a millisecond, and compute for the other half.
    let computed = Sample {
        elapsed: ms(100),
        run: ms(200),
        cpu: Some(0.5),
        finished: 200,
        cores: 2.0,
        ..Sample::default()
    };
    assert!(matches!(pilot.observe(&computed), Course::Next { .. }));
    assert_eq!(pilot.width(), 4);
    // Then they sleep for 3 ms, and so fewer are finished.
    let slept = Sample {
        run: ms(400),
        cpu: Some(0.002),
        finished: 133,
        ..computed
    };
    assert!(matches!(pilot.observe(&slept), Course::Next { .. }));
    assert_eq!(pilot.width(), 8);
    // Without a change of the items it is.
    let more = Sample {
        run: ms(800),
        finished: 135,
        ..slept
    };
    assert!(matches!(pilot.observe(&more), Course::Next { .. }));
    assert!(matches!(pilot.reason(), WidthReason::NoGain { at: 8, .. }));
}

#[test]
fn a_step_of_the_load_is_followed_where_a_test_had_decided() {
    // The server gets twice as many slots, and loses them again.
    let mut flight = Flight::new(
        Plant {
            slots: 40.0,
            ..SLEEPS
        },
        256,
    );
    flight.fly(10.0);
    flight.plant.slots = 120.0;
    flight.fly(20.0);
    flight.settled();
    assert!(
        (108..=168).contains(&flight.pilot.width()),
        "{:?}",
        flight.widths
    );
    flight.plant.slots = 40.0;
    flight.fly(30.0);
    flight.settled();
    assert!(
        (36..=60).contains(&flight.pilot.width()),
        "{:?}",
        flight.widths
    );
}

#[test]
fn cores_that_others_use_are_left_to_them() {
    let mut flight = Flight::new(COMPUTES, 256);
    flight.plant.cores = 1.0;
    flight.fly(3.0);
    // Two threads share the core that is left.
    assert!(flight.widest() <= 2, "{:?}", flight.widths);
}

#[test]
fn items_that_take_long_are_waited_for() {
    let mut flight = Flight::new(
        Plant {
            item: 3.0,
            cpu: 0.01,
            ..SLEEPS
        },
        64,
    );
    flight.fly(120.0);
    assert_eq!(flight.widest(), 64);
    assert!(flight.reached(64) < 90.0, "{:?}", flight.widths);
}

const NO: f64 = f64::INFINITY;

#[test]
fn plants_at_random_are_found_whatever_limits_them() {
    let mut random = 7_u64;
    let mut one_of = |all: &[f64]| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        all[(random >> 33) as usize % all.len()]
    };
    for number in 0..2000 {
        let item = one_of(&[0.000_1, 0.001, 0.003, 0.010, 0.030]);
        let plant = Plant {
            item,
            cpu: item * one_of(&[0.001, 0.01, 0.1, 0.3, 0.7, 1.0]),
            cores: one_of(&[1.0, 2.0, 4.0, 16.0]),
            slots: one_of(&[NO, NO, 1.0, 3.0, 10.0, 50.0]),
            source: one_of(&[NO, NO, 2.0, 20.0]) / item,
            consumer: one_of(&[NO, NO, 5.0, 30.0]) / item,
            clock: one_of(&[0.0, 1.0, 1.0]) > 0.0,
            noise: one_of(&[0.0, 0.01, 0.04]),
            ..SLEEPS
        };
        let cap = one_of(&[1.0, 4.0, 64.0, 256.0]) as usize;
        let mut flight = Flight::new(plant, cap);
        flight.fly(20.0);
        flight.settled();
        let width = flight.pilot.width();
        let what = || {
            format!(
                "{number}: {plant:?}\n{:?}\n{:?}",
                flight.pilot, flight.widths
            )
        };
        assert!(
            (1..=cap).contains(&width) && flight.widest() <= cap,
            "{}",
            what()
        );
        let best = plant.rate(cap);
        let share = plant.rate(width) / best;
        assert!(share >= 0.8, "{share:.2} of the best\n{}", what());
        // As many as are busy, and some more.
        let need = (best * item).max(plant.cores.min(cap as f64));
        assert!(
            width as f64 <= 2.0 * need + 2.0,
            "{need:.1} are enough\n{}",
            what()
        );
    }
}

#[test]
fn in_an_interval_without_an_item_nothing_is_decided() {
    let mut pilot = Pilot::new(2, 64, false);
    let ms = Duration::from_millis;
    let busy = Sample {
        elapsed: ms(10),
        run: ms(20),
        cores: 2.0,
        ..Sample::default()
    };
    assert_eq!(pilot.observe(&busy), Course::GoOn(ms(10)));
    assert_eq!((pilot.width(), pilot.reason()), (2, WidthReason::Measuring));
    // Without an item because there are none.
    let idle = Sample {
        run: Duration::ZERO,
        spare: ms(20),
        ..busy
    };
    assert!(matches!(pilot.observe(&idle), Course::Next { .. }));
    assert_eq!(pilot.reason(), WidthReason::SourceLimits);
}

#[test]
fn what_is_sure_is_not_tested_and_what_is_not_is_tested_less_and_less_often() {
    let mut flight = Flight::new(
        Plant {
            slots: 40.0,
            ..SLEEPS
        },
        256,
    );
    flight.fly(60.0);
    let changes = flight.widths.len();
    flight.fly(60.0);
    // 60 s are 850 intervals. A probe, and the way back, are two changes.
    let more = flight.widths.len() - changes;
    assert!(more <= 2 * 850 / 64 + 2, "{more}");
}

#[test]
fn an_interval_lasts_seven_items_and_is_never_the_same() {
    let mut flight = Flight::new(SLEEPS, 256);
    flight.fly(3.0);
    let mut lengths: Vec<Duration> = (0..50)
        .map(|_| {
            flight.step();
            match flight.course {
                Course::Next { measure, .. } => measure,
                Course::GoOn(wait) => wait,
            }
        })
        .collect();
    let ms = Duration::from_millis;
    assert!(
        lengths
            .iter()
            .all(|length| (ms(56)..ms(85)).contains(length)),
        "{lengths:?}"
    );
    lengths.sort_unstable();
    lengths.dedup();
    assert!(lengths.len() > 40);
}

#[test]
fn each_reason_says_what_it_is_in_a_line() {
    let ms = Duration::from_millis;
    for (reason, text) in [
        (WidthReason::Measuring, "too few items"),
        (
            WidthReason::Probing { from: 4, to: 8 },
            "8 workers instead of 4",
        ),
        (WidthReason::CpuBound { cores: 2 }, "2 cores"),
        (
            WidthReason::Waiting {
                wait_per_cpu: 19.04,
            },
            "19.0 times",
        ),
        (WidthReason::SourceLimits, "source"),
        (WidthReason::ConsumerLimits, "consumer"),
        (WidthReason::Head, "in_flight"),
        (
            WidthReason::NoGain {
                at: 64,
                gained: 1.049,
            },
            "64 workers finished 1.05 times",
        ),
        (
            WidthReason::Queueing {
                least: ms(10),
                now: ms(16),
            },
            "16.0ms",
        ),
        (WidthReason::Cap, "cap"),
    ] {
        let line = reason.to_string();
        assert!(line.contains(text) && !line.contains('\n'), "{line}");
    }
}
