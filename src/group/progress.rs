//! How far a group is, whatever its tasks return.

use crate::cancel::CancelToken;
use crate::error::Cancelled;
use crate::sync::{Condvar, Mutex, MutexGuard};
use crate::unwind::{self, Payload};

/// See the head of this file.
pub(super) struct Progress {
    limit: usize,
    token: CancelToken,
    state: Mutex<ProgressState>,
    /// Notified when a task has ended, or none is to be started any more.
    room: Condvar,
}

#[derive(Default)]
pub(super) struct ProgressState {
    pub(super) spawned: usize,
    pub(super) running: usize,
    failed: bool,
    /// Something in a task was cut short.
    pub(super) cut: bool,
    pub(super) panic: Option<Payload>,
}

/// Whether a task may start.
pub(super) enum Start {
    /// It is the one with this number, and counts as running from now on.
    Now(usize),
    /// So many run already.
    Full,
    /// No task is started any more.
    Never,
}

impl Progress {
    pub(super) fn new(limit: usize, token: CancelToken) -> Self {
        Progress {
            limit,
            token,
            state: Mutex::default(),
            room: Condvar::new(),
        }
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn token(&self) -> &CancelToken {
        &self.token
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, ProgressState> {
        self.state.lock()
    }

    /// Starts a task, if there is room. `waits`: until there is.
    pub(super) fn start(&self, waits: bool) -> Start {
        let mut state = self.state.lock();
        while state.running >= self.limit && !state.failed {
            if !waits {
                return Start::Full;
            }
            state = self.room.wait(state);
        }
        if state.failed {
            return Start::Never;
        }
        state.running += 1;
        state.spawned += 1;
        Start::Now(state.spawned - 1)
    }

    /// A task has ended. `failed`: no further one is to start. `record` is called in the same critical
    /// section.
    pub(super) fn end(&self, failed: bool, cut: bool, record: impl FnOnce()) {
        let mut state = self.state.lock();
        record();
        state.running -= 1;
        state.failed |= failed;
        state.cut |= cut;
        drop(state);
        self.room.notify_all();
        if failed {
            self.trip(Cancelled::default());
        }
    }

    /// Something has panicked: the first payload is kept.
    pub(super) fn keep(&self, panic: Option<Payload>) {
        let lost = unwind::keep(&mut self.state.lock().panic, panic);
        lost.into_iter().for_each(unwind::bury); // not under the lock
    }

    /// The same, where no task ends by it.
    pub(super) fn fail(&self, panic: Payload) {
        self.keep(Some(panic));
        self.state.lock().failed = true;
        self.room.notify_all();
        self.trip(Cancelled::default());
    }

    /// Trips the group's token. A hook of the user may panic.
    fn trip(&self, why: Cancelled) {
        self.keep(self.token.trip(why));
    }
}
