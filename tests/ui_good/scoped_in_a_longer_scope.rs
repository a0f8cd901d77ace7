// It needs a scope within.
use fanfold::Fanfold;

fn main() {
    let docs = vec![String::from("a"), String::from("bc")];
    docs.iter().par_map_ordered(4, |doc| doc.len()).scoped(|lens| {
        fanfold::scope(|s| {
            let mut stage = lens.skip(1).par_map_ordered(4, |len| len + 1).within(s);
            println!("{:?}", stage.next());
            std::mem::forget(stage);
        });
    });
}
