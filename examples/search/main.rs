//! Searches a novel that is split over several back ends, and shows what hedging does to the
//! latency.
//!
//! ```text
//! cargo run --release --example search
//! cargo run --release --example search -- --query "pride prejudice"
//! cargo run --release --example search -- --slow 0.01 --queries 5000
//! cargo run --release --example search -- --help
//! ```
//!
//! What is to be seen of `fanfold` is in `aggregator.rs`: the fan-out to the shards, the hedge over
//! the replicas of each, the merge of their answers; and in [`measure`], the clients. `index.rs` and
//! `backend.rs` are the search engine, `report.rs` and `plot.rs` what is printed and drawn.

mod aggregator;
mod backend;
mod cli;
mod index;
mod plot;
mod report;
#[cfg(test)]
mod tests;

use aggregator::Aggregator;
use backend::{Backends, Model};
use clap::Parser;
use cli::Args;
use fanfold::{CancelToken, Fanfold, HedgePolicy};
use index::{Collection, Hit, Query};
use indicatif::{ProgressBar, ProgressStyle};
use report::Run;
use std::fs;
use std::io::{self, Write};
use std::process::{self, ExitCode};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A request that takes longer is hedged whatever the percentile says, which alone would hedge
/// nothing if all replicas got slow.
const CAP: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    run(&Args::parse()).unwrap_or_else(|why| {
        eprintln!("search: {why}");
        ExitCode::FAILURE
    })
}

fn run(args: &Args) -> Result<ExitCode, String> {
    let collection = Collection::embedded();
    let backends = Backends::start(&collection, args, &Model::new(args.slow, args.seed))
        .map_err(|e| format!("cannot start the back ends: {e}"))?;
    let stop = CancelToken::new();
    stop_on_ctrl_c(&stop)?;
    let outcome = match &args.query {
        Some(words) => answer(words, &backends, &stop),
        None => compare(args, &collection, &backends, &stop),
    };
    if stop.is_cancelled() {
        eprintln!("interrupted");
        return Ok(ExitCode::from(130));
    }
    outcome.map(|()| ExitCode::SUCCESS)
}

/// Prints the hits of one query.
fn answer(words: &str, backends: &Backends, stop: &CancelToken) -> Result<(), String> {
    let aggregator = Aggregator::new(&backends.urls, HedgePolicy::after(CAP), stop);
    let hits = aggregator.search(&Arc::new(Query {
        number: 0,
        words: words.to_owned(),
    }))?;
    print(|out| report::write_hits(&hits, out))
}

/// Sends the same queries without hedging and with it.
fn compare(
    args: &Args,
    collection: &Collection,
    backends: &Backends,
    stop: &CancelToken,
) -> Result<(), String> {
    args.check_plot()?;
    let queries = collection.queries(args.queries, args.seed);
    let bar = progress_bar(2 * args.queries);

    let hedging = HedgePolicy::percentile(args.percentile)
        .cap(CAP)
        .budget(args.budget);
    // Watches what requests take, for both, and hedges nothing. So the second run knows from its
    // start what is slow.
    let watching = hedging.clone().budget(0.0).reserve(0);
    let run = |policy| measure(args, &queries, backends, policy, stop, &bar);
    let runs = run(&watching).and_then(|without| Ok((without, run(&hedging)?)));
    bar.finish_and_clear();
    let (without, with) = runs?;

    let delay = hedging.delay().unwrap_or_default();
    print(|out| {
        report::write_setting(args, collection.len(), delay, out)?;
        report::write_table(&without, &with, out)
    })?;
    check(collection, &queries, &without, &with)?;
    let hits: usize = with.answers.iter().map(Vec::len).sum();
    print(|out| {
        writeln!(
            out,
            "\nthe {hits} hits are those of one index over all pages, in both runs"
        )
    })?;
    let svg = plot::svg(&without, &with).map_err(|e| args.cannot_plot(&e))?;
    fs::write(&args.plot, svg).map_err(|e| args.cannot_plot(&e))?;
    print(|out| writeln!(out, "the plot is in {}", args.plot.display()))
}

/// The clients: so many queries at once, each timed. A client that waits asks nothing meanwhile, but
/// no back end has a queue that would be shorter for that.
fn measure(
    args: &Args,
    queries: &[Arc<Query>],
    backends: &Backends,
    policy: &HedgePolicy,
    stop: &CancelToken,
    bar: &ProgressBar,
) -> Result<Run, String> {
    let aggregator = Aggregator::new(&backends.urls, policy.clone(), stop);
    let (hung_up, hedges) = (backends.hung_up(), policy.stats());
    let began = Instant::now();
    let search = |query: &Arc<Query>| {
        let began = Instant::now();
        let hits = aggregator.search(query);
        bar.inc(1);
        hits.map(|hits| (began.elapsed(), hits))
            .map_err(|why| format!("query {} ({}): {why}", query.number, query.words))
    };
    let answers: Result<Vec<(Duration, Vec<Hit>)>, String> = queries
        .iter()
        .try_par_map_ordered(args.clients, search)
        .named("clients")
        .cancel_on(stop)
        .collect();
    let wall = began.elapsed();
    stop.check().map_err(|e| e.to_string())?; // then the answers are a part of all
    let mut run = Run::new(answers?, wall);
    run.count(aggregator.load(), policy.stats(), hedges);
    run.hung_up = backends.hung_up() - hung_up;
    Ok(run)
}

/// Both runs must have found what one index over all pages finds: no answer was half of one, and no
/// shard was left out.
fn check(
    collection: &Collection,
    queries: &[Arc<Query>],
    without: &Run,
    with: &Run,
) -> Result<(), String> {
    let whole = collection.index(0, 1);
    for (at, query) in queries.iter().enumerate() {
        let right = whole.search(&query.words);
        for (run, how) in [(without, "without"), (with, "with")] {
            if run.answers[at] != right {
                let Query { number, words } = &**query;
                return Err(format!(
                    "query {number} ({words}) has wrong hits {how} hedging"
                ));
            }
        }
    }
    Ok(())
}

fn print(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), String> {
    let mut out = io::stdout().lock();
    let written = write(&mut out).and_then(|()| out.flush());
    written.map_err(|e| format!("cannot write to stdout: {e}"))
}

/// The first Ctrl-C trips the token, which hangs up on all back ends; the second does not wait for
/// anything.
fn stop_on_ctrl_c(stop: &CancelToken) -> Result<(), String> {
    let stop = stop.clone();
    let handler = move || {
        if stop.is_cancelled() {
            process::exit(130);
        }
        stop.cancel();
    };
    ctrlc::set_handler(handler).map_err(|e| format!("cannot watch for Ctrl-C: {e}"))
}

/// Shown on a terminal only.
fn progress_bar(len: u64) -> ProgressBar {
    let bar = ProgressBar::new(len);
    if !bar.is_hidden() {
        let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} queries, {elapsed}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.enable_steady_tick(Duration::from_millis(100));
    }
    bar
}
