//! The width of a stage that is set while the stage runs: what its handles and the stage share.
//!
//! A handle outlives the stage, and the stage may borrow. So a handle does not have the stage, but a task of it
//! ([`LeasedTask`]), which counts as a thread of the stage: the join waits until the task is gone. Whoever sets the width
//! takes the task and runs it on its own thread. The task applies the width, and then leaves the next task here.
//!
//! | the task is | [`set`](SharedWidth::set) | until |
//! | --- | --- | --- |
//! | not made yet | stores the width, with which the stage will begin | the stage has begun ([`arm`](SharedWidth::arm)) |
//! | here | stores the width, takes the task, and runs it without this lock | |
//! | being run | waits until it is here again: no longer than the scheduler's lock is held | the task [leaves the next one](SharedWidth::arm) |
//! | no longer wanted: the stage is over | does nothing | |
//!
//! The stage's end drops the task ([`close`](SharedWidth::close)), and so does a task that is being run meanwhile. So a
//! join that has closed this waits for no handle, except for one that applies a width at that moment.

use crate::runtime::pool::LeasedTask;
use crate::sync::{Arc, Condvar, Mutex};

/// See the head of this file.
pub(crate) struct SharedWidth {
    state: Mutex<State>,
    /// The task is here again, or will not come any more.
    back: Condvar,
}

struct State {
    width: usize,
    task: Task,
}

enum Task {
    NotMade,
    Here(LeasedTask),
    Runs,
    Over,
}

impl std::fmt::Debug for SharedWidth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedWidth")
            .field("width", &self.get())
            .finish_non_exhaustive()
    }
}

impl SharedWidth {
    pub(crate) fn new(width: usize) -> Arc<Self> {
        Arc::new(SharedWidth {
            state: Mutex::new(State {
                width,
                task: Task::NotMade,
            }),
            back: Condvar::new(),
        })
    }

    pub(crate) fn get(&self) -> usize {
        self.state.lock().width
    }

    /// Handle: sets the width. When this returns, it is in force.
    pub(crate) fn set(&self, width: usize) {
        let mut state = self.state.lock();
        while matches!(state.task, Task::Runs) {
            state = self.back.wait(state);
        }
        match std::mem::replace(&mut state.task, Task::Runs) {
            Task::Here(task) => {
                state.width = width;
                drop(state);
                task.run();
            }
            Task::NotMade => {
                state.width = width;
                state.task = Task::NotMade;
            }
            Task::Runs | Task::Over => state.task = Task::Over,
        }
    }

    /// Stage: leaves a task that applies the width. `applied`: the one that the stage has now. If another was set while
    /// the stage began, the task is run at once.
    pub(crate) fn arm(&self, task: LeasedTask, applied: usize) {
        let mut state = self.state.lock();
        if matches!(state.task, Task::Over) {
            // Its drop takes the last lock of the join, so not under this one.
            drop(state);
            drop(task);
        } else if state.width == applied {
            state.task = Task::Here(task);
            drop(state);
            self.back.notify_all();
        } else {
            state.task = Task::Runs;
            drop(state);
            task.run();
        }
    }

    /// Stage: it is over. Drops the task, or has it dropped by the thread that runs it.
    pub(crate) fn close(&self) {
        let task = std::mem::replace(&mut self.state.lock().task, Task::Over);
        self.back.notify_all();
        drop(task);
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
