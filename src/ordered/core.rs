//! The core: everything of a stage that is under its one short lock, the scheduler's lock. The lock is taken
//! a few times per chunk, and never while user code runs.
//!
//! # Who sleeps, who wakes
//!
//! A thread runs closures only while it has one of the `n` [permits](crate::ordered::permits). A thread that
//! finds nothing to do gives its permit back. Then it either *watches* or *sleeps*. The watcher takes naps of
//! at most 1 ms; there is one watcher at most, and only while there is something to watch. A sleep has no
//! limit, except that of the backup watcher: while the consumer watches, one idle thread sleeps for 20 ms at
//! most.
//!
//! A thread falls asleep under the lock, after it has looked at every condition that could wake it. A thread
//! that makes such a condition true takes the lock afterwards and calls [`Core::wake`]. So either the look of
//! the sleeper sees the condition, or the waker sees the sleeper. The conditions, and the thread that wakes:
//!
//! - a chunk has no owner: the thread that left it;
//! - the source is free and there is room: the thread that leaves the source. It releases the source while it
//!   holds this lock, and sleepers try the source's lock while they hold this one;
//! - room was made: the consumer, when `yielded` reaches `wake_at`;
//! - a chunk has unclaimed items: the thread that activates a chunk, or steals half of one;
//! - what was put aside may be started: the consumer, by what it takes (`parked.rs`);
//! - the source has ended and everything has been started: the thread that leaves the stage wakes the next
//!   one, so that it leaves too;
//! - the stage stops: the thread that stops it unparks all, and each looks at `stopped` after its park.
//!
//! One wake-up wakes one thread, and that wakes the next if it leaves work behind. So threads come one after
//! the other, and not all at once for the same item. If no thread sleeps and the stage has leased fewer than
//! `n` threads, waking means leasing one more.

use crate::ordered::chunk::{Chunk, ChunkExecutor, ChunkReader, LockProof};
use crate::ordered::gain::Gain;
use crate::ordered::permits::{WidthPermit, WidthPermits};
use crate::ordered::reorder::Reorder;
use crate::runtime::barrier::heavy;
use crate::runtime::biased::Revoker;
use crate::runtime::cost::Backoff;
use crate::runtime::helm::Helm;
use crate::runtime::meter::{Doing, MeterSlot, Totals};
use crate::runtime::probe::Probe;
use crate::runtime::roster::{Roster, Wake};
use crate::sync::{Arc, Instant, bug};
use std::collections::BTreeMap;
use std::time::Duration;

/// In the place of a thread's number.
pub(super) const CONSUMER: usize = usize::MAX;
/// For this long after its last look, the consumer counts as the watcher. Its naps are half of that at most,
/// so it counts from one nap to the next.
const PRESENCE: Duration = Duration::from_millis(2);

/// The chunk that the puller is filling.
#[derive(Debug)]
pub(super) struct OpenChunk<I, B> {
    pub(super) chunk: Arc<Chunk<I, B>>,
    /// Unordered stages: the consumer's handle, kept here for the thread that will own the chunk.
    pub(super) arrival: Option<ChunkReader<I, B>>,
}

/// Whether the consumer runs the items itself; see `inline.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inline {
    Off,
    /// No thread pulls any more, so that the consumer can take over.
    Wanted,
    On,
    /// The consumer runs what is at the head of the line, and the workers what comes after it; see `head.rs`.
    Head,
    /// One worker runs all items; see `one_worker.rs`.
    OneWorker,
}

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Core<I, B> {
    pub(super) key: LockProof,
    /// Ordered stages: all chunks that have not reached the consumer, from the moment they are opened.
    pub(super) order: Reorder<ChunkReader<I, B>>,
    /// Whole chunks without an owner. They have no place in `active`, so a thread that looks for work must look
    /// here too. See `unowned.rs`.
    pub(super) unowned: Reorder<ChunkExecutor<I, B>>,
    /// How many items the source had, once that is known.
    pub(super) end: Option<u64>,
    pub(super) open: Option<OpenChunk<I, B>>,
    /// How many threads run an item that has been given up. The consumer's `finish` does not join the threads
    /// while there is one.
    pub(super) abandoned: usize,
    /// How many threads run the copy of an item. These have a permit and no entry in `active`.
    pub(super) copying: usize,
    /// How many chunks of several items have been opened. A change since the last look means that batches
    /// flow.
    pub(super) batches: u64,
    /// How many items workers have run, in chunks that are over.
    pub(super) ran: u64,
    /// How many pulls have ended. A change since the last look means that the source moves.
    pub(super) pulls: u64,
    /// The thread that watches the source. A thread that was called counts from then on, before it is awake,
    /// so that two callers do not call two threads.
    pub(super) watcher: Option<usize>,
    /// What pullers are told: a thread watches. May be `true` without a `watcher`, if all threads were busy
    /// and none could be leased. The next one that idles then watches, or takes it back.
    watched: bool,
    /// The idle thread that checks every 20 ms whether the consumer still watches.
    pub(super) backup_watcher: Option<usize>,
    /// When the consumer last looked at the source. `None`: it does not watch.
    looked: Option<Instant>,
    pub(super) permits: WidthPermits,
    pub(super) inline: Inline,
    /// The consumer is in a source that blocks, and calls a watcher itself when it comes out.
    pub(super) watches_itself: bool,
    /// When the switch to inline running may be tried again, and that to the head of the line.
    pub(super) pause: Backoff,
    pub(super) head_pause: Backoff,
    /// Whether threads are worth it.
    pub(super) gain: Gain,
    /// The consumer's permit, while it runs items itself or may do so at any time.
    consumer_permit: Option<WidthPermit>,
    /// The thread of a consumer that runs all items.
    pub(super) probe: Option<Probe>,
    /// A chunk that is left to the consumer: it begins at the head of the line, or will.
    pub(super) left: Option<ChunkExecutor<I, B>>,
    /// The chunk that the consumer runs is on loan, and can be taken back by this.
    pub(super) lent: Option<Revoker<ChunkExecutor<I, B>>>,
    /// How many items of that chunk had been run before.
    pub(super) lent_at: usize,
    /// `Some`: the stage was asked for statistics.
    pub(super) meter: MeterSlot,
    /// `Some`: the width finds itself.
    pub(super) helm: Option<Box<Helm>>,
    /// How many chunks the consumer has had. A change since the last look means that it runs items.
    pub(super) lends: u64,
    /// What must not be begun yet, by the `seq` of its next item; see `parked.rs`.
    pub(super) aside: BTreeMap<u64, ChunkExecutor<I, B>>,
    /// By thread: the chunk that it executes. Thieves find their victims here.
    active: Vec<Option<Arc<Chunk<I, B>>>>,
    /// The same for the consumer.
    at_head: Option<Arc<Chunk<I, B>>>,
    pub(super) roster: Roster,
    width: usize,
    /// Whether results have weights.
    weighs: bool,
    /// A thread could not make its state, and the stage has failed with that: see *Permits, and the spare
    /// thread* in `README.md`.
    pub(super) no_more_states: bool,
    /// Chunks to be used again.
    free: Vec<Arc<Chunk<I, B>>>,
    /// The same, but their owner had not released them when the consumer returned them.
    retired: Vec<ChunkReader<I, B>>,
}

/// How far a thread was at some time. Two equal ones mean that nothing has moved in between.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    pub(super) thread: usize,
    pub(super) first: u64,
    pub(super) count: usize,
    pub(super) at: Instant,
}

impl Progress {
    pub(super) fn same(&self, other: &Progress) -> bool {
        (self.thread, self.first, self.count) == (other.thread, other.first, other.count)
    }

    /// Whether nothing has moved for `limit`. Of two equal sights the older one is kept, because the time
    /// counts from it; a sight that differs replaces it.
    pub(super) fn unmoved(old: &mut Option<Progress>, now: Progress, limit: Duration) -> bool {
        match old {
            Some(before) if before.same(&now) => now.at.duration_since(before.at) >= limit,
            _ => {
                *old = Some(now);
                false
            }
        }
    }
}

impl<I, B> Core<I, B> {
    pub(super) fn new(width: usize, weighs: bool, meter: MeterSlot) -> Self {
        Core {
            weighs,
            key: LockProof::new(),
            order: Reorder::new(),
            unowned: Reorder::new(),
            end: None,
            open: None,
            abandoned: 0,
            copying: 0,
            batches: 0,
            ran: 0,
            pulls: 0,
            watcher: None,
            watched: false,
            backup_watcher: None,
            looked: None,
            permits: WidthPermits::new(width),
            inline: Inline::Off,
            watches_itself: false,
            pause: Backoff::NONE,
            head_pause: Backoff::NONE,
            gain: Gain::new(),
            consumer_permit: None,
            probe: None,
            left: None,
            lent: None,
            lent_at: 0,
            meter,
            helm: None,
            lends: 0,
            aside: BTreeMap::new(),
            active: Vec::new(),
            at_head: None,
            roster: Roster::new(),
            width,
            no_more_states: false,
            free: Vec::new(),
            retired: Vec::new(),
        }
    }

    // ---- threads

    /// The stage is so wide from now on; see [`WidthPermits::resize`]. Threads too many stay, and sleep.
    pub(super) fn resize(&mut self, width: usize, in_source: bool) -> usize {
        self.width = width;
        self.permits.resize(width, in_source)
    }

    /// Whether a thread that has found nothing must look again before it sleeps: the stage has become wider while it was on
    /// its way out of the source without a permit. It was no sleeper that could be woken for that, and has not looked
    /// everywhere.
    pub(super) fn is_wider(&self, permit: Option<&WidthPermit>) -> bool {
        permit.is_none() && self.permits.is_any_free() && !bug("sleeps_beside_a_permit")
    }

    /// There is work that an idle thread could start. Decides which thread is woken for it. The work must be
    /// visible by now, and the caller acts on the answer after it has released the lock.
    pub(super) fn wake(&mut self) -> Wake {
        if !self.permits.is_any_free() {
            // Each thread with a permit looks for more work when its chunk is done, so nothing is forgotten.
            // If one of them is stuck in the source instead, the watcher borrows its permit.
            return Wake::Nobody;
        }
        // First a sleeper. The watcher comes second: it has something to watch, and looks by itself within
        // 1 ms. A new thread comes last, because its start costs more than a wake-up.
        if let Some((_, wake)) = self.roster.pop_sleeper() {
            return wake;
        }
        if let Some(watcher) = self.watcher {
            return self.roster.unpark(watcher);
        }
        self.grow(self.width)
    }

    /// There is nothing more to start: one that sleeps may leave. A watcher need not be called, because its
    /// nap ends by itself.
    pub(super) fn wake_sleeper(&mut self) -> Wake {
        self.roster
            .pop_sleeper()
            .map_or(Wake::Nobody, |(_, wake)| wake)
    }

    /// Unstarted items may get stuck with the thread in the source. Decides which thread watches over them.
    /// `spare`: a thread more than `n` may be leased for it.
    pub(super) fn call_watcher(&mut self, spare: bool) -> Wake {
        if let Some(watcher) = self.watcher {
            return self.roster.unpark(watcher);
        }
        if let Some((thread, wake)) = self.roster.pop_sleeper() {
            // Entered under this lock, before the thread is awake: the next caller finds a watcher. It looks
            // at the open chunk when it has come.
            self.watcher = Some(thread);
            return wake;
        }
        // The spare thread is leased here and nowhere else. All `n` may be in closures or in the source, and
        // then only one thread more can borrow the permit of a puller that is stuck.
        let wake = self.grow(self.width.saturating_add(usize::from(spare)));
        if let Wake::Lease(thread) = wake {
            self.watcher = Some(thread);
        }
        wake
    }

    /// A thread watches over the open chunk from now on, or none does.
    pub(super) fn set_watched(&mut self, watched: bool) {
        self.watched = watched;
        self.tell_puller();
    }

    /// The consumer watches until its next nap is over, or it watches no longer.
    pub(super) fn set_looked(&mut self, at: Option<Instant>) {
        self.looked = at;
        self.tell_puller();
    }

    /// Tells the puller, by the `limit` of the open chunk, whether a thread watches over what it holds.
    pub(super) fn tell_puller(&mut self) -> bool {
        // Evaluated at each change, under the lock. Only one change has no call: the time of `looked` is
        // over. This is why `is_covered` asks for a second thread.
        let watched = self.is_watched() || self.is_covered();
        if let Some(open) = &self.open {
            open.chunk.set_watched(watched, &mut self.key);
        }
        watched
    }

    /// The watch of a thread ends. Returns whether another thread must watch. That is so if a puller holds
    /// items; and also if there is `more` to start, and a thread in the source might keep the permit for it.
    pub(super) fn end_watch(&mut self, more: bool) -> bool {
        // The slow side of pull / watch: store `ALONE` in the open chunk, heavy barrier, load `pulled`. With
        // the steps swapped, a puller could add an item after this look, see `OPEN`, and stay in the source
        // for an hour with it. The price is an interruption of other cores. Skipped if the consumer covers,
        // as then `OPEN` stays true.
        self.set_watched(false);
        if self.is_covered() {
            return false;
        }
        heavy(); // pairs with the light one in `WriteCursor::push`
        // The second case is not about a chunk: a thread that runs nothing may be on its way into the source,
        // where its permit is of no use. Only a thread that is awake can borrow it.
        self.is_something_in_hand() || more && self.is_permit_unused()
    }

    /// Whether a thread has a permit and runs nothing: it is in the source, or on its way there or back.
    pub(super) fn is_permit_unused(&self) -> bool {
        self.permits.is_any_unused(self.running())
    }

    /// How many threads run an item, or the copy of one. A thread is counted from the critical section in
    /// which it gets its work to the one in which that is done.
    fn running(&self) -> usize {
        let runs = self.active.iter().flatten().count();
        runs + self.copying + usize::from(self.consumer_permit.is_some())
    }

    /// Whether a puller holds items that no thread has started. Closing and sealing take `open` out under
    /// this lock, so items that are counted here are still the puller's.
    pub(super) fn is_something_in_hand(&self) -> bool {
        self.open
            .as_ref()
            .is_some_and(|open| open.chunk.pulled() > 0)
    }

    pub(super) fn is_watched(&self) -> bool {
        self.watched
    }

    /// Whether the consumer watches: it naps, or has been away for a moment only.
    pub(super) fn is_looked_after(&self) -> bool {
        self.looked.is_some_and(|at| at.elapsed() < PRESENCE)
    }

    /// Whether the consumer's watch is enough, although it may stay away from now on. It is, if another
    /// thread would notice: there is a backup watcher, or no thread idles, and the first one that comes to
    /// idle becomes it.
    pub(super) fn is_covered(&self) -> bool {
        let roster = &self.roster;
        // The spare thread of a stage of width 1 counts as idle even before it is leased. No other thread can
        // come to idle while the only worker is stuck in the source. So the puller is told to call it.
        let spare = self.width == 1 && roster.len() == 1 && roster.can_grow();
        let idle = roster.is_anybody_asleep() || spare;
        self.is_looked_after() && (self.backup_watcher.is_some() || !idle)
    }

    /// The thread is neither the watcher nor the backup watcher any more. Returns whether it was the last of
    /// them, and something may be left unwatched. Passes no barrier, unlike `end_watch`.
    pub(super) fn resign(&mut self, thread: usize) -> bool {
        let backup_watcher = self
            .backup_watcher
            .take_if(|backup_watcher| *backup_watcher == thread)
            .is_some();
        let watcher = self.watcher.take_if(|watcher| *watcher == thread).is_some();
        if watcher {
            self.set_watched(false);
        }
        watcher || backup_watcher && self.watcher.is_none()
    }

    /// From now on rescuers may see this chunk, while it is filled.
    pub(super) fn show(&mut self, open: OpenChunk<I, B>) {
        self.open = Some(open);
        // The chunk was opened as `OPEN`, which would promise a watcher. Corrected in the critical section in
        // which the chunk becomes visible, and before the puller adds its first item.
        self.tell_puller();
    }

    fn grow(&mut self, most: usize) -> Wake {
        if self.no_more_states {
            return Wake::Nobody; // it would only leave
        }
        let wake = self.roster.grow(most);
        if let Wake::Lease(_) = wake {
            self.active.push(None);
        }
        wake
    }

    /// Counts the consumer's thread among the stage's threads, because it takes part in the work.
    pub(super) fn enlist(&mut self) -> usize {
        self.active.push(None);
        self.roster.enlist()
    }

    /// No thread could be started: the stage continues with those it has. Decides which of them watches in its place.
    pub(super) fn lease_failed(&mut self, thread: usize) -> Wake {
        self.roster.lease_failed();
        // It was made the watcher when the lease was decided. All callers rely on it since, and all threads that
        // have fallen asleep.
        let watcher = self.watcher.take_if(|watcher| *watcher == thread);
        watcher.map_or(Wake::Nobody, |_| self.call_watcher(false))
    }

    /// Whether no thread runs a closure, or could pull: each of these needs a permit. A thread whose permit
    /// was lent may still be in the source, so the caller must also try the source's lock.
    pub(super) fn is_at_rest(&self) -> bool {
        self.permits.are_all_free()
    }

    /// Gives the consumer a permit. There is a free one, because the caller has found the stage at rest under
    /// the lock.
    pub(super) fn permit_consumer(&mut self) {
        debug_assert!(self.consumer_permit.is_none() && self.permits.is_any_free());
        self.consumer_permit = self.permits.take();
    }

    /// Gives the consumer this permit, if it is one.
    pub(super) fn give_consumer(&mut self, permit: Option<WidthPermit>) {
        debug_assert!(self.consumer_permit.is_none(), "it has one");
        self.consumer_permit = permit;
    }

    pub(super) fn has_consumer_permit(&self) -> bool {
        self.consumer_permit.is_some()
    }

    /// Takes the permit back, if the consumer still has one. Whether the watcher or the consumer is first, it
    /// is given back once.
    pub(super) fn retire_consumer(&mut self) {
        self.permits.give_back(self.consumer_permit.take());
    }

    // ---- chunks

    /// A chunk that no other thread holds, for `chunk::open`.
    pub(super) fn fresh(&mut self) -> Arc<Chunk<I, B>> {
        if let Some(chunk) = self.free.pop() {
            return chunk;
        }
        // A retired chunk was exhausted by the consumer while its owner still held a handle. The owner
        // releases it in its next critical section, so most are free by now. None is waited for; a new one is
        // allocated instead.
        for place in (0..self.retired.len()).rev() {
            match self.retired.swap_remove(place).recycle() {
                Ok(chunk) => return chunk,
                Err(held) => self.retired.push(held),
            }
        }
        Arc::new(Chunk::new(self.weighs))
    }

    /// Takes an unused chunk back.
    pub(super) fn keep(&mut self, chunk: Arc<Chunk<I, B>>) {
        self.free.push(chunk);
    }

    /// Takes a chunk back that the consumer has exhausted. Its owner may still hold it, between its last
    /// `publish` and its next critical section. Then the chunk is retired until that is over.
    pub(super) fn recycle(&mut self, taking: ChunkReader<I, B>) {
        match taking.recycle() {
            Ok(chunk) => self.free.push(chunk),
            Err(held) => self.retired.push(held),
        }
    }

    /// Shows thieves the chunk that this thread runs.
    pub(super) fn activate(&mut self, thread: usize, chunk: &ChunkExecutor<I, B>) {
        *self.place_of(thread) = Some(Arc::clone(chunk.chunk()));
        self.meter.set(thread, Doing::Run);
    }

    pub(super) fn deactivate(&mut self, thread: usize) {
        *self.place_of(thread) = None;
        self.meter.note(|meter| {
            let count = |totals: &mut Totals| totals.ran = self.ran;
            meter.set_and_count(Instant::now(), thread, Doing::Nothing, count);
        });
    }

    fn place_of(&mut self, thread: usize) -> &mut Option<Arc<Chunk<I, B>>> {
        // Only the consumer has no place of its own in `active`, unless it takes part.
        self.active.get_mut(thread).unwrap_or(&mut self.at_head)
    }

    pub(super) fn active(&self, thread: usize) -> Option<&Arc<Chunk<I, B>>> {
        self.active.get(thread).unwrap_or(&self.at_head).as_ref()
    }

    fn all_active(&self) -> impl Iterator<Item = &Arc<Chunk<I, B>>> {
        self.active.iter().chain([&self.at_head]).flatten()
    }

    /// How many numbers of threads have been given out.
    pub(super) fn threads(&self) -> usize {
        self.active.len()
    }

    /// The thread, other than `but`, whose chunk has the most unclaimed items, and how many. The counters
    /// move while they are read, so this is a guess, and `split` decides.
    pub(super) fn richest(&self, but: usize) -> Option<(usize, usize)> {
        let workers = self.active.iter().enumerate();
        workers
            .chain([(CONSUMER, &self.at_head)])
            .filter(|(at, _)| *at != but)
            .filter_map(|(at, chunk)| Some((at, chunk.as_ref()?.unclaimed())))
            .filter(|(_, unclaimed)| *unclaimed > 0)
            .max_by_key(|(_, unclaimed)| *unclaimed)
    }

    /// How far a thread is in its chunk. `None` if there is nothing to steal from it.
    pub(super) fn sight_of(&self, thread: usize) -> Option<Progress> {
        let chunk = self.active(thread).filter(|chunk| chunk.unclaimed() > 0)?;
        Some(Progress {
            thread,
            first: chunk.first(),
            count: chunk.published(),
            at: Instant::now(),
        })
    }

    /// Whether any closure of a chunk may be running. For the consumer of a cancelled stage, which has passed
    /// the heavy barrier of claim / cut: an owner that starts a chunk later sees the cut.
    pub(super) fn is_any_started(&self) -> bool {
        self.all_active().any(|chunk| chunk.is_started())
    }

    /// How far all threads are, if as many run items as may. Then no thread is in the source, or on the way
    /// there, with a permit that could be borrowed. `None`: a permit is free or unused, so watching may be of
    /// use.
    pub(super) fn sight_of_all(&self) -> Option<Progress> {
        let runs = self.all_active();
        (!self.permits.is_any_free() && !self.is_permit_unused()).then(|| Progress {
            thread: CONSUMER,
            first: self.pulls,
            count: runs.map(|chunk| chunk.published()).sum(),
            at: Instant::now(),
        })
    }

    /// Releases all chunks that are kept for thieves and for later use. Before the rest is cleared, because
    /// `ChunkReader::clear` needs the last handle of a chunk.
    pub(super) fn forget_runs(&mut self) {
        self.active.clear();
        self.at_head = None;
        self.left = None;
        self.free.clear();
        self.retired.clear();
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
