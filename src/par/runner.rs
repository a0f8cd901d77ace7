//! Runs a job on one thread.

use crate::par::job::Job;
use crate::unwind::{self, Payload, catch};

/// A job and its state on one thread, which is made at the first item.
pub(crate) struct JobRunner<'a, J, T> {
    pub(crate) job: &'a J,
    pub(crate) state: Option<T>,
    /// Its state could not be made when it was last tried.
    pub(crate) lacks_state: bool,
}

impl<'a, J, T> JobRunner<'a, J, T> {
    pub(crate) fn new(job: &'a J) -> Self {
        JobRunner {
            job,
            state: None,
            lacks_state: false,
        }
    }

    /// Runs one item. The flag is `true` if nothing after this item counts.
    pub(crate) fn run_one<I>(&mut self, item: I) -> Result<(J::Batch, bool), Payload>
    where
        J: Job<I, State = T>,
    {
        let (job, state) = (self.job, &mut self.state);
        catch(|| job.run(state.get_or_insert_with(|| job.state()), item))
    }

    /// Drops the state and returns the panic, if that panics.
    pub(crate) fn drop_state(&mut self) -> Option<Payload> {
        unwind::discard(self.state.take())
    }
}
