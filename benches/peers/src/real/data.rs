//! The files that are read: written before the clock starts, and removed at the end.

use super::recycled::{Block, Line, next_block, next_line};
use crate::Bench;
use crate::rows::spin;
use csv::StringRecord;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::iter::from_fn;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const JSON_LINES: u64 = 200_000;
/// Rows of the file that is filtered.
const ORDERS: u64 = 500_000;
/// Rows of the file that is mapped: fewer, as each takes longer.
const FEW_ORDERS: u64 = 100_000;
const BLOCKS: u64 = 64;
/// Bytes of a block.
const BLOCK: u64 = 64 << 10;
const FILES: u64 = 2_000;

const WORDS: [&str; 16] = [
    "it",
    "was",
    "the",
    "best",
    "of",
    "times",
    "worst",
    "age",
    "wisdom",
    "foolishness",
    "epoch",
    "belief",
    "incredulity",
    "season",
    "light",
    "darkness",
];
const CITIES: [&str; 8] = [
    "Amsterdam",
    "Rotterdam",
    "Utrecht",
    "Eindhoven",
    "Groningen",
    "Tilburg",
    "Almere",
    "Breda",
];

/// A folder with all files.
pub struct Data {
    dir: TempDir,
}

impl Data {
    /// Writes them.
    pub fn write(bench: &Bench) -> Self {
        let dir = TempDir::with_prefix("fanfold-real-").expect("a temporary folder");
        let data = Data { dir };
        data.fill(bench)
            .expect("the temporary folder can be written");
        data
    }

    fn fill(&self, bench: &Bench) -> io::Result<()> {
        write_json(&self.path("access.json"), bench.scaled(JSON_LINES, 100))?;
        write_csv(&self.path("orders.csv"), bench.scaled(ORDERS, 100))?;
        write_csv(&self.path("few.csv"), bench.scaled(FEW_ORDERS, 100))?;
        let bytes = BLOCK * bench.scaled(BLOCKS, 16);
        fs::write(self.path("text.txt"), text(0, bytes as usize))?;
        fs::create_dir(self.path("files"))?;
        for file in 0..bench.scaled(FILES, 20) {
            let bytes = 1_024 + random(file) % (7 * 1_024);
            let path = self.path("files").join(format!("{file:04}.txt"));
            fs::write(path, text(file, bytes as usize))?;
        }
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn open(&self, name: &str) -> File {
        File::open(self.path(name)).expect("the file is there")
    }

    /// A `String` for each line.
    pub fn json_lines(&self) -> impl Iterator<Item = String> + Send + use<> {
        let lines = BufReader::new(self.open("access.json")).lines();
        lines.map(|line| line.expect("the file can be read"))
    }

    /// The same lines, in buffers that come back.
    pub fn recycled_lines(&self) -> impl Iterator<Item = Line> + Send + use<> {
        let mut file = BufReader::new(self.open("access.json"));
        from_fn(move || next_line(&mut file))
    }

    /// The same lines, many in a buffer that comes back.
    pub fn recycled_blocks(&self) -> impl Iterator<Item = Block> + Send + use<> {
        let mut file = BufReader::new(self.open("access.json"));
        from_fn(move || next_block(&mut file))
    }

    /// A record for each row, to be filtered.
    pub fn orders(&self) -> impl Iterator<Item = StringRecord> + Send + use<> {
        records(self.open("orders.csv"))
    }

    /// The same, to be mapped.
    pub fn few_orders(&self) -> impl Iterator<Item = StringRecord> + Send + use<> {
        records(self.open("few.csv"))
    }

    /// A text in blocks.
    pub fn blocks(&self) -> impl Iterator<Item = Vec<u8>> + Send + use<> {
        let mut file = self.open("text.txt");
        from_fn(move || {
            let mut block = Vec::with_capacity(BLOCK as usize);
            let read = (&mut file).take(BLOCK).read_to_end(&mut block);
            read.expect("the file can be read");
            (!block.is_empty()).then_some(block)
        })
    }

    /// The paths of the files of a folder, as the system lists them.
    pub fn files(&self) -> impl Iterator<Item = PathBuf> + Send + use<> {
        let entries = fs::read_dir(self.path("files")).expect("the folder is there");
        entries.map(|entry| entry.expect("the folder can be read").path())
    }
}

fn records(file: File) -> impl Iterator<Item = StringRecord> + Send {
    let records = csv::Reader::from_reader(file).into_records();
    records.map(|record| record.expect("the file is CSV"))
}

/// A number that looks random, and is the same in each run.
fn random(seed: u64) -> u64 {
    spin(3, seed + 1) >> 8
}

fn pick<'a>(of: &[&'a str], seed: u64) -> &'a str {
    of[random(seed) as usize % of.len()]
}

fn write_json(path: &Path, lines: u64) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    for i in 0..lines {
        let (user, page, second) = (random(i) % 5_000, pick(&WORDS, i), i % 60);
        let (status, bytes) = (200 + 204 * u64::from(i % 10 == 9), random(i) % 100_000);
        let time = format!("2026-11-28T10:12:{second:02}Z");
        writeln!(
            file,
            r#"{{"id":{i},"time":"{time}","user":"user-{user}","method":"GET","path":"/{page}.html","status":{status},"bytes":{bytes}}}"#
        )?;
    }
    file.flush()
}

fn write_csv(path: &Path, rows: u64) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    let columns = "id,customer,city,date,channel,quantity,price,discount,rate,weight";
    writeln!(file, "{columns}")?;
    for i in 0..rows {
        let (customer, city, day) = (random(i) % 5_000, pick(&CITIES, i), 1 + i % 28);
        let (quantity, price, cents) = (1 + i % 7, random(i) % 1_000, i % 100);
        let (discount, rate, grams) = (i % 4 * 5, 9 + i % 2 * 12, 100 + i % 900);
        writeln!(
            file,
            "{i},customer {customer},{city},2026-11-{day:02},web,{quantity},{price}.{cents:02},{discount},{rate},0.{grams}"
        )?;
    }
    file.flush()
}

/// Words, in so many bytes.
fn text(seed: u64, bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 16);
    let mut word = seed << 32;
    while text.len() < bytes {
        text += pick(&WORDS, word);
        text.push(if word % 12 == 11 { '\n' } else { ' ' });
        word += 1;
    }
    text.truncate(bytes);
    text
}
