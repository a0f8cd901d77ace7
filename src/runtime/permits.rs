//! [`Permits`]: how much of something may be in use at once, over any number of threads, stages and groups.
//!
//! # Actors
//!
//! A thread that finds too few permits joins the end of a [line](line::Line) and sleeps. A thread that gives
//! permits back, or that leaves the line, hands permits to the threads at the front as long as there are
//! enough: it takes these threads off the line, and then wakes them. So permits are given out in the order in
//! which they were asked for, nobody can take what a waiting thread needs, and a thread that has been handed
//! its permits need not ask again. Between two critical sections there are never enough permits for the thread
//! at the front.
//!
//! - *Join against hand over.* Both happen under the lock. A thread joins together with its parker, which keeps
//!   a wake-up that comes before the sleep.
//! - *A wait that is given up.* The hooks of the tokens and [`context`] wake the thread, and it checks them
//!   before each sleep. It leaves under the lock. If it is not in the line any more, it has been handed
//!   permits, and gives them back. In both cases it hands on what the threads behind it may take now.
//! - *A newcomer against the line.* It may take permits at once only if the line is empty.

pub(crate) mod closure;
mod line;

use crate::cancel::{CancelHook, CancelToken};
use crate::error::Cancelled;
use crate::runtime::context;
use crate::runtime::holds::Holds;
use crate::runtime::permits::line::{Line, Waiter};
use crate::sync::{Arc, Mutex, Parker, bug};
use std::fmt;

/// A limit on what is in use at once, shared by any number of stages, groups and threads: a weighted semaphore.
///
/// There are `total` permits. [`acquire`](Self::acquire) takes as many as its weight says, and waits until they
/// are there; dropping the [`Permit`] gives them back. A stage with [`limited_by`](crate::Stage::limited_by) does
/// this for each of its closures. Clones share the permits.
///
/// **First come, first served.** Permits are given out in the order in which they were asked for, whatever the
/// weights: a heavy request at the front is not overtaken by light ones behind it, so it does not starve.
///
/// **No wait outlives its purpose.** In a closure of a stage, a task of a group or a source's `next()`, a wait ends
/// as soon as [`CancelToken::current`] is tripped. Nothing polls.
///
/// For a number of things *per second*, there is `Limiter` (feature `throttle`).
///
/// # Dead-locks
///
/// A thread that holds permits and waits for more may wait for itself, or for another one that does the same. The
/// usual way there is a stage in a closure, both limited by the same `Permits`: once the outer closures hold all
/// permits, no inner one can start, and no outer one can end. Three ways out:
///
/// - limit only the innermost stage, whose closures wait for nothing;
/// - use `Permits` of their own for each level;
/// - take all that is needed at once, with one `acquire` of the sum.
///
/// Stages in a chain (one is the source of the next) are not nested, and may share permits.
///
/// **Debug builds panic instead of waiting** where closures of `limited_by` stages are the cause: when each permit in
/// use is held by such a closure, and each of these waits for more, itself or in what it has started (a stage, a group,
/// a hedge; on whatever thread); or when one wait needs more than the closures around it leave. Such a wait can only
/// end if a closure gives up what it has started, and that is reported as well.
///
/// What is not seen: dead-locks in which permits from [`acquire`](Self::acquire) take part, as these may be sent to
/// other threads, so that nobody knows who holds them; those across threads that this crate has not started; and those
/// in which several `Permits`, or other locks, wait for one another.
///
/// # Complexity
///
/// A short lock to take and to give back. A thread that has to wait is woken once: this takes some microseconds, so
/// permits are for work that takes longer.
///
/// # Examples
///
/// At most three downloads at once, whoever starts them:
///
/// ```
/// use fanfold::{Cancelled, Fanfold, Permits, group};
///
/// let downloads = Permits::new(3);
///
/// // a stage: each closure holds one permit
/// let pages = (0..20).par_map_ordered(8, |id| id * 2).limited_by(&downloads);
/// assert_eq!(pages.count(), 20);
///
/// // a task of a group, and any other thread
/// let result: Result<(), Cancelled> = group(8, |g| {
///     for _ in 0..20 {
///         g.spawn(|| {
///             let _permit = downloads.acquire(1)?;
///             Ok(()) // download something
///         });
///     }
/// });
/// assert_eq!(result, Ok(()));
/// assert_eq!(downloads.available(), 3);
/// ```
///
/// At most 64 MB of images in memory, in whatever stages they are. The permit stays with the image:
///
/// ```
/// use fanfold::{Cancelled, Fanfold, Permit, Permits};
///
/// struct Image {
///     pixels: Vec<u8>,
///     _memory: Permit,
/// }
///
/// let memory = Permits::new(64 << 20);
/// let sizes = [10_000, 70_000, 100].into_iter();
/// let images = sizes.map(|size| {
///     let _memory = memory.acquire(size)?;
///     Ok(Image { pixels: vec![0; size], _memory })
/// });
/// let sums = images.try_par_map_ordered(4, |image: Result<Image, Cancelled>| {
///     Ok::<usize, Cancelled>(image?.pixels.len()) // the image is dropped, and its memory is free
/// });
/// assert_eq!(sums.collect::<Result<Vec<_>, _>>().unwrap(), [10_000, 70_000, 100]);
/// ```
#[doc(alias("semaphore", "Semaphore", "bulkhead", "limit"))]
#[derive(Clone)]
pub struct Permits(Arc<PermitsShared>);

struct PermitsShared {
    total: usize,
    line: Mutex<Line>,
}

/// A place in the line; its drop leaves it.
struct InLine<'a> {
    shared: &'a PermitsShared,
    turn: u64,
    weight: usize,
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        let woken = self.shared.line.lock().leave(self.turn, self.weight);
        line::wake(woken);
    }
}

impl Permits {
    /// Makes `total` permits.
    ///
    /// # Panics
    ///
    /// If `total` is 0.
    ///
    /// # Examples
    ///
    /// ```
    /// let permits = fanfold::Permits::new(4);
    /// assert_eq!((permits.available(), permits.total()), (4, 4));
    /// ```
    #[track_caller]
    pub fn new(total: usize) -> Self {
        assert!(
            total > 0,
            "there must be at least 1 permit: write Permits::new(1) for one at a time"
        );
        let line = Mutex::new(Line::new(total));
        Permits(Arc::new(PermitsShared { total, line }))
    }

    /// Takes `weight` permits; blocks until they are there and all earlier requests have theirs.
    ///
    /// **More than [`total`](Self::total)** counts as `total`: such a request waits until nothing else is in use, and
    /// goes alone. Weights are mostly sizes, of which nobody knows the largest before; a panic would end a program for
    /// one large item, and a wait would never end. **A weight of 0** needs nothing, so it never waits.
    ///
    /// Inside a closure of a stage, a task or a source's `next()`, the wait ends with that work
    /// ([`CancelToken::current`]). For a token of your own, see [`acquire_with`](Self::acquire_with).
    ///
    /// # Panics
    ///
    /// In debug builds, if the wait could not end: see [dead-locks](Permits#dead-locks).
    ///
    /// # Errors
    ///
    /// [`Cancelled`] if that token is tripped before the permits are there; then none is taken.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::{Cancelled, Permits, parallel_map};
    ///
    /// let connections = Permits::new(2);
    /// let fetch = |id: u32| {
    ///     let _permit = connections.acquire(1)?;
    ///     Ok::<u32, Cancelled>(id * 10)
    /// };
    /// assert_eq!(parallel_map(0..4, 4, fetch), Ok(vec![0, 10, 20, 30]));
    /// ```
    pub fn acquire(&self, weight: usize) -> Result<Permit, Cancelled> {
        self.acquire_under(&[&CancelToken::current()], weight)
    }

    /// As [`acquire`](Self::acquire), but the wait also ends when `token` is tripped.
    ///
    /// # Panics
    ///
    /// As [`acquire`](Self::acquire).
    ///
    /// # Errors
    ///
    /// [`Cancelled`] if one of the two tokens is tripped before the permits are there; then none is taken.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::{CancelToken, Permits};
    /// use std::time::Duration;
    ///
    /// let permits = Permits::new(1);
    /// let _held = permits.acquire(1).unwrap();
    /// let token = CancelToken::new().with_timeout(Duration::from_millis(5));
    /// assert!(permits.acquire_with(&token, 1).unwrap_err().is_deadline());
    /// ```
    #[doc(alias("acquire_on", "acquire_timeout"))]
    pub fn acquire_with(&self, token: &CancelToken, weight: usize) -> Result<Permit, Cancelled> {
        self.acquire_under(&[token, &CancelToken::current()], weight)
    }

    /// Takes `weight` permits if they are there and no thread waits for any; does not block.
    ///
    /// A weight of more than [`total`](Self::total) counts as `total`.
    ///
    /// # Examples
    ///
    /// ```
    /// let permits = fanfold::Permits::new(3);
    /// let two = permits.try_acquire(2).unwrap();
    /// assert!(permits.try_acquire(2).is_none());
    /// drop(two);
    /// assert!(permits.try_acquire(2).is_some());
    /// ```
    pub fn try_acquire(&self, weight: usize) -> Option<Permit> {
        let weight = weight.min(self.0.total);
        let taken = self.0.line.lock().take(weight);
        taken.then(|| self.permit(weight))
    }

    /// How many permits are not in use at this moment.
    ///
    /// The next moment it may be another number: to take some only if they are there, use
    /// [`try_acquire`](Self::try_acquire).
    pub fn available(&self) -> usize {
        self.0.line.lock().free()
    }

    /// How many permits there are.
    pub fn total(&self) -> usize {
        self.0.total
    }

    /// Waits unless one of the tokens is tripped, or nothing is wanted any more from the source in which this
    /// thread is.
    fn acquire_under(&self, tokens: &[&CancelToken], weight: usize) -> Result<Permit, Cancelled> {
        let shared = &*self.0;
        let check = || tokens.iter().try_for_each(|token| token.check());
        check()?;
        let weight = weight.min(shared.total);
        let mut line = shared.line.lock();
        if line.take(weight) {
            drop(line);
            return Ok(self.permit(weight));
        }
        if bug("joins_too_late") {
            drop(line);
            line = shared.line.lock();
        }
        let parker = Parker::new();
        let waiter = Arc::new(Waiter::new(parker.unparker().clone()));
        let turn = line.join(weight, Arc::clone(&waiter), Holds::here());
        drop(line);
        // From here on the drop gives up the place, also on unwind.
        let place = InLine {
            shared,
            turn,
            weight,
        };
        // A token that is already tripped runs its hook at once, and the parker keeps that wake-up.
        let hook = |token: &&CancelToken| {
            let waiter = Arc::clone(&waiter);
            token.on_cancel(move || waiter.wake())
        };
        let deaf = bug("no_token_is_heard");
        let _hooks: Vec<CancelHook> = tokens.iter().filter(|_| !deaf).map(hook).collect();
        context::tell_outer(&waiter);
        loop {
            // Before the look at the line: a token that was tripped before the permits were handed over wins.
            check()?;
            if context::is_unwanted() {
                context::tell_cut();
                return Err(Cancelled::default());
            }
            let line = shared.line.lock();
            if !line.is_waiting(turn) {
                drop(line);
                std::mem::forget(place); // what it would give back is the caller's now
                return Ok(self.permit(weight));
            }
            let stuck = line.why_stuck(turn);
            drop(line);
            if let Some(stuck) = stuck {
                panic!("{stuck}");
            }
            parker.park();
        }
    }

    fn permit(&self, weight: usize) -> Permit {
        Permit {
            permits: self.clone(),
            weight,
        }
    }
}

impl fmt::Debug for Permits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = self.0.line.lock();
        f.debug_struct("Permits")
            .field("total", &self.0.total)
            .field("available", &line.free())
            .field("waiting", &line.waiting())
            .finish()
    }
}

/// What was taken from [`Permits`]; dropping it gives it back.
///
/// It may be stored, and dropped on another thread than the one that has acquired it. One that is leaked
/// ([`std::mem::forget`]) never comes back.
///
/// # Examples
///
/// ```
/// let permits = fanfold::Permits::new(5);
/// let permit = permits.acquire(2).unwrap();
/// assert_eq!((permit.weight(), permits.available()), (2, 3));
/// std::thread::spawn(move || drop(permit)).join().unwrap();
/// assert_eq!(permits.available(), 5);
/// ```
#[must_use = "dropping it gives the permits back at once: bind it to a name (`let _permit = ..`, not `let _ = ..`)"]
pub struct Permit {
    permits: Permits,
    weight: usize,
}

impl Permit {
    /// How many permits it holds: the weight that was asked for, at most the total.
    pub fn weight(&self) -> usize {
        self.weight
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let woken = self.permits.0.line.lock().give_back(self.weight);
        line::wake(woken);
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("weight", &self.weight)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, loom))]
mod models;
#[cfg(all(test, not(loom)))]
mod tests;
