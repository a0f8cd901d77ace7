// A local of the scope's closure is dropped before the scope ends.
use fanfold::Fanfold;

fn main() {
    fanfold::scope(|s| {
        let docs = vec![String::from("a needle"), String::from("hay")];
        for len in docs.iter().par_map_ordered(8, |d| d.len()).within(s) {
            println!("{len}");
        }
    });
}
