//! Who has a core, and how long what it does there takes.

use super::{Event, Sim, State, ns};

impl Sim {
    /// How many workers are on a core, or want one.
    pub(super) fn awake(&self) -> usize {
        self.workers.iter().filter(|w| w.is_awake()).count()
    }

    /// The consumer wakes up: it gets an idle core, or that of a worker.
    pub(super) fn take_core(&mut self) {
        if self.victim.is_some() || self.awake() < self.plant.cores {
            return;
        }
        let awake: Vec<usize> = (0..self.workers.len())
            .filter(|at| self.workers[*at].is_awake())
            .collect();
        let at = self.random(awake.len());
        self.displace(awake[at]);
    }

    /// The consumer gets the core of this worker.
    pub(super) fn displace(&mut self, worker: usize) {
        self.victim = Some((worker, self.now));
        let it = &mut self.workers[worker];
        it.stalled = Some(self.now);
        it.age += 1; // its event is called off
    }

    /// The worker that was displaced gets a core again.
    pub(super) fn give_core_back(&mut self) {
        let Some((worker, since)) = self.victim.take() else {
            return;
        };
        let lost = self.now - since + ns(self.costs.displaced);
        self.displaced += lost;
        self.workers[worker].stalled = None;
        self.hold_up(worker, lost);
        self.try_again(worker);
    }

    /// A worker goes on with its step so much later than it would have.
    pub(super) fn hold_up(&mut self, worker: usize, time: u64) {
        if let Some(key) = self.workers[worker].chunk {
            let chunk = self.chunks.get_mut(&key).expect("it runs the chunk");
            if let State::Running(_, origin) = &mut chunk.state {
                *origin += time;
            }
        }
        let due = self.workers[worker].due + time;
        self.schedule(worker, due);
    }

    /// The end of the worker's current step.
    pub(super) fn schedule(&mut self, worker: usize, at: u64) {
        let it = &mut self.workers[worker];
        it.due = at;
        it.age += 1;
        if it.stalled.is_none() {
            let age = it.age;
            self.push(at, Event::Worker(worker, age));
        }
    }
}
