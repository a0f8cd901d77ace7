//! fanfold beside its peers, on the same items in the same run: tables in Markdown, and a plot.
//!
//! `rows.rs` says what is measured, `rivals.rs` how each library is called.

mod bounds;
mod busy;
mod plot;
mod real;
mod report;
mod rivals;
mod rows;

use clap::Parser;
use clap::builder::PossibleValuesParser;
use cpu_time::ProcessTime;
use report::{Report, Sample};
use rivals::Way;
use std::hint::black_box;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

#[cfg(feature = "jemalloc")]
#[global_allocator]
static GLOBAL: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[cfg(all(feature = "mimalloc", not(feature = "jemalloc")))]
#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What all memory of this program comes from.
const ALLOCATOR: &str = if cfg!(feature = "jemalloc") {
    "jemalloc"
} else if cfg!(feature = "mimalloc") {
    "mimalloc"
} else if cfg!(target_env = "gnu") {
    "glibc"
} else {
    "of the system"
};

/// fanfold beside its peers
#[derive(Parser)]
struct Args {
    /// The rows to measure; all if none is named
    #[arg(value_parser = PossibleValuesParser::new(rows::NAMES))]
    rows: Vec<String>,
    /// Only these ways, beside the loop and the split; all if none is named
    #[arg(long, value_delimiter = ',')]
    ways: Vec<Way>,
    /// Tiny counts and one round: does it run?
    #[arg(long)]
    smoke: bool,
    /// How many interleaved rounds
    #[arg(long, env = "ROUNDS", default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// How many items the memory row has
    #[arg(long, env = "MEMORY_ITEMS", default_value_t = 10_000_000)]
    memory_items: u64,
    /// Where the plot goes; it is written only when all rows of one cost are measured
    #[arg(long)]
    plot: Option<PathBuf>,
    /// So many other processes compute meanwhile
    #[arg(long, default_value_t = 0)]
    busy: usize,
    /// What such a process is told
    #[arg(long, hide = true)]
    compute: bool,
    /// Used by the memory row: one way, whose peak is printed
    #[arg(long, hide = true, requires = "items")]
    child: Option<Way>,
    #[arg(long, hide = true)]
    items: Option<u64>,
}

/// What all rows know.
struct Bench {
    rounds: usize,
    smoke: bool,
    memory_items: u64,
    ways: Vec<Way>,
    /// Steps of work in a nanosecond.
    per_nano: f64,
}

impl Bench {
    /// Whether this way is to be measured.
    fn wants(&self, way: Way) -> bool {
        self.ways.is_empty() || self.ways.contains(&way) || [Way::Loop, Way::Split].contains(&way)
    }

    /// The count, or a fraction of it in a smoke run.
    fn scaled(&self, count: u64, less: u64) -> u64 {
        if self.smoke {
            (count / less).max(1)
        } else {
            count
        }
    }
}

/// Wall time and the CPU time of all threads.
struct Clock {
    wall: Instant,
    cpu: ProcessTime,
}

impl Clock {
    fn start() -> Self {
        Clock {
            cpu: ProcessTime::now(),
            wall: Instant::now(),
        }
    }

    fn stop(&self, items: u64) -> Sample {
        let (wall, cpu) = (self.wall.elapsed(), self.cpu.elapsed());
        Sample {
            items,
            wall: wall.as_secs_f64() / items as f64,
            cpu: cpu.as_secs_f64() / items as f64,
        }
    }
}

/// How many steps of work take a nanosecond on this machine.
fn steps_per_nano() -> f64 {
    let once = || {
        let began = Instant::now();
        black_box(rows::spin(black_box(5_000_000), 1));
        5_000_000.0 / began.elapsed().as_nanos() as f64
    };
    let mut all = [once(), once(), once(), once(), once()];
    all.sort_by(f64::total_cmp);
    all[2]
}

/// The versions of the rivals, as they are locked.
fn versions() -> String {
    let lock = include_str!("../Cargo.lock");
    let names = [
        "fanfold",
        "rayon",
        "orx-parallel",
        "paralight",
        "pariter",
        "plmap",
        "tokio",
        "crossbeam-channel",
    ];
    let version = |name: &str| {
        let (_, rest) = lock.split_once(&format!("name = \"{name}\"\nversion = \""))?;
        rest.split('"').next()
    };
    let with = |name: &str| format!("{name} {}", version(name).unwrap_or("?"));
    names.map(with).join(", ")
}

/// The day, the processor and the versions.
fn header(rounds: usize) {
    let date = Command::new("date").arg("+%F").output();
    let date = date.map_or_else(|_| Vec::new(), |output| output.stdout);
    let date = String::from_utf8_lossy(&date);
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find(|line| line.starts_with("model name"));
    let model = model
        .and_then(|line| line.split(": ").nth(1))
        .unwrap_or("unknown processor");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let date = date.trim();
    println!("{date}; {cores} cores, {model}; rounds: {rounds}.");
    println!("{}.", versions());
}

fn main() {
    let args = Args::parse();
    if args.compute {
        busy::compute();
    }
    if let (Some(way), Some(items)) = (args.child, args.items) {
        println!("{}", rows::child(way, items));
        return;
    }
    let bench = Bench {
        rounds: if args.smoke { 1 } else { args.rounds.into() },
        smoke: args.smoke,
        memory_items: args.memory_items / if args.smoke { 1_000 } else { 1 },
        ways: args.ways,
        per_nano: steps_per_nano(),
    };
    header(bench.rounds);
    // Only now: the steps of work in a nanosecond have been measured on a quiet machine.
    let _busy = busy::Busy::start(args.busy);
    if args.busy > 0 {
        println!("Beside busy processes: {}.", args.busy);
    }
    let mut report = Report::default();
    for row in rows::NAMES {
        if args.rows.is_empty() || args.rows.iter().any(|named| named == row) {
            eprintln!("{row} ..");
            rows::run(row, &bench, &mut report);
        }
    }
    report.summary();

    if report.costs.len() == rows::COSTS.len() {
        let path = args.plot.unwrap_or_else(|| {
            if args.smoke {
                return std::env::temp_dir().join("fanfold-smoke.svg");
            }
            PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/speedup.svg"))
        });
        plot::draw(&report, &path).expect("the plot can be written");
        println!("\nThe plot: {}", path.display());
    }
}
