//! `merge_sorted_by_key`: several sorted sources into one sorted stream.

use crate::error::NotReady;
use crate::fan_in::front::{Front, Got};
use crate::fan_in::lane::Message;
use crate::runtime::plan::{Common, Ending, Plan, Running, unwanted};
use crate::runtime::scope::StartPermit;
use crate::runtime::trace::resume_unwind;
use crate::size_hint::{self, Hint};
use crate::stage::Stage;
use crate::sync::Instant;
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::fmt;
use std::marker::PhantomData;

/// Sorted sources as one sorted stream; made by [`merge_sorted_by_key`].
///
/// Options, terminal calls and what its drop waits for: see [`Stage`].
pub type MergeSorted<I, F, C = Checked> = Stage<MergeSortedPlan<I, F, C>>;

const BUFFER: usize = 64;

/// Merges sources that are sorted by `key`, lowest key first; a thread pulls each source ahead.
///
/// Among items with equal keys the one of the earlier source comes first, so every run yields the
/// same order. At most [`buffer`](MergeSorted::buffer) items of each source are pulled and not yet
/// taken, plus one that is being compared. To yield an item, one of each source must be there: a
/// silent source holds up the others, and the drop waits for a source that is in its `next()`.
/// After a [cancellation](MergeSorted::cancel_on) what is there is merged. Lazy: nothing is pulled
/// before the first `next()`. `key` is called once per item, on the consumer's thread.
///
/// # Panics
///
/// A panic of a source is raised before any further item; the other sources go on: call `next()` again.
///
/// # Errors
///
/// An item whose key is lower than that of the item before it in the same source ends the stream
/// with [`Unsorted`], which names the source and both keys. To get items instead of `Result`s, see
/// [`assume_sorted`](MergeSorted::assume_sorted).
///
/// # Complexity
///
/// `O(log k)` comparisons per item for `k` sources. One leased thread per source.
///
/// # Examples
///
/// ```
/// let logs = [vec![(1, "a"), (4, "b")], vec![(2, "c"), (3, "d")]];
/// let all: Result<Vec<_>, _> = fanfold::merge_sorted_by_key(logs, |line| line.0).collect();
/// assert_eq!(all.unwrap(), [(1, "a"), (2, "c"), (3, "d"), (4, "b")]);
///
/// let wrong = [vec![1, 5], vec![7, 6]];
/// let error = fanfold::merge_sorted_by_key(wrong, |x| *x).find_map(Result::err).unwrap();
/// assert_eq!((error.source_index, error.before, error.after), (1, 7, 6));
/// ```
#[doc(alias("kmerge", "kmerge_by", "par_sort"))]
pub fn merge_sorted_by_key<S, K, F>(
    sources: S,
    key: F,
) -> MergeSorted<<S::Item as IntoIterator>::IntoIter, F>
where
    S: IntoIterator<Item: IntoIterator<Item: Send, IntoIter: Send>>,
    F: FnMut(&<S::Item as IntoIterator>::Item) -> K + Send,
    K: Ord + Send,
{
    Stage::of(MergeSortedPlan {
        sources: sources.into_iter().map(IntoIterator::into_iter).collect(),
        key,
        buffer: BUFFER,
        check: PhantomData::<Checked>,
    })
}

/// A source of [`merge_sorted_by_key`] was not sorted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unsorted<K> {
    /// The number of the source, from 0.
    pub source_index: usize,
    /// The key of an item of this source.
    pub before: K,
    /// The lower key of the next item.
    pub after: K,
}

impl<K: fmt::Debug> fmt::Display for Unsorted<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "source {} is not sorted: key {:?} comes after {:?}; sort it, or merge by another key",
            self.source_index, self.after, self.before
        )
    }
}

impl<K: fmt::Debug> std::error::Error for Unsorted<K> {}

/// The plan of a [`MergeSorted`].
pub struct MergeSortedPlan<I, F, C> {
    sources: Vec<I>,
    key: F,
    buffer: usize,
    check: PhantomData<C>,
}

impl<I, F, C> fmt::Debug for MergeSortedPlan<I, F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MergeSortedPlan")
            .field("sources", &self.sources.len())
            .finish_non_exhaustive()
    }
}

/// The order of each source is checked; the default.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Checked;

/// The order of the sources is trusted; see [`MergeSorted::assume_sorted`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Trusted;

/// How an item is turned into an output. Sealed: [`Checked`] or [`Trusted`].
pub trait Check<T, K>: Send + sealed::Sealed {
    /// The type of the outputs.
    type Output;

    /// Whether the order is checked.
    #[doc(hidden)]
    const LOOKS: bool;

    #[doc(hidden)]
    fn item(item: T) -> Self::Output;

    #[doc(hidden)]
    fn unsorted(wrong: Unsorted<K>) -> Option<Self::Output>;
}

mod sealed {
    #[allow(unnameable_types)] // seals `Check`
    pub trait Sealed {}
    impl Sealed for super::Checked {}
    impl Sealed for super::Trusted {}
}

impl<T, K> Check<T, K> for Checked {
    type Output = Result<T, Unsorted<K>>;

    const LOOKS: bool = true;

    fn item(item: T) -> Self::Output {
        Ok(item)
    }

    fn unsorted(wrong: Unsorted<K>) -> Option<Self::Output> {
        Some(Err(wrong))
    }
}

impl<T, K> Check<T, K> for Trusted {
    type Output = T;

    const LOOKS: bool = false;

    fn item(item: T) -> T {
        item
    }

    fn unsorted(_: Unsorted<K>) -> Option<T> {
        None
    }
}

impl<I, F, C> MergeSorted<I, F, C>
where
    MergeSortedPlan<I, F, C>: Plan,
{
    /// Sets how many items of each source may be pulled and not yet taken; 64 by default.
    ///
    /// # Panics
    ///
    /// If `items` is 0, or after the first `next()`.
    #[track_caller]
    pub fn buffer(self, items: usize) -> Self {
        assert!(
            items > 0,
            "the buffer of a source must be at least 1: write buffer(1) for one item ahead"
        );
        self.with(|plan| plan.buffer = items)
    }
}

impl<I, K, F> MergeSorted<I, F>
where
    I: Iterator + Send,
    I::Item: Send,
    F: FnMut(&I::Item) -> K + Send,
    K: Ord + Send,
{
    /// Trusts the sources to be sorted, and yields plain items. If they are not sorted, neither is
    /// the output.
    ///
    /// # Panics
    ///
    /// After the first `next()`.
    ///
    /// # Examples
    ///
    /// ```
    /// let all = fanfold::merge_sorted_by_key([[1, 4], [2, 3]], |x| *x).assume_sorted();
    /// assert!(all.eq([1, 2, 3, 4]));
    /// ```
    #[doc(alias = "unchecked")]
    #[track_caller]
    pub fn assume_sorted(self) -> MergeSorted<I, F, Trusted> {
        let trusting = |plan: MergeSortedPlan<I, F, Checked>| MergeSortedPlan {
            sources: plan.sources,
            key: plan.key,
            buffer: plan.buffer,
            check: PhantomData,
        };
        self.map_plan(trusting, None)
    }
}

/// The next item of a source.
struct Head<K, T> {
    key: K,
    lane: usize,
    item: T,
}

impl<K: Ord, T> Ord for Head<K, T> {
    /// The greatest is yielded first: the lowest key, of the earliest source.
    fn cmp(&self, other: &Self) -> Ordering {
        let by_key = other.key.cmp(&self.key);
        by_key.then_with(|| other.lane.cmp(&self.lane))
    }
}

impl<K: Ord, T> PartialOrd for Head<K, T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<K: Ord, T> PartialEq for Head<K, T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<K: Ord, T> Eq for Head<K, T> {}

/// The running state of a [`MergeSorted`].
///
/// The next item of each source that has not ended is in `heads`, or the source is in `due`. A due
/// source is asked only when another item is wanted: so an item whose turn has come waits for no
/// source, not even its own (`itertools::kmerge_by` asks the source first).
pub struct MergeSortedIter<I: Iterator, K, F, C> {
    front: Front<I>,
    due: Vec<usize>,
    heads: BinaryHeap<Head<K, I::Item>>,
    /// For each source, the key of the item yielded last, if the order is checked.
    before: Vec<Option<K>>,
    key: F,
    check: PhantomData<C>,
}

impl<I: Iterator, K, F, C> fmt::Debug for MergeSortedIter<I, K, F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MergeSortedIter").finish_non_exhaustive()
    }
}

/// Why a due source has no item.
enum Unfilled<K> {
    Unsorted(Unsorted<K>),
    Late,
    /// The wait was interrupted.
    Unwanted,
}

impl<I, K, F, C> MergeSortedIter<I, K, F, C>
where
    I: Iterator + Send,
    I::Item: Send,
    F: FnMut(&I::Item) -> K,
    K: Ord,
    C: Check<I::Item, K>,
{
    /// Gets the next item of every due source.
    fn refill(&mut self, until: Option<Instant>) -> Result<(), Unfilled<K>> {
        while let Some(&lane) = self.due.last() {
            match self.front.next_of(lane, until) {
                Got::Message(_, Message::Item(item)) => {
                    // The source stays due if `key` or the order panics: then only this item is lost.
                    let in_stage = self.front.span().enter();
                    let key = (self.key)(&item);
                    drop(in_stage);
                    let before = self.before[lane].take_if(|before| *before > key);
                    self.due.pop();
                    if let Some(before) = before {
                        return Err(Unfilled::Unsorted(Unsorted {
                            source_index: lane,
                            before,
                            after: key,
                        }));
                    }
                    self.heads.push(Head { key, lane, item });
                }
                Got::Message(_, Message::Panic(panic)) => resume_unwind(panic),
                // A stopped source has ended too: the others go on with what is there.
                Got::Message(_, Message::End | Message::TimedOut) | Got::Over => {
                    self.due.pop();
                }
                Got::Late => return Err(Unfilled::Late),
                Got::Unwanted => return Err(Unfilled::Unwanted),
            }
        }
        Ok(())
    }

    /// Stops the output. The join is left to the drop, because a source may block.
    fn close(&mut self) {
        self.front.stop();
        self.due.clear();
        self.heads.clear();
    }
}

impl<I, K, F, C> Iterator for MergeSortedIter<I, K, F, C>
where
    I: Iterator + Send,
    I::Item: Send,
    F: FnMut(&I::Item) -> K,
    K: Ord,
    C: Check<I::Item, K>,
{
    type Item = C::Output;

    fn next(&mut self) -> Option<C::Output> {
        self.next_until(None).ok()?
    }

    fn size_hint(&self) -> Hint {
        let held = self.heads.len();
        let items = [self.front.size_hint(), (held, Some(held))];
        outputs::<I, K, C>(size_hint::sum(items.into_iter()))
    }
}

impl<I, K, F, C> Running for MergeSortedIter<I, K, F, C>
where
    I: Iterator + Send,
    I::Item: Send,
    F: FnMut(&I::Item) -> K,
    K: Ord,
    C: Check<I::Item, K>,
{
    fn next_until(&mut self, until: Option<Instant>) -> Result<Option<C::Output>, NotReady> {
        match self.refill(until) {
            Ok(()) => {}
            Err(Unfilled::Unwanted) => return unwanted(until),
            Err(Unfilled::Late) => return Err(NotReady::new(None)),
            Err(Unfilled::Unsorted(wrong)) => {
                self.close();
                return Ok(C::unsorted(wrong));
            }
        }
        let Some(lane) = self.heads.peek().map(|head| head.lane) else {
            self.front.end();
            return Ok(None);
        };
        // First: if the order or the drop of a key panics, only this item is lost.
        self.due.push(lane);
        let Some(Head { key, item, .. }) = self.heads.pop() else {
            return Ok(None);
        };
        if C::LOOKS {
            self.before[lane] = Some(key);
        } else {
            drop(key); // before the output, which would leak if this panics
        }
        Ok(Some(C::item(item)))
    }

    fn ending(&self) -> &dyn Ending {
        self.front.ending()
    }
}

/// How many outputs this many items give: an unsorted source ends them early.
fn outputs<I: Iterator, K, C: Check<I::Item, K>>((low, high): Hint) -> Hint {
    (if C::LOOKS { low.min(1) } else { low }, high)
}

impl<I: Iterator, F, C> MergeSortedPlan<I, F, C> {
    /// How many items the sources have.
    fn items(&self) -> Hint {
        size_hint::sum(self.sources.iter().map(Iterator::size_hint))
    }
}

impl<I, K, F, C> Plan for MergeSortedPlan<I, F, C>
where
    I: Iterator + Send,
    I::Item: Send,
    F: FnMut(&I::Item) -> K,
    K: Ord,
    C: Check<I::Item, K>,
{
    type Output = C::Output;
    type Running = MergeSortedIter<I, K, F, C>;

    const NAME: &'static str = "merge_sorted_by_key";

    fn size_hint(&self) -> Hint {
        outputs::<I, K, C>(self.items())
    }

    fn start(self, common: Common, start_permit: StartPermit) -> Option<Box<Self::Running>> {
        let (hint, lanes) = (self.items(), self.sources.len());
        let front = Front::start_all(
            start_permit,
            common,
            Self::NAME,
            self.sources,
            self.buffer,
            hint,
        )?;
        Some(Box::new(MergeSortedIter {
            front,
            due: (0..lanes).rev().collect(),
            heads: BinaryHeap::with_capacity(lanes),
            before: (0..lanes).map(|_| None).collect(),
            key: self.key,
            check: PhantomData,
        }))
    }
}
