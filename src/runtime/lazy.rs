//! A stage that starts when it is asked for its first output, and the doors through which it starts.
//!
//! Whatever a stage borrows must outlive the join of its team of threads ([`lease`](crate::runtime::lease)). So it is started
//! through one of four doors only, each with its own reason to keep that promise:
//!
//! - [`next_owned`](Lazy::next_owned): nothing is borrowed, so there is nothing to keep;
//! - [`drain`](Lazy::drain): the stage lies on this very stack frame, which joins it on return and
//!   on unwind, and nobody else can get at it to leak it;
//! - [`next_scoped`](Lazy::next_scoped): the team of threads is registered with a scope whose end joins it;
//! - [`next_inner`](Lazy::next_inner): the stage is the source of another, which only the other
//!   doors can have started, in the context that they gave it.
//!
//! Leaking a stage is therefore sound: an owned one borrows nothing, a drained one cannot be
//! leaked, and a scoped one (with every inner stage of its chain) is joined by its scope.
#![allow(unsafe_code)]

use crate::error::{Cancelled, NotReady};
use crate::runtime::plan::{Common, Plan, Running};
use crate::runtime::scope::{InScope, ScopeContext, StartPermit};
use crate::sync::Instant;
use std::time::Duration;

/// A stage: not yet started, running, or over. Boxed, as both parts may hold large items inline.
enum Phase<P: Plan> {
    Idle(Box<Idle<P>>),
    Running(Box<P::Running>),
    Over,
}

/// What is described so far.
pub(crate) struct Idle<P> {
    pub(crate) plan: P,
    pub(crate) common: Common,
}

/// A stage that starts when it is asked for its first output.
pub(crate) struct Lazy<P: Plan> {
    state: Phase<P>,
    /// What it yields last of all if it was cut short.
    last: Option<fn(Cancelled) -> P::Output>,
}

impl<P: Plan> Lazy<P> {
    pub(crate) fn new(plan: P, common: Common) -> Self {
        Lazy {
            state: Phase::Idle(Box::new(Idle { plan, common })),
            last: None,
        }
    }

    /// What is described so far; `None`: it has started.
    pub(crate) fn idle(&self) -> Option<&Idle<P>> {
        match &self.state {
            Phase::Idle(idle) => Some(idle),
            _ => None,
        }
    }

    pub(crate) fn idle_mut(&mut self) -> Option<&mut Idle<P>> {
        match &mut self.state {
            Phase::Idle(idle) => Some(idle),
            _ => None,
        }
    }

    pub(crate) fn into_idle(self) -> Option<Idle<P>> {
        match self.state {
            Phase::Idle(idle) => Some(*idle),
            _ => None,
        }
    }

    /// What it is while it runs.
    pub(crate) fn running(&self) -> Option<&P::Running> {
        match &self.state {
            Phase::Running(running) => Some(running),
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
        self.running()?.ending().cut()
    }

    /// # Safety
    ///
    /// Whatever `P` borrows must outlive the join of the team of threads: see the head of this file.
    unsafe fn start(&mut self, cx: &ScopeContext, drains: bool) -> Option<&mut P::Running> {
        if let Phase::Idle(_) = self.state {
            if let Phase::Idle(idle) = std::mem::replace(&mut self.state, Phase::Over) {
                let Idle { plan, common } = *idle;
                if let Some(running) = plan.start(common, StartPermit::new(cx, drains)) {
                    self.state = Phase::Running(running);
                }
            }
        }
        match &mut self.state {
            Phase::Running(running) => Some(running),
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
        self.running()?.ending().tell_cut();
        None
    }

    #[inline]
    fn next_of_running(&mut self) -> Option<P::Output> {
        let Phase::Running(running) = &mut self.state else {
            return None;
        };
        match running.next() {
            None => self.last_word(),
            some => some,
        }
    }

    /// The same, if it is there in `time`.
    fn next_of_running_within(&mut self, time: Duration) -> Result<Option<P::Output>, NotReady> {
        let Phase::Running(running) = &mut self.state else {
            return Ok(None);
        };
        match running.next_until(Instant::now().checked_add(time))? {
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
        if let Phase::Idle(_) = self.state {
            // SAFETY: `P: 'static` borrows nothing that ends.
            unsafe { self.start(&ScopeContext::NONE, false) };
        }
        self.next_of_running()
    }

    /// The same, if it is there in `time`.
    pub(crate) fn next_owned_within(
        &mut self,
        time: Duration,
    ) -> Result<Option<P::Output>, NotReady>
    where
        P: 'static,
    {
        // SAFETY: as in `next_owned`.
        unsafe { self.start(&ScopeContext::NONE, false) };
        self.next_of_running_within(time)
    }

    /// Runs `f` over all outputs, and joins.
    pub(crate) fn drain<R>(mut self, f: impl FnOnce(Outputs<'_, P>) -> R) -> R {
        // SAFETY: `self` is this frame's own. It is dropped, and so joined, before the frame is
        // left, also on unwind, and `f` gets no more than a reference to it.
        unsafe { self.start(&ScopeContext::NONE, true) };
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
        if let Phase::Idle(_) = self.state {
            // SAFETY: `P` outlives `'scope`, and the scope's end, which lies within `'scope`, joins
            // every team of threads that is registered with it, this one and those of inner stages.
            unsafe { self.start(scope.cx(), false) };
        }
        self.next_of_running()
    }

    /// The same, if it is there in `time`.
    pub(crate) fn next_scoped_within<'scope>(
        &mut self,
        scope: &InScope<'scope>,
        time: Duration,
    ) -> Result<Option<P::Output>, NotReady>
    where
        P: 'scope,
    {
        // SAFETY: as in `next_scoped`.
        unsafe { self.start(scope.cx(), false) };
        self.next_of_running_within(time)
    }

    /// The next output of a stage that is the source of another.
    #[inline]
    pub(crate) fn next_inner(&mut self, cx: &ScopeContext) -> Option<P::Output> {
        if let Phase::Idle(_) = self.state {
            // SAFETY: `cx` comes from `Source::place`, which only the start of an outer stage calls.
            // Whatever this stage borrows, the outer one borrows too (it is a part of it), and the
            // outer one was started through a door that keeps the promise: its join is followed by the
            // drop of its source, which joins this team of threads; if it is leaked, the scope in `cx` joins both.
            unsafe { self.start(cx, false) };
        }
        self.next_of_running()
    }
}

/// All outputs of a stage that is being drained.
pub(crate) struct Outputs<'a, P: Plan>(&'a mut Lazy<P>);

impl<P: Plan> Iterator for Outputs<'_, P> {
    type Item = P::Output;

    #[inline]
    fn next(&mut self) -> Option<P::Output> {
        self.0.next_of_running()
    }

    fn fold<A, F: FnMut(A, P::Output) -> A>(self, init: A, mut f: F) -> A {
        let Phase::Running(running) = &mut self.0.state else {
            return init;
        };
        let value = running.fold_all(init, &mut f);
        match self.0.last_word() {
            Some(last) => f(value, last),
            None => value,
        }
    }
}
