//! Which readers still want the items of a shared source.
//!
//! A reader may be pulled inside the source of a stage. When that stage ends, it interrupts what waits in
//! there ([`context`]), and trips the token in there. But what the reader is inside of at that moment belongs
//! to the other readers too. So a visit to the shared source shields what is inside: it is interrupted, and
//! its token is tripped, only when the last reader that wanted items has gone, whether that was dropped or
//! interrupted.
//!
//! A reader that was interrupted wants items again when it is asked again, by any caller. Then there is a new
//! token, and a new list of waits inside.
//!
//! What the readers were made in (a closure, say) may end before they do. Then they are cancelled, all
//! together: nothing more is pulled, and each of them ends when it has taken what is there for it.

use crate::cancel::CancelToken;
use crate::error::Cancelled;
use crate::runtime::context::{self, Current, FrameGuard, Interrupt, Interrupts, Link, Plain};
use crate::runtime::event::Event;
use crate::runtime::life::Life;
use crate::sync::{Arc, AtomicBool, Mutex, Ordering};
use std::rc::Rc;

/// What all readers of a source have in common, without its types.
#[derive(Debug)]
pub(super) struct Demand {
    /// Its link is to what the readers were made in. Its token is not used: each wave of readers has its own.
    life: Life,
    /// The events of the readers.
    events: Vec<Arc<Event>>,
    state: Mutex<DemandState>,
}

/// One wave of readers: from the first that wants items to the last that does.
#[derive(Debug)]
struct DemandState {
    /// How many readers want items.
    count: usize,
    /// Made at the first visit that needs one.
    token: Option<CancelToken>,
    /// What waits inside the source.
    inside: Arc<Interrupts>,
}

impl Demand {
    /// For readers with these events, all of which want items, and a link to what they are made in.
    pub(super) fn new(events: Vec<Arc<Event>>, link: Option<Link>) -> Arc<Self> {
        let demand = Arc::new(Demand {
            life: Life::new(None),
            state: Mutex::new(DemandState {
                count: events.len(),
                token: None,
                inside: Arc::default(),
            }),
            events,
        });
        // An end that came before runs the hook here and now: the readers are born cancelled.
        if let Some(link) = link {
            let outer = Arc::downgrade(&demand); // not a cycle: the demand holds the hook
            let cancel = move |why| {
                if let Some(demand) = outer.upgrade() {
                    demand.cancel(why);
                }
            };
            demand.life.inherit(Some(link.on_trip(cancel)));
        }
        demand
    }

    /// What the readers were made in has ended: nothing more is pulled.
    fn cancel(&self, why: Cancelled) {
        // The flag first: a reader that is woken below checks it next, and so does a visit that begins
        // meanwhile.
        self.life.set_cancelled(why);
        // A leader that is inside the source is interrupted, though it is shielded from everything else.
        let (inside, token) = self.within();
        inside.interrupt();
        self.life.stray(token.and_then(|token| token.trip(why)));
        // All that wait, as each of them ends now.
        for event in &self.events {
            event.notify();
        }
    }

    pub(super) fn life(&self) -> &Life {
        &self.life
    }

    /// The current wave's list of waits and token. Copied, because hooks and interruptions must not run under
    /// the lock.
    fn within(&self) -> (Arc<Interrupts>, Option<CancelToken>) {
        let state = self.state.lock();
        (Arc::clone(&state.inside), state.token.clone())
    }

    /// Marks this thread as being in the shared source. `None`: there is nothing to shield it from.
    pub(super) fn visit(&self) -> Option<Visit> {
        // Outside of everything no end can reach this thread, so the common case pays nothing.
        if !self.life.is_linked() && !context::is_inside() {
            return None;
        }
        let (inside, token, count) = {
            let mut state = self.state.lock();
            // One token and one list for all visits of a wave, whichever reader leads.
            let token = state.token.get_or_insert_default().clone();
            (Arc::clone(&state.inside), token, state.count)
        };
        // The last reader may have gone, or the cancellation may have come, since the reader was asked.
        let over = (count == 0).then_some(Cancelled::default());
        // A cancellation comes first, as its reason is the one to tell.
        if let Some(why) = self.life.cancelled().or(over) {
            // That happened before there was a token to trip, or before this visit could be seen.
            inside.interrupt();
            self.life.stray(token.trip(why));
        }
        let frame = Plain::new(token);
        Some(Visit {
            _entered: context::in_shared_source(Rc::clone(&frame) as Rc<dyn Current>, &inside),
            frame,
            inside,
        })
    }

    /// One reader fewer wants items.
    fn leave(&self) {
        let (inside, token) = {
            let mut state = self.state.lock();
            state.count -= 1;
            // The others still want the source's items, so nothing inside may be disturbed.
            if state.count > 0 {
                return;
            }
            (Arc::clone(&state.inside), state.token.clone())
        };
        // Without the lock, as both run code of what is inside.
        inside.interrupt();
        let cancelled = Cancelled::default();
        self.life
            .stray(token.and_then(|token| token.trip(cancelled)));
    }

    /// One reader more wants items.
    fn join(&self) {
        let mut state = self.state.lock();
        // The first one after a time without any begins a new wave: the old list and token are used up.
        if state.count == 0 {
            (state.inside, state.token) = (Arc::default(), None);
        }
        state.count += 1;
    }
}

/// A stay in the shared source.
pub(super) struct Visit {
    _entered: FrameGuard,
    frame: Rc<Plain>,
    inside: Arc<Interrupts>,
}

impl Visit {
    /// Whether the source was interrupted because its items were not wanted. Then its `None` may be no end.
    pub(super) fn is_over(&self) -> bool {
        self.inside.is_over()
    }

    /// The source has answered. Returns whether with something that was made of what was cut short.
    pub(super) fn is_in_vain(&self) -> bool {
        self.frame.over()
    }
}

/// One reader's part in the demand.
#[derive(Debug)]
pub(super) struct Wish {
    demand: Arc<Demand>,
    /// Whether this reader is in the count. Changed by the reader's thread, and by the one that interrupts
    /// it.
    wants: AtomicBool,
}

impl Wish {
    pub(super) fn new(demand: &Arc<Demand>) -> Arc<Self> {
        Arc::new(Wish {
            demand: Arc::clone(demand),
            wants: AtomicBool::new(true),
        })
    }

    /// Whether the reader still wants items. A leader asks between two pulls.
    pub(super) fn wants(&self) -> bool {
        self.wants.load(Ordering::Acquire)
    }

    /// The reader is asked. Returns whether the caller wants an answer.
    pub(super) fn is_asked(self: &Arc<Self>) -> bool {
        // It was interrupted before, and is asked again: it counts again.
        if !self.wants() {
            self.demand.join();
            self.wants.store(true, Ordering::Release);
        }
        // Registers with what is around this thread. If that is over already, this comes back at once by
        // `interrupt`, and the reader does not want an answer after all.
        context::tell_outer(self);
        self.wants()
    }

    /// The reader wants nothing any more, or not until it is asked again.
    pub(super) fn give_up(&self) {
        // A swap, because the interruption may come from another thread than the drop: only one of the two
        // may subtract.
        if self.wants.swap(false, Ordering::AcqRel) {
            // In the thread that ends it, with no lock held: it may wake what waits inside.
            self.demand.leave();
        }
    }
}

impl Interrupt for Wish {
    fn interrupt(&self) {
        self.give_up();
    }
}
