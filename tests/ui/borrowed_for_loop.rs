// A borrowing stage is not an iterator outside a scope: it could be forgotten.
use fanfold::Fanfold;

fn main() {
    let docs = vec![String::from("a needle"), String::from("hay")];
    for len in docs.iter().par_map_ordered(8, |d| d.len()) {
        println!("{len}");
    }
}
