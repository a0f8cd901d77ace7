// Internal methods do not give access to the iterator behind a borrowing stage.
use fanfold::Fanfold;
use fanfold::stage::Source;

fn main() {
    let docs = vec![String::from("a needle"), String::from("hay")];
    let stage = docs.iter().par_map_ordered(8, |d| d.len());
    let iter = stage.local().place(Default::default());
    std::mem::forget(iter);
}
