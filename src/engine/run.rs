//! A run: consecutive items that one worker pulled together, and their results.
//!
//! An item's place becomes its result's place, and no tag says what lies there: the counters do.
//! What is not a plain result (a last one, a panic, a dropped item) is noted beside the run, which
//! costs the common case nothing but a load now and then. Three counters say what may be touched, each
//! on a cache line of its own; none is ever changed by a read-modify-write operation while items flow.
//!
//! | counter | written by | meaning |
//! | --- | --- | --- |
//! | `pulled` | the one who fills the run, a release store after each item | slots `[0, pulled)` hold items |
//! | `published` | the owner, a release store after each item | slots `[0, published)` hold results, and the owner claims the next |
//! | `limit` | see below | the owner must not start slots at or past it |
//!
//! To publish a result is to claim the next item: one store says both. The first item is claimed by
//! whoever has the run, and noted in `started`.
//!
//! `limit` is `OPEN` while the run is filled, or `ALONE` if nobody looks after what the puller has in
//! hand. It is set when the run is closed, and only ever lowered after that, by a thief. All of this
//! happens under the desk's lock, whose [`Key`] these methods ask for.
//!
//! # Who may touch a slot
//!
//! A run has at most three handles, each unique, so that each slot has one owner at any time:
//!
//! - [`Filling`] (the puller) writes slots at and past `pulled`;
//! - [`Owning`] (the worker that runs it) takes the item at `published`, and writes its result there,
//!   if that is the first or [`Hand::publish`] said that it is the owner's;
//! - [`Taking`] (the consumer) takes results from slots below `published`;
//! - a thief, under the lock, takes items from slots in `[limit, old limit)` after it lowered
//!   `limit` and saw, behind a heavy barrier, that none of them is claimed.
//!
//! # The claim and steal hand-shake
//!
//! The owner stores `published = i`, and so claims item `i`, passes the light barrier and loads
//! `limit`. The thief stores a lower `limit`, passes the heavy barrier and loads `published`. Either
//! the thief sees the claim and raises `limit` over it, or the owner sees the lower limit. An owner
//! that sees a limit at or below its item decides nothing by itself: the thief may be about to raise
//! it, so the owner asks again under the lock ([`Owning::settle`]).
//!
//! # The fill and seal hand-shake
//!
//! A puller may be stuck in the source with items in hand that nobody has started. A rescuer takes
//! the run as it is ([`seal`]): it stores `limit = SEALING`, passes the heavy barrier and loads
//! `pulled`. The puller stores `pulled`, passes the light barrier and loads `limit`. So at most the
//! item that the puller was just storing is not part of what the rescuer has, and the puller takes
//! it back under the lock ([`Filling::settle`]).
//!
//! # The place that two may write
//!
//! In a [timed](crate::engine::timed) stage the place of the item that runs may be taken from its
//! owner. `since` says when the item was started. The owner exchanges that for 0 when the closure has
//! returned, another who wants the place exchanges it for [`GIVEN_UP`]: whoever succeeds writes the
//! slot and stores `published`. An owner that fails never touches the run again; so before the
//! other publishes, the rest of the run is split off, as nobody would start it.
#![allow(unsafe_code)]

use crate::engine::barrier::{Light, heavy};
use crate::engine::race::Race;
use crate::engine::unwind::{self, Payload};
use crate::error::Failure;
use crate::sync::{Arc, AtomicBool, AtomicU64, AtomicUsize, Mutex, Ordering, UnsafeCell, bug};
use crossbeam_utils::CachePadded;
use std::fmt;
use std::mem::{ManuallyDrop, MaybeUninit};

/// The run is still being filled, and somebody watches.
const OPEN: usize = usize::MAX;
/// The same, and nobody watches.
const ALONE: usize = usize::MAX - 1;
/// A rescuer is looking at what has been pulled.
const SEALING: usize = usize::MAX - 2;

/// In `since`: the owner has lost the item's place.
const GIVEN_UP: u64 = u64::MAX;

/// What lies at an item's place.
#[repr(C)]
union Place<I, B> {
    _item: ManuallyDrop<I>,
    _batch: ManuallyDrop<B>,
}

type Slot<I, B> = UnsafeCell<MaybeUninit<Place<I, B>>>;

/// # Safety
///
/// By the rules in the module's head, the slot is the caller's, and empty. `T` is `I` or `B`.
#[inline]
unsafe fn put<T, I, B>(slot: &Slot<I, B>, value: T) {
    slot.with_mut(|slot| {
        // SAFETY: promised by the caller; both types fit in the slot, at its start.
        unsafe { slot.cast::<T>().write(value) };
    });
}

/// # Safety
///
/// By the rules in the module's head, the slot is the caller's, holds a `T`, and is empty
/// afterwards.
#[inline]
unsafe fn take<T, I, B>(slot: &Slot<I, B>) -> T {
    slot.with_mut(|slot| {
        // SAFETY: promised by the caller.
        unsafe { slot.cast::<T>().read() }
    })
}

/// How many bytes an item and its result take.
pub(crate) const fn slot_bytes<I, B>() -> usize {
    size_of::<Place<I, B>>()
}

/// What is not a plain result.
#[derive(Debug)]
pub(crate) enum Odd<B> {
    /// A result, and nothing after it counts.
    Last(B),
    /// The item's closure panicked.
    Panicked(Payload),
    /// The item's closure ran for too long.
    TimedOut(Failure),
    /// The item was dropped: it stood past a failure, or the stage was cancelled.
    Discarded,
}

/// Proof that the caller holds the desk's lock. There is one a stage, inside that lock.
#[derive(Debug)]
pub(crate) struct Key(());

impl Key {
    /// One a stage: two would prove nothing.
    pub(crate) const fn new() -> Self {
        Key(())
    }
}

/// What a run's owner may leave to a copy is what it would have published.
pub(crate) type RaceOf<I, B> = Race<I, Result<B, Odd<B>>>;

/// Items, results and the counters over them.
pub(crate) struct Run<I, B> {
    first: u64,
    pulled: CachePadded<AtomicUsize>,
    published: CachePadded<AtomicUsize>,
    limit: CachePadded<AtomicUsize>,
    /// An owner runs it, or did.
    started: AtomicBool,
    /// Timed stages: when the claimed item was started, in ns of the stage's clock and never 0; 0: it
    /// was not, or has returned.
    since: AtomicU64,
    /// Hedged stages: that item and its copy.
    race: Mutex<RaceOf<I, B>>,
    /// What a rescuer found pulled. Not `limit`: a thief may have lowered that since.
    sealed: AtomicUsize,
    /// Set, before the first of them is published, when `odds` is not empty.
    has_odds: AtomicBool,
    odds: Mutex<Vec<(usize, Odd<B>)>>,
    slots: Vec<Slot<I, B>>,
}

impl<I, B> fmt::Debug for Run<I, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run")
            .field("first", &self.first)
            .field("pulled", &self.pulled)
            .field("published", &self.published)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

// SAFETY: the slots are the only part that is not `Sync` by itself, and by the rules above a slot is
// touched by one thread at a time: items and results move between threads, no reference is shared.
unsafe impl<I: Send, B: Send> Sync for Run<I, B> {}

impl<I, B> Run<I, B> {
    /// An empty run. [`open`] gives it a place and its handles.
    pub(crate) fn new() -> Self {
        Run {
            first: 0,
            pulled: CachePadded::new(AtomicUsize::new(0)),
            published: CachePadded::new(AtomicUsize::new(0)),
            limit: CachePadded::new(AtomicUsize::new(0)),
            started: AtomicBool::new(false),
            since: AtomicU64::new(0),
            race: Mutex::new(Race::default()),
            sealed: AtomicUsize::new(0),
            has_odds: AtomicBool::new(false),
            odds: Mutex::new(Vec::new()),
            slots: Vec::new(),
        }
    }

    /// The `seq` of its first slot.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// How many items have been pulled into it.
    pub(crate) fn pulled(&self) -> usize {
        self.pulled.load(Ordering::Acquire)
    }

    /// How many results there are.
    pub(crate) fn published(&self) -> usize {
        self.published.load(Ordering::Acquire)
    }

    /// `limit`, once the run is closed or sealed.
    fn closed_at(&self) -> Option<usize> {
        match self.limit.load(Ordering::Acquire) {
            OPEN | ALONE | SEALING => None,
            limit => Some(limit),
        }
    }

    /// How many items of a closed run nobody has claimed. The first is always its owner's.
    pub(crate) fn unclaimed(&self) -> usize {
        self.closed_at()
            .map_or(0, |limit| limit.saturating_sub(self.published() + 1))
    }

    /// Whether a closure of this run may be running.
    pub(crate) fn is_started(&self) -> bool {
        self.started.load(Ordering::Relaxed)
            && self
                .closed_at()
                .is_some_and(|limit| self.published() < limit)
    }

    /// Whether its puller may still add to it: it is neither closed nor sealed.
    fn is_filling(&self) -> bool {
        matches!(self.limit.load(Ordering::Relaxed), OPEN | ALONE)
    }

    /// While it is filled: whether somebody looks after what the puller has in hand.
    pub(crate) fn set_watched(&self, watched: bool, _: &mut Key) {
        if self.is_filling() {
            let limit = if watched { OPEN } else { ALONE };
            self.limit.store(limit, Ordering::Relaxed);
        }
    }

    /// The item that is being run, and its copy.
    pub(crate) fn race(&self) -> &Mutex<RaceOf<I, B>> {
        &self.race
    }

    /// When the item that is being run was started.
    pub(crate) fn since(&self) -> Option<u64> {
        let since = self.since.load(Ordering::Relaxed);
        (since != 0 && since != GIVEN_UP).then_some(since)
    }

    /// Takes the place of the item that was started then from its owner, unless that is done with
    /// it.
    pub(crate) fn give_up(&self, since: u64, _: &mut Key) -> Option<GivenUp<'_, I, B>> {
        let order = (Ordering::AcqRel, Ordering::Relaxed);
        let given_up = (self.since).compare_exchange(since, GIVEN_UP, order.0, order.1);
        given_up.is_ok().then_some(GivenUp { run: self })
    }

    /// Notes what is not a plain result, before it is published.
    #[cold]
    fn note(&self, index: usize, odd: Odd<B>) {
        self.odds.lock().push((index, odd));
        // Published by the release store of `published`, or of whatever hands the run on.
        self.has_odds.store(true, Ordering::Relaxed);
    }

    /// Takes what was noted for this index.
    #[cold]
    fn noted(&self, index: usize) -> Option<Odd<B>> {
        let mut odds = self.odds.lock();
        let place = odds.iter().position(|(other, _)| *other == index)?;
        Some(odds.remove(place).1)
    }
}

/// Gives an unused run a place, from `first` on, with room for `capacity` items.
///
/// The run must have no other handle; a recycled one has none (see [`Taking::recycle`]).
pub(crate) fn open<I, B>(
    mut run: Arc<Run<I, B>>,
    first: u64,
    capacity: usize,
) -> (Filling<I, B>, Taking<I, B>) {
    let inner = Arc::get_mut(&mut run).expect("an unused run has one handle");
    inner.first = first;
    inner.pulled = CachePadded::new(AtomicUsize::new(0));
    inner.published = CachePadded::new(AtomicUsize::new(0));
    inner.limit = CachePadded::new(AtomicUsize::new(OPEN));
    inner.started = AtomicBool::new(false);
    inner.since = AtomicU64::new(0);
    inner.has_odds = AtomicBool::new(false);
    if inner.slots.len() < capacity {
        inner
            .slots
            .resize_with(capacity, || UnsafeCell::new(MaybeUninit::uninit()));
    }
    let taking = Taking {
        run: Arc::clone(&run),
        taken: 0,
        ready: 0,
    };
    (Filling { run, capacity }, taking)
}

/// The puller's handle.
#[derive(Debug)]
pub(crate) struct Filling<I, B> {
    run: Arc<Run<I, B>>,
    capacity: usize,
}

/// [`Filling`] for the time of a loop, with what does not change in registers.
#[derive(Debug)]
pub(crate) struct Pen<'a, I, B> {
    run: &'a Run<I, B>,
    slots: &'a [Slot<I, B>],
    len: usize,
    light: Light,
}

impl<I, B> Pen<'_, I, B> {
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.len >= self.slots.len()
    }

    /// Adds an item; the run must not be full. `false`: before the puller enters the source again,
    /// it must call somebody to watch, if the run is not [sealed](Self::is_sealed) anyway.
    #[inline]
    #[must_use]
    pub(crate) fn push(&mut self, item: I) -> bool {
        // SAFETY: slots at and past `pulled` are the puller's, and empty.
        unsafe { put(&self.slots[self.len], item) };
        self.len += 1;
        self.run.pulled.store(self.len, Ordering::Release);
        self.light.pass(); // pairs with the heavy ones in `seal` and `Desk::end_watch`
        self.run.limit.load(Ordering::Relaxed) == OPEN
    }

    /// Whether a rescuer has sealed the run: no more can be added; [settle](Filling::settle).
    pub(crate) fn is_sealed(&self) -> bool {
        !self.run.is_filling()
    }
}

impl<I, B> Filling<I, B> {
    pub(crate) fn run(&self) -> &Arc<Run<I, B>> {
        &self.run
    }

    pub(crate) fn len(&self) -> usize {
        self.run.pulled.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn pen(&mut self) -> Pen<'_, I, B> {
        Pen {
            len: self.len(),
            slots: &self.run.slots[..self.capacity],
            run: &self.run,
            light: Light::new(),
        }
    }

    /// Ends the filling. `Err`: a rescuer was faster.
    pub(crate) fn close(self, _: &mut Key) -> Result<Owning<I, B>, Self> {
        if !self.run.is_filling() {
            return Err(self);
        }
        // Release, for thieves and for the consumer, who load it with Acquire.
        self.run.limit.store(self.len(), Ordering::Release);
        Ok(Owning::new(self.run))
    }

    /// Makes this a run of no item but a panic in its place: the source's own.
    pub(crate) fn panicked(self, payload: Payload, _: &mut Key) {
        self.run.note(0, Odd::Panicked(payload));
        self.run.pulled.store(1, Ordering::Relaxed);
        self.run.limit.store(1, Ordering::Release);
        self.run.published.store(1, Ordering::Release);
    }

    /// After a seal: the item that the rescuer did not get, if there is one.
    pub(crate) fn settle(self, _: &mut Key) -> Option<I> {
        // The rescuer sealed within one critical section.
        let sealed = self.run.sealed.load(Ordering::Relaxed);
        debug_assert!(self.len() - sealed <= 1);
        if sealed >= self.len() {
            return None;
        }
        // SAFETY: slots at and past `sealed` of a sealed run are nobody's but the puller's, who has
        // put an item there.
        Some(unsafe { take(&self.run.slots[sealed]) })
    }
}

/// Takes over a run whose puller is stuck in the source, with what it has pulled so far.
pub(crate) fn seal<I, B>(run: &Arc<Run<I, B>>, _: &mut Key) -> Option<Owning<I, B>> {
    if !run.is_filling() || run.pulled() == 0 {
        return None;
    }
    run.limit.store(SEALING, Ordering::Relaxed);
    heavy(); // pairs with the light one in `Pen::push`
    let pulled = run.pulled();
    run.sealed.store(pulled, Ordering::Relaxed);
    run.limit.store(pulled, Ordering::Release);
    Some(Owning::new(Arc::clone(run)))
}

/// The place of an item that its owner has lost, for whoever took it.
#[derive(Debug)]
#[must_use]
pub(crate) struct GivenUp<'a, I, B> {
    run: &'a Run<I, B>,
}

impl<I, B> GivenUp<'_, I, B> {
    /// The item's `seq`.
    pub(crate) fn seq(&self) -> u64 {
        self.run.first + self.run.published() as u64
    }

    /// Publishes in place of the owner. The rest of the run must have been [split] off.
    pub(crate) fn publish(self, what: Result<B, Odd<B>>, _: &mut Key) {
        let index = self.run.published();
        assert_eq!(
            self.run.closed_at(),
            Some(index + 1),
            "the rest is somebody's"
        );
        match what {
            // SAFETY: the item is claimed and taken, its result not published, and the owner has
            // lost the right to do so to the one who made `self`.
            Ok(batch) => unsafe { put(&self.run.slots[index], batch) },
            Err(odd) => self.run.note(index, odd),
        }
        self.run.published.store(index + 1, Ordering::Release);
    }
}

/// The handle of the worker that runs it.
#[derive(Debug)]
pub(crate) struct Owning<I, B> {
    run: Arc<Run<I, B>>,
    /// In an unordered stage: the consumer's handle, until there is a result to take with it.
    pub(crate) arrival: Option<Taking<I, B>>,
}

/// Whether the next item is the owner's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    Mine,
    /// The run is over or a thief is at work: [`Owning::settle`] tells, under the lock.
    Contested,
}

/// [`Owning`] for the time of a loop, with what does not change in registers.
#[derive(Debug)]
pub(crate) struct Hand<'a, I, B> {
    run: &'a Run<I, B>,
    slots: &'a [Slot<I, B>],
    index: usize,
    light: Light,
}

impl<I, B> Hand<'_, I, B> {
    /// The index of the claimed item.
    #[inline]
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    #[inline]
    fn slot(&self) -> &Slot<I, B> {
        // SAFETY: what is claimed lies below `limit`, which is at most the number of slots.
        unsafe { self.slots.get_unchecked(self.index) }
    }

    /// Takes the claimed item; once a claim.
    #[inline]
    pub(crate) fn take(&mut self) -> I {
        // SAFETY: the item is claimed, its result not yet published, and it is taken once.
        unsafe { take(self.slot()) }
    }

    /// Publishes the result of the claimed item, which the consumer may take from now on, and claims
    /// the next.
    #[inline]
    #[must_use]
    pub(crate) fn publish(&mut self, batch: B) -> Claim {
        // SAFETY: the item is claimed and taken, its result not yet published.
        unsafe { put(self.slot(), batch) };
        self.go_on()
    }

    /// Publishes something else in the place of the claimed item's result.
    #[cold]
    #[must_use]
    pub(crate) fn publish_odd(&mut self, odd: Odd<B>) -> Claim {
        self.run.note(self.index, odd);
        self.go_on()
    }

    #[inline]
    fn go_on(&mut self) -> Claim {
        self.index += 1;
        self.run.published.store(self.index, Ordering::Release);
        // Pairs with the heavy ones in `split`, `Ctl::sleep_for` and `Ctl::cancel`.
        self.light.pass();
        if self.index < self.run.limit.load(Ordering::Relaxed) {
            Claim::Mine
        } else {
            Claim::Contested
        }
    }
}

impl<I, B> Owning<I, B> {
    fn new(run: Arc<Run<I, B>>) -> Self {
        Owning { run, arrival: None }
    }

    pub(crate) fn run(&self) -> &Arc<Run<I, B>> {
        &self.run
    }

    pub(crate) fn first(&self) -> u64 {
        self.run.first
    }

    /// How many items are left to start, as far as is known now.
    pub(crate) fn len(&self) -> usize {
        let limit = self.run.limit.load(Ordering::Relaxed);
        limit.saturating_sub(self.next())
    }

    /// The index of the item that is claimed, and neither published nor settled.
    pub(crate) fn next(&self) -> usize {
        self.run.published.load(Ordering::Relaxed)
    }

    /// The `seq` of that item.
    pub(crate) fn seq(&self) -> u64 {
        self.first() + self.next() as u64
    }

    /// Claims the first item.
    pub(crate) fn start(&mut self) {
        self.run.started.store(true, Ordering::Relaxed);
        if !bug("no_barrier_at_start") {
            Light::new().pass(); // pairs with the heavy one in `Ctl::cancel`
        }
    }

    /// Timed stages: the claimed item is about to run. [`Ctl::started`](crate::engine::ctl::Ctl::started)
    /// comes next.
    pub(crate) fn clock_in(&self, now: u64) {
        // Release: who takes the place then sees what is published before it.
        self.run.since.store(now, Ordering::Release);
        if !bug("no_barrier_at_clock_in") {
            Light::new().pass(); // pairs with the heavy one in `Ctl::sleep_for`
        }
    }

    /// It has returned. `false`: its place is another's, and so is the run.
    #[must_use]
    pub(crate) fn clock_out(&self, since: u64) -> bool {
        let order = (Ordering::AcqRel, Ordering::Relaxed);
        let returned = (self.run.since).compare_exchange(since, 0, order.0, order.1);
        returned.is_ok() || bug("late_result_published")
    }

    /// To go on where it stands, at an item that is claimed.
    #[inline]
    pub(crate) fn hand(&mut self) -> (Hand<'_, I, B>, &mut Option<Taking<I, B>>) {
        let hand = Hand {
            index: self.next(),
            slots: &self.run.slots,
            run: &self.run,
            light: Light::new(),
        };
        (hand, &mut self.arrival)
    }

    /// Decides a contested claim: whether the item may be started after all.
    pub(crate) fn settle(&mut self, _: &mut Key) -> bool {
        // No thief is between lowering and raising it: both happen in one critical section.
        self.len() > 0
    }
}

/// A new run of stolen items.
pub(crate) type Stolen<I, B> = (Owning<I, B>, Taking<I, B>);

/// How much a thief takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Share {
    /// The upper half: the owner moves on.
    Half,
    /// All of it: the owner is stuck.
    Rest,
}

/// Steals from what the owner has not started, into a run of its own.
///
/// `Err` gives `fresh` back if the owner was faster. The first item is never stolen, claimed or
/// not: an emptied run would stand in the reorder buffer under the same `seq` as what was taken
/// from it.
pub(crate) fn split<I, B>(
    victim: &Run<I, B>,
    fresh: Arc<Run<I, B>>,
    share: Share,
    key: &mut Key,
) -> Result<Stolen<I, B>, Arc<Run<I, B>>> {
    let unclaimed = victim.unclaimed();
    if unclaimed == 0 {
        return Err(fresh);
    }
    let old = victim.limit.load(Ordering::Acquire);
    let wanted = match share {
        Share::Half => unclaimed.div_ceil(2),
        Share::Rest => unclaimed,
    };
    victim.limit.store(old - wanted, Ordering::Relaxed);
    heavy(); // pairs with the light one in `Hand::publish`
    let from = (old - wanted).max(victim.published() + 1);
    if from >= old {
        victim.limit.store(old, Ordering::Relaxed);
        return Err(fresh);
    }
    victim.limit.store(from, Ordering::Relaxed);

    let (mut filling, taking) = open(fresh, victim.first + from as u64, old - from);
    let mut pen = filling.pen();
    for slot in &victim.slots[from..old] {
        // SAFETY: the owner starts nothing at or past `limit`, and had claimed none of these
        // behind the barrier; the lock keeps other thieves out.
        let item = unsafe { take(slot) };
        let _ = pen.push(item);
    }
    match filling.close(key) {
        Ok(owning) => Ok((owning, taking)),
        Err(_) => unreachable!("nobody else knows the run, so nobody has sealed it"),
    }
}

/// The consumer's handle.
#[derive(Debug)]
pub(crate) struct Taking<I, B> {
    run: Arc<Run<I, B>>,
    taken: usize,
    ready: usize,
}

impl<I, B> Taking<I, B> {
    pub(crate) fn run(&self) -> &Run<I, B> {
        &self.run
    }

    /// The run, for whoever runs an item of it a second time.
    pub(crate) fn share(&self) -> Arc<Run<I, B>> {
        Arc::clone(&self.run)
    }

    /// Whether [`take`](Self::take) would give something.
    #[inline]
    pub(crate) fn is_ready(&mut self) -> bool {
        if self.taken == self.ready {
            self.ready = self.run.published.load(Ordering::Acquire);
        }
        self.taken < self.ready
    }

    /// Whether the next of what [is ready](Self::is_ready) may be no plain result.
    #[inline]
    pub(crate) fn may_be_odd(&self) -> bool {
        self.run.has_odds.load(Ordering::Relaxed)
    }

    /// Takes the next result, which [is ready](Self::is_ready) and plain.
    #[inline]
    pub(crate) fn take(&mut self) -> B {
        assert!(self.taken < self.ready);
        let index = self.taken;
        self.taken += 1;
        // SAFETY: slots in `[taken, published)` are the consumer's, and what is not noted as odd
        // is a result.
        unsafe { take(&self.run.slots[index]) }
    }

    /// Everything that is ready, one by one, up to the first that may be no plain result. `all` is
    /// a count of everything that has been taken in the stage, and goes on.
    #[inline]
    pub(crate) fn ready<'a>(&'a mut self, all: &'a mut u64) -> Ready<'a, I, B> {
        let ready = if self.is_ready() && !self.may_be_odd() {
            self.ready
        } else {
            self.taken
        };
        Ready {
            slots: self.run.slots[self.taken..ready].iter(),
            count: *all,
            taken: &mut self.taken,
            all,
        }
    }

    /// Takes what is ready, plain or not.
    #[cold]
    pub(crate) fn take_any(&mut self) -> Result<B, Odd<B>> {
        match self.run.noted(self.taken) {
            Some(odd) => {
                self.taken += 1;
                Err(odd)
            }
            None => Ok(self.take()),
        }
    }

    /// Whether everything of this run has been taken. Only the lock makes that certain: a thief
    /// may be between lowering `limit` and raising it.
    pub(crate) fn is_exhausted(&self, _: &mut Key) -> bool {
        self.taken == self.run.limit.load(Ordering::Acquire)
    }

    /// Whether the item that the consumer waits for has been started (or is being discarded).
    pub(crate) fn is_next_claimed(&self, _: &mut Key) -> bool {
        self.run.started.load(Ordering::Relaxed)
    }

    /// The run without its handles, for [`open`]; `Err` while its owner has not let go of it.
    pub(crate) fn recycle(mut self) -> Result<Arc<Run<I, B>>, Self> {
        if Arc::get_mut(&mut self.run).is_some() {
            Ok(self.run)
        } else {
            Err(self)
        }
    }

    /// Drops whatever lies in the slots, each by itself: one that panics must not take others
    /// along. The first panic comes back. All other handles must be gone.
    pub(crate) fn clear(mut self) -> Option<Payload> {
        let mut panic = None;
        if Arc::get_mut(&mut self.run).is_none() {
            debug_assert!(false, "somebody holds a run of a stage that is over");
            return None;
        }
        while self.is_ready() {
            unwind::first(
                &mut panic,
                match self.take_any() {
                    Ok(batch) | Err(Odd::Last(batch)) => unwind::discard(batch),
                    Err(Odd::Discarded | Odd::TimedOut(_)) => None,
                    Err(Odd::Panicked(payload)) => {
                        unwind::bury(payload);
                        None
                    }
                },
            );
        }
        let end = self.run.closed_at().unwrap_or_else(|| self.run.pulled());
        // Who starts a run ends it, so it is all or nothing. But for a bug of ours, after which it
        // is better to leak an item than to drop it twice.
        let started = usize::from(self.run.started.load(Ordering::Relaxed));
        for slot in self
            .run
            .slots
            .get(self.run.published() + started..end)
            .unwrap_or_default()
        {
            // SAFETY: there is no other handle, and nobody has started the items in this range.
            let item: I = unsafe { take(slot) };
            unwind::first(&mut panic, unwind::discard(item));
        }
        panic
    }
}

/// See [`Taking::ready`]. Its drop brings the counts home.
pub(crate) struct Ready<'a, I, B> {
    slots: std::slice::Iter<'a, Slot<I, B>>,
    count: u64,
    taken: &'a mut usize,
    all: &'a mut u64,
}

impl<I, B> Ready<'_, I, B> {
    /// How many have been taken in the stage.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    #[inline]
    pub(crate) fn take(&mut self) -> Option<B> {
        let slot = self.slots.next()?;
        self.count += 1;
        // SAFETY: as in `Taking::take`.
        Some(unsafe { take(slot) })
    }
}

impl<I, B> Drop for Ready<'_, I, B> {
    fn drop(&mut self) {
        *self.taken += (self.count - *self.all) as usize;
        *self.all = self.count;
    }
}

/// A run of this many items, each its own index, that nobody else has seen.
#[cfg(test)]
pub(crate) fn filled(items: usize, key: &mut Key) -> (Owning<usize, ()>, Taking<usize, ()>) {
    let (mut filling, taking) = open(Arc::new(Run::new()), 0, items);
    for item in 0..items {
        assert!(filling.pen().push(item));
    }
    (filling.close(key).expect("nobody seals"), taking)
}
