//! The desk: everything of a stage that is under its one short lock. It is taken a few times a
//! run, never while user code runs.
//!
//! # Who sleeps, who wakes
//!
//! A stage of width `n` has `n` permits; a thread runs closures only while it has one, so there are
//! never more than `n` at once, although the stage may lease one thread more (see `lent` below).
//! A thread that finds nothing to do gives its permit back and either *watches* (naps of at most
//! 1 ms; one thread at most, and only while there is something to watch) or *sleeps* without a
//! limit. It does so under the lock, after it has looked at every condition that could wake it;
//! whoever makes such a condition true takes the lock afterwards and calls [`Desk::wake`]. So
//! either the sleeper's look sees the condition, or the waker sees the sleeper. The conditions:
//!
//! - a run lies in `waiting` (who pushed it wakes);
//! - the source is free and there is room (who leaves the source wakes; it lets go of the source
//!   while it holds this lock, and sleepers try the source's lock while they hold this one);
//! - room was made (the consumer wakes, when `yielded` reaches `wake_at`);
//! - a run has unclaimed items (who activates a run, or steals half of one, wakes);
//! - the stage stops (every parker is unparked; `stopped` is looked at after each park).
//!
//! One wake-up wakes one thread, which wakes the next if it leaves work behind: a chain, no herd.
//! If nobody sleeps and the stage has leased fewer than `n` threads, waking means leasing one more.

use crate::engine::barrier::heavy;
use crate::engine::reorder::Reorder;
use crate::engine::run::{Key, Owning, Run, Taking};
use crate::sync::{Arc, Unparker};

/// The run that is being filled by whoever is in the source.
#[derive(Debug)]
pub(crate) struct Open<I, B> {
    pub(crate) run: Arc<Run<I, B>>,
    /// In an unordered stage, for whoever will own the run.
    pub(crate) arrival: Option<Taking<I, B>>,
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
    /// How many runs of more than one item have been opened: whether batches flow.
    pub(crate) batches: u64,
    /// Who watches the source, and what pullers are told of it.
    pub(crate) watcher: Option<usize>,
    watched: bool,
    pub(crate) permits: usize,
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

impl<I, B> Desk<I, B> {
    pub(crate) fn new(width: usize) -> Self {
        Desk {
            key: Key::new(),
            order: Reorder::new(),
            end: None,
            open: None,
            lent: false,
            batches: 0,
            watcher: None,
            watched: false,
            permits: width,
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
        if let Some(wake) = self.pop_sleeper() {
            return wake.1;
        }
        if let Some(watcher) = self.watcher {
            return self.unpark(watcher);
        }
        self.grow(self.width)
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

    /// Somebody looks after the open run from now on; or nobody does, and then the caller is about to
    /// enter the source himself.
    pub(crate) fn set_watched(&mut self, watched: bool) {
        self.watched = watched;
        if let Some(open) = &self.open {
            open.run.set_watched(watched, &mut self.key);
        }
    }

    /// Nobody watches any more. Whether there is something to look after all the same.
    pub(crate) fn end_watch(&mut self) -> bool {
        self.set_watched(false);
        heavy(); // pairs with the light one in `Pen::push`
        self.is_something_in_hand()
    }

    /// Whether a puller holds items that nobody has started.
    pub(crate) fn is_something_in_hand(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.run.pulled() > 0)
    }

    pub(crate) fn is_watched(&self) -> bool {
        self.watched
    }

    /// From now on others may see this run, while it is filled.
    pub(crate) fn show(&mut self, open: Open<I, B>) {
        open.run.set_watched(self.watched, &mut self.key);
        self.open = Some(open);
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
        let thread = self.leased;
        self.leased += 1;
        self.active.push(None);
        self.parkers.push(None);
        Wake::Lease(thread)
    }

    /// No thread could be started: the stage goes on with those it has.
    pub(crate) fn lease_failed(&mut self, thread: usize) {
        self.can_grow = false;
        self.leased -= 1;
        if self.watcher == Some(thread) {
            self.watcher = None;
        }
    }

    /// Whether the consumer has to do all by itself.
    pub(crate) fn is_alone(&self) -> bool {
        self.leased == 0 && !self.can_grow
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

    /// Whether any closure may be running.
    pub(crate) fn is_any_started(&self) -> bool {
        self.active.iter().flatten().any(|run| run.is_started())
    }

    /// Lets go of all that is kept for thieves and for later use.
    pub(crate) fn forget_runs(&mut self) {
        self.active.clear();
        self.free.clear();
        self.limbo.clear();
    }
}
