//! A bound on what finished results weigh together while they wait (`parked_weight`).
//!
//! Before an owner begins an item it looks at what is parked ([`Parked::may_start`]): at the limit it may only begin
//! the item at the head of the line, which is the next one to be yielded. Otherwise it puts the rest of its chunk aside
//! (`aside.rs`), as if it had not been begun, and looks for other work: the head may be in a chunk without an owner, or
//! with a puller that is stuck. So no thread that may run the head ever waits for room, and one that waits has no
//! permit.
//!
//! What is put aside is no work until it may be started. That is asked wherever a thread looks for unstarted items, so
//! nobody watches over it. Only the consumer can make it startable, by what it takes. So this is one more handshake.
//!
//! **Take / aside.** The consumer subtracts what it takes from `sum`, stores `yielded`, passes the light barrier, and
//! loads `asked` ([`Parked::is_asked`]). A thread that leaves something aside stores there the first `seq` of that
//! ([`Parked::ask`]), under the scheduler's lock, passes the heavy barrier, and looks once more whether it may be
//! started. A consumer that is asked takes the question back, under the lock, and wakes a thread. *The race:* the
//! last result is taken that makes room, or what was put aside becomes the head, by a consumer that has not seen that a
//! thread waits for it; the item that it sleeps for is never run.
//!
//! As for room, a thread is not woken for every result: `low` is somewhat below the limit. Then some may idle although
//! there is a little room. The head does not depend on that.
//!
//! A result is added by the thread that publishes it, before it does, and its weight is in its chunk beside it, for the
//! consumer. Failures weigh nothing.

use crate::ordered::signals::Signals;
use crate::runtime::barrier::heavy;
use crate::sync::{AtomicU64, Ordering, bug};
use crossbeam_utils::CachePadded;

/// In `asked`: nobody waits.
const NOBODY: u64 = u64::MAX;

/// A larger limit is none: below it the results of some thousand threads fit in the sum.
const MOST: u64 = u64::MAX >> 16;

/// See the head of this file. All loads and stores are `Relaxed`: what must be ordered is so by the barriers, or by
/// the scheduler's lock.
#[derive(Debug)]
pub(super) struct Parked {
    limit: u64,
    low: u64,
    ordered: bool,
    /// Written for each item by all threads.
    sum: CachePadded<AtomicU64>,
    /// The first `seq` of what was put aside, if a thread is to be woken for it.
    asked: AtomicU64,
}

impl Parked {
    pub(super) fn new(limit: usize, ordered: bool) -> Self {
        let limit = (limit as u64).min(MOST);
        Parked {
            limit,
            low: limit - limit / 8,
            ordered,
            sum: CachePadded::new(AtomicU64::new(0)),
            asked: AtomicU64::new(NOBODY),
        }
    }

    /// Owner: is about to publish something of this weight. Returns what is to be taken again. What weighs more than
    /// the limit reaches it by itself, so it counts as the limit, and no sum overflows.
    pub(super) fn add(&self, weight: u64) -> u64 {
        let weight = weight.min(self.limit);
        if weight > 0 {
            self.sum.fetch_add(weight, Ordering::Relaxed);
        }
        weight
    }

    /// Consumer: takes something of this weight.
    pub(super) fn take(&self, weight: u64) {
        if weight > 0 {
            self.sum.fetch_sub(weight, Ordering::Relaxed);
        }
    }

    /// Whether an owner may begin this item now.
    pub(super) fn may_start(&self, signals: &Signals, seq: u64) -> bool {
        self.sum.load(Ordering::Relaxed) < self.limit || self.ordered && seq <= signals.yielded()
    }

    /// Thread that leaves this aside: asks for a wake-up, and must look once more. The slow side of take / aside.
    pub(super) fn ask(&self, seq: u64) {
        self.asked.store(seq, Ordering::Relaxed);
        if !bug("no_barrier_before_aside") {
            heavy(); // pairs with the light one in `Signals::set_yielded`
        }
    }

    /// Consumer: it has yielded so many items. Whether a thread waits for that. The light barrier has been passed, in
    /// `Signals::set_yielded`.
    pub(super) fn is_asked(&self, yielded: u64) -> bool {
        let asked = self.asked.load(Ordering::Relaxed);
        asked != NOBODY
            && (self.sum.load(Ordering::Relaxed) < self.low || self.ordered && asked <= yielded)
    }

    /// Whether a thread is woken for this.
    pub(super) fn has_asked(&self, seq: u64) -> bool {
        self.asked.load(Ordering::Relaxed) == seq
    }

    /// A thread is being woken, or nothing is left aside.
    pub(super) fn answer(&self) {
        self.asked.store(NOBODY, Ordering::Relaxed);
    }
}
