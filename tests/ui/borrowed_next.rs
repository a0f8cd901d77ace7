// Step by step, outside a scope.
use fanfold::Fanfold;

fn main() {
    let docs = vec![String::from("a needle"), String::from("hay")];
    let mut stage = docs.iter().par_map_ordered(8, |d| d.len());
    println!("{:?}", stage.next());
}
