//! An item of a [hedged](crate::ordered::copies) stage and its copy: who has failed, and who takes care of
//! that. It lies in the item's run, under a lock of its own, and is taken by whoever runs the item or its
//! copy, and by whoever gives the item up.

use crate::cancel::Rivals;
use crate::sync::{Arc, bug};

/// Where the copy of the item is that a chunk's owner runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Sent {
    #[default]
    No,
    Yes,
    Failed,
}

/// The item that a chunk's owner runs, and its copy.
#[derive(Debug)]
pub(crate) struct Attempts<I, T> {
    /// When the item was started: which one this is about.
    pub(crate) since: u64,
    pub(crate) spare: Option<I>,
    pub(crate) rivals: Option<Arc<Rivals>>,
    sent: Sent,
    /// What the owner has failed with, and left.
    kept: Option<T>,
    left: bool,
    /// The place is another's.
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

/// What is to become of an owner's failure.
#[derive(Debug)]
pub(crate) enum OwnerFailure<T> {
    /// It is to be published.
    Counts(T),
    /// The copy may yet succeed, and takes care of it.
    Left,
    /// The place is another's.
    Over(T),
}

impl<I, T> Attempts<I, T> {
    /// The owner is about to start an item.
    pub(crate) fn begin(since: u64, spare: I, rivals: &Arc<Rivals>) -> Self {
        Attempts {
            since,
            spare: Some(spare),
            rivals: Some(Arc::clone(rivals)),
            ..Attempts::default()
        }
    }

    /// The spare goes to whoever runs it.
    pub(crate) fn sent(&mut self) {
        self.sent = Sent::Yes;
    }

    /// The owner has failed.
    pub(crate) fn failed(&mut self, what: T) -> OwnerFailure<T> {
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

    /// The owner is done: its spare, and whether there is a copy to be told.
    pub(crate) fn end(&mut self) -> (Option<I>, bool) {
        (self.spare.take(), self.sent == Sent::Yes)
    }

    /// The copy of the item that was started then has failed: what the owner has left to it.
    pub(crate) fn copy_failed(&mut self, since: u64) -> Option<T> {
        if self.since != since || self.over {
            return None;
        }
        self.sent = Sent::Failed;
        self.kept.take()
    }

    /// The place is taken from the owner: whether that has left, what it has left, and whose tokens are
    /// to be tripped.
    pub(crate) fn give_up(&mut self) -> Abandoned<T> {
        self.over = true;
        (self.left, self.kept.take(), self.rivals.clone())
    }
}

type Abandoned<T> = (bool, Option<T>, Option<Arc<Rivals>>);

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn race() -> Attempts<u8, &'static str> {
        let mut race = Attempts::begin(7, 1, &Arc::default());
        race.sent();
        race
    }

    #[test]
    fn a_copy_that_fails_takes_care_of_what_the_owner_has_left() {
        let mut race = race();
        assert!(matches!(race.failed("owner"), OwnerFailure::Left));
        assert_eq!(race.copy_failed(6), None, "of an item before");
        assert_eq!(race.copy_failed(7), Some("owner"));
        assert_eq!(race.copy_failed(7), None, "once");
    }

    #[test]
    fn an_owner_that_fails_after_its_copy_counts() {
        let mut race = race();
        assert_eq!(race.copy_failed(6), None);
        assert!(matches!(race.failed("owner"), OwnerFailure::Left));
        let mut race = self::race();
        assert_eq!(race.copy_failed(7), None);
        assert!(matches!(
            race.failed("owner"),
            OwnerFailure::Counts("owner")
        ));
    }

    #[test]
    fn what_comes_after_the_place_was_taken_is_over() {
        let mut race = race();
        race.give_up();
        assert!(matches!(race.failed("owner"), OwnerFailure::Over("owner")));
        assert_eq!(race.copy_failed(7), None);
    }
}
