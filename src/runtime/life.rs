//! What each running stage has, whatever its scheduler: the reason why it ends early, the token of its
//! closures, the threads that may sleep, the frame in which it was started, and the first panic that belongs
//! to no item.

use crate::cancel::{CancelToken, Why};
use crate::error::Cancelled;
use crate::runtime::context::Inherited;
use crate::runtime::lease::Stop;
use crate::runtime::registry::{Alive, HeldThreads};
use crate::sync::{Arc, AtomicBool, Mutex, Ordering, Unparker};
use crate::unwind::{self, Payload};

/// How a session controls the threads of its stage. Every call sets its flags before it wakes a thread, so a
/// thread that is woken sees them.
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
    /// Why nothing more is started, once that is so.
    cancelled: Why,
    /// Why nothing more is pulled, once that is so.
    draining: Why,
    /// A source was treated as ended because of that.
    drained: AtomicBool,
    /// The token of the closures.
    token: CancelToken,
    /// The threads that may sleep, to be woken at the end.
    threads: Mutex<Vec<Unparker>>,
    /// The link to what the stage was started in, if it reacts to the end of that.
    inherited: Mutex<Option<Inherited>>,
    /// The stage's entry in the registry, until no thread holds a part of it.
    alive: Mutex<Option<Alive>>,
    /// The first panic that belongs to no item.
    stray: Mutex<Option<Payload>>,
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
            alive: Mutex::new(alive),
            stray: Mutex::default(),
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

    /// A source was treated as ended because of the drain.
    pub(crate) fn set_drained(&self) {
        // Relaxed: a thread that reads it has joined the writer, or shares a lock with it.
        self.drained.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_drained(&self) -> bool {
        self.drained.load(Ordering::Relaxed)
    }

    /// Why the stage has ended before its sources did, if it was told to.
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
        // A hook on the token may panic, and that panic belongs to no item.
        self.stray(self.token.trip(why));
    }

    /// Registers a thread that may sleep. A stop that comes later wakes it; a stop that came before is seen
    /// by the thread, which checks the flag before it sleeps.
    pub(crate) fn register(&self, thread: Unparker) {
        self.threads.lock().push(thread);
    }

    /// Wakes every registered thread. The flags must have been set before: the lock then orders them before
    /// the check of a thread that registers later.
    pub(crate) fn unpark_threads(&self) {
        for thread in &*self.threads.lock() {
            thread.unpark();
        }
    }

    // ---- what is around the stage

    /// Links the stage to what it was started in, or ends the link.
    pub(crate) fn inherit(&self, from: Option<Inherited>) {
        let former = std::mem::replace(&mut *self.inherited.lock(), from);
        drop(former); // Without the lock: the hook may be running on another thread.
    }

    /// Whether the stage reacts to the end of what it was started in.
    pub(crate) fn is_linked(&self) -> bool {
        self.inherited.lock().is_some()
    }

    /// The stage was cut short, and what it yields does not show that. The outer frame then discards the
    /// result.
    pub(crate) fn cut_short(&self) {
        if let Some(inherited) = &*self.inherited.lock() {
            inherited.cut_short();
        }
    }

    /// The stage has yielded its last output, though threads may still hold a part of it.
    pub(crate) fn over(&self, held: Arc<dyn HeldThreads>) {
        if let Some(alive) = &*self.alive.lock() {
            alive.over(held);
        }
    }

    /// No thread holds a part of the stage any more.
    pub(crate) fn joined(&self) {
        drop(self.alive.lock().take());
    }

    // ---- panics

    /// Keeps a panic that belongs to no item. The first one is raised when the stage ends.
    pub(crate) fn stray(&self, panic: Option<Payload>) {
        if panic.is_some() {
            let lost = unwind::keep(&mut self.stray.lock(), panic);
            lost.into_iter().for_each(unwind::bury); // Without the lock: its drop may come back here.
        }
    }

    pub(crate) fn take_stray(&self) -> Option<Payload> {
        self.stray.lock().take()
    }
}
