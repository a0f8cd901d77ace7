// The terminal calls of a stage take it by value, so that they may borrow.
use fanfold::Fanfold;

fn main() {
    let mut stage = (0..9_u64).par_map_ordered(4, |x| x);
    if stage.any(|x| x == 3) {
        println!("{:?}", stage.next());
    }
}
