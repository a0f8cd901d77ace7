//! What `fanfold` itself costs for an item.
//!
//! An item of 0 ns would be run by the consumer itself, so the stage hangs under a token (`cancel_on`), which
//! rules that out and costs nothing for an item. With n = 1 there is one worker, and the consumer, on two
//! cores. All times are CPU times, so other programs on the machine disturb them little.
//!
//! - The consumer: the time of its own thread, at 0 ns an item. It includes its few naps.
//! - A worker: the time of the process without that of the consumer, at items of 100 ns, minus that of the
//!   sequential loop over the same items. At 0 ns it would be less: there the loop's iterations overlap.
//! - The pull: from 1,023 items on all chunks of so cheap items have 1,024 of them. The source reads the clock
//!   near the beginning and near the end of each. The rest of the worker's time is its loop.

use super::{column, middle, runs};
use crate::os;
use fanfold::CancelToken;
use fanfold::Fanfold;
use std::hint::black_box;
use std::time::Instant;

/// Work of so many steps: a chain of dependent multiplications, so that no compiler shortens it.
pub fn spin(steps: u64, item: u64) -> u64 {
    let mut state = item;
    for _ in 0..steps {
        state = state.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (state >> 7);
    }
    state
}

/// An ordinary iterator, whose length is not known.
pub fn source(items: u64) -> impl Iterator<Item = u64> + Send + 'static {
    (0..items).filter(|_| true)
}

/// How many items a run takes.
const ITEMS: u64 = 5_000_000;

/// Adds the rows of this file.
pub fn measure(rows: &mut Vec<(&str, f64)>) {
    let steps = steps_of_100_nanos();
    let (times, tiny) = (runs(|| per_item(steps)), runs(|| per_item(0)));
    let alone = |times: &[[f64; 3]]| {
        let more: Vec<[f64; 1]> = times.iter().map(|[all, _, own]| [own - all]).collect();
        column(&more, 0)
    };
    rows.push(("the loop, for an item of 100 ns", column(&times, 0)));
    rows.push(("the consumer, for an item of 0 ns", column(&tiny, 1)));
    rows.push(("the consumer, for an item of 100 ns", column(&times, 1)));
    rows.push((
        "a worker more than the loop, for an item of 0 ns",
        alone(&tiny),
    ));
    rows.push((
        "a worker more than the loop, for an item of 100 ns",
        alone(&times),
    ));
    rows.push(("the pull of it, of a source that costs nothing", pull()));
}

/// How many steps take 100 ns, alone.
pub fn steps_of_100_nanos() -> u64 {
    const STEPS: u64 = 5_000_000;
    let once = || {
        let before = os::thread_cpu();
        black_box(spin(black_box(STEPS), 1));
        100.0 * STEPS as f64 / (os::thread_cpu() - before).as_nanos() as f64
    };
    middle((0..5).map(|_| once()).collect()) as u64
}

/// CPU nanoseconds of an item: in the loop, in the consumer, and in the worker.
fn per_item(steps: u64) -> [f64; 3] {
    let steps = black_box(steps);
    let digest = |sum: u64, x: u64| sum.wrapping_mul(31).wrapping_add(x);
    let start = os::thread_cpu();
    black_box(source(ITEMS).map(|x| spin(steps, x)).fold(0, digest));
    let alone = os::thread_cpu() - start;
    let token = CancelToken::new();
    let (process, thread) = (os::process_cpu(), os::thread_cpu());
    let stage = source(ITEMS).par_map_ordered(1, move |x| spin(steps, x));
    black_box(stage.cancel_on(&token).fold(0, digest));
    let consumer = os::thread_cpu() - thread;
    let worker = (os::process_cpu() - process).saturating_sub(consumer);
    [alone, consumer, worker].map(|time| time.as_nanos() as f64 / ITEMS as f64)
}

/// The first items go in chunks of 1, 2, 4, .. items, and all others in chunks of so many.
const CHUNK: u64 = 1024;

/// The usual time of an item in the source's loop.
fn pull() -> f64 {
    let (near_begin, near_end) = (8, CHUNK - 8);
    let (send, times) = std::sync::mpsc::channel();
    let mut began = Instant::now();
    let stamps = source(ITEMS).inspect(move |x| {
        let at = (x + 1) % CHUNK;
        if at == near_begin {
            began = Instant::now();
        } else if at == near_end {
            // The receiver is there until the stage has ended.
            _ = send.send(began.elapsed().as_nanos() as f64 / (near_end - near_begin) as f64);
        }
    });
    let token = CancelToken::new();
    let stage = stamps.par_map_ordered(1, |x| x).cancel_on(&token);
    black_box(stage.fold(0, |sum: u64, x| sum.wrapping_mul(31).wrapping_add(x)));
    middle(times.iter().collect())
}
