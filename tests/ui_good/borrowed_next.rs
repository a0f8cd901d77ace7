// Step by step, in a scope.
use fanfold::Fanfold;

fn main() {
    let docs = vec![String::from("a needle"), String::from("hay")];
    fanfold::scope(|s| {
        let mut stage = docs.iter().par_map_ordered(8, |d| d.len()).within(s);
        assert_eq!(stage.next(), Some(8));
    });
}
