//! What the workers and the consumer share, and the rules for what a thread does next.

use crate::error::Cancelled;
use crate::flat::lane::{Lane, LaneEnd};
use crate::flat::state::FlatState;
use crate::par::flat_map::FlatJob;
use crate::runtime::context::Interrupts;
use crate::runtime::control::Control;
use crate::runtime::lease::Leases;
use crate::runtime::permits::Permits;
use crate::runtime::roster::Wake;
use crate::sync::{Arc, AtomicUsize, Mutex, MutexGuard, Ordering};
use crate::unwind::{self, Payload};
use crossbeam_utils::CachePadded;

pub(super) type StateOf<Q, J> =
    FlatState<Q, <Q as Iterator>::Item, <J as FlatJob<<Q as Iterator>::Item>>::Output>;
pub(super) type StateGuard<'a, Q, J> = MutexGuard<'a, StateOf<Q, J>>;
pub(super) type LaneOf<Q, J> = Lane<<J as FlatJob<<Q as Iterator>::Item>>::Output>;
/// An item that is started next, with its lane.
pub(super) type Opened<Q, J> = (Arc<LaneOf<Q, J>>, <Q as Iterator>::Item);

/// Without `in_flight`: how many outputs an inner iterator may be ahead, at first and at most, and how many bytes.
const FEWEST: usize = 16;
const MOST: usize = 4096;
const MOST_BYTES: usize = 1 << 20;

/// What the workers and the consumer share.
pub(super) struct FlatStage<Q: Iterator, J: FlatJob<Q::Item>> {
    pub(super) job: J,
    pub(super) width: usize,
    /// How many places there are, if the user has said so.
    in_flight: Option<usize>,
    /// How many places an inner iterator has that has filled its first one.
    share: AtomicUsize,
    /// `Some`: whoever runs an inner iterator holds one of these.
    pub(super) limit: Option<Permits>,
    /// How the stage is stopped, and the event of its consumer.
    pub(super) control: Arc<Control>,
    /// What waits in the source, to be interrupted when the stage stops.
    pub(super) inside: Arc<Interrupts>,
    /// Everything that is under the lock.
    pub(super) state: CachePadded<Mutex<StateOf<Q, J>>>,
    pub(super) leases: Leases,
}

/// What there is to do for one more thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NextWork {
    /// An item that the consumer has pulled.
    Run,
    Pull,
    /// A pull, if there were places.
    Full,
    Nothing,
    /// Nothing, and nothing will come.
    Over,
}

/// What has come of a request for places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Places {
    More,
    /// It has its share.
    Enough,
    /// There are none. The lane is on the list of those that wait.
    Listed,
}

/// What has come of a pull.
#[derive(Debug)]
pub(super) enum Pulled<I> {
    Item(I),
    /// On the consumer's thread: the answer is not wanted now.
    Later,
    End,
    Panic(Payload),
}

impl<Q, J> FlatStage<Q, J>
where
    Q: Iterator<Item: Send> + Send,
    J: FlatJob<Q::Item>,
{
    pub(super) fn new(
        job: J,
        width: usize,
        in_flight: Option<usize>,
        limit: Option<Permits>,
        source: Option<Box<Q>>,
        control: Arc<Control>,
        leases: Leases,
    ) -> Self {
        // With `k` places in all, `n` items that run have half of them, and finished ones the rest.
        let share = in_flight.map_or(FEWEST, |k| (k / width.saturating_mul(2).max(1)).max(1));
        FlatStage {
            job,
            width,
            in_flight,
            share: AtomicUsize::new(share),
            limit,
            inside: control.add_source(),
            control,
            state: CachePadded::new(Mutex::new(FlatState::new(source))),
            leases,
        }
    }

    // ---- places

    /// How many places there are.
    fn bound(&self) -> usize {
        let both = self.width.saturating_mul(2);
        self.in_flight
            .unwrap_or_else(|| self.share.load(Ordering::Relaxed).saturating_mul(both))
    }

    /// Whether an item may be pulled. It begins with one place.
    pub(super) fn has_place(&self, state: &StateOf<Q, J>) -> bool {
        state.held < self.bound()
    }

    /// An inner iterator has filled its places: gives it its share; and if it has filled that so soon that a wake-up
    /// would not pay, as much again, unless the user has set a bound.
    pub(super) fn enlarge(&self, lane: &Arc<LaneOf<Q, J>>, is_soon: bool) -> Places {
        // Two at least, if they are there: with an output in the only place the iterator's end would not be seen.
        let (places, share) = (lane.places(), self.share.load(Ordering::Relaxed).max(2));
        let most = MOST.min(MOST_BYTES / size_of::<J::Output>().max(1));
        let wanted = if places < share {
            share - places
        } else if is_soon && self.in_flight.is_none() && places <= most / 2 {
            places
        } else {
            return Places::Enough;
        };
        let mut state = self.state.lock();
        let more = match self.in_flight {
            Some(k) => wanted.min(k.saturating_sub(state.held)),
            None => wanted,
        };
        if more == 0 {
            state.waiting.push_back(Arc::clone(lane));
            return Places::Listed;
        }
        state.held += more;
        lane.grow(more); // wakes nobody: its worker is here
        // Later items have as large a share, so the bound grows by `2 n` times as much.
        self.share.fetch_max(places + more, Ordering::Relaxed);
        Places::More
    }

    /// These places are free again: gives them to those that wait for one, the first request first.
    pub(super) fn free(&self, state: &mut StateOf<Q, J>, places: usize) {
        state.held -= places;
        while self.has_place(state) {
            let Some(lane) = state.waiting.pop_front() else {
                return;
            };
            state.held += 1;
            // The worker asks under the lock of its lane, before it sleeps (exchange wait / give).
            if let Some(worker) = lane.grow(1) {
                worker.unpark();
            }
        }
    }

    /// This lane waits for a place no longer.
    pub(super) fn unlist(&self, lane: &LaneOf<Q, J>) {
        let mut state = self.state.lock();
        state.waiting.retain(|waits| waits.seq != lane.seq);
    }

    // ---- what there is to do

    /// Whether this lane, the consumer's next one, gives nothing more. It may have outputs that were not taken.
    pub(super) fn is_forsaken(&self, state: &StateOf<Q, J>, lane: &LaneOf<Q, J>) -> bool {
        // Nobody starts an item after a stop.
        self.control.is_stopped() && state.todo.iter().any(|(todo, _)| todo.seq == lane.seq)
    }

    /// Whether no more lanes will come.
    pub(super) fn is_over(&self, state: &StateOf<Q, J>) -> bool {
        state.order.is_empty() && (state.ended || self.control.is_stopped())
    }

    /// What a thread that is not at work could do. A look changes nothing.
    pub(super) fn look(&self, state: &StateOf<Q, J>) -> NextWork {
        // Checked in the critical section in which a thread starts something.
        if self.control.is_stopped() {
            NextWork::Over
        } else if !state.todo.is_empty() {
            NextWork::Run
        } else if state.ended {
            NextWork::Over
        } else if state.source.is_none() {
            // Another thread is in the source, and looks around when it comes out.
            NextWork::Nothing
        } else if self.has_place(state) {
            NextWork::Pull
        } else {
            NextWork::Full
        }
    }

    /// Wakes or leases another thread if there is something left for it, even if only to leave.
    pub(super) fn call(&self, state: &mut StateOf<Q, J>) -> Wake {
        // Threads come in a chain. One that is on its way, or is still looking around, will call the next if it finds
        // more work than it can do.
        if state.coming || state.looking > 0 {
            return Wake::Nobody;
        }
        match self.look(state) {
            // Each thread runs one item at a time, so no more than `n` run.
            NextWork::Run | NextWork::Pull => state.call(self.width),
            NextWork::Full | NextWork::Nothing => Wake::Nobody,
            NextWork::Over => state.call(0), // A sleeping thread may leave too.
        }
    }

    /// Does what a caller has decided under the lock, after it was released.
    pub(super) fn act(self: &Arc<Self>, wake: Wake) {
        let lease = |thread| {
            let shared = Arc::clone(self);
            self.leases.lease(move || shared.work(thread)).is_ok()
        };
        wake.act(lease, || {
            let mut state = self.state.lock();
            state.roster.lease_failed();
            state.coming = false;
            self.call(&mut state)
        });
    }

    // ---- what comes from the source, and how it ends

    /// Makes a lane of what was pulled, with the place that was counted before. `Err`: nothing must be pulled any more,
    /// and this item, if there is one, is not wanted either. The caller drops it without the lock.
    pub(super) fn admit(
        &self,
        state: &mut StateOf<Q, J>,
        pulled: Pulled<Q::Item>,
    ) -> Result<Option<Opened<Q, J>>, Option<Q::Item>> {
        let admitted = match pulled {
            // The stage was stopped, or has failed, while the source was asked.
            Pulled::Item(item) if self.control.is_stopped() || state.ended => Err(Some(item)),
            Pulled::Item(item) => return Ok(Some((state.lane(), item))),
            Pulled::Later => Ok(None),
            Pulled::End => {
                state.ended = true;
                Err(None)
            }
            Pulled::Panic(panic) => {
                state.ended = true;
                // The consumer raises it when everything that was pulled before is yielded.
                state.panic = Some(panic);
                Err(None)
            }
        };
        self.free(state, 1);
        admitted
    }

    /// The source is not needed any more, and neither is this item.
    pub(super) fn turned_away(&self, item: Option<Q::Item>, source: impl Sized) {
        // First the consumer, which may wait for exactly this end.
        self.control.notify();
        self.control.stray(unwind::discard(item));
        // The source may be an inner stage, whose drop joins its threads.
        self.control.stray(unwind::discard(source));
    }

    /// Nothing more is added to the lane. If its item has failed, nothing after it counts.
    pub(super) fn close(&self, lane: &LaneOf<Q, J>, end: LaneEnd) {
        let has_failed = matches!(end, LaneEnd::Last | LaneEnd::Panic(_));
        let mut state = self.state.lock();
        let mut unwanted = Vec::new();
        // This thread looks around next, and wakes others that may leave.
        if has_failed {
            state.ended = true;
            let after = state.order.iter().filter(|other| other.seq > lane.seq);
            unwanted.extend(after.map(|other| (other.forbid(), other.token.forbid())));
        }
        let (free, notifies) = lane.close(end);
        self.free(&mut state, free);
        drop(state);
        // Without the lock, because a token runs the hooks of the user.
        for (sleeper, token) in unwanted {
            if let Some(token) = token {
                self.control.stray(token.trip(Cancelled::default()));
            }
            if let Some(sleeper) = sleeper {
                sleeper.unpark();
            }
        }
        if notifies {
            self.control.notify();
        }
    }
}

impl<Q: Iterator, J: FlatJob<Q::Item>> FlatStage<Q, J> {
    /// Drops everything that is left, each value separately, and returns the first panic.
    pub(super) fn dispose(self) -> Option<Payload> {
        let state = self.state.into_inner().into_inner();
        // Items, outputs, the source, and last the job: the order of all schedulers.
        let mut panic = None;
        for (lane, item) in state.todo {
            drop(lane);
            unwind::first(&mut panic, unwind::discard(item));
        }
        for lane in state.order {
            unwind::first(&mut panic, discard(lane));
        }
        unwind::first(&mut panic, unwind::discard(state.panic));
        unwind::first(&mut panic, unwind::discard(state.source));
        unwind::first(&mut panic, unwind::discard(self.job));
        panic
    }
}

/// Drops what is left in a lane that no thread has any more.
pub(super) fn discard<T>(lane: Arc<Lane<T>>) -> Option<Payload> {
    // An item that was not started has another handle on its lane, and no outputs.
    let (outputs, end) = Arc::into_inner(lane)?.into_rest();
    let mut panic = None;
    for output in outputs {
        unwind::first(&mut panic, unwind::discard(output));
    }
    unwind::first(&mut panic, unwind::discard(end));
    panic
}
