// An ordinary adaptor between two borrowing stages, outside a scope.
use fanfold::Fanfold;

fn main() {
    let docs = vec![String::from("a needle"), String::from("hay")];
    let lens: Vec<usize> = docs
        .iter()
        .par_filter(8, |d| d.is_empty())
        .map(|d| d.len())
        .par_map_ordered(2, |n| n)
        .collect();
    println!("{lens:?}");
}
