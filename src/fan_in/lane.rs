//! A lane: the queue in which the messages of one source wait for the consumer.

use crate::cancel::CancelToken;
use crate::fan_in::alarm::Alarm;
use crate::overflow::{DropCount, Overflow};
use crate::runtime::context::Interrupts;
use crate::runtime::cost::nanos;
use crate::runtime::gauge::Gauge;
use crate::runtime::spin::SpinPolicy;
use crate::sync::{Arc, AtomicU64, Injector, Mutex, Ordering, bug, fence, steal};
use crate::unwind::Payload;
use std::time::Duration;

/// The options of one source.
#[derive(Clone, Debug)]
pub(super) struct LaneOpts {
    /// How many items may be pulled and not yet taken.
    pub(super) bound: usize,
    pub(super) overflow: Overflow,
    /// Counts the items dropped for lack of room.
    pub(super) dropped: Option<DropCount>,
    /// How many items the source may give per round.
    pub(super) weight: u32,
    /// How long the source may be silent.
    pub(super) timeout: Option<Duration>,
}

impl LaneOpts {
    pub(super) fn new(bound: usize) -> Self {
        LaneOpts {
            bound,
            overflow: Overflow::Block,
            dropped: None,
            weight: 1,
            timeout: None,
        }
    }
}

/// A message to the consumer.
#[derive(Debug)]
pub(super) enum Message<T> {
    Item(T),
    /// The source panicked, or an item's drop did.
    Panic(Payload),
    /// The source ended.
    End,
    /// The source was silent for too long and was dropped.
    TimedOut,
}

pub(super) const GIVEN_UP: u64 = u64::MAX;

/// The queue in which the messages of one source wait for the consumer.
pub(super) struct SourceLane<I: Iterator> {
    pub(super) index: usize,
    pub(super) opts: LaneOpts,
    pub(super) queue: Injector<Message<I::Item>>,
    /// How many messages are in the queue, and whether the task is parked.
    pub(super) len: Gauge,
    /// A task that waits for room, and since when, in ns of the clock of `FanIn`.
    pub(super) parked: Mutex<Option<(SourceTask<I>, u64)>>,
    pub(super) token: CancelToken,
    pub(super) inside: Arc<Interrupts>,
    /// Since when a worker has been in the source, in ns of the clock of `FanIn` and never 0; 0 if
    /// none is.
    pub(super) since: AtomicU64,
}

/// A source on its way to a worker.
pub(super) struct SourceTask<I: Iterator> {
    pub(super) source: I,
    pub(super) lane: Arc<SourceLane<I>>,
    pub(super) patience: SpinPolicy,
}

impl<I: Iterator> SourceLane<I> {
    /// Adds a message, and returns how many were there before.
    pub(super) fn push(&self, event: Message<I::Item>) -> usize {
        self.queue.push(event);
        self.len.add()
    }

    /// Takes a message, unless none has been counted. Returns how many are left, and whether the
    /// task is parked.
    pub(super) fn take(&self) -> Option<(Message<I::Item>, usize, bool)> {
        // Subtracts first, so that the message is ours: a worker that drops the oldest also takes,
        // and pushes before it counts.
        let (left, is_parked) = self.len.take_one()?;
        let event = steal(&self.queue).expect("what is counted is in the queue");
        Some((event, left, is_parked))
    }

    pub(super) fn len(&self) -> usize {
        self.len.count()
    }

    pub(super) fn has_room(&self) -> bool {
        self.len() < self.opts.bound
    }

    /// Worker: enters the source, for at most `limit`. Returns whether to notify.
    pub(super) fn enter(&self, since: u64, limit: u64, alarm: &Alarm) -> bool {
        let due = since.saturating_add(limit);
        self.since.store(since, Ordering::Relaxed);
        if !bug("no_fence_on_entering") {
            fence(Ordering::SeqCst); // pairs with the one in `Alarm::look`
        }
        alarm.entered(due)
    }

    /// When the worker in the source will have been there for too long, in ns of the clock of `FanIn`.
    pub(super) fn due(&self) -> Option<u64> {
        let limit = self.opts.timeout?;
        match self.since.load(Ordering::SeqCst) {
            0 | GIVEN_UP => None,
            since => Some(since.saturating_add(nanos(limit))),
        }
    }

    /// Parks the task because there is no room; returns it if there is room after all.
    pub(super) fn park(&self, task: SourceTask<I>, clock: u64) -> Option<SourceTask<I>> {
        *self.parked.lock() = Some((task, clock));
        if self.len.wait() < self.opts.bound && !bug("room_is_missed") {
            self.unpark(u64::MAX)
        } else {
            None
        }
    }

    /// Takes the parked task out if it was parked before this time.
    pub(super) fn unpark(&self, before: u64) -> Option<SourceTask<I>> {
        let mut parked = self.parked.lock();
        let (task, _) = parked.take_if(|(_, clock)| *clock < before)?;
        // Before the task can be parked again.
        self.len.answer();
        Some(task)
    }

    pub(super) fn count_dropped(&self) {
        if let Some(dropped) = &self.opts.dropped {
            dropped.add();
        }
    }
}
