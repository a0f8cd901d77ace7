//! A stage at work: what its threads and its consumer share, how it starts and how it ends.
//! `worker.rs` is the side of the threads, `consumer.rs` the side of `next()`; `README.md` tells
//! the protocol.

use crate::engine::cancel::CancelToken;
use crate::engine::consumer::Consumer;
use crate::engine::cost::Pace;
use crate::engine::ctl::Ctl;
use crate::engine::desk::{Desk, Wake};
use crate::engine::erase::{Crew, Seed, Start, Stop};
use crate::engine::hedged::{CloneItem, CopyOf, Hedge};
use crate::engine::inline;
use crate::engine::job::Job;
use crate::engine::lent::Loan;
use crate::engine::policy::HedgePolicy;
use crate::engine::pool::Pool;
use crate::engine::run::{self, Filling, Owning, Run, Share, Taking};
use crate::engine::source::Source;
use crate::engine::timed::Timed;
use crate::engine::unwind::{self, Payload};
use crate::engine::worker;
use crate::error::Cancelled;
use crate::sync::{Arc, Injector, Mutex, MutexGuard, Steal};
use crossbeam_utils::CachePadded;
use std::time::Duration;

/// What a user may choose.
#[derive(Clone, Debug)]
pub(crate) struct Opts {
    pub(crate) width: usize,
    /// The most items that the source says it has.
    pub(crate) total: Option<usize>,
    pub(crate) in_flight: Option<usize>,
    pub(crate) ordered: bool,
    pub(crate) eager: bool,
    /// The consumer's thread is one of the `n`. Only for who takes no result before all are there:
    /// while it runs an item it delivers nothing.
    pub(crate) takes_part: bool,
    pub(crate) item_timeout: Option<Duration>,
    pub(crate) hedge: Option<HedgePolicy>,
    pub(crate) name: Option<String>,
    pub(crate) tokens: Vec<CancelToken>,
    /// Those on which the source is asked for no more.
    pub(crate) drains: Vec<CancelToken>,
    /// It hears nothing of what it is started in.
    pub(crate) detached: bool,
    /// When what it is started in ends, its closures are told and nothing is left out: there is nobody who
    /// could be told that something is missing.
    pub(crate) runs_all: bool,
    pub(crate) pool: Option<Pool>,
}

/// A stage before its start.
#[derive(Debug)]
pub(crate) struct Plan<S: Source, J> {
    pub(crate) source: S,
    pub(crate) job: J,
    pub(crate) opts: Opts,
    /// Hedged stages: how to clone an item.
    pub(crate) clone: Option<CloneItem<S::Item>>,
}

impl<S: Source, J: Job<S::Item>> Start for Plan<S, J>
where
    S::Item: Send,
{
    type Output = J::Output;
    type Running = Consumer<S, J>;

    fn start(self: Box<Self>, seed: Seed) -> Box<Consumer<S, J>> {
        Consumer::start(*self, seed)
    }

    fn fold<A>(running: &mut Consumer<S, J>, init: A, f: impl FnMut(A, J::Output) -> A) -> A {
        running.fold_all(init, f)
    }

    fn cut(running: &Consumer<S, J>) -> Option<Cancelled> {
        running.cut()
    }

    fn tell_cut(running: &Consumer<S, J>) {
        running.tell_cut();
    }
}

/// The source, and how far it has been pulled. Whoever is in it holds its lock.
#[derive(Debug)]
pub(crate) struct Origin<F> {
    /// `None` only while a puller has it in hand, or the consumer has borrowed it.
    pub(crate) iter: Option<F>,
    /// The `seq` of the next item.
    pub(crate) seq: u64,
    /// It ended or panicked and must not be called again.
    pub(crate) ended: bool,
    /// The consumer has borrowed `iter`, and `seq` is where it began.
    pub(crate) loan: Option<Loan<F>>,
}

/// The type of a stage's desk.
pub(crate) type DeskOf<S, J> = Desk<<S as Source>::Item, <J as Job<<S as Source>::Item>>::Batch>;
pub(crate) type RunOf<S, J> = Run<<S as Source>::Item, <J as Job<<S as Source>::Item>>::Batch>;
pub(crate) type OwningOf<S, J> =
    Owning<<S as Source>::Item, <J as Job<<S as Source>::Item>>::Batch>;
pub(crate) type TakingOf<S, J> =
    Taking<<S as Source>::Item, <J as Job<<S as Source>::Item>>::Batch>;
pub(crate) type FillingOf<S, J> =
    Filling<<S as Source>::Item, <J as Job<<S as Source>::Item>>::Batch>;

/// What the threads of a stage and its consumer share. What is written while items flow (the
/// source, the desk, the pace) has cache lines of its own: `job` and `ctl` are read each item.
pub(crate) struct Shared<S: Source, J: Job<S::Item>> {
    pub(crate) job: J,
    /// `None`: the consumer has the source ([`Local`](crate::Local)).
    pub(crate) origin: Option<CachePadded<Mutex<Origin<S::Far>>>>,
    pub(crate) desk: CachePadded<Mutex<DeskOf<S, J>>>,
    /// Whole runs that nobody owns yet.
    pub(crate) waiting: Injector<OwningOf<S, J>>,
    /// Unordered stages: runs with something to take.
    pub(crate) arrivals: Injector<TakingOf<S, J>>,
    pub(crate) pace: CachePadded<Pace>,
    pub(crate) ctl: Arc<Ctl>,
    pub(crate) crew: Crew,
    pub(crate) ordered: bool,
    /// Whether the items are timed one by one.
    pub(crate) timed: Option<Timed<S::Item>>,
    /// Hedged stages: items that are to run a second time.
    pub(crate) copies: Injector<CopyOf<S, J>>,
    /// Whether the consumer may run items itself if they cost next to nothing.
    pub(crate) may_inline: bool,
    /// Whether the consumer is one of the threads.
    pub(crate) takes_part: bool,
    /// Whether a thread more than `n` may be leased, to run what a puller holds that is stuck.
    pub(crate) spare: bool,
}

impl<S: Source, J: Job<S::Item>> Shared<S, J>
where
    S::Item: Send,
{
    pub(crate) fn new(
        job: J,
        far: Option<S::Far>,
        opts: &Opts,
        linked: bool,
        timed: Option<Timed<S::Item>>,
        ctl: Arc<Ctl>,
        crew: Crew,
    ) -> Self {
        let slot_bytes = run::slot_bytes::<S::Item, J::Batch>();
        let pace = Pace::new(opts.width, opts.in_flight, slot_bytes).expecting(opts.total);
        Shared {
            job,
            may_inline: !linked && inline::is_allowed::<S, J>(opts),
            takes_part: opts.takes_part,
            // A state must exist `n` times and no more; and where nothing is delivered before the
            // end, the source is waited for in any case, and others will look after what it gave.
            spare: far.is_some() && !J::STATEFUL && (!opts.takes_part || opts.width == 1),
            origin: far.map(|iter| {
                CachePadded::new(Mutex::new(Origin {
                    iter: Some(iter),
                    seq: 0,
                    ended: false,
                    loan: None,
                }))
            }),
            desk: CachePadded::new(Mutex::new(Desk::new(opts.width))),
            waiting: Injector::new(),
            arrivals: Injector::new(),
            // With one worker, and a state that no spare thread may have a second of, nobody
            // could take over what a stuck puller holds.
            pace: CachePadded::new(if J::STATEFUL && opts.width == 1 {
                pace.one_by_one()
            } else {
                pace
            }),
            ctl,
            crew,
            ordered: opts.ordered,
            timed,
            copies: Injector::new(),
        }
    }

    /// Does what a waker decided under the lock.
    pub(crate) fn act(self: &Arc<Self>, wake: Wake) {
        match wake {
            Wake::Nobody => {}
            Wake::Unpark(parker) => parker.unpark(),
            Wake::Lease(thread) => {
                let shared = Arc::clone(self);
                if self
                    .crew
                    .lease(move || worker::work(&shared, thread))
                    .is_err()
                {
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
        desk: &mut DeskOf<S, J>,
        seq: u64,
        capacity: usize,
    ) -> (FillingOf<S, J>, Option<TakingOf<S, J>>) {
        let (filling, taking) = run::open(desk.fresh(), seq, capacity);
        (filling, self.place(desk, taking))
    }

    fn place(&self, desk: &mut DeskOf<S, J>, taking: TakingOf<S, J>) -> Option<TakingOf<S, J>> {
        if self.ordered {
            desk.order.push(taking.run().first(), taking);
            None
        } else {
            Some(taking)
        }
    }

    /// A closed run of one item.
    pub(crate) fn single(
        &self,
        desk: &mut DeskOf<S, J>,
        seq: u64,
        item: S::Item,
    ) -> OwningOf<S, J> {
        let (mut filling, arrival) = self.open(desk, seq, 1);
        let _ = filling.pen().push(item);
        let Ok(mut owning) = filling.close(&mut desk.key) else {
            unreachable!("only an open run of the desk can be sealed")
        };
        owning.arrival = arrival;
        owning
    }

    /// The source panicked: that is what stands at the place of its next item.
    pub(crate) fn source_panicked(&self, desk: &mut DeskOf<S, J>, seq: u64, payload: Payload) {
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
        desk: &mut MutexGuard<'_, DeskOf<S, J>>,
        victim: &RunOf<S, J>,
        share: Share,
    ) -> Option<OwningOf<S, J>> {
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
    pub(crate) fn take_waiting(&self) -> Option<OwningOf<S, J>> {
        steal(&self.waiting)
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
        unwind::first(&mut panic, unwind::discard(self.origin));
        unwind::first(&mut panic, unwind::discard(self.job));
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
