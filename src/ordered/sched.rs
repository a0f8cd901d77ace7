//! The scheduler: what the threads of a stage and its consumer share, as far as it depends on neither the
//! source nor the job. Stages with the same types of items and results share this code, so a program with a
//! hundred stages does not contain a hundred schedulers. What needs the source or the job is behind two
//! traits: [`Host`] and [`ItemRunner`]. A call of one of them goes through a pointer, which costs once per
//! chunk, not once per item.

use crate::error::ItemError;
use crate::ordered::chunk::{
    self, Chunk, ChunkExecutor, ChunkReader, ChunkWriter, Claim, StealAmount,
};
use crate::ordered::company::Company;
use crate::ordered::core::Core;
use crate::ordered::item_context::ItemContext;
use crate::ordered::opts::OrderedOpts;
use crate::ordered::parked::Parked;
use crate::ordered::signals::Signals;
use crate::ordered::timing::{Copy, StageHedge, Timed};
use crate::ordered::weight::Weights;
use crate::ordered::worker::Worker;
use crate::runtime::barrier::Free;
use crate::runtime::cost::CostModel;
use crate::runtime::helm::Helm;
use crate::runtime::lease::Leases;
use crate::runtime::meter::{Event, Meter, MeterSlot};
use crate::runtime::permits::Permits;
use crate::runtime::roster::Wake;
use crate::sync::{Arc, AtomicBool, Injector, Mutex, MutexGuard, steal};
use crate::unwind::{self, Payload};
use crossbeam_utils::CachePadded;

/// The core, locked.
pub(super) type SchedGuard<'a, I, B> = MutexGuard<'a, Core<I, B>>;

/// What a stage does itself, because it needs its source or its job.
pub(super) trait Host<I, B> {
    /// Starts a thread of the stage. `false`: none can be started. Called without a lock, as it may take
    /// long.
    fn lease(&self, thread: usize) -> bool;

    /// Pulls a chunk, if no other thread is in the source and there is room. Called without the scheduler's
    /// lock. The caller has a permit, and runs the chunk. `None`: `worker.refused` says why.
    fn visit_source(&self, worker: &mut Worker) -> Option<ChunkExecutor<I, B>>;

    /// Whether the workers have the source, and no thread is in it. The caller holds the scheduler's lock.
    fn is_source_free(&self) -> bool;

    /// Watcher: checks whether a consumer that runs items itself, or is about to, makes progress.
    fn watch_consumer(&self, worker: &mut Worker, core: &mut SchedGuard<'_, I, B>);

    /// What is published in place of an item whose closure failed. `Err`: the failure itself.
    fn failed(&self, why: ItemError) -> Result<B, ItemError>;
}

/// A job, and one thread's state of it. The state is made on the thread, when it runs its first item.
pub(super) trait ItemRunner<I, B> {
    /// Runs up to `count` items of a chunk, the first of which is claimed. `Err`: a closure panicked, and its
    /// item is still claimed.
    fn run_items(
        &mut self,
        sched: &Sched<I, B>,
        chunk: &mut ChunkExecutor<I, B>,
        here: &ItemContext,
        count: usize,
    ) -> Result<Claim, Payload>;

    /// Runs one item. `true`: nothing after this item counts. The last is what the outputs weigh.
    fn run(&mut self, item: I) -> Result<(B, bool, u64), Payload>;

    /// Whether its state is made.
    fn has_state(&self) -> bool;

    /// Whether its state could not be made for the last chunk.
    fn lacks_state(&self) -> bool;

    /// Drops the state, and returns the panic if that panics.
    fn retire(&mut self) -> Option<Payload>;
}

/// The scheduler of one stage. Threads read `signals` for each item. What is written while items flow
/// (`core`, `cost`) has cache lines of its own, so that these reads do not fetch a line for each write of
/// another thread.
pub(super) struct Sched<I, B> {
    pub(super) core: CachePadded<Mutex<Core<I, B>>>,
    /// What `Core::unowned` has, for a thread that holds another lock. Written under the scheduler's.
    pub(super) is_any_unowned: AtomicBool,
    /// Unordered stages: chunks that have a result to take, or are about to.
    pub(super) arrivals: Injector<ChunkReader<I, B>>,
    /// Only estimates: workers store them without a lock, and may overwrite one another's.
    pub(super) cost: CachePadded<CostModel>,
    /// Behind its own pointer, because the session, its hooks and the threads' contexts hold it too, without
    /// the types.
    pub(super) signals: Arc<Signals>,
    pub(super) leases: Leases,
    /// `Some`: the stage was asked for statistics.
    pub(super) meter: MeterSlot,
    pub(super) company: Company,
    pub(super) ordered: bool,
    /// `Some`: the items are timed one by one.
    pub(super) timed: Option<Timed<I>>,
    /// `Some`: each closure holds one of these while it runs.
    pub(super) limit: Option<Permits>,
    /// `Some`: what is in flight may weigh only so much.
    pub(super) weights: Option<Weights<I>>,
    /// `Some`: what is finished and waits may weigh only so much.
    pub(super) parked: Option<Parked>,
    /// Whether the consumer must tell more of what it takes than how much.
    pub(super) tells: bool,
    /// Hedged stages: items that are to run a second time. Taken by a thread that has found nothing else.
    pub(super) copies: Injector<Copy<I, B>>,
    /// Whether the workers pull the source; else the consumer does ([`Local`](crate::stage::Local)).
    pub(super) pulls: bool,
    /// Whether the job has a user's state, which must exist at most `n` times.
    pub(super) stateful: bool,
    /// Whether the consumer may run items itself if they cost next to nothing.
    pub(super) may_inline: bool,
    /// Whether the consumer may run what is at the head of the line.
    pub(super) may_help: Option<Free>,
    /// Whether one worker may run all items, and the consumer wait for them without sleep.
    pub(super) may_wait: bool,
    /// Whether the width may be set while the stage runs.
    pub(super) resizable: bool,
    /// Whether the consumer is one of the threads.
    pub(super) takes_part: bool,
    /// Whether one thread more than `n` may be leased, to run what a puller holds that is stuck.
    pub(super) spare: bool,
}

/// What a scheduler has to know of the source and of the job, as values and not as types.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) pulls: bool,
    pub(super) stateful: bool,
    pub(super) may_inline: bool,
    pub(super) may_help: Option<Free>,
    pub(super) may_wait: bool,
    /// Whether its width may be set while it runs.
    pub(super) resizable: bool,
}

impl<I, B> Sched<I, B> {
    pub(super) fn new(
        opts: &OrderedOpts,
        total: Option<usize>,
        shape: Shape,
        hedge: Option<StageHedge<I>>,
        signals: Arc<Signals>,
        leases: Leases,
        meter: MeterSlot,
    ) -> Self {
        let slot_bytes = chunk::slot_bytes::<I, B>();
        let cost =
            CostModel::new(opts.work.width, opts.work.in_flight, slot_bytes).expecting(total);
        let mut core = Core::new(opts.work.width, opts.parked_weight.is_some(), meter.clone());
        core.helm = Helm::of(&opts.work, !opts.is_weighed());
        Sched {
            may_inline: shape.may_inline,
            may_help: shape.may_help,
            may_wait: shape.may_wait,
            resizable: shape.resizable,
            takes_part: opts.takes_part,
            // No spare thread where the consumer pulls, because that needs no permit, and none where a state
            // too many would come with it. Nor where the consumer takes part and is not the only thread:
            // nothing is delivered before the end there, so a blocked source is waited for in any case, and
            // waking two threads at the start of a short call costs more than the spare one saves.
            spare: shape.pulls && !shape.stateful && (!opts.takes_part || opts.work.width == 1),
            pulls: shape.pulls,
            stateful: shape.stateful,
            core: CachePadded::new(Mutex::new(core)),
            is_any_unowned: AtomicBool::new(false),
            arrivals: Injector::new(),
            // With one worker and a user's state no spare thread may exist, so no thread could take over what
            // a stuck puller holds. With chunks of one item it never holds an unstarted one. A stage whose width may
            // be set may come to have one worker at any time, also while a thread is in the source.
            cost: CachePadded::new(
                if shape.stateful && (opts.work.width == 1 || shape.resizable) {
                    cost.one_by_one()
                } else {
                    cost
                },
            ),
            signals,
            company: Company::new(leases.are_unlimited()),
            leases,
            meter,
            ordered: opts.ordered,
            timed: Timed::new(opts, hedge),
            limit: opts.work.limit.clone(),
            weights: (opts.in_flight_weight)
                .map(|limit| Weights::new(limit, opts.work.width, opts.ordered)),
            parked: (opts.parked_weight).map(|limit| Parked::new(limit, opts.ordered)),
            tells: opts.parked_weight.is_some()
                || opts.in_flight_weight.is_some() && !opts.ordered
                || opts.keeps_times,
            copies: Injector::new(),
        }
    }

    /// For the statistics, after a pull.
    pub(super) fn note_weight(&self, meter: &Meter) {
        if let Some(weights) = &self.weights {
            let (weight, limit) = weights.seen();
            meter.weighs(weight, limit);
        }
    }

    /// Does what a waker has decided under the lock. Called without it: a wake-up is a system call, and a
    /// lease may start a thread.
    pub(super) fn act(&self, host: &dyn Host<I, B>, wake: Wake) {
        match wake {
            Wake::Nobody => {}
            Wake::Unpark(parker) => {
                self.meter.note(|meter| meter.count_event(Event::Wakeup));
                parker.unpark();
            }
            Wake::Lease(thread) => {
                // Threads that have fallen asleep since the decision need not be woken instead: each of them
                // has looked at everything after the work became visible. Unless that one was to watch: then
                // they rely on it. The consumer must be woken: if there is no other thread, it is the one that
                // has to run the items. It sees that under the lock, after its announcement or because of this
                // call.
                if !host.lease(thread) {
                    let mut core = self.core.lock();
                    let wake = core.lease_failed(thread);
                    if core.roster.len() < 2 {
                        self.company.never_comes();
                    }
                    drop(core);
                    self.act(host, wake);
                    self.signals.wake_consumer();
                }
            }
        }
    }

    /// How many items may be in flight now. A copy takes the place of an item that would be pulled.
    pub(super) fn bound(&self) -> u64 {
        let copies = self.hedge().map_or(0, StageHedge::copies);
        self.cost.bound().saturating_sub(copies as u64)
    }

    /// How many items may still be pulled, the next one being `seq`. The caller is in the source, so `seq`
    /// does not change. `yielded` may be a little behind: then the room is underestimated, never
    /// overestimated.
    pub(super) fn room(&self, seq: u64) -> usize {
        let bound = self.bound();
        // No underflow: the consumer has yielded only what was pulled, and everything that was pulled is
        // below `seq`.
        let in_flight = seq - self.signals.yielded();
        let room = usize::try_from(bound.saturating_sub(in_flight)).unwrap_or(usize::MAX);
        let too_heavy = |weights: &Weights<I>| !weights.has_room(&self.signals);
        if room > 0 && self.weights.as_ref().is_some_and(too_heavy) {
            return 0;
        }
        room
    }

    /// Gives a chunk its place. It gets that before it is filled, so that the consumer can take the first
    /// result while the rest is still pulled or run. In an unordered stage the consumer's handle is returned;
    /// it goes to the consumer when there is something to take.
    pub(super) fn open(
        &self,
        core: &mut Core<I, B>,
        seq: u64,
        capacity: usize,
    ) -> (ChunkWriter<I, B>, Option<ChunkReader<I, B>>) {
        let (filling, taking) = chunk::open(core.fresh(), seq, capacity);
        (filling, self.place(core, taking))
    }

    /// Registers the consumer's handle in an ordered stage, under the lock. By the first `seq` of the chunk:
    /// the consumer asks for exactly that one.
    fn place(&self, core: &mut Core<I, B>, taking: ChunkReader<I, B>) -> Option<ChunkReader<I, B>> {
        if self.ordered {
            core.order.push(taking.chunk().first(), taking);
            None
        } else {
            Some(taking)
        }
    }

    /// A closed chunk of one item. It is opened, filled and closed in one critical section, so no rescuer
    /// sees it open.
    pub(super) fn single(&self, core: &mut Core<I, B>, seq: u64, item: I) -> ChunkExecutor<I, B> {
        let (mut filling, arrival) = self.open(core, seq, 1);
        // `push` tells whether a thread watches. This chunk never goes into the source with a puller, so that
        // does not matter.
        let _ = filling.cursor().push(item);
        let Ok(mut owning) = filling.close(&mut core.key) else {
            unreachable!("only an open chunk of the state can be sealed")
        };
        owning.arrival = arrival;
        owning
    }

    /// The source panicked: the panic is published at the place of its next item, behind everything that was
    /// pulled.
    pub(super) fn source_panicked(&self, core: &mut Core<I, B>, seq: u64, payload: Payload) {
        // The panic counts as an item. All in one critical section: a consumer that sees `end` also finds the
        // chunk.
        core.end = Some(seq + 1);
        self.meter.note(|meter| meter.pulled_from(seq, 1));
        let (filling, arrival) = self.open(core, seq, 1);
        filling.panicked(payload, &mut core.key);
        if let Some(arrival) = arrival {
            // Unordered: the chunk has no owner that would hand it over, so that is done here.
            self.arrivals.push(arrival);
        }
    }

    /// Steals from what the owner of `victim` has not started. Passes a heavy barrier, which interrupts the
    /// cores that run this process, so the callers decide first whether it is worth that.
    pub(super) fn split(
        &self,
        core: &mut SchedGuard<'_, I, B>,
        victim: &Chunk<I, B>,
        share: StealAmount,
    ) -> Option<ChunkExecutor<I, B>> {
        let fresh = core.fresh();
        match chunk::split(victim, fresh, share, &mut core.key) {
            Ok((mut owning, taking)) => {
                // In the critical section of the steal: when the lock is free again, the consumer may exhaust
                // the shortened chunk, and then it asks for exactly this `seq`.
                owning.arrival = self.place(core, taking);
                Some(owning)
            }
            Err(fresh) => {
                core.keep(fresh);
                None
            }
        }
    }

    /// Whether the permit of a thread that is stuck in the source may be borrowed. Not if that thread is the
    /// consumer (`pulls` is `false`), because it has no permit. And not if the job has a user's state: the
    /// borrower would need a second one.
    pub(super) fn may_lend(&self) -> bool {
        self.pulls && !self.stateful
    }

    /// What a hedged stage has besides; `None` in any other stage.
    pub(super) fn hedge(&self) -> Option<&StageHedge<I>> {
        self.timed.as_ref()?.hedge.as_ref()
    }

    /// Drops everything that is left, each value separately, and returns the first panic. All threads are
    /// joined.
    pub(super) fn dispose(self) -> Option<Payload> {
        let mut panic = None;
        // Each chunk that is not exhausted has its reader in one place: in `order`, with the open chunk, with
        // a chunk without an owner, or in `arrivals`. Those that the consumer had taken are in `order` again
        // (`Cursor::put_back`).
        let mut core = self.core.into_inner().into_inner();
        while let Some(copy) = steal(&self.copies) {
            unwind::first(&mut panic, unwind::discard(copy));
        }
        let mut takings: Vec<_> = core.order.drain().collect();
        takings.extend(core.open.take().and_then(|open| open.arrival));
        let aside = std::mem::take(&mut core.aside).into_values();
        let owning = core.unowned.drain().chain(aside);
        takings.extend(owning.filter_map(|owning| owning.arrival));
        takings.extend(std::iter::from_fn(|| steal(&self.arrivals)));
        let held = self.weights.and_then(Weights::into_held);
        unwind::first(&mut panic, unwind::discard(held));
        // First every other handle of the chunks: `clear` only drops what it alone can reach.
        core.forget_runs();
        for taking in takings {
            unwind::first(&mut panic, taking.clear());
        }
        panic
    }
}
