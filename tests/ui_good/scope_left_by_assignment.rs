// Its results may leave.
use fanfold::Fanfold;

fn main() {
    let docs = vec![String::from("a needle"), String::from("hay")];
    let mut out = None;
    fanfold::scope(|s| {
        out = docs.iter().par_map_ordered(8, |d| d.len()).within(s).next();
    });
    assert_eq!(out, Some(8));
}
