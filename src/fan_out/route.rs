//! `route`: several readers, and a closure that says which of them an item is for.

use crate::fan_out::dispatch::{Dispatch, sealed::Sealed};
use crate::fan_out::fanout::{Fanout, Reader};
use std::fmt;

/// A source each of whose items goes to one of several readers; made by [`route`](crate::Fanfold::route).
pub type Route<I, F> = Fanout<I, ByRoute<F>>;

/// The rule that an item goes to the reader whose number the closure returns.
#[derive(Clone, Copy)]
pub struct ByRoute<F> {
    readers: usize,
    choose: F,
}

impl<F> fmt::Debug for ByRoute<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByRoute")
            .field("readers", &self.readers)
            .finish_non_exhaustive()
    }
}

impl<F> Sealed for ByRoute<F> {}

impl<T, F: FnMut(&T) -> usize> Dispatch<T> for ByRoute<F> {
    const NAME: &'static str = "route";

    fn deal(&mut self, item: T, _: &[usize], out: &mut Vec<(usize, T)>) {
        let (way, readers) = ((self.choose)(&item), self.readers);
        assert!(
            way < readers,
            "the closure of route({readers}, ..) returned {way}: it must return a number below {readers}"
        );
        out.push((way, item));
    }
}

impl<I: Iterator, F: FnMut(&I::Item) -> usize> Route<I, F> {
    #[track_caller]
    pub(crate) fn along(source: I, readers: usize, choose: F) -> Self {
        assert!(
            readers > 0,
            "a route needs at least 1 reader: write route(1, ..) for a single one"
        );
        Fanout::new(source, ByRoute { readers, choose }, readers)
    }

    /// Runs a sink for each reader, all at the same time, and returns their results in the order of the
    /// readers. This is [`route_into`](crate::Fanfold::route_into) with options.
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
    /// let route = (0..9).route(3, |x| x % 3).buffer(1);
    /// assert_eq!(route.into_sinks(|_, reader| reader.sum::<usize>()), [9, 12, 15]);
    /// ```
    pub fn into_sinks<R, S>(self, sink: S) -> Vec<R>
    where
        I: Send,
        I::Item: Send,
        F: Send,
        S: Fn(usize, Reader<I, ByRoute<F>>) -> R + Sync,
        R: Send,
    {
        self.run_all(&sink)
    }

    /// The readers, which must be read at the same time.
    ///
    /// **Two readers that are read one after the other on one thread wait forever**, unless the items that
    /// the first one passes over fit into the [buffers](Fanout::buffer) of the others, or
    /// [`Overflow::Grow`](crate::Overflow::Grow) says that as many items as necessary are kept.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::{Fanfold, Overflow};
    ///
    /// let readers = (0..9).route(3, |x| x % 3).overflow(Overflow::Grow(100)).readers();
    /// let sums: Vec<usize> = readers.into_iter().map(|reader| reader.sum()).collect();
    /// assert_eq!(sums, [9, 12, 15]);
    /// ```
    pub fn readers(self) -> Vec<Reader<I, ByRoute<F>>> {
        self.split_up()
    }
}
