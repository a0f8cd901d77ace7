//! What the threads of one stage tell one another: a few words that are read once an item and
//! written seldom, and the ways to stop.
//!
//! | word | written by | read by | meaning |
//! | --- | --- | --- | --- |
//! | `cut` | who fails, cancels or drops | workers | items at or past it are not started |
//! | `waiting_for` | the consumer, before it sleeps | workers | the `seq` it sleeps for |
//! | `alarm` | the same | workers and pullers, each item | the earliest item whose start is to be preceded by a look at the two |
//! | `yielded` | the consumer, each item | pullers | how many items have been handed over |
//! | `wake_at` | a puller without room | the consumer, each item | from which `yielded` on to wake a worker |
//! | `untimed` | the consumer, before it sleeps | workers of a timed stage, each item | whether its sleep has no limit that holds for what starts now |
//!
//! Each store that is followed by a load of the other side's word has a barrier in between, light
//! on the side that passes each item and heavy on the other (see [`barrier`](crate::runtime::barrier)).
//! Everything is `Relaxed` otherwise: what these words guard is published by the chunk's own counters
//! or by the scheduler's lock.

use crate::cancel::{CancelToken, Why};
use crate::error::Cancelled;
use crate::runtime::barrier::{Light, heavy};
use crate::runtime::biased::OwnerWords;
use crate::runtime::context::{Inherited, Interrupt, Interrupts};
use crate::runtime::lease::Stop;
use crate::runtime::registry::{Alive, HeldThreads};
#[cfg(test)]
use crate::sync::Parker;
use crate::sync::{Arc, AtomicBool, AtomicU64, Mutex, Ordering, Unparker, bug, fence};
use crate::unwind::{self, Payload};
use crossbeam_utils::CachePadded;

/// The consumer sleeps for no item.
pub(crate) const NOBODY: u64 = u64::MAX;
/// The consumer sleeps for whichever item comes first.
pub(crate) const ANY: u64 = u64::MAX - 1;
/// It has been woken, and has not come yet.
const CALLED: u64 = u64::MAX - 2;
/// So many results make a start: until then the consumer is waited on even if it does not sleep.
const START: u64 = 16;
/// Nobody waits for room.
const NEVER: u64 = u64::MAX;
/// In the place of an item's `seq`: a call of the source, which nobody wants once anything has failed.
pub(super) const SOURCE: u64 = u64::MAX - 1;

#[derive(Debug)]
struct SignalWords {
    alarm: AtomicU64,
    cut: AtomicU64,
    waiting_for: AtomicU64,
    wake_at: AtomicU64,
    napping: AtomicBool,
    untimed: AtomicBool,
}

/// The part of a stage that knows nothing of its types.
pub(crate) struct Signals {
    words: CachePadded<SignalWords>,
    yielded: CachePadded<AtomicU64>,
    stopped: AtomicBool,
    cancelled: Why,
    draining: Why,
    drained: AtomicBool,
    consumer: Unparker,
    workers: Mutex<Vec<Unparker>>,
    /// The first panic that has no item's place to be raised at.
    stray: Mutex<Option<Payload>>,
    /// The stage's own token, and those of running items that asked for one.
    token: CancelToken,
    items: Mutex<Vec<(u64, CancelToken)>>,
    /// What a thread of this stage waits for while it is in the source.
    inside: Arc<Interrupts>,
    /// What it was started in, if it is to hear of the end of that.
    inherited: Mutex<Option<Inherited>>,
    /// How to call a consumer that runs items itself.
    inline: Mutex<Option<Arc<OwnerWords>>>,
    alive: Mutex<Option<Alive>>,
}

impl std::fmt::Debug for Signals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signals")
            .field("yielded", &self.yielded())
            .field("stopped", &self.is_stopped())
            .finish_non_exhaustive()
    }
}

impl Signals {
    pub(crate) fn new(consumer: Unparker, alive: Alive) -> Self {
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
            stopped: AtomicBool::new(false),
            cancelled: Why::new(),
            draining: Why::new(),
            drained: AtomicBool::new(false),
            consumer,
            workers: Mutex::new(Vec::new()),
            stray: Mutex::new(None),
            token: CancelToken::new(),
            items: Mutex::new(Vec::new()),
            inside: Arc::default(),
            inherited: Mutex::new(None),
            inline: Mutex::new(None),
            alive: Mutex::new(Some(alive)),
        }
    }

    /// Who has claimed item `next`, or pulled what precedes it, and passed the light barrier: whether
    /// [`cut`](Self::cut) and [`published`](Self::published) have something to say about it. One
    /// load for both, as both are about to say something very seldom.
    #[inline]
    pub(crate) fn is_alarmed(&self, next: u64) -> bool {
        self.words.alarm.load(Ordering::Relaxed) <= next
    }

    // ---- the end of admission

    /// Items at or past this `seq` are not to be started.
    #[inline]
    pub(crate) fn cut(&self) -> u64 {
        self.words.cut.load(Ordering::Relaxed)
    }

    fn lower_cut(&self, seq: u64) {
        self.words.cut.fetch_min(seq, Ordering::Relaxed);
        fence(Ordering::SeqCst); // pairs with the one in `awake`
        self.words.alarm.fetch_min(seq, Ordering::Release);
    }

    /// Whether nothing new is to be pulled.
    #[inline]
    pub(crate) fn is_cut(&self) -> bool {
        self.cut() != u64::MAX
    }

    /// Item `seq` failed: nothing after it counts.
    pub(crate) fn fail(&self, seq: u64) {
        self.lower_cut(seq + 1);
        self.trip_items_past(seq, Cancelled::default());
        self.inside.interrupt();
    }

    /// Nothing new is started; what runs is finished and yielded.
    pub(crate) fn cancel(&self, why: Cancelled) {
        self.say_cancelled(why);
        self.warn(why);
        self.inside.interrupt();
        self.call_consumer();
        self.consumer.unpark();
    }

    /// What a cancellation is to the items; nobody is told.
    pub(crate) fn say_cancelled(&self, why: Cancelled) {
        self.lower_cut(0);
        self.cancelled.set(why);
    }

    /// Trips the token of all that runs and will run, and no more.
    pub(crate) fn warn(&self, why: Cancelled) {
        self.stray(self.token.trip(why));
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.get().is_some()
    }

    /// Consumer: the same; and what has been started before the cancellation is seen to have been.
    pub(crate) fn is_cut_off(&self) -> bool {
        let cancelled = self.is_cancelled();
        if cancelled {
            heavy(); // pairs with the light ones in `ExecCursor::publish` and `ChunkExecutor::start`
        }
        cancelled
    }

    /// The source is asked for no more; everything that was pulled is run and yielded. Who is in the source
    /// hears of it by the token there, and sees it when he comes out, like everybody who comes to pull.
    pub(crate) fn drain(&self, why: Cancelled) {
        self.draining.set(why);
        fence(Ordering::SeqCst); // pairs with the one in `awake`
        self.words.alarm.fetch_min(0, Ordering::Release);
        self.trip_items_past(SOURCE - 1, why);
    }

    #[inline]
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.get().is_some()
    }

    /// That was the reason why the source was asked for no more. Under the scheduler's lock.
    pub(crate) fn set_drained(&self) {
        self.drained.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_drained(&self) -> bool {
        self.drained.load(Ordering::Relaxed)
    }

    /// Why it ended before its source did.
    pub(crate) fn why(&self) -> Cancelled {
        let why = self.cancelled.get().or_else(|| self.draining.get());
        why.unwrap_or_default()
    }

    pub(crate) fn inherit(&self, from: Inherited) {
        *self.inherited.lock() = Some(from);
    }

    /// It is over, and hears no more of what it was started in.
    pub(crate) fn disinherit(&self) {
        let inherited = self.inherited.lock().take();
        drop(inherited);
    }

    /// It was cut short, and whoever uses it is not told so by what it yields.
    pub(crate) fn cut_short(&self) {
        if let Some(inherited) = &*self.inherited.lock() {
            inherited.cut_short();
        }
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    fn trip_items_past(&self, seq: u64, why: Cancelled) {
        let past: Vec<CancelToken> = {
            let items = self.items.lock();
            let past = items.iter().filter(|(other, _)| *other > seq);
            past.map(|(_, token)| token.clone()).collect()
        };
        for token in past {
            self.stray(token.trip(why));
        }
    }

    /// Item `seq`, which runs, has asked for a token.
    pub(super) fn add_token_of_item(&self, seq: u64, token: &CancelToken) {
        self.items.lock().push((seq, token.clone()));
    }

    pub(super) fn forget_token_of_item(&self, token: &CancelToken) {
        self.items.lock().retain(|(_, other)| !other.is(token));
    }

    /// What is to be interrupted with this stage's source.
    pub(crate) fn inside(&self) -> &Arc<Interrupts> {
        &self.inside
    }

    // ---- publish / sleep

    /// What the consumer sleeps for, for who has seen an [alarm](Self::is_alarmed).
    fn waiting_for(&self) -> u64 {
        fence(Ordering::Acquire); // pairs with the release of `alarm` in `sleep_for`
        self.words.waiting_for.load(Ordering::Relaxed)
    }

    /// Worker: item `seq` has been published, and there is an [alarm](Self::is_alarmed). Wakes the
    /// consumer if it sleeps for this very item.
    #[cold]
    pub(crate) fn published(&self, seq: u64) {
        let waiting_for = self.waiting_for();
        if waiting_for == seq || waiting_for == ANY {
            self.wake(waiting_for);
        }
    }

    /// Worker of a timed stage: item `seq` has been started, and the light barrier passed. Wakes the
    /// consumer if it sleeps for that and has set no timer for it.
    #[inline]
    pub(crate) fn started(&self, seq: u64) {
        if self.is_alarmed(seq + 1) {
            self.wake_for_start(seq);
        }
    }

    #[cold]
    fn wake_for_start(&self, seq: u64) {
        let waiting_for = self.waiting_for();
        let waits = waiting_for == ANY || waiting_for == seq;
        if waits && self.words.untimed.load(Ordering::Relaxed) {
            self.wake(waiting_for);
        }
    }

    /// Consumer of a timed stage, before it looks at what runs and then sleeps: whether it has no timer
    /// for what starts from now on.
    pub(crate) fn set_untimed(&self, untimed: bool) {
        self.words.untimed.store(untimed, Ordering::Relaxed);
    }

    /// Consumer: is going to sleep for this `seq`; must look once more.
    pub(crate) fn sleep_for(&self, seq: u64) {
        self.words.waiting_for.store(seq, Ordering::Relaxed);
        let alarm = if seq == ANY { 0 } else { seq + 1 };
        self.words.alarm.fetch_min(alarm, Ordering::Release);
        heavy(); // pairs with the light ones in `ExecCursor::publish` and `WriteCursor::push`
    }

    /// Consumer: is awake.
    pub(crate) fn awake(&self) {
        self.words.waiting_for.store(NOBODY, Ordering::Relaxed);
        self.words.alarm.store(self.cut(), Ordering::Release);
        if bug("cut_is_forgotten_on_waking") {
            return;
        }
        // Somebody may have lowered both since `cut` was read, and the store has undone half of it.
        fence(Ordering::SeqCst); // pairs with the one in `lower_cut`
        let alarm = if self.is_draining() { 0 } else { self.cut() };
        self.words.alarm.fetch_min(alarm, Ordering::Release);
    }

    /// Wakes the consumer if it sleeps. The caller has just changed something under the scheduler's lock,
    /// and the consumer looks at that under the same lock after it has said that it sleeps.
    #[cold]
    pub(crate) fn wake_consumer(&self) {
        let waiting_for = self.words.waiting_for.load(Ordering::Relaxed);
        if !matches!(waiting_for, NOBODY | CALLED) {
            self.wake(waiting_for);
        }
    }

    /// Wakes the consumer from this very sleep. One of several workers does it; and if it has woken
    /// by itself meanwhile, it has looked again, and what it says now is not ours to take back.
    fn wake(&self, from: u64) {
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

    /// Consumer: takes a bounded nap, from which a worker without room may wake it.
    pub(crate) fn set_napping(&self, napping: bool) {
        self.words.napping.store(napping, Ordering::Relaxed);
    }

    // ---- pull / starve

    /// Puller: holds unstarted items from `first` on and is about to enter the source again.
    /// Whether it had better not: nothing more is wanted, or the consumer sleeps for what it holds.
    #[inline]
    pub(crate) fn is_pull_over(&self, first: u64) -> bool {
        // The light barrier that pairs with the heavy one in `sleep_for` is in `WriteCursor::push`.
        self.is_alarmed(u64::MAX - 1)
            && (self.is_cut() || self.is_draining() || self.is_starving(first))
    }

    /// Whether the consumer sleeps for an item from `first` on.
    #[cold]
    pub(crate) fn is_starving(&self, first: u64) -> bool {
        let waiting_for = self.waiting_for();
        !matches!(waiting_for, NOBODY | CALLED) && waiting_for >= first
    }

    /// Whether the consumer has nothing to do but to wait, or is on its way back from that: then a
    /// worker between two runs offers its core, on which the consumer, or the worker whose item it
    /// waits for, may have been queued for a whole time slice.
    pub(crate) fn is_consumer_waiting(&self) -> bool {
        self.words.waiting_for.load(Ordering::Relaxed) != NOBODY || self.yielded() < START
    }

    // ---- yield / wait for room

    pub(crate) fn yielded(&self) -> u64 {
        self.yielded.load(Ordering::Relaxed)
    }

    /// Consumer: so many items have been taken. Whether a worker is to be woken for room.
    #[inline]
    #[must_use]
    pub(crate) fn set_yielded(&self, count: u64, light: Light) -> bool {
        self.yielded.store(count, Ordering::Relaxed);
        light.pass(); // pairs with the heavy one in `wait_for_room`
        self.words.wake_at.load(Ordering::Relaxed) <= count
    }

    /// How far it is after a time in which it has run items itself. Under the scheduler's lock.
    pub(crate) fn yielded_inline(&self, count: u64) {
        self.yielded.store(count, Ordering::Relaxed);
    }

    /// The consumer runs items itself, and is to be called like this; or does no longer.
    pub(crate) fn set_inline(&self, words: Option<Arc<OwnerWords>>) {
        *self.inline.lock() = words;
    }

    /// Asks a consumer that runs items itself to look up.
    pub(crate) fn call_consumer(&self) {
        if let Some(words) = &*self.inline.lock() {
            words.call();
        }
    }

    /// Wakes the consumer from any sleep or nap.
    pub(crate) fn rouse(&self) {
        self.wake_consumer();
        if self.words.napping.load(Ordering::Relaxed) {
            self.consumer.unpark();
        }
    }

    /// Puller: found no room; must look once more.
    pub(crate) fn wait_for_room(&self, wake_at: u64) {
        self.words.wake_at.store(wake_at, Ordering::Relaxed);
        if !bug("no_barrier_before_room") {
            heavy(); // pairs with the light one in `set_yielded`
        }
        if self.words.napping.load(Ordering::Relaxed) {
            self.consumer.unpark();
        }
    }

    /// Whether a puller waits for room.
    pub(crate) fn is_room_wanted(&self) -> bool {
        self.words.wake_at.load(Ordering::Relaxed) != NEVER
    }

    /// Room is there, or on its way: whoever asked is to be woken or has looked again.
    pub(crate) fn room_granted(&self) {
        self.words.wake_at.store(NEVER, Ordering::Relaxed);
    }

    // ---- threads and panics

    /// The stage's own token.
    pub(crate) fn token(&self) -> &CancelToken {
        &self.token
    }

    /// A worker says how to wake it. `stop` after this wakes it, `stop` before is seen by it.
    pub(crate) fn register(&self, worker: Unparker) {
        self.workers.lock().push(worker);
    }

    /// The stage has said its last word, though threads may hold something of it.
    pub(crate) fn over(&self, held: Arc<dyn HeldThreads>) {
        if let Some(alive) = &*self.alive.lock() {
            alive.over(held);
        }
    }

    /// Keeps a panic that has no item's place; the consumer raises the first when the stage ends.
    pub(crate) fn stray(&self, panic: Option<Payload>) {
        if panic.is_some() {
            let lost = unwind::keep(&mut self.stray.lock(), panic);
            lost.into_iter().for_each(unwind::bury); // not under the lock
        }
    }

    pub(crate) fn take_stray(&self) -> Option<Payload> {
        self.stray.lock().take()
    }
}

impl Stop for Signals {
    fn stop(&self) {
        self.lower_cut(0);
        self.stopped.store(true, Ordering::SeqCst);
        self.warn(Cancelled::default());
        self.inside.interrupt();
        self.consumer.unpark();
        for worker in &*self.workers.lock() {
            worker.unpark();
        }
    }

    fn joined(&self) {
        drop(self.alive.lock().take());
    }
}

/// Nobody wants what the consumer waits for: it is in the source of another stage, which has ended. The
/// stage may be lent, so it stays as it is.
impl Interrupt for Signals {
    fn interrupt(&self) {
        self.consumer.unpark();
    }
}

/// Of a stage that has nothing else, with what its consumer would sleep on.
#[cfg(test)]
pub(crate) fn lone() -> (Arc<Signals>, Parker) {
    let parker = Parker::new();
    let signals = Signals::new(parker.unparker().clone(), Alive::new("a test"));
    (Arc::new(signals), parker)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::ordered::item_context::ItemContext;
    use crate::runtime::context::Current;

    #[test]
    fn a_puller_stops_for_a_consumer_that_sleeps_for_what_it_holds() {
        let (signals, _parker) = lone();
        assert!(!signals.is_starving(0) && !signals.is_pull_over(0));
        signals.sleep_for(5);
        assert!(signals.is_starving(5) && signals.is_pull_over(5));
        assert!(signals.is_starving(4), "it has pulled that one too");
        assert!(!signals.is_starving(6) && !signals.is_pull_over(6));
        signals.published(4);
        assert!(signals.is_starving(5), "it was another item");
        signals.published(5);
        assert!(!signals.is_starving(5), "it is on its way");
        signals.awake();
        assert!(!signals.is_starving(0) && !signals.is_pull_over(0));
        signals.sleep_for(ANY);
        assert!(signals.is_starving(1_000_000) && signals.is_pull_over(1_000_000));
        signals.published(1);
        assert!(!signals.is_starving(0));
        signals.awake();
        signals.fail(9);
        assert!(signals.is_pull_over(0), "nothing more is wanted");
    }

    #[test]
    fn the_consumer_is_waited_on_at_the_start_and_while_it_sleeps() {
        let (signals, _parker) = lone();
        assert!(signals.is_consumer_waiting());
        assert!(!signals.set_yielded(START - 1, Light::new()));
        assert!(signals.is_consumer_waiting());
        assert!(!signals.set_yielded(START, Light::new()));
        assert!(!signals.is_consumer_waiting());
        signals.sleep_for(START);
        assert!(signals.is_consumer_waiting());
        signals.published(START);
        assert!(signals.is_consumer_waiting(), "and while it wakes up");
        signals.awake();
        assert!(!signals.is_consumer_waiting());
    }

    #[test]
    fn who_waits_for_room_is_to_be_woken_from_then_on() {
        let (signals, _parker) = lone();
        assert!(!signals.is_room_wanted());
        signals.wait_for_room(7);
        assert!(signals.is_room_wanted());
        assert!(!signals.set_yielded(6, Light::new()));
        assert!(signals.set_yielded(7, Light::new()) && signals.set_yielded(8, Light::new()));
        signals.room_granted();
        assert!(!signals.is_room_wanted() && !signals.set_yielded(9, Light::new()));
    }

    /// Each of these parks returns, or the test hangs.
    #[test]
    fn the_consumer_is_woken_from_sleeps_and_naps() {
        let (signals, parker) = lone();
        signals.sleep_for(3);
        signals.published(3);
        parker.park();
        signals.awake();
        signals.sleep_for(4);
        signals.wake_consumer();
        parker.park();
        signals.awake();
        signals.sleep_for(4);
        signals.rouse();
        parker.park();
        signals.awake();
        signals.set_napping(true);
        signals.rouse();
        parker.park();
        signals.wait_for_room(1);
        parker.park();
        signals.cancel(Cancelled::default());
        parker.park();
        assert!(signals.is_cancelled() && !signals.is_stopped());
        signals.stop();
        parker.park();
        assert!(signals.is_stopped());
    }

    #[test]
    fn only_the_tokens_of_items_behind_a_failure_are_tripped() {
        let (signals, _parker) = lone();
        let here = ItemContext::new(Arc::clone(&signals));
        let tokens = [2, 3, 4].map(|seq| {
            here.set_seq(seq);
            let token = here.token();
            here.token.take(); // as if each were another worker's
            token
        });
        signals.fail(3);
        assert_eq!(
            tokens.each_ref().map(CancelToken::is_cancelled),
            [false, false, true]
        );
        here.set_seq(4);
        assert!(here.token().is_cancelled(), "it comes too late");
        here.item_over();
        assert_eq!(signals.items.lock().len(), 3);
        assert!(!signals.token().is_cancelled());
    }
}
