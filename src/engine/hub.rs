//! Several sources that are pulled by leased threads, and the one consumer of what they give: under
//! read-ahead, the merges and windows by time.
//!
//! # Who acts
//!
//! Each source has a *lane*: a queue of what it gave, and a bound. A *feeder* is a source on its
//! way; it is always in one place: in the hands of a server, in the queue of those that wait for one
//! (`unserved`), or parked in its lane because there is no room. A *server* is a leased thread that
//! takes a feeder, pulls it, and puts what comes into the lane at once, one item after the other. The
//! consumer takes from the lanes by a [`Rule`].
//!
//! # The protocol
//!
//! - *Push and take.* `len` counts what is in a lane. A server puts an event into the queue, then
//!   adds one to `len`, and if that was 0 it lists the lane in `arrivals` and rings the [bell](crate::engine::bell).
//!   The consumer keeps the listed lanes in its own order; it subtracts one, then takes an event, and
//!   forgets the lane if that leaves 0. As both go through `len`, a lane with something in it is
//!   always listed, or about to be by the server that saw the 0. A server that drops the oldest takes
//!   like the consumer does, so a listed lane may turn out empty; then it is forgotten too, and as the
//!   server subtracts before it adds again, it will see the 0. As both subtract first, what they take
//!   is theirs, and has been counted.
//! - *Park and room.* A server that finds its lane full parks the feeder and sets a bit of `len`; what
//!   `len` was then tells it whether there is room after all. The consumer subtracts from `len`, and what
//!   that was tells it whether the bit was set. So one of them sees the other; who takes the feeder out
//!   of its place clears the bit and has it. A source that has filled its lane [a moment ago](LONG_AGO)
//!   is quick, so it is called back not for the first room but for half of the lane: to wake a thread
//!   costs as much as many items. It can wait for that as long as the consumer likes, as what the
//!   consumer takes first when it comes back calls it.
//! - *Serve and leave.* Who makes a feeder wait for a server puts it into `unserved` and then, under
//!   the lock of `crew`, leases a server if there may be more. A server leaves under the same lock if
//!   `unserved` is empty. So a feeder that waits has a server coming, or one that will look again.
//! - *Give up.* `since` says since when a server is inside a source that has a time-out. The consumer
//!   that finds it overdue exchanges the very value it read for [`GIVEN_UP`]; the server exchanges
//!   anything but that for 0 when it comes out. So either the item counts, or the source is dropped.
//! - *Enter and arm.* The consumer sleeps until the next time-out of a source that somebody is in, and
//!   without a limit if nobody is in any. Before it looks at them it opens the [`Alarm`]; who enters a
//!   source stores `since`, and then lowers an alarm that is later than the source's time-out, and rings.
//!   Between the two steps of each stands a fence, so either the consumer sees who is in, or they see the
//!   open alarm; and a consumer that has looked finds in the alarm whether it was lowered since. To a
//!   consumer that is awake, or will be up in time, nobody says anything.
//! - *Stop.* Servers look after each item, and leave the feeder where others wait; the consumer drops
//!   those, and all that is left in the lanes, after it has joined the threads.
//! - *Drain.* Servers look before each pull, and take what they find for the source's end. One that is parked
//!   is called when the consumer makes room, as ever.
//! - *Wait in vain.* The consumer may wait in the source of somebody who ends. Then its wait is over
//!   ([context]), and nothing else: it goes on when it is asked again.

use crate::dropped::Dropped;
use crate::engine::bell::{Bell, Ear, Heard};
use crate::engine::cancel::{self, CancelToken, OnCancel, Why};
use crate::engine::census::{Alive, Held};
use crate::engine::context::{self, Current, Inherited, Inside, Plain};
use crate::engine::erase::{Crew, Seed, Stop, Team};
use crate::engine::pool::Pool;
use crate::engine::spin::Patience;
use crate::engine::unwind::{self, Payload, catch};
use crate::error::Cancelled;
use crate::sync::{
    Arc, AtomicBool, AtomicU64, AtomicUsize, Injector, Instant, Mutex, Ordering, Steal, bug, fence,
};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

/// What happens to an item for which there is no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Overflow {
    /// The source is not pulled until there is room: back-pressure. Nothing is lost.
    #[default]
    Block,
    /// The source is always pulled; an item that finds no room is dropped.
    DropNewest,
    /// The source is always pulled; the item that has waited longest is dropped to make room.
    DropOldest,
}

/// What is said of one source.
#[derive(Clone, Debug)]
pub(crate) struct LaneOpts {
    /// How many items may be pulled and not yet taken.
    pub(crate) bound: usize,
    pub(crate) overflow: Overflow,
    /// How many items were dropped for want of room.
    pub(crate) dropped: Option<Dropped>,
    /// How many items it may give in a round.
    pub(crate) weight: u32,
    /// How long it may be silent.
    pub(crate) timeout: Option<Duration>,
}

impl LaneOpts {
    pub(crate) fn new(bound: usize) -> Self {
        LaneOpts {
            bound,
            overflow: Overflow::Block,
            dropped: None,
            weight: 1,
            timeout: None,
        }
    }
}

/// What may be said of the whole, whatever it is.
#[derive(Clone, Debug, Default)]
pub struct Common {
    pub(crate) name: Option<String>,
    pub(crate) pool: Option<Pool>,
    pub(crate) tokens: Vec<CancelToken>,
    /// Those on which the sources are asked for no more.
    pub(crate) drains: Vec<CancelToken>,
    /// It hears nothing of what it is started in.
    pub(crate) detached: bool,
}

impl Common {
    pub(crate) fn is_cancelled(&self) -> bool {
        let tokens = self.tokens.iter().chain(&self.drains);
        tokens.into_iter().any(CancelToken::is_cancelled)
    }
}

/// In which order the consumer takes from lanes that have something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Rule {
    /// In turn, in the order in which they came to have something. In a round each gives as many
    /// items as its weight says, and none gives more before all that have something have given theirs.
    #[default]
    Turns,
    /// Always from the one that was added first.
    Priority,
}

/// What the consumer is told.
#[derive(Debug)]
pub(crate) enum Event<T> {
    Item(T),
    /// The source panicked, or an item's drop did.
    Panic(Payload),
    /// The source ended.
    End,
    /// The source was silent for too long and has been dropped.
    TimedOut,
}

/// What the consumer gets.
#[derive(Debug)]
pub(crate) enum Got<T> {
    /// From this lane.
    Event(usize, Event<T>),
    /// It is later than that.
    Late,
    /// Nobody wants it now; there may be more.
    Unwanted,
    /// No lane will give anything more.
    Over,
}

const GIVEN_UP: u64 = u64::MAX;

/// In a lane's `len`: its feeder is parked.
const PARKED: usize = 1 << (usize::BITS - 1);

/// In ns. A feeder that was parked less than this ago is woken when half of the lane is free, and
/// not for each single item.
const LONG_AGO: u64 = 100_000;

/// Where what one source gave waits for the consumer.
struct Lane<I: Iterator> {
    index: usize,
    opts: LaneOpts,
    queue: Injector<Event<I::Item>>,
    /// How many events are in it, and [`PARKED`].
    len: AtomicUsize,
    /// A feeder that waits for room, and since when, in ns of the hub's clock.
    parked: Mutex<Option<(Feeder<I>, u64)>>,
    token: CancelToken,
    inside: Arc<Inside>,
    /// Since when a server is in the source, in ns of the hub's clock and never 0; 0: it is not.
    since: AtomicU64,
}

/// When a consumer that sleeps has to look at the time-outs, in ns of the hub's clock; 0: it is awake.
struct Alarm(AtomicU64);

impl Alarm {
    /// Consumer, which is about to sleep: when the first source is due that somebody is in.
    fn look<I: Iterator>(&self, lanes: &[Arc<Lane<I>>]) -> u64 {
        self.0.store(u64::MAX, Ordering::Relaxed);
        fence(Ordering::SeqCst); // pairs with the one in `Lane::enter`
        let due = lanes.iter().filter_map(|lane| lane.due()).min();
        let due = due.unwrap_or(u64::MAX);
        self.0.fetch_min(due, Ordering::Relaxed); // it may have been lowered further meanwhile
        due
    }

    /// Consumer: whether somebody has entered a source meanwhile that is due before that.
    fn is_before(&self, due: u64) -> bool {
        self.0.load(Ordering::Relaxed) < due // behind the fence of `Ear::wait`
    }

    /// Consumer: is awake.
    fn awake(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// Server: has entered a source that is due then, and said so. Whether to ring.
    fn entered(&self, due: u64) -> bool {
        self.0.load(Ordering::Relaxed) > due && self.0.fetch_min(due, Ordering::Relaxed) > due
    }
}

/// A source on its way.
struct Feeder<I: Iterator> {
    source: I,
    lane: Arc<Lane<I>>,
    patience: Patience,
}

/// What came of a pull.
enum Pulled {
    More,
    Last,
    /// The source was given up meanwhile.
    GivenUp,
    /// On the consumer's thread: nobody wants the answer now, so the source is to be asked later.
    Later,
}

/// The untyped part.
struct Words {
    stopped: AtomicBool,
    /// That was for this reason, if it was for one.
    cancelled: Why,
    draining: Why,
    /// A source was taken for ended for that.
    drained: AtomicBool,
    token: CancelToken,
    /// Those of all sources.
    insides: Mutex<Vec<Arc<Inside>>>,
    /// What it was started in.
    inherited: Mutex<Option<Inherited>>,
    bell: Arc<Bell>,
    alive: Mutex<Option<Alive>>,
    stray: Mutex<Option<Payload>>,
    alarm: Alarm,
}

impl Words {
    /// Nothing more is to be pulled; what is there may be taken.
    fn cancel(&self, why: Cancelled) {
        self.cancelled.set(why);
        self.halt(why);
    }

    fn halt(&self, why: Cancelled) {
        self.stopped.store(true, Ordering::SeqCst);
        self.stray(self.token.trip(why));
        let insides = self.insides.lock().clone();
        for inside in insides {
            inside.interrupt();
        }
        self.bell.ring();
    }

    /// Nothing more is to be asked for; what comes of what was asked is to be waited for.
    fn drain(&self, why: Cancelled) {
        self.draining.set(why);
        self.stray(self.token.trip(why));
        self.bell.ring();
    }

    fn is_draining(&self) -> bool {
        self.draining.get().is_some()
    }

    /// The consumer has been told that nothing more comes.
    fn over(&self, held: Arc<dyn Held>) {
        if let Some(alive) = &*self.alive.lock() {
            alive.over(held);
        }
    }

    fn stray(&self, panic: Option<Payload>) {
        if panic.is_some() {
            let lost = unwind::keep(&mut self.stray.lock(), panic);
            lost.into_iter().for_each(unwind::bury); // not under the lock: it may come back here
        }
    }
}

impl Stop for Words {
    fn stop(&self) {
        self.halt(Cancelled::default());
    }

    fn joined(&self) {
        drop(self.alive.lock().take());
    }
}

/// What servers and the consumer share.
struct Hub<I: Iterator> {
    words: Arc<Words>,
    unserved: Injector<Feeder<I>>,
    /// Lanes that have come to have something.
    arrivals: Injector<usize>,
    crew: Crew,
    servers: Mutex<usize>,
    /// How many servers there may be; lowered when no thread can be started.
    limit: AtomicUsize,
    /// Whether every server that may be there is, so that a feeder may have to wait for another's.
    crowded: AtomicBool,
    born: Instant,
}

impl<I: Iterator> Lane<I> {
    /// Adds an event, and says how many were there before.
    fn push(&self, event: Event<I::Item>) -> usize {
        self.queue.push(event);
        self.len.fetch_add(1, Ordering::AcqRel) & !PARKED
    }

    /// Takes an event, unless there is none that has been counted. How many are left, and whether
    /// the feeder is parked.
    fn take(&self) -> Option<(Event<I::Item>, usize, bool)> {
        // Counted off first, so that it is ours: the server that drops the oldest takes too, and pushes
        // before it counts.
        let one_less = |len: usize| (len & !PARKED > 0).then(|| len - 1);
        let before = self
            .len
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, one_less)
            .ok()?;
        let event = steal(&self.queue).expect("what is counted is in the queue");
        Some((event, (before & !PARKED) - 1, before & PARKED != 0))
    }

    fn len(&self) -> usize {
        self.len.load(Ordering::Acquire) & !PARKED
    }

    fn has_room(&self) -> bool {
        self.len() < self.opts.bound
    }

    /// Server: enters the source, which must not take longer than that. Whether to ring.
    fn enter(&self, since: u64, limit: u64, alarm: &Alarm) -> bool {
        let due = since.saturating_add(limit);
        self.since.store(since, Ordering::Relaxed);
        if !bug("no_fence_on_entering") {
            fence(Ordering::SeqCst); // pairs with the one in `Alarm::look`
        }
        alarm.entered(due)
    }

    /// When whoever is in the source will have been there for too long, in ns of the hub's clock.
    fn due(&self) -> Option<u64> {
        let limit = self.opts.timeout?;
        match self.since.load(Ordering::SeqCst) {
            0 | GIVEN_UP => None,
            since => Some(since.saturating_add(nanos(limit))),
        }
    }

    /// Parks the feeder because there is no room; if there is after all it may come back.
    fn park(&self, feeder: Feeder<I>, clock: u64) -> Option<Feeder<I>> {
        *self.parked.lock() = Some((feeder, clock));
        let len = self.len.fetch_or(PARKED, Ordering::AcqRel) & !PARKED;
        if len < self.opts.bound && !bug("room_is_missed") {
            self.unpark(u64::MAX)
        } else {
            None
        }
    }

    /// Takes the feeder out of its place if it was parked before this time.
    fn unpark(&self, before: u64) -> Option<Feeder<I>> {
        let mut parked = self.parked.lock();
        let (feeder, _) = parked.take_if(|(_, clock)| *clock < before)?;
        // Before it can be parked again.
        self.len.fetch_and(!PARKED, Ordering::AcqRel);
        Some(feeder)
    }

    fn count_dropped(&self) {
        if let Some(dropped) = &self.opts.dropped {
            dropped.add();
        }
    }
}

impl<I> Hub<I>
where
    I: Iterator + Send,
    I::Item: Send,
{
    fn is_stopped(&self) -> bool {
        self.words.stopped.load(Ordering::SeqCst)
    }

    /// Now, in ns since the start; never 0, and not [`GIVEN_UP`] for some centuries.
    fn clock(&self) -> u64 {
        nanos(self.born.elapsed()) | 1
    }

    /// `None`: never, or in some centuries.
    fn instant(&self, clock: u64) -> Option<Instant> {
        let time = (clock < u64::MAX).then(|| Duration::from_nanos(clock))?;
        self.born.checked_add(time)
    }

    /// A feeder has to be served.
    fn serve(self: &Arc<Self>, feeder: Feeder<I>) {
        self.unserved.push(feeder);
        if self.is_stopped() {
            return; // it is for the drop
        }
        let mut servers = self.servers.lock();
        if *servers >= self.limit.load(Ordering::Relaxed) {
            self.crowded.store(true, Ordering::Relaxed);
            return;
        }
        *servers += 1;
        drop(servers);
        let hub = Arc::clone(self);
        if self.crew.lease(move || hub.server()).is_err() {
            let mut servers = self.servers.lock();
            *servers -= 1;
            // Those that are there have to do; if there are none the consumer will.
            self.limit.store(*servers, Ordering::Relaxed);
            self.crowded.store(true, Ordering::Relaxed);
        }
    }

    /// What a leased thread does.
    fn server(self: &Arc<Self>) {
        loop {
            while !self.is_stopped() {
                match steal(&self.unserved) {
                    Some(feeder) => self.pull(feeder, false),
                    None => break,
                }
            }
            let mut servers = self.servers.lock();
            if self.unserved.is_empty() || self.is_stopped() {
                *servers -= 1;
                return;
            }
        }
    }

    /// Pulls a source until there is no room, its end, or (if `once`, or another waits for a server)
    /// one item.
    fn pull(self: &Arc<Self>, mut feeder: Feeder<I>, once: bool) {
        let lane = Arc::clone(&feeder.lane);
        let frame = Plain::new(lane.token.clone());
        loop {
            let is_full = lane.opts.overflow == Overflow::Block && !lane.has_room();
            let room = || lane.has_room() || self.is_stopped();
            if is_full && !feeder.patience.look(room) {
                match lane.park(feeder, self.clock()) {
                    Some(back) => feeder = back,
                    None => return,
                }
            }
            if self.is_stopped() {
                self.unserved.push(feeder);
                return;
            }
            let pulled = if self.words.is_draining() {
                self.words.drained.store(true, Ordering::Relaxed);
                Pulled::Last
            } else {
                self.pull_one(&mut feeder, &frame)
            };
            match pulled {
                Pulled::More => {}
                Pulled::Later => {
                    self.unserved.push(feeder);
                    return;
                }
                Pulled::Last => {
                    // Its drop is user code.
                    if let Some(panic) = unwind::discard(feeder.source) {
                        self.push(&lane, Event::Panic(panic));
                    }
                    self.push(&lane, Event::End);
                    return;
                }
                Pulled::GivenUp => {
                    self.words.stray(unwind::discard(feeder.source));
                    return;
                }
            }
            if once || (self.crowded.load(Ordering::Relaxed) && !self.unserved.is_empty()) {
                self.unserved.push(feeder);
                return;
            }
        }
    }

    fn pull_one(self: &Arc<Self>, feeder: &mut Feeder<I>, frame: &Rc<Plain>) -> Pulled {
        let lane = &feeder.lane;
        if let Some(limit) = lane.opts.timeout {
            if lane.enter(self.clock(), nanos(limit), &self.words.alarm) {
                self.words.bell.ring();
            }
        }
        let item = {
            let _entered = context::in_source(Rc::clone(frame) as Rc<dyn Current>, &lane.inside);
            catch(|| feeder.source.next())
        };
        let in_vain = frame.over() && self.is_stopped();
        if let Some(limit) = lane.opts.timeout {
            let order = Ordering::SeqCst;
            let given_up = lane
                .since
                .fetch_update(order, order, |since| (since != GIVEN_UP).then_some(0));
            let Ok(since) = given_up else {
                self.words.stray(unwind::discard(item));
                return Pulled::GivenUp;
            };
            if self.clock().saturating_sub(since) > nanos(limit) {
                // Nobody was there to give it up in time: it is all the same.
                if let Some(panic) = unwind::discard(item) {
                    self.push(lane, Event::Panic(panic));
                }
                self.push(lane, Event::TimedOut);
                return Pulled::Last;
            }
        }
        match item {
            Ok(Some(item)) if in_vain => {
                self.words.stray(unwind::discard(item));
                Pulled::More
            }
            Ok(Some(item)) => {
                self.push_item(lane, item);
                Pulled::More
            }
            Ok(None) if context::is_unwanted() => Pulled::Later,
            Ok(None) => Pulled::Last,
            Err(panic) => {
                self.push(lane, Event::Panic(panic));
                Pulled::Last
            }
        }
    }

    fn push_item(&self, lane: &Lane<I>, item: I::Item) {
        let drops = match lane.opts.overflow {
            Overflow::DropNewest if !lane.has_room() => unwind::discard(item),
            Overflow::Block | Overflow::DropNewest => {
                self.push(lane, Event::Item(item));
                return;
            }
            Overflow::DropOldest => {
                // First, so that the newest is never what is dropped. The consumer may have taken it
                // meanwhile: then there is room.
                let oldest = if lane.has_room() { None } else { lane.take() };
                self.push(lane, Event::Item(item));
                match oldest {
                    Some((event, ..)) => unwind::discard(event),
                    None => return,
                }
            }
        };
        lane.count_dropped();
        if let Some(panic) = drops {
            self.push(lane, Event::Panic(panic));
        }
    }

    /// How many events were in the lane before.
    fn push(&self, lane: &Lane<I>, event: Event<I::Item>) -> usize {
        let before = lane.push(event);
        if before == 0 {
            self.arrivals.push(lane.index);
            self.words.bell.ring();
        }
        before
    }
}

/// The consumer's side.
pub(crate) struct Front<I: Iterator> {
    /// On the tokens of the user.
    hooks: Vec<OnCancel>,
    team: Team,
    over: bool,
    /// It is over before all its sources were.
    cut_short: bool,
    hub: Arc<Hub<I>>,
    lanes: Vec<Arc<Lane<I>>>,
    /// Lanes that have not told their end.
    open: usize,
    ear: Ear,
    ready: Ready,
    /// Whether a lane has a time-out.
    timed: bool,
    /// When to look at them again.
    check: Option<Instant>,
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
    /// Starts; at most so many threads at once. `None`: the scope is over.
    pub(crate) fn start(
        seed: Seed,
        common: Common,
        name: &str,
        rule: Rule,
        at_most: usize,
    ) -> Option<Self> {
        let ear = Ear::new();
        let words = Arc::new(Words {
            stopped: AtomicBool::new(false),
            cancelled: Why::new(),
            draining: Why::new(),
            drained: AtomicBool::new(false),
            token: CancelToken::new(),
            insides: Mutex::default(),
            inherited: Mutex::default(),
            bell: Arc::clone(ear.bell()),
            alive: Mutex::new(Some(Alive::new(common.name.as_deref().unwrap_or(name)))),
            stray: Mutex::new(None),
            alarm: Alarm(AtomicU64::new(0)),
        });
        let pool = common.pool.unwrap_or_else(Pool::global);
        let link = (!common.detached).then(|| seed.link()).flatten();
        let team = seed.team(pool, Arc::clone(&words) as Arc<dyn Stop>)?;
        if let Some(link) = link {
            let outer = Arc::clone(&words);
            let inherited = link.on_trip(move |why| outer.cancel(why));
            *words.inherited.lock() = Some(inherited);
        }
        let cancels = common.tokens.iter().map(|token| {
            let words = Arc::clone(&words);
            token.on_trip(move |why| words.cancel(why))
        });
        let drains = common.drains.iter().map(|token| {
            let words = Arc::clone(&words);
            token.on_trip(move |why| words.drain(why))
        });
        let hooks = cancels.chain(drains).collect();
        let hub = Arc::new(Hub {
            words,
            unserved: Injector::new(),
            arrivals: Injector::new(),
            crew: team.crew().clone(),
            servers: Mutex::new(0),
            limit: AtomicUsize::new(at_most),
            crowded: AtomicBool::new(false),
            born: Instant::now(),
        });
        Some(Front {
            hooks,
            team,
            over: false,
            cut_short: false,
            hub,
            lanes: Vec::new(),
            open: 0,
            ear,
            ready: Ready::new(rule),
            timed: false,
            check: None,
        })
    }

    /// Adds a source, and has it pulled from now on.
    pub(crate) fn add(&mut self, source: I, opts: LaneOpts) {
        let index = self.lanes.len();
        self.timed |= opts.timeout.is_some();
        self.ready.lane(&opts);
        let words = &self.hub.words;
        let inside = Arc::<Inside>::default();
        words.insides.lock().push(Arc::clone(&inside));
        if self.hub.is_stopped() {
            inside.interrupt(); // who stopped it may have been there before
        }
        let lane = Arc::new(Lane {
            index,
            opts,
            queue: Injector::new(),
            len: AtomicUsize::new(0),
            parked: Mutex::new(None),
            token: words.token.child(),
            inside,
            since: AtomicU64::new(0),
        });
        self.lanes.push(Arc::clone(&lane));
        self.open += 1;
        let patience = Patience::new();
        self.hub.serve(Feeder {
            source,
            lane,
            patience,
        });
    }

    pub(crate) fn bell(&self) -> &Arc<Bell> {
        self.ear.bell()
    }

    /// The next of any lane, by the rule. `more`: whether the caller has something else to look
    /// after, for which the bell is rung; then this comes back as if it were late. `growing`: lanes
    /// may still be added, so this is not over when all have ended.
    pub(crate) fn next(
        &mut self,
        until: Option<Instant>,
        growing: bool,
        more: impl Fn() -> bool,
    ) -> Got<I::Item> {
        self.look_at_clock();
        while !self.over {
            while let Some(index) = steal(&self.hub.arrivals) {
                self.ready.add(index);
            }
            if let Some(index) = self.ready.pop() {
                if let Some(event) = self.take(index, true) {
                    return Got::Event(index, event);
                }
                continue;
            }
            if more() {
                return Got::Late;
            }
            let growing = growing && !self.hub.words.is_draining();
            if self.open == 0 && !growing {
                break;
            }
            // Looked at before the arrivals are looked at for the last time.
            let stopped = self.hub.is_stopped();
            if stopped && self.hub.arrivals.is_empty() {
                break;
            }
            if let Some(got) = self.wait(None, until, &more) {
                return got;
            }
        }
        self.end();
        Got::Over
    }

    /// The next of this lane. `Over`: it was stopped, and gives nothing more; others may have something.
    pub(crate) fn next_of(&mut self, index: usize) -> Got<I::Item> {
        loop {
            while steal(&self.hub.arrivals).is_some() {}
            let stopped = self.hub.is_stopped();
            if let Some(event) = self.take(index, false) {
                return Got::Event(index, event);
            }
            if self.over || stopped {
                return Got::Over;
            }
            if let Some(got) = self.wait(Some(index), None, &|| false) {
                return got;
            }
        }
    }

    /// Nothing more is wanted. A source that blocks is not waited for: that is for the drop to do, which
    /// also drops what is there.
    pub(crate) fn stop(&mut self) {
        self.over = true;
        self.hooks.clear();
        self.cut_short = self.hub.is_stopped() && self.open > 0;
        self.hub.words.stop();
        self.hub.words.over(self.team.crew().held());
    }

    /// Whether no source is pulled any more.
    pub(crate) fn is_stopped(&self) -> bool {
        self.hub.is_stopped()
    }

    /// Nothing more will come. Joins the threads, unless one may be stuck in a source that nobody
    /// waits for: that is for the drop to do.
    pub(crate) fn end(&mut self) {
        if !std::mem::replace(&mut self.over, true) {
            self.hooks.clear();
            let stopped = self.hub.is_stopped();
            let drained = self.hub.words.drained.load(Ordering::Relaxed);
            self.cut_short = drained || stopped && self.open > 0;
            let given_up = |lane: &Arc<Lane<I>>| lane.since.load(Ordering::SeqCst) == GIVEN_UP;
            if !stopped && !self.lanes.iter().any(given_up) {
                self.team.join();
            }
            self.hub.words.over(self.team.crew().held());
        }
    }

    /// Why it ended before all its sources did, if it did.
    pub(crate) fn cut(&self) -> Option<Cancelled> {
        let words = &self.hub.words;
        let why = words.cancelled.get().or_else(|| words.draining.get());
        why.filter(|_| self.cut_short)
    }

    /// It was cut short, and whoever uses it is not told so by what it yields.
    pub(crate) fn tell_cut(&self) {
        if let Some(inherited) = &*self.hub.words.inherited.lock() {
            inherited.cut_short();
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over
    }

    /// A hint of what is left that holds also after the end and after a cancellation.
    pub(crate) fn hint(&self, (low, high): (usize, Option<usize>)) -> (usize, Option<usize>) {
        if self.over {
            (0, Some(0))
        } else if self.hub.words.stopped.load(Ordering::SeqCst) {
            (0, high)
        } else {
            (low, high)
        }
    }

    /// Whether the lane has something.
    fn take(&mut self, index: usize, listed: bool) -> Option<Event<I::Item>> {
        let lane = &self.lanes[index];
        let (event, left, parked) = lane.take()?;
        if listed && left > 0 {
            self.ready.add(index);
        }
        if parked {
            let before = if left <= lane.opts.bound / 2 {
                u64::MAX
            } else {
                self.hub.clock().saturating_sub(LONG_AGO)
            };
            if let Some(feeder) = lane.unpark(before) {
                self.hub.serve(feeder);
            }
        }
        if matches!(event, Event::End) {
            self.open -= 1;
        }
        Some(event)
    }

    fn wait(
        &mut self,
        lane: Option<usize>,
        until: Option<Instant>,
        more: &impl Fn() -> bool,
    ) -> Option<Got<I::Item>> {
        if self.serves_itself() {
            return None;
        }
        let (hub, lanes, open) = (&self.hub, &self.lanes, self.open);
        let (alarm, timed) = (&hub.words.alarm, self.timed);
        let due = if timed { alarm.look(lanes) } else { u64::MAX };
        let limit = until.into_iter().chain(hub.instant(due)).min();
        let ready = || {
            let there = match lane {
                Some(index) => lanes[index].len() > 0,
                None => !hub.arrivals.is_empty() || more(),
            };
            let armed = timed && alarm.is_before(due);
            there || armed || hub.is_stopped() || open == 0 && hub.words.is_draining()
        };
        let heard = self.ear.wait(ready, limit);
        if timed {
            alarm.awake();
        }
        match heard {
            Heard::Ready => None,
            Heard::Unwanted => Some(Got::Unwanted),
            Heard::Late if until.is_some_and(|until| until <= Instant::now()) => Some(Got::Late),
            Heard::Late => {
                self.check = None;
                self.look_at_clock();
                None
            }
        }
    }

    /// Where no thread could be started the consumer pulls, an item at a time.
    fn serves_itself(&mut self) -> bool {
        if context::is_unwanted() {
            return false;
        }
        let alone = self.hub.crowded.load(Ordering::Relaxed) && *self.hub.servers.lock() == 0;
        if !alone {
            return false;
        }
        cancel::keep_time();
        if self.hub.is_stopped() {
            return false;
        }
        let Some(feeder) = steal(&self.hub.unserved) else {
            return false;
        };
        self.hub.pull(feeder, true);
        true
    }

    // ---- time-outs

    /// Before that nothing is overdue.
    fn next_check(&self) -> Option<Instant> {
        let clock = self.hub.clock();
        let due = self.lanes.iter().filter_map(|lane| {
            // Who is not in the source may enter it at any time.
            lane.due()
                .or_else(|| Some(clock.saturating_add(nanos(lane.opts.timeout?))))
        });
        self.hub.instant(due.min()?)
    }

    /// Gives up what has been silent for too long.
    fn look_at_clock(&mut self) {
        if !self.timed || self.check.is_some_and(|check| check > Instant::now()) {
            return;
        }
        let clock = self.hub.clock();
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
                    self.hub
                        .words
                        .stray(lane.token.trip(Cancelled::BY_DEADLINE));
                    lane.inside.interrupt();
                    self.hub.push(lane, Event::TimedOut);
                    self.hub.push(lane, Event::End);
                }
            }
        }
        self.check = self.next_check();
    }
}

impl<I: Iterator> Drop for Front<I> {
    fn drop(&mut self) {
        self.hooks.clear();
        drop(self.hub.words.inherited.lock().take());
        self.team.join();
        let mut panic = self.hub.words.stray.lock().take();
        while let Some(feeder) = steal(&self.hub.unserved) {
            unwind::first(&mut panic, unwind::discard(feeder.source));
        }
        for lane in &self.lanes {
            let parked = lane.parked.lock().take();
            if let Some((feeder, _)) = parked {
                unwind::first(&mut panic, unwind::discard(feeder.source));
            }
            while let Some(event) = steal(&lane.queue) {
                unwind::first(&mut panic, unwind::discard(event));
            }
        }
        match panic {
            Some(panic) if std::thread::panicking() => unwind::bury(panic),
            Some(panic) => std::panic::resume_unwind(panic),
            None => {}
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn steal<T>(queue: &Injector<T>) -> Option<T> {
    loop {
        match queue.steal() {
            Steal::Success(value) => return Some(value),
            Steal::Empty => return None,
            Steal::Retry => {}
        }
    }
}

/// The lanes that have something, in the order in which they are to be taken from.
#[derive(Debug)]
struct Ready {
    rule: Rule,
    ring: VecDeque<usize>,
    /// Those that have had their share of this round.
    spent: VecDeque<usize>,
    round: u64,
    /// Of each lane: weight, the round of its credit, and what is left of that.
    lanes: Vec<(u32, u64, u32)>,
    ranked: BinaryHeap<Reverse<usize>>,
}

impl Ready {
    fn new(rule: Rule) -> Self {
        Ready {
            rule,
            ring: VecDeque::new(),
            spent: VecDeque::new(),
            round: 0,
            lanes: Vec::new(),
            ranked: BinaryHeap::new(),
        }
    }

    fn lane(&mut self, opts: &LaneOpts) {
        self.lanes.push((opts.weight, 0, opts.weight));
    }

    /// A lane has something, or still has.
    fn add(&mut self, index: usize) {
        match self.rule {
            Rule::Priority => self.ranked.push(Reverse(index)),
            Rule::Turns => {
                let (weight, round, credit) = &mut self.lanes[index];
                if *round != self.round {
                    (*round, *credit) = (self.round, *weight);
                }
                if *credit > 0 {
                    self.ring.push_back(index);
                } else {
                    self.spent.push_back(index);
                }
            }
        }
    }

    fn pop(&mut self) -> Option<usize> {
        if self.rule == Rule::Priority {
            return self.ranked.pop().map(|Reverse(index)| index);
        }
        if self.ring.is_empty() && !self.spent.is_empty() {
            self.round += 1;
            for index in std::mem::take(&mut self.spent) {
                self.add(index);
            }
        }
        let index = self.ring.pop_front()?;
        // A lane that drops its oldest may be here twice.
        let (_, _, credit) = &mut self.lanes[index];
        *credit = credit.saturating_sub(1);
        Some(index)
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::sync::Parker;
    use std::ops::Range;

    type Numbers = Lane<Range<usize>>;

    fn lane(overflow: Overflow) -> Arc<Numbers> {
        Arc::new(Lane {
            index: 0,
            opts: LaneOpts {
                overflow,
                ..LaneOpts::new(1)
            },
            queue: Injector::new(),
            len: AtomicUsize::new(0),
            parked: Mutex::new(None),
            token: CancelToken::new(),
            inside: Arc::default(),
            since: AtomicU64::new(0),
        })
    }

    /// Push / take, park / room, ring / wait: a lane for one item, a server (here a thread that
    /// sleeps while its feeder is parked) and the consumer.
    fn all_come(
        overflow: Overflow,
        items: usize,
        want: impl Fn(&[usize]) -> bool + Send + Sync + 'static,
    ) {
        loom::model(move || {
            let mut ear = Ear::new();
            let (lane, listed) = (lane(overflow), Arc::new(Injector::new()));
            let served = Parker::new();
            let call = served.unparker().clone();
            let server = loom::thread::spawn({
                let (lane, listed, bell) = (
                    Arc::clone(&lane),
                    Arc::clone(&listed),
                    Arc::clone(ear.bell()),
                );
                move || {
                    let push = |event| {
                        let before = lane.push(event);
                        if before == 0 {
                            listed.push(0);
                            bell.ring();
                        }
                        before
                    };
                    for item in 0..items {
                        if overflow == Overflow::Block && !lane.has_room() {
                            let feeder = Feeder {
                                source: 0..0,
                                lane: Arc::clone(&lane),
                                patience: Patience::new(),
                            };
                            if lane.park(feeder, 1).is_none() {
                                served.park();
                            }
                        }
                        assert!(overflow != Overflow::Block || lane.has_room());
                        if overflow == Overflow::DropOldest && !lane.has_room() {
                            drop(lane.take());
                        }
                        push(Event::Item(item));
                    }
                    push(Event::End);
                }
            });
            let (mut got, mut ready) = (Vec::new(), false);
            loop {
                ready |= steal(&listed).is_some();
                if !ready {
                    assert_eq!(ear.wait(|| !listed.is_empty(), None), Heard::Ready);
                    continue;
                }
                let Some((event, left, parked)) = lane.take() else {
                    ready = false;
                    continue;
                };
                assert!(left <= items, "nothing is taken that was not counted");
                ready = left > 0;
                if parked && lane.unpark(u64::MAX).is_some() {
                    call.unpark();
                }
                match event {
                    Event::Item(item) => got.push(item),
                    _ => break,
                }
            }
            server.join().expect("no panic");
            assert!(want(&got), "{got:?}");
        });
    }

    /// Enter / arm: a consumer that goes to sleep while two sources are entered has a timer for the one that
    /// is due first, or is rung for it and finds it in the alarm. (What a ring does is the bell's to show.)
    #[test]
    fn loom_hub_enter_and_arm() {
        loom::model(|| {
            let alarm = Arc::new(Alarm(AtomicU64::new(0)));
            let lanes = [8, 4].map(|limit| {
                let mut lane = lane(Overflow::Block);
                let opts = &mut Arc::get_mut(&mut lane).expect("a new one").opts;
                opts.timeout = Some(Duration::from_nanos(limit));
                lane
            });
            let servers = [8, 4].map(|limit| {
                let (lane, alarm) = (
                    Arc::clone(&lanes[usize::from(limit == 4)]),
                    Arc::clone(&alarm),
                );
                loom::thread::spawn(move || lane.enter(1, limit, &alarm))
            });
            let due = alarm.look(&lanes);
            let rings = servers.map(|server| server.join().expect("no panic"));
            assert!(due == 5 || rings[1] && alarm.is_before(due));
        });
    }

    #[test]
    fn loom_hub_back_pressure() {
        all_come(Overflow::Block, 2, |got| got == [0, 1]);
    }

    #[test]
    fn loom_hub_drop_oldest() {
        all_come(Overflow::DropOldest, 2, |got| matches!(got, [0, 1] | [1]));
    }
}
