//! How a stage is stopped: the flag that all of its threads check, and the threads that are woken for it.
//!
//! | call | from then on | who is notified |
//! | --- | --- | --- |
//! | [`cancel`](Scheduler::cancel) | nothing is pulled or started; what is done may be taken | all threads |
//! | [`drain`](Scheduler::drain) | nothing is pulled; what has been pulled is run | threads in a source, the consumer |
//! | [`stop`](Stop::stop) | nothing is pulled or started, and nothing more is taken | all threads |
//!
//! The flag is always set before any thread is woken, so a thread that is woken sees it.

use crate::cancel::CancelToken;
use crate::error::Cancelled;
use crate::runtime::context::Interrupts;
use crate::runtime::event::Event;
use crate::runtime::lease::Stop;
use crate::runtime::life::{Life, Scheduler};
use crate::runtime::registry::Alive;
use crate::sync::{Arc, AtomicBool, Mutex, Ordering};
use std::ops::Deref;

/// What every thread of a stage checks before it continues.
pub(crate) struct Control {
    life: Life,
    /// Nothing is pulled or started any more.
    stopped: AtomicBool,
    /// The token that the sources see: a child of the closures' token, so that it can be tripped alone.
    source: CancelToken,
    /// One per source: what waits inside it, to be woken when the stage stops.
    insides: Mutex<Vec<Arc<Interrupts>>>,
    /// Notified of results, and of the end.
    consumer: Arc<Event>,
}

impl Deref for Control {
    type Target = Life;

    fn deref(&self) -> &Life {
        &self.life
    }
}

impl Control {
    pub(crate) fn new(consumer: &Arc<Event>, alive: Option<Alive>) -> Self {
        let life = Life::new(alive);
        Control {
            stopped: AtomicBool::new(false),
            source: life.token().child(),
            life,
            insides: Mutex::default(),
            consumer: Arc::clone(consumer),
        }
    }

    // ---- to stop it

    /// A closure has failed. Like a cancellation, but the stage has no reason to report.
    pub(crate) fn fail(&self) {
        self.halt(Cancelled::default());
    }

    /// Stops everything. A thread that is in user code is asked to return by its token, and is not waited
    /// for.
    fn halt(&self, why: Cancelled) {
        // First the flag: each thread that is woken below checks it next, and would otherwise sleep again.
        self.forbid();
        // Workers without work sleep on their parkers.
        self.unpark_threads();
        // Closures, and sources by their child token, are asked to give up early.
        self.trip(why);
        // A copy, because an interruption runs code of inner stages, and none of that may run under this
        // lock. A source that is added meanwhile sees the flag (`add_source`).
        let insides = self.insides.lock().clone();
        for inside in insides {
            inside.interrupt();
        }
        self.consumer.notify();
    }

    /// From now on nothing may be pulled or started. The caller wakes the threads later.
    pub(crate) fn forbid(&self) {
        self.stopped.store(true, Ordering::SeqCst);
    }

    // ---- to see it

    /// Whether nothing may be pulled or started any more.
    #[inline]
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// Called before a pull: whether the source is to be treated as ended.
    #[inline]
    pub(crate) fn ends_source(&self) -> bool {
        let ends = self.is_draining();
        // Noted only here: a stage whose source ends by itself before this has not been cut short by the
        // drain.
        if ends {
            self.set_drained();
        }
        ends
    }

    // ---- what is notified

    /// The token that the sources see.
    pub(crate) fn source_token(&self) -> &CancelToken {
        &self.source
    }

    /// Adds a source. What waits inside it will be interrupted when the stage stops.
    pub(crate) fn add_source(&self) -> Arc<Interrupts> {
        let inside = Arc::<Interrupts>::default();
        self.insides.lock().push(Arc::clone(&inside));
        // After the push. Either `halt` finds the entry in the list, or this sees the flag that `halt` has
        // set before it looked there.
        if self.is_stopped() {
            inside.interrupt();
        }
        inside
    }

    /// Something has been made visible to the consumer.
    pub(crate) fn notify(&self) {
        self.consumer.notify();
    }
}

impl Scheduler for Control {
    fn life(&self) -> &Life {
        &self.life
    }

    fn cancel(&self, why: Cancelled) {
        self.set_cancelled(why);
        self.halt(why);
    }

    fn drain(&self, why: Cancelled) {
        self.set_draining(why);
        // The sources' token alone: what has been pulled is still wanted, so closures must not be asked to
        // give up.
        self.stray(self.source.trip(why));
        self.consumer.notify();
    }
}

impl Stop for Control {
    fn stop(&self) {
        self.halt(Cancelled::default());
    }

    fn joined(&self) {
        self.life.joined();
    }
}
