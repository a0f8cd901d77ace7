// `.local()`, or your own reader. The stages stay idle, as they would wait for input.
use fanfold::Fanfold;
use std::io::{BufRead, BufReader, stdin};

fn main() {
    let lines = stdin().lock().lines().local();
    drop(lines.par_map_ordered(4, |line| line.unwrap().len()));
    let lines = BufReader::new(stdin()).lines();
    drop(lines.par_map_ordered(4, |line| line.unwrap().len()));
}
