// Nor does it leave by assignment.
use fanfold::Fanfold;

fn main() {
    let docs = vec![String::from("a needle"), String::from("hay")];
    let mut out = None;
    fanfold::scope(|s| {
        out = Some(docs.iter().par_map_ordered(8, |d| d.len()).within(s));
    });
    println!("{:?}", out.map(|stage| stage.count()));
}
