//! Where a thread of a stage is: in which item, or in the source; and the token that belongs to that.

use crate::cancel::{CancelToken, Rivals};
use crate::ordered::signals::{SOURCE, Signals};
use crate::runtime::context::{Current, Started};
use crate::sync::{Arc, Instant};
use std::cell::{Cell, RefCell};

/// Where a worker is: in which item, or in the source.
pub(super) struct ItemContext {
    signals: Arc<Signals>,
    /// The `seq` of the running item, or `SOURCE`.
    seq: Cell<u64>,
    /// When the item's time is over.
    deadline: Cell<Option<Instant>>,
    /// Hedged stages: the race that the item's token joins if it is asked for.
    rivals: RefCell<Option<Arc<Rivals>>>,
    /// As which racer it has joined.
    racer: Cell<usize>,
    /// Whether there is a token. A flag, because it is read for each item.
    asked: Cell<bool>,
    /// The item's token, once it was asked for.
    pub(super) token: RefCell<Option<CancelToken>>,
    /// What was started in the item, and might be cut short.
    started: Started,
}

impl ItemContext {
    pub(super) fn new(signals: Arc<Signals>) -> Self {
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

    /// The thread is about to call the source, so it is in no item.
    pub(super) fn set_in_source(&self) {
        self.seq.set(SOURCE);
        self.deadline.set(None);
    }

    /// The item that is about to run.
    #[inline]
    pub(super) fn set_seq(&self, seq: u64) {
        self.seq.set(seq);
    }

    /// Hedged stages: the item's token will be one of several that race for the same result. `None`: it is
    /// independent again.
    pub(super) fn set_race(&self, rivals: Option<Arc<Rivals>>) -> Option<Arc<Rivals>> {
        if rivals.is_some() {
            self.racer.set(usize::MAX);
        }
        self.rivals.replace(rivals)
    }

    /// The racer that it has joined as; [`usize::MAX`] if the token was not asked for.
    pub(super) fn racer(&self) -> usize {
        self.racer.get()
    }

    /// The item's token will be tripped at that time.
    pub(super) fn set_deadline(&self, at: Option<Instant>) {
        self.deadline.set(at);
    }

    /// Whether the item, or the source, is no longer wanted.
    fn is_in_vain(&self) -> bool {
        let (seq, signals) = (self.seq.get(), &self.signals);
        let ends_source = || signals.is_cut() || signals.is_draining();
        signals.cut() <= seq || seq == SOURCE && ends_source()
    }

    /// The item has run, and its token, if it asked for one, is of no more interest. Returns whether its
    /// result must not count, because something that it was made of was cut short.
    #[inline]
    pub(super) fn item_over(&self) -> bool {
        self.asked.get() && self.forget_token()
    }

    /// The same for what has come out of the source. Returns whether it must not be used.
    #[cold]
    pub(super) fn forget_token(&self) -> bool {
        // Most items never ask for a token, so the work of forgetting one is in here, out of the loop.
        self.asked.set(false);
        if let Some(token) = self.token.take() {
            self.signals.forget_token_of_item(&token);
        }
        if !self.started.over() {
            return false;
        }
        // It counts only if the stage was cut off before this item. If only the token was tripped and
        // everything runs to its end, the outer frame must know it.
        self.signals.cut_short();
        self.signals.cut() <= self.seq.get()
    }
}

impl Current for ItemContext {
    fn token(&self) -> CancelToken {
        // Made when it is asked for: most items never ask, and pay one read of a flag.
        // One token per item: a closure that asks again gets the same one.
        if let Some(token) = &*self.token.borrow() {
            return token.clone();
        }
        // A token per item only where something ends a single item; otherwise a child of the stage's token.
        // All are children of that.
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
        self.signals.add_token_of_item(self.seq.get(), &token);
        // First listed, then checked. A failure stores the cut before it looks through the list, so either it
        // finds this token, or the cut is seen here.
        if self.is_in_vain() {
            self.signals
                .stray(token.trip(self.signals.why().unwrap_or_default()));
        }
        *self.token.borrow_mut() = Some(token.clone());
        // Read by `item_over`: from now on there is something to forget.
        self.asked.set(true);
        token
    }

    fn is_tripped(&self) -> bool {
        if let Some(token) = &*self.token.borrow() {
            return token.is_cancelled();
        }
        if self.rivals.borrow().is_some() {
            return self.token().is_cancelled();
        }
        let is_late = self.deadline.get().is_some_and(|at| at <= Instant::now());
        self.is_in_vain() || is_late || self.signals.token().is_cancelled()
    }

    fn started(&self) -> &Started {
        &self.started
    }
}
