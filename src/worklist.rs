//! A source that its consumers feed: work that finds more work.
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
//!
//! let visited = worklist([1_u32]).par_map_ordered(4, |number| {
//!     if *number < 8 {
//!         number.push(*number * 2).expect("the queue has no bound");
//!         number.push(*number * 2 + 1).expect("the queue has no bound");
//!     }
//!     *number
//! });
//! assert!(visited.eq(1..16));
//! ```
// # Who acts
//
// Under one lock lie the queue and the number of tickets that are alive. [`Worklist`] takes an item
// out and makes its ticket in one step, a push adds one, and the drop of a ticket takes it off the
// number. So the source is over exactly when the queue is empty and no ticket is alive: nobody is
// left who could push. It cannot be over too early, as who pushes holds a ticket while he does so;
// and that a ticket is dropped is left to no one's good will: it happens on success, on an error and
// on a panic.
//
// The consumer sleeps as told in [`event`](crate::runtime::event); it is notified by a push, and by the
// last ticket's drop. A push never waits: who waits for room in a queue that only he would empty
// waits for ever.
//
// The wait ends when the stage that pulls the source ends; the source goes on when it is asked again.

pub use crate::error::{BudgetExhausted, PushError};

use crate::runtime::event::{Event, Listener, WaitResult};
use crate::sync::{Arc, Mutex};
use std::collections::VecDeque;
use std::fmt;
use std::ops::{Deref, DerefMut};

/// Makes a source that its consumers feed: for work that finds more work, such as a crawl.
///
/// It yields [`WorkItem`]s: items to which more can be [pushed](WorkItem::push), from the closure of a stage
/// or from the loop that consumes it. It ends when the queue is empty and no lead is left; what holds
/// a lead may still push. While that is so and the queue is empty, `next()` blocks.
///
/// Items are given out in the order in which they were pushed, so a tree is crawled level by level.
/// The seeds are collected by the call; nothing else happens before the first `next()`. The queue
/// holds what was pushed and not given out yet, without a bound unless
/// [`capacity`](Worklist::buffer) or [`budget`](Worklist::budget) sets one.
///
/// A stage behind it delivers finished results while the source waits, and its end ends the wait.
///
/// **A lead that is kept stops the end from coming.** Who collects the leads themselves, groups them
/// in windows, or keeps one in an outer variable while asking for the next waits for ever; so does a
/// [`local`](crate::Fanfold::local) stage whose results carry tickets. Let the closure return what it
/// made of the lead, and the loop drop each ticket before it goes on.
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
/// // the folders of this crate
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
///     let (page, ticket) = page.into_parts();
///     (links(page), ticket)
/// });
/// for (links, ticket) in pages {
///     for link in links {
///         if seen.insert(link) {
///             ticket.push(link).expect("the queue has no bound");
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
/// When it is dropped, what is still in the queue is dropped, and so is what is pushed later: nobody
/// would get it.
#[must_use = "it is lazy: nothing is given out before the first `next()`"]
pub struct Worklist<T> {
    shared: Arc<WorklistShared<T>>,
    listener: Listener,
}

struct WorklistShared<T>(Mutex<WorklistState<T>>);

struct WorklistState<T> {
    queue: VecDeque<T>,
    /// How many tickets there are.
    alive: usize,
    capacity: usize,
    budget: usize,
    /// How many items there were in all, seeds included.
    accepted: usize,
    /// How many of them the budget has not let in.
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
    /// A push beyond it gives its item back, as [`PushError::Full`]; it does not block, as it may well
    /// be that only the one who pushes would make room. Seeds are let in in any case, and count.
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
            "the capacity of a worklist must be at least 1: leave it out for a queue without a bound"
        );
        self.shared.0.lock().capacity = n;
        self
    }

    /// Bounds how many items are given out in all, seeds included: against work that never stops
    /// finding more.
    ///
    /// A push beyond it gives its item back, as [`PushError::Budget`]. The source ends when what is in
    /// the queue by then is done; and if anything was refused it yields, last of all, an
    /// [`BudgetExhausted`]. So its items are `Result`s: a budget that was too small cannot be overlooked.
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
    ///     let _ = number.push(*number + 1); // whether it is let in or not
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

// Not `FusedIterator`: the `None` of a wait that was interrupted is not the last word.
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
                        ticket: Pusher { shared },
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

/// A [`Worklist`] that says so when it was stopped; made by [`Worklist::budget`].
#[derive(Debug)]
#[must_use = "it is lazy: nothing is given out before the first `next()`"]
pub struct BudgetedWorklist<T> {
    worklist: Worklist<T>,
    /// That it was stopped has been said.
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
            // what may still be pushed, and the last word
            let more = state.budget.saturating_sub(state.accepted);
            queued.saturating_add(more).saturating_add(1)
        };
        (queued, Some(high))
    }
}

/// An item of a [`Worklist`], to which more can be pushed. It derefs to the item.
///
/// The source does not end while it is there. Methods of the item that are called `push` or
/// `into_parts` are reached by `(*lead).push(..)`.
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
    ticket: Pusher<T>,
}

impl<T> WorkItem<T> {
    /// Adds an item to the source.
    ///
    /// It never blocks. When the source has been dropped, because its stage has ended early, the item
    /// is dropped.
    ///
    /// # Errors
    ///
    /// [`PushError`], with the item, if the queue is full or the budget is spent. Without
    /// [`capacity`](Worklist::buffer) and [`budget`](Worklist::budget) there is no error.
    pub fn push(&self, more: T) -> Result<(), PushError<T>> {
        self.ticket.push(more)
    }

    /// Takes the item out. The ticket can be sent on, with the result of a closure for example; the
    /// source does not end while it is there.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut source = fanfold::worklist([String::from("a")]);
    /// let (item, ticket) = source.next().unwrap().into_parts();
    /// ticket.push(item + "b").unwrap();
    /// drop(ticket);
    /// assert_eq!(*source.next().unwrap(), "ab");
    /// assert!(source.next().is_none());
    /// ```
    pub fn into_parts(self) -> (T, Pusher<T>) {
        (self.item, self.ticket)
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

/// The right to push to a [`Worklist`], and the reason why it has not ended yet; made by
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
