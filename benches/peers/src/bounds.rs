//! The row `bounds`: a user names a bound, and mostly a small one.

use crate::Bench;
use crate::rivals::digest;
use crate::rows::{source, spin, steps_for};
use fanfold::Fanfold;
use pariter::IteratorExt;
use std::time::Instant;

const NANOS: [f64; 5] = [100.0, 350.0, 1e3, 1e4, 1e5];
const BOUNDS: [usize; 8] = [1, 2, 4, 8, 16, 64, 256, 1_024];
const WIDTHS: [usize; 3] = [1, 2, 4];
/// How long a run of the loop takes, in nanoseconds.
const RUN: f64 = 2e7;

#[derive(Clone, Copy, PartialEq)]
enum Way {
    Loop,
    Ordered,
    Unordered,
    Pariter,
}

/// Each beside the loop.
const WAYS: [Way; 3] = [Way::Ordered, Way::Unordered, Way::Pariter];

/// Prints a table for each width: each way's ratio to the loop, at each bound.
pub fn run(bench: &Bench) {
    println!("\n## bounds\n");
    println!("Each cell: fanfold in order / without an order / pariter, each to the loop.");
    for width in WIDTHS {
        println!(
            "\n| n = {width} | {} |",
            BOUNDS.map(|bound| bound.to_string()).join(" | ")
        );
        println!("| --- |{}", " --- |".repeat(BOUNDS.len()));
        for nanos in NANOS {
            let steps = steps_for(nanos, (nanos * bench.per_nano) as u64);
            let items = bench.scaled((RUN / nanos) as u64, 100);
            let cells = BOUNDS.map(|bound| cell(bench.rounds, items, steps, (width, bound)));
            println!("| {nanos} ns | {} |", cells.join(" | "));
        }
    }
}

fn cell(rounds: usize, items: u64, steps: u64, size: (usize, usize)) -> String {
    let mut ratios = WAYS.map(|_| Vec::new());
    for _ in 0..rounds {
        let (loops, want) = once(Way::Loop, items, steps, size);
        for (way, ratios) in WAYS.into_iter().zip(&mut ratios) {
            let (took, got) = once(way, items, steps, size);
            assert!(
                got == want || way == Way::Unordered,
                "bounds: wrong results"
            );
            ratios.push(loops / took);
        }
    }
    let medians = ratios.map(|mut ratios| {
        ratios.sort_by(f64::total_cmp);
        format!("{:.2}", ratios[ratios.len() / 2])
    });
    medians.join(" / ")
}

/// How long it took, in seconds, and what came of it. A `for` loop takes the results, as most users do.
fn once(way: Way, items: u64, steps: u64, (width, bound): (usize, usize)) -> (f64, u64) {
    let (source, work) = (source(items), move |item| spin(steps, item));
    let began = Instant::now();
    let got = match way {
        Way::Loop => digest(source.map(work)),
        Way::Ordered => one_by_one(source.par_map_ordered(width, work).in_flight(bound)),
        Way::Unordered => one_by_one(source.par_map_unordered(width, work).in_flight(bound)),
        Way::Pariter => {
            one_by_one(source.parallel_map_custom(|o| o.threads(width).buffer_size(bound), work))
        }
    };
    (began.elapsed().as_secs_f64(), got)
}

fn one_by_one(mut results: impl Iterator<Item = u64>) -> u64 {
    digest(std::iter::from_fn(|| results.next()))
}
