//! One thread of a stage: what it has, and what it has seen. What it does is in `find.rs`, `idle.rs` and `execute.rs`.

use crate::ordered::core::{CONSUMER, Core, Inline, Progress};
use crate::ordered::item_context::ItemContext;
use crate::sync::{Instant, Parker};
use std::rc::Rc;
use std::time::Duration;

/// The naps of whoever watches: from this, doubled up to that.
pub(crate) const NAP: Duration = Duration::from_micros(50);
pub(crate) const LONGEST_NAP: Duration = Duration::from_millis(1);
/// An owner or a puller that has not moved for so long is stuck, or was preempted.
pub(crate) const STUCK: Duration = Duration::from_micros(40);

/// One thread of a stage.
pub(crate) struct Worker {
    pub(crate) thread: usize,
    pub(crate) parker: Parker,
    pub(crate) permit: bool,
    pub(crate) here: Rc<ItemContext>,
    pub(crate) nap: Duration,
    /// How many items it may pull at once.
    pub(crate) most: usize,
    /// Why the source gave nothing, for the last look before sleep.
    pub(crate) refused: PullRefusal,
    /// The time that an item of the last pull took in the source, in nanoseconds.
    pub(crate) pull: Option<f32>,
    /// What was seen of the open chunk, of another's run, of all runs, and of the neighbour, and when.
    pub(crate) open: Option<Progress>,
    pub(crate) rich: Option<Progress>,
    pub(crate) all: Option<Progress>,
    pub(crate) neighbour: Option<Progress>,
    pub(crate) next_neighbour: usize,
    /// Since when somebody has been in the source while there was something to run.
    pub(crate) busy_since: Option<Instant>,
    pub(crate) batches: u64,
    /// What was last seen of a consumer that runs items itself.
    pub(crate) seen: Option<WatchPoint>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PullRefusal {
    No,
    Busy,
    Room { wake_at: u64 },
}

impl Worker {
    pub(crate) fn new(thread: usize, here: Rc<ItemContext>) -> Self {
        Worker {
            thread,
            parker: Parker::new(),
            permit: false,
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

    /// Comes out of the source: if a spare thread has borrowed this one's permit, it has none now,
    /// but for one that somebody has given back since.
    pub(crate) fn repay<I, B>(&mut self, core: &mut Core<I, B>) {
        if std::mem::take(&mut core.lent) {
            self.permit = core.permits > 0;
            core.permits -= usize::from(self.permit);
        }
    }

    /// Gives the permit back.
    pub(crate) fn release<I, B>(&mut self, core: &mut Core<I, B>) {
        core.permits += usize::from(std::mem::take(&mut self.permit));
    }

    /// Neither works nor watches any more.
    pub(crate) fn leave<I, B>(&mut self, core: &mut Core<I, B>) {
        self.release(core);
        core.resign(self.thread); // nothing is left to look after
    }
}

/// What a watcher saw of a consumer that runs items itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WatchPoint {
    pub(crate) state: Inline,
    pub(crate) count: u64,
    pub(crate) at: Instant,
}
