//! To which readers an item goes, and what happens when one of them is slow.

/// What happens when one reader of a shared source is slower than another.
///
/// The bound of a reader is how many items may be pulled for it and not yet taken:
/// [`buffer`](crate::Fanout::buffer) says it.
///
/// # Examples
///
/// ```
/// use fanfold::{Fanfold, Skew};
///
/// // Two readers on one thread, one after the other: with `Block` the first would wait for ever.
/// let (even, odd) = (0..100).split(|x| x % 2 == 0).skew(Skew::Grow(1_000)).pair();
/// assert_eq!(even.sum::<i32>(), 2_450);
/// assert_eq!(odd.sum::<i32>(), 2_500);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Skew {
    /// The source is not pulled while an item would find no room: the slowest reader sets the cost,
    /// and nothing is lost. So the readers must be read at the same time, on threads of their own
    /// or in turns. One that is neither read nor dropped stops the others.
    #[default]
    Block,
    /// An item that finds no room is not given to that reader; the reader
    /// [counts](crate::Reader::dropped) it. Nobody waits for another reader.
    DropNewest,
    /// The item that has waited longest for that reader makes room, and is
    /// [counted](crate::Reader::dropped). Nobody waits for another reader.
    DropOldest,
    /// Up to so many items (at least 1) are kept for each reader, instead of its buffer. A reader
    /// that would have to pull one more panics, with a message that names it and the reader that is
    /// behind; the others panic with that message when they have taken what was pulled for them.
    Grow(usize),
}

/// To which readers an item goes. Sealed: only the crate implements it.
pub trait Deal<T>: sealed::Sealed {
    /// What it is called in messages.
    #[doc(hidden)]
    const NAME: &'static str;

    /// Whether every item goes to every reader.
    #[doc(hidden)]
    const EACH: bool = false;

    /// Puts the item, with the number of its reader, into `out`; if there are several, for each of
    /// `readers`, and for the last of them the item itself.
    #[doc(hidden)]
    fn deal(&mut self, item: T, readers: &[usize], out: &mut Vec<(usize, T)>);

    /// How a reader is called in messages.
    #[doc(hidden)]
    fn reader(number: usize) -> String {
        format!("reader {number}")
    }
}

pub(crate) mod sealed {
    #[allow(unreachable_pub)] // what is above the public `Deal`
    pub trait Sealed {}
}
