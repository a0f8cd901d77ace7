//! Items that are run key by key: those of one key one at a time and in order, those of different
//! keys at once. The engine of `par_map_by_key`.
//!
//! # Who acts
//!
//! ```text
//!                        lanes                 ready: first come, first served
//!   source ──▶ puller ──┬▶ a: a5 a4 ──────────▶ worker: a3 │ a2 ──▶ a1 ──┐
//!                       ├▶ b: b3 b2 ──────────▶ worker:    │ b1 ─────────┼─▶ done ──▶ consumer
//!                       └▶ c: c1                                         ┘
//! ```
//!
//! Each key with items in flight has a *lane*: its items that wait, and whether a worker has some of
//! them. A lane with a waiting item of which no worker has any is in the queue `ready`. A *worker* is a
//! leased thread. It takes the first ready lane's next item, runs it, puts the result into `done`, and
//! puts the lane at the end of `ready` if it has more. If no lane is ready it pulls: it takes the
//! *intake* (the source, and which key has which lane) off the board, so there is one *puller* at a time,
//! and puts the item that it gets into its key's lane. The consumer takes all that is done at once.
//!
//! A worker never enters the source with a ready lane behind it, unless `n` others run closures. So
//! when the source blocks, nothing waits for the thread that is in it: a lane becomes ready by what the
//! puller brings, who looks at `ready` next, or by a worker who is done with it, and does the same. One
//! thread more than `n` is leased, to pull while `n` run.
//!
//! Where items cost little, the board's way from core to core costs more. So a worker takes some of
//! the lane's items at once, for a [turn](TURN). Nobody else could start them: their key is taken. The
//! results go to the worker's *tray*, from where the consumer takes them if it is there first.
//!
//! # The protocol
//!
//! All state lies on the [`Board`], under one short lock, but for trays and the words below. No user
//! code runs under it: what is to be dropped is carried out.
//!
//! - *Sleep and wake.* A worker falls asleep under the lock, after it has looked at everything that
//!   could be its work. Who makes work for another takes the lock and [calls](Shared::call) one. So
//!   either the look sees the work, or the caller sees the sleeper. Work for another is made by who
//!   starts a closure (and leaves behind other ready lanes, or the source), by the consumer who
//!   makes room or pulls a source of its own, and by who leaves since nothing will come: so may the
//!   others. As long as one is on its way, or looks for a moment before it sleeps, no other is
//!   called; who arrives and finds more than it can do calls the next: a chain, no herd.
//! - *Room.* `held` counts what is admitted and not yet yielded. A worker that finds no room, and would
//!   pull, sets a bit of it; what `held` was then tells it whether there is room after all. The consumer
//!   subtracts, and what it was tells it whether the bit was set. So one of them sees the other. To
//!   wake a thread costs as much as many items, so the consumer calls it for [some](Pace::worth_waking)
//!   room and not for the first; at the latest before it sleeps.
//! - *Done and ring.* Who puts the `wanted`th result into `done` rings the [bell](crate::engine::bell).
//!   The consumer says how many it wants under the lock: one before it sleeps, and some before it naps,
//!   for 1 ms at most, because results flow.
//! - *Trays.* A worker puts a result on its tray, and then looks whether the consumer `starves`. The
//!   consumer says so and then looks at the trays, each under its own lock. So the one finds the result, or
//!   the other rings. What is on a tray comes to `done` in the very step in which the lane becomes ready
//!   again, and the consumer takes from trays under the board's lock, after what is in `done`. So the
//!   results of one key never overtake one another.
//! - *End.* The puller that finds the source's end says so on the board and rings; the consumer is over
//!   when nothing is held any more. A source's panic is kept until then.
//! - *Drain.* Who comes to pull and finds that it drains takes that for the source's end.
//! - *Wait in vain.* The consumer may wait in the source of somebody who ends. Then its wait is over
//!   ([context]), and nothing else: it goes on when it is asked again.
//! - *Stop.* After `stopped` is set nothing is pulled and nothing started: it is looked at under the
//!   lock, and within a turn before each item. The consumer is over when nobody runs closures and it has
//!   taken what is done. Who comes back from closures and sees the stop rings; who stops rings behind it.

use crate::engine::bell::{Bell, Ear, Heard};
use crate::engine::cancel::{self, CancelToken, OnCancel, Why};
use crate::engine::census::{self, Alive};
use crate::engine::context::{self, Current, Inherited, Inside, Started};
use crate::engine::cost::Pace;
use crate::engine::erase::{Crew, Seed, Stop, Team};
use crate::engine::hub::Common;
use crate::engine::pool::Pool;
use crate::engine::source::Source;
use crate::engine::spin::Patience;
use crate::engine::unwind::{self, Payload, catch};
use crate::error::Cancelled;
use crate::sync::{
    Arc, AtomicBool, AtomicUsize, Instant, Mutex, MutexGuard, Ordering, Parker, Unparker, bug,
};
use crossbeam_utils::CachePadded;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, Hash, RandomState};
use std::panic::resume_unwind;
use std::rc::Rc;
use std::time::Duration;

/// In `held`: somebody waits for room.
const HUNGRY: usize = 1 << (usize::BITS - 1);
/// So many keys may be kept without an item in flight, as they often come again.
const KEPT: usize = 64;
/// How long a key's turn is, if its items take less, and of how many items it is at most. The clock is
/// read for each few of them.
const TURN: Duration = Duration::from_micros(20);
const MOST: usize = 64;
const FEW: usize = 4;
/// A turn of one item in so many is timed.
const TIMED: usize = 16;
/// So many bytes a queue may keep without a use for them.
const SHORT: usize = 1024;
/// How long the consumer may nap, and for how many results at most.
const NAP: Duration = Duration::from_millis(1);
const BULK: usize = 1024;
/// A sleep as short as this means that results flow.
const FLOW: Duration = Duration::from_micros(300);

// ---- the board

/// The items of one key.
#[derive(Debug)]
struct Lane<T> {
    queue: VecDeque<T>,
    /// A worker has some of its items in hand.
    runs: bool,
    /// In the list of those that have nothing to do.
    listed: bool,
}

impl<T> Lane<T> {
    fn new() -> Self {
        Lane {
            queue: VecDeque::new(),
            runs: false,
            listed: false,
        }
    }

    fn is_idle(&self) -> bool {
        self.queue.is_empty() && !self.runs
    }

    /// Moves its first items to `hand`. What a queue needs no more of its memory it does not keep, as
    /// each lane may have been a long one once.
    fn take(&mut self, most: usize, hand: &mut VecDeque<T>) {
        let count = self.queue.len().min(most);
        hand.extend(self.queue.drain(..count));
        let unused = self.queue.capacity().saturating_sub(4 * self.queue.len());
        if unused.saturating_mul(size_of::<T>()) > SHORT {
            self.queue.shrink_to(2 * self.queue.len());
        }
    }
}

/// Where a worker puts the results of what it has in hand, for the consumer to take before the worker
/// comes back to the board.
type Tray<O> = Arc<Mutex<VecDeque<Result<O, Payload>>>>;

/// What is under the lock; see the head of this file.
#[derive(Debug)]
struct Board<Q, T, O> {
    /// `None`: a puller has it, or the source has ended, or it is the consumer's.
    intake: Option<Q>,
    ended: bool,
    /// That of the source or of `key`.
    panic: Option<Payload>,
    /// By the numbers that the intake gives them.
    lanes: Vec<Lane<T>>,
    ready: VecDeque<usize>,
    /// Lanes that have come to have nothing to do; perhaps they have again.
    idle: Vec<usize>,
    /// How many workers run closures.
    running: usize,
    done: VecDeque<Result<O, Payload>>,
    /// Of those who have more than one item in hand, with their numbers.
    trays: Vec<(usize, Tray<O>)>,
    wanted: usize,
    sleepers: Vec<(usize, Unparker)>,
    /// One is on its way.
    coming: bool,
    /// How many look for a moment before they sleep.
    looking: usize,
    threads: usize,
    /// How many there were in all.
    leased: usize,
    can_grow: bool,
}

/// What a waker has to do once it has released the lock.
#[must_use]
enum Wake {
    Nobody,
    Unpark(Unparker),
    Lease(usize),
}

impl<Q, T, O> Board<Q, T, O> {
    fn new(intake: Option<Q>) -> Self {
        Board {
            intake,
            ended: false,
            panic: None,
            lanes: Vec::new(),
            ready: VecDeque::new(),
            idle: Vec::new(),
            running: 0,
            done: VecDeque::new(),
            trays: Vec::new(),
            wanted: 1,
            sleepers: Vec::new(),
            coming: false,
            looking: 0,
            threads: 0,
            leased: 0,
            can_grow: true,
        }
    }

    /// Puts an item into its lane.
    fn admit(&mut self, lane: usize, item: T) {
        if lane == self.lanes.len() {
            self.lanes.push(Lane::new());
        }
        let lane_of = &mut self.lanes[lane];
        lane_of.queue.push_back(item);
        if lane_of.queue.len() == 1 && !lane_of.runs {
            self.ready.push_back(lane);
        }
    }

    /// Takes the next items, so many at most, of the first ready lane.
    fn start(&mut self, most: usize, hand: &mut VecDeque<T>) -> Option<usize> {
        let lane = self.ready.pop_front()?;
        let lane_of = &mut self.lanes[lane];
        lane_of.take(most, hand);
        lane_of.runs = true;
        self.running += 1;
        Some(lane)
    }

    /// A worker is done with this lane for now. What it has not started goes back.
    fn finish(&mut self, lane: usize, hand: &mut VecDeque<T>) {
        self.running -= 1;
        let lane_of = &mut self.lanes[lane];
        lane_of.runs = false;
        while let Some(item) = hand.pop_back() {
            lane_of.queue.push_front(item);
        }
        if !lane_of.queue.is_empty() {
            self.ready.push_back(lane);
        } else if !lane_of.listed {
            lane_of.listed = true;
            self.idle.push(lane);
        }
    }

    /// Puts these results to what is done. Whether to ring the bell.
    fn deliver(&mut self, results: &mut VecDeque<Result<O, Payload>>) -> bool {
        let before = self.done.len();
        self.done.append(results);
        before < self.wanted && self.done.len() >= self.wanted
    }

    /// Whether there is a result that is still on a tray.
    fn is_any_on_trays(&self) -> bool {
        self.trays.iter().any(|(_, tray)| !tray.lock().is_empty())
    }

    /// Moves all that is done to `taken`, which is empty. What is on trays comes last: of a key that
    /// has something there what came before may be in `done`.
    fn take_done(&mut self, taken: &mut VecDeque<Result<O, Payload>>) {
        std::mem::swap(taken, &mut self.done);
        for (_, tray) in &self.trays {
            taken.append(&mut tray.lock());
        }
    }

    /// Forgets the lanes that have nothing to do, if they are many. Their numbers go to `forgotten`.
    fn forget_idle(&mut self, forgotten: &mut Vec<usize>) {
        if self.idle.len() > KEPT {
            for lane in self.idle.drain(..) {
                let lane_of = &mut self.lanes[lane];
                lane_of.listed = false;
                if lane_of.is_idle() {
                    forgotten.push(lane);
                }
            }
        }
    }

    /// There is something for another thread to do; `most`: how many there may be for it, with 0 it
    /// is for one that sleeps.
    fn call(&mut self, most: usize) -> Wake {
        let wake = if let Some((_, sleeper)) = self.sleepers.pop() {
            Wake::Unpark(sleeper)
        } else if self.can_grow && self.threads < most {
            self.threads += 1;
            self.leased += 1;
            Wake::Lease(self.leased)
        } else {
            return Wake::Nobody;
        };
        self.coming = true;
        wake
    }
}

// ---- the intake

/// The source, and which key has which lane. Whoever has it may pull.
#[derive(Debug)]
struct Intake<I, G, K> {
    source: I,
    key: G,
    hasher: RandomState,
    /// By the hash of the key and the number of its lane.
    keys: BTreeMap<(u64, usize), K>,
    /// The hash of each lane's key.
    hashes: Vec<u64>,
    unused: Vec<usize>,
    forgotten: Vec<usize>,
}

/// What came of a pull.
enum Pulled<T> {
    Item(usize, T),
    /// On the consumer's thread: nobody wants the answer now.
    Later,
    End,
    Panic(Payload),
}

impl<I, G, K> Intake<I, G, K>
where
    I: Iterator,
    G: FnMut(&I::Item) -> K,
    K: Hash + Eq,
{
    fn new(source: I, key: G) -> Self {
        Intake {
            source,
            key,
            hasher: RandomState::new(),
            keys: BTreeMap::new(),
            hashes: Vec::new(),
            unused: Vec::new(),
            forgotten: Vec::new(),
        }
    }

    /// Pulls an item, and finds its lane.
    fn pull(&mut self) -> Pulled<I::Item> {
        let item = match catch(|| self.source.next()) {
            Ok(Some(item)) => item,
            Ok(None) => return Pulled::End,
            Err(panic) => return Pulled::Panic(panic),
        };
        match catch(|| self.lane(&item)) {
            Ok(lane) => Pulled::Item(lane, item),
            Err(panic) => {
                if let Some(worse) = unwind::discard(item) {
                    unwind::bury(worse);
                }
                Pulled::Panic(panic)
            }
        }
    }

    /// The lane of an item. All that may panic comes before any change.
    fn lane(&mut self, item: &I::Item) -> usize {
        let key = (self.key)(item);
        let hash = self.hasher.hash_one(&key);
        let mut same = self.keys.range((hash, 0)..=(hash, usize::MAX));
        if let Some(((_, lane), _)) = same.find(|(_, other)| **other == key) {
            return *lane;
        }
        let lane = self.unused.pop().unwrap_or(self.hashes.len());
        if lane == self.hashes.len() {
            self.hashes.push(hash);
        } else {
            self.hashes[lane] = hash;
        }
        self.keys.insert((hash, lane), key);
        lane
    }

    /// Drops the keys of lanes that the board has forgotten.
    fn forget(&mut self) -> Option<Payload> {
        let mut panic = None;
        for lane in self.forgotten.drain(..) {
            let key = self.keys.remove(&(self.hashes[lane], lane));
            unwind::first(&mut panic, unwind::discard(key));
            self.unused.push(lane);
        }
        panic
    }
}

impl<I, G, K> Intake<I, G, K> {
    /// Drops each part by itself.
    fn dispose(self) -> Option<Payload> {
        let mut panic = unwind::discard(self.source);
        unwind::first(&mut panic, unwind::discard(self.key));
        for key in self.keys.into_values() {
            unwind::first(&mut panic, unwind::discard(key));
        }
        panic
    }
}

// ---- what is shared

/// The untyped part.
struct Words {
    stopped: AtomicBool,
    /// That was for this reason, if it was for one.
    cancelled: Why,
    draining: Why,
    /// The source was taken for ended for that.
    drained: AtomicBool,
    /// The consumer sleeps, and does not nap.
    starves: AtomicBool,
    token: CancelToken,
    /// That in the source.
    source: CancelToken,
    inside: Arc<Inside>,
    /// What it was started in.
    inherited: Mutex<Option<Inherited>>,
    bell: Arc<Bell>,
    workers: Mutex<Vec<Unparker>>,
    alive: Mutex<Option<Alive>>,
    stray: Mutex<Option<Payload>>,
}

impl Words {
    fn new(ear: &Ear, alive: Option<Alive>) -> Self {
        let token = CancelToken::new();
        Words {
            stopped: AtomicBool::new(false),
            cancelled: Why::new(),
            draining: Why::new(),
            drained: AtomicBool::new(false),
            starves: AtomicBool::new(false),
            source: token.child(),
            token,
            inside: Arc::default(),
            inherited: Mutex::default(),
            bell: Arc::clone(ear.bell()),
            workers: Mutex::new(Vec::new()),
            alive: Mutex::new(alive),
            stray: Mutex::new(None),
        }
    }

    /// Nothing more is to be pulled or started; what is done may be taken.
    fn cancel(&self, why: Cancelled) {
        self.cancelled.set(why);
        self.halt(why);
    }

    /// Nothing more is to be pulled.
    fn drain(&self, why: Cancelled) {
        self.draining.set(why);
        self.stray(self.source.trip(why));
    }

    fn halt(&self, why: Cancelled) {
        self.stopped.store(true, Ordering::SeqCst);
        for worker in &*self.workers.lock() {
            worker.unpark();
        }
        self.stray(self.token.trip(why));
        self.inside.interrupt();
        self.bell.ring();
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// The consumer has been told that nothing more comes.
    fn over(&self, held: Arc<dyn census::Held>) {
        if let Some(alive) = &*self.alive.lock() {
            alive.over(held);
        }
    }

    fn stray(&self, panic: Option<Payload>) {
        if panic.is_some() {
            unwind::first(&mut self.stray.lock(), panic);
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

/// Answers [`CancelToken::current`] in a closure and in the source.
struct Here {
    stage: CancelToken,
    /// That of this very call, made when it is asked for.
    call: RefCell<Option<CancelToken>>,
    started: Started,
}

impl Here {
    fn new(stage: &CancelToken) -> Rc<Self> {
        Rc::new(Here {
            stage: stage.clone(),
            call: RefCell::new(None),
            started: Started::default(),
        })
    }

    /// Whether what it gave is no result, since something that it was made of was cut short.
    fn call_over(&self) -> bool {
        self.call.borrow().is_some() && {
            drop(self.call.take());
            self.started.over()
        }
    }
}

impl Current for Here {
    fn token(&self) -> CancelToken {
        let mut call = self.call.borrow_mut();
        call.get_or_insert_with(|| self.stage.child()).clone()
    }

    fn started(&self) -> &Started {
        &self.started
    }
}

/// How many items are admitted and not yet yielded, and whether somebody waits for room.
#[derive(Debug, Default)]
struct Held(AtomicUsize);

impl Held {
    fn count(&self) -> usize {
        self.0.load(Ordering::Acquire) & !HUNGRY
    }

    fn add(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }

    /// How many are left, and whether somebody waits for room.
    fn sub(&self, count: usize) -> (usize, bool) {
        let before = self.0.fetch_sub(count, Ordering::AcqRel);
        ((before & !HUNGRY) - count, before & HUNGRY != 0)
    }

    /// Asks for room below `bound`. Whether there is room after all, so that nobody has to wait.
    fn ask(&self, bound: usize) -> bool {
        let is_room = self.0.fetch_or(HUNGRY, Ordering::AcqRel) & !HUNGRY < bound;
        // A planted bug, which a model must catch: what came in between is overlooked.
        let is_room = is_room && !bug("no_second_look_for_room");
        if is_room {
            self.answer();
        }
        is_room
    }

    fn is_hungry(&self) -> bool {
        self.0.load(Ordering::Acquire) & HUNGRY != 0
    }

    /// Who waits is called, or somebody who is awake will do it.
    fn answer(&self) {
        self.0.fetch_and(!HUNGRY, Ordering::AcqRel);
    }
}

type Desk<I, G, K, O> = Board<Box<Intake<I, G, K>>, <I as Iterator>::Item, O>;
type Guard<'a, I, G, K, O> = MutexGuard<'a, Desk<I, G, K, O>>;

/// What the workers and the consumer share.
struct Shared<I: Iterator, G, K, F, O> {
    f: F,
    width: usize,
    words: Arc<Words>,
    board: CachePadded<Mutex<Desk<I, G, K, O>>>,
    held: CachePadded<Held>,
    pace: CachePadded<Pace>,
    crew: Crew,
}

/// What there is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sight {
    Run,
    Pull,
    /// To pull, if there were room.
    Full,
    Nothing,
    /// Nothing, and nothing will come.
    Over,
}

/// One leased thread.
struct Worker<T, O> {
    thread: usize,
    parker: Parker,
    patience: Patience,
    /// In closures, and in the source.
    here: Rc<Here>,
    in_source: Rc<Here>,
    /// What it has taken of a lane.
    hand: VecDeque<T>,
    tray: Tray<O>,
    /// How many turns it has run.
    turns: usize,
    /// The bell is to be rung once the lock is released.
    rings: bool,
}

impl<T, O> Worker<T, O> {
    fn new(thread: usize, words: &Words) -> Self {
        Worker {
            thread,
            parker: Parker::new(),
            patience: Patience::new(),
            here: Here::new(&words.token),
            in_source: Here::new(&words.source),
            hand: VecDeque::new(),
            tray: Tray::default(),
            turns: 0,
            rings: false,
        }
    }
}

type WorkerOf<I, O> = Worker<<I as Iterator>::Item, O>;

impl<I, G, K, F, O> Shared<I, G, K, F, O>
where
    I: Iterator + Send,
    I::Item: Send,
    G: FnMut(&I::Item) -> K + Send,
    K: Hash + Eq + Send,
    F: Fn(I::Item) -> O + Send + Sync,
    O: Send,
{
    /// Whether nothing will be done any more.
    fn is_over(&self, board: &Desk<I, G, K, O>) -> bool {
        if self.words.is_stopped() {
            board.running == 0
        } else {
            board.ended && self.held.count() == 0
        }
    }

    fn bound(&self) -> usize {
        usize::try_from(self.pace.bound()).unwrap_or(usize::MAX)
    }

    /// What another thread than those that are at work could do. Nothing is changed by a look.
    fn look(&self, board: &Desk<I, G, K, O>) -> Sight {
        if self.words.is_stopped() {
            return Sight::Over;
        }
        let may_run = board.running < self.width;
        if may_run && !board.ready.is_empty() {
            Sight::Run
        } else if board.ended {
            // Who is done with an item runs the next of its lane.
            Sight::Over
        } else if board.intake.is_none() {
            Sight::Nothing
        } else if self.held.count() < self.bound() {
            Sight::Pull
        } else {
            Sight::Full
        }
    }

    /// Calls another thread if there is something left for it, if only to leave.
    fn call(&self, board: &mut Desk<I, G, K, O>) -> Wake {
        if board.coming || board.looking > 0 {
            return Wake::Nobody;
        }
        let is_work = match self.look(board) {
            Sight::Run => true,
            // If somebody waits for room, the consumer calls him when it is worth it.
            Sight::Pull => !self.held.is_hungry(),
            Sight::Full => !self.held.is_hungry() && self.held.ask(self.bound()),
            Sight::Nothing => false,
            Sight::Over => return board.call(0), // who sleeps may leave
        };
        if !is_work {
            return Wake::Nobody;
        }
        let spare = usize::from(board.running >= self.width);
        board.call(self.width.saturating_add(spare))
    }

    /// Does what a caller decided under the lock.
    fn act(self: &Arc<Self>, mut wake: Wake) {
        loop {
            match wake {
                Wake::Nobody => return,
                Wake::Unpark(sleeper) => return sleeper.unpark(),
                Wake::Lease(thread) => {
                    let shared = Arc::clone(self);
                    if self.crew.lease(move || shared.work(thread)).is_ok() {
                        return;
                    }
                    // Those that are there have to do; if there are none the consumer will.
                    let mut board = self.board.lock();
                    board.can_grow = false;
                    board.threads -= 1;
                    board.coming = false;
                    wake = self.call(&mut board);
                }
            }
        }
    }

    // ---- the workers

    /// What a leased thread does.
    fn work(self: &Arc<Self>, thread: usize) {
        let mut worker = Worker::new(thread, &self.words);
        // A stop after this wakes it, and one before is seen by it.
        let unparker = worker.parker.unparker().clone();
        self.words.workers.lock().push(unparker);
        let _here = context::in_closure(Rc::clone(&worker.here) as Rc<dyn Current>);
        let mut board = self.board.lock();
        board.coming = false;
        loop {
            board = match self.look(&board) {
                Sight::Run => self.run_next(&mut worker, board, self.turn()),
                Sight::Pull => self.pull_next(&mut worker, board),
                Sight::Full | Sight::Nothing => self.idle(&mut worker, board),
                Sight::Over => {
                    board.threads -= 1;
                    let wake = self.call(&mut board);
                    drop(board);
                    self.act(wake);
                    return self.ring(&mut worker);
                }
            };
        }
    }

    fn ring(&self, worker: &mut WorkerOf<I, O>) {
        if std::mem::take(&mut worker.rings) {
            self.words.bell.ring();
        }
    }

    /// How many items make a turn.
    fn turn(&self) -> usize {
        let item = self
            .pace
            .estimate(1)
            .map_or(u128::MAX, |item| item.as_nanos().max(1));
        (TURN.as_nanos() / item).clamp(1, MOST as u128) as usize
    }

    /// Runs the next items, so many at most, of the first ready lane.
    fn run_next<'a>(
        self: &'a Arc<Self>,
        worker: &mut WorkerOf<I, O>,
        mut board: Guard<'a, I, G, K, O>,
        most: usize,
    ) -> Guard<'a, I, G, K, O> {
        let Some(lane) = board.start(most, &mut worker.hand) else {
            return board;
        };
        let has_tray = worker.hand.len() > 1;
        if has_tray {
            let tray = (worker.thread, Arc::clone(&worker.tray));
            board.trays.push(tray);
        }
        let wake = self.call(&mut board);
        drop(board);
        self.ring(worker);
        self.act(wake);
        let failed = self.run_hand(worker);
        let mut board = self.board.lock();
        if failed {
            // Nothing starts after it; the rest of it comes when the lock is released.
            self.words.stopped.store(true, Ordering::SeqCst);
        }
        if has_tray {
            board.trays.retain(|(thread, _)| *thread != worker.thread);
        }
        worker.rings |= board.deliver(&mut worker.tray.lock());
        board.finish(lane, &mut worker.hand);
        // After a stop the consumer waits for nobody to run closures. It may have had the last results
        // from the tray, so that there is nothing to ring for.
        worker.rings |= self.words.is_stopped() && !bug("last_one_is_silent");
        if failed {
            drop(board);
            self.words.halt(Cancelled::default());
            board = self.board.lock();
        }
        board
    }

    /// Runs what the worker has in hand, as long as its turn lasts. Whether a closure panicked.
    fn run_hand(&self, worker: &mut WorkerOf<I, O>) -> bool {
        let count = worker.hand.len();
        // Models have to be without what hangs on time.
        let is_timed = (count > 1 || worker.turns % TIMED == 0) && !cfg!(loom);
        worker.turns += 1;
        let began = is_timed.then(Instant::now);
        let mut failed = false;
        while let Some(item) = worker.hand.pop_front() {
            let result = catch(|| (self.f)(item));
            let in_vain = worker.here.call_over() && self.words.is_stopped();
            failed = result.is_err();
            match result {
                Ok(output) if in_vain => self.words.stray(unwind::discard(output)),
                result => worker.tray.lock().push_back(result),
            }
            if failed || worker.hand.is_empty() || self.words.is_stopped() {
                break;
            }
            if self.words.starves.load(Ordering::Relaxed) {
                self.words.bell.ring();
            }
            let is_long = |began: Instant| began.elapsed() > FEW as u32 * TURN;
            if worker.hand.len() % FEW == 0 && began.is_some_and(is_long) {
                break;
            }
        }
        if let Some(began) = began {
            let each = began.elapsed().as_nanos() as f32 / (count - worker.hand.len()) as f32;
            self.pace.observe(self.pace.len(), &mut [each; 4], None);
        }
        failed
    }

    /// Pulls an item and puts it into its lane.
    fn pull_next<'a>(
        self: &'a Arc<Self>,
        worker: &mut WorkerOf<I, O>,
        mut board: Guard<'a, I, G, K, O>,
    ) -> Guard<'a, I, G, K, O> {
        let Some(mut intake) = board.intake.take() else {
            return board;
        };
        board.forget_idle(&mut intake.forgotten);
        drop(board);
        self.ring(worker);
        let pulled = self.pull(&mut intake, &worker.in_source);
        let mut board = self.board.lock();
        match self.admit(&mut board, pulled) {
            Ok(()) => {
                board.intake = Some(intake);
                board
            }
            Err(item) => {
                drop(board);
                self.turned_away(item, *intake);
                self.board.lock()
            }
        }
    }

    fn pull<J>(&self, intake: &mut Intake<J, G, K>, here: &Rc<Here>) -> Pulled<I::Item>
    where
        J: Iterator<Item = I::Item>,
    {
        self.words.stray(intake.forget());
        if self.words.draining.get().is_some() {
            self.words.drained.store(true, Ordering::Relaxed);
            return Pulled::End;
        }
        let pulled = {
            let here = Rc::clone(here) as Rc<dyn Current>;
            let _entered = context::in_source(here, &self.words.inside);
            intake.pull()
        };
        here.call_over();
        match pulled {
            Pulled::End if context::is_unwanted() => Pulled::Later,
            pulled => pulled,
        }
    }

    /// Puts what was pulled into its lane. `Err`: nothing is to be pulled any more, and nobody wants
    /// this item either, if there is one.
    fn admit(
        &self,
        board: &mut Desk<I, G, K, O>,
        pulled: Pulled<I::Item>,
    ) -> Result<(), Option<I::Item>> {
        match pulled {
            Pulled::Item(_, item) if self.words.is_stopped() => Err(Some(item)),
            Pulled::Item(lane, item) => {
                self.held.add();
                board.admit(lane, item);
                Ok(())
            }
            Pulled::Later => Ok(()),
            Pulled::End => {
                board.ended = true;
                Err(None)
            }
            Pulled::Panic(panic) => {
                board.ended = true;
                board.panic = Some(panic);
                Err(None)
            }
        }
    }

    /// The source is not needed any more, and this item neither.
    fn turned_away<J>(&self, item: Option<I::Item>, intake: Intake<J, G, K>) {
        self.words.bell.ring();
        self.words.stray(unwind::discard(item));
        self.words.stray(intake.dispose());
    }

    /// Finds nothing to do: looks for a moment, then sleeps until it is called.
    fn idle<'a>(
        &'a self,
        worker: &mut WorkerOf<I, O>,
        mut board: Guard<'a, I, G, K, O>,
    ) -> Guard<'a, I, G, K, O> {
        board.looking += 1;
        drop(board);
        self.ring(worker);
        let is_work = |sight| !matches!(sight, Sight::Full | Sight::Nothing);
        worker
            .patience
            .look(|| is_work(self.look(&self.board.lock())));
        let mut board = self.board.lock();
        board.looking -= 1;
        let sight = self.look(&board);
        if is_work(sight) || (sight == Sight::Full && self.held.ask(self.bound())) {
            return board;
        }
        let me = worker.thread;
        let unparker = worker.parker.unparker().clone();
        board.sleepers.push((me, unparker));
        drop(board);
        worker.parker.park();
        let mut board = self.board.lock();
        match board.sleepers.iter().position(|(other, _)| *other == me) {
            // Woken to stop, or for nothing.
            Some(place) => drop(board.sleepers.swap_remove(place)),
            None => board.coming = false,
        }
        board
    }
}

impl<I: Iterator, G, K, F, O> Shared<I, G, K, F, O> {
    /// Drops all that is left, each thing by itself.
    fn dispose(self) -> Option<Payload> {
        let board = self.board.into_inner().into_inner();
        let mut panic = None;
        for item in board.lanes.into_iter().flat_map(|lane| lane.queue) {
            unwind::first(&mut panic, unwind::discard(item));
        }
        for result in board.done {
            unwind::first(&mut panic, unwind::discard(result));
        }
        unwind::first(&mut panic, unwind::discard(board.panic));
        if let Some(intake) = board.intake {
            unwind::first(&mut panic, intake.dispose());
        }
        unwind::first(&mut panic, unwind::discard(self.f));
        panic
    }
}

// ---- the consumer

/// What of the consumer needs no thread: it takes, waits, and makes room.
struct Taker<I: Iterator, G, K, F, O> {
    shared: Arc<Shared<I, G, K, F, O>>,
    ear: Ear,
    taken: VecDeque<Result<O, Payload>>,
    /// How many have been yielded and not yet been said to be, and for how many that is done.
    yielded: usize,
    portion: usize,
    flows: bool,
}

impl<I: Iterator, G, K, F, O> Taker<I, G, K, F, O> {
    fn dispose(self) -> Option<Payload> {
        let mut panic = None;
        for result in self.taken {
            unwind::first(&mut panic, unwind::discard(result));
        }
        match Arc::into_inner(self.shared) {
            Some(shared) => unwind::first(&mut panic, shared.dispose()),
            None => debug_assert!(false, "a thread holds something after the join"),
        }
        panic
    }
}

/// What the consumer finds.
enum Found<O> {
    Result(Result<O, Payload>),
    /// It has to wait, or to do something itself.
    Nothing,
    Over,
}

impl<I, G, K, F, O> Taker<I, G, K, F, O>
where
    I: Iterator + Send,
    I::Item: Send,
    G: FnMut(&I::Item) -> K + Send,
    K: Hash + Eq + Send,
    F: Fn(I::Item) -> O + Send + Sync,
    O: Send,
{
    fn new(shared: Arc<Shared<I, G, K, F, O>>, ear: Ear) -> Self {
        Taker {
            shared,
            ear,
            taken: VecDeque::new(),
            yielded: 0,
            portion: 1,
            flows: false,
        }
    }

    /// Takes the next result, and counts it as yielded.
    fn take(&mut self) -> Found<O> {
        if self.taken.is_empty() {
            let shared = &self.shared;
            // Of what is worth a wake-up a part is soon enough.
            self.portion = (shared.pace.worth_waking() / 4).max(1) as usize;
            let mut board = shared.board.lock();
            board.take_done(&mut self.taken);
            if self.taken.is_empty() {
                return if shared.is_over(&board) {
                    Found::Over
                } else {
                    Found::Nothing
                };
            }
        }
        let Some(result) = self.taken.pop_front() else {
            return Found::Nothing;
        };
        self.yielded += 1;
        if self.yielded >= self.portion || self.taken.is_empty() {
            self.tell_yielded();
        }
        Found::Result(result)
    }

    fn tell_yielded(&mut self) {
        let pace = &self.shared.pace;
        let (left, hungry) = self.shared.held.sub(std::mem::take(&mut self.yielded));
        if hungry && pace.bound().saturating_sub(left as u64) >= pace.worth_waking() {
            self.make_room();
        }
    }

    fn make_room(&self) {
        let mut board = self.shared.board.lock();
        self.shared.held.answer();
        let wake = self.shared.call(&mut board);
        drop(board);
        self.shared.act(wake);
    }

    /// Waits until there is something to take or this is over. `false`: nobody wants it now.
    fn wait(&mut self) -> bool {
        let shared = &self.shared;
        if shared.held.is_hungry() && shared.held.count() < shared.bound() {
            self.make_room();
        }
        let now = Instant::now();
        let until = self.flows.then(|| now + NAP);
        let wanted = if self.flows {
            (shared.bound() / 4).clamp(1, BULK)
        } else {
            1
        };
        shared.words.starves.store(!self.flows, Ordering::Relaxed);
        shared.board.lock().wanted = wanted;
        let ready = || {
            let board = shared.board.lock();
            board.done.len() >= wanted
                || (until.is_none() && board.is_any_on_trays())
                || shared.is_over(&board)
        };
        let heard = self.ear.wait(ready, until);
        shared.words.starves.store(false, Ordering::Relaxed);
        self.flows = if until.is_some() {
            heard == Heard::Ready || shared.board.lock().done.len() > 1
        } else {
            // In a model time does not pass, and a nap would hide a wake-up that is missing.
            !cfg!(loom) && now.elapsed() < FLOW
        };
        heard != Heard::Unwanted
    }
}

/// The consumer's side.
pub(crate) struct Front<S: Source, G, K, F, O>
where
    S::Item: Send,
{
    /// On the tokens of the user.
    hooks: Vec<OnCancel>,
    team: Team,
    words: Arc<Words>,
    over: bool,
    /// It is over before its source was.
    cut_short: bool,
    /// A source that stays on this thread.
    near: Option<Box<Intake<S::Near, G, K>>>,
    /// `None` only while it is dropped.
    taker: Option<Taker<S::Far, G, K, F, O>>,
}

impl<S: Source, G, K, F, O> std::fmt::Debug for Front<S, G, K, F, O>
where
    S::Item: Send,
{
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Front")
            .field("over", &self.over)
            .finish_non_exhaustive()
    }
}

impl<S, G, K, F, O> Front<S, G, K, F, O>
where
    S: Source,
    S::Item: Send,
    G: FnMut(&S::Item) -> K + Send,
    K: Hash + Eq + Send,
    F: Fn(S::Item) -> O + Send + Sync,
    O: Send,
{
    /// Starts. `None`: the scope is over.
    pub(crate) fn start(
        seed: Seed,
        common: Common,
        width: usize,
        in_flight: Option<usize>,
        source: S,
        key: G,
        f: F,
    ) -> Option<Self> {
        let ear = Ear::new();
        let name = common.name.as_deref().unwrap_or("par_map_by_key");
        let words = Arc::new(Words::new(&ear, Some(Alive::new(name))));
        let pool = common.pool.unwrap_or_else(Pool::global);
        let cx = seed.cx();
        let link = (!common.detached).then(|| seed.link()).flatten();
        let team = seed.team(pool, Arc::clone(&words) as Arc<dyn Stop>)?;
        let (far, near) = match source.place(cx) {
            Ok(far) => (Some(Box::new(Intake::new(far, key))), None),
            Err(near) => (None, Some(Box::new(Intake::new(near, key)))),
        };
        let item_bytes = size_of::<S::Item>().max(size_of::<O>());
        let shared = Arc::new(Shared {
            f,
            width,
            words: Arc::clone(&words),
            board: CachePadded::new(Mutex::new(Board::new(far))),
            held: CachePadded::default(),
            pace: CachePadded::new(Pace::new(width, in_flight, item_bytes)),
            crew: team.crew().clone(),
        });
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
        let front = Front {
            hooks: cancels.chain(drains).collect(),
            team,
            words,
            over: false,
            cut_short: false,
            near,
            taker: Some(Taker::new(Arc::clone(&shared), ear)),
        };
        let wake = shared.call(&mut shared.board.lock());
        shared.act(wake);
        Some(front)
    }

    /// The next result, in the order of arrival.
    pub(crate) fn next(&mut self) -> Option<O> {
        while !self.over {
            let taker = self.taker.as_mut()?;
            match taker.take() {
                Found::Result(Ok(output)) => return Some(output),
                Found::Result(Err(panic)) => {
                    self.over = true;
                    self.words.over(self.team.crew().held());
                    resume_unwind(panic);
                }
                Found::Over => self.end(),
                Found::Nothing => {
                    // Looked at before this thread may itself go into the source.
                    if context::is_unwanted() {
                        context::tell_cut();
                        return None;
                    }
                    if self.pull_near() || self.work_alone() {
                        continue;
                    }
                    if !self.taker.as_mut().is_some_and(Taker::wait) {
                        return None;
                    }
                }
            }
        }
        None
    }

    // ---- what the consumer does itself

    /// Pulls an item from a source that is this thread's. `false`: there is none, or not now.
    fn pull_near(&mut self) -> bool {
        let (Some(intake), Some(taker)) = (&mut self.near, &self.taker) else {
            return false;
        };
        let shared = &taker.shared;
        let mut board = shared.board.lock();
        let may_pull = !shared.words.is_stopped() && !board.ended;
        if !may_pull || shared.held.count() >= shared.bound() {
            return false;
        }
        board.forget_idle(&mut intake.forgotten);
        drop(board);
        let pulled = shared.pull(intake, &Here::new(&shared.words.source));
        let mut board = shared.board.lock();
        let admitted = shared.admit(&mut board, pulled);
        let wake = shared.call(&mut board);
        drop(board);
        shared.act(wake);
        if let Err(item) = admitted {
            if let Some(intake) = self.near.take() {
                shared.turned_away(item, *intake);
            }
        }
        true
    }

    /// Where no thread could be started: runs an item, or pulls one. `false`: there is nothing to
    /// do, or others do it.
    fn work_alone(&mut self) -> bool {
        let Some(taker) = &self.taker else {
            return false;
        };
        let shared = &taker.shared;
        cancel::keep_time();
        let board = shared.board.lock();
        if board.threads > 0 || board.can_grow {
            return false;
        }
        let mut worker = Worker::new(0, &shared.words);
        match shared.look(&board) {
            Sight::Run => {
                let here = Rc::clone(&worker.here) as Rc<dyn Current>;
                let _here = context::in_closure(here);
                // One, as it must deliver.
                drop(shared.run_next(&mut worker, board, 1));
            }
            Sight::Pull => drop(shared.pull_next(&mut worker, board)),
            Sight::Full | Sight::Nothing | Sight::Over => return false,
        }
        true
    }

    // ---- the end

    /// Nothing more is yielded. Joins the threads, unless one may be stuck in a source that nobody
    /// waits for: that is for the drop to do.
    fn end(&mut self) {
        self.over = true;
        self.hooks.clear();
        let words = Arc::clone(&self.words);
        let taker = self.taker.as_ref();
        let left = taker.is_none_or(|taker| {
            let ended = taker.shared.board.lock().ended;
            !ended || taker.shared.held.count() > taker.yielded
        });
        self.cut_short = left || words.drained.load(Ordering::Relaxed);
        if !words.is_stopped() {
            self.team.join();
        }
        words.over(self.team.crew().held());
        let taker = self.taker.as_ref();
        let panic = taker.and_then(|taker| taker.shared.board.lock().panic.take());
        if let Some(panic) = panic.or_else(|| words.stray.lock().take()) {
            resume_unwind(panic);
        }
    }

    /// Why it ended before its source did, if it did so by a token.
    pub(crate) fn cut(&self) -> Option<Cancelled> {
        let why = || {
            self.words
                .cancelled
                .get()
                .or_else(|| self.words.draining.get())
        };
        self.cut_short.then(why).flatten()
    }

    /// It was cut short, and whoever uses it is not told so by what it yields.
    pub(crate) fn tell_cut(&self) {
        if let Some(inherited) = &*self.words.inherited.lock() {
            inherited.cut_short();
        }
    }

    /// How many results are still to come, if that is known.
    pub(crate) fn left(&self) -> Option<usize> {
        if self.over {
            return Some(0);
        }
        let taker = self.taker.as_ref()?;
        let ended = taker.shared.board.lock().ended;
        ended.then(|| taker.shared.held.count() - taker.yielded)
    }

    /// Whether it is stopped: then there may be less to come than was said.
    pub(crate) fn is_stopped(&self) -> bool {
        self.words.is_stopped()
    }
}

impl<S: Source, G, K, F, O> Drop for Front<S, G, K, F, O>
where
    S::Item: Send,
{
    fn drop(&mut self) {
        self.hooks.clear();
        drop(self.words.inherited.lock().take());
        self.team.join();
        let mut panic = self.words.stray.lock().take();
        if let Some(intake) = self.near.take() {
            unwind::first(&mut panic, intake.dispose());
        }
        if let Some(taker) = self.taker.take() {
            unwind::first(&mut panic, taker.dispose());
        }
        match panic {
            Some(panic) if std::thread::panicking() => unwind::bury(panic),
            Some(panic) => resume_unwind(panic),
            None => {}
        }
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::engine::erase::with_crew;
    use crate::sync::Condvar;
    use std::ops::Range;

    /// What a model is of.
    #[derive(Clone)]
    struct Case {
        workers: usize,
        width: usize,
        bound: usize,
        items: Range<usize>,
        keys: usize,
        /// How many items have been pulled before anybody comes.
        pulled: usize,
        /// Whether a turn is of several items.
        tiny: bool,
        /// Whether somebody cancels.
        cancelled: bool,
        /// This item's closure waits for the result of the one before.
        waits: Option<usize>,
    }

    const CASE: Case = Case {
        workers: 1,
        width: 1,
        bound: 1,
        items: 0..2,
        keys: 1,
        pulled: 0,
        tiny: false,
        cancelled: false,
        waits: None,
    };

    /// Shut until it is opened.
    #[derive(Default)]
    struct Gate(Mutex<bool>, Condvar);

    impl Gate {
        fn open(&self) {
            *self.0.lock() = true;
            self.1.notify_all();
        }

        fn wait(&self) {
            let mut open = self.0.lock();
            while !*open {
                open = self.1.wait(open);
            }
        }
    }

    /// All of the protocol but the leases, in every order of its steps: nobody sleeps for ever, all
    /// results come, if nobody cancels, and those of each key in order.
    fn all_come(case: Case) {
        loom::model(move || with_crew(Pool::builder().build(), |crew| run(&case, crew)));
    }

    fn run(case: &Case, crew: &Crew) {
        let (keys, waits) = (case.keys, case.waits);
        let ear = Ear::new();
        let words = Arc::new(Words::new(&ear, None));
        let gate = Arc::new(Gate::default());
        let (f, key) = (
            {
                let gate = Arc::clone(&gate);
                move |item| {
                    if waits == Some(item) {
                        gate.wait();
                    }
                    item
                }
            },
            move |item: &usize| item % keys,
        );
        let mut board = Board::new(Some(Box::new(Intake::new(case.items.clone(), key))));
        board.threads = case.workers;
        board.can_grow = false;
        let shared = Arc::new(Shared {
            f,
            width: case.width,
            words: Arc::clone(&words),
            board: CachePadded::new(Mutex::new(board)),
            held: CachePadded::new(Held(AtomicUsize::new(0))),
            pace: CachePadded::new(Pace::new(case.width, Some(case.bound), 8)),
            crew: crew.clone(),
        });
        if case.tiny {
            shared.pace.observe(1, &mut [1.0; 4], None);
        }
        {
            let mut board = shared.board.lock();
            let mut intake = board.intake.take().expect("not started");
            for _ in 0..case.pulled {
                let admitted = shared.admit(&mut board, intake.pull());
                admitted.expect("an item");
            }
            board.intake = Some(intake);
        }
        let mut threads: Vec<_> = (0..case.workers)
            .map(|thread| {
                let shared = Arc::clone(&shared);
                loom::thread::spawn(move || shared.work(thread))
            })
            .collect();
        if case.cancelled {
            let words = Arc::clone(&words);
            threads.push(loom::thread::spawn(move || {
                words.halt(Cancelled::default())
            }));
        }
        let mut taker = Taker::new(shared, ear);
        let mut got = Vec::new();
        loop {
            match taker.take() {
                Found::Result(result) => {
                    let item = result.expect("no panic");
                    got.push(item);
                    if waits == Some(item + 1) {
                        gate.open();
                    }
                }
                Found::Nothing => assert!(taker.wait()),
                Found::Over => break,
            }
        }
        words.halt(Cancelled::default());
        for thread in threads {
            thread.join().expect("no panic");
        }
        assert!(got.len() == case.items.len() || case.cancelled);
        for of_key in 0..keys {
            let of_key = |item: &usize| item % keys == of_key;
            let all = case.items.clone().filter(of_key);
            assert!(
                all.zip(got.iter().copied().filter(of_key))
                    .all(|(a, b)| a == b)
            );
        }
    }

    /// One worker, one place: to sleep for room, to make room, to ring, to end.
    #[test]
    fn loom_keyed_room() {
        all_come(CASE);
    }

    /// Two workers that take turns in the source and at a place.
    #[test]
    fn loom_keyed_two_for_one_place() {
        all_come(Case {
            workers: 2,
            width: 2,
            ..CASE
        });
    }

    /// Ask / yield: who finds no room and sleeps is called, also if nobody looks again.
    #[test]
    fn loom_keyed_ask_and_yield() {
        loom::model(|| {
            let (held, parker) = (Arc::new(Held::default()), Parker::new());
            held.add();
            let consumer = loom::thread::spawn({
                let (held, worker) = (Arc::clone(&held), parker.unparker().clone());
                move || {
                    if held.sub(1).1 {
                        worker.unpark();
                    }
                }
            });
            if held.count() == 1 && !held.ask(1) {
                parker.park();
            }
            assert_eq!(held.count(), 0);
            consumer.join().expect("no panic");
        });
    }

    /// One of two workers runs, the other pulls or sleeps, although both may run.
    #[test]
    fn loom_keyed_one_key() {
        all_come(Case {
            workers: 2,
            width: 2,
            bound: 2,
            ..CASE
        });
    }

    #[test]
    fn loom_keyed_two_keys() {
        all_come(Case {
            workers: 2,
            width: 2,
            bound: 2,
            keys: 2,
            ..CASE
        });
    }

    /// Turns of several items, and trays.
    #[test]
    fn loom_keyed_trays() {
        all_come(Case {
            workers: 2,
            bound: 3,
            items: 0..3,
            tiny: true,
            ..CASE
        });
    }

    /// What is on a tray is taken although the worker is stuck.
    #[test]
    fn loom_keyed_tray_of_one_who_is_stuck() {
        all_come(Case {
            workers: 2,
            bound: 3,
            items: 0..3,
            tiny: true,
            waits: Some(2),
            ..CASE
        });
    }

    /// Stop / finish: the consumer may have all that is done from the tray before the worker is.
    #[test]
    fn loom_keyed_cancel_and_tray() {
        all_come(Case {
            bound: 2,
            pulled: 2,
            tiny: true,
            cancelled: true,
            ..CASE
        });
    }

    #[test]
    fn loom_keyed_cancel() {
        all_come(Case {
            bound: 2,
            cancelled: true,
            ..CASE
        });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::sync::Parker;

    type TestBoard = Board<(), u32, u32>;

    #[test]
    fn held_counts_beside_its_flag() {
        let held = Held::default();
        held.add();
        held.add();
        held.add();
        assert_eq!((held.count(), held.is_hungry()), (3, false));
        assert_eq!(held.sub(1), (2, false));
        assert!(!held.ask(2), "two are as many as may be");
        assert_eq!((held.count(), held.is_hungry()), (2, true));
        held.add();
        assert_eq!(held.sub(2), (1, true));
        held.answer();
        assert_eq!((held.count(), held.is_hungry()), (1, false));
        assert!(held.ask(2), "there is room");
        assert_eq!((held.count(), held.is_hungry()), (1, false));
    }

    #[test]
    fn a_lane_that_was_long_once_gives_its_memory_back() {
        let mut lane = Lane::new();
        let mut hand = VecDeque::new();
        lane.queue.extend(0..100_000_u32);
        lane.take(99_990, &mut hand);
        assert_eq!((lane.queue.len(), hand.len()), (10, 99_990));
        assert!(lane.queue.capacity() < 1000);
        hand.clear();
        lane.take(64, &mut hand);
        assert_eq!((lane.queue.len(), hand.len()), (0, 10));
        let before = lane.queue.capacity();
        lane.queue.extend(0..3);
        lane.take(64, &mut hand);
        assert_eq!(lane.queue.capacity(), before.max(3), "what is short stays");
    }

    #[test]
    fn the_bell_is_for_the_result_that_makes_enough() {
        let mut board = TestBoard::new(None);
        let results = |count: u32| (0..count).map(Ok).collect::<VecDeque<_>>();
        board.wanted = 3;
        assert!(!board.deliver(&mut results(2)));
        assert!(board.deliver(&mut results(2)));
        assert!(!board.deliver(&mut results(2)), "it has been rung");
        assert_eq!(board.done.len(), 6);
    }

    #[test]
    fn what_is_on_trays_is_taken_last() {
        let mut board = TestBoard::new(None);
        let tray = Tray::default();
        board.trays.push((1, Arc::clone(&tray)));
        assert!(!board.is_any_on_trays());
        tray.lock().push_back(Ok(2));
        assert!(board.is_any_on_trays());
        board.done.push_back(Ok(1));
        let mut taken = VecDeque::new();
        board.take_done(&mut taken);
        let taken: Vec<u32> = taken.into_iter().flatten().collect();
        assert_eq!(taken, [1, 2]);
        assert!(!board.is_any_on_trays());
    }

    #[test]
    fn a_lane_is_ready_once_and_what_was_not_started_comes_first() {
        let mut board = TestBoard::new(None);
        let mut hand = VecDeque::new();
        for item in 0..3 {
            board.admit(0, item);
        }
        board.admit(1, 10);
        assert_eq!(board.ready, [0, 1]);
        assert_eq!(board.start(2, &mut hand), Some(0));
        assert_eq!((hand.len(), board.running), (2, 1));
        board.admit(0, 3);
        assert_eq!(board.ready, [1], "it runs");
        hand.pop_front();
        board.finish(0, &mut hand);
        assert_eq!((&board.ready, board.running), (&VecDeque::from([1, 0]), 0));
        assert_eq!(board.lanes[0].queue, [1, 2, 3]);
        assert_eq!(board.start(2, &mut hand), Some(1));
        hand.clear();
        board.finish(1, &mut hand);
        assert_eq!((&board.idle[..], board.lanes[1].listed), (&[1][..], true));
        board.admit(1, 11);
        board.start(1, &mut hand);
        assert_eq!(board.start(9, &mut hand), Some(1));
        hand.clear();
        board.finish(1, &mut hand);
        assert_eq!(board.idle, [1], "listed once");
    }

    #[test]
    fn only_idle_lanes_are_forgotten_and_only_if_they_are_many() {
        let mut board = TestBoard::new(None);
        let (mut hand, mut forgotten) = (VecDeque::new(), Vec::new());
        for lane in 0..=KEPT {
            board.forget_idle(&mut forgotten);
            assert_eq!(forgotten, []);
            board.admit(lane, 0);
            board.start(1, &mut hand);
            hand.clear();
            board.finish(lane, &mut hand);
        }
        board.admit(3, 1);
        board.admit(5, 1);
        board.start(1, &mut hand);
        board.forget_idle(&mut forgotten);
        let expected = (0..=KEPT).filter(|lane| ![3, 5].contains(lane));
        assert_eq!(forgotten, expected.collect::<Vec<_>>());
        assert!(board.idle.is_empty() && !board.lanes[3].listed);
    }

    #[test]
    fn who_sleeps_is_called_before_another_is_leased() {
        let mut board = TestBoard::new(None);
        assert!(matches!(board.call(0), Wake::Nobody));
        assert!(!board.coming);
        assert!(matches!(board.call(2), Wake::Lease(1)));
        assert!(board.coming);
        assert!(matches!(board.call(2), Wake::Lease(2)));
        assert!(matches!(board.call(2), Wake::Nobody));
        board.threads -= 1;
        assert!(
            matches!(board.call(2), Wake::Lease(3)),
            "numbers are not used twice"
        );
        board.sleepers.push((1, Parker::new().unparker().clone()));
        board.coming = false;
        assert!(matches!(board.call(0), Wake::Unpark(_)));
        assert!(board.coming && board.sleepers.is_empty());
        (board.threads, board.can_grow) = (0, false);
        assert!(matches!(board.call(2), Wake::Nobody));
    }
}
