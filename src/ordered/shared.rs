//! A stage at work: its job, its source, and the scheduler above them ([`Sched`]). `README.md` tells the protocol.

use crate::error::ItemError;
use crate::ordered::chunk::ChunkExecutor;
use crate::ordered::sched::{Host, Sched, SchedGuard};
use crate::ordered::worker::Worker;
use crate::par::job::Job;
use crate::par::runner::JobRunner;
use crate::par::source::Source;
use crate::runtime::biased::Revoker;
use crate::runtime::roster::Wake;
use crate::sync::{Arc, Mutex};
use crate::unwind::{self, Payload};
use crossbeam_utils::CachePadded;
use std::ops::Deref;

/// The source, and how far it has been pulled. Whoever is in it holds its lock.
#[derive(Debug)]
pub(crate) struct SourceSlot<F> {
    /// `None` only while a puller has it in hand, or the consumer has borrowed it.
    pub(crate) iter: Option<F>,
    /// The `seq` of the next item.
    pub(crate) seq: u64,
    /// It ended or panicked and must not be called again.
    pub(crate) ended: bool,
    /// The consumer has borrowed `iter`, and `seq` is where it began.
    pub(crate) revoker: Option<Revoker<F>>,
}

/// The type of a stage's scheduler.
pub(crate) type SchedOf<S, J> = Sched<<S as Source>::Item, <J as Job<<S as Source>::Item>>::Batch>;
pub(crate) type OwningOf<S, J> =
    ChunkExecutor<<S as Source>::Item, <J as Job<<S as Source>::Item>>::Batch>;
pub(crate) type GuardOf<'a, S, J> =
    SchedGuard<'a, <S as Source>::Item, <J as Job<<S as Source>::Item>>::Batch>;

/// What the threads of a stage and its consumer share. The source, which is written while items flow, has cache
/// lines of its own.
pub(crate) struct OrderedStage<S: Source, J: Job<S::Item>> {
    pub(crate) sched: SchedOf<S, J>,
    pub(crate) job: J,
    /// `None`: the consumer has the source ([`Local`](crate::stage::Local)).
    pub(crate) origin: Option<CachePadded<Mutex<SourceSlot<S::Far>>>>,
}

impl<S: Source, J: Job<S::Item>> Deref for OrderedStage<S, J> {
    type Target = SchedOf<S, J>;

    #[inline]
    fn deref(&self) -> &Self::Target {
        &self.sched
    }
}

impl<S: Source, J: Job<S::Item>> OrderedStage<S, J>
where
    S::Item: Send,
{
    pub(crate) fn new(sched: SchedOf<S, J>, job: J, far: Option<S::Far>) -> Self {
        OrderedStage {
            sched,
            job,
            origin: far.map(|iter| {
                CachePadded::new(Mutex::new(SourceSlot {
                    iter: Some(iter),
                    seq: 0,
                    ended: false,
                    revoker: None,
                }))
            }),
        }
    }

    /// Does what a waker decided under the lock.
    pub(crate) fn act(self: &Arc<Self>, wake: Wake) {
        self.sched.act(self, wake);
    }

    /// Drops all that is left, each thing by itself; the first panic comes back.
    pub(crate) fn dispose(self) -> Option<Payload> {
        let mut panic = self.sched.dispose();
        unwind::first(&mut panic, unwind::discard(self.origin));
        unwind::first(&mut panic, unwind::discard(self.job));
        panic
    }
}

impl<S: Source, J: Job<S::Item>> Host<S::Item, J::Batch> for Arc<OrderedStage<S, J>>
where
    S::Item: Send,
{
    fn lease(&self, thread: usize) -> bool {
        let shared = Arc::clone(self);
        let work = move || {
            let mut runner = JobRunner::new(&shared.job);
            shared.sched.work(&shared, &mut runner, thread);
        };
        self.leases.lease(work).is_ok()
    }

    fn visit_source(&self, worker: &mut Worker) -> Option<OwningOf<S, J>> {
        if S::LOCAL { None } else { self.visit(worker) }
    }

    fn is_source_free(&self) -> bool {
        let origin = self.origin.as_ref();
        origin.is_some_and(|origin| origin.try_lock().is_some())
    }

    fn watch_consumer(&self, worker: &mut Worker, core: &mut GuardOf<'_, S, J>) {
        self.watch(worker, core);
    }

    fn failed(&self, why: ItemError) -> Result<J::Batch, ItemError> {
        self.job.failed(why)
    }
}
