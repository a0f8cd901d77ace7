//! The state of a merge, for monitoring.

use crate::sync::{Arc, AtomicBool, AtomicUsize, Mutex, Ordering};

/// The state of a merge; can be read from any thread; made by [`Merge::report`](crate::Merge::report).
///
/// # Examples
///
/// ```
/// let mut merge = fanfold::merge([0..2, 2..4]);
/// let report = merge.report();
/// assert_eq!(report.live(), 2);
/// assert_eq!(merge.by_ref().count(), 4);
/// assert_eq!(report.live(), 0);
/// assert!(report.timed_out().is_empty());
/// ```
#[derive(Clone, Debug, Default)]
pub struct MergeReport(pub(super) Arc<Tally>);

#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) live: AtomicUsize,
    pub(super) timed_out: Mutex<Vec<String>>,
}

impl MergeReport {
    /// How many sources have neither ended nor timed out. Sources that have not started yet count.
    pub fn live(&self) -> usize {
        self.0.live.load(Ordering::Relaxed)
    }

    /// The names of the sources that were dropped because they were silent, in the order in which
    /// that happened.
    pub fn timed_out(&self) -> Vec<String> {
        self.0.timed_out.lock().clone()
    }
}

/// Counts a source as live until it is over for the first reason.
#[derive(Debug)]
pub(super) struct LiveMark {
    pub(super) lives: AtomicBool,
    pub(super) tally: Arc<Tally>,
}

impl LiveMark {
    pub(super) fn new(tally: &Arc<Tally>) -> Arc<Self> {
        tally.live.fetch_add(1, Ordering::Relaxed);
        Arc::new(LiveMark {
            lives: AtomicBool::new(true),
            tally: Arc::clone(tally),
        })
    }

    pub(super) fn over(&self) {
        if self.lives.swap(false, Ordering::Relaxed) {
            self.tally.live.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
