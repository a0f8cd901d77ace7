//! The threads of a pool: how one is leased, kept while it idles, and ended.
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
//! Each thread has an index, the smallest that no other thread of the pool has. It is free again when the
//! thread has left.
//!
//! A start hook runs before the thread takes its first task. The thread that leases waits for it, without a
//! lock, so that a hook that panics is a thread that could not be started. A stop hook runs when the thread's
//! seat is off the list for good.
//!
//! A thread that is done with a task lists its seat first, and then counts itself out of the stage. So when
//! a stage has been joined, the next one finds its threads idle, and starts none beside them.
//!
//! Before it sleeps, an idle thread looks at its seat for a [short time](Spin), so that a loop that runs
//! stage after stage need not wake its threads each time. At most as many threads do so at once as there are
//! cores besides that of the leasing thread. Whether a seat's thread sleeps is recorded under the seat's
//! lock.

use crate::runtime::latch::Counted;
use crate::runtime::pool::hooks::{self, Start, ThreadHook};
use crate::runtime::spin::Spin;
use crate::sync::{
    self, Arc, AtomicUsize, Condvar, Instant, JoinHandle, Mutex, MutexGuard, Ordering, bug,
};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What a leased thread does.
pub(crate) struct LeasedTask {
    // The first field, so the first to be dropped if the task is not run: when the count goes down, the work
    // and everything it held are gone.
    work: Box<dyn FnOnce() + Send>,
    /// `None`: nothing waits for its end.
    count: Option<Counted>,
}

impl LeasedTask {
    /// The work counts as long as it runs.
    pub(crate) fn counted(work: Box<dyn FnOnce() + Send>, count: Counted) -> Self {
        let count = Some(count);
        LeasedTask { work, count }
    }

    pub(crate) fn uncounted(work: Box<dyn FnOnce() + Send>) -> Self {
        LeasedTask { work, count: None }
    }

    /// Runs it on this thread, which is none of a pool's.
    pub(crate) fn run(self) {
        let _count = self.count;
        (self.work)();
    }
}

/// What a pool's threads are like.
#[derive(Clone, Debug)]
pub(super) struct ThreadOptions {
    pub(super) name: String,
    pub(super) stack_size: Option<usize>,
    pub(super) idle_time: Duration,
    pub(super) max_threads: usize,
    pub(super) on_start: Option<ThreadHook>,
    pub(super) on_stop: Option<ThreadHook>,
}

/// What the handles of a pool and its threads share.
pub(super) struct PoolThreads {
    pub(super) options: ThreadOptions,
    /// How many more idle threads may look around before they sleep.
    pub(super) spins: AtomicUsize,
    pub(super) state: Mutex<ThreadsState>,
}

#[derive(Default)]
pub(super) struct ThreadsState {
    pub(super) idle: Vec<Arc<Seat>>,
    /// By index.
    threads: BTreeMap<usize, JoinHandle<()>>,
    /// The indices below the largest one ever given that no thread has.
    free: BTreeSet<usize>,
    closed: bool,
}

impl ThreadsState {
    /// The smallest index that no thread has.
    fn next_index(&self) -> usize {
        self.free.first().copied().unwrap_or(self.threads.len())
    }

    fn add(&mut self, index: usize, thread: JoinHandle<()>) {
        self.free.remove(&index);
        self.threads.insert(index, thread);
    }

    /// The thread leaves, and nothing will join it: the pool lives on, and forgets it.
    fn forget(&mut self, index: usize) {
        if self.threads.remove(&index).is_some() {
            self.free.insert(index);
        }
    }
}

/// Where one thread waits for its next task.
pub(super) struct Seat {
    index: usize,
    slot: Mutex<TaskSlot>,
    filled: Condvar,
}

struct TaskSlot {
    task: Option<LeasedTask>,
    sleeps: bool,
}

impl Seat {
    pub(super) fn new(index: usize, task: Option<LeasedTask>) -> Arc<Self> {
        let sleeps = false;
        Arc::new(Seat {
            index,
            slot: Mutex::new(TaskSlot { task, sleeps }),
            filled: Condvar::new(),
        })
    }

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

/// The longest name that Linux keeps of a thread, in bytes. The rest would be cut off.
const LONGEST_NAME: usize = 15;

/// The name of the thread with this index: what tells it from the others comes first, and is never cut.
fn thread_name(index: usize, name: &str) -> String {
    let whole = format!("{index}-{}", name.replace('\0', "?"));
    let mut end = whole.len().min(LONGEST_NAME);
    while !whole.is_char_boundary(end) {
        end -= 1;
    }
    whole[..end].trim_end_matches(['-', '_', ' ']).to_owned()
}

impl PoolThreads {
    pub(super) fn new(options: ThreadOptions) -> Arc<Self> {
        let cores = sync::cores();
        Arc::new(PoolThreads {
            options,
            spins: AtomicUsize::new(cores.saturating_sub(1)),
            state: Mutex::default(),
        })
    }

    pub(super) fn count(&self) -> usize {
        self.state.lock().threads.len()
    }

    /// Gives the task to an idle thread, or starts one for it. `Err` returns the task: there is no thread for
    /// it.
    pub(super) fn lease(self: &Arc<Self>, task: LeasedTask) -> Result<(), LeasedTask> {
        if hooks::is_inside() {
            return Err(task);
        }
        let (task, mut state) = match self.lease_idle(task) {
            Ok(()) => return Ok(()),
            Err(back) => back,
        };
        if state.threads.len() >= self.options.max_threads {
            return Err(task);
        }
        let index = state.next_index();
        // The first task is in the seat before the thread exists, so that it can be taken back if the start
        // fails. The lock is held during the start, so that the thread finds itself on the list when it ends.
        let seat = Seat::new(index, Some(task));
        let start = Arc::<Start>::default();
        let name = thread_name(index, &self.options.name);
        let spawned = sync::spawn(&name, self.options.stack_size, {
            let (threads, seat) = (Arc::clone(self), Arc::clone(&seat));
            let start = Arc::clone(&start);
            move || {
                if threads.begin(index, &start) {
                    threads.serve(&seat);
                }
            }
        });
        let started = spawned.map(|thread| state.add(index, thread)).is_ok();
        // The hook is the user's code, so it is not waited for under the lock.
        drop(state);
        if started && (self.options.on_start.is_none() || start.wait()) {
            return Ok(());
        }
        match seat.slot.lock().task.take() {
            Some(task) => Err(task),
            None => Ok(()),
        }
    }

    /// What a new thread does first. `false`: it must not run anything.
    fn begin(&self, index: usize, start: &Start) -> bool {
        let Some(hook) = &self.options.on_start else {
            return true;
        };
        let passed = hook.run(index);
        if bug("told_before_it_is_forgotten") {
            start.tell(passed);
        }
        // Before it tells: who leases next may start a thread in the place of this one.
        if !passed {
            self.state.lock().forget(index);
        }
        start.tell(passed);
        passed
    }

    /// Gives the task to an idle thread. `Err` returns it with the lock, as no thread idles.
    pub(super) fn lease_idle(
        &self,
        task: LeasedTask,
    ) -> Result<(), (LeasedTask, MutexGuard<'_, ThreadsState>)> {
        let mut state = self.state.lock();
        // A thread that takes a seat off the list owns it: the seat's thread can no longer leave, and waits
        // until the seat is filled.
        let Some(seat) = state.idle.pop() else {
            return Err((task, state));
        };
        drop(state);
        seat.fill(task);
        Ok(())
    }

    /// What a thread of the pool does: one task after another, until it leaves.
    fn serve(&self, seat: &Arc<Seat>) {
        while let Some(LeasedTask { work, mut count }) = self.wait(seat) {
            // A stage catches the panics of its user's code. A panic that arrives here is a bug in this
            // crate, and ends the thread.
            work();
            if bug("joined_before_it_is_idle") {
                count = None;
            }
            let listed = self.list(seat);
            // After the entry in the list: see the head of this file.
            drop(count);
            if !listed {
                break;
            }
        }
        if let Some(hook) = &self.options.on_stop {
            hook.run(seat.index);
            // A thread counts, and has its index, until its hook has returned.
            self.state.lock().forget(seat.index);
        }
    }

    /// Puts the seat on the list. `false`: the pool is closed.
    fn list(&self, seat: &Arc<Seat>) -> bool {
        // One critical section with the push. `close` takes the list under this lock, so it either finds the
        // seat there, or this thread finds the pool closed.
        let mut state = self.state.lock();
        if !state.closed {
            state.idle.push(Arc::clone(seat));
        }
        !state.closed
    }

    /// Waits for a task. `None`: the pool is closed, or the idle time is over and the seat is off the list.
    pub(super) fn wait(&self, seat: &Arc<Seat>) -> Option<LeasedTask> {
        self.spin(seat);
        let deadline = Instant::now().checked_add(self.options.idle_time);
        let mut expires = true;
        let mut slot = seat.slot.lock();
        loop {
            if let Some(task) = slot.task.take() {
                slot.sleeps = false;
                return Some(task);
            }
            // `close` takes this seat's lock after it has closed the pool. So either this check sees that, or
            // the thread is asleep by then, and `close` notifies it.
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
            if let Some(spin) = Spin::begin() {
                while seat.slot.lock().task.is_none() && spin.turn() {}
            }
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
        if listed && self.options.on_stop.is_none() {
            // In the same critical section: a lease finds this thread idle, or finds that another one may be
            // started in its place.
            state.forget(seat.index);
        }
        listed || bug("leaves_although_leased")
    }

    /// Ends the idle threads, and joins all.
    pub(super) fn close(&self) {
        let (idle, threads) = {
            let mut state = self.state.lock();
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
        for handle in threads.into_values() {
            // The last handle may be dropped by a closure that runs on one of the threads, and that cannot
            // join itself.
            if !sync::is_this_thread(&handle) {
                let _ = handle.join();
            }
        }
    }
}
