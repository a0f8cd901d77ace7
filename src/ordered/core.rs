//! The core: everything of a stage that is under its one short lock. It is taken a few times a
//! run, never while user code runs.
//!
//! # Who sleeps, who wakes
//!
//! A stage of width `n` has `n` permits; a thread runs closures only while it has one, so there are
//! never more than `n` at once, although the stage may lease one thread more (see `lent` below).
//! A thread that finds nothing to do gives its permit back and either *watches* (naps of at most
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
use crate::ordered::reorder::Reorder;
use crate::runtime::barrier::heavy;
use crate::runtime::cost::Backoff;
use crate::runtime::roster::{Roster, Wake};
use crate::sync::{Arc, Instant};
use std::time::Duration;

/// In the place of a thread's number.
pub(crate) const CONSUMER: usize = usize::MAX;
/// So long after it has looked, the consumer still counts as the one who watches: it naps for half
/// of that at most.
const PRESENCE: Duration = Duration::from_millis(2);

/// The chunk that is being filled by whoever is in the source.
#[derive(Debug)]
pub(crate) struct OpenChunk<I, B> {
    pub(crate) chunk: Arc<Chunk<I, B>>,
    /// In an unordered stage, for whoever will own the chunk.
    pub(crate) arrival: Option<ChunkReader<I, B>>,
}

/// Whether the consumer runs the items itself; see `inline.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inline {
    Off,
    /// Nobody pulls any more, so that the consumer can take over.
    Wanted,
    On,
}

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Core<I, B> {
    pub(crate) key: LockProof,
    /// Ordered stages: all runs that have not reached the consumer, from the moment they are opened.
    pub(crate) order: Reorder<ChunkReader<I, B>>,
    /// How many items the source had, once that is known.
    pub(crate) end: Option<u64>,
    pub(crate) open: Option<OpenChunk<I, B>>,
    /// The thread in the source was found stuck there with unstarted items, and a spare thread
    /// runs them with its permit. It learns that when it comes back.
    pub(crate) lent: bool,
    /// How many threads run an item that has been given up.
    pub(crate) abandoned: usize,
    /// How many threads run the copy of an item.
    pub(crate) copying: usize,
    /// How many runs of more than one item have been opened: whether batches flow.
    pub(crate) batches: u64,
    /// How many pulls have ended.
    pub(crate) pulls: u64,
    /// Who watches the source, and what pullers are told of it.
    pub(crate) watcher: Option<usize>,
    watched: bool,
    /// The idle thread that sees to it, now and then, that the consumer still watches.
    pub(crate) backup_watcher: Option<usize>,
    /// When the consumer has last looked after the source, if it does.
    looked: Option<Instant>,
    pub(crate) permits: usize,
    pub(crate) inline: Inline,
    /// The consumer is in a source that blocks, and will see to it that it is watched when it comes out.
    pub(crate) watches_itself: bool,
    /// When that may be tried again.
    pub(crate) pause: Backoff,
    /// The consumer runs a closure, or may do so at any time, and has a permit for it.
    consumer_permit: bool,
    /// The chunk that each thread executes.
    active: Vec<Option<Arc<Chunk<I, B>>>>,
    pub(crate) roster: Roster,
    width: usize,
    /// Runs to be used again, and such that their owner has not quite let go of.
    free: Vec<Arc<Chunk<I, B>>>,
    retired: Vec<ChunkReader<I, B>>,
}

/// How far somebody was at some time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    pub(crate) thread: usize,
    pub(crate) first: u64,
    pub(crate) count: usize,
    pub(crate) at: Instant,
}

impl Progress {
    pub(crate) fn same(&self, other: &Progress) -> bool {
        (self.thread, self.first, self.count) == (other.thread, other.first, other.count)
    }

    /// Whether nothing has moved for `limit` since `old`; keeps the older of two equal sights.
    pub(crate) fn unmoved(old: &mut Option<Progress>, now: Progress, limit: Duration) -> bool {
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
    pub(crate) fn new(width: usize) -> Self {
        Core {
            key: LockProof::new(),
            order: Reorder::new(),
            end: None,
            open: None,
            lent: false,
            abandoned: 0,
            copying: 0,
            batches: 0,
            pulls: 0,
            watcher: None,
            watched: false,
            backup_watcher: None,
            looked: None,
            permits: width,
            inline: Inline::Off,
            watches_itself: false,
            pause: Backoff::NONE,
            consumer_permit: false,
            active: Vec::new(),
            roster: Roster::new(),
            width,
            free: Vec::new(),
            retired: Vec::new(),
        }
    }

    // ---- threads

    /// Somebody could start something: who is to be woken for it.
    pub(crate) fn wake(&mut self) -> Wake {
        if self.permits == 0 {
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
    pub(crate) fn wake_sleeper(&mut self) -> Wake {
        self.roster
            .pop_sleeper()
            .map_or(Wake::Nobody, |(_, wake)| wake)
    }

    /// Unstarted items may get stuck with the thread in the source: who is to look after them.
    /// `spare`: a thread more than `n` may be leased for it.
    pub(crate) fn call_watcher(&mut self, spare: bool) -> Wake {
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
    pub(crate) fn set_watched(&mut self, watched: bool) {
        self.watched = watched;
        self.tell_puller();
    }

    /// The consumer looks after it until its next nap is over; or does so no longer.
    pub(crate) fn set_looked(&mut self, at: Option<Instant>) {
        self.looked = at;
        self.tell_puller();
    }

    /// Tells the puller whether somebody looks after what it holds.
    pub(crate) fn tell_puller(&mut self) -> bool {
        let watched = self.is_watched() || self.is_covered();
        if let Some(open) = &self.open {
            open.chunk.set_watched(watched, &mut self.key);
        }
        watched
    }

    /// The watch of a thread ends. Whether there is something that another has to look after: what a puller
    /// holds, or, with `more` left to start, that a thread in the source might keep its permit from it.
    pub(crate) fn end_watch(&mut self, more: bool) -> bool {
        self.set_watched(false);
        if self.is_covered() {
            return false;
        }
        heavy(); // pairs with the light one in `WriteCursor::push`
        self.is_something_in_hand() || more && self.is_permit_unused()
    }

    /// Whether a thread has a permit and runs nothing: it is in the source, or on its way there or back.
    fn is_permit_unused(&self) -> bool {
        self.permits + self.running() < self.width
    }

    /// How many run an item, or the copy of one.
    fn running(&self) -> usize {
        let runs = self.active.iter().flatten().count();
        runs + self.copying + usize::from(self.consumer_permit)
    }

    /// Whether a puller holds items that nobody has started.
    pub(crate) fn is_something_in_hand(&self) -> bool {
        self.open
            .as_ref()
            .is_some_and(|open| open.chunk.pulled() > 0)
    }

    pub(crate) fn is_watched(&self) -> bool {
        self.watched
    }

    /// Whether the consumer looks after it, which naps, or has been away for a moment only.
    pub(crate) fn is_looked_after(&self) -> bool {
        self.looked.is_some_and(|at| at.elapsed() < PRESENCE)
    }

    /// Whether that is enough, although the consumer may stay away from now on: a backup watcher would notice,
    /// or nobody idles, and whoever comes to idle will be the backup watcher.
    pub(crate) fn is_covered(&self) -> bool {
        let roster = &self.roster;
        let spare = self.width == 1 && roster.len() == 1 && roster.can_grow();
        let idle = roster.is_anybody_asleep() || spare;
        self.is_looked_after() && (self.backup_watcher.is_some() || !idle)
    }

    /// A thread is neither the watcher any more nor the backup watcher. Whether that leaves nobody.
    pub(crate) fn resign(&mut self, thread: usize) -> bool {
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
    pub(crate) fn show(&mut self, open: OpenChunk<I, B>) {
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
    pub(crate) fn enlist(&mut self) -> usize {
        self.active.push(None);
        self.roster.enlist()
    }

    /// No thread could be started: the stage goes on with those it has.
    pub(crate) fn lease_failed(&mut self, thread: usize) {
        self.roster.lease_failed();
        self.watcher.take_if(|watcher| *watcher == thread);
    }

    /// Whether nobody runs a closure, or pulls.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.permits == self.width
    }

    /// Gives the consumer a permit.
    pub(crate) fn permit_consumer(&mut self) {
        debug_assert!(!self.consumer_permit && self.permits > 0);
        self.permits -= 1;
        self.consumer_permit = true;
    }

    /// Takes it back.
    pub(crate) fn retire_consumer(&mut self) {
        self.permits += usize::from(std::mem::take(&mut self.consumer_permit));
    }

    // ---- runs

    pub(crate) fn fresh(&mut self) -> Arc<Chunk<I, B>> {
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
    pub(crate) fn keep(&mut self, chunk: Arc<Chunk<I, B>>) {
        self.free.push(chunk);
    }

    /// Takes a chunk back that the consumer has exhausted.
    pub(crate) fn recycle(&mut self, taking: ChunkReader<I, B>) {
        match taking.recycle() {
            Ok(chunk) => self.free.push(chunk),
            Err(held) => self.retired.push(held),
        }
    }

    /// Thieves may look at what this thread runs.
    pub(crate) fn activate(&mut self, thread: usize, chunk: &ChunkExecutor<I, B>) {
        if let Some(place) = self.active.get_mut(thread) {
            *place = Some(Arc::clone(chunk.chunk()));
        }
    }

    pub(crate) fn deactivate(&mut self, thread: usize) {
        if let Some(place) = self.active.get_mut(thread) {
            *place = None;
        }
    }

    pub(crate) fn active(&self, thread: usize) -> Option<&Arc<Chunk<I, B>>> {
        self.active.get(thread)?.as_ref()
    }

    /// How many threads have been leased.
    pub(crate) fn threads(&self) -> usize {
        self.active.len()
    }

    /// The chunk with the most items that nobody has started, but for the thread's own.
    pub(crate) fn richest(&self, but: usize) -> Option<(usize, usize)> {
        let others = self.active.iter().enumerate().filter(|(at, _)| *at != but);
        others
            .filter_map(|(at, chunk)| Some((at, chunk.as_ref()?.unclaimed())))
            .filter(|(_, unclaimed)| *unclaimed > 0)
            .max_by_key(|(_, unclaimed)| *unclaimed)
    }

    /// How far a thread is in its chunk; `None` if it has left nothing unclaimed.
    pub(crate) fn sight_of(&self, thread: usize) -> Option<Progress> {
        let chunk = self.active(thread).filter(|chunk| chunk.unclaimed() > 0)?;
        Some(Progress {
            thread,
            first: chunk.first(),
            count: chunk.published(),
            at: Instant::now(),
        })
    }

    /// Whether any closure may be running.
    pub(crate) fn is_any_started(&self) -> bool {
        self.active.iter().flatten().any(|chunk| chunk.is_started())
    }

    /// How far all have come, if as many run items as may: then nobody is in the source, or on the way there, with
    /// a permit that could be borrowed.
    pub(crate) fn sight_of_all(&self) -> Option<Progress> {
        let runs = self.active.iter().flatten();
        (self.permits == 0 && !self.is_permit_unused()).then(|| Progress {
            thread: CONSUMER,
            first: self.pulls,
            count: runs.map(|chunk| chunk.published()).sum(),
            at: Instant::now(),
        })
    }

    /// Lets go of all that is kept for thieves and for later use.
    pub(crate) fn forget_runs(&mut self) {
        self.active.clear();
        self.free.clear();
        self.retired.clear();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::ordered::chunk::{self, ChunkWriter, Claim};
    use crate::sync::Parker;

    type TestDesk = Core<usize, ()>;

    /// A core whose threads are all registered.
    fn staffed(width: usize, threads: usize) -> TestDesk {
        let mut core = Core::new(width);
        for thread in 0..threads {
            assert_eq!(core.enlist(), thread);
            core.roster
                .register(thread, Parker::new().unparker().clone());
        }
        core
    }

    /// A look of a moment ago, however slow this test is.
    fn now() -> Option<Instant> {
        Instant::now().checked_add(Duration::from_secs(3600))
    }

    fn long_ago() -> Option<Instant> {
        Instant::now().checked_sub(PRESENCE)
    }

    /// Opens a chunk that others can see.
    fn open(core: &mut TestDesk, items: usize) -> ChunkWriter<usize, ()> {
        let (mut filling, _) = chunk::open(Arc::new(Chunk::new()), 0, items + 8);
        for item in 0..items {
            let _ = filling.cursor().push(item);
        }
        core.show(OpenChunk {
            chunk: Arc::clone(filling.chunk()),
            arrival: None,
        });
        filling
    }

    #[test]
    fn wakes_a_sleeper_then_the_watcher_then_leases() {
        let mut core = staffed(3, 2);
        core.permits = 0;
        core.roster.fall_asleep(1);
        assert!(matches!(core.wake(), Wake::Nobody), "all are at work");
        core.permits = 1;
        core.watcher = Some(0);
        assert!(matches!(core.wake(), Wake::Unpark(_)));
        assert!(!core.roster.is_anybody_asleep());
        assert!(matches!(core.wake(), Wake::Unpark(_)), "the watcher");
        assert_eq!(core.watcher, Some(0));
        core.watcher = None;
        assert!(matches!(core.wake(), Wake::Lease(2)));
        assert!(matches!(core.wake(), Wake::Nobody), "never more than three");
        core.roster.fall_asleep(2);
        let woken = core.wake();
        assert!(matches!(woken, Wake::Nobody), "it is being started");
    }

    #[test]
    fn at_the_end_only_who_sleeps_is_woken() {
        let mut core = staffed(3, 1);
        core.watcher = Some(0);
        assert!(matches!(core.wake_sleeper(), Wake::Nobody));
        core.watcher = None;
        core.roster.fall_asleep(0);
        assert!(matches!(core.wake_sleeper(), Wake::Unpark(_)));
        assert!(matches!(core.wake_sleeper(), Wake::Nobody));
    }

    #[test]
    fn who_is_called_becomes_the_watcher() {
        let mut core = staffed(2, 2);
        core.watcher = Some(1);
        core.roster.fall_asleep(0);
        assert!(matches!(core.call_watcher(true), Wake::Unpark(_)));
        assert_eq!(
            (core.watcher, core.roster.is_anybody_asleep()),
            (Some(1), true)
        );
        core.watcher = None;
        assert!(matches!(core.call_watcher(true), Wake::Unpark(_)));
        assert_eq!(
            (core.watcher, core.roster.is_anybody_asleep()),
            (Some(0), false)
        );
        core.watcher = None;
        assert!(matches!(core.call_watcher(false), Wake::Nobody));
        assert_eq!(core.watcher, None);
        assert!(matches!(core.call_watcher(true), Wake::Lease(2)), "a spare");
        assert_eq!(core.watcher, Some(2));
        core.lease_failed(2);
        assert_eq!(core.watcher, None);
        assert!(matches!(core.call_watcher(true), Wake::Nobody));
    }

    #[test]
    fn alone_is_who_can_lease_nobody() {
        let mut core = TestDesk::new(2);
        assert!(!core.roster.is_nobody());
        assert!(matches!(core.wake(), Wake::Lease(0)));
        assert_eq!(core.roster.len(), 1);
        core.lease_failed(0);
        assert!(core.roster.is_nobody());
        let mut core = staffed(2, 1);
        assert!(matches!(core.wake(), Wake::Lease(1)));
        core.lease_failed(1);
        assert!(!core.roster.is_nobody(), "one is there");
    }

    #[test]
    fn the_consumer_has_one_permit() {
        let mut core = TestDesk::new(2);
        assert!(core.is_at_rest());
        core.permit_consumer();
        assert!(!core.is_at_rest());
        assert_eq!(core.permits, 1);
        core.retire_consumer();
        assert!(core.is_at_rest());
        core.retire_consumer();
        assert_eq!(core.permits, 2, "given back once");
    }

    #[test]
    fn the_puller_is_told_who_looks_after_it() {
        let mut core = staffed(2, 2);
        let mut filling = open(&mut core, 1);
        assert!(!filling.cursor().push(1), "nobody does");
        assert!(!core.tell_puller());
        core.set_watched(true);
        assert!(core.is_watched() && core.tell_puller());
        assert!(filling.cursor().push(2));
        assert!(core.end_watch(false), "another has to");
        assert!(!core.is_watched());
        assert!(!filling.cursor().push(3));
        core.set_looked(now());
        assert!(filling.cursor().push(4), "the consumer does");
        assert!(!core.end_watch(false));
        core.set_looked(None);
        assert!(!filling.cursor().push(5));
    }

    #[test]
    fn nothing_is_in_hand_until_something_is_pulled() {
        let mut core = staffed(1, 1);
        assert!(!core.is_something_in_hand() && !core.end_watch(false));
        let mut filling = open(&mut core, 0);
        assert!(!core.is_something_in_hand() && !core.end_watch(false));
        let _ = filling.cursor().push(0);
        assert!(core.is_something_in_hand() && core.end_watch(false));
    }

    #[test]
    fn the_watch_is_handed_on_while_a_permit_may_be_kept_in_the_source() {
        let mut core = staffed(3, 3);
        core.permits = 0;
        let runs = [2, 2, 2].map(|items| chunk::filled(items, &mut core.key));
        core.activate(1, &runs[1].0);
        core.activate(2, &runs[2].0);
        assert!(
            core.end_watch(true),
            "thread 0 has a permit and runs nothing"
        );
        assert!(!core.end_watch(false), "but nothing waits for it");
        core.set_looked(now());
        assert!(!core.end_watch(true), "the consumer watches");
        core.set_looked(None);
        core.activate(0, &runs[0].0);
        assert!(!core.end_watch(true), "all three chunk something");
        core.deactivate(0);
        core.permits = 1;
        assert!(!core.end_watch(true), "two chunk, and one permit is free");
        core.permit_consumer();
        assert!(!core.end_watch(true), "the consumer runs items");
    }

    #[test]
    fn a_look_of_the_consumer_covers_if_somebody_would_notice_its_absence() {
        let mut core = staffed(2, 2);
        assert!(!core.is_covered());
        core.set_looked(long_ago());
        assert!(!core.is_looked_after() && !core.is_covered());
        core.set_looked(now());
        assert!(core.is_looked_after() && core.is_covered(), "nobody idles");
        core.roster.fall_asleep(1);
        assert!(!core.is_covered(), "who sleeps would not");
        core.backup_watcher = Some(1);
        assert!(core.is_covered());
        core.set_looked(long_ago());
        assert!(!core.is_covered());
    }

    #[test]
    fn one_thread_that_could_be_joined_by_a_spare_one_is_not_covered() {
        let mut core = staffed(1, 1);
        core.set_looked(now());
        assert!(!core.is_covered(), "a spare thread is still to be leased");
        let _ = core.enlist();
        core.roster.lease_failed();
        assert!(core.is_covered(), "there is none to be had");
        let mut core = staffed(1, 2);
        core.set_looked(now());
        assert!(core.is_covered(), "it is there");
    }

    #[test]
    fn who_resigns_leaves_nobody_or_somebody() {
        let mut core = staffed(4, 4);
        assert!(!core.resign(0), "was neither");
        core.watcher = Some(0);
        core.set_watched(true);
        assert!(!core.resign(1) && core.is_watched());
        assert!(core.resign(0) && !core.is_watched());
        assert_eq!(core.watcher, None);
        core.backup_watcher = Some(2);
        assert!(!core.resign(1) && core.backup_watcher == Some(2));
        assert!(core.resign(2) && core.backup_watcher.is_none());
        (core.backup_watcher, core.watcher) = (Some(2), Some(3));
        assert!(!core.resign(2), "the watcher is left");
        assert_eq!((core.backup_watcher, core.watcher), (None, Some(3)));
    }

    #[test]
    fn the_richest_is_another_with_the_most_unclaimed() {
        let mut core = staffed(4, 4);
        assert_eq!(core.threads(), 4);
        assert_eq!(core.richest(0), None);
        let runs = [2, 5, 1].map(|items| chunk::filled(items, &mut core.key));
        for (thread, (owning, _)) in runs.iter().enumerate() {
            core.activate(thread, owning);
        }
        assert_eq!(core.richest(3), Some((1, 4)));
        assert_eq!(core.richest(1), Some((0, 1)), "not its own");
        core.deactivate(0);
        assert_eq!(core.richest(1), None, "one item has none unclaimed");
        assert!(core.active(0).is_none() && core.active(1).is_some());
        core.activate(9, &runs[0].0); // who is alone is not on the list
        core.deactivate(9);
        core.forget_runs();
        assert_eq!((core.threads(), core.richest(0)), (0, None));
    }

    #[test]
    fn a_sight_is_of_a_run_with_something_unclaimed() {
        let mut core = staffed(3, 3);
        let (mut owning, _taking) = chunk::filled(3, &mut core.key);
        core.activate(1, &owning);
        assert!(!core.is_any_started());
        owning.start();
        assert!(core.is_any_started());
        assert!(core.sight_of(0).is_none());
        let before = core.sight_of(1).expect("two are unclaimed");
        assert_eq!((before.thread, before.first, before.count), (1, 0, 0));
        assert!(before.same(&core.sight_of(1).expect("nothing has moved")));
        let (mut cursor, _) = owning.cursor();
        cursor.take();
        assert!(cursor.publish(()) != Claim::Contested);
        let after = core.sight_of(1).expect("one is unclaimed");
        assert!(!after.same(&before));
        cursor.take();
        assert!(cursor.publish(()) != Claim::Contested);
        assert!(core.sight_of(1).is_none(), "the last one is claimed");
        cursor.take();
        let _ = cursor.publish(());
    }

    #[test]
    fn what_does_not_move_for_so_long_is_stuck() {
        let at = Instant::now();
        let sight = |first, count, millis| Progress {
            thread: 0,
            first,
            count,
            at: at + Duration::from_millis(millis),
        };
        let limit = Duration::from_millis(10);
        let mut old = None;
        assert!(!Progress::unmoved(&mut old, sight(0, 1, 0), limit));
        assert!(!Progress::unmoved(&mut old, sight(0, 1, 9), limit));
        assert!(Progress::unmoved(&mut old, sight(0, 1, 10), limit));
        assert!(
            !Progress::unmoved(&mut old, sight(0, 2, 11), limit),
            "moved"
        );
        assert!(!Progress::unmoved(&mut old, sight(0, 2, 20), limit));
        assert!(
            !Progress::unmoved(&mut old, sight(3, 2, 21), limit),
            "another"
        );
        assert!(Progress::unmoved(&mut old, sight(3, 2, 31), limit));
    }

    #[test]
    fn runs_are_used_again_once_nobody_else_has_them() {
        let mut core = staffed(1, 1);
        let kept = core.fresh();
        let address = Arc::as_ptr(&kept);
        core.keep(kept);
        assert_eq!(Arc::as_ptr(&core.fresh()), address);

        let (mut owning, mut taking) = chunk::filled(1, &mut core.key);
        owning.cursor().0.take();
        let _ = owning.cursor().0.publish(());
        assert!(taking.is_ready());
        taking.take();
        let address = std::ptr::from_ref(taking.chunk());
        core.recycle(taking);
        assert_ne!(Arc::as_ptr(&core.fresh()), address, "its owner is there");
        drop(owning);
        assert_eq!(Arc::as_ptr(&core.fresh()), address);
    }
}
