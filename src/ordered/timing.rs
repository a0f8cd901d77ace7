//! The clock of a stage whose items are timed one by one, its time limit, and what it needs to run slow items a
//! second time. Who does what with it is told in [`timed`](crate::ordered::timed) and
//! [`hedge_slow`](crate::ordered::copies).

use crate::cancel::Rivals;
use crate::hedge::HedgePolicy;
use crate::ordered::chunk::Chunk;
use crate::runtime::cost::nanos;
use crate::sync::{Arc, AtomicUsize, Instant, Ordering};
use std::time::Duration;

/// The clock of a timed stage, and what it is for.
#[derive(Debug)]
pub(crate) struct Timed<I> {
    pub(crate) limit: Option<Duration>,
    pub(crate) hedge: Option<StageHedge<I>>,
    born: Instant,
}

impl<I> Timed<I> {
    /// `None`: for nothing.
    pub(crate) fn new(limit: Option<Duration>, hedge: Option<StageHedge<I>>) -> Option<Self> {
        (limit.is_some() || hedge.is_some()).then(|| Timed {
            limit,
            hedge,
            born: Instant::now(),
        })
    }

    /// Now, in ns of the stage's clock; never 0.
    pub(crate) fn now(&self) -> u64 {
        nanos(self.born.elapsed()) | 1
    }

    pub(crate) fn is_overdue(&self, since: u64, now: u64) -> bool {
        self.limit
            .is_some_and(|limit| now.saturating_sub(since) > nanos(limit))
    }

    /// Whether what was started then is overdue now.
    pub(crate) fn is_over(&self, since: u64) -> bool {
        self.is_overdue(since, self.now())
    }

    /// When what was started then will be overdue; `None`: never, or in some centuries.
    pub(crate) fn deadline(&self, since: u64) -> Option<Instant> {
        self.instant(since)?.checked_add(self.limit?)
    }

    pub(crate) fn instant(&self, nanos: u64) -> Option<Instant> {
        self.born.checked_add(Duration::from_nanos(nanos))
    }
}

/// How to clone an item, where that it can be is no longer known.
pub(crate) type CloneItem<I> = fn(&I) -> I;

/// What a hedged stage has beside what any timed one has.
#[derive(Debug)]
pub(crate) struct StageHedge<I> {
    pub(crate) policy: HedgePolicy,
    pub(crate) clone: CloneItem<I>,
    /// How many copies have been sent and are not over.
    pub(crate) copies: AtomicUsize,
}

impl<I> StageHedge<I> {
    pub(crate) fn new(policy: HedgePolicy, clone: CloneItem<I>) -> Self {
        StageHedge {
            policy,
            clone,
            copies: AtomicUsize::new(0),
        }
    }

    pub(crate) fn copies(&self) -> usize {
        self.copies.load(Ordering::Relaxed)
    }
}

/// An item that is to run a second time.
#[derive(Debug)]
pub(crate) struct Copy<I, B> {
    pub(crate) chunk: Arc<Chunk<I, B>>,
    pub(crate) since: u64,
    pub(crate) seq: u64,
    pub(crate) item: I,
    pub(crate) rivals: Arc<Rivals>,
}
