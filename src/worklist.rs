//! A source that its consumers feed: for work that finds more work.
//!
//! ```text
//! worklist([a])   a           b c                 |     the queue is empty and no work item is left: the end
//! worker 1          [a: push b, c]  [b-----]
//! worker 2                            [c----]
//! ```
//!
//! # Examples
//!
//! ```
//! use fanfold::{Fanfold, worklist};
//! use std::collections::BTreeSet;
//!
//! let visited = worklist([1_u32]).par_map_ordered(4, |number| {
//!     if *number < 8 {
//!         number.push(*number * 2).expect("the queue has no bound");
//!         number.push(*number * 2 + 1).expect("the queue has no bound");
//!     }
//!     *number
//! });
//! // In the order of the pushes; and 2 and 3 push at the same time.
//! let visited: BTreeSet<_> = visited.collect();
//! assert!(visited.into_iter().eq(1..16));
//! ```
// # Actors
//
// One lock guards the queue and the number of live pushers (each work item has one).
// [`Worklist`] takes an item out and makes its pusher in one step, a push adds an item, and the
// drop of a pusher decrements the number. So the source is over exactly when the queue is empty and
// no pusher is alive, since nothing else can push. It cannot end too early, because a push needs a
// live pusher. It cannot fail to end, because a pusher is dropped on success, on an error and on a panic.
//
// The consumer sleeps as described in [`event`](crate::runtime::event). A push notifies it, and so
// does the drop of the last pusher. A push never waits: the pushing thread may be the only one that
// empties the queue, and would wait forever.
//
// The wait ends when the stage that pulls the source ends; the source continues when it is asked again.

pub use crate::error::{BudgetExhausted, PushError};

use crate::runtime::event::{Event, Listener, WaitResult};
use crate::sync::{Arc, Mutex};
use std::collections::VecDeque;
use std::fmt;
use std::ops::{Deref, DerefMut};

/// Makes a source that its consumers feed: for work that finds more work, such as a crawl.
///
/// It yields [`WorkItem`]s: items to which more can be [pushed](WorkItem::push), from the closure
/// of a stage or from the loop that consumes it. It ends when the queue is empty and no work item
/// or [`Pusher`] is left, because these may still push. While the queue is empty and one is left, `next()` blocks.
///
/// Items are given out in the order in which they were pushed, so a tree is crawled level by level. Where several closures
/// push at the same time, that order is not the same in each run.
/// The call collects the seeds; nothing else happens before the first `next()`. The queue holds the
/// items that were pushed and not given out yet, without a bound unless
/// [`buffer`](Worklist::buffer) or [`budget`](Worklist::budget) sets one.
///
/// The next stage delivers finished results while the source waits, and its end ends the wait.
///
/// **A work item that is kept prevents the end.** A program that collects the work items
/// themselves, groups them in windows, or keeps one in an outer variable while asking for the next
/// waits forever; so does a [`local`](crate::Fanfold::local) stage whose results carry [`Pusher`]s.
/// Let the closure return what it made of the work item, and let the loop drop each pusher before
/// it goes on.
///
/// # Complexity
///
/// A short lock to push, to give out and to drop. No thread.
///
/// # Examples
///
/// Pushing in the closure:
///
/// ```
/// use fanfold::{Fanfold, worklist};
///
/// // the directories of this crate
/// let root = std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src");
/// let files = worklist([root]).par_map_ordered(4, |dir| {
///     let mut files = 0;
///     for entry in std::fs::read_dir(&*dir)? {
///         let path = entry?.path();
///         if path.is_dir() {
///             dir.push(path).expect("the queue has no bound");
///         } else {
///             files += 1;
///         }
///     }
///     Ok(files)
/// });
/// let files: usize = files.sum::<std::io::Result<_>>()?;
/// assert!(files > 10);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// Pushing in the loop, which sees everything and so can tell what is new:
///
/// ```
/// use fanfold::{Fanfold, worklist};
/// use std::collections::BTreeSet;
///
/// fn links(page: u32) -> [u32; 2] {
///     [page * 3 % 20, page * 7 % 20]
/// }
///
/// let mut seen = BTreeSet::from([1]);
/// let pages = worklist([1]).par_map_unordered(4, |page| {
///     let (page, pusher) = page.into_parts();
///     (links(page), pusher)
/// });
/// for (links, pusher) in pages {
///     for link in links {
///         if seen.insert(link) {
///             pusher.push(link).expect("the queue has no bound");
///         }
///     }
/// }
/// assert_eq!(seen, BTreeSet::from([1, 3, 7, 9]));
/// ```
#[doc(alias("feedback", "crawl", "frontier", "work_queue"))]
pub fn worklist<T>(seeds: impl IntoIterator<Item = T>) -> Worklist<T> {
    let queue: VecDeque<T> = seeds.into_iter().collect();
    let listener = Listener::new();
    let state = WorklistState {
        accepted: queue.len(),
        queue,
        alive: 0,
        capacity: usize::MAX,
        budget: usize::MAX,
        refused: 0,
        closed: false,
        event: Arc::clone(listener.event()),
    };
    Worklist {
        shared: Arc::new(WorklistShared(Mutex::new(state))),
        listener,
    }
}

/// A source that its consumers feed; made by [`worklist()`].
///
/// Its drop drops the items in the queue. Items that are pushed later are dropped too, as they
/// cannot be given out.
#[must_use = "it is lazy: nothing is given out before the first `next()`"]
pub struct Worklist<T> {
    shared: Arc<WorklistShared<T>>,
    listener: Listener,
}

struct WorklistShared<T>(Mutex<WorklistState<T>>);

struct WorklistState<T> {
    queue: VecDeque<T>,
    /// How many pushers there are.
    alive: usize,
    capacity: usize,
    budget: usize,
    /// How many items there were in total, seeds included.
    accepted: usize,
    /// How many items the budget has refused.
    refused: usize,
    /// The source was dropped.
    closed: bool,
    event: Arc<Event>,
}

enum NextItem<T> {
    Item(T),
    Over,
    Later,
}

impl<T> WorklistState<T> {
    fn is_over(&self) -> bool {
        self.queue.is_empty() && self.alive == 0
    }

    fn next(&mut self) -> NextItem<T> {
        if let Some(item) = self.queue.pop_front() {
            self.alive += 1;
            return NextItem::Item(item);
        }
        if self.alive == 0 {
            NextItem::Over
        } else {
            NextItem::Later
        }
    }
}

impl<T> Worklist<T> {
    /// Bounds how many items may be in the queue: pushed and not given out yet.
    ///
    /// A push beyond the bound returns its item, as [`PushError::Full`]. It does not block, because
    /// the pushing thread may be the only one that could make room. Seeds are always accepted, and count.
    ///
    /// # Panics
    ///
    /// If `n` is 0.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::{worklist, worklist::PushError};
    ///
    /// let mut source = worklist([1]).buffer(2);
    /// let lead = source.next().unwrap();
    /// assert!(lead.push(2).is_ok() && lead.push(3).is_ok());
    /// assert_eq!(lead.push(4), Err(PushError::Full(4)));
    /// ```
    #[track_caller]
    pub fn buffer(self, n: usize) -> Self {
        assert!(
            n > 0,
            "the buffer of a worklist must be at least 1: leave it out for a queue without a bound"
        );
        self.shared.0.lock().capacity = n;
        self
    }

    /// Bounds how many items are given out in total, seeds included: against work that never stops
    /// finding more.
    ///
    /// A push beyond the bound returns its item, as [`PushError::Budget`]. The source ends when the
    /// items that are then in the queue are done. If anything was refused, it yields a
    /// [`BudgetExhausted`] last. So its items are `Result`s: a budget that was too small cannot be
    /// overlooked.
    ///
    /// # Panics
    ///
    /// If `n` is 0.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::{Fanfold, worklist};
    ///
    /// let endless = worklist([0]).budget(100).try_par_map_ordered(4, |number| {
    ///     let number = number?;
    ///     let _ = number.push(*number + 1); // whether it is accepted or not
    ///     Ok::<_, fanfold::worklist::BudgetExhausted>(*number)
    /// });
    /// let (numbers, errors): (Vec<_>, Vec<_>) = endless.partition(|number| number.is_ok());
    /// assert_eq!((numbers.len(), errors.len()), (100, 1));
    /// ```
    #[track_caller]
    pub fn budget(self, n: usize) -> BudgetedWorklist<T> {
        assert!(
            n > 0,
            "the budget of a worklist must be at least 1: leave it out for work without a bound"
        );
        let mut state = self.shared.0.lock();
        state.budget = n;
        let seeds = state.queue.len().min(n);
        let too_many = state.queue.split_off(seeds);
        state.accepted -= too_many.len();
        state.refused += too_many.len();
        drop(state);
        drop(too_many);
        BudgetedWorklist {
            worklist: self,
            told: false,
        }
    }
}

// Not `FusedIterator`: after an interrupted wait, `next()` returns `None` before the end.
impl<T> Iterator for Worklist<T> {
    type Item = WorkItem<T>;

    fn next(&mut self) -> Option<WorkItem<T>> {
        loop {
            let next = self.shared.0.lock().next();
            match next {
                NextItem::Item(item) => {
                    let shared = Arc::clone(&self.shared);
                    return Some(WorkItem {
                        item,
                        pusher: Pusher { shared },
                    });
                }
                NextItem::Over => return None,
                NextItem::Later => {}
            }
            let shared = &self.shared.0;
            let ready = || {
                let state = shared.lock();
                !state.queue.is_empty() || state.alive == 0
            };
            if self.listener.wait(ready, None) == WaitResult::Unwanted {
                return None;
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let state = self.shared.0.lock();
        (state.queue.len(), state.is_over().then_some(0))
    }
}

impl<T> Drop for Worklist<T> {
    fn drop(&mut self) {
        let mut state = self.shared.0.lock();
        state.closed = true;
        let queue = std::mem::take(&mut state.queue);
        drop(state);
        drop(queue);
    }
}

impl<T> fmt::Debug for Worklist<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.0.lock();
        f.debug_struct("Worklist")
            .field("queued", &state.queue.len())
            .field("alive", &state.alive)
            .finish_non_exhaustive()
    }
}

/// A [`Worklist`] that reports when it was stopped; made by [`Worklist::budget`].
#[derive(Debug)]
#[must_use = "it is lazy: nothing is given out before the first `next()`"]
pub struct BudgetedWorklist<T> {
    worklist: Worklist<T>,
    /// Whether the stop has been reported.
    told: bool,
}

impl<T> BudgetedWorklist<T> {
    /// Bounds how many items may be in the queue; see [`Worklist::buffer`].
    ///
    /// # Panics
    ///
    /// If `n` is 0.
    #[track_caller]
    pub fn buffer(self, n: usize) -> Self {
        BudgetedWorklist {
            worklist: self.worklist.buffer(n),
            ..self
        }
    }
}

impl<T> Iterator for BudgetedWorklist<T> {
    type Item = Result<WorkItem<T>, BudgetExhausted>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(lead) = self.worklist.next() {
            return Some(Ok(lead));
        }
        let state = self.worklist.shared.0.lock();
        // Not if the wait was interrupted: then there may be more.
        if self.told || state.refused == 0 || !state.is_over() {
            return None;
        }
        self.told = true;
        Some(Err(BudgetExhausted::new(state.budget, state.refused)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let state = self.worklist.shared.0.lock();
        let queued = state.queue.len();
        let high = if state.is_over() {
            usize::from(!self.told && state.refused > 0)
        } else {
            // what may still be pushed, and the final error
            let more = state.budget.saturating_sub(state.accepted);
            queued.saturating_add(more).saturating_add(1)
        };
        (queued, Some(high))
    }
}

/// An item of a [`Worklist`], to which more can be pushed. It derefs to the item.
///
/// The source does not end while the work item exists. To call a method of the item that is named
/// `push` or `into_parts`, write `(*lead).push(..)`.
///
/// # Examples
///
/// ```
/// let mut source = fanfold::worklist(["/a/b"]);
/// while let Some(path) = source.next() {
///     if let Some((parent, _)) = path.rsplit_once('/') {
///         path.push(parent).unwrap();
///     }
///     println!("{}", *path);
/// }
/// ```
#[derive(Debug)]
pub struct WorkItem<T> {
    item: T,
    pusher: Pusher<T>,
}

impl<T> WorkItem<T> {
    /// Adds an item to the source.
    ///
    /// It never blocks. If the source has been dropped, because its stage has ended early, the item
    /// is dropped.
    ///
    /// # Errors
    ///
    /// [`PushError`], with the item, if the queue is full or the budget is spent. Without
    /// [`buffer`](Worklist::buffer) and [`budget`](Worklist::budget) there is no error.
    pub fn push(&self, more: T) -> Result<(), PushError<T>> {
        self.pusher.push(more)
    }

    /// Takes the item out. The [`Pusher`] can be passed on, for example with the result of a
    /// closure; the source does not end while it exists.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut source = fanfold::worklist([String::from("a")]);
    /// let (item, pusher) = source.next().unwrap().into_parts();
    /// pusher.push(item + "b").unwrap();
    /// drop(pusher);
    /// assert_eq!(*source.next().unwrap(), "ab");
    /// assert!(source.next().is_none());
    /// ```
    pub fn into_parts(self) -> (T, Pusher<T>) {
        (self.item, self.pusher)
    }
}

impl<T> Deref for WorkItem<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.item
    }
}

impl<T> DerefMut for WorkItem<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.item
    }
}

/// The right to push to a [`Worklist`], which does not end while this exists; made by
/// [`WorkItem::into_parts`].
#[must_use = "when it is dropped, nothing can be pushed any more"]
pub struct Pusher<T> {
    shared: Arc<WorklistShared<T>>,
}

impl<T> Pusher<T> {
    /// Adds an item to the source, as [`WorkItem::push`] does.
    ///
    /// # Errors
    ///
    /// [`PushError`], with the item, if the queue is full or the budget is spent.
    pub fn push(&self, more: T) -> Result<(), PushError<T>> {
        let mut state = self.shared.0.lock();
        if state.closed {
            drop(state);
            drop(more);
            return Ok(());
        }
        if state.accepted >= state.budget {
            state.refused += 1;
            return Err(PushError::Budget(more));
        }
        if state.queue.len() >= state.capacity {
            return Err(PushError::Full(more));
        }
        state.queue.push_back(more);
        state.accepted += 1;
        let event = Arc::clone(&state.event);
        drop(state);
        event.notify();
        Ok(())
    }
}

impl<T> Drop for Pusher<T> {
    fn drop(&mut self) {
        let mut state = self.shared.0.lock();
        state.alive -= 1;
        let event = state.is_over().then(|| Arc::clone(&state.event));
        drop(state);
        if let Some(event) = event {
            event.notify();
        }
    }
}

impl<T> fmt::Debug for Pusher<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pusher").finish_non_exhaustive()
    }
}
