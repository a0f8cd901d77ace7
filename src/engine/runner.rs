//! The side of the job: a thread's state of it, and the loop over the items of a run.

use crate::engine::ctl::Here;
use crate::engine::job::Job;
use crate::engine::run::{Claim, Odd, Owning};
use crate::engine::sched::{Runner, Sched};
use crate::engine::unwind::{self, Payload, catch};

/// A job as one thread runs it.
pub(crate) struct JobRunner<'a, J, T> {
    job: &'a J,
    state: Option<T>,
}

impl<'a, J, T> JobRunner<'a, J, T> {
    pub(crate) fn new(job: &'a J) -> Self {
        JobRunner { job, state: None }
    }

    /// Runs up to `count` items. What does not change meanwhile is in local variables, as the
    /// barriers would have anything else loaded anew for each item; and the loop is a function by
    /// itself, for the sake of its registers.
    #[inline(never)]
    fn loop_over<I>(
        &mut self,
        sched: &Sched<I, J::Batch>,
        run: &mut Owning<I, J::Batch>,
        here: &Here,
        count: usize,
    ) -> Claim
    where
        J: Job<I, State = T>,
    {
        let (ctl, job) = (&*sched.ctl, self.job);
        let first = run.first();
        while run.seq() >= ctl.cut() {
            ctl.stray(unwind::discard(run.hand().0.take()));
            if sched.publish(run, Err(Odd::Discarded)) == Claim::Contested {
                return Claim::Contested;
            }
        }
        let (mut hand, arrival) = run.hand();
        let stop = hand.index().saturating_add(count);
        let mut arrives = arrival.is_some();
        let mut item = hand.take();
        // Made where its panic is that of the item, which is dropped by it.
        let state = self.state.get_or_insert_with(|| job.state());
        loop {
            let seq = first + hand.index() as u64;
            here.set_seq(seq);
            let (batch, last) = job.run(state, item);
            let in_vain = here.item_over();
            if last {
                ctl.fail(seq);
                break sched.publish(run, Err(Odd::Last(batch)));
            }
            if in_vain {
                ctl.stray(unwind::discard(batch));
                break sched.publish(run, Err(Odd::Discarded));
            }
            if arrives {
                sched.arrive(arrival);
                arrives = false;
            }
            let claim = hand.publish(batch);
            if claim == Claim::Contested || hand.index() == stop {
                ctl.published(seq);
                break claim;
            }
            if ctl.is_alarmed(seq + 1) {
                ctl.published(seq);
                if ctl.cut() <= seq + 1 {
                    break claim; // what lies past a cut is dealt with where this begins
                }
            }
            item = hand.take();
        }
    }
}

impl<I, J: Job<I>> Runner<I, J::Batch> for JobRunner<'_, J, J::State> {
    fn run_items(
        &mut self,
        sched: &Sched<I, J::Batch>,
        run: &mut Owning<I, J::Batch>,
        here: &Here,
        count: usize,
    ) -> Result<Claim, Payload> {
        catch(|| self.loop_over(sched, run, here, count))
    }

    fn run(&mut self, item: I) -> Result<(J::Batch, bool), Payload> {
        let (job, state) = (self.job, &mut self.state);
        catch(|| job.run(state.get_or_insert_with(|| job.state()), item))
    }

    fn retire(&mut self) -> Option<Payload> {
        unwind::discard(self.state.take())
    }
}
