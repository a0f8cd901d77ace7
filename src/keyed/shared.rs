//! What the workers of a keyed stage and its consumer share, and the rules for what a thread does next.

use crate::keyed::intake::{Lanes, PulledItem};
use crate::keyed::state::{KeyedState, Terminal};
use crate::par::job::Job;
use crate::runtime::context::Interrupts;
use crate::runtime::control::Control;
use crate::runtime::cost::CostModel;
use crate::runtime::gauge::Gauge;
use crate::runtime::lease::Leases;
use crate::runtime::meter::{Meter, MeterSlot};
use crate::runtime::permits::Permits;
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
    /// The user's closure. It is shared: each worker has its own state, if the job has states.
    pub(super) job: J,
    /// More closures run than the stage is wide: each worker comes back after its item.
    pub(super) recalls: AtomicBool,
    /// `Some`: each closure holds one of these while it runs.
    pub(super) limit: Option<Permits>,
    /// `Some`: the stage was asked for statistics.
    pub(super) meter: MeterSlot,
    /// How the stage is stopped, and the event of its consumer.
    pub(super) control: Arc<Control>,
    /// What waits in the source, to be interrupted when the stage stops.
    pub(super) inside: Arc<Interrupts>,
    /// The consumer sleeps until the first result, and does not nap: workers notify it of each result in an
    /// outbox.
    pub(super) starves: AtomicBool,
    /// Everything that is under the lock.
    pub(super) state: CachePadded<Mutex<StateOf<Q, J>>>,
    /// How many items were pulled and not yielded, and whether a worker waits for room (exchange ask / sub).
    pub(super) held: CachePadded<Gauge>,
    pub(super) cost: CachePadded<CostModel>,
    pub(super) leases: Leases,
}

/// What there is to do for one more thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NextWork {
    Run,
    Pull,
    /// A pull, if there were room.
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
        // Registered with `control`, so that a stop interrupts a wait inside the source.
        let inside = control.add_source();
        KeyedStage {
            job,
            recalls: AtomicBool::new(false),
            limit: None,
            meter: MeterSlot::default(),
            control,
            inside,
            starves: AtomicBool::new(false),
            state: CachePadded::new(Mutex::new(KeyedState::new(intake, width))),
            held: CachePadded::default(),
            cost: CachePadded::new(CostModel::new(width, in_flight, item_bytes)),
            leases,
        }
    }

    // ---- what there is to do

    /// Whether no more results will come. What is in `done` must be taken first.
    pub(super) fn is_over(&self, state: &StateOf<Q, J>) -> bool {
        // After a stop nothing is started, so only running closures can still give a result. The items that
        // were not started stay in flight, so the count does not say anything.
        if self.control.is_stopped() {
            state.running == 0
        } else {
            state.ended && self.held.count() == 0
        }
    }

    /// How many items may be in flight now.
    pub(super) fn bound(&self) -> usize {
        usize::try_from(self.cost.bound()).unwrap_or(usize::MAX)
    }

    /// What a thread that is not at work could do. A look changes nothing.
    pub(super) fn look(&self, state: &StateOf<Q, J>) -> NextWork {
        // Checked in the critical section in which a thread starts something. So once the consumer has seen
        // the stop and that nothing runs, under this lock, nothing starts any more.
        if self.control.is_stopped() {
            return NextWork::Over;
        }
        // At most `n` closures run at once. A spare thread only pulls.
        let may_run = state.running < state.width;
        // Ready lanes first: no item may wait for a thread that goes into the source and blocks there.
        if may_run && !state.ready.is_empty() {
            NextWork::Run
        } else if state.ended {
            // A worker that is done with some items of a lane looks for more itself, so no other thread is
            // needed.
            NextWork::Over
        } else if state.intake.is_none() {
            // Another thread is in the source. It looks around when it comes out.
            NextWork::Nothing
        } else if self.held.count() < self.bound() {
            NextWork::Pull
        } else {
            NextWork::Full
        }
    }

    /// Wakes or leases another thread if there is something left for it, even if only to leave.
    pub(super) fn call(&self, state: &mut StateOf<Q, J>) -> Wake {
        // Threads come in a chain. One that is on its way, or is still looking around, will call the next if
        // it finds more work than it can do.
        if state.roster.is_anybody_coming() {
            return Wake::Nobody;
        }
        let is_work = match self.look(state) {
            NextWork::Run => true,
            // If a thread waits for room, the consumer wakes it when that is worth it.
            NextWork::Pull => !self.held.is_anybody_waiting(),
            // Asks on behalf of the thread that will sleep; `true`: there is room after all, and so work.
            NextWork::Full => !self.held.is_anybody_waiting() && self.held.ask(self.bound()),
            NextWork::Nothing => false,
            NextWork::Over => return state.roster.call(0), // A sleeping thread may leave too.
        };
        if !is_work {
            return Wake::Nobody;
        }
        // One thread more than `n` may pull while `n` run closures. Not for a job with states, which must
        // exist at most `n` times.
        let spare = usize::from(!J::STATEFUL && state.running >= state.width);
        let most = state.width.saturating_add(spare);
        state.roster.call(most)
    }

    /// Does what a caller has decided under the lock, after it was released.
    pub(super) fn act(self: &Arc<Self>, wake: Wake) {
        let lease = |thread| {
            // The thread's own handle on the stage: dropped with the task, before the thread counts as gone.
            let shared = Arc::clone(self);
            self.leases.lease(move || shared.work(thread)).is_ok()
        };
        wake.act(lease, || {
            let mut state = self.state.lock();
            state.roster.lease_failed();
            self.call(&mut state)
        });
    }

    // ---- what comes from the source

    /// Puts what was pulled into its lane. `Err`: nothing must be pulled any more, and this item, if there is
    /// one, is not wanted either. The caller drops it without the lock.
    pub(super) fn admit(
        &self,
        state: &mut StateOf<Q, J>,
        pulled: PulledItem<Q::Item>,
    ) -> Result<(), Option<Q::Item>> {
        match pulled {
            // The stage was stopped while the source was asked.
            PulledItem::Item(_, (_, item)) if self.control.is_stopped() => Err(Some(item)),
            PulledItem::Item(lane, item) => {
                // Counted before a worker can see it: the count never falls below what is really in flight.
                self.held.add();
                self.meter.note(|meter| meter.pulled_from(item.0, 1));
                state.admit(lane, item);
                Ok(())
            }
            // An interrupted source gave nothing, and goes back to its place.
            PulledItem::Later => Ok(()),
            PulledItem::End => {
                state.ended = true;
                Err(None)
            }
            PulledItem::Panic(panic) => {
                state.ended = true;
                self.meter.note(Meter::unwound);
                // The consumer raises it when everything that was pulled before is yielded.
                state.panic = Some(panic);
                Err(None)
            }
        }
    }

    /// The source is not needed any more, and neither is this item.
    pub(super) fn turned_away(&self, item: Option<Q::Item>, intake: impl Lanes) {
        // First the consumer, which may wait for exactly this end. The drops are the user's code, and may
        // take long.
        self.control.notify();
        self.control.stray(unwind::discard(item));
        // The source may be an inner stage, whose drop joins its threads.
        self.control.stray(intake.dispose());
    }
}

impl<Q: Lanes, J: Job<Q::Item>> KeyedStage<Q, J> {
    /// Drops everything that is left, each value separately, and returns the first panic.
    pub(super) fn dispose(self) -> Option<Payload> {
        let state = self.state.into_inner().into_inner();
        // Items, results, the source, and last the job: the order of all schedulers.
        let mut panic = None;
        for item in state.lanes.into_iter().flat_map(|lane| lane.queue) {
            unwind::first(&mut panic, unwind::discard(item));
        }
        for (_, result) in state.done {
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

/// Drops a result that is not taken.
pub(super) fn discard<B>(result: Result<B, Terminal<B>>) -> Option<Payload> {
    match result {
        Ok(batch) | Err(Terminal::Last(batch)) => unwind::discard(batch),
        Err(Terminal::Panic(payload)) => unwind::discard(payload),
    }
}
