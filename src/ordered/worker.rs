//! One thread of a stage: what it has, and what it has seen. What it does is in `find.rs`, `idle.rs` and `execute.rs`.

use crate::ordered::core::{CONSUMER, Core, Inline, Progress};
use crate::ordered::item_context::ItemContext;
use crate::ordered::permits::Permit;
use crate::sync::{Instant, Parker};
use std::rc::Rc;
use std::time::Duration;

/// The naps of whoever watches: from this, doubled up to that.
pub(super) const NAP: Duration = Duration::from_micros(50);
pub(super) const LONGEST_NAP: Duration = Duration::from_millis(1);
/// An owner or a puller that has not moved for so long is stuck, or was preempted.
pub(super) const STUCK: Duration = Duration::from_micros(40);

/// One thread of a stage.
pub(super) struct Worker {
    pub(super) thread: usize,
    pub(super) parker: Parker,
    pub(super) permit: Option<Permit>,
    pub(super) here: Rc<ItemContext>,
    pub(super) nap: Duration,
    /// How many items it may pull at once.
    pub(super) most: usize,
    /// Why the source gave nothing, for the last look before sleep.
    pub(super) refused: PullRefusal,
    /// The time that an item of the last pull took in the source, in nanoseconds.
    pub(super) pull: Option<f32>,
    /// What was seen of the open chunk, of another's run, of all runs, and of the neighbour, and when.
    pub(super) open: Option<Progress>,
    pub(super) rich: Option<Progress>,
    pub(super) all: Option<Progress>,
    pub(super) neighbour: Option<Progress>,
    pub(super) next_neighbour: usize,
    /// Since when somebody has been in the source while there was something to run.
    pub(super) busy_since: Option<Instant>,
    pub(super) batches: u64,
    /// What was last seen of a consumer that runs items itself.
    pub(super) seen: Option<WatchPoint>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PullRefusal {
    No,
    Busy,
    Room { wake_at: u64 },
}

impl Worker {
    pub(super) fn new(thread: usize, here: Rc<ItemContext>) -> Self {
        Worker {
            thread,
            parker: Parker::new(),
            permit: None,
            here,
            nap: NAP,
            // Who is alone has nobody to run the rest while it is in the source.
            most: if thread == CONSUMER { 1 } else { usize::MAX },
            refused: PullRefusal::No,
            pull: None,
            open: None,
            rich: None,
            all: None,
            neighbour: None,
            next_neighbour: 0,
            busy_since: None,
            batches: 0,
            seen: None,
        }
    }

    /// Comes out of the source.
    pub(super) fn repay<I, B>(&mut self, core: &mut Core<I, B>) {
        core.permits.repay(&mut self.permit);
    }

    /// Gives the permit back.
    pub(super) fn release<I, B>(&mut self, core: &mut Core<I, B>) {
        core.permits.give_back(self.permit.take());
    }

    /// Neither works nor watches any more.
    pub(super) fn leave<I, B>(&mut self, core: &mut Core<I, B>) {
        self.release(core);
        core.resign(self.thread); // nothing is left to look after
    }
}

/// What a watcher saw of a consumer that runs items itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct WatchPoint {
    pub(super) state: Inline,
    pub(super) count: u64,
    pub(super) at: Instant,
}
