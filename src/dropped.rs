//! A count of what a policy has dropped.

use crate::sync::{Arc, AtomicU64, Ordering};

/// How many items were dropped for want of room; can be read from any thread. Made by
/// [`Readahead::dropped`](crate::Readahead::dropped) and
/// [`Reader::dropped`](crate::Reader::dropped).
///
/// # Examples
///
/// ```
/// use fanfold::{Fanfold, Overflow};
///
/// let mut ahead = (0..1_000).readahead(8).overflow(Overflow::DropOldest);
/// let dropped = ahead.dropped();
/// let taken = ahead.count() as u64;
/// assert_eq!(taken + dropped.get(), 1_000);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Dropped(Arc<AtomicU64>);

impl Dropped {
    /// The number so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}
