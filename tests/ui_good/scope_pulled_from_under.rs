// After the scope the value is free again.
use fanfold::Fanfold;

fn main() {
    let docs = vec![String::from("a needle"), String::from("hay")];
    fanfold::scope(|s| {
        let mut stage = docs.iter().par_map_ordered(8, |d| d.len()).within(s);
        stage.next();
        std::mem::forget(stage);
    });
    drop(docs);
}
