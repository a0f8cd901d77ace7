//! `par_flat_map`: the inner iterators of several items at the same time, and their outputs in order.

use crate::config::Workers;
use crate::flat::consumer::FlatIter;
use crate::par::flat_map::{FlatJob, IsolatedFlat};
use crate::par::source::Source;
use crate::runtime::control::Control;
use crate::runtime::event::Listener;
use crate::runtime::plan::{Common, Parallel, Plan, WorkOpts};
use crate::runtime::scope::StartPermit;
use crate::runtime::session::Session;
use crate::size_hint::Hint;
use std::fmt;

/// The plan of a stage that opens each item of one source into an iterator, and yields the items of these one after the
/// other: what [`par_flat_map`](crate::Fanfold::par_flat_map) makes.
pub struct Flat<S, J> {
    source: S,
    job: J,
    opts: WorkOpts,
}

impl<S, J> fmt::Debug for Flat<S, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flat")
            .field("opts", &self.opts)
            .finish_non_exhaustive()
    }
}

impl<S, J> Flat<S, J> {
    #[track_caller]
    pub(crate) fn new(source: S, job: J, n: Workers) -> Self {
        let opts = WorkOpts::new(n.checked(), None);
        Flat { source, job, opts }
    }
}

impl<S, J> Plan for Flat<S, J>
where
    S: Source<Item: Send>,
    J: FlatJob<S::Item>,
{
    type Output = J::Output;
    type Running = FlatIter<S::Far, S::Near, J>;

    const NAME: &'static str = "par_flat_map";

    fn size_hint(&self) -> Hint {
        // An item may have no output, or any number of them.
        (0, self.source.hint().1.filter(|most| *most == 0))
    }

    fn start(
        mut self,
        mut common: Common,
        start_permit: StartPermit,
    ) -> Option<Box<Self::Running>> {
        let (cx, listener) = (start_permit.cx(), Listener::new());
        let may_own = common.pool.is_none();
        self.opts.settle(&mut common);
        let session = Session::start(start_permit, common, Self::NAME, |alive| {
            Control::new(listener.event(), Some(alive))
        })?;
        let source = self.source.place(cx);
        let running = FlatIter::start(session, listener, self.opts, may_own, source, self.job);
        Some(Box::new(running))
    }
}

impl<S, J> Parallel for Flat<S, J>
where
    S: Source<Item: Send>,
    J: FlatJob<S::Item>,
{
    type Isolated = Flat<S, IsolatedFlat<J>>;

    fn work_opts(&mut self) -> &mut WorkOpts {
        &mut self.opts
    }

    fn isolated(self) -> Self::Isolated {
        Flat {
            source: self.source,
            job: IsolatedFlat::new(self.job),
            opts: self.opts,
        }
    }
}
