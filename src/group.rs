//! Heterogeneous tasks, a limited number at a time, joined at the end: like Go's `errgroup`.
//!
//! # How a task returns a value
//!
//! By a handle ([`Task`]), as in `std::thread::scope`. What else was considered:
//!
//! - *A variable for each task, set by its closure* (Go; the only form here at first). It needs no word, and
//!   still works. But each is an `Option`, written in one place and unwrapped in another.
//! - *A function of two or more closures that returns a tuple* (`rayon::join`, `tokio::try_join!`). Good for
//!   two. It has no limit, no tasks in a loop, and needs a macro for more.
//! - *A pool that collects all results in order* (`ResultPool` of Go's conc). That is
//!   [`parallel_map`](crate::parallel_map()), as all are of one type then.
//!
//! A handle is bound to no scope, so it leaves the group with the closure's value, and is asked where the
//! group is known to have succeeded. Within the group a task that has failed has no value, and not the error
//! either: there is one, and the group returns it. `join` returns an `Option` and not a `Result` for this
//! reason. Where an error ends the group, it has done so when `join` says that there is no value: no task that
//! is spawned afterwards runs. (The price of one word for all tasks: one that never returns an `Ok`, as
//! `|| loop { .. }`, must name the type of its value.)

mod progress;
mod task;

pub use self::task::Task;

use self::progress::{Progress, Start};
use self::task::TaskEnd;
use crate::cancel::CancelToken;
use crate::config::Workers;
use crate::error::Cancelled;
use crate::runtime::context::{self, Current, Plain};
use crate::runtime::lease::{Leases, with_crew};
use crate::runtime::pool::Pool;
use crate::runtime::trace::{Made, StageSpan, resume_unwind};
use crate::sync::{Arc, Mutex};
use crate::unwind::catch;
use std::fmt;
use std::marker::PhantomData;
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
/// token. See [`group_with`] for a group that stops by a token of its own, or at a deadline.
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
///
/// # Examples
///
/// ```
/// let numbers = [1, 2, 3];
/// let mut text = String::new();
/// let result: Result<_, std::fmt::Error> = fanfold::group(2, |g| {
///     g.spawn(|| std::fmt::Write::write_str(&mut text, "done"));
///     g.spawn(|| Ok(numbers.iter().sum::<i32>())) // its handle is the closure's value
/// });
/// assert_eq!(result.unwrap().join(), Some(6));
/// assert_eq!(text, "done");
/// ```
#[doc(alias(
    "errgroup",
    "JoinSet",
    "TaskTracker",
    "WaitGroup",
    "SetLimit",
    "join",
    "join_all",
    "try_join",
    "try_join_all"
))]
#[track_caller]
pub fn group<'env, F, T, E>(limit: impl Into<Workers>, f: F) -> Result<T, E>
where
    F: for<'scope> FnOnce(&Group<'scope, 'env, E>) -> T,
    E: Send + 'env,
{
    let done = run(limit.into().checked(), true, None, f);
    done.first_error()
}

/// As [`group`], but also stops when the token is tripped.
///
/// Then no further task is started, the group's token is tripped too, and the call waits for the
/// running tasks; let them watch [`CancelToken::current`], which has the token's deadline, to end
/// sooner. The same holds for the token of the surrounding work (a closure of a stage, a task of a
/// group), so `group_with(&CancelToken::current(), ..)` inside it stops with it.
///
/// # Panics
///
/// As [`group`].
///
/// # Errors
///
/// The error of the task that failed first in time. If none has, and the token was tripped so that a
/// task was not run, or something in a task was cut short: [`Cancelled`], as an `E`. If all tasks
/// have run to their `Ok`, the group has succeeded, whether the token is tripped by then or not.
///
/// # Examples
///
/// ```
/// use fanfold::{CancelToken, Cancelled};
/// use std::time::Duration;
///
/// let limit = CancelToken::new().with_timeout(Duration::from_millis(20));
/// let result: Result<(), Cancelled> = fanfold::group_with(&limit, 2, |g| {
///     for _ in 0..3 {
///         g.spawn(|| CancelToken::current().sleep(Duration::from_secs(60)));
///     }
/// });
/// assert!(result.unwrap_err().is_deadline());
/// ```
#[doc(alias("group_on", "errgroup", "WithContext"))]
#[track_caller]
pub fn group_with<'env, F, T, E>(
    token: &CancelToken,
    limit: impl Into<Workers>,
    f: F,
) -> Result<T, E>
where
    F: for<'scope> FnOnce(&Group<'scope, 'env, E>) -> T,
    E: From<Cancelled> + Send + 'env,
{
    let done = run(limit.into().checked(), true, Some(token), f);
    match done.incomplete {
        Some(why) if done.errors.is_empty() => Err(why.into()),
        _ => done.first_error(),
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
    let Done {
        value, mut errors, ..
    } = run(limit.into().checked(), false, None, f);
    if errors.is_empty() {
        return Ok(value);
    }
    errors.sort_by_key(|(task, _)| *task);
    Err(errors.into_iter().map(|(_, error)| error).collect())
}

/// The handle that spawns tasks: the argument of the closure of [`group`], [`group_with`] and
/// [`group_all`].
pub struct Group<'scope, 'env: 'scope, E> {
    leases: Leases,
    shared: Arc<GroupShared<E>>,
    scope: PhantomData<&'scope mut &'scope ()>,
    env: PhantomData<&'env mut &'env ()>,
}

struct GroupShared<E> {
    progress: Arc<Progress>,
    /// Whether the first error ends the group.
    fails_fast: bool,
    /// Each with the number of its task, in the order of time.
    errors: Mutex<Vec<(usize, E)>>,
    span: StageSpan,
}

impl<E> fmt::Debug for Group<'_, '_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let progress = &self.shared.progress;
        let state = progress.lock();
        f.debug_struct("Group")
            .field("limit", &progress.limit())
            .field("spawned", &state.spawned)
            .field("running", &state.running)
            .finish_non_exhaustive()
    }
}

impl<'scope, E: Send + 'scope> Group<'scope, '_, E> {
    /// Runs `task` on a separate thread; blocks while `limit` tasks are running. The handle gives the
    /// task's value, and may be dropped.
    ///
    /// After a failure the task is dropped without running. If no thread can be started, it runs on
    /// this thread. A task that never returns an `Ok` must name its type: `|| -> Result<(), _> { .. }`.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn load_users() -> Result<Vec<&'static str>, std::io::Error> { Ok(vec!["ann"]) }
    /// # fn load_orders() -> Result<Vec<u32>, std::io::Error> { Ok(vec![1, 2]) }
    /// # fn main() -> Result<(), std::io::Error> {
    /// let (users, orders) = fanfold::group(2, |g| (g.spawn(load_users), g.spawn(load_orders)))?;
    /// // The group has succeeded, so both have a value.
    /// assert_eq!(users.join().zip(orders.join()), Some((vec!["ann"], vec![1, 2])));
    /// # Ok(())
    /// # }
    /// ```
    pub fn spawn<T, F>(&self, task: F) -> Task<T>
    where
        F: FnOnce() -> Result<T, E> + Send + 'scope,
        T: Send + 'scope,
    {
        self.begin(task, true)
            .unwrap_or_else(|_| unreachable!("it has waited for room"))
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
    pub fn try_spawn<T, F>(&self, task: F) -> Result<Task<T>, F>
    where
        F: FnOnce() -> Result<T, E> + Send + 'scope,
        T: Send + 'scope,
    {
        self.begin(task, false)
    }

    /// The group's token. The first failure trips it; tripping it asks all tasks to end.
    ///
    /// A hook on it that is bound to a name within the group's closure is gone when that returns, while
    /// tasks still run: bind it outside of the group, or [`detach`](crate::cancel::CancelHook::detach) it.
    pub fn token(&self) -> &CancelToken {
        self.shared.progress.token()
    }

    /// Starts a task, unless none is started any more. `Err`: there is no room.
    fn begin<T, F>(&self, task: F, waits: bool) -> Result<Task<T>, F>
    where
        F: FnOnce() -> Result<T, E> + Send + 'scope,
        T: Send + 'scope,
    {
        let (handle, end) = task::task();
        let number = match self.shared.progress.start(waits) {
            Start::Now(number) => number,
            Start::Full => return Err(task),
            Start::Never => return Ok(handle),
        };
        let shared = Arc::clone(&self.shared);
        if let Err(task) = (self.leases).lease(move || shared.run(number, task, end)) {
            task.run();
        }
        Ok(handle)
    }
}

impl<E> GroupShared<E> {
    fn run<T>(&self, number: usize, task: impl FnOnce() -> Result<T, E>, end: TaskEnd<T>) {
        let progress = &self.progress;
        let frame = Plain::new(progress.token().clone());
        let entered = context::in_closure(Rc::clone(&frame) as Rc<dyn Current>);
        let in_stage = self.span.enter();
        let outcome = catch(task);
        drop(in_stage);
        drop(entered);
        let cut = frame.over();
        let value = match outcome {
            Ok(Ok(value)) => {
                progress.end(false, cut, || ());
                Some(value)
            }
            Ok(Err(error)) => {
                let record = || self.errors.lock().push((number, error));
                progress.end(self.fails_fast, cut, record);
                None
            }
            Err(payload) => {
                self.span.panicked(Some(number as u64), &*payload);
                progress.keep(Some(payload));
                progress.end(true, cut, || ());
                None
            }
        };
        // Only now, so that who joins this task finds a place free, or the group failed. A value without a
        // handle is dropped here.
        if let Err(payload) = catch(|| end.give(value)) {
            progress.fail(payload);
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

/// What is left of a group.
struct Done<T, E> {
    value: T,
    errors: Vec<(usize, E)>,
    /// Why not everything was done although no task has failed.
    incomplete: Option<Cancelled>,
}

impl<T, E> Done<T, E> {
    fn first_error(self) -> Result<T, E> {
        match self.errors.into_iter().next() {
            Some((_, error)) => Err(error),
            None => Ok(self.value),
        }
    }
}

fn run<'env, F, T, E>(
    limit: usize,
    fails_fast: bool,
    stop: Option<&CancelToken>,
    f: F,
) -> Done<T, E>
where
    F: for<'scope> FnOnce(&Group<'scope, 'env, E>) -> T,
    E: Send + 'env,
{
    let outer = CancelToken::current();
    // A task that sleeps on its token wakes up at the time, although no thread may be there to trip it.
    let token = match stop.and_then(CancelToken::deadline) {
        Some(deadline) => outer.with_deadline(deadline),
        None => outer.child(),
    };
    let stops = stop.map_or_else(Vec::new, |stop| vec![stop.clone(), outer]);
    let progress = Arc::new(Progress::new(limit, token, stops));
    let shared = Arc::new(GroupShared {
        progress: Arc::clone(&progress),
        fails_fast,
        errors: Mutex::default(),
        span: StageSpan::default(),
    });
    let mut made = Made::here();
    made.of("group");
    made.sized(limit, None);
    shared.span.open(&made, None);
    // Until all tasks have ended.
    let hook = |stop: &CancelToken| {
        let progress = Arc::clone(&progress);
        stop.on_trip(move |why| progress.stop(why))
    };
    let hooks: Vec<_> = progress.stops().iter().map(hook).collect();
    let value = with_crew(Pool::global(), |leases| {
        let group = Group {
            leases: leases.clone(),
            shared: Arc::clone(&shared),
            scope: PhantomData,
            env: PhantomData,
        };
        let _on_unwind = OnUnwind(progress.token());
        f(&group)
    });
    drop(hooks);
    let incomplete = progress.incomplete();
    let mut state = progress.lock();
    // Unless the group's own error says it.
    if state.cut && incomplete.is_none() {
        context::tell_cut();
    }
    let panic = state.panic.take();
    drop(state);
    if let Some(payload) = panic {
        resume_unwind(payload);
    }
    let errors = std::mem::take(&mut *shared.errors.lock());
    Done {
        value,
        errors,
        incomplete,
    }
}
