//! What the threads of a stage and its consumer share, as far as it depends on neither the source nor the job:
//! most of it, so that stages of the same items and results have this code in common, and a program with a
//! hundred stages is not built of a hundred schedulers. What only the stage itself can do it does as a [`Host`],
//! and runs items as a [`ItemRunner`]: a call through a pointer for each chunk, not for each item.

use crate::error::ItemError;
use crate::ordered::chunk::{
    self, Chunk, ChunkExecutor, ChunkReader, ChunkWriter, Claim, StealAmount,
};
use crate::ordered::core::Core;
use crate::ordered::item_context::ItemContext;
use crate::ordered::opts::OrderedOpts;
use crate::ordered::signals::Signals;
use crate::ordered::timing::{Copy, StageHedge, Timed};
use crate::ordered::worker::Worker;
use crate::runtime::cost::CostModel;
use crate::runtime::lease::Leases;
use crate::runtime::roster::Wake;
use crate::sync::{Arc, Injector, Mutex, MutexGuard, steal};
use crate::unwind::{self, Payload};
use crossbeam_utils::CachePadded;

/// The core, locked.
pub(super) type SchedGuard<'a, I, B> = MutexGuard<'a, Core<I, B>>;

/// What a stage does itself, as it takes its source or its job.
pub(super) trait Host<I, B> {
    /// Starts a thread of the stage. `false`: none can be started.
    fn lease(&self, thread: usize) -> bool;

    /// Pulls a chunk, if nobody else is in the source and there is room.
    fn visit_source(&self, worker: &mut Worker) -> Option<ChunkExecutor<I, B>>;

    /// Whether the workers have the source, and nobody is in it.
    fn is_source_free(&self) -> bool;

    /// Looks whether a consumer that runs items itself, or is about to, gets on.
    fn watch_consumer(&self, worker: &mut Worker, core: &mut SchedGuard<'_, I, B>);

    /// What stands at the place of an item whose closure failed; `Err`: the failure itself.
    fn failed(&self, why: ItemError) -> Result<B, ItemError>;
}

/// A job and one thread's state of it, which is made when it runs its first item.
pub(super) trait ItemRunner<I, B> {
    /// Runs up to so many items of a chunk. `Err`: a closure panicked.
    fn run_items(
        &mut self,
        sched: &Sched<I, B>,
        chunk: &mut ChunkExecutor<I, B>,
        here: &ItemContext,
        count: usize,
    ) -> Result<Claim, Payload>;

    /// Runs one item. `true`: nothing after this item counts.
    fn run(&mut self, item: I) -> Result<(B, bool), Payload>;

    /// Drops the state; it may panic.
    fn retire(&mut self) -> Option<Payload>;
}

/// What is written while items flow (the core, the cost) has cache lines of its own: `signals` is read for each item.
pub(super) struct Sched<I, B> {
    pub(super) core: CachePadded<Mutex<Core<I, B>>>,
    /// Whole runs that nobody owns yet.
    pub(super) waiting: Injector<ChunkExecutor<I, B>>,
    /// Unordered stages: runs with something to take.
    pub(super) arrivals: Injector<ChunkReader<I, B>>,
    pub(super) cost: CachePadded<CostModel>,
    pub(super) signals: Arc<Signals>,
    pub(super) leases: Leases,
    pub(super) ordered: bool,
    /// Whether the items are timed one by one.
    pub(super) timed: Option<Timed<I>>,
    /// Hedged stages: items that are to run a second time.
    pub(super) copies: Injector<Copy<I, B>>,
    /// Whether the workers pull the source; else the consumer does ([`Local`](crate::stage::Local)).
    pub(super) pulls: bool,
    /// Whether the job has a state, which must exist `n` times and no more.
    pub(super) stateful: bool,
    /// Whether the consumer may run items itself if they cost next to nothing.
    pub(super) may_inline: bool,
    /// Whether the consumer is one of the threads.
    pub(super) takes_part: bool,
    /// Whether a thread more than `n` may be leased, to run what a puller holds that is stuck.
    pub(super) spare: bool,
}

/// What a scheduler has to know of the source and of the job.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) pulls: bool,
    pub(super) stateful: bool,
    pub(super) may_inline: bool,
}

impl<I, B> Sched<I, B> {
    pub(super) fn new(
        opts: &OrderedOpts,
        total: Option<usize>,
        shape: Shape,
        hedge: Option<StageHedge<I>>,
        signals: Arc<Signals>,
        leases: Leases,
    ) -> Self {
        let slot_bytes = chunk::slot_bytes::<I, B>();
        let cost = CostModel::new(opts.width, opts.in_flight, slot_bytes).expecting(total);
        Sched {
            may_inline: shape.may_inline,
            takes_part: opts.takes_part,
            // A state must exist `n` times and no more; and where nothing is delivered before the
            // end, the source is waited for in any case, and others will look after what it gave.
            spare: shape.pulls && !shape.stateful && (!opts.takes_part || opts.width == 1),
            pulls: shape.pulls,
            stateful: shape.stateful,
            core: CachePadded::new(Mutex::new(Core::new(opts.width))),
            waiting: Injector::new(),
            arrivals: Injector::new(),
            // With one worker, and a state that no spare thread may have a second of, nobody
            // could take over what a stuck puller holds.
            cost: CachePadded::new(if shape.stateful && opts.width == 1 {
                cost.one_by_one()
            } else {
                cost
            }),
            signals,
            leases,
            ordered: opts.ordered,
            timed: Timed::new(opts.item_timeout, hedge),
            copies: Injector::new(),
        }
    }

    /// Does what a waker decided under the lock.
    pub(super) fn act(&self, host: &dyn Host<I, B>, wake: Wake) {
        match wake {
            Wake::Nobody => {}
            Wake::Unpark(parker) => parker.unpark(),
            Wake::Lease(thread) => {
                if !host.lease(thread) {
                    self.core.lock().lease_failed(thread);
                    self.signals.wake_consumer();
                }
            }
        }
    }

    /// How many items may be in flight now; a copy takes the place of one.
    pub(super) fn bound(&self) -> u64 {
        let copies = self.hedge().map_or(0, StageHedge::copies);
        self.cost.bound().saturating_sub(copies as u64)
    }

    /// How many items may still be pulled, the next one being `seq`.
    pub(super) fn room(&self, seq: u64) -> usize {
        let bound = self.bound();
        let in_flight = seq - self.signals.yielded();
        usize::try_from(bound.saturating_sub(in_flight)).unwrap_or(usize::MAX)
    }

    /// Gives a chunk its place. In an unordered stage the consumer's handle comes back, to go to
    /// the consumer when there is something to take.
    pub(super) fn open(
        &self,
        core: &mut Core<I, B>,
        seq: u64,
        capacity: usize,
    ) -> (ChunkWriter<I, B>, Option<ChunkReader<I, B>>) {
        let (filling, taking) = chunk::open(core.fresh(), seq, capacity);
        (filling, self.place(core, taking))
    }

    fn place(&self, core: &mut Core<I, B>, taking: ChunkReader<I, B>) -> Option<ChunkReader<I, B>> {
        if self.ordered {
            core.order.push(taking.chunk().first(), taking);
            None
        } else {
            Some(taking)
        }
    }

    /// A closed chunk of one item.
    pub(super) fn single(&self, core: &mut Core<I, B>, seq: u64, item: I) -> ChunkExecutor<I, B> {
        let (mut filling, arrival) = self.open(core, seq, 1);
        let _ = filling.cursor().push(item);
        let Ok(mut owning) = filling.close(&mut core.key) else {
            unreachable!("only an open chunk of the state can be sealed")
        };
        owning.arrival = arrival;
        owning
    }

    /// The source panicked: that is what stands at the place of its next item.
    pub(super) fn source_panicked(&self, core: &mut Core<I, B>, seq: u64, payload: Payload) {
        core.end = Some(seq + 1);
        let (filling, arrival) = self.open(core, seq, 1);
        filling.panicked(payload, &mut core.key);
        if let Some(arrival) = arrival {
            self.arrivals.push(arrival);
        }
    }

    /// Steals from what `victim` has not started.
    pub(super) fn split(
        &self,
        core: &mut SchedGuard<'_, I, B>,
        victim: &Chunk<I, B>,
        share: StealAmount,
    ) -> Option<ChunkExecutor<I, B>> {
        let fresh = core.fresh();
        match chunk::split(victim, fresh, share, &mut core.key) {
            Ok((mut owning, taking)) => {
                owning.arrival = self.place(core, taking);
                Some(owning)
            }
            Err(fresh) => {
                core.keep(fresh);
                None
            }
        }
    }

    /// Takes a whole chunk that nobody owns.
    pub(super) fn take_waiting(&self) -> Option<ChunkExecutor<I, B>> {
        steal(&self.waiting)
    }

    /// Whether the permit of a thread that is stuck in the source may be lent: not where that is the consumer, which
    /// has none, nor where a state belongs to it.
    pub(super) fn may_lend(&self) -> bool {
        self.pulls && !self.stateful
    }

    /// What a hedged stage has for that.
    pub(super) fn hedge(&self) -> Option<&StageHedge<I>> {
        self.timed.as_ref()?.hedge.as_ref()
    }

    /// Drops all that is left, each thing by itself; the first panic comes back.
    pub(super) fn dispose(self) -> Option<Payload> {
        let mut panic = None;
        let mut core = self.core.into_inner().into_inner();
        while let Some(copy) = steal(&self.copies) {
            unwind::first(&mut panic, unwind::discard(copy));
        }
        let mut takings: Vec<_> = core.order.drain().collect();
        takings.extend(core.open.take().and_then(|open| open.arrival));
        while let Some(owning) = steal(&self.waiting) {
            takings.extend(owning.arrival);
        }
        takings.extend(std::iter::from_fn(|| steal(&self.arrivals)));
        core.forget_runs();
        for taking in takings {
            unwind::first(&mut panic, taking.clear());
        }
        panic
    }
}
