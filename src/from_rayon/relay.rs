//! What stops the stage, and passes it on to the stage inside.

use crate::cancel::CancelToken;
use crate::error::Cancelled;
use crate::runtime::event::Event;
use crate::runtime::lease::Stop;
use crate::runtime::life::{Life, Scheduler};
use crate::runtime::registry::Alive;
use crate::sync::{Arc, AtomicBool, Ordering};

/// The control of the outer stage. The inner one has two tokens of it, and so ends as the outer one is told to.
pub(super) struct Relay {
    life: Life,
    /// Nothing more is taken: the carrier leaves.
    stopped: AtomicBool,
    ends: CancelToken,
    drains: CancelToken,
    /// Notified of results, and of the end.
    consumer: Arc<Event>,
    /// The carrier's.
    carrier: Arc<Event>,
}

impl Relay {
    pub(super) fn new(consumer: &Arc<Event>, carrier: &Arc<Event>, alive: Alive) -> Self {
        Relay {
            life: Life::new(Some(alive)),
            stopped: AtomicBool::new(false),
            ends: CancelToken::new(),
            drains: CancelToken::new(),
            consumer: Arc::clone(consumer),
            carrier: Arc::clone(carrier),
        }
    }

    /// The token on which the inner stage ends.
    pub(super) fn ends(&self) -> &CancelToken {
        &self.ends
    }

    /// The token on which the inner stage pulls nothing more.
    pub(super) fn drains(&self) -> &CancelToken {
        &self.drains
    }

    pub(super) fn consumer(&self) -> &Arc<Event> {
        &self.consumer
    }

    pub(super) fn carrier(&self) -> &Arc<Event> {
        &self.carrier
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst) // pairs with the store in `stop`
    }
}

impl Scheduler for Relay {
    fn life(&self) -> &Life {
        &self.life
    }

    // The carrier goes on in both cases: the inner stage ends by itself, and what it gives until then is wanted.
    fn cancel(&self, why: Cancelled) {
        self.life.set_cancelled(why);
        self.life.stray(self.ends.trip(why));
        self.consumer.notify();
    }

    fn drain(&self, why: Cancelled) {
        self.life.set_draining(why);
        self.life.stray(self.drains.trip(why));
        self.consumer.notify();
    }
}

impl Stop for Relay {
    fn stop(&self) {
        // First the flag: the carrier that is woken below looks at it next.
        self.stopped.store(true, Ordering::SeqCst); // pairs with the load in `is_stopped`
        let why = Cancelled::default();
        self.life.stray(self.ends.trip(why));
        self.carrier.notify();
        self.consumer.notify();
    }

    fn joined(&self) {
        self.life.joined();
    }
}
