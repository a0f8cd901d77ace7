// Borrow from outside the scope.
use fanfold::Fanfold;

fn main() {
    let docs = vec![String::from("a needle"), String::from("hay")];
    fanfold::scope(|s| {
        for len in docs.iter().par_map_ordered(8, |d| d.len()).within(s) {
            println!("{len}");
        }
    });
}
