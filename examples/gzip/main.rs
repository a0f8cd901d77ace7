//! Compresses its input with all cores, to a `.gz` file of many members that `gzip -d` reads.
//!
//! ```text
//! cargo run --release --example gzip <in >out.gz           # as a writer: blocks are pushed
//! cargo run --release --example gzip -- --pull <in >out.gz # as a reader: blocks are pulled
//! ```
//!
//! `writer.rs` is an `impl Write` around a stage that is pushed into, for programs that write. `reader.rs` is the same for
//! programs that read: an ordinary stage.

mod reader;
#[cfg(test)]
mod tests;
mod writer;

use fanfold::Workers;
use std::io::{self, BufWriter};
use std::process::ExitCode;

fn run(args: &[String]) -> io::Result<()> {
    let out = BufWriter::new(io::stdout().lock());
    match args {
        [] => {
            let mut writer = writer::GzWriter::new(out, Workers::cpus());
            io::copy(&mut io::stdin().lock(), &mut writer)?;
            writer.finish().map(drop)
        }
        [flag] if flag == "--pull" => reader::compress(io::stdin(), out, Workers::cpus()),
        _ => Err(io::Error::other("usage: gzip [--pull] <in >out.gz")),
    }
}

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gzip: {error}");
            ExitCode::FAILURE
        }
    }
}
