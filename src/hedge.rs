//! Several ways to the same answer, of which the first to answer wins; and a second try for slow items.
//!
//! ```text
//! replica 1   [ask------------------x     its token is tripped when there is an answer
//! replica 2           [ask------]         started after the delay
//! run()                          answer
//! ```
//!
//! [`hedge`](crate::Fanfold::hedge) races replicas; [`hedge_slow`](crate::Stage::hedge_slow) runs a
//! slow item of a stage a second time. A [`HedgePolicy`] sets when that happens, and how much extra
//! load it may cause.
//!
//! # Examples
//!
//! ```
//! use fanfold::{CancelToken, Fanfold};
//! use std::time::Duration;
//!
//! let ask = |server: &'static str| move |token: CancelToken| token.check().map(|()| server);
//! let answer = ["eu", "us"].map(ask).into_iter().hedge().after(Duration::from_millis(20)).run();
//! assert!(answer.is_ok());
//! ```

mod policy;
mod race;

pub use crate::error::{HedgeError, ReplicaError};
pub use crate::hedge::policy::{HedgePolicy, HedgeStats, Request};

use self::race::{HedgeRunner, ReplicaTask, StartDelay, race};
use crate::cancel::CancelToken;
use crate::error::Cancelled;
use crate::runtime::holds::Holds;
use crate::runtime::lease::{Leases, with_crew};
use crate::runtime::pool::{LeasedTask, Pool};
use crate::runtime::registry;
use std::fmt;
use std::time::Duration;

/// One way to an answer, as a boxed closure of any type; made by [`replica`].
pub type Replica<'a, T, E> = Box<dyn FnOnce(CancelToken) -> Result<T, E> + Send + 'a>;

/// Boxes a replica, so that closures of different types fit into one list.
///
/// # Examples
///
/// ```
/// use fanfold::{Fanfold, replica};
///
/// let name = String::from("primary");
/// let answer = [
///     replica(|_| Err("down")),
///     replica(move |_| Ok(name.len())),
/// ];
/// assert_eq!(answer.into_iter().hedge().run(), Ok(7));
/// ```
pub fn replica<'a, T, E>(
    f: impl FnOnce(CancelToken) -> Result<T, E> + Send + 'a,
) -> Replica<'a, T, E> {
    Box::new(f)
}

/// Claims the work for this replica: the others that race for the same result are tripped.
///
/// For the replicas of a [hedge](crate::Fanfold::hedge), with the token that each is given; and for
/// an item of a [`hedge_slow`](crate::Stage::hedge_slow) stage and its copy, with
/// [`CancelToken::current`]. The first to claim goes on; every other gets the error, or finds its
/// token tripped. So a request can be sent to two queues, and the copy that is served first cancels
/// the other. These are the tied requests of Dean and Barroso, *The Tail at Scale* (2013). If the
/// claimant fails, its claim is void, and a replica that was not started yet may start.
///
/// If nothing races, this is [`check`](CancelToken::check).
///
/// # Errors
///
/// [`Cancelled`] if the token is tripped, or another replica has claimed the work.
///
/// # Examples
///
/// ```
/// use fanfold::{CancelToken, Cancelled, Fanfold, hedge};
///
/// let replicas = ["a", "b"].map(|name| {
///     move |token: CancelToken| -> Result<&'static str, Cancelled> {
///         hedge::claim(&token)?; // before work that must not be done twice
///         Ok(name)
///     }
/// });
/// assert!(replicas.into_iter().hedge().run().is_ok());
/// ```
#[doc(alias = "tied")]
pub fn claim(token: &CancelToken) -> Result<(), Cancelled> {
    token.claim()
}

/// Several ways to the same answer; made by [`hedge`](crate::Fanfold::hedge).
#[must_use = "a hedge is lazy: nothing is pulled or started before `run()`"]
pub struct Hedge<I> {
    replicas: I,
    delay: StartDelay,
    max_replicas: usize,
    timeout: Option<Duration>,
    name: String,
    tokens: Vec<CancelToken>,
    detached: bool,
    pool: Option<Pool>,
}

impl<I> fmt::Debug for Hedge<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hedge")
            .field("name", &self.name)
            .field("delay", &self.delay)
            .finish_non_exhaustive()
    }
}

impl<I: Iterator> Hedge<I> {
    pub(crate) fn new(replicas: I) -> Self {
        Hedge {
            replicas,
            delay: StartDelay::None,
            max_replicas: usize::MAX,
            timeout: None,
            name: race::UNNAMED.to_owned(),
            tokens: Vec::new(),
            detached: false,
            pool: None,
        }
    }

    /// Starts the next replica when none has answered within `delay`, or at once when one fails.
    pub fn after(self, delay: Duration) -> Self {
        Hedge {
            delay: StartDelay::Fixed(delay),
            ..self
        }
    }

    /// As [`after`](Self::after), with the policy's delay and within its budget.
    ///
    /// The time of each answer is recorded in the policy. A replica that is started because another
    /// has failed is not a hedge, and costs no budget. While the policy has no delay (in its
    /// warm-up), or when the budget is spent, only a failure starts the next one.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::{CancelToken, Fanfold, HedgePolicy};
    /// use std::time::Duration;
    ///
    /// // One policy for the whole program.
    /// let policy = HedgePolicy::after(Duration::from_millis(20)).budget(0.05);
    ///
    /// let ask = |token: CancelToken| token.check().map(|()| 42);
    /// assert_eq!([ask, ask].into_iter().hedge().policy(&policy).run(), Ok(42));
    /// assert_eq!((policy.stats().requests, policy.stats().sent), (1, 0));
    /// ```
    #[doc(alias = "after_percentile")]
    pub fn policy(self, policy: &HedgePolicy) -> Self {
        Hedge {
            delay: StartDelay::Policy(policy.clone()),
            ..self
        }
    }

    /// Starts at most `k` replicas in total.
    ///
    /// # Panics
    ///
    /// If `k` is 0.
    #[doc(alias = "at_most")]
    #[track_caller]
    pub fn max_replicas(self, k: usize) -> Self {
        assert!(
            k > 0,
            "max_replicas must be at least 1: leave it out to start as many replicas as there are"
        );
        Hedge {
            max_replicas: k,
            ..self
        }
    }

    /// Gives up if there is no answer within `time` after the call of [`run`](Self::run).
    pub fn timeout(self, time: Duration) -> Self {
        Hedge {
            timeout: Some(time),
            ..self
        }
    }

    /// Names the hedge, for [`testing::assert_quiescent`](crate::testing::assert_quiescent).
    pub fn named(self, name: impl Into<String>) -> Self {
        Hedge {
            name: name.into(),
            ..self
        }
    }

    /// Gives up when `token` is tripped. May be called for several tokens.
    pub fn cancel_on(mut self, token: &CancelToken) -> Self {
        self.tokens.push(token.clone());
        self
    }

    /// Detaches the hedge from the work in which it runs; see [`Stage::detached`](crate::Stage::detached).
    pub fn detached(self) -> Self {
        Hedge {
            detached: true,
            ..self
        }
    }

    /// Leases the threads from `pool` instead of the [global](Pool::global) one.
    pub fn on(self, pool: &Pool) -> Self {
        Hedge {
            pool: Some(pool.clone()),
            ..self
        }
    }

    /// Makes [`run`](WaitingHedge::run) wait until every started replica has returned. The last option.
    ///
    /// Then replicas may borrow, and nothing of them is left behind.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::{Fanfold, replica};
    ///
    /// let words = ["to", "be"];
    /// let answer = [replica(|_| Err(())), replica(|_| Ok(words.concat()))];
    /// assert_eq!(answer.into_iter().hedge().wait_for_losers().run(), Ok("tobe".to_owned()));
    /// ```
    pub fn wait_for_losers(self) -> WaitingHedge<I> {
        WaitingHedge { hedge: self }
    }

    /// Runs the replicas, and returns the first answer.
    ///
    /// Without [`after`](Self::after) all are started at once. The iterator is pulled on this
    /// thread, and only for replicas that are started. Each gets a token. The tokens of the losers
    /// are tripped as soon as there is an answer, and their threads go back to the pool when they return.
    ///
    /// The tokens are also tripped with the caller's [`CancelToken::current`]: in a closure of a
    /// stage, with that stage. If no thread can be started, a replica runs on this thread and the
    /// next one after it; the [timeout](Self::timeout) is then checked in between.
    ///
    /// # Panics
    ///
    /// A panic of the iterator passes through. A replica that panics has failed, and is reported as such.
    ///
    /// # Errors
    ///
    /// [`HedgeError`] if all replicas fail, with the failure of each; if there is no replica; if
    /// the time limit passes; or if a token is tripped.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::{CancelToken, Cancelled, Fanfold};
    /// use std::time::Duration;
    ///
    /// let servers = [3_600, 0].map(|secs| {
    ///     move |token: CancelToken| -> Result<u64, Cancelled> {
    ///         token.sleep(Duration::from_secs(secs))?;
    ///         Ok(secs)
    ///     }
    /// });
    /// let answer = servers.into_iter().hedge().after(Duration::from_millis(5)).run();
    /// assert_eq!(answer, Ok(0)); // the second one was faster
    /// ```
    pub fn run<T, E>(self) -> Result<T, HedgeError<E>>
    where
        I::Item: FnOnce(CancelToken) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        let pool = self.pool.clone().unwrap_or_else(Pool::global);
        let (root, holds) = (registry::root(), Holds::here());
        run(self, |task: ReplicaTask<'static>| {
            let holds = holds.clone();
            let task: ReplicaTask<'static> = Box::new(move || {
                let _here = (registry::enter(root), holds.enter());
                task();
            });
            if let Err(task) = pool.lease(LeasedTask::uncounted(task)) {
                task.run();
            }
        })
    }
}

/// A hedge that waits for its losers; made by [`Hedge::wait_for_losers`].
#[derive(Debug)]
#[must_use = "a hedge is lazy: nothing is pulled or started before `run()`"]
pub struct WaitingHedge<I> {
    hedge: Hedge<I>,
}

impl<I: Iterator> WaitingHedge<I> {
    /// Runs the replicas, and returns the first answer when all started replicas have returned.
    ///
    /// Otherwise as [`Hedge::run`]. A replica that ignores its token delays the return, even beyond
    /// the [timeout](Hedge::timeout).
    ///
    /// # Panics
    ///
    /// As [`Hedge::run`].
    ///
    /// # Errors
    ///
    /// As [`Hedge::run`].
    pub fn run<T, E>(self) -> Result<T, HedgeError<E>>
    where
        I::Item: FnOnce(CancelToken) -> Result<T, E> + Send,
        T: Send,
        E: Send,
    {
        let pool = self.hedge.pool.clone().unwrap_or_else(Pool::global);
        with_crew(pool, |leases: &Leases| {
            run(self.hedge, |task| {
                if let Err(task) = leases.lease(task) {
                    task.run();
                }
            })
        })
    }
}

/// Starts the tasks with `lease` until there is an answer.
fn run<'a, I, T, E>(hedge: Hedge<I>, lease: impl Fn(ReplicaTask<'a>)) -> Result<T, HedgeError<E>>
where
    I: Iterator,
    I::Item: FnOnce(CancelToken) -> Result<T, E> + Send + 'a,
    T: Send + 'a,
    E: Send + 'a,
{
    let mut runner = HedgeRunner::new(
        hedge.detached,
        &hedge.tokens,
        &hedge.delay,
        hedge.timeout,
        hedge.name,
    );
    if runner.token.is_cancelled() {
        return Err(HedgeError::cancelled(Vec::new()));
    }
    let (delay, max_replicas) = (hedge.delay, hedge.max_replicas);
    // Fused, so that the iterator is not called again after its end.
    let mut replicas = hedge.replicas.fuse();
    let next = |runner: &HedgeRunner<T, E>| {
        (runner.started < max_replicas)
            .then(|| replicas.next())
            .flatten()
    };
    let answer = race(&mut runner, next, &delay, lease);
    // Dropped before the return: otherwise a panic of these drops would leak the answer.
    drop(runner);
    drop(replicas);
    answer
}
