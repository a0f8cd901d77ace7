// A stage's own adaptors and terminal calls borrow; in a scope std's do too.
use fanfold::Fanfold;

fn main() {
    let docs = vec![String::from("a needle"), String::from("hay")];
    let needle = String::from("needle");
    let hits = docs
        .iter()
        .par_map_ordered(8, |d| d.matches(&needle).count())
        .par_filter(2, |n| *n > 0)
        .count();
    let same = fanfold::scope(|s| {
        let stage = docs
            .iter()
            .par_map_ordered(8, |d| d.matches(&needle).count());
        stage.within(s).filter(|n| *n > 0).count()
    });
    assert_eq!((hits, same), (1, 1));
}
