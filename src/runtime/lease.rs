//! Threads of a pool, leased for the duration of a stage or of a call.
//!
//! The threads may outlive what their tasks borrow, so the lifetime of a task is erased here. That is sound
//! by one rule: **nothing that is leased outlives the join of its [`JoinGuard`], and the threads are joined
//! before the borrow ends**. The first half holds by construction: the [latch](Latch) counts a thread down
//! only after its task has been dropped, with all that it holds ([`LeasedTask`]). The second half is a promise
//! of the code that creates the [`JoinGuard`]: [`with_crew`], whose frame joins it, and the entry points of
//! [`Lazy`](crate::runtime::lazy::Lazy).
#![allow(unsafe_code)]

use crate::runtime::holds::Holds;
use crate::runtime::latch::Latch;
use crate::runtime::pool::{LeasedTask, Pool};
use crate::runtime::registry;
use crate::runtime::trace::Subscriber;
use crate::sync::Arc;

/// Tells the threads of a stage to leave.
pub(crate) trait Stop: Send + Sync {
    /// Nothing starts any more; threads that sleep are woken, so that they leave.
    fn stop(&self);

    /// No thread holds a part of the stage any more.
    fn joined(&self);
}

/// The right to lease threads for a stage. The stage has it, and so do its threads.
#[derive(Clone, Debug)]
pub(crate) struct Leases {
    latch: Arc<Latch>,
    /// The thread on whose behalf the stage runs ([`registry`]).
    pool: Pool,
    root: u64,
    /// What the closures around that thread hold.
    holds: Holds,
    subscriber: Subscriber,
}

impl Leases {
    /// Runs the task on a leased thread. `Err`: there is none for it. The task is returned, to be run here and
    /// now, or dropped.
    pub(crate) fn lease<'a>(&self, task: impl FnOnce() + Send + 'a) -> Result<(), LeasedTask> {
        self.pool.lease(self.prepare(task))
    }

    /// A task for whatever thread has it, which counts as one of the stage's until the task is run or dropped: the join
    /// waits for that.
    pub(crate) fn prepare<'a>(&self, task: impl FnOnce() + Send + 'a) -> LeasedTask {
        let (root, holds) = (self.root, self.holds.clone());
        let subscriber = self.subscriber.clone();
        let work: Box<dyn FnOnce() + Send + 'a> = Box::new(move || {
            // What the task starts belongs to the same root, so that a test sees the stages it has caused and
            // no others.
            let _here = (registry::enter(root), holds.enter(), subscriber.enter());
            task();
        });
        // SAFETY: only the lifetime changes. The work is called or dropped before the latch is counted down,
        // the join waits for that, and the join comes before `'a` ends: the rule at the head of this file.
        let work: Box<dyn FnOnce() + Send> = unsafe { std::mem::transmute(work) };
        // Counted before the thread exists: a join that begins in between waits for it.
        LeasedTask::counted(work, self.latch.count())
    }

    /// Whether a lease fails only if the system has no thread.
    pub(crate) fn are_unlimited(&self) -> bool {
        self.pool.is_unlimited()
    }

    /// What the threads still hold of the stage, for the registry.
    pub(crate) fn held(&self) -> Arc<dyn registry::HeldThreads> {
        Arc::clone(&self.latch) as _
    }
}

/// The threads of a running stage. Its drop joins them.
pub(crate) struct JoinGuard {
    leases: Leases,
    stop: Arc<dyn Stop>,
}

impl std::fmt::Debug for JoinGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinGuard").finish_non_exhaustive()
    }
}

impl JoinGuard {
    pub(crate) fn new(pool: Pool, stop: Arc<dyn Stop>) -> Self {
        let leases = Leases {
            latch: Arc::default(),
            pool,
            root: registry::root(),
            holds: Holds::here(),
            subscriber: Subscriber::here(),
        };
        JoinGuard { leases, stop }
    }

    /// A handle for a scope, which joins the threads from outside.
    pub(crate) fn member(&self) -> JoinHandle {
        JoinHandle {
            latch: Arc::clone(&self.leases.latch),
            stop: Arc::clone(&self.stop),
        }
    }

    /// The right to lease; clones of it go to the threads of the stage.
    pub(crate) fn leases(&self) -> &Leases {
        &self.leases
    }

    /// Stops the stage, and waits until no thread holds a part of it.
    pub(crate) fn join(&self) {
        // Before the wait, or sleeping threads would never leave.
        self.stop.stop();
        self.leases.latch.wait();
        // The stage may leave the registry only now.
        self.stop.joined();
    }
}

impl Drop for JoinGuard {
    fn drop(&mut self) {
        self.join();
    }
}

/// The threads of a stage, as a scope knows them.
pub(crate) struct JoinHandle {
    latch: Arc<Latch>,
    stop: Arc<dyn Stop>,
}

impl JoinHandle {
    /// Whether threads hold a part of the stage, or more of them may still be leased.
    pub(crate) fn is_there(&self) -> bool {
        // Every other handle on the latch belongs to a `Leases` or to the `JoinGuard`, each of which can
        // still lease.
        !self.latch.is_zero() || Arc::strong_count(&self.latch) > 1
    }

    pub(crate) fn stop(&self) {
        self.stop.stop();
    }

    /// Waits until no thread holds a part of the stage. It must have been stopped.
    pub(crate) fn join(&self) {
        self.latch.wait();
        self.stop.joined();
    }
}

/// For threads that end by themselves.
struct NoStop;

impl Stop for NoStop {
    fn stop(&self) {}

    fn joined(&self) {}
}

/// Runs `f` with a right to lease, and then joins. The tasks may borrow whatever outlives this call.
pub(crate) fn with_crew<T>(pool: Pool, f: impl FnOnce(&Leases) -> T) -> T {
    let join_guard = JoinGuard::new(pool, Arc::new(NoStop));
    // The guard is a local variable of this frame, so the threads are joined on return and on unwind: the
    // promise at the head of this file.
    f(join_guard.leases())
}
