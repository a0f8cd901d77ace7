//! `par_map_by_key`: the items of one key one at a time and in order, those of different keys at the same
//! time.

use crate::config::Workers;
use crate::keyed::consumer::KeyedIter;
use crate::keyed::intake::KeyedSource;
use crate::par::isolated::Isolated;
use crate::par::job::{Job, OneToOne};
use crate::par::source::Source;
use crate::runtime::control::Control;
use crate::runtime::event::Listener;
use crate::runtime::plan::{Common, ExactPlan, Parallel, Plan, Resizable, WorkOpts};
use crate::runtime::scope::StartPermit;
use crate::runtime::session::Session;
use crate::size_hint::{self, Hint};
use std::fmt;
use std::hash::Hash;

/// The plan of a stage that runs a closure for each item of one source, key by key: what
/// [`par_map_by_key`](crate::Fanfold::par_map_by_key) makes.
pub struct Keyed<S, G, J> {
    source: S,
    key: G,
    job: J,
    opts: WorkOpts,
}

impl<S, G, J> fmt::Debug for Keyed<S, G, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyed")
            .field("opts", &self.opts)
            .finish_non_exhaustive()
    }
}

impl<S, G, J> Keyed<S, G, J> {
    #[track_caller]
    pub(crate) fn new(source: S, key: G, job: J, n: Workers) -> Self {
        let (width, auto) = n.begin();
        let opts = WorkOpts::new(width, auto);
        Keyed {
            source,
            key,
            job,
            opts,
        }
    }
}

impl<S, G, K, J> Plan for Keyed<S, G, J>
where
    S: Source<Item: Send>,
    G: FnMut(&S::Item) -> K + Send,
    K: Hash + Eq + Send,
    J: Job<S::Item>,
{
    type Output = J::Output;
    type Running = KeyedIter<KeyedSource<S::Far, G, K>, KeyedSource<S::Near, G, K>, J>;

    const NAME: &'static str = "par_map_by_key";

    fn size_hint(&self) -> Hint {
        J::outputs(size_hint::honest(self.source.hint()))
    }

    fn start(
        mut self,
        mut common: Common,
        start_permit: StartPermit,
    ) -> Option<Box<Self::Running>> {
        self.opts.settle(&mut common);
        let (cx, listener) = (start_permit.cx(), Listener::new());
        let hint = size_hint::honest(self.source.hint());
        let session = Session::start(start_permit, common, Self::NAME, |alive| {
            Control::new(listener.event(), Some(alive))
        })?;
        let source = match self.source.place(cx) {
            Ok(far) => Ok(KeyedSource::new(far, self.key)),
            Err(near) => Err(KeyedSource::new(near, self.key)),
        };
        let running = KeyedIter::start(session, listener, self.opts, source, self.job, hint);
        Some(Box::new(running))
    }
}

impl<S, G, K, J> Parallel for Keyed<S, G, J>
where
    S: Source<Item: Send>,
    G: FnMut(&S::Item) -> K + Send,
    K: Hash + Eq + Send,
    J: Job<S::Item>,
{
    type Isolated = Keyed<S, G, Isolated<J>>;

    fn work_opts(&mut self) -> &mut WorkOpts {
        &mut self.opts
    }

    fn isolated(self) -> Self::Isolated {
        Keyed {
            source: self.source,
            key: self.key,
            job: Isolated::new(self.job),
            opts: self.opts,
        }
    }
}

impl<S, G, K, J> Resizable for Keyed<S, G, J>
where
    S: Source<Item: Send>,
    G: FnMut(&S::Item) -> K + Send,
    K: Hash + Eq + Send,
    J: Job<S::Item>,
{
}

impl<S, G, K, J> ExactPlan for Keyed<S, G, J>
where
    S: Source<Item: Send> + ExactSizeIterator,
    G: FnMut(&<S as Source>::Item) -> K + Send,
    K: Hash + Eq + Send,
    J: Job<<S as Source>::Item> + OneToOne,
{
}
