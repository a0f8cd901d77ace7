//! A counter of items, with a bit that says whether a thread waits for it to fall.
//!
//! | side | does | sees in the old value |
//! | --- | --- | --- |
//! | a thread without room | sets the bit ([`wait`](Gauge::wait)), and then sleeps | whether there is room after all |
//! | a thread that takes items away | subtracts ([`sub`](Gauge::sub), [`take_one`](Gauge::take_one)) | whether the bit was set |
//!
//! Each side is one operation on the same word. So one of the two comes first, the other sees it, and no
//! sleeper is forgotten. This is the exchange ask / sub of `keyed/README.md` and park / room of
//! `fan_in/README.md`.

use crate::sync::{AtomicUsize, Ordering, bug};

/// The bit: a thread waits.
const WAITING: usize = 1 << (usize::BITS - 1);

/// The count, and the bit above it.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicUsize);

impl Gauge {
    /// How many items are counted. Acquire, with the `AcqRel` of every change: `fan_in` adds after it has
    /// pushed, so a thread that counts an item finds it in the queue.
    #[inline]
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::Acquire) & !WAITING
    }

    /// Adds one. Returns the count before that.
    #[inline]
    pub(crate) fn add(&self) -> usize {
        self.0.fetch_add(1, Ordering::AcqRel) & !WAITING
    }

    /// Subtracts no more than is counted: more would borrow from the bit. Returns how many are left, and
    /// whether a thread waits.
    #[inline]
    pub(crate) fn sub(&self, count: usize) -> (usize, bool) {
        // One operation for both: the bit is read in the moment of the subtraction. If `wait` comes later, it
        // sees the lower count.
        let before = self.0.fetch_sub(count, Ordering::AcqRel);
        ((before & !WAITING) - count, before & WAITING != 0)
    }

    /// Subtracts one if there is one. Returns how many are left then, and whether a thread waits.
    pub(crate) fn take_one(&self) -> Option<(usize, bool)> {
        // A loop with compare-and-exchange: a plain subtraction at 0 would borrow from the bit.
        let one_less = |word: usize| (word & !WAITING > 0).then(|| word - 1);
        let order = (Ordering::AcqRel, Ordering::Acquire);
        let before = self.0.fetch_update(order.0, order.1, one_less).ok()?;
        Some(((before & !WAITING) - 1, before & WAITING != 0))
    }

    /// Sets the bit. Returns the count in that moment, which is the waiter's second look for room.
    pub(crate) fn wait(&self) -> usize {
        self.0.fetch_or(WAITING, Ordering::AcqRel) & !WAITING
    }

    /// Waits for the count to fall below `bound`. `true`: it is below already, and the thread need not wait.
    pub(crate) fn ask(&self, bound: usize) -> bool {
        // A planted bug, which a model must catch: a change between the caller's look and this is overlooked.
        let is_room = self.wait() < bound && !bug("no_second_look_for_room");
        // The bit was set for nothing, and would cost the consumer a wake-up. If another thread waits too,
        // the bit was also its own: this thread is awake, finds the room, and calls the other if there is
        // more.
        if is_room {
            self.answer();
        }
        is_room
    }

    #[inline]
    pub(crate) fn is_anybody_waiting(&self) -> bool {
        self.0.load(Ordering::Acquire) & WAITING != 0
    }

    /// Clears the bit: the waiter is being woken, or a thread that is awake does its work. One bit stands for
    /// all waiters; one that is woken and finds no room sets it again.
    pub(crate) fn answer(&self) {
        self.0.fetch_and(!WAITING, Ordering::AcqRel);
    }
}

#[cfg(all(test, not(loom)))]
mod tests;

#[cfg(all(test, loom))]
mod models;
