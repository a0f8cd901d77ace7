//! The queue between the carrier and the consumer.
//!
//! All is under one lock, which each side takes once for all results that are there. After that it notifies the other
//! side, whose wait looks under the lock again ([`event`](crate::runtime::event)): so nothing is added, taken, asked for
//! or ended between a last look and a sleep.

use crate::error::Cancelled;
use crate::from_rayon::relay::Relay;
use crate::runtime::event::{Listener, WaitResult};
use crate::sync::{Arc, Instant, Mutex};
use crate::unwind::Payload;
use std::collections::VecDeque;

/// However short the items are, the queue has not more results, and the consumer not more in its hands.
const MOST: usize = 16 * 1024;

/// Which part of the inner stage's own bound the queue has, where no bound was named. The consumer's hands have as much.
const PART: usize = 4;

/// How the inner stage has ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// After its last output. `Some`: there would have been more.
    Quietly(Option<Cancelled>),
    Panicked(Payload),
}

/// How the places of a bound are divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shares {
    /// The bound of the inner stage.
    pub(super) inner: Option<usize>,
    /// How many results may be in the queue; without a bound, at first. 0: one, and only while the consumer waits for it.
    pub(super) half: usize,
}

impl Shares {
    /// Divides `bound`. What the consumer takes at once is `half` results at most, of which it yields the first: so
    /// behind the inner stage there are `2 * half - 1` at most, and that is at most half of what the threads can spare.
    pub(super) fn of(bound: Option<usize>, width: usize) -> Self {
        let Some(bound) = bound else {
            return Shares {
                inner: None,
                half: 1,
            };
        };
        let half = MOST.min(bound.saturating_sub(width).saturating_add(1) / 4);
        Shares {
            inner: Some(bound - (2 * half).saturating_sub(1)),
            half,
        }
    }
}

struct Exchange<T> {
    results: VecDeque<T>,
    half: usize,
    /// The consumer is in its `next()` and has nothing.
    wanted: bool,
    /// The consumer's own thread fills the queue, so nobody could make room.
    unbounded: bool,
    ended: Option<Ended>,
}

/// What the consumer finds.
pub(super) enum Found {
    /// At least one result was put into its hands.
    Results,
    Nothing,
    Ended(Ended),
}

/// The queue.
pub(super) struct Handover<T> {
    exchange: Mutex<Exchange<T>>,
    /// `half` follows the bound of the inner stage, which follows what its items cost.
    follows: bool,
    relay: Arc<Relay>,
}

impl<T> Handover<T> {
    pub(super) fn new(shares: Shares, relay: Arc<Relay>) -> Self {
        let exchange = Exchange {
            results: VecDeque::new(),
            half: shares.half,
            wanted: false,
            unbounded: false,
            ended: None,
        };
        Handover {
            exchange: Mutex::new(exchange),
            follows: shares.inner.is_none(),
            relay,
        }
    }

    pub(super) fn relay(&self) -> &Arc<Relay> {
        &self.relay
    }

    /// From now on there is room for everything.
    pub(super) fn set_unbounded(&self) {
        self.exchange.lock().unbounded = true;
    }

    // ---- the carrier

    /// Waits until there is room, and says for how many. `None`: nothing more is wanted.
    pub(super) fn wait_for_room(&self, listener: &mut Listener) -> Option<usize> {
        let mut room = 0;
        let is_over = || {
            room = self.room();
            room > 0 || self.relay.is_stopped()
        };
        let _not_unwanted: WaitResult = listener.wait(is_over, None);
        (!self.relay.is_stopped()).then_some(room)
    }

    fn room(&self) -> usize {
        let exchange = self.exchange.lock();
        if exchange.unbounded {
            return MOST;
        }
        match exchange.half {
            0 => usize::from(exchange.wanted && exchange.results.is_empty()),
            half => half.saturating_sub(exchange.results.len()),
        }
    }

    /// Hands over what was taken out of the inner stage, which has this bound now, and leaves `results` empty.
    pub(super) fn give(&self, results: &mut VecDeque<T>, bound: Option<usize>) {
        let mut exchange = self.exchange.lock();
        exchange.wanted = false;
        if self.follows {
            exchange.half = bound.map_or(1, |bound| (bound / PART).clamp(1, MOST));
        }
        if exchange.results.is_empty() {
            std::mem::swap(&mut exchange.results, results);
        } else {
            exchange.results.append(results);
        }
        drop(exchange);
        self.relay.consumer().notify();
    }

    /// Behind what was given there is this.
    pub(super) fn end(&self, ended: Ended) {
        self.exchange.lock().ended.get_or_insert(ended);
        self.relay.consumer().notify();
    }

    // ---- the consumer

    /// Puts all results into the consumer's empty hands. If there is none, and it is to `want` one, asks for it.
    pub(super) fn take(&self, hands: &mut VecDeque<T>, want: bool) -> Found {
        let mut exchange = self.exchange.lock();
        let found = if !exchange.results.is_empty() {
            std::mem::swap(&mut exchange.results, hands);
            Found::Results
        } else if let Some(ended) = exchange.ended.take() {
            Found::Ended(ended)
        } else {
            exchange.wanted = want;
            Found::Nothing
        };
        drop(exchange);
        if want || matches!(found, Found::Results) {
            self.relay.carrier().notify();
        }
        found
    }

    /// The consumer has given up its wait: what it wanted must not leave the inner stage.
    pub(super) fn withdraw(&self) {
        self.exchange.lock().wanted = false;
    }

    /// Waits until there is something to take.
    pub(super) fn wait(&self, listener: &mut Listener, until: Option<Instant>) -> WaitResult {
        let is_there = || {
            let exchange = self.exchange.lock();
            !exchange.results.is_empty() || exchange.ended.is_some()
        };
        listener.wait(is_there, until)
    }
}
