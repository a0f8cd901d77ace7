//! The options of one source of a merge.

use std::time::Duration;

/// The options of one source of a [`Merge`](crate::Merge).
///
/// # Examples
///
/// ```
/// use fanfold::{Merge, SourceOptions};
/// use std::time::Duration;
///
/// let patient = SourceOptions::new().named("sensor").timeout(Duration::from_secs(60));
/// let merge = Merge::new().source_with(1..3, patient);
/// assert_eq!(merge.count(), 2);
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "it does nothing until it is given to a merge"]
pub struct SourceOptions {
    pub(super) name: Option<String>,
    pub(super) weight: Option<u32>,
    pub(super) timeout: Option<Duration>,
    pub(super) buffer: Option<usize>,
}

impl SourceOptions {
    /// Makes options with the defaults.
    pub fn new() -> Self {
        SourceOptions::default()
    }

    /// Sets the name in reports; `source 0`, `source 1`, … by default.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets how many items the source may give per round; 1 by default.
    ///
    /// A round ends when every source that has something has given its share. So sources that
    /// always have something each get their share of every round, and none starves.
    ///
    /// # Panics
    ///
    /// If `weight` is 0.
    #[track_caller]
    pub fn weight(mut self, weight: u32) -> Self {
        assert!(
            weight > 0,
            "the weight of a source must be at least 1: write 1, and more for the others"
        );
        self.weight = Some(weight);
        self
    }

    /// Drops the source when it has been silent for longer than this, and records that in the
    /// [report](crate::fan_in::MergeReport::timed_out).
    ///
    /// The merge goes on with the other sources, and ends with them as if this one had ended too:
    /// it is not [cut short](crate::Stage::is_cut_short), and [`fail_on`](crate::Stage::fail_on) adds
    /// no error. Only the report tells that something may be missing.
    ///
    /// The time counts while the source's `next()` runs, starting anew for each item; the time that
    /// it waits for a full buffer does not count. Its thread cannot be taken out of `next()`, so
    /// the drop of the merge waits for it. [`CancelToken::current`](crate::CancelToken::current) is
    /// tripped for the source, so one that checks it returns at once. A channel does not check it,
    /// so the drop waits for its sender; `docs/operators.md` has a receiver that does.
    ///
    /// # Panics
    ///
    /// If `time` is zero.
    #[track_caller]
    pub fn timeout(mut self, time: Duration) -> Self {
        assert!(
            !time.is_zero(),
            "the timeout of a source must be more than zero: leave it out for no limit"
        );
        self.timeout = Some(time);
        self
    }

    /// Sets how many items may be pulled and not yet taken; overrides
    /// [`Merge::buffer`](crate::Merge::buffer).
    ///
    /// # Panics
    ///
    /// If `items` is 0.
    #[track_caller]
    pub fn buffer(mut self, items: usize) -> Self {
        self.buffer = Some(checked(items));
        self
    }
}

#[track_caller]
pub(super) fn checked(buffer: usize) -> usize {
    assert!(
        buffer > 0,
        "the buffer of a source must be at least 1: write buffer(1) for one item ahead"
    );
    buffer
}
