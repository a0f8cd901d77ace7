//! The cost model of `src/runtime/cost.rs`, as far as a stage with default options uses it.

use super::{Change, Work};

/// How long a chunk should last, in nanoseconds.
const RUN: f64 = 400_000.0;
/// The bound covers so much work of all workers.
const AHEAD: f64 = 4_000_000.0;
/// A pull that is shorter than this is waited for.
const SHORT_PULL: f64 = 10_000.0;
/// The same with [`Change::short_pulls`].
const WAITED_FOR: f64 = 25_000.0;
/// No chunk is pulled for longer then.
const LONGEST_PULL: f64 = 20_000.0;
/// No chunk has more items.
const MAX_LEN: u64 = 1024;
/// The bound for each worker, at least.
const MIN_AHEAD: u64 = 16;
/// The bound for each worker, at most.
const MAX_AHEAD: u64 = 32_768;
/// The bound of a wide stage: 16 MiB of slots of 8 bytes.
const MAX_AHEAD_ITEMS: u64 = (16 << 20) / 8;
/// A chunk is timed in so many parts.
const PARTS: u64 = 4;

/// The running estimate of one stage.
#[derive(Clone, Copy, Debug)]
pub struct Estimate {
    /// Nanoseconds of an item in the closure; 0: unknown.
    work: f64,
    /// The same in the source.
    pull: f64,
    /// How long the next chunk may be.
    len: u64,
    /// How many workers.
    width: u64,
    /// How many items there will be.
    total: u64,
    /// What is otherwise than it was built.
    change: Change,
}

impl Estimate {
    /// Nothing is known yet.
    pub fn new(width: usize, total: u64, change: Change) -> Self {
        Estimate {
            work: 0.0,
            pull: 0.0,
            len: 1,
            width: width as u64,
            total,
            change,
        }
    }

    /// How long the next chunk may be: near the end no longer than a worker's share.
    pub fn len_at(&self, seq: u64) -> u64 {
        let left = self.total.saturating_sub(seq);
        self.len.min((left / self.width).max(1))
    }

    /// How many items may be in flight.
    pub fn bound(&self) -> u64 {
        let most = (MAX_AHEAD * self.width).clamp(2 * MAX_AHEAD, MAX_AHEAD_ITEMS);
        let least = (MIN_AHEAD * self.width).min(most);
        if self.work <= 0.0 {
            return least;
        }
        let ahead = AHEAD * self.width as f64 / (self.work + self.pull);
        (ahead as u64).clamp(least, most)
    }

    /// Whether a thread in the source will leave it within microseconds.
    pub fn is_pull_short(&self) -> bool {
        let short = if self.change.short_pulls {
            WAITED_FOR
        } else {
            SHORT_PULL
        };
        self.pull > 0.0 && self.pull * (self.len as f64) < short
    }

    /// The time of this many items in their closures, if it is known.
    pub fn time_of(&self, items: u64) -> Option<f64> {
        (self.work > 0.0).then_some(self.work * items as f64)
    }

    /// A chunk is done: its first item, its length, and that before a thief came. Of its four parts the second
    /// fastest counts.
    pub fn observe(
        &mut self,
        work: &Work,
        around: f64,
        (first, len, was): (u64, u64, u64),
        pull: Option<f64>,
    ) {
        let stride = was.max(1).div_ceil(PARTS);
        let mut parts = Vec::with_capacity(PARTS as usize);
        let mut from = 0;
        while from < len {
            let to = (from + stride).min(len);
            parts.push(work.time(first + from, first + to) / (to - from) as f64 + around);
            from = to;
        }
        parts.sort_by(f64::total_cmp);
        let Some(sample) = parts.get(usize::from(parts.len() > 2)) else {
            return;
        };
        let mut sample = sample.max(0.1);
        if (parts.len() as u64) < PARTS.min(was) && self.work > 0.0 {
            // The items that are left to a robbed owner are the slow ones.
            sample = sample.min(2.0 * self.work);
        }
        blend(&mut self.work, sample);
        if let Some(pull) = pull {
            blend(&mut self.pull, pull);
        }
        let mut wanted = (RUN / (self.work + self.pull)) as u64;
        if self.change.short_pulls && self.pull > 0.0 {
            wanted = wanted.min((LONGEST_PULL / self.pull) as u64);
        }
        self.len = wanted.clamp(1, MAX_LEN).min(2 * was.max(1));
    }
}

/// A quarter of the way to the sample; a much smaller one counts at once.
fn blend(average: &mut f64, sample: f64) {
    *average = if *average <= 0.0 || sample < *average / 2.0 {
        sample
    } else {
        *average + (sample - *average) / 4.0
    };
}
