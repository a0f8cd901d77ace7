//! `partition_readers`: two readers, and a closure that says which of them an item is for.

use crate::fan_out::dispatch::{Dispatch, sealed::Sealed};
use crate::fan_out::fanout::{Fanout, Reader};
use std::fmt;

/// A source whose items go to one of two readers; made by
/// [`partition_readers`](crate::Fanfold::partition_readers).
pub type PartitionReaders<I, P> = Fanout<I, ByPredicate<P>>;

/// The rule that an item goes to the first reader if the closure accepts it, and otherwise to the second.
#[derive(Clone, Copy)]
pub struct ByPredicate<P>(P);

impl<P> fmt::Debug for ByPredicate<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByPredicate").finish_non_exhaustive()
    }
}

impl<P> Sealed for ByPredicate<P> {}

impl<T, P: FnMut(&T) -> bool> Dispatch<T> for ByPredicate<P> {
    const NAME: &'static str = "partition_readers";

    fn deal(&mut self, item: T, _: &[usize], out: &mut Vec<(usize, T)>) {
        let reader = usize::from(!(self.0)(&item));
        out.push((reader, item));
    }

    fn reader(number: usize) -> String {
        let whose = ["accepted items", "rest"][number];
        format!("the reader of the {whose}")
    }
}

impl<I: Iterator, P: FnMut(&I::Item) -> bool> PartitionReaders<I, P> {
    pub(crate) fn by(source: I, pred: P) -> Self {
        Fanout::new(source, ByPredicate(pred), 2)
    }

    /// Runs a sink for each half, both at the same time, and returns their results. This is
    /// [`partition_into`](crate::Fanfold::partition_into) with options.
    ///
    /// # Panics
    ///
    /// The panic of a sink is raised when both sinks have ended.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    ///
    /// let split = (1..=5).partition_readers(|x| x % 2 == 0).buffer(1);
    /// let (even, odd) = split.into_sinks(|even| even.sum::<i32>(), |odd| odd.count());
    /// assert_eq!((even, odd), (6, 3));
    /// ```
    pub fn into_sinks<A, B, F, G>(self, accepted: F, rest: G) -> (A, B)
    where
        I: Send,
        I::Item: Send,
        P: Send,
        F: FnOnce(Reader<I, ByPredicate<P>>) -> A,
        G: FnOnce(Reader<I, ByPredicate<P>>) -> B + Send,
        B: Send,
    {
        let (a, mut b) = self.run(accepted, vec![Box::new(rest)]);
        (a, b.pop().expect("the result of each sink"))
    }

    /// The readers of the accepted items and of the rest, which must be read at the same time.
    ///
    /// **If they are read one after the other on one thread, they wait forever**, unless the items that the
    /// first one passes over fit into the [buffer](Fanout::buffer), or
    /// [`Overflow::Grow`](crate::Overflow::Grow) says that as many items as necessary are kept.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::{Fanfold, Overflow};
    ///
    /// let words = ["to", "tree", "be", "bush"];
    /// let (short, long) = words.into_iter().partition_readers(|w| w.len() < 3).overflow(Overflow::Grow(100)).pair();
    /// assert!(short.eq(["to", "be"]));
    /// assert!(long.eq(["tree", "bush"]));
    /// ```
    pub fn pair(self) -> (Reader<I, ByPredicate<P>>, Reader<I, ByPredicate<P>>) {
        let mut readers = self.split_up().into_iter();
        match (readers.next(), readers.next()) {
            (Some(accepted), Some(rest)) => (accepted, rest),
            _ => unreachable!("a split has two readers"),
        }
    }
}
