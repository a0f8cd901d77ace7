//! `hedge`: several ways to the same answer, and the first that gives one.
//!
//! # Who acts
//!
//! The calling thread pulls the replicas, starts each on a leased thread, and waits: for an answer, for
//! the time of the next, for the end of the whole. A replica puts what it has come to into `done` and
//! rings the [bell](Bell). When there is an answer the caller says that it is `over` and trips the
//! tokens of the others; what they bring after that they drop themselves, and what they have brought
//! and nobody has taken goes with the race, whose last holder drops it.

use crate::engine::bell::{Bell, Ear};
use crate::engine::cancel::{CancelToken, OnCancel, Rivals};
use crate::engine::census::{self, Alive};
use crate::engine::context::{self, Current, Plain};
use crate::engine::erase::{Crew, with_crew};
use crate::engine::policy::HedgePolicy;
use crate::engine::pool::Pool;
use crate::engine::unwind::{self, Payload, catch};
use crate::error::{HedgeError, ReplicaError};
use crate::sync::{Arc, AtomicBool, Injector, Instant, Ordering, Steal};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

/// One way to an answer, whatever its type was; made by [`replica`].
pub type Replica<'a, T, E> = Box<dyn FnOnce(CancelToken) -> Result<T, E> + Send + 'a>;

/// Boxes a replica, so that unlike ones can stand in one list.
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

/// When the next replica is started.
#[derive(Clone, Debug)]
enum Delay {
    /// At once.
    None,
    Fixed(Duration),
    Policy(HedgePolicy),
}

/// Several ways to the same answer; made by [`hedge`](crate::Fanfold::hedge).
#[must_use = "a hedge is lazy: nothing is pulled or started before `run()`"]
pub struct Hedge<I> {
    replicas: I,
    delay: Delay,
    at_most: usize,
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
            delay: Delay::None,
            at_most: usize::MAX,
            timeout: None,
            name: "a hedge without a name".to_owned(),
            tokens: Vec::new(),
            detached: false,
            pool: None,
        }
    }

    /// Starts the next replica when none has answered in `delay`, or at once when one fails.
    pub fn after(self, delay: Duration) -> Self {
        Hedge {
            delay: Delay::Fixed(delay),
            ..self
        }
    }

    /// As [`after`](Self::after), with the policy's delay and within its budget.
    ///
    /// What each answer took is recorded in the policy. A replica that is started because another
    /// has failed is no hedge, and costs no budget. While the policy has no delay (in its warm-up), or
    /// when the budget is spent, only a failure starts the next one.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::{CancelToken, Fanfold, HedgePolicy};
    /// use std::time::Duration;
    ///
    /// // One for the whole program.
    /// let policy = HedgePolicy::after(Duration::from_millis(20)).budget(0.05);
    ///
    /// let ask = |token: CancelToken| token.check().map(|()| 42);
    /// assert_eq!([ask, ask].into_iter().hedge().after_percentile(&policy).run(), Ok(42));
    /// assert_eq!((policy.stats().requests, policy.stats().sent), (1, 0));
    /// ```
    pub fn after_percentile(self, policy: &HedgePolicy) -> Self {
        Hedge {
            delay: Delay::Policy(policy.clone()),
            ..self
        }
    }

    /// Starts no more than `k` replicas in all.
    ///
    /// # Panics
    ///
    /// If `k` is 0.
    #[track_caller]
    pub fn at_most(self, k: usize) -> Self {
        assert!(
            k > 0,
            "at_most must be at least 1: leave it out to start as many replicas as there are"
        );
        Hedge { at_most: k, ..self }
    }

    /// Gives up when there is no answer in `time`, from the call of [`run`](Self::run) on.
    pub fn timeout(self, time: Duration) -> Self {
        Hedge {
            timeout: Some(time),
            ..self
        }
    }

    /// Names it, for [`testing::assert_quiescent`](crate::testing::assert_quiescent).
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

    /// Makes it one by itself, although it runs in the middle of something; see
    /// [`Stage::detached`](crate::Stage::detached).
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

    /// Has [`run`](WaitingHedge::run) wait until every replica that was started has returned. The last
    /// option.
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
    /// Without [`after`](Self::after) all are started at once. The iterator is pulled on this thread, and
    /// only for replicas that are started. Each gets a token; those of the losers are tripped as soon as
    /// there is an answer, and their threads go back to the pool when they return.
    ///
    /// The tokens are also tripped with [`CancelToken::current`] of the caller: in a closure of a stage
    /// with that stage. Where no thread can be started, a replica runs here, and the next one after it; then
    /// the [time](Self::timeout) is looked at in between.
    ///
    /// # Panics
    ///
    /// A panic of the iterator passes through. A replica that panics has failed, and is reported as such.
    ///
    /// # Errors
    ///
    /// [`HedgeError`] if all replicas fail, with what each has failed with; if there is none; if the
    /// time is over; or if a token is tripped.
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
    /// assert_eq!(answer, Ok(0)); // the second one was quicker
    /// ```
    pub fn run<T, E>(self) -> Result<T, HedgeError<E>>
    where
        I::Item: FnOnce(CancelToken) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        let pool = self.pool.clone().unwrap_or_else(Pool::global);
        let root = census::root();
        run(self, |task: Task<'static>| {
            let task: Task<'static> = Box::new(move || {
                let _here = census::enter(root);
                task();
            });
            if let Err(task) = pool.lease(task) {
                task();
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
    /// Runs the replicas, and returns the first answer when all that were started have returned.
    ///
    /// As [`Hedge::run`] otherwise. A replica that does not heed its token holds this up, also beyond
    /// the [time-out](Hedge::timeout).
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
        with_crew(pool, |crew: &Crew| {
            run(self.hedge, |task| {
                if let Err(task) = crew.lease(task) {
                    task();
                }
            })
        })
    }
}

type Task<'a> = Box<dyn FnOnce() + Send + 'a>;
type Outcome<T, E> = Result<T, ReplicaError<E>>;

/// What the caller and the replicas share.
struct Race<T, E> {
    bell: Arc<Bell>,
    done: Injector<Done<T, E>>,
    over: AtomicBool,
}

/// What the replica of a number has come to. As long as it lies here, the replica counts as one that is left.
struct Done<T, E> {
    number: usize,
    outcome: Outcome<T, E>,
    alive: Alive,
}

impl<T, E> Done<T, E> {
    /// Nobody hears of it.
    fn discard(self) {
        bury(unwind::discard(self.outcome));
        drop(self.alive); // the last
    }
}

impl<T, E> Race<T, E> {
    fn bring(&self, done: Done<T, E>) {
        // Acquire: nothing of ours hangs on it. A race that ends now drops what is brought later.
        if self.over.load(Ordering::Acquire) {
            done.discard();
        } else {
            self.done.push(done);
            self.bell.ring();
        }
    }

    fn take(&self) -> Option<Done<T, E>> {
        loop {
            match self.done.steal() {
                Steal::Success(done) => return Some(done),
                Steal::Empty => return None,
                Steal::Retry => {}
            }
        }
    }
}

impl<T, E> Drop for Race<T, E> {
    fn drop(&mut self) {
        while let Some(late) = self.take() {
            late.discard();
        }
    }
}

/// A loser's panic is its own affair.
fn bury(panic: Option<Payload>) {
    if let Some(payload) = panic {
        unwind::bury(payload);
    }
}

/// The side of the caller. Its drop ends the race, however it is left.
struct Runner<T, E> {
    race: Arc<Race<T, E>>,
    ear: Ear,
    rivals: Arc<Rivals>,
    /// Above those of the replicas.
    token: CancelToken,
    hooks: Vec<OnCancel>,
    deadline: Option<Instant>,
    name: String,
    policy: Option<HedgePolicy>,
    started: usize,
    running: usize,
    /// The numbers of those that were started because others were slow.
    hedges: Vec<usize>,
    winner: usize,
    failures: Vec<(usize, ReplicaError<E>)>,
}

impl<T, E> Drop for Runner<T, E> {
    fn drop(&mut self) {
        self.hooks.clear();
        self.race.over.store(true, Ordering::Release);
        if let Some(policy) = &self.policy {
            for hedge in &self.hedges {
                policy.end(*hedge == self.winner);
            }
        }
        bury(self.rivals.win(self.winner));
    }
}

/// Starts the tasks with `lease`, until there is an answer.
fn run<'a, I, T, E>(hedge: Hedge<I>, lease: impl Fn(Task<'a>)) -> Result<T, HedgeError<E>>
where
    I: Iterator,
    I::Item: FnOnce(CancelToken) -> Result<T, E> + Send + 'a,
    T: Send + 'a,
    E: Send + 'a,
{
    let mut runner = Runner::new(&hedge);
    if runner.token.is_cancelled() {
        return Err(HedgeError::cancelled(Vec::new()));
    }
    let (delay, at_most) = (hedge.delay, hedge.at_most);
    // Fused, so that it is not asked again after its end.
    let mut replicas = hedge.replicas.fuse();
    let next = |runner: &Runner<T, E>| {
        (runner.started < at_most)
            .then(|| replicas.next())
            .flatten()
    };
    let answer = race(&mut runner, next, &delay, lease);
    // Now, and not behind the return: a panic of theirs would leak what is returned.
    drop(runner);
    drop(replicas);
    answer
}

/// Starts what comes `next`, until there is an answer.
fn race<'a, F, T, E>(
    runner: &mut Runner<T, E>,
    mut next: impl FnMut(&Runner<T, E>) -> Option<F>,
    delay: &Delay,
    lease: impl Fn(Task<'a>),
) -> Result<T, HedgeError<E>>
where
    F: FnOnce(CancelToken) -> Result<T, E> + Send + 'a,
    T: Send + 'a,
    E: Send + 'a,
{
    let Some(first) = next(runner) else {
        return Err(HedgeError::none());
    };
    runner.start(first, &lease);
    let mut more = true;
    let mut slow_at = next_at(delay);
    loop {
        while let Some(Done {
            number, outcome, ..
        }) = runner.race.take()
        {
            runner.running -= 1;
            match outcome {
                Ok(answer) => {
                    runner.winner = number;
                    return Ok(answer);
                }
                Err(why) => {
                    runner.rivals.give_up(number);
                    runner.failures.push((number, why));
                    // However quickly they fail, they come to an end with the whole.
                    if more && !runner.rivals.is_claimed() && !runner.is_over() {
                        more = runner.start_next(next(runner), &lease);
                    }
                    slow_at = next_at(delay);
                }
            }
        }
        if runner.running == 0 || runner.is_over() {
            if !runner.race.done.is_empty() {
                continue; // an answer that is there counts, whatever else has happened
            }
            return Err(runner.end(more));
        }
        let slow =
            more && !runner.rivals.is_claimed() && slow_at.is_some_and(|at| at <= Instant::now());
        if slow {
            if runner
                .policy
                .as_ref()
                .is_some_and(|policy| !policy.try_hedge())
            {
                slow_at = None;
                continue;
            }
            let replica = next(runner);
            match (&replica, &runner.policy) {
                (Some(_), Some(_)) => runner.hedges.push(runner.started),
                (None, Some(policy)) => policy.unsend(),
                (_, None) => {}
            }
            more = runner.start_next(replica, &lease);
            slow_at = next_at(delay);
            continue;
        }
        let wake_at = slow_at.filter(|_| more && !runner.rivals.is_claimed());
        runner.wait(wake_at);
    }
}

/// When the next replica is to be started if there is no answer by then.
fn next_at(delay: &Delay) -> Option<Instant> {
    let delay = match delay {
        Delay::None => Duration::ZERO,
        Delay::Fixed(delay) => *delay,
        Delay::Policy(policy) => policy.delay()?,
    };
    Instant::now().checked_add(delay)
}

impl<T, E> Runner<T, E> {
    fn new<I>(hedge: &Hedge<I>) -> Self {
        let ear = Ear::new();
        let token = if hedge.detached {
            CancelToken::new()
        } else {
            CancelToken::current().child()
        };
        let bell = Arc::clone(ear.bell());
        let mut hooks = vec![token.on_cancel(move || bell.ring())];
        hooks.extend(hedge.tokens.iter().map(|outer| {
            let inner = token.clone();
            outer.on_cancel(move || inner.cancel())
        }));
        let policy = match &hedge.delay {
            Delay::Policy(policy) => Some(policy.clone()),
            _ => None,
        };
        if let Some(policy) = &policy {
            policy.begin();
        }
        Runner {
            race: Arc::new(Race {
                bell: Arc::clone(ear.bell()),
                done: Injector::new(),
                over: AtomicBool::new(false),
            }),
            ear,
            rivals: Arc::default(),
            token,
            hooks,
            deadline: hedge
                .timeout
                .and_then(|time| Instant::now().checked_add(time)),
            name: hedge.name.clone(),
            policy,
            started: 0,
            running: 0,
            hedges: Vec::new(),
            winner: usize::MAX,
            failures: Vec::new(),
        }
    }

    fn start<'a, F>(&mut self, replica: F, lease: impl Fn(Task<'a>))
    where
        F: FnOnce(CancelToken) -> Result<T, E> + Send + 'a,
        T: Send + 'a,
        E: Send + 'a,
    {
        let (token, number) = self.rivals.join(&self.token, None); // tripped by the caller
        debug_assert_eq!(number, self.started);
        self.started += 1;
        self.running += 1;
        let race = Arc::clone(&self.race);
        let policy = self.policy.clone();
        let alive = Alive::new(&self.name);
        lease(Box::new(move || {
            let began = Instant::now();
            let frame = Plain::new(token.clone());
            let entered = context::in_closure(Rc::clone(&frame) as Rc<dyn Current>);
            let outcome = catch(|| replica(token));
            drop(entered);
            let cut = frame.over();
            drop(frame);
            let outcome = match outcome {
                Ok(Ok(answer)) if cut => {
                    bury(unwind::discard(answer));
                    let said = "something in it was cut short, as its token was tripped";
                    Err(ReplicaError::Panicked(said.to_owned()))
                }
                Ok(Ok(answer)) => {
                    if let Some(policy) = policy {
                        policy.record(began.elapsed());
                    }
                    Ok(answer)
                }
                Ok(Err(error)) => Err(ReplicaError::Failed(error)),
                Err(payload) => {
                    let why = ReplicaError::panicked(&*payload);
                    unwind::bury(payload);
                    Err(why)
                }
            };
            race.bring(Done {
                number,
                outcome,
                alive,
            });
        }));
    }

    /// `false`: there is none.
    fn start_next<'a, F>(&mut self, replica: Option<F>, lease: impl Fn(Task<'a>)) -> bool
    where
        F: FnOnce(CancelToken) -> Result<T, E> + Send + 'a,
        T: Send + 'a,
        E: Send + 'a,
    {
        match replica {
            Some(replica) => {
                self.start(replica, lease);
                true
            }
            None => false,
        }
    }

    /// Waits for news, for the time of the next replica, or for the end of the whole.
    fn wait(&mut self, slow_at: Option<Instant>) {
        let (race, token) = (&self.race, &self.token);
        let until = slow_at.into_iter().chain(self.deadline).min();
        self.ear
            .wait(|| !race.done.is_empty() || token.is_cancelled(), until);
    }

    /// Whether it is no use to wait any longer, or to start anything.
    fn is_over(&self) -> bool {
        self.is_unwanted() || self.is_late()
    }

    fn is_unwanted(&self) -> bool {
        self.token.is_cancelled() || context::is_unwanted()
    }

    fn is_late(&self) -> bool {
        self.deadline.is_some_and(|at| at <= Instant::now())
    }

    /// What came of it without an answer. `more`: there may be other replicas.
    fn end(&mut self, more: bool) -> HedgeError<E> {
        let (failures, running) = (self.failures(), self.running > 0);
        // They may have failed because they were told to stop, and been heard first.
        if self.is_unwanted() {
            HedgeError::cancelled(failures)
        } else if running || more && self.is_late() {
            HedgeError::timed_out(failures)
        } else {
            HedgeError::all_failed(failures)
        }
    }

    /// By the numbers of the replicas.
    fn failures(&mut self) -> Vec<(usize, ReplicaError<E>)> {
        let mut failures = std::mem::take(&mut self.failures);
        failures.sort_by_key(|(number, _)| *number);
        failures
    }
}
