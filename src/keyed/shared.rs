//! What the workers of a keyed stage and its consumer share, and what there is to do.

use crate::keyed::intake::{Lanes, PulledItem};
use crate::keyed::room::InFlight;
use crate::keyed::state::{KeyedState, Terminal};
use crate::par::job::Job;
use crate::runtime::context::Interrupts;
use crate::runtime::control::Control;
use crate::runtime::cost::CostModel;
use crate::runtime::lease::Leases;
use crate::runtime::roster::Wake;
use crate::sync::{Arc, AtomicBool, Mutex, MutexGuard};
use crate::unwind::{self, Payload};
use crossbeam_utils::CachePadded;

/// The state of a stage. Each item has its number in the source.
pub(super) type StateOf<Q, J> =
    KeyedState<Box<Q>, (u64, <Q as Lanes>::Item), <J as Job<<Q as Lanes>::Item>>::Batch>;
pub(super) type StateGuard<'a, Q, J> = MutexGuard<'a, StateOf<Q, J>>;

/// What the workers and the consumer share.
pub(super) struct KeyedStage<Q: Lanes, J: Job<Q::Item>> {
    pub(super) job: J,
    pub(super) width: usize,
    pub(super) control: Arc<Control>,
    /// What waits in the source.
    pub(super) inside: Arc<Interrupts>,
    /// The consumer sleeps, and does not nap.
    pub(super) starves: AtomicBool,
    pub(super) state: CachePadded<Mutex<StateOf<Q, J>>>,
    pub(super) held: CachePadded<InFlight>,
    pub(super) cost: CachePadded<CostModel>,
    pub(super) leases: Leases,
}

/// What there is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NextWork {
    Run,
    Pull,
    /// To pull, if there were room.
    Full,
    Nothing,
    /// Nothing, and nothing will come.
    Over,
}

impl<Q, J> KeyedStage<Q, J>
where
    Q: Lanes<Item: Send> + Send,
    J: Job<Q::Item>,
{
    pub(super) fn new(
        job: J,
        width: usize,
        in_flight: Option<usize>,
        intake: Option<Box<Q>>,
        control: Arc<Control>,
        leases: Leases,
    ) -> Self {
        let item_bytes = size_of::<Q::Item>().max(size_of::<J::Batch>());
        let inside = control.add_source();
        KeyedStage {
            job,
            width,
            control,
            inside,
            starves: AtomicBool::new(false),
            state: CachePadded::new(Mutex::new(KeyedState::new(intake))),
            held: CachePadded::default(),
            cost: CachePadded::new(CostModel::new(width, in_flight, item_bytes)),
            leases,
        }
    }

    // ---- what there is to do

    /// Whether nothing will be done any more.
    pub(super) fn is_over(&self, state: &StateOf<Q, J>) -> bool {
        if self.control.is_stopped() {
            state.running == 0
        } else {
            state.ended && self.held.count() == 0
        }
    }

    pub(super) fn bound(&self) -> usize {
        usize::try_from(self.cost.bound()).unwrap_or(usize::MAX)
    }

    /// What another thread than those that are at work could do. Nothing is changed by a look.
    pub(super) fn look(&self, state: &StateOf<Q, J>) -> NextWork {
        if self.control.is_stopped() {
            return NextWork::Over;
        }
        let may_run = state.running < self.width;
        if may_run && !state.ready.is_empty() {
            NextWork::Run
        } else if state.ended {
            // Who is done with an item runs the next of its lane.
            NextWork::Over
        } else if state.intake.is_none() {
            NextWork::Nothing
        } else if self.held.count() < self.bound() {
            NextWork::Pull
        } else {
            NextWork::Full
        }
    }

    /// Calls another thread if there is something left for it, if only to leave.
    pub(super) fn call(&self, state: &mut StateOf<Q, J>) -> Wake {
        if state.coming || state.looking > 0 {
            return Wake::Nobody;
        }
        let is_work = match self.look(state) {
            NextWork::Run => true,
            // If somebody waits for room, the consumer calls him when it is worth it.
            NextWork::Pull => !self.held.is_anybody_waiting(),
            NextWork::Full => !self.held.is_anybody_waiting() && self.held.ask(self.bound()),
            NextWork::Nothing => false,
            NextWork::Over => return state.call(0), // who sleeps may leave
        };
        if !is_work {
            return Wake::Nobody;
        }
        // One more, to pull while `n` run; but a state must exist `n` times and no more.
        let spare = usize::from(!J::STATEFUL && state.running >= self.width);
        state.call(self.width.saturating_add(spare))
    }

    /// Does what a caller decided under the lock.
    pub(super) fn act(self: &Arc<Self>, mut wake: Wake) {
        loop {
            match wake {
                Wake::Nobody => return,
                Wake::Unpark(sleeper) => return sleeper.unpark(),
                Wake::Lease(thread) => {
                    let shared = Arc::clone(self);
                    if self.leases.lease(move || shared.work(thread)).is_ok() {
                        return;
                    }
                    // Those that are there have to do; if there are none the consumer will.
                    let mut state = self.state.lock();
                    state.roster.lease_failed();
                    state.coming = false;
                    wake = self.call(&mut state);
                }
            }
        }
    }

    // ---- what comes from the source

    /// Puts what was pulled into its lane. `Err`: nothing is to be pulled any more, and nobody wants
    /// this item either, if there is one.
    pub(super) fn admit(
        &self,
        state: &mut StateOf<Q, J>,
        pulled: PulledItem<Q::Item>,
    ) -> Result<(), Option<Q::Item>> {
        match pulled {
            PulledItem::Item(_, (_, item)) if self.control.is_stopped() => Err(Some(item)),
            PulledItem::Item(lane, item) => {
                self.held.add();
                state.admit(lane, item);
                Ok(())
            }
            PulledItem::Later => Ok(()),
            PulledItem::End => {
                state.ended = true;
                Err(None)
            }
            PulledItem::Panic(panic) => {
                state.ended = true;
                state.panic = Some(panic);
                Err(None)
            }
        }
    }

    /// The source is not needed any more, and this item neither.
    pub(super) fn turned_away(&self, item: Option<Q::Item>, intake: impl Lanes) {
        self.control.notify();
        self.control.stray(unwind::discard(item));
        self.control.stray(intake.dispose());
    }
}

impl<Q: Lanes, J: Job<Q::Item>> KeyedStage<Q, J> {
    /// Drops all that is left, each thing by itself.
    pub(super) fn dispose(self) -> Option<Payload> {
        let state = self.state.into_inner().into_inner();
        let mut panic = None;
        for item in state.lanes.into_iter().flat_map(|lane| lane.queue) {
            unwind::first(&mut panic, unwind::discard(item));
        }
        for result in state.done {
            unwind::first(&mut panic, discard(result));
        }
        unwind::first(&mut panic, unwind::discard(state.panic));
        if let Some(intake) = state.intake {
            unwind::first(&mut panic, intake.dispose());
        }
        unwind::first(&mut panic, unwind::discard(self.job));
        panic
    }
}

/// Drops a result that nobody takes.
pub(super) fn discard<B>(result: Result<B, Terminal<B>>) -> Option<Payload> {
    match result {
        Ok(batch) | Err(Terminal::Last(batch)) => unwind::discard(batch),
        Err(Terminal::Panic(payload)) => unwind::discard(payload),
    }
}
