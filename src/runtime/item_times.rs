//! How long items take, one by one: kept only where the user has asked for it.

use crate::sync::Instant;
use hdrhistogram::Histogram;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// A time is kept to two digits, from a nanosecond to an hour.
const LONGEST: Duration = Duration::from_secs(3600);
const DIGITS: u8 = 2;

/// The times of the items of a stage.
#[derive(Clone, Debug)]
pub(crate) struct TimeLog {
    /// From the start of the closure to its end.
    pub(crate) service: Histogram<u64>,
    /// From the pull to the moment in which the item was handed over.
    pub(crate) delay: Histogram<u64>,
    /// Each closure that was slower than all later ones: how many ended before it, its item, and how long it took.
    pub(crate) slow: VecDeque<(u64, u64, Duration)>,
    /// The items in flight: by the first of those that were pulled together, how many are left of them, where they end, and
    /// when they were pulled.
    pulled: BTreeMap<u64, (u64, u64, Instant)>,
    /// What follows the last pull that is over.
    next: u64,
    /// Items that were run before their pull was over, that of the items which come with them: since when.
    begun: BTreeMap<u64, Instant>,
    /// Items that were also taken before that.
    early: BTreeSet<u64>,
}

impl Default for TimeLog {
    fn default() -> Self {
        TimeLog {
            service: histogram(),
            delay: histogram(),
            slow: VecDeque::new(),
            pulled: BTreeMap::new(),
            next: 0,
            begun: BTreeMap::new(),
            early: BTreeSet::new(),
        }
    }
}

fn histogram() -> Histogram<u64> {
    // Only wrong bounds make it fail.
    Histogram::new_with_bounds(1, nanos(LONGEST), DIGITS).expect("these bounds are right")
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl TimeLog {
    /// So many items have been pulled, the first of which is number `first`.
    pub(crate) fn pulled(&mut self, now: Instant, first: u64, items: u64) {
        let mut left = items;
        let end = first + items;
        self.next = end;
        while let Some(seq) = self.early.range(first..end).next().copied() {
            self.early.remove(&seq);
            left -= 1;
        }
        if left > 0 {
            self.pulled.insert(first, (left, end, now));
        }
    }

    /// A closure has ended.
    pub(crate) fn ran(&mut self, now: Instant, seq: u64, time: Duration) {
        if let Some(since) = now.checked_sub(time).filter(|_| seq >= self.next) {
            self.begun.insert(seq, since);
        }
        // What the histogram cannot tell apart counts as equal, so there are never more of them than it has steps.
        let is_slower = |slow: Duration| {
            let (slow, time) = (slow.min(LONGEST), time.min(LONGEST));
            slow > time && !self.service.equivalent(nanos(slow), nanos(time))
        };
        while (self.slow.back()).is_some_and(|(.., slow)| !is_slower(*slow)) {
            self.slow.pop_back();
        }
        self.slow.push_back((self.service.len(), seq, time));
        self.service.saturating_record(nanos(time));
    }

    /// The consumer takes this item.
    pub(crate) fn taken(&mut self, now: Instant, seq: u64) {
        let begun = self.begun.remove(&seq);
        // In which pull it came is seen from what is left of that one, and of none before it.
        let found = self.pulled.range_mut(..=seq).next_back();
        let pulled =
            if let Some((&first, (left, _, at))) = found.filter(|(_, (_, end, _))| seq < *end) {
                let at = *at;
                *left -= 1;
                if *left == 0 {
                    self.pulled.remove(&first);
                }
                at
            } else {
                self.early.insert(seq);
                now
            };
        // It was pulled a moment before it was run.
        let since = begun.map_or(pulled, |begun| begun.min(pulled));
        self.delay
            .saturating_record(nanos(now.saturating_duration_since(since)));
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
