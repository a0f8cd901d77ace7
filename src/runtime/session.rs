//! The life of a running stage: what it hears of from the start to the drop, and the join of its threads.

use crate::cancel::CancelHook;
use crate::error::Cancelled;
use crate::runtime::control::Control;
use crate::runtime::event::Event;
use crate::runtime::lease::{JoinGuard, Leases, Stop};
use crate::runtime::plan::{Common, Ending};
use crate::runtime::pool::Pool;
use crate::runtime::registry::Alive;
use crate::runtime::scope::StartPermit;
use crate::sync::Arc;
use crate::unwind::Payload;

/// A stage from its start to its drop. Whoever owns it drops it after a [`close`](Self::close), as the threads may
/// hold what the stage borrows.
pub(crate) struct Session {
    /// On the tokens of the user.
    hooks: Vec<CancelHook>,
    join_guard: JoinGuard,
    control: Arc<Control>,
    over: bool,
    cut_short: bool,
}

impl Session {
    /// Starts: from now on it hears of its tokens and of what it is started in. `None`: the scope is over.
    pub(crate) fn start(
        start_permit: StartPermit,
        common: Common,
        operator: &str,
        consumer: &Arc<Event>,
    ) -> Option<Self> {
        let alive = Alive::new(common.name_or(operator));
        let control = Arc::new(Control::new(consumer, Some(alive)));
        let link = (!common.detached).then(|| start_permit.link()).flatten();
        let pool = common.pool.unwrap_or_else(Pool::global);
        let join_guard = start_permit.join_guard(pool, Arc::clone(&control) as Arc<dyn Stop>)?;
        let inherited = link.map(|link| {
            let outer = Arc::clone(&control);
            link.on_trip(move |why| outer.cancel(why))
        });
        control.inherit(inherited);
        let cancels = common.tokens.iter().map(|token| {
            let control = Arc::clone(&control);
            token.on_trip(move |why| control.cancel(why))
        });
        let drains = common.drains.iter().map(|token| {
            let control = Arc::clone(&control);
            token.on_trip(move |why| control.drain(why))
        });
        Some(Session {
            hooks: cancels.chain(drains).collect(),
            join_guard,
            control,
            over: false,
            cut_short: false,
        })
    }

    pub(crate) fn control(&self) -> &Arc<Control> {
        &self.control
    }

    pub(crate) fn leases(&self) -> &Leases {
        self.join_guard.leases()
    }

    /// It yields nothing more; `cut_short`: there would have been more. Threads may still be at work: the drop joins
    /// them.
    pub(crate) fn end(&mut self, cut_short: bool) {
        self.over = true;
        self.cut_short = cut_short;
        self.hooks.clear();
        self.control.over(self.join_guard.leases().held());
    }

    /// Joins the threads now, as none can be stuck.
    pub(crate) fn join(&self) {
        self.join_guard.join();
    }

    /// The drop: hears no more of anybody, joins the threads, and hands back the panic that belongs to no item.
    pub(crate) fn close(&mut self) -> Option<Payload> {
        self.hooks.clear();
        self.control.inherit(None);
        self.join_guard.join();
        self.control.take_stray()
    }
}

impl Ending for Session {
    fn is_over(&self) -> bool {
        self.over
    }

    fn cut(&self) -> Option<Cancelled> {
        self.control.why().filter(|_| self.cut_short)
    }

    fn tell_cut(&self) {
        self.control.cut_short();
    }
}
