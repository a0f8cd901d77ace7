//! An item of a [hedged](crate::ordered::copies) stage and its copy: which of them has failed, and which
//! takes care of that. It is kept in the item's chunk under its own lock. The threads that run the item or
//! its copy take it, and so does the thread that gives the item up.

use crate::cancel::Rivals;
use crate::sync::{Arc, bug};

/// What has become of the copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Sent {
    #[default]
    No,
    Yes,
    Failed,
}

/// The running item of a chunk, and its copy.
#[derive(Debug)]
pub(super) struct Attempts<I, T> {
    /// When the item was started: identifies the item.
    pub(super) since: u64,
    /// A clone of the item, until it is sent as a copy, or the item is over.
    pub(super) spare: Option<I>,
    /// The tokens of the item and of its copy, to trip that of the run that loses.
    pub(super) rivals: Option<Arc<Rivals>>,
    sent: Sent,
    /// The owner's failure, if it has left it to the copy.
    kept: Option<T>,
    /// The owner has left its failure and gone on to other work. Stays set when the failure has been taken.
    left: bool,
    /// The place belongs to another thread.
    over: bool,
}

impl<I, T> Default for Attempts<I, T> {
    fn default() -> Self {
        Attempts {
            since: 0,
            spare: None,
            rivals: None,
            sent: Sent::No,
            kept: None,
            left: false,
            over: false,
        }
    }
}

/// What must become of an owner's failure.
#[derive(Debug)]
pub(super) enum OwnerFailure<T> {
    /// The owner publishes it.
    Counts(T),
    /// The copy may still succeed, and takes care of it.
    Left,
    /// The place belongs to another thread, so it is dropped.
    Over(T),
}

impl<I, T> Attempts<I, T> {
    /// The owner is about to start an item.
    pub(super) fn begin(since: u64, spare: I, rivals: &Arc<Rivals>) -> Self {
        Attempts {
            since,
            spare: Some(spare),
            rivals: Some(Arc::clone(rivals)),
            ..Attempts::default()
        }
    }

    /// The spare has been taken, to run as the copy.
    pub(super) fn sent(&mut self) {
        self.sent = Sent::Yes;
    }

    /// The owner has failed.
    pub(super) fn failed(&mut self, what: T) -> OwnerFailure<T> {
        // Under the lock of this value, like `copy_failed`: of two that fail, the second one finds the first.
        if self.over {
            OwnerFailure::Over(what)
        } else if self.sent == Sent::Yes && !bug("failure_beats_the_copy") {
            self.kept = Some(what);
            self.left = true;
            OwnerFailure::Left
        } else {
            OwnerFailure::Counts(what)
        }
    }

    /// The owner is done with the item. Returns the spare, and whether there is a copy to notify.
    pub(super) fn end(&mut self) -> (Option<I>, bool) {
        (self.spare.take(), self.sent == Sent::Yes)
    }

    /// The copy of the item that was started at `since` has failed. Returns the failure that the owner has
    /// left to it, if it has.
    pub(super) fn copy_failed(&mut self, since: u64) -> Option<T> {
        // The owner may run another item by now, with other attempts. Or the item was given up, and nothing
        // is left to publish.
        if self.since != since || self.over {
            return None;
        }
        self.sent = Sent::Failed;
        self.kept.take()
    }

    /// The place is taken from the owner. Returns whether the owner has left, what it has left, and the
    /// tokens that must be tripped.
    pub(super) fn give_up(&mut self) -> Abandoned<T> {
        self.over = true;
        (self.left, self.kept.take(), self.rivals.clone())
    }
}

/// What `give_up` returns.
type Abandoned<T> = (bool, Option<T>, Option<Arc<Rivals>>);

#[cfg(all(test, not(loom)))]
mod tests;
