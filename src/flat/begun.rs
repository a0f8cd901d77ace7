//! Items on their way, and what is known of those that the consumer runs itself (`own.rs`).

use crate::flat::frame::ItemToken;
use crate::flat::lane::LaneEnd;
use crate::par::flat_map::FlatJob;
use crate::runtime::context::Started;
use crate::runtime::cost::Backoff;
use crate::runtime::probe::Probe;
use crate::sync::{Arc, AtomicBool, AtomicUsize, Instant, Mutex, Ordering};
use crate::unwind::{self, Payload};
use crossbeam_utils::CachePadded;
use std::collections::BTreeMap;

/// An item on its way: first the item, then its inner iterator.
pub(super) enum Run<I, N> {
    Item(I),
    Inner(N),
    /// It is being opened, or that has panicked.
    Neither,
}

/// What has come of one step of an item.
pub(super) enum Step<T> {
    Opened,
    Output(T),
    End(LaneEnd),
}

pub(super) type RunOf<Q, J> =
    Run<<Q as Iterator>::Item, <J as FlatJob<<Q as Iterator>::Item>>::Inner>;

/// An item that was begun, between two steps.
pub(super) struct Begun<R> {
    pub(super) seq: u64,
    pub(super) token: Arc<ItemToken>,
    pub(super) started: Started,
    pub(super) run: R,
}

pub(super) type BegunOf<Q, J> = Begun<RunOf<Q, J>>;

/// What is under the lock of the stage.
#[derive(Debug)]
pub(super) struct OwnState<B> {
    /// The consumer may have an item in the slot.
    pub(super) has: bool,
    /// It holds a place: that of its item, or of the next one.
    pub(super) place: bool,
    /// It is in the source, with that place.
    pub(super) pulls: bool,
    /// It was inside of its item when the turn ended.
    pub(super) guest: bool,
    /// Items that workers have left, by their numbers: each is behind a lane with its outputs so far.
    pub(super) left: BTreeMap<u64, B>,
    /// What comes before everything else, and waits for a worker.
    pub(super) handed: Option<B>,
    /// A thread watches the consumer.
    pub(super) is_watched: bool,
    /// How many outputs in a row were short.
    pub(super) short: usize,
    /// When the turn may begin again, and in a model how often.
    pub(super) pause: Backoff,
    pub(super) turns: u64,
    /// The consumer's thread.
    pub(super) probe: Option<Probe>,
    pub(super) seen: Option<Seen>,
}

/// What the watcher has seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) steps: usize,
    pub(super) at: Instant,
    /// For how many naps the consumer has not moved.
    pub(super) still: u32,
}

impl<B> OwnState<B> {
    pub(super) const fn new() -> Self {
        OwnState {
            has: false,
            place: false,
            pulls: false,
            guest: false,
            left: BTreeMap::new(),
            handed: None,
            is_watched: false,
            short: 0,
            pause: Backoff::NONE,
            turns: u64::MAX,
            probe: None,
            seen: None,
        }
    }

    /// What the consumer has begun is for a worker, with its place.
    pub(super) fn hand_over(&mut self, begun: Option<B>) {
        self.handed = begun;
        self.place = false;
    }

    /// How many items have been begun that no worker has.
    pub(super) fn begun(&self) -> usize {
        usize::from(self.guest) + usize::from(self.handed.is_some()) + self.left.len()
    }

    /// Whether there are items that were begun and that no worker has.
    pub(super) fn has_any(&self) -> bool {
        self.has || self.handed.is_some() || !self.left.is_empty()
    }

    /// Everything that is left, to be dropped.
    pub(super) fn into_rest(self) -> impl Iterator<Item = B> {
        self.handed.into_iter().chain(self.left.into_values())
    }
}

/// What is not under the lock of the stage.
#[derive(Debug)]
pub(super) struct Own<B> {
    /// Such a stage may give the turn to its consumer.
    pub(super) may: bool,
    /// The turn is the consumer's. Stored under the lock of the stage.
    pub(super) on: AtomicBool,
    /// How many steps the consumer has made. Only a hint of whether it moves.
    pub(super) steps: CachePadded<AtomicUsize>,
    pub(super) slot: Mutex<Option<B>>,
}

impl<B> Own<B> {
    /// `may`: the options of the stage allow it.
    pub(super) fn new(may: bool) -> Self {
        Own {
            may,
            on: AtomicBool::new(false),
            steps: CachePadded::new(AtomicUsize::new(0)),
            slot: Mutex::new(None),
        }
    }

    pub(super) fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// What is in the slot at the end of the stage.
    pub(super) fn into_rest(self) -> Option<B> {
        self.slot.into_inner()
    }
}

/// What the consumer itself has made.
pub(super) enum OwnStep<T> {
    Output(T),
    /// Nothing after this one counts.
    Last(T),
    /// Nothing yet.
    Nothing,
    Panic(Payload),
    /// The stage ends.
    Cut,
}

/// Drops items that were begun, each separately.
pub(super) fn discard_begun<R>(begun: impl IntoIterator<Item = Begun<R>>) -> Option<Payload> {
    let mut panic = None;
    for begun in begun {
        unwind::first(&mut panic, unwind::discard(begun.run));
    }
    panic
}
