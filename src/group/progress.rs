//! How far a group is. It knows neither its tasks' types nor its errors', so a hook on a token can hold it.

use crate::cancel::CancelToken;
use crate::error::Cancelled;
use crate::sync::{Condvar, Mutex, MutexGuard};
use crate::unwind::{self, Payload};

/// See the head of this file.
pub(super) struct Progress {
    limit: usize,
    token: CancelToken,
    /// When one of these is tripped, no further task is started.
    stops: Vec<CancelToken>,
    state: Mutex<ProgressState>,
    /// Notified when a task has ended, or none is to be started any more.
    room: Condvar,
}

#[derive(Default)]
pub(super) struct ProgressState {
    pub(super) spawned: usize,
    pub(super) running: usize,
    failed: bool,
    /// A task was not run because of `stops`.
    skipped: bool,
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
    pub(super) fn new(limit: usize, token: CancelToken, stops: Vec<CancelToken>) -> Self {
        Progress {
            limit,
            token,
            stops,
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

    pub(super) fn stops(&self) -> &[CancelToken] {
        &self.stops
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, ProgressState> {
        self.state.lock()
    }

    fn is_over(&self, state: &ProgressState) -> bool {
        state.failed || self.stops.iter().any(CancelToken::is_cancelled)
    }

    /// Starts a task, if there is room. `waits`: until there is.
    pub(super) fn start(&self, waits: bool) -> Start {
        let mut state = self.state.lock();
        while state.running >= self.limit && !self.is_over(&state) {
            if !waits {
                return Start::Full;
            }
            state = self.room.wait(state);
        }
        if self.is_over(&state) {
            state.skipped |= !state.failed;
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

    /// One of `stops` has been tripped.
    pub(super) fn stop(&self, why: Cancelled) {
        self.trip(why);
        // Taken and released: a thread that waits for room has not looked at the token yet, or is notified.
        drop(self.state.lock());
        self.room.notify_all();
    }

    /// Why not everything was done although no task has failed.
    pub(super) fn incomplete(&self) -> Option<Cancelled> {
        let state = self.state.lock();
        if !state.skipped && !state.cut {
            return None;
        }
        self.stops.iter().find_map(|stop| stop.check().err())
    }
}
