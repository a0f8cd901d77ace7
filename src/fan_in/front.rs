//! The consumer's side.

use crate::cancel;
use crate::error::Cancelled;
use crate::fan_in::alarm::Alarm;
use crate::fan_in::lane::{GIVEN_UP, LaneOpts, Message, SourceLane, SourceTask};
use crate::fan_in::measured::Measured;
use crate::fan_in::turns::{Rule, TurnOrder};
use crate::fan_in::worker::FanIn;
use crate::runtime::context;
use crate::runtime::control::Control;
use crate::runtime::cost::nanos;
use crate::runtime::event::{Event, Listener, WaitResult};
use crate::runtime::gauge::Gauge;
use crate::runtime::plan::{Common, Ending};
use crate::runtime::scope::StartPermit;
use crate::runtime::session::Session;
use crate::runtime::spin::SpinPolicy;
use crate::runtime::trace::StageSpan;
use crate::size_hint::{self, Hint};
use crate::sync::{
    Arc, AtomicBool, AtomicU64, AtomicUsize, Injector, Instant, Mutex, Ordering, steal,
};
use crate::unwind;

/// The result of asking for the next message.
#[derive(Debug)]
pub(super) enum Got<T> {
    /// From this lane.
    Message(usize, Message<T>),
    /// The time limit has passed.
    Late,
    /// The wait was interrupted; there may be more.
    Unwanted,
    /// No lane will give anything more.
    Over,
}

/// In ns. A task that was parked less than this ago is woken when half of the lane is free, and not
/// for each item.
pub(super) const LONG_AGO: u64 = 100_000;

/// The consumer's side.
pub(super) struct Front<I: Iterator> {
    session: Session,
    shared: Arc<FanIn<I>>,
    lanes: Vec<Arc<SourceLane<I>>>,
    /// How many lanes have not reported their end.
    open: usize,
    /// How many items have been taken.
    taken: u64,
    listener: Listener,
    ready: TurnOrder,
    /// Whether a lane has a timeout.
    timed: bool,
    /// When to check the timeouts again.
    check: Option<Instant>,
    /// How many items are left in the sources, according to their hints.
    hint: Hint,
}

impl<I: Iterator> std::fmt::Debug for Front<I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Front")
            .field("open", &self.open)
            .finish_non_exhaustive()
    }
}

impl<I> Front<I>
where
    I: Iterator + Send,
    I::Item: Send,
{
    /// Starts with at most `max_threads` threads. `None`: the scope is over.
    pub(super) fn start(
        start_permit: StartPermit,
        common: Common,
        operator: &str,
        rule: Rule,
        max_threads: usize,
        hint: Hint,
    ) -> Option<Self> {
        let listener = Listener::new();
        let session = Session::start(start_permit, common, operator, |alive| {
            Control::new(listener.event(), Some(alive))
        })?;
        let shared = Arc::new(FanIn {
            control: Arc::clone(session.control()),
            event: Arc::clone(listener.event()),
            alarm: Alarm::new(),
            measured: session.meter().get().cloned().map(Measured::new),
            pending: Injector::new(),
            arrivals: Injector::new(),
            leases: session.leases().clone(),
            workers: Mutex::new(0),
            limit: AtomicUsize::new(max_threads),
            crowded: AtomicBool::new(false),
            born: Instant::now(),
        });
        Some(Front {
            session,
            shared,
            lanes: Vec::new(),
            open: 0,
            taken: 0,
            listener,
            ready: TurnOrder::new(rule),
            timed: false,
            check: None,
            hint: size_hint::honest(hint),
        })
    }

    /// Starts with one thread per source, and room for `buffer` items of each. `None`: the scope is over.
    pub(super) fn start_all(
        start_permit: StartPermit,
        common: Common,
        operator: &str,
        sources: Vec<I>,
        buffer: usize,
        hint: Hint,
    ) -> Option<Self> {
        let mut front = Front::start(
            start_permit,
            common,
            operator,
            Rule::Turns,
            usize::MAX,
            hint,
        )?;
        for source in sources {
            front.add(source, LaneOpts::new(buffer));
        }
        Some(front)
    }

    /// Adds a source, and starts pulling it.
    pub(super) fn add(&mut self, source: I, opts: LaneOpts) {
        let index = self.lanes.len();
        self.timed |= opts.timeout.is_some();
        self.ready.lane(&opts);
        let control = &self.shared.control;
        let lane = Arc::new(SourceLane {
            index,
            opts,
            queue: Injector::new(),
            len: Gauge::default(),
            parked: Mutex::new(None),
            token: control.source_token().child(),
            inside: control.add_source(),
            since: AtomicU64::new(0),
        });
        self.lanes.push(Arc::clone(&lane));
        self.open += 1;
        self.shared.note(|measured| {
            let width = self
                .lanes
                .len()
                .min(self.shared.limit.load(Ordering::Relaxed));
            let bounds = self.lanes.iter().map(|lane| lane.opts.bound as u64);
            measured.resize(width.max(1), bounds.sum());
        });
        let patience = SpinPolicy::new();
        self.shared.dispatch(SourceTask {
            source,
            lane,
            patience,
        });
    }

    /// The span in which the user's code runs.
    pub(super) fn span(&self) -> &StageSpan {
        self.shared.control.span()
    }

    pub(super) fn event(&self) -> &Arc<Event> {
        self.listener.event()
    }

    /// The next message of any lane, by the rule. `more` says whether the caller has something else
    /// to handle, of which the event is notified; then this returns `Late`. With `growing`, lanes
    /// may still be added, so this is not over when all have ended.
    pub(super) fn next(
        &mut self,
        until: Option<Instant>,
        growing: bool,
        more: impl Fn() -> bool,
    ) -> Got<I::Item> {
        self.look_at_clock();
        while !self.session.is_over() {
            if let Some((index, event)) = self.take_listed() {
                return Got::Message(index, event);
            }
            if more() {
                return Got::Late;
            }
            let growing = growing && !self.shared.control.is_draining();
            if self.open == 0 && !growing {
                break;
            }
            // Read before the last check of the arrivals.
            let stopped = self.shared.is_stopped();
            if stopped && self.shared.arrivals.is_empty() {
                break;
            }
            if let Some(got) = self.wait(None, until, &more) {
                return got;
            }
        }
        self.end();
        Got::Over
    }

    /// The next message that is there, of any lane, by the rule.
    fn take_listed(&mut self) -> Option<(usize, Message<I::Item>)> {
        loop {
            while let Some(index) = steal(&self.shared.arrivals) {
                self.ready.add(index);
            }
            // A lane that is listed may have become empty.
            let index = self.ready.pop()?;
            if let Some(event) = self.take(index, true) {
                return Some((index, event));
            }
        }
    }

    /// The same, after a message of [`next`](Self::next): never waits, and never pulls a source itself.
    pub(super) fn take_ready(&mut self) -> Option<Message<I::Item>> {
        self.take_listed().map(|(_, event)| event)
    }

    /// The next message of this lane. `Over`: the lane was stopped and gives nothing more; others may.
    pub(super) fn next_of(&mut self, index: usize, until: Option<Instant>) -> Got<I::Item> {
        loop {
            while steal(&self.shared.arrivals).is_some() {}
            let stopped = self.shared.is_stopped();
            if let Some(event) = self.take(index, false) {
                return Got::Message(index, event);
            }
            if self.session.is_over() || stopped {
                return Got::Over;
            }
            if let Some(got) = self.wait(Some(index), until, &|| false) {
                return got;
            }
        }
    }

    /// Stops: nothing more is wanted. It does not wait for a source that blocks; the drop does, and
    /// it also drops what is there.
    pub(super) fn stop(&mut self) {
        let cut_short = self.shared.is_stopped() && self.open > 0;
        self.session.stop(cut_short);
    }

    /// Ends: nothing more will come. Joins the threads, unless one may be stuck in a source that
    /// was given up or stopped; then the drop joins them.
    pub(super) fn end(&mut self) {
        if self.session.is_over() {
            return;
        }
        let stopped = self.shared.is_stopped();
        let given_up = |lane: &Arc<SourceLane<I>>| lane.since.load(Ordering::SeqCst) == GIVEN_UP;
        if !stopped && !self.lanes.iter().any(given_up) {
            self.session.join();
        }
        let drained = self.shared.control.is_drained();
        self.session.end(drained || stopped && self.open > 0);
    }

    pub(super) fn ending(&self) -> &dyn Ending {
        &self.session
    }

    /// A hint of what is left, valid even after the end and after a cancellation.
    pub(super) fn size_hint(&self) -> Hint {
        if self.session.is_over() {
            (0, Some(0))
        } else if self.shared.is_stopped() {
            (0, self.hint.1)
        } else {
            self.hint
        }
    }

    /// Takes the next message of the lane, if there is one.
    fn take(&mut self, index: usize, listed: bool) -> Option<Message<I::Item>> {
        let lane = &self.lanes[index];
        let (event, left, parked) = lane.take()?;
        if listed && left > 0 {
            self.ready.add(index);
        }
        if parked {
            let before = if left <= lane.opts.bound / 2 {
                u64::MAX
            } else {
                self.shared.clock().saturating_sub(LONG_AGO)
            };
            if let Some(task) = lane.unpark(before) {
                self.shared.note(|measured| measured.is_parked(false));
                self.shared.dispatch(task);
            }
        }
        match event {
            Message::Item(_) => {
                self.hint = size_hint::one_less(self.hint);
                self.taken += 1;
                self.shared.note(|measured| measured.taken(self.taken));
            }
            Message::Panic(_) => {
                self.hint.0 = 0;
                self.shared.note(|measured| measured.meter().unwound());
            }
            Message::End => self.open -= 1,
            Message::TimedOut => {}
        }
        Some(event)
    }

    fn wait(
        &mut self,
        lane: Option<usize>,
        until: Option<Instant>,
        more: &impl Fn() -> bool,
    ) -> Option<Got<I::Item>> {
        if self.pulls_itself() {
            return None;
        }
        let (shared, lanes, open) = (&self.shared, &self.lanes, self.open);
        let (alarm, timed) = (&shared.alarm, self.timed);
        let due = if timed {
            alarm.look(lanes.iter().filter_map(|lane| lane.due()))
        } else {
            u64::MAX
        };
        let limit = until.into_iter().chain(shared.instant(due)).min();
        let ready = || {
            let there = match lane {
                Some(index) => lanes[index].len() > 0,
                None => !shared.arrivals.is_empty() || more(),
            };
            let armed = timed && alarm.is_before(due);
            there || armed || shared.is_stopped() || open == 0 && shared.control.is_draining()
        };
        shared.note(|measured| measured.meter().waits(Instant::now(), true));
        let heard = self.listener.wait(ready, limit);
        shared.note(|measured| measured.meter().waits(Instant::now(), false));
        if timed {
            alarm.awake();
        }
        match heard {
            WaitResult::Ready => None,
            WaitResult::Unwanted => Some(Got::Unwanted),
            WaitResult::Late if until.is_some_and(|until| until <= Instant::now()) => {
                Some(Got::Late)
            }
            WaitResult::Late => {
                self.check = None;
                self.look_at_clock();
                None
            }
        }
    }

    /// If no thread could be started, the consumer pulls, one item at a time.
    fn pulls_itself(&mut self) -> bool {
        if context::is_unwanted() {
            return false;
        }
        let alone = self.shared.crowded.load(Ordering::Relaxed) && *self.shared.workers.lock() == 0;
        if !alone {
            return false;
        }
        cancel::keep_time();
        if self.shared.is_stopped() {
            return false;
        }
        let Some(task) = steal(&self.shared.pending) else {
            return false;
        };
        self.shared.pull(task, true);
        true
    }

    // ---- timeouts

    /// The earliest time at which anything can be overdue.
    fn next_check(&self) -> Option<Instant> {
        let clock = self.shared.clock();
        let due = self.lanes.iter().filter_map(|lane| {
            // A worker that is not in the source may enter it at any time.
            lane.due()
                .or_else(|| Some(clock.saturating_add(nanos(lane.opts.timeout?))))
        });
        self.shared.instant(due.min()?)
    }

    /// Gives up the sources that have been silent for too long.
    fn look_at_clock(&mut self) {
        if !self.timed || self.check.is_some_and(|check| check > Instant::now()) {
            return;
        }
        let clock = self.shared.clock();
        for lane in &self.lanes {
            let Some(limit) = lane.opts.timeout else {
                continue;
            };
            let since = lane.since.load(Ordering::SeqCst);
            let in_source = since != 0 && since != GIVEN_UP;
            if in_source && clock.saturating_sub(since) > nanos(limit) {
                let order = Ordering::SeqCst;
                let given_up = lane.since.compare_exchange(since, GIVEN_UP, order, order);
                if given_up.is_ok() {
                    self.shared
                        .control
                        .stray(lane.token.trip(Cancelled::BY_DEADLINE));
                    lane.inside.interrupt();
                    self.shared.push(lane, Message::TimedOut);
                    self.shared.push(lane, Message::End);
                }
            }
        }
        self.check = self.next_check();
    }
}

impl<I: Iterator> Drop for Front<I> {
    fn drop(&mut self) {
        let mut panic = self.session.close();
        if let Some(measured) = &self.shared.measured {
            measured.meter().close(self.taken);
        }
        while let Some(task) = steal(&self.shared.pending) {
            unwind::first(&mut panic, unwind::discard(task.source));
        }
        for lane in &self.lanes {
            let parked = lane.parked.lock().take();
            if let Some((task, _)) = parked {
                unwind::first(&mut panic, unwind::discard(task.source));
            }
            while let Some(event) = steal(&lane.queue) {
                unwind::first(&mut panic, unwind::discard(event));
            }
        }
        unwind::raise(panic);
    }
}
