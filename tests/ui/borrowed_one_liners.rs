// Whatever is no terminal call and no further stage, on stages that borrow. The errors show where to look.
use fanfold::Fanfold;

fn main() {
    let docs = vec![String::from("a"), String::from("bc")];
    let mut all = vec![0];
    println!("{}", docs.iter().par_map_ordered(4, |doc| doc.len()).map(|len| len + 1).sum::<usize>());
    println!("{}", docs.iter().par_map_unordered(4, |doc| doc.len()).filter(|len| *len > 1).count());
    println!("{}", docs.iter().par_filter(4, |doc| doc.len() > 1).enumerate().count());
    println!("{}", docs.iter().par_filter_map(4, |doc| doc.chars().next()).take(1).count());
    println!("{}", docs.iter().par_flat_map(4, |doc| doc.chars()).window(2).count());
    println!("{}", docs.iter().par_map_ordered_init(4, || (), |(), doc| doc.len()).readahead(2).count());
    docs.iter().par_map_by_key(4, |doc| doc.len(), |doc| doc.len()).partition_into(|len| *len > 1, drop, drop);
    docs.iter().try_par_filter(4, |doc| doc.parse::<bool>().map_err(drop)).broadcast_into(2, |_, _| ());
    all.extend(docs.iter().par_map_ordered(4, |doc| doc.len()));
}
