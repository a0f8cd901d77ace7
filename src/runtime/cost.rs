//! What an item costs, and what follows from it: how long a chunk may be, and how far a stage may pull ahead
//! if its user names no bound.
//!
//! A chunk should last about [`RUN`]: long enough that its lock, its wake-ups and its clock readings do not
//! matter, short enough that no thread waits long for it. Its length starts at one item, because work of
//! unknown cost is spread item by item, and at most doubles from chunk to chunk.
//!
//! The estimate must not be fooled by a rare item of a thousand times the usual cost, nor by a worker that
//! was preempted in the middle of a chunk. So a chunk is timed in up to four parts, and the second smallest
//! of their averages counts: one bad part in four changes nothing. If a thief has shortened the chunk, the
//! part that is left is biased towards slow items, so its average is capped at twice the current estimate.

use crate::sync::fixed::OnceLock;
use crate::sync::{AtomicU32, AtomicUsize, Instant, Ordering};
use std::time::Duration;

/// How long a chunk should last.
const RUN: Duration = Duration::from_micros(400);
/// A pull that is shorter than this is waited for: a sleep takes some 25 µs more than that, until the thread is
/// awake again, and costs the thread that wakes it 8 µs.
const SHORT_PULL: Duration = Duration::from_micros(25);
/// So where items come quickly, a pull takes no longer than this, whatever the closures take.
const PULL: Duration = Duration::from_micros(20);
/// How much work of all workers together the default bound covers.
const AHEAD: Duration = Duration::from_millis(4);
/// No chunk is longer than this, in items and in bytes of slots.
const MAX_LEN: usize = 1024;
const MAX_BYTES: usize = 64 * 1024;
/// The default bound is at least and at most this many items per worker. In a wide stage it is at most what
/// fits into these bytes, but never less than the share of two workers. It grows with the width because the
/// results would otherwise run into it while the consumer naps.
const MIN_AHEAD: usize = 16;
const MAX_AHEAD: usize = 32_768;
const MAX_AHEAD_BYTES: usize = 16 << 20;

/// In nanoseconds per item. Work that costs less than `TINY` is not worth a second thread, and work that
/// costs `PAYS` times as much is. In between, a stage stays as it is.
const TINY: f32 = 40.0;
const PAYS: f32 = 1.5;
/// In nanoseconds. If all items within the named bound together cost less than this, the consumer runs them
/// itself: what one thread hands to another costs as much. Measured on two cores, the consumer being one of
/// them (`ordered/head.rs`), to the loop: 1.1 at 16 µs, 1.4 at 20 µs, 1.5 at 40 µs.
const TINY_BOUND: f32 = 16_000.0;
/// In nanoseconds; see [`CostModel::is_bound_short`]. Measured on two cores with threads that sleep, and with the
/// consumer as one of them, to the loop: 1.3 and 1.9 at 0.4 ms, 1.5 and 1.8 at 1.6 ms.
const SHORT_BOUND: f32 = 16_000_000.0;
/// In nanoseconds. The same without an order, where the consumer may run nothing: then one worker runs all items
/// (`ordered/one_worker.rs`). Measured like this, with all workers asleep and with one that is awake: 0.05 and 0.5
/// at 3 µs, 0.6 and 0.9 at 64 µs, 0.6 to 1.1 and 0.9 at 90 µs.
const ONE_WORKER: f32 = 100_000.0;
/// Not with so many items, of which the threads take many at once: 0.9 and 0.7 at 1,024 items of 100 ns.
const MANY: usize = 512;
/// What has been said of a bound holds up to so many times the limit.
const HOLD: f32 = 1.5;
/// Nobody waits without sleep for an item that takes longer, in nanoseconds.
const LONG: f32 = 200_000.0;
/// Where no two items run at once, the consumer runs all of them if those within the bound take less than this,
/// in nanoseconds.
const NARROW: f32 = 1_000_000.0;
/// How many tiny items in a row are believed. Fewer if the bound is smaller, as the threads wake one another
/// for each of them until then.
const EVIDENCE: usize = 64;
const LEAST_EVIDENCE: usize = 8;
/// If a few items cost more than this together, and each of them is worth a second thread, the work clearly
/// pays.
const CLEAR: f32 = 25_000.0;

/// The first [`Backoff`]. It is doubled, up to the longest, if one soon follows another.
const PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(256);

/// Into how many parts a chunk is divided for timing.
pub(crate) const PARTS: usize = 4;

/// In nanoseconds. Times of some centuries and more become the largest value.
pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The running estimate of one stage. All loads and stores are `Relaxed`: workers may overwrite one another's
/// results, and the next chunk brings newer ones.
#[derive(Debug)]
pub(crate) struct CostModel {
    /// Nanoseconds per item in the closure, as the bits of an `f32`; 0: unknown.
    work: AtomicU32,
    /// The same for the time that a pull from the source takes.
    pull: AtomicU32,
    /// How long the next chunk may be.
    len: AtomicUsize,
    /// How many items in a row were tiny.
    tiny: AtomicUsize,
    /// In nanoseconds. An item that costs less is tiny.
    tiny_below: f32,
    /// So many of them are believed.
    evidence: usize,
    /// How long it may be at most.
    max_len: AtomicUsize,
    /// The same if one worker runs all items: half of the bound, so that it pulls the second half while the consumer
    /// takes the first.
    len_for_one: usize,
    max_ahead: AtomicUsize,
    /// May change while the stage runs, and with it the two above.
    width: AtomicUsize,
    named_bound: Option<usize>,
    slot_bytes: usize,
    one_by_one: bool,
    /// How many items the source says it has.
    total: Option<u64>,
    /// What it takes to [read the clock](clock).
    clock: f32,
}

impl CostModel {
    pub(crate) fn new(width: usize, named_bound: Option<usize>, slot_bytes: usize) -> Self {
        // Where no two items run at once, threads only gain what the consumer does meanwhile. If that is much,
        // it is noticed (`ordered/inline.rs`).
        let is_narrow = width == 1 || named_bound == Some(1);
        let small = if is_narrow { NARROW } else { TINY_BOUND };
        let model = CostModel {
            work: AtomicU32::new(0),
            pull: AtomicU32::new(0),
            len: AtomicUsize::new(1),
            tiny: AtomicUsize::new(0),
            tiny_below: named_bound.map_or(TINY, |bound| TINY.max(small / bound as f32)),
            evidence: named_bound.map_or(EVIDENCE, |bound| bound.clamp(LEAST_EVIDENCE, EVIDENCE)),
            max_ahead: AtomicUsize::new(0),
            max_len: AtomicUsize::new(0),
            len_for_one: longest(slot_bytes, named_bound, 2),
            width: AtomicUsize::new(0),
            named_bound,
            slot_bytes: slot_bytes.max(1),
            one_by_one: false,
            total: None,
            clock: clock(),
        };
        model.resize(width);
        model
    }

    /// The stage is so wide from now on. The default bound follows at once, and a bound of the user's stays.
    pub(crate) fn resize(&self, width: usize) {
        let ahead = MAX_AHEAD
            .saturating_mul(width)
            .min(MAX_AHEAD_BYTES / self.slot_bytes)
            .max(2 * MAX_AHEAD);
        let longest = if self.one_by_one {
            1
        } else {
            longest(self.slot_bytes, self.named_bound, width.saturating_mul(2))
        };
        self.width.store(width, Ordering::Relaxed);
        self.max_ahead.store(ahead, Ordering::Relaxed);
        self.max_len.store(longest, Ordering::Relaxed);
        self.len.fetch_min(longest, Ordering::Relaxed);
    }

    /// How wide the stage is.
    pub(crate) fn width(&self) -> usize {
        self.width.load(Ordering::Relaxed)
    }

    /// How many items are expected. If that is wrong, chunks only have slightly different lengths.
    pub(crate) fn expecting(mut self, total: Option<usize>) -> Self {
        self.total = total.map(|total| total as u64);
        self
    }

    /// Makes every chunk one item long: no other thread could take over what a puller holds.
    pub(crate) fn one_by_one(mut self) -> Self {
        self.one_by_one = true;
        self.max_len = AtomicUsize::new(1);
        self.len_for_one = 1;
        self
    }

    /// How many items the next chunk may have.
    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// The same for a chunk that begins at `seq`. Near the end, if that is known, a worker gets no more than
    /// its share of what is left (guided self-scheduling, Polychronopoulos and Kuck 1987), so that no worker
    /// is left alone with a long chunk.
    pub(crate) fn len_at(&self, seq: u64) -> usize {
        match self.total.map_or(0, |total| total.saturating_sub(seq)) {
            0 => self.len(),
            left => self.len().min((left / self.width() as u64).max(1) as usize),
        }
    }

    /// Whether a thread that is in the source will leave it within microseconds, as far as is known.
    pub(crate) fn is_pull_short(&self) -> bool {
        let pull = f32::from_bits(self.pull.load(Ordering::Relaxed));
        pull > 0.0 && pull * (self.len() as f32) < SHORT_PULL.as_nanos() as f32
    }

    /// How many items may be in flight now.
    #[inline]
    pub(crate) fn bound(&self) -> u64 {
        if let Some(bound) = self.named_bound {
            return bound as u64;
        }
        let (width, most) = (self.width(), self.max_ahead.load(Ordering::Relaxed));
        let least = width.saturating_mul(MIN_AHEAD).min(most);
        let bound = match self.item() {
            Some(item) => {
                let ahead = AHEAD.as_nanos() as f32 * width as f32 / item;
                (ahead as usize).clamp(least, most)
            }
            None => least,
        };
        bound as u64
    }

    /// For how much room a worker is woken: not for every item. If the user has named a bound, half a chunk,
    /// so that the bound is used fully. Otherwise half of the bound, so that a stage before a slower one
    /// sleeps and works in long stretches.
    #[inline]
    pub(crate) fn worth_waking(&self) -> u64 {
        let bound = self.bound();
        let worth = match self.named_bound {
            Some(_) => (self.len() as u64).min(bound) / 2,
            None => bound / 2,
        };
        worth.max(1)
    }

    /// The estimated time of this many items in their closures. `None`: unknown.
    #[inline]
    pub(crate) fn estimate(&self, items: usize) -> Option<Duration> {
        let work = f32::from_bits(self.work.load(Ordering::Relaxed));
        (work > 0.0).then(|| Duration::from_nanos((work * items as f32) as u64))
    }

    /// What an item takes in its closure and in the source, in nanoseconds. `None`: unknown.
    #[inline]
    pub(crate) fn times(&self) -> Option<(f32, f32)> {
        let work = f32::from_bits(self.work.load(Ordering::Relaxed));
        let pull = f32::from_bits(self.pull.load(Ordering::Relaxed));
        (work > 0.0).then_some((work, pull))
    }

    /// Whether a second thread does not pay, as far as is known.
    pub(crate) fn is_tiny(&self) -> bool {
        self.tiny.load(Ordering::Relaxed) >= self.evidence
    }

    /// Whether all items within the named bound take so short together that the threads would sleep, and wake one
    /// another, for every few items. `so_far`: what was said last, so that it does not change back and forth.
    pub(crate) fn is_bound_short(&self, so_far: bool) -> bool {
        self.is_bound_below(SHORT_BOUND, so_far)
    }

    /// Without an order: whether they take so short that one worker does better than all of them.
    pub(crate) fn is_for_one_worker(&self, so_far: bool) -> bool {
        self.named_bound.is_some_and(|bound| bound < MANY)
            && self.is_bound_below(ONE_WORKER, so_far)
    }

    /// How many items a worker pulls at once if it runs all.
    pub(crate) fn len_for_one_worker(&self) -> usize {
        self.len_for_one
    }

    fn is_bound_below(&self, limit: f32, so_far: bool) -> bool {
        let limit = if so_far { HOLD * limit } else { limit };
        let all = self.named_bound.zip(self.item());
        all.is_some_and(|(bound, item)| bound as f32 * item < limit && item < LONG)
    }

    /// Whether work of which this many items took this long may be worth a second thread.
    pub(crate) fn may_pay(&self, items: u64, time: Duration) -> bool {
        time.as_nanos() as f32 >= self.pays_from() * items as f32
    }

    /// What an item costs at least that is worth a second thread, in nanoseconds.
    fn pays_from(&self) -> f32 {
        PAYS * self.tiny_below
    }

    /// An empty list of samples of this stage's items.
    pub(crate) fn samples(&self) -> Samples {
        Samples {
            nanos: [0.0; 8],
            len: 0,
            pays_from: self.pays_from(),
        }
    }

    /// Forgets what items cost.
    pub(crate) fn restart(&self) {
        self.tiny.store(0, Ordering::Relaxed);
        self.work.store(0, Ordering::Relaxed);
        self.len.store(1, Ordering::Relaxed);
    }

    #[inline]
    fn item(&self) -> Option<f32> {
        self.times().map(|(work, pull)| work + pull)
    }

    /// Includes the times of a finished chunk of `len` items: its parts, each as an average per item, and the
    /// average time that an item took in the source.
    pub(crate) fn observe(&self, len: usize, parts: &mut [f32], pull: Option<f32>) {
        parts.sort_unstable_by(f32::total_cmp);
        // The second smallest, or the smallest of one or two.
        let Some(&sample) = parts.get(usize::from(parts.len() > 2)) else {
            return;
        };
        // Each part includes one reading of the clock, which is most of its time if the part has few items.
        let read = self.clock * PARTS as f32 / len.max(PARTS) as f32;
        let mut sample = (sample - read).max(0.1);
        // One item that is not tiny ends the row: then other threads may be worth their cost.
        let tiny = if sample < self.tiny_below {
            self.tiny.load(Ordering::Relaxed).saturating_add(len)
        } else {
            0
        };
        self.tiny.store(tiny, Ordering::Relaxed);
        let known = f32::from_bits(self.work.load(Ordering::Relaxed));
        if parts.len() < PARTS.min(len) && known > 0.0 {
            // Thieves have taken the rest, so this is the time of the item that held up the chunk.
            sample = sample.min(2.0 * known);
        }
        blend(&self.work, sample);
        if let Some(pull) = pull {
            blend(&self.pull, pull);
        }
        if let Some((work, pull)) = self.times() {
            // Towards the length that lasts `RUN`, but at most twice as far as this chunk was measured.
            let mut wanted = (RUN.as_nanos() as f32 / (work + pull)) as usize;
            let by_pull = (PULL.as_nanos() as f32 / pull) as usize;
            // With one item at most in that time, the threads would only sleep more often.
            if by_pull > 1 {
                wanted = wanted.min(by_pull);
            }
            // A chunk that was robbed says nothing about longer ones.
            let known = (2 * len.max(1)).max(self.len());
            let next = wanted
                .clamp(1, self.max_len.load(Ordering::Relaxed))
                .min(known);
            self.len.store(next, Ordering::Relaxed);
        }
    }
}

/// The times of single items, for a consumer that runs them one by one.
#[derive(Debug)]
pub(crate) struct Samples {
    nanos: [f32; 8],
    len: usize,
    /// An item that costs so many nanoseconds is worth a second thread.
    pays_from: f32,
}

impl Samples {
    /// Adds what one item took, by the clock.
    pub(crate) fn add(&mut self, time: Duration) {
        // Without the reading itself, which takes about as long as such an item.
        if let Some(place) = self.nanos.get_mut(self.len) {
            *place = (time.as_nanos() as f32 - clock()).max(0.0);
            self.len += 1;
        }
    }

    /// Whether the work pays. `None`: not known yet. Half of the samples decide, so that one rare long item
    /// does not; or the first few, if they are clear.
    pub(crate) fn pays(&self) -> Option<bool> {
        let all = &self.nanos[..self.len];
        let dear = all.iter().filter(|nanos| **nanos >= self.pays_from).count();
        if 2 * dear >= self.nanos.len() || (dear == self.len && all.iter().sum::<f32>() > CLEAR) {
            Some(true)
        } else {
            (self.len == self.nanos.len()).then_some(false)
        }
    }
}

/// How long to leave something alone that was tried and did not last.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    until: Option<Instant>,
    next: Duration,
    is_final: bool,
}

impl Backoff {
    pub(crate) const NONE: Backoff = Backoff {
        until: None,
        next: PAUSE,
        is_final: false,
    };

    pub(crate) fn is_over(&self) -> bool {
        !self.is_final && self.until.is_none_or(|until| Instant::now() >= until)
    }

    /// Never try it again.
    pub(crate) fn forever(&mut self) {
        self.is_final = true;
    }

    /// Whether it is never tried again.
    pub(crate) fn is_forever(&self) -> bool {
        self.is_final
    }

    pub(crate) fn begin(&mut self) {
        let now = Instant::now();
        // If it has lasted long since the last pause, the pauses start anew.
        let long_ago = self.until.is_none_or(|until| now > until + 8 * self.next);
        self.next = if long_ago {
            PAUSE
        } else {
            (2 * self.next).min(LONGEST_PAUSE)
        };
        self.until = Some(now + self.next);
    }
}

/// How long a chunk may be, if `shares` of them are to fit into the bound: one must not use up a small one.
fn longest(slot_bytes: usize, named_bound: Option<usize>, shares: usize) -> usize {
    let longest = MAX_LEN.min(MAX_BYTES / slot_bytes.max(1));
    let longest = named_bound.map_or(longest, |bound| longest.min(bound / shares));
    longest.max(1)
}

/// The time that it takes to read the clock, in nanoseconds: the shortest of several.
fn clock() -> f32 {
    static NANOS: OnceLock<f32> = OnceLock::new();
    *NANOS.get_or_init(|| {
        let pairs = (0..32).map(|_| Instant::now().elapsed().as_nanos() as f32);
        pairs.fold(f32::MAX, f32::min)
    })
}

/// Moves an average a quarter of the way to a new sample. A much smaller sample counts at once, because only
/// real speed makes a sample small.
fn blend(average: &AtomicU32, sample: f32) {
    let old = f32::from_bits(average.load(Ordering::Relaxed));
    let new = if old <= 0.0 || sample < old / 2.0 {
        sample
    } else {
        old + (sample - old) / 4.0
    };
    average.store(new.to_bits(), Ordering::Relaxed);
}

#[cfg(all(test, not(loom)))]
mod tests;
