//! How a stage starts: its options become a scheduler, its source goes to the workers or stays here, and it hears
//! of its tokens and of what it is started in.

use crate::engine::barrier;
use crate::engine::cancel::OnCancel;
use crate::engine::census::Alive;
use crate::engine::consumer::Consumer;
use crate::engine::context::Link;
use crate::engine::ctl::Ctl;
use crate::engine::cursor::Cursor;
use crate::engine::erase::{Seed, Start, Stop};
use crate::engine::inline;
use crate::engine::job::Job;
use crate::engine::opts::Opts;
use crate::engine::pool::Pool;
use crate::engine::sched::{Sched, Shape};
use crate::engine::source::Source;
use crate::engine::stage::Shared;
use crate::engine::timing::{CloneItem, Hedge};
use crate::error::Cancelled;
use crate::sync::{Arc, Parker};

/// A stage before its start.
#[derive(Debug)]
pub(crate) struct Plan<S: Source, J> {
    pub(crate) source: S,
    pub(crate) job: J,
    pub(crate) opts: Opts,
    /// Hedged stages: how to clone an item.
    pub(crate) clone: Option<CloneItem<S::Item>>,
}

impl<S: Source, J: Job<S::Item>> Start for Plan<S, J>
where
    S::Item: Send,
{
    type Output = J::Output;
    type Running = Consumer<S, J>;

    fn start(self: Box<Self>, seed: Seed) -> Box<Consumer<S, J>> {
        begin(*self, seed)
    }

    fn fold<A>(running: &mut Consumer<S, J>, init: A, f: impl FnMut(A, J::Output) -> A) -> A {
        running.fold_all(init, f)
    }

    fn cut(running: &Consumer<S, J>) -> Option<Cancelled> {
        running.cut()
    }

    fn tell_cut(running: &Consumer<S, J>) {
        running.tell_cut();
    }
}

fn begin<S: Source, J: Job<S::Item>>(plan: Plan<S, J>, seed: Seed) -> Box<Consumer<S, J>>
where
    S::Item: Send,
{
    barrier::prepare();
    let Plan {
        source,
        job,
        opts,
        clone,
    } = plan;
    let parker = Parker::new();
    let ctl = control(&opts, &parker);
    let (cx, link) = (seed.cx(), (!opts.detached).then(|| seed.link()).flatten());
    let linked = link.is_some();
    let pool = opts.pool.clone().unwrap_or_else(Pool::global);
    let team = seed.team(pool, Arc::clone(&ctl) as Arc<dyn Stop>);
    let (far, near) = match source.place(cx) {
        Ok(far) => (Some(far), None),
        Err(near) => (None, Some(near)),
    };
    debug_assert_eq!(near.is_some(), S::LOCAL);
    let shape = Shape {
        pulls: !S::LOCAL,
        stateful: J::STATEFUL,
        may_inline: !linked && !J::STATEFUL && !J::CATCHES && inline::is_allowed(&opts),
    };
    let shared = team.as_ref().map(|team| {
        let hedge = opts.hedge.clone().zip(clone);
        let hedge = hedge.map(|(policy, clone)| Hedge::new(policy, clone));
        let crew = team.crew().clone();
        let sched = Sched::new(&opts, shape, hedge, Arc::clone(&ctl), crew);
        Arc::new(Shared::<S, J>::new(sched, job, far))
    });
    let hooks = listen(&opts, link, &ctl);
    let cursor = Cursor::new(parker, team, hooks, opts.eager);
    let mut consumer = Box::new(Consumer::new(shared, near, cursor));
    consumer.join_in(opts.takes_part);
    consumer
}

/// The control words of a stage that is about to start.
fn control(opts: &Opts, parker: &Parker) -> Arc<Ctl> {
    let name = opts.name.as_deref().unwrap_or("a stage without a name");
    Arc::new(Ctl::new(parker.unparker().clone(), Alive::new(name)))
}

/// Hears of what it is started in, and of its tokens.
fn listen(opts: &Opts, link: Option<Link>, ctl: &Arc<Ctl>) -> Vec<OnCancel> {
    if let Some(link) = link {
        let (outer, whole) = (Arc::clone(ctl), opts.runs_all);
        let inherited = link.on_trip(move |why| {
            if whole {
                outer.warn(why);
            } else {
                outer.cancel(why);
            }
        });
        ctl.inherit(inherited);
    }
    let cancels = opts.tokens.iter().map(|token| {
        let ctl = Arc::clone(ctl);
        token.on_trip(move |why| ctl.cancel(why))
    });
    let drains = opts.drains.iter().map(|token| {
        let ctl = Arc::clone(ctl);
        token.on_trip(move |why| ctl.drain(why))
    });
    cancels.chain(drains).collect()
}
