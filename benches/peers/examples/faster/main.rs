//! Five stages of which each has one thing that limits it, from one worker to 64: the pictures of `docs/faster.md`.
//!
//! `plants.rs` says what the stages are, `plot.rs` draws, `remedies.rs` measures what helps. A table of all points goes
//! to stdout, with what `Interval::bottleneck` says at each; and the whole interval where it does not say what it should
//! at the first or the last point of a plant.

mod plants;
mod plot;
mod remedies;

use clap::Parser;
use clap::builder::PossibleValuesParser;
use plants::{Plant, Point};
use std::path::PathBuf;
use std::time::Duration;

/// Of the table of points.
const HEAD: &str = "\
| plant | n | bound | items/s | run | source | room | spare | on a CPU | head | blocked | away | verdict |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |";

/// What is named for the table of remedies.
const REMEDIES: &str = "remedies";

/// The pictures and the figures of docs/faster.md
#[derive(Parser)]
struct Args {
    /// The plants to run, or "remedies"; all if none is named
    #[arg(value_parser = PossibleValuesParser::new(plants::ALL.iter().map(|plant| plant.name).chain([REMEDIES])))]
    names: Vec<String>,
    /// A moment for each point, and one round: does it run? The pictures go to the temporary folder
    #[arg(long)]
    smoke: bool,
    /// How many times each point is measured; the median counts
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// The folder for the pictures
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs"))]
    folder: PathBuf,
}

fn main() {
    let mut args = Args::parse();
    // Nothing can be said of less than a second.
    let mut time = Duration::from_millis(1050);
    if args.smoke {
        time = Duration::from_millis(20);
        args.rounds = 1;
        args.folder = std::env::temp_dir();
    }
    let is_named = |name: &str| args.names.is_empty() || args.names.iter().any(|each| each == name);
    println!("{HEAD}");
    for plant in plants::ALL.iter().filter(|plant| is_named(plant.name)) {
        let points: Vec<_> = plant
            .sizes()
            .map(|size| median(plant, size, args.rounds, time))
            .collect();
        let ends = [&points[0], &points[points.len() - 1]];
        for (point, want) in ends.into_iter().zip(plant.ends) {
            if !args.smoke && point.label() != want {
                println!(
                    "\nNot \"{want}\" but \"{}\": {:#?}\n",
                    point.label(),
                    point.interval
                );
            }
        }
        let path = args.folder.join(format!("faster-{}.svg", plant.name));
        plot::draw(plant, &points, &path).expect("the picture can be written");
    }
    if is_named(REMEDIES) {
        remedies::run(args.rounds, args.smoke);
    }
}

/// Measures a point several times, and prints the round whose rate is the median.
fn median(plant: &Plant, size: (usize, Option<usize>), rounds: u16, time: Duration) -> Point {
    let mut points: Vec<_> = (0..rounds).map(|_| plant.measure(size, time)).collect();
    points.sort_by(|a, b| a.interval.rate().total_cmp(&b.interval.rate()));
    let others: Vec<_> = points.iter().map(Point::label).collect();
    let point = points.swap_remove(points.len() / 2);
    println!("{point}");
    if others.iter().any(|label| *label != point.label()) {
        println!("| | | | the rounds: {} |", others.join(", "));
    }
    point
}
