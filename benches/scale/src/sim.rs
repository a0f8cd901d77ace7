//! A discrete-event simulation of an ordered stage with default options: `n` workers on `n` cores, and the
//! consumer, which takes a core from a worker whenever it is awake.
//!
//! The clock is simulated, in nanoseconds, and the events are ordered by time and then by age, so a run
//! depends on nothing but its [`Plant`], its [`Costs`] and its seed. An event is the end of a step: a chunk
//! is pulled, run or taken as one step, and how many of its items are done in between is arithmetic.
//! `worker.rs` has the steps of a worker, `thief.rs` what it does without
//! the source, `consumer.rs` the steps of the consumer, and `cores.rs` who has which core.

mod consumer;
mod cores;
mod estimate;
#[cfg(test)]
mod tests;
mod thief;
mod work;
mod worker;

use crate::costs::Costs;
use consumer::Consumer;
use estimate::Estimate;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
pub use work::Work;
use worker::Worker;

/// What is simulated.
#[derive(Clone, Copy, Debug)]
pub struct Plant {
    /// Cores, and as many workers.
    pub cores: usize,
    /// What the items cost in their closures.
    pub work: Work,
    /// What the source costs for an item, beyond one that costs nothing.
    pub source: f64,
    /// How many there are.
    pub items: u64,
    /// What is otherwise than it was built.
    pub change: Change,
}

/// What if the engine were otherwise? By default it is as it was built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Workers that wait for the source stand in a queue, each at a line of its own, and do not give up.
    pub queue: bool,
    /// No chunk is pulled for longer than 20 µs, and a worker waits for a pull of up to 25 µs.
    pub short_pulls: bool,
}

impl Plant {
    /// How long the sequential loop takes, in nanoseconds.
    pub fn sequential(&self) -> f64 {
        self.work.time(0, self.items) + self.source * self.items as f64
    }
}

/// What came of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// Simulated nanoseconds.
    pub nanos: u64,
    /// The loop's time divided by that.
    pub speed_up: f64,
    /// The share of the time in which the source's lock was held, and the three parts of it:
    pub source: f64,
    /// pulls,
    pub pulls: f64,
    /// sections of the scheduler's lock, with the waits for it,
    pub sections: f64,
    /// and the lock's way from one worker to the next.
    pub hand_over: f64,
    /// The share in which the scheduler's lock was held.
    pub scheduler: f64,
    /// The share in which it was held by workers that looked for something to steal.
    pub thieves: f64,
    /// The share in which the consumer worked.
    pub consumer: f64,
    /// The share of the time of all workers in which they slept for room.
    pub no_room: f64,
    /// The same: they slept because the source was taken.
    pub no_source: f64,
    /// The same: they had been called, and did not run yet.
    pub waking: f64,
    /// The same: the consumer had their core.
    pub displaced: f64,
    /// How many chunks were split by thieves.
    pub steals: u64,
}

/// Simulates one run.
pub fn run(plant: &Plant, costs: &Costs, seed: u64) -> Outcome {
    let mut sim = Sim::new(*plant, *costs, seed);
    sim.start();
    while sim.over.is_none() {
        let Some(Reverse((at, _, event))) = sim.events.pop() else {
            unreachable!("everybody sleeps: {:?} {:?}", sim.consumer, sim.workers);
        };
        sim.now = at;
        match event {
            Event::Worker(worker, age) if sim.workers[worker].age == age => sim.step(worker),
            Event::Consumer(age) if sim.consumer.age == age => sim.consumer_step(),
            _ => {} // it was called off
        }
    }
    sim.outcome()
}

/// The end of a step. An event whose `age` is not that of its thread any more was called off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// Which worker, and its age.
    Worker(usize, u64),
    /// The consumer's age.
    Consumer(u64),
}

/// A lock that is held for short sections only. Whoever comes waits for all who came before.
#[derive(Debug, Default)]
struct ShortLock {
    /// When the last one that came will be done.
    free_at: u64,
    /// How long it was held.
    busy: u64,
}

/// After this long a thread that waits for a lock sleeps, in nanoseconds: 100 tries of `std::sync::Mutex`.
const LOCK_SPIN: u64 = 3_000;

/// The chunks that are not yet taken, by their first items.
#[derive(Clone, Copy, Debug)]
struct Chunk {
    /// The first item.
    first: u64,
    /// How many items it has.
    len: u64,
    /// The length before anything was stolen.
    was: u64,
    /// What happens to it.
    state: State,
}

/// A chunk is pulled, run, and then done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A worker pulls it.
    Filling,
    /// The owner, and when it would have begun if nothing had held it up since.
    Running(usize, u64),
    /// All its results are there.
    Done,
}

/// The source's lock, and the workers that try to get it.
#[derive(Debug, Default)]
struct Source {
    /// Who is in it.
    holder: Option<usize>,
    /// Since when.
    since: u64,
    /// How long its lock was held, and the three parts of that; see [`Outcome`].
    busy: u64,
    /// How long items were pulled.
    pulls: u64,
    /// How long the scheduler's lock was wanted or held meanwhile.
    sections: u64,
    /// How long its lock was on its way.
    hand_over: u64,
    /// Those that try, the first one first.
    queue: VecDeque<usize>,
    /// The next item.
    next: u64,
}

/// The state of a run.
struct Sim {
    /// What is simulated.
    plant: Plant,
    /// What that costs.
    costs: Costs,
    /// The simulated clock.
    now: u64,
    /// When the last item was taken.
    over: Option<u64>,
    /// What will happen: when, in which order at the same time, and what.
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    /// How many events there were.
    count: u64,
    /// The state of the random numbers.
    random: u64,
    /// The workers that have been leased.
    workers: Vec<Worker>,
    /// Those that sleep; the last one is called first.
    sleepers: Vec<usize>,
    /// The consumer.
    consumer: Consumer,
    /// The chunks that have not been taken, by their first items.
    chunks: BTreeMap<u64, Chunk>,
    /// The source.
    source: Source,
    /// The scheduler's lock.
    scheduler: ShortLock,
    /// What an item costs, as far as the stage knows.
    estimate: Estimate,
    /// The count of taken items at which a worker that waits for room is to be woken.
    wake_at: Option<u64>,
    /// The worker whose core the consumer has, and since when.
    victim: Option<(usize, u64)>,
    /// How long workers had to wait for their cores.
    displaced: u64,
    /// How many heavy barriers there were.
    barriers: u64,
    /// How many of them were for steals.
    steals: u64,
    /// How long the scheduler's lock was held by workers that looked for something to steal.
    thieves: u64,
}

/// Rounds a time.
fn ns(time: f64) -> u64 {
    time.round() as u64
}

impl Sim {
    /// Nothing has happened yet.
    fn new(plant: Plant, costs: Costs, seed: u64) -> Self {
        Sim {
            plant,
            costs,
            now: 0,
            over: None,
            events: BinaryHeap::new(),
            count: 0,
            random: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
            workers: Vec::new(),
            sleepers: Vec::new(),
            consumer: Consumer::new(),
            chunks: BTreeMap::new(),
            source: Source::default(),
            scheduler: ShortLock::default(),
            estimate: Estimate::new(plant.cores, plant.items, plant.change),
            wake_at: None,
            victim: None,
            displaced: 0,
            barriers: 0,
            steals: 0,
            thieves: 0,
        }
    }

    /// The consumer leases the first worker; each worker leases the next.
    fn start(&mut self) {
        self.wake_one(0);
        self.look_at(0);
    }

    /// What came of it.
    fn outcome(&self) -> Outcome {
        let nanos = self.now.max(1);
        let all = nanos as f64;
        let workers = all * self.plant.cores as f64;
        let of = |time: fn(&Worker) -> u64| self.workers.iter().map(time).sum::<u64>() as f64;
        Outcome {
            nanos,
            speed_up: self.plant.sequential() / all,
            source: self.source.busy as f64 / all,
            pulls: self.source.pulls as f64 / all,
            sections: self.source.sections as f64 / all,
            hand_over: self.source.hand_over as f64 / all,
            scheduler: self.scheduler.busy as f64 / all,
            thieves: self.thieves as f64 / all,
            consumer: self.consumer.busy as f64 / all,
            no_room: of(|worker| worker.no_room) / workers,
            no_source: of(|worker| worker.no_source) / workers,
            waking: of(|worker| worker.waking) / workers,
            displaced: self.displaced as f64 / workers,
            steals: self.steals,
        }
    }

    /// Something will happen.
    fn push(&mut self, at: u64, event: Event) {
        self.count += 1;
        self.events.push(Reverse((at, self.count, event)));
    }

    /// A number below this.
    fn random(&mut self, below: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random % below as u64) as usize
    }

    /// A section of the scheduler's lock of this length, for a thread that wants it at `at`: when it is over.
    /// The lock goes on meanwhile to others if this thread has to sleep.
    fn section(&mut self, at: u64, time: f64) -> u64 {
        let time = ns(time);
        let begin = self.scheduler.free_at.max(at);
        self.scheduler.free_at = begin + time;
        self.scheduler.busy += time;
        let slept = begin - at > LOCK_SPIN;
        begin + time + if slept { ns(self.costs.wake) } else { 0 }
    }

    /// A heavy barrier: its time. All workers that run are interrupted, which they notice at their next step.
    fn barrier(&mut self) -> f64 {
        self.barriers += 1;
        self.costs.heavy(self.awake())
    }

    /// How many items may still be pulled.
    fn room(&self) -> u64 {
        let in_flight = self.source.next - self.consumer.taken;
        self.estimate.bound().saturating_sub(in_flight)
    }

    /// Asks the consumer for a wake-up when half the bound is free, and ends its nap. Returns what that costs.
    fn ask_for_room(&mut self) -> f64 {
        let bound = self.estimate.bound();
        let wake_at = (self.source.next + (bound / 2).max(1)).saturating_sub(bound);
        self.wake_at = Some(wake_at);
        let barrier = self.barrier();
        let unpark = if self.end_nap() {
            self.costs.unpark
        } else {
            0.0
        };
        barrier + unpark
    }

    /// How many items of a chunk are published now.
    fn published(&self, chunk: &Chunk) -> u64 {
        match chunk.state {
            State::Filling => 0,
            State::Done => chunk.len,
            State::Running(owner, origin) => {
                let at = self.workers[owner].stalled.unwrap_or(self.now);
                let elapsed = at.saturating_sub(origin) as f64;
                let (first, end) = (chunk.first, chunk.first + chunk.len);
                self.plant.work.done(first, end, elapsed, self.costs.around)
            }
        }
    }

    /// The chunk that holds an item.
    fn chunk_of(&self, seq: u64) -> Option<&Chunk> {
        let (_, chunk) = self.chunks.range(..=seq).next_back()?;
        (seq < chunk.first + chunk.len).then_some(chunk)
    }
}
