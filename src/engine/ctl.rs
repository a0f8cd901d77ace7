//! What the threads of one stage tell one another: a few words that are read once an item and
//! written seldom, and the ways to stop.
//!
//! | word | written by | read by | meaning |
//! | --- | --- | --- | --- |
//! | `cut` | who fails, cancels or drops | workers, each item | items at or past it are not started |
//! | `waiting_for` | the consumer, before it sleeps | workers, each item | the `seq` it sleeps for |
//! | `yielded` | the consumer, each item | pullers | how many items have been handed over |
//! | `wake_at` | a puller without room | the consumer, each item | from which `yielded` on to wake a worker |
//! | `watched` | the one who watches the source | pullers, each item | somebody looks after what they hold |
//!
//! Each store that is followed by a load of the other side's word has a barrier in between, light
//! on the side that passes each item and heavy on the other (see [`barrier`]).
//! Everything is `Relaxed` otherwise: what these words guard is published by the run's own counters
//! or by the desk's lock.

use crate::engine::barrier::{heavy, light};
use crate::engine::cancel::{CancelToken, Current};
use crate::engine::census::Alive;
use crate::engine::erase::Stop;
use crate::engine::unwind::{self, Payload};
use crate::sync::{Arc, AtomicBool, AtomicU64, Mutex, Ordering, Unparker, Weak};
use crossbeam_utils::CachePadded;
use std::cell::{Cell, RefCell};

/// The consumer sleeps for no item.
pub(crate) const NOBODY: u64 = u64::MAX;
/// The consumer sleeps for whichever item comes first.
pub(crate) const ANY: u64 = u64::MAX - 1;
/// Nobody waits for room.
const NEVER: u64 = u64::MAX;

#[derive(Debug)]
struct Words {
    cut: AtomicU64,
    waiting_for: AtomicU64,
    wake_at: AtomicU64,
    watched: AtomicBool,
    napping: AtomicBool,
}

/// The part of a stage that knows nothing of its types.
pub(crate) struct Ctl {
    words: CachePadded<Words>,
    yielded: CachePadded<AtomicU64>,
    stopped: AtomicBool,
    cancelled: AtomicBool,
    consumer: Unparker,
    workers: Mutex<Vec<Unparker>>,
    /// The first panic that has no item's place to be raised at.
    stray: Mutex<Option<Payload>>,
    /// The stage's own token, and those of running items that asked for one.
    token: CancelToken,
    items: Mutex<Vec<(u64, CancelToken)>>,
    /// Stages that a worker of this one waits for while it is in the source.
    inner: Mutex<Vec<Weak<Ctl>>>,
    alive: Mutex<Option<Alive>>,
}

impl std::fmt::Debug for Ctl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ctl")
            .field("yielded", &self.yielded())
            .field("stopped", &self.is_stopped())
            .finish_non_exhaustive()
    }
}

impl Ctl {
    pub(crate) fn new(consumer: Unparker, alive: Alive) -> Self {
        Ctl {
            words: CachePadded::new(Words {
                cut: AtomicU64::new(u64::MAX),
                waiting_for: AtomicU64::new(NOBODY),
                wake_at: AtomicU64::new(NEVER),
                watched: AtomicBool::new(false),
                napping: AtomicBool::new(false),
            }),
            yielded: CachePadded::new(AtomicU64::new(0)),
            stopped: AtomicBool::new(false),
            cancelled: AtomicBool::new(false),
            consumer,
            workers: Mutex::new(Vec::new()),
            stray: Mutex::new(None),
            token: CancelToken::new(),
            items: Mutex::new(Vec::new()),
            inner: Mutex::new(Vec::new()),
            alive: Mutex::new(Some(alive)),
        }
    }

    // ---- the end of admission

    /// Items at or past this `seq` are not to be started.
    #[inline]
    pub(crate) fn cut(&self) -> u64 {
        self.words.cut.load(Ordering::Relaxed)
    }

    /// Whether nothing new is to be pulled.
    #[inline]
    pub(crate) fn is_cut(&self) -> bool {
        self.cut() != u64::MAX
    }

    /// Item `seq` failed: nothing after it counts.
    pub(crate) fn fail(&self, seq: u64) {
        self.words.cut.fetch_min(seq + 1, Ordering::SeqCst);
        self.trip_items_past(seq);
        self.interrupt_inner();
    }

    /// Nothing new is started; what runs is finished and yielded.
    pub(crate) fn cancel(&self) {
        self.words.cut.store(0, Ordering::SeqCst);
        self.cancelled.store(true, Ordering::SeqCst);
        heavy(); // pairs with the light one between claim and `cut`: see `Taking::is_next_claimed`
        self.stray(self.token.trip());
        self.interrupt_inner();
        self.consumer.unpark();
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    fn trip_items_past(&self, seq: u64) {
        let past: Vec<CancelToken> = {
            let items = self.items.lock();
            let past = items.iter().filter(|(other, _)| *other > seq);
            past.map(|(_, token)| token.clone()).collect()
        };
        for token in past {
            self.stray(token.trip());
        }
    }

    /// A stage that this one's worker pulls is told that nobody wants its items any more.
    fn interrupt_inner(&self) {
        let inner: Vec<_> = self.inner.lock().iter().filter_map(Weak::upgrade).collect();
        for ctl in inner {
            ctl.cancel();
        }
    }

    // ---- publish / sleep

    /// Worker: item `seq` has been published. Wakes the consumer if it sleeps for this very item.
    #[inline]
    pub(crate) fn published(&self, seq: u64) {
        light(); // pairs with the heavy one in `sleep_for`
        let waiting_for = self.words.waiting_for.load(Ordering::Relaxed);
        if waiting_for != NOBODY && (waiting_for == seq || waiting_for == ANY) {
            self.wake_consumer();
        }
    }

    /// Consumer: is going to sleep for this `seq`; must look once more.
    pub(crate) fn sleep_for(&self, seq: u64) {
        self.words.waiting_for.store(seq, Ordering::Relaxed);
        heavy(); // pairs with the light ones in `published` and `Filling::push`
    }

    /// Consumer: is awake.
    pub(crate) fn awake(&self) {
        self.words.waiting_for.store(NOBODY, Ordering::Relaxed);
    }

    /// Wakes the consumer if it sleeps.
    #[cold]
    pub(crate) fn wake_consumer(&self) {
        // The swap lets one of several workers do it.
        if self.words.waiting_for.swap(NOBODY, Ordering::Relaxed) != NOBODY {
            self.consumer.unpark();
        }
    }

    /// Consumer: takes a bounded nap, from which a worker without room may wake it.
    pub(crate) fn set_napping(&self, napping: bool) {
        self.words.napping.store(napping, Ordering::Relaxed);
    }

    // ---- pull / starve

    /// Puller: holds unstarted items from `first` on and is about to enter the source again.
    /// Whether it had better not: the consumer sleeps for what it holds.
    #[inline]
    pub(crate) fn is_starving(&self, first: u64) -> bool {
        // The light barrier that pairs with the heavy one in `sleep_for` is in `Filling::push`.
        let waiting_for = self.words.waiting_for.load(Ordering::Relaxed);
        waiting_for != NOBODY && waiting_for >= first
    }

    /// Puller: whether somebody looks after what it holds while it is in the source.
    #[inline]
    pub(crate) fn is_watched(&self) -> bool {
        self.words.watched.load(Ordering::Relaxed)
    }

    pub(crate) fn set_watched(&self) {
        self.words.watched.store(true, Ordering::Relaxed);
    }

    /// Nobody watches any more; the caller must look at the open run once more.
    pub(crate) fn set_unwatched(&self) {
        self.unwatch();
        heavy(); // pairs with the light one in `Filling::push`
    }

    /// The same for a caller who is about to enter the source himself, or to watch again.
    pub(crate) fn unwatch(&self) {
        self.words.watched.store(false, Ordering::Relaxed);
    }

    // ---- yield / wait for room

    pub(crate) fn yielded(&self) -> u64 {
        self.yielded.load(Ordering::Relaxed)
    }

    /// Consumer: so many items have been taken. Whether a worker is to be woken for room.
    #[inline]
    #[must_use]
    pub(crate) fn set_yielded(&self, count: u64) -> bool {
        self.yielded.store(count, Ordering::Relaxed);
        light(); // pairs with the heavy one in `wait_for_room`
        self.words.wake_at.load(Ordering::Relaxed) <= count
    }

    /// Puller: found no room; must look once more.
    pub(crate) fn wait_for_room(&self, wake_at: u64) {
        self.words.wake_at.store(wake_at, Ordering::Relaxed);
        heavy(); // pairs with the light one in `set_yielded`
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

    /// A worker says how to wake it. `stop` after this wakes it, `stop` before is seen by it.
    pub(crate) fn register(&self, worker: Unparker) {
        self.workers.lock().push(worker);
    }

    /// Keeps a panic that has no item's place; the consumer raises the first when the stage ends.
    pub(crate) fn stray(&self, panic: Option<Payload>) {
        if panic.is_some() {
            unwind::first(&mut self.stray.lock(), panic);
        }
    }

    pub(crate) fn take_stray(&self) -> Option<Payload> {
        self.stray.lock().take()
    }
}

impl Stop for Ctl {
    fn stop(&self) {
        self.words.cut.store(0, Ordering::SeqCst);
        self.stopped.store(true, Ordering::SeqCst);
        self.stray(self.token.trip());
        self.interrupt_inner();
        self.consumer.unpark();
        for worker in &*self.workers.lock() {
            worker.unpark();
        }
    }

    fn joined(&self) {
        drop(self.alive.lock().take());
    }
}

/// Where a worker is: in which item, and whether in the source.
pub(crate) struct Here {
    ctl: Arc<Ctl>,
    seq: Cell<u64>,
    /// Whether there is a token: read each item.
    asked: Cell<bool>,
    token: RefCell<Option<CancelToken>>,
}

thread_local! {
    /// The stage in whose source this thread is, for a stage that is that source or a part of it.
    static IN_SOURCE_OF: RefCell<Option<Arc<Ctl>>> = const { RefCell::new(None) };
}

impl Here {
    pub(crate) fn new(ctl: Arc<Ctl>) -> Self {
        Here {
            ctl,
            seq: Cell::new(0),
            asked: Cell::new(false),
            token: RefCell::new(None),
        }
    }

    /// The item that is about to run.
    #[inline]
    pub(crate) fn set_seq(&self, seq: u64) {
        self.seq.set(seq);
    }

    /// The item has run; its token, if it asked for one, is no longer of interest.
    #[inline]
    pub(crate) fn item_over(&self) {
        if self.asked.get() {
            self.forget_token();
        }
    }

    #[cold]
    fn forget_token(&self) {
        self.asked.set(false);
        self.token.take();
        let seq = self.seq.get();
        self.ctl.items.lock().retain(|(other, _)| *other != seq);
    }
}

impl Current for Here {
    fn token(&self) -> CancelToken {
        if let Some(token) = &*self.token.borrow() {
            return token.clone();
        }
        let token = self.ctl.token.child();
        let seq = self.seq.get();
        self.ctl.items.lock().push((seq, token.clone()));
        // A failure before the push did not find the token, but has set the cut before it looked.
        if self.ctl.cut() <= seq {
            self.ctl.stray(token.trip());
        }
        *self.token.borrow_mut() = Some(token.clone());
        self.asked.set(true);
        token
    }
}

/// Marks this thread as being in the source of a stage, until the guard is dropped.
pub(crate) fn in_source(ctl: &Arc<Ctl>) -> InSource {
    let ctl = Some(Arc::clone(ctl));
    InSource(
        IN_SOURCE_OF
            .try_with(|outer| outer.replace(ctl))
            .ok()
            .flatten(),
    )
}

/// Restores what was before.
#[derive(Debug)]
pub(crate) struct InSource(Option<Arc<Ctl>>);

impl Drop for InSource {
    fn drop(&mut self) {
        let outer = self.0.take();
        let _ = IN_SOURCE_OF.try_with(|here| here.replace(outer));
    }
}

/// Out of any source while a closure runs, until the guard is dropped: a stage inside a closure
/// is not the source of the closure's stage.
pub(crate) fn in_closure() -> InSource {
    InSource(IN_SOURCE_OF.try_with(RefCell::take).ok().flatten())
}

/// Consumer of `inner`, before it sleeps: if it runs inside the source of another stage, the end
/// of that one is to wake it.
pub(crate) fn tell_outer(inner: &Arc<Ctl>) {
    let outer = IN_SOURCE_OF.try_with(|outer| outer.borrow().clone());
    let Ok(Some(outer)) = outer else { return };
    {
        let mut list = outer.inner.lock();
        list.retain(|known| known.strong_count() > 0);
        if list
            .iter()
            .any(|known| Weak::as_ptr(known) == Arc::as_ptr(inner))
        {
            return;
        }
        list.push(Arc::downgrade(inner));
    }
    if outer.is_cut() {
        inner.cancel();
    }
}
