// `by_ref` reaches the terminal calls of std.
use fanfold::Fanfold;

fn main() {
    let mut stage = (0..9_u64).par_map_ordered(4, |x| x);
    if stage.by_ref().any(|x| x == 3) {
        assert_eq!(stage.next(), Some(4));
    }
}
