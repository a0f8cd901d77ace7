// The lock of stdin cannot leave its thread.
use fanfold::Fanfold;
use std::io::{BufRead, stdin};

fn main() {
    for len in stdin()
        .lock()
        .lines()
        .par_map_ordered(4, |line| line.unwrap().len())
    {
        println!("{len}");
    }
}
