// The same in a scope.
use fanfold::Fanfold;

fn hits(docs: &[String], needle: &str) -> usize {
    fanfold::scope(|s| {
        let stage = docs
            .iter()
            .par_map_ordered(8, |d| d.matches(needle).count());
        stage.within(s).filter(|n| *n > 0).count()
    })
}

fn main() {
    assert_eq!(hits(&[String::from("a needle")], "needle"), 1);
}
