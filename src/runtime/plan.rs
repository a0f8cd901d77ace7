//! What a stage is before it runs, and what it is while it runs.

use crate::cancel::CancelToken;
use crate::error::{Cancelled, ItemError, NotReady};
use crate::runtime::meter::MeterSlot;
use crate::runtime::permits::Permits;
use crate::runtime::pilot::WidthReason;
use crate::runtime::pool::Pool;
use crate::runtime::scope::StartPermit;
use crate::runtime::trace::Made;
use crate::runtime::width::SharedWidth;
use crate::sync::{Arc, Instant};
#[cfg(feature = "futures")]
use std::task::{Poll, Waker};

/// The options of every stage.
#[allow(unreachable_pub)] // it stands in the signature of `Plan`
#[derive(Clone, Debug, Default)]
pub struct Common {
    pub(crate) name: Option<Arc<str>>,
    pub(crate) pool: Option<Pool>,
    pub(crate) tokens: Vec<CancelToken>,
    /// The tokens on which the sources are asked for no more items.
    pub(crate) drains: Vec<CancelToken>,
    /// The stage does not react to the end of what it is started in.
    pub(crate) detached: bool,
    /// `Some`: the stage was asked for statistics.
    pub(crate) meter: MeterSlot,
    /// `Some`: the width may be set while the stage runs.
    pub(crate) width: Option<Arc<SharedWidth>>,
    /// Where the stage was made.
    pub(crate) made: Made,
}

impl Common {
    /// For a stage that is made here.
    pub(crate) fn here() -> Self {
        Common {
            made: Made::here(),
            ..Common::default()
        }
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        let mut tokens = self.tokens.iter().chain(&self.drains);
        tokens.any(CancelToken::is_cancelled)
    }

    /// The name, or else that of the operator.
    pub(crate) fn name_or<'a>(&'a self, operator: &'a str) -> &'a str {
        self.name.as_deref().unwrap_or(operator)
    }
}

/// The options of every stage that runs a closure for each item.
#[allow(unreachable_pub)] // it stands in the signature of `Parallel`
#[derive(Clone, Debug)]
pub struct WorkOpts {
    pub(crate) width: usize,
    /// `Some`: the width finds itself, up to this.
    pub(crate) auto: Option<usize>,
    pub(crate) in_flight: Option<usize>,
    pub(crate) eager: bool,
    /// Whoever runs a closure holds one of these.
    pub(crate) limit: Option<Permits>,
}

impl WorkOpts {
    pub(crate) fn new(width: usize, auto: Option<usize>) -> Self {
        WorkOpts {
            width,
            auto,
            in_flight: None,
            eager: false,
            limit: None,
        }
    }

    /// The stage starts: with the width that its handles have by now. A width that finds itself needs statistics.
    pub(crate) fn settle(&mut self, common: &mut Common) {
        // What is set from here on is applied when the stage runs.
        if let Some(width) = &common.width {
            self.width = width.get();
        }
        if self.auto.is_some() {
            common.meter.fill().explain(WidthReason::Measuring);
        }
        common.made.sized(self.width, self.in_flight);
    }
}

/// Larger items, in bytes, are not run on the consumer's thread.
pub(crate) const LARGE_ITEM: usize = 4 * 1024;

/// What a [`Stage`](crate::Stage) is to do: which operator, over which sources. Sealed: only this crate
/// implements it.
pub trait Plan: Sized {
    /// What the stage yields.
    type Output;

    /// What the stage is while it runs.
    #[doc(hidden)]
    type Running: Running<Item = Self::Output>;

    /// The name of the operator.
    #[doc(hidden)]
    const NAME: &'static str;

    /// How many outputs there will be. The sources may be wrong about it.
    #[doc(hidden)]
    fn size_hint(&self) -> (usize, Option<usize>);

    /// Starts the stage. All threads are leased through the `JoinGuard` that `start_permit` makes, and
    /// `Running` owns that. `None`: the scope is over.
    #[doc(hidden)]
    fn start(self, common: Common, start_permit: StartPermit) -> Option<Box<Self::Running>>;
}

/// A stage that runs. Its `size_hint` describes what is left.
#[allow(unreachable_pub)] // it stands in the signature of `Plan`
pub trait Running: Iterator {
    /// The next output, or [`NotReady`] if it is not there in time.
    fn next_until(&mut self, until: Option<Instant>) -> Result<Option<Self::Item>, NotReady>;

    /// The next output, if it is there for certain. `None` says nothing: [`next`](Iterator::next) may have one at once.
    /// Never waits.
    fn next_ready(&mut self) -> Option<Self::Item> {
        None
    }

    /// How many items may be in flight now, in a stage that knows.
    fn bound(&self) -> Option<usize> {
        None
    }

    /// Folds all outputs.
    fn fold_all<A>(&mut self, init: A, mut f: impl FnMut(A, Self::Item) -> A) -> A {
        let mut value = init;
        for output in &mut *self {
            value = f(value, output);
        }
        value
    }

    /// How the stage ends.
    fn ending(&self) -> &dyn Ending;
}

/// A stage that can be asked without a wait, and that says when to ask again.
#[cfg(feature = "futures")]
#[allow(unreachable_pub)] // it stands in the signature of `StreamPlan`
pub trait Polled: Running {
    /// The next output if it is there. Otherwise the waker is woken once another call may find one.
    fn poll_output(&mut self, waker: &Waker) -> Poll<Option<Self::Item>>;
}

/// A plan whose stage can be a [`Stream`](crate::stage::StageStream).
#[cfg(feature = "futures")]
pub trait StreamPlan: SendPlan<Running: Polled> {}

#[cfg(feature = "futures")]
impl<P: SendPlan<Running: Polled>> StreamPlan for P {}

/// How a running stage has ended, if it has.
#[allow(unreachable_pub)] // it stands in the signature of `Running`
pub trait Ending {
    /// Whether the stage has yielded its last output.
    fn is_over(&self) -> bool;

    /// Why the stage has ended before its sources did, if a token ended it.
    fn cut(&self) -> Option<Cancelled>;

    /// The stage was cut short, and its user cannot see that from what it yields.
    fn tell_cut(&self);
}

/// The answer to a call whose result is no longer wanted. The call loses nothing: with a time limit it
/// returns `NotReady`, as if it had been too early.
pub(crate) fn unwanted<T>(until: Option<Instant>) -> Result<Option<T>, NotReady> {
    match until {
        Some(_) => Err(NotReady::new(None)),
        None => Ok(None),
    }
}

/// A plan that runs a closure for each item.
pub trait Parallel: Plan {
    /// The same plan, with panics as values.
    #[doc(hidden)]
    type Isolated: Plan<Output = Result<Self::Output, ItemError>>;

    #[doc(hidden)]
    fn work_opts(&mut self) -> &mut WorkOpts;

    #[doc(hidden)]
    fn isolated(self) -> Self::Isolated;
}

/// A plan whose stage may move to another thread, and so may be the source of the next stage: every plan
/// except those over [`local`](crate::Fanfold::local) and over a source that is not `Send`. The name appears
/// where a function hides what it returns: `Stage<impl SendPlan<Output = u32>>`.
pub trait SendPlan: Plan<Running: Send> + Send {}

impl<P: Plan<Running: Send> + Send> SendPlan for P {}

/// A plan whose [width](crate::Stage::workers_handle) may be set while the stage runs.
pub trait Resizable: Parallel {}

/// A plan whose upper size hint is exact.
pub trait ExactPlan: Plan {}
