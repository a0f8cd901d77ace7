// The workers share the closure.
use fanfold::Fanfold;
use std::rc::Rc;

fn main() {
    let three = Rc::new(3);
    println!(
        "{}",
        (0..9_u64)
            .par_map_ordered(4, move |x| x * *three)
            .sum::<u64>()
    );
}
