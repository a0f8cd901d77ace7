//! The state shared by the workers and the consumer, and the work of a worker.

use crate::fan_in::alarm::Alarm;
use crate::fan_in::lane::{GIVEN_UP, Message, SourceLane, SourceTask};
use crate::fan_in::measured::Measured;
use crate::overflow::Overflow;
use crate::runtime::context::{self, Current, Plain};
use crate::runtime::control::Control;
use crate::runtime::cost::nanos;
use crate::runtime::event::Event;
use crate::runtime::lease::Leases;
use crate::sync::{Arc, AtomicBool, AtomicUsize, Injector, Instant, Mutex, Ordering, steal};
use crate::unwind::{self, Payload, catch};
use std::rc::Rc;
use std::time::Duration;

/// The result of a pull.
pub(super) enum PullOutcome {
    More,
    Last,
    /// The source was given up meanwhile.
    GivenUp,
    /// On the consumer's thread: the wait was interrupted, so ask the source again later.
    Later,
}

/// The state shared by the workers and the consumer.
pub(super) struct FanIn<I: Iterator> {
    pub(super) control: Arc<Control>,
    /// The consumer's event.
    pub(super) event: Arc<Event>,
    pub(super) alarm: Alarm,
    /// `Some`: it was asked for statistics.
    pub(super) measured: Option<Measured>,
    pub(super) pending: Injector<SourceTask<I>>,
    /// Lanes that got something while they were empty.
    pub(super) arrivals: Injector<usize>,
    pub(super) leases: Leases,
    pub(super) workers: Mutex<usize>,
    /// The largest number of workers; lowered when no thread can be started.
    pub(super) limit: AtomicUsize,
    /// Whether no more workers may be started, so that a task may have to wait for another one's worker.
    pub(super) crowded: AtomicBool,
    pub(super) born: Instant,
}

impl<I> FanIn<I>
where
    I: Iterator + Send,
    I::Item: Send,
{
    /// Tells the statistics, if there are any.
    pub(super) fn note(&self, tell: impl FnOnce(&Measured)) {
        if let Some(measured) = &self.measured {
            tell(measured);
        }
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.control.is_stopped()
    }

    /// Now, in ns since the start; never 0, and not [`GIVEN_UP`] for some centuries.
    pub(super) fn clock(&self) -> u64 {
        nanos(self.born.elapsed()) | 1
    }

    /// `None` if that is never, or some centuries away.
    pub(super) fn instant(&self, clock: u64) -> Option<Instant> {
        let time = (clock < u64::MAX).then(|| Duration::from_nanos(clock))?;
        self.born.checked_add(time)
    }

    /// Queues a task, and starts a worker for it if allowed.
    pub(super) fn dispatch(self: &Arc<Self>, task: SourceTask<I>) {
        self.pending.push(task);
        if self.is_stopped() {
            return; // the drop takes it
        }
        let mut workers = self.workers.lock();
        if *workers >= self.limit.load(Ordering::Relaxed) {
            self.crowded.store(true, Ordering::Relaxed);
            return;
        }
        *workers += 1;
        drop(workers);
        let shared = Arc::clone(self);
        if self.leases.lease(move || shared.work()).is_err() {
            let mut workers = self.workers.lock();
            *workers -= 1;
            // The existing workers must suffice; if there are none, the consumer pulls.
            self.limit.store(*workers, Ordering::Relaxed);
            self.crowded.store(true, Ordering::Relaxed);
        }
    }

    /// The work of a leased thread.
    pub(super) fn work(self: &Arc<Self>) {
        loop {
            while !self.is_stopped() {
                match steal(&self.pending) {
                    Some(task) => self.pull(task, false),
                    None => break,
                }
            }
            let mut workers = self.workers.lock();
            if self.pending.is_empty() || self.is_stopped() {
                *workers -= 1;
                return;
            }
        }
    }

    /// Pulls a source until there is no room or the source ends, or (if `once`, or another task
    /// waits for a worker) for one item.
    pub(super) fn pull(self: &Arc<Self>, task: SourceTask<I>, once: bool) {
        let lane = Arc::clone(&task.lane);
        self.note(|measured| measured.pulls(lane.index, true));
        self.pull_on(task, &lane, once);
        self.note(|measured| measured.pulls(lane.index, false));
    }

    fn pull_on(self: &Arc<Self>, mut task: SourceTask<I>, lane: &Arc<SourceLane<I>>, once: bool) {
        let frame = Plain::new(lane.token.clone());
        loop {
            let is_full = lane.opts.overflow == Overflow::Block && !lane.has_room();
            let room = || lane.has_room() || self.is_stopped();
            if is_full && !task.patience.look(room) {
                self.note(|measured| measured.is_parked(true));
                match lane.park(task, self.clock()) {
                    Some(back) => {
                        self.note(|measured| measured.is_parked(false));
                        task = back;
                    }
                    None => return,
                }
            }
            if self.is_stopped() {
                self.pending.push(task);
                return;
            }
            let pulled = if self.control.ends_source() {
                PullOutcome::Last
            } else {
                self.pull_one(&mut task, &frame)
            };
            match pulled {
                PullOutcome::More => {}
                PullOutcome::Later => {
                    self.pending.push(task);
                    return;
                }
                PullOutcome::Last => {
                    // Its drop runs user code.
                    if let Some(panic) = unwind::discard(task.source) {
                        self.push(lane, Message::Panic(panic));
                    }
                    self.push(lane, Message::End);
                    return;
                }
                PullOutcome::GivenUp => {
                    self.control.stray(unwind::discard(task.source));
                    return;
                }
            }
            if once || (self.crowded.load(Ordering::Relaxed) && !self.pending.is_empty()) {
                self.pending.push(task);
                return;
            }
        }
    }

    pub(super) fn pull_one(
        self: &Arc<Self>,
        task: &mut SourceTask<I>,
        frame: &Rc<Plain>,
    ) -> PullOutcome {
        let lane = &task.lane;
        if let Some(limit) = lane.opts.timeout {
            if lane.enter(self.clock(), nanos(limit), &self.alarm) {
                self.event.notify();
            }
        }
        let item = {
            let _entered = context::in_source(Rc::clone(frame) as Rc<dyn Current>, &lane.inside);
            let _stage = self.control.span().enter();
            catch(|| task.source.next())
        };
        let in_vain = frame.over() && self.is_stopped();
        if let Some(limit) = lane.opts.timeout {
            let order = Ordering::SeqCst;
            let given_up = lane
                .since
                .fetch_update(order, order, |since| (since != GIVEN_UP).then_some(0));
            let Ok(since) = given_up else {
                self.control.stray(unwind::discard(item));
                return PullOutcome::GivenUp;
            };
            if self.clock().saturating_sub(since) > nanos(limit) {
                // The consumer did not give it up in time; the effect is the same.
                if let Some(panic) = unwind::discard(item) {
                    self.push(lane, Message::Panic(panic));
                }
                self.push(lane, Message::TimedOut);
                return PullOutcome::Last;
            }
        }
        match item {
            Ok(Some(item)) if in_vain => {
                self.control.stray(unwind::discard(item));
                PullOutcome::More
            }
            Ok(Some(item)) => {
                self.note(Measured::pulled);
                self.push_item(lane, item)
            }
            Ok(None) if context::is_unwanted() => PullOutcome::Later,
            Ok(None) => {
                self.control.source_ended();
                PullOutcome::Last
            }
            Err(panic) => {
                self.push(lane, Message::Panic(panic));
                PullOutcome::Last
            }
        }
    }

    pub(super) fn push_item(&self, lane: &SourceLane<I>, item: I::Item) -> PullOutcome {
        let drops = match lane.opts.overflow {
            Overflow::DropNewest if !lane.has_room() => unwind::discard(item),
            Overflow::Grow(most) if !lane.has_room() => {
                self.control.stray(unwind::discard(item));
                self.note(|measured| measured.meter().lost(1));
                self.push(lane, Message::Panic(too_far_ahead(most)));
                return PullOutcome::Last;
            }
            Overflow::Block | Overflow::DropNewest | Overflow::Grow(_) => {
                self.push(lane, Message::Item(item));
                return PullOutcome::More;
            }
            Overflow::DropOldest => {
                // Taken first, so that the newest is never dropped. If the consumer has meanwhile
                // taken it, there is room.
                let oldest = if lane.has_room() { None } else { lane.take() };
                self.push(lane, Message::Item(item));
                match oldest {
                    Some((event, ..)) => unwind::discard(event),
                    None => return PullOutcome::More,
                }
            }
        };
        lane.count_dropped();
        self.note(|measured| measured.meter().lost(1));
        if let Some(panic) = drops {
            self.push(lane, Message::Panic(panic));
        }
        PullOutcome::More
    }

    /// Adds a message; returns how many were in the lane before.
    pub(super) fn push(&self, lane: &SourceLane<I>, event: Message<I::Item>) -> usize {
        if let Message::Panic(payload) = &event {
            self.control.span().panicked(None, &**payload);
        }
        let before = lane.push(event);
        if before == 0 {
            self.arrivals.push(lane.index);
            self.event.notify();
        }
        before
    }
}

/// The panic of a source with [`Overflow::Grow`] that is too far ahead.
#[cold]
fn too_far_ahead(most: usize) -> Payload {
    Box::new(format!(
        "the source is more than {most} items ahead of what reads them: allow more by Overflow::Grow, or make it wait by \
         Overflow::Block"
    ))
}
