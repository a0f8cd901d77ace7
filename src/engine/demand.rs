//! Who still wants the items of a source that several share.
//!
//! A reader may be pulled inside the source of a stage. When that stage ends it interrupts what
//! waits in there ([`nest`]), and its token is tripped; but what the reader is in at that moment
//! belongs to the other readers too, and what is told that nobody wants its items ends. So a visit
//! to the shared source shields it: what waits inside is told, and the token in there is tripped,
//! only when the last reader that wanted items has gone, be it dropped or interrupted.
//!
//! A reader that was interrupted wants items again when it is asked again, on whosever behalf; then
//! there is a new token, and a new inside.

use crate::engine::cancel::{self, CancelToken, Current};
use crate::engine::nest::{self, InSource, Inside, Interrupt};
use crate::engine::unwind::{self, Payload};
use crate::sync::{Arc, AtomicBool, Mutex, Ordering};
use std::rc::Rc;

/// What all readers of a source have in common, without its types.
#[derive(Debug)]
pub(crate) struct Demand {
    /// On whose behalf the readers were made.
    maker: Option<CancelToken>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// How many readers want items.
    count: usize,
    /// Made at the first visit that needs one.
    token: Option<CancelToken>,
    inside: Arc<Inside>,
    /// A panic of a hook on the token.
    stray: Option<Payload>,
}

impl Demand {
    /// For so many readers, which want items.
    pub(crate) fn new(count: usize) -> Arc<Self> {
        Arc::new(Demand {
            maker: cancel::has_current().then(CancelToken::current),
            state: Mutex::new(State {
                count,
                token: None,
                inside: Arc::default(),
                stray: None,
            }),
        })
    }

    /// Marks this thread as being in the shared source. `None`: there is nothing to shield it from.
    pub(crate) fn visit(&self) -> Option<Visit> {
        if self.maker.is_none() && !nest::is_in_source() && !cancel::has_current() {
            return None;
        }
        let (inside, token, count) = {
            let mut state = self.state.lock();
            let fresh = || {
                let maker = self.maker.as_ref();
                maker.map_or_else(CancelToken::new, CancelToken::child)
            };
            let token = state.token.get_or_insert_with(fresh).clone();
            (Arc::clone(&state.inside), token, state.count)
        };
        if count == 0 {
            // The last one left while there was no token to trip.
            self.stray(token.trip());
        }
        let in_source = nest::in_source(&inside);
        Some(Visit {
            _current: cancel::enter(Rc::new(InShared(token))),
            _in_source: in_source,
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
        self.stray(token.and_then(|token| token.trip()));
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

/// Answers [`CancelToken::current`] inside the shared source.
struct InShared(CancelToken);

impl Current for InShared {
    fn token(&self) -> CancelToken {
        self.0.clone()
    }
}

/// A stay in the shared source.
pub(crate) struct Visit {
    // Dropped in the reverse order of their making.
    _current: cancel::Entered,
    _in_source: InSource,
    inside: Arc<Inside>,
}

impl Visit {
    /// Whether the source was told that nobody wants its items: then its `None` may be no end.
    pub(crate) fn is_over(&self) -> bool {
        self.inside.is_over()
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
        nest::tell_outer(self); // it may be over, and say so at once
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
