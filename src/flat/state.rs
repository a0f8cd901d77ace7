//! What is under the lock of the stage.

use crate::flat::lane::Lane;
use crate::runtime::roster::{Roster, Wake};
use crate::sync::{Arc, bug};
use crate::unwind::Payload;
use std::collections::VecDeque;

/// What is under the lock; see `README.md`.
#[derive(Debug)]
pub(super) struct FlatState<Q, I, T> {
    /// `None`: a puller has it, or the source has ended, or the source belongs to the consumer.
    pub(super) source: Option<Box<Q>>,
    /// Nothing more is pulled: the source has ended, or an item has failed.
    pub(super) ended: bool,
    /// The panic of the source.
    pub(super) panic: Option<Payload>,
    /// How many items have been pulled.
    pub(super) pulled: u64,
    /// Items that the consumer has pulled and no worker has started.
    pub(super) todo: VecDeque<(Arc<Lane<T>>, I)>,
    /// The lanes that the consumer has not come to, in the order of their items.
    pub(super) order: VecDeque<Arc<Lane<T>>>,
    /// How many places are taken.
    pub(super) held: usize,
    /// The lanes whose workers wait for a place, in the order of their requests.
    pub(super) waiting: VecDeque<Arc<Lane<T>>>,
    /// The consumer has yielded everything, and waits for the first output of the next lane.
    pub(super) starves: bool,
    /// A worker has fallen asleep for lack of places since the consumer looked.
    pub(super) full: bool,
    /// The threads, and which of them sleep.
    pub(super) roster: Roster,
    /// A thread has been woken or leased, and has not arrived yet.
    pub(super) coming: bool,
    /// How many threads look around briefly before they sleep.
    pub(super) looking: usize,
}

impl<Q, I, T> FlatState<Q, I, T> {
    pub(super) fn new(source: Option<Box<Q>>) -> Self {
        FlatState {
            source,
            ended: false,
            panic: None,
            pulled: 0,
            todo: VecDeque::new(),
            order: VecDeque::new(),
            held: 0,
            waiting: VecDeque::new(),
            starves: false,
            full: false,
            roster: Roster::new(),
            coming: false,
            looking: 0,
        }
    }

    /// A lane for the next item, with one place, which is counted already.
    pub(super) fn lane(&mut self) -> Arc<Lane<T>> {
        let starves = std::mem::take(&mut self.starves) && !bug("starving_is_forgotten");
        let lane = Arc::new(Lane::new(self.pulled, starves));
        self.pulled += 1;
        self.order.push_back(Arc::clone(&lane));
        lane
    }

    /// There is something to do for another thread. Wakes one, or leases one if fewer than `most` exist; with
    /// 0, only a sleeping one is woken.
    pub(super) fn call(&mut self, most: usize) -> Wake {
        let wake = match self.roster.pop_sleeper() {
            Some((_, wake)) => wake,
            None => self.roster.grow(most),
        };
        // Cleared by that thread when it arrives.
        self.coming |= !matches!(wake, Wake::Nobody);
        wake
    }
}
