//! What a thread in the source has to do with the other threads: it shows them what it has pulled, and makes
//! sure that a thread watches over that. The pulling itself is in `puller.rs`.

use crate::ordered::chunk::{ChunkExecutor, ChunkWriter};
use crate::ordered::core::{Core, OpenChunk};
use crate::ordered::sched::{Host, Sched, SchedGuard};
use crate::ordered::weight::{Hand, Weights};
use crate::ordered::worker::{PullRefusal, Worker};
use crate::runtime::context;
use crate::runtime::meter::Doing;
use crate::runtime::roster::Wake;
use crate::sync::Arc;
use crate::unwind::Payload;

/// What a source answers.
pub(super) enum Pulled<I> {
    Item(I),
    /// An item that does not fit, and is kept in hand.
    Held,
    End,
    Panicked(Payload),
}

impl<I> Pulled<I> {
    /// Whether this is not the end of the source: a wait in the source was interrupted, because the results
    /// of this stage are not wanted for now. Must be asked outside of the source.
    pub(super) fn is_interrupted(&self) -> bool {
        matches!(self, Pulled::End) && context::is_unwanted()
    }
}

impl<I, B> Sched<I, B> {
    /// Puller: no thread watches over the items that it holds, so one is called. Part of the handshake pull /
    /// watch.
    #[cold]
    pub(super) fn get_watched(&self, host: &dyn Host<I, B>) {
        let mut core = self.core.lock();
        // Asked again under the lock: the light barrier in `push` only shows that no thread watched then.
        let wake = if core.tell_puller() {
            Wake::Nobody // The consumer has come back, and watches.
        } else {
            self.call_watcher(&mut core)
        };
        // Without the lock, as it may start a thread; and before this thread goes back into the source.
        drop(core);
        self.act(host, wake);
    }

    /// Puller: it is the only thread so far, and could pull several items if it were not. Asks for another
    /// one, once.
    #[cold]
    pub(super) fn ask_for_company(&self, host: &dyn Host<I, B>) {
        if !self.company.is_awaited() {
            return;
        }
        let mut core = self.core.lock();
        // One more is on its way, or there is one.
        if core.roster.len() > 1 {
            return;
        }
        let wake = self.call_watcher(&mut core);
        drop(core);
        self.act(host, wake);
    }

    /// Puller: about to enter the source, where it may get stuck. Makes sure that a thread watches if there
    /// are items that must not wait for this one.
    pub(super) fn leave_watched(&self, core: &mut SchedGuard<'_, I, B>, me: usize) -> Wake {
        if !core.is_consumer_watched() {
            return self.call_watcher(core);
        }
        // With `batches == 0` no chunk of several items has been pulled yet, so pullers hold nothing that
        // could get stuck with them; but one may be left to a consumer that is in a long closure.
        // `is_covered` means that the consumer watches.
        let nothing_held = core.batches == 0 && core.left.is_none();
        let watched = core.is_watched() || nothing_held || core.is_covered();
        if watched || !self.is_something_unstarted(core, me) {
            return Wake::Nobody;
        }
        self.call_watcher(core)
    }

    /// Whether there are items that an idle thread could start, now, or as soon as a thread is found to be
    /// stuck. What the thread `but` runs itself does not count.
    pub(super) fn is_something_unstarted(&self, core: &Core<I, B>, but: usize) -> bool {
        core.is_something_in_hand() || self.is_something_whole(core, but)
    }

    /// The same, without what a puller holds: a thread with a permit could start it now.
    pub(super) fn is_something_whole(&self, core: &Core<I, B>, but: usize) -> bool {
        !core.unowned.is_empty()
            || core.left.is_some()
            || self.is_any_startable(core)
            || core.richest(but).is_some()
            || !self.copies.is_empty()
    }

    /// Opens a chunk that other threads may see while it is filled.
    pub(super) fn open_shared(&self, first: u64, want: usize) -> ChunkWriter<I, B> {
        // One critical section: the chunk gets its place in the order, and becomes visible to rescuers, at
        // the same time.
        let mut core = self.core.lock();
        let (filling, arrival) = self.open(&mut core, first, want);
        // Idle threads see by this that chunks of several items flow, which they may have to rescue.
        core.batches += 1;
        core.show(OpenChunk {
            chunk: Arc::clone(filling.chunk()),
            arrival,
        });
        filling
    }

    /// Ends the filling of a chunk that others could see. `None`: a rescuer has it, with all its items.
    pub(super) fn close(
        &self,
        core: &mut SchedGuard<'_, I, B>,
        filling: ChunkWriter<I, B>,
    ) -> Option<ChunkExecutor<I, B>> {
        // The last item pulled. If there is one that the rescuer has missed, it is this one.
        let last = filling.chunk().first() + filling.len() as u64 - 1;
        match filling.close(&mut core.key) {
            Ok(mut chunk) => {
                // Rescuers look for the open chunk under this lock, so none of them finds it any more. In an
                // unordered stage, the consumer's handle goes with the chunk to its owner.
                chunk.arrival = core.open.take().and_then(|open| open.arrival);
                Some(chunk)
            }
            Err(sealed) => {
                // The handshake fill / seal: the rescuer took what it saw as `pulled`. An item that was just
                // being stored is taken back, and goes into a chunk of one, at its own place in the order.
                let item = sealed.settle(&mut core.key)?;
                Some(self.single(core, last, item))
            }
        }
    }

    /// The source yields nothing more. `Some`: it panicked at this `seq`, which the caller must
    /// [fail](crate::ordered::signals::Signals::fail) once it holds no lock.
    #[must_use]
    pub(super) fn source_over(
        &self,
        core: &mut SchedGuard<'_, I, B>,
        seq: u64,
        over: Pulled<I>,
    ) -> Option<u64> {
        if let Pulled::Panicked(payload) = over {
            // The panic gets a place in the order, behind all items that were pulled, and is raised there.
            self.source_panicked(core, seq, payload);
            Some(seq)
        } else {
            core.end = Some(seq);
            self.signals.source_ended();
            None
        }
    }

    /// The source is asked for nothing more, because the stage drains.
    pub(super) fn drained(&self, core: &mut Core<I, B>, seq: u64) {
        core.end = Some(seq);
        self.signals.set_drained();
    }

    /// Puller: begins a chunk at `seq`. `None`: items have no weights here.
    pub(super) fn hand(&self, seq: u64) -> Option<Hand<'_, I>> {
        let weights = self.weights.as_ref()?;
        Some(weights.hand(&self.signals, seq))
    }

    /// Puller: whether an item was pulled that has no place yet.
    pub(super) fn is_holding(&self) -> bool {
        (self.weights.as_ref()).is_some_and(Weights::is_holding)
    }

    /// How many items to pull at once, the first of which is `seq`. `None`: there is no room, and the
    /// consumer wakes a worker when there is.
    pub(super) fn want(&self, worker: &mut Worker, seq: u64) -> Option<usize> {
        // The slow side of the handshake yield / room: ask, pass the heavy barrier, check the room again. The
        // consumer yields the last item either before that check, or sees that room is asked for.
        let width = self.cost.width();
        let mut room = if self.signals.is_sleepless() {
            self.wait_for_yield(seq)
        } else {
            self.room(seq)
        };
        if room == 0 {
            let wake_at = self.ask_for_room(seq);
            room = self.room(seq);
            if room == 0 {
                worker.refused = PullRefusal::Room { wake_at, width };
                self.meter.full(true, self.bound());
                return None;
            }
            // There is room after all. Taken back, or the consumer would wake a thread for nothing.
            self.signals.room_granted();
        }
        self.meter.full(false, self.bound());
        let len = if self.may_wait && self.signals.is_sleepless() {
            self.cost.len_for_one_worker()
        } else {
            self.cost.len_at(seq)
        };
        Some(len.min(room).min(worker.most))
    }

    /// About to leave the source: hands over what it has pulled, or keeps it to run it, and returns which
    /// thread to wake.
    pub(super) fn pulled(
        &self,
        worker: &mut Worker,
        core: &mut SchedGuard<'_, I, B>,
        seq: u64,
        ended: bool,
        chunk: &mut Option<ChunkExecutor<I, B>>,
    ) -> Wake {
        // First, as the rest depends on it: a spare thread may have borrowed this thread's permit.
        worker.repay(core);
        // A watcher sees by this that the source moves.
        core.pulls += 1;
        // Whether there is something left for another thread to pull.
        let mut more = !ended && !self.signals.is_cut();
        if more && self.room(seq) == 0 {
            more = false;
            // While all permits are in use no idle thread could pull, and a worker that finishes its chunk
            // asks for room itself.
            if core.permits.is_any_free() {
                // A thread idles, and would pull if there were room.
                self.ask_for_room(seq);
                if self.room(seq) > 0 {
                    self.signals.room_granted();
                    more = true;
                }
            }
        }
        let kept = chunk.take();
        let kept = kept.and_then(|kept| self.leave_to_consumer(worker, core, kept, seq, more));
        if let Some(owning) = kept {
            // Thieves may look at the chunk from now on; of two items one is theirs to take.
            if worker.permit.is_some() {
                core.activate(worker.thread, &owning);
                more |= owning.len() > 1;
                *chunk = Some(owning);
            } else {
                // Without a permit it may not run them. It leaves the chunk before it releases the source:
                // see *Permits, and the spare thread* in `README.md`.
                self.disown(core, owning);
            }
        }
        // With a chunk it runs that from now on.
        if chunk.is_none() {
            self.meter.set(worker.thread, Doing::Nothing);
        }
        if more { core.wake() } else { Wake::Nobody }
    }

    /// Asks the consumer for a wake-up when there is room for half a chunk or half the bound, not for every
    /// item.
    fn ask_for_room(&self, seq: u64) -> u64 {
        let bound = self.bound();
        let by_count = (seq + self.cost.worth_waking()).saturating_sub(bound);
        let weights = self.weights.as_ref();
        let by_weight = weights.map(|weights| weights.room_at(&self.signals, self.cost.len()));
        let wake_at = match by_weight {
            None => by_count,
            // There is room for more items, and not for their weight.
            Some(by_weight) if seq - self.signals.yielded() < bound => by_weight,
            Some(by_weight) => by_weight.max(by_count),
        };
        self.signals.wait_for_room(wake_at);
        wake_at
    }

    /// Calls a thread to watch. It counts as watching from now on, before it is awake, so that pullers do not
    /// call another one.
    pub(super) fn call_watcher(&self, core: &mut SchedGuard<'_, I, B>) -> Wake {
        core.set_watched(true);
        core.call_watcher(self.spare)
    }
}
