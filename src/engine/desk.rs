//! The desk: everything of a stage that is under its one short lock. It is taken a few times a
//! run, never while user code runs.
//!
//! # Who sleeps, who wakes
//!
//! A stage of width `n` has `n` permits; a thread runs closures only while it has one, so there are
//! never more than `n` at once, although the stage may lease one thread more (see `lent` below).
//! A thread that finds nothing to do gives its permit back and either *watches* (naps of at most
//! 1 ms; one thread at most, and only while there is something to watch) or *sleeps* without a
//! limit (while the consumer watches, one sleeps for 20 ms at most: the deputy). It does so under the
//! lock, after it has looked at every condition that could wake it; whoever makes such a condition
//! true takes the lock afterwards and calls [`Desk::wake`]. So either the sleeper's look sees the
//! condition, or the waker sees the sleeper. The conditions:
//!
//! - a run lies in `waiting` (who pushed it wakes);
//! - the source is free and there is room (who leaves the source wakes; it lets go of the source
//!   while it holds this lock, and sleepers try the source's lock while they hold this one);
//! - room was made (the consumer wakes, when `yielded` reaches `wake_at`);
//! - a run has unclaimed items (who activates a run, or steals half of one, wakes);
//! - the source has ended and everything has been started (who leaves the stage wakes the next to leave);
//! - the stage stops (every parker is unparked; `stopped` is looked at after each park).
//!
//! One wake-up wakes one thread, which wakes the next if it leaves work behind: a chain, no herd.
//! If nobody sleeps and the stage has leased fewer than `n` threads, waking means leasing one more.

use crate::engine::barrier::heavy;
use crate::engine::cost::Pause;
use crate::engine::reorder::Reorder;
use crate::engine::run::{Key, Owning, Run, Taking};
use crate::sync::{Arc, Instant, Unparker};
use std::time::Duration;

/// In the place of a thread's number.
pub(crate) const CONSUMER: usize = usize::MAX;
/// So long after it has looked, the consumer still counts as the one who watches: it naps for half
/// of that at most.
const PRESENCE: Duration = Duration::from_millis(2);

/// The run that is being filled by whoever is in the source.
#[derive(Debug)]
pub(crate) struct Open<I, B> {
    pub(crate) run: Arc<Run<I, B>>,
    /// In an unordered stage, for whoever will own the run.
    pub(crate) arrival: Option<Taking<I, B>>,
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
pub(crate) struct Desk<I, B> {
    pub(crate) key: Key,
    /// Ordered stages: all runs that have not reached the consumer, from the moment they are opened.
    pub(crate) order: Reorder<Taking<I, B>>,
    /// How many items the source had, once that is known.
    pub(crate) end: Option<u64>,
    pub(crate) open: Option<Open<I, B>>,
    /// The thread in the source was found stuck there with unstarted items, and a spare thread
    /// runs them with its permit. It learns that when it comes back.
    pub(crate) lent: bool,
    /// How many threads run an item that has been given up.
    pub(crate) astray: usize,
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
    pub(crate) deputy: Option<usize>,
    /// When the consumer has last looked after the source, if it does.
    looked: Option<Instant>,
    pub(crate) permits: usize,
    pub(crate) inline: Inline,
    /// The consumer is in a source that blocks, and will see to it that it is watched when it comes out.
    pub(crate) watches_itself: bool,
    /// When that may be tried again.
    pub(crate) pause: Pause,
    /// The consumer runs a closure, or may do so at any time, and has a permit for it.
    consumer_permit: bool,
    /// The run that each thread executes.
    active: Vec<Option<Arc<Run<I, B>>>>,
    sleepers: Vec<usize>,
    parkers: Vec<Option<Unparker>>,
    leased: usize,
    width: usize,
    can_grow: bool,
    /// Runs to be used again, and such that their owner has not quite let go of.
    free: Vec<Arc<Run<I, B>>>,
    limbo: Vec<Taking<I, B>>,
}

/// What a waker has to do once it has released the lock.
#[derive(Debug)]
#[must_use]
pub(crate) enum Wake {
    Nobody,
    Unpark(Unparker),
    Lease(usize),
}

/// How far somebody was at some time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sight {
    pub(crate) thread: usize,
    pub(crate) first: u64,
    pub(crate) count: usize,
    pub(crate) at: Instant,
}

impl Sight {
    pub(crate) fn same(&self, other: &Sight) -> bool {
        (self.thread, self.first, self.count) == (other.thread, other.first, other.count)
    }

    /// Whether nothing has moved for `limit` since `old`; keeps the older of two equal sights.
    pub(crate) fn unmoved(old: &mut Option<Sight>, now: Sight, limit: Duration) -> bool {
        match old {
            Some(before) if before.same(&now) => now.at.duration_since(before.at) >= limit,
            _ => {
                *old = Some(now);
                false
            }
        }
    }
}

impl<I, B> Desk<I, B> {
    pub(crate) fn new(width: usize) -> Self {
        Desk {
            key: Key::new(),
            order: Reorder::new(),
            end: None,
            open: None,
            lent: false,
            astray: 0,
            copying: 0,
            batches: 0,
            pulls: 0,
            watcher: None,
            watched: false,
            deputy: None,
            looked: None,
            permits: width,
            inline: Inline::Off,
            watches_itself: false,
            pause: Pause::NONE,
            consumer_permit: false,
            active: Vec::new(),
            sleepers: Vec::new(),
            parkers: Vec::new(),
            leased: 0,
            width,
            can_grow: true,
            free: Vec::new(),
            limbo: Vec::new(),
        }
    }

    // ---- threads

    /// Somebody could start something: who is to be woken for it.
    pub(crate) fn wake(&mut self) -> Wake {
        if self.permits == 0 {
            // All `n` are at work, and each will look for more when it is done.
            return Wake::Nobody;
        }
        if let Some((_, wake)) = self.pop_sleeper() {
            return wake;
        }
        if let Some(watcher) = self.watcher {
            return self.unpark(watcher);
        }
        self.grow(self.width)
    }

    /// There is nothing more to start: one that sleeps may leave.
    pub(crate) fn wake_sleeper(&mut self) -> Wake {
        self.pop_sleeper().map_or(Wake::Nobody, |(_, wake)| wake)
    }

    /// Unstarted items may get stuck with the thread in the source: who is to look after them.
    /// `spare`: a thread more than `n` may be leased for it.
    pub(crate) fn call_watcher(&mut self, spare: bool) -> Wake {
        if let Some(watcher) = self.watcher {
            return self.unpark(watcher);
        }
        if let Some((thread, wake)) = self.pop_sleeper() {
            self.watcher = Some(thread);
            return wake;
        }
        let wake = self.grow(self.width.saturating_add(usize::from(spare)));
        if let Wake::Lease(thread) = wake {
            self.watcher = Some(thread);
        }
        wake
    }

    /// A thread looks after the open run from now on; or none does.
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
            open.run.set_watched(watched, &mut self.key);
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
        heavy(); // pairs with the light one in `Pen::push`
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
        self.open.as_ref().is_some_and(|open| open.run.pulled() > 0)
    }

    pub(crate) fn is_watched(&self) -> bool {
        self.watched
    }

    /// Whether the consumer looks after it, which naps, or has been away for a moment only.
    pub(crate) fn is_looked_after(&self) -> bool {
        self.looked.is_some_and(|at| at.elapsed() < PRESENCE)
    }

    /// Whether that is enough, although the consumer may stay away from now on: a deputy would notice,
    /// or nobody idles, and whoever comes to idle will be the deputy.
    pub(crate) fn is_covered(&self) -> bool {
        let spare = self.width == 1 && self.leased == 1 && self.can_grow;
        self.is_looked_after() && (self.deputy.is_some() || self.sleepers.is_empty() && !spare)
    }

    /// A thread is neither the watcher any more nor the deputy. Whether that leaves nobody.
    pub(crate) fn resign(&mut self, thread: usize) -> bool {
        let deputy = self.deputy.take_if(|deputy| *deputy == thread).is_some();
        let watcher = self.watcher.take_if(|watcher| *watcher == thread).is_some();
        if watcher {
            self.set_watched(false);
        }
        watcher || deputy && self.watcher.is_none()
    }

    /// From now on others may see this run, while it is filled.
    pub(crate) fn show(&mut self, open: Open<I, B>) {
        self.open = Some(open);
        self.tell_puller();
    }

    fn pop_sleeper(&mut self) -> Option<(usize, Wake)> {
        let sleeper = self.sleepers.pop()?;
        Some((sleeper, self.unpark(sleeper)))
    }

    fn unpark(&self, thread: usize) -> Wake {
        match &self.parkers[thread] {
            Some(parker) => Wake::Unpark(parker.clone()),
            // Being started: it will look around first.
            None => Wake::Nobody,
        }
    }

    fn grow(&mut self, most: usize) -> Wake {
        if !self.can_grow || self.leased >= most {
            return Wake::Nobody;
        }
        Wake::Lease(self.enlist())
    }

    /// Counts a thread among the stage's, which need not be leased: the consumer's may take part.
    pub(crate) fn enlist(&mut self) -> usize {
        let thread = self.leased;
        self.leased += 1;
        self.active.push(None);
        self.parkers.push(None);
        thread
    }

    /// No thread could be started: the stage goes on with those it has.
    pub(crate) fn lease_failed(&mut self, thread: usize) {
        self.can_grow = false;
        self.leased -= 1;
        self.watcher.take_if(|watcher| *watcher == thread);
    }

    /// Whether the consumer has to do all by itself.
    pub(crate) fn is_alone(&self) -> bool {
        self.leased == 0 && !self.can_grow
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

    /// Whether nobody has been leased yet.
    pub(crate) fn is_unmanned(&self) -> bool {
        self.leased == 0
    }

    pub(crate) fn register(&mut self, thread: usize, parker: Unparker) {
        self.parkers[thread] = Some(parker);
    }

    pub(crate) fn fall_asleep(&mut self, thread: usize) {
        self.sleepers.push(thread);
    }

    /// After a park: whoever woke the thread may have taken it off the list, or not.
    pub(crate) fn woke_up(&mut self, thread: usize) {
        self.sleepers.retain(|sleeper| *sleeper != thread);
    }

    // ---- runs

    pub(crate) fn fresh(&mut self) -> Arc<Run<I, B>> {
        if let Some(run) = self.free.pop() {
            return run;
        }
        for place in 0..self.limbo.len() {
            match self.limbo.swap_remove(place).recycle() {
                Ok(run) => return run,
                Err(held) => self.limbo.push(held),
            }
        }
        Arc::new(Run::new())
    }

    /// Takes an unused run back.
    pub(crate) fn keep(&mut self, run: Arc<Run<I, B>>) {
        self.free.push(run);
    }

    /// Takes a run back that the consumer has exhausted.
    pub(crate) fn recycle(&mut self, taking: Taking<I, B>) {
        match taking.recycle() {
            Ok(run) => self.free.push(run),
            Err(held) => self.limbo.push(held),
        }
    }

    /// Thieves may look at what this thread runs.
    pub(crate) fn activate(&mut self, thread: usize, run: &Owning<I, B>) {
        if let Some(place) = self.active.get_mut(thread) {
            *place = Some(Arc::clone(run.run()));
        }
    }

    pub(crate) fn deactivate(&mut self, thread: usize) {
        if let Some(place) = self.active.get_mut(thread) {
            *place = None;
        }
    }

    pub(crate) fn active(&self, thread: usize) -> Option<&Arc<Run<I, B>>> {
        self.active.get(thread)?.as_ref()
    }

    /// How many threads have been leased.
    pub(crate) fn threads(&self) -> usize {
        self.active.len()
    }

    /// The run with the most items that nobody has started, but for the thread's own.
    pub(crate) fn richest(&self, but: usize) -> Option<(usize, usize)> {
        let others = self.active.iter().enumerate().filter(|(at, _)| *at != but);
        others
            .filter_map(|(at, run)| Some((at, run.as_ref()?.unclaimed())))
            .filter(|(_, unclaimed)| *unclaimed > 0)
            .max_by_key(|(_, unclaimed)| *unclaimed)
    }

    /// How far a thread is in its run; `None` if it has left nothing unclaimed.
    pub(crate) fn sight_of(&self, thread: usize) -> Option<Sight> {
        let run = self.active(thread).filter(|run| run.unclaimed() > 0)?;
        Some(Sight {
            thread,
            first: run.first(),
            count: run.published(),
            at: Instant::now(),
        })
    }

    /// Whether any closure may be running.
    pub(crate) fn is_any_started(&self) -> bool {
        self.active.iter().flatten().any(|run| run.is_started())
    }

    /// How far all have come, if as many run items as may: then nobody is in the source, or on the way there, with
    /// a permit that could be borrowed.
    pub(crate) fn sight_of_all(&self) -> Option<Sight> {
        let runs = self.active.iter().flatten();
        (self.permits == 0 && !self.is_permit_unused()).then(|| Sight {
            thread: CONSUMER,
            first: self.pulls,
            count: runs.map(|run| run.published()).sum(),
            at: Instant::now(),
        })
    }

    /// Lets go of all that is kept for thieves and for later use.
    pub(crate) fn forget_runs(&mut self) {
        self.active.clear();
        self.free.clear();
        self.limbo.clear();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::engine::run::{self, Claim, Filling};
    use crate::sync::Parker;

    type TestDesk = Desk<usize, ()>;

    /// A desk whose threads are all registered.
    fn staffed(width: usize, threads: usize) -> TestDesk {
        let mut desk = Desk::new(width);
        for thread in 0..threads {
            assert_eq!(desk.enlist(), thread);
            desk.register(thread, Parker::new().unparker().clone());
        }
        desk
    }

    /// A look of a moment ago, however slow this test is.
    fn now() -> Option<Instant> {
        Instant::now().checked_add(Duration::from_secs(3600))
    }

    fn long_ago() -> Option<Instant> {
        Instant::now().checked_sub(PRESENCE)
    }

    /// Opens a run that others can see.
    fn open(desk: &mut TestDesk, items: usize) -> Filling<usize, ()> {
        let (mut filling, _) = run::open(Arc::new(Run::new()), 0, items + 8);
        for item in 0..items {
            let _ = filling.pen().push(item);
        }
        desk.show(Open {
            run: Arc::clone(filling.run()),
            arrival: None,
        });
        filling
    }

    #[test]
    fn wakes_a_sleeper_then_the_watcher_then_leases() {
        let mut desk = staffed(3, 2);
        desk.permits = 0;
        desk.fall_asleep(1);
        assert!(matches!(desk.wake(), Wake::Nobody), "all are at work");
        desk.permits = 1;
        desk.watcher = Some(0);
        assert!(matches!(desk.wake(), Wake::Unpark(_)));
        assert!(desk.sleepers.is_empty());
        assert!(matches!(desk.wake(), Wake::Unpark(_)), "the watcher");
        assert_eq!(desk.watcher, Some(0));
        desk.watcher = None;
        assert!(matches!(desk.wake(), Wake::Lease(2)));
        assert!(matches!(desk.wake(), Wake::Nobody), "never more than three");
        desk.fall_asleep(2);
        let woken = desk.wake();
        assert!(matches!(woken, Wake::Nobody), "it is being started");
    }

    #[test]
    fn at_the_end_only_who_sleeps_is_woken() {
        let mut desk = staffed(3, 1);
        desk.watcher = Some(0);
        assert!(matches!(desk.wake_sleeper(), Wake::Nobody));
        desk.watcher = None;
        desk.fall_asleep(0);
        assert!(matches!(desk.wake_sleeper(), Wake::Unpark(_)));
        assert!(matches!(desk.wake_sleeper(), Wake::Nobody));
    }

    #[test]
    fn who_is_called_becomes_the_watcher() {
        let mut desk = staffed(2, 2);
        desk.watcher = Some(1);
        desk.fall_asleep(0);
        assert!(matches!(desk.call_watcher(true), Wake::Unpark(_)));
        assert_eq!((desk.watcher, desk.sleepers.len()), (Some(1), 1));
        desk.watcher = None;
        assert!(matches!(desk.call_watcher(true), Wake::Unpark(_)));
        assert_eq!((desk.watcher, desk.sleepers.len()), (Some(0), 0));
        desk.watcher = None;
        assert!(matches!(desk.call_watcher(false), Wake::Nobody));
        assert_eq!(desk.watcher, None);
        assert!(matches!(desk.call_watcher(true), Wake::Lease(2)), "a spare");
        assert_eq!(desk.watcher, Some(2));
        desk.lease_failed(2);
        assert_eq!(desk.watcher, None);
        assert!(matches!(desk.call_watcher(true), Wake::Nobody));
    }

    #[test]
    fn alone_is_who_can_lease_nobody() {
        let mut desk = TestDesk::new(2);
        assert!(desk.is_unmanned() && !desk.is_alone());
        assert!(matches!(desk.wake(), Wake::Lease(0)));
        assert!(!desk.is_unmanned());
        desk.lease_failed(0);
        assert!(desk.is_unmanned() && desk.is_alone());
        let mut desk = staffed(2, 1);
        assert!(matches!(desk.wake(), Wake::Lease(1)));
        desk.lease_failed(1);
        assert!(!desk.is_alone(), "one is there");
    }

    #[test]
    fn the_consumer_has_one_permit() {
        let mut desk = TestDesk::new(2);
        assert!(desk.is_at_rest());
        desk.permit_consumer();
        assert!(!desk.is_at_rest());
        assert_eq!(desk.permits, 1);
        desk.retire_consumer();
        assert!(desk.is_at_rest());
        desk.retire_consumer();
        assert_eq!(desk.permits, 2, "given back once");
    }

    #[test]
    fn the_puller_is_told_who_looks_after_it() {
        let mut desk = staffed(2, 2);
        let mut filling = open(&mut desk, 1);
        assert!(!filling.pen().push(1), "nobody does");
        assert!(!desk.tell_puller());
        desk.set_watched(true);
        assert!(desk.is_watched() && desk.tell_puller());
        assert!(filling.pen().push(2));
        assert!(desk.end_watch(false), "another has to");
        assert!(!desk.is_watched());
        assert!(!filling.pen().push(3));
        desk.set_looked(now());
        assert!(filling.pen().push(4), "the consumer does");
        assert!(!desk.end_watch(false));
        desk.set_looked(None);
        assert!(!filling.pen().push(5));
    }

    #[test]
    fn nothing_is_in_hand_until_something_is_pulled() {
        let mut desk = staffed(1, 1);
        assert!(!desk.is_something_in_hand() && !desk.end_watch(false));
        let mut filling = open(&mut desk, 0);
        assert!(!desk.is_something_in_hand() && !desk.end_watch(false));
        let _ = filling.pen().push(0);
        assert!(desk.is_something_in_hand() && desk.end_watch(false));
    }

    #[test]
    fn the_watch_is_handed_on_while_a_permit_may_be_kept_in_the_source() {
        let mut desk = staffed(3, 3);
        desk.permits = 0;
        let runs = [2, 2, 2].map(|items| run::filled(items, &mut desk.key));
        desk.activate(1, &runs[1].0);
        desk.activate(2, &runs[2].0);
        assert!(
            desk.end_watch(true),
            "thread 0 has a permit and runs nothing"
        );
        assert!(!desk.end_watch(false), "but nothing waits for it");
        desk.set_looked(now());
        assert!(!desk.end_watch(true), "the consumer watches");
        desk.set_looked(None);
        desk.activate(0, &runs[0].0);
        assert!(!desk.end_watch(true), "all three run something");
        desk.deactivate(0);
        desk.permits = 1;
        assert!(!desk.end_watch(true), "two run, and one permit is free");
        desk.permit_consumer();
        assert!(!desk.end_watch(true), "the consumer runs items");
    }

    #[test]
    fn a_look_of_the_consumer_covers_if_somebody_would_notice_its_absence() {
        let mut desk = staffed(2, 2);
        assert!(!desk.is_covered());
        desk.set_looked(long_ago());
        assert!(!desk.is_looked_after() && !desk.is_covered());
        desk.set_looked(now());
        assert!(desk.is_looked_after() && desk.is_covered(), "nobody idles");
        desk.fall_asleep(1);
        assert!(!desk.is_covered(), "who sleeps would not");
        desk.deputy = Some(1);
        assert!(desk.is_covered());
        desk.set_looked(long_ago());
        assert!(!desk.is_covered());
    }

    #[test]
    fn one_thread_that_could_be_joined_by_a_spare_one_is_not_covered() {
        let mut desk = staffed(1, 1);
        desk.set_looked(now());
        assert!(!desk.is_covered(), "a spare thread is still to be leased");
        desk.can_grow = false;
        assert!(desk.is_covered(), "there is none to be had");
        let mut desk = staffed(1, 2);
        desk.set_looked(now());
        assert!(desk.is_covered(), "it is there");
    }

    #[test]
    fn who_resigns_leaves_nobody_or_somebody() {
        let mut desk = staffed(4, 4);
        assert!(!desk.resign(0), "was neither");
        desk.watcher = Some(0);
        desk.set_watched(true);
        assert!(!desk.resign(1) && desk.is_watched());
        assert!(desk.resign(0) && !desk.is_watched());
        assert_eq!(desk.watcher, None);
        desk.deputy = Some(2);
        assert!(!desk.resign(1) && desk.deputy == Some(2));
        assert!(desk.resign(2) && desk.deputy.is_none());
        (desk.deputy, desk.watcher) = (Some(2), Some(3));
        assert!(!desk.resign(2), "the watcher is left");
        assert_eq!((desk.deputy, desk.watcher), (None, Some(3)));
    }

    #[test]
    fn who_wakes_up_by_itself_is_no_sleeper_any_more() {
        let mut desk = staffed(3, 3);
        for thread in 0..3 {
            desk.fall_asleep(thread);
        }
        desk.woke_up(1);
        assert_eq!(desk.sleepers, [0, 2]);
        desk.woke_up(1);
        assert_eq!(desk.sleepers, [0, 2]);
    }

    #[test]
    fn the_richest_is_another_with_the_most_unclaimed() {
        let mut desk = staffed(4, 4);
        assert_eq!(desk.threads(), 4);
        assert_eq!(desk.richest(0), None);
        let runs = [2, 5, 1].map(|items| run::filled(items, &mut desk.key));
        for (thread, (owning, _)) in runs.iter().enumerate() {
            desk.activate(thread, owning);
        }
        assert_eq!(desk.richest(3), Some((1, 4)));
        assert_eq!(desk.richest(1), Some((0, 1)), "not its own");
        desk.deactivate(0);
        assert_eq!(desk.richest(1), None, "one item has none unclaimed");
        assert!(desk.active(0).is_none() && desk.active(1).is_some());
        desk.activate(9, &runs[0].0); // who is alone is not on the list
        desk.deactivate(9);
        desk.forget_runs();
        assert_eq!((desk.threads(), desk.richest(0)), (0, None));
    }

    #[test]
    fn a_sight_is_of_a_run_with_something_unclaimed() {
        let mut desk = staffed(3, 3);
        let (mut owning, _taking) = run::filled(3, &mut desk.key);
        desk.activate(1, &owning);
        assert!(!desk.is_any_started());
        owning.start();
        assert!(desk.is_any_started());
        assert!(desk.sight_of(0).is_none());
        let before = desk.sight_of(1).expect("two are unclaimed");
        assert_eq!((before.thread, before.first, before.count), (1, 0, 0));
        assert!(before.same(&desk.sight_of(1).expect("nothing has moved")));
        let (mut hand, _) = owning.hand();
        hand.take();
        assert!(hand.publish(()) != Claim::Contested);
        let after = desk.sight_of(1).expect("one is unclaimed");
        assert!(!after.same(&before));
        hand.take();
        assert!(hand.publish(()) != Claim::Contested);
        assert!(desk.sight_of(1).is_none(), "the last one is claimed");
        hand.take();
        let _ = hand.publish(());
    }

    #[test]
    fn what_does_not_move_for_so_long_is_stuck() {
        let at = Instant::now();
        let sight = |first, count, millis| Sight {
            thread: 0,
            first,
            count,
            at: at + Duration::from_millis(millis),
        };
        let limit = Duration::from_millis(10);
        let mut old = None;
        assert!(!Sight::unmoved(&mut old, sight(0, 1, 0), limit));
        assert!(!Sight::unmoved(&mut old, sight(0, 1, 9), limit));
        assert!(Sight::unmoved(&mut old, sight(0, 1, 10), limit));
        assert!(!Sight::unmoved(&mut old, sight(0, 2, 11), limit), "moved");
        assert!(!Sight::unmoved(&mut old, sight(0, 2, 20), limit));
        assert!(!Sight::unmoved(&mut old, sight(3, 2, 21), limit), "another");
        assert!(Sight::unmoved(&mut old, sight(3, 2, 31), limit));
    }

    #[test]
    fn runs_are_used_again_once_nobody_else_has_them() {
        let mut desk = staffed(1, 1);
        let kept = desk.fresh();
        let address = Arc::as_ptr(&kept);
        desk.keep(kept);
        assert_eq!(Arc::as_ptr(&desk.fresh()), address);

        let (mut owning, mut taking) = run::filled(1, &mut desk.key);
        owning.hand().0.take();
        let _ = owning.hand().0.publish(());
        assert!(taking.is_ready());
        taking.take();
        let address = std::ptr::from_ref(taking.run());
        desk.recycle(taking);
        assert_ne!(Arc::as_ptr(&desk.fresh()), address, "its owner is there");
        drop(owning);
        assert_eq!(Arc::as_ptr(&desk.fresh()), address);
    }
}
