//! A progress bar that tells what is done from what is in flight.
//!
//! ```text
//! cargo run --release --example progress
//! ```
//!
//! `indicatif` counts the items that come out of the stage. Those that went in and have not come out are known to the
//! stage only: its statistics say how many run, and how many are finished and wait for one before them.

use fanfold::Fanfold;
use indicatif::{ProgressBar, ProgressIterator, ProgressState, ProgressStyle};
use std::fmt;
use std::thread;
use std::time::Duration;

const PAGES: u64 = 2000;

/// Stands for a request. One of a hundred takes long, and the pages behind it have to wait for it.
fn fetch(page: u64) -> u64 {
    let slow = page % 100 == 99;
    thread::sleep(Duration::from_millis(if slow { 200 } else { 8 }));
    page * 7 % 1000
}

fn main() {
    let mut pages = (0..PAGES).par_map_ordered(16, fetch).in_flight(200);

    let stats = pages.stats();
    let in_flight = move |_: &ProgressState, text: &mut dyn fmt::Write| {
        let now = stats.snapshot();
        let _ = write!(text, "{} run, {} wait", now.running(), now.parked());
    };

    let template = "{wide_bar} {pos} of {len} done; in flight: {in_flight}; {eta} left";
    let style = ProgressStyle::with_template(template).expect("a template that is correct");
    let bar = ProgressBar::new(PAGES).with_style(style.with_key("in_flight", in_flight));
    // Or the numbers would stand still while a slow page holds back the others.
    bar.enable_steady_tick(Duration::from_millis(100));
    let bytes: u64 = pages.progress_with(bar).sum();
    println!("{PAGES} pages, {bytes} bytes");
}
