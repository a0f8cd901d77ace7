// The same with parameters, for which the compiler's message differs.
use fanfold::Fanfold;

fn hits(docs: &[String], needle: &str) -> usize {
    let stage = docs
        .iter()
        .par_map_ordered(8, |d| d.matches(needle).count());
    stage.filter(|n| *n > 0).count()
}

fn main() {
    println!("{}", hits(&[], "needle"));
}
