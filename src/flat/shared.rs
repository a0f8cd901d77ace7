//! What the workers and the consumer share, and the rules for what a thread does next.

use crate::error::Cancelled;
use crate::flat::begun::{BegunOf, Own, discard_begun};
use crate::flat::lane::{Closed, Lane, LaneEnd, LaneWriter};
use crate::flat::outputs::OutputReader;
use crate::flat::state::FlatState;
use crate::par::flat_map::FlatJob;
use crate::runtime::barrier::heavy;
use crate::runtime::context::Interrupts;
use crate::runtime::control::Control;
use crate::runtime::lease::Leases;
use crate::runtime::meter::{Meter, MeterSlot};
use crate::runtime::permits::Permits;
use crate::runtime::plan::WorkOpts;
use crate::runtime::roster::Wake;
use crate::sync::{Arc, AtomicBool, AtomicUsize, Mutex, MutexGuard, Ordering, bug};
use crate::unwind::{self, Payload};
use crossbeam_utils::CachePadded;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

pub(super) type StateOf<Q, J> = FlatState<
    Q,
    <Q as Iterator>::Item,
    <J as FlatJob<<Q as Iterator>::Item>>::Output,
    BegunOf<Q, J>,
>;
pub(super) type StateGuard<'a, Q, J> = MutexGuard<'a, StateOf<Q, J>>;
pub(super) type LaneOf<Q, J> =
    Lane<<Q as Iterator>::Item, <J as FlatJob<<Q as Iterator>::Item>>::Output>;
pub(super) type WriterOf<Q, J> =
    LaneWriter<<Q as Iterator>::Item, <J as FlatJob<<Q as Iterator>::Item>>::Output>;

/// Items with their lane, and what was begun of them.
pub(super) type TakenOf<Q, J> = (WriterOf<Q, J>, Option<BegunOf<Q, J>>);

/// Without `in_flight`: how many outputs an inner iterator may be ahead, at first and at most, and how many bytes.
const FEWEST: usize = 16;
const MANY: usize = 1 << 12; // while the consumer takes nothing
const MOST: usize = 1 << 16;
const MOST_BYTES: usize = 1 << 20;
/// A thread takes so many items at once that they take this long, and no more than so many.
const TOGETHER: Duration = Duration::from_micros(50);
const MOST_ITEMS: usize = 64;
/// In `freed_for`.
const NEVER: usize = usize::MAX;

/// What the workers and the consumer share.
pub(super) struct FlatStage<Q: Iterator, J: FlatJob<Q::Item>> {
    pub(super) job: J,
    pub(super) width: usize,
    /// The source belongs to the consumer, which pulls it.
    is_near: bool,
    /// How many places there are, if the user has said so.
    pub(super) in_flight: Option<usize>,
    /// What the consumer runs itself.
    pub(super) own: Own<BegunOf<Q, J>>,
    /// How many places an inner iterator has that has filled its first one.
    share: AtomicUsize,
    /// The consumer has taken outputs since a share was made larger.
    pub(super) flows: AtomicBool,
    /// How many places the consumer has given back. It stores this without the lock (exchange give / full).
    pub(super) freed: CachePadded<AtomicUsize>,
    /// The `freed` from which on the consumer looks who waits for places; `NEVER`: nobody does. With a bound of the
    /// user's it always looks. Stored under the lock.
    pub(super) freed_for: AtomicUsize,
    /// `Some`: whoever runs an inner iterator holds one of these.
    pub(super) limit: Option<Permits>,
    /// `Some`: the stage was asked for statistics.
    pub(super) meter: MeterSlot,
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
    /// Items that were pulled, or stolen, and that no thread has taken.
    Run,
    Pull,
    /// Items that another thread has had for long, and has not started.
    Steal,
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
    /// `may_own`: the consumer may run items itself.
    pub(super) fn new(
        job: J,
        opts: WorkOpts,
        may_own: bool,
        source: Option<Box<Q>>,
        control: Arc<Control>,
        leases: Leases,
    ) -> Self {
        let WorkOpts {
            width,
            in_flight,
            limit,
            ..
        } = opts;
        // With `k` places in all, `n` items that run have half of them, and finished ones the rest.
        let share = in_flight.map_or(FEWEST, |k| (k / width.saturating_mul(2).max(1)).max(1));
        FlatStage {
            job,
            width,
            is_near: source.is_none(),
            in_flight,
            own: Own::new(may_own && in_flight.is_some() && limit.is_none() && Self::is_small()),
            share: AtomicUsize::new(share),
            flows: AtomicBool::new(false),
            freed: CachePadded::new(AtomicUsize::new(0)),
            freed_for: AtomicUsize::new(if in_flight.is_some() { 0 } else { NEVER }),
            limit,
            meter: MeterSlot::default(),
            inside: control.add_source(),
            control,
            state: CachePadded::new(Mutex::new(FlatState::new(source))),
            leases,
        }
    }

    // ---- places

    /// How many places there are.
    pub(super) fn bound(&self) -> usize {
        let both = self.width.saturating_mul(2);
        self.in_flight
            .unwrap_or_else(|| self.share.load(Ordering::Relaxed).saturating_mul(both))
    }

    /// How many of them are free.
    fn room(&self, state: &StateOf<Q, J>) -> usize {
        // A little behind what the consumer has stored, which only makes it smaller.
        let held = state.held - self.freed.load(Ordering::Relaxed);
        self.bound().saturating_sub(held)
    }

    /// Whether an item may be pulled. It begins with one place.
    pub(super) fn has_place(&self, state: &StateOf<Q, J>) -> bool {
        self.room(state) > 0
    }

    /// Whether the consumer has a source, and may pull it now.
    pub(super) fn consumer_pulls(&self, state: &StateOf<Q, J>) -> bool {
        let may = self.is_near && !state.ended && !self.control.is_stopped();
        may && self.has_place(state)
    }

    /// How many places must be free before a thread is woken for them. Without a bound of the user's these are some,
    /// because waking a thread costs as much as many tiny outputs.
    fn several(&self) -> usize {
        match self.in_flight {
            Some(_) => 1,
            None => (self.bound() / 4).max(1),
        }
    }

    /// A share is used up so soon that a wake-up would not pay: whether it may become twice as large. Not with a bound of
    /// the user's.
    fn may_grow(&self, share: usize) -> bool {
        let most = MOST.min(MOST_BYTES / size_of::<J::Output>().max(1));
        self.in_flight.is_none() && share <= most / 2
    }

    /// Whether the consumer has taken outputs since this was last asked.
    fn has_taken(&self) -> bool {
        self.flows.swap(false, Ordering::Relaxed)
    }

    /// An inner iterator has filled its places: gives it its share; and if it has filled that so soon that a wake-up
    /// would not pay, as much again, unless the user has set a bound.
    pub(super) fn enlarge(&self, writer: &WriterOf<Q, J>, is_soon: bool) -> Places {
        // Two at least, if they are there: with an output in the only place the iterator's end would not be seen.
        let (places, share) = (writer.places(), self.share.load(Ordering::Relaxed).max(2));
        let wanted = if places < share {
            share - places
        } else if is_soon && self.may_grow(places) && (places < MANY || self.has_taken()) {
            places
        } else {
            return Places::Enough;
        };
        let mut state = self.state.lock();
        let more = match self.in_flight {
            Some(_) => wanted.min(self.room(&state)),
            None => wanted,
        };
        if more == 0 {
            state.waiting.push_back(Arc::clone(&writer.lane));
            return Places::Listed;
        }
        state.held += more;
        writer.lane.grow(more); // wakes nobody: its worker is here
        if self.in_flight.is_none() {
            // Later items have as large a share, so the bound grows by `2 n` times as much.
            self.share.fetch_max(places + more, Ordering::Relaxed);
        }
        Places::More
    }

    /// All places are taken, so soon after the consumer has given some back that a wake-up would not pay: whether there
    /// are more now.
    pub(super) fn widen(&self) -> bool {
        let share = self.share.load(Ordering::Relaxed);
        let grows = self.may_grow(share) && self.has_taken();
        if grows {
            self.share.fetch_max(2 * share, Ordering::Relaxed);
        }
        grows
    }

    /// Whether too few places are free to wake a thread for them. Then the consumer does so when it has given back
    /// enough (exchange give / full).
    pub(super) fn is_short(&self, state: &StateOf<Q, J>) -> bool {
        let missing = || self.several().saturating_sub(self.room(state));
        if missing() == 0 {
            return false;
        }
        let at = self.freed.load(Ordering::Relaxed) + missing();
        if self.freed_for.load(Ordering::Relaxed) <= at {
            return true;
        }
        self.freed_for.store(at, Ordering::Relaxed);
        heavy(); // pairs with the light one in `FlatTaker::give_back`
        missing() > 0
    }

    /// Gives free places to the lanes that wait for one, the first request first.
    pub(super) fn grant(&self, state: &mut StateOf<Q, J>) {
        while !state.waiting.is_empty() && self.has_place(state) {
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

    /// These places of a worker are free again.
    pub(super) fn free(&self, state: &mut StateOf<Q, J>, places: usize) {
        state.held -= places;
        self.grant(state);
    }

    /// Consumer: as many places have been given back as somebody waits for.
    #[cold]
    pub(super) fn places_are_back(self: &Arc<Self>) {
        let mut state = self.state.lock();
        if self.in_flight.is_none() {
            self.freed_for.store(NEVER, Ordering::Relaxed);
        }
        self.grant(&mut state);
        let wake = self.call(&mut state);
        drop(state);
        self.act(wake);
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
        self.control.is_stopped()
            && state
                .stolen
                .iter()
                .any(|stolen| stolen.lane.seq == lane.seq)
    }

    /// Whether no more lanes will come.
    pub(super) fn is_over(&self, state: &StateOf<Q, J>) -> bool {
        if state.own.handed.is_some() {
            return self.control.is_stopped();
        }
        let no_more = state.ended && state.todo.is_empty() || self.control.is_stopped();
        state.order.is_empty() && no_more
    }

    /// What a thread that is not at work could do. A look changes nothing.
    pub(super) fn look(&self, state: &StateOf<Q, J>) -> NextWork {
        // Checked in the critical section in which a thread starts something.
        if self.control.is_stopped() {
            return NextWork::Over;
        }
        if self.own.is_on() {
            return if state.is_consumers_alone() {
                NextWork::Over
            } else {
                NextWork::Nothing
            };
        }
        let has_left = !state.own.left.is_empty();
        if state.own.handed.is_some() || has_left && self.has_place(state) {
            return NextWork::Run;
        }
        // Each item that was begun keeps its thread, or the place of one.
        if state.running + state.own.begun() >= self.width {
            return if has_left {
                NextWork::Full
            } else {
                NextWork::Nothing
            };
        }
        if !(state.stolen.is_empty() && state.todo.is_empty()) {
            return NextWork::Run;
        }
        let can_pull = state.source.is_some() && !state.ended;
        if can_pull && self.has_place(state) {
            NextWork::Pull
        } else if state.has_old() {
            NextWork::Steal
        } else if state.ended && !state.is_any_shared() && !self.is_any_left(state) {
            // With what was begun left, a thread may still be needed.
            NextWork::Over
        } else if can_pull {
            NextWork::Full
        } else {
            // Another thread is in the source, and looks around when it comes out; or others run what is left.
            NextWork::Nothing
        }
    }

    /// Wakes or leases another thread if there is something left for it, even if only to leave.
    pub(super) fn call(&self, state: &mut StateOf<Q, J>) -> Wake {
        // Threads come in a chain. One that is on its way, or is still looking around, will call the next if it finds
        // more work than it can do.
        if state.roster.is_anybody_coming() {
            return Wake::Nobody;
        }
        let is_work = match self.look(state) {
            NextWork::Pull | NextWork::Full => !self.is_short(state),
            NextWork::Run | NextWork::Steal => true,
            NextWork::Nothing => false,
            NextWork::Over => return state.roster.call(0), // A sleeping thread may leave too.
        };
        if self.own.is_on() {
            // One has to watch.
            let is_nobody = !state.own.is_watched && state.roster.awake() == 0;
            return if is_nobody {
                state.roster.call(self.width)
            } else {
                Wake::Nobody
            };
        }
        if is_work {
            // Each thread runs one item at a time, so no more than `n` run.
            state.roster.call(self.width)
        } else if state.is_any_shared() && !state.watched {
            state.roster.call(0) // to see whether these items wait for long
        } else {
            Wake::Nobody
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
            self.call(&mut state)
        });
    }

    // ---- what comes from the source, and how it ends

    /// Takes over what was pulled, with the place that was counted before. `Err`: nothing must be pulled any more, and
    /// this item, if there is one, is not wanted either. The caller drops it without the lock.
    pub(super) fn admit(
        &self,
        state: &mut StateOf<Q, J>,
        pulled: Pulled<Q::Item>,
    ) -> Result<(), Option<Q::Item>> {
        let admitted = match pulled {
            // The stage was stopped, or has failed, while the source was asked.
            Pulled::Item(item) if self.control.is_stopped() || state.ended => Err(Some(item)),
            Pulled::Item(item) => {
                state.todo.push_back(item);
                self.meter.note(|meter| meter.pulled(1));
                return Ok(());
            }
            Pulled::Later => Ok(()),
            Pulled::End => {
                state.ended = true;
                Err(None)
            }
            Pulled::Panic(panic) => {
                state.ended = true;
                self.meter.note(Meter::unwound);
                // The consumer raises it when everything that was pulled before is yielded.
                state.panic = Some(panic);
                Err(None)
            }
        };
        self.free(state, 1);
        admitted
    }

    /// Whether the thread in the source, which has just pulled an item, is to pull another one before it runs that:
    /// only as long as another thread finds that item.
    pub(super) fn pulls_more(&self, state: &StateOf<Q, J>) -> bool {
        let is_alone = !state.is_watched() && !bug("pulls_on_alone");
        let wanted = (1..state.batch).contains(&state.todo.len()) && self.has_place(state);
        wanted && !(is_alone || state.ended || self.control.is_stopped())
    }

    /// Takes the items that are next, with their lane, and what was begun of them. `None`: there are none.
    pub(super) fn take(&self, state: &mut StateOf<Q, J>) -> Option<TakenOf<Q, J>> {
        let left = |state: &mut StateOf<Q, J>| {
            if !self.has_place(state) {
                return None;
            }
            let (_, left) = state.own.left.pop_first()?;
            state.held += 1;
            Some(left)
        };
        let (writer, begun) = match state.own.handed.take().or_else(|| left(state)) {
            Some(begun) => (Some(state.lane_of(begun.seq)), Some(begun)),
            None => (self.take_new(state), None),
        };
        state.running += usize::from(writer.is_some());
        Some((writer?, begun))
    }

    fn take_new(&self, state: &mut StateOf<Q, J>) -> Option<WriterOf<Q, J>> {
        if let Some(writer) = state.stolen.pop_front() {
            return Some(writer);
        }
        let batch = if state.is_watched() { state.batch } else { 1 };
        let items = batch.min(state.todo.len());
        // With its share, or if there may be too few places, with those that its items have.
        let more = match self.in_flight {
            Some(_) => 0,
            None => self.share.load(Ordering::Relaxed) - 1,
        };
        (items > 0).then(|| state.lane(items, more))
    }

    /// Items have been run together: how long that took decides how many are taken at once from now on.
    pub(super) fn ran(&self, state: &mut StateOf<Q, J>, items: usize, took: Duration) {
        // With a bound of the user's each item gets its places, and gives them back, alone, and with `limited_by` its
        // permit; and a model must not depend on time.
        let is_alone = self.in_flight.is_some() || self.limit.is_some();
        if is_alone || items == 0 || cfg!(loom) {
            return;
        }
        let fit = items as u128 * TOGETHER.as_nanos() / took.as_nanos().max(1);
        // Slowly up, at once down.
        let most = MOST_ITEMS.min(2 * state.batch);
        state.batch = usize::try_from(fit).map_or(most, |fit| fit.clamp(1, most));
    }

    /// The source is not needed any more, and neither is this item.
    pub(super) fn turned_away(&self, item: Option<Q::Item>, source: impl Sized) {
        // First the consumer, which may wait for exactly this end.
        self.control.notify();
        self.control.stray(unwind::discard(item));
        // The source may be an inner stage, whose drop joins its threads.
        self.control.stray(unwind::discard(source));
    }

    /// Nothing more is added to the lane. If its item has failed, nothing after it counts. `left`: what the consumer goes
    /// on with.
    pub(super) fn close(
        &self,
        writer: WriterOf<Q, J>,
        end: LaneEnd,
        left: Option<BegunOf<Q, J>>,
    ) -> StateGuard<'_, Q, J> {
        let has_failed = matches!(end, LaneEnd::Last | LaneEnd::Panic(_));
        let mut state = self.state.lock();
        state.running -= 1;
        state.own.left.extend(left.map(|left| (left.seq, left)));
        let (seq, mut unwanted, mut undone) = (writer.lane.seq, Vec::new(), VecDeque::new());
        let mut begun = BTreeMap::new();
        // This thread looks around next, and wakes others that may leave.
        if has_failed {
            state.ended = true;
            undone = std::mem::take(&mut state.todo);
            begun = state.own.left.split_off(&seq);
            let after = state.order.iter().filter(|other| other.seq > seq);
            unwanted.extend(after.map(|other| (other.forbid(), other.token.forbid())));
        }
        let Closed {
            free,
            notifies,
            is_needless,
            unstarted,
        } = writer.close(end);
        state.shared.retain(|(_, other)| other.seq != seq);
        if is_needless {
            Self::remove_rest(&mut state, seq, notifies);
        }
        self.free(&mut state, free);
        let notifies = notifies || free > 0 && self.consumer_pulls(&state);
        if !has_failed && !notifies && unstarted.is_empty() {
            return state;
        }
        drop(state);
        for item in unstarted.into_iter().chain(undone) {
            self.control.stray(unwind::discard(item));
        }
        self.control.stray(discard_begun(begun.into_values()));
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
        self.state.lock()
    }
}

impl<Q: Iterator, J: FlatJob<Q::Item>> FlatStage<Q, J> {
    /// Drops everything that is left, each value separately, and returns the first panic.
    pub(super) fn dispose(self) -> Option<Payload> {
        let state = self.state.into_inner().into_inner();
        // Items, outputs, the source, and last the job: the order of all schedulers.
        let mut panic = None;
        let own = self.own.into_rest().into_iter();
        unwind::first(&mut panic, discard_begun(own.chain(state.own.into_rest())));
        let stolen = state.stolen.into_iter();
        for item in stolen.flat_map(|writer| writer.close(LaneEnd::Cut).unstarted) {
            unwind::first(&mut panic, unwind::discard(item));
        }
        for item in state.todo {
            unwind::first(&mut panic, unwind::discard(item));
        }
        for lane in state.order {
            unwind::first(&mut panic, discard(lane, None));
        }
        unwind::first(&mut panic, unwind::discard(state.panic));
        unwind::first(&mut panic, unwind::discard(state.source));
        unwind::first(&mut panic, unwind::discard(self.job));
        panic
    }
}

/// Drops what is left in a lane that no thread has any more, and that the consumer reads with `reader`.
pub(super) fn discard<I, T>(
    lane: Arc<Lane<I, T>>,
    reader: Option<OutputReader<T>>,
) -> Option<Payload> {
    let (unread, end) = Arc::into_inner(lane).map_or((None, None), Lane::into_rest);
    let mut panic = None;
    for mut reader in reader.into_iter().chain(unread) {
        reader.look();
        while let Some(output) = reader.take() {
            unwind::first(&mut panic, unwind::discard(output));
        }
    }
    unwind::first(&mut panic, unwind::discard(end));
    panic
}
