//! The command line: how much to do, how wide, and what is to be slow.

use clap::{Parser, ValueEnum};
use fanfold::Workers;
use std::io::{IsTerminal, stdout};
use std::thread;
use std::time::Duration;

/// Compresses generated documents in three stages (make, compress, check), and shows live what each of them does and
/// which one limits the rest.
///
/// On a terminal the lines are drawn in place, and q and Enter ends it. Elsewhere they are plain text.
#[derive(Parser)]
#[command(name = "monitor", after_help = HELP)]
pub(crate) struct Args {
    /// How many documents
    #[arg(short, long, value_name = "N", default_value = "50000", value_parser = items)]
    pub(crate) items: u64,

    /// How many threads each stage has [default: as many as there are cores]
    #[arg(short, long, value_name = "N", value_parser = workers)]
    workers: Option<usize>,

    /// How often the lines are shown, as in 250ms or 5s [default: 250ms on a terminal, else 1s]
    #[arg(short, long, value_name = "TIME", value_parser = duration)]
    every: Option<Duration>,

    /// Makes a part of it slow, by 2 ms for each document, so that this part is what limits the rest
    #[arg(short, long, value_name = "PART")]
    pub(crate) slow: Option<Part>,
}

const HELP: &str = "\
For each stage: how many items a second come out of it; how many are in it, of how many that it may
have, and what they do; and where its threads spend their time: they run (make, compress or check a
document), pull the source (the stage before it), have no room for more, or nothing to do. The
consumer adds up what comes out of the last stage. The stage that limits the others is marked with
<, and the last line says why.

The checksum is the same for any number of workers.

Ctrl-C (and q on a terminal) starts nothing new and finishes what is under way; a second Ctrl-C ends
the program at once.

Exit code: 0 when all is done, and after q; 1 when stdout cannot be written, 2 for bad usage, 130 after Ctrl-C.";

/// What can be slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Where the numbers of the documents come from
    Source,
    /// The first stage
    Make,
    /// The second stage
    Compress,
    /// The third stage
    Check,
    /// What takes the results of the third stage
    Consumer,
}

impl Part {
    /// Takes some time, if this is the part that is slow: stands for a disk or a network that is.
    pub(crate) fn dawdle(self, slow: Option<Part>) {
        if slow == Some(self) {
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Args {
    pub(crate) fn workers(&self) -> Workers {
        self.workers.map_or_else(Workers::cpus, Workers::from)
    }

    pub(crate) fn every(&self) -> Duration {
        let default = if stdout().is_terminal() { 250 } else { 1000 };
        self.every.unwrap_or(Duration::from_millis(default))
    }
}

fn items(text: &str) -> Result<u64, String> {
    text.parse()
        .ok()
        .filter(|n| *n > 0)
        .ok_or_else(|| "give a number of documents, such as 50000".to_owned())
}

fn workers(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|n| (1..=1024).contains(n))
        .ok_or_else(|| "give a number from 1 to 1024, such as 4".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 0.001),
        None => (text.strip_suffix('s').unwrap_or_default(), 1.0),
    };
    let seconds = number.parse().ok().map(|n: f64| n * unit);
    seconds
        .filter(|s| (0.01..=3600.0).contains(s))
        .map(Duration::from_secs_f64)
        .ok_or_else(|| {
            "give a time from 10ms to 3600s with its unit, such as 250ms or 5s".to_owned()
        })
}
