// Literals, and every `usize`.
use fanfold::Fanfold;

fn main() {
    let n: usize = 4;
    assert_eq!((0..9_u64).par_map_ordered(n, |x| x).count(), 9);
    assert_eq!((0..9_u64).par_map_ordered(2 * n + 1, |x| x).count(), 9);
    assert_eq!((0..9_u64).par_map_ordered(8, |x| x).count(), 9);
    assert_eq!((0..9_u64).par_map_ordered([0; 3].len(), |x| x).count(), 9);
}
