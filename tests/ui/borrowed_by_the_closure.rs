// Only the closure borrows.
use fanfold::Fanfold;

fn main() {
    let needle = String::from("7");
    for n in (0..9_usize).par_map_ordered(8, |i| needle.len() + i) {
        println!("{n}");
    }
}
