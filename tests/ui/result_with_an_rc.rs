// Results come from the workers.
use fanfold::Fanfold;
use std::rc::Rc;

fn main() {
    println!("{}", (0..9_u64).par_map_ordered(4, Rc::new).count());
}
