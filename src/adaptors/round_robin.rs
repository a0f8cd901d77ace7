//! `round_robin`: one item of each source in turn.

use crate::engine::erase::{Seed, Start};
use crate::engine::hub::{Common, Event, Front, Got, LaneOpts, Rule};
use crate::error::Cancelled;
use crate::fed::{Fed, Feed};
use std::collections::VecDeque;
use std::panic::resume_unwind;

/// One item of each source in turn; made by [`round_robin`].
///
/// Options, terminal calls and what its drop waits for: see [`Fed`].
pub type RoundRobin<I> = Fed<Rounds<I>>;

const BUFFER: usize = 16;

/// Takes one item of each source in turn; each is pulled ahead on a thread of its own.
///
/// The order is that of the sources and of the items in each: the same on every run. A source that
/// is slow holds up the others when its turn comes, but meanwhile they fill their
/// [buffers](RoundRobin::buffer). One that has ended is left out, and the others go on; see
/// [`stop_at_first_end`](RoundRobin::stop_at_first_end) for the other way. The drop waits for a source that is
/// in its `next()`. Lazy: nothing is pulled before
/// the first `next()`.
///
/// # Panics
///
/// A panic of a source is raised at its turn; the others go on: call `next()` again.
///
/// # Examples
///
/// ```
/// let mixed = fanfold::round_robin([vec!['a', 'b', 'c'], vec!['1']]);
/// assert_eq!(mixed.collect::<String>(), "a1bc");
/// ```
pub fn round_robin<S>(sources: S) -> RoundRobin<<S::Item as IntoIterator>::IntoIter>
where
    S: IntoIterator<Item: IntoIterator<Item: Send, IntoIter: Send>>,
{
    Fed::new(Rounds {
        sources: sources.into_iter().map(IntoIterator::into_iter).collect(),
        buffer: BUFFER,
        stops: false,
        common: Common::default(),
    })
}

/// What a [`RoundRobin`] is before it runs.
#[derive(Debug)]
pub struct Rounds<I> {
    sources: Vec<I>,
    buffer: usize,
    stops: bool,
    common: Common,
}

impl<I> RoundRobin<I>
where
    I: Iterator + Send,
    I::Item: Send,
{
    /// Ends when it is the turn of a source that has ended; the items that others have ready are
    /// dropped with it. A source that blocks is not waited for until the drop.
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
    #[track_caller]
    pub fn stop_at_first_end(self) -> Self {
        self.set(|plan| plan.stops = true)
    }

    /// How many items of each source may be pulled and not yet taken; 16 by default.
    ///
    /// # Panics
    ///
    /// If it is 0, or after the first `next()`.
    #[track_caller]
    pub fn buffer(self, items: usize) -> Self {
        assert!(
            items > 0,
            "the buffer of a source must be at least 1: write buffer(1) for one item ahead"
        );
        self.set(|plan| plan.buffer = items)
    }
}

/// What a [`RoundRobin`] is while it runs.
#[derive(Debug)]
pub struct RoundsIter<I: Iterator> {
    /// `None`: the scope was over before it began.
    front: Option<Front<I>>,
    /// The lanes that have not ended, in the order of their turns.
    turns: VecDeque<usize>,
    stops: bool,
    left: (usize, Option<usize>),
}

impl<I> Start for Rounds<I>
where
    I: Iterator + Send,
    I::Item: Send,
{
    type Output = I::Item;
    type Running = RoundsIter<I>;

    fn cut(running: &RoundsIter<I>) -> Option<Cancelled> {
        running.front.as_ref()?.cut()
    }

    fn tell_cut(running: &RoundsIter<I>) {
        if let Some(front) = &running.front {
            front.tell_cut();
        }
    }

    fn start(self: Box<Self>, seed: Seed) -> Box<RoundsIter<I>> {
        let left = self.hint();
        let turns = (0..self.sources.len()).collect();
        let mut front = Front::start(seed, self.common, "round_robin", Rule::Turns, usize::MAX);
        if let Some(front) = &mut front {
            for source in self.sources {
                front.add(source, LaneOpts::new(self.buffer));
            }
        }
        Box::new(RoundsIter {
            front,
            turns,
            stops: self.stops,
            left,
        })
    }
}

impl<I> Feed for Rounds<I>
where
    I: Iterator + Send,
    I::Item: Send,
{
    const NAME: &'static str = "RoundRobin";

    fn common(&self) -> &Common {
        &self.common
    }

    fn common_mut(&mut self) -> &mut Common {
        &mut self.common
    }

    fn hint(&self) -> (usize, Option<usize>) {
        let sum = |(low, high): (usize, Option<usize>), source: &I| {
            let (more, most) = source.size_hint();
            let high = high.zip(most).and_then(|(a, b)| a.checked_add(b));
            (low.saturating_add(more), high)
        };
        let (low, high) = self.sources.iter().fold((0, Some(0)), sum);
        (if self.stops { 0 } else { low }, high)
    }

    fn left(running: &RoundsIter<I>) -> (usize, Option<usize>) {
        let (low, high) = running.left;
        match &running.front {
            Some(front) if !running.turns.is_empty() => {
                (if front.is_stopped() { 0 } else { low }, high)
            }
            _ => (0, Some(0)),
        }
    }
}

impl<I> Iterator for RoundsIter<I>
where
    I: Iterator + Send,
    I::Item: Send,
{
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        loop {
            let front = self.front.as_mut()?;
            let Some(turn) = self.turns.pop_front() else {
                front.end();
                return None;
            };
            match front.next_of(turn) {
                Got::Event(_, Event::Item(item)) => {
                    self.turns.push_back(turn);
                    let (low, high) = self.left;
                    self.left = (
                        low.saturating_sub(1),
                        high.and_then(|high| high.checked_sub(1)),
                    );
                    return Some(item);
                }
                Got::Event(_, Event::Panic(panic)) => {
                    // It is still its turn: its end comes next.
                    self.turns.push_front(turn);
                    self.left.0 = 0;
                    resume_unwind(panic)
                }
                Got::Unwanted => {
                    self.turns.push_front(turn);
                    return None;
                }
                // One that was stopped has ended too: the others go on with what is there.
                Got::Event(..) | Got::Late | Got::Over if !self.stops => {}
                Got::Event(..) | Got::Late | Got::Over => {
                    // The join is left to the drop, as another source may block.
                    front.stop();
                    self.turns.clear();
                    return None;
                }
            }
        }
    }
}
