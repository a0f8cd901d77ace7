//! Threads that are kept between stages.
//!
//! A stage leases threads. A leased thread belongs to that stage alone until the stage returns it, so two
//! stages never wait for one another's threads (P8). The pool grows to whatever is leased, and shrinks when
//! threads idle. It never queues a task: a lease either takes the thread that went idle last (its caches are
//! warm, and the others can expire), or starts a thread. If none can be started, the caller learns this and
//! continues with the threads it has.
//!
//! # The protocol
//!
//! All state is under one lock, and each idle thread sleeps on its own seat. A thread that leases pops a seat
//! from the list of idle ones, fills it, and wakes its thread. A seat on the list is always empty, and only
//! its own thread puts it there. A thread whose idle time runs out takes the lock and removes its seat. If
//! the seat is not on the list any more, a lease was faster, and has filled the seat or is about to; so the
//! thread waits for the task. `Drop` of the last handle closes the pool, wakes the idle threads, and joins
//! all threads, so that their thread-locals are gone when it returns.
//!
//! Before it sleeps, an idle thread looks at its seat for a [short time](Spin), so that a loop that runs
//! stage after stage need not wake its threads each time. At most as many threads do so at once as there are
//! cores besides that of the leasing thread. Whether a seat's thread sleeps is recorded under the seat's
//! lock.

use crate::runtime::spin::Spin;
use crate::sync::{
    self, Arc, AtomicUsize, Condvar, Instant, JoinHandle, Mutex, Ordering, Weak, bug, fixed,
};
use std::fmt;
use std::time::Duration;

/// What a leased thread does.
pub(crate) type LeasedTask = Box<dyn FnOnce() + Send>;

const IDLE: Duration = Duration::from_secs(10);

/// A set of threads that stages lease from; cheap to clone, a handle to the same threads.
///
/// Every stage uses the process-wide [`Pool::global`] one unless [`on`](crate::Stage::on) names
/// another. A pool of your own gives its threads a name and a stack size, and its end joins them.
/// Threads are started when a stage needs them, kept for the idle time, and never shared by two
/// stages at once.
///
/// # Examples
///
/// ```
/// use fanfold::{Fanfold, Pool};
/// use std::time::Duration;
///
/// let pool = Pool::builder()
///     .named("decoder")
///     .stack_size(8 << 20)
///     .idle_time(Duration::from_secs(1))
///     .build();
/// let names: Vec<_> = (0..3)
///     .par_map_ordered(2, |_| std::thread::current().name().unwrap().to_owned())
///     .on(&pool)
///     .collect();
/// assert!(names.iter().all(|name| name.starts_with("decoder-")));
/// ```
#[derive(Clone)]
pub struct Pool {
    shared: Arc<PoolShared>,
    // Only handles of users keep the pool open; the threads hold `PoolShared` alone.
    _open: Arc<OpenPool>,
}

/// Its drop, with the last handle of a user, closes the pool.
struct OpenPool(Weak<PoolShared>);

/// What the handles and the threads share.
struct PoolShared {
    name: String,
    stack_size: Option<usize>,
    idle_time: Duration,
    /// How many more idle threads may look around before they sleep.
    spins: AtomicUsize,
    state: Mutex<PoolState>,
}

struct PoolState {
    idle: Vec<Arc<Seat>>,
    threads: Vec<(u64, JoinHandle<()>)>,
    started: u64,
    closed: bool,
}

/// Where one thread waits for its next task.
struct Seat {
    slot: Mutex<TaskSlot>,
    filled: Condvar,
}

struct TaskSlot {
    task: Option<LeasedTask>,
    sleeps: bool,
}

impl Seat {
    /// Gives the seat's thread a task. The seat must be off the list.
    fn fill(&self, task: LeasedTask) {
        // A thread that does not sleep yet finds the task by itself, and the system call of a wake-up is
        // saved.
        let mut slot = self.slot.lock();
        slot.task = Some(task);
        if slot.sleeps {
            drop(slot);
            self.filled.notify_one();
        }
    }
}

impl Pool {
    /// The pool that stages use when none is named. Its threads are called `fanfold-0`,
    /// `fanfold-1`, …, have the platform's stack size and leave after 10 idle seconds.
    ///
    /// A forked child has none of its parent's threads: it gets a pool of its own at the first use.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::{Fanfold, Pool};
    ///
    /// let sum: u32 = (0..10).par_map_ordered(2, |x| x).on(&Pool::global()).sum();
    /// assert_eq!(sum, 45);
    /// ```
    pub fn global() -> Pool {
        static GLOBAL: fixed::Mutex<Option<(u32, Pool)>> = fixed::Mutex::new(None);
        let pid = fixed::process();
        let mut global = GLOBAL.lock();
        match &*global {
            Some((owner, pool)) if *owner == pid => pool.clone(),
            _ => {
                let pool = Pool::builder().build();
                // The parent's pool, if this is a forked child, has no threads to join here.
                std::mem::forget(global.replace((pid, pool.clone())));
                pool
            }
        }
    }

    /// Starts a description of a pool of your own.
    ///
    /// # Examples
    ///
    /// ```
    /// let pool = fanfold::Pool::builder().named("thumbnails").build();
    /// ```
    pub fn builder() -> PoolBuilder {
        PoolBuilder {
            name: "fanfold".to_owned(),
            stack_size: None,
            idle_time: IDLE,
        }
    }

    /// How many threads the pool has now, leased or idle.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(fanfold::Pool::builder().build().threads(), 0);
    /// ```
    pub fn threads(&self) -> usize {
        self.shared.state.lock().threads.len()
    }

    /// Runs a task on a leased thread. `Err` returns the task: no thread can be started.
    pub(crate) fn lease(&self, task: LeasedTask) -> Result<(), LeasedTask> {
        let task = match self.shared.lease_idle(task) {
            Ok(()) => return Ok(()),
            Err(task) => task,
        };
        let mut state = self.shared.state.lock();
        let id = state.started;
        state.started += 1;
        // The first task is in the seat before the thread exists, so that it can be taken back if the start
        // fails. The lock is held during the start, so that the thread finds itself on the list when it ends.
        let seat = Arc::new(Seat {
            slot: Mutex::new(TaskSlot {
                task: Some(task),
                sleeps: false,
            }),
            filled: Condvar::new(),
        });
        let (shared, own) = (Arc::clone(&self.shared), Arc::clone(&seat));
        let name = format!("{}-{id}", self.shared.name);
        match sync::spawn(&name, self.shared.stack_size, move || {
            shared.serve(id, &own);
        }) {
            Ok(handle) => {
                state.threads.push((id, handle));
                Ok(())
            }
            Err(_) => match seat.slot.lock().task.take() {
                Some(task) => Err(task),
                None => Ok(()),
            },
        }
    }
}

impl PoolShared {
    /// Gives the task to an idle thread. A thread that takes a seat off the list owns it: the seat's thread
    /// can no longer leave, and waits until the seat is filled.
    fn lease_idle(&self, task: LeasedTask) -> Result<(), LeasedTask> {
        let seat = self.state.lock().idle.pop();
        match seat {
            Some(seat) => {
                seat.fill(task);
                Ok(())
            }
            None => Err(task),
        }
    }

    /// What a thread of the pool does: one task after another, until it leaves.
    fn serve(&self, id: u64, seat: &Arc<Seat>) {
        loop {
            let Some(task) = self.wait(seat) else { break };
            // A stage catches the panics of its user's code. A panic that arrives here is a bug in this
            // crate, and ends the thread.
            task();
            // One critical section with the push. `Drop` takes the list under this lock, so it either finds
            // the seat there, or this thread finds the pool closed.
            let mut state = self.state.lock();
            if state.closed {
                break;
            }
            state.idle.push(Arc::clone(seat));
        }
        let mut state = self.state.lock();
        if !state.closed {
            // Nothing will join this thread: the pool lives on, and forgets it.
            state.threads.retain(|(other, _)| *other != id);
        }
    }

    /// Waits for a task. `None`: the pool is closed, or the idle time is over and the seat is off the list.
    fn wait(&self, seat: &Arc<Seat>) -> Option<LeasedTask> {
        self.spin(seat);
        let deadline = Instant::now().checked_add(self.idle_time);
        let mut expires = true;
        let mut slot = seat.slot.lock();
        loop {
            if let Some(task) = slot.task.take() {
                slot.sleeps = false;
                return Some(task);
            }
            // `Drop` takes this seat's lock after it has closed the pool. So either this check sees that, or
            // the thread is asleep by then, and `Drop` notifies it.
            if self.state.lock().closed {
                return None;
            }
            // Under the seat's lock, which `wait` releases as it falls asleep: `fill` sees either a thread
            // that has not looked yet, or one that it must notify.
            slot.sleeps = true;
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            slot = match left {
                Some(left) if expires && left.is_zero() => {
                    drop(slot);
                    if self.leave(seat) {
                        return None;
                    }
                    // A lease has taken this seat off the list: its task is on the way, however long that
                    // takes.
                    expires = false;
                    seat.slot.lock()
                }
                Some(left) if expires => seat.filled.wait_timeout(slot, left),
                _ => seat.filled.wait(slot),
            };
        }
    }

    /// Looks for a task for a short time.
    fn spin(&self, seat: &Seat) {
        // Only as many threads as there are other cores: more of them would take the core from the thread
        // that leases.
        let more = |left: usize| left.checked_sub(1);
        let (set, fetch) = (Ordering::Relaxed, Ordering::Relaxed);
        if self.spins.fetch_update(set, fetch, more).is_ok() {
            let spin = Spin::begin();
            while seat.slot.lock().task.is_none() && spin.turn() {}
            self.spins.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes the seat off the list. `false`: a lease was faster, and the thread must wait for its task.
    fn leave(&self, seat: &Arc<Seat>) -> bool {
        // The list decides which of the two has the seat, its thread or a lease. Both take it off under this
        // lock, so only one finds it.
        let mut state = self.state.lock();
        let place = state.idle.iter().position(|idle| Arc::ptr_eq(idle, seat));
        let listed = place.map(|place| state.idle.remove(place)).is_some();
        listed || bug("leaves_although_leased")
    }
}

impl Drop for OpenPool {
    fn drop(&mut self) {
        let Some(shared) = self.0.upgrade() else {
            return;
        };
        let (idle, threads) = {
            let mut state = shared.state.lock();
            state.closed = true;
            let state = &mut *state;
            (
                std::mem::take(&mut state.idle),
                std::mem::take(&mut state.threads),
            )
        };
        for seat in idle {
            // Taken and released, so that the thread either has not checked yet, and will see that the pool
            // is closed, or is asleep, and will be notified.
            drop(seat.slot.lock());
            seat.filled.notify_one();
        }
        for (_, handle) in threads {
            // The last handle may be dropped by a closure that runs on one of the threads, and that cannot
            // join itself.
            if !sync::is_this_thread(&handle) {
                let _ = handle.join();
            }
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("name", &self.shared.name)
            .field("threads", &self.threads())
            .finish_non_exhaustive()
    }
}

/// Describes a [`Pool`]; see [`Pool::builder`].
#[derive(Clone, Debug)]
#[must_use = "a description starts nothing: call `build()`"]
pub struct PoolBuilder {
    name: String,
    stack_size: Option<usize>,
    idle_time: Duration,
}

impl PoolBuilder {
    /// The name of the threads; each gets a number after it. `fanfold` by default.
    ///
    /// # Examples
    ///
    /// ```
    /// let pool = fanfold::Pool::builder().named("resize").build();
    /// ```
    #[doc(alias("name", "thread_name"))]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// The stack of each thread in bytes; the platform's (usually 2 MiB) by default.
    ///
    /// A size that the system cannot give means that no thread starts, and then stages run on
    /// their consumer's thread.
    ///
    /// # Examples
    ///
    /// ```
    /// let pool = fanfold::Pool::builder().stack_size(16 << 20).build();
    /// ```
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.stack_size = Some(bytes);
        self
    }

    /// How long a thread that no stage needs is kept; 10 s by default.
    ///
    /// # Examples
    ///
    /// ```
    /// let pool = fanfold::Pool::builder().idle_time(std::time::Duration::ZERO).build();
    /// ```
    pub fn idle_time(mut self, time: Duration) -> Self {
        self.idle_time = time;
        self
    }

    /// Makes the pool. No thread is started yet.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(fanfold::Pool::builder().build().threads(), 0);
    /// ```
    pub fn build(self) -> Pool {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let shared = Arc::new(PoolShared {
            name: self.name.replace('\0', "?"),
            stack_size: self.stack_size,
            idle_time: self.idle_time,
            spins: AtomicUsize::new(cores.saturating_sub(1)),
            state: Mutex::new(PoolState {
                idle: Vec::new(),
                threads: Vec::new(),
                started: 0,
                closed: false,
            }),
        });
        Pool {
            _open: Arc::new(OpenPool(Arc::downgrade(&shared))),
            shared,
        }
    }
}

#[cfg(all(test, loom))]
mod models;
