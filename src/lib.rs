#![doc = include_str!("../README.md")]
#![warn(rustdoc::all)]

/// The design document, compiled with the docs so that it cannot rot.
#[cfg(doctest)]
#[doc = include_str!("../DESIGN.md")]
mod design {}

/// What holds when things go wrong, compiled likewise.
#[cfg(doctest)]
#[doc = include_str!("../docs/reliability.md")]
mod reliability {}

/// Short programs for what comes up often.
#[cfg(doctest)]
#[doc = include_str!("../docs/recipes.md")]
mod recipes {}

/// The page of drawings and examples, one for each operator.
#[cfg(doctest)]
#[doc = include_str!("../docs/operators.md")]
mod operators {}

mod batches;
mod cancel;
mod config;
mod dropped;
mod error;
mod fan_in;
mod fan_out;
mod fanfold;
mod feedback;
mod group;
mod hedge;
mod keyed;
#[cfg(feature = "throttle")]
mod limiter;
mod ordered;
mod par;
mod parallel_map;
mod runtime;
mod size_hint;
mod stage;
mod sync;
pub mod testing;
mod unwind;

pub use crate::batches::sliding::{Sliding, SlidingAggregate};
pub use crate::batches::window::{Aggregate, Window};
pub use crate::cancel::{CancelToken, OnCancel};
pub use crate::config::Workers;
pub use crate::dropped::Dropped;
pub use crate::error::{Cancelled, Exhausted, Failure, HedgeError, Late, Refused, ReplicaError};
pub use crate::fan_in::batches_by_age::{Aged, Aging};
pub use crate::fan_in::lane::Overflow;
pub use crate::fan_in::merge::{Merge, MergeHandle, MergeReport, Merging, SourceOptions, merge};
pub use crate::fan_in::merge_sorted::{MergeSorted, Sorting, Unsorted, merge_sorted_by_key};
pub use crate::fan_in::readahead::{Ahead, Readahead};
pub use crate::fan_in::round_robin::{RoundRobin, Rounds, round_robin};
pub use crate::fan_out::broadcast::{Broadcast, Everyone};
pub use crate::fan_out::deal::{Deal, Skew};
pub use crate::fan_out::fanout::{Fanout, Reader};
pub use crate::fan_out::route::{Route, Ways};
pub use crate::fan_out::split::{Halves, Split};
pub use crate::fanfold::Fanfold;
pub use crate::feedback::{Budgeted, Feedback, Lead, Ticket, feedback};
pub use crate::group::{Group, group, group_all};
pub use crate::hedge::policy::{HedgePolicy, HedgeStats};
pub use crate::hedge::{Hedge, Replica, WaitingHedge, replica};
pub use crate::keyed::plan::Keyed;
#[cfg(feature = "throttle")]
pub use crate::limiter::clock::{Clock, Sleeper};
#[cfg(feature = "throttle")]
pub use crate::limiter::throttle::Throttle;
#[cfg(feature = "throttle")]
pub use crate::limiter::{Limit, Limiter, Rate};
pub use crate::ordered::start::Par;
pub use crate::par::filter::Filter;
pub use crate::par::filter_map::FilterMap;
pub use crate::par::flat_map::FlatMap;
pub use crate::par::init::Init;
pub use crate::par::isolated::Isolated;
pub use crate::par::job::{Job, OneToOne};
pub use crate::par::local::Local;
pub use crate::par::map::Map;
pub use crate::par::source::Source;
pub use crate::par::try_map::TryMap;
pub use crate::parallel_map::{parallel_map, parallel_map_on};
pub use crate::runtime::plan::{ExactPlan, Parallel, Plan, SendPlan};
pub use crate::runtime::pool::{Pool, PoolBuilder};
pub use crate::runtime::scope::Scope;
pub use crate::stage::Stage;
pub use crate::stage::chain::Chained;
pub use crate::stage::scoped::{Scoped, scope};
pub use crate::stage::terminal::Attempt;
