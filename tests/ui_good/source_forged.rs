// A borrowing stage as the source of another one.
use fanfold::Fanfold;

fn main() {
    let docs = vec![String::from("a needle"), String::from("hay")];
    let stage = docs.iter().par_map_ordered(8, |d| d.len());
    assert_eq!(stage.local().par_map_ordered(2, |n| n).sum::<usize>(), 11);
}
