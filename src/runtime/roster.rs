//! The threads of a stage: how many there are, which of them sleep, and how one is called. A part of the state that a
//! scheduler has under its lock.
//!
//! A thread falls asleep under that lock, after a look at everything that could be its work. Whoever makes work takes
//! the lock afterwards and asks for a [`Wake`]. So either the thread's look sees the work, or the caller sees the
//! sleeper. The wake-up itself comes after the lock: to wake and to lease a thread takes long.

use crate::sync::Unparker;

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Roster {
    sleepers: Vec<usize>,
    /// Of each thread; `None`: it is being started.
    parkers: Vec<Option<Unparker>>,
    threads: usize,
    can_grow: bool,
}

/// What a waker has to do once it has released the lock.
#[derive(Debug)]
#[must_use]
pub(crate) enum Wake {
    Nobody,
    Unpark(Unparker),
    /// To start a thread of this number.
    Lease(usize),
}

impl Roster {
    pub(crate) const fn new() -> Self {
        Roster {
            sleepers: Vec::new(),
            parkers: Vec::new(),
            threads: 0,
            can_grow: true,
        }
    }

    // ---- who is there

    /// How many threads there are.
    pub(crate) fn len(&self) -> usize {
        self.threads
    }

    pub(crate) fn can_grow(&self) -> bool {
        self.can_grow
    }

    /// Whether there is no thread, nor will there be one: the consumer has to do all by itself.
    pub(crate) fn is_nobody(&self) -> bool {
        self.threads == 0 && !self.can_grow
    }

    pub(crate) fn is_anybody_asleep(&self) -> bool {
        !self.sleepers.is_empty()
    }

    // ---- to call one

    /// Takes a sleeper off the list.
    pub(crate) fn pop_sleeper(&mut self) -> Option<(usize, Wake)> {
        let sleeper = self.sleepers.pop()?;
        Some((sleeper, self.unpark(sleeper)))
    }

    pub(crate) fn unpark(&self, thread: usize) -> Wake {
        match &self.parkers[thread] {
            Some(parker) => Wake::Unpark(parker.clone()),
            // Being started: it will look around first.
            None => Wake::Nobody,
        }
    }

    /// Adds a thread, if there are fewer than `most`.
    pub(crate) fn grow(&mut self, most: usize) -> Wake {
        if !self.can_grow || self.threads >= most {
            return Wake::Nobody;
        }
        Wake::Lease(self.enlist())
    }

    /// Counts a thread among the stage's, which need not be leased: the consumer's may take part.
    pub(crate) fn enlist(&mut self) -> usize {
        self.parkers.push(None);
        self.threads += 1;
        self.parkers.len() - 1
    }

    /// No thread could be started: the stage goes on with those it has.
    pub(crate) fn lease_failed(&mut self) {
        self.can_grow = false;
        self.threads -= 1;
    }

    // ---- a thread of its own

    pub(crate) fn register(&mut self, thread: usize, parker: Unparker) {
        self.parkers[thread] = Some(parker);
    }

    pub(crate) fn fall_asleep(&mut self, thread: usize) {
        self.sleepers.push(thread);
    }

    /// After a park. `false`: whoever woke the thread has taken it off the list.
    pub(crate) fn woke_up(&mut self, thread: usize) -> bool {
        let place = self.sleepers.iter().position(|sleeper| *sleeper == thread);
        place.is_some_and(|place| self.sleepers.swap_remove(place) == thread)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::{Roster, Wake};
    use crate::sync::Parker;

    fn parked(threads: usize) -> Roster {
        let mut roster = Roster::new();
        for thread in 0..threads {
            assert_eq!(roster.enlist(), thread);
            roster.register(thread, Parker::new().unparker().clone());
            roster.fall_asleep(thread);
        }
        roster
    }

    #[test]
    fn a_thread_that_woke_up_by_itself_is_no_sleeper_any_more() {
        let mut roster = parked(3);
        assert!(roster.woke_up(1), "nobody has taken it off");
        assert!(!roster.woke_up(1));
        let left: Vec<_> =
            std::iter::from_fn(|| roster.pop_sleeper().map(|(thread, _)| thread)).collect();
        assert_eq!(left, [2, 0]);
        assert!(!roster.is_anybody_asleep() && !roster.woke_up(0));
    }

    #[test]
    fn a_thread_that_is_being_started_is_not_woken() {
        let mut roster = Roster::new();
        assert!(matches!(roster.grow(1), Wake::Lease(0)));
        assert!(matches!(roster.unpark(0), Wake::Nobody));
        roster.register(0, Parker::new().unparker().clone());
        assert!(matches!(roster.unpark(0), Wake::Unpark(_)));
    }

    #[test]
    fn it_grows_to_its_limit_or_until_no_thread_can_be_had() {
        let mut roster = Roster::new();
        assert!(matches!(roster.grow(0), Wake::Nobody));
        assert!(matches!(roster.grow(2), Wake::Lease(0)));
        assert!(matches!(roster.grow(2), Wake::Lease(1)));
        assert!(matches!(roster.grow(2), Wake::Nobody));
        roster.lease_failed();
        assert!(matches!(roster.grow(9), Wake::Nobody));
        assert_eq!((roster.len(), roster.is_nobody()), (1, false));
        roster.lease_failed();
        assert!(roster.is_nobody());
    }
}
