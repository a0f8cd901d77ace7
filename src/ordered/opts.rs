//! The options of stages that chunk a closure for each item.

use crate::hedge::HedgePolicy;
use std::time::Duration;

/// What a user may choose.
#[derive(Clone, Debug)]
pub(crate) struct OrderedOpts {
    pub(crate) width: usize,
    pub(crate) in_flight: Option<usize>,
    pub(crate) ordered: bool,
    pub(crate) eager: bool,
    /// The consumer's thread is one of the `n`. Only for who takes no result before all are there:
    /// while it runs an item it delivers nothing.
    pub(crate) takes_part: bool,
    pub(crate) item_timeout: Option<Duration>,
    pub(crate) hedge: Option<HedgePolicy>,
    /// When what it is started in ends, its closures are told and nothing is left out: there is nobody who
    /// could be told that something is missing.
    pub(crate) runs_all: bool,
}
