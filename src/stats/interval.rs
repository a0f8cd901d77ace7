//! The difference of two snapshots.

#[cfg(feature = "percentile")]
use crate::stats::ItemTimes;
use crate::stats::{ConsumerTime, Snapshot, StageTime};
use std::time::Duration;

/// What a stage has done between two [snapshots](Snapshot): see [`Snapshot::since`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Interval {
    /// How long it was, as far as the stage ran.
    pub elapsed: Duration,
    /// How many items were handed over.
    pub yielded: u64,
    /// How many items had no outputs.
    pub filtered: u64,
    /// How many closures have ended.
    pub finished: u64,
    /// How many items were pulled.
    pub admitted: u64,
    /// Where the permits have spent their time.
    pub time: StageTime,
    /// Where the consumer has spent its time.
    pub consumer: ConsumerTime,
    /// How long the items took that came in it, if that was [asked for](crate::StageStats::item_times).
    #[cfg(feature = "percentile")]
    pub items: Option<ItemTimes>,
    /// The stage at the end of it.
    pub end: Snapshot,
    pub(super) room_blocked: Duration,
}

impl Interval {
    #[track_caller]
    pub(super) fn between(before: &Snapshot, after: &Snapshot) -> Self {
        assert!(
            before.name == after.name && before.elapsed <= after.elapsed,
            "an interval is between two snapshots of one stage, the earlier one in brackets: \
             later.since(&earlier)"
        );
        let (from, to) = (&before.time, &after.time);
        let time = StageTime {
            run: to.run.saturating_sub(from.run),
            source: to.source.saturating_sub(from.source),
            room: to.room.saturating_sub(from.room),
            spare: to.spare.saturating_sub(from.spare),
            run_cpu: super::part_of(
                to.run.saturating_sub(from.run),
                after.looked.0.saturating_sub(before.looked.0),
                after.looked.1.saturating_sub(before.looked.1),
            ),
        };
        let (from, to) = (&before.consumer, &after.consumer);
        let consumer = ConsumerTime {
            head: to.head.saturating_sub(from.head),
            blocked: to.blocked.saturating_sub(from.blocked),
            own: to.own.saturating_sub(from.own),
            away: to.away.saturating_sub(from.away),
        };
        Interval {
            elapsed: after.elapsed.saturating_sub(before.elapsed),
            yielded: after.yielded.saturating_sub(before.yielded),
            filtered: after.filtered.saturating_sub(before.filtered),
            finished: after.finished.saturating_sub(before.finished),
            admitted: after.admitted.saturating_sub(before.admitted),
            time,
            consumer,
            room_blocked: after.room_blocked.saturating_sub(before.room_blocked),
            #[cfg(feature = "percentile")]
            items: (after.items.as_ref().zip(before.items.as_ref()))
                .map(|(after, before)| after.since(before)),
            end: after.clone(),
        }
    }

    /// How many items were handed over in a second.
    pub fn rate(&self) -> f64 {
        per_second(self.yielded, self.elapsed)
    }

    /// Which share of the closures' time a CPU was used, if that is known; the rest they waited. See
    /// [`StageTime::run_cpu`].
    pub fn cpu_share(&self) -> Option<f64> {
        Some(share(self.time.run_cpu?, self.time.run))
    }

    /// Which share of the permits' time this is: 1 is all of them, all the time.
    pub fn share_of_workers(&self, time: Duration) -> f64 {
        share(time, self.time.total())
    }

    /// Which share of the interval this is.
    pub fn share(&self, time: Duration) -> f64 {
        share(time, self.elapsed)
    }
}

/// A part of something, or 0 of nothing.
pub(super) fn share(part: Duration, all: Duration) -> f64 {
    if all.is_zero() {
        0.0
    } else {
        part.as_secs_f64() / all.as_secs_f64()
    }
}

/// Infinite, if it took no time.
pub(super) fn per_second(items: u64, time: Duration) -> f64 {
    if items == 0 {
        0.0
    } else {
        items as f64 / time.as_secs_f64()
    }
}
