//! `par_map_by_key`: the items of one key one at a time and in order, those of different keys at once.

use crate::config::Workers;
use crate::engine::erase::{Seed, Start};
use crate::engine::hub::Common;
use crate::engine::keyed::Front;
use crate::engine::source::Source;
use crate::error::Cancelled;
use crate::fed::{Fed, Feed};
use std::fmt;
use std::hash::Hash;

/// Results of items that are run key by key; made by [`par_map_by_key`](crate::Fanfold::par_map_by_key).
///
/// Options, terminal calls and what its drop waits for: see [`Fed`].
pub type ByKey<S, G, F> = Fed<Keyed<S, G, F>>;

/// What a [`ByKey`] is before it runs.
pub struct Keyed<S, G, F> {
    source: S,
    width: usize,
    key: G,
    f: F,
    in_flight: Option<usize>,
    common: Common,
}

impl<S, G, F> fmt::Debug for Keyed<S, G, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyed")
            .field("width", &self.width)
            .finish_non_exhaustive()
    }
}

impl<S, G, F, K, O> ByKey<S, G, F>
where
    S: Source,
    S::Item: Send,
    G: FnMut(&S::Item) -> K + Send,
    K: Hash + Eq + Send,
    F: Fn(S::Item) -> O + Send + Sync,
    O: Send,
{
    #[track_caller]
    pub(crate) fn by_key(source: S, n: Workers, key: G, f: F) -> Self {
        Fed::new(Keyed {
            source,
            width: n.checked(),
            key,
            f,
            in_flight: None,
            common: Common::default(),
        })
    }

    /// Bounds how many items may be in flight, over all keys: pulled from the source and not yet
    /// yielded.
    ///
    /// Those that wait for their key count, and so do those that run and those that are finished and
    /// not taken. The bound is obeyed to the item. Where one key has most of the items they fill
    /// it, so the larger it is the more other keys are found beside such a one.
    ///
    /// By default it is at least 16 items a worker, and as many as the workers are measured to do
    /// in 4 ms, as in a [`Stage`](crate::Stage::in_flight).
    ///
    /// # Panics
    ///
    /// If `k` is 0, or after the first `next()`.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    ///
    /// let halves = (0..1_000_u32).par_map_by_key(4, |x| x % 10, |x| x / 2).in_flight(64);
    /// assert_eq!(halves.take(3).count(), 3); // at most 67 were pulled
    /// ```
    #[track_caller]
    pub fn in_flight(self, k: usize) -> Self {
        assert!(
            k > 0,
            "in_flight must be at least 1: write in_flight(1) for one item at a time, or leave it \
             out for the default"
        );
        self.set(|plan| plan.in_flight = Some(k))
    }
}

/// What a [`ByKey`] is while it runs.
pub struct KeyedIter<S: Source, G, K, F, O>
where
    S::Item: Send,
{
    /// `None`: the scope was over before it began.
    front: Option<Front<S, G, K, F, O>>,
    left: (usize, Option<usize>),
}

impl<S: Source, G, K, F, O> fmt::Debug for KeyedIter<S, G, K, F, O>
where
    S::Item: Send,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedIter")
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

impl<S, G, F, K, O> Start for Keyed<S, G, F>
where
    S: Source,
    S::Item: Send,
    G: FnMut(&S::Item) -> K + Send,
    K: Hash + Eq + Send,
    F: Fn(S::Item) -> O + Send + Sync,
    O: Send,
{
    type Output = O;
    type Running = KeyedIter<S, G, K, F, O>;

    fn cut(running: &Self::Running) -> Option<Cancelled> {
        running.front.as_ref()?.cut()
    }

    fn tell_cut(running: &Self::Running) {
        if let Some(front) = &running.front {
            front.tell_cut();
        }
    }

    fn start(self: Box<Self>, seed: Seed) -> Box<Self::Running> {
        let left = self.hint();
        let plan = *self;
        let front = Front::start(
            seed,
            plan.common,
            plan.width,
            plan.in_flight,
            plan.source,
            plan.key,
            plan.f,
        );
        Box::new(KeyedIter { front, left })
    }
}

impl<S, G, F, K, O> Feed for Keyed<S, G, F>
where
    S: Source,
    S::Item: Send,
    G: FnMut(&S::Item) -> K + Send,
    K: Hash + Eq + Send,
    F: Fn(S::Item) -> O + Send + Sync,
    O: Send,
{
    const NAME: &'static str = "ByKey";

    fn common(&self) -> &Common {
        &self.common
    }

    fn common_mut(&mut self) -> &mut Common {
        &mut self.common
    }

    fn hint(&self) -> (usize, Option<usize>) {
        let (low, high) = self.source.hint();
        // A hint may lie; ours must not contradict itself, nor make `collect` ask for all memory.
        let low = if isize::try_from(low).is_ok() { low } else { 0 };
        (high.map_or(low, |high| low.min(high)), high)
    }

    fn left(running: &Self::Running) -> (usize, Option<usize>) {
        let Some(front) = &running.front else {
            return (0, Some(0));
        };
        let (low, high) = match front.left() {
            Some(known) => (known, Some(known)),
            None => running.left,
        };
        (if front.is_stopped() { 0 } else { low }, high)
    }
}

impl<S, G, K, F, O> Iterator for KeyedIter<S, G, K, F, O>
where
    S: Source,
    S::Item: Send,
    G: FnMut(&S::Item) -> K + Send,
    K: Hash + Eq + Send,
    F: Fn(S::Item) -> O + Send + Sync,
    O: Send,
{
    type Item = O;

    fn next(&mut self) -> Option<O> {
        let output = self.front.as_mut()?.next()?;
        let (low, high) = self.left;
        self.left = (
            low.saturating_sub(1),
            high.map(|high| high.saturating_sub(1)),
        );
        Some(output)
    }
}
