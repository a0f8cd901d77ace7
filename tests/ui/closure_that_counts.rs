// The workers share the closure: it cannot write to what it captures.
use fanfold::Fanfold;

fn main() {
    let mut n = 0;
    let numbers = (0..9_u64).par_map_ordered(4, |x| {
        n += 1;
        x
    });
    println!("{}", numbers.count());
}
