//! A lane: where what one source gave waits for the consumer.

use crate::cancel::CancelToken;
use crate::fan_in::alarm::Alarm;
use crate::overflow::{DropCount, Overflow};
use crate::runtime::context::Interrupts;
use crate::runtime::cost::nanos;
use crate::runtime::spin::SpinPolicy;
use crate::sync::{Arc, AtomicU64, AtomicUsize, Injector, Mutex, Ordering, bug, fence, steal};
use crate::unwind::Payload;
use std::time::Duration;

/// What is said of one source.
#[derive(Clone, Debug)]
pub(crate) struct LaneOpts {
    /// How many items may be pulled and not yet taken.
    pub(crate) bound: usize,
    pub(crate) overflow: Overflow,
    /// How many items were dropped for want of room.
    pub(crate) dropped: Option<DropCount>,
    /// How many items it may give in a round.
    pub(crate) weight: u32,
    /// How long it may be silent.
    pub(crate) timeout: Option<Duration>,
}

impl LaneOpts {
    pub(crate) fn new(bound: usize) -> Self {
        LaneOpts {
            bound,
            overflow: Overflow::Block,
            dropped: None,
            weight: 1,
            timeout: None,
        }
    }
}

/// What the consumer is told.
#[derive(Debug)]
pub(crate) enum Message<T> {
    Item(T),
    /// The source panicked, or an item's drop did.
    Panic(Payload),
    /// The source ended.
    End,
    /// The source was silent for too long and has been dropped.
    TimedOut,
}

pub(super) const GIVEN_UP: u64 = u64::MAX;

/// In a lane's `len`: its task is parked.
pub(super) const PARKED: usize = 1 << (usize::BITS - 1);

/// Where what one source gave waits for the consumer.
pub(super) struct SourceLane<I: Iterator> {
    pub(super) index: usize,
    pub(super) opts: LaneOpts,
    pub(super) queue: Injector<Message<I::Item>>,
    /// How many events are in it, and [`PARKED`].
    pub(super) len: AtomicUsize,
    /// A task that waits for room, and since when, in ns of the clock of `FanIn`.
    pub(super) parked: Mutex<Option<(SourceTask<I>, u64)>>,
    pub(super) token: CancelToken,
    pub(super) inside: Arc<Interrupts>,
    /// Since when a worker is in the source, in ns of the clock of `FanIn` and never 0; 0: it is not.
    pub(super) since: AtomicU64,
}

/// A source on its way.
pub(super) struct SourceTask<I: Iterator> {
    pub(super) source: I,
    pub(super) lane: Arc<SourceLane<I>>,
    pub(super) patience: SpinPolicy,
}

impl<I: Iterator> SourceLane<I> {
    /// Adds an event, and says how many were there before.
    pub(super) fn push(&self, event: Message<I::Item>) -> usize {
        self.queue.push(event);
        self.len.fetch_add(1, Ordering::AcqRel) & !PARKED
    }

    /// Takes an event, unless there is none that has been counted. How many are left, and whether
    /// the task is parked.
    pub(super) fn take(&self) -> Option<(Message<I::Item>, usize, bool)> {
        // Counted off first, so that it is ours: the worker that drops the oldest takes too, and pushes
        // before it counts.
        let one_less = |len: usize| (len & !PARKED > 0).then(|| len - 1);
        let before = self
            .len
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, one_less)
            .ok()?;
        let event = steal(&self.queue).expect("what is counted is in the queue");
        Some((event, (before & !PARKED) - 1, before & PARKED != 0))
    }

    pub(super) fn len(&self) -> usize {
        self.len.load(Ordering::Acquire) & !PARKED
    }

    pub(super) fn has_room(&self) -> bool {
        self.len() < self.opts.bound
    }

    /// Worker: enters the source, which must not take longer than that. Whether to notify.
    pub(super) fn enter(&self, since: u64, limit: u64, alarm: &Alarm) -> bool {
        let due = since.saturating_add(limit);
        self.since.store(since, Ordering::Relaxed);
        if !bug("no_fence_on_entering") {
            fence(Ordering::SeqCst); // pairs with the one in `Alarm::look`
        }
        alarm.entered(due)
    }

    /// When whoever is in the source will have been there for too long, in ns of the clock of `FanIn`.
    pub(super) fn due(&self) -> Option<u64> {
        let limit = self.opts.timeout?;
        match self.since.load(Ordering::SeqCst) {
            0 | GIVEN_UP => None,
            since => Some(since.saturating_add(nanos(limit))),
        }
    }

    /// Parks the task because there is no room; if there is after all it may come back.
    pub(super) fn park(&self, task: SourceTask<I>, clock: u64) -> Option<SourceTask<I>> {
        *self.parked.lock() = Some((task, clock));
        let len = self.len.fetch_or(PARKED, Ordering::AcqRel) & !PARKED;
        if len < self.opts.bound && !bug("room_is_missed") {
            self.unpark(u64::MAX)
        } else {
            None
        }
    }

    /// Takes the task out of its place if it was parked before this time.
    pub(super) fn unpark(&self, before: u64) -> Option<SourceTask<I>> {
        let mut parked = self.parked.lock();
        let (task, _) = parked.take_if(|(_, clock)| *clock < before)?;
        // Before it can be parked again.
        self.len.fetch_and(!PARKED, Ordering::AcqRel);
        Some(task)
    }

    pub(super) fn count_dropped(&self) {
        if let Some(dropped) = &self.opts.dropped {
            dropped.add();
        }
    }
}
