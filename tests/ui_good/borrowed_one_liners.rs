// Within `scoped` they are iterators.
use fanfold::Fanfold;

fn main() {
    let docs = vec![String::from("a"), String::from("bc")];
    let mut all = vec![0];
    let stage = docs.iter().par_map_ordered(4, |doc| doc.len());
    println!("{}", stage.scoped(|lens| lens.map(|len| len + 1).sum::<usize>()));
    let stage = docs.iter().par_map_unordered(4, |doc| doc.len());
    println!("{}", stage.scoped(|lens| lens.filter(|len| *len > 1).count()));
    let stage = docs.iter().par_filter(4, |doc| doc.len() > 1);
    println!("{}", stage.scoped(|docs| docs.enumerate().count()));
    let stage = docs.iter().par_filter_map(4, |doc| doc.chars().next());
    println!("{}", stage.scoped(|firsts| firsts.take(1).count()));
    let stage = docs.iter().par_flat_map(4, |doc| doc.chars());
    println!("{}", stage.scoped(|letters| letters.window(2).count()));
    let stage = docs.iter().par_map_ordered_init(4, || (), |(), doc| doc.len());
    println!("{}", stage.scoped(|lens| lens.readahead(2).count()));
    let stage = docs.iter().par_map_by_key(4, |doc| doc.len(), |doc| doc.len());
    stage.scoped(|lens| lens.partition_into(|len| *len > 1, drop, drop));
    let stage = docs.iter().try_par_filter(4, |doc| doc.parse::<bool>().map_err(drop));
    stage.scoped(|kept| kept.broadcast_into(2, |_, _| ()));
    let stage = docs.iter().par_map_ordered(4, |doc| doc.len());
    stage.scoped(|lens| all.extend(lens));
}
