//! The race: replicas that run, and the caller who waits for the first answer.
//!
//! # Who acts
//!
//! The calling thread pulls the replicas, starts each on a leased thread, and waits: for an answer, for
//! the time of the next, for the end of the whole. A replica puts what it has come to into `done` and
//! notifies the [event](crate::runtime::event). When there is an answer the caller says that it is `over` and trips the
//! tokens of the others; what they bring after that they drop themselves, and what they have brought
//! and nobody has taken goes with the race, whose last holder drops it.

use crate::cancel::{CancelHook, CancelToken, Rivals};
use crate::error::{HedgeError, ReplicaError};
use crate::hedge::policy::HedgePolicy;
use crate::runtime::context::{self, Current, Plain};
use crate::runtime::event::{Event, Listener};
use crate::runtime::registry::Alive;
use crate::sync::{Arc, AtomicBool, Injector, Instant, Ordering, Steal};
use crate::unwind::{self, Payload, catch};
use std::rc::Rc;
use std::time::Duration;

/// When the next replica is started.
#[derive(Clone, Debug)]
pub(super) enum StartDelay {
    /// At once.
    None,
    Fixed(Duration),
    Policy(HedgePolicy),
}

pub(super) type ReplicaTask<'a> = Box<dyn FnOnce() + Send + 'a>;

pub(super) type ReplicaOutcome<T, E> = Result<T, ReplicaError<E>>;

/// What the caller and the replicas share.
pub(super) struct HedgeRace<T, E> {
    pub(super) event: Arc<Event>,
    pub(super) done: Injector<DoneReplica<T, E>>,
    pub(super) over: AtomicBool,
}

/// What the replica of a number has come to. As long as it lies here, the replica counts as one that is left.
pub(super) struct DoneReplica<T, E> {
    pub(super) number: usize,
    pub(super) outcome: ReplicaOutcome<T, E>,
    pub(super) alive: Alive,
}

impl<T, E> DoneReplica<T, E> {
    /// Nobody hears of it.
    pub(super) fn discard(self) {
        bury(unwind::discard(self.outcome));
        drop(self.alive); // the last
    }
}

impl<T, E> HedgeRace<T, E> {
    pub(super) fn bring(&self, done: DoneReplica<T, E>) {
        // Acquire: nothing of ours hangs on it. A race that ends now drops what is brought later.
        if self.over.load(Ordering::Acquire) {
            done.discard();
        } else {
            self.done.push(done);
            self.event.notify();
        }
    }

    pub(super) fn take(&self) -> Option<DoneReplica<T, E>> {
        loop {
            match self.done.steal() {
                Steal::Success(done) => return Some(done),
                Steal::Empty => return None,
                Steal::Retry => {}
            }
        }
    }
}

impl<T, E> Drop for HedgeRace<T, E> {
    fn drop(&mut self) {
        while let Some(late) = self.take() {
            late.discard();
        }
    }
}

/// A loser's panic is its own affair.
pub(super) fn bury(panic: Option<Payload>) {
    if let Some(payload) = panic {
        unwind::bury(payload);
    }
}

/// The side of the caller. Its drop ends the race, however it is left.
pub(super) struct HedgeRunner<T, E> {
    pub(super) race: Arc<HedgeRace<T, E>>,
    pub(super) listener: Listener,
    pub(super) rivals: Arc<Rivals>,
    /// Above those of the replicas.
    pub(super) token: CancelToken,
    pub(super) hooks: Vec<CancelHook>,
    pub(super) deadline: Option<Instant>,
    pub(super) name: String,
    pub(super) policy: Option<HedgePolicy>,
    pub(super) started: usize,
    pub(super) running: usize,
    /// The numbers of those that were started because others were slow.
    pub(super) hedges: Vec<usize>,
    pub(super) winner: usize,
    pub(super) failures: Vec<(usize, ReplicaError<E>)>,
}

impl<T, E> Drop for HedgeRunner<T, E> {
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

/// Starts what comes `next`, until there is an answer.
pub(super) fn race<'a, F, T, E>(
    runner: &mut HedgeRunner<T, E>,
    mut next: impl FnMut(&HedgeRunner<T, E>) -> Option<F>,
    delay: &StartDelay,
    lease: impl Fn(ReplicaTask<'a>),
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
        while let Some(DoneReplica {
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
pub(super) fn next_at(delay: &StartDelay) -> Option<Instant> {
    let delay = match delay {
        StartDelay::None => Duration::ZERO,
        StartDelay::Fixed(delay) => *delay,
        StartDelay::Policy(policy) => policy.delay()?,
    };
    Instant::now().checked_add(delay)
}

impl<T, E> HedgeRunner<T, E> {
    pub(super) fn new(
        detached: bool,
        tokens: &[CancelToken],
        delay: &StartDelay,
        timeout: Option<Duration>,
        name: String,
    ) -> Self {
        let listener = Listener::new();
        let token = if detached {
            CancelToken::new()
        } else {
            CancelToken::current().child()
        };
        let event = Arc::clone(listener.event());
        let mut hooks = vec![token.on_cancel(move || event.notify())];
        hooks.extend(tokens.iter().map(|outer| {
            let inner = token.clone();
            outer.on_cancel(move || inner.cancel())
        }));
        let policy = match delay {
            StartDelay::Policy(policy) => Some(policy.clone()),
            _ => None,
        };
        if let Some(policy) = &policy {
            policy.begin();
        }
        HedgeRunner {
            race: Arc::new(HedgeRace {
                event: Arc::clone(listener.event()),
                done: Injector::new(),
                over: AtomicBool::new(false),
            }),
            listener,
            rivals: Arc::default(),
            token,
            hooks,
            deadline: timeout.and_then(|time| Instant::now().checked_add(time)),
            name,
            policy,
            started: 0,
            running: 0,
            hedges: Vec::new(),
            winner: usize::MAX,
            failures: Vec::new(),
        }
    }

    pub(super) fn start<'a, F>(&mut self, replica: F, lease: impl Fn(ReplicaTask<'a>))
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
            race.bring(DoneReplica {
                number,
                outcome,
                alive,
            });
        }));
    }

    /// `false`: there is none.
    pub(super) fn start_next<'a, F>(
        &mut self,
        replica: Option<F>,
        lease: impl Fn(ReplicaTask<'a>),
    ) -> bool
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
    pub(super) fn wait(&mut self, slow_at: Option<Instant>) {
        let (race, token) = (&self.race, &self.token);
        let until = slow_at.into_iter().chain(self.deadline).min();
        self.listener
            .wait(|| !race.done.is_empty() || token.is_cancelled(), until);
    }

    /// Whether it is no use to wait any longer, or to start anything.
    pub(super) fn is_over(&self) -> bool {
        self.is_unwanted() || self.is_late()
    }

    pub(super) fn is_unwanted(&self) -> bool {
        self.token.is_cancelled() || context::is_unwanted()
    }

    pub(super) fn is_late(&self) -> bool {
        self.deadline.is_some_and(|at| at <= Instant::now())
    }

    /// What came of it without an answer. `more`: there may be other replicas.
    pub(super) fn end(&mut self, more: bool) -> HedgeError<E> {
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
    pub(super) fn failures(&mut self) -> Vec<(usize, ReplicaError<E>)> {
        let mut failures = std::mem::take(&mut self.failures);
        failures.sort_by_key(|(number, _)| *number);
        failures
    }
}
