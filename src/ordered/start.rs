//! How a stage starts: its options become a scheduler, its source goes to the workers or stays here, and it hears
//! of its tokens and of what it is started in.

use crate::cancel::CancelHook;
use crate::config::Workers;
use crate::ordered::consumer::Consumer;
use crate::ordered::cursor::Cursor;
use crate::ordered::inline;
use crate::ordered::opts::OrderedOpts;
use crate::ordered::sched::{Sched, Shape};
use crate::ordered::shared::OrderedStage;
use crate::ordered::signals::Signals;
use crate::ordered::timing::{CloneItem, StageHedge};
use crate::par::job::{Job, OneToOne};
use crate::par::source::Source;
use crate::runtime::barrier;
use crate::runtime::context::Link;
use crate::runtime::lease::Stop;
use crate::runtime::plan::{Common, ExactPlan, Plan};
use crate::runtime::pool::Pool;
use crate::runtime::registry::Alive;
use crate::runtime::scope::StartPermit;
use crate::size_hint;
use crate::sync::{Arc, Parker};

/// What a [`Stage`](crate::Stage) is that runs a closure for each item of one source: what the `par_..` adaptors
/// make.
pub struct Par<S: Source, J> {
    pub(crate) source: S,
    pub(crate) job: J,
    pub(crate) opts: OrderedOpts,
    /// Hedged stages: how to clone an item.
    pub(crate) clone: Option<CloneItem<S::Item>>,
}

impl<S: Source, J> std::fmt::Debug for Par<S, J> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Par")
            .field("opts", &self.opts)
            .finish_non_exhaustive()
    }
}

impl<S: Source, J> Par<S, J> {
    #[track_caller]
    pub(crate) fn new(source: S, job: J, n: Workers, ordered: bool) -> Self {
        let opts = OrderedOpts {
            width: n.checked(),
            in_flight: None,
            ordered,
            eager: false,
            takes_part: false,
            item_timeout: None,
            hedge: None,
            runs_all: false,
        };
        Par {
            source,
            job,
            opts,
            clone: None,
        }
    }
}

impl<S: Source, J: Job<S::Item>> Plan for Par<S, J>
where
    S::Item: Send,
{
    type Output = J::Output;
    type Running = Consumer<S, J>;

    const NAME: &'static str = "par";

    fn size_hint(&self) -> (usize, Option<usize>) {
        J::outputs(size_hint::honest(self.source.hint()))
    }

    fn start(self, common: Common, start_permit: StartPermit) -> Option<Box<Consumer<S, J>>> {
        begin(self, &common, start_permit)
    }
}

impl<S, J> ExactPlan for Par<S, J>
where
    S: Source + ExactSizeIterator,
    <S as Source>::Item: Send,
    J: Job<<S as Source>::Item> + OneToOne,
{
}

fn begin<S: Source, J: Job<S::Item>>(
    plan: Par<S, J>,
    common: &Common,
    start_permit: StartPermit,
) -> Option<Box<Consumer<S, J>>>
where
    S::Item: Send,
{
    barrier::prepare();
    let Par {
        source,
        job,
        opts,
        clone,
    } = plan;
    let hint = size_hint::honest(source.hint());
    let parker = Parker::new();
    let alive = Alive::new(common.name_or("a stage without a name"));
    let signals = Arc::new(Signals::new(parker.unparker().clone(), alive));
    let (cx, link) = (
        start_permit.cx(),
        (!common.detached).then(|| start_permit.link()).flatten(),
    );
    let may_inline = link.is_none() && inline::is_allowed(&opts, common);
    let pool = common.pool.clone().unwrap_or_else(Pool::global);
    let join_guard = start_permit.join_guard(pool, Arc::clone(&signals) as Arc<dyn Stop>)?;
    let (far, near) = match source.place(cx) {
        Ok(far) => (Some(far), None),
        Err(near) => (None, Some(near)),
    };
    debug_assert_eq!(near.is_some(), S::LOCAL);
    let shape = Shape {
        pulls: !S::LOCAL,
        stateful: J::STATEFUL,
        may_inline: may_inline && !J::STATEFUL && !J::CATCHES,
    };
    let hedge = opts.hedge.clone().zip(clone);
    let hedge = hedge.map(|(policy, clone)| StageHedge::new(policy, clone));
    let leases = join_guard.leases().clone();
    let sched = Sched::new(&opts, hint.1, shape, hedge, Arc::clone(&signals), leases);
    let shared = Arc::new(OrderedStage::<S, J>::new(sched, job, far));
    let hooks = listen(&opts, common, link, &signals);
    let cursor = Cursor::new(parker, join_guard, hooks, opts.eager);
    let mut consumer = Box::new(Consumer::new(shared, near, cursor, hint));
    consumer.join_in(opts.takes_part);
    Some(consumer)
}

/// Hears of what it is started in, and of its tokens.
fn listen(
    opts: &OrderedOpts,
    common: &Common,
    link: Option<Link>,
    signals: &Arc<Signals>,
) -> Vec<CancelHook> {
    if let Some(link) = link {
        let (outer, whole) = (Arc::clone(signals), opts.runs_all);
        let inherited = link.on_trip(move |why| {
            if whole {
                outer.warn(why);
            } else {
                outer.cancel(why);
            }
        });
        signals.inherit(inherited);
    }
    let cancels = common.tokens.iter().map(|token| {
        let signals = Arc::clone(signals);
        token.on_trip(move |why| signals.cancel(why))
    });
    let drains = common.drains.iter().map(|token| {
        let signals = Arc::clone(signals);
        token.on_trip(move |why| signals.drain(why))
    });
    cancels.chain(drains).collect()
}
