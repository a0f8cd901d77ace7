// Share something that is `Sync`.
use fanfold::Fanfold;
use std::sync::Arc;

fn main() {
    let three = Arc::new(3);
    assert_eq!(
        (0..9_u64)
            .par_map_ordered(4, move |x| x * *three)
            .sum::<u64>(),
        108
    );
}
