// A thread without a scope could outlive it.
use fanfold::Fanfold;

fn main() {
    let docs = vec![String::from("a needle"), String::from("hay")];
    fanfold::scope(|s| {
        let stage = docs.iter().par_map_ordered(8, |d| d.len()).within(s);
        std::thread::spawn(move || stage.count());
    });
}
