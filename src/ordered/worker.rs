//! One thread of a stage: what it has, and what it has seen. Only this thread touches these fields, so there
//! is no protocol in this file. What the thread does is in `find.rs`, `idle.rs` and `execute.rs`.

use crate::ordered::core::{CONSUMER, Core, Inline, Progress};
use crate::ordered::item_context::ItemContext;
use crate::ordered::permits::WidthPermit;
use crate::runtime::biased::OwnerPlace;
use crate::sync::{Instant, Parker};
use std::rc::Rc;
use std::time::Duration;

/// The naps of the watcher: this long at first, and doubled up to the longest. Short ones find a puller that
/// has just got stuck; long ones cost little while nothing happens.
pub(super) const NAP: Duration = Duration::from_micros(50);
pub(super) const LONGEST_NAP: Duration = Duration::from_millis(1);
/// An owner or a puller that has not moved for this long is stuck, or was preempted.
pub(super) const STUCK: Duration = Duration::from_micros(40);

/// One thread of a stage.
pub(super) struct Worker {
    pub(super) thread: usize,
    pub(super) parker: Parker,
    /// The right to run closures. `None`: it idles, or its permit was lent while it was in the source.
    pub(super) permit: Option<WidthPermit>,
    /// The frame of its closures and of the source: which item runs, and the token of that.
    pub(super) here: Rc<ItemContext>,
    pub(super) nap: Duration,
    /// How many items it may pull at once.
    pub(super) most: usize,
    /// Why its last visit to the source gave nothing: the last look before a sleep asks for exactly that.
    pub(super) refused: PullRefusal,
    /// In this search it has left a chunk to the consumer.
    pub(super) has_left: bool,
    /// What an item of its last pull took in the source, in nanoseconds. `None`: its chunk is from elsewhere.
    pub(super) pull: Option<f32>,
    /// What was seen of the open chunk, of the richest other chunk, of all chunks, and of the neighbour, and
    /// when. A second look that sees the same, long enough after, shows that something is stuck.
    pub(super) open: Option<Progress>,
    pub(super) rich: Option<Progress>,
    pub(super) all: Option<Progress>,
    pub(super) neighbour: Option<Progress>,
    pub(super) next_neighbour: usize,
    /// Since when this thread has found the source taken, while it lacked a permit and there was something to
    /// run.
    pub(super) busy_since: Option<Instant>,
    /// What `Core::batches` was when this thread last idled.
    pub(super) batches: u64,
    /// What was last seen of a consumer that runs items itself.
    pub(super) seen: Option<WatchPoint>,
    pub(super) absence: Absence,
}

/// Why a visit to the source gave nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PullRefusal {
    /// No event of the source is to be waited for: it has ended, is cut or is the consumer's.
    No,
    /// Another thread was in it.
    Busy,
    /// A chunk without an owner was waiting, and comes first. If another thread takes that chunk, nobody may
    /// be left for the source.
    WorkFirst,
    /// There is no room, and the consumer was asked for a wake-up at this count. The default bound follows the width.
    Room { wake_at: u64, width: usize },
}

impl Worker {
    pub(super) fn new(thread: usize, here: Rc<ItemContext>) -> Self {
        Worker {
            thread,
            parker: Parker::new(),
            permit: None,
            here,
            nap: NAP,
            // A consumer that works alone pulls one item at a time: no thread would run the others while it
            // is in the source.
            most: if thread == CONSUMER { 1 } else { usize::MAX },
            refused: PullRefusal::No,
            has_left: false,
            pull: None,
            open: None,
            rich: None,
            all: None,
            neighbour: None,
            next_neighbour: 0,
            busy_since: None,
            batches: 0,
            seen: None,
            absence: Absence::default(),
        }
    }

    /// Comes out of the source. If the permit was lent meanwhile, it is replaced by a free one, or lost; and it is lost if
    /// the stage has become narrower.
    pub(super) fn repay<I, B>(&mut self, core: &mut Core<I, B>) {
        core.permits.repay(&mut self.permit);
    }

    /// Gives the permit back. The caller has looked for work in the same critical section, or leaves the
    /// stage.
    pub(super) fn release<I, B>(&mut self, core: &mut Core<I, B>) {
        core.permits.give_back(self.permit.take());
    }

    /// The thread leaves the stage: it neither works nor watches any more.
    pub(super) fn leave<I, B>(&mut self, core: &mut Core<I, B>) {
        self.release(core);
        core.resign(self.thread); // nothing is left to look after
    }
}

/// What a watcher saw of a consumer that runs items itself. The difference of two of them is its progress.
#[derive(Clone, Copy, Debug)]
pub(super) struct WatchPoint {
    pub(super) state: Inline,
    pub(super) count: u64,
    pub(super) at: Instant,
}

/// Whether a consumer that runs items itself is with its user for a good part of the time, by samples.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Absence(u32);

/// An item that takes less is not worth a second thread, whatever the user does meanwhile.
const SHORT_ITEM: Duration = Duration::from_micros(1);
/// A look that finds it away counts as much as so many that do not.
const AWAY: u32 = 3;
/// So many more looks than these say that it is away for a quarter of the time.
const SURE: u32 = 4;

impl Absence {
    /// Adds what one look has seen of a consumer that has `moved` by some items in this time.
    pub(super) fn is_long(
        &mut self,
        place: Option<OwnerPlace>,
        moved: u64,
        time: Duration,
    ) -> bool {
        let long = time.as_nanos() >= SHORT_ITEM.as_nanos() * u128::from(moved);
        if place == Some(OwnerPlace::Away) && long {
            self.0 += AWAY;
        } else {
            self.0 = self.0.saturating_sub(1);
        }
        let is_long = self.0 >= AWAY * SURE;
        if is_long {
            self.0 = 0;
        }
        is_long
    }
}
