//! The race: replicas that run, and the caller that waits for the first answer.
//!
//! # Actors
//!
//! The calling thread pulls the replicas, starts each on a leased thread, and waits for an answer,
//! for the time of the next start, or for the end of the race. A replica puts its outcome into
//! `done` and notifies the [event](crate::runtime::event). When there is an answer, the caller sets
//! `over` and trips the tokens of the others. An outcome that arrives later is dropped by its
//! replica. An outcome that was not taken is dropped with the race, by its last holder.

use crate::cancel::{CancelHook, CancelToken, Rivals};
use crate::error::{HedgeError, ReplicaError};
use crate::hedge::policy::HedgePolicy;
use crate::runtime::context::{self, Current, Plain};
use crate::runtime::event::{Event, Listener};
use crate::runtime::registry::Alive;
use crate::runtime::trace::{Made, StageSpan};
use crate::sync::{Arc, AtomicBool, Injector, Instant, Ordering, Steal};
use crate::unwind::{self, Payload, catch};
use std::rc::Rc;
use std::time::Duration;

/// The name of a hedge that was given none.
pub(super) const UNNAMED: &str = "a hedge without a name";

/// When to start the next replica.
#[derive(Clone, Debug)]
pub(super) enum StartDelay {
    /// At once.
    None,
    Fixed(Duration),
    Policy(HedgePolicy),
}

pub(super) type ReplicaTask<'a> = Box<dyn FnOnce() + Send + 'a>;

pub(super) type ReplicaOutcome<T, E> = Result<T, ReplicaError<E>>;

/// The state shared by the caller and the replicas.
pub(super) struct HedgeRace<T, E> {
    pub(super) event: Arc<Event>,
    pub(super) done: Injector<DoneReplica<T, E>>,
    pub(super) over: AtomicBool,
    pub(super) span: StageSpan,
}

/// The outcome of one replica. While it exists, the replica counts as left (see [`Alive`]).
pub(super) struct DoneReplica<T, E> {
    pub(super) number: usize,
    pub(super) outcome: ReplicaOutcome<T, E>,
    pub(super) alive: Alive,
}

impl<T, E> DoneReplica<T, E> {
    /// Drops an outcome that is no longer wanted.
    pub(super) fn discard(self) {
        bury(unwind::discard(self.outcome));
        drop(self.alive); // last
    }
}

impl<T, E> HedgeRace<T, E> {
    pub(super) fn bring(&self, done: DoneReplica<T, E>) {
        // Acquire: no data of ours depends on it. A race that ends now drops what is added later.
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

/// Drops a loser's panic, which is not reported.
pub(super) fn bury(panic: Option<Payload>) {
    if let Some(payload) = panic {
        unwind::bury(payload);
    }
}

/// The caller's side. Its drop ends the race, on every path.
pub(super) struct HedgeRunner<T, E> {
    pub(super) race: Arc<HedgeRace<T, E>>,
    pub(super) listener: Listener,
    pub(super) rivals: Arc<Rivals>,
    /// The parent of the replicas' tokens.
    pub(super) token: CancelToken,
    pub(super) hooks: Vec<CancelHook>,
    pub(super) deadline: Option<Instant>,
    pub(super) name: String,
    pub(super) policy: Option<HedgePolicy>,
    pub(super) started: usize,
    pub(super) running: usize,
    /// The numbers of the replicas that were started because others were slow.
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

/// Starts the replicas that `next` returns, until there is an answer.
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
                    // However fast replicas fail, no new one starts once the race is over.
                    if more && !runner.rivals.is_claimed() && !runner.is_over() {
                        more = runner.start_next(next(runner), &lease);
                    }
                    slow_at = next_at(delay);
                }
            }
        }
        if runner.running == 0 || runner.is_over() {
            if !runner.race.done.is_empty() {
                continue; // an answer that is there counts in any case
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

/// When to start the next replica if there is no answer by then.
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
        let span = StageSpan::default();
        let mut made = Made::here();
        made.of("hedge");
        span.open(&made, Some(&*name).filter(|name| *name != UNNAMED));
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
                span,
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
        let (token, number) = self.rivals.join(&self.token, None); // the caller trips it
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
            let in_stage = race.span.enter();
            let outcome = catch(|| replica(token));
            drop(in_stage);
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
                    race.span.panicked(Some(number as u64), &*payload);
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

    /// Returns `false` if there is no replica.
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

    /// Waits for an outcome, for the time of the next start, or for the end of the race.
    pub(super) fn wait(&mut self, slow_at: Option<Instant>) {
        let (race, token) = (&self.race, &self.token);
        let until = slow_at.into_iter().chain(self.deadline).min();
        self.listener
            .wait(|| !race.done.is_empty() || token.is_cancelled(), until);
    }

    /// Whether there is no point in waiting any longer or starting anything.
    pub(super) fn is_over(&self) -> bool {
        self.is_unwanted() || self.is_late()
    }

    pub(super) fn is_unwanted(&self) -> bool {
        self.token.is_cancelled() || context::is_unwanted()
    }

    pub(super) fn is_late(&self) -> bool {
        self.deadline.is_some_and(|at| at <= Instant::now())
    }

    /// The error of a race without an answer. `more`: there may be other replicas.
    pub(super) fn end(&mut self, more: bool) -> HedgeError<E> {
        let (failures, running) = (self.failures(), self.running > 0);
        // The cancellation may have caused these failures, which then arrived first.
        if self.is_unwanted() {
            HedgeError::cancelled(failures)
        } else if running || more && self.is_late() {
            HedgeError::timed_out(failures)
        } else {
            HedgeError::all_failed(failures)
        }
    }

    /// In the order of the replicas' numbers.
    pub(super) fn failures(&mut self) -> Vec<(usize, ReplicaError<E>)> {
        let mut failures = std::mem::take(&mut self.failures);
        failures.sort_by_key(|(number, _)| *number);
        failures
    }
}
