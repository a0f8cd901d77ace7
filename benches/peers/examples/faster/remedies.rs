//! What helps against each thing that limits a stage, and what does not: items a second before and after.

use crate::plants::{nap, work};
use fanfold::{Fanfold, HedgePolicy, merge};
use std::hint::black_box;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const MS: Duration = Duration::from_millis(1);

/// Runs so many items.
type Run = fn(usize);

/// What limits, what is done about it, and the number of items that take about a second.
type Row = (&'static str, &'static str, usize, Run);

const ROWS: [Row; 23] = [
    ("source", "1 ms a row, n = 8", 1_000, |items| {
        rows(items).par_map_ordered(8, wait).for_each(drop);
    }),
    ("source", "n = 64", 1_000, |items| {
        rows(items).par_map_ordered(64, wait).for_each(drop);
    }),
    ("source", "readahead(64)", 1_000, |items| {
        let ahead = rows(items).readahead(64);
        ahead.par_map_ordered(8, wait).for_each(drop);
    }),
    ("source", "merge of two sources", 2_000, |items| {
        let halves = [rows(items / 2), rows(items / 2)];
        merge(halves).par_map_ordered(8, wait).for_each(drop);
    }),
    ("source", "ten rows in each 1 ms, n = 64", 8_000, |items| {
        let reads = rows(items / 10).flat_map(|_| 0..10_u64);
        reads.par_map_ordered(64, wait).for_each(drop);
    }),
    ("waiting", "5 ms an item, n = 8", 1_500, |items| {
        sleep_in(items, 8);
    }),
    ("waiting", "n = 64", 12_000, |items| {
        sleep_in(items, 64);
    }),
    ("waiting", "n = 8, in_flight(1024)", 1_500, |items| {
        let stage = (0..items).par_map_ordered(8, |_| nap(5 * MS));
        stage.in_flight(1024).for_each(drop);
    }),
    ("lock", "1 ms of 4 behind a lock, n = 4", 800, |items| {
        behind_a_lock(items, 4);
    }),
    ("lock", "n = 64", 800, |items| {
        behind_a_lock(items, 64);
    }),
    ("computing", "n = 1", 1_000, |items| {
        compute(items, 1, 1_000_000);
    }),
    ("computing", "n = 2", 2_000, |items| {
        compute(items, 2, 1_000_000);
    }),
    ("computing", "n = 16", 2_000, |items| {
        compute(items, 16, 1_000_000);
    }),
    ("computing", "n = 2, half the work", 4_000, |items| {
        compute(items, 2, 500_000);
    }),
    ("head", "n = 16, in_flight(64)", 2_000, |items| {
        let stage = (0..items).par_map_ordered(16, uneven);
        stage.in_flight(64).for_each(drop);
    }),
    ("head", "n = 64, in_flight(64)", 2_000, |items| {
        let stage = (0..items).par_map_ordered(64, uneven);
        stage.in_flight(64).for_each(drop);
    }),
    ("head", "n = 16, in_flight(512)", 8_000, |items| {
        let stage = (0..items).par_map_ordered(16, uneven);
        stage.in_flight(512).for_each(drop);
    }),
    ("head", "n = 16, in_flight(64), unordered", 8_000, |items| {
        let stage = (0..items).par_map_ordered(16, uneven);
        stage.in_flight(64).unordered().for_each(drop);
    }),
    (
        "head",
        "n = 16, in_flight(64), hedge_slow after 5 ms",
        8_000,
        |items| {
            let slow: Vec<_> = (0..items).map(|_| AtomicBool::new(true)).collect();
            let policy = HedgePolicy::after(5 * MS).budget(0.1);
            // The second try of a slow item is fast.
            let retried = move |x: usize| match slow[x].swap(false, Ordering::Relaxed) {
                true => uneven(x),
                false => nap(MS),
            };
            let stage = (0..items).par_map_ordered(16, retried);
            stage.in_flight(64).hedge_slow(&policy).for_each(drop);
        },
    ),
    ("consumer", "1 ms a result, n = 8", 1_000, |items| {
        (0..items)
            .par_map_ordered(8, |_| nap(4 * MS))
            .for_each(|()| nap(MS));
    }),
    ("consumer", "n = 64, in_flight(1024)", 1_000, |items| {
        let stage = (0..items).par_map_ordered(64, |_| nap(4 * MS));
        stage.in_flight(1024).for_each(|()| nap(MS));
    }),
    ("consumer", "its 1 ms in the closure", 1_500, |items| {
        (0..items)
            .par_map_ordered(8, |_| nap(5 * MS))
            .for_each(drop);
    }),
    (
        "consumer",
        "two consumers (partition_into)",
        2_000,
        |items| {
            let stage = (0..items).par_map_ordered(8, |x| {
                nap(4 * MS);
                x
            });
            stage.partition_into(
                |x| x % 2 == 0,
                |even| even.for_each(|_| nap(MS)),
                |odd| odd.for_each(|_| nap(MS)),
            );
        },
    ),
];

/// Prints a table: the median rate of each row.
pub fn run(rounds: u16, smoke: bool) {
    println!("\n| limited by | with | items/s |\n| --- | --- | ---: |");
    for (limit, what, items, run) in ROWS {
        let items = if smoke { items / 50 } else { items };
        let mut rates: Vec<_> = (0..rounds)
            .map(|_| {
                let began = Instant::now();
                run(items);
                items as f64 / began.elapsed().as_secs_f64()
            })
            .collect();
        rates.sort_by(f64::total_cmp);
        println!("| {limit} | {what} | {:.0} |", rates[rates.len() / 2]);
    }
}

/// Rows of a source that takes 1 ms for each.
fn rows(items: usize) -> impl Iterator<Item = u64> + Send + 'static {
    (0..items as u64).inspect(|_| nap(MS))
}

fn wait(_: u64) {
    nap(4 * MS);
}

fn sleep_in(items: usize, n: usize) {
    (0..items)
        .par_map_ordered(n, |_| nap(5 * MS))
        .for_each(drop);
}

fn behind_a_lock(items: usize, n: usize) {
    let lock = Mutex::new(());
    let closure = |_| {
        nap(3 * MS);
        let _held = lock.lock();
        nap(MS);
    };
    (0..items).par_map_ordered(n, closure).for_each(drop);
}

fn compute(items: usize, n: usize, steps: u64) {
    (0..items as u64)
        .par_map_ordered(n, move |x| work(x, steps))
        .for_each(|x| {
            black_box(x);
        });
}

/// One item in fifty is slow.
fn uneven(number: usize) {
    nap(if number % 50 == 49 { 50 * MS } else { MS });
}
