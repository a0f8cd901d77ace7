//! The width of a keyed stage that is set while the stage runs: the exchange run / recall of `README.md`.

use crate::keyed::intake::Lanes;
use crate::keyed::shared::{KeyedStage, StateGuard, StateOf};
use crate::par::job::Job;
use crate::runtime::roster::Wake;
use crate::runtime::width::SharedWidth;
use crate::sync::{Arc, Instant, Ordering};

impl<Q, J> KeyedStage<Q, J>
where
    Q: Lanes<Item: Send> + Send,
    J: Job<Q::Item>,
{
    /// Sets the width, and returns which thread is to be woken for it. Each thread that comes calls the next.
    pub(super) fn resize(&self, state: &mut StateOf<Q, J>, width: usize) -> Wake {
        state.width = width;
        self.cost.resize(width);
        (self.meter).note(|meter| meter.resize(Instant::now(), width, self.cost.bound()));
        self.settle_recall(state);
        // The default bound may have grown too. A thread that waits for room is called like any other, and asks again if
        // there is none.
        self.held.answer();
        self.call(state)
    }

    /// Worker, between two steps: sets the width if that finds itself, and another one is due. Without the lock for a
    /// moment then.
    pub(super) fn steer<'a>(
        self: &'a Arc<Self>,
        mut state: StateGuard<'a, Q, J>,
    ) -> StateGuard<'a, Q, J> {
        let is_over = state.ended || self.control.is_stopped();
        let Some(helm) = &mut state.helm else {
            return state;
        };
        let Some(width) = helm.look(&self.meter, is_over) else {
            return state;
        };
        let wake = self.resize(&mut state, width);
        drop(state);
        self.act(wake);
        // A consumer that pulls may have slept because the bound was full.
        self.control.notify();
        self.state.lock()
    }

    /// Whether closures that have begun must end before another one may begin. Called under the lock whenever one of the
    /// two numbers has changed.
    pub(super) fn settle_recall(&self, state: &StateOf<Q, J>) {
        // Relaxed: only a hint for those that are in a turn. Whether a closure may begin is decided under the lock, and
        // one that a worker begins before it sees this has been taken before.
        let too_many = state.running > state.width;
        self.recalls.store(too_many, Ordering::Relaxed);
    }

    /// From now on the stage follows its handles. `width`: what it has.
    pub(super) fn follow(self: &Arc<Self>, handles: &Arc<SharedWidth>, width: usize) {
        let (shared, again) = (Arc::clone(self), Arc::clone(handles));
        let task = self.leases.prepare(move || {
            let width = again.get();
            let mut state = shared.state.lock();
            let wake = shared.resize(&mut state, width);
            drop(state);
            // Before the wake-up, which may start a thread: others that set the width wait for this.
            shared.follow(&again, width);
            shared.act(wake);
            // A consumer that pulls may have slept because the bound was full.
            shared.control.notify();
        });
        handles.arm(task, width);
    }
}
