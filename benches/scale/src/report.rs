//! The tables.

use crate::rows::{CHANGES, CORES, ITEMS, MEASURED, SOURCES, ask, saturated};
use crate::sim::{Change, Outcome};

/// Which of [`CORES`] are in the tables; the others are for the plot.
const SHOWN: [usize; 6] = [2, 4, 8, 16, 64, 256];

/// Prints everything that is simulated.
pub fn print() {
    println!("## Two cores, measured and simulated\n");
    println!("| work per item | measured | simulated | off by |\n| --- | --- | --- | --- |");
    for row in MEASURED {
        let (name, measured, simulated) = (row.name, row.speed_up, row.simulated());
        let off = 100.0 * (simulated / measured - 1.0);
        println!("| {name} | {measured:.2} | {simulated:.2} | {off:+.1} % |");
    }
    for (title, change) in CHANGES {
        println!("\n## {title}\n");
        println!(
            "| item | source | cores | to the loop | efficiency | first to saturate | source's lock: pulls, sections, hand-over | scheduler's lock: all, thieves | consumer | no room | waking |"
        );
        println!("| {}", "--- | ".repeat(11).trim_end());
        for_each(change, |item, source, cores, outcome| {
            if SHOWN.contains(&cores) {
                line(item, source, cores, outcome);
            }
        });
    }
}

/// Runs every row.
pub fn for_each(change: Change, mut each: impl FnMut(f64, f64, usize, &Outcome)) {
    for source in SOURCES {
        for item in ITEMS {
            for cores in CORES {
                each(item, source, cores, &ask(item, source, cores, change));
            }
        }
    }
}

/// Prints a row.
fn line(item: f64, source: f64, cores: usize, outcome: &Outcome) {
    let Outcome {
        speed_up,
        pulls,
        sections,
        hand_over,
        scheduler,
        thieves,
        consumer,
        no_room,
        waking,
        ..
    } = outcome;
    println!(
        "| {} | {} | {cores} | {speed_up:.1} | {:.2} | {} | {pulls:.2}, {sections:.2}, {hand_over:.2} | {scheduler:.2}, {thieves:.2} | {consumer:.2} | {no_room:.2} | {waking:.2} |",
        time(item),
        time(source),
        speed_up / cores as f64,
        saturated(outcome, cores),
    );
}

/// How a time is written.
pub fn time(nanos: f64) -> String {
    match nanos {
        nanos if nanos >= 1e3 => format!("{} µs", nanos / 1e3),
        nanos => format!("{nanos} ns"),
    }
}
