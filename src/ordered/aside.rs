//! What must not be begun yet, as too much waits that is finished: chunks that their owners have put aside. `parked.rs`
//! tells when that is, and who wakes whom.

use crate::ordered::chunk::{ChunkExecutor, ChunkReader};
use crate::ordered::core::Core;
use crate::ordered::sched::{Host, Sched};
use crate::runtime::roster::Wake;

impl<I, B> Core<I, B> {
    /// Owner: the claimed item must not be begun now. Puts it aside, with all that follows in its chunk.
    pub(super) fn put_aside(&mut self, thread: usize, mut chunk: ChunkExecutor<I, B>) {
        // In one critical section, as with a chunk that is over: thieves do not look for it in `active` any more.
        self.deactivate(thread);
        // The claimed item is its own, whatever thieves do. Whoever runs the rest claims it again.
        debug_assert!(chunk.len() > 0);
        chunk.unclaim();
        self.aside.insert(chunk.seq(), chunk);
    }
}

impl<I, B> Sched<I, B> {
    /// Owner: whether it may begin this item.
    #[inline]
    pub(super) fn may_start(&self, seq: u64) -> bool {
        (self.parked.as_ref()).is_none_or(|parked| parked.may_start(&self.signals, seq))
    }

    /// Owner: is about to publish something of this weight. Returns what is to be stored beside it.
    #[inline]
    pub(super) fn park(&self, weight: u64) -> u64 {
        (self.parked.as_ref()).map_or(0, |parked| parked.add(weight))
    }

    /// Whether something that was put aside may be started.
    pub(super) fn is_any_startable(&self, core: &Core<I, B>) -> bool {
        let first = core.aside.first_key_value();
        first.is_some_and(|(first, _)| self.may_start(*first))
    }

    /// Takes the first of what was put aside, if it may be started; otherwise makes sure that a thread is woken when
    /// it may.
    pub(super) fn take_aside(&self, core: &mut Core<I, B>) -> Option<ChunkExecutor<I, B>> {
        let parked = self.parked.as_ref()?;
        let first = *core.aside.first_key_value()?.0;
        if !self.may_start(first) {
            if parked.has_asked(first) {
                return None;
            }
            parked.ask(first);
            if !self.may_start(first) {
                return None;
            }
        }
        let (_, chunk) = core.aside.pop_first()?;
        // For what is left. The caller wakes the next thread if it may be started now.
        match core.aside.first_key_value() {
            Some((next, _)) => parked.ask(*next),
            None => parked.answer(),
        }
        Some(chunk)
    }

    /// Consumer: something that was put aside may be started.
    #[cold]
    fn start_aside(&self, host: &dyn Host<I, B>) {
        let Some(parked) = &self.parked else { return };
        let mut core = self.core.lock();
        // First: the thread that is woken asks anew if it leaves something.
        parked.answer();
        let wake = if core.aside.is_empty() {
            Wake::Nobody
        } else if core.permits.is_any_free() {
            core.wake()
        } else if core.is_permit_unused() {
            // With a thread in the source, which may stay there: a thread that watches borrows it.
            self.call_watcher(&mut core)
        } else {
            Wake::Nobody // Each of them looks here when its chunk is done.
        };
        drop(core);
        self.act(host, wake);
    }

    /// Consumer: tells what it takes from this chunk next, before it counts it. Neither this nor `told` is inlined, for
    /// the sake of stages without weights, or times of their items.
    #[inline(never)]
    pub(super) fn tell(&self, head: &ChunkReader<I, B>) {
        self.meter.note(|meter| meter.item_taken(head.seq()));
        if let Some(weights) = &self.weights {
            weights.taken(head.seq());
        }
        if let Some(parked) = &self.parked {
            parked.take(head.weight());
        }
    }

    /// Consumer: has counted it, and passed the light barrier.
    #[inline(never)]
    pub(super) fn told(&self, host: &dyn Host<I, B>, yielded: u64) {
        if let Some(parked) = &self.parked {
            if parked.is_asked(yielded) {
                self.start_aside(host);
            }
        }
    }
}
