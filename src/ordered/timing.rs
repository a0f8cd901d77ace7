//! The clock of a stage whose items are timed one by one, its time limit, and what it needs to run slow items
//! a second time. [`timed`](crate::ordered::timed) and [`hedge_slow`](crate::ordered::copies) describe how
//! they are used.

use crate::cancel::Rivals;
use crate::hedge::HedgePolicy;
use crate::ordered::chunk::Chunk;
use crate::ordered::opts::OrderedOpts;
use crate::runtime::cost::nanos;
use crate::sync::{Arc, AtomicUsize, Instant, Ordering};
use std::time::Duration;

/// The clock of a timed stage, and what it is used for.
#[derive(Debug)]
pub(super) struct Timed<I> {
    pub(super) limit: Option<Duration>,
    pub(super) hedge: Option<StageHedge<I>>,
    born: Instant,
}

impl<I> Timed<I> {
    /// `None`: it would be used for nothing.
    pub(super) fn new(opts: &OrderedOpts, hedge: Option<StageHedge<I>>) -> Option<Self> {
        opts.is_timed().then(|| Timed {
            limit: opts.item_timeout,
            hedge,
            born: Instant::now(),
        })
    }

    /// The current time, in ns of the stage's clock. Never 0, which `since` uses for "not started": hence the
    /// lowest bit.
    pub(super) fn now(&self) -> u64 {
        nanos(self.born.elapsed()) | 1
    }

    pub(super) fn is_overdue(&self, since: u64, now: u64) -> bool {
        self.limit
            .is_some_and(|limit| now.saturating_sub(since) > nanos(limit))
    }

    /// Whether an item that was started at `since` is overdue now.
    pub(super) fn is_over(&self, since: u64) -> bool {
        self.is_overdue(since, self.now())
    }

    /// When an item that was started at `since` will be overdue. `None`: never, or in some centuries.
    pub(super) fn deadline(&self, since: u64) -> Option<Instant> {
        self.instant(since)?.checked_add(self.limit?)
    }

    /// A time of the stage's clock as an [`Instant`].
    pub(super) fn instant(&self, nanos: u64) -> Option<Instant> {
        self.born.checked_add(Duration::from_nanos(nanos))
    }
}

/// Clones an item in code that no longer has the `Clone` bound.
pub(super) type CloneItem<I> = fn(&I) -> I;

/// What a hedged stage has besides a timed one.
#[derive(Debug)]
pub(super) struct StageHedge<I> {
    pub(super) policy: HedgePolicy,
    pub(super) clone: CloneItem<I>,
    /// How many copies were sent and are not over.
    pub(super) copies: AtomicUsize,
}

impl<I> StageHedge<I> {
    pub(super) fn new(policy: HedgePolicy, clone: CloneItem<I>) -> Self {
        StageHedge {
            policy,
            clone,
            copies: AtomicUsize::new(0),
        }
    }

    pub(super) fn copies(&self) -> usize {
        self.copies.load(Ordering::Relaxed)
    }
}

/// An item that is to run a second time.
#[derive(Debug)]
pub(super) struct Copy<I, B> {
    pub(super) chunk: Arc<Chunk<I, B>>,
    pub(super) since: u64,
    pub(super) seq: u64,
    pub(super) item: I,
    pub(super) rivals: Arc<Rivals>,
}
