// A scoped thread does not.
use fanfold::Fanfold;

fn main() {
    let docs = vec![String::from("a needle"), String::from("hay")];
    fanfold::scope(|s| {
        let stage = docs.iter().par_map_ordered(8, |d| d.len()).within(s);
        std::thread::scope(|t| {
            t.spawn(move || assert_eq!(stage.count(), 2));
        });
    });
}
