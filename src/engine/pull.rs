//! What whoever is in the source has to do with the others: it shows them what it has pulled, and sees to it that
//! somebody looks after that. The pulling itself is in `puller.rs`.

use crate::engine::context;
use crate::engine::desk::{Desk, Open, Wake};
use crate::engine::run::{Filling, Owning};
use crate::engine::sched::{Guard, Host, Sched};
use crate::engine::unwind::Payload;
use crate::engine::worker::{Refused, Worker};
use crate::sync::Arc;

/// What a source answers.
pub(crate) enum Next<I> {
    Item(I),
    End,
    Panicked(Payload),
}

impl<I> Next<I> {
    /// Whether this is no end: what the source waited for, it did not wait out, as nobody wants the stage's own
    /// results for now. Asked outside of the source.
    pub(crate) fn is_interrupted(&self) -> bool {
        matches!(self, Next::End) && context::is_unwanted()
    }
}

impl<I, B> Sched<I, B> {
    /// Puller: nobody looks after what it holds, so somebody is called to.
    #[cold]
    pub(crate) fn get_watched(&self, host: &dyn Host<I, B>) {
        let mut desk = self.desk.lock();
        let wake = if desk.tell_puller() {
            Wake::Nobody // the consumer has come back
        } else {
            self.call_watcher(&mut desk)
        };
        drop(desk);
        self.act(host, wake);
    }

    /// Puller: goes into the source, where it may get stuck. Others' items are not to hang on that.
    pub(crate) fn leave_watched(&self, desk: &mut Guard<'_, I, B>, me: usize) -> Wake {
        let watched = desk.is_watched() || desk.batches == 0 || desk.is_covered();
        if watched || !self.is_something_unstarted(desk, me) {
            return Wake::Nobody;
        }
        self.call_watcher(desk)
    }

    /// Whether there are items that a thread with nothing else to do could start, now or as soon as
    /// somebody is found to be stuck; but for what that thread runs itself.
    pub(crate) fn is_something_unstarted(&self, desk: &Desk<I, B>, but: usize) -> bool {
        desk.is_something_in_hand() || !self.waiting.is_empty() || desk.richest(but).is_some()
    }

    /// Opens a run that others may see while it is filled.
    pub(crate) fn open_shared(&self, first: u64, want: usize) -> Filling<I, B> {
        let mut desk = self.desk.lock();
        let (filling, arrival) = self.open(&mut desk, first, want);
        desk.batches += 1;
        desk.show(Open {
            run: Arc::clone(filling.run()),
            arrival,
        });
        filling
    }

    /// Ends the filling of a shared run. `None`: a rescuer has it, with all its items.
    pub(crate) fn close(
        &self,
        desk: &mut Guard<'_, I, B>,
        filling: Filling<I, B>,
    ) -> Option<Owning<I, B>> {
        let last = filling.run().first() + filling.len() as u64 - 1;
        match filling.close(&mut desk.key) {
            Ok(mut run) => {
                run.arrival = desk.open.take().and_then(|open| open.arrival);
                Some(run)
            }
            Err(sealed) => {
                let item = sealed.settle(&mut desk.key)?;
                Some(self.single(desk, last, item))
            }
        }
    }

    /// The source has no more, for one reason or the other. `Some`: it panicked at this `seq`,
    /// which is to be [failed](crate::engine::ctl::Ctl::fail) once no lock is held.
    #[must_use]
    pub(crate) fn source_over(
        &self,
        desk: &mut Guard<'_, I, B>,
        seq: u64,
        over: Next<I>,
    ) -> Option<u64> {
        if let Next::Panicked(payload) = over {
            self.source_panicked(desk, seq, payload);
            Some(seq)
        } else {
            desk.end = Some(seq);
            None
        }
    }

    /// The source is asked for no more, as the stage drains.
    pub(crate) fn drained(&self, desk: &mut Desk<I, B>, seq: u64) {
        desk.end = Some(seq);
        self.ctl.set_drained();
    }

    /// How many items to pull at once, the next one being `seq`; `None`: there is no room, and whoever makes some will
    /// tell.
    pub(crate) fn want(&self, worker: &mut Worker, seq: u64) -> Option<usize> {
        let mut room = self.room(seq);
        if room == 0 {
            let wake_at = self.ask_for_room(seq);
            room = self.room(seq);
            if room == 0 {
                worker.refused = Refused::Room { wake_at };
                return None;
            }
            self.ctl.room_granted();
        }
        Some(self.pace.len_at(seq).min(room).min(worker.most))
    }

    /// Who is about to leave the source puts down what it has pulled, or keeps it to run it, and says whom to wake.
    pub(crate) fn pulled(
        &self,
        worker: &mut Worker,
        desk: &mut Guard<'_, I, B>,
        seq: u64,
        ended: bool,
        run: &mut Option<Owning<I, B>>,
    ) -> Wake {
        worker.repay(desk);
        desk.pulls += 1;
        let mut more = !ended && !self.ctl.is_cut();
        if more && self.room(seq) == 0 {
            more = false;
            if desk.permits > 0 {
                // Somebody idles, and would pull if there were room.
                self.ask_for_room(seq);
                if self.room(seq) > 0 {
                    self.ctl.room_granted();
                    more = true;
                }
            }
        }
        if let Some(owning) = run.take() {
            if worker.permit {
                desk.activate(worker.thread, &owning);
                more |= owning.len() > 1;
                *run = Some(owning);
            } else {
                self.waiting.push(owning);
            }
        }
        if more { desk.wake() } else { Wake::Nobody }
    }

    /// Asks the consumer for a wake-up when there is room: for half a run, not for every item.
    fn ask_for_room(&self, seq: u64) -> u64 {
        let bound = self.bound();
        let wake_at = (seq + self.pace.worth_waking()).saturating_sub(bound);
        self.ctl.wait_for_room(wake_at);
        wake_at
    }

    pub(crate) fn call_watcher(&self, desk: &mut Guard<'_, I, B>) -> Wake {
        desk.set_watched(true);
        desk.call_watcher(self.spare)
    }
}
