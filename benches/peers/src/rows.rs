//! The rows: what is measured, with how many items, and by which ways.

use crate::report::{Measured, Report, Sample};
use crate::rivals::{self, Pools, Source, Way, Work, add, digest};
use crate::{Bench, Clock, bounds, real};
use std::collections::HashMap;
use std::hint::black_box;
use std::io::{BufRead, BufReader, Cursor};
use std::process::Command;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The rows with one cost for all items, whose speed-up is plotted: name, nanoseconds, items.
pub const COSTS: [(&str, f64, u64); 7] = [
    ("3ns", 2.5, 20_000_000),
    ("10ns", 10.0, 10_000_000),
    ("30ns", 30.0, 5_000_000),
    ("100ns", 100.0, 2_000_000),
    ("1us", 1e3, 200_000),
    ("10us", 1e4, 20_000),
    ("100us", 1e5, 2_000),
];

/// All rows, in the order of the table.
pub const NAMES: [&str; 18] = [
    "3ns",
    "10ns",
    "30ns",
    "100ns",
    "1us",
    "10us",
    "100us",
    "skew",
    "burst",
    "lines",
    "sleep256",
    "sleep1000",
    "stages",
    "small",
    "first",
    "bounds",
    "real",
    "memory",
];

const CALLS: u64 = 10_000;
const FIRST_ITEMS: u64 = 4_096;
const FIRST_SAMPLES: u64 = 20;

/// Measures one row.
pub fn run(name: &'static str, bench: &Bench, report: &mut Report) {
    let steps = |nanos: f64| (nanos * bench.per_nano) as u64;
    let micro = steps(1e3);
    match name {
        "skew" => {
            let long = steps(1e6);
            let cost = move |x| if x % 256 == 0 { long } else { micro };
            let row = Row::new(name, 40_960, 256);
            numbers(bench, report, &row, move |x| spin(cost(x), x));
        }
        "burst" => {
            let long = steps(4e6);
            let cost = move |x| if x % 8_192 < 4 { long } else { micro };
            let row = Row::new(name, 65_536, 8_192);
            numbers(bench, report, &row, move |x| spin(cost(x), x));
        }
        "lines" => lines(bench, report, micro),
        "sleep256" => sleeping(bench, report, name, 256, Duration::from_millis(10)),
        "sleep1000" => sleeping(bench, report, name, 1_000, Duration::from_millis(20)),
        "stages" => stages(bench, report, micro),
        "small" => small(bench, report, steps(5e3)),
        "first" => first(bench, report, micro),
        "bounds" => bounds::run(bench),
        "real" => real::run(bench),
        "memory" => memory(bench, report),
        "3ns" => numbers(bench, report, &cost_row(name), tiny),
        _ => {
            let row = cost_row(name);
            let steps = steps_for(row.nanos, steps(row.nanos));
            numbers(bench, report, &row, move |x| spin(steps, x));
        }
    }
}

/// What a row of items in a stream needs to be known by.
struct Row {
    name: &'static str,
    nanos: f64,
    items: u64,
    /// Items come in multiples of this, so that fewer cost the same each.
    unit: u64,
}

impl Row {
    fn new(name: &'static str, items: u64, unit: u64) -> Self {
        let nanos = 1e3;
        Row {
            name,
            nanos,
            items,
            unit,
        }
    }
}

fn cost_row(name: &'static str) -> Row {
    let cost = COSTS.iter().find(|(each, ..)| *each == name);
    let (name, nanos, items) = *cost.expect("a row with one cost");
    Row {
        name,
        nanos,
        items,
        unit: 1,
    }
}

/// The work of 2 to 3 ns, with the loop around it.
fn tiny(item: u64) -> u64 {
    item.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (item >> 7)
}

/// Some work: a chain of dependent multiplications, so that no compiler shortens it.
pub fn spin(steps: u64, item: u64) -> u64 {
    (0..steps).fold(item, |state, _| tiny(state))
}

/// How many steps take so long in the loop, where a processor overlaps short items: from a guess on.
pub fn steps_for(nanos: f64, guess: u64) -> u64 {
    let items = (2e6 / nanos) as u64 + 1;
    let mut steps = guess.max(1);
    for _ in 0..4 {
        let once = |_| {
            let began = Instant::now();
            black_box(digest(source(items).map(|item| spin(steps, item))));
            began.elapsed().as_nanos() as f64 / items as f64
        };
        let took = (0..9).map(once).fold(f64::INFINITY, f64::min);
        steps = ((steps as f64 * nanos / took).round() as u64).max(1);
    }
    steps
}

/// An ordinary iterator, whose length is not known.
pub fn source(items: u64) -> impl Source<Item = u64> {
    (0..items).filter(|_| true)
}

fn numbers(bench: &Bench, report: &mut Report, row: &Row, work: impl Work<u64>) {
    let halves = |items| [0..items / 2, items / 2..items];
    stream(bench, report, row, source, halves, work);
}

fn lines(bench: &Bench, report: &mut Report, steps: u64) {
    let row = Row::new("lines", 200_000, 1);
    let text = |from: u64, to: u64| -> Arc<[u8]> {
        let line = |i| format!("{i:012} it was the best of times, it was the worst of times\n");
        (from..to).flat_map(|i| line(i).into_bytes()).collect()
    };
    let read = |text: &Arc<[u8]>| {
        let lines = BufReader::new(Cursor::new(text.clone())).lines();
        lines.map(|line| line.expect("memory can be read"))
    };
    // The texts, made before the clock starts.
    let mut texts = HashMap::new();
    for items in counts(bench, &row) {
        let [whole, first, second] = [(0, items), (0, items / 2), (items / 2, items)];
        let texts_of = [whole, first, second].map(|(from, to)| text(from, to));
        texts.insert(items, texts_of);
    }
    let source = |items| read(&texts[&items][0]);
    let halves = |items| [read(&texts[&items][1]), read(&texts[&items][2])];
    let work = move |line: String| {
        let hash = line.bytes().fold(0, |all, byte| add(all, byte.into()));
        spin(steps, hash)
    };
    stream(bench, report, &row, source, halves, work);
}

/// The counts of items that a row may use: all of them, halved and halved again.
fn counts(bench: &Bench, row: &Row) -> Vec<u64> {
    let most = bench.scaled(row.items, 100) / row.unit;
    let halved = |count: &u64| (*count > 1).then_some(*count / 2);
    std::iter::successors(Some(most.max(1)), halved)
        .map(|count| count * row.unit)
        .collect()
}

/// All ways on items in a stream. Those that are much slower than the loop get fewer items.
fn stream<S: Source, H: Iterator<Item = S::Item> + Send>(
    bench: &Bench,
    report: &mut Report,
    row: &Row,
    source: impl Fn(u64) -> S,
    halves: impl Fn(u64) -> [H; 2],
    work: impl Work<S::Item>,
) {
    let pools = Pools::new(2, false);
    let mut wanted = HashMap::new();
    let mut once = |way, items| {
        let (got, sample) = if way == Way::Split {
            let halves = halves(items);
            let clock = Clock::start();
            let results = rivals::split(halves, work);
            let sample = clock.stop(items);
            (digest(results.into_iter().flatten()), sample)
        } else {
            let source = source(items);
            let clock = Clock::start();
            let got = rivals::run(way, &pools, source, work, 0, add);
            (got, clock.stop(items))
        };
        let want = || digest(source(items).map(work));
        check(
            row.name,
            way,
            got,
            *wanted.entry(items).or_insert_with(want),
        );
        sample
    };

    // Short runs first: they start the threads, and tell who is slow.
    let counts = counts(bench, row);
    let least = counts[0].min(500);
    let mut budget = f64::INFINITY;
    let mut plan = Vec::new();
    for way in Way::ALL.into_iter().filter(|way| bench.wants(*way)) {
        if way == Way::Tokio && row.nanos < 1e3 {
            continue; // a task costs more than a microsecond
        }
        let mut wall = 0.0;
        for items in counts.iter().rev().filter(|items| **items >= least) {
            wall = once(way, *items).wall;
            if wall * *items as f64 > 0.01 {
                break;
            }
        }
        if way == Way::Loop {
            budget = 4.0 * wall * counts[0] as f64;
        }
        let fits = |items: &&u64| wall * **items as f64 <= budget || **items < 2 * least;
        plan.push((way, *counts.iter().find(fits).unwrap_or(&least)));
    }
    let measured = interleave(bench.rounds, SETTLE, &plan, once);
    let cost = COSTS.iter().any(|(name, ..)| *name == row.name);
    report.ratios(row.name, &measured, cost);
}

/// A pause before each run: the threads of the one before end, or fall asleep.
pub const SETTLE: Duration = Duration::from_millis(10);
/// The same where there are a thousand of them.
const SETTLE_MANY: Duration = Duration::from_millis(200);

/// All ways in turn in each round, each round from another one on.
fn interleave(
    rounds: usize,
    settle: Duration,
    plan: &[(Way, u64)],
    mut once: impl FnMut(Way, u64) -> Sample,
) -> Measured {
    let mut all: Measured = plan.iter().map(|(way, _)| (*way, Vec::new())).collect();
    for round in 0..rounds {
        for turn in 0..plan.len() {
            let at = (round + turn) % plan.len();
            let (way, items) = plan[at];
            sleep(settle);
            all[at].1.push(once(way, items));
        }
    }
    all
}

fn check<T: PartialEq>(row: &str, way: Way, got: T, want: T) {
    assert!(
        got == want,
        "{row}: the results of {way} are not the loop's"
    );
}

/// Work that waits, on many threads: there is no loop to compare with, it would take a minute.
fn sleeping(bench: &Bench, report: &mut Report, name: &'static str, width: usize, nap: Duration) {
    let width = bench.scaled(width as u64, 10) as usize;
    let pools = Pools::new(width, true);
    let items = width as u64 * if bench.smoke { 2 } else { 20 };
    let cannot = [Way::Loop, Way::Split, Way::Orx]; // orx has no more threads than cores
    let ways = Way::ALL.into_iter();
    let ways = ways.filter(|way| bench.wants(*way) && !cannot.contains(way));
    let plan: Vec<(Way, u64)> = ways.map(|way| (way, items)).collect();
    let work = move |item| {
        sleep(nap);
        item
    };
    let once = |way, items| {
        let clock = Clock::start();
        let got = rivals::run(way, &pools, source(items), work, 0, add);
        let sample = clock.stop(items);
        check(name, way, got, digest(0..items));
        sample
    };
    for (way, _) in &plan {
        once(*way, 2 * width as u64); // the threads start
    }
    let measured = interleave(bench.rounds, SETTLE_MANY, &plan, once);
    report.sleeping(name, &measured, nap.as_secs_f64() / width as f64);
}

/// Four stages of a microsecond each.
fn stages(bench: &Bench, report: &mut Report, steps: u64) {
    let pools = Pools::new(2, false);
    let items = bench.scaled(50_000, 50);
    let work = move |item| spin(steps, item);
    let all_four = move |item| work(work(work(work(item))));
    let want = digest((0..items).map(all_four));
    let ways = [
        Way::Loop,
        Way::Split,
        Way::Fanfold,
        Way::FanfoldFor,
        Way::Pariter,
        Way::Plmap,
        Way::Tokio,
    ];
    let ways = ways.into_iter().filter(|way| bench.wants(*way));
    let plan: Vec<(Way, u64)> = ways.map(|way| (way, items)).collect();
    let once = |way, items| {
        let (got, sample) = if way == Way::Split {
            let clock = Clock::start();
            let results = rivals::split([0..items / 2, items / 2..items], all_four);
            let sample = clock.stop(items);
            (digest(results.into_iter().flatten()), sample)
        } else {
            let clock = Clock::start();
            let got = rivals::four_stages(way, &pools, source(items), work);
            (got, clock.stop(items))
        };
        check("stages", way, got, want);
        sample
    };
    for (way, _) in &plan {
        once(*way, items); // the threads start
    }
    let measured = interleave(bench.rounds, SETTLE, &plan, once);
    report.ratios("stages", &measured, false);
}

/// Eight items of 5 µs in a slice, and that ten thousand times.
fn small(bench: &Bench, report: &mut Report, steps: u64) {
    let pools = Pools::new(2, false);
    let items: Vec<u64> = (0..8).collect();
    let work = move |item| spin(steps, item);
    let want: Vec<u64> = items.iter().map(|item| work(*item)).collect();
    let ways = [
        Way::Loop,
        Way::Split,
        Way::Fanfold,
        Way::Chunks,
        Way::Orx,
        Way::Paralight,
    ];
    let once = |way, calls| {
        let clock = Clock::start();
        for _ in 0..calls {
            let got = rivals::short_loop(way, &pools, black_box(&items), work);
            check("small", way, &got, &want);
        }
        clock.stop(8 * calls)
    };
    let ways = ways.into_iter().filter(|way| bench.wants(*way));
    let calls = bench.scaled(CALLS, 200);
    let plan: Vec<(Way, u64)> = ways.map(|way| (way, calls)).collect();
    for (way, _) in &plan {
        once(*way, 10); // the threads start
    }
    let measured = interleave(bench.rounds, SETTLE, &plan, once);
    report.ratios("small", &measured, false);
}

/// How long the first of many results takes, from the call that makes the iterator.
fn first(bench: &Bench, report: &mut Report, steps: u64) {
    let pools = Pools::new(2, false);
    let work = move |item| spin(steps, item);
    let want = digest((0..FIRST_ITEMS).map(work));
    let once = |way, runs: u64| {
        let clock = Clock::start();
        let run = |_| {
            let began = Instant::now();
            let see = |(all, first): (u64, Option<Duration>), result| {
                (add(all, result), first.or_else(|| Some(began.elapsed())))
            };
            let (got, first) = rivals::run(way, &pools, source(FIRST_ITEMS), work, (0, None), see);
            check("first", way, got, want);
            first.expect("there are results").as_secs_f64()
        };
        let mut times: Vec<f64> = (0..runs).map(run).collect();
        times.sort_by(f64::total_cmp);
        let mut sample = clock.stop(runs * FIRST_ITEMS);
        sample.wall = times[times.len() / 2];
        sample
    };
    let ways = Way::ALL.into_iter();
    let ways = ways.filter(|way| bench.wants(*way) && *way != Way::Split);
    let plan: Vec<(Way, u64)> = ways
        .map(|way| (way, bench.scaled(FIRST_SAMPLES, 20)))
        .collect();
    for (way, _) in &plan {
        once(*way, 2); // the threads start
    }
    let measured = interleave(bench.rounds, SETTLE, &plan, once);
    report.first(&measured);
}

/// Ways that take more than a microsecond an item: a tenth of the items.
const SLOW: [Way; 3] = [Way::Plmap, Way::Tokio, Way::Channels];

/// The peak memory of each way, in a process of its own.
fn memory(bench: &Bench, report: &mut Report) {
    let program = std::env::current_exe().expect("the program has a path");
    let mut peaks = Vec::new();
    for way in Way::ALL.into_iter().filter(|way| bench.wants(*way)) {
        let slow = SLOW.contains(&way);
        let items = bench.memory_items / if slow { 10 } else { 1 };
        let mut command = Command::new(&program);
        command.args(["--child", &way.id(), "--items", &items.to_string()]);
        let output = command.output().expect("the program runs again");
        let said = String::from_utf8_lossy(&output.stdout);
        let wrong = String::from_utf8_lossy(&output.stderr);
        let peak = said.trim().parse::<u64>();
        let peak = peak.unwrap_or_else(|_| panic!("memory: {way} fails: {wrong}"));
        peaks.push((way, items, peak));
    }
    report.memory(&peaks);
}

/// What such a process does: tiny items in one way. Gives the peak in KiB.
pub fn child(way: Way, items: u64) -> u64 {
    let pools = Pools::new(2, false);
    let got = if way == Way::Split {
        let halves = [0..items / 2, items / 2..items];
        digest(rivals::split(halves, tiny).into_iter().flatten())
    } else {
        rivals::run(way, &pools, source(items), tiny, 0, add)
    };
    check("memory", way, got, digest((0..items).map(tiny)));
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells of memory");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|rest| rest.trim().strip_suffix("kB"));
    kib.and_then(|kib| kib.trim().parse().ok())
        .expect("a line with the peak")
}
