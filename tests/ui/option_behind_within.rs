// `within` is the last option.
use fanfold::Fanfold;

fn main() {
    let docs = vec![String::from("a needle"), String::from("hay")];
    fanfold::scope(|s| {
        let stage = docs
            .iter()
            .par_map_ordered(8, |d| d.len())
            .within(s)
            .in_flight(4);
        println!("{}", stage.count());
    });
}
