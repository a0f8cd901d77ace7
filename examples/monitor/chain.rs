//! What the stages of a pipeline have done lately.

use fanfold::StageStats;
use fanfold::stats::{Bottleneck, Interval, Snapshot};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// For how long snapshots are kept.
const KEPT: Duration = Duration::from_secs(10);

/// The stages, and what they had done at some earlier times.
pub(crate) struct Chain {
    stages: Vec<StageStats>,
    start: Vec<Snapshot>,
    past: VecDeque<(Instant, Vec<Snapshot>)>,
}

/// What the stages did in an interval.
pub(crate) struct View {
    /// From the start of the first stage.
    pub(crate) elapsed: Duration,
    pub(crate) stages: Vec<Interval>,
    /// Which stage limits the others, or, if it is the number of stages, the consumer of the last one; and why.
    pub(crate) limit: (usize, Bottleneck),
}

impl Chain {
    /// Of stages that feed one another, the first one first.
    pub(crate) fn new(stages: Vec<StageStats>) -> Self {
        let start = snapshots(&stages);
        Chain {
            past: VecDeque::from([(Instant::now(), start.clone())]),
            start,
            stages,
        }
    }

    /// What the stages have done in the shortest time in which it can be told what limits them, and at most since the
    /// oldest snapshot.
    pub(crate) fn lately(&mut self) -> View {
        let (time, now) = (Instant::now(), snapshots(&self.stages));
        while self.past.len() > 1 && time - self.past[0].0 > KEPT {
            self.past.pop_front();
        }
        let oldest = self.past.front().map_or(&self.start, |(_, before)| before);
        let mut views = self
            .past
            .iter()
            .rev()
            .map(|(_, before)| View::between(before, &now));
        let clear = views.find(View::is_clear);
        let view = clear.unwrap_or_else(|| View::between(oldest, &now));
        self.past.push_back((time, now));
        view
    }

    /// What they have done from the start to now.
    pub(crate) fn altogether(&self) -> View {
        View::between(&self.start, &snapshots(&self.stages))
    }
}

impl View {
    fn between(before: &[Snapshot], now: &[Snapshot]) -> Self {
        let stages: Vec<_> = now
            .iter()
            .zip(before)
            .map(|(now, before)| now.since(before))
            .collect();
        View {
            elapsed: now[0].elapsed,
            limit: limit(&stages),
            stages,
        }
    }

    /// The interval was long enough, for every stage.
    fn is_clear(&self) -> bool {
        let mut verdicts = self.stages.iter().map(Interval::bottleneck);
        verdicts.all(|verdict| verdict != Bottleneck::Unknown)
    }
}

/// A stage that its consumer limits waits for the next stage. So the first other one is what limits the chain, as in
/// [`fanfold::stats::table`].
fn limit(stages: &[Interval]) -> (usize, Bottleneck) {
    let mut limit = (0, Bottleneck::Unknown);
    for (place, stage) in stages.iter().enumerate() {
        limit = (place, stage.bottleneck());
        if !matches!(limit.1, Bottleneck::Consumer { .. }) {
            return limit;
        }
    }
    (stages.len(), limit.1)
}

fn snapshots(stages: &[StageStats]) -> Vec<Snapshot> {
    stages.iter().map(StageStats::snapshot).collect()
}
