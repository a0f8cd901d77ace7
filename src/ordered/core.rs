//! The core: everything of a stage that is under its one short lock. It is taken a few times a
//! run, never while user code runs.
//!
//! # Who sleeps, who wakes
//!
//! A thread runs closures only while it has one of the `n` [permits](crate::ordered::permits). A thread that finds nothing to do gives its permit back and either *watches* (naps of at most
//! 1 ms; one thread at most, and only while there is something to watch) or *sleeps* without a
//! limit (while the consumer watches, one sleeps for 20 ms at most: the backup watcher). It does so under the
//! lock, after it has looked at every condition that could wake it; whoever makes such a condition
//! true takes the lock afterwards and calls [`Core::wake`]. So either the sleeper's look sees the
//! condition, or the waker sees the sleeper. The conditions:
//!
//! - a chunk lies in `waiting` (who pushed it wakes);
//! - the source is free and there is room (who leaves the source wakes; it lets go of the source
//!   while it holds this lock, and sleepers try the source's lock while they hold this one);
//! - room was made (the consumer wakes, when `yielded` reaches `wake_at`);
//! - a chunk has unclaimed items (who activates a chunk, or steals half of one, wakes);
//! - the source has ended and everything has been started (who leaves the stage wakes the next to leave);
//! - the stage stops (every parker is unparked; `stopped` is looked at after each park).
//!
//! One wake-up wakes one thread, which wakes the next if it leaves work behind: a chain, no herd.
//! If nobody sleeps and the stage has leased fewer than `n` threads, waking means leasing one more.

use crate::ordered::chunk::{Chunk, ChunkExecutor, ChunkReader, LockProof};
use crate::ordered::permits::{Permit, Permits};
use crate::ordered::reorder::Reorder;
use crate::runtime::barrier::heavy;
use crate::runtime::cost::Backoff;
use crate::runtime::roster::{Roster, Wake};
use crate::sync::{Arc, Instant};
use std::time::Duration;

/// In the place of a thread's number.
pub(super) const CONSUMER: usize = usize::MAX;
/// So long after it has looked, the consumer still counts as the one who watches: it naps for half
/// of that at most.
const PRESENCE: Duration = Duration::from_millis(2);

/// The chunk that is being filled by whoever is in the source.
#[derive(Debug)]
pub(super) struct OpenChunk<I, B> {
    pub(super) chunk: Arc<Chunk<I, B>>,
    /// In an unordered stage, for whoever will own the chunk.
    pub(super) arrival: Option<ChunkReader<I, B>>,
}

/// Whether the consumer runs the items itself; see `inline.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inline {
    Off,
    /// Nobody pulls any more, so that the consumer can take over.
    Wanted,
    On,
}

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Core<I, B> {
    pub(super) key: LockProof,
    /// Ordered stages: all runs that have not reached the consumer, from the moment they are opened.
    pub(super) order: Reorder<ChunkReader<I, B>>,
    /// How many items the source had, once that is known.
    pub(super) end: Option<u64>,
    pub(super) open: Option<OpenChunk<I, B>>,
    /// How many threads run an item that has been given up.
    pub(super) abandoned: usize,
    /// How many threads run the copy of an item.
    pub(super) copying: usize,
    /// How many runs of more than one item have been opened: whether batches flow.
    pub(super) batches: u64,
    /// How many pulls have ended.
    pub(super) pulls: u64,
    /// Who watches the source, and what pullers are told of it.
    pub(super) watcher: Option<usize>,
    watched: bool,
    /// The idle thread that sees to it, now and then, that the consumer still watches.
    pub(super) backup_watcher: Option<usize>,
    /// When the consumer has last looked after the source, if it does.
    looked: Option<Instant>,
    pub(super) permits: Permits,
    pub(super) inline: Inline,
    /// The consumer is in a source that blocks, and will see to it that it is watched when it comes out.
    pub(super) watches_itself: bool,
    /// When that may be tried again.
    pub(super) pause: Backoff,
    /// The consumer runs a closure, or may do so at any time, and has a permit for it.
    consumer_permit: Option<Permit>,
    /// The chunk that each thread executes.
    active: Vec<Option<Arc<Chunk<I, B>>>>,
    pub(super) roster: Roster,
    width: usize,
    /// Runs to be used again, and such that their owner has not quite let go of.
    free: Vec<Arc<Chunk<I, B>>>,
    retired: Vec<ChunkReader<I, B>>,
}

/// How far somebody was at some time.
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

    /// Whether nothing has moved for `limit` since `old`; keeps the older of two equal sights.
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
    pub(super) fn new(width: usize) -> Self {
        Core {
            key: LockProof::new(),
            order: Reorder::new(),
            end: None,
            open: None,
            abandoned: 0,
            copying: 0,
            batches: 0,
            pulls: 0,
            watcher: None,
            watched: false,
            backup_watcher: None,
            looked: None,
            permits: Permits::new(width),
            inline: Inline::Off,
            watches_itself: false,
            pause: Backoff::NONE,
            consumer_permit: None,
            active: Vec::new(),
            roster: Roster::new(),
            width,
            free: Vec::new(),
            retired: Vec::new(),
        }
    }

    // ---- threads

    /// Somebody could start something: who is to be woken for it.
    pub(super) fn wake(&mut self) -> Wake {
        if !self.permits.is_any_free() {
            // All `n` are at work, and each will look for more when it is done.
            return Wake::Nobody;
        }
        if let Some((_, wake)) = self.roster.pop_sleeper() {
            return wake;
        }
        if let Some(watcher) = self.watcher {
            return self.roster.unpark(watcher);
        }
        self.grow(self.width)
    }

    /// There is nothing more to start: one that sleeps may leave.
    pub(super) fn wake_sleeper(&mut self) -> Wake {
        self.roster
            .pop_sleeper()
            .map_or(Wake::Nobody, |(_, wake)| wake)
    }

    /// Unstarted items may get stuck with the thread in the source: who is to look after them.
    /// `spare`: a thread more than `n` may be leased for it.
    pub(super) fn call_watcher(&mut self, spare: bool) -> Wake {
        if let Some(watcher) = self.watcher {
            return self.roster.unpark(watcher);
        }
        if let Some((thread, wake)) = self.roster.pop_sleeper() {
            self.watcher = Some(thread);
            return wake;
        }
        let wake = self.grow(self.width.saturating_add(usize::from(spare)));
        if let Wake::Lease(thread) = wake {
            self.watcher = Some(thread);
        }
        wake
    }

    /// A thread looks after the open chunk from now on; or none does.
    pub(super) fn set_watched(&mut self, watched: bool) {
        self.watched = watched;
        self.tell_puller();
    }

    /// The consumer looks after it until its next nap is over; or does so no longer.
    pub(super) fn set_looked(&mut self, at: Option<Instant>) {
        self.looked = at;
        self.tell_puller();
    }

    /// Tells the puller whether somebody looks after what it holds.
    pub(super) fn tell_puller(&mut self) -> bool {
        let watched = self.is_watched() || self.is_covered();
        if let Some(open) = &self.open {
            open.chunk.set_watched(watched, &mut self.key);
        }
        watched
    }

    /// The watch of a thread ends. Whether there is something that another has to look after: what a puller
    /// holds, or, with `more` left to start, that a thread in the source might keep its permit from it.
    pub(super) fn end_watch(&mut self, more: bool) -> bool {
        self.set_watched(false);
        if self.is_covered() {
            return false;
        }
        heavy(); // pairs with the light one in `WriteCursor::push`
        self.is_something_in_hand() || more && self.is_permit_unused()
    }

    /// Whether a thread has a permit and runs nothing: it is in the source, or on its way there or back.
    fn is_permit_unused(&self) -> bool {
        self.permits.is_any_unused(self.running())
    }

    /// How many run an item, or the copy of one.
    fn running(&self) -> usize {
        let runs = self.active.iter().flatten().count();
        runs + self.copying + usize::from(self.consumer_permit.is_some())
    }

    /// Whether a puller holds items that nobody has started.
    pub(super) fn is_something_in_hand(&self) -> bool {
        self.open
            .as_ref()
            .is_some_and(|open| open.chunk.pulled() > 0)
    }

    pub(super) fn is_watched(&self) -> bool {
        self.watched
    }

    /// Whether the consumer looks after it, which naps, or has been away for a moment only.
    pub(super) fn is_looked_after(&self) -> bool {
        self.looked.is_some_and(|at| at.elapsed() < PRESENCE)
    }

    /// Whether that is enough, although the consumer may stay away from now on: a backup watcher would notice,
    /// or nobody idles, and whoever comes to idle will be the backup watcher.
    pub(super) fn is_covered(&self) -> bool {
        let roster = &self.roster;
        let spare = self.width == 1 && roster.len() == 1 && roster.can_grow();
        let idle = roster.is_anybody_asleep() || spare;
        self.is_looked_after() && (self.backup_watcher.is_some() || !idle)
    }

    /// A thread is neither the watcher any more nor the backup watcher. Whether that leaves nobody.
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

    /// From now on others may see this chunk, while it is filled.
    pub(super) fn show(&mut self, open: OpenChunk<I, B>) {
        self.open = Some(open);
        self.tell_puller();
    }

    fn grow(&mut self, most: usize) -> Wake {
        let wake = self.roster.grow(most);
        if let Wake::Lease(_) = wake {
            self.active.push(None);
        }
        wake
    }

    /// Counts the consumer's thread among the stage's, as it takes part.
    pub(super) fn enlist(&mut self) -> usize {
        self.active.push(None);
        self.roster.enlist()
    }

    /// No thread could be started: the stage goes on with those it has.
    pub(super) fn lease_failed(&mut self, thread: usize) {
        self.roster.lease_failed();
        self.watcher.take_if(|watcher| *watcher == thread);
    }

    /// Whether nobody runs a closure, or pulls.
    pub(super) fn is_at_rest(&self) -> bool {
        self.permits.are_all_free()
    }

    /// Gives the consumer a permit.
    pub(super) fn permit_consumer(&mut self) {
        debug_assert!(self.consumer_permit.is_none() && self.permits.is_any_free());
        self.consumer_permit = self.permits.take();
    }

    /// Takes it back.
    pub(super) fn retire_consumer(&mut self) {
        self.permits.give_back(self.consumer_permit.take());
    }

    // ---- runs

    pub(super) fn fresh(&mut self) -> Arc<Chunk<I, B>> {
        if let Some(chunk) = self.free.pop() {
            return chunk;
        }
        for place in 0..self.retired.len() {
            match self.retired.swap_remove(place).recycle() {
                Ok(chunk) => return chunk,
                Err(held) => self.retired.push(held),
            }
        }
        Arc::new(Chunk::new())
    }

    /// Takes an unused chunk back.
    pub(super) fn keep(&mut self, chunk: Arc<Chunk<I, B>>) {
        self.free.push(chunk);
    }

    /// Takes a chunk back that the consumer has exhausted.
    pub(super) fn recycle(&mut self, taking: ChunkReader<I, B>) {
        match taking.recycle() {
            Ok(chunk) => self.free.push(chunk),
            Err(held) => self.retired.push(held),
        }
    }

    /// Thieves may look at what this thread runs.
    pub(super) fn activate(&mut self, thread: usize, chunk: &ChunkExecutor<I, B>) {
        if let Some(place) = self.active.get_mut(thread) {
            *place = Some(Arc::clone(chunk.chunk()));
        }
    }

    pub(super) fn deactivate(&mut self, thread: usize) {
        if let Some(place) = self.active.get_mut(thread) {
            *place = None;
        }
    }

    pub(super) fn active(&self, thread: usize) -> Option<&Arc<Chunk<I, B>>> {
        self.active.get(thread)?.as_ref()
    }

    /// How many threads have been leased.
    pub(super) fn threads(&self) -> usize {
        self.active.len()
    }

    /// The chunk with the most items that nobody has started, but for the thread's own.
    pub(super) fn richest(&self, but: usize) -> Option<(usize, usize)> {
        let others = self.active.iter().enumerate().filter(|(at, _)| *at != but);
        others
            .filter_map(|(at, chunk)| Some((at, chunk.as_ref()?.unclaimed())))
            .filter(|(_, unclaimed)| *unclaimed > 0)
            .max_by_key(|(_, unclaimed)| *unclaimed)
    }

    /// How far a thread is in its chunk; `None` if it has left nothing unclaimed.
    pub(super) fn sight_of(&self, thread: usize) -> Option<Progress> {
        let chunk = self.active(thread).filter(|chunk| chunk.unclaimed() > 0)?;
        Some(Progress {
            thread,
            first: chunk.first(),
            count: chunk.published(),
            at: Instant::now(),
        })
    }

    /// Whether any closure may be running.
    pub(super) fn is_any_started(&self) -> bool {
        self.active.iter().flatten().any(|chunk| chunk.is_started())
    }

    /// How far all have come, if as many run items as may: then nobody is in the source, or on the way there, with
    /// a permit that could be borrowed.
    pub(super) fn sight_of_all(&self) -> Option<Progress> {
        let runs = self.active.iter().flatten();
        (!self.permits.is_any_free() && !self.is_permit_unused()).then(|| Progress {
            thread: CONSUMER,
            first: self.pulls,
            count: runs.map(|chunk| chunk.published()).sum(),
            at: Instant::now(),
        })
    }

    /// Lets go of all that is kept for thieves and for later use.
    pub(super) fn forget_runs(&mut self) {
        self.active.clear();
        self.free.clear();
        self.retired.clear();
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
