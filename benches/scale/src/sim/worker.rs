//! A worker: pulls a chunk, runs it, and looks for more (`src/ordered/find.rs`, `puller.rs`, `execute.rs`).

use super::{Chunk, Sim, State, ns};

/// How often the clock is read for a chunk.
const READINGS: f64 = 8.0;
/// How often a worker tries to get into a source that is taken.
const TRIES: f64 = 200.0;
/// How long it would try with [`super::Change::short_pulls`].
const WAIT: f64 = 25_000.0;
/// Longer than any short pull.
const A_SECOND: f64 = 1e9;

/// What a worker is doing. The event comes when it is done with that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    /// It was called, and is on its way.
    Waking,
    /// It has got rid of its last chunk, and comes to the source.
    AtSource,
    /// It tries to get the source's lock; the event means that it gives up.
    Trying,
    /// It has found no room; the event means that it leaves the source.
    Refused,
    /// It pulls so many items, from a time on.
    Pulling(u64, u64),
    /// It hands the source over.
    Leaving,
    /// It looks for something to steal, as the source gave nothing.
    Searching(Refusal),
    /// It runs its chunk.
    Running,
    /// Until it is called.
    Asleep(Refusal),
    /// It has left the stage.
    Gone,
}

/// Why the source gave nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Another worker was in it.
    Taken,
    /// The bound was reached.
    NoRoom,
    /// It has no more items.
    Ended,
}

/// A worker's own state.
#[derive(Debug)]
pub(super) struct Worker {
    /// Events of another age were called off.
    pub(super) age: u64,
    /// When its current step ends.
    pub(super) due: u64,
    /// Since when the consumer has had its core.
    pub(super) stalled: Option<u64>,
    /// The chunk that it fills or runs.
    pub(super) chunk: Option<u64>,
    /// What it is doing.
    pub(super) doing: Doing,
    /// What an item of its last pull took. `None`: its chunk was stolen.
    pub(super) pull: Option<f64>,
    /// When its sleep, its way back from it, or its pull began.
    pub(super) since: u64,
    /// How many barriers have interrupted it, or have found it asleep.
    barriers: u64,
    /// How long it has slept for room.
    pub(super) no_room: u64,
    /// How long it has slept because the source was taken.
    pub(super) no_source: u64,
    /// How long it was on its way back from its sleeps.
    pub(super) waking: u64,
}

impl Worker {
    /// A worker that is about to be called.
    fn new() -> Self {
        Worker {
            age: 0,
            due: 0,
            stalled: None,
            chunk: None,
            doing: Doing::Asleep(Refusal::Ended),
            pull: None,
            since: 0,
            barriers: 0,
            no_room: 0,
            no_source: 0,
            waking: 0,
        }
    }

    /// Whether it is on a core, or wants one.
    pub(super) fn is_awake(&self) -> bool {
        !matches!(self.doing, Doing::Asleep(_) | Doing::Gone | Doing::Waking)
    }
}

impl Sim {
    /// Wakes the worker that fell asleep last, or leases a new one. Returns when the waker is done.
    pub(super) fn wake_one(&mut self, at: u64) -> u64 {
        let worker = match self.sleepers.pop() {
            Some(sleeper) => sleeper,
            None if self.workers.len() < self.plant.cores => {
                self.workers.push(Worker::new());
                self.workers.len() - 1
            }
            None => return at,
        };
        let it = &mut self.workers[worker];
        match it.doing {
            Doing::Asleep(Refusal::NoRoom) => it.no_room += at.saturating_sub(it.since),
            Doing::Asleep(Refusal::Taken) => it.no_source += at.saturating_sub(it.since),
            _ => {}
        }
        it.since = at;
        self.go(worker, Doing::Waking, at + ns(self.costs.wake));
        at + ns(self.costs.unpark)
    }

    /// Its next step, and when that will be over.
    pub(super) fn go(&mut self, worker: usize, doing: Doing, until: u64) {
        self.workers[worker].doing = doing;
        self.schedule(worker, until);
    }

    /// The worker's current step is over.
    pub(super) fn step(&mut self, me: usize) {
        match self.workers[me].doing {
            Doing::Waking => {
                let it = &mut self.workers[me];
                it.waking += self.now - it.since;
                it.barriers = self.barriers;
                let at = self.section(self.now, self.costs.section());
                self.go(me, Doing::AtSource, at);
                // The consumer is awake, and no core is free.
                if self.victim.is_none() && self.consumer.is_awake() && self.is_full() {
                    self.displace(me);
                }
            }
            Doing::AtSource => self.visit(me),
            Doing::Trying => {
                self.source.queue.retain(|other| *other != me);
                self.search(me, Refusal::Taken);
            }
            Doing::Refused => {
                self.release_source();
                self.search(me, Refusal::NoRoom);
            }
            Doing::Pulling(..) => self.pulled(me),
            Doing::Leaving => {
                let ended = self.source.next >= self.plant.items;
                let held = self.source.next - self.workers[me].chunk.expect("it pulled one");
                let more = held > 1 || (!ended && self.room() > 0);
                self.release_source();
                let at = if more {
                    self.wake_one(self.now)
                } else {
                    self.now
                };
                self.begin(me, at);
            }
            Doing::Searching(why) => self.steal(me, why),
            Doing::Running => self.ran(me),
            Doing::Asleep(_) | Doing::Gone => unreachable!("it has no event"),
        }
    }

    /// Whether the consumer and the workers that are awake need more cores than there are.
    fn is_full(&self) -> bool {
        self.awake() >= self.plant.cores
    }

    // ---- the source

    /// It goes into the source if it can.
    fn visit(&mut self, me: usize) {
        if self.source.next >= self.plant.items {
            self.search(me, Refusal::Ended);
        } else if self.source.holder.is_none() {
            self.source.holder = Some(me);
            self.source.since = self.now;
            self.enter(me, self.now);
        } else if self.estimate.is_pull_short() {
            // Each try wants the lock's line, and so does each try of the others.
            let others = self.source.queue.len() as f64;
            let patience = if self.plant.change.short_pulls {
                self.costs.tries.max(WAIT)
            } else {
                self.costs.tries
            };
            let time = if self.plant.change.queue {
                A_SECOND
            } else {
                patience + TRIES * self.costs.line * others
            };
            self.source.queue.push_back(me);
            self.go(me, Doing::Trying, self.now + ns(time));
        } else {
            self.search(me, Refusal::Taken);
        }
    }

    /// It has the source's lock.
    fn enter(&mut self, me: usize, at: u64) {
        let room = self.room();
        if self.source.next >= self.plant.items {
            self.go(me, Doing::Refused, at);
        } else if room == 0 {
            let time = self.ask_for_room();
            self.go(me, Doing::Refused, at + ns(time));
        } else {
            let first = self.source.next;
            let mut len = self.estimate.len_at(first).min(room);
            if self.consumer.waits_for().is_some_and(|seq| seq >= first) {
                len = 1; // a batch exists only while the consumer does not wait for it
            }
            let chunk = Chunk {
                first,
                len,
                was: len,
                state: State::Filling,
            };
            self.chunks.insert(first, chunk);
            self.workers[me].chunk = Some(first);
            self.workers[me].since = at;
            let begun = self.section(at, self.costs.section());
            let each = self.costs.pull + self.plant.source;
            self.source.sections += begun - at;
            let until = begun + ns(each * len as f64);
            self.go(me, Doing::Pulling(len, begun), until);
        }
    }

    /// The consumer sleeps for an item that the puller holds, so the puller stops at the next.
    pub(super) fn cut_pull(&mut self) {
        let Some(me) = self.source.holder else { return };
        let Doing::Pulling(len, begun) = self.workers[me].doing else {
            return;
        };
        let each = (self.costs.pull + self.plant.source).max(1e-3);
        let elapsed = self.now.saturating_sub(begun) as f64;
        let held = ((elapsed / each) as u64 + 1).min(len);
        let until = (begun + ns(each * held as f64)).max(self.now);
        self.go(me, Doing::Pulling(held, begun), until);
    }

    /// Its chunk is full.
    fn pulled(&mut self, me: usize) {
        let Doing::Pulling(len, begun) = self.workers[me].doing else {
            unreachable!("it pulls");
        };
        let key = self.workers[me].chunk.expect("it fills the chunk");
        let chunk = self.chunks.get_mut(&key).expect("it fills the chunk");
        (chunk.len, chunk.was) = (len, len);
        self.source.next += len;
        let since = self.workers[me].since;
        self.workers[me].pull = Some((self.now - since) as f64 / len as f64);
        let mut time = self.costs.section();
        let ended = self.source.next >= self.plant.items;
        if !ended && self.room() == 0 && !self.sleepers.is_empty() {
            time += self.ask_for_room();
        }
        let at = self.section(self.now, time);
        self.source.pulls += self.now - begun;
        self.source.sections += at - self.now;
        self.go(me, Doing::Leaving, at);
    }

    /// It has left the source, and the next one has it.
    fn release_source(&mut self) {
        self.source.busy += self.now - self.source.since;
        self.source.holder = None;
        // A worker whose core the consumer has does not try just now.
        let runs = |other: &usize| self.workers[*other].stalled.is_none();
        let Some(next) = self.source.queue.iter().position(runs) else {
            return;
        };
        let next = self.source.queue.remove(next).expect("it is there");
        // The lock's line goes from one worker that tries to the next, and the holder waits for it too.
        let others = if self.plant.change.queue {
            0
        } else {
            self.source.queue.len()
        };
        let waits = self.costs.line * (1 + others) as f64;
        self.source.holder = Some(next);
        self.source.since = self.now;
        self.source.hand_over += ns(waits);
        self.enter(next, self.now + ns(waits));
    }

    // ---- chunks

    /// It begins to run its chunk.
    pub(super) fn begin(&mut self, me: usize, at: u64) {
        let key = self.workers[me].chunk.expect("it has one");
        // What the heavy barriers of others have taken from it since it last came by.
        let interrupts =
            self.barriers - std::mem::replace(&mut self.workers[me].barriers, self.barriers);
        let interrupts = self.costs.interrupt * interrupts.min(4) as f64;
        let origin = at + ns(interrupts + READINGS * self.costs.clock);
        let chunk = self.chunks.get_mut(&key).expect("it is not taken");
        chunk.state = State::Running(me, origin);
        self.workers[me].doing = Doing::Running;
        self.reckon(me);
        self.will_wake(me);
    }

    /// When the chunk will be done.
    pub(super) fn reckon(&mut self, me: usize) {
        let chunk = self.chunks[&self.workers[me].chunk.expect("it runs one")];
        let State::Running(_, origin) = chunk.state else {
            unreachable!("it runs");
        };
        let time = self.plant.work.time(chunk.first, chunk.first + chunk.len);
        let until = origin + ns(time + self.costs.around * chunk.len as f64);
        self.schedule(me, until.max(self.now));
    }

    /// Its chunk is done.
    fn ran(&mut self, me: usize) {
        let key = self.workers[me].chunk.take().expect("it ran one");
        let chunk = self.chunks.get_mut(&key).expect("it is not taken");
        chunk.state = State::Done;
        let (first, len, was) = (chunk.first, chunk.len, chunk.was);
        if first + len <= self.consumer.taken {
            self.chunks.remove(&key);
        }
        let (work, pull) = (self.plant.work, self.workers[me].pull);
        self.estimate
            .observe(&work, self.costs.around, (first, len, was), pull);
        let at = self.section(self.now, self.costs.section());
        self.go(me, Doing::AtSource, at);
    }

    /// The core of a worker that tries to get into the source was taken from it, and is back.
    pub(super) fn try_again(&mut self, me: usize) {
        if self.workers[me].doing == Doing::Trying {
            self.source.queue.retain(|other| *other != me);
            self.go(me, Doing::AtSource, self.now);
        }
    }
}
