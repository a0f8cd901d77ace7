// A stage over the outputs of `scoped` cannot be joined by a scope that ends later.
use fanfold::Fanfold;

fn main() {
    let docs = vec![String::from("a"), String::from("bc")];
    fanfold::scope(|s| {
        docs.iter().par_map_ordered(4, |doc| doc.len()).scoped(|lens| {
            let mut stage = lens.skip(1).par_map_ordered(4, |len| len + 1).within(s);
            println!("{:?}", stage.next());
            std::mem::forget(stage);
        });
    });
}
