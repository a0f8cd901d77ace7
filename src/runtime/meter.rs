//! What `stats()` shows of a stage: where its permits spend their time, and what becomes of its items.
//!
//! A stage of width `n` has `n` permits, and each of them is in one of four states at any time. The meter counts how many
//! are in which, and adds up the time whenever that changes. So the four sums are `n` times the time that has passed, to the
//! nanosecond; if the width changes, the products of each width and its time:
//!
//! | state | a thread with the permit |
//! | --- | --- |
//! | run | runs a closure, or the loop over the items of a chunk |
//! | source | is inside the source |
//! | room | there is none, and the last one that wanted to pull found the bound full |
//! | spare | there is none: nothing was left to do |
//!
//! A thread that is stuck in the source may have lost its permit to another one. So what is inside counts only as far as
//! closures leave permits over.
//!
//! The consumer either waits in `next()` for the head of the line, or is away, with its user.
//!
//! Only a stage that was asked for statistics has a meter, and it is called for each chunk and each pull, never for each
//! item. What changes for each item, how many were yielded, is read where the stage has it ([`Live`]).

mod books;
mod seat;
mod totals;

pub(crate) use books::Live;
pub(crate) use seat::Doing;
pub(crate) use totals::Totals;

use self::books::Books;
use self::seat::Seat;
#[cfg(feature = "percentile")]
use crate::runtime::item_times::TimeLog;
use crate::runtime::pilot::WidthReason;
use crate::runtime::registry::HeldThreads;
use crate::sync::{Arc, AtomicBool, AtomicU64, Instant, Mutex, Ordering};
use std::time::Duration;

/// What has become of an item that was not yielded like any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Failed,
    Panicked,
    TimedOut,
    Discarded,
}

/// What has happened once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    HedgeSent,
    HedgeWon,
    HedgeRefused,
    Steal,
    Wakeup,
    Nap,
}

/// The meter of a stage, if that was asked for statistics.
#[derive(Clone, Debug, Default)]
pub(crate) struct MeterSlot(Option<Arc<Meter>>);

impl MeterSlot {
    /// Tells it, if it is there.
    #[inline]
    pub(crate) fn note(&self, tell: impl FnOnce(&Meter)) {
        if let Some(meter) = &self.0 {
            tell(meter);
        }
    }

    /// This thread does this from now on.
    #[inline]
    pub(crate) fn set(&self, thread: usize, doing: Doing) {
        self.note(|meter| meter.set(Instant::now(), thread, doing));
    }

    /// The bound is full, or there is room. Asked for each chunk, so what is known already costs no lock and no clock.
    #[inline]
    pub(crate) fn full(&self, full: bool, bound: u64) {
        self.note(|meter| {
            if meter.room.load(Ordering::Relaxed) != Meter::room_word(full, bound) {
                meter.full(Instant::now(), full, bound);
            }
        });
    }

    /// The consumer waits from now on, or has something to take.
    #[inline]
    pub(crate) fn waits(&self, waits: bool) {
        self.note(|meter| meter.waits(Instant::now(), waits));
    }

    /// There is one from now on.
    pub(crate) fn fill(&mut self) -> &Arc<Meter> {
        self.0.get_or_insert_with(Arc::default)
    }

    pub(crate) fn get(&self) -> Option<&Arc<Meter>> {
        self.0.as_ref()
    }
}

/// Whether the consumer waits, as the meter was told last: a look at this spares its lock for each output.
#[derive(Debug, Default)]
pub(crate) struct WaitNote(bool);

impl WaitNote {
    #[inline]
    pub(crate) fn set(&mut self, meter: &MeterSlot, waits: bool) {
        if std::mem::replace(&mut self.0, waits) != waits {
            meter.waits(waits);
        }
    }
}

/// See the head of this file.
#[derive(Default)]
pub(crate) struct Meter {
    books: Mutex<Books>,
    /// Whether the bound is full, and what it is, as `books` has it; 0 if that is not known. Written under that lock.
    room: AtomicU64,
    /// Each item is to be timed.
    times_items: AtomicBool,
    #[cfg(feature = "percentile")]
    times: Mutex<TimeLog>,
}

impl std::fmt::Debug for Meter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Meter").finish_non_exhaustive()
    }
}

impl Meter {
    /// The stage starts.
    pub(crate) fn start(
        &self,
        now: Instant,
        width: usize,
        bound: u64,
        live: Option<Arc<dyn Live>>,
    ) {
        let mut books = self.books.lock();
        books.at = Some(now);
        (books.totals.width, books.totals.bound) = (width, bound);
        books.live = live;
    }

    /// The stage leases threads, which are counted there.
    pub(crate) fn leases(&self, held: &Arc<dyn HeldThreads>) {
        // Weak: a stage of a scope looks for who may still lease by the strong ones.
        self.books.lock().threads = Some(Arc::downgrade(held));
    }

    /// No item of the stage has outputs.
    pub(crate) fn is_silent(&self) {
        self.books.lock().is_silent = true;
    }

    /// A thread begins something else. The consumer, if it runs items itself, has the number `usize::MAX`.
    pub(crate) fn set(&self, now: Instant, thread: usize, doing: Doing) {
        self.set_and_count(now, thread, doing, |_| ());
    }

    /// The same, and something is counted.
    pub(crate) fn set_and_count(
        &self,
        now: Instant,
        thread: usize,
        doing: Doing,
        count: impl FnOnce(&mut Totals),
    ) {
        let mut books = self.books.lock();
        count(&mut books.totals);
        let place = thread.wrapping_add(1);
        if books.seats.len() <= place {
            books.seats.resize(place + 1, Seat::default());
        }
        let seat = &mut books.seats[place];
        let before = std::mem::replace(&mut seat.doing, doing);
        if before == doing {
            return;
        }
        let (looked, cpu) = match doing {
            Doing::Run => (Duration::ZERO, seat.begin_run(now)),
            _ => seat.end_run(now),
        };
        books.totals.run_looked += looked;
        books.totals.run_cpu += cpu;
        books.settle(now);
        books.count(before, -1);
        books.count(doing, 1);
        books.totals.peak_running = books.totals.peak_running.max(books.running);
    }

    /// So many items have been pulled.
    pub(crate) fn pulled(&self, items: u64) {
        let mut books = self.books.lock();
        books.totals.pulled += items;
        books.note_peak();
    }

    /// The stage is so wide from now on, and may have so many items in flight.
    pub(crate) fn resize(&self, now: Instant, width: usize, bound: u64) {
        let mut books = self.books.lock();
        books.settle(now);
        (books.totals.width, books.totals.bound) = (width, bound);
        self.room.store(0, Ordering::Relaxed);
    }

    /// Why the stage is as wide as it is, if it chooses that itself.
    pub(crate) fn explain(&self, reason: WidthReason) {
        self.books.lock().totals.width_reason = Some(reason);
    }

    /// The consumer has taken so many items so far.
    pub(crate) fn taken_to(&self, items: u64) {
        self.books.lock().totals.taken = items;
    }

    /// The consumer has taken so many more items.
    pub(crate) fn took(&self, items: u64) {
        self.books.lock().totals.taken += items;
    }

    /// How many it has taken so far, of those that it was told.
    pub(crate) fn taken(&self) -> u64 {
        self.books.lock().totals.taken
    }

    /// So many items have been run so far.
    pub(crate) fn ran_to(&self, items: u64) {
        self.books.lock().totals.ran = items;
    }

    /// So many more items have been run.
    pub(crate) fn ran(&self, items: u64) {
        self.books.lock().totals.ran += items;
    }

    fn room_word(full: bool, bound: u64) -> u64 {
        bound.saturating_add(1) << 1 | u64::from(full)
    }

    /// The bound is full, or there is room again.
    pub(crate) fn full(&self, now: Instant, full: bool, bound: u64) {
        let mut books = self.books.lock();
        books.totals.bound = bound;
        self.room
            .store(Self::room_word(full, bound), Ordering::Relaxed);
        if books.full == full {
            return;
        }
        books.settle(now);
        books.full = full;
        books.read_live();
        books.note_peak();
    }

    /// The consumer waits from now on, or has something to take.
    pub(crate) fn waits(&self, now: Instant, waits: bool) {
        let mut books = self.books.lock();
        if books.waits != waits {
            books.settle(now);
            books.waits = waits;
            books.totals.waits_since = waits.then_some(now);
        }
    }

    /// A panic has unwound the consumer in the place of an item that it has not counted as taken.
    pub(crate) fn unwound(&self) {
        let mut books = self.books.lock();
        books.unwound += 1;
        books.totals.pulled += 1;
        books.totals.ran += 1;
        books.totals.panicked += 1;
    }

    /// This has happened.
    pub(crate) fn count_event(&self, event: Event) {
        let mut books = self.books.lock();
        let totals = &mut books.totals;
        *match event {
            Event::HedgeSent => &mut totals.hedges[0],
            Event::HedgeWon => &mut totals.hedges[1],
            Event::HedgeRefused => &mut totals.hedges[2],
            Event::Steal => &mut totals.steals,
            Event::Wakeup => &mut totals.wakeups,
            Event::Nap => &mut totals.naps,
        } += 1;
    }

    /// The items in flight weigh so much together.
    pub(crate) fn weighs(&self, weight: u64, limit: u64) {
        let mut books = self.books.lock();
        let totals = &mut books.totals;
        (totals.weight, totals.weight_limit) = (weight, Some(limit));
        totals.peak_weight = totals.peak_weight.max(weight);
    }

    /// The consumer has run so many items itself.
    pub(crate) fn ran_own(&self, items: u64) {
        self.books.lock().totals.own_items += items;
    }

    /// An item has met such a fate.
    pub(crate) fn fate(&self, fate: Fate, items: u64) {
        let mut books = self.books.lock();
        let totals = &mut books.totals;
        *match fate {
            Fate::Failed => &mut totals.failed,
            Fate::Panicked => &mut totals.panicked,
            Fate::TimedOut => &mut totals.timed_out,
            Fate::Discarded => &mut totals.discarded,
        } += items;
    }

    /// So many items that were pulled are dropped, and the consumer will not see them.
    pub(crate) fn lost(&self, items: u64) {
        let mut books = self.books.lock();
        books.totals.discarded += items;
        books.totals.left += items;
    }

    /// The stage yields nothing more: from now on no time passes.
    pub(crate) fn end(&self, now: Instant) {
        let mut books = self.books.lock();
        books.settle(now);
        (books.over, books.totals.over) = (true, true);
        books.totals.waits_since = None;
    }

    /// Its threads are joined, and the consumer has taken so many items. The rest of them was dropped.
    pub(crate) fn close(&self, taken: u64) {
        let mut books = self.books.lock();
        books.read_live();
        (books.live, books.closed) = (None, true);
        let taken = taken + books.unwound;
        let totals = &mut books.totals;
        totals.taken = taken;
        let left = totals.pulled.saturating_sub(taken);
        totals.discarded += left - totals.left.min(left);
        totals.left = left;
    }

    /// Each item is to be timed, from the start of the stage on. `false`: it has started.
    #[cfg(feature = "percentile")]
    pub(crate) fn time_items(&self) -> bool {
        let started = self.books.lock().at.is_some();
        self.times_items.fetch_or(!started, Ordering::Relaxed) || !started
    }

    /// Whether each item is to be timed.
    pub(crate) fn times_items(&self) -> bool {
        self.times_items.load(Ordering::Relaxed)
    }

    /// So many items have been pulled, the first of which is number `first`.
    pub(crate) fn pulled_from(&self, first: u64, items: u64) {
        self.pulled(items);
        #[cfg(feature = "percentile")]
        if self.times_items() {
            self.times.lock().pulled(Instant::now(), first, items);
        }
        #[cfg(not(feature = "percentile"))]
        let _ = first;
    }

    /// This item took so long.
    pub(crate) fn item_ran(&self, seq: u64, time: Duration) {
        #[cfg(feature = "percentile")]
        if self.times_items() {
            self.times.lock().ran(Instant::now(), seq, time);
        }
        #[cfg(not(feature = "percentile"))]
        let _ = (seq, time);
    }

    /// The consumer takes this item.
    pub(crate) fn item_taken(&self, seq: u64) {
        #[cfg(feature = "percentile")]
        if self.times_items() {
            self.times.lock().taken(Instant::now(), seq);
        }
        #[cfg(not(feature = "percentile"))]
        let _ = seq;
    }

    /// The times of the items so far, if they are kept.
    #[cfg(feature = "percentile")]
    pub(crate) fn item_times(&self) -> Option<TimeLog> {
        self.times_items().then(|| self.times.lock().clone())
    }

    /// Whether nothing changes any more.
    #[cfg(feature = "metrics")]
    pub(crate) fn is_closed(&self) -> bool {
        self.books.lock().closed
    }

    /// The sums up to now.
    pub(crate) fn totals(&self, now: Instant) -> Totals {
        let mut books = self.books.lock();
        books.settle(now);
        let taken = books.taken();
        books.read_live();
        // What is counted for each chunk is behind what is counted for each item.
        let mut totals = books.totals;
        totals.running = books.running;
        totals.taken = taken;
        totals.ran = totals.ran.max(taken.saturating_sub(totals.discarded));
        totals.pulled = totals.pulled.max(totals.ran).max(taken);
        // It has a lock of its own.
        let threads = books.threads.clone();
        drop(books);
        totals.threads = threads
            .and_then(|held| held.upgrade())
            .map_or(0, |held| held.count());
        totals
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
