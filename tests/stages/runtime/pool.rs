//! The threads of a pool: how many there are, and what they are called.

use crate::support::{SOON, within};
use fanfold::{Fanfold, Pool};

/// A thread idles before its stage has ended, so that the next stage finds it.
#[test]
fn stages_one_after_another_share_their_threads() {
    within(SOON, || {
        let pool = Pool::builder().build();
        for _ in 0..2_000 {
            assert!((0..4).readahead(2).on(&pool).eq(0..4));
            assert_eq!(pool.threads(), 1);
        }
    });
}
