//! How a stage starts: its options become a scheduler, its source goes to the workers or stays here, and from
//! then on it reacts to its tokens and to the end of what it is started in.

use crate::config::Workers;
use crate::ordered::chunk;
use crate::ordered::consumer::Consumer;
use crate::ordered::cursor::Cursor;
use crate::ordered::head;
use crate::ordered::inline;
use crate::ordered::one_worker;
use crate::ordered::opts::OrderedOpts;
use crate::ordered::sched::{Sched, Shape};
use crate::ordered::shared::OrderedStage;
use crate::ordered::signals::Signals;
use crate::ordered::timing::{CloneItem, StageHedge};
use crate::par::job::{Job, OneToOne};
use crate::par::source::Source;
use crate::runtime::barrier;
use crate::runtime::meter::Live;
use crate::runtime::plan::{Common, ExactPlan, LARGE_ITEM, Plan, Resizable};
use crate::runtime::scope::StartPermit;
use crate::runtime::session::Session;
use crate::runtime::sleeper::Sleeper;
use crate::size_hint;
use crate::sync::{Arc, Instant};

/// The plan of a [`Stage`](crate::Stage) that runs a closure for each item of one source: what the `par_..`
/// adaptors make.
pub struct Par<S: Source, J> {
    pub(crate) source: S,
    pub(crate) job: J,
    pub(crate) opts: OrderedOpts,
    /// Hedged stages: clones an item.
    pub(crate) clone: Option<CloneItem<S::Item>>,
}

impl<S: Source, J> std::fmt::Debug for Par<S, J> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Par")
            .field("opts", &self.opts)
            .finish_non_exhaustive()
    }
}

impl<S: Source, J> Par<S, J> {
    #[track_caller]
    pub(crate) fn new(source: S, job: J, n: Workers, ordered: bool) -> Self {
        Par {
            source,
            job,
            opts: OrderedOpts::new(n, ordered),
            clone: None,
        }
    }

    /// The same plan, with another job.
    pub(crate) fn map_job<K>(self, map: impl FnOnce(J) -> K) -> Par<S, K> {
        Par {
            source: self.source,
            job: map(self.job),
            opts: self.opts,
            clone: self.clone,
        }
    }
}

impl<S: Source, J: Job<S::Item>> Plan for Par<S, J>
where
    S::Item: Send,
{
    type Output = J::Output;
    type Running = Consumer<S, J>;

    const NAME: &'static str = "par";

    fn size_hint(&self) -> (usize, Option<usize>) {
        J::outputs(size_hint::honest(self.source.hint()))
    }

    fn start(self, common: Common, start_permit: StartPermit) -> Option<Box<Consumer<S, J>>> {
        begin(self, common, start_permit)
    }
}

impl<S: Source, J: Job<S::Item>> Resizable for Par<S, J> where S::Item: Send {}

impl<S, J> ExactPlan for Par<S, J>
where
    S: Source + ExactSizeIterator,
    <S as Source>::Item: Send,
    J: Job<<S as Source>::Item> + OneToOne,
{
}

fn begin<S: Source, J: Job<S::Item>>(
    plan: Par<S, J>,
    mut common: Common,
    start_permit: StartPermit,
) -> Option<Box<Consumer<S, J>>>
where
    S::Item: Send,
{
    // Registers the process for the heavy barrier, before any thread of the stage exists.
    barrier::prepare();
    let Par {
        source,
        job,
        mut opts,
        clone,
    } = plan;
    opts.work.settle(&mut common);
    // A width that finds itself is chosen for threads, so the consumer is none of them.
    opts.takes_part &= opts.work.auto.is_none();
    common
        .meter
        .note(|meter| opts.keeps_times = meter.times_items());
    // A bound on the items, and what the cost model expects. A source may be wrong about it.
    let hint = size_hint::honest(source.hint());
    let sleeper = Sleeper::new();
    // Before `common` is consumed below.
    let inlines = inline::is_allowed(&opts, &common);
    let helps = head::is_allowed(&opts, &common);
    let waits = one_worker::is_allowed(&opts, &common);
    let resizable = opts.is_resizable(&common);
    let cx = start_permit.cx();
    // The session comes first. It makes the stage stoppable, and if the scope is over, nothing else has been
    // started yet.
    let session = Session::start(start_permit, common, "a stage without a name", |alive| {
        Signals::new(sleeper.caller().clone(), opts.runs_all, alive)
    })?;
    let signals = Arc::clone(session.control());
    // Known only now: a linked stage must notice the end of its frame, and a consumer inside a blocked source
    // could not.
    let may_inline = inlines && !signals.is_linked() && !signals.span().is_watched();
    // The source may itself be a stage, and gets the context in which it may borrow.
    let (far, near) = match source.place(cx) {
        Ok(far) => (Some(far), None),
        Err(near) => (None, Some(near)),
    };
    debug_assert_eq!(near.is_some(), S::LOCAL);
    // In a debug build a call hands an item down by copies, some thirty of them, and this stack is the user's.
    let is_small = chunk::slot_bytes::<S::Item, J::Batch>() <= LARGE_ITEM;
    // What the scheduler must know of the types, as values: its code does not depend on them.
    let shape = Shape {
        pulls: !S::LOCAL,
        stateful: J::STATEFUL,
        may_inline: may_inline && is_small && !J::STATEFUL && !J::CATCHES,
        // Where the consumer may run all items, that is better still.
        may_wait: waits && !inlines && !S::LOCAL,
        resizable,
        may_help: helps.filter(|_| is_small && !S::LOCAL && !J::STATEFUL),
    };
    // Both or neither: a stage can be hedged only if its items can be cloned.
    let hedge = opts.hedge.clone().zip(clone);
    let hedge = hedge.map(|(policy, clone)| StageHedge::new(policy, clone));
    let leases = session.leases().clone();
    let meter = session.meter().clone();
    let sched = Sched::new(&opts, hint.1, shape, hedge, signals, leases, meter);
    sched.meter.note(|meter| {
        let live = Arc::clone(&sched.signals) as Arc<dyn Live>;
        meter.start(Instant::now(), opts.work.width, sched.bound(), Some(live));
        if J::IS_SILENT {
            meter.is_silent();
        }
    });
    let shared = Arc::new(OrderedStage::<S, J>::new(sched, job, far));
    if let Some(width) = session.width() {
        shared.follow(width, opts.work.width);
    }
    let cursor = Cursor::new(sleeper, session, opts.work.eager);
    let mut consumer = Box::new(Consumer::new(shared, near, cursor, hint));
    // Leases the first thread, so it comes when everything that a thread uses is there.
    consumer.join_in(opts.takes_part);
    Some(consumer)
}
