//! The side of the job: the loop over the items of a chunk.

use crate::ordered::chunk::{ChunkExecutor, Claim, Special};
use crate::ordered::item_context::ItemContext;
use crate::ordered::sched::{ItemRunner, Sched};
use crate::par::job::Job;
use crate::par::runner::JobRunner;
use crate::unwind::{self, Payload, catch};

/// Runs up to `count` items. What does not change is in local variables, because the barriers would have
/// anything else loaded again for each item. The loop is a function of its own, so that the compiler keeps
/// its variables in registers.
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
    // Items at or past a cut are taken and dropped, and their places are published as discarded: the consumer
    // waits for each place of a chunk that has an owner (claim / cut).
    while chunk.seq() >= signals.cut() {
        signals.stray(unwind::discard(chunk.cursor().0.take()));
        if sched.publish(chunk, Err(Special::Discarded)) == Claim::Contested {
            return Claim::Contested;
        }
    }
    let (mut cursor, arrival) = chunk.cursor();
    let stop = cursor.index().saturating_add(count);
    let mut arrives = arrival.is_some();
    // The item at the cursor is claimed, and not past a cut as far as was seen.
    let mut item = cursor.take();
    // Made here, where its panic counts as the item's panic. The unwind drops the item.
    let state = runner.state.get_or_insert_with(|| job.state());
    loop {
        // Before the closure: `CancelToken::current` asks for it.
        let seq = first + cursor.index() as u64;
        here.set_seq(seq);
        let (batch, last) = job.run(state, item);
        let in_vain = here.item_over();
        // The cut first: no item after this one is started from now on.
        if last {
            signals.fail(seq);
            break sched.publish(chunk, Err(Special::Last(batch)));
        }
        // Published as discarded, not left out: the consumer waits for this place.
        if in_vain {
            signals.stray(unwind::discard(batch));
            break sched.publish(chunk, Err(Special::Discarded));
        }
        // Unordered stages: before the first result is published, so that the consumer can always reach it.
        if arrives {
            sched.arrive(arrival);
            arrives = false;
        }
        if J::PARKS {
            let weight = job.batch_weight(&batch) as u64;
            cursor.set_weight(sched.park(weight));
        }
        // One store for two facts: this result is ready, and the next item is claimed.
        let claim = cursor.publish(batch);
        // Contested: `settle` decides under the lock, outside of this loop. In every case the consumer must
        // learn of the result first.
        if claim == Claim::Contested || cursor.index() == stop {
            signals.published(seq);
            break claim;
        }
        // One load instead of two for `waiting_for` and `cut`, right after the barrier in `publish`.
        if signals.is_alarmed(seq + 1) {
            signals.published(seq);
            if signals.cut() <= seq + 1 {
                break claim; // What is past a cut is handled at the top, at the next call.
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
        let ran = catch(|| loop_over(self, sched, chunk, here, count));
        self.lacks_state = match &self.state {
            Some(state) => !J::is_usable(state),
            // Not tried yet, if all items were past a cut; otherwise that was the panic.
            None => ran.is_err(),
        };
        ran
    }

    fn run(&mut self, item: I) -> Result<(J::Batch, bool, u64), Payload> {
        let job = self.job;
        let (batch, last) = self.run_one(item)?;
        if !J::PARKS {
            return Ok((batch, last, 0));
        }
        catch(|| {
            let weight = job.batch_weight(&batch) as u64;
            (batch, last, weight)
        })
    }

    fn has_state(&self) -> bool {
        self.state.as_ref().is_some_and(J::is_usable)
    }

    fn lacks_state(&self) -> bool {
        self.lacks_state
    }

    fn retire(&mut self) -> Option<Payload> {
        self.drop_state()
    }
}
