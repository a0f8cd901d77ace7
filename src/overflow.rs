//! What happens to an item that finds no room, and the count of dropped items.

use crate::sync::{Arc, AtomicU64, Ordering};

/// What happens to an item that finds no room in a buffer: of a
/// [read-ahead](crate::fan_in::Readahead::overflow), or of a
/// [reader](crate::fan_out::Fanout::overflow) that is slower than the others.
///
/// The bound is how many items may be pulled and not yet taken: the number given to
/// [`readahead`](crate::Fanfold::readahead), or the [`buffer`](crate::fan_out::Fanout::buffer) of
/// each reader.
///
/// # Examples
///
/// ```
/// use fanfold::{Fanfold, Overflow};
///
/// // Two readers on one thread, one after the other: with `Block` the first would wait forever.
/// let (even, odd) = (0..100).partition_readers(|x| x % 2 == 0).overflow(Overflow::Grow(1_000)).pair();
/// assert_eq!(even.sum::<i32>(), 2_450);
/// assert_eq!(odd.sum::<i32>(), 2_500);
///
/// // Only the latest value of a sensor matters.
/// let mut latest = (0..100).readahead(1).overflow(Overflow::DropOldest);
/// assert!(latest.next().is_some());
/// ```
#[doc(alias = "backpressure")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Overflow {
    /// The source is not pulled until there is room (back-pressure). Nothing is lost.
    ///
    /// The slowest of several readers sets the pace, so read them at the same time, on separate
    /// threads or in turns. A reader that is neither read nor dropped stops the others.
    #[default]
    Block,
    /// The source is always pulled. An item that finds no room is dropped and [counted](DropCount).
    #[doc(alias = "drop_newest")]
    DropNewest,
    /// The source is always pulled. The item that has waited longest is dropped to make room, and
    /// [counted](DropCount).
    #[doc(alias = "drop_oldest")]
    DropOldest,
    /// The source is always pulled, and up to this many items (at least 1) are kept, in place of
    /// the buffer. One more is a panic that says so. With a read-ahead it comes after the kept
    /// items. With readers, the one that would have to pull raises it, naming the reader that is
    /// behind; the others raise it when they have taken what was pulled for them.
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

    /// Whether every item is kept.
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

/// How many items were dropped for lack of room; can be read from any thread. Made by
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
