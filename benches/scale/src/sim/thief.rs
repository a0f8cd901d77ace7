//! A worker that the source gave nothing: it steals, or falls asleep (`src/ordered/find.rs` and `idle.rs`).

use super::worker::{Doing, Refusal};
use super::{Chunk, Sim, State, ns};

/// Less work than this is not stolen, in nanoseconds.
const WORTH_STEALING: f64 = 25_000.0;

impl Sim {
    /// Looks at the chunks of all workers.
    pub(super) fn search(&mut self, me: usize, why: Refusal) {
        let scan = self.costs.scan(self.workers.len());
        let at = self.look_for_prey(self.costs.section() + scan);
        self.go(me, Doing::Searching(why), at);
    }

    /// A section of the scheduler's lock for a worker that looks for something to steal.
    fn look_for_prey(&mut self, time: f64) -> u64 {
        self.thieves += ns(time);
        self.section(self.now, time)
    }

    /// The worker with the most items that it has not begun, and how many.
    fn richest(&self) -> Option<(u64, u64)> {
        let chunks = self.workers.iter().filter(|it| it.doing == Doing::Running);
        let chunks = chunks.filter_map(|it| self.chunks.get(&it.chunk?));
        let rests = chunks.map(|chunk| {
            let rest = chunk.len.saturating_sub(self.published(chunk) + 1);
            (rest, chunk.first)
        });
        rests.filter(|(rest, _)| *rest > 0).max()
    }

    /// Steals, sleeps, or leaves.
    pub(super) fn steal(&mut self, me: usize, why: Refusal) {
        let richest = self.richest().filter(|(rest, _)| {
            let time = self.estimate.time_of(*rest);
            time.is_none_or(|time| time >= WORTH_STEALING)
        });
        if let Some((rest, key)) = richest {
            let time = self.barrier();
            let mut at = self.look_for_prey(time);
            self.split(me, key, rest - rest / 2);
            self.steals += 1;
            if rest - rest / 2 > 1 {
                at = self.wake_one(at);
            }
            self.begin(me, at);
        } else if why == Refusal::Ended {
            self.workers[me].doing = Doing::Gone;
            self.wake_sleeper();
            self.leave_core();
        } else {
            self.idle(me, why);
        }
    }

    /// Makes the last items of a chunk a chunk of its own.
    fn split(&mut self, me: usize, key: u64, count: u64) {
        let chunk = self.chunks.get_mut(&key).expect("it runs");
        chunk.len -= count;
        let State::Running(owner, _) = chunk.state else {
            unreachable!("it runs");
        };
        let first = chunk.first + chunk.len;
        let stolen = Chunk {
            first,
            len: count,
            was: count,
            state: State::Filling,
        };
        self.chunks.insert(first, stolen);
        (self.workers[me].chunk, self.workers[me].pull) = (Some(first), None);
        self.reckon(owner);
    }

    /// The last look, and then the sleep.
    fn idle(&mut self, me: usize, why: Refusal) {
        let scan = self.costs.scan(self.workers.len());
        let at = self.look_for_prey(scan);
        let taken = self.consumer.taken;
        let again = match why {
            Refusal::Taken => self.source.holder.is_none(),
            Refusal::NoRoom => self.wake_at.is_none_or(|wake_at| wake_at <= taken),
            Refusal::Ended => false,
        };
        if again {
            return self.go(me, Doing::AtSource, at);
        }
        self.workers[me].doing = Doing::Asleep(why);
        self.workers[me].since = at;
        self.sleepers.push(me);
        self.leave_core();
    }

    /// One that sleeps may leave too.
    fn wake_sleeper(&mut self) {
        if !self.sleepers.is_empty() {
            self.wake_one(self.now);
        }
    }

    /// A core is free: it goes to the worker that was displaced.
    fn leave_core(&mut self) {
        if self.consumer.is_awake() {
            self.give_core_back();
        }
    }
}
