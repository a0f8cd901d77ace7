//! The room: how many items are in flight, and who waits for fewer.

use crate::sync::{AtomicUsize, Ordering, bug};

/// In `held`: somebody waits for room.
const WAITING: usize = 1 << (usize::BITS - 1);

/// How many items are admitted and not yet yielded, and whether somebody waits for room.
#[derive(Debug, Default)]
pub(super) struct InFlight(AtomicUsize);

impl InFlight {
    pub(super) fn count(&self) -> usize {
        self.0.load(Ordering::Acquire) & !WAITING
    }

    pub(super) fn add(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }

    /// How many are left, and whether somebody waits for room.
    pub(super) fn sub(&self, count: usize) -> (usize, bool) {
        let before = self.0.fetch_sub(count, Ordering::AcqRel);
        ((before & !WAITING) - count, before & WAITING != 0)
    }

    /// Asks for room below `bound`. Whether there is room after all, so that nobody has to wait.
    pub(super) fn ask(&self, bound: usize) -> bool {
        let is_room = self.0.fetch_or(WAITING, Ordering::AcqRel) & !WAITING < bound;
        // A planted bug, which a model must catch: what came in between is overlooked.
        let is_room = is_room && !bug("no_second_look_for_room");
        if is_room {
            self.answer();
        }
        is_room
    }

    pub(super) fn is_anybody_waiting(&self) -> bool {
        self.0.load(Ordering::Acquire) & WAITING != 0
    }

    /// Who waits is called, or somebody who is awake will do it.
    pub(super) fn answer(&self) {
        self.0.fetch_and(!WAITING, Ordering::AcqRel);
    }
}
