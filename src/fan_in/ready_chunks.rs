//! `ready_chunks`: what the source has given so far, in one batch.
//!
//! A thread pulls the source into a lane. The consumer waits for one message of it, and then takes what else is
//! there. A stage as the source could be asked without that thread (`next_within` with no time). But then its
//! consumer may have to run items itself to know what is there, the word would need a second type, and it would
//! not exist for iterators of `std`, which can only block.

use crate::error::NotReady;
use crate::fan_in::front::{Front, Got};
use crate::fan_in::lane::{LaneOpts, Message};
use crate::fan_in::turns::Rule;
use crate::runtime::plan::{Common, Ending, Plan, Running, unwanted};
use crate::runtime::scope::StartPermit;
use crate::runtime::trace::resume_unwind;
use crate::size_hint::{self, Hint};
use crate::stage::Stage;
use crate::sync::Instant;
use crate::unwind::Payload;
use std::fmt;

/// Batches of what is there; made by [`ready_chunks`](crate::Fanfold::ready_chunks).
///
/// Options, terminal calls and what its drop waits for: see [`Stage`].
pub type ReadyChunks<S> = Stage<ReadyChunksPlan<S>>;

/// The plan of [`ReadyChunks`].
#[derive(Debug)]
pub struct ReadyChunksPlan<S> {
    source: S,
    max: usize,
}

impl<S> ReadyChunks<S>
where
    S: Iterator + Send,
    S::Item: Send,
{
    #[track_caller]
    pub(crate) fn of_at_most(source: S, max: usize) -> Self {
        assert!(
            max > 0,
            "the size of ready_chunks must be at least 1: write 1 for chunks of single items"
        );
        Stage::of(ReadyChunksPlan { source, max })
    }
}

/// The running state of [`ReadyChunks`].
pub struct ReadyChunksIter<S: Iterator> {
    front: Front<S>,
    max: usize,
    /// The panic to raise after the chunk that it ended.
    panic: Option<Payload>,
}

impl<S: Iterator> fmt::Debug for ReadyChunksIter<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadyChunksIter").finish_non_exhaustive()
    }
}

impl<S> ReadyChunksIter<S>
where
    S: Iterator + Send,
    S::Item: Send,
{
    /// The chunk that begins with this item.
    fn chunk(&mut self, first: S::Item) -> Vec<S::Item> {
        let mut chunk = vec![first];
        while chunk.len() < self.max {
            match self.front.take_ready() {
                Some(Message::Item(item)) => chunk.push(item),
                Some(Message::Panic(panic)) => {
                    self.panic = Some(panic);
                    break;
                }
                // Now, so that the hint says that this chunk is the last.
                Some(Message::End) => {
                    self.front.end();
                    break;
                }
                Some(Message::TimedOut) | None => break,
            }
        }
        chunk
    }
}

impl<S> Iterator for ReadyChunksIter<S>
where
    S: Iterator + Send,
    S::Item: Send,
{
    type Item = Vec<S::Item>;

    fn next(&mut self) -> Option<Vec<S::Item>> {
        self.next_until(None).ok()?
    }

    fn size_hint(&self) -> Hint {
        // Each item may get its own chunk.
        let (low, high) = self.front.size_hint();
        (low.div_ceil(self.max), high)
    }
}

impl<S> Running for ReadyChunksIter<S>
where
    S: Iterator + Send,
    S::Item: Send,
{
    fn next_until(&mut self, until: Option<Instant>) -> Result<Option<Vec<S::Item>>, NotReady> {
        if let Some(panic) = self.panic.take() {
            resume_unwind(panic);
        }
        match self.front.next(until, false, || false) {
            Got::Message(_, Message::Item(item)) => Ok(Some(self.chunk(item))),
            Got::Message(_, Message::Panic(panic)) => resume_unwind(panic),
            Got::Unwanted => unwanted(until),
            Got::Late => Err(NotReady::new(None)),
            Got::Message(_, Message::End | Message::TimedOut) | Got::Over => {
                self.front.end();
                Ok(None)
            }
        }
    }

    fn ending(&self) -> &dyn Ending {
        self.front.ending()
    }
}

impl<S> Plan for ReadyChunksPlan<S>
where
    S: Iterator + Send,
    S::Item: Send,
{
    type Output = Vec<S::Item>;
    type Running = ReadyChunksIter<S>;

    const NAME: &'static str = "ready_chunks";

    fn size_hint(&self) -> Hint {
        let (low, high) = size_hint::honest(self.source.size_hint());
        (low.div_ceil(self.max), high)
    }

    fn start(self, common: Common, start_permit: StartPermit) -> Option<Box<Self::Running>> {
        let hint = self.source.size_hint();
        let mut front = Front::start(start_permit, common, Self::NAME, Rule::Turns, 1, hint)?;
        front.add(self.source, LaneOpts::new(self.max));
        Some(Box::new(ReadyChunksIter {
            front,
            max: self.max,
            panic: None,
        }))
    }
}
