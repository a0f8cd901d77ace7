//! The part of the consumer that does not depend on its thread: it takes outputs, waits for them, and makes room.

use crate::flat::lane::{Lane, LaneEnd, Taken};
use crate::flat::shared::{FlatStage, discard};
use crate::par::flat_map::FlatJob;
use crate::runtime::event::{Listener, WaitResult};
use crate::sync::{Arc, Instant, bug};
use crate::unwind::{self, Payload};
use std::collections::VecDeque;
use std::time::Duration;

/// How long the consumer may nap.
const NAP: Duration = Duration::from_millis(1);
/// A sleep that is shorter than this means that outputs flow.
const FLOW: Duration = Duration::from_micros(300);

/// The consumer's own state; no other thread touches it.
pub(super) struct FlatTaker<Q: Iterator, J: FlatJob<Q::Item>> {
    pub(super) shared: Arc<FlatStage<Q, J>>,
    listener: Listener,
    /// The consumer is woken for each output.
    eager: bool,
    /// The lane that is being yielded.
    head: Option<Arc<Lane<J::Output>>>,
    /// Outputs that were taken out of it, and are yielded one by one without its lock.
    taken: VecDeque<J::Output>,
    /// Places of lanes that are free again when `taken` is empty.
    freed: usize,
    /// A lane was cut, and this was found.
    pub(super) cut: bool,
    flows: bool,
}

/// What the consumer has found.
pub(super) enum Found {
    /// Outputs, which are in `taken` now.
    Some,
    /// It must wait, or do something itself.
    Nothing,
    /// Nothing after the output that was yielded last counts.
    Last,
    Panic(Payload),
    Over,
}

impl<Q: Iterator, J: FlatJob<Q::Item>> FlatTaker<Q, J> {
    pub(super) fn new(shared: Arc<FlatStage<Q, J>>, listener: Listener, eager: bool) -> Self {
        FlatTaker {
            shared,
            listener,
            eager,
            head: None,
            taken: VecDeque::new(),
            freed: 0,
            cut: false,
            flows: false,
        }
    }

    /// How many outputs the next calls yield at least.
    pub(super) fn len(&self) -> usize {
        self.taken.len()
    }

    /// Drops the outputs that were not yielded, and everything else of the stage. Returns the first panic.
    pub(super) fn dispose(self) -> Option<Payload> {
        let mut panic = None;
        // Each part is dropped separately, so that a panic of one does not keep the others from being dropped.
        for output in self.taken {
            unwind::first(&mut panic, unwind::discard(output));
        }
        if let Some(head) = self.head {
            unwind::first(&mut panic, discard(head));
        }
        match Arc::into_inner(self.shared) {
            Some(shared) => unwind::first(&mut panic, shared.dispose()),
            None => debug_assert!(false, "a thread holds something after the join"),
        }
        panic
    }
}

impl<Q, J> FlatTaker<Q, J>
where
    Q: Iterator<Item: Send> + Send,
    J: FlatJob<Q::Item>,
{
    /// The next one of those that were taken.
    pub(super) fn next_taken(&mut self) -> Option<J::Output> {
        let output = self.taken.pop_front()?;
        // The last output of an item has made room for another item: told at once, because the consumer may stay with
        // this output.
        if self.taken.is_empty() && self.freed > 0 {
            self.advance();
        }
        Some(output)
    }

    /// Gives freed places back, and goes to the next lane. `false`: there is none now.
    fn advance(&mut self) -> bool {
        let shared = &self.shared;
        let mut state = shared.state.lock();
        shared.free(&mut state, std::mem::take(&mut self.freed));
        let wake = shared.call(&mut state);
        if self.head.is_none() {
            self.head = state.order.pop_front();
            if let Some(head) = &self.head {
                head.becomes_head();
            }
        }
        drop(state);
        shared.act(wake);
        self.head.is_some()
    }

    /// Takes outputs from the head, and goes to the next lane when it has ended.
    pub(super) fn refill(&mut self) -> Found {
        loop {
            let Some(head) = &self.head else {
                if self.advance() {
                    continue;
                }
                return if self.shared.is_over(&self.shared.state.lock()) {
                    Found::Over
                } else {
                    Found::Nothing
                };
            };
            match head.take(&mut self.taken) {
                Taken::Some { over, wake } => {
                    if let Some(worker) = wake {
                        worker.unpark();
                    }
                    if let Some(places) = over {
                        self.freed += places;
                        self.head = None;
                    }
                    return Found::Some;
                }
                Taken::Nothing => return self.nothing(),
                Taken::End(end, places) => {
                    self.freed += places;
                    self.head = None;
                    match end {
                        LaneEnd::Done => {}
                        // Everything before it was yielded, and nothing after it will be.
                        LaneEnd::Last => return Found::Last,
                        LaneEnd::Panic(panic) => return Found::Panic(panic),
                        LaneEnd::Cut => {
                            self.cut = true;
                            return Found::Over;
                        }
                    }
                }
            }
        }
    }

    /// The head has no outputs now. After a stop it may have no worker either.
    fn nothing(&mut self) -> Found {
        let Some(head) = &self.head else {
            return Found::Nothing;
        };
        self.cut = self.shared.is_forsaken(&self.shared.state.lock(), head);
        if self.cut {
            Found::Over
        } else {
            Found::Nothing
        }
    }

    /// Waits until there is something to take, the stage is over, or `until` has come.
    pub(super) fn wait(&mut self, until: Option<Instant>) -> WaitResult {
        let shared = &self.shared;
        let now = Instant::now();
        let naps = self.flows && !self.eager;
        let head = self.head.as_deref();
        // While it naps, a part of the head's places wakes it, or a worker that has no places left.
        let wanted = head.filter(|_| naps).map_or(1, Lane::bulk);
        if let Some(head) = head {
            head.want(wanted, !naps);
        }
        {
            let mut state = shared.state.lock();
            // A lane that was created before this line notifies only when it is the head.
            if head.is_none() && !state.order.is_empty() && !bug("late_to_starve") {
                return WaitResult::Ready;
            }
            state.starves = head.is_none() && !naps;
            state.full = false;
        }
        let ready = || {
            let is_ready = |head: &Lane<_>| head.is_ready(wanted, !naps);
            let state = shared.state.lock();
            let is_full = naps && state.full;
            let is_there = match head {
                Some(head) => is_ready(head) || shared.is_forsaken(&state, head),
                None => state.order.front().is_some_and(|head| is_ready(head)),
            };
            is_there || is_full || shared.is_over(&state) && head.is_none()
        };
        let limit = naps.then(|| now + NAP).into_iter().chain(until).min();
        let heard = self.listener.wait(ready, limit);
        self.flows = if naps {
            // What is behind the head does not count: it may be stuck for long.
            let is_more = || !shared.state.lock().order.is_empty();
            heard == WaitResult::Ready || head.map_or_else(is_more, Lane::has_several)
        } else {
            // In a model time does not pass, and a nap would hide a wake-up that is missing.
            !cfg!(loom) && now.elapsed() < FLOW
        };
        if heard == WaitResult::Late && until.is_none_or(|until| until > Instant::now()) {
            return WaitResult::Ready; // It was a nap.
        }
        heard
    }
}
