//! The extension trait: documents every adaptor; each body is one line.

use crate::batches::{ReadyChunks, Window};
use crate::config::Workers;
use crate::fan_in::Readahead;
use crate::fan_out::Reader;
use crate::fan_out::{Broadcast, ToAll};
use crate::fan_out::{ByPredicate, PartitionReaders};
use crate::fan_out::{ByRoute, Route};
use crate::flat::plan::Flat;
use crate::hedge::Hedge;
use crate::keyed::plan::Keyed;
#[cfg(feature = "throttle")]
use crate::limiter::Limit;
#[cfg(feature = "throttle")]
use crate::limiter::Throttle;
use crate::ordered::start::Par;
use crate::par::filter::Filter;
use crate::par::filter_map::FilterMap;
use crate::par::flat_map::{FlatMap, TryFlatMap};
use crate::par::fold::Fold;
use crate::par::for_each::ForEach;
use crate::par::init::Init;
use crate::par::local::Local;
use crate::par::map::Map;
use crate::par::source::Source;
use crate::par::try_filter::TryFilter;
use crate::par::try_filter_map::TryFilterMap;
use crate::par::try_for_each::TryForEach;
use crate::par::try_init::TryInit;
use crate::par::try_map::TryMap;
use crate::stage::Stage;
use std::hash::Hash;

/// Fan-out and fan-in for every `Iterator`: bring the trait into scope with
/// `use fanfold::Fanfold;`.
///
/// The parallel methods take a width `n` and a closure and return a [`Stage`]. A stage is lazy,
/// takes options, and is itself an iterator. The workers pull the source, so it must be `Send`; a
/// source that is not goes through [`local`](Self::local). [`Stage`] has the same methods, so that
/// stages chain even where they borrow.
///
/// # What a missing `.into_iter()` looks like to the compiler
///
/// A collection is not an iterator. Where its items have a type by then, the compiler says what to
/// write; where they are literals, it does not:
///
/// ```compile_fail
/// use fanfold::Fanfold;
///
/// let numbers = vec![1, 2];
/// assert_eq!(numbers.par_map_ordered(4, |x| x + 1).sum::<u64>(), 5);
/// ```
///
/// ```text
/// error[E0599]: the method `par_map_ordered` exists for struct `Vec<{integer}>`, but its trait
///               bounds were not satisfied
///   = note: the following trait bounds were not satisfied:
///           `Vec<{integer}>: Iterator`
///           which is required by `Vec<{integer}>: Fanfold`
/// ```
///
/// Write `numbers.iter()` to lend the items, or `numbers.into_iter()` to give them away.
#[doc(alias("par_iter", "into_par_iter", "par_bridge", "ParallelIterator"))]
// Where a stage that borrows is used as an iterator, rustc shows the line with the bound of its closure. So that line
// names the way out.
pub trait Fanfold: Sized {
    /// The type of the items.
    type Elem;

    /// Maps each item with `f`, up to `n` at once; yields the results in the order of the items.
    ///
    /// Lazy: nothing runs before the first `next()` or terminal call. A result is yielded as soon
    /// as it and all results before it are done, even while the source blocks. At most
    /// [`in_flight`](Stage::in_flight) items are held, including finished ones that wait for their
    /// turn. A stage in its steady state allocates nothing.
    ///
    /// # Panics
    ///
    /// If `n` is 0. A panic of `f` or of the source is raised at its item's position; see
    /// [`Stage`].
    ///
    /// # Complexity
    ///
    /// About 10 ns per item on top of `f` and the source; an item that was stolen also costs its
    /// share of a heap operation. If `f` turns out to take less than about 40 ns, the consumer's
    /// thread calls it, item by item, for as long as `f` stays that cheap.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    ///
    /// let squares = (1..=4).par_map_ordered(2, |x| x * x);
    /// assert_eq!(squares.collect::<Vec<_>>(), [1, 4, 9, 16]);
    /// ```
    #[doc(alias("buffered", "pmap", "parallel_map", "plmap", "imap"))]
    #[track_caller]
    fn par_map_ordered<O, F>(self, n: impl Into<Workers>, f: F) -> Stage<Par<Self, Map<F>>>
    where
        Self: Source<Item = Self::Elem>,
        Self::Elem: Send,
        F: Fn(Self::Elem) -> O + Send + Sync, // borrows? see `Stage::scoped`
        O: Send,
    {
        Stage::of(Par::new(self, Map::new(f), n.into(), true))
    }

    /// Maps each item with `f`, up to `n` at once; yields the results as they arrive.
    ///
    /// The same as [`par_map_ordered`](Self::par_map_ordered) with [`unordered`](Stage::unordered):
    /// lazy, and bounded in the same way.
    ///
    /// # Panics
    ///
    /// If `n` is 0. A panic of `f` or of the source is raised when it arrives.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    ///
    /// let mut squares: Vec<_> = (1..=4).par_map_unordered(2, |x| x * x).collect();
    /// squares.sort();
    /// assert_eq!(squares, [1, 4, 9, 16]);
    /// ```
    #[doc(alias("par_map", "buffer_unordered", "imap_unordered"))]
    #[track_caller]
    fn par_map_unordered<O, F>(self, n: impl Into<Workers>, f: F) -> Stage<Par<Self, Map<F>>>
    where
        Self: Source<Item = Self::Elem>,
        Self::Elem: Send,
        F: Fn(Self::Elem) -> O + Send + Sync, // borrows? see `Stage::scoped`
        O: Send,
    {
        Stage::of(Par::new(self, Map::new(f), n.into(), false))
    }

    /// Keeps the items that `pred` accepts, up to `n` calls at once; in the order of the items.
    ///
    /// Lazy and bounded as [`par_map_ordered`](Self::par_map_ordered). A rejected item counts as in
    /// flight until its turn has come.
    ///
    /// # Panics
    ///
    /// If `n` is 0. A panic of `pred` or of the source is raised at its item's position.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    ///
    /// let even = (0..7).par_filter(2, |x| x % 2 == 0);
    /// assert_eq!(even.collect::<Vec<_>>(), [0, 2, 4, 6]);
    /// ```
    #[doc(alias("filter", "parallel_filter"))]
    #[track_caller]
    fn par_filter<P>(self, n: impl Into<Workers>, pred: P) -> Stage<Par<Self, Filter<P>>>
    where
        Self: Source<Item = Self::Elem>,
        Self::Elem: Send,
        P: Fn(&Self::Elem) -> bool + Send + Sync, // borrows? see `Stage::scoped`
    {
        Stage::of(Par::new(self, Filter::new(pred), n.into(), true))
    }

    /// Maps each item with `f` and keeps the `Some` values, up to `n` calls at once; in the order
    /// of the items.
    ///
    /// Lazy and bounded as [`par_map_ordered`](Self::par_map_ordered).
    ///
    /// # Panics
    ///
    /// If `n` is 0. A panic of `f` or of the source is raised at its item's position.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    ///
    /// let numbers = ["1", "x", "3"].into_iter().par_filter_map(2, |s| s.parse::<u8>().ok());
    /// assert_eq!(numbers.collect::<Vec<_>>(), [1, 3]);
    /// ```
    #[doc(alias("filter_map", "parallel_filter_map"))]
    #[track_caller]
    fn par_filter_map<O, F>(self, n: impl Into<Workers>, f: F) -> Stage<Par<Self, FilterMap<F>>>
    where
        Self: Source<Item = Self::Elem>,
        Self::Elem: Send,
        F: Fn(Self::Elem) -> Option<O> + Send + Sync, // borrows? see `Stage::scoped`
        O: Send,
    {
        Stage::of(Par::new(self, FilterMap::new(f), n.into(), true))
    }

    /// Opens each item into an iterator with `f`, runs up to `n` of these at once, and yields their
    /// items one after the other, in the order of the source.
    ///
    /// A worker runs `f` and then the iterator that it returned, to its end. Each output of the
    /// first item comes out as soon as it is made, while the iterators of later items run ahead.
    /// Lazy. At most [`in_flight`](Stage::in_flight) outputs are held, and an item without an output
    /// counts as one; each iterator has a share of that (half of it, divided by `n`), and stops when
    /// its share is full. So an endless iterator holds up only the items after it. By default a
    /// share is 16 outputs, up to 4,096 of those that are made quickly, and up to 65,536 (or 1 MiB) of
    /// those that are also taken quickly.
    ///
    /// An `Option` and a `Result` are iterators too, and a `None` or an `Err` is an empty one: for them
    /// there are [`par_filter_map`](Self::par_filter_map) and
    /// [`try_par_map_ordered`](Self::try_par_map_ordered).
    ///
    /// An iterator is dropped on the thread that ran it last, or with the stage. Where no thread can be
    /// started, and where everything within `in_flight` takes less than a millisecond, the consumer runs
    /// the iterators, and threads go on with them when it stays away: so they must be `Send`. With
    /// [`limited_by`](Stage::limited_by) a permit is held while `f` and the iterator run, and not while
    /// the iterator waits for room.
    ///
    /// The options about an item and its one result do not exist here: `unordered`, `item_timeout`,
    /// `hedge_slow`, `in_flight_weight` and `parked_weight`. For these, collect the outputs in the
    /// closure, as below.
    ///
    /// # Panics
    ///
    /// If `n` is 0. A panic of `f`, of the iterator it returns or of the source is raised at its
    /// place: after the outputs that were made before it.
    ///
    /// # Complexity
    ///
    /// Some nanoseconds for each output, and some locks for each item, or for several short ones. If
    /// everything within `in_flight` takes less than a millisecond, the stage is about as fast as the
    /// loop: some 70 ns slower for each output, and 150 ns for each item. There, and for items of less
    /// than a microsecond, `par_map_ordered(n, |item| f(item).collect::<Vec<_>>())` and `flatten` cost
    /// less.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    ///
    /// let words = ["to be", "or not"].into_iter().par_flat_map(2, |line| line.split(' '));
    /// assert_eq!(words.collect::<Vec<_>>(), ["to", "be", "or", "not"]);
    ///
    /// // The second iterator is endless, and the stage is dropped in the middle of it.
    /// let numbers = [0..3, 7..i32::MAX].into_iter().par_flat_map(2, |range| range);
    /// assert_eq!(numbers.take(5).collect::<Vec<_>>(), [0, 1, 2, 7, 8]);
    /// ```
    #[doc(alias("concat_map", "flat_map", "flat_map_iter"))]
    #[track_caller]
    fn par_flat_map<U, F>(self, n: impl Into<Workers>, f: F) -> Stage<Flat<Self, FlatMap<F>>>
    where
        Self: Source<Item = Self::Elem>,
        Self::Elem: Send,
        F: Fn(Self::Elem) -> U + Send + Sync, // borrows? see `Stage::scoped`
        U: IntoIterator<Item: Send, IntoIter: Send>,
    {
        Stage::of(Flat::new(self, FlatMap::new(f), n.into()))
    }

    /// Maps each item with `f`, which also gets the worker's own state: a scratch buffer, a
    /// connection.
    ///
    /// `init` runs exactly once per worker, on its thread, before its first item, and at most `n`
    /// times. The state is dropped on the same thread, so it need not be `Send`. Otherwise as
    /// [`par_map_ordered`](Self::par_map_ordered). With `n` = 1 items are pulled one by one.
    ///
    /// What can fail belongs into the `init` of
    /// [`try_par_map_ordered_init`](Self::try_par_map_ordered_init). (With a `Result` as the state,
    /// a worker without a connection would fail each of its items at once, and so take most of the
    /// items: in a trial, one such worker of four spoiled 78 to 91 of 100.)
    ///
    /// For a filter or a `flat_map` with a state, return an `Option` or a `Vec`, and `flatten` the
    /// stage.
    ///
    /// # Panics
    ///
    /// If `n` is 0. A panic of `f`, of `init` or of the source is raised at its item's position; a
    /// panic from dropping the state is raised when the stage ends.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    ///
    /// let hex = (250..=258).par_map_ordered_init(2, String::new, |scratch, x: u32| {
    ///     use std::fmt::Write;
    ///     scratch.clear();
    ///     write!(scratch, "{x:x}").unwrap();
    ///     scratch.len()
    /// });
    /// assert_eq!(hex.sum::<usize>(), 6 * 2 + 3 * 3);
    /// ```
    #[doc(alias(
        "map_init",
        "map_with",
        "par_map_init",
        "par_filter_init",
        "par_filter_map_init",
        "par_flat_map_init"
    ))]
    #[track_caller]
    fn par_map_ordered_init<T, O, N, F>(
        self,
        n: impl Into<Workers>,
        init: N,
        f: F,
    ) -> Stage<Par<Self, Init<N, F>>>
    where
        Self: Source<Item = Self::Elem>,
        Self::Elem: Send,
        N: Fn() -> T + Send + Sync,
        F: Fn(&mut T, Self::Elem) -> O + Send + Sync, // borrows? see `Stage::scoped`
        O: Send,
    {
        Stage::of(Par::new(self, Init::new(init, f), n.into(), true))
    }

    /// Maps each item with a fallible `f`, up to `n` at once; yields every `Ok` before the first
    /// error in the order of the items, then that error, then `None`.
    ///
    /// Every run yields the same error. Nothing new is pulled once any item has failed, even one
    /// after the first error; the items before it are still finished. Lazy and bounded as
    /// [`par_map_ordered`](Self::par_map_ordered).
    ///
    /// # Panics
    ///
    /// If `n` is 0. A panic of `f` or of the source is raised at its item's position.
    ///
    /// # Errors
    ///
    /// The first `Err` of `f`, by the position of its item.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    ///
    /// let parsed = ["1", "2", "x", "4", "y"]
    ///     .into_iter()
    ///     .try_par_map_ordered(3, |s| s.parse::<u8>().map_err(|_| s));
    /// assert_eq!(parsed.collect::<Vec<_>>(), [Ok(1), Ok(2), Err("x")]);
    /// ```
    #[doc(alias("try_buffered", "errgroup"))]
    #[track_caller]
    fn try_par_map_ordered<O, E, F>(
        self,
        n: impl Into<Workers>,
        f: F,
    ) -> Stage<Par<Self, TryMap<F>>>
    where
        Self: Source<Item = Self::Elem>,
        Self::Elem: Send,
        F: Fn(Self::Elem) -> Result<O, E> + Send + Sync, // borrows? see `Stage::scoped`
        O: Send,
        E: Send,
    {
        Stage::of(Par::new(self, TryMap::new(f), n.into(), true))
    }

    /// Maps each item with a fallible `f`, up to `n` at once, until one fails: yields the results
    /// as they arrive, up to the first error to arrive, then `None`.
    ///
    /// The same as [`try_par_map_ordered`](Self::try_par_map_ordered) with
    /// [`unordered`](Stage::unordered). Which of several errors is yielded may vary from run to
    /// run, and so do the results that arrive before it. Nothing is started once an item has
    /// failed. Lazy and bounded as [`par_map_ordered`](Self::par_map_ordered).
    ///
    /// # Panics
    ///
    /// If `n` is 0. A panic of `f` or of the source is raised when it arrives.
    ///
    /// # Errors
    ///
    /// The first `Err` of `f` to arrive.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    ///
    /// let parse = |s: &str| s.parse::<u8>();
    /// let sum: Result<u8, _> = ["1", "2", "3"].into_iter().try_par_map_unordered(2, parse).sum();
    /// assert_eq!(sum, Ok(6));
    /// assert!(["1", "x", "3"].into_iter().try_par_map_unordered(2, parse).any(|n| n.is_err()));
    /// ```
    #[doc(alias("try_par_map", "try_buffer_unordered"))]
    #[track_caller]
    fn try_par_map_unordered<O, E, F>(
        self,
        n: impl Into<Workers>,
        f: F,
    ) -> Stage<Par<Self, TryMap<F>>>
    where
        Self: Source<Item = Self::Elem>,
        Self::Elem: Send,
        F: Fn(Self::Elem) -> Result<O, E> + Send + Sync, // borrows? see `Stage::scoped`
        O: Send,
        E: Send,
    {
        Stage::of(Par::new(self, TryMap::new(f), n.into(), false))
    }

    /// Keeps the items that a fallible `pred` accepts, up to `n` calls at once: yields them as
    /// `Ok`s in the order of the items, up to the first error by position, then `None`.
    ///
    /// Ends as [`try_par_map_ordered`](Self::try_par_map_ordered) does, with the same error on
    /// every run. Lazy and bounded as [`par_filter`](Self::par_filter).
    ///
    /// # Panics
    ///
    /// If `n` is 0. A panic of `pred` or of the source is raised at its item's position.
    ///
    /// # Errors
    ///
    /// The first `Err` of `pred`, by the position of its item.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    ///
    /// let is_even = |text: &&str| text.parse::<u8>().map(|n| n % 2 == 0);
    /// let even = ["1", "2", "4"].into_iter().try_par_filter(2, is_even);
    /// assert_eq!(even.collect::<Result<Vec<_>, _>>().unwrap(), ["2", "4"]);
    /// assert!(["2", "x", "4"].into_iter().try_par_filter(2, is_even).last().unwrap().is_err());
    /// ```
    #[doc(alias("try_filter", "filter_ok"))]
    #[track_caller]
    fn try_par_filter<E, P>(self, n: impl Into<Workers>, pred: P) -> Stage<Par<Self, TryFilter<P>>>
    where
        Self: Source<Item = Self::Elem>,
        Self::Elem: Send,
        P: Fn(&Self::Elem) -> Result<bool, E> + Send + Sync, // borrows? see `Stage::scoped`
        E: Send,
    {
        Stage::of(Par::new(self, TryFilter::new(pred), n.into(), true))
    }

    /// Maps each item with a fallible `f` and keeps the `Ok(Some(_))` values, up to `n` calls at
    /// once: yields them as `Ok`s in the order of the items, up to the first error by position,
    /// then `None`.
    ///
    /// Ends as [`try_par_map_ordered`](Self::try_par_map_ordered) does, with the same error on
    /// every run. Lazy and bounded as [`par_map_ordered`](Self::par_map_ordered).
    ///
    /// # Panics
    ///
    /// If `n` is 0. A panic of `f` or of the source is raised at its item's position.
    ///
    /// # Errors
    ///
    /// The first `Err` of `f`, by the position of its item.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    ///
    /// // Lines may be empty, but what they hold must be a number.
    /// let parse = |line: &str| (!line.is_empty()).then(|| line.parse::<u8>()).transpose();
    /// let numbers = ["1", "", "3"].into_iter().try_par_filter_map(2, parse);
    /// assert_eq!(numbers.collect::<Vec<_>>(), [Ok(1), Ok(3)]);
    /// assert!(["1", "", "x"].into_iter().try_par_filter_map(2, parse).any(|n| n.is_err()));
    /// ```
    #[doc(alias("try_filter_map", "filter_map_ok"))]
    #[track_caller]
    fn try_par_filter_map<O, E, F>(
        self,
        n: impl Into<Workers>,
        f: F,
    ) -> Stage<Par<Self, TryFilterMap<F>>>
    where
        Self: Source<Item = Self::Elem>,
        Self::Elem: Send,
        F: Fn(Self::Elem) -> Result<Option<O>, E> + Send + Sync, // borrows? see `Stage::scoped`
        O: Send,
        E: Send,
    {
        Stage::of(Par::new(self, TryFilterMap::new(f), n.into(), true))
    }

    /// Opens each item into an iterator of `Result`s with a fallible `f`, runs up to `n` of these at
    /// once, and yields their `Ok`s in order, up to the first error by position, then `None`.
    ///
    /// An `Err` of `f` stands in the place of its item's outputs. Once any item has failed, nothing
    /// new is pulled, and the iterators of later items are stopped; those of earlier ones run to
    /// their end, so every run yields the same error. Otherwise as
    /// [`par_flat_map`](Self::par_flat_map).
    ///
    /// # Panics
    ///
    /// If `n` is 0. A panic of `f`, of the iterator it returns or of the source is raised at its
    /// place.
    ///
    /// # Errors
    ///
    /// The first `Err` of `f` or of an iterator, in the order of the outputs.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    ///
    /// // A line has a number of fields, each of which is a number.
    /// let fields = |line: &'static str| match line {
    ///     "" => Err("an empty line"),
    ///     line => Ok(line.split(' ').map(|field| field.parse::<u8>().map_err(|_| field))),
    /// };
    /// let numbers = |lines: [&'static str; 3]| lines.into_iter().try_par_flat_map(2, fields);
    /// assert_eq!(numbers(["1 2", "3 x", ""]).collect::<Vec<_>>(), [Ok(1), Ok(2), Ok(3), Err("x")]);
    /// assert_eq!(numbers(["1", "", "x"]).collect::<Vec<_>>(), [Ok(1), Err("an empty line")]);
    /// ```
    #[doc(alias("try_flat_map", "flatten_ok", "try_flatten"))]
    #[track_caller]
    fn try_par_flat_map<U, O, E, F>(
        self,
        n: impl Into<Workers>,
        f: F,
    ) -> Stage<Flat<Self, TryFlatMap<F>>>
    where
        Self: Source<Item = Self::Elem>,
        Self::Elem: Send,
        F: Fn(Self::Elem) -> Result<U, E> + Send + Sync, // borrows? see `Stage::scoped`
        U: IntoIterator<Item = Result<O, E>, IntoIter: Send>,
        O: Send,
        E: Send,
    {
        Stage::of(Flat::new(self, TryFlatMap::new(f), n.into()))
    }

    /// Maps each item with a fallible `f`, which also gets the worker's own state, whose `init` may
    /// fail too: a connection.
    ///
    /// An error of `init` takes the place of the item that its worker was about to start, and ends
    /// the stage there as an error of `f` does: yields every `Ok` before that place, then the
    /// error, then `None`. A worker without a state takes no other item. So one that finds no
    /// connection cannot fail the items that others would have run: those before that place are run
    /// by the workers that have a state.
    ///
    /// `init` runs once per worker that comes to run an item, so at most `n` times; once it has
    /// failed, no further worker tries it, except those that have an item in hand. (Not in a stage
    /// with [`item_timeout`](Stage::item_timeout) or [`hedge_slow`](Stage::hedge_slow): there a
    /// worker may be needed for an earlier item, and tries again.) The state is dropped on its
    /// worker's thread, and need not be `Send`. Otherwise as
    /// [`try_par_map_ordered`](Self::try_par_map_ordered). With `n` = 1 items are pulled one by
    /// one.
    ///
    /// # Panics
    ///
    /// If `n` is 0. A panic of `f`, of `init` or of the source is raised at its item's position; a
    /// panic from dropping a state is raised when the stage ends.
    ///
    /// # Errors
    ///
    /// The first `Err` of `f` or of `init`, by position. At which item `init` fails depends on the
    /// run.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    /// use std::sync::atomic::{AtomicUsize, Ordering};
    ///
    /// // A server that accepts two connections.
    /// let open = AtomicUsize::new(0);
    /// let connect = || match open.fetch_add(1, Ordering::Relaxed) {
    ///     number @ 0..2 => Ok(number),
    ///     _ => Err("refused"),
    /// };
    /// let ask = |_connection: &mut usize, id: u32| Ok(id * 10);
    /// let two: Result<Vec<u32>, &str> = (0..9).try_par_map_ordered_init(2, connect, ask).collect();
    /// assert_eq!(two.unwrap().len(), 9);
    /// let closed = || Err("refused");
    /// let none: Vec<_> = (0..9).try_par_map_ordered_init(2, closed, ask).collect();
    /// assert_eq!(none, [Err("refused")]);
    /// ```
    #[doc(alias("try_map_init", "try_par_map_init"))]
    #[track_caller]
    fn try_par_map_ordered_init<T, O, E, N, F>(
        self,
        n: impl Into<Workers>,
        init: N,
        f: F,
    ) -> Stage<Par<Self, TryInit<N, F>>>
    where
        Self: Source<Item = Self::Elem>,
        Self::Elem: Send,
        N: Fn() -> Result<T, E> + Send + Sync,
        F: Fn(&mut T, Self::Elem) -> Result<O, E> + Send + Sync, // borrows? see `Stage::scoped`
        O: Send,
        E: Send,
    {
        Stage::of(Par::new(self, TryInit::new(init, f), n.into(), true))
    }

    /// Calls `f` with each item, up to `n` at once, and returns when all calls have returned.
    ///
    /// The calls come in no particular order. Blocks, so that source and closure may borrow.
    /// Nothing is collected: a finished item is counted and forgotten. For options, or to watch the
    /// progress, write `par_map_unordered(n, f)` with them and `.for_each(|()| ..)` on the results,
    /// which costs a few nanoseconds more per item. (The `for_each` of `std` runs on one thread.)
    ///
    /// Called inside a closure of a stage, a task of a group or the like, it is part of that work
    /// and ends early with it, as the [terminal calls](Stage::collect) of a stage do.
    ///
    /// # Panics
    ///
    /// If `n` is 0. A panic of `f` or of the source is raised when it arrives; nothing is started
    /// after it, and the running calls are waited for.
    ///
    /// # Complexity
    ///
    /// As [`par_map_unordered`](Self::par_map_unordered), but the calling thread takes all finished
    /// items at once, and sleeps meanwhile. It is not one of the `n`.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    /// use std::sync::Mutex;
    ///
    /// let (docs, found) = (vec!["to be", "or not"], Mutex::new(Vec::new()));
    /// docs.iter().par_for_each(4, |doc| {
    ///     if doc.contains("not") {
    ///         found.lock().unwrap().push(*doc);
    ///     }
    /// });
    /// assert_eq!(found.into_inner().unwrap(), ["or not"]);
    /// ```
    #[doc(alias(
        "for_each",
        "for_each_concurrent",
        "for_each_init",
        "for_each_with",
        "parallel_for"
    ))]
    #[track_caller]
    fn par_for_each<F>(self, n: impl Into<Workers>, f: F)
    where
        Self: Source<Item = Self::Elem>,
        Self::Elem: Send,
        F: Fn(Self::Elem) + Send + Sync,
    {
        Stage::of(Par::new(self, ForEach::new(f), n.into(), false)).run();
    }

    /// Calls a fallible `f` with each item, up to `n` at once, until one fails; returns the error.
    ///
    /// The calls come in no particular order. Nothing is started once a call has failed; the
    /// running ones are waited for. Otherwise as [`par_for_each`](Self::par_for_each). For the
    /// first error by position, the same on every run, use [`parallel_map`](crate::parallel_map())
    /// or [`try_par_map_ordered`](Self::try_par_map_ordered).
    ///
    /// **An `Ok` inside work that is cancelled may be incomplete**: called inside a closure of a
    /// stage, a task of a group or the like, it ends early with that work. To get an error then,
    /// write `try_par_map_unordered(n, f).fail_on(&CancelToken::current())`, and collect that into
    /// a `Result<(), _>`.
    ///
    /// # Panics
    ///
    /// As [`par_for_each`](Self::par_for_each).
    ///
    /// # Errors
    ///
    /// The first `Err` of `f` to arrive. Which one of several that is may vary from run to run.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    ///
    /// let check = |text: &str| text.parse::<u8>().map(|_| ()).map_err(|_| format!("{text}?"));
    /// assert_eq!(["1", "2"].into_iter().try_par_for_each(4, check), Ok(()));
    /// assert_eq!(["1", "x"].into_iter().try_par_for_each(4, check), Err("x?".to_owned()));
    /// ```
    #[doc(alias(
        "try_for_each",
        "try_for_each_concurrent",
        "errgroup",
        "try_for_each_init"
    ))]
    #[track_caller]
    fn try_par_for_each<E, F>(self, n: impl Into<Workers>, f: F) -> Result<(), E>
    where
        Self: Source<Item = Self::Elem>,
        Self::Elem: Send,
        F: Fn(Self::Elem) -> Result<(), E> + Send + Sync,
        E: Send,
    {
        Stage::of(Par::new(self, TryForEach::new(f), n.into(), false)).run()
    }

    /// Folds the items on up to `n` workers, each into a value of its own, and merges these values.
    ///
    /// Each worker calls `init` before its first item, so at most `n` times, and then `fold` for
    /// each of its items. When all are done, the calling thread merges the values, and returns the
    /// last one. Without items the result is `init()`.
    ///
    /// **Neither the items nor the workers have an order**: which items a worker gets, and in which
    /// order, varies from run to run, and so does the order of the values that are merged. The
    /// result is the same on every run if `fold` and `merge` are one operation that is associative
    /// and commutative (sums, counts, sets, maxima), and `init` makes its neutral element.
    ///
    /// Blocks, so that source and closures may borrow. Memory: at most `n` values. Called inside a
    /// closure of a stage, a task of a group or the like, it is part of that work, and returns
    /// early with it what was folded by then, as the [terminal calls](Stage::collect) of a stage
    /// do.
    ///
    /// # Panics
    ///
    /// If `n` is 0. A panic of `fold`, of `init` or of the source is raised when it arrives;
    /// nothing is started after it. A panic of `merge` passes through. In each case all values are
    /// dropped.
    ///
    /// # Complexity
    ///
    /// As [`par_for_each`](Self::par_for_each), plus a move of the value per item, and one call of
    /// `merge` per worker after the first. With `n` = 1 items are pulled one by one.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    /// use std::collections::BTreeMap;
    ///
    /// type Counts = BTreeMap<char, usize>;
    /// let count = |mut counts: Counts, word: &str| {
    ///     word.chars().for_each(|letter| *counts.entry(letter).or_default() += 1);
    ///     counts
    /// };
    /// let merge = |mut a: Counts, b: Counts| {
    ///     b.into_iter().for_each(|(letter, count)| *a.entry(letter).or_default() += count);
    ///     a
    /// };
    /// let counts = ["to", "be", "or", "not"].into_iter().par_fold(4, Counts::new, count, merge);
    /// assert_eq!((counts[&'o'], counts[&'t']), (3, 2));
    /// ```
    #[doc(alias(
        "fold",
        "reduce",
        "par_reduce",
        "aggregate",
        "map_reduce",
        "fold_with",
        "tree_reduce"
    ))]
    #[track_caller]
    fn par_fold<A, N, F, M>(self, n: impl Into<Workers>, init: N, fold: F, merge: M) -> A
    where
        Self: Source<Item = Self::Elem>,
        Self::Elem: Send,
        N: Fn() -> A + Send + Sync,
        F: Fn(A, Self::Elem) -> A + Send + Sync,
        M: FnMut(A, A) -> A,
        A: Send,
    {
        Stage::of(Par::new(self, Fold::new(init, fold), n.into(), false)).run(merge)
    }

    /// Maps each item with `f`, up to `n` at once; the items of one key run one at a time and in
    /// order.
    ///
    /// ```text
    ///                     ┌─▶ a: a1 a2 a3 ─┐
    ///   a1 b1 a2 c1 a3 ───┼─▶ b: b1 ───────┼─▶ n workers ──▶ b1 a1 c1 a2 a3
    ///                     └─▶ c: c1 ───────┘
    /// ```
    ///
    /// For work that may run in parallel, but not on the same account, file or session. The results
    /// come as they arrive; those of one key in the order of its items. Keys with waiting items
    /// take turns of one item or about 20 µs, so that a busy key does not starve the others.
    ///
    /// Lazy: nothing runs before the first `next()` or terminal call. A result is yielded as soon
    /// as it is there, even while the source blocks. An item is started when its key is free and
    /// fewer than `n` closures run. Pulling the source does not count towards `n`: while `n`
    /// closures run, one extra thread pulls. `key` is called once per item, in the order of the
    /// source. At most [`in_flight`](Stage::in_flight) items are held over all keys, and at most
    /// about 64 keys without items are remembered. After a [cancellation](Stage::cancel_on) nothing
    /// is started; what is running is finished and yielded. The drop waits for the running
    /// closures, and for a source that is in its `next()`.
    ///
    /// # Panics
    ///
    /// If `n` is 0. A panic of `f` is raised when it arrives, and nothing is started after it. A
    /// panic of the source or of `key` is raised after the results of everything pulled before it.
    ///
    /// # Complexity
    ///
    /// An item takes a short lock twice, or a share of that if its key has several cheap items
    /// waiting, plus a search for its key in `O(log k)`, where `k` is the number of keys with items
    /// in flight. Items that take less than a few microseconds and have a key each cost more to
    /// hand over than to run. Up to `n` + 1 threads are leased.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    /// use std::collections::BTreeMap;
    ///
    /// let moves = [("ann", 5), ("bob", 1), ("ann", -3), ("ann", 4), ("bob", 2)];
    /// let booked = moves.into_iter().par_map_by_key(4, |(name, _)| *name, |(name, amount)| {
    ///     // here the account would be written to; no other thread does so meanwhile
    ///     (name, amount)
    /// });
    /// let mut accounts: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    /// for (name, amount) in booked {
    ///     accounts.entry(name).or_default().push(amount);
    /// }
    /// assert_eq!(accounts["ann"], [5, -3, 4]);
    /// assert_eq!(accounts["bob"], [1, 2]);
    /// ```
    #[doc(alias("group_by", "keyed", "partitioned"))]
    #[track_caller]
    fn par_map_by_key<K, O, G, F>(
        self,
        n: impl Into<Workers>,
        key: G,
        f: F,
    ) -> Stage<Keyed<Self, G, Map<F>>>
    where
        Self: Source<Item = Self::Elem>,
        Self::Elem: Send,
        G: FnMut(&Self::Elem) -> K + Send,
        K: Hash + Eq + Send,
        F: Fn(Self::Elem) -> O + Send + Sync, // borrows? see `Stage::scoped`
        O: Send,
    {
        Stage::of(Keyed::new(self, key, Map::new(f), n.into()))
    }

    /// Maps each item with a fallible `f`, key by key as [`par_map_by_key`](Self::par_map_by_key)
    /// does, until one fails: yields that error when it arrives, then `None`.
    ///
    /// Which of several errors is yielded may vary from run to run; among those of one key it is
    /// the first. Nothing is started once an item has failed. Lazy and bounded as `par_map_by_key`.
    ///
    /// # Panics
    ///
    /// As [`par_map_by_key`](Self::par_map_by_key).
    ///
    /// # Errors
    ///
    /// The first `Err` of `f` to arrive.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    ///
    /// let moves = [("ann", 5), ("bob", 1), ("ann", -9), ("bob", 2)];
    /// let booked = moves.into_iter().try_par_map_by_key(2, |(name, _)| *name, |(name, amount)| {
    ///     if amount < -8 { Err(format!("{name} has no {amount}")) } else { Ok(amount) }
    /// });
    /// assert_eq!(booked.collect::<Result<Vec<_>, _>>().unwrap_err(), "ann has no -9");
    /// ```
    #[track_caller]
    fn try_par_map_by_key<K, O, E, G, F>(
        self,
        n: impl Into<Workers>,
        key: G,
        f: F,
    ) -> Stage<Keyed<Self, G, TryMap<F>>>
    where
        Self: Source<Item = Self::Elem>,
        Self::Elem: Send,
        G: FnMut(&Self::Elem) -> K + Send,
        K: Hash + Eq + Send,
        F: Fn(Self::Elem) -> Result<O, E> + Send + Sync, // borrows? see `Stage::scoped`
        O: Send,
        E: Send,
    {
        Stage::of(Keyed::new(self, key, TryMap::new(f), n.into()))
    }

    /// Maps each item with `f`, key by key as [`par_map_by_key`](Self::par_map_by_key) does, with a
    /// state per worker.
    ///
    /// `init` runs on a worker before its first item, so at most `n` times, and the state need not
    /// be `Send`: see [`par_map_ordered_init`](Self::par_map_ordered_init). The state belongs to
    /// the worker, not to the key. As there are at most `n` states, no extra thread pulls while `n`
    /// closures run.
    ///
    /// # Panics
    ///
    /// As [`par_map_by_key`](Self::par_map_by_key). A panic of `init` is raised like one of `f`; a
    /// panic from dropping the state is raised when the stage ends.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    ///
    /// let words = ["to", "be", "or", "not", "to", "be"];
    /// let upper = words.into_iter().par_map_by_key_init(2, |word| *word, String::new, |scratch, word| {
    ///     scratch.clear();
    ///     scratch.extend(word.chars().map(|letter| letter.to_ascii_uppercase()));
    ///     scratch.len()
    /// });
    /// assert_eq!(upper.sum::<usize>(), 13);
    /// ```
    #[track_caller]
    fn par_map_by_key_init<K, T, O, G, N, F>(
        self,
        n: impl Into<Workers>,
        key: G,
        init: N,
        f: F,
    ) -> Stage<Keyed<Self, G, Init<N, F>>>
    where
        Self: Source<Item = Self::Elem>,
        Self::Elem: Send,
        G: FnMut(&Self::Elem) -> K + Send,
        K: Hash + Eq + Send,
        N: Fn() -> T + Send + Sync,
        F: Fn(&mut T, Self::Elem) -> O + Send + Sync, // borrows? see `Stage::scoped`
        O: Send,
    {
        Stage::of(Keyed::new(self, key, Init::new(init, f), n.into()))
    }

    /// Keeps the source on the consumer's thread, for a source that is not `Send`.
    ///
    /// The thread that calls the next stage's `next()` pulls the source. It first yields whatever
    /// is ready at the head, and only then pulls again. While the source blocks, nothing can be
    /// yielded, because the consumer is inside the source. Where that matters, make the source
    /// `Send` (`BufReader::new(stdin())` for `stdin().lock()`, `Arc` for `Rc`).
    ///
    /// The adaptors of `std` go before `.local()`, a stage after it. If the source is `Send`, a
    /// further stage follows as after any other stage. If it is not, the first stage is not `Send`
    /// either, and the next one needs another `.local()`.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    /// use std::io::BufRead;
    ///
    /// for length in std::io::stdin().lock().lines().local().par_map_ordered(4, |line| line.unwrap().len()) {
    ///     println!("{length}");
    /// }
    /// ```
    fn local(self) -> Local<Self>
    where
        Self: Iterator,
    {
        Local::new(self)
    }

    /// Groups the items into `Vec`s of `size`; the last one may be shorter.
    ///
    /// Lazy: each `next()` pulls the items of one window, on this thread, and only that window is
    /// held. Useful to feed batches to a stage: `rows.window(1000).par_map_ordered(4, insert)`. See
    /// [`aggregate`](Window::aggregate) for one value per window without the `Vec`.
    ///
    /// # Panics
    ///
    /// If `size` is 0. A panic of the source passes through at once; the items before it are kept,
    /// and begin the window that the next call returns, if there is one.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    ///
    /// let windows = (1..=5).window(2);
    /// assert!(windows.eq([vec![1, 2], vec![3, 4], vec![5]]));
    /// ```
    #[doc(alias("batches", "batch", "chunks", "par_chunks", "par_windows", "tumbling"))]
    #[track_caller]
    fn window(self, size: usize) -> Window<Self>
    where
        Self: Iterator,
    {
        Window::new(self, size)
    }

    /// Limits how many items pass per second. Needs the feature `throttle`.
    ///
    /// The limit is a number of items per second (`10`, `2.5`), a [`Rate`](crate::Rate) with a
    /// burst, or a [`Limiter`](crate::Limiter) shared with other sources or with closures. Items
    /// pass one by one, evenly spaced, unless the rate has a burst; the first passes at once.
    ///
    /// Keeps the order. Lazy: `next()` pulls one item, and waits on this thread until it may pass.
    /// What follows a throttle is limited, what precedes it is not: put `throttle` before the stage
    /// that calls a service. When a stage after it ends, the wait ends with `None`, and the waiting
    /// item is what the next call, if any, returns. To wait inside a closure, use
    /// [`acquire`](crate::Limiter::acquire).
    ///
    /// # Panics
    ///
    /// If a rate is 0, negative, infinite or not a number.
    ///
    /// # Complexity
    ///
    /// About 100 ns for an item that need not wait. A wait is one sleep; up to 10 ms of oversleep
    /// is compensated for.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    ///
    /// let lengths = ["/a", "/bc", "/def"]
    ///     .into_iter()
    ///     .throttle(100) // requests per second
    ///     .par_map_ordered(4, |url| url.len());
    /// assert_eq!(lengths.collect::<Vec<_>>(), [2, 3, 4]);
    /// ```
    #[doc(alias = "rate_limit")]
    #[cfg(feature = "throttle")]
    #[track_caller]
    fn throttle(self, limit: impl Into<Limit>) -> Throttle<Self>
    where
        Self: Iterator,
    {
        Throttle::new(self, limit.into().limiter())
    }

    /// Asks several replicas for the same answer, and takes the first.
    ///
    /// A replica is an `FnOnce(`[`CancelToken`](crate::CancelToken)`) -> Result<T, E>`;
    /// [`replica`](crate::replica) boxes closures of different types. [`run`](Hedge::run) starts
    /// all of them or, with [`after`](Hedge::after), starts the next one only when there is no
    /// answer in time or one has failed. The first `Ok` wins, and the tokens of the others are
    /// tripped. If all fail, every error comes back.
    ///
    /// ```text
    /// replica 0  ------------------------------x       (tripped)
    /// replica 1         ------------Ok
    ///            |      |           |
    ///            run    after       the answer
    /// ```
    ///
    /// Lazy: a replica is pulled only when it is started. For a stream of requests, see
    /// [`Stage::hedge_slow`](crate::Stage::hedge_slow).
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::{CancelToken, Fanfold};
    /// use std::time::Duration;
    ///
    /// let mirrors = ["a.example", "b.example"];
    /// let ask = |mirror: &'static str| {
    ///     move |token: CancelToken| token.check().map(|()| format!("what {mirror} says"))
    /// };
    /// let page = mirrors.into_iter().map(ask).hedge().after(Duration::from_millis(50)).run();
    /// assert_eq!(page.unwrap(), "what a.example says");
    /// ```
    #[doc(alias("race", "select_ok", "speculative"))]
    fn hedge(self) -> Hedge<Self>
    where
        Self: Iterator,
    {
        Hedge::new(self)
    }

    /// Pulls the source, and everything upstream of it, on a separate thread, up to `k` items ahead
    /// of the consumer.
    ///
    /// Keeps the order. Lazy: nothing is pulled before the first `next()`. An item is available to
    /// the consumer as soon as the source has returned it. At most `k` items are pulled and not yet
    /// taken; then the source waits, or [`overflow`](Readahead::overflow) decides what happens. A
    /// fast source waits until half of them are taken, so a consumer that pauses finds more than
    /// half of `k` items. This decouples a consumer that pauses from a source that could go on. The
    /// drop waits for a source that is in its `next()`; a source that watches
    /// [`CancelToken::current`](crate::CancelToken::current) returns at once.
    ///
    /// # Panics
    ///
    /// If `k` is 0. A panic of the source is raised at its item's position; see [`Stage`].
    ///
    /// # Complexity
    ///
    /// About 100 ns per item. If no thread can be leased, the consumer pulls the source itself.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    ///
    /// let mut total = 0;
    /// for x in (1..=100).par_map_ordered(4, |x| x * 2).readahead(8) {
    ///     total += x; // meanwhile the next items are computed
    /// }
    /// assert_eq!(total, 10_100);
    /// ```
    #[doc(alias("prefetch", "buffered_ahead", "bounded", "sync_channel"))]
    #[track_caller]
    fn readahead(self, k: usize) -> Readahead<Self>
    where
        Self: Iterator + Send,
        Self::Item: Send,
    {
        Readahead::ahead(self, k)
    }

    /// Groups what is there: the items that the source has given since the last group, at least one
    /// and at most `max`.
    ///
    /// Waits for the first item of a group, and never for another: a consumer that is slow gets large
    /// groups, one that is quick gets each item at once. For work that costs about the same for many
    /// items as for one: a write, a request, a lock. Behind a stage or a merge, a group is the results
    /// that have come. Keeps the order. Lazy: nothing is pulled before the first `next()`. From then on
    /// a separate thread pulls the source, and everything upstream of it, at most `max` items ahead.
    /// Takes the options of [`Stage`]. For groups of a fixed size, or with a time limit, see
    /// [`window`](Self::window). The drop waits for a source that is in its `next()`; a source that
    /// watches [`CancelToken::current`](crate::CancelToken::current) returns at once.
    ///
    /// # Panics
    ///
    /// If `max` is 0. A panic of the source is raised after the items before it.
    ///
    /// # Complexity
    ///
    /// That of [`readahead`](Self::readahead). If no thread can be leased, the consumer pulls the source
    /// itself, and each item is a group.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    ///
    /// let (send, rows) = std::sync::mpsc::channel();
    /// let mut chunks = rows.into_iter().ready_chunks(100);
    /// send.send(1).unwrap();
    /// assert_eq!(chunks.next(), Some(vec![1])); // although no other has come
    /// send.send(2).unwrap();
    /// send.send(3).unwrap();
    /// drop(send);
    /// let rest: Vec<Vec<i32>> = chunks.collect(); // [2, 3], or each by itself
    /// assert_eq!(rest.concat(), [2, 3]);
    /// ```
    #[doc(alias("chunks", "batch", "drain_ready", "recv_many", "try_recv_many"))]
    #[track_caller]
    fn ready_chunks(self, max: usize) -> ReadyChunks<Self>
    where
        Self: Iterator + Send,
        Self::Item: Send,
    {
        ReadyChunks::of_at_most(self, max)
    }

    /// Gives every item to each of `k` sinks, which run at the same time; returns their results.
    ///
    /// ```text
    ///                 +--> sink(0, a b c)
    ///     a b c ------+--> sink(1, a b c)
    ///                 +--> sink(2, a b c)
    /// ```
    ///
    /// A sink gets its number and its [`Reader`], an iterator. The first sink runs on the calling
    /// thread, the others on leased threads. They may borrow anything that outlives the call, which
    /// ends when all sinks have ended. Each sink gets all items in order; all but one get clones.
    /// At most 16 items wait per sink, plus one that is pulled but not yet delivered: the slowest
    /// sink sets the pace. A sink that returns early no longer counts. For another bound or policy
    /// see [`Broadcast::into_sinks`], for readers without sinks [`broadcast`](Self::broadcast).
    ///
    /// If fewer threads can be started than there are sinks, the sinks without one run on the
    /// calling thread after the first, one after the other. The items pulled for them until then
    /// are kept without a bound or, with [`Overflow::Grow`](crate::Overflow::Grow), up to its cap.
    /// Sinks that wait for one another would then wait forever.
    ///
    /// # Panics
    ///
    /// If `k` is 0. A panic of a sink, of the source or of `clone` is raised when all sinks have
    /// ended; see [`Reader`] for what the other sinks see.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    ///
    /// let text = String::from("to be or not to be");
    /// let counts = text.split(' ').broadcast_into(2, |i, words| match i {
    ///     0 => words.count(),
    ///     _ => words.collect::<std::collections::BTreeSet<_>>().len(),
    /// });
    /// assert_eq!(counts, [6, 4]);
    /// ```
    #[doc(alias = "tee")]
    #[track_caller]
    fn broadcast_into<R, F>(self, k: usize, sink: F) -> Vec<R>
    where
        Self: Iterator + Send,
        Self::Item: Clone + Send,
        F: Fn(usize, Reader<Self, ToAll>) -> R + Sync,
        R: Send,
    {
        Broadcast::among(self, k).into_sinks(sink)
    }

    /// Gives every item to each of two sinks, which run at the same time; returns both results.
    ///
    /// ```text
    ///                 +--> a(1 2 3)
    ///     1 2 3 ------+
    ///                 +--> b(1 2 3)
    /// ```
    ///
    /// As [`broadcast_into`](Self::broadcast_into) with two sinks, but each is a closure of its own,
    /// called once: it may own what it needs, change what it borrows, and return a type of its own. A
    /// sink gets a [`Reader`], an iterator. `a` runs on the calling thread, `b` on a leased one. They may
    /// borrow anything that outlives the call, which ends when both have ended. Each sink gets all items
    /// in order: one of them gets clones. Put items that are large or not `Clone` into an
    /// [`Arc`](std::sync::Arc) first. At most 16 items wait per sink, plus one that is pulled but not yet
    /// delivered: the slower sink sets the pace. A sink that returns early no longer counts. For another
    /// bound or policy see [`Broadcast::tee_into`].
    ///
    /// If no thread can be started, `b` runs after `a`. The items pulled for it until then are kept
    /// without a bound or, with [`Overflow::Grow`](crate::Overflow::Grow), up to its cap. Sinks that wait
    /// for one another would then wait forever.
    ///
    /// # Panics
    ///
    /// A panic of a sink, of the source or of `clone` is raised when both sinks have ended; see
    /// [`Reader`] for what the other sink sees.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    /// use std::sync::Arc;
    ///
    /// struct Row(u32); // not `Clone`
    ///
    /// let mut file = Vec::new(); // think of an open file
    /// let rows = (1..=4).par_map_ordered(2, Row).map(Arc::new);
    /// let (written, sum) = rows.tee_into(
    ///     |rows| {
    ///         rows.for_each(|row| file.push(row.0));
    ///         file.len()
    ///     },
    ///     |rows| rows.map(|row| f64::from(row.0)).sum::<f64>(),
    /// );
    /// assert_eq!((written, sum), (4, 10.0));
    /// ```
    #[doc(alias("tee", "fork"))]
    fn tee_into<A, B, F, G>(self, a: F, b: G) -> (A, B)
    where
        Self: Iterator + Send,
        Self::Item: Clone + Send,
        F: FnOnce(Reader<Self, ToAll>) -> A,
        G: FnOnce(Reader<Self, ToAll>) -> B + Send,
        B: Send,
    {
        Broadcast::among(self, 2).tee_into(a, b)
    }

    /// Gives the items that `pred` accepts to one sink and the rest to another; returns both
    /// results.
    ///
    /// ```text
    ///                        +--> accepted(2 4)
    ///     1 2 3 4 5 ---pred--+
    ///                        +--> rest(1 3 5)
    /// ```
    ///
    /// Both sinks run at the same time. A sink gets a [`Reader`], an iterator. `accepted` runs on
    /// the calling thread, `rest` on a leased one. They may borrow anything that outlives the call,
    /// which ends when both have ended. The items keep their order. `pred` runs on the thread of
    /// the sink that pulls, one call at a time. At most 16 items wait per sink, plus one that is
    /// pulled but not yet delivered; then the faster sink waits. A sink that returns early no
    /// longer counts. For another bound or policy see [`PartitionReaders::into_sinks`], for readers
    /// without sinks [`partition_readers`](Self::partition_readers).
    ///
    /// If no thread can be started, `rest` runs after `accepted`. The items pulled for it until
    /// then are kept without a bound or, with [`Overflow::Grow`](crate::Overflow::Grow), up to its
    /// cap. Sinks that wait for one another would then wait forever.
    ///
    /// # Panics
    ///
    /// A panic of a sink, of the source or of `pred` is raised when both sinks have ended; see
    /// [`Reader`] for what the other sink sees.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    ///
    /// let lines = ["12", "x", "30"].into_iter().map(|line| line.parse::<u32>().map_err(|_| line));
    /// let (sum, bad) = lines.partition_into(
    ///     |line| line.is_ok(),
    ///     |good| good.flatten().sum::<u32>(),
    ///     |bad| bad.filter_map(Result::err).collect::<Vec<_>>(),
    /// );
    /// assert_eq!((sum, bad), (42, vec!["x"]));
    /// ```
    #[doc(alias("split_into", "partition"))]
    fn partition_into<P, A, B, F, G>(self, pred: P, accepted: F, rest: G) -> (A, B)
    where
        Self: Iterator + Send,
        Self::Item: Send,
        P: FnMut(&Self::Item) -> bool + Send,
        F: FnOnce(Reader<Self, ByPredicate<P>>) -> A,
        G: FnOnce(Reader<Self, ByPredicate<P>>) -> B + Send,
        B: Send,
    {
        PartitionReaders::by(self, pred).into_sinks(accepted, rest)
    }

    /// Gives each item to the one of `k` sinks whose number `f` returns; returns their results.
    ///
    /// ```text
    ///                       +--> sink(0, 0 3)
    ///     0 1 2 3 4 ---f----+--> sink(1, 1 4)
    ///                       +--> sink(2, 2)
    /// ```
    ///
    /// The sinks run at the same time. A sink gets its number and its [`Reader`], an iterator. The
    /// first sink runs on the calling thread, the others on leased threads. They may borrow
    /// anything that outlives the call, which ends when all sinks have ended. The items of a sink
    /// keep their order. `f` runs on the thread of the sink that pulls, one call at a time. At most
    /// 16 items wait per sink, plus one that is pulled but not yet delivered; then all sinks that
    /// need other items wait. A sink that returns early no longer counts, and the items for it are
    /// dropped. For another bound or policy see [`Route::into_sinks`], for readers without sinks
    /// [`route`](Self::route).
    ///
    /// If fewer threads can be started than there are sinks, the sinks without one run on the
    /// calling thread after the first, one after the other. The items pulled for them until then
    /// are kept without a bound or, with [`Overflow::Grow`](crate::Overflow::Grow), up to its cap.
    /// Sinks that wait for one another would then wait forever.
    ///
    /// # Panics
    ///
    /// If `k` is 0. A panic of a sink, of the source or of `f`, or a number that is not below `k`,
    /// is raised when all sinks have ended; see [`Reader`] for what the other sinks see.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    ///
    /// let sums = (0..9).route_into(3, |x| x % 3, |_, numbers| numbers.sum::<usize>());
    /// assert_eq!(sums, [9, 12, 15]);
    /// ```
    #[doc(alias("demultiplex", "demux", "shard"))]
    #[track_caller]
    fn route_into<F, R, S>(self, k: usize, f: F, sink: S) -> Vec<R>
    where
        Self: Iterator + Send,
        Self::Item: Send,
        F: FnMut(&Self::Item) -> usize + Send,
        S: Fn(usize, Reader<Self, ByRoute<F>>) -> R + Sync,
        R: Send,
    {
        Route::along(self, k, f).into_sinks(sink)
    }

    /// Gives every item to each of `k` readers: a description, to be taken apart by
    /// [`readers`](Broadcast::readers) or [`into_sinks`](Broadcast::into_sinks).
    ///
    /// Start with [`broadcast_into`](Self::broadcast_into), which reads them at the same time.
    /// Every reader gets all items in order; all but one get clones, so a single reader clones
    /// nothing. Put items that are large or not `Clone` into an [`Arc`](std::sync::Arc):
    /// `items.map(Arc::new).broadcast(k)`. Lazy: nothing is pulled before a reader is asked. The
    /// reader that needs an item pulls it, on the calling thread; see [`Reader`]. At most
    /// [`buffer`](crate::fan_out::Fanout::buffer) items (16 by default) are pulled and not yet
    /// taken by a reader, plus one that is pulled but not yet delivered;
    /// [`overflow`](crate::fan_out::Fanout::overflow) decides what happens when a reader falls
    /// further behind.
    ///
    /// **Read the readers at the same time**, on several threads or in turns. Read one after the
    /// other on one thread, they wait forever once a buffer is full, unless `overflow` says
    /// otherwise.
    ///
    /// # Panics
    ///
    /// If `k` is 0.
    ///
    /// # Complexity
    ///
    /// Two or three short locks per item for the reader that pulls and one for each other reader,
    /// plus the clones.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    ///
    /// let mut readers = (1..=100_u64).broadcast(2).readers();
    /// let squares = readers.pop().unwrap();
    /// let sum = std::thread::spawn(move || squares.map(|x| x * x).sum::<u64>());
    /// assert_eq!(readers.pop().unwrap().sum::<u64>(), 5_050);
    /// assert_eq!(sum.join().unwrap(), 338_350);
    /// ```
    #[doc(alias("tee", "duplicate"))]
    #[track_caller]
    fn broadcast(self, k: usize) -> Broadcast<Self>
    where
        Self: Iterator,
        Self::Item: Clone,
    {
        Broadcast::among(self, k)
    }

    /// Gives each item to one of two readers: a description, to be taken apart by
    /// [`pair`](PartitionReaders::pair) or [`into_sinks`](PartitionReaders::into_sinks).
    ///
    /// Start with [`partition_into`](Self::partition_into), which reads them at the same time. The
    /// first reader gets the items that `pred` accepts, the second the rest, each in order; nothing
    /// is cloned. Lazy: nothing is pulled before a reader is asked. The reader that needs an item
    /// pulls until it gets one, on the calling thread; see [`Reader`]. At most
    /// [`buffer`](crate::fan_out::Fanout::buffer) items (16 by default) are pulled and not yet
    /// taken by a reader, plus one that is pulled but not yet delivered;
    /// [`overflow`](crate::fan_out::Fanout::overflow) decides what happens when a reader falls
    /// further behind.
    ///
    /// **Read both readers at the same time**, on two threads or in turns. Read one after the other
    /// on one thread, they wait forever once the other's buffer is full, unless `overflow` says
    /// otherwise.
    ///
    /// # Panics
    ///
    /// A panic of the source or of `pred` is raised by the reader that pulled.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    ///
    /// let (even, odd) = (1..=100).partition_readers(|x| x % 2 == 0).pair();
    /// let odd = std::thread::spawn(move || odd.sum::<i32>());
    /// assert_eq!(even.sum::<i32>(), 2_550);
    /// assert_eq!(odd.join().unwrap(), 2_500);
    /// ```
    #[doc(alias("split", "partition", "unzip"))]
    fn partition_readers<P>(self, pred: P) -> PartitionReaders<Self, P>
    where
        Self: Iterator,
        P: FnMut(&Self::Item) -> bool,
    {
        PartitionReaders::by(self, pred)
    }

    /// Gives each item to the one of `k` readers whose number `f` returns: a description, to be
    /// taken apart by [`readers`](Route::readers) or [`into_sinks`](Route::into_sinks).
    ///
    /// Start with [`route_into`](Self::route_into), which reads them at the same time. Each reader
    /// gets its items in order; nothing is cloned. Lazy: nothing is pulled before a reader is
    /// asked. The reader that needs an item pulls until it gets one, on the calling thread; see
    /// [`Reader`]. At most [`buffer`](crate::fan_out::Fanout::buffer) items (16 by default) are
    /// pulled and not yet taken by a reader, plus one that is pulled but not yet delivered;
    /// [`overflow`](crate::fan_out::Fanout::overflow) decides what happens when a reader falls
    /// further behind.
    ///
    /// **Read the readers at the same time**, on several threads or in turns. Read one after the
    /// other on one thread, they wait forever once another's buffer is full, unless `overflow` says
    /// otherwise.
    ///
    /// # Panics
    ///
    /// If `k` is 0. If `f` returns a number that is not below `k`, that counts as a panic of `f`. A
    /// panic of `f` or of the source is raised by the reader that pulled.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    ///
    /// let words = ["to", "be", "or", "not", "to", "be"];
    /// let readers = words.into_iter().route(3, |word| word.len() % 3).readers();
    /// let threads: Vec<_> = readers
    ///     .into_iter()
    ///     .map(|reader| std::thread::spawn(move || reader.count()))
    ///     .collect();
    /// let counts: Vec<usize> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    /// assert_eq!(counts, [1, 0, 5]);
    /// ```
    #[doc(alias("demultiplex", "demux", "shard"))]
    #[track_caller]
    fn route<F>(self, k: usize, f: F) -> Route<Self, F>
    where
        Self: Iterator,
        F: FnMut(&Self::Item) -> usize,
    {
        Route::along(self, k, f)
    }
}

impl<I: Iterator> Fanfold for I {
    type Elem = I::Item;
}

impl<I: Iterator> Fanfold for Local<I> {
    type Elem = I::Item;
}
