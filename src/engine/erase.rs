//! Where a borrowed closure's lifetime is erased, and why that is sound.
//!
//! Threads of a pool live longer than the data that a stage may borrow, so what they run must look
//! `'static`. It is allowed to, because of one rule: **nothing that is leased outlives the join of
//! its [`Team`], and the team is joined before the borrow ends**. The first half holds by
//! construction: the latch counts a thread down only after its task, with all that it holds, has
//! been dropped. The second half is a promise of whoever makes the team, and a stage can only be
//! started through one of the four doors of [`Lazy`], each with its own reason to keep it
//! ([`with_crew`] is a fifth, for what is no stage, with the reason of `drain`):
//!
//! - [`next_owned`](Lazy::next_owned): nothing is borrowed, so there is nothing to keep;
//! - [`drain`](Lazy::drain): the stage lies on this very stack frame, which joins it on return and
//!   on unwind, and nobody else can get at it to leak it;
//! - [`next_scoped`](Lazy::next_scoped): the team is registered with a scope whose end joins it;
//! - [`next_inner`](Lazy::next_inner): the stage is the source of another, which only the other
//!   doors can have started, in the context that they gave it.
//!
//! Leaking a stage is therefore sound: an owned one borrows nothing, a drained one cannot be
//! leaked, and a scoped one (with every inner stage of its chain) is joined by its scope.
#![allow(unsafe_code)]

use crate::engine::census;
use crate::engine::context::{self, Link};
use crate::engine::pool::{Pool, Task};
use crate::engine::spin::Spin;
use crate::error::Cancelled;
use crate::sync::{Arc, Condvar, Instant, Mutex};
use std::marker::PhantomData;

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

impl census::Held for Latch {
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
pub(crate) struct Crew {
    latch: Arc<Latch>,
    pool: Pool,
    root: u64,
}

impl Crew {
    /// Runs the task on a leased thread. `Err`: none can be started; the task comes back, to be
    /// called here and now or dropped.
    pub(crate) fn lease<'a>(&self, task: impl FnOnce() + Send + 'a) -> Result<(), Task> {
        let task: Box<dyn FnOnce() + Send + 'a> = Box::new(task);
        // SAFETY: only the lifetime changes. The task is called or dropped before the latch is
        // counted down, the team waits for that, and it is joined before `'a` ends: the rule above.
        let task: Task = unsafe { std::mem::transmute(task) };
        self.latch.up();
        let down = Down(Arc::clone(&self.latch));
        let root = self.root;
        self.pool.lease(Box::new(move || {
            let _down = down;
            let _here = census::enter(root);
            task();
        }))
    }
}

impl Crew {
    /// What its threads hold of the stage.
    pub(crate) fn held(&self) -> Arc<dyn census::Held> {
        Arc::clone(&self.latch) as _
    }
}

/// The threads of a running stage. Its drop joins them.
pub(crate) struct Team {
    crew: Crew,
    stop: Arc<dyn Stop>,
}

impl std::fmt::Debug for Team {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Team").finish_non_exhaustive()
    }
}

impl Team {
    pub(crate) fn crew(&self) -> &Crew {
        &self.crew
    }

    /// Stops the stage and waits until no thread holds anything of it.
    pub(crate) fn join(&self) {
        self.stop.stop();
        self.crew.latch.wait();
        self.stop.joined();
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.join();
    }
}

/// The right to make one team, given by a door. Nobody outside the crate can get hold of one.
#[allow(unreachable_pub)] // it stands in the signature of `Start`
#[derive(Debug)]
pub struct Seed {
    cx: Cx,
    /// It is run to its end here and now.
    drains: bool,
}

impl Seed {
    /// The link to what this thread is in the middle of, if the stage is to have one.
    pub(crate) fn link(&self) -> Option<Link> {
        if self.drains {
            context::link()
        } else {
            context::link_of_iterator()
        }
    }

    /// In what context an inner stage has to start.
    pub(crate) fn cx(&self) -> Cx {
        self.cx.clone()
    }

    /// Makes the team. `None`: the scope is over.
    pub(crate) fn team(self, pool: Pool, stop: Arc<dyn Stop>) -> Option<Team> {
        let latch = Arc::new(Latch::default());
        if let Some(registry) = &self.cx.registry {
            if !registry.add(Arc::clone(&stop), Arc::clone(&latch)) {
                return None;
            }
        }
        let crew = Crew {
            latch,
            pool,
            root: census::root(),
        };
        Some(Team { crew, stop })
    }
}

type Member = (Arc<dyn Stop>, Arc<Latch>);

/// The stages that were started within a scope; `None` once the scope is over.
struct Registry(Mutex<Option<Vec<Member>>>);

impl Registry {
    fn add(&self, stop: Arc<dyn Stop>, latch: Arc<Latch>) -> bool {
        match &mut *self.0.lock() {
            Some(members) => {
                // What has ended on its own need not be kept until the scope's end.
                members
                    .retain(|(_, latch)| *latch.count.lock() > 0 || Arc::strong_count(latch) > 1);
                members.push((stop, latch));
                true
            }
            None => false,
        }
    }

    /// Stops and joins all, and those that were started meanwhile, and refuses any later start.
    fn close(&self) {
        loop {
            let members = {
                let mut registry = self.0.lock();
                match registry.take() {
                    None => return,
                    Some(members) if members.is_empty() => return,
                    Some(members) => {
                        *registry = Some(Vec::new());
                        members
                    }
                }
            };
            for (stop, _) in &members {
                stop.stop();
            }
            for (stop, latch) in &members {
                latch.wait();
                stop.joined();
            }
        }
    }
}

/// In what context a stage starts: within a scope, or not. Who has one can start a stage that
/// borrows, so it cannot be made outside the crate: it has no public name and is not `Default`.
#[derive(Clone)]
pub struct Cx {
    registry: Option<Arc<Registry>>,
}

impl Cx {
    /// Not within a scope.
    pub(crate) const NONE: Cx = Cx { registry: None };
}

impl std::fmt::Debug for Cx {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cx").finish_non_exhaustive()
    }
}

/// A scope in which stages that borrow may be used as iterators; see [`scope`](crate::scope()).
#[derive(Debug)]
pub struct Scope<'scope, 'env: 'scope> {
    cx: Cx,
    // Invariant in both, as in `std::thread::Scope`.
    scope: PhantomData<&'scope mut &'scope ()>,
    env: PhantomData<&'env mut &'env ()>,
}

/// Closes the registry when the scope's closure returns or unwinds.
struct Close(Arc<Registry>);

impl Drop for Close {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Runs `f`, then joins all stages that it started within its scope.
pub(crate) fn scoped<'env, T>(f: impl for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T) -> T {
    let registry = Arc::new(Registry(Mutex::new(Some(Vec::new()))));
    let scope = Scope {
        cx: Cx {
            registry: Some(Arc::clone(&registry)),
        },
        scope: PhantomData,
        env: PhantomData,
    };
    let _close = Close(registry);
    f(&scope)
}

/// A team that stops by itself.
struct NoStop;

impl Stop for NoStop {
    fn stop(&self) {}

    fn joined(&self) {}
}

/// Runs `f` with a crew whose tasks may borrow what outlives this call, and joins.
pub(crate) fn with_crew<T>(pool: Pool, f: impl FnOnce(&Crew) -> T) -> T {
    let team = Team {
        crew: Crew {
            latch: Arc::new(Latch::default()),
            pool,
            root: census::root(),
        },
        stop: Arc::new(NoStop),
    };
    // The team lies on this frame, which joins it also on unwind: the promise of the head.
    f(team.crew())
}

/// What a stage is before it runs.
#[allow(unreachable_pub)] // what is above the public `Feed`
pub trait Start {
    /// What it yields.
    type Output;

    /// What it is while it runs.
    #[doc(hidden)]
    type Running: Iterator<Item = Self::Output>;

    /// Folds all outputs of a running stage.
    #[doc(hidden)]
    fn fold<A>(running: &mut Self::Running, init: A, f: impl FnMut(A, Self::Output) -> A) -> A {
        running.fold(init, f)
    }

    /// Why it has ended before its sources did, if it did so by a token.
    #[doc(hidden)]
    fn cut(running: &Self::Running) -> Option<Cancelled>;

    /// It was cut short, and whoever uses it is not told so by what it yields.
    #[doc(hidden)]
    fn tell_cut(running: &Self::Running);

    #[doc(hidden)]
    #[allow(clippy::unnecessary_box_returns)] // large, and built where it stays
    /// Starts. All threads are leased through the seed's team, which `Running` owns.
    fn start(self: Box<Self>, seed: Seed) -> Box<Self::Running>;
}

/// A stage: not yet started, running, or over. Boxed, as both parts may hold large items inline.
enum State<P: Start> {
    Idle(Box<P>),
    Running(Box<P::Running>),
    Over,
}

/// A stage that starts when it is asked for its first output.
pub(crate) struct Lazy<P: Start> {
    state: State<P>,
    /// What it yields last of all if it was cut short.
    last: Option<fn(Cancelled) -> P::Output>,
}

impl<P: Start> Lazy<P> {
    pub(crate) fn new(plan: Box<P>) -> Self {
        Lazy {
            state: State::Idle(plan),
            last: None,
        }
    }

    /// What it is before it starts; `None`: it has started.
    pub(crate) fn plan(&self) -> Option<&P> {
        match &self.state {
            State::Idle(plan) => Some(plan),
            _ => None,
        }
    }

    pub(crate) fn plan_mut(&mut self) -> Option<&mut P> {
        match &mut self.state {
            State::Idle(plan) => Some(plan),
            _ => None,
        }
    }

    pub(crate) fn into_plan(self) -> Option<Box<P>> {
        match self.state {
            State::Idle(plan) => Some(plan),
            _ => None,
        }
    }

    /// What it is while it runs.
    pub(crate) fn running(&self) -> Option<&P::Running> {
        match &self.state {
            State::Running(running) => Some(running),
            _ => None,
        }
    }

    pub(crate) fn set_last(&mut self, last: fn(Cancelled) -> P::Output) {
        self.last = Some(last);
    }

    /// Whether it may yield one thing more than its items give.
    pub(crate) fn has_last(&self) -> bool {
        self.last.is_some()
    }

    /// Why it has ended before its sources did, if it did so by a token.
    pub(crate) fn cut(&self) -> Option<Cancelled> {
        P::cut(self.running()?)
    }

    /// # Safety
    ///
    /// Whatever `P` borrows must outlive the join of the team: see the head of this file.
    unsafe fn start(&mut self, cx: &Cx, drains: bool) -> Option<&mut P::Running> {
        if let State::Idle(_) = self.state {
            if let State::Idle(plan) = std::mem::replace(&mut self.state, State::Over) {
                let seed = Seed {
                    cx: cx.clone(),
                    drains,
                };
                self.state = State::Running(plan.start(seed));
            }
        }
        match &mut self.state {
            State::Running(running) => Some(running),
            _ => None,
        }
    }

    /// It has nothing more to yield, for now or for good.
    #[cold]
    #[inline(never)]
    fn last_word(&mut self) -> Option<P::Output> {
        let why = self.cut()?;
        if let Some(last) = self.last.take() {
            return Some(last(why));
        }
        P::tell_cut(self.running()?);
        None
    }

    #[inline]
    fn next_of_running(&mut self) -> Option<P::Output> {
        let State::Running(running) = &mut self.state else {
            return None;
        };
        match running.next() {
            None => self.last_word(),
            some => some,
        }
    }

    /// What it yields when `f` has asked the running part for it, which may have nothing more.
    fn ask<E>(
        &mut self,
        f: impl FnOnce(&mut P::Running) -> Result<Option<P::Output>, E>,
    ) -> Result<Option<P::Output>, E> {
        let State::Running(running) = &mut self.state else {
            return Ok(None);
        };
        match f(running)? {
            None => Ok(self.last_word()),
            some => Ok(some),
        }
    }

    /// The next output of a stage that borrows nothing.
    #[inline]
    pub(crate) fn next_owned(&mut self) -> Option<P::Output>
    where
        P: 'static,
    {
        if let State::Idle(_) = self.state {
            // SAFETY: `P: 'static` borrows nothing that ends.
            unsafe { self.start(&Cx::NONE, false) };
        }
        self.next_of_running()
    }

    /// The same, by another way to ask.
    pub(crate) fn ask_owned<E>(
        &mut self,
        f: impl FnOnce(&mut P::Running) -> Result<Option<P::Output>, E>,
    ) -> Result<Option<P::Output>, E>
    where
        P: 'static,
    {
        // SAFETY: as in `next_owned`.
        unsafe { self.start(&Cx::NONE, false) };
        self.ask(f)
    }

    /// Runs `f` over all outputs, and joins.
    pub(crate) fn drain<R>(mut self, f: impl FnOnce(Outputs<'_, P>) -> R) -> R {
        // SAFETY: `self` is this frame's own. It is dropped, and so joined, before the frame is
        // left, also on unwind, and `f` gets no more than a reference to it.
        unsafe { self.start(&Cx::NONE, true) };
        let result = f(Outputs(&mut self));
        drop(self); // now: if it panics, the result is dropped, and behind the return it would be leaked
        result
    }

    /// The next output of a stage within a scope.
    #[inline]
    pub(crate) fn next_scoped<'scope>(&mut self, scope: &InScope<'scope>) -> Option<P::Output>
    where
        P: 'scope,
    {
        if let State::Idle(_) = self.state {
            // SAFETY: `P` outlives `'scope`, and the scope's end, which lies within `'scope`, joins
            // every team that is registered with it, this one and those of inner stages.
            unsafe { self.start(&scope.cx, false) };
        }
        self.next_of_running()
    }

    /// The same, by another way to ask.
    pub(crate) fn ask_scoped<'scope, E>(
        &mut self,
        scope: &InScope<'scope>,
        f: impl FnOnce(&mut P::Running) -> Result<Option<P::Output>, E>,
    ) -> Result<Option<P::Output>, E>
    where
        P: 'scope,
    {
        // SAFETY: as in `next_scoped`.
        unsafe { self.start(&scope.cx, false) };
        self.ask(f)
    }

    /// The next output of a stage that is the source of another.
    #[inline]
    pub(crate) fn next_inner(&mut self, cx: &Cx) -> Option<P::Output> {
        if let State::Idle(_) = self.state {
            // SAFETY: `cx` comes from `Source::place`, which only the start of an outer stage calls.
            // Whatever this stage borrows, the outer one borrows too (it is a part of it), and the
            // outer one was started through a door that keeps the promise: its join is followed by the
            // drop of its source, which joins this team; if it is leaked, the scope in `cx` joins both.
            unsafe { self.start(cx, false) };
        }
        self.next_of_running()
    }
}

/// All outputs of a stage that is being drained.
pub(crate) struct Outputs<'a, P: Start>(&'a mut Lazy<P>);

impl<P: Start> Iterator for Outputs<'_, P> {
    type Item = P::Output;

    #[inline]
    fn next(&mut self) -> Option<P::Output> {
        self.0.next_of_running()
    }

    fn fold<A, F: FnMut(A, P::Output) -> A>(self, init: A, mut f: F) -> A {
        let State::Running(running) = &mut self.0.state else {
            return init;
        };
        let value = P::fold(running, init, &mut f);
        match self.0.last_word() {
            Some(last) => f(value, last),
            None => value,
        }
    }
}

/// That a stage was put within a scope.
#[derive(Clone, Debug)]
pub(crate) struct InScope<'scope> {
    cx: Cx,
    scope: PhantomData<&'scope mut &'scope ()>,
}

impl<'scope> InScope<'scope> {
    pub(crate) fn new(scope: &'scope Scope<'scope, '_>) -> Self {
        InScope {
            cx: scope.cx.clone(),
            scope: PhantomData,
        }
    }
}
