//! A consumer that sleeps until there is something for it, whoever brings it.
//!
//! # The protocol
//!
//! Who brings something first makes it visible (in a queue, a counter, under a lock: the event does
//! not care) and then [notifies](Event::notify). The consumer says that it is asleep, looks once more, and
//! only then sleeps. Between making visible and reading `asleep` on the one side, and between setting
//! `asleep` and looking on the other, stands a `SeqCst` fence each, so at least one of the two sees
//! the other: either the last look finds what was brought, or the notification finds a sleeper. Of several
//! that notify, the one that takes `asleep` back wakes, so a sleep costs one wake-up.
//!
//! A sleep that could soon be over is not worth its wake-up, so the consumer looks for a moment before
//! it sleeps, with [`SpinPolicy`].
//!
//! The wait also ends when the consumer is in the source of somebody who has ended ([`context`]). To
//! interrupt is no more than to notify: what there is to see then is that nobody
//! [wants](context::is_unwanted) anything.

use crate::runtime::context::{self, Interrupt};
use crate::runtime::spin::SpinPolicy;
use crate::sync::{Arc, AtomicBool, Instant, Ordering, Parker, Unparker, bug, fence};

/// The side of those who bring something.
#[derive(Debug)]
pub(crate) struct Event {
    asleep: AtomicBool,
    sleeper: Unparker,
}

impl Event {
    /// Something has just been made visible: wakes the consumer if it sleeps.
    pub(crate) fn notify(&self) {
        fence(Ordering::SeqCst); // pairs with the one in `Listener::wait`
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::Relaxed) {
            self.sleeper.unpark();
        }
    }
}

impl Interrupt for Event {
    fn interrupt(&self) {
        self.notify();
    }
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitResult {
    /// There is something.
    Ready,
    /// This thread is in a source whose items nobody wants any more.
    Unwanted,
    /// It is later than that.
    Late,
}

/// The side of the consumer.
#[derive(Debug)]
pub(crate) struct Listener {
    event: Arc<Event>,
    parker: Parker,
    patience: SpinPolicy,
}

impl Listener {
    pub(crate) fn new() -> Self {
        let parker = Parker::new();
        let event = Arc::new(Event {
            asleep: AtomicBool::new(false),
            sleeper: parker.unparker().clone(),
        });
        Listener {
            event,
            parker,
            patience: SpinPolicy::new(),
        }
    }

    pub(crate) fn event(&self) -> &Arc<Event> {
        &self.event
    }

    /// Waits until `ready` says so, `until` has come, or nobody wants it any more. `ready` is asked
    /// first, and never after it has said yes.
    pub(crate) fn wait(
        &mut self,
        mut ready: impl FnMut() -> bool,
        until: Option<Instant>,
    ) -> WaitResult {
        if ready() || self.patience.look(&mut ready) {
            return WaitResult::Ready;
        }
        context::tell_outer(&self.event);
        loop {
            // A swap, so that no notification that took back an earlier one can come after it.
            let looks_first = bug("says_so_after_the_last_look");
            self.event.asleep.swap(!looks_first, Ordering::Relaxed);
            fence(Ordering::SeqCst); // pairs with the one in `Event::notify`
            let heard = if ready() {
                Some(WaitResult::Ready)
            } else if context::is_unwanted() {
                context::tell_cut();
                Some(WaitResult::Unwanted)
            } else if until.is_some_and(|until| until <= Instant::now()) {
                Some(WaitResult::Late)
            } else {
                None
            };
            if let Some(heard) = heard {
                self.event.asleep.store(false, Ordering::Relaxed);
                return heard;
            }
            if looks_first {
                self.event.asleep.swap(true, Ordering::Relaxed);
            }
            match until {
                Some(until) => self
                    .parker
                    .park_timeout(until.saturating_duration_since(Instant::now())),
                None => self.parker.park(),
            }
        }
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::sync::Injector;

    /// Notify / wait: each of two things that are brought is found, and ends a sleep.
    #[test]
    fn loom_bell_ring_and_wait() {
        loom::model(|| {
            let mut listener = Listener::new();
            let queue = Arc::new(Injector::new());
            let bringer = loom::thread::spawn({
                let (queue, event) = (Arc::clone(&queue), Arc::clone(listener.event()));
                move || {
                    for thing in 0..2 {
                        queue.push(thing);
                        event.notify();
                    }
                }
            });
            for _ in 0..2 {
                assert_eq!(listener.wait(|| !queue.is_empty(), None), WaitResult::Ready);
                queue.steal();
            }
            bringer.join().expect("no panic");
        });
    }
}
