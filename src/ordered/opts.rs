//! The options of stages that run a closure for each item.

use crate::config::Workers;
use crate::hedge::HedgePolicy;
use crate::runtime::plan::{Common, WorkOpts};
use std::time::Duration;

/// What a user may choose.
#[derive(Clone, Debug)]
pub(crate) struct OrderedOpts {
    pub(crate) work: WorkOpts,
    /// What the items in flight may weigh together.
    pub(crate) in_flight_weight: Option<usize>,
    /// What finished results may weigh together that wait.
    pub(crate) parked_weight: Option<usize>,
    pub(crate) ordered: bool,
    /// The consumer's thread is one of the `n`. Only for calls that need no result before all are there: the
    /// consumer delivers nothing while it runs an item.
    pub(crate) takes_part: bool,
    pub(crate) item_timeout: Option<Duration>,
    pub(crate) hedge: Option<HedgePolicy>,
    /// The time of each item is kept, for the statistics.
    pub(crate) keeps_times: bool,
    /// If what the stage is started in ends, its closures are notified, and nothing is left out: the caller
    /// could not learn that something is missing.
    pub(crate) runs_all: bool,
}

impl OrderedOpts {
    #[track_caller]
    pub(crate) fn new(n: Workers, ordered: bool) -> Self {
        let (width, auto) = n.begin();
        OrderedOpts {
            work: WorkOpts::new(width, auto),
            in_flight_weight: None,
            parked_weight: None,
            ordered,
            takes_part: false,
            item_timeout: None,
            keeps_times: false,
            hedge: None,
            runs_all: false,
        }
    }

    /// Whether its items are timed one by one.
    pub(crate) fn is_timed(&self) -> bool {
        self.item_timeout.is_some() || self.hedge.is_some() || self.keeps_times
    }

    /// Whether the width may change while the stage runs.
    pub(crate) fn is_resizable(&self, common: &Common) -> bool {
        self.work.auto.is_some() || common.width.is_some()
    }

    /// Whether there is a bound on weights.
    pub(crate) fn is_weighed(&self) -> bool {
        self.in_flight_weight.is_some() || self.parked_weight.is_some()
    }
}
