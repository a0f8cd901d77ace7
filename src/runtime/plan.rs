//! What a stage is before it runs, and while it does.

use crate::cancel::CancelToken;
use crate::error::{Cancelled, ItemError, NotReady};
use crate::runtime::pool::Pool;
use crate::runtime::scope::StartPermit;
use crate::sync::{Arc, Instant};

/// The options of every stage.
#[allow(unreachable_pub)] // it stands in the signature of `Plan`
#[derive(Clone, Debug, Default)]
pub struct Common {
    pub(crate) name: Option<Arc<str>>,
    pub(crate) pool: Option<Pool>,
    pub(crate) tokens: Vec<CancelToken>,
    /// Those on which the sources are asked for no more.
    pub(crate) drains: Vec<CancelToken>,
    /// It hears nothing of what it is started in.
    pub(crate) detached: bool,
}

impl Common {
    pub(crate) fn is_cancelled(&self) -> bool {
        let mut tokens = self.tokens.iter().chain(&self.drains);
        tokens.any(CancelToken::is_cancelled)
    }

    /// The name, or else what the operator is called.
    pub(crate) fn name_or<'a>(&'a self, operator: &'a str) -> &'a str {
        self.name.as_deref().unwrap_or(operator)
    }
}

/// What a [`Stage`](crate::Stage) is to do: which operator, over which sources. Sealed: only the crate implements it.
pub trait Plan: Sized {
    /// What the stage yields.
    type Output;

    /// What the stage is while it runs.
    #[doc(hidden)]
    type Running: Running<Item = Self::Output>;

    /// What the operator is called.
    #[doc(hidden)]
    const NAME: &'static str;

    /// How many outputs there will be. The sources may lie.
    #[doc(hidden)]
    fn size_hint(&self) -> (usize, Option<usize>);

    /// Starts. All threads are leased through the team of threads that `start_permit` makes, which `Running` owns. `None`: the scope
    /// is over.
    #[doc(hidden)]
    fn start(self, common: Common, start_permit: StartPermit) -> Option<Box<Self::Running>>;
}

/// A stage that runs. Its `size_hint` is that of what is left.
#[allow(unreachable_pub)] // it stands in the signature of `Plan`
pub trait Running: Iterator {
    /// The next output, or [`NotReady`] if it is not there by then.
    fn next_until(&mut self, until: Option<Instant>) -> Result<Option<Self::Item>, NotReady>;

    /// Folds all outputs.
    fn fold_all<A>(&mut self, init: A, mut f: impl FnMut(A, Self::Item) -> A) -> A {
        let mut value = init;
        for output in &mut *self {
            value = f(value, output);
        }
        value
    }

    /// How it ends.
    fn ending(&self) -> &dyn Ending;
}

/// How a stage that runs has ended, if it has.
#[allow(unreachable_pub)] // it stands in the signature of `Running`
pub trait Ending {
    /// Whether it has yielded its last.
    fn is_over(&self) -> bool;

    /// Why it has ended before its sources did, if it did so by a token.
    fn cut(&self) -> Option<Cancelled>;

    /// It was cut short, and whoever uses it is not told so by what it yields.
    fn tell_cut(&self);
}

/// What whoever waits is told if nobody wants the answer any more: nothing is lost by it, so to a call with a time it
/// is late.
pub(crate) fn unwanted<T>(until: Option<Instant>) -> Result<Option<T>, NotReady> {
    match until {
        Some(_) => Err(NotReady::new(None)),
        None => Ok(None),
    }
}

/// A plan that runs a closure for each item.
pub trait Parallel: Plan {
    /// The same, with panics as values.
    #[doc(hidden)]
    type Isolated: Plan<Output = Result<Self::Output, ItemError>>;

    #[doc(hidden)]
    fn set_in_flight(&mut self, k: usize);

    #[doc(hidden)]
    fn set_eager(&mut self);

    #[doc(hidden)]
    fn isolated(self) -> Self::Isolated;
}

/// A plan whose stage may move to another thread, and so be the source of the next stage: each but one over
/// [`local`](crate::Fanfold::local) or over a source that is not `Send`. It is written down where a function hides what
/// it returns: `Stage<impl SendPlan<Output = u32>>`.
pub trait SendPlan: Plan<Running: Send> + Send {}

impl<P: Plan<Running: Send> + Send> SendPlan for P {}

/// A plan whose upper hint is exact.
pub trait ExactPlan: Plan {}
