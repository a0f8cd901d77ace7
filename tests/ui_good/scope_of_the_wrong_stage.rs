// In a chain, `within` goes on the last stage.
use fanfold::Fanfold;

fn main() {
    let docs = vec![String::from("a needle"), String::from("hay")];
    let one = 1;
    fanfold::scope(|s| {
        let stage = docs.iter().par_filter(8, |d| !d.is_empty());
        for len in stage.par_map_ordered(2, |d| d.len() + one).within(s) {
            println!("{len}");
        }
    });
}
