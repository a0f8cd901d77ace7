//! The value of a task, on its way from the thread of the task to whoever has the handle.

use crate::sync::{Arc, Condvar, Mutex, bug};
use std::fmt;

/// A task of a [`Group`](crate::Group), made by [`spawn`](crate::Group::spawn): gives the task's value.
///
/// It need not be kept: a task whose handle is dropped runs on, and its value is dropped when it is there. It may
/// leave the group's closure, as a part of what that returns. When the group has returned `Ok`, every task has
/// succeeded, so every handle has a value.
///
/// # Examples
///
/// ```
/// let tasks: Result<_, std::num::ParseIntError> = fanfold::group(2, |g| {
///     (g.spawn(|| "7".parse::<u32>()), g.spawn(|| Ok("seven".to_owned())))
/// });
/// let (number, text) = tasks.unwrap();
/// assert_eq!((number.join(), text.join()), (Some(7), Some("seven".to_owned())));
/// ```
#[doc(alias("JoinHandle", "ScopedJoinHandle", "ResultPool", "try_join", "future"))]
pub struct Task<T>(Arc<TaskValue<T>>);

impl<T> Task<T> {
    /// Waits until the task has ended, and returns its value. `None`: it has failed or panicked, which the
    /// group reports; or the group had failed before it was started.
    ///
    /// In the group's closure, and in another task of the group, it may have to wait; after the group never.
    /// A task that joins itself waits forever.
    ///
    /// # Examples
    ///
    /// ```
    /// let sum: Result<Option<u32>, ()> = fanfold::group(3, |g| {
    ///     let halves = [g.spawn(|| Ok((1..=50).sum::<u32>())), g.spawn(|| Ok((51..=100).sum()))];
    ///     let sum = g.spawn(|| Ok(halves.into_iter().filter_map(|half| half.join()).sum()));
    ///     sum.join()
    /// });
    /// assert_eq!(sum, Ok(Some(5_050)));
    /// ```
    pub fn join(self) -> Option<T> {
        self.0.wait()
    }

    /// Whether the task has ended, so that [`join`](Self::join) returns at once.
    pub fn is_finished(&self) -> bool {
        !matches!(*self.0.state.lock(), TaskState::Runs)
    }
}

impl<T> fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task")
            .field("is_finished", &self.is_finished())
            .finish()
    }
}

/// The task's end of the [`Task`]. Its drop is the end of a task that was never run.
pub(super) struct TaskEnd<T>(Arc<TaskValue<T>>);

struct TaskValue<T> {
    state: Mutex<TaskState<T>>,
    /// Notified when the task has ended.
    ended: Condvar,
}

enum TaskState<T> {
    Runs,
    Done(T),
    /// Without a value, or it has been taken.
    Ended,
}

pub(super) fn task<T>() -> (Task<T>, TaskEnd<T>) {
    let value = Arc::new(TaskValue {
        state: Mutex::new(TaskState::Runs),
        ended: Condvar::new(),
    });
    (Task(Arc::clone(&value)), TaskEnd(value))
}

impl<T> TaskValue<T> {
    fn set(&self, state: TaskState<T>) {
        *self.state.lock() = state;
        if !bug("ends_unannounced") {
            self.ended.notify_all();
        }
    }

    fn wait(&self) -> Option<T> {
        let mut state = self.state.lock();
        loop {
            match std::mem::replace(&mut *state, TaskState::Ended) {
                TaskState::Done(value) => return Some(value),
                TaskState::Ended => return None,
                TaskState::Runs => {
                    *state = TaskState::Runs;
                    state = self.ended.wait(state);
                }
            }
        }
    }
}

impl<T> TaskEnd<T> {
    /// The task has ended, with this value or without one. Drops the value if the handle is gone.
    pub(super) fn give(self, value: Option<T>) {
        self.0.set(value.map_or(TaskState::Ended, TaskState::Done));
    }
}

impl<T> Drop for TaskEnd<T> {
    fn drop(&mut self) {
        if matches!(*self.0.state.lock(), TaskState::Runs) {
            self.0.set(TaskState::Ended);
        }
    }
}

#[cfg(all(test, loom))]
mod models;
