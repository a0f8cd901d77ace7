//! The frame in which an inner iterator runs, from the call of the closure to the iterator's end, and its token.

use crate::cancel::CancelToken;
use crate::error::Cancelled;
use crate::runtime::context::{Current, Started};
use crate::runtime::control::Control;
use crate::sync::{Arc, Mutex};
use std::rc::Rc;

/// The token of an item, which is made when something asks for it. Other threads may trip it.
#[derive(Debug, Default)]
pub(super) struct ItemToken(Mutex<TokenState>);

#[derive(Debug, Default)]
struct TokenState {
    token: Option<CancelToken>,
    /// An item before this one has failed.
    unwanted: bool,
}

impl ItemToken {
    /// The item is not wanted any more. Returns what the caller must trip, without a lock.
    pub(super) fn forbid(&self) -> Option<CancelToken> {
        let mut state = self.0.lock();
        state.unwanted = true;
        state.token.clone()
    }

    /// The item is over, so nothing asks for its token any more.
    fn forget(&self) {
        let token = self.0.lock().token.take();
        drop(token); // Without the lock.
    }

    fn get(&self, control: &Control) -> CancelToken {
        let (token, is_late) = {
            let mut state = self.0.lock();
            let is_late = state.unwanted && state.token.is_none();
            let token = state.token.get_or_insert_with(|| control.token().child());
            (token.clone(), is_late)
        };
        // `forbid` found no token to trip.
        if is_late {
            control.stray(token.trip(Cancelled::default()));
        }
        token
    }
}

/// The frame of the items of a lane, one after the other.
pub(super) struct ItemFrame {
    token: Arc<ItemToken>,
    control: Arc<Control>,
    started: Started,
}

impl ItemFrame {
    /// `started`: what has been started in the item so far.
    pub(super) fn new(
        token: &Arc<ItemToken>,
        control: &Arc<Control>,
        started: Started,
    ) -> Rc<Self> {
        Rc::new(ItemFrame {
            token: Arc::clone(token),
            control: Arc::clone(control),
            started,
        })
    }

    /// Another thread goes on with the item, in a frame of its own.
    pub(super) fn take_started(&self) -> Started {
        self.started.take()
    }

    /// Called when no more is asked of the item: whether anything that was started in it has been cut short without
    /// showing it.
    pub(super) fn over(&self) -> bool {
        self.started.over()
    }

    /// The item is over, so nothing asks for its token any more.
    pub(super) fn item_over(&self) {
        self.over();
        self.token.forget();
    }
}

impl Current for ItemFrame {
    fn token(&self) -> CancelToken {
        self.token.get(&self.control)
    }

    fn started(&self) -> &Started {
        &self.started
    }
}
