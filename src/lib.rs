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

/// The page of drawings and examples, one for each operator.
#[cfg(doctest)]
#[doc = include_str!("../docs/operators.md")]
mod operators {}

mod adaptors;
mod chained;
mod config;
mod dropped;
mod engine;
mod error;
mod fanfold;
mod fanout;
mod fed;
mod feedback;
mod group;
mod hedge;
#[cfg(feature = "throttle")]
mod limiter;
mod parallel_map;
mod scope;
mod stage;
mod sync;
pub mod testing;

pub use crate::adaptors::aged::{Aged, Aging};
pub use crate::adaptors::broadcast::{Broadcast, Everyone};
pub use crate::adaptors::by_key::{ByKey, Keyed};
pub use crate::adaptors::filter::Filter;
pub use crate::adaptors::filter_map::FilterMap;
pub use crate::adaptors::flat_map::FlatMap;
pub use crate::adaptors::init::Init;
pub use crate::adaptors::isolated::Isolated;
pub use crate::adaptors::local::Local;
pub use crate::adaptors::map::Map;
pub use crate::adaptors::merge::{Merge, MergeHandle, MergeReport, Merging, SourceOptions, merge};
pub use crate::adaptors::merge_sorted::{MergeSorted, Sorting, Unsorted, merge_sorted_by_key};
pub use crate::adaptors::readahead::{Ahead, Readahead};
pub use crate::adaptors::round_robin::{RoundRobin, Rounds, round_robin};
pub use crate::adaptors::route::{Route, Ways};
pub use crate::adaptors::sliding::{Sliding, SlidingAggregate};
pub use crate::adaptors::split::{Halves, Split};
#[cfg(feature = "throttle")]
pub use crate::adaptors::throttle::Throttle;
pub use crate::adaptors::try_map::TryMap;
pub use crate::adaptors::window::{Aggregate, Window};
pub use crate::chained::Chained;
pub use crate::config::Workers;
pub use crate::dropped::Dropped;
pub use crate::engine::cancel::{CancelToken, OnCancel};
#[cfg(feature = "throttle")]
pub use crate::engine::clock::{Clock, Sleeper};
pub use crate::engine::erase::Scope;
pub use crate::engine::hub::Overflow;
pub use crate::engine::job::{Job, OneToOne};
pub use crate::engine::policy::{HedgePolicy, HedgeStats};
pub use crate::engine::pool::{Pool, PoolBuilder};
pub use crate::engine::source::Source;
pub use crate::engine::tee::{Deal, Skew};
pub use crate::error::{Cancelled, Exhausted, Failure, HedgeError, Late, Refused, ReplicaError};
pub use crate::fanfold::Fanfold;
pub use crate::fanout::{Fanout, Reader};
pub use crate::fed::{Fed, Feed, Within};
pub use crate::feedback::{Budgeted, Feedback, Lead, Ticket, feedback};
pub use crate::group::{Group, group, group_all};
pub use crate::hedge::{Hedge, Replica, WaitingHedge, replica};
#[cfg(feature = "throttle")]
pub use crate::limiter::{Limit, Limiter, Rate};
pub use crate::parallel_map::{parallel_map, parallel_map_on};
pub use crate::scope::{Scoped, scope};
pub use crate::stage::{Attempt, Stage};
