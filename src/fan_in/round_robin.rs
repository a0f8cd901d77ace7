//! `round_robin`: one item of each source in turn.

use crate::error::NotReady;
use crate::fan_in::front::{Front, Got};
use crate::fan_in::lane::Message;
use crate::runtime::plan::{Common, Ending, Plan, Running, unwanted};
use crate::runtime::scope::StartPermit;
use crate::runtime::trace::resume_unwind;
use crate::size_hint::{self, Hint};
use crate::stage::Stage;
use crate::sync::Instant;
use std::collections::VecDeque;

/// One item of each source in turn; made by [`round_robin`].
///
/// Options, terminal calls and what its drop waits for: see [`Stage`].
pub type RoundRobin<I> = Stage<RoundRobinPlan<I>>;

const BUFFER: usize = 16;

/// Takes one item of each source in turn; a thread pulls each source ahead.
///
/// The order depends only on the sources and their items: it is the same on every run. A slow
/// source holds up the others when its turn comes, but meanwhile they fill their
/// [buffers](RoundRobin::buffer). A source that has ended is skipped, and the others go on; to end
/// instead, see [`stop_at_first_end`](RoundRobin::stop_at_first_end). The drop waits for a source
/// that is in its `next()`. Lazy: nothing is pulled before the first `next()`.
///
/// # Panics
///
/// A panic of a source is raised at its turn; the other sources go on: call `next()` again.
///
/// # Examples
///
/// ```
/// let mixed = fanfold::round_robin([vec!['a', 'b', 'c'], vec!['1']]);
/// assert_eq!(mixed.collect::<String>(), "a1bc");
/// ```
#[doc(alias = "interleave")]
pub fn round_robin<S>(sources: S) -> RoundRobin<<S::Item as IntoIterator>::IntoIter>
where
    S: IntoIterator<Item: IntoIterator<Item: Send, IntoIter: Send>>,
{
    Stage::of(RoundRobinPlan {
        sources: sources.into_iter().map(IntoIterator::into_iter).collect(),
        buffer: BUFFER,
        stops: false,
    })
}

/// The plan of a [`RoundRobin`].
#[derive(Debug)]
pub struct RoundRobinPlan<I> {
    sources: Vec<I>,
    buffer: usize,
    stops: bool,
}

impl<I> RoundRobin<I>
where
    I: Iterator + Send,
    I::Item: Send,
{
    /// Ends at the turn of a source that has ended; the items that the others have ready are then
    /// dropped. A source that blocks is not waited for until the drop.
    ///
    /// # Panics
    ///
    /// After the first `next()`.
    ///
    /// # Examples
    ///
    /// ```
    /// let mixed = fanfold::round_robin([vec!['a', 'b', 'c'], vec!['1']]).stop_at_first_end();
    /// assert_eq!(mixed.collect::<String>(), "a1b");
    /// ```
    #[doc(alias = "interleave_shortest")]
    #[track_caller]
    pub fn stop_at_first_end(self) -> Self {
        self.with(|plan| plan.stops = true)
    }

    /// Sets how many items of each source may be pulled and not yet taken; 16 by default.
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

/// The running state of a [`RoundRobin`].
#[derive(Debug)]
pub struct RoundRobinIter<I: Iterator> {
    front: Front<I>,
    /// The lanes that have not ended, in the order of their turns.
    turns: VecDeque<usize>,
    stops: bool,
}

impl<I> Plan for RoundRobinPlan<I>
where
    I: Iterator + Send,
    I::Item: Send,
{
    type Output = I::Item;
    type Running = RoundRobinIter<I>;

    const NAME: &'static str = "round_robin";

    fn size_hint(&self) -> Hint {
        let (low, high) = size_hint::sum(self.sources.iter().map(Iterator::size_hint));
        (if self.stops { 0 } else { low }, high)
    }

    fn start(self, common: Common, start_permit: StartPermit) -> Option<Box<RoundRobinIter<I>>> {
        let (hint, turns) = (self.size_hint(), (0..self.sources.len()).collect());
        let front = Front::start_all(
            start_permit,
            common,
            Self::NAME,
            self.sources,
            self.buffer,
            hint,
        )?;
        Some(Box::new(RoundRobinIter {
            front,
            turns,
            stops: self.stops,
        }))
    }
}

impl<I> Iterator for RoundRobinIter<I>
where
    I: Iterator + Send,
    I::Item: Send,
{
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        self.next_until(None).ok()?
    }

    fn size_hint(&self) -> Hint {
        self.front.size_hint()
    }
}

impl<I> Running for RoundRobinIter<I>
where
    I: Iterator + Send,
    I::Item: Send,
{
    fn next_until(&mut self, until: Option<Instant>) -> Result<Option<I::Item>, NotReady> {
        loop {
            let Some(turn) = self.turns.pop_front() else {
                self.front.end();
                return Ok(None);
            };
            match self.front.next_of(turn, until) {
                Got::Message(_, Message::Item(item)) => {
                    self.turns.push_back(turn);
                    return Ok(Some(item));
                }
                Got::Message(_, Message::Panic(panic)) => {
                    // It is still this source's turn: its end comes next.
                    self.turns.push_front(turn);
                    resume_unwind(panic)
                }
                Got::Unwanted => {
                    self.turns.push_front(turn);
                    return unwanted(until);
                }
                Got::Late => {
                    self.turns.push_front(turn);
                    return Err(NotReady::new(None));
                }
                // A stopped source has ended too: the others go on with what is there.
                Got::Message(..) | Got::Over if !self.stops => {}
                Got::Message(..) | Got::Over => {
                    // The join is left to the drop, because another source may block.
                    self.front.stop();
                    self.turns.clear();
                    return Ok(None);
                }
            }
        }
    }

    fn ending(&self) -> &dyn Ending {
        self.front.ending()
    }
}
