//! What a stage costs: the sequential loop, two threads on halves of a `Vec`, `par_map_ordered`
//! and a hand-written version on channels, at 0 ns to 100 µs of work an item, n = 2. The rows that
//! need rivals are in `benches/peers`.
//!
//! `cargo bench --bench throughput` prints criterion's figures (items per second), and then the
//! table of the README: the ratios to the sequential loop and to the two threads, as medians of
//! interleaved rounds in the same run; and what is no loop over a stream. `-- ratios` prints these
//! alone, `-- pauses` that of a consumer that pauses, `-- blocks` blocks that are pulled and pushed, `-- weights` that of
//! bounds in bytes, `-- flat` that of inner iterators, `-- stats` what statistics cost, `-- auto` that of a width that finds
//! itself (`SECONDS_EACH` for each row, 4), `-- rayon` (with that feature) that of the bridge out of rayon; `ROUNDS` (7) sets
//! how many rounds they take.

use criterion::{BenchmarkId, Criterion, Throughput};
use fanfold::stats::Interval;
use fanfold::{Fanfold, Workers};
use rayon::iter::{ParallelBridge, ParallelIterator};
use std::collections::BinaryHeap;
use std::hint::black_box;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex};
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

/// What an item costs, in steps: the first `long` of `every` items cost more.
#[derive(Clone, Copy)]
struct Cost {
    steps: u64,
    every: u64,
    long: u64,
    long_steps: u64,
}

impl Cost {
    fn run(self, item: u64) -> u64 {
        let long = item % self.every < self.long;
        work(if long { self.long_steps } else { self.steps }, item)
    }
}

/// One kind of work.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    nanos: u64,
    /// How many items take a few hundred milliseconds.
    items: u64,
    /// Of how many items how many take how many nanoseconds instead.
    long: (u64, u64, u64),
}

impl Case {
    const fn new(name: &'static str, nanos: u64, items: u64) -> Self {
        let long = (1, 0, 0);
        Case {
            name,
            nanos,
            items,
            long,
        }
    }

    const fn with_long(mut self, every: u64, long: u64, nanos: u64) -> Self {
        self.long = (every, long, nanos);
        self
    }

    fn cost(&self, per_nano: f64) -> Cost {
        let steps = |nanos: u64| (nanos as f64 * per_nano) as u64;
        let (every, long, nanos) = self.long;
        Cost {
            steps: steps(self.nanos),
            every,
            long,
            long_steps: steps(nanos),
        }
    }
}

const CASES: [Case; 9] = [
    Case::new("0 ns", 0, 20_000_000),
    Case::new("10 ns", 10, 20_000_000),
    Case::new("30 ns", 30, 10_000_000),
    Case::new("100 ns", 100, 3_000_000),
    Case::new("1 µs", 1_000, 300_000),
    Case::new("10 µs", 10_000, 30_000),
    Case::new("100 µs", 100_000, 3_000),
    Case::new("1 µs, each 256th 1 ms", 1_000, 61_440).with_long(256, 1, 1_000_000),
    Case::new("1 µs, 4 of 8,192 4 ms", 1_000, 65_536).with_long(8_192, 4, 4_000_000),
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

fn sequential(items: u64, cost: Cost) -> u64 {
    digest(source(items).map(|item| cost.run(item)))
}

/// The limit of the machine: it streams nothing and restores no order.
fn split(items: u64, cost: Cost) -> u64 {
    let half =
        |range: std::ops::Range<u64>| -> Vec<u64> { range.map(|item| cost.run(item)).collect() };
    let (first, second) = std::thread::scope(|s| {
        let second = s.spawn(|| half(items / 2..items));
        (half(0..items / 2), second.join().expect("no panic"))
    });
    black_box(first.len() + second.len()) as u64
}

fn fanfold(items: u64, cost: Cost) -> u64 {
    source(items)
        .par_map_ordered(WIDTH, move |item| cost.run(item))
        .fold(0, |sum, x| sum.wrapping_mul(31).wrapping_add(x))
}

/// What people write by hand: a bounded channel to the workers, one back, and a heap for the order.
fn channels(items: u64, cost: Cost) -> u64 {
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
                    if to_consumer.send((seq, cost.run(item))).is_err() {
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

type Way = (&'static str, fn(u64, Cost) -> u64);
const WAYS: [Way; 4] = [
    ("sequential", sequential),
    ("two halves of a Vec", split),
    ("fanfold", fanfold),
    ("channels", channels),
];

fn criterion(c: &mut Criterion, per_nano: f64) {
    for case in CASES {
        let items = case.items / 20;
        let cost = case.cost(per_nano);
        let mut group = c.benchmark_group(case.name);
        group
            .throughput(Throughput::Elements(items))
            .sample_size(10)
            .warm_up_time(Duration::from_millis(200))
            .measurement_time(Duration::from_secs(1));
        for (name, run) in WAYS {
            group.bench_function(BenchmarkId::from_parameter(name), |b| {
                b.iter(|| run(black_box(items), cost));
            });
        }
        group.finish();
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn timed<R>(f: impl FnOnce() -> R) -> f64 {
    let began = Instant::now();
    black_box(f());
    began.elapsed().as_secs_f64()
}

fn medians<const N: usize>(rounds: usize, mut round: impl FnMut() -> [f64; N]) -> [f64; N] {
    let all: Vec<[f64; N]> = (0..rounds).map(|_| round()).collect();
    std::array::from_fn(|at| median(all.iter().map(|round| round[at]).collect()))
}

/// What is no loop over a stream: chained stages, short loops, the first result, sleepers.
fn others(per_nano: f64) {
    let rounds = rounds();
    let micro = (1e3 * per_nano) as u64;
    let one = move |item| work(micro, item);

    let [plain, chain] = medians(rounds, || {
        let items = 50_000;
        let plain = || digest(source(items).map(one).map(one).map(one).map(one));
        let chain = || {
            let two = source(items)
                .par_map_ordered(WIDTH, one)
                .par_map_ordered(WIDTH, one);
            let four = two.par_map_ordered(WIDTH, one).par_map_ordered(WIDTH, one);
            four.fold(0, |sum: u64, x| sum.wrapping_mul(31).wrapping_add(x))
        };
        [timed(plain), timed(chain)]
    });
    println!(
        "\nfour stages of 1 µs, two workers each: {:.2} of the loop",
        plain / chain
    );

    let [plain, short] = medians(rounds, || {
        let items: Vec<u64> = (0..8).collect();
        let five = |item: &u64| work(5 * micro, *item);
        let plain = || {
            for _ in 0..1_000 {
                black_box(black_box(&items).iter().map(five).collect::<Vec<_>>());
            }
        };
        let short = || {
            for _ in 0..1_000 {
                let all = fanfold::parallel_map(black_box(&items), WIDTH, |x| Ok::<_, ()>(five(x)));
                black_box(all.is_ok());
            }
        };
        [timed(plain), timed(short)]
    });
    println!(
        "parallel_map over 8 items of 5 µs: {:.2} of the loop",
        plain / short
    );

    let [first] = medians(rounds * 20, || {
        std::thread::sleep(Duration::from_millis(2));
        let mut stage = source(4_096).par_map_ordered(WIDTH, one);
        [timed(|| stage.next())]
    });
    println!(
        "first result of 1 µs items on a warm pool: {:.0} µs",
        1e6 * first
    );

    for (width, nap) in [(256, 10), (1_000, 20)] {
        let nap = Duration::from_millis(nap);
        let [took] = medians(rounds.min(5), || {
            let sleeps = move |_| std::thread::sleep(nap);
            let stage = || {
                source(20 * width)
                    .par_map_ordered(width as usize, sleeps)
                    .count()
            };
            [timed(stage)]
        });
        let efficiency = 20.0 * nap.as_secs_f64() / took;
        println!("sleeps of {nap:?} at n = {width}: efficiency {efficiency:.3}");
    }
    pauses(rounds.min(3));
    feeds(rounds, micro);
    widths(rounds.min(5), micro);
    keys(rounds, per_nano);
    blocks(rounds.min(3));
}

/// What an item costs on its way from a thread of its own, beside a bounded channel of crossbeam
/// between hand-started threads.
fn feeds(rounds: usize, micro: u64) {
    const BUFFER: usize = 64;
    let channel = |sources: u64, items: u64, steps: u64| {
        let (send, receive) = crossbeam_channel::bounded(BUFFER * sources as usize);
        let feeders: Vec<_> = (0..sources)
            .map(|_| {
                let send = send.clone();
                std::thread::spawn(move || {
                    source(items).for_each(|x| send.send(work(steps, x)).unwrap());
                })
            })
            .collect();
        drop(send);
        let sum = receive.into_iter().fold(0, |sum: u64, x| sum ^ x);
        for feeder in feeders {
            feeder.join().unwrap();
        }
        sum
    };
    println!("\n| ns an item | fanfold | crossbeam channel |\n| --- | --- | --- |");
    for (sources, steps, name) in [
        (1, 0, "readahead(64), items of 0 ns"),
        (1, micro, "readahead(64), items of 1 µs"),
        (4, 0, "merge of 4, items of 0 ns"),
        (4, micro, "merge of 4, items of 1 µs"),
    ] {
        let items = if steps == 0 { 1_000_000 } else { 200_000 } / sources;
        let [ours, theirs] = medians(rounds, || {
            let ours = || {
                let feed = || source(items).map(move |x| work(steps, x));
                match sources {
                    1 => feed().readahead(BUFFER).fold(0, |sum, x| sum ^ x),
                    _ => fanfold::merge((0..sources).map(|_| feed())).fold(0, |sum, x| sum ^ x),
                }
            };
            [timed(ours), timed(|| channel(sources, items, steps))]
        });
        let each = |time: f64| 1e9 * time / (items * sources) as f64;
        println!("| {name} | {:.0} | {:.0} |", each(ours), each(theirs));
    }
}

/// Items of 64 keys, each key's one at a time, beside the sequential loop and `par_map_unordered`.
fn keys(rounds: usize, per_nano: f64) {
    println!(
        "\n| work per item, over 64 keys | par_map_by_key to the loop | par_map_unordered to the loop |"
    );
    println!("| --- | --- | --- |");
    for (name, nanos, items) in [
        ("100 ns", 100, 1_000_000),
        ("1 µs", 1_000, 200_000),
        ("10 µs", 10_000, 20_000),
        ("100 µs", 100_000, 2_000),
    ] {
        let steps = (f64::from(nanos) * per_nano) as u64;
        let run = move |item| work(steps, item);
        let [plain, keyed, free] = medians(rounds, || {
            [
                timed(|| source(items).map(run).fold(0, |sum, x| sum ^ x)),
                timed(|| {
                    let key = |item: &u64| work(2, *item) % 64;
                    let stage = source(items).par_map_by_key(WIDTH, key, run);
                    stage.fold(0, |sum, x| sum ^ x)
                }),
                timed(|| {
                    let stage = source(items).par_map_unordered(WIDTH, run);
                    stage.fold(0, |sum, x| sum ^ x)
                }),
            ]
        });
        println!("| {name} | {:.2} | {:.2} |", plain / keyed, plain / free);
    }
}

/// Inner iterators of few and of many outputs, to the loop. The form with a `Vec` hands an item's outputs over together.
/// rayon's `flat_map_iter` behind `par_bridge` has no order and does not stream: what it costs to have both.
fn flat(rounds: usize, per_nano: f64) {
    println!(
        "\n| outputs per item, work per output | par_flat_map to the loop | a Vec per item, flattened | rayon, without an order |"
    );
    println!("| --- | --- | --- | --- |");
    for (name, outputs, nanos, items) in [
        ("10, 100 ns", 10, 100, 50_000),
        ("10, 10 µs", 10, 10_000, 1_000),
        ("1,000, 100 ns", 1_000, 100, 1_000),
        ("1,000, 1 µs", 1_000, 1_000, 200),
        ("1,000, 10 µs", 1_000, 10_000, 20),
        ("100,000, 100 ns", 100_000, 100, 10),
    ] {
        let steps = (f64::from(nanos) * per_nano) as u64;
        let open = move |item: u64| (0..outputs).map(move |i| work(steps, item ^ i));
        let [plain, flat, collected, unordered] = medians(rounds, || {
            [
                timed(|| source(items).flat_map(open).fold(0, |sum, x| sum ^ x)),
                timed(|| {
                    let stage = source(items).par_flat_map(WIDTH, open);
                    stage.fold(0, |sum, x| sum ^ x)
                }),
                timed(|| {
                    let all = move |item| open(item).collect::<Vec<_>>();
                    let stage = source(items).par_map_ordered(WIDTH, all);
                    stage.flatten().fold(0, |sum, x| sum ^ x)
                }),
                timed(|| {
                    let all = source(items).par_bridge().flat_map_iter(open);
                    all.reduce(|| 0, |a, b| a ^ b)
                }),
            ]
        });
        println!(
            "| {name} | {:.2} | {:.2} | {:.2} |",
            plain / flat,
            plain / collected,
            plain / unordered
        );
    }
}

/// The bridge out of rayon, to rayon's own `collect`, which gives nothing before all is done.
#[cfg(feature = "rayon")]
fn bridge(rounds: usize, per_nano: f64) {
    use fanfold::FromRayon;
    use rayon::iter::IntoParallelIterator;
    println!(
        "\n| work per item, items | ordered, for | collect | fold | the first result of rayon's collect | of ordered | times sooner |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    for (name, nanos, items) in [
        ("100 ns, 3 · 10⁶", 100, 3_000_000),
        ("1 µs, 3 · 10⁵", 1_000, 300_000),
        ("1 µs, 10⁶", 1_000, 1_000_000),
        ("10 µs, 3 · 10⁴", 10_000, 30_000),
    ] {
        let steps = (f64::from(nanos) * per_nano) as u64;
        let parallel = || {
            let source: Vec<u64> = (0..items).collect();
            source.into_par_iter().map(move |item| work(steps, item))
        };
        let [whole, looped, collected, folded, first] = medians(rounds, || {
            let xor = |sum: u64, x: u64| sum ^ x;
            [
                timed(|| parallel().collect::<Vec<_>>().into_iter().fold(0, xor)),
                timed(|| {
                    let mut sum = 0;
                    for x in parallel().ordered(WIDTH) {
                        sum ^= x;
                    }
                    sum
                }),
                timed(|| {
                    let all: Vec<_> = parallel().ordered(WIDTH).collect();
                    all.into_iter().fold(0, xor)
                }),
                timed(|| parallel().ordered(WIDTH).fold(0, xor)),
                {
                    let mut stage = parallel().ordered(WIDTH);
                    timed(|| stage.next())
                },
            ]
        });
        println!(
            "| {name} | {:.2} | {:.2} | {:.2} | {:.2} ms | {:.3} ms | {:.0} |",
            whole / looped,
            whole / collected,
            whole / folded,
            whole * 1e3,
            first * 1e3,
            whole / first,
        );
    }
}

/// What statistics cost: with them to without them, each a stage of its own; and with the times of the items.
fn stats(rounds: usize, per_nano: f64) {
    println!("\n| work per item | for | fold | unordered | 64 in flight | with item_times |");
    println!("| --- | --- | --- | --- | --- | --- |");
    for (name, nanos, items) in [
        ("2 ns", 2, 20_000_000),
        ("100 ns", 100, 2_000_000),
        ("1 µs", 1_000, 200_000),
        ("10 µs", 10_000, 20_000),
    ] {
        let steps = ((f64::from(nanos) * per_nano) as u64).max(1);
        let run = move |item| work(steps, item);
        let xor = |sum: u64, x: u64| sum ^ x;
        let ordered = |measured: bool| {
            let mut stage = source(items).par_map_ordered(WIDTH, run);
            if measured {
                stage.stats();
            }
            stage
        };
        let looped = |measured| {
            let mut sum = 0;
            for x in ordered(measured) {
                sum ^= x;
            }
            sum
        };
        let timed_items = || {
            let mut stage = source(items).par_map_ordered(WIDTH, run);
            #[cfg(feature = "percentile")]
            let _ = stage.stats().item_times();
            stage.fold(0, xor)
        };
        let [
            with,
            without,
            fold,
            no_fold,
            free,
            no_free,
            short,
            no_short,
            times,
        ] = medians(rounds, || {
            [
                timed(|| looped(true)),
                timed(|| looped(false)),
                timed(|| ordered(true).fold(0, xor)),
                timed(|| ordered(false).fold(0, xor)),
                timed(|| ordered(true).unordered().fold(0, xor)),
                timed(|| ordered(false).unordered().fold(0, xor)),
                timed(|| ordered(true).in_flight(64).fold(0, xor)),
                timed(|| ordered(false).in_flight(64).fold(0, xor)),
                timed(timed_items),
            ]
        });
        println!(
            "| {name} | {:.3} | {:.3} | {:.3} | {:.3} | {:.3} |",
            with / without,
            fold / no_fold,
            free / no_free,
            short / no_short,
            times / no_fold
        );
    }
}

/// Equal items under a bound by number, and under the same bound by weight.
fn weights(rounds: usize, per_nano: f64) {
    println!(
        "\n| work per item, 64 in flight | in_flight_weight to in_flight | without an order | and parked_weight |"
    );
    println!("| --- | --- | --- | --- |");
    for (name, nanos, items) in [
        ("1 µs", 1_000, 200_000),
        ("10 µs", 10_000, 20_000),
        ("100 µs", 100_000, 2_000),
    ] {
        let steps = (f64::from(nanos) * per_nano) as u64;
        let run = move |item| work(steps, item);
        let weight = |_: &u64| 1_000;
        let ordered = || source(items).par_map_ordered(WIDTH, run);
        let unordered = || source(items).par_map_unordered(WIDTH, run);
        let xor = |sum: u64, x: u64| sum ^ x;
        // Eager, as the consumer runs no items then in either of the two.
        let [count, bytes, free, free_bytes, parked] = medians(rounds, || {
            [
                timed(|| ordered().in_flight(64).eager().fold(0, xor)),
                timed(|| {
                    let stage = ordered().in_flight_weight(64_000, weight);
                    stage.eager().fold(0, xor)
                }),
                timed(|| unordered().in_flight(64).eager().fold(0, xor)),
                timed(|| {
                    let stage = unordered().in_flight_weight(64_000, weight);
                    stage.eager().fold(0, xor)
                }),
                timed(|| {
                    let stage = ordered().in_flight_weight(64_000, weight);
                    stage.parked_weight(64_000, weight).eager().fold(0, xor)
                }),
            ]
        });
        println!(
            "| {name} | {:.2} | {:.2} | {:.2} |",
            count / bytes,
            free / free_bytes,
            count / parked
        );
    }
}

/// A consumer that pauses for half of the time, after eight workers that hold no more than they
/// work on: what a buffer of eight between the two gives back.
fn pauses(rounds: usize) {
    let half = Duration::from_millis(50);
    let items = 8 * 40;
    let pipeline = || source(items).par_map_ordered(8, move |_| std::thread::sleep(half));
    let pausing = |results: &mut dyn Iterator<Item = ()>| {
        let began = Instant::now();
        for () in results {
            let phase = began.elapsed().as_nanos() % (2 * half.as_nanos());
            if phase >= half.as_nanos() {
                let rest = 2 * half.as_nanos() - phase;
                std::thread::sleep(Duration::from_nanos(rest as u64));
            }
        }
    };
    let [steady, without, with] = medians(rounds, || {
        [
            timed(|| pipeline().in_flight(8).count()),
            timed(|| pausing(&mut pipeline().in_flight(8))),
            timed(|| pausing(&mut pipeline().in_flight(8).readahead(8))),
        ]
    });
    println!(
        "a consumer that pauses 50 ms of every 100: {:.2} of the rate without pauses, {:.2} with readahead(8)",
        steady / without,
        steady / with
    );
}

/// Widths beyond the cores, as far as they can be seen here: items that sleep, and items that offer
/// their core after each of ten microseconds.
fn widths(rounds: usize, micro: u64) {
    let nap = Duration::from_millis(2);
    let yields = move |item: u64| {
        (0..10).fold(item, |state, _| {
            std::thread::yield_now();
            work(micro, state)
        })
    };
    println!(
        "\n| n | sleeps of {nap:?}: efficiency | 10 µs with ten offers of the core: to the loop |"
    );
    println!("| --- | --- | --- |");
    for width in [2, 4, 8, 16, 32, 64] {
        let naps = 100 * width as u64;
        let sleeps = move |_| std::thread::sleep(nap);
        let [slept, plain, yielded] = medians(rounds, || {
            let items = 20_000;
            [
                timed(|| source(naps).par_map_ordered(width, sleeps).count()),
                timed(|| digest(source(items).map(yields))),
                timed(|| {
                    let stage = source(items).par_map_ordered(width, yields);
                    stage.fold(0, |sum: u64, x| sum.wrapping_mul(31).wrapping_add(x))
                }),
            ]
        });
        println!(
            "| {width} | {:.3} | {:.2} |",
            100.0 * nap.as_secs_f64() / slept,
            plain / yielded
        );
    }
}

/// How a stage gets its width.
#[derive(Clone, Copy, Debug)]
enum Pick {
    Fixed(usize),
    /// `cores × run / cpu` of the last 100 ms, set by hand: what `Workers::io` says, measured.
    Formula,
    /// The rule of Vector's adaptive request concurrency.
    Arc,
    Auto,
}

/// Sets a width by hand, from what `stats()` shows.
enum Rule {
    Formula,
    /// One more after each mean time of an item, unless items take longer than so far; a tenth less if they take longer
    /// by 2.5 deviations. Mean and deviation are smoothed by 0.4. (Vector's ARC, with its own parameters.)
    Arc {
        width: usize,
        mean: f64,
        variance: f64,
    },
}

impl Rule {
    /// After how many seconds it decides again.
    fn every(&self) -> f64 {
        match self {
            Rule::Formula => 0.1,
            Rule::Arc { mean, .. } => *mean,
        }
    }

    /// The next width.
    fn decide(&mut self, interval: &Interval) -> Option<usize> {
        match self {
            Rule::Formula => {
                let most = Workers::cpus().get() as f64 / interval.cpu_share()?.max(1e-6);
                Some((most.ceil() as usize).clamp(1, CAP))
            }
            Rule::Arc {
                width,
                mean,
                variance,
            } => {
                if interval.finished == 0 {
                    return None;
                }
                let now = interval.time.run.as_secs_f64() / interval.finished as f64;
                if *mean == 0.0 {
                    *mean = now;
                    return None;
                }
                if now <= *mean {
                    *width = (*width + 1).min(CAP);
                } else if now >= *mean + 2.5 * variance.sqrt() {
                    *width = ((*width as f64 * 0.9) as usize).max(1);
                }
                let off = now - *mean;
                *mean += 0.4 * off;
                *variance = 0.6 * (*variance + 0.4 * off * off);
                Some(*width)
            }
        }
    }
}

/// What a stage did in the second half of its time; and its width: at the end, the widest, and when it first was within a
/// fifth of the end.
struct Ride {
    rate: f64,
    end: usize,
    widest: usize,
    there: f64,
    reason: String,
}

const CAP: usize = 256;

/// Runs a stage for so long, and looks at its width every 5 ms.
fn ride(pick: Pick, time: Duration, work: &(impl Fn(u64) -> u64 + Sync)) -> Ride {
    let n = match pick {
        Pick::Fixed(n) => Workers::from(n),
        Pick::Formula => Workers::cpus(),
        Pick::Arc => Workers::from(1),
        Pick::Auto => Workers::auto(CAP),
    };
    let began = Instant::now();
    let items = (0..u64::MAX).take_while(move |_| began.elapsed() < time);
    let mut stage = items.par_map_ordered(n, work);
    let stats = stage.stats();
    let mut rule = match pick {
        Pick::Formula => Some((stage.workers_handle(), Rule::Formula)),
        Pick::Arc => Some((
            stage.workers_handle(),
            Rule::Arc {
                width: 1,
                mean: 0.0,
                variance: 0.0,
            },
        )),
        Pick::Fixed(_) | Pick::Auto => None,
    };
    let is_over = AtomicBool::new(false);
    let (mut late, mut widths) = (0_u64, Vec::new());
    std::thread::scope(|s| {
        let (stats, over) = (&stats, &is_over);
        let watch = s.spawn(move || {
            let (mut widths, mut before) = (Vec::new(), stats.snapshot());
            while !over.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(5));
                let now = stats.snapshot();
                widths.push((began.elapsed().as_secs_f64(), now.width));
                let Some((handle, rule)) = &mut rule else {
                    continue;
                };
                let passed = now.since(&before);
                if passed.elapsed.as_secs_f64() >= rule.every() {
                    if let Some(width) = rule.decide(&passed) {
                        handle.set(width);
                    }
                    before = now;
                }
            }
            widths
        });
        stage.for_each(|_| late += u64::from(began.elapsed() >= time / 2));
        is_over.store(true, Ordering::Relaxed);
        widths = watch.join().expect("it only looks");
    });
    let taken = began.elapsed().as_secs_f64() - time.as_secs_f64() / 2.0;
    let end = stats.snapshot();
    let near = |width: usize| (0.8..=1.25).contains(&(width as f64 / end.width as f64));
    let there = widths.iter().find(|(_, width)| near(*width));
    Ride {
        rate: late as f64 / taken,
        end: end.width,
        widest: widths.iter().map(|(_, width)| *width).max().unwrap_or(0),
        there: there.map_or(f64::NAN, |(at, _)| *at),
        reason: end
            .width_reason
            .map_or(String::new(), |why| why.to_string()),
    }
}

/// A server that works on so many calls at once; the others wait.
struct Server {
    free: Mutex<usize>,
    freed: Condvar,
}

impl Server {
    fn new(slots: usize) -> Self {
        Server {
            free: Mutex::new(slots),
            freed: Condvar::new(),
        }
    }

    fn call(&self, time: Duration) {
        let free = self.free.lock().expect("nobody panics");
        let mut free = self
            .freed
            .wait_while(free, |free| *free == 0)
            .expect("nobody panics");
        *free -= 1;
        drop(free);
        std::thread::sleep(time);
        *self.free.lock().expect("nobody panics") += 1;
        self.freed.notify_one();
    }
}

/// A width that finds itself beside fixed ones and beside the plain formula.
fn auto(seconds: f64, micro: u64) {
    let ms = Duration::from_millis;
    let time = Duration::from_secs_f64(seconds);
    let picks = [
        Pick::Fixed(2),
        Pick::Fixed(16),
        Pick::Fixed(CAP),
        Pick::Formula,
        Pick::Arc,
        Pick::Auto,
    ];
    println!("| work | width | items a second | at the end | widest | there after | reason |");
    println!("| --- | --- | ---: | ---: | ---: | ---: | --- |");
    let rows = |name: &str, work: &(dyn Fn(u64) -> u64 + Sync)| {
        for pick in picks {
            let ride = ride(pick, time, &work);
            println!(
                "| {name} | {pick:?} | {:.0} | {} | {} | {:.2} s | {} |",
                ride.rate, ride.end, ride.widest, ride.there, ride.reason
            );
        }
    };
    rows("computes 20 µs", &|item| work(20 * micro, item));
    rows("computes 1 ms", &|item| work(1000 * micro, item));
    rows("sleeps 10 ms", &|item| {
        std::thread::sleep(ms(10));
        item
    });
    rows("sleeps 10 ms, computes 0.5 ms", &|item| {
        std::thread::sleep(ms(10));
        work(500 * micro, item)
    });
    let server = Server::new(40);
    rows("a server of 40 slots, 10 ms", &|item| {
        server.call(ms(10));
        item
    });
    let lock = Server::new(1);
    rows("1 ms behind a lock", &|item| {
        lock.call(ms(1));
        item
    });
    let began = Instant::now();
    rows("1 s computes 1 ms, 1 s sleeps 10 ms", &|item| {
        if began.elapsed().as_secs() % 2 == 0 {
            work(1000 * micro, item)
        } else {
            std::thread::sleep(ms(10));
            item
        }
    });
    rows("one in 100 sleeps 100 ms, the others 1 ms", &|item| {
        std::thread::sleep(ms(if item % 100 == 0 { 100 } else { 1 }));
        item
    });
}

/// Blocks of 64 KiB that are compressed, pulled and pushed: the same work, the same bound, in order.
fn blocks(rounds: usize) {
    const BLOCKS: usize = 200;
    let text: Vec<u8> = (0..64 << 10)
        .map(|i| b"to be or not"[(work(3, i) % 12) as usize])
        .collect();
    let deflate = |block: Vec<u8>| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(&block).expect("a Vec takes all");
        encoder.finish().expect("a Vec takes all")
    };
    let blocks = || (0..BLOCKS).map(|_| text.clone());
    let len = |sum: usize, block: Vec<u8>| sum + block.len();
    let want = blocks().map(deflate).fold(0, len);
    for n in [1, 2, 4] {
        let [looped, pulled, pushed] = medians(rounds, || {
            let looped = || blocks().map(deflate).fold(0, len);
            // Borrows, and is pulled item by item like the one below.
            let pulled = || {
                let mut sum = 0;
                let stage = blocks().par_map_ordered(n, deflate);
                stage.scoped(|outputs| outputs.for_each(|block| sum = len(sum, block)));
                sum
            };
            let pushed = || {
                let mut sum = 0;
                fanfold::scope(|s| {
                    let mut stage = fanfold::push_map_ordered(n, deflate).within(s);
                    for block in blocks() {
                        for output in stage.push(block) {
                            sum = len(sum, output);
                        }
                    }
                    for output in stage.finish() {
                        sum = len(sum, output);
                    }
                });
                sum
            };
            let checked = |run: &dyn Fn() -> usize| {
                let mut sum = 0;
                let time = timed(|| sum = run());
                assert_eq!(sum, want);
                time
            };
            [checked(&looped), checked(&pulled), checked(&pushed)]
        });
        println!(
            "blocks of 64 KiB at n = {n}: pulled {:.3} of the loop, pushed {:.3}; pushed to pulled {:.3}",
            looped / pulled,
            looped / pushed,
            pulled / pushed
        );
    }
}

fn rounds() -> usize {
    std::env::var("ROUNDS").map_or(7, |n| n.parse().expect("ROUNDS is a number"))
}

/// The table: all ways in turn in each round, so that a change of the machine's speed hits all.
fn ratios(per_nano: f64) {
    let rounds = rounds();
    println!(
        "| work per item | fanfold to the loop | to two threads on halves of a Vec | channels to the loop | two halves to the loop |"
    );
    println!("| --- | --- | --- | --- | --- |");
    for case in CASES {
        let cost = case.cost(per_nano);
        let mut times = [const { Vec::new() }; WAYS.len()];
        let want = sequential(case.items, cost);
        for _ in 0..rounds {
            for ((name, run), times) in WAYS.iter().zip(&mut times) {
                // Channels are slow enough to be measured on fewer items.
                let items = if *name == "channels" {
                    case.items / 10
                } else {
                    case.items
                };
                let began = Instant::now();
                let got = run(items, cost);
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
    if std::env::args().any(|arg| arg == "pauses") {
        pauses(rounds());
        return feeds(rounds(), (1e3 * steps_per_nano()) as u64);
    }
    let per_nano = steps_per_nano();
    if std::env::args().any(|arg| arg == "blocks") {
        return blocks(rounds());
    }
    if std::env::args().any(|arg| arg == "auto") {
        let seconds = std::env::var("SECONDS_EACH").map_or(4.0, |s| s.parse().expect("a number"));
        return auto(seconds, (1e3 * per_nano) as u64);
    }
    if std::env::args().any(|arg| arg == "by_key") {
        return keys(rounds(), per_nano);
    }
    if std::env::args().any(|arg| arg == "flat") {
        return flat(rounds(), per_nano);
    }
    if std::env::args().any(|arg| arg == "weights") {
        return weights(rounds(), per_nano);
    }
    #[cfg(feature = "rayon")]
    if std::env::args().any(|arg| arg == "rayon") {
        return bridge(rounds(), per_nano);
    }
    if std::env::args().any(|arg| arg == "stats") {
        return stats(rounds(), per_nano);
    }
    if !std::env::args().any(|arg| arg == "ratios") {
        let mut c = Criterion::default().configure_from_args();
        criterion(&mut c, per_nano);
        c.final_summary();
    }
    if !std::env::args().any(|arg| arg == "--test") {
        ratios(per_nano);
        others(per_nano);
    }
}
