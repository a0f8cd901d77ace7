// The smallest width is 1.
use fanfold::Fanfold;

fn main() {
    assert_eq!((0..9_u64).par_map_ordered(1, |x| x).count(), 9);
}
