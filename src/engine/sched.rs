//! What the threads of a stage and its consumer share, as far as it depends on neither the source nor the job:
//! most of it, so that stages of the same items and results have this code in common, and a program with a
//! hundred stages is not built of a hundred schedulers. What only the stage itself can do it does as a [`Host`],
//! and runs items as a [`Runner`]: a call through a pointer for each run, not for each item.

use crate::engine::cost::Pace;
use crate::engine::ctl::{Ctl, Here};
use crate::engine::desk::{Desk, Wake};
use crate::engine::erase::{Crew, Stop};
use crate::engine::opts::Opts;
use crate::engine::run::{self, Claim, Filling, Owning, Run, Share, Taking};
use crate::engine::timing::{Copy, Hedge, Timed};
use crate::engine::unwind::{self, Payload};
use crate::engine::worker::Worker;
use crate::error::Failure;
use crate::sync::{Arc, Injector, Mutex, MutexGuard, Steal};
use crossbeam_utils::CachePadded;

/// The desk, locked.
pub(crate) type Guard<'a, I, B> = MutexGuard<'a, Desk<I, B>>;

/// What a stage does itself, as it takes its source or its job.
pub(crate) trait Host<I, B> {
    /// Starts a thread of the stage. `false`: none can be started.
    fn lease(&self, thread: usize) -> bool;

    /// Pulls a run, if nobody else is in the source and there is room.
    fn visit_source(&self, worker: &mut Worker) -> Option<Owning<I, B>>;

    /// Whether the workers have the source, and nobody is in it.
    fn is_source_free(&self) -> bool;

    /// Looks whether a consumer that runs items itself, or is about to, gets on.
    fn watch_consumer(&self, worker: &mut Worker, desk: &mut Guard<'_, I, B>);

    /// What stands at the place of an item whose closure failed; `Err`: the failure itself.
    fn failed(&self, why: Failure) -> Result<B, Failure>;
}

/// A job and one thread's state of it, which is made when it runs its first item.
pub(crate) trait Runner<I, B> {
    /// Runs up to so many items of a run. `Err`: a closure panicked.
    fn run_items(
        &mut self,
        sched: &Sched<I, B>,
        run: &mut Owning<I, B>,
        here: &Here,
        count: usize,
    ) -> Result<Claim, Payload>;

    /// Runs one item. `true`: nothing after this item counts.
    fn run(&mut self, item: I) -> Result<(B, bool), Payload>;

    /// Drops the state; it may panic.
    fn retire(&mut self) -> Option<Payload>;
}

/// What is written while items flow (the desk, the pace) has cache lines of its own: `ctl` is read for each item.
pub(crate) struct Sched<I, B> {
    pub(crate) desk: CachePadded<Mutex<Desk<I, B>>>,
    /// Whole runs that nobody owns yet.
    pub(crate) waiting: Injector<Owning<I, B>>,
    /// Unordered stages: runs with something to take.
    pub(crate) arrivals: Injector<Taking<I, B>>,
    pub(crate) pace: CachePadded<Pace>,
    pub(crate) ctl: Arc<Ctl>,
    pub(crate) crew: Crew,
    pub(crate) ordered: bool,
    /// Whether the items are timed one by one.
    pub(crate) timed: Option<Timed<I>>,
    /// Hedged stages: items that are to run a second time.
    pub(crate) copies: Injector<Copy<I, B>>,
    /// Whether the workers pull the source; else the consumer does ([`Local`](crate::Local)).
    pub(crate) pulls: bool,
    /// Whether the job has a state, which must exist `n` times and no more.
    pub(crate) stateful: bool,
    /// Whether the consumer may run items itself if they cost next to nothing.
    pub(crate) may_inline: bool,
    /// Whether the consumer is one of the threads.
    pub(crate) takes_part: bool,
    /// Whether a thread more than `n` may be leased, to run what a puller holds that is stuck.
    pub(crate) spare: bool,
}

/// What a scheduler has to know of the source and of the job.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) pulls: bool,
    pub(crate) stateful: bool,
    pub(crate) may_inline: bool,
}

impl<I, B> Sched<I, B> {
    pub(crate) fn new(
        opts: &Opts,
        shape: Shape,
        hedge: Option<Hedge<I>>,
        ctl: Arc<Ctl>,
        crew: Crew,
    ) -> Self {
        let slot_bytes = run::slot_bytes::<I, B>();
        let pace = Pace::new(opts.width, opts.in_flight, slot_bytes).expecting(opts.total);
        Sched {
            may_inline: shape.may_inline,
            takes_part: opts.takes_part,
            // A state must exist `n` times and no more; and where nothing is delivered before the
            // end, the source is waited for in any case, and others will look after what it gave.
            spare: shape.pulls && !shape.stateful && (!opts.takes_part || opts.width == 1),
            pulls: shape.pulls,
            stateful: shape.stateful,
            desk: CachePadded::new(Mutex::new(Desk::new(opts.width))),
            waiting: Injector::new(),
            arrivals: Injector::new(),
            // With one worker, and a state that no spare thread may have a second of, nobody
            // could take over what a stuck puller holds.
            pace: CachePadded::new(if shape.stateful && opts.width == 1 {
                pace.one_by_one()
            } else {
                pace
            }),
            ctl,
            crew,
            ordered: opts.ordered,
            timed: Timed::new(opts.item_timeout, hedge),
            copies: Injector::new(),
        }
    }

    /// Does what a waker decided under the lock.
    pub(crate) fn act(&self, host: &dyn Host<I, B>, wake: Wake) {
        match wake {
            Wake::Nobody => {}
            Wake::Unpark(parker) => parker.unpark(),
            Wake::Lease(thread) => {
                if !host.lease(thread) {
                    self.desk.lock().lease_failed(thread);
                    self.ctl.wake_consumer();
                }
            }
        }
    }

    /// How many items may be in flight now; a copy takes the place of one.
    pub(crate) fn bound(&self) -> u64 {
        let copies = self.hedge().map_or(0, Hedge::copies);
        self.pace.bound().saturating_sub(copies as u64)
    }

    /// How many items may still be pulled, the next one being `seq`.
    pub(crate) fn room(&self, seq: u64) -> usize {
        let bound = self.bound();
        let in_flight = seq - self.ctl.yielded();
        usize::try_from(bound.saturating_sub(in_flight)).unwrap_or(usize::MAX)
    }

    /// Gives a run its place. In an unordered stage the consumer's handle comes back, to go to
    /// the consumer when there is something to take.
    pub(crate) fn open(
        &self,
        desk: &mut Desk<I, B>,
        seq: u64,
        capacity: usize,
    ) -> (Filling<I, B>, Option<Taking<I, B>>) {
        let (filling, taking) = run::open(desk.fresh(), seq, capacity);
        (filling, self.place(desk, taking))
    }

    fn place(&self, desk: &mut Desk<I, B>, taking: Taking<I, B>) -> Option<Taking<I, B>> {
        if self.ordered {
            desk.order.push(taking.run().first(), taking);
            None
        } else {
            Some(taking)
        }
    }

    /// A closed run of one item.
    pub(crate) fn single(&self, desk: &mut Desk<I, B>, seq: u64, item: I) -> Owning<I, B> {
        let (mut filling, arrival) = self.open(desk, seq, 1);
        let _ = filling.pen().push(item);
        let Ok(mut owning) = filling.close(&mut desk.key) else {
            unreachable!("only an open run of the desk can be sealed")
        };
        owning.arrival = arrival;
        owning
    }

    /// The source panicked: that is what stands at the place of its next item.
    pub(crate) fn source_panicked(&self, desk: &mut Desk<I, B>, seq: u64, payload: Payload) {
        desk.end = Some(seq + 1);
        let (filling, arrival) = self.open(desk, seq, 1);
        filling.panicked(payload, &mut desk.key);
        if let Some(arrival) = arrival {
            self.arrivals.push(arrival);
        }
    }

    /// Steals from what `victim` has not started.
    pub(crate) fn split(
        &self,
        desk: &mut Guard<'_, I, B>,
        victim: &Run<I, B>,
        share: Share,
    ) -> Option<Owning<I, B>> {
        let fresh = desk.fresh();
        match run::split(victim, fresh, share, &mut desk.key) {
            Ok((mut owning, taking)) => {
                owning.arrival = self.place(desk, taking);
                Some(owning)
            }
            Err(fresh) => {
                desk.keep(fresh);
                None
            }
        }
    }

    /// Nothing more is started, nor yielded.
    pub(crate) fn stop(&self) {
        self.ctl.stop();
        self.ctl.over(self.crew.held());
    }

    /// Takes a whole run that nobody owns.
    pub(crate) fn take_waiting(&self) -> Option<Owning<I, B>> {
        steal(&self.waiting)
    }

    /// Whether the permit of a thread that is stuck in the source may be lent: not where that is the consumer, which
    /// has none, nor where a state belongs to it.
    pub(crate) fn may_lend(&self) -> bool {
        self.pulls && !self.stateful
    }

    /// What a hedged stage has for that.
    pub(crate) fn hedge(&self) -> Option<&Hedge<I>> {
        self.timed.as_ref()?.hedge.as_ref()
    }

    /// Drops all that is left, each thing by itself; the first panic comes back.
    pub(crate) fn dispose(self) -> Option<Payload> {
        let mut panic = self.ctl.take_stray();
        let mut desk = self.desk.into_inner().into_inner();
        while let Some(copy) = steal(&self.copies) {
            unwind::first(&mut panic, unwind::discard(copy));
        }
        let mut takings: Vec<_> = desk.order.drain().collect();
        takings.extend(desk.open.take().and_then(|open| open.arrival));
        while let Some(owning) = steal(&self.waiting) {
            takings.extend(owning.arrival);
        }
        takings.extend(std::iter::from_fn(|| steal(&self.arrivals)));
        desk.forget_runs();
        for taking in takings {
            unwind::first(&mut panic, taking.clear());
        }
        panic
    }
}

/// Takes the oldest of a queue.
pub(crate) fn steal<T>(queue: &Injector<T>) -> Option<T> {
    loop {
        match queue.steal() {
            Steal::Success(value) => return Some(value),
            Steal::Empty => return None,
            Steal::Retry => {}
        }
    }
}
