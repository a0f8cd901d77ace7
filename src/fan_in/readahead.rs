//! `readahead`: pulls the source, and everything upstream of it, on a separate thread.

use crate::error::NotReady;
use crate::fan_in::front::{Front, Got};
use crate::fan_in::lane::{LaneOpts, Message};
use crate::fan_in::turns::Rule;
use crate::overflow::{DropCount, Overflow};
use crate::runtime::plan::{Common, Ending, Plan, Running, unwanted};
use crate::runtime::scope::StartPermit;
use crate::runtime::trace::resume_unwind;
use crate::size_hint::Hint;
use crate::stage::Stage;
use crate::sync::Instant;

/// A source that is pulled ahead of its consumer; made by
/// [`readahead`](crate::Fanfold::readahead).
///
/// Options, terminal calls and what its drop waits for: see [`Stage`].
pub type Readahead<I> = Stage<ReadaheadPlan<I>>;

/// The plan of a [`Readahead`].
#[derive(Debug)]
pub struct ReadaheadPlan<I> {
    source: I,
    opts: LaneOpts,
}

/// The running state of a [`Readahead`].
#[derive(Debug)]
pub struct ReadaheadIter<I: Iterator>(Front<I>);

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
        Stage::of(ReadaheadPlan {
            source,
            opts: LaneOpts::new(k),
        })
    }

    /// Sets what happens to an item that finds no room; [`Overflow::Block`] by default.
    ///
    /// # Panics
    ///
    /// After the first `next()`, or if `overflow` is `Grow(0)`.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::{Fanfold, Overflow};
    ///
    /// // Only the latest value of a sensor matters.
    /// let mut latest = (0..100).readahead(1).overflow(Overflow::DropOldest);
    /// assert!(latest.next().is_some());
    /// ```
    #[track_caller]
    pub fn overflow(self, overflow: Overflow) -> Self {
        overflow.check();
        self.with(|plan| plan.opts.overflow = overflow)
    }

    /// A counter of the items dropped for lack of room.
    ///
    /// # Panics
    ///
    /// After the first `next()`.
    #[track_caller]
    pub fn dropped(&mut self) -> DropCount {
        self.plan().opts.dropped.get_or_insert_default().clone()
    }
}

impl<I> Plan for ReadaheadPlan<I>
where
    I: Iterator + Send,
    I::Item: Send,
{
    type Output = I::Item;
    type Running = ReadaheadIter<I>;

    const NAME: &'static str = "readahead";

    fn size_hint(&self) -> Hint {
        let (low, high) = self.source.size_hint();
        let low = if self.opts.overflow.keeps_all() {
            low
        } else {
            0
        };
        (low, high)
    }

    fn start(self, common: Common, start_permit: StartPermit) -> Option<Box<ReadaheadIter<I>>> {
        let hint = self.size_hint();
        let mut front = Front::start(start_permit, common, Self::NAME, Rule::Turns, 1, hint)?;
        let bound = self.opts.overflow.bound(self.opts.bound);
        front.add(self.source, LaneOpts { bound, ..self.opts });
        Some(Box::new(ReadaheadIter(front)))
    }
}

impl<I> Iterator for ReadaheadIter<I>
where
    I: Iterator + Send,
    I::Item: Send,
{
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        self.next_until(None).ok()?
    }

    fn size_hint(&self) -> Hint {
        self.0.size_hint()
    }
}

impl<I> Running for ReadaheadIter<I>
where
    I: Iterator + Send,
    I::Item: Send,
{
    fn next_until(&mut self, until: Option<Instant>) -> Result<Option<I::Item>, NotReady> {
        match self.0.next(until, false, || false) {
            Got::Message(_, Message::Item(item)) => Ok(Some(item)),
            Got::Message(_, Message::Panic(panic)) => resume_unwind(panic),
            Got::Unwanted => unwanted(until),
            Got::Late => Err(NotReady::new(None)),
            Got::Message(_, Message::End | Message::TimedOut) | Got::Over => {
                self.0.end();
                Ok(None)
            }
        }
    }

    fn ending(&self) -> &dyn Ending {
        self.0.ending()
    }
}
