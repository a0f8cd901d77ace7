//! Compresses generated documents in three stages, and shows live what each of them does and which one limits the
//! others.
//!
//! ```text
//! cargo run --release --example monitor
//! cargo run --release --example monitor -- --slow check     # and watch what limits it now
//! cargo run --release --example monitor -- --every 5s >log  # plain text where there is no terminal
//! cargo run --release --example monitor -- --help
//! ```
//!
//! What is to be seen of `fanfold` is in [`run`], where each stage is asked for its statistics, and in `chain.rs`,
//! which reads them. `documents.rs` is what the stages do, `cli.rs` the command line, `display.rs` the thread that
//! draws, `screen.rs` and `keys.rs` a terminal, and `layout.rs` the text.

mod chain;
mod cli;
mod display;
mod documents;
mod keys;
mod layout;
mod screen;
#[cfg(test)]
mod tests;

use chain::Chain;
use clap::Parser;
use cli::{Args, Part};
use console::Term;
use display::Display;
use documents::{Checked, check, compress, document};
use fanfold::{CancelToken, Fanfold};
use std::process::{self, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

fn main() -> ExitCode {
    run(&Args::parse()).unwrap_or_else(|why| {
        eprintln!("monitor: {why}");
        ExitCode::FAILURE
    })
}

fn run(args: &Args) -> Result<ExitCode, String> {
    let stop = CancelToken::new();
    let interrupted = stop_on_ctrl_c(&stop)?;
    let (n, slow) = (args.workers(), args.slow);

    let numbers = (0..args.items).inspect(move |_| Part::Source.dawdle(slow));
    let mut made = numbers
        .par_map_ordered(n, move |number| {
            Part::Make.dawdle(slow);
            document(number)
        })
        .named("make")
        // Only the first stage stops: what it has let in, the others finish.
        .drain_on(&stop);
    let making = made.stats();
    let mut compressed = made
        .par_map_ordered(n, move |document| {
            Part::Compress.dawdle(slow);
            compress(document)
        })
        .named("compress");
    let compressing = compressed.stats();
    let mut checked = compressed
        .par_map_unordered(n, move |packed| {
            Part::Check.dawdle(slow);
            check(&packed)
        })
        .named("check");
    let checking = checked.stats();

    let began = Instant::now();
    let chain = Chain::new(vec![making, compressing, checking]);
    let display = Display::start(chain, args, &stop);
    let mut sum = Checked::default();
    for document in checked {
        Part::Consumer.dawdle(slow);
        sum.add(&document);
    }
    display.finish()?;

    let interrupted = interrupted.load(Ordering::Relaxed);
    let how = match (interrupted, sum.documents < args.items) {
        (true, _) => "interrupted: ",
        (false, true) => "stopped: ",
        (false, false) => "",
    };
    let took = began.elapsed();
    let line = format!("{how}{sum}, in {:.1} s", took.as_secs_f64());
    layout::print(&line).map_err(layout::cannot_write)?;
    Ok(ExitCode::from(if interrupted { 130 } else { 0 }))
}

/// Ctrl-C trips the token, and what is in flight is finished; once it is tripped, Ctrl-C does not wait for anything.
fn stop_on_ctrl_c(stop: &CancelToken) -> Result<Arc<AtomicBool>, String> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let (stop, told) = (stop.clone(), Arc::clone(&interrupted));
    let handler = move || {
        told.store(true, Ordering::Relaxed);
        if stop.is_cancelled() {
            // Nothing can be done about an error here.
            drop(Term::stdout().show_cursor());
            process::exit(130);
        }
        stop.cancel();
    };
    ctrlc::set_handler(handler).map_err(|e| format!("cannot watch for Ctrl-C: {e}"))?;
    Ok(interrupted)
}
