//! Who still wants the items of a source that several share.
//!
//! A reader may be pulled inside the source of a stage. When that stage ends it interrupts what
//! waits in there ([`context`]), and its token is tripped; but what the reader is in at that moment
//! belongs to the other readers too. So a visit to the shared source shields it: what waits inside is told,
//! and the token in there is tripped, only when the last reader that wanted items has gone, be it dropped or
//! interrupted.
//!
//! A reader that was interrupted wants items again when it is asked again, on whosever behalf; then
//! there is a new token, and a new inside.
//!
//! What the readers were made in (a closure, say) may end before they do: then they are cancelled, all
//! together. Nothing more is pulled, and each ends when it has taken what is there for it.

use crate::cancel::{CancelToken, Why};
use crate::error::Cancelled;
use crate::runtime::context::{
    self, Current, FrameGuard, Inherited, Interrupt, Interrupts, Link, Plain,
};
use crate::runtime::event::Event;
use crate::sync::{Arc, AtomicBool, Mutex, Ordering};
use crate::unwind::{self, Payload};
use std::rc::Rc;

/// What all readers of a source have in common, without its types.
#[derive(Debug)]
pub(crate) struct Demand {
    /// Those of the readers.
    events: Vec<Arc<Event>>,
    cancelled: Why,
    /// What the readers were made in.
    inherited: Mutex<Option<Inherited>>,
    state: Mutex<DemandState>,
}

#[derive(Debug)]
struct DemandState {
    /// How many readers want items.
    count: usize,
    /// Made at the first visit that needs one.
    token: Option<CancelToken>,
    inside: Arc<Interrupts>,
    /// A panic of a hook on the token.
    stray: Option<Payload>,
}

impl Demand {
    /// For the readers with these events, which want items, and a link to what they are made in.
    pub(crate) fn new(events: Vec<Arc<Event>>, link: Option<Link>) -> Arc<Self> {
        let demand = Arc::new(Demand {
            cancelled: Why::new(),
            inherited: Mutex::new(None),
            state: Mutex::new(DemandState {
                count: events.len(),
                token: None,
                inside: Arc::default(),
                stray: None,
            }),
            events,
        });
        if let Some(link) = link {
            let outer = Arc::downgrade(&demand); // which holds the hook
            let cancel = move |why| {
                if let Some(demand) = outer.upgrade() {
                    demand.cancel(why);
                }
            };
            *demand.inherited.lock() = Some(link.on_trip(cancel));
        }
        demand
    }

    /// Nothing more is to be pulled.
    fn cancel(&self, why: Cancelled) {
        self.cancelled.set(why);
        let (inside, token) = self.within();
        inside.interrupt();
        self.stray(token.and_then(|token| token.trip(why)));
        for event in &self.events {
            event.notify();
        }
    }

    /// Why nothing more is to be pulled, if that is so.
    pub(crate) fn cancelled(&self) -> Option<Cancelled> {
        self.cancelled.get()
    }

    /// A reader was cut short, and whoever uses it is not told so by what it yields.
    pub(crate) fn tell_cut(&self) {
        if let Some(inherited) = &*self.inherited.lock() {
            inherited.cut_short();
        }
    }

    fn within(&self) -> (Arc<Interrupts>, Option<CancelToken>) {
        let state = self.state.lock();
        (Arc::clone(&state.inside), state.token.clone())
    }

    /// Marks this thread as being in the shared source. `None`: there is nothing to shield it from.
    pub(crate) fn visit(&self) -> Option<Visit> {
        if self.inherited.lock().is_none() && !context::is_inside() {
            return None;
        }
        let (inside, token, count) = {
            let mut state = self.state.lock();
            let token = state.token.get_or_insert_default().clone();
            (Arc::clone(&state.inside), token, state.count)
        };
        let over = (count == 0).then_some(Cancelled::default());
        if let Some(why) = self.cancelled().or(over) {
            // That was said while there was no token to trip.
            inside.interrupt();
            self.stray(token.trip(why));
        }
        let frame = Plain::new(token);
        Some(Visit {
            _entered: context::in_shared_source(Rc::clone(&frame) as Rc<dyn Current>, &inside),
            frame,
            inside,
        })
    }

    fn stray(&self, panic: Option<Payload>) {
        if panic.is_some() {
            unwind::first(&mut self.state.lock().stray, panic);
        }
    }

    pub(crate) fn take_stray(&self) -> Option<Payload> {
        self.state.lock().stray.take()
    }

    /// One reader less.
    fn leave(&self) {
        let (inside, token) = {
            let mut state = self.state.lock();
            state.count -= 1;
            if state.count > 0 {
                return;
            }
            (Arc::clone(&state.inside), state.token.clone())
        };
        inside.interrupt();
        self.stray(token.and_then(|token| token.trip(Cancelled::default())));
    }

    /// One more.
    fn join(&self) {
        let mut state = self.state.lock();
        if state.count == 0 {
            (state.inside, state.token) = (Arc::default(), None);
        }
        state.count += 1;
    }
}

/// A stay in the shared source.
pub(crate) struct Visit {
    _entered: FrameGuard,
    frame: Rc<Plain>,
    inside: Arc<Interrupts>,
}

impl Visit {
    /// Whether the source was told that nobody wants its items: then its `None` may be no end.
    pub(crate) fn is_over(&self) -> bool {
        self.inside.is_over()
    }

    /// The source has answered: whether with something that was made of what was cut short.
    pub(crate) fn is_in_vain(&self) -> bool {
        self.frame.over()
    }
}

/// One reader's part.
#[derive(Debug)]
pub(crate) struct Wish {
    demand: Arc<Demand>,
    wants: AtomicBool,
}

impl Wish {
    pub(crate) fn new(demand: &Arc<Demand>) -> Arc<Self> {
        Arc::new(Wish {
            demand: Arc::clone(demand),
            wants: AtomicBool::new(true),
        })
    }

    pub(crate) fn wants(&self) -> bool {
        self.wants.load(Ordering::Acquire)
    }

    /// The reader is asked: whether whoever asks wants an answer.
    pub(crate) fn is_asked(self: &Arc<Self>) -> bool {
        if !self.wants() {
            self.demand.join();
            self.wants.store(true, Ordering::Release);
        }
        context::tell_outer(self); // it may be over, and say so at once
        self.wants()
    }

    /// The reader wants nothing any more, or not until it is asked again.
    pub(crate) fn give_up(&self) {
        if self.wants.swap(false, Ordering::AcqRel) {
            self.demand.leave();
        }
    }
}

impl Interrupt for Wish {
    fn interrupt(&self) {
        self.give_up();
    }
}
