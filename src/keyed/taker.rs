//! The part of the consumer that does not depend on its thread: it takes results, waits for them, and makes
//! room.

use crate::keyed::intake::Lanes;
use crate::keyed::shared::{KeyedStage, discard};
use crate::keyed::state::{Done, Results};
use crate::par::job::Job;
use crate::runtime::event::{Listener, WaitResult};
use crate::runtime::meter::WaitNote;
use crate::sync::{Arc, Instant, Ordering};
use crate::unwind::{self, Payload};
use std::time::Duration;

/// How long the consumer may nap, and for how many results at most.
const NAP: Duration = Duration::from_millis(1);
const BULK: usize = 1024;
/// A sleep that is shorter than this means that results flow.
const FLOW: Duration = Duration::from_micros(300);

/// The consumer's own state; no other thread touches it.
pub(super) struct Taker<Q: Lanes, J: Job<Q::Item>> {
    pub(super) shared: Arc<KeyedStage<Q, J>>,
    listener: Listener,
    /// The consumer is woken for each result.
    eager: bool,
    /// Results that were taken out of the state, and are yielded one by one without its lock.
    taken: Results<J::Batch>,
    /// How many results were yielded and not yet subtracted from the count in flight; and at how many that is
    /// done.
    yielded: usize,
    portion: usize,
    /// How many were yielded, all in all.
    pub(super) total: u64,
    /// It has found nothing.
    waits: WaitNote,
    flows: bool,
}

/// What the consumer has found.
pub(super) enum Found<B> {
    Result(Done<B>),
    /// It must wait, or do something itself.
    Nothing,
    Over,
}

impl<Q: Lanes, J: Job<Q::Item>> Taker<Q, J> {
    pub(super) fn new(shared: Arc<KeyedStage<Q, J>>, listener: Listener, eager: bool) -> Self {
        Taker {
            shared,
            listener,
            eager,
            taken: Results::new(),
            yielded: 0,
            portion: 1,
            total: 0,
            waits: WaitNote::default(),
            flows: false,
        }
    }

    /// How many items are in flight: pulled, and not yielded.
    pub(super) fn held(&self) -> usize {
        // What was yielded is subtracted late, in portions, so it is taken off here.
        self.shared.held.count() - self.yielded
    }

    /// Drops the results that were not yielded, and everything else of the stage. Returns the first panic.
    pub(super) fn dispose(self) -> Option<Payload> {
        let mut panic = None;
        for (_, result) in self.taken {
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
            // A quarter of what is worth a wake-up: soon enough for the worker that waits, and rare enough
            // for the counter.
            self.portion = (shared.cost.worth_waking() / 4).max(1) as usize;
            let mut state = shared.state.lock();
            // Everything that is done, in one critical section, so that the lock is taken once per batch and
            // not once per result.
            state.take_done(&mut self.taken);
            // In the same critical section: `is_over` is true only if no result can come any more, and none
            // is left here.
            if self.taken.is_empty() {
                return if shared.is_over(&state) {
                    Found::Over
                } else {
                    drop(state);
                    self.waits.set(&self.shared.meter, true);
                    Found::Nothing
                };
            }
        }
        let Some((seq, result)) = self.taken.pop_front() else {
            return Found::Nothing;
        };
        self.shared.meter.note(|meter| meter.item_taken(seq));
        // Counted when it is handed out, not when it is taken from the state: until then it takes up room.
        self.yielded += 1;
        self.total += 1;
        self.waits.set(&self.shared.meter, false);
        // At the latest with the last result: the consumer may wait next, and must not keep room back.
        if self.yielded >= self.portion || self.taken.is_empty() {
            self.tell_yielded();
        }
        Found::Result(result)
    }

    /// Makes the yielded results count as room. The consumer's side of the exchange ask / sub.
    fn tell_yielded(&mut self) {
        self.shared.meter.note(|meter| meter.taken_to(self.total));
        let cost = &self.shared.cost;
        let (left, waiting) = self.shared.held.sub(std::mem::take(&mut self.yielded));
        // A worker waits, but a wake-up costs as much as many items. If there is less room, `wait` wakes it
        // before the consumer sleeps.
        if waiting && cost.bound().saturating_sub(left as u64) >= cost.worth_waking() {
            self.make_room();
        }
    }

    /// Wakes a worker for room.
    fn make_room(&self) {
        let mut state = self.shared.state.lock();
        // Under the lock: a worker sets the bit under it before it falls asleep, so one that has asked is on
        // the list by now.
        self.shared.held.answer();
        let wake = self.shared.call(&mut state);
        drop(state);
        self.shared.act(wake);
    }

    /// Waits until there is something to take, the stage is over, or `until` has come.
    pub(super) fn wait(&mut self, until: Option<Instant>) -> WaitResult {
        let shared = &self.shared;
        // Room that was not worth a wake-up so far. Without this, the worker that waits for it and this
        // thread would both sleep.
        if shared.held.is_anybody_waiting() && shared.held.count() < shared.bound() {
            self.make_room();
        }
        let now = Instant::now();
        let nap = (self.flows && !self.eager).then(|| now + NAP);
        // While it naps, a quarter of the bound wakes it, so that workers do not run into the bound before it
        // comes.
        let wanted = match nap {
            Some(_) => (shared.bound() / 4).clamp(1, BULK),
            None => 1,
        };
        // Before `ready` looks into the outboxes (exchange outbox / wait). The lock of each outbox orders the
        // two sides: a worker whose result that look misses pushes it later, and then loads `starves` as it
        // is stored here.
        shared.starves.store(nap.is_none(), Ordering::Relaxed);
        // Under the lock, like the delivery that compares it, so that one of the two sees the other (exchange
        // deliver / wait).
        shared.state.lock().wanted = wanted;
        let ready = || {
            // During a nap single results in outboxes are left for later: the nap ends soon, and takes them
            // all.
            let state = shared.state.lock();
            state.done.len() >= wanted
                || (nap.is_none() && state.is_any_in_outboxes())
                || shared.is_over(&state)
        };
        let heard = self
            .listener
            .wait(ready, nap.into_iter().chain(until).min());
        // Awake: workers need not notify for each result.
        shared.starves.store(false, Ordering::Relaxed);
        // A nap was worth it if it has gathered several results. Otherwise the next wait is a sleep, and
        // after a short sleep naps begin again.
        self.flows = if nap.is_some() {
            heard == WaitResult::Ready || shared.state.lock().done.len() > 1
        } else {
            // In a model time does not pass, and a nap would hide a wake-up that is missing.
            !cfg!(loom) && now.elapsed() < FLOW
        };
        if heard == WaitResult::Late && until.is_none_or(|until| until > Instant::now()) {
            return WaitResult::Ready; // It was a nap.
        }
        if heard != WaitResult::Ready {
            self.waits.set(&self.shared.meter, false); // This thread returns to its user.
        }
        heard
    }
}
