// Return something that is `Send`.
use fanfold::Fanfold;
use std::sync::Arc;

fn main() {
    assert_eq!((0..9_u64).par_map_ordered(4, Arc::new).count(), 9);
}
