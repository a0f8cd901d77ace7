// Items go to the workers, whichever thread pulls them.
use fanfold::Fanfold;
use std::rc::Rc;

fn main() {
    let numbers = vec![Rc::new(1_u64)].into_iter().local();
    println!("{}", numbers.par_map_ordered(4, |x| *x).sum::<u64>());
}
