// A closure that owns what it uses needs no scope.
use fanfold::Fanfold;

fn main() {
    let needle = String::from("7");
    for n in (0..9_usize).par_map_ordered(8, move |i| needle.len() + i) {
        println!("{n}");
    }
}
