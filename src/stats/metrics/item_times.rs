//! The times of single items, as histograms of the recorder. It is given those that have come since the last time. Without
//! the feature `percentile` there are none.

use crate::stats::Snapshot;
#[cfg(feature = "percentile")]
use crate::stats::metrics::families::stage_label;
#[cfg(feature = "percentile")]
use crate::stats::{ItemTimes, Times};
use crate::sync::Arc;
#[cfg(feature = "percentile")]
use ::metrics::{Unit, describe_histogram, histogram};

/// From the start of an item's closure to its end.
#[cfg(feature = "percentile")]
const DURATION: &str = "fanfold_stage_item_duration_seconds";
/// From the pull of an item to the moment in which it was handed over.
#[cfg(feature = "percentile")]
const DELAY: &str = "fanfold_stage_item_delay_seconds";

/// What the recorder has been given of a stage.
#[derive(Default)]
pub(super) struct SeenTimes {
    #[cfg(feature = "percentile")]
    times: Option<ItemTimes>,
}

/// What has come since then, of all stages with one name.
#[derive(Default)]
pub(super) struct NewTimes {
    #[cfg(feature = "percentile")]
    stages: Vec<ItemTimes>,
}

impl SeenTimes {
    /// Adds what has come.
    #[cfg(feature = "percentile")]
    pub(super) fn add_new(&mut self, now: &Snapshot, new: &mut NewTimes) {
        let Some(now) = &now.items else { return };
        let before = self.times.replace(now.clone());
        let since = before.map_or_else(|| now.clone(), |before| now.since(&before));
        new.stages.push(since);
    }

    #[cfg(not(feature = "percentile"))]
    #[allow(clippy::unused_self)] // as with the feature
    pub(super) fn add_new(&mut self, _: &Snapshot, _: &mut NewTimes) {}
}

impl NewTimes {
    #[cfg(feature = "percentile")]
    pub(super) fn write(&self, name: &Arc<str>) {
        for times in &self.stages {
            record(DURATION, name, times.service());
            record(DELAY, name, times.delay());
        }
    }

    #[cfg(not(feature = "percentile"))]
    #[allow(clippy::unused_self)] // as with the feature
    pub(super) fn write(&self, _: &Arc<str>) {}
}

#[cfg(feature = "percentile")]
fn record(family: &'static str, name: &Arc<str>, times: &Times) {
    let histogram = histogram!(family, vec![stage_label(name)]);
    for (time, count) in times.iter() {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        histogram.record_many(time.as_secs_f64(), count);
    }
}

#[cfg(feature = "percentile")]
pub(super) fn describe() {
    describe_histogram!(
        DURATION,
        Unit::Seconds,
        "How long the closures of items took."
    );
    describe_histogram!(DELAY, Unit::Seconds, "How long items were in flight.");
}

#[cfg(not(feature = "percentile"))]
pub(super) fn describe() {}
