// In a scope.
use fanfold::Fanfold;

fn main() {
    let docs = vec![String::from("a needle"), String::from("hay")];
    let lens: Vec<usize> = fanfold::scope(|s| {
        docs.iter()
            .par_filter(8, |d| !d.is_empty())
            .within(s)
            .map(|d| d.len())
            .par_map_ordered(2, |n| n)
            .within(s)
            .collect()
    });
    assert_eq!(lens, [8, 3]);
}
