//! The command line: how many back ends, how slow they are, and what is asked.

use clap::Parser;
use std::fmt::Display;
use std::fs::OpenOptions;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

/// Sends each query to all shards of a search engine, hedges the replicas that are slow, and merges
/// the ranked answers.
///
/// The back ends are HTTP servers of its own on loopback ports: a novel on 360 pages, split over
/// the shards; each shard has several replicas, of which some are slow now and then and one is
/// broken. The same queries are sent twice, without hedging and with it; a table and a plot compare
/// their latencies.
#[derive(Parser)]
#[command(name = "search", after_help = HELP)]
pub(crate) struct Args {
    /// How many queries are sent, in each of the two runs
    #[arg(short = 'n', long, value_name = "N", default_value = "1000", value_parser = number(1..=100_000_u64, "1000"))]
    pub(crate) queries: u64,

    /// How many queries are under way at once
    #[arg(short, long, value_name = "N", default_value = "8", value_parser = number(1..=64_usize, "8"))]
    pub(crate) clients: usize,

    /// Over how many back ends the pages are split
    #[arg(long, value_name = "N", default_value = "4", value_parser = number(1..=16_usize, "4"))]
    pub(crate) shards: usize,

    /// How many servers each shard has; from 2 on, the last one of the first shard is broken
    #[arg(long, value_name = "N", default_value = "3", value_parser = number(1..=8_usize, "3"))]
    pub(crate) replicas: usize,

    /// Which share of the requests is slow: takes 300 to 400 ms instead of 4 to 12 ms
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true, default_value = "0.03", value_parser = number(0.0..=1.0_f64, "0.03"))]
    pub(crate) slow: f64,

    /// After which percentile of the latency a request is sent to the next replica as well
    #[arg(long, value_name = "P", allow_negative_numbers = true, default_value = "95", value_parser = number(1.0..=99.9_f64, "95"))]
    pub(crate) percentile: f64,

    /// Which share of the requests may be sent twice; 10 more are let through
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true, default_value = "0.1", value_parser = number(0.0..=1.0_f64, "0.1"))]
    pub(crate) budget: f64,

    /// The same seed means the same queries, and the same requests that are slow
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) seed: u64,

    /// Where the plot goes, as SVG
    #[arg(long, value_name = "FILE", default_value = "search.svg")]
    pub(crate) plot: PathBuf,

    /// Prints the hits of this query, and measures nothing
    #[arg(short, long, value_name = "WORDS", value_parser = words)]
    pub(crate) query: Option<String>,
}

const HELP: &str = "\
A query fails if a shard has no answer in 2 s. Ctrl-C hangs up on the back ends and ends the program.

Exit code: 0 when the answers are right and the same with and without hedging, 1 when they are not,
when a query fails or the plot cannot be written, 2 for bad usage, 130 after Ctrl-C.";

impl Args {
    /// Before the work, so that it is not in vain. A plot that is there already stays.
    pub(crate) fn check_plot(&self) -> Result<(), String> {
        let mut options = OpenOptions::new();
        let file = options.append(true).create(true).open(&self.plot);
        file.map(drop).map_err(|e| self.cannot_plot(&e))
    }

    pub(crate) fn cannot_plot(&self, why: &dyn Display) -> String {
        let file = self.plot.display();
        format!("cannot write {file}: {why}; choose another file with --plot")
    }
}

/// A number within a range; `such_as` is one.
fn number<T>(
    range: RangeInclusive<T>,
    such_as: &'static str,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync
where
    T: FromStr + PartialOrd + Display + Clone + Send + Sync,
{
    move |text| {
        let number = text.parse().ok().filter(|n| range.contains(n));
        let (least, most) = (range.start(), range.end());
        number.ok_or_else(|| format!("give a number from {least} to {most}, such as {such_as}"))
    }
}

fn words(text: &str) -> Result<String, String> {
    if text.contains(char::is_alphanumeric) {
        Ok(text.to_owned())
    } else {
        Err("give some words, such as \"pride prejudice\"".to_owned())
    }
}
