//! What an item costs, and what follows from it: how long a run may be and how far a stage may
//! pull ahead when its user names no bound.
//!
//! A run should last about [`RUN`]: long enough that its lock, its wake-ups and its clock readings
//! vanish, short enough that nobody waits for it. Its length starts at one item (work of unknown
//! cost is fanned out item by item) and at most doubles from run to run.
//!
//! The estimate must not be fooled by the odd item of a thousand times the usual cost, nor by a
//! worker that was preempted in mid-run: a run is timed in up to four parts, and the second
//! smallest of their averages counts, so that one bad part in four changes nothing. Of a run that was
//! cut short by a thief, the part that is left is the bad one: it counts for twice what is known at most.

use crate::sync::fixed::OnceLock;
use crate::sync::{AtomicU32, AtomicUsize, Instant, Ordering};
use std::time::Duration;

/// How long a run should last.
const RUN: Duration = Duration::from_micros(400);
/// A pull as short as this is waited for.
const SHORT_PULL: Duration = Duration::from_micros(10);
/// How much work of all workers the default bound covers.
const AHEAD: Duration = Duration::from_millis(4);
/// No run is longer than this, in items and in bytes of slots.
const MAX_LEN: usize = 1024;
const MAX_BYTES: usize = 64 * 1024;
/// The default bound is at least so many items a worker, and at most so many; of wide stages as many as
/// fit into so many bytes, or their results would run into it while the consumer naps.
const MIN_AHEAD: usize = 16;
const MAX_AHEAD: usize = 32_768;
const MAX_AHEAD_BYTES: usize = 16 << 20;

/// Work that costs less than this many nanoseconds an item is not worth a second thread, and work that
/// costs more than that is. In between a stage stays as it is.
const TINY: f32 = 40.0;
const PAYS: f32 = 60.0;
/// So many tiny items in a row are believed.
const EVIDENCE: usize = 64;
/// A few items that cost more than this together, and none of them little, settle it the other way.
const CLEAR: f32 = 25_000.0;

/// The first [`Backoff`]; doubled up to the longest when one soon follows another.
const PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(256);

/// Into how many parts a run is divided for timing.
pub(crate) const PARTS: usize = 4;

/// In nanoseconds; more than some centuries are as many as there can be.
pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The running estimate of one stage. All loads and stores are `Relaxed`: workers may overwrite
/// each other's news, and the next run brings newer ones.
#[derive(Debug)]
pub(crate) struct CostModel {
    /// Nanoseconds an item spends in its closure, as the bits of an `f32`; 0: unknown.
    work: AtomicU32,
    /// The same for the time that it takes to pull one from the source.
    pull: AtomicU32,
    /// How long the next run may be.
    len: AtomicUsize,
    /// How many items in a row were [tiny](TINY).
    tiny: AtomicUsize,
    max_len: usize,
    max_ahead: usize,
    width: usize,
    named_bound: Option<usize>,
    /// How many items the source says that it has.
    total: Option<u64>,
    /// What it takes to [read the clock](clock).
    clock: f32,
}

impl CostModel {
    pub(crate) fn new(width: usize, named_bound: Option<usize>, slot_bytes: usize) -> Self {
        let by_bytes = MAX_BYTES / slot_bytes.max(1);
        // One run must not take the whole of a small bound.
        let by_bound = named_bound.map_or(MAX_LEN, |bound| bound / width.saturating_mul(2));
        CostModel {
            work: AtomicU32::new(0),
            pull: AtomicU32::new(0),
            len: AtomicUsize::new(1),
            tiny: AtomicUsize::new(0),
            max_ahead: MAX_AHEAD
                .saturating_mul(width)
                .min(MAX_AHEAD_BYTES / slot_bytes.max(1))
                .max(2 * MAX_AHEAD),
            max_len: MAX_LEN.min(by_bytes).min(by_bound).max(1),
            width,
            named_bound,
            total: None,
            clock: clock(),
        }
    }

    /// So many items are expected. It may be a lie; runs are only cut a little differently then.
    pub(crate) fn expecting(mut self, total: Option<usize>) -> Self {
        self.total = total.map(|total| total as u64);
        self
    }

    /// Lets no run be longer than one item: nobody else could take over what a puller holds.
    pub(crate) fn one_by_one(mut self) -> Self {
        self.max_len = 1;
        self
    }

    /// How many items the next run may have.
    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// The same for a run that begins at `seq`. Near the end, where that is known, a worker gets no
    /// more than its share of what is left (guided self-scheduling, Polychronopoulos and Kuck 1987),
    /// so that none is left alone with a long run.
    pub(crate) fn len_at(&self, seq: u64) -> usize {
        match self.total.map_or(0, |total| total.saturating_sub(seq)) {
            0 => self.len(),
            left => self.len().min((left / self.width as u64).max(1) as usize),
        }
    }

    /// Whether somebody who is in the source will be out of it in some microseconds, as far as is known.
    pub(crate) fn is_pull_short(&self) -> bool {
        let pull = f32::from_bits(self.pull.load(Ordering::Relaxed));
        pull > 0.0 && pull * (self.len() as f32) < SHORT_PULL.as_nanos() as f32
    }

    /// How many items may be in flight now.
    pub(crate) fn bound(&self) -> u64 {
        if let Some(bound) = self.named_bound {
            return bound as u64;
        }
        let least = self.width.saturating_mul(MIN_AHEAD).min(self.max_ahead);
        let bound = match self.item() {
            Some(item) => {
                let ahead = AHEAD.as_nanos() as f32 * self.width as f32 / item;
                (ahead as usize).clamp(least, self.max_ahead)
            }
            None => least,
        };
        bound as u64
    }

    /// How much room a worker without any is to be woken for: not for every item. Where the user has
    /// named a bound, half a run, so that the bound is made use of; else half of the bound, so that a
    /// stage before a slower one sleeps and works in long stretches.
    pub(crate) fn worth_waking(&self) -> u64 {
        let bound = self.bound();
        let worth = match self.named_bound {
            Some(_) => (self.len() as u64).min(bound) / 2,
            None => bound / 2,
        };
        worth.max(1)
    }

    /// The estimated time of `items` items in their closures; `None` while it is unknown.
    pub(crate) fn estimate(&self, items: usize) -> Option<Duration> {
        let work = f32::from_bits(self.work.load(Ordering::Relaxed));
        (work > 0.0).then(|| Duration::from_nanos((work * items as f32) as u64))
    }

    /// Whether work does not pay, as far as is known.
    pub(crate) fn is_tiny(&self) -> bool {
        self.tiny.load(Ordering::Relaxed) >= EVIDENCE
    }

    /// Whether so many items in so long a time may have been work that pays.
    pub(crate) fn may_pay(items: u64, time: Duration) -> bool {
        time.as_nanos() as f32 >= PAYS * items as f32
    }

    /// What the next items cost is unknown.
    pub(crate) fn restart(&self) {
        self.tiny.store(0, Ordering::Relaxed);
        self.work.store(0, Ordering::Relaxed);
        self.len.store(1, Ordering::Relaxed);
    }

    fn item(&self) -> Option<f32> {
        let work = f32::from_bits(self.work.load(Ordering::Relaxed));
        let pull = f32::from_bits(self.pull.load(Ordering::Relaxed));
        (work > 0.0).then_some(work + pull)
    }

    /// Takes the times of a finished run of `len` items into account: its parts, each as an
    /// average an item, and the average time that an item took in the source.
    pub(crate) fn observe(&self, len: usize, parts: &mut [f32], pull: Option<f32>) {
        parts.sort_unstable_by(f32::total_cmp);
        let Some(&sample) = parts.get(usize::from(parts.len() > 2)) else {
            return;
        };
        // Each part has read the clock once; with a few items in it that is most of its time.
        let read = self.clock * PARTS as f32 / len.max(PARTS) as f32;
        let mut sample = (sample - read).max(0.1);
        let tiny = if sample < TINY {
            self.tiny.load(Ordering::Relaxed).saturating_add(len)
        } else {
            0
        };
        self.tiny.store(tiny, Ordering::Relaxed);
        let known = f32::from_bits(self.work.load(Ordering::Relaxed));
        if parts.len() < PARTS.min(len) && known > 0.0 {
            // Others have stolen the rest, so this is the time of the item that held it up.
            sample = sample.min(2.0 * known);
        }
        blend(&self.work, sample);
        if let Some(pull) = pull {
            blend(&self.pull, pull);
        }
        if let Some(item) = self.item() {
            let wanted = (RUN.as_nanos() as f32 / item) as usize;
            let next = wanted.clamp(1, self.max_len).min(2 * len.max(1));
            self.len.store(next, Ordering::Relaxed);
        }
    }
}

/// Single items' times, for who runs them one by one.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    nanos: [f32; 8],
    len: usize,
}

impl Samples {
    /// Takes in what one item took, as the clock has it.
    pub(crate) fn add(&mut self, time: Duration) {
        if let Some(place) = self.nanos.get_mut(self.len) {
            *place = (time.as_nanos() as f32 - clock()).max(0.0);
            self.len += 1;
        }
    }

    /// Whether the work pays; `None` while that is not known. Half of them decide, so that the odd
    /// long item does not, and the first few if they are clear.
    pub(crate) fn pays(&self) -> Option<bool> {
        let all = &self.nanos[..self.len];
        let dear = all.iter().filter(|nanos| **nanos >= PAYS).count();
        if 2 * dear >= self.nanos.len() || (dear == self.len && all.iter().sum::<f32>() > CLEAR) {
            Some(true)
        } else {
            (self.len == self.nanos.len()).then_some(false)
        }
    }
}

/// How long to leave alone what was tried and did not last.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    until: Option<Instant>,
    next: Duration,
}

impl Backoff {
    pub(crate) const NONE: Backoff = Backoff {
        until: None,
        next: PAUSE,
    };

    pub(crate) fn is_over(&self) -> bool {
        self.until.is_none_or(|until| Instant::now() >= until)
    }

    /// It is not to be tried any more.
    pub(crate) fn forever(&mut self) {
        self.until = Instant::now().checked_add(Duration::from_secs(1 << 32));
    }

    pub(crate) fn begin(&mut self) {
        let now = Instant::now();
        // What has lasted for long since the last pause starts anew.
        let long_ago = self.until.is_none_or(|until| now > until + 8 * self.next);
        self.next = if long_ago {
            PAUSE
        } else {
            (2 * self.next).min(LONGEST_PAUSE)
        };
        self.until = Some(now + self.next);
    }
}

/// What it takes to read the clock, in nanoseconds.
fn clock() -> f32 {
    static NANOS: OnceLock<f32> = OnceLock::new();
    *NANOS.get_or_init(|| {
        let pairs = (0..32).map(|_| Instant::now().elapsed().as_nanos() as f32);
        pairs.fold(f32::MAX, f32::min)
    })
}

/// Moves an average a quarter of the way to a new sample; what costs less is believed at once, as
/// nothing but real speed makes a sample small.
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
mod tests {
    use super::*;

    /// With a clock of its own, so that the lengths do not depend on the machine.
    fn cost(width: usize, named_bound: Option<usize>, slot_bytes: usize) -> CostModel {
        CostModel {
            clock: 20.0,
            ..CostModel::new(width, named_bound, slot_bytes)
        }
    }

    #[test]
    fn runs_double_until_they_last_long_enough() {
        let cost = cost(2, None, 16);
        let mut lens = vec![cost.len()];
        for _ in 0..14 {
            let len = cost.len();
            cost.observe(len, &mut [1_000.0; 4], Some(0.0));
            lens.push(cost.len());
        }
        assert_eq!(lens[..9], [1, 2, 4, 8, 16, 32, 64, 128, 256]);
        assert!(
            lens.last().is_some_and(|len| (400..405).contains(len)),
            "{lens:?}"
        );
    }

    #[test]
    fn the_last_runs_are_short() {
        let cost = cost(2, None, 16).expecting(Some(2_000));
        for _ in 0..20 {
            cost.observe(cost.len(), &mut [1_000.0; 4], None);
        }
        let lens = [0, 1_000, 1_900, 1_980, 1_996, 1_999, 2_000, 5_000].map(|seq| cost.len_at(seq));
        assert_eq!(lens, [400, 400, 50, 10, 2, 1, 400, 400]);
    }

    #[test]
    fn one_bad_part_in_four_changes_nothing() {
        let cost = cost(2, None, 16);
        for _ in 0..20 {
            cost.observe(cost.len(), &mut [1_000.0, 1e6, 1_000.0, 1_000.0], None);
        }
        assert_eq!(cost.len(), 400);
    }

    #[test]
    fn what_a_thief_leaves_is_hardly_believed() {
        let cost = cost(2, None, 16);
        for _ in 0..20 {
            cost.observe(cost.len(), &mut [1_000.0; 4], None);
        }
        cost.observe(400, &mut [4e6], None);
        assert!((300..400).contains(&cost.len()), "{}", cost.len());
    }

    #[test]
    fn dear_items_go_one_by_one() {
        let cost = cost(8, None, 16);
        for _ in 0..8 {
            cost.observe(cost.len(), &mut [100.0], None);
        }
        assert!(cost.len() > 100);
        for _ in 0..40 {
            cost.observe(cost.len(), &mut [1e6; 4], None);
        }
        assert_eq!(cost.len(), 1);
        assert_eq!(cost.bound(), 8 * 16);
    }

    #[test]
    fn a_named_bound_is_obeyed_and_shared_by_several_runs() {
        let cost = cost(2, Some(64), 16);
        for _ in 0..20 {
            cost.observe(cost.len(), &mut [10.0; 4], None);
        }
        assert_eq!((cost.bound(), cost.len()), (64, 16));
    }

    #[test]
    fn the_default_bound_grows_with_the_width_as_far_as_memory_allows() {
        let bound = |width, slot_bytes| {
            let cost = cost(width, None, slot_bytes);
            for _ in 0..20 {
                cost.observe(cost.len(), &mut [1.0; 4], None);
            }
            cost.bound()
        };
        assert_eq!(
            [1, 2, 4, 256].map(|n| bound(n, 16)),
            [65_536, 65_536, 131_072, 1 << 20]
        );
        assert_eq!(bound(256, 1 << 20), 65_536);
    }

    #[test]
    fn large_items_make_short_runs() {
        let cost = cost(2, None, 1 << 20);
        for _ in 0..20 {
            cost.observe(cost.len(), &mut [10.0; 4], None);
        }
        assert_eq!(cost.len(), 1);
    }
}
