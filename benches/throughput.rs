//! What a stage costs: the sequential loop, two threads on halves of a `Vec`, `par_map_ordered`
//! and a hand-written version on channels, at 0 ns to 100 µs of work an item, n = 2.
//!
//! `cargo bench --bench throughput` prints criterion's figures (items per second), and then the
//! table of the README: the ratios to the sequential loop and to the two threads, as medians of
//! interleaved rounds in the same run. `-- ratios` prints the table alone; `ROUNDS` (7) sets how
//! many rounds it takes.

use criterion::{BenchmarkId, Criterion, Throughput};
use fanfold::Fanfold;
use std::collections::BinaryHeap;
use std::hint::black_box;
use std::time::{Duration, Instant};

const WIDTH: usize = 2;

/// Some work: a chain of dependent multiplications, so that no compiler shortens it.
fn work(steps: u64, item: u64) -> u64 {
    let mut state = item;
    for _ in 0..steps {
        state = state.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (state >> 7);
    }
    state
}

/// One amount of work an item.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    nanos: u64,
    /// How many items take a few hundred milliseconds.
    items: u64,
}

const CASES: [Case; 5] = [
    Case {
        name: "0 ns",
        nanos: 0,
        items: 2_000_000,
    },
    Case {
        name: "100 ns",
        nanos: 100,
        items: 3_000_000,
    },
    Case {
        name: "1 µs",
        nanos: 1_000,
        items: 300_000,
    },
    Case {
        name: "10 µs",
        nanos: 10_000,
        items: 30_000,
    },
    Case {
        name: "100 µs",
        nanos: 100_000,
        items: 3_000,
    },
];

/// How many steps of `work` take a nanosecond on this machine.
fn steps_per_nano() -> f64 {
    let once = || {
        let began = Instant::now();
        black_box(work(black_box(5_000_000), 1));
        5_000_000.0 / began.elapsed().as_nanos() as f64
    };
    let mut all = [once(), once(), once(), once(), once()];
    all.sort_by(f64::total_cmp);
    all[2]
}

/// An ordinary iterator, whose length is not known.
fn source(items: u64) -> impl Iterator<Item = u64> + Send + 'static {
    (0..items).filter(|_| true)
}

fn digest(results: impl Iterator<Item = u64>) -> u64 {
    results.fold(0, |sum, x| sum.wrapping_mul(31).wrapping_add(x))
}

fn sequential(items: u64, steps: u64) -> u64 {
    digest(source(items).map(|item| work(steps, item)))
}

/// The limit of the machine: it streams nothing and restores no order.
fn split(items: u64, steps: u64) -> u64 {
    let half =
        |range: std::ops::Range<u64>| -> Vec<u64> { range.map(|item| work(steps, item)).collect() };
    let (first, second) = std::thread::scope(|s| {
        let second = s.spawn(|| half(items / 2..items));
        (half(0..items / 2), second.join().expect("no panic"))
    });
    black_box(first.len() + second.len()) as u64
}

fn fanfold(items: u64, steps: u64) -> u64 {
    source(items)
        .par_map_ordered(WIDTH, move |item| work(steps, item))
        .fold(0, |sum, x| sum.wrapping_mul(31).wrapping_add(x))
}

/// What people write by hand: a bounded channel to the workers, one back, and a heap for the order.
fn channels(items: u64, steps: u64) -> u64 {
    use std::cmp::Reverse;
    let (to_workers, from_source) = crossbeam_channel::bounded::<(u64, u64)>(16 * WIDTH);
    let (to_consumer, results) = crossbeam_channel::bounded::<(u64, u64)>(16 * WIDTH);
    std::thread::scope(|s| {
        s.spawn(move || {
            for pair in (0..).zip(source(items)) {
                if to_workers.send(pair).is_err() {
                    return;
                }
            }
        });
        for _ in 0..WIDTH {
            let (from_source, to_consumer) = (from_source.clone(), to_consumer.clone());
            s.spawn(move || {
                for (seq, item) in from_source {
                    if to_consumer.send((seq, work(steps, item))).is_err() {
                        return;
                    }
                }
            });
        }
        drop((from_source, to_consumer));
        let (mut parked, mut next, mut sum) = (BinaryHeap::new(), 0, 0_u64);
        for pair in results {
            parked.push(Reverse(pair));
            while parked.peek().is_some_and(|Reverse((seq, _))| *seq == next) {
                let Some(Reverse((_, x))) = parked.pop() else {
                    break;
                };
                sum = sum.wrapping_mul(31).wrapping_add(x);
                next += 1;
            }
        }
        sum
    })
}

type Way = (&'static str, fn(u64, u64) -> u64);
const WAYS: [Way; 4] = [
    ("sequential", sequential),
    ("two halves of a Vec", split),
    ("fanfold", fanfold),
    ("channels", channels),
];

fn criterion(c: &mut Criterion, per_nano: f64) {
    for case in CASES {
        let items = case.items / 20;
        let steps = (case.nanos as f64 * per_nano) as u64;
        let mut group = c.benchmark_group(case.name);
        group
            .throughput(Throughput::Elements(items))
            .sample_size(10)
            .warm_up_time(Duration::from_millis(200))
            .measurement_time(Duration::from_secs(1));
        for (name, run) in WAYS {
            group.bench_function(BenchmarkId::from_parameter(name), |b| {
                b.iter(|| run(black_box(items), steps));
            });
        }
        group.finish();
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The table: all ways in turn in each round, so that a change of the machine's speed hits all.
fn ratios(per_nano: f64) {
    let rounds = std::env::var("ROUNDS").map_or(7, |n| n.parse().expect("ROUNDS is a number"));
    println!(
        "| work per item | fanfold to the loop | to two threads on halves of a Vec | channels to the loop | two halves to the loop |"
    );
    println!("| --- | --- | --- | --- | --- |");
    for case in CASES {
        let steps = (case.nanos as f64 * per_nano) as u64;
        let mut times = [const { Vec::new() }; WAYS.len()];
        let want = sequential(case.items, steps);
        for _ in 0..rounds {
            for ((name, run), times) in WAYS.iter().zip(&mut times) {
                // Channels are slow enough to be measured on fewer items.
                let items = if *name == "channels" {
                    case.items / 10
                } else {
                    case.items
                };
                let began = Instant::now();
                let got = run(items, steps);
                times.push(began.elapsed().as_secs_f64() / items as f64);
                assert!(
                    got == want || !matches!(*name, "sequential" | "fanfold"),
                    "{name}"
                );
            }
        }
        let ratio = |a: usize, b: usize| {
            median(times[a].iter().zip(&times[b]).map(|(a, b)| a / b).collect())
        };
        println!(
            "| {} | {:.2} | {:.3} | {:.2} | {:.2} |",
            case.name,
            ratio(0, 2),
            ratio(1, 2),
            ratio(0, 3),
            ratio(0, 1),
        );
    }
}

fn main() {
    let per_nano = steps_per_nano();
    if !std::env::args().any(|arg| arg == "ratios") {
        let mut c = Criterion::default().configure_from_args();
        criterion(&mut c, per_nano);
        c.final_summary();
    }
    if !std::env::args().any(|arg| arg == "--test") {
        ratios(per_nano);
    }
}
