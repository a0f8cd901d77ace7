// An adaptor of std on a borrowing stage, outside a scope.
use fanfold::Fanfold;

fn main() {
    let docs = vec![String::from("a needle"), String::from("hay")];
    let needle = String::from("needle");
    let hits = docs
        .iter()
        .par_map_ordered(8, |d| d.matches(&needle).count())
        .filter(|n| *n > 0)
        .count();
    println!("{hits}");
}
