//! How a stage is told to stop: what all of its threads look at, and who is woken for it.
//!
//! | call | from then on | who is told |
//! | --- | --- | --- |
//! | [`cancel`](Control::cancel) | nothing is pulled or started; what is done may be taken | everybody |
//! | [`drain`](Control::drain) | nothing is pulled; what has been pulled is run | who is in a source |
//! | [`stop`](Stop::stop) | nothing is pulled or started, and nothing more is taken | everybody |
//!
//! What is said is said before anybody is woken, so whoever is woken sees it.

use crate::cancel::{CancelToken, Why};
use crate::error::Cancelled;
use crate::runtime::context::{Inherited, Interrupts};
use crate::runtime::event::Event;
use crate::runtime::lease::Stop;
use crate::runtime::registry::{Alive, HeldThreads};
use crate::sync::{Arc, AtomicBool, Mutex, Ordering, Unparker};
use crate::unwind::{self, Payload};

/// What all threads of a stage look at before they go on.
pub(crate) struct Control {
    stopped: AtomicBool,
    cancelled: Why,
    draining: Why,
    /// A source was taken for ended because of that.
    drained: AtomicBool,
    /// That of the closures.
    token: CancelToken,
    /// That of the sources: a child of it.
    source: CancelToken,
    /// What waits in the sources.
    insides: Mutex<Vec<Arc<Interrupts>>>,
    /// Threads that may sleep.
    threads: Mutex<Vec<Unparker>>,
    consumer: Arc<Event>,
    inherited: Mutex<Option<Inherited>>,
    alive: Mutex<Option<Alive>>,
    /// The first panic that belongs to no item.
    stray: Mutex<Option<Payload>>,
}

impl Control {
    pub(crate) fn new(consumer: &Arc<Event>, alive: Option<Alive>) -> Self {
        let token = CancelToken::new();
        Control {
            stopped: AtomicBool::new(false),
            cancelled: Why::new(),
            draining: Why::new(),
            drained: AtomicBool::new(false),
            source: token.child(),
            token,
            insides: Mutex::default(),
            threads: Mutex::default(),
            consumer: Arc::clone(consumer),
            inherited: Mutex::default(),
            alive: Mutex::new(alive),
            stray: Mutex::default(),
        }
    }

    // ---- to stop it

    pub(crate) fn cancel(&self, why: Cancelled) {
        self.cancelled.set(why);
        self.halt(why);
    }

    /// A closure has failed: the same, but for the reason.
    pub(crate) fn fail(&self) {
        self.halt(Cancelled::default());
    }

    fn halt(&self, why: Cancelled) {
        self.forbid();
        for thread in &*self.threads.lock() {
            thread.unpark();
        }
        self.stray(self.token.trip(why));
        let insides = self.insides.lock().clone();
        for inside in insides {
            inside.interrupt();
        }
        self.consumer.notify();
    }

    /// Nothing is to be pulled or started; whoever says so has others told later.
    pub(crate) fn forbid(&self) {
        self.stopped.store(true, Ordering::SeqCst);
    }

    pub(crate) fn drain(&self, why: Cancelled) {
        self.draining.set(why);
        self.stray(self.source.trip(why));
        self.consumer.notify();
    }

    // ---- to see it

    /// Whether nothing is to be pulled or started.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.get().is_some()
    }

    /// Before a pull: whether the source is to be taken for ended.
    pub(crate) fn ends_source(&self) -> bool {
        let ends = self.is_draining();
        if ends {
            self.drained.store(true, Ordering::Relaxed); // whoever asks has joined, or has a lock in common
        }
        ends
    }

    pub(crate) fn is_drained(&self) -> bool {
        self.drained.load(Ordering::Relaxed)
    }

    /// Why it ended before its sources did, if it did so for a reason.
    pub(super) fn why(&self) -> Option<Cancelled> {
        self.cancelled.get().or_else(|| self.draining.get())
    }

    // ---- who is told

    pub(crate) fn token(&self) -> &CancelToken {
        &self.token
    }

    pub(crate) fn source_token(&self) -> &CancelToken {
        &self.source
    }

    /// What waits in a source is interrupted with the stage.
    pub(crate) fn add_source(&self) -> Arc<Interrupts> {
        let inside = Arc::<Interrupts>::default();
        self.insides.lock().push(Arc::clone(&inside));
        if self.is_stopped() {
            inside.interrupt(); // whoever stopped it may have been there before
        }
        inside
    }

    /// A thread says how to wake it. A stop after this wakes it, and one before is seen by it.
    pub(crate) fn register(&self, thread: Unparker) {
        self.threads.lock().push(thread);
    }

    pub(super) fn inherit(&self, from: Option<Inherited>) {
        let former = std::mem::replace(&mut *self.inherited.lock(), from);
        drop(former); // not under the lock: a hook may be running
    }

    /// It was cut short, and whoever uses it is not told so by what it yields.
    pub(super) fn cut_short(&self) {
        if let Some(inherited) = &*self.inherited.lock() {
            inherited.cut_short();
        }
    }

    /// It has said its last word, though threads may hold something of it.
    pub(super) fn over(&self, held: Arc<dyn HeldThreads>) {
        if let Some(alive) = &*self.alive.lock() {
            alive.over(held);
        }
    }

    /// Something has been made visible to the consumer.
    pub(crate) fn notify(&self) {
        self.consumer.notify();
    }

    // ---- panics

    /// Keeps a panic that belongs to no item; the first is raised when the stage ends.
    pub(crate) fn stray(&self, panic: Option<Payload>) {
        if panic.is_some() {
            let lost = unwind::keep(&mut self.stray.lock(), panic);
            lost.into_iter().for_each(unwind::bury); // not under the lock: it may come back here
        }
    }

    pub(crate) fn take_stray(&self) -> Option<Payload> {
        self.stray.lock().take()
    }
}

impl Stop for Control {
    fn stop(&self) {
        self.halt(Cancelled::default());
    }

    fn joined(&self) {
        drop(self.alive.lock().take());
    }
}
