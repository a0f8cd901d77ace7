//! Fetches a list of web pages, counts their words, and writes a CSV row for every URL, in the
//! order of the list.
//!
//! ```text
//! cargo run --release --example wordcount                # an embedded site of 360 pages
//! cargo run --release --example wordcount -- urls.txt --out counts.csv --workers 32 --timeout 5s
//! cargo run --release --example wordcount -- --stats     # and what limits it
//! tail -f urls.txt | cargo run --release --example wordcount -- - --out -     # rows as they come
//! cargo run --release --example wordcount -- --help
//! ```
//!
//! The program is the chain in [`run`]: three stages on an ordinary iterator, each with its own
//! threads. `fetch.rs` and `text.rs` are what the stages do, `cli.rs` is the command line, and
//! `server.rs` the embedded site.

mod cli;
mod fetch;
mod server;
#[cfg(test)]
mod tests;
mod text;

use clap::Parser;
use cli::Args;
use fanfold::{CancelToken, Fanfold, StageStats, Workers, stats};
use fetch::{Answer, Fetcher, Page};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::mem::ManuallyDrop;
use std::process::{self, ExitCode};
use std::sync::mpsc;
use std::time::{Duration, Instant};

fn main() -> ExitCode {
    run(&Args::parse()).unwrap_or_else(|why| {
        eprintln!("wordcount: {why}");
        ExitCode::FAILURE
    })
}

fn run(args: &Args) -> Result<ExitCode, String> {
    let input = args.input()?;
    let mut csv = args.output()?;
    let bar = progress_bar(input.len, args.writes_to_stdout());
    let stop = CancelToken::new();
    stop_on_ctrl_c(&stop, &bar, args.timeout())?;

    let started = Instant::now();
    let fetcher = Fetcher::new(args);
    // An isolated stage gives a panic back, but not the item that it ate. So the URLs go round the
    // chain, and meet the pages at its end.
    let (asked, urls) = mpsc::channel();
    let progress = bar.clone();

    let mut fetched = input
        .lines
        .inspect(move |url| drop(asked.send(url.clone())))
        .par_map_ordered(args.workers, move |url| {
            let page = fetcher.page(&url);
            // Here and not at the end, where a slow page holds back the rows of others that are done.
            progress.inc(1);
            page
        })
        .named("fetch")
        // While a page is slow, so many of the next may be fetched and wait for it in memory.
        .in_flight(8 * args.workers)
        // Only the first stage stops: what it has let in, the others finish.
        .cancel_on(&stop)
        .isolate();
    let fetch = fetched.stats();
    let mut texts = fetched
        .map(Page::or_failed)
        .par_map_ordered(Workers::cpus(), |page| page.then(text::text_of))
        .named("extract")
        .isolate();
    let extract = texts.stats();
    let mut counts = texts
        .map(Page::or_failed)
        .par_map_ordered(Workers::cpus(), |page| page.then(|text| text::words(&text)))
        .named("count");
    let chain = [fetch, extract, counts.stats()];
    let before = chain.each_ref().map(StageStats::snapshot);
    let pages = counts.zip(urls);

    // Never dropped: the drop would wait for a read of stdin that nobody ends.
    let mut pages = ManuallyDrop::new(pages);
    let mut totals = Totals::default();
    for (page, url) in pages.by_ref() {
        totals.add(&page);
        let row = row(totals.rows, url, page);
        // Flushed, so that the reader has the row as soon as it is done.
        let written = csv.write_record(row).and_then(|()| Ok(csv.flush()?));
        written.map_err(|e| args.cannot_write(&e))?;
    }
    bar.finish_and_clear();
    totals.report(started.elapsed(), args);
    if args.stats {
        let now = chain.each_ref().map(StageStats::snapshot);
        let stages = [0, 1, 2].map(|stage| now[stage].since(&before[stage]));
        eprintln!("{}", stats::table(&stages));
    }

    if stop.is_cancelled() {
        eprintln!(
            "interrupted: {} rows were written, all complete",
            totals.rows
        );
        return Ok(ExitCode::from(130));
    }
    match input.broken.get() {
        Some(e) => Err(format!(
            "the list broke off after {} URLs: {e}",
            totals.rows
        )),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// The columns of a page; what is not known stays empty.
fn row(number: u64, url: String, page: Page<usize>) -> [String; 6] {
    let text = |n: Option<u64>| n.map(|n| n.to_string()).unwrap_or_default();
    let (words, error) = match page.content {
        Ok(words) => (words.to_string(), String::new()),
        Err(error) => (String::new(), error),
    };
    let Answer { status, bytes } = page.answer;
    [
        number.to_string(),
        url,
        text(status.map(u64::from)),
        text(bytes),
        words,
        error,
    ]
}

/// The first Ctrl-C trips the token; the second does not wait for anything.
fn stop_on_ctrl_c(stop: &CancelToken, bar: &ProgressBar, timeout: Duration) -> Result<(), String> {
    let (stop, bar) = (stop.clone(), bar.clone());
    let handler = move || {
        if stop.is_cancelled() {
            process::exit(130);
        }
        stop.cancel();
        let left = format!("what is being fetched has {timeout:?} left");
        bar.suspend(|| eprintln!("stopping: {left}; Ctrl-C again ends at once"));
    };
    ctrlc::set_handler(handler).map_err(|e| format!("cannot watch for Ctrl-C: {e}"))
}

/// Shown on a terminal only, and only where it does not get between the rows.
fn progress_bar(len: Option<u64>, hidden: bool) -> ProgressBar {
    let target = if hidden {
        ProgressDrawTarget::hidden()
    } else {
        ProgressDrawTarget::stderr()
    };
    let bar = ProgressBar::with_draw_target(len, target);
    if !bar.is_hidden() {
        let template = if len.is_some() {
            "{wide_bar} {pos}/{len} URLs, {elapsed}"
        } else {
            "{spinner} {pos} URLs, {elapsed}"
        };
        bar.set_style(
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        bar.enable_steady_tick(Duration::from_millis(100));
    }
    bar
}

#[derive(Default)]
struct Totals {
    rows: u64,
    failed: u64,
    bytes: u64,
    words: usize,
    one_by_one: Duration,
}

impl Totals {
    fn add(&mut self, page: &Page<usize>) {
        self.rows += 1;
        self.failed += u64::from(page.content.is_err());
        self.bytes += page.answer.bytes.unwrap_or(0);
        self.words += page.content.as_ref().unwrap_or(&0);
        self.one_by_one += page.took;
    }

    fn report(&self, wall: Duration, args: &Args) {
        let Self {
            rows,
            failed,
            bytes,
            words,
            one_by_one,
        } = self;
        let out = args.out.display();
        let times = one_by_one.as_secs_f64() / wall.as_secs_f64();
        eprintln!("{rows} URLs, {failed} failed; {words} words in {bytes} bytes; see {out}");
        eprintln!(
            "{wall:.2?} with {} workers; one after the other {one_by_one:.2?}: {times:.1} times as long",
            args.workers
        );
    }
}
