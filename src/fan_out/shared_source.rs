//! The side of a reader: it takes from its lane, or leads. `README.md` describes the protocol.

use crate::error::said;
use crate::fan_out::demand::{Demand, Visit, Wish};
use crate::fan_out::dispatch::Dispatch;
use crate::fan_out::state::{
    EndReason, ReaderLane, ReaderStep, SharedOrigin, SourceState, take_held,
};
use crate::overflow::{DropCount, Overflow};
use crate::runtime::context::Link;
use crate::runtime::event::{Event, Listener, WaitResult};
use crate::runtime::meter::{Doing, Meter, MeterSlot};
use crate::runtime::trace::{self, Made, StageSpan};
use crate::sync::{Arc, Instant, Mutex};
use crate::unwind::{self, Payload, catch};
use std::collections::VecDeque;
use std::panic::resume_unwind;

/// What all readers share.
pub(super) struct SharedSource<I: Iterator, D> {
    /// Which readers want items; under its own lock, as it is used while a leader is in the source.
    demand: Arc<Demand>,
    opts: ReaderOpts,
    /// Everything else. No user code runs under this lock.
    state: Mutex<SourceState<I, D>>,
}

impl<I: Iterator, D> SharedSource<I, D> {
    /// This lane is not read for now, so it must not stop the others: its bound is lifted.
    pub(super) fn postpone(&self, reader: usize) {
        if self.opts.overflow == Overflow::Block {
            self.set_bound(reader, usize::MAX);
        }
    }

    /// From now on this lane is read, and has its bound.
    pub(super) fn begin(&self, reader: usize) {
        if self.opts.overflow == Overflow::Block {
            self.set_bound(reader, self.opts.buffer);
        }
    }

    /// The span in which the source runs, the choice of a reader, and the sinks.
    pub(super) fn span(&self) -> &StageSpan {
        self.demand.life().span()
    }

    /// Tells the panic of a sink.
    pub(super) fn tell_panic<R>(&self, result: &Result<R, Payload>) {
        if let Err(payload) = result {
            self.span().panicked(None, &**payload);
        }
    }

    /// Changes a bound, and lets the others go on if that makes room.
    fn set_bound(&self, reader: usize, bound: usize) {
        let mut state = self.state.lock();
        state.lanes[reader].bound = bound;
        // An item that was held for this lane may fit now; and if no item is held any more, a waiting reader
        // may lead.
        state.let_in(reader);
        let event = state.pass_on();
        drop(state);
        // Without the lock, which the woken reader takes next. So it is everywhere in this file: under the
        // lock it is only noted which reader to notify.
        notify(event);
    }

    /// The reader that has raised the panic which the others only report.
    pub(super) fn culprit(&self) -> Option<usize> {
        match &self.state.lock().end {
            Some(EndReason::Panic(reader, _)) => Some(*reader),
            _ => None,
        }
    }
}

/// Wakes a reader that was chosen under the lock.
fn notify(event: Option<Arc<Event>>) {
    if let Some(event) = event {
        event.notify();
    }
}

/// Raises a panic that a drop has left, if there is one. Called without a lock, and with the origin at home.
fn raise(panic: Option<Payload>) {
    if let Some(panic) = panic {
        resume_unwind(panic);
    }
}

/// How a shared source is read.
#[derive(Clone, Debug)]
pub(super) struct ReaderOpts {
    pub(super) name: Option<String>,
    pub(super) overflow: Overflow,
    pub(super) buffer: usize,
}

/// A reader.
pub(super) struct ReaderHandle<I: Iterator, D> {
    /// The number of its lane.
    me: usize,
    shared: Arc<SharedSource<I, D>>,
    /// Whether it wants items, which an interruption from another thread may change.
    wish: Arc<Wish>,
    /// What it sleeps on. Its lane has the event.
    listener: Listener,
    dropped: DropCount,
    /// It has come to its end.
    over: bool,
    /// Its end came before the source's end.
    cut_short: bool,
    meter: MeterSlot,
    /// Items to drop, and readers to notify, as soon as no lock is held. Empty otherwise.
    spilt: Vec<I::Item>,
    notified: Vec<Arc<Event>>,
}

impl<I: Iterator, D> std::fmt::Debug for ReaderHandle<I, D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReaderHandle")
            .field("me", &self.me)
            .field("over", &self.over)
            .finish_non_exhaustive()
    }
}

/// Makes the readers. Nothing is pulled before one of them is asked.
pub(super) fn reader_handles<I, D>(
    source: I,
    deal: D,
    readers: usize,
    opts: ReaderOpts,
    link: Option<Link>,
) -> Vec<ReaderHandle<I, D>>
where
    I: Iterator,
    D: Dispatch<I::Item>,
{
    let bound = opts.overflow.bound(opts.buffer);
    let ears: Vec<Listener> = (0..readers).map(|_| Listener::new()).collect();
    let events = ears
        .iter()
        .map(|listener| Arc::clone(listener.event()))
        .collect();
    let lane = |listener: &Listener| ReaderLane {
        queue: VecDeque::new(),
        bound,
        dropped: DropCount::default(),
        lives: true,
        waits: false,
        event: Arc::clone(listener.event()),
        meter: MeterSlot::default(),
    };
    let lanes: Vec<_> = ears.iter().map(lane).collect();
    let dropped: Vec<_> = lanes.iter().map(|lane| lane.dropped.clone()).collect();
    let state = SourceState {
        // At home, without a leader.
        origin: Some(Box::new(SharedOrigin {
            source,
            deal,
            readers: Vec::new(),
            dealt: Vec::new(),
        })),
        end: None,
        held: Vec::new(),
        lanes,
        overflow: opts.overflow,
        living: readers,
        reading: readers,
        waiting: 0,
        measured: false,
        name: opts.name.clone().unwrap_or_else(|| D::NAME.to_owned()),
        alive: None,
    };
    let shared = Arc::new(SharedSource {
        // All readers want items from the start.
        demand: Demand::new(events, link),
        opts,
        state: Mutex::new(state),
    });
    let port = |(me, (listener, dropped))| ReaderHandle {
        me,
        wish: Wish::new(&shared.demand),
        shared: Arc::clone(&shared),
        listener,
        dropped,
        over: false,
        cut_short: false,
        meter: MeterSlot::default(),
        spilt: Vec::new(),
        notified: Vec::new(),
    };
    ears.into_iter()
        .zip(dropped)
        .enumerate()
        .map(port)
        .collect()
}

/// What has become of a lead.
enum Led<T> {
    Item(T),
    End,
    /// The origin is home again, and there was no item for the leader.
    Home,
}

impl<I: Iterator, D> ReaderHandle<I, D> {
    pub(super) fn shared(&self) -> &Arc<SharedSource<I, D>> {
        &self.shared
    }

    /// Opens the span of all readers.
    pub(super) fn open_span(&self, made: &Made) {
        let name = self.shared.opts.name.as_deref();
        self.shared.span().open(made, name);
    }

    pub(super) fn number(&self) -> usize {
        self.me
    }

    pub(super) fn dropped(&self) -> &DropCount {
        &self.dropped
    }

    /// From now on there are statistics. What was pulled for this reader before counts.
    pub(super) fn measure(&mut self) -> Arc<Meter> {
        if let Some(meter) = self.meter.get() {
            return Arc::clone(meter);
        }
        let meter = Arc::clone(self.meter.fill());
        let mut state = self.shared.state.lock();
        let held = state.held.iter().any(|(to, _)| *to == self.me);
        let lane = &mut state.lanes[self.me];
        meter.start(Instant::now(), 1, lane.bound as u64, None);
        let here = lane.queue.len() as u64 + u64::from(held);
        meter.pulled(here);
        meter.ran(here);
        lane.meter = self.meter.clone();
        state.measured = true;
        drop(state);
        meter
    }

    /// The name of the whole and the number of the reader, for the statistics.
    pub(super) fn reader_name(&self, operator: &str) -> Arc<str> {
        let whole = self.shared.opts.name.as_deref().unwrap_or(operator);
        format!("{whole} {}", self.me).into()
    }

    /// Notifies and drops what was noted under the lock. Returns the first panic of a drop.
    fn settle(&mut self) -> Option<Payload> {
        // First the readers: the drops are the user's code, and may take long.
        for event in self.notified.drain(..) {
            event.notify();
        }
        let mut panic = None;
        for item in self.spilt.drain(..) {
            unwind::first(&mut panic, unwind::discard(item));
        }
        panic
    }

    /// Leader: returns the origin without an item. The next reader that waits may lead.
    fn bring_home(&self, origin: Box<SharedOrigin<I, D>>) {
        let mut state = self.shared.state.lock();
        state.note_source(Doing::Nothing);
        state.origin = Some(origin);
        // In one critical section with the return. Otherwise a reader could fall asleep in between, and no
        // reader would lead.
        let event = state.pass_on();
        drop(state);
        notify(event);
    }

    /// Leader: nothing more comes. Returns the panic of the drops.
    fn end(&mut self, origin: SharedOrigin<I, D>, end: EndReason) -> Option<Payload> {
        // The end is stored before the origin is dropped. That drop is the user's code, and the other readers
        // need not wait for it: they empty their lanes and end.
        self.shared.state.lock().end(end, &mut self.notified);
        let mut panic = self.settle();
        unwind::first(&mut panic, origin.discard());
        self.close();
        panic
    }

    /// This reader ends before the source does.
    fn cut(&mut self) {
        self.cut_short = true;
        // What it yields does not show that, so it is reported to the frame in which the readers were made.
        self.shared.demand.life().cut_short();
        self.close();
    }

    pub(super) fn is_cut_short(&self) -> bool {
        self.cut_short
    }

    /// This reader has come to its end. May be called more than once.
    fn close(&mut self) {
        // Counted once per reader. With the last one the entry in the registry goes, though the readers still
        // exist.
        if !std::mem::replace(&mut self.over, true) {
            let mut state = self.shared.state.lock();
            self.meter.note(|meter| meter.end(Instant::now()));
            state.reading -= 1;
            if state.reading == 0 {
                state.alive = None;
            }
        }
    }
}

impl<I: Iterator, D: Dispatch<I::Item>> ReaderHandle<I, D> {
    /// The reader's next item. `None`: it has come to its end, or the item is not wanted for now.
    pub(super) fn next(&mut self) -> Option<I::Item> {
        // Each round does what one look under the lock has found. After a lead or a wait, the next look
        // decides again.
        while !self.over {
            let (step, event) = self.shared.state.lock().step(self.me);
            notify(event);
            // After the step: an item that is there is yielded even so, and only pulling and waiting end.
            let cancelled = self.shared.demand.life().is_cancelled();
            match step {
                // Also after the end, a panic or a cancellation: what was pulled for this reader is its own.
                ReaderStep::Item(item) => return Some(item),
                // The origin was taken, but must not be pulled: it goes home before this reader ends.
                ReaderStep::Lead(origin) if cancelled => {
                    self.bring_home(origin);
                    self.cut();
                }
                ReaderStep::Wait if cancelled => self.cut(),
                // The lane is empty by now: `step` looks there first.
                ReaderStep::End(EndReason::Source) => self.close(),
                // Once per reader: it is at its end afterwards, and answers `None`.
                ReaderStep::End(EndReason::Panic(_, message)) => {
                    self.close();
                    trace::reports(&message);
                    panic!("{message}");
                }
                // Another reader leads, or an item is held.
                ReaderStep::Wait => {
                    // Registers with what is around this thread. `false`: nothing wants an answer; the reader
                    // goes on when it is asked again.
                    if !self.wish.is_asked() {
                        return None;
                    }
                    let (shared, me) = (&self.shared, self.me);
                    // The whole exchange put and take is in `wait`: `is_ready` sets `waits` under the lock
                    // and looks, and the event has the fences for a notification that comes before the sleep.
                    let cancelled = || shared.demand.life().is_cancelled();
                    let ready = || shared.state.lock().is_ready(me) || cancelled();
                    self.meter.waits(true);
                    let heard = self.listener.wait(ready, None);
                    self.meter.waits(false);
                    if heard == WaitResult::Unwanted {
                        // The event is not needed, only that the lane no longer `waits`: a lead must not be
                        // passed to a reader that is gone.
                        shared.state.lock().call(me);
                    }
                }
                // It may lead, but its own answer is not wanted. The lead passes on.
                ReaderStep::Lead(origin) if !self.wish.is_asked() => {
                    self.bring_home(origin);
                    return None;
                }
                ReaderStep::Lead(origin) => match self.lead(origin) {
                    Led::Item(item) => {
                        self.meter.note(|meter| meter.took(1));
                        return Some(item);
                    }
                    Led::End | Led::Home => {}
                },
            }
        }
        None
    }

    /// Pulls until there is an item for this reader. Called without the lock, with the origin in hand: all of
    /// the user's code runs here.
    fn lead(&mut self, mut origin: Box<SharedOrigin<I, D>>) -> Led<I::Item> {
        // Shields what is inside from the ends that concern only this reader: see `demand.rs`.
        let visit = self.shared.demand.visit();
        loop {
            let in_stage = self.shared.span().enter();
            let pulled = catch(|| origin.source.next());
            drop(in_stage);
            let item = match pulled {
                // The item was made of something that was cut short, so it must not be dealt. Its drop may
                // panic, so the origin goes home first.
                Ok(Some(item)) if visit.as_ref().is_some_and(Visit::is_in_vain) => {
                    self.bring_home(origin);
                    raise(unwind::discard(item));
                    return Led::Home;
                }
                Ok(Some(item)) => item,
                // The `None` was no end: the source was interrupted because no reader wanted items. It is
                // asked again later.
                Ok(None) if visit.as_ref().is_some_and(Visit::is_over) => {
                    self.bring_home(origin);
                    return Led::Home;
                }
                // The end is stored for all, the origin is dropped, and this reader is at its end too.
                Ok(None) => {
                    let panic = self.end(*origin, EndReason::Source);
                    raise(panic);
                    return Led::End;
                }
                // The source is not asked again: the end is stored for all readers, with a message.
                Err(payload) => self.fail(*origin, payload),
            };
            // First critical section: which readers are alive. The clones are made after it, without the
            // lock; a reader that is dropped meanwhile costs a clone.
            if D::EACH {
                self.shared
                    .state
                    .lock()
                    .readers(self.me, &mut origin.readers);
            }
            let SharedOrigin {
                deal,
                readers,
                dealt,
                ..
            } = &mut *origin;
            // The choice or the clones: the user's code, so its panic is caught while the origin is in hand.
            let in_stage = self.shared.span().enter();
            let dealt = catch(|| deal.deal(item, readers, dealt));
            drop(in_stage);
            if let Err(payload) = dealt {
                self.fail(*origin, payload);
            }
            // Second critical section: all items of one pull become visible together.
            let (mut mine, mut behind) = (None, None);
            let mut state = self.shared.state.lock();
            for (to, item) in origin.dealt.drain(..) {
                // The leader's own item needs no lane: this thread takes it along.
                if to == self.me {
                    self.meter.note(|meter| {
                        meter.pulled(1);
                        meter.ran(1);
                    });
                    mine = Some(item);
                } else if !state.put(to, item, &mut self.spilt, &mut self.notified) {
                    // Only with `Grow`: the lane has reached its limit, and nothing may be lost. The loop
                    // goes on, so that the other readers get their item.
                    behind = Some(to);
                }
            }
            // An end for all readers, with a message that names the slow one.
            if let Some(behind) = behind {
                drop(state);
                // The leader's own item is dropped too: the panic takes its place, and the source is over for
                // all.
                self.spilt.extend(mine);
                self.too_many(*origin, behind);
            }
            // It also goes home if an item is held: no reader may lead until that lane has room, and this
            // thread must not be inside the source meanwhile. And if this reader was interrupted, another one
            // may lead.
            let goes_home = mine.is_some() || !state.held.is_empty() || !self.wish.wants();
            if !goes_home {
                // The lock is released for the drops and notifications, and for the next pull.
                drop(state);
                if let Some(panic) = self.settle() {
                    // A panic of a drop ends this call, but not the source: the others go on.
                    self.bring_home(origin);
                    resume_unwind(panic);
                }
                continue;
            }
            // The return and the choice of the next leader are one critical section (exchange *the lead
            // passes on*).
            state.note_source(Doing::Nothing);
            state.origin = Some(origin);
            self.notified.extend(state.pass_on());
            drop(state);
            let panic = self.settle();
            // The origin is home, so this reader may return, or raise the panic, without holding up another.
            return match (panic, mine) {
                (None, Some(item)) => Led::Item(item),
                (None, None) => Led::Home,
                (Some(panic), mine) => {
                    // The panic goes first. The item goes back to the front of the lane, before what other
                    // leaders have put there meanwhile.
                    if let Some(item) = mine {
                        let mut state = self.shared.state.lock();
                        state.lanes[self.me].queue.push_front(item);
                    }
                    resume_unwind(panic);
                }
            };
        }
    }

    /// Leader: the source, the choice of a reader or a clone has panicked. This reader raises the panic
    /// itself; the others report it by this message.
    fn fail(&mut self, origin: SharedOrigin<I, D>, payload: Payload) -> ! {
        self.shared.span().panicked(None, &*payload);
        let message = format!(
            "{}: it is over for all readers, as {} has met with a panic in what they share: {}",
            self.label(),
            D::reader(self.me),
            said(&*payload)
        );
        self.meter.note(Meter::unwound);
        let end = EndReason::Panic(self.me, message.into());
        // Two panics cannot both be raised, and the source's is the one that matters.
        if let Some(later) = self.end(origin, end) {
            unwind::bury(later);
        }
        trace::resume_unwind(payload);
    }

    /// Leader: a lane is as full as it may be, and nothing may be dropped.
    fn too_many(&mut self, origin: SharedOrigin<I, D>, behind: usize) -> ! {
        let message: Arc<str> = format!(
            "{}: {} has not taken the items that were pulled for it, as many as {:?} keeps, and {} \
             asks for another one: read both at the same time, as `into_sinks` does, let Grow keep more, \
             or drop the reader that is not needed",
            self.label(),
            D::reader(behind),
            self.shared.opts.overflow,
            D::reader(self.me),
        )
        .into();
        self.meter.note(Meter::unwound);
        if let Some(panic) = self.end(origin, EndReason::Panic(self.me, Arc::clone(&message))) {
            unwind::bury(panic);
        }
        panic!("{message}");
    }

    /// The name of the whole in messages.
    fn label(&self) -> String {
        match &self.shared.opts.name {
            Some(name) => format!("{} {name:?}", D::NAME),
            None => D::NAME.to_owned(),
        }
    }

    /// How many items this reader will get. Without an upper bound while another reader leads.
    pub(super) fn size_hint(&self) -> (usize, Option<usize>) {
        if self.over {
            return (0, Some(0));
        }
        // The origin is taken out like by a leader, because `size_hint` is the user's code and must not run
        // under the lock.
        let (here, origin) = {
            let mut state = self.shared.state.lock();
            let held = state.held.iter().any(|(to, _)| *to == self.me);
            let here = state.lanes[self.me].queue.len() + usize::from(held);
            if state.end.is_some() {
                return (here, Some(here));
            }
            (here, state.origin.take())
        };
        // While a leader has the source, no other thread can ask it.
        let Some(origin) = origin else {
            return (here, None);
        };
        let hint = catch(|| origin.source.size_hint());
        // In any case, also after a panic, or no reader could lead any more.
        self.bring_home(origin);
        let (low, high) = hint.unwrap_or_else(|panic| resume_unwind(panic));
        // The lower bound holds only if each item goes to every reader, none is dropped, and the source is
        // not cut short.
        let all_come = D::EACH
            && self.shared.opts.overflow.keeps_all()
            && !self.shared.demand.life().is_cancelled();
        let low = if all_come { low } else { 0 };
        (
            here.saturating_add(low),
            high.and_then(|high| high.checked_add(here)),
        )
    }
}

impl<I: Iterator, D> Drop for ReaderHandle<I, D> {
    fn drop(&mut self) {
        // First: if it was the last reader that wanted items, a leader that waits inside the source is woken.
        self.wish.give_up();
        // One critical section: afterwards a leader puts nothing into this lane, and passes no lead to it.
        let mut state = self.shared.state.lock();
        state.lanes[self.me].lives = false;
        // Only moved out here. The drops are the user's code, and come when the lock is released.
        let queue = std::mem::take(&mut state.lanes[self.me].queue);
        // A held item is gone with its reader, so the others may lead again.
        let held = take_held(&mut state.held, self.me);
        state.living -= 1;
        // The last reader drops the origin. If it is not at home it was dropped at the end: a leader is a
        // reader, and this is the only one.
        let origin = match state.living {
            0 => state.origin.take(),
            _ => None,
        };
        // It may have been woken for the lead, or have held up the others.
        let event = state.pass_on();
        drop(state);
        notify(event);
        let mut panic = self.shared.demand.life().take_stray();
        for item in queue {
            unwind::first(&mut panic, unwind::discard(item));
        }
        unwind::first(&mut panic, unwind::discard(held));
        if let Some(origin) = origin {
            unwind::first(&mut panic, origin.discard());
        }
        // After the drops: until then the stage counts as running.
        self.close();
        self.meter.note(|meter| meter.close(meter.taken()));
        match panic {
            Some(panic) if std::thread::panicking() => unwind::bury(panic),
            panic => raise(panic),
        }
    }
}
