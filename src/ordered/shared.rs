//! A running stage: its job, its source, and the scheduler above them ([`Sched`]). `README.md` describes the
//! protocol.

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

/// The source, and how far it has been pulled. The thread in the source holds its lock.
#[derive(Debug)]
pub(super) struct SourceSlot<F> {
    /// `None` only while a puller has it in hand, or the consumer has borrowed it.
    pub(super) iter: Option<F>,
    /// The `seq` of the next item.
    pub(super) seq: u64,
    /// It has ended or panicked, and must not be called again.
    pub(super) ended: bool,
    /// `Some`: the consumer has borrowed `iter`, and began at `seq`.
    pub(super) revoker: Option<Revoker<F>>,
}

/// The type of a stage's scheduler.
pub(super) type SchedOf<S, J> = Sched<<S as Source>::Item, <J as Job<<S as Source>::Item>>::Batch>;
pub(super) type OwningOf<S, J> =
    ChunkExecutor<<S as Source>::Item, <J as Job<<S as Source>::Item>>::Batch>;
pub(super) type GuardOf<'a, S, J> =
    SchedGuard<'a, <S as Source>::Item, <J as Job<<S as Source>::Item>>::Batch>;

/// What the threads of a stage and its consumer share. The source is written while items flow, so it has its
/// own cache lines.
pub(super) struct OrderedStage<S: Source, J: Job<S::Item>> {
    /// Everything that depends on neither the source nor the job.
    pub(super) sched: SchedOf<S, J>,
    pub(super) job: J,
    /// `None`: the consumer has the source ([`Local`](crate::stage::Local)).
    pub(super) origin: Option<CachePadded<Mutex<SourceSlot<S::Far>>>>,
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
    pub(super) fn new(sched: SchedOf<S, J>, job: J, far: Option<S::Far>) -> Self {
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

    /// Does what a waker has decided under the lock. Called after the lock was released.
    pub(super) fn act(self: &Arc<Self>, wake: Wake) {
        self.sched.act(self, wake);
    }

    /// Drops everything that is left, each thing separately, and returns the first panic.
    pub(super) fn dispose(self) -> Option<Payload> {
        // Results and unstarted items first, then the source, which may be an inner stage, and last the job
        // with the user's closure.
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
        // The thread's own handle on the stage. It is a part of the task, so it is dropped before the latch
        // counts the thread down.
        let shared = Arc::clone(self);
        let work = move || {
            let mut runner = JobRunner::new(&shared.job);
            shared.sched.work(&shared, &mut runner, thread);
        };
        self.leases.lease(work).is_ok()
    }

    fn visit_source(&self, worker: &mut Worker) -> Option<OwningOf<S, J>> {
        // A constant: a stage whose source stays with the consumer has no code for pulling in its workers.
        if S::LOCAL { None } else { self.visit(worker) }
    }

    fn is_source_free(&self) -> bool {
        // Tried under the scheduler's lock, and released at once: see *Idle / wake* in `README.md`.
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
