//! What each running stage has, whatever its scheduler: the reason why it ends early, the token of its
//! closures, the threads that may sleep, the frame in which it was started, and the first panic that belongs
//! to no item.
//!
//! # The order of an early end
//!
//! A thread that ends a stage first stores the flags of its scheduler and the reason. Only then does it trip
//! tokens and wake threads, because each thread that notices anything checks the flags next. With the order
//! reversed a woken thread could check too early, and sleep again for good. A thread that registers later
//! needs no wake-up: it checks the flags before its first sleep. The steps are in `Signals` and `Control`;
//! this file has their common parts.

use crate::cancel::{CancelToken, Why};
use crate::error::Cancelled;
use crate::runtime::context::Inherited;
use crate::runtime::lease::Stop;
use crate::runtime::registry::{Alive, HeldThreads};
use crate::runtime::trace::StageSpan;
use crate::sync::{Arc, AtomicBool, Mutex, Ordering, Unparker};
use crate::unwind::{self, Payload};

/// How a session controls the threads of its stage. Every call sets its flags before it wakes a thread, so a
/// thread that is woken sees them. Hooks call these methods on any thread, several at once, and until the
/// drop.
pub(crate) trait Scheduler: Stop + 'static {
    fn life(&self) -> &Life;

    /// Nothing new is pulled or started; finished results may still be taken.
    fn cancel(&self, why: Cancelled);

    /// Nothing new is pulled; what has been pulled is run.
    fn drain(&self, why: Cancelled);

    /// What the stage was started in has ended.
    fn outer_ended(&self, why: Cancelled) {
        self.cancel(why);
    }
}

/// The part that all schedulers have in common.
#[derive(Debug)]
pub(crate) struct Life {
    /// Why nothing more is started, once that is so. Any thread may set it; the first reason stays.
    cancelled: Why,
    /// Why nothing more is pulled, once that is so.
    draining: Why,
    /// A source was treated as ended because of the drain. A drain that found all sources at their end has
    /// cut nothing short, so `draining` alone does not say this.
    drained: AtomicBool,
    /// The token of the closures.
    token: CancelToken,
    /// The threads that may sleep, to be woken at the end.
    threads: Mutex<Vec<Unparker>>,
    /// The link to the frame in which the stage was started. `None`: the stage does not react to the end of
    /// that.
    inherited: Mutex<Option<Inherited>>,
    detached: AtomicBool,
    /// The stage's entry in the registry, until no thread holds a part of it.
    alive: Mutex<Option<Alive>>,
    /// The first panic that belongs to no item.
    stray: Mutex<Option<Payload>>,
    span: StageSpan,
}

impl Life {
    pub(crate) fn new(alive: Option<Alive>) -> Self {
        Life {
            cancelled: Why::new(),
            draining: Why::new(),
            drained: AtomicBool::new(false),
            token: CancelToken::new(),
            threads: Mutex::default(),
            inherited: Mutex::default(),
            detached: AtomicBool::new(false),
            alive: Mutex::new(alive),
            stray: Mutex::default(),
            span: StageSpan::default(),
        }
    }

    // ---- why it ends early

    /// Marks the stage as cancelled. The first reason stays.
    pub(crate) fn set_cancelled(&self, why: Cancelled) {
        self.cancelled.set(why);
    }

    pub(crate) fn cancelled(&self) -> Option<Cancelled> {
        self.cancelled.get()
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled().is_some()
    }

    /// Marks the stage as draining: its sources are asked for nothing more. The first reason stays.
    pub(crate) fn set_draining(&self, why: Cancelled) {
        self.draining.set(why);
    }

    #[inline]
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.get().is_some()
    }

    /// A source has ended, perhaps because it obeys its token and was told to.
    pub(crate) fn source_ended(&self) {
        if self.why().is_some() {
            self.set_drained();
        }
    }

    /// A source was treated as ended because of the drain, or has ended when it was told to.
    pub(crate) fn set_drained(&self) {
        // Relaxed: the consumer reads it after it has seen the end of that source, which the writer shows
        // under a lock or by a counter, or after the join. A stage that stops for another reason at that
        // moment may read either value.
        self.drained.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_drained(&self) -> bool {
        self.drained.load(Ordering::Relaxed)
    }

    /// Why the stage has ended before its sources did, if it was told to. A cancellation counts more than a
    /// drain, because it also leaves out items that were pulled.
    pub(crate) fn why(&self) -> Option<Cancelled> {
        self.cancelled().or_else(|| self.draining.get())
    }

    // ---- what is notified

    /// The token of the closures.
    pub(crate) fn token(&self) -> &CancelToken {
        &self.token
    }

    /// Trips the token of every closure that runs or will run.
    pub(crate) fn trip(&self, why: Cancelled) {
        // Must be called without a lock: this runs the hooks of the user. One of them may panic, and that
        // panic belongs to no item.
        self.stray(self.token.trip(why));
    }

    /// Registers a thread that may sleep. Must come before the thread's first check of the flags. A stop that
    /// comes later finds the thread here and wakes it; a stop that came before is seen by that check.
    pub(crate) fn register(&self, thread: Unparker) {
        self.threads.lock().push(thread);
    }

    /// Wakes every registered thread. The flags must have been set before. If a thread registers after this,
    /// the lock orders the flags before its check; if it registers before, its parker keeps the wake-up until
    /// it sleeps.
    pub(crate) fn unpark_threads(&self) {
        // Under the lock: an unpark is short, and a copy of the list would have to be allocated.
        for thread in &*self.threads.lock() {
            thread.unpark();
        }
    }

    // ---- what is around the stage

    /// Links the stage to what it was started in, or ends the link.
    pub(crate) fn inherit(&self, from: Option<Inherited>) {
        // Exchanged under the lock, and dropped without it: the drop takes the lock of a token, and drops the
        // hook's closure. A hook that is running at that moment finishes.
        let former = std::mem::replace(&mut *self.inherited.lock(), from);
        drop(former); // Without the lock: the hook may be running on another thread.
    }

    /// Whether the stage reacts to the end of what it was started in. Asked at the start: from then on a link
    /// only ends.
    pub(crate) fn is_linked(&self) -> bool {
        self.inherited.lock().is_some()
    }

    /// The stage is independent of what is around it, its consumer too.
    pub(crate) fn detach(&self) {
        self.detached.store(true, Ordering::Relaxed); // before anything runs
    }

    /// Whether what the consumer runs is to end with what is around that, and no link sees to it.
    pub(crate) fn is_nested(&self) -> bool {
        !self.detached.load(Ordering::Relaxed) && !self.is_linked()
    }

    /// The stage was cut short, and what it yields does not show that. The outer frame then discards the
    /// result. Needs the link, so `Session` keeps that beyond the last output, until `close`.
    pub(crate) fn cut_short(&self) {
        if let Some(inherited) = &*self.inherited.lock() {
            inherited.cut_short();
        }
    }

    /// The stage has yielded its last output. It counts as running as long as `held` says that threads hold a
    /// part of it.
    pub(crate) fn over(&self, held: Arc<dyn HeldThreads>) {
        if let Some(alive) = &*self.alive.lock() {
            alive.over(held);
        }
    }

    /// No thread holds a part of the stage any more, so its entry leaves the registry. Called by each join;
    /// the first one removes it.
    pub(crate) fn joined(&self) {
        drop(self.alive.lock().take());
        self.span.close();
    }

    /// The span in which the code of its user runs.
    #[inline]
    pub(crate) fn span(&self) -> &StageSpan {
        &self.span
    }

    // ---- panics

    /// Keeps a panic that belongs to no item. The first one is raised when the stage ends.
    pub(crate) fn stray(&self, panic: Option<Payload>) {
        if panic.is_some() {
            let lost = unwind::keep(&mut self.stray.lock(), panic);
            lost.into_iter().for_each(unwind::bury); // Without the lock: its drop may come back here.
        }
    }

    /// For the end of the stage, after the join: until then a thread may leave a panic.
    pub(crate) fn take_stray(&self) -> Option<Payload> {
        self.stray.lock().take()
    }
}
