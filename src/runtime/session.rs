//! The session of a running stage: what stops it, from its start to its drop, and the join of its threads.
//!
//! The consumer has the session. Hooks have only `control`, and the threads of the stage only that and the
//! right to lease. So none of them keeps the session from being dropped.

use crate::cancel::{CancelHook, CancelToken};
use crate::error::Cancelled;
use crate::runtime::control::Control;
use crate::runtime::lease::{JoinGuard, Leases, Stop};
use crate::runtime::life::Scheduler;
use crate::runtime::meter::MeterSlot;
use crate::runtime::plan::{Common, Ending};
use crate::runtime::pool::Pool;
use crate::runtime::registry::Alive;
use crate::runtime::scope::StartPermit;
use crate::runtime::width::SharedWidth;
use crate::sync::{Arc, Instant};
use crate::unwind::Payload;

/// A stage from its start to its drop. The owner must call [`close`](Self::close) before it drops what the
/// stage borrows, because threads may still use that.
pub(crate) struct Session<C: Scheduler = Control> {
    /// The hooks on the user's tokens, each with its token. A token without a handle is gone, and its hooks
    /// with it; and the stage may have the only handle, as with `cancel_on(&token.child())`. The hook of a
    /// pair is dropped first.
    hooks: Vec<(CancelHook, CancelToken)>,
    /// Its drop joins the threads, also if `close` was not called. The hooks above are dropped before it.
    join_guard: JoinGuard,
    control: Arc<C>,
    meter: MeterSlot,
    width: Option<Arc<SharedWidth>>,
    /// The stage yields nothing more.
    over: bool,
    /// It would have yielded more if it had not been ended early.
    cut_short: bool,
}

impl<C: Scheduler> Session<C> {
    /// Starts the session: from now on the stage reacts to its tokens and to the end of what it was started
    /// in. `None`: the scope is over.
    pub(crate) fn start(
        start_permit: StartPermit,
        common: Common,
        operator: &str,
        control: impl FnOnce(Alive) -> C,
    ) -> Option<Self> {
        // The entry in the registry comes first, and goes last: `Control` holds it until the threads are
        // joined.
        let control = Arc::new(control(Alive::new(common.name_or(operator))));
        if common.detached {
            control.life().detach();
        }
        // Asked on the thread that starts the stage: the frame around this thread is what the stage is a part
        // of.
        let link = (!common.detached).then(|| start_permit.link()).flatten();
        // Before any hook is registered: if the scope is over, nothing has to be taken back.
        let pool = common.pool.unwrap_or_else(Pool::global);
        let stop = match &common.width {
            None => Arc::clone(&control) as Arc<dyn Stop>,
            Some(width) => Arc::new(StopBoth(Arc::clone(&control), Arc::clone(width))),
        };
        let join_guard = start_permit.join_guard(pool, stop)?;
        common
            .meter
            .note(|meter| meter.leases(&join_guard.leases().held()));
        // A token that is already tripped runs its hook here and now. That is fine: no thread has been leased
        // yet, and the first one checks the flag before it does anything. All hooks hold `control` and not
        // the session, so they keep neither threads nor the source alive.
        let inherited = link.map(|link| {
            let control = Arc::clone(&control);
            link.on_trip(move |why| control.outer_ended(why))
        });
        control.life().inherit(inherited);
        control
            .life()
            .span()
            .open(&common.made, common.name.as_deref());
        let cancels = common.tokens.into_iter().map(|token| {
            let control = Arc::clone(&control);
            (token.on_trip(move |why| control.cancel(why)), token)
        });
        let drains = common.drains.into_iter().map(|token| {
            let control = Arc::clone(&control);
            (token.on_trip(move |why| control.drain(why)), token)
        });
        Some(Session {
            hooks: cancels.chain(drains).collect(),
            join_guard,
            control,
            meter: common.meter,
            width: common.width,
            over: false,
            cut_short: false,
        })
    }

    pub(crate) fn control(&self) -> &Arc<C> {
        &self.control
    }

    pub(crate) fn meter(&self) -> &MeterSlot {
        &self.meter
    }

    /// `Some`: the width may be set while the stage runs.
    pub(crate) fn width(&self) -> Option<&Arc<SharedWidth>> {
        self.width.as_ref()
    }

    /// The right to lease threads for the stage.
    pub(crate) fn leases(&self) -> &Leases {
        self.join_guard.leases()
    }

    /// Whether the stage has yielded everything. A plain field, because only the consumer reads and changes
    /// it.
    #[inline]
    pub(crate) fn is_over(&self) -> bool {
        self.over
    }

    /// The stage yields nothing more. `cut_short`: there would have been more. Threads may still be running,
    /// and are joined by the drop.
    pub(crate) fn end(&mut self, cut_short: bool) {
        self.over = true;
        self.meter.note(|meter| meter.end(Instant::now()));
        self.cut_short = cut_short;
        // The handles have a task that counts as a thread, and the registry waits for those.
        if let Some(width) = &self.width {
            width.close();
        }
        // From now on the user's tokens do not act on this stage; a hook that is running finishes. The link
        // to the outer frame stays until `close`: `tell_cut` needs it, and is called after the end.
        self.hooks.clear();
        // The registry lists the stage only as long as a thread still holds a part of it. Nothing is waited
        // for here: a thread may be stuck in user code.
        self.control.life().over(self.join_guard.leases().held());
    }

    /// Tells the threads to leave. The stage yields nothing more.
    pub(crate) fn stop(&mut self, cut_short: bool) {
        // First the flags: from here on nothing new starts, so that the threads leave while the user goes on.
        self.control.stop();
        self.end(cut_short);
    }

    /// Stops the stage, and joins the threads now. Called when no thread can be stuck in user code.
    pub(crate) fn join(&self) {
        self.join_guard.join();
    }

    /// The first part of the drop: takes the hooks back, joins the threads, and returns the panic that
    /// belongs to no item. May follow a `join` or a `stop`, which it repeats without harm.
    pub(crate) fn close(&mut self) -> Option<Payload> {
        // No hook may start after this: it would act on a stage that is being taken apart. One that is
        // running keeps its own handle on `control`, and does no harm: the threads are stopped below in any
        // case.
        self.hooks.clear();
        self.control.life().inherit(None);
        // Threads can use what the stage borrows until this returns, so nothing else is dropped before it. It
        // comes after the hooks, or a hook could start while this thread waits.
        self.join_guard.join();
        self.meter.note(|meter| meter.end(Instant::now()));
        // Only now, as the last threads may have left a panic behind.
        self.control.life().take_stray()
    }
}

/// Stops a stage, and drops what its handles have of it: the join waits for that too. Each join stops the stage first.
struct StopBoth<C>(Arc<C>, Arc<SharedWidth>);

impl<C: Scheduler> Stop for StopBoth<C> {
    fn stop(&self) {
        self.0.stop();
        self.1.close();
    }

    fn joined(&self) {
        self.0.joined();
    }
}

impl<C: Scheduler> Ending for Session<C> {
    fn is_over(&self) -> bool {
        self.over
    }

    fn cut(&self) -> Option<Cancelled> {
        // A stage that was told to end early, but had yielded everything by then, has no cut to report.
        self.control.life().why().filter(|_| self.cut_short)
    }

    fn tell_cut(&self) {
        self.control.life().cut_short();
    }
}
