//! The row `real`: sources and work as real programs have them, read from files in the temporary folder.

mod data;
mod recycled;

use crate::rivals::{self, Output, Pools, Source, Way, Work, add};
use crate::rows::SETTLE;
use crate::{ALLOCATOR, Bench, Clock};
use csv::StringRecord;
use data::Data;
use fanfold::Fanfold;
use flate2::Compression;
use flate2::write::GzEncoder;
use rayon::prelude::*;
use recycled::{Block, Line};
use serde::Deserialize;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::thread::sleep;

const WIDTH: usize = 2;
/// Lines in a window.
const WINDOW: usize = 256;

/// A column of the table: one of the ways of all rows, or one that only this row has.
#[derive(Clone, Copy, PartialEq)]
enum Column {
    Of(Way),
    /// fanfold on many lines at a time.
    Windows,
    /// rayon's bridge as its users call it: the workers add up what comes, in any order.
    Bridge,
}

/// Each beside the loop.
const COLUMNS: [Column; 8] = [
    Column::Of(Way::FanfoldFor),
    Column::Of(Way::Fanfold),
    Column::Windows,
    Column::Bridge,
    Column::Of(Way::Chunks),
    Column::Of(Way::Pariter),
    Column::Of(Way::Orx),
    Column::Of(Way::Channels),
];

impl Column {
    fn name(self) -> &'static str {
        match self {
            Column::Of(way) => way.name(),
            Column::Windows => "fanfold, windows",
            Column::Bridge => "rayon bridge, no order",
        }
    }

    /// The way that selects it as an argument.
    fn way(self) -> Way {
        match self {
            Column::Of(way) => way,
            Column::Windows => Way::Fanfold,
            Column::Bridge => Way::Bridge,
        }
    }
}

/// Prints a table: each way's ratio to the loop, for each source.
pub fn run(bench: &Bench) {
    let data = Data::write(bench);
    let real = Real {
        bench,
        pools: Pools::new(WIDTH, false),
    };
    println!("\n## real, with the allocator {ALLOCATOR}\n");
    println!("Each cell: the ratio to the loop of the same line.\n");
    let names = COLUMNS.map(Column::name).join(" | ");
    println!("| source and work | items | loop, ns an item | {names} |");
    println!("| --- |{}", " ---: |".repeat(2 + COLUMNS.len()));

    // Where items are long, and few, nobody puts them in windows.
    let short = COLUMNS.to_vec();
    let mut long = short.clone();
    long.retain(|column| *column != Column::Windows);

    let lines = data.json_lines().count();
    let json = Row::of("JSON lines", lines, &short);
    real.measure(json, || data.json_lines(), number, itself);
    let json = Row::of("JSON lines, recycled buffers", lines, &short);
    real.measure(json, || data.recycled_lines(), number_again, itself);
    let json = Row::of("JSON lines, recycled blocks", lines, &long);
    real.measure(json, || data.recycled_blocks(), numbers, rivals::digest);
    let csv = Row::of("CSV filter", data.orders().count(), &short);
    real.measure(csv, || data.orders(), filter, itself);
    let csv = Row::of("CSV map", data.few_orders().count(), &short);
    real.measure(csv, || data.few_orders(), map, digest_of);
    let gzip = Row::of("gzip blocks", data.blocks().count(), &long);
    real.measure(gzip, || data.blocks(), compress, digest_of);
    let files = Row::of("small files", data.files().count(), &long);
    real.measure(files, || data.files(), count_words, itself);
}

/// What a line of a log is read into; the other fields are skipped.
#[derive(Deserialize)]
struct Access {
    status: u16,
    bytes: u64,
}

fn parse(line: &str) -> u64 {
    let access: Access = serde_json::from_str(line).expect("a line of JSON");
    if access.status == 200 {
        access.bytes
    } else {
        0
    }
}

/// The field of a line, which is freed by the thread that parses it.
fn number(line: String) -> u64 {
    parse(&line)
}

/// The same, and the line goes back to the source.
fn number_again(line: Line) -> u64 {
    parse(&line)
}

/// The fields of many lines.
fn numbers(block: Block) -> Vec<u64> {
    block.lines().map(parse).collect()
}

/// The whole price of a row that is kept, or 0. The record is freed by the thread that looks at it.
fn filter(record: StringRecord) -> u64 {
    if record[2].to_lowercase().contains("recht") {
        record[6].parse::<f64>().expect("a price") as u64
    } else {
        0
    }
}

/// Most fields of a row parsed, and a line made of them.
fn map(record: StringRecord) -> String {
    let number = |field: &str| field.parse::<f64>().expect("a number");
    let id: u64 = record[0].parse().expect("a number");
    let (name, city) = (record[1].to_uppercase(), record[2].to_lowercase());
    let [quantity, price, discount, rate, weight] = [5, 6, 7, 8, 9].map(|i| number(&record[i]));
    let [year, month, day] = [0..4, 5..7, 8..10].map(|part| number(&record[3][part]) as u32);
    let mut line = format!("{id:010};{name:<16};{city:>12};{day:02}/{month:02}/{year}");
    let net = quantity * price * (1.0 - discount / 100.0);
    for (currency, worth) in [("EUR", 1.0), ("USD", 1.16), ("GBP", 0.88)] {
        let (net, tax) = (net * worth, net * worth * rate / 100.0);
        let sum = net + tax;
        write!(line, ";{net:.2};{tax:.2};{sum:.2} {currency}").expect("memory can be written");
    }
    line + &format!(";{:.3} kg", quantity * weight)
}

fn compress(block: Vec<u8>) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(&block).expect("memory can be written");
    gzip.finish().expect("memory can be written")
}

fn count_words(path: PathBuf) -> u64 {
    let text = std::fs::read_to_string(path).expect("the file can be read");
    text.split_whitespace().count() as u64
}

/// What the consumer does with a number: nothing, as a digest is made of numbers.
fn itself(result: u64) -> u64 {
    result
}

/// What the consumer does with text: it looks at each byte, as if to write it.
fn digest_of(text: impl AsRef<[u8]>) -> u64 {
    let text = text.as_ref();
    let bytes: u64 = text.iter().map(|byte| u64::from(*byte)).sum();
    add(bytes, text.len() as u64)
}

/// A line of the table.
struct Row<'a> {
    name: &'a str,
    /// What a time is divided by.
    items: u64,
    /// Those that make sense for it.
    columns: &'a [Column],
}

impl<'a> Row<'a> {
    fn of(name: &'a str, items: usize, columns: &'a [Column]) -> Self {
        let items = items as u64;
        Row {
            name,
            items,
            columns,
        }
    }
}

/// What all lines of the table know.
struct Real<'a> {
    bench: &'a Bench,
    pools: Pools,
}

impl Real<'_> {
    /// Measures a line of the table, and prints it.
    fn measure<S: Source, O: Output>(
        &self,
        row: Row<'_>,
        source: impl Fn() -> S,
        work: impl Work<S::Item, O>,
        consume: impl Work<O>,
    ) {
        let Row {
            name,
            items,
            columns,
        } = row;
        let once = |column| {
            sleep(SETTLE);
            let source = source();
            let clock = Clock::start();
            let got = self.once(column, source, work, consume);
            (clock.stop(items).wall, got)
        };
        let plain = Column::Of(Way::Loop);
        let (_, in_order) = once(plain);
        let sum = source().map(work).map(consume).fold(0, u64::wrapping_add);

        let wanted = columns.iter().filter(|each| self.bench.wants(each.way()));
        let mut ratios: Vec<(Column, Vec<f64>)> = wanted.map(|each| (*each, Vec::new())).collect();
        let mut loops = Vec::new();
        // One round more than is counted: the first starts the threads.
        for round in 0..=self.bench.rounds {
            let (plain, _) = once(plain);
            loops.push(plain);
            for turn in 0..ratios.len() {
                let at = (round + turn) % ratios.len();
                let (column, ratios) = &mut ratios[at];
                let (took, got) = once(*column);
                let want = match column {
                    Column::Bridge => sum,
                    _ => in_order,
                };
                assert!(got == want, "{name}: wrong results of {}", column.name());
                ratios.push(plain / took);
            }
        }
        let nanos = 1e9 * median(&loops[1..]);
        let cells = COLUMNS.map(|column| {
            let found = ratios.iter().find(|(each, _)| *each == column);
            let cell = found.map(|(_, ratios)| format!("{:.2}", median(&ratios[1..])));
            cell.unwrap_or("–".to_owned())
        });
        println!("| {name} | {items} | {nanos:.0} | {} |", cells.join(" | "));
    }

    /// What comes of one run.
    fn once<S: Source, O: Output>(
        &self,
        column: Column,
        source: S,
        work: impl Work<S::Item, O>,
        consume: impl Work<O>,
    ) -> u64 {
        match column {
            Column::Of(way) => {
                let step = |all, result| add(all, consume(result));
                rivals::run(way, &self.pools, source, work, 0, step)
            }
            Column::Windows => {
                let work_all =
                    move |lines: Vec<S::Item>| -> Vec<O> { lines.into_iter().map(work).collect() };
                let windows = source.window(WINDOW).par_map_ordered(WIDTH, work_all);
                let results = windows.flatten();
                rivals::digest(results.map(consume))
            }
            Column::Bridge => {
                let results = source.par_bridge().map(|item| consume(work(item)));
                let add_up = || results.reduce(|| 0, u64::wrapping_add);
                self.pools.rayon().install(add_up)
            }
        }
    }
}

fn median(values: &[f64]) -> f64 {
    let mut all = values.to_vec();
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}
