//! `readahead`: the source, and all that is upstream of it, on a thread of its own.

use crate::dropped::Dropped;
use crate::engine::erase::{Seed, Start};
use crate::engine::hub::{Common, Event, Front, Got, LaneOpts, Overflow, Rule};
use crate::error::Cancelled;
use crate::fed::{Fed, Feed};
use std::panic::resume_unwind;

/// A source that is pulled ahead of its consumer; made by
/// [`readahead`](crate::Fanfold::readahead).
///
/// Options, terminal calls and what its drop waits for: see [`Fed`].
pub type Readahead<I> = Fed<Ahead<I>>;

/// What a [`Readahead`] is before it runs.
#[derive(Debug)]
pub struct Ahead<I> {
    source: I,
    opts: LaneOpts,
    common: Common,
}

/// What a [`Readahead`] is while it runs.
#[derive(Debug)]
pub struct AheadIter<I: Iterator> {
    /// `None`: the scope was over before it began.
    front: Option<Front<I>>,
    left: (usize, Option<usize>),
}

impl<I> Readahead<I>
where
    I: Iterator + Send,
    I::Item: Send,
{
    #[track_caller]
    pub(crate) fn ahead(source: I, k: usize) -> Self {
        assert!(
            k > 0,
            "readahead must be at least 1: write readahead(1) for one item ahead"
        );
        Fed::new(Ahead {
            source,
            opts: LaneOpts::new(k),
            common: Common::default(),
        })
    }

    /// Says what happens to an item for which there is no room; [`Overflow::Block`] by default.
    ///
    /// # Panics
    ///
    /// After the first `next()`.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::{Fanfold, Overflow};
    ///
    /// // Of a sensor only the latest value is of interest.
    /// let mut latest = (0..100).readahead(1).overflow(Overflow::DropOldest);
    /// assert!(latest.next().is_some());
    /// ```
    #[track_caller]
    pub fn overflow(self, overflow: Overflow) -> Self {
        self.set(|plan| plan.opts.overflow = overflow)
    }

    /// A counter of what is dropped for want of room.
    ///
    /// # Panics
    ///
    /// After the first `next()`.
    #[track_caller]
    pub fn dropped(&mut self) -> Dropped {
        self.plan().opts.dropped.get_or_insert_default().clone()
    }
}

impl<I> Start for Ahead<I>
where
    I: Iterator + Send,
    I::Item: Send,
{
    type Output = I::Item;
    type Running = AheadIter<I>;

    fn cut(running: &AheadIter<I>) -> Option<Cancelled> {
        running.front.as_ref()?.cut()
    }

    fn tell_cut(running: &AheadIter<I>) {
        if let Some(front) = &running.front {
            front.tell_cut();
        }
    }

    fn start(self: Box<Self>, seed: Seed) -> Box<AheadIter<I>> {
        let left = self.hint();
        let mut front = Front::start(seed, self.common, "readahead", Rule::Turns, 1);
        if let Some(front) = &mut front {
            front.add(self.source, self.opts);
        }
        Box::new(AheadIter { front, left })
    }
}

impl<I> Feed for Ahead<I>
where
    I: Iterator + Send,
    I::Item: Send,
{
    const NAME: &'static str = "Readahead";

    fn common(&self) -> &Common {
        &self.common
    }

    fn common_mut(&mut self) -> &mut Common {
        &mut self.common
    }

    fn hint(&self) -> (usize, Option<usize>) {
        let (low, high) = self.source.size_hint();
        match self.opts.overflow {
            Overflow::Block => (low, high),
            _ => (0, high),
        }
    }

    fn left(running: &AheadIter<I>) -> (usize, Option<usize>) {
        let front = running.front.as_ref();
        front.map_or((0, Some(0)), |front| front.hint(running.left))
    }
}

impl<I> Iterator for AheadIter<I>
where
    I: Iterator + Send,
    I::Item: Send,
{
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        let front = self.front.as_mut()?;
        match front.next(None, false, || false) {
            Got::Event(_, Event::Item(item)) => {
                let (low, high) = self.left;
                self.left = (
                    low.saturating_sub(1),
                    high.map(|high| high.saturating_sub(1)),
                );
                Some(item)
            }
            Got::Event(_, Event::Panic(panic)) => {
                self.left.0 = 0;
                resume_unwind(panic)
            }
            Got::Unwanted => None,
            Got::Event(_, Event::End | Event::TimedOut) | Got::Late | Got::Over => {
                front.end();
                None
            }
        }
    }
}
