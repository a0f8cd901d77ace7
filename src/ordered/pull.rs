//! What whoever is in the source has to do with the others: it shows them what it has pulled, and sees to it that
//! somebody looks after that. The pulling itself is in `puller.rs`.

use crate::ordered::chunk::{ChunkExecutor, ChunkWriter};
use crate::ordered::core::{Core, OpenChunk};
use crate::ordered::sched::{Host, Sched, SchedGuard};
use crate::ordered::worker::{PullRefusal, Worker};
use crate::runtime::context;
use crate::runtime::roster::Wake;
use crate::sync::Arc;
use crate::unwind::Payload;

/// What a source answers.
pub(crate) enum Pulled<I> {
    Item(I),
    End,
    Panicked(Payload),
}

impl<I> Pulled<I> {
    /// Whether this is no end: what the source waited for, it did not wait out, as nobody wants the stage's own
    /// results for now. Asked outside of the source.
    pub(crate) fn is_interrupted(&self) -> bool {
        matches!(self, Pulled::End) && context::is_unwanted()
    }
}

impl<I, B> Sched<I, B> {
    /// Puller: nobody looks after what it holds, so somebody is called to.
    #[cold]
    pub(crate) fn get_watched(&self, host: &dyn Host<I, B>) {
        let mut core = self.core.lock();
        let wake = if core.tell_puller() {
            Wake::Nobody // the consumer has come back
        } else {
            self.call_watcher(&mut core)
        };
        drop(core);
        self.act(host, wake);
    }

    /// Puller: goes into the source, where it may get stuck. Others' items are not to hang on that.
    pub(crate) fn leave_watched(&self, core: &mut SchedGuard<'_, I, B>, me: usize) -> Wake {
        let watched = core.is_watched() || core.batches == 0 || core.is_covered();
        if watched || !self.is_something_unstarted(core, me) {
            return Wake::Nobody;
        }
        self.call_watcher(core)
    }

    /// Whether there are items that a thread with nothing else to do could start, now or as soon as
    /// somebody is found to be stuck; but for what that thread runs itself.
    pub(crate) fn is_something_unstarted(&self, core: &Core<I, B>, but: usize) -> bool {
        core.is_something_in_hand() || !self.waiting.is_empty() || core.richest(but).is_some()
    }

    /// Opens a chunk that others may see while it is filled.
    pub(crate) fn open_shared(&self, first: u64, want: usize) -> ChunkWriter<I, B> {
        let mut core = self.core.lock();
        let (filling, arrival) = self.open(&mut core, first, want);
        core.batches += 1;
        core.show(OpenChunk {
            chunk: Arc::clone(filling.chunk()),
            arrival,
        });
        filling
    }

    /// Ends the filling of a shared run. `None`: a rescuer has it, with all its items.
    pub(crate) fn close(
        &self,
        core: &mut SchedGuard<'_, I, B>,
        filling: ChunkWriter<I, B>,
    ) -> Option<ChunkExecutor<I, B>> {
        let last = filling.chunk().first() + filling.len() as u64 - 1;
        match filling.close(&mut core.key) {
            Ok(mut chunk) => {
                chunk.arrival = core.open.take().and_then(|open| open.arrival);
                Some(chunk)
            }
            Err(sealed) => {
                let item = sealed.settle(&mut core.key)?;
                Some(self.single(core, last, item))
            }
        }
    }

    /// The source has no more, for one reason or the other. `Some`: it panicked at this `seq`,
    /// which is to be [failed](crate::ordered::signals::Signals::fail) once no lock is held.
    #[must_use]
    pub(crate) fn source_over(
        &self,
        core: &mut SchedGuard<'_, I, B>,
        seq: u64,
        over: Pulled<I>,
    ) -> Option<u64> {
        if let Pulled::Panicked(payload) = over {
            self.source_panicked(core, seq, payload);
            Some(seq)
        } else {
            core.end = Some(seq);
            None
        }
    }

    /// The source is asked for no more, as the stage drains.
    pub(crate) fn drained(&self, core: &mut Core<I, B>, seq: u64) {
        core.end = Some(seq);
        self.signals.set_drained();
    }

    /// How many items to pull at once, the next one being `seq`; `None`: there is no room, and whoever makes some will
    /// tell.
    pub(crate) fn want(&self, worker: &mut Worker, seq: u64) -> Option<usize> {
        let mut room = self.room(seq);
        if room == 0 {
            let wake_at = self.ask_for_room(seq);
            room = self.room(seq);
            if room == 0 {
                worker.refused = PullRefusal::Room { wake_at };
                return None;
            }
            self.signals.room_granted();
        }
        Some(self.cost.len_at(seq).min(room).min(worker.most))
    }

    /// Who is about to leave the source puts down what it has pulled, or keeps it to run it, and says whom to wake.
    pub(crate) fn pulled(
        &self,
        worker: &mut Worker,
        core: &mut SchedGuard<'_, I, B>,
        seq: u64,
        ended: bool,
        chunk: &mut Option<ChunkExecutor<I, B>>,
    ) -> Wake {
        worker.repay(core);
        core.pulls += 1;
        let mut more = !ended && !self.signals.is_cut();
        if more && self.room(seq) == 0 {
            more = false;
            if core.permits > 0 {
                // Somebody idles, and would pull if there were room.
                self.ask_for_room(seq);
                if self.room(seq) > 0 {
                    self.signals.room_granted();
                    more = true;
                }
            }
        }
        if let Some(owning) = chunk.take() {
            if worker.permit {
                core.activate(worker.thread, &owning);
                more |= owning.len() > 1;
                *chunk = Some(owning);
            } else {
                self.waiting.push(owning);
            }
        }
        if more { core.wake() } else { Wake::Nobody }
    }

    /// Asks the consumer for a wake-up when there is room: for half a chunk, not for every item.
    fn ask_for_room(&self, seq: u64) -> u64 {
        let bound = self.bound();
        let wake_at = (seq + self.cost.worth_waking()).saturating_sub(bound);
        self.signals.wait_for_room(wake_at);
        wake_at
    }

    pub(crate) fn call_watcher(&self, core: &mut SchedGuard<'_, I, B>) -> Wake {
        core.set_watched(true);
        core.call_watcher(self.spare)
    }
}
