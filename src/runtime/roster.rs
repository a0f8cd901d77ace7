//! The threads of a stage: how many there are, which of them sleep, and how one of them is woken. A part of
//! the state that a scheduler keeps under its lock.
//!
//! A thread falls asleep under that lock, after it has checked everything that could be its work. A thread
//! that creates work takes the lock afterwards and asks for a [`Wake`]. So either the sleeper's check finds
//! the work, or the waker finds the sleeper. This is the idle / wake handshake of `ordered/README.md`, and
//! sleep / wake of `keyed/README.md`.
//!
//! The waker acts on the [`Wake`] after it has released the lock, because waking or leasing a thread takes
//! long.

use crate::sync::Unparker;

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Roster {
    /// A stack: the thread that fell asleep last is woken first.
    sleepers: Vec<usize>,
    /// One per thread. `None`: the thread is being started, and has not registered yet.
    parkers: Vec<Option<Unparker>>,
    /// How many exist or are being started. `parkers` is longer if a lease has failed.
    threads: usize,
    /// `false` once a lease has failed: then no further thread is asked for.
    can_grow: bool,
    /// A thread has been [called](Self::call), and has not arrived yet.
    coming: bool,
    /// How many threads look around briefly before they sleep.
    looking: usize,
}

/// What a waker has to do once it has released the lock.
#[derive(Debug)]
#[must_use]
pub(crate) enum Wake {
    Nobody,
    Unpark(Unparker),
    /// Starts the thread with this number.
    Lease(usize),
}

impl Wake {
    /// Does it, without the lock. If no thread can be leased, the existing ones must do, or the consumer, if there are
    /// none; `failed` notes that, and says whom to wake instead: a thread may have fallen asleep meanwhile.
    pub(crate) fn act(mut self, lease: impl Fn(usize) -> bool, failed: impl Fn() -> Wake) {
        while let Wake::Lease(thread) = self {
            if lease(thread) {
                return;
            }
            self = failed();
        }
        if let Wake::Unpark(sleeper) = self {
            sleeper.unpark();
        }
    }
}

impl Roster {
    pub(crate) const fn new() -> Self {
        Roster {
            sleepers: Vec::new(),
            parkers: Vec::new(),
            threads: 0,
            can_grow: true,
            coming: false,
            looking: 0,
        }
    }

    // ---- which threads there are

    /// How many threads there are.
    pub(crate) fn len(&self) -> usize {
        self.threads
    }

    /// How many of them do not sleep, or are being started.
    pub(crate) fn awake(&self) -> usize {
        self.threads - self.sleepers.len()
    }

    /// Whether a thread may still be leased, as far as is known.
    pub(crate) fn can_grow(&self) -> bool {
        self.can_grow
    }

    /// Whether there is no thread and there never will be one: the consumer has to do all the work itself.
    pub(crate) fn is_nobody(&self) -> bool {
        self.threads == 0 && !self.can_grow
    }

    /// Whether a thread is on the list. A watcher of `ordered` naps, and is not.
    pub(crate) fn is_anybody_asleep(&self) -> bool {
        !self.sleepers.is_empty()
    }

    // ---- to call one thread after another: each that arrives calls the next if there is more to do

    /// Whether a thread is on its way, or still looks around: it will call the next if it finds more work than it can
    /// do.
    pub(crate) fn is_anybody_coming(&self) -> bool {
        self.coming || self.looking > 0
    }

    /// There is something to do for another thread. Wakes one, or leases one if fewer than `most` exist; with
    /// 0, only a sleeping one is woken.
    pub(crate) fn call(&mut self, most: usize) -> Wake {
        let wake = match self.pop_sleeper() {
            Some((_, wake)) => wake,
            None => self.grow(most),
        };
        // Cleared when that thread arrives, in `register` or `woke_up`, or if it cannot be leased.
        self.coming |= !matches!(wake, Wake::Nobody);
        wake
    }

    /// A thread looks around until it has found something, or falls asleep.
    pub(crate) fn begin_look(&mut self) {
        self.looking += 1;
    }

    pub(crate) fn end_look(&mut self) {
        self.looking -= 1;
    }

    // ---- to wake a thread

    /// Takes a sleeper off the list. The caller must act on the [`Wake`], because no other thread will find
    /// this sleeper again.
    pub(crate) fn pop_sleeper(&mut self) -> Option<(usize, Wake)> {
        let sleeper = self.sleepers.pop()?;
        Some((sleeper, self.unpark(sleeper)))
    }

    /// How to wake this thread, whether it is on the list or not.
    pub(crate) fn unpark(&self, thread: usize) -> Wake {
        match &self.parkers[thread] {
            Some(parker) => Wake::Unpark(parker.clone()),
            // It is being started, and looks for work before its first sleep: that look finds what it would
            // be woken for.
            None => Wake::Nobody,
        }
    }

    /// Adds a thread, if there are fewer than `most`.
    pub(crate) fn grow(&mut self, most: usize) -> Wake {
        if !self.can_grow || self.threads >= most {
            return Wake::Nobody;
        }
        // It counts from now on, before it exists, so that later wakers keep to the limit too.
        Wake::Lease(self.enlist())
    }

    /// Counts a thread among the stage's threads. It need not be a leased one: the consumer's thread may take
    /// part.
    pub(crate) fn enlist(&mut self) -> usize {
        self.parkers.push(None);
        self.threads += 1;
        self.parkers.len() - 1
    }

    /// No thread could be started: the stage continues with the threads it has. The number of the missing
    /// thread is not used again.
    pub(crate) fn lease_failed(&mut self) {
        self.can_grow = false;
        self.threads -= 1;
        // It was noted as on its way, and no thread would ever be called again.
        self.coming = false;
    }

    // ---- what a thread does for itself

    /// The thread has arrived, and can be woken from now on.
    pub(crate) fn register(&mut self, thread: usize, parker: Unparker) {
        self.parkers[thread] = Some(parker);
        // From now on it calls the next thread itself.
        self.coming = false;
    }

    /// Puts the thread on the list, in the critical section of its last look. It parks after the lock is
    /// released; a wake-up in between is kept by its parker.
    pub(crate) fn fall_asleep(&mut self, thread: usize) {
        self.sleepers.push(thread);
    }

    /// Called after a park. `false`: the waker has already taken the thread off the list, and it has arrived now.
    pub(crate) fn woke_up(&mut self, thread: usize) -> bool {
        // A thread also wakes by itself, when its nap is over or when the stage stops. Then it is still on
        // the list, and must not stay there: a waker would choose it, and the threads that do sleep would not
        // be woken.
        let place = self.sleepers.iter().position(|sleeper| *sleeper == thread);
        let by_itself = place.is_some_and(|place| self.sleepers.swap_remove(place) == thread);
        self.coming &= by_itself;
        by_itself
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
