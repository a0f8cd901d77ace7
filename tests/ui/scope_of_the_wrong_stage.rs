// The second stage borrows too, and is not within the scope.
use fanfold::Fanfold;

fn main() {
    let docs = vec![String::from("a needle"), String::from("hay")];
    let one = 1;
    fanfold::scope(|s| {
        let stage = docs.iter().par_filter(8, |d| d.is_empty()).within(s);
        for len in stage.par_map_ordered(2, |d| d.len() + one) {
            println!("{len}");
        }
    });
}
