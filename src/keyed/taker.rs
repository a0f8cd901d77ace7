//! What of the consumer needs no thread: it takes, waits, and makes room.

use crate::keyed::intake::Lanes;
use crate::keyed::shared::{KeyedStage, discard};
use crate::keyed::state::Done;
use crate::par::job::Job;
use crate::runtime::event::{Listener, WaitResult};
use crate::sync::{Arc, Instant, Ordering};
use crate::unwind::{self, Payload};
use std::collections::VecDeque;
use std::time::Duration;

/// How long the consumer may nap, and for how many results at most.
const NAP: Duration = Duration::from_millis(1);
const BULK: usize = 1024;
/// A sleep as short as this means that results flow.
const FLOW: Duration = Duration::from_micros(300);

pub(super) struct Taker<Q: Lanes, J: Job<Q::Item>> {
    pub(super) shared: Arc<KeyedStage<Q, J>>,
    listener: Listener,
    /// Wakes for each result.
    eager: bool,
    taken: VecDeque<Done<J::Batch>>,
    /// How many have been yielded and not yet been said to be, and for how many that is done.
    yielded: usize,
    portion: usize,
    flows: bool,
}

/// What the consumer finds.
pub(super) enum Found<B> {
    Result(Done<B>),
    /// It has to wait, or to do something itself.
    Nothing,
    Over,
}

impl<Q: Lanes, J: Job<Q::Item>> Taker<Q, J> {
    pub(super) fn new(shared: Arc<KeyedStage<Q, J>>, listener: Listener, eager: bool) -> Self {
        Taker {
            shared,
            listener,
            eager,
            taken: VecDeque::new(),
            yielded: 0,
            portion: 1,
            flows: false,
        }
    }

    /// How many items are in flight.
    pub(super) fn held(&self) -> usize {
        self.shared.held.count() - self.yielded
    }

    pub(super) fn dispose(self) -> Option<Payload> {
        let mut panic = None;
        for result in self.taken {
            unwind::first(&mut panic, discard(result));
        }
        match Arc::into_inner(self.shared) {
            Some(shared) => unwind::first(&mut panic, shared.dispose()),
            None => debug_assert!(false, "a thread holds something after the join"),
        }
        panic
    }
}

impl<Q, J> Taker<Q, J>
where
    Q: Lanes<Item: Send> + Send,
    J: Job<Q::Item>,
{
    /// Takes the next result, and counts it as yielded.
    pub(super) fn take(&mut self) -> Found<J::Batch> {
        if self.taken.is_empty() {
            let shared = &self.shared;
            // Of what is worth a wake-up a part is soon enough.
            self.portion = (shared.cost.worth_waking() / 4).max(1) as usize;
            let mut state = shared.state.lock();
            state.take_done(&mut self.taken);
            if self.taken.is_empty() {
                return if shared.is_over(&state) {
                    Found::Over
                } else {
                    Found::Nothing
                };
            }
        }
        let Some(result) = self.taken.pop_front() else {
            return Found::Nothing;
        };
        self.yielded += 1;
        if self.yielded >= self.portion || self.taken.is_empty() {
            self.tell_yielded();
        }
        Found::Result(result)
    }

    fn tell_yielded(&mut self) {
        let cost = &self.shared.cost;
        let (left, waiting) = self.shared.held.sub(std::mem::take(&mut self.yielded));
        if waiting && cost.bound().saturating_sub(left as u64) >= cost.worth_waking() {
            self.make_room();
        }
    }

    fn make_room(&self) {
        let mut state = self.shared.state.lock();
        self.shared.held.answer();
        let wake = self.shared.call(&mut state);
        drop(state);
        self.shared.act(wake);
    }

    /// Waits until there is something to take, this is over, or it is later than that.
    pub(super) fn wait(&mut self, until: Option<Instant>) -> WaitResult {
        let shared = &self.shared;
        if shared.held.is_anybody_waiting() && shared.held.count() < shared.bound() {
            self.make_room();
        }
        let now = Instant::now();
        let nap = (self.flows && !self.eager).then(|| now + NAP);
        let wanted = match nap {
            Some(_) => (shared.bound() / 4).clamp(1, BULK),
            None => 1,
        };
        shared.starves.store(nap.is_none(), Ordering::Relaxed);
        shared.state.lock().wanted = wanted;
        let ready = || {
            let state = shared.state.lock();
            state.done.len() >= wanted
                || (nap.is_none() && state.is_any_in_outboxes())
                || shared.is_over(&state)
        };
        let heard = self
            .listener
            .wait(ready, nap.into_iter().chain(until).min());
        shared.starves.store(false, Ordering::Relaxed);
        self.flows = if nap.is_some() {
            heard == WaitResult::Ready || shared.state.lock().done.len() > 1
        } else {
            // In a model time does not pass, and a nap would hide a wake-up that is missing.
            !cfg!(loom) && now.elapsed() < FLOW
        };
        if heard == WaitResult::Late && until.is_none_or(|until| until > Instant::now()) {
            return WaitResult::Ready; // it was a nap
        }
        heard
    }
}
