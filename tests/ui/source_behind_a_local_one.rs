// A stage on a local source cannot leave its thread either.
use fanfold::Fanfold;
use std::rc::Rc;

fn main() {
    let three = Rc::new(3);
    let numbers = (0..9_u64)
        .map(move |x| x * *three)
        .local()
        .par_map_ordered(4, |x| x + 1);
    println!("{}", numbers.par_filter(2, |x| *x > 1).count());
}
