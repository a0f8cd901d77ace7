// Its results may leave.
use fanfold::Fanfold;

fn main() {
    let docs = vec![String::from("a needle"), String::from("hay")];
    let count = fanfold::scope(|s| {
        docs.iter()
            .par_map_ordered(8, |d| d.len())
            .within(s)
            .count()
    });
    assert_eq!(count, 2);
}
