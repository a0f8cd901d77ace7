//! Threads of a pool, for the time of a stage or of a call.
//!
//! They live longer than what they are given may borrow, so the lifetime of a task is erased here. That is sound by
//! one rule: **nothing that is leased outlives the join of its [`JoinGuard`], and the team of threads is joined before the borrow
//! ends**. The first half holds by construction: the latch counts a thread down only after its task, with all that
//! it holds, has been dropped. The second half is a promise of whoever makes the team of threads: of [`with_crew`], whose frame
//! joins it, and of the doors of [`Lazy`](crate::runtime::lazy::Lazy).
#![allow(unsafe_code)]

use crate::runtime::pool::{LeasedTask, Pool};
use crate::runtime::registry;
use crate::runtime::spin::Spin;
use crate::sync::{Arc, Condvar, Instant, Mutex};

/// Counts the threads that hold something of a stage.
#[derive(Debug, Default)]
struct Latch {
    count: Mutex<usize>,
    zero: Condvar,
}

impl Latch {
    fn up(&self) {
        *self.count.lock() += 1;
    }

    fn down(&self) {
        let mut count = self.count.lock();
        *count -= 1;
        if *count == 0 {
            self.zero.notify_all();
        }
    }

    fn wait(&self) {
        let spin = Spin::begin();
        while *self.count.lock() > 0 && spin.turn() {}
        let mut count = self.count.lock();
        while *count > 0 {
            count = self.zero.wait(count);
        }
    }
}

impl registry::HeldThreads for Latch {
    fn is_held_at(&self, time: Instant) -> bool {
        let mut count = self.count.lock();
        while *count > 0 {
            let left = time.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            count = self.zero.wait_timeout(count, left);
        }
        false
    }
}

/// Counts down when the thread is done, also while it unwinds from a bug of ours.
struct Down(Arc<Latch>);

impl Drop for Down {
    fn drop(&mut self) {
        self.0.down();
    }
}

/// Tells the threads of a stage to leave.
pub(crate) trait Stop: Send + Sync {
    /// Nothing starts any more; who sleeps is woken to leave.
    fn stop(&self);

    /// No thread holds anything of the stage any more.
    fn joined(&self);
}

/// The right to lease threads for a stage, for itself and its threads.
#[derive(Clone, Debug)]
pub(crate) struct Leases {
    latch: Arc<Latch>,
    pool: Pool,
    root: u64,
}

impl Leases {
    /// Runs the task on a leased thread. `Err`: none can be started; the task comes back, to be
    /// called here and now or dropped.
    pub(crate) fn lease<'a>(&self, task: impl FnOnce() + Send + 'a) -> Result<(), LeasedTask> {
        let task: Box<dyn FnOnce() + Send + 'a> = Box::new(task);
        // SAFETY: only the lifetime changes. The task is called or dropped before the latch is
        // counted down, the team of threads waits for that, and it is joined before `'a` ends: the rule above.
        let task: LeasedTask = unsafe { std::mem::transmute(task) };
        self.latch.up();
        let down = Down(Arc::clone(&self.latch));
        let root = self.root;
        self.pool.lease(Box::new(move || {
            let _down = down;
            let _here = registry::enter(root);
            task();
        }))
    }

    /// What its threads hold of the stage.
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
        };
        JoinGuard { leases, stop }
    }

    /// For who joins it from elsewhere.
    pub(crate) fn member(&self) -> JoinHandle {
        JoinHandle {
            latch: Arc::clone(&self.leases.latch),
            stop: Arc::clone(&self.stop),
        }
    }

    pub(crate) fn leases(&self) -> &Leases {
        &self.leases
    }

    /// Stops the stage and waits until no thread holds anything of it.
    pub(crate) fn join(&self) {
        self.stop.stop();
        self.leases.latch.wait();
        self.stop.joined();
    }
}

impl Drop for JoinGuard {
    fn drop(&mut self) {
        self.join();
    }
}

/// A team of threads, as a scope knows it.
pub(crate) struct JoinHandle {
    latch: Arc<Latch>,
    stop: Arc<dyn Stop>,
}

impl JoinHandle {
    /// Whether threads hold something of the stage, or it may still lease some.
    pub(crate) fn is_there(&self) -> bool {
        *self.latch.count.lock() > 0 || Arc::strong_count(&self.latch) > 1
    }

    pub(crate) fn stop(&self) {
        self.stop.stop();
    }

    /// Waits until no thread holds anything of it. It has been stopped.
    pub(crate) fn join(&self) {
        self.latch.wait();
        self.stop.joined();
    }
}

/// A team of threads that stops by itself.
struct NoStop;

impl Stop for NoStop {
    fn stop(&self) {}

    fn joined(&self) {}
}

/// Runs `f` with a right to lease whose tasks may borrow what outlives this call, and joins.
pub(crate) fn with_crew<T>(pool: Pool, f: impl FnOnce(&Leases) -> T) -> T {
    let join_guard = JoinGuard::new(pool, Arc::new(NoStop));
    // The team of threads lies on this frame, which joins it also on unwind: the promise of the head.
    f(join_guard.leases())
}
