//! From samples to tables: medians, spreads, Markdown.

use crate::rivals::Way;
use std::fmt;

/// One run of one way, in seconds an item.
#[derive(Clone, Copy)]
pub struct Sample {
    pub items: u64,
    pub wall: f64,
    pub cpu: f64,
}

/// The samples of each way, one a round.
pub type Measured = Vec<(Way, Vec<Sample>)>;

/// Prints the table of a row as soon as it is measured, and keeps what the summary and the plot need.
#[derive(Default)]
pub struct Report {
    rows: Vec<(String, Vec<(Way, String)>)>,
    /// Nanoseconds an item, and the speed-up of each way.
    pub costs: Vec<(f64, Vec<(Way, f64)>)>,
}

/// The median, the least and the greatest.
struct Spread {
    low: f64,
    median: f64,
    high: f64,
}

impl Spread {
    fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut all: Vec<f64> = values.into_iter().collect();
        all.sort_by(f64::total_cmp);
        Spread {
            low: all[0],
            median: all[all.len() / 2],
            high: all[all.len() - 1],
        }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(2);
        let Spread { low, median, high } = self;
        write!(f, "{median:.digits$} ({low:.digits$}..{high:.digits$})")
    }
}

/// Rounds of one way beside those of another.
fn beside(these: &[Sample], those: &[Sample], ratio: impl Fn(&Sample, &Sample) -> f64) -> Spread {
    Spread::of(these.iter().zip(those).map(|(a, b)| ratio(a, b)))
}

fn of(measured: &Measured, way: Way) -> &[Sample] {
    let found = measured.iter().find(|(each, _)| *each == way);
    &found.expect("the row has this way").1
}

fn head(row: &str, columns: &[&str]) {
    println!("\n### {row}\n\n| way | {} |", columns.join(" | "));
    println!("| --- |{}", " ---: |".repeat(columns.len()));
}

impl Report {
    /// Time beside that of the loop and of the split.
    pub fn ratios(&mut self, row: &str, measured: &Measured, cost: bool) {
        let (plain, split) = (of(measured, Way::Loop), of(measured, Way::Split));
        let columns = [
            "items",
            "ns an item",
            "CPU ns an item",
            "to the loop",
            "to the split",
            "CPU to the loop",
        ];
        head(row, &columns);
        let (mut texts, mut speedups) = (Vec::new(), Vec::new());
        for (way, samples) in measured {
            let to_loop = beside(samples, plain, |way, plain| plain.wall / way.wall);
            let to_split = beside(samples, split, |way, split| split.wall / way.wall);
            let cpu = beside(samples, plain, |way, plain| way.cpu / plain.cpu);
            println!(
                "| {way} | {} | {:.1} | {:.1} | {to_loop} | {to_split:.3} | {cpu} |",
                samples[0].items,
                1e9 * Spread::of(samples.iter().map(|each| each.wall)).median,
                1e9 * Spread::of(samples.iter().map(|each| each.cpu)).median,
            );
            texts.push((*way, format!("{:.2}", to_loop.median)));
            speedups.push((*way, to_loop.median));
        }
        self.rows.push((row.to_owned(), texts));
        if cost {
            let nanos = 1e9 * Spread::of(plain.iter().map(|each| each.wall)).median;
            self.costs.push((nanos, speedups));
        }
    }

    /// Time beside the least that is possible: `least` seconds an item.
    pub fn sleeping(&mut self, row: &str, measured: &Measured, least: f64) {
        head(row, &["items", "efficiency", "CPU µs an item"]);
        let mut texts = Vec::new();
        for (way, samples) in measured {
            let efficiency = Spread::of(samples.iter().map(|each| least / each.wall));
            let cpu = Spread::of(samples.iter().map(|each| 1e6 * each.cpu));
            let items = samples[0].items;
            println!("| {way} | {items} | {efficiency:.3} | {cpu:.1} |");
            texts.push((*way, format!("{:.2}", efficiency.median)));
        }
        self.rows.push((format!("{row}, efficiency"), texts));
    }

    /// The time to the first result.
    pub fn first(&mut self, measured: &Measured) {
        head("first", &["first result after µs"]);
        let mut texts = Vec::new();
        for (way, samples) in measured {
            let after = Spread::of(samples.iter().map(|each| 1e6 * each.wall));
            println!("| {way} | {after:.1} |");
            texts.push((*way, format!("{:.0}", after.median)));
        }
        self.rows.push(("first, µs".to_owned(), texts));
    }

    /// The peaks, in KiB.
    pub fn memory(&mut self, peaks: &[(Way, u64, u64)]) {
        head("memory", &["items", "peak MiB", "beyond the loop MiB"]);
        let (_, _, plain) = peaks[0];
        let mut texts = Vec::new();
        for (way, items, peak) in peaks {
            let mebi = |kibi: f64| kibi / 1_024.0;
            let beyond = mebi(*peak as f64 - plain as f64);
            println!(
                "| {way} | {items} | {:.1} | {beyond:.1} |",
                mebi(*peak as f64)
            );
            texts.push((*way, format!("{beyond:.1}")));
        }
        self.rows
            .push(("memory, MiB beyond the loop".to_owned(), texts));
    }

    /// All rows in one table, but for those that have a table of their own.
    pub fn summary(&self) {
        if self.rows.is_empty() {
            return;
        }
        println!(
            "\n### Summary\n\n| row | {} |",
            Way::ALL.map(Way::name).join(" | ")
        );
        println!("| --- |{}", " ---: |".repeat(Way::ALL.len()));
        for (row, texts) in &self.rows {
            let cell = |way| {
                let found = texts.iter().find(|(each, _)| *each == way);
                found.map_or("–", |(_, text)| text)
            };
            println!("| {row} | {} |", Way::ALL.map(cell).join(" | "));
        }
    }
}
