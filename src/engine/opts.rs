//! The options of a stage.

use crate::engine::cancel::CancelToken;
use crate::engine::policy::HedgePolicy;
use crate::engine::pool::Pool;
use std::time::Duration;

/// What a user may choose.
#[derive(Clone, Debug)]
pub(crate) struct Opts {
    pub(crate) width: usize,
    /// The most items that the source says it has.
    pub(crate) total: Option<usize>,
    pub(crate) in_flight: Option<usize>,
    pub(crate) ordered: bool,
    pub(crate) eager: bool,
    /// The consumer's thread is one of the `n`. Only for who takes no result before all are there:
    /// while it runs an item it delivers nothing.
    pub(crate) takes_part: bool,
    pub(crate) item_timeout: Option<Duration>,
    pub(crate) hedge: Option<HedgePolicy>,
    pub(crate) name: Option<String>,
    pub(crate) tokens: Vec<CancelToken>,
    /// Those on which the source is asked for no more.
    pub(crate) drains: Vec<CancelToken>,
    /// It hears nothing of what it is started in.
    pub(crate) detached: bool,
    /// When what it is started in ends, its closures are told and nothing is left out: there is nobody who
    /// could be told that something is missing.
    pub(crate) runs_all: bool,
    pub(crate) pool: Option<Pool>,
}
