//! What happens to an item for which there is no room, and the count of those that were dropped.

use crate::sync::{Arc, AtomicU64, Ordering};

/// What happens to an item for which a buffer has no room: of a [read-ahead](crate::fan_in::Readahead::overflow), or of a
/// [reader](crate::fan_out::Fanout::overflow) that is slower than the others.
///
/// The bound is how many items may be pulled and not yet taken: the number of
/// [`readahead`](crate::Fanfold::readahead), or the [`buffer`](crate::fan_out::Fanout::buffer) of each reader.
///
/// # Examples
///
/// ```
/// use fanfold::{Fanfold, Overflow};
///
/// // Two readers on one thread, one after the other: with `Block` the first would wait for ever.
/// let (even, odd) = (0..100).partition_readers(|x| x % 2 == 0).overflow(Overflow::Grow(1_000)).pair();
/// assert_eq!(even.sum::<i32>(), 2_450);
/// assert_eq!(odd.sum::<i32>(), 2_500);
///
/// // Of a sensor only the latest value is of interest.
/// let mut latest = (0..100).readahead(1).overflow(Overflow::DropOldest);
/// assert!(latest.next().is_some());
/// ```
#[doc(alias = "backpressure")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Overflow {
    /// The source is not pulled until there is room: back-pressure. Nothing is lost.
    ///
    /// Of several readers the slowest sets the pace, so they must be read at the same time, on threads of
    /// their own or in turns. One that is neither read nor dropped stops the others.
    #[default]
    Block,
    /// The source is always pulled. An item that finds no room is dropped and [counted](DropCount).
    #[doc(alias = "drop_newest")]
    DropNewest,
    /// The source is always pulled. The item that has waited longest is dropped to make room, and
    /// [counted](DropCount).
    #[doc(alias = "drop_oldest")]
    DropOldest,
    /// The source is always pulled, and up to so many items (at least 1) are kept, instead of the buffer.
    /// One more is a panic that says so: of the read-ahead, after the items that are kept; of the reader
    /// that would have to pull it, with the name of the reader that is behind, and of the others when they have
    /// taken what was pulled for them.
    Grow(usize),
}

impl Overflow {
    #[track_caller]
    pub(crate) fn check(self) {
        assert!(
            self != Overflow::Grow(0),
            "the number of Overflow::Grow must be at least 1: write how many items may be kept"
        );
    }

    /// Whether each item is kept.
    pub(crate) fn keeps_all(self) -> bool {
        matches!(self, Overflow::Block | Overflow::Grow(_))
    }

    /// How many items are kept, in place of `buffer`.
    pub(crate) fn bound(self, buffer: usize) -> usize {
        match self {
            Overflow::Grow(most) => most,
            _ => buffer,
        }
    }
}

/// How many items were dropped for want of room; can be read from any thread. Made by
/// [`Readahead::dropped`](crate::fan_in::Readahead::dropped) and
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
#[doc(alias = "Dropped")]
#[derive(Clone, Debug, Default)]
pub struct DropCount(Arc<AtomicU64>);

impl DropCount {
    /// The number so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}
