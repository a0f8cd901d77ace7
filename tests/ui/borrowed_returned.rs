// A borrowing stage cannot be returned as an iterator.
use fanfold::Fanfold;

fn lens<'a>(docs: &'a [String]) -> impl Iterator<Item = usize> + 'a {
    docs.iter().par_map_ordered(4, |d| d.len())
}

fn main() {
    println!("{}", lens(&[]).count());
}
