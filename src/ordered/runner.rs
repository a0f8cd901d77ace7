//! The side of the job: the loop over the items of a chunk.

use crate::ordered::chunk::{ChunkExecutor, Claim, Special};
use crate::ordered::item_context::ItemContext;
use crate::ordered::sched::{ItemRunner, Sched};
use crate::par::job::Job;
use crate::par::runner::JobRunner;
use crate::unwind::{self, Payload, catch};

/// Runs up to `count` items. What does not change meanwhile is in local variables, as the
/// barriers would have anything else loaded anew for each item; and the loop is a function by
/// itself, for the sake of its registers.
#[inline(never)]
fn loop_over<I, J: Job<I>>(
    runner: &mut JobRunner<'_, J, J::State>,
    sched: &Sched<I, J::Batch>,
    chunk: &mut ChunkExecutor<I, J::Batch>,
    here: &ItemContext,
    count: usize,
) -> Claim {
    let (signals, job) = (&*sched.signals, runner.job);
    let first = chunk.first();
    while chunk.seq() >= signals.cut() {
        signals.stray(unwind::discard(chunk.cursor().0.take()));
        if sched.publish(chunk, Err(Special::Discarded)) == Claim::Contested {
            return Claim::Contested;
        }
    }
    let (mut cursor, arrival) = chunk.cursor();
    let stop = cursor.index().saturating_add(count);
    let mut arrives = arrival.is_some();
    let mut item = cursor.take();
    // Made where its panic is that of the item, which is dropped by it.
    let state = runner.state.get_or_insert_with(|| job.state());
    loop {
        let seq = first + cursor.index() as u64;
        here.set_seq(seq);
        let (batch, last) = job.run(state, item);
        let in_vain = here.item_over();
        if last {
            signals.fail(seq);
            break sched.publish(chunk, Err(Special::Last(batch)));
        }
        if in_vain {
            signals.stray(unwind::discard(batch));
            break sched.publish(chunk, Err(Special::Discarded));
        }
        if arrives {
            sched.arrive(arrival);
            arrives = false;
        }
        let claim = cursor.publish(batch);
        if claim == Claim::Contested || cursor.index() == stop {
            signals.published(seq);
            break claim;
        }
        if signals.is_alarmed(seq + 1) {
            signals.published(seq);
            if signals.cut() <= seq + 1 {
                break claim; // what lies past a cut is dealt with where this begins
            }
        }
        item = cursor.take();
    }
}

impl<I, J: Job<I>> ItemRunner<I, J::Batch> for JobRunner<'_, J, J::State> {
    fn run_items(
        &mut self,
        sched: &Sched<I, J::Batch>,
        chunk: &mut ChunkExecutor<I, J::Batch>,
        here: &ItemContext,
        count: usize,
    ) -> Result<Claim, Payload> {
        catch(|| loop_over(self, sched, chunk, here, count))
    }

    fn run(&mut self, item: I) -> Result<(J::Batch, bool), Payload> {
        self.run_one(item)
    }

    fn retire(&mut self) -> Option<Payload> {
        self.drop_state()
    }
}
