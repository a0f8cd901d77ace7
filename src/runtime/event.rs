//! An event that one consumer waits for, and that any thread may notify.
//!
//! # The protocol
//!
//! A thread that has something for the consumer first makes it visible (in a queue, in a counter, under a
//! lock: the event does not care), and then [notifies](Event::notify). The consumer marks itself asleep,
//! looks once more, and only then sleeps. Both sides have a `SeqCst` fence between their two steps, so at
//! least one of them sees the other: either the last look finds the new thing, or the notification finds a
//! sleeper. Of several threads that notify, only the one that takes `asleep` back wakes the consumer, so each
//! sleep costs one wake-up.
//!
//! A sleep that could soon be over is not worth its wake-up, so the consumer looks around briefly before it
//! sleeps, as [`SpinPolicy`] allows.
//!
//! A consumer that is [polled](crate::runtime::sleeper) does not sleep: it leaves the mark, and the notification wakes the
//! task that polls it.
//!
//! The wait also ends when this thread is inside the source of a stage that has ended ([`context`]). An
//! interruption is nothing but a notification: what the consumer sees then is that its answer is no longer
//! [wanted](context::is_unwanted).

use crate::runtime::context::{self, Interrupt};
use crate::runtime::sleeper::{Caller, Sleeper};
use crate::runtime::spin::SpinPolicy;
use crate::sync::{Arc, AtomicBool, Instant, Ordering, bug, fence};

/// The side of the threads that notify. They share it, and need no lock.
#[derive(Debug)]
pub(crate) struct Event {
    /// The consumer sleeps, or is about to. Set by the consumer, taken back by it or by the thread that wakes
    /// it.
    asleep: AtomicBool,
    /// Wakes the consumer.
    consumer: Caller,
}

impl Event {
    /// Something has just been made visible: wakes the consumer if it sleeps.
    pub(crate) fn notify(&self) {
        // First the fence: the caller has made its thing visible before. Behind the fence this sees that the
        // consumer sleeps, or the consumer's last look sees the thing. The load comes first because it is
        // cheap: most notifications find a consumer that is awake. The swap decides which one of several
        // threads wakes it.
        fence(Ordering::SeqCst); // pairs with the one in `Listener::wait`
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::Relaxed) {
            self.consumer.unpark();
        }
    }
}

impl Interrupt for Event {
    fn interrupt(&self) {
        self.notify();
    }
}

/// How a wait has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitResult {
    /// The condition holds.
    Ready,
    /// This thread is inside a source whose items are no longer wanted.
    Unwanted,
    /// The time is over.
    Late,
}

/// The side of the consumer.
#[derive(Debug)]
pub(crate) struct Listener {
    event: Arc<Event>,
    pub(crate) sleeper: Sleeper,
    /// Whether a short look before a sleep has paid lately.
    patience: SpinPolicy,
}

impl Listener {
    pub(crate) fn new() -> Self {
        let sleeper = Sleeper::new();
        let event = Arc::new(Event {
            asleep: AtomicBool::new(false),
            consumer: sleeper.caller().clone(),
        });
        Listener {
            event,
            sleeper,
            patience: SpinPolicy::new(),
        }
    }

    pub(crate) fn event(&self) -> &Arc<Event> {
        &self.event
    }

    /// Waits until `ready` returns `true`, `until` has come, or the answer is no longer wanted. `ready` is
    /// asked first, and not again once it has returned `true`.
    pub(crate) fn wait(
        &mut self,
        mut ready: impl FnMut() -> bool,
        until: Option<Instant>,
    ) -> WaitResult {
        // Without the announcement: as long as something is there, a wait costs no fence, and notifications
        // cost no swap.
        let polled = self.sleeper.is_polled();
        if ready() || !polled && self.patience.look(&mut ready) {
            return WaitResult::Ready;
        }
        // Registers with the sources that this thread is inside. An end that came before this interrupts here
        // and now, and the check of `is_unwanted` below sees it.
        context::tell_outer(&self.event);
        loop {
            // First the announcement, then the look: in the other order a notification between the two would
            // find no sleeper, and the look would have missed its thing. A swap, not a store, because it
            // reads the newest value. If that is the `false` of an earlier notification, this thread now sees
            // everything that was made visible before it.
            let looks_first = bug("says_so_after_the_last_look");
            self.event.asleep.swap(!looks_first, Ordering::Relaxed);
            fence(Ordering::SeqCst); // pairs with the one in `Event::notify`
            let heard = if ready() {
                Some(WaitResult::Ready)
            } else if context::is_unwanted() {
                // An interruption notifies without changing what `ready` sees, so it is checked separately.
                context::tell_cut();
                Some(WaitResult::Unwanted)
            } else if until.is_some_and(|until| until <= Instant::now()) {
                Some(WaitResult::Late)
            } else {
                None
            };
            if let Some(heard) = heard {
                // A consumer that is polled comes again when it is notified. Until then it counts as asleep.
                if polled && heard == WaitResult::Late && !bug("a_poll_takes_its_word_back") {
                    return heard;
                }
                // Taken back, so that later notifications cost nothing. If one has already unparked this
                // thread, its token stays in the parker, and the next park returns at once: a look in vain.
                // Relaxed: a notification that still sees `true` does the same.
                if cfg!(loom) {
                    // For loom a store may come between a swap and what that has read. Then it finds a thread that reads
                    // this `false` after the next announcement.
                    self.event.asleep.swap(false, Ordering::Relaxed);
                } else {
                    self.event.asleep.store(false, Ordering::Relaxed);
                }
                return heard;
            }
            if looks_first {
                self.event.asleep.swap(true, Ordering::Relaxed);
            }
            // The parker keeps a wake-up that comes before the sleep. A sleep may also end without one, so
            // the loop looks again in any case.
            match until {
                Some(until) => self
                    .sleeper
                    .park_timeout(until.saturating_duration_since(Instant::now())),
                None => self.sleeper.park(),
            }
        }
    }
}

#[cfg(all(test, loom))]
mod models;
