//! A source for several readers: its options, and the readers themselves.

use crate::cancel::CancelToken;
use crate::fan_out::dispatch::Dispatch;
use crate::fan_out::shared_source::{ReaderHandle, ReaderOpts, reader_handles};
use crate::overflow::{DropCount, Overflow};
use crate::runtime::abreast::{Task, abreast};
use crate::runtime::context::{self, Current, Link, Plain};
use crate::runtime::pool::Pool;
use crate::runtime::trace::{self, Made};
use crate::stats::StageStats;
use crate::sync::{AtomicBool, Mutex, Ordering};
use crate::unwind::{self, Payload, catch};
use std::fmt;
use std::rc::Rc;

/// How many items may be pulled for a reader and not yet taken, by default.
const BUFFER: usize = 16;

/// A source that several readers are about to share: a description, to which options are added before it is
/// split up.
///
/// Made by [`broadcast`](crate::Fanfold::broadcast), [`partition_readers`](crate::Fanfold::partition_readers)
/// and [`route`](crate::Fanfold::route). Sinks ([`into_sinks`](crate::fan_out::Broadcast::into_sinks)) run at
/// the same time, and are the form to begin with. Readers ([`readers`](crate::fan_out::Broadcast::readers),
/// [`pair`](crate::fan_out::PartitionReaders::pair)) are for work that does not fit into closures. In both
/// forms the source may borrow.
#[derive(Clone)]
#[must_use = "it is lazy: nothing is pulled before a reader is asked"]
pub struct Fanout<I, D> {
    source: I,
    deal: D,
    readers: usize,
    opts: ReaderOpts,
    detached: bool,
    pool: Option<Pool>,
    made: Made,
}

impl<I, D> fmt::Debug for Fanout<I, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fanout")
            .field("readers", &self.readers)
            .field("overflow", &self.opts.overflow)
            .finish_non_exhaustive()
    }
}

impl<I, D> Fanout<I, D> {
    pub(crate) fn new(source: I, deal: D, readers: usize) -> Self {
        Fanout {
            source,
            deal,
            readers,
            opts: ReaderOpts {
                name: None,
                overflow: Overflow::Block,
                buffer: BUFFER,
            },
            detached: false,
            pool: None,
            made: Made::here(),
        }
    }

    /// How many readers there will be.
    pub(crate) fn count(&self) -> usize {
        self.readers
    }

    /// How many items may be pulled for each reader and not yet taken; 16 by default. With
    /// [`Overflow::Block`] one further item may be held: the one that found the buffer full.
    ///
    /// # Panics
    ///
    /// If it is 0.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    ///
    /// let mut readers = (0..100).broadcast(2).buffer(3).readers();
    /// assert!(readers[0].by_ref().take(4).eq(0..4)); // another would have to wait for the other reader
    /// assert!(readers[1].by_ref().take(4).eq(0..4));
    /// ```
    #[track_caller]
    pub fn buffer(mut self, items: usize) -> Self {
        assert!(
            items > 0,
            "the buffer of a reader must be at least 1: write buffer(1) for one item"
        );
        self.opts.buffer = items;
        self
    }

    /// Decides what happens when one reader is slower than another; [`Overflow::Block`] by default.
    ///
    /// # Panics
    ///
    /// If it is `Grow(0)`.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::{Fanfold, Overflow};
    ///
    /// // One reader wants every value, the other only what is new.
    /// let mut readers = (0..100).broadcast(2).buffer(1).overflow(Overflow::DropOldest).readers();
    /// let (mut latest, every) = (readers.pop().unwrap(), readers.pop().unwrap());
    /// assert_eq!(every.count(), 100);
    /// assert_eq!(latest.next(), Some(99));
    /// assert_eq!(latest.dropped().get(), 99);
    /// ```
    #[doc(alias = "skew")]
    #[track_caller]
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        overflow.check();
        self.opts.overflow = overflow;
        self
    }

    /// Sets a name, for messages and for [`testing::assert_quiescent`](crate::testing::assert_quiescent).
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.opts.name = Some(name.into());
        self
    }

    /// Makes it independent of what it is split up in; see [`Stage::detached`](crate::Stage::detached).
    pub fn detached(mut self) -> Self {
        self.detached = true;
        self
    }

    /// Leases the threads for sinks from `pool` instead of the [global](Pool::global) pool. Readers need no
    /// threads.
    pub fn on(mut self, pool: &Pool) -> Self {
        self.pool = Some(pool.clone());
        self
    }
}

/// A sink, with its type erased so that several fit into one list.
pub(crate) type Sink<'a, I, D, R> = Box<dyn FnOnce(Reader<I, D>) -> R + Send + 'a>;

impl<I: Iterator, D: Dispatch<I::Item>> Fanout<I, D> {
    /// Splits it up into its readers.
    pub(crate) fn split_up(self) -> Vec<Reader<I, D>> {
        self.linked(context::link_of_iterator)
    }

    fn linked(self, link: impl FnOnce() -> Option<Link>) -> Vec<Reader<I, D>> {
        let link = (!self.detached).then(link).flatten();
        let reader_handles = reader_handles(self.source, self.deal, self.readers, self.opts, link);
        if let Some(first) = reader_handles.first() {
            let mut made = self.made;
            made.of(D::NAME);
            first.open_span(&made);
        }
        reader_handles.into_iter().map(Reader).collect()
    }

    /// Runs a sink for each reader.
    pub(crate) fn run_all<R, F>(self, sink: &F) -> Vec<R>
    where
        I: Send,
        I::Item: Send,
        D: Send,
        F: Fn(usize, Reader<I, D>) -> R + Sync,
        R: Send,
    {
        let others = (1..self.readers)
            .map(|number| Box::new(move |reader| sink(number, reader)) as Sink<'_, I, D, R>);
        let others = others.collect();
        let (first, mut rest) = self.run(|reader| sink(0, reader), others);
        rest.insert(0, first);
        rest
    }

    /// Runs all sinks at the same time, the first one on this thread, and raises their panics when all are
    /// done.
    pub(crate) fn run<A, R: Send>(
        self,
        own: impl FnOnce(Reader<I, D>) -> A,
        others: Vec<Sink<'_, I, D, R>>,
    ) -> (A, Vec<R>)
    where
        I: Send,
        I::Item: Send,
        D: Send,
    {
        let pool = self.pool.clone().unwrap_or_else(Pool::global);
        let inside = context::is_inside() && !self.detached;
        let mut readers = self.linked(context::link).into_iter();
        // The readers are linked like any call that runs to its end here: it cannot live on behind this
        // frame.
        let first = readers.next().expect("there is at least one reader");
        let shared = first.0.shared().clone();
        let here = inside.then(CancelToken::current);
        let cut = AtomicBool::new(false);
        let slots: Vec<Mutex<Option<_>>> = others.iter().map(|_| Mutex::new(None)).collect();
        let mut own_slot = None;
        let mut tasks: Vec<Task<'_>> = Vec::new();
        for ((reader, sink), slot) in readers.zip(others).zip(&slots) {
            let (shared, here, cut) = (&shared, here.clone(), &cut);
            // From now on this lane is read, so it may hold up the others (see `postpone` below).
            tasks.push(Box::new(move || {
                shared.begin(reader.0.number());
                // The same token as on the calling thread, so that a sink can ask for it anywhere.
                let frame = here.map(Plain::new);
                let entered = frame
                    .clone()
                    .map(|frame| context::in_closure(frame as Rc<dyn Current>));
                let in_stage = shared.span().enter();
                let result = catch(|| sink(reader));
                drop(in_stage);
                drop(entered);
                shared.tell_panic(&result);
                if frame.is_some_and(|frame| frame.over()) {
                    cut.store(true, Ordering::Relaxed); // The join publishes it.
                }
                *slot.lock() = Some(result);
            }));
        }
        // A sink that gets no thread runs after the first one. Until then its reader takes nothing, so its
        // lane must not stop the first one: its bound is lifted.
        let run_own = || {
            let in_stage = shared.span().enter();
            let result = catch(|| own(first));
            drop(in_stage);
            shared.tell_panic(&result);
            own_slot = Some(result);
        };
        abreast(pool, run_own, tasks, |place| shared.postpone(place + 1));
        // A sink was cut short. Its frame was on another thread, so this thread's frame learns of it here.
        if cut.into_inner() {
            context::tell_cut();
        }
        let own = own_slot.expect("it has run");
        let others = slots
            .into_iter()
            .map(|slot| slot.into_inner().expect("it has run"));
        outcome(own, others.collect(), shared.culprit())
    }
}

/// The values, or a panic: that of the reader that met with it, if its sink let it through, rather than one
/// of those that only report it.
fn outcome<A, R>(
    own: Result<A, Payload>,
    others: Vec<Result<R, Payload>>,
    culprit: Option<usize>,
) -> (A, Vec<R>) {
    let mut values = Vec::new();
    let mut panics = Vec::new();
    for (place, result) in others.into_iter().enumerate() {
        match result {
            Ok(value) => values.push(value),
            Err(panic) => panics.push((place + 1, panic)),
        }
    }
    let own = match own {
        Ok(own) if panics.is_empty() => return (own, values),
        Ok(own) => unwind::discard(own),
        Err(panic) => {
            panics.insert(0, (0, panic));
            None
        }
    };
    // The remaining values are dropped here, because their drops may panic too.
    panics.extend(own.map(|panic| (usize::MAX, panic)));
    let dropped = values.into_iter().filter_map(unwind::discard);
    panics.extend(dropped.map(|panic| (usize::MAX, panic)));
    let first = panics
        .iter()
        .position(|(reader, _)| Some(*reader) == culprit)
        .unwrap_or(0);
    let (_, panic) = panics.swap_remove(first);
    for (_, panic) in panics {
        unwind::bury(panic);
    }
    trace::resume_unwind(panic)
}

/// One of several readers of a source: an iterator, made by [`Broadcast::readers`],
/// [`PartitionReaders::pair`] and [`Route::readers`].
///
/// **Which thread pulls.** There is no separate thread. A reader that has no item pulls the source on the
/// thread that asked it, and puts the items for other readers where they find them. Other readers without an
/// item wait meanwhile. An item that was pulled for a reader is there for it at once, even while another
/// reader is in the source. A reader is `Send` if the source and its items are. It may be used in a thread, a
/// [scope](std::thread::scope) or a stage.
///
/// **Drop.** A reader that is dropped no longer counts: the items that were pulled for it are dropped, and
/// the others do not wait for it. The source is dropped at its end, or with the last reader.
///
/// **In a stage.** When a stage ends, a reader that waits inside it for another reader notices that, and
/// answers `None`. So it is no `FusedIterator`: it continues when it is asked again. A reader that is in the
/// source does not leave it while another reader wants items, because that would end the source for both;
/// then the drop of the stage waits for the source's next item. One token for all stages
/// ([`cancel_on`](crate::Stage::cancel_on)) ends them together. In the source,
/// [`CancelToken::current`](crate::CancelToken::current) is tripped when no reader wants items any more.
///
/// `size_hint` has no upper bound while another reader is in the source.
///
/// # Panics
///
/// A panic of the source, of the closure that chooses or of `clone` is raised with its own payload by the
/// reader that pulled. The other readers yield what was pulled for them; then each of them panics with a
/// message that quotes the message of that panic; after that they yield `None`. See also [`Overflow::Grow`].
///
/// [`Broadcast::readers`]: crate::fan_out::Broadcast::readers
/// [`PartitionReaders::pair`]: crate::fan_out::PartitionReaders::pair
/// [`Route::readers`]: crate::fan_out::Route::readers
pub struct Reader<I: Iterator, D>(ReaderHandle<I, D>);

impl<I: Iterator, D> fmt::Debug for Reader<I, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("number", &self.0.number())
            .finish_non_exhaustive()
    }
}

impl<I: Iterator, D> Reader<I, D> {
    /// Counts the items that were dropped because this reader was slow; see [`Overflow`].
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::{Fanfold, Overflow};
    ///
    /// let mut readers = (0..10).broadcast(2).buffer(4).overflow(Overflow::DropNewest).readers();
    /// let (slow, quick) = (readers.pop().unwrap(), readers.pop().unwrap());
    /// let dropped = slow.dropped();
    /// assert_eq!(quick.count(), 10);
    /// assert!(slow.eq([0, 1, 2, 3]));
    /// assert_eq!(dropped.get(), 6);
    /// ```
    pub fn dropped(&self) -> DropCount {
        self.0.dropped().clone()
    }

    /// What this reader gets, and what limits it: see [`stats`](crate::stats).
    ///
    /// It has one permit: that of the source, which one of the readers pulls at a time. `room` is the time in which an item was
    /// held because this reader had not taken enough, which stops all of them.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    ///
    /// let mut readers = (0..100).broadcast(2).overflow(fanfold::Overflow::Grow(100)).readers();
    /// let stats = readers[1].stats();
    /// let slow = readers.pop().unwrap();
    /// assert_eq!(readers.pop().unwrap().count(), 100);
    /// assert_eq!((stats.snapshot().admitted, stats.snapshot().yielded), (100, 0));
    /// assert_eq!(slow.count(), 100);
    /// assert_eq!(stats.snapshot().yielded, 100);
    /// ```
    pub fn stats(&mut self) -> StageStats
    where
        D: Dispatch<I::Item>,
    {
        StageStats::new(self.0.reader_name(D::NAME), self.0.measure())
    }

    /// Whether it has ended before the source did, because what the readers were made in (a closure of a
    /// stage, say) has ended.
    pub fn is_cut_short(&self) -> bool {
        self.0.is_cut_short()
    }
}

impl<I: Iterator, D: Dispatch<I::Item>> Iterator for Reader<I, D> {
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        self.0.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}
