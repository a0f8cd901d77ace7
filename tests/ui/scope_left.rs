// A stage does not leave its scope.
use fanfold::Fanfold;

fn main() {
    let docs = vec![String::from("a needle"), String::from("hay")];
    let stage = fanfold::scope(|s| docs.iter().par_map_ordered(8, |d| d.len()).within(s));
    println!("{}", stage.count());
}
