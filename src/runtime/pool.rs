//! Threads that are kept between stages.
//!
//! A stage leases threads. A leased thread belongs to that stage alone until the stage returns it, so two
//! stages never wait for one another's threads (P8). The pool grows to whatever is leased, and shrinks when
//! threads idle. It never queues a task: a lease either takes the thread that went idle last (its caches are
//! warm, and the others can expire), or starts a thread. If none can be started, the caller learns this and
//! continues with the threads it has.
//! `threads.rs` has the protocol.

mod hooks;
mod threads;

pub(crate) use self::threads::LeasedTask;

use self::hooks::ThreadHook;
use self::threads::{PoolThreads, ThreadOptions};
use crate::sync::{Arc, Weak, fixed};
use std::fmt;
use std::time::Duration;

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
/// assert!(names.iter().all(|name| name.ends_with("-decoder")));
/// ```
#[doc(alias("ThreadPool"))]
#[derive(Clone)]
pub struct Pool {
    threads: Arc<PoolThreads>,
    // Only handles of users keep the pool open; the threads hold `PoolThreads` alone.
    _open: Arc<OpenPool>,
}

/// Its drop, with the last handle of a user, closes the pool.
struct OpenPool(Weak<PoolThreads>);

impl Drop for OpenPool {
    fn drop(&mut self) {
        if let Some(threads) = self.0.upgrade() {
            threads.close();
        }
    }
}

impl Pool {
    /// The pool that stages use when none is named. Its threads are called `0-fanfold`,
    /// `1-fanfold`, …, have the platform's stack size and leave after 10 idle seconds.
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
            options: ThreadOptions {
                name: "fanfold".to_owned(),
                stack_size: None,
                idle_time: IDLE,
                max_threads: usize::MAX,
                on_start: None,
                on_stop: None,
            },
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
        self.threads.count()
    }

    /// Whether it refuses a thread only if the system does.
    pub(crate) fn is_unlimited(&self) -> bool {
        let options = &self.threads.options;
        options.max_threads == usize::MAX && options.on_start.is_none()
    }

    /// Runs a task on a leased thread. `Err` returns the task: there is no thread for it.
    pub(crate) fn lease(&self, task: LeasedTask) -> Result<(), LeasedTask> {
        self.threads.lease(task)
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("name", &self.threads.options.name)
            .field("threads", &self.threads())
            .finish_non_exhaustive()
    }
}

/// Describes a [`Pool`]; see [`Pool::builder`].
#[derive(Clone, Debug)]
#[must_use = "a description starts nothing: call `build()`"]
pub struct PoolBuilder {
    options: ThreadOptions,
}

impl PoolBuilder {
    /// The name of the threads, each with its index before it; `fanfold` by default.
    ///
    /// The index is the smallest number that no other thread of the pool has at that time. Index and name
    /// together are cut after 15 bytes, as Linux keeps no more: the third thread of `thumbnail-decoder` is
    /// `2-thumbnail-dec`.
    ///
    /// # Examples
    ///
    /// ```
    /// let pool = fanfold::Pool::builder().named("resize").build();
    /// ```
    #[doc(alias("name", "thread_name"))]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.options.name = name.into();
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
        self.options.stack_size = Some(bytes);
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
        self.options.idle_time = time;
        self
    }

    /// Limits the number of the pool's threads; without a limit by default.
    ///
    /// Nothing waits for a thread of the pool, so nothing can dead-lock on it: what asks for one while all
    /// are leased runs with those it has, and it does not ask again. A stage that gets none runs its items
    /// on its consumer's thread, one at a time, and a sink of a
    /// [`broadcast_into`](crate::Fanfold::broadcast_into) runs after the first one. So a stage on such a
    /// pool may run fewer closures at once than its width says, and closures must not wait for one another.
    /// A source that waits for results gets them. A merge with fewer threads than sources is one with
    /// [`Merge::max_threads`](crate::Merge::max_threads).
    ///
    /// A stage of width `n` leases `n` threads, and one more if its source blocks.
    ///
    /// # Panics
    ///
    /// If it is 0.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::{Fanfold, Pool};
    ///
    /// let pool = Pool::builder().max_threads(2).build();
    /// let sums = (0..100_u64).par_map_ordered(8, |i| {
    ///     (0..i).par_map_ordered(8, |j| j).on(&pool).sum::<u64>() // within its outer stage's closure
    /// });
    /// assert_eq!(sums.on(&pool).sum::<u64>(), 161_700);
    /// assert!(pool.threads() <= 2);
    /// ```
    #[doc(alias(
        "num_threads",
        "worker_threads",
        "thread_limit",
        "max_blocking_threads"
    ))]
    #[track_caller]
    pub fn max_threads(mut self, threads: usize) -> Self {
        assert!(
            threads > 0,
            "a pool needs at least 1 thread: leave max_threads out for as many as are asked for"
        );
        self.options.max_threads = threads;
        self
    }

    /// Calls `f` on each thread when it starts, with the thread's index, before it runs anything else: to
    /// pin it to a core, set its priority, attach it to a runtime.
    ///
    /// The index is the smallest number that no other thread of the pool has at that time, from the start
    /// hook to the return of the [stop hook](Self::on_thread_stop). So it is below
    /// [`max_threads`](Self::max_threads). The stage that needs the thread waits until `f` has returned. A
    /// thread is kept between stages, so that one thread serves many. A stage that runs in `f` gets no
    /// threads. A second call replaces the hook of the first.
    ///
    /// # Panics
    ///
    /// If `f` panics, that counts as a thread that cannot be started: the panic goes no further than the
    /// panic hook's message, the thread runs nothing, and the stage goes on with those it has, or on its
    /// consumer's thread.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::{Fanfold, Pool};
    ///
    /// thread_local!(static INDEX: std::cell::Cell<Option<usize>> = const { std::cell::Cell::new(None) });
    ///
    /// let pool = Pool::builder().max_threads(4).on_thread_start(|index| INDEX.set(Some(index))).build();
    /// let indices = (0..100).par_map_ordered(4, |_| INDEX.get());
    /// assert!(indices.on(&pool).all(|index| index.is_some_and(|index| index < 4)));
    /// ```
    #[doc(alias(
        "start_handler",
        "thread_init",
        "worker_init",
        "core_affinity",
        "thread_priority"
    ))]
    pub fn on_thread_start(mut self, f: impl Fn(usize) + Send + Sync + 'static) -> Self {
        self.options.on_start = Some(ThreadHook::new(f));
        self
    }

    /// Calls `f` on each thread when it leaves the pool, with the thread's index, as the last thing before
    /// its thread-locals are dropped.
    ///
    /// A thread leaves when it has been idle for the [idle time](Self::idle_time), or with the pool: when
    /// the last handle has been dropped, `f` has returned on every thread (except a thread that has itself
    /// dropped that handle). Until `f` returns, the thread counts for [`max_threads`](Self::max_threads).
    /// It runs once for each thread whose start hook has returned; never for the threads of the
    /// [global](Pool::global) pool at the end of the process. A second call replaces the hook of the first.
    ///
    /// # Panics
    ///
    /// A panic of `f` goes no further than the panic hook's message.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::{Fanfold, Pool};
    /// use std::sync::Arc;
    /// use std::sync::atomic::{AtomicUsize, Ordering};
    ///
    /// let attached = Arc::new(AtomicUsize::new(0));
    /// let (start, stop) = (Arc::clone(&attached), Arc::clone(&attached));
    /// let pool = Pool::builder()
    ///     .on_thread_start(move |_| _ = start.fetch_add(1, Ordering::SeqCst))
    ///     .on_thread_stop(move |_| _ = stop.fetch_sub(1, Ordering::SeqCst))
    ///     .build();
    /// assert_eq!((0..100).par_map_ordered(4, |x| x).on(&pool).count(), 100);
    /// assert!(attached.load(Ordering::SeqCst) > 0);
    /// drop(pool);
    /// assert_eq!(attached.load(Ordering::SeqCst), 0);
    /// ```
    #[doc(alias("exit_handler", "thread_exit"))]
    pub fn on_thread_stop(mut self, f: impl Fn(usize) + Send + Sync + 'static) -> Self {
        self.options.on_stop = Some(ThreadHook::new(f));
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
        let threads = PoolThreads::new(self.options);
        Pool {
            _open: Arc::new(OpenPool(Arc::downgrade(&threads))),
            threads,
        }
    }
}

#[cfg(all(test, loom))]
mod models;
