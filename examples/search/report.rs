//! What a run has shown, and how it is printed.

use crate::aggregator::Load;
use crate::cli::Args;
use crate::index::Hit;
use fanfold::hedge::HedgeStats;
use hdrhistogram::Histogram;
use std::io::{self, Write};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// What the histogram has room for, in µs: no query takes longer than a minute.
const MOST: u64 = 60_000_000;

/// A run of all queries.
pub(crate) struct Run {
    /// Of the queries, in µs.
    pub(crate) latency: Histogram<u64>,
    pub(crate) answers: Vec<Vec<Hit>>,
    pub(crate) wall: Duration,
    pub(crate) hedges: HedgeStats,
    /// Requests that were sent to replicas, and those that failed.
    pub(crate) sent: u64,
    pub(crate) failed: u64,
    /// Requests that a replica gave up because the aggregator had hung up.
    pub(crate) hung_up: u64,
}

impl Run {
    pub(crate) fn new(answers: Vec<(Duration, Vec<Hit>)>, wall: Duration) -> Self {
        let mut latency = Histogram::new_with_max(MOST, 3).expect("the range is a valid one");
        let answers = answers.into_iter().map(|(time, hits)| {
            latency.saturating_record(time.as_micros() as u64);
            hits
        });
        Self {
            answers: answers.collect(),
            latency,
            wall,
            hedges: HedgeStats::default(),
            sent: 0,
            failed: 0,
            hung_up: 0,
        }
    }

    /// What has happened since a policy had counted `before`.
    pub(crate) fn count(&mut self, load: &Load, now: HedgeStats, before: HedgeStats) {
        self.sent = load.sent.load(Ordering::Relaxed);
        self.failed = load.failed.load(Ordering::Relaxed);
        self.hedges = now;
        self.hedges.requests -= before.requests;
        self.hedges.sent -= before.sent;
        self.hedges.won -= before.won;
        self.hedges.lost -= before.lost;
        self.hedges.refused -= before.refused;
    }

    /// In ms, of a share of the queries.
    pub(crate) fn millis(&self, quantile: f64) -> f64 {
        self.latency.value_at_quantile(quantile) as f64 / 1e3
    }

    /// In percent of the requests that are needed.
    fn extra_load(&self) -> f64 {
        100.0 * self.hedges.sent as f64 / self.hedges.requests as f64
    }
}

/// What was measured.
pub(crate) fn write_setting(
    args: &Args,
    pages: usize,
    delay: Duration,
    out: &mut dyn Write,
) -> io::Result<()> {
    let Args {
        queries,
        clients,
        shards,
        replicas,
        slow,
        percentile,
        budget,
        seed,
        ..
    } = args;
    let percent = |share: &f64| (share * 1e4).round() / 1e2;
    let (slow, budget) = (percent(slow), percent(budget));
    writeln!(
        out,
        "{queries} queries by {clients} clients; {pages} pages in {shards} shards of {replicas} replicas; seed {seed}"
    )?;
    writeln!(
        out,
        "{slow} % of the requests are slow; hedged after {delay:.1?} (p{percentile}), budget {budget} %\n"
    )
}

/// The two runs, side by side.
pub(crate) fn write_table(without: &Run, with: &Run, out: &mut dyn Write) -> io::Result<()> {
    let mut row = |name: &str, cells: [String; 2]| {
        let [without, with] = cells;
        writeln!(out, "{name:<24}{without:>16}{with:>16}")
    };
    let both = |cell: &dyn Fn(&Run) -> String| [cell(without), cell(with)];
    let hedged = |cell: u64| ["-".to_owned(), cell.to_string()];

    row(
        "",
        ["without hedging".to_owned(), "with hedging".to_owned()],
    )?;
    for (name, quantile) in [
        ("p50", 0.5),
        ("p90", 0.9),
        ("p99", 0.99),
        ("p99.9", 0.999),
        ("max", 1.0),
    ] {
        row(name, both(&|run| format!("{:.1} ms", run.millis(quantile))))?;
    }
    let rate = |run: &Run| run.answers.len() as f64 / run.wall.as_secs_f64();
    row("queries a second", both(&|run| format!("{:.0}", rate(run))))?;
    row(
        "requests needed",
        both(&|run| run.hedges.requests.to_string()),
    )?;
    row("requests sent", both(&|run| run.sent.to_string()))?;
    row("  failed", both(&|run| run.failed.to_string()))?;
    row("  hung up on", both(&|run| run.hung_up.to_string()))?;
    row("hedges sent", hedged(with.hedges.sent))?;
    row("  won", hedged(with.hedges.won))?;
    row("  lost", hedged(with.hedges.lost))?;
    row("  refused", hedged(with.hedges.refused))?;
    row(
        "extra load",
        both(&|run| format!("{:.1} %", run.extra_load())),
    )
}

/// A ranked list.
pub(crate) fn write_hits(hits: &[Hit], out: &mut dyn Write) -> io::Result<()> {
    if hits.is_empty() {
        return writeln!(out, "no page has any of these words");
    }
    for (place, hit) in hits.iter().enumerate() {
        let score = f64::from(hit.score) / 1e3;
        let Hit { path, opening, .. } = hit;
        writeln!(out, "{:>2}. {score:6.3} {path:<20} {opening}", place + 1)?;
    }
    Ok(())
}
