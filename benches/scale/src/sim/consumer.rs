//! The consumer: takes what is ready, naps or sleeps when nothing is (`src/ordered/cursor.rs` and
//! `consumer.rs`).

use super::{Event, Sim, State, ns};

/// Naps, in nanoseconds: the first, and the longest.
const NAP: u64 = 20_000;
/// Naps are doubled up to this.
const LONGEST_NAP: u64 = 1_000_000;
/// A sleep that is shorter than this, or this many results at once, mean that results flow.
const FLOW: u64 = 300_000;
/// As many results at once mean the same.
const BULK: u64 = 32;
/// So long it waits for the first result without a sleep, and so long it takes to look once.
const SPIN: u64 = 40_000;
/// It looks again after this time.
const GLANCE: u64 = 500;
/// After this time the kernel gives the core to the worker again, and takes that of another.
const SLICE: u64 = 3_000_000;

/// What it is doing. The event comes when it is done with that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    /// It goes for the next result.
    Looking,
    /// So many items of the head.
    Taking(u64),
    /// For a limited time.
    Napping,
    /// For the item `taken`.
    Asleep,
}

/// The consumer's own state.
#[derive(Debug)]
pub(super) struct Consumer {
    /// Events of another age were called off.
    pub(super) age: u64,
    /// What it is doing.
    doing: Doing,
    /// When its last nap or sleep began.
    since: u64,
    /// How long it has worked, without its waits for the scheduler's lock.
    pub(super) busy: u64,
    /// How many items it has taken, and the next one.
    pub(super) taken: u64,
    /// The first item of the chunk that it takes from.
    head: Option<u64>,
    /// How many it had taken when it last found nothing.
    waited_at: u64,
    /// Whether results flow, so that it naps instead of sleeping.
    flows: bool,
    /// How long its next nap will be.
    nap: u64,
    /// It has just come from a nap.
    after_nap: bool,
    /// It has announced its sleep, and looks once more.
    announced: bool,
}

impl Consumer {
    /// It looks for the first result.
    pub(super) fn new() -> Self {
        Consumer {
            age: 0,
            doing: Doing::Looking,
            since: 0,
            busy: 0,
            taken: 0,
            head: None,
            waited_at: 0,
            flows: false,
            nap: NAP,
            after_nap: false,
            announced: false,
        }
    }

    /// Whether it is on a core, or wants one.
    pub(super) fn is_awake(&self) -> bool {
        !matches!(self.doing, Doing::Napping | Doing::Asleep)
    }

    /// The item that it sleeps for.
    pub(super) fn waits_for(&self) -> Option<u64> {
        (self.doing == Doing::Asleep).then_some(self.taken)
    }
}

impl Sim {
    /// The consumer's next event, in place of what it waited for.
    fn consumer_at(&mut self, at: u64) {
        self.consumer.age += 1;
        let age = self.consumer.age;
        self.push(at, Event::Consumer(age));
    }

    /// The consumer looks for results at this time.
    pub(super) fn look_at(&mut self, at: u64) {
        self.consumer.doing = Doing::Looking;
        self.consumer_at(at);
    }

    /// Its current step is over.
    pub(super) fn consumer_step(&mut self) {
        match self.consumer.doing {
            Doing::Looking => self.look(),
            Doing::Taking(count) => self.took(count),
            Doing::Napping => {
                self.consumer.after_nap = true;
                self.wake_consumer();
            }
            Doing::Asleep => {
                self.consumer.flows = self.now - self.consumer.since < FLOW;
                self.wake_consumer();
            }
        }
    }

    /// It is awake, and on a core.
    fn wake_consumer(&mut self) {
        let time = ns(self.costs.nap);
        self.consumer.busy += time;
        self.take_core();
        self.look_at(self.now + time);
    }

    /// It leaves its core until `at`, or for an unknown time.
    fn rest(&mut self, doing: Doing, until: Option<u64>) {
        self.consumer.since = self.now;
        self.consumer.doing = doing;
        self.give_core_back();
        match until {
            Some(at) => self.consumer_at(at),
            None => self.consumer.age += 1,
        }
    }

    /// A worker without room ends the nap. Whether there was one.
    pub(super) fn end_nap(&mut self) -> bool {
        let naps = self.consumer.doing == Doing::Napping;
        if naps {
            self.consumer_at(self.now + ns(self.costs.wake));
        }
        naps
    }

    /// Takes what is ready of its head, or waits.
    fn look(&mut self) {
        let taken = self.consumer.taken;
        let ended = taken >= self.plant.items;
        let head = self.chunk_of(taken).copied();
        let ready = head.map_or(0, |head| self.published(&head) - (taken - head.first));
        if std::mem::take(&mut self.consumer.after_nap) {
            self.adjust_nap(ready > 0 || ended);
        }
        if ended {
            self.over = Some(self.now);
        } else if ready > 0 {
            // It came sooner than a sleep could begin.
            self.consumer.flows |= std::mem::take(&mut self.consumer.announced);
            let mut at = self.now;
            let first = head.map(|head| head.first);
            if self.consumer.head != first {
                // The last chunk goes back, and the next one comes, under the scheduler's lock.
                self.consumer.head = first;
                at = self.section(at, self.costs.section());
                self.consumer.busy += ns(self.costs.section());
            }
            self.consumer.doing = Doing::Taking(ready);
            let time = ns(self.costs.consume * ready as f64);
            self.consumer.busy += time;
            self.consumer_at(at + time);
        } else {
            self.wait();
        }
    }

    /// Naps grow as long as they pay, and shrink if a worker waits for room.
    fn adjust_nap(&mut self, pays: bool) {
        let it = &mut self.consumer;
        if pays && self.wake_at.is_none() {
            it.nap = (it.nap * 2).min(LONGEST_NAP);
        } else {
            it.flows = pays && it.nap > NAP;
            it.nap = (it.nap / 2).max(NAP);
        }
    }

    /// It has taken so many items.
    fn took(&mut self, count: u64) {
        self.consumer.taken += count;
        let taken = self.consumer.taken;
        let done = self.chunks.first_entry().filter(|chunk| {
            let chunk = chunk.get();
            chunk.state == State::Done && chunk.first + chunk.len <= taken
        });
        if let Some(done) = done {
            done.remove();
        }
        let mut at = self.now;
        if self.wake_at.is_some_and(|wake_at| wake_at <= taken) {
            at = self.grant_room();
        }
        if self.victim.is_some_and(|(_, since)| at - since > SLICE) {
            self.give_core_back();
            self.take_core();
        }
        self.look_at(at);
    }

    /// Wakes a worker that waits for room. Returns when that is done.
    fn grant_room(&mut self) -> u64 {
        self.wake_at = None;
        let at = self.section(self.now, self.costs.section());
        self.wake_one(at)
    }

    /// Nothing is ready.
    fn wait(&mut self) {
        let taken = self.consumer.taken;
        self.consumer.flows |= taken - self.consumer.waited_at >= BULK;
        self.consumer.waited_at = taken;
        if taken == 0 && self.now < SPIN {
            self.look_at(self.now + GLANCE);
        } else if self.consumer.flows && !self.consumer.announced {
            let late = ns(self.costs.late);
            let until = self.now + self.consumer.nap + late;
            let at = self.section(self.now, self.costs.section()); // looks after the source
            self.rest(Doing::Napping, Some(until.max(at)));
        } else if !self.consumer.announced {
            // It announces its sleep behind a heavy barrier, and looks once more.
            self.consumer.announced = true;
            let barrier = self.barrier();
            let mut at = self.section(self.now, self.costs.section() + barrier);
            if self.wake_at.take().is_some() {
                at = self.wake_one(at);
            }
            self.look_at(at);
        } else {
            self.consumer.announced = false;
            self.rest(Doing::Asleep, None);
            self.starve();
        }
    }

    /// The consumer has fallen asleep for an item that a worker runs or pulls.
    fn starve(&mut self) {
        let chunk = self.chunk_of(self.consumer.taken).copied();
        match chunk.map(|chunk| chunk.state) {
            Some(State::Running(owner, _)) => self.will_wake(owner),
            Some(State::Filling) => self.cut_pull(),
            _ => {}
        }
    }

    /// The worker runs the item for which the consumer sleeps, and will wake it.
    pub(super) fn will_wake(&mut self, owner: usize) {
        let Some(key) = self.workers[owner].chunk else {
            return;
        };
        let (chunk, waits_for) = (self.chunks[&key], self.consumer.waits_for());
        let within = chunk.first..chunk.first + chunk.len;
        let Some(seq) = waits_for.filter(|seq| within.contains(seq)) else {
            return;
        };
        let State::Running(_, origin) = chunk.state else {
            return;
        };
        let time = self.plant.work.time(chunk.first, seq + 1);
        let around = self.costs.around * (seq + 1 - chunk.first) as f64;
        let done = (origin + ns(time + around)).max(self.now);
        self.consumer_at(done + ns(self.costs.wake));
        self.hold_up(owner, ns(self.costs.unpark));
    }
}
