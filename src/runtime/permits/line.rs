//! Who waits for permits, and how many are free. All of it is under the lock of `Permits`.

use crate::runtime::context::Interrupt;
use crate::runtime::holds::Holds;
use crate::sync::{Arc, Unparker, bug};
use std::collections::BTreeMap;
use std::fmt;

/// A thread that waits.
#[derive(Debug)]
pub(super) struct Waiter(Unparker);

impl Waiter {
    pub(super) fn new(parker: Unparker) -> Self {
        Waiter(parker)
    }

    pub(super) fn wake(&self) {
        self.0.unpark();
    }
}

/// Without the lock, as it may take long.
pub(super) fn wake(woken: Vec<Arc<Waiter>>) {
    for waiter in woken {
        waiter.wake();
    }
}

impl Interrupt for Waiter {
    fn interrupt(&self) {
        self.wake();
    }
}

/// A place in the line.
struct Place {
    weight: usize,
    waiter: Arc<Waiter>,
    /// What the closures around the thread hold, of any permits.
    within: Holds,
}

/// The state of `Permits`.
pub(super) struct Line {
    total: usize,
    free: usize,
    /// By turn, that is, in the order in which the threads have come.
    places: BTreeMap<u64, Place>,
    next_turn: u64,
    /// What closures of limited stages hold, each by its number. Empty in release builds.
    held: BTreeMap<u64, usize>,
}

impl Line {
    pub(super) fn new(total: usize) -> Self {
        Line {
            total,
            free: total,
            places: BTreeMap::new(),
            next_turn: 0,
            held: BTreeMap::new(),
        }
    }

    pub(super) fn free(&self) -> usize {
        self.free
    }

    pub(super) fn waiting(&self) -> usize {
        self.places.len()
    }

    /// Takes permits at once, if that overtakes nobody.
    pub(super) fn take(&mut self, weight: usize) -> bool {
        let may = weight == 0 || self.places.is_empty() && weight <= self.free;
        if may {
            self.free -= weight;
        }
        may
    }

    /// Joins the end of the line. Returns the turn.
    pub(super) fn join(&mut self, weight: usize, waiter: Arc<Waiter>, within: Holds) -> u64 {
        let turn = self.next_turn;
        self.next_turn += 1;
        let place = Place {
            weight,
            waiter,
            within,
        };
        self.places.insert(turn, place);
        turn
    }

    /// Whether it is still in the line. If not, it has been handed its permits.
    pub(super) fn is_waiting(&self, turn: u64) -> bool {
        self.places.contains_key(&turn)
    }

    /// Leaves the line, or gives back what it has been handed. Returns whom to wake.
    #[must_use]
    pub(super) fn leave(&mut self, turn: u64, weight: usize) -> Vec<Arc<Waiter>> {
        if self.places.remove(&turn).is_none() && !bug("what_was_handed_over_is_lost") {
            self.free += weight;
        }
        if bug("one_that_leaves_hands_nothing_on") {
            return Vec::new();
        }
        self.hand_over()
    }

    /// Gives permits back. Returns whom to wake.
    #[must_use]
    pub(super) fn give_back(&mut self, weight: usize) -> Vec<Arc<Waiter>> {
        self.free += weight;
        debug_assert!(self.free <= self.total, "permits were given back twice");
        self.hand_over()
    }

    /// Hands permits to those at the front, as long as there are enough.
    fn hand_over(&mut self) -> Vec<Arc<Waiter>> {
        let mut woken = Vec::new();
        while let Some(first) = self.places.first_entry() {
            if first.get().weight > self.free {
                break;
            }
            let place = first.remove();
            self.free -= place.weight;
            woken.push(place.waiter);
        }
        // What was given back may have been the last that a thread could hope for. It finds that out itself.
        let mut places = self.places.values().filter(|_| !self.held.is_empty());
        let stuck = places.find(|place| self.is_stuck(place));
        woken.extend(stuck.map(|place| Arc::clone(&place.waiter)));
        woken
    }

    // ---- dead-locks, in debug builds

    /// A closure holds that many, under this number.
    pub(super) fn note(&mut self, number: u64, weight: usize) {
        self.held.insert(number, weight);
    }

    /// It is about to give them back.
    pub(super) fn forget(&mut self, number: u64) {
        self.held.remove(&number);
    }

    /// Of these permits, what the closures around a place hold.
    fn held_around<'a>(&'a self, place: &'a Place) -> impl Iterator<Item = (u64, usize)> + 'a {
        let held = |number| Some((number, *self.held.get(&number)?));
        place.within.numbers().filter_map(held)
    }

    /// Whether nothing can be handed to this place before a closure around a waiting thread returns.
    fn is_stuck(&self, place: &Place) -> bool {
        let around: usize = self.held_around(place).map(|(_, weight)| weight).sum();
        if around == 0 {
            return false;
        }
        // Each closure once, however many threads wait in it.
        let waiting = self.places.values();
        let held: BTreeMap<u64, usize> =
            waiting.flat_map(|place| self.held_around(place)).collect();
        let in_use = self.total - self.free;
        around + place.weight > self.total || held.values().sum::<usize>() == in_use
    }

    /// Why the wait with this turn cannot end, if that is known.
    pub(super) fn why_stuck(&self, turn: u64) -> Option<Stuck> {
        let place = self.places.get(&turn)?;
        self.is_stuck(place).then(|| Stuck {
            weight: place.weight,
            around: self.held_around(place).map(|(_, weight)| weight).sum(),
            total: self.total,
        })
    }
}

/// A wait that cannot end. It prints as a message to the user.
#[derive(Debug)]
pub(super) struct Stuck {
    weight: usize,
    around: usize,
    total: usize,
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stuck {
            weight,
            around,
            total,
        } = self;
        write!(
            f,
            "dead-lock of permits: a closure of a stage with `limited_by` holds {around} of {total}, and waits for \
             {weight} more in something that it has started; the others are not free, and cannot become free. Limit \
             only the innermost stage, or give each level `Permits` of its own"
        )
    }
}
