// `.local()`, or a reader of one's own. Compiled, but not run to where it would wait for input.
use fanfold::Fanfold;
use std::io::{BufRead, BufReader, stdin};

fn main() {
    if std::env::args().count() == 1 {
        return;
    }
    for len in stdin()
        .lock()
        .lines()
        .local()
        .par_map_ordered(4, |line| line.unwrap().len())
    {
        println!("{len}");
    }
    let lines = BufReader::new(stdin()).lines();
    for len in lines.par_map_ordered(4, |line| line.unwrap().len()) {
        println!("{len}");
    }
}
