//! A stage that starts when it is asked for its first output, and the entry points through which it starts.
//!
//! Whatever a stage borrows must outlive the join of its threads ([`lease`](crate::runtime::lease)). So a
//! stage can be started only through one of four entry points, each with its own reason why that holds:
//!
//! - [`next_owned`](Lazy::next_owned): the stage borrows nothing;
//! - [`drain`](Lazy::drain) and [`lend`](Lazy::lend): the stage is a local variable of this very stack frame,
//!   which joins it on return and on unwind, and no other code can get hold of it to leak it;
//! - [`next_scoped`](Lazy::next_scoped): the threads are registered with a scope whose end joins them;
//! - [`next_inner`](Lazy::next_inner): the stage is the source of an outer stage. Only the other entry points
//!   can have started that one, and they have passed on their context.
//!
//! So leaking a stage is sound: an owned one borrows nothing, a drained one cannot be leaked, and a scoped
//! one (with every inner stage of its chain) is joined by its scope.
#![allow(unsafe_code)]

use crate::error::{Cancelled, NotReady};
#[cfg(feature = "futures")]
use crate::runtime::plan::Polled;
use crate::runtime::plan::{Common, ExactPlan, Plan, Running};
use crate::runtime::scope::{InScope, ScopeContext, StartPermit};
use crate::size_hint::{self, Hint};
use crate::sync::{Instant, Mutex};
use std::fmt;
use std::iter::FusedIterator;
#[cfg(feature = "futures")]
use std::task::{Poll, Waker};
use std::time::Duration;

/// A stage: not yet started, running, or over. Boxed, because both contents may hold large items inline.
enum Phase<P: Plan> {
    Idle(Box<Idle<P>>),
    Running(Box<P::Running>),
    Over,
}

/// The description of a stage that has not started.
pub(crate) struct Idle<P> {
    pub(crate) plan: P,
    pub(crate) common: Common,
}

/// A stage that starts when it is asked for its first output.
pub(crate) struct Lazy<P: Plan> {
    /// Only the owner of the stage uses it, without a lock. The lock is for a shared reference, by which a
    /// hint or the state is asked for: so a stage can be `Sync` although what it runs is not.
    phase: Mutex<Phase<P>>,
    /// What the stage yields last of all, if it was cut short.
    last: Option<fn(Cancelled) -> P::Output>,
}

impl<P: Plan> Lazy<P> {
    pub(crate) fn new(plan: P, common: Common) -> Self {
        Lazy {
            phase: Mutex::new(Phase::Idle(Box::new(Idle { plan, common }))),
            last: None,
        }
    }

    /// The description. `None`: the stage has started.
    pub(crate) fn idle_mut(&mut self) -> Option<&mut Idle<P>> {
        match self.phase.get_mut() {
            Phase::Idle(idle) => Some(idle),
            _ => None,
        }
    }

    pub(crate) fn into_idle(self) -> Option<Idle<P>> {
        match self.phase.into_inner() {
            Phase::Idle(idle) => Some(*idle),
            _ => None,
        }
    }

    /// In one word, for `Debug`.
    pub(crate) fn state(&self) -> &'static str {
        match &*self.phase.lock() {
            Phase::Idle(_) => "idle",
            Phase::Running(running) if !running.ending().is_over() => "running",
            Phase::Running(_) | Phase::Over => "over",
        }
    }

    /// How many outputs are left.
    pub(crate) fn size_hint(&self) -> Hint {
        let (low, high) = match &*self.phase.lock() {
            Phase::Idle(idle) if idle.common.is_cancelled() => (0, idle.plan.size_hint().1),
            Phase::Idle(idle) => idle.plan.size_hint(),
            Phase::Running(running) => running.size_hint(),
            Phase::Over => (0, Some(0)),
        };
        // The final error of a stage that was cut short takes the place of an item, if one was left.
        let more = usize::from(self.has_last());
        size_hint::honest((low, high.and_then(|high| high.checked_add(more))))
    }

    pub(crate) fn set_last(&mut self, last: fn(Cancelled) -> P::Output) {
        self.last = Some(last);
    }

    /// Whether the stage may yield one output more than its items give.
    pub(crate) fn has_last(&self) -> bool {
        self.last.is_some()
    }

    pub(crate) fn last(&self) -> Option<fn(Cancelled) -> P::Output> {
        self.last
    }

    /// Why the stage has ended before its sources did, if a token ended it.
    pub(crate) fn cut(&self) -> Option<Cancelled> {
        match &*self.phase.lock() {
            Phase::Running(running) => running.ending().cut(),
            _ => None,
        }
    }

    /// # Safety
    ///
    /// Whatever `P` borrows must outlive the join of the stage's threads: see the head of this file.
    unsafe fn start(&mut self, cx: &ScopeContext, drains: bool) {
        let phase = self.phase.get_mut();
        if !matches!(phase, Phase::Idle(_)) {
            return;
        }
        // `Over` while the plan starts. A panic on the way must leave a stage that ends, not one that starts
        // again without its plan.
        if let Phase::Idle(idle) = std::mem::replace(phase, Phase::Over) {
            let Idle { plan, mut common } = *idle;
            common.made.of(P::NAME);
            if let Some(running) = plan.start(common, StartPermit::new(cx, drains)) {
                *phase = Phase::Running(running);
            }
        }
    }

    fn is_idle(&mut self) -> bool {
        matches!(self.phase.get_mut(), Phase::Idle(_))
    }

    /// The stage has nothing more to yield, for now or for good. If it was cut short, says so: by a last
    /// output, or to the frame in which the stage was started.
    #[cold]
    #[inline(never)]
    fn last_word(&mut self) -> Option<P::Output> {
        let Phase::Running(running) = self.phase.get_mut() else {
            return None;
        };
        // `None` for a stage that has yielded everything, and for one that was only interrupted and will
        // continue.
        let ending = running.ending();
        let why = ending.cut()?;
        // Taken, so that it is yielded once. After it, the same stage reports to the outer frame like any
        // other.
        if let Some(last) = self.last.take() {
            return Some(last(why));
        }
        ending.tell_cut();
        None
    }

    /// The next output, or the last word.
    #[inline]
    fn next_of_running(&mut self) -> Option<P::Output> {
        let Phase::Running(running) = self.phase.get_mut() else {
            return None;
        };
        match running.next() {
            None => self.last_word(),
            some => some,
        }
    }

    /// Like `next_of_running`, with a time limit.
    fn next_of_running_within(&mut self, time: Duration) -> Result<Option<P::Output>, NotReady> {
        let Phase::Running(running) = self.phase.get_mut() else {
            return Ok(None);
        };
        match running.next_until(Instant::now().checked_add(time))? {
            None => Ok(self.last_word()),
            some => Ok(some),
        }
    }

    /// Starts a stage that borrows nothing.
    pub(crate) fn start_owned(&mut self)
    where
        P: 'static,
    {
        // SAFETY: as in `next_owned`.
        unsafe { self.start(&ScopeContext::NONE, false) };
    }

    /// What runs, if it was started.
    pub(crate) fn running(&mut self) -> Option<&mut P::Running> {
        match self.phase.get_mut() {
            Phase::Running(running) => Some(running),
            _ => None,
        }
    }

    /// What `ask` gets from the stage, or the last word.
    pub(crate) fn ask(
        &mut self,
        ask: impl FnOnce(&mut P::Running) -> Option<P::Output>,
    ) -> Option<P::Output> {
        match ask(self.running()?) {
            None => self.last_word(),
            some => some,
        }
    }

    /// The next output of a stage that borrows nothing.
    #[inline]
    pub(crate) fn next_owned(&mut self) -> Option<P::Output>
    where
        P: 'static,
    {
        // Checked here too, so that the call is out of the way of all outputs but the first.
        if self.is_idle() {
            // SAFETY: `P: 'static` borrows nothing that ends.
            unsafe { self.start(&ScopeContext::NONE, false) };
        }
        self.next_of_running()
    }

    /// The same, with a time limit.
    pub(crate) fn next_owned_within(
        &mut self,
        time: Duration,
    ) -> Result<Option<P::Output>, NotReady>
    where
        P: 'static,
    {
        self.start_owned();
        self.next_of_running_within(time)
    }

    /// The next output of a stage that borrows nothing, without a wait; see [`Polled::poll_output`].
    #[cfg(feature = "futures")]
    pub(crate) fn poll_owned(&mut self, waker: &Waker) -> Poll<Option<P::Output>>
    where
        P: Plan<Running: Polled> + 'static,
    {
        self.start_owned();
        let Some(running) = self.running() else {
            return Poll::Ready(None);
        };
        match running.poll_output(waker) {
            Poll::Ready(None) => Poll::Ready(self.last_word()),
            polled => polled,
        }
    }

    /// Whether it has started.
    #[cfg(feature = "futures")]
    pub(crate) fn has_started(&mut self) -> bool {
        !self.is_idle()
    }

    /// Whether it yields nothing more, now or later.
    #[cfg(feature = "futures")]
    pub(crate) fn has_ended(&mut self) -> bool {
        match self.phase.get_mut() {
            Phase::Idle(_) => false,
            Phase::Running(running) => running.ending().is_over(),
            Phase::Over => true,
        }
    }

    /// Runs `f` over all outputs, and then joins.
    pub(crate) fn drain<R>(mut self, f: impl FnOnce(Outputs<'_, P>) -> R) -> R {
        // SAFETY: `self` is a local variable of this frame, and then one of `lend`. In either it is dropped,
        // and so joined, before the frame is left, on unwind too. (The threads do not know where it is.)
        unsafe { self.start(&ScopeContext::NONE, true) };
        self.lend(f)
    }

    /// Runs `f` over the outputs that it asks for, and then joins.
    pub(crate) fn lend<R>(mut self, f: impl FnOnce(Outputs<'_, P>) -> R) -> R {
        let result = f(Outputs(&mut self));
        // Here, and not at the end of the frame: if this drop panics, `result` is dropped too. Behind the
        // return it would be leaked.
        drop(self);
        result
    }

    /// Starts a stage within a scope.
    pub(crate) fn start_scoped<'scope>(&mut self, scope: &InScope<'scope>)
    where
        P: 'scope,
    {
        // SAFETY: as in `next_scoped`.
        unsafe { self.start(scope.cx(), false) };
    }

    /// The next output of a stage within a scope.
    #[inline]
    pub(crate) fn next_scoped<'scope>(&mut self, scope: &InScope<'scope>) -> Option<P::Output>
    where
        P: 'scope,
    {
        if self.is_idle() {
            // SAFETY: `P` outlives `'scope`. The end of the scope lies within `'scope`, and joins all threads
            // that are registered with it, those of this stage and those of its inner stages.
            unsafe { self.start(scope.cx(), false) };
        }
        self.next_of_running()
    }

    /// The same, with a time limit.
    pub(crate) fn next_scoped_within<'scope>(
        &mut self,
        scope: &InScope<'scope>,
        time: Duration,
    ) -> Result<Option<P::Output>, NotReady>
    where
        P: 'scope,
    {
        self.start_scoped(scope);
        self.next_of_running_within(time)
    }

    /// The next output of a stage that is the source of another.
    #[inline]
    pub(crate) fn next_inner(&mut self, cx: &ScopeContext) -> Option<P::Output> {
        if self.is_idle() {
            // SAFETY: `cx` comes from `Source::place`, which only the start of an outer stage calls. Whatever
            // this stage borrows, the outer one borrows too, because this stage is a part of it; and the
            // outer one was started through an entry point that keeps the promise. Its join is followed by
            // the drop of its source, which joins the threads of this stage. If the outer stage is leaked,
            // the scope in `cx` joins both.
            unsafe { self.start(cx, false) };
        }
        self.next_of_running()
    }
}

/// The outputs of a stage that may borrow, as an iterator; made by [`Stage::scoped`](crate::Stage::scoped).
#[must_use = "a stage is lazy: nothing runs before the first `next()`"]
pub struct Outputs<'a, P: Plan>(&'a mut Lazy<P>);

impl<P: Plan> Outputs<'_, P> {
    /// Starts the stage, if that has not been done.
    #[inline]
    fn start(&mut self) {
        if self.0.is_idle() {
            // SAFETY: `lend` is the only function that makes an `Outputs`, from a stage that is a local
            // variable of its frame. It drops the stage, and so joins it, before that frame is left, on unwind
            // too. An `Outputs` ends before that, and if it is leaked, what is leaked is only a reference.
            unsafe { self.0.start(&ScopeContext::NONE, false) };
        }
    }

    /// The next output, if it is there for certain; see [`Running::next_ready`].
    #[cfg(feature = "rayon")]
    #[inline]
    pub(crate) fn next_ready(&mut self) -> Option<P::Output> {
        self.0.running()?.next_ready()
    }

    /// Folds all outputs: what [`Iterator::fold`] does.
    pub(crate) fn fold_all<A>(&mut self, init: A, mut f: impl FnMut(A, P::Output) -> A) -> A {
        self.start();
        let Phase::Running(running) = self.0.phase.get_mut() else {
            return init;
        };
        // The stage's own loop over what is ready, which is tighter than repeated calls of `next`.
        let value = running.fold_all(init, &mut f);
        match self.0.last_word() {
            Some(last) => f(value, last),
            None => value,
        }
    }

    /// How many items may be in flight now; see [`Running::bound`].
    #[cfg(feature = "rayon")]
    pub(crate) fn bound(&mut self) -> Option<usize> {
        self.0.running()?.bound()
    }

    /// Why the stage has ended before its sources did, if a token ended it.
    #[cfg(feature = "rayon")]
    pub(crate) fn cut(&self) -> Option<Cancelled> {
        self.0.cut()
    }

    /// The next output if it is ready within `time`; see [`Stage::next_within`](crate::Stage::next_within).
    ///
    /// # Panics
    ///
    /// As `next()`.
    ///
    /// # Errors
    ///
    /// [`NotReady`], which names the item that was waited for.
    pub fn next_within(&mut self, time: Duration) -> Result<Option<P::Output>, NotReady> {
        self.start();
        self.0.next_of_running_within(time)
    }

    /// Whether the stage ended before its sources did, because a token was tripped; see
    /// [`Stage::is_cut_short`](crate::Stage::is_cut_short).
    pub fn is_cut_short(&self) -> bool {
        self.0.cut().is_some()
    }
}

impl<P: Plan> fmt::Debug for Outputs<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outputs")
            .field("operator", &P::NAME)
            .field("state", &self.0.state())
            .finish_non_exhaustive()
    }
}

impl<P: Plan> Iterator for Outputs<'_, P> {
    type Item = P::Output;

    #[inline]
    fn next(&mut self) -> Option<P::Output> {
        self.start();
        self.0.next_of_running()
    }

    fn fold<A, F: FnMut(A, P::Output) -> A>(mut self, init: A, f: F) -> A {
        self.fold_all(init, f)
    }

    fn size_hint(&self) -> Hint {
        self.0.size_hint()
    }
}

impl<P: ExactPlan> ExactSizeIterator for Outputs<'_, P> {
    fn len(&self) -> usize {
        // The lower bound falls to 0 when the stage is cancelled; the upper one is the original length.
        self.0.size_hint().1.unwrap_or(0)
    }
}

impl<P: Plan> FusedIterator for Outputs<'_, P> {}
