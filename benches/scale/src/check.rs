//! Rows that the simulator has never seen: sources that cost something, measured here on two cores, beside what
//! the simulator says for the same costs. Needs a quiet machine.

use crate::costs::Costs;
use crate::measure::{middle, source, spin, steps_of_100_nanos};
use crate::sim::{self, Change, Plant, Work};
use fanfold::Fanfold;
use std::hint::black_box;
use std::time::Instant;

/// Nanoseconds of an item in its closure and in the source, and how many take a quarter of a second.
const ROWS: [(u64, u64, u64); 7] = [
    (100, 50, 1_500_000),
    (100, 100, 1_200_000),
    (100, 300, 600_000),
    (350, 50, 600_000),
    (350, 300, 400_000),
    (1_000, 300, 200_000),
    (10_000, 300, 25_000),
];
/// The medians of so many rounds are printed.
const ROUNDS: usize = 5;

/// Prints the table.
pub fn all() {
    let steps = steps_of_100_nanos();
    println!(
        "| item | source | in the loop | measured | simulated |\n| --- | --- | --- | --- | --- |"
    );
    for (item, pull, items) in ROWS {
        let rounds: Vec<[f64; 3]> = (0..ROUNDS)
            .map(|_| round(steps * item / 100, steps * pull / 100, items))
            .collect();
        let [item_took, both, ratio] =
            std::array::from_fn(|at| middle(rounds.iter().map(|round| round[at]).collect()));
        // Alone it would take less, as a core works on the next item before this one is done.
        let source_took = both - item_took;
        let plant = Plant {
            cores: 2,
            work: Work::even(item_took),
            source: source_took,
            items,
            change: Change::default(),
        };
        let simulated = sim::run(&plant, &Costs::MEASURED, 1).speed_up;
        println!(
            "| {item} ns | {pull} ns | {item_took:.0} + {source_took:.0} = {both:.0} ns | {ratio:.2} | {simulated:.2} |"
        );
    }
}

/// Nanoseconds of an item in a loop without and with the source, and the loop's time to the stage's.
fn round(steps: u64, source_steps: u64, items: u64) -> [f64; 3] {
    let digest = |sum: u64, x: u64| sum.wrapping_mul(31).wrapping_add(x);
    let timed = |run: &dyn Fn() -> u64| {
        let began = Instant::now();
        black_box(run());
        began.elapsed().as_nanos() as f64 / items as f64
    };
    let slow = |steps: u64| source(items).map(move |x| spin(steps, x));
    let item = timed(&|| slow(steps).fold(0, digest));
    let both = timed(&|| slow(source_steps).map(|x| spin(steps, x)).fold(0, digest));
    let stage = timed(&|| {
        let stage = slow(source_steps).par_map_ordered(2, move |x| spin(steps, x));
        stage.fold(0, digest)
    });
    [item, both, both / stage]
}
