//! How long items take, one by one.

use crate::runtime::item_times::TimeLog;
use hdrhistogram::Histogram;
use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

/// The times of the items of a stage; see [`StageStats::item_times`](crate::StageStats::item_times).
#[derive(Clone, Debug)]
pub struct ItemTimes {
    service: Times,
    delay: Times,
    /// As in [`TimeLog`].
    slow: VecDeque<(u64, u64, Duration)>,
}

impl ItemTimes {
    pub(super) fn new(times: TimeLog) -> Self {
        ItemTimes {
            service: Times(times.service),
            delay: Times(times.delay),
            slow: times.slow,
        }
    }

    /// From the start of an item's closure to its end.
    pub fn service(&self) -> &Times {
        &self.service
    }

    /// From the pull of an item, together with those that were pulled with it, to the moment in which it was handed over.
    pub fn delay(&self) -> &Times {
        &self.delay
    }

    /// The item whose closure took longest: its number in the source, and how long it took. So far, or of those that ended
    /// in an interval. Of several with the same first two digits it is the last.
    pub fn slowest(&self) -> Option<(u64, Duration)> {
        let (_, seq, time) = self.slow.front()?;
        Some((*seq, *time))
    }

    /// Those since `before`.
    pub(super) fn since(&self, before: &ItemTimes) -> ItemTimes {
        let ended = before.service.len();
        let later = (self.slow.iter()).skip_while(|(at, ..)| *at < ended);
        ItemTimes {
            service: self.service.since(&before.service),
            delay: self.delay.since(&before.delay),
            slow: later.copied().collect(),
        }
    }
}

/// How often something took how long: to two digits, up to an hour.
#[derive(Clone, PartialEq)]
pub struct Times(Histogram<u64>);

impl fmt::Debug for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Times")
            .field("len", &self.len())
            .field("median", &self.quantile(0.5))
            .field("p99", &self.quantile(0.99))
            .field("max", &self.max())
            .finish()
    }
}

impl Times {
    /// How many there are.
    pub fn len(&self) -> u64 {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The time that this share of them did not exceed: 0.5 is the median, 0.99 what all but one in a hundred needed.
    pub fn quantile(&self, share: f64) -> Duration {
        Duration::from_nanos(self.0.value_at_quantile(share))
    }

    /// The mean.
    pub fn mean(&self) -> Duration {
        Duration::from_nanos(self.0.mean() as u64)
    }

    /// The longest.
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.0.max())
    }

    /// The times that occur, the shortest first, and how often: for plots and for other formats.
    pub fn iter(&self) -> impl Iterator<Item = (Duration, u64)> + '_ {
        let recorded = self.0.iter_recorded();
        recorded.map(|step| {
            let time = Duration::from_nanos(step.value_iterated_to());
            (time, step.count_at_value())
        })
    }

    fn since(&self, before: &Times) -> Times {
        let mut since = self.0.clone();
        // It fails if there was more before than there is now: then these are of different stages.
        match since.subtract(&before.0) {
            Ok(()) => Times(since),
            Err(_) => self.clone(),
        }
    }
}
