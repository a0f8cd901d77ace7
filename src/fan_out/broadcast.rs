//! `broadcast`: every item to every reader.

use crate::fan_out::dispatch::{Dispatch, sealed::Sealed};
use crate::fan_out::fanout::{Fanout, Reader};

/// A source of which every reader gets every item; made by
/// [`broadcast`](crate::Fanfold::broadcast).
pub type Broadcast<I> = Fanout<I, ToAll>;

/// The rule that each item goes to every reader.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct ToAll;

impl Sealed for ToAll {}

impl<T: Clone> Dispatch<T> for ToAll {
    const NAME: &'static str = "broadcast";
    const EACH: bool = true;

    fn deal(&mut self, item: T, readers: &[usize], out: &mut Vec<(usize, T)>) {
        let Some((last, others)) = readers.split_last() else {
            return;
        };
        for reader in others {
            out.push((*reader, item.clone()));
        }
        out.push((*last, item));
    }
}

impl<I: Iterator<Item: Clone>> Broadcast<I> {
    #[track_caller]
    pub(crate) fn among(source: I, readers: usize) -> Self {
        assert!(
            readers > 0,
            "a broadcast needs at least 1 reader: write broadcast(1) for a single one"
        );
        Fanout::new(source, ToAll, readers)
    }

    /// Runs a sink for each reader, all at the same time, and returns their results in the order of the
    /// readers. This is [`broadcast_into`](crate::Fanfold::broadcast_into) with options.
    ///
    /// # Panics
    ///
    /// The panic of a sink is raised when all sinks have ended.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    ///
    /// let sums = (1..=4).broadcast(2).buffer(1).into_sinks(|_, reader| reader.sum::<i32>());
    /// assert_eq!(sums, [10, 10]);
    /// ```
    pub fn into_sinks<R, F>(self, sink: F) -> Vec<R>
    where
        I: Send,
        I::Item: Send,
        F: Fn(usize, Reader<I, ToAll>) -> R + Sync,
        R: Send,
    {
        self.run_all(&sink)
    }

    /// Runs two sinks at the same time, and returns their results. This is
    /// [`tee_into`](crate::Fanfold::tee_into) with options.
    ///
    /// # Panics
    ///
    /// If it has not two readers. The panic of a sink is raised when both sinks have ended.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    ///
    /// let twice = (1..=4).broadcast(2).buffer(1);
    /// let (sum, all) = twice.tee_into(|reader| reader.sum::<i32>(), |reader| reader.collect::<Vec<_>>());
    /// assert_eq!((sum, all), (10, vec![1, 2, 3, 4]));
    /// ```
    #[doc(alias = "tee")]
    #[track_caller]
    pub fn tee_into<A, B, F, G>(self, a: F, b: G) -> (A, B)
    where
        I: Send,
        I::Item: Send,
        F: FnOnce(Reader<I, ToAll>) -> A,
        G: FnOnce(Reader<I, ToAll>) -> B + Send,
        B: Send,
    {
        let readers = self.count();
        assert!(
            readers == 2,
            "tee_into is for two sinks, and this broadcast has {readers}: write broadcast(2), or into_sinks"
        );
        let (a, mut b) = self.run(a, vec![Box::new(b)]);
        (a, b.pop().expect("the result of each sink"))
    }

    /// The readers, which must be read at the same time.
    ///
    /// **Two readers that are read one after the other on one thread wait forever**, unless the items by
    /// which the first one runs ahead fit into the [buffer](Fanout::buffer), or
    /// [`Overflow::Grow`](crate::Overflow::Grow) says that as many as necessary are kept.
    ///
    /// # Examples
    ///
    /// In turns on one thread:
    ///
    /// ```
    /// use fanfold::Fanfold;
    ///
    /// let mut readers = (1..=3).broadcast(2).readers().into_iter();
    /// let (a, b) = (readers.next().unwrap(), readers.next().unwrap());
    /// let pairs = a.map(|x| x * 10).zip(b.map(|x| x * x));
    /// assert!(pairs.eq([(10, 1), (20, 4), (30, 9)]));
    /// ```
    ///
    /// One after the other:
    ///
    /// ```
    /// use fanfold::{Fanfold, Overflow};
    ///
    /// let readers = (0..1_000).broadcast(2).overflow(Overflow::Grow(1_000)).readers();
    /// let counts: Vec<usize> = readers.into_iter().map(|reader| reader.count()).collect();
    /// assert_eq!(counts, [1_000, 1_000]);
    /// ```
    pub fn readers(self) -> Vec<Reader<I, ToAll>> {
        self.split_up()
    }
}
