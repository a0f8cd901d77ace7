// What is taken out of them does not.
use fanfold::Fanfold;

fn main() {
    let docs = vec![String::from("a"), String::from("bc")];
    let first = docs.iter().par_map_ordered(4, |doc| doc.len()).scoped(|mut lens| lens.next());
    println!("{first:?}");
}
