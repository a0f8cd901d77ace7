//! A source that its consumers feed: work that finds more work.
//!
//! # Who acts
//!
//! Under one lock lie the queue and the number of tickets that are alive. [`Feedback`] takes an item
//! out and makes its ticket in one step, a push adds one, and the drop of a ticket takes it off the
//! number. So the source is over exactly when the queue is empty and no ticket is alive: nobody is
//! left who could push. It cannot be over too early, as who pushes holds a ticket while he does so;
//! and that a ticket is dropped is left to no one's good will: it happens on success, on an error and
//! on a panic.
//!
//! The consumer sleeps as told in [`event`](crate::runtime::event); it is notified by a push, and by the
//! last ticket's drop. A push never waits: who waits for room in a queue that only he would empty
//! waits for ever.
//!
//! The wait ends when the stage that pulls the source ends; the source goes on when it is asked again.

use crate::error::{Exhausted, Refused};
use crate::runtime::event::{Event, Listener, WaitResult};
use crate::sync::{Arc, Mutex};
use std::collections::VecDeque;
use std::fmt;
use std::ops::{Deref, DerefMut};

/// Makes a source that its consumers feed: for work that finds more work, such as a crawl.
///
/// It yields [`Lead`]s: items to which more can be [pushed](Lead::push), from the closure of a stage
/// or from the loop that consumes it. It ends when the queue is empty and no lead is left; what holds
/// a lead may still push. While that is so and the queue is empty, `next()` blocks.
///
/// Items are given out in the order in which they were pushed, so a tree is crawled level by level.
/// The seeds are collected by the call; nothing else happens before the first `next()`. The queue
/// holds what was pushed and not given out yet, without a bound unless
/// [`capacity`](Feedback::capacity) or [`budget`](Feedback::budget) sets one.
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
/// use fanfold::{Fanfold, feedback};
///
/// // the folders of this crate
/// let root = std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src");
/// let files = feedback([root]).par_map_ordered(4, |dir| {
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
/// use fanfold::{Fanfold, feedback};
/// use std::collections::BTreeSet;
///
/// fn links(page: u32) -> [u32; 2] {
///     [page * 3 % 20, page * 7 % 20]
/// }
///
/// let mut seen = BTreeSet::from([1]);
/// let pages = feedback([1]).par_map_unordered(4, |page| {
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
pub fn feedback<T>(seeds: impl IntoIterator<Item = T>) -> Feedback<T> {
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
    Feedback {
        shared: Arc::new(Worklist(Mutex::new(state))),
        listener,
    }
}

/// A source that its consumers feed; made by [`feedback()`].
///
/// When it is dropped, what is still in the queue is dropped, and so is what is pushed later: nobody
/// would get it.
#[must_use = "it is lazy: nothing is given out before the first `next()`"]
pub struct Feedback<T> {
    shared: Arc<Worklist<T>>,
    listener: Listener,
}

struct Worklist<T>(Mutex<WorklistState<T>>);

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

impl<T> Feedback<T> {
    /// Bounds how many items may be in the queue: pushed and not given out yet.
    ///
    /// A push beyond it gives its item back, as [`Refused::Full`]; it does not block, as it may well
    /// be that only the one who pushes would make room. Seeds are let in in any case, and count.
    ///
    /// # Panics
    ///
    /// If `n` is 0.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::{Refused, feedback};
    ///
    /// let mut source = feedback([1]).capacity(2);
    /// let lead = source.next().unwrap();
    /// assert!(lead.push(2).is_ok() && lead.push(3).is_ok());
    /// assert_eq!(lead.push(4), Err(Refused::Full(4)));
    /// ```
    #[track_caller]
    pub fn capacity(self, n: usize) -> Self {
        assert!(
            n > 0,
            "the capacity of a feedback must be at least 1: leave it out for a queue without a bound"
        );
        self.shared.0.lock().capacity = n;
        self
    }

    /// Bounds how many items are given out in all, seeds included: against work that never stops
    /// finding more.
    ///
    /// A push beyond it gives its item back, as [`Refused::Spent`]. The source ends when what is in
    /// the queue by then is done; and if anything was refused it yields, last of all, an
    /// [`Exhausted`]. So its items are `Result`s: a budget that was too small cannot be overlooked.
    ///
    /// # Panics
    ///
    /// If `n` is 0.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::{Fanfold, feedback};
    ///
    /// let endless = feedback([0]).budget(100).try_par_map_ordered(4, |number| {
    ///     let number = number?;
    ///     let _ = number.push(*number + 1); // whether it is let in or not
    ///     Ok::<_, fanfold::Exhausted>(*number)
    /// });
    /// let (numbers, errors): (Vec<_>, Vec<_>) = endless.partition(|number| number.is_ok());
    /// assert_eq!((numbers.len(), errors.len()), (100, 1));
    /// ```
    #[track_caller]
    pub fn budget(self, n: usize) -> Budgeted<T> {
        assert!(
            n > 0,
            "the budget of a feedback must be at least 1: leave it out for work without a bound"
        );
        let mut state = self.shared.0.lock();
        state.budget = n;
        let seeds = state.queue.len().min(n);
        let too_many = state.queue.split_off(seeds);
        state.accepted -= too_many.len();
        state.refused += too_many.len();
        drop(state);
        drop(too_many);
        Budgeted {
            feedback: self,
            told: false,
        }
    }
}

// Not `FusedIterator`: the `None` of a wait that was interrupted is not the last word.
impl<T> Iterator for Feedback<T> {
    type Item = Lead<T>;

    fn next(&mut self) -> Option<Lead<T>> {
        loop {
            let next = self.shared.0.lock().next();
            match next {
                NextItem::Item(item) => {
                    let shared = Arc::clone(&self.shared);
                    return Some(Lead {
                        item,
                        ticket: Ticket { shared },
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

impl<T> Drop for Feedback<T> {
    fn drop(&mut self) {
        let mut state = self.shared.0.lock();
        state.closed = true;
        let queue = std::mem::take(&mut state.queue);
        drop(state);
        drop(queue);
    }
}

impl<T> fmt::Debug for Feedback<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.0.lock();
        f.debug_struct("Feedback")
            .field("queued", &state.queue.len())
            .field("alive", &state.alive)
            .finish_non_exhaustive()
    }
}

/// A [`Feedback`] that says so when it was stopped; made by [`Feedback::budget`].
#[derive(Debug)]
#[must_use = "it is lazy: nothing is given out before the first `next()`"]
pub struct Budgeted<T> {
    feedback: Feedback<T>,
    /// That it was stopped has been said.
    told: bool,
}

impl<T> Budgeted<T> {
    /// Bounds how many items may be in the queue; see [`Feedback::capacity`].
    ///
    /// # Panics
    ///
    /// If `n` is 0.
    #[track_caller]
    pub fn capacity(self, n: usize) -> Self {
        Budgeted {
            feedback: self.feedback.capacity(n),
            ..self
        }
    }
}

impl<T> Iterator for Budgeted<T> {
    type Item = Result<Lead<T>, Exhausted>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(lead) = self.feedback.next() {
            return Some(Ok(lead));
        }
        let state = self.feedback.shared.0.lock();
        // Not if the wait was interrupted: then there may be more.
        if self.told || state.refused == 0 || !state.is_over() {
            return None;
        }
        self.told = true;
        Some(Err(Exhausted::new(state.budget, state.refused)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let state = self.feedback.shared.0.lock();
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

/// An item of a [`Feedback`], to which more can be pushed. It derefs to the item.
///
/// The source does not end while it is there. Methods of the item that are called `push` or
/// `into_parts` are reached by `(*lead).push(..)`.
///
/// # Examples
///
/// ```
/// let mut source = fanfold::feedback(["/a/b"]);
/// while let Some(path) = source.next() {
///     if let Some((parent, _)) = path.rsplit_once('/') {
///         path.push(parent).unwrap();
///     }
///     println!("{}", *path);
/// }
/// ```
#[derive(Debug)]
pub struct Lead<T> {
    item: T,
    ticket: Ticket<T>,
}

impl<T> Lead<T> {
    /// Adds an item to the source.
    ///
    /// It never blocks. When the source has been dropped, because its stage has ended early, the item
    /// is dropped.
    ///
    /// # Errors
    ///
    /// [`Refused`], with the item, if the queue is full or the budget is spent. Without
    /// [`capacity`](Feedback::capacity) and [`budget`](Feedback::budget) there is no error.
    pub fn push(&self, more: T) -> Result<(), Refused<T>> {
        self.ticket.push(more)
    }

    /// Takes the item out. The ticket can be sent on, with the result of a closure for example; the
    /// source does not end while it is there.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut source = fanfold::feedback([String::from("a")]);
    /// let (item, ticket) = source.next().unwrap().into_parts();
    /// ticket.push(item + "b").unwrap();
    /// drop(ticket);
    /// assert_eq!(*source.next().unwrap(), "ab");
    /// assert!(source.next().is_none());
    /// ```
    pub fn into_parts(self) -> (T, Ticket<T>) {
        (self.item, self.ticket)
    }
}

impl<T> Deref for Lead<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.item
    }
}

impl<T> DerefMut for Lead<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.item
    }
}

/// The right to push to a [`Feedback`], and the reason why it has not ended yet; made by
/// [`Lead::into_parts`].
#[must_use = "when it is dropped, nothing can be pushed any more"]
pub struct Ticket<T> {
    shared: Arc<Worklist<T>>,
}

impl<T> Ticket<T> {
    /// Adds an item to the source, as [`Lead::push`] does.
    ///
    /// # Errors
    ///
    /// [`Refused`], with the item, if the queue is full or the budget is spent.
    pub fn push(&self, more: T) -> Result<(), Refused<T>> {
        let mut state = self.shared.0.lock();
        if state.closed {
            drop(state);
            drop(more);
            return Ok(());
        }
        if state.accepted >= state.budget {
            state.refused += 1;
            return Err(Refused::Spent(more));
        }
        if state.queue.len() >= state.capacity {
            return Err(Refused::Full(more));
        }
        state.queue.push_back(more);
        state.accepted += 1;
        let event = Arc::clone(&state.event);
        drop(state);
        event.notify();
        Ok(())
    }
}

impl<T> Drop for Ticket<T> {
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

impl<T> fmt::Debug for Ticket<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").finish_non_exhaustive()
    }
}
