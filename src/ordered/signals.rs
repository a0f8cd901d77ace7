//! What the threads of one stage signal to one another: a few words that are read once per item and written
//! seldom, and the ways to stop.
//!
//! | word | written by | read by | meaning |
//! | --- | --- | --- | --- |
//! | `cut` | a thread that fails, cancels or drops | workers | items at or past it are not started |
//! | `waiting_for` | the consumer, before it sleeps | workers | the `seq` that it sleeps for |
//! | `alarm` | the writers of these two | workers and pullers, for each item | below this `seq` neither of the two concerns an item |
//! | `yielded` | the consumer, for each item | pullers | how many items have been handed over |
//! | `wake_at` | a puller without room | the consumer, for each item | the `yielded` from which on to wake a worker |
//! | `untimed` | the consumer, before it sleeps | workers of a timed stage, for each item | whether its sleep has no limit that fits an item that starts now |
//!
//! A store that is followed by a load of the other side's word has a barrier in between: light on the side
//! that passes for each item, heavy on the other (see [`barrier`](crate::runtime::barrier)). Everything else
//! is `Relaxed`: what these words guard is published by the chunk's own counters, or by the scheduler's lock.

use crate::cancel::CancelToken;
use crate::error::Cancelled;
use crate::runtime::barrier::{Light, heavy};
use crate::runtime::biased::{OwnerPlace, OwnerWords};
use crate::runtime::context::{Interrupt, Interrupts};
use crate::runtime::lease::Stop;
use crate::runtime::life::{Life, Scheduler};
use crate::runtime::meter::Live;
use crate::runtime::registry::Alive;
use crate::runtime::sleeper::Caller;
#[cfg(test)]
use crate::runtime::sleeper::Sleeper;
use crate::sync::{Arc, AtomicBool, AtomicU64, Mutex, Ordering, bug, fence};
use crossbeam_utils::CachePadded;
use std::ops::Deref;

/// In `waiting_for`: the consumer does not sleep.
pub(super) const NOBODY: u64 = u64::MAX;
/// The consumer sleeps for any item.
pub(super) const ANY: u64 = u64::MAX - 1;
/// The consumer has been woken, and has not come yet.
const CALLED: u64 = u64::MAX - 2;
/// How many results make a start: until then workers make way for the consumer even if it does not sleep.
const START: u64 = 16;
/// In `wake_at`: no puller waits for room.
const NEVER: u64 = u64::MAX;
/// In `left`: threads that wait for one another sleep; or they do not, and no chunk is left to the consumer.
const SLEEPS: u64 = u64::MAX;
const NOTHING_LEFT: u64 = u64::MAX - 1;
/// Instead of an item's `seq`: a call of the source, which is not wanted any more once anything has failed.
pub(super) const SOURCE: u64 = u64::MAX - 1;

/// The words that change seldom, together on one cache line: a worker that reads several of them per item
/// loads one line.
#[derive(Debug)]
struct SignalWords {
    /// The smaller of `cut` and what `waiting_for` asks for; `u64::MAX`: none. One load per item instead of
    /// two.
    alarm: AtomicU64,
    /// Only lowered, and `u64::MAX` until then.
    cut: AtomicU64,
    /// A `seq`, `NOBODY`, `ANY` or `CALLED`.
    waiting_for: AtomicU64,
    /// A count of yielded items, or `NEVER`.
    wake_at: AtomicU64,
    /// The consumer takes a nap, from which a puller without room wakes it.
    napping: AtomicBool,
    untimed: AtomicBool,
}

/// The part of a stage that does not depend on its types.
pub(super) struct Signals {
    words: CachePadded<SignalWords>,
    /// On its own cache line, because the consumer stores it for each item.
    yielded: CachePadded<AtomicU64>,
    /// Of how many items a filter has made nothing, or which had no outputs. Stored by the consumer only.
    filtered: CachePadded<AtomicU64>,
    /// The first `seq` of the chunk that is left to the consumer, `NOTHING_LEFT` or `SLEEPS` (`head.rs`, `one_worker.rs`).
    left: CachePadded<AtomicU64>,
    life: Life,
    /// Nothing more is yielded: all threads leave.
    stopped: AtomicBool,
    consumer: Caller,
    /// The stage yields everything: if what it was started in ends, its items are only warned.
    runs_all: bool,
    /// The tokens of running items that have asked for one.
    items: Mutex<Vec<(u64, CancelToken)>>,
    /// What threads of this stage wait for while they are in the source.
    inside: Arc<Interrupts>,
    /// How to call a consumer that runs items itself.
    inline: Mutex<Option<Arc<OwnerWords>>>,
}

impl Deref for Signals {
    type Target = Life;

    #[inline]
    fn deref(&self) -> &Life {
        &self.life
    }
}

impl std::fmt::Debug for Signals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signals")
            .field("yielded", &self.yielded())
            .field("stopped", &self.is_stopped())
            .finish_non_exhaustive()
    }
}

impl Live for Signals {
    fn filtered(&self) -> u64 {
        self.filtered.load(Ordering::Relaxed)
    }

    fn taken(&self) -> u64 {
        let Some(words) = &*self.inline.lock() else {
            return self.yielded();
        };
        // One visit is one item, and the last one may be on its way.
        let (count, place) = words.seen();
        count - u64::from(place == OwnerPlace::Running)
    }
}

impl Signals {
    pub(super) fn new(consumer: Caller, runs_all: bool, alive: Alive) -> Self {
        Signals {
            words: CachePadded::new(SignalWords {
                alarm: AtomicU64::new(u64::MAX),
                cut: AtomicU64::new(u64::MAX),
                waiting_for: AtomicU64::new(NOBODY),
                wake_at: AtomicU64::new(NEVER),
                napping: AtomicBool::new(false),
                untimed: AtomicBool::new(false),
            }),
            yielded: CachePadded::new(AtomicU64::new(0)),
            filtered: CachePadded::new(AtomicU64::new(0)),
            left: CachePadded::new(AtomicU64::new(SLEEPS)),
            life: Life::new(Some(alive)),
            stopped: AtomicBool::new(false),
            consumer,
            runs_all,
            items: Mutex::new(Vec::new()),
            inside: Arc::default(),
            inline: Mutex::new(None),
        }
    }

    /// Consumer: an item had no outputs. All that a stage pays for its statistics if nobody has asked for them.
    #[inline]
    pub(super) fn no_output(&self) {
        let filtered = self.filtered.load(Ordering::Relaxed) + 1;
        self.filtered.store(filtered, Ordering::Relaxed);
    }

    /// For a thread that has claimed item `next`, or has pulled what comes before it, and has passed the
    /// light barrier: whether [`cut`](Self::cut) or [`published`](Self::published) may concern it. One load
    /// instead of two, because both concern an item very seldom.
    #[inline]
    pub(super) fn is_alarmed(&self, next: u64) -> bool {
        self.words.alarm.load(Ordering::Relaxed) <= next
    }

    // ---- the end of admission

    /// Items at or past this `seq` must not be started.
    #[inline]
    pub(super) fn cut(&self) -> u64 {
        self.words.cut.load(Ordering::Relaxed)
    }

    /// Lowers `cut`, and with it `alarm`, by which workers learn of it.
    fn lower_cut(&self, seq: u64) {
        // First `cut`, then `alarm`, with a fence in between. A worker that sees the alarm then finds the
        // cut; and if a consumer that wakes up has undone the second step, it sees the first one (`awake`).
        self.words.cut.fetch_min(seq, Ordering::Relaxed);
        fence(Ordering::SeqCst); // pairs with the one in `awake`
        self.words.alarm.fetch_min(seq, Ordering::Release);
    }

    /// Whether nothing more must be pulled.
    #[inline]
    pub(super) fn is_cut(&self) -> bool {
        self.cut() != u64::MAX
    }

    /// Item `seq` has failed: nothing after it counts.
    pub(super) fn fail(&self, seq: u64) {
        // The cut before the tokens: an item that asks for its token later finds the cut
        // (`ItemContext::token`).
        self.lower_cut(seq + 1);
        // Only items after it: those before it are still wanted, and decide which error comes out.
        self.trip_items_past(seq, Cancelled::default());
        // Nothing that is pulled from now on will be run, so the puller need not wait in there.
        self.inside.interrupt();
    }

    /// Marks the stage as cancelled for its items. Wakes no thread.
    pub(super) fn say_cancelled(&self, why: Cancelled) {
        // The cut first: a thread that sees the reason relies on the cut being there.
        self.lower_cut(0);
        self.set_cancelled(why);
    }

    /// Consumer: whether the stage is cancelled. Behind the heavy barrier in here, everything that was
    /// started before the cancellation is seen as started. The slow side of the handshake claim / cut.
    pub(super) fn is_cut_off(&self) -> bool {
        let cancelled = self.is_cancelled();
        // The consumer passes the barrier, and not the thread that cancels: the consumer may see the
        // cancellation before that thread has got to a barrier.
        if cancelled {
            heavy(); // pairs with the light ones in `ExecCursor::publish` and `ChunkExecutor::start`
        }
        cancelled
    }

    /// Whether the threads must leave. Checked after each park.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Trips the tokens of the running items after `seq`.
    fn trip_items_past(&self, seq: u64, why: Cancelled) {
        // Copied, because hooks of the user's run in `trip`, and must not run under the lock.
        let past: Vec<CancelToken> = {
            let items = self.items.lock();
            let past = items.iter().filter(|(other, _)| *other > seq);
            past.map(|(_, token)| token.clone()).collect()
        };
        for token in past {
            self.stray(token.trip(why));
        }
    }

    /// The running item `seq` has asked for a token.
    pub(super) fn add_token_of_item(&self, seq: u64, token: &CancelToken) {
        self.items.lock().push((seq, token.clone()));
    }

    /// The item of this token is over.
    pub(super) fn forget_token_of_item(&self, token: &CancelToken) {
        self.items.lock().retain(|(_, other)| !other.is(token));
    }

    /// What must be interrupted with this stage's source.
    pub(super) fn inside(&self) -> &Arc<Interrupts> {
        &self.inside
    }

    // ---- publish / sleep

    /// What the consumer sleeps for. To be asked by a thread that has seen an [alarm](Self::is_alarmed).
    fn waiting_for(&self) -> u64 {
        fence(Ordering::Acquire); // pairs with the release of `alarm` in `sleep_for`
        self.words.waiting_for.load(Ordering::Relaxed)
    }

    /// Worker: item `seq` has been published, and there is an [alarm](Self::is_alarmed). Wakes the consumer
    /// if it sleeps for exactly this item, or for any.
    #[cold]
    pub(super) fn published(&self, seq: u64) {
        // Exactly, and not "at least": a later item does not help an ordered consumer, and an earlier one it
        // has already.
        let waiting_for = self.waiting_for();
        if waiting_for == seq || waiting_for == ANY {
            self.wake(waiting_for);
        }
    }

    /// Worker of a timed stage: item `seq` has been started, and the light barrier was passed. Wakes the
    /// consumer if it sleeps for this item and has set no timer for it.
    #[inline]
    pub(super) fn started(&self, seq: u64) {
        // The alarm for a sleep is `seq + 1`: it is meant for the check after item `seq` is published.
        if self.is_alarmed(seq + 1) {
            self.wake_for_start(seq);
        }
    }

    /// The rare part of `started`.
    #[cold]
    fn wake_for_start(&self, seq: u64) {
        let waiting_for = self.waiting_for();
        let waits = waiting_for == ANY || waiting_for == seq;
        // Start / arm: a consumer with a timer that is early enough need not be woken for a start.
        if waits && self.words.untimed.load(Ordering::Relaxed) {
            self.wake(waiting_for);
        }
    }

    /// Consumer of a timed stage: records whether it has no timer for items that start from now on.
    pub(super) fn set_untimed(&self, untimed: bool) {
        self.words.untimed.store(untimed, Ordering::Relaxed);
    }

    /// Consumer: announces that it is going to sleep for this `seq`. It must look once more before it does.
    /// The slow side of publish / sleep, pull / watch and start / arm.
    pub(super) fn sleep_for(&self, seq: u64) {
        // `waiting_for` before `alarm`, which is stored with Release: a worker that sees the alarm sees what
        // the consumer waits for.
        self.words.waiting_for.store(seq, Ordering::Relaxed);
        // A worker checks with the `seq` of its *next* item, hence the 1.
        let alarm = if seq == ANY { 0 } else { seq + 1 };
        self.words.alarm.fetch_min(alarm, Ordering::Release);
        heavy(); // pairs with the light ones in `ExecCursor::publish` and `WriteCursor::push`
    }

    /// Consumer: no longer sleeps.
    pub(super) fn awake(&self) {
        self.words.waiting_for.store(NOBODY, Ordering::Relaxed);
        // Back to the value of a stage whose consumer is awake: only the cut alarms.
        self.words.alarm.store(self.cut(), Ordering::Release);
        if bug("cut_is_forgotten_on_waking") {
            return;
        }
        // Another thread may have lowered both words since `cut` was read here, and the store has undone the
        // half of it.
        fence(Ordering::SeqCst); // pairs with the one in `lower_cut`
        // So `cut` is read once more behind the fence. Either this load sees what that thread has stored, or
        // that thread lowers `alarm` after the store above. The same holds for `drain`.
        let alarm = if self.is_draining() { 0 } else { self.cut() };
        self.words.alarm.fetch_min(alarm, Ordering::Release);
    }

    /// Wakes the consumer if it sleeps. The caller has just changed something under the scheduler's lock. The
    /// consumer looks at that under the same lock, after it has announced its sleep.
    #[cold]
    pub(super) fn wake_consumer(&self) {
        // Relaxed, without a barrier: the announcement was made under the lock (`Cursor::announce`). If it
        // came before the caller's critical section, it is visible here; if it came after, the consumer's
        // last look sees the change.
        let waiting_for = self.words.waiting_for.load(Ordering::Relaxed);
        if !matches!(waiting_for, NOBODY | CALLED) {
            self.wake(waiting_for);
        }
    }

    /// Wakes the consumer from exactly this sleep. One of several workers does so. If the consumer has woken
    /// by itself meanwhile, it has looked again, and what it has stored since must not be overwritten.
    fn wake(&self, from: u64) {
        // `CALLED` says that it is on its way, so no other worker pays for a second wake-up.
        let word = &self.words.waiting_for;
        if bug("late_waker_overwrites") {
            word.store(CALLED, Ordering::Relaxed);
            self.consumer.unpark();
        } else if (word.compare_exchange(from, CALLED, Ordering::Relaxed, Ordering::Relaxed))
            .is_ok()
        {
            self.consumer.unpark();
        }
    }

    /// Consumer: takes a limited nap, from which a puller without room may wake it.
    pub(super) fn set_napping(&self, napping: bool) {
        self.words.napping.store(napping, Ordering::Relaxed);
    }

    // ---- pull / watch

    /// Puller: it holds unstarted items from `first` on, and is about to enter the source again. Whether it
    /// must not: nothing more is wanted, or the consumer sleeps for an item that it holds.
    #[inline]
    pub(super) fn is_pull_over(&self, first: u64) -> bool {
        // The light barrier that pairs with the heavy one in `sleep_for` is in `WriteCursor::push`.
        // `MAX - 1` is above every `seq`, so this asks whether there is an alarm for any item. Three
        // questions follow only then.
        self.is_alarmed(u64::MAX - 1)
            && (self.is_cut() || self.is_draining() || self.is_starving(first))
    }

    /// Whether the consumer sleeps for an item at or past `first`.
    #[cold]
    pub(super) fn is_starving(&self, first: u64) -> bool {
        let waiting_for = self.waiting_for();
        !matches!(waiting_for, NOBODY | CALLED) && waiting_for >= first
    }

    /// Whether the consumer can only wait, or is on its way back from that. Then a worker that ends a chunk
    /// offers its core: the consumer, or the worker whose item it waits for, may have been queued on that
    /// core for a whole time slice.
    pub(super) fn is_consumer_waiting(&self) -> bool {
        self.words.waiting_for.load(Ordering::Relaxed) != NOBODY || self.yielded() < START
    }

    // ---- yield / room

    /// How many items the consumer has taken. May be a little behind, which only makes the room smaller.
    pub(super) fn yielded(&self) -> u64 {
        self.yielded.load(Ordering::Relaxed)
    }

    /// Consumer: this many items have been taken. Returns whether a worker must be woken for room. The fast
    /// side of yield / room.
    #[inline]
    #[must_use]
    pub(super) fn set_yielded(&self, count: u64, light: Light) -> bool {
        self.yielded.store(count, Ordering::Relaxed);
        light.pass(); // pairs with the heavy one in `wait_for_room`
        self.words.wake_at.load(Ordering::Relaxed) <= count
    }

    /// How many items the consumer has taken after a time in which it ran items itself. Called under the
    /// scheduler's lock.
    pub(super) fn yielded_inline(&self, count: u64) {
        // No check of `wake_at`: no worker pulls meanwhile, and one is woken when they do again.
        self.yielded.store(count, Ordering::Relaxed);
    }

    /// The consumer runs items itself from now on, and can be called by these words; or does so no longer.
    pub(super) fn set_inline(&self, words: Option<Arc<OwnerWords>>) {
        *self.inline.lock() = words;
    }

    /// Asks a consumer that runs items itself to stop before its next item.
    pub(super) fn call_consumer(&self) {
        if let Some(words) = &*self.inline.lock() {
            words.call();
        }
    }

    /// Wakes the consumer from any sleep or nap.
    pub(super) fn rouse(&self) {
        self.wake_consumer();
        if self.words.napping.load(Ordering::Relaxed) {
            self.consumer.unpark();
        }
    }

    // ---- waiting without sleep (`head.rs`, `one_worker.rs`). Stored under the scheduler's lock; what is decided by
    // it is decided there too.

    /// A chunk that begins with this item is left to the consumer.
    pub(super) fn set_left(&self, first: u64) {
        self.left.store(first, Ordering::Relaxed);
    }

    /// Threads that wait for one another do not sleep, and nothing is left to the consumer.
    pub(super) fn set_nothing_left(&self) {
        self.left.store(NOTHING_LEFT, Ordering::Relaxed);
    }

    /// Threads that wait for one another sleep from now on.
    pub(super) fn end_sleepless(&self) {
        self.left.store(SLEEPS, Ordering::Relaxed);
    }

    /// Whether the chunk that begins with this item is left to the consumer.
    #[inline]
    pub(super) fn is_left(&self, first: u64) -> bool {
        self.left.load(Ordering::Relaxed) == first
    }

    /// Whether threads that wait for one another do not sleep.
    pub(super) fn is_sleepless(&self) -> bool {
        self.left.load(Ordering::Relaxed) != SLEEPS
    }

    // ---- room, continued

    /// Puller: it has found no room, and asks for a wake-up. It must check once more. The slow side of yield
    /// / room.
    pub(super) fn wait_for_room(&self, wake_at: u64) {
        self.words.wake_at.store(wake_at, Ordering::Relaxed);
        if !bug("no_barrier_before_room") {
            heavy(); // pairs with the light one in `set_yielded`
        }
        // A nap has a limit of its own, but would hold up the source until then.
        if self.words.napping.load(Ordering::Relaxed) {
            self.consumer.unpark();
        }
    }

    /// Whether a puller waits for room.
    pub(super) fn is_room_wanted(&self) -> bool {
        self.words.wake_at.load(Ordering::Relaxed) != NEVER
    }

    /// There is room, or there will be: the puller that asked for it is being woken, or has checked again.
    pub(super) fn room_granted(&self) {
        self.words.wake_at.store(NEVER, Ordering::Relaxed);
    }
}

impl Scheduler for Signals {
    fn life(&self) -> &Life {
        &self.life
    }

    /// Nothing new is started; what runs is finished and yielded.
    fn cancel(&self, why: Cancelled) {
        // The cut and the reason first, so that each thread that is woken below sees them.
        self.say_cancelled(why);
        self.trip(why);
        // The thread in the source may wait in there, for an inner stage, say.
        self.inside.interrupt();
        // It runs items without a look at `cut`, so it must be called.
        self.call_consumer();
        // It may sleep for an item that will never come. Workers that sleep are woken later, by `stop`.
        self.consumer.unpark();
    }

    /// The source is asked for nothing more; everything that was pulled is run and yielded. A thread in the
    /// source learns of it by the token in there, and checks when it comes out, as does each thread that
    /// comes to pull.
    fn drain(&self, why: Cancelled) {
        self.set_draining(why);
        // As in `lower_cut`: first the reason, then the alarm, by which a puller between two items notices
        // it.
        fence(Ordering::SeqCst); // pairs with the one in `awake`
        self.words.alarm.fetch_min(0, Ordering::Release);
        // `SOURCE - 1`: only the tokens of calls of the source, none of an item.
        self.trip_items_past(SOURCE - 1, why);
    }

    fn outer_ended(&self, why: Cancelled) {
        // A stage that cannot report a cancellation runs all its items. They may ask their tokens.
        if self.runs_all {
            self.trip(why);
        } else {
            self.cancel(why);
        }
    }
}

impl Stop for Signals {
    fn stop(&self) {
        // The flags before any wake-up, as a woken thread checks them next.
        self.lower_cut(0);
        self.stopped.store(true, Ordering::SeqCst);
        self.trip(Cancelled::default());
        self.inside.interrupt();
        self.consumer.unpark();
        // Last the workers: all must leave, also those that sleep.
        self.unpark_threads();
    }

    fn joined(&self) {
        self.life.joined();
    }
}

/// What the consumer waits for is no longer wanted: it is inside the source of an outer stage, which has
/// ended. This stage may be lent, so it stays as it is.
impl Interrupt for Signals {
    fn interrupt(&self) {
        self.consumer.unpark();
    }
}

/// For a stage that has nothing else, with what its consumer would sleep on.
#[cfg(test)]
pub(super) fn lone() -> (Arc<Signals>, Sleeper) {
    let sleeper = Sleeper::new();
    let signals = Signals::new(sleeper.caller().clone(), false, Alive::new("a test"));
    (Arc::new(signals), sleeper)
}

#[cfg(all(test, not(loom)))]
mod tests;
