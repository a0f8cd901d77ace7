//! How long items take, one by one: kept only where the user has asked for it.

use crate::sync::Instant;
use hdrhistogram::Histogram;
use std::collections::{BTreeMap, BTreeSet};
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
    /// The slowest closure so far.
    pub(crate) slowest: Option<(u64, Duration)>,
    /// The items in flight: by the first of those that were pulled together, how many are left of them, where they end, and
    /// when they were pulled.
    pulled: BTreeMap<u64, (u64, u64, Instant)>,
    /// Items that were taken before their pull was over: that of the items which come with them.
    early: BTreeSet<u64>,
}

impl Default for TimeLog {
    fn default() -> Self {
        TimeLog {
            service: histogram(),
            delay: histogram(),
            slowest: None,
            pulled: BTreeMap::new(),
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
        while let Some(seq) = self.early.range(first..end).next().copied() {
            self.early.remove(&seq);
            self.delay.saturating_record(0);
            left -= 1;
        }
        if left > 0 {
            self.pulled.insert(first, (left, end, now));
        }
    }

    /// A closure has ended.
    pub(crate) fn ran(&mut self, seq: u64, time: Duration) {
        self.service.saturating_record(nanos(time));
        if self.slowest.is_none_or(|(_, slowest)| time > slowest) {
            self.slowest = Some((seq, time));
        }
    }

    /// The consumer takes this item.
    pub(crate) fn taken(&mut self, now: Instant, seq: u64) {
        // In which pull it came is seen from what is left of that one, and of none before it.
        let found = self.pulled.range_mut(..=seq).next_back();
        let Some((&first, (left, _, at))) = found.filter(|(_, (_, end, _))| seq < *end) else {
            self.early.insert(seq);
            return;
        };
        let time = now.saturating_duration_since(*at);
        *left -= 1;
        if *left == 0 {
            self.pulled.remove(&first);
        }
        self.delay.saturating_record(nanos(time));
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
