// The outputs of `scoped` end with its closure.
use fanfold::Fanfold;

fn main() {
    let docs = vec![String::from("a"), String::from("bc")];
    let mut lens = docs.iter().par_map_ordered(4, |doc| doc.len()).scoped(|lens| lens);
    println!("{:?}", lens.next());
}
