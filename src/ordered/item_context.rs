//! Where a thread of a stage is: in which item, and whether in the source.

use crate::cancel::{CancelToken, Rivals};
use crate::ordered::signals::{SOURCE, Signals};
use crate::runtime::context::{Current, Started};
use crate::sync::{Arc, Instant};
use std::cell::{Cell, RefCell};

/// Where a worker is: in which item, and whether in the source.
pub(crate) struct ItemContext {
    signals: Arc<Signals>,
    seq: Cell<u64>,
    /// When the item is to be over.
    deadline: Cell<Option<Instant>>,
    rivals: RefCell<Option<Arc<Rivals>>>,
    racer: Cell<usize>,
    /// Whether there is a token: read each item.
    asked: Cell<bool>,
    pub(super) token: RefCell<Option<CancelToken>>,
    started: Started,
}

impl ItemContext {
    pub(crate) fn new(signals: Arc<Signals>) -> Self {
        ItemContext {
            signals,
            seq: Cell::new(0),
            deadline: Cell::new(None),
            rivals: RefCell::new(None),
            racer: Cell::new(usize::MAX),
            asked: Cell::new(false),
            token: RefCell::new(None),
            started: Started::default(),
        }
    }

    /// No item, but the source is about to be called.
    pub(crate) fn set_in_source(&self) {
        self.seq.set(SOURCE);
        self.deadline.set(None);
    }

    /// The item that is about to run.
    #[inline]
    pub(crate) fn set_seq(&self, seq: u64) {
        self.seq.set(seq);
    }

    /// Its token is one of several that race for the same result; or is by itself again.
    pub(crate) fn set_race(&self, rivals: Option<Arc<Rivals>>) -> Option<Arc<Rivals>> {
        if rivals.is_some() {
            self.racer.set(usize::MAX);
        }
        self.rivals.replace(rivals)
    }

    /// As which of them; [`usize::MAX`] if nobody has asked for the token.
    pub(crate) fn racer(&self) -> usize {
        self.racer.get()
    }

    /// Its token is to be tripped then.
    pub(crate) fn set_deadline(&self, at: Option<Instant>) {
        self.deadline.set(at);
    }

    /// The item has run; its token, if it asked for one, is no longer of interest. Whether what it gave is
    /// no result, since something that it was made of was cut short.
    #[inline]
    pub(crate) fn item_over(&self) -> bool {
        self.asked.get() && self.forget_token()
    }

    /// The same for what has come out of the source: whether nobody had better have it.
    #[cold]
    pub(crate) fn forget_token(&self) -> bool {
        self.asked.set(false);
        if let Some(token) = self.token.take() {
            self.signals.forget_token_of_item(&token);
        }
        if !self.started.over() {
            return false;
        }
        // Where only the token was tripped and everything is run, it is for the outer one to know.
        self.signals.cut_short();
        self.signals.cut() <= self.seq.get()
    }
}

impl Current for ItemContext {
    fn token(&self) -> CancelToken {
        if let Some(token) = &*self.token.borrow() {
            return token.clone();
        }
        let rivals = self.rivals.borrow().clone();
        let token = match (rivals, self.deadline.get()) {
            (Some(rivals), at) => {
                let (token, racer) = rivals.join(self.signals.token(), at);
                self.racer.set(racer);
                token
            }
            (None, Some(at)) => self.signals.token().with_deadline(at),
            (None, None) => self.signals.token().child(),
        };
        let seq = self.seq.get();
        self.signals.add_token_of_item(seq, &token);
        // A failure before the push did not find the token, but has set the cut before it looked.
        let in_vain = seq == SOURCE && (self.signals.is_cut() || self.signals.is_draining());
        if self.signals.cut() <= seq || in_vain {
            self.signals.stray(token.trip(self.signals.why()));
        }
        *self.token.borrow_mut() = Some(token.clone());
        self.asked.set(true);
        token
    }

    fn started(&self) -> &Started {
        &self.started
    }
}
