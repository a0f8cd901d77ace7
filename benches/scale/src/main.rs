//! `fanfold` beyond the cores at hand: what its primitives cost, a simulation with these costs, and what its
//! threads cost one another when there are more of them than cores. `README.md` has the details.

mod check;
mod costs;
mod count;
mod measure;
mod os;
mod plot;
mod report;
mod rows;
mod sim;

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["measure"] => measure::all(),
        ["check"] => check::all(),
        ["count"] => count::all(),
        ["count", threads, steps, items] => count::one(threads, steps, items),
        ["simulate"] => report::print(),
        ["plot", path] => {
            if let Err(error) = plot::draw(Path::new(path)) {
                eprintln!("{path}: {error}");
                return ExitCode::FAILURE;
            }
        }
        _ => {
            eprintln!("usage: scale measure | check | count | simulate | plot FILE.svg");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
