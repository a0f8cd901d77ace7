//! Heterogeneous tasks, a limited number at a time, joined at the end: like Go's `errgroup`.

use crate::cancel::CancelToken;
use crate::config::Workers;
use crate::error::Cancelled;
use crate::runtime::context::{self, Current, Plain};
use crate::runtime::lease::{Leases, with_crew};
use crate::runtime::pool::Pool;
use crate::sync::{Arc, Condvar, Mutex};
use crate::unwind::{self, Payload, catch};
use std::fmt;
use std::marker::PhantomData;
use std::panic::resume_unwind;
use std::rc::Rc;

/// Runs `f`, which spawns tasks into a group, and waits for all of them.
///
/// At most `limit` tasks run at once, each on a separate thread; they may borrow anything that
/// outlives the call. The first task that fails trips the group's token, which is also
/// [`CancelToken::current`] in each task. Tasks that have not started by then never do.
///
/// Inside a closure of a stage or a task of another group, the group is part of that work: its
/// token is a child of [`CancelToken::current`], so it is tripped with it and has its deadline.
/// This does not make the group skip a task, as it could not report that; the tasks see it by their
/// token. To add another deadline, put a [`parallel_map_with`](crate::parallel_map_with) or a stage
/// around the group, or use a hook:
/// `let _hook = limit.on_cancel({ let token = g.token().clone(); move || token.cancel() })`, bound
/// outside the group's closure so that it outlives the tasks.
///
/// A limit beyond this group: let each task [acquire](crate::Permits::acquire) a permit.
///
/// # Panics
///
/// If `limit` is 0. If a task or a hook on the token panics, the token is tripped, and the first
/// payload is raised when all tasks are done. If `f` panics, the token is tripped, and the panic
/// continues when all tasks are done.
///
/// # Errors
///
/// The error of the task that failed first in time; later errors may be mere consequences. See
/// [`group_all`] for all of them.
/// [`group_all`] for all of them.
///
/// # Examples
///
/// ```
/// let (mut sum, mut text) = (0, String::new());
/// let numbers = [1, 2, 3];
/// let result: Result<&str, std::fmt::Error> = fanfold::group(2, |g| {
///     g.spawn(|| {
///         sum = numbers.iter().sum();
///         Ok(())
///     });
///     g.spawn(|| std::fmt::Write::write_str(&mut text, "done"));
///     "the closure's own value"
/// });
/// assert_eq!(result, Ok("the closure's own value"));
/// assert_eq!((sum, text.as_str()), (6, "done"));
/// ```
#[doc(alias("errgroup", "JoinSet", "TaskTracker"))]
#[track_caller]
pub fn group<'env, F, T, E>(limit: impl Into<Workers>, f: F) -> Result<T, E>
where
    F: for<'scope> FnOnce(&Group<'scope, 'env, E>) -> T,
    E: Send + 'env,
{
    let (value, errors) = run(limit.into().checked(), true, f);
    match errors.into_iter().next() {
        Some((_, error)) => Err(error),
        None => Ok(value),
    }
}

/// As [`group`], but no error stops anything, and all errors are returned.
///
/// # Panics
///
/// As [`group`].
///
/// # Errors
///
/// The errors of all tasks that failed, in the order in which they were spawned.
///
/// # Examples
///
/// ```
/// let result = fanfold::group_all(4, |g| {
///     for n in 0..4 {
///         g.spawn(move || if n % 2 == 0 { Ok(()) } else { Err(n) });
///     }
/// });
/// assert_eq!(result, Err(vec![1, 3]));
/// ```
#[doc(alias("errgroup", "JoinSet"))]
#[track_caller]
pub fn group_all<'env, F, T, E>(limit: impl Into<Workers>, f: F) -> Result<T, Vec<E>>
where
    F: for<'scope> FnOnce(&Group<'scope, 'env, E>) -> T,
    E: Send + 'env,
{
    let (value, mut errors) = run(limit.into().checked(), false, f);
    if errors.is_empty() {
        return Ok(value);
    }
    errors.sort_by_key(|(task, _)| *task);
    Err(errors.into_iter().map(|(_, error)| error).collect())
}

/// The handle that spawns tasks: the argument of the closure of [`group`] and [`group_all`].
pub struct Group<'scope, 'env: 'scope, E> {
    leases: Leases,
    shared: Arc<GroupShared<E>>,
    scope: PhantomData<&'scope mut &'scope ()>,
    env: PhantomData<&'env mut &'env ()>,
}

struct GroupShared<E> {
    limit: usize,
    /// Whether the first error ends the group.
    fails_fast: bool,
    token: CancelToken,
    state: Mutex<GroupState<E>>,
    /// Notified when a task has ended.
    room: Condvar,
}

struct GroupState<E> {
    spawned: usize,
    running: usize,
    failed: bool,
    /// Something in a task was cut short.
    cut: bool,
    /// Each with the number of its task, in the order of time.
    errors: Vec<(usize, E)>,
    panic: Option<Payload>,
}

impl<E> fmt::Debug for Group<'_, '_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.state.lock();
        f.debug_struct("Group")
            .field("limit", &self.shared.limit)
            .field("spawned", &state.spawned)
            .field("running", &state.running)
            .finish_non_exhaustive()
    }
}

impl<'scope, E: Send + 'scope> Group<'scope, '_, E> {
    /// Runs `task` on a separate thread; blocks while `limit` tasks are running.
    ///
    /// After a failure the task is dropped without running. If no thread can be started, it runs on
    /// this thread.
    pub fn spawn<F>(&self, task: F)
    where
        F: FnOnce() -> Result<(), E> + Send + 'scope,
    {
        let mut state = self.shared.state.lock();
        while state.running >= self.shared.limit && !state.failed {
            state = self.shared.room.wait(state);
        }
        if state.failed {
            return;
        }
        let number = state.start();
        drop(state);
        self.launch(number, task);
    }

    /// Runs `task` on a separate thread if fewer than `limit` tasks are running; does not block.
    ///
    /// # Errors
    ///
    /// Returns the task if the limit is reached. After a failure the task is dropped, as by
    /// [`spawn`](Self::spawn).
    ///
    /// # Examples
    ///
    /// ```
    /// let result: Result<(), ()> = fanfold::group(1, |g| {
    ///     let token = g.token().clone();
    ///     g.spawn(move || {
    ///         token.wait();
    ///         Ok(())
    ///     });
    ///     assert!(g.try_spawn(|| Ok(())).is_err());
    ///     g.token().cancel();
    /// });
    /// assert_eq!(result, Ok(()));
    /// ```
    pub fn try_spawn<F>(&self, task: F) -> Result<(), F>
    where
        F: FnOnce() -> Result<(), E> + Send + 'scope,
    {
        let mut state = self.shared.state.lock();
        if state.failed {
            return Ok(());
        }
        if state.running >= self.shared.limit {
            return Err(task);
        }
        let number = state.start();
        drop(state);
        self.launch(number, task);
        Ok(())
    }

    /// The group's token. The first failure trips it; tripping it asks all tasks to end.
    pub fn token(&self) -> &CancelToken {
        &self.shared.token
    }

    fn launch<F>(&self, number: usize, task: F)
    where
        F: FnOnce() -> Result<(), E> + Send + 'scope,
    {
        let shared = Arc::clone(&self.shared);
        if let Err(task) = self.leases.lease(move || shared.run(number, task)) {
            task.run();
        }
    }
}

impl<E> GroupState<E> {
    fn start(&mut self) -> usize {
        self.running += 1;
        self.spawned += 1;
        self.spawned - 1
    }
}

impl<E> GroupShared<E> {
    fn run(&self, number: usize, task: impl FnOnce() -> Result<(), E>) {
        let frame = Plain::new(self.token.clone());
        let entered = context::in_closure(Rc::clone(&frame) as Rc<dyn Current>);
        let outcome = catch(task);
        drop(entered);
        let cut = frame.over();
        let mut lost = None;
        let mut state = self.state.lock();
        state.cut |= cut;
        let failed = match outcome {
            Ok(Ok(())) => false,
            Ok(Err(error)) => {
                state.errors.push((number, error));
                self.fails_fast
            }
            Err(payload) => {
                lost = unwind::keep(&mut state.panic, Some(payload));
                true
            }
        };
        state.running -= 1;
        state.failed |= failed;
        drop(state);
        self.room.notify_all();
        lost.into_iter().for_each(unwind::bury); // not under the lock
        if failed {
            // A hook of the user may panic.
            let panic = self.token.trip(Cancelled::default());
            let lost = unwind::keep(&mut self.state.lock().panic, panic);
            lost.into_iter().for_each(unwind::bury);
        }
    }
}

/// Trips the token if the group's closure unwinds.
struct OnUnwind<'a>(&'a CancelToken);

impl Drop for OnUnwind<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.cancel();
        }
    }
}

fn run<'env, F, T, E>(limit: usize, fails_fast: bool, f: F) -> (T, Vec<(usize, E)>)
where
    F: for<'scope> FnOnce(&Group<'scope, 'env, E>) -> T,
    E: Send + 'env,
{
    let shared = Arc::new(GroupShared {
        limit,
        fails_fast,
        token: CancelToken::current().child(),
        state: Mutex::new(GroupState {
            spawned: 0,
            running: 0,
            failed: false,
            cut: false,
            errors: Vec::new(),
            panic: None,
        }),
        room: Condvar::new(),
    });
    let value = with_crew(Pool::global(), |leases| {
        let group = Group {
            leases: leases.clone(),
            shared: Arc::clone(&shared),
            scope: PhantomData,
            env: PhantomData,
        };
        let _on_unwind = OnUnwind(&shared.token);
        f(&group)
    });
    let mut state = shared.state.lock();
    if state.cut {
        context::tell_cut();
    }
    if let Some(payload) = state.panic.take() {
        drop(state);
        resume_unwind(payload);
    }
    (value, std::mem::take(&mut state.errors))
}
