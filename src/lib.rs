#![doc = include_str!("../README.md")]
#![warn(rustdoc::all)]

/// The design document, compiled with the docs so that its code stays correct.
#[cfg(doctest)]
#[doc = include_str!("../DESIGN.md")]
mod design {}

/// What holds when things go wrong, compiled likewise.
#[cfg(doctest)]
#[doc = include_str!("../docs/reliability.md")]
mod reliability {}

/// Short programs for common tasks.
#[cfg(doctest)]
#[doc = include_str!("../docs/recipes.md")]
mod recipes {}

/// What limits a stage, and what helps.
#[cfg(doctest)]
#[doc = include_str!("../docs/faster.md")]
mod faster {}

/// The page of drawings and examples, one for each operator.
#[cfg(doctest)]
#[doc = include_str!("../docs/operators.md")]
mod operators {}

pub mod batches;
pub mod cancel;
pub mod fan_in;
pub mod fan_out;
#[cfg(feature = "rayon")]
pub mod from_rayon;
pub mod hedge;
#[cfg(feature = "throttle")]
pub mod limiter;
pub mod stage;
pub mod stats;
pub mod testing;
pub mod worklist;

mod config;
mod error;
mod fanfold;
mod flat;
mod group;
mod keyed;
mod ordered;
mod overflow;
mod par;
mod parallel_map;
mod push_map_ordered;
#[cfg(feature = "crossbeam-channel")]
mod recv;
mod runtime;
mod size_hint;
mod sync;
mod unwind;

#[doc(inline)]
pub use crate::cancel::{CancelToken, Cancelled};
pub use crate::config::Workers;
pub use crate::error::{ItemError, NotReady};
#[doc(inline)]
pub use crate::fan_in::{Merge, SourceOptions, merge, merge_sorted_by_key, round_robin};
#[doc(inline)]
pub use crate::fan_out::Reader;
pub use crate::fanfold::Fanfold;
#[cfg(feature = "rayon")]
pub use crate::from_rayon::FromRayon;
pub use crate::group::{Group, Task, group, group_all, group_with};
#[doc(inline)]
pub use crate::hedge::{HedgeError, HedgePolicy, replica};
#[doc(inline)]
#[cfg(feature = "throttle")]
pub use crate::limiter::{Limiter, Rate};
pub use crate::overflow::{DropCount, Overflow};
pub use crate::parallel_map::{parallel_map, parallel_map_with};
pub use crate::push_map_ordered::{
    PushMapOrdered, TryPushMapOrdered, push_map_ordered, try_push_map_ordered,
};
#[cfg(feature = "crossbeam-channel")]
pub use crate::recv::{Recv, recv};
pub use crate::runtime::permits::{Permit, Permits};
pub use crate::runtime::pool::{Pool, PoolBuilder};
#[cfg(feature = "futures")]
pub use crate::stage::StreamFanfold;
#[doc(inline)]
pub use crate::stage::{Parallel, Plan, Scope, Scoped, SendPlan, Stage, WorkersHandle, scope};
#[doc(inline)]
pub use crate::stats::StageStats;
#[doc(inline)]
pub use crate::worklist::{WorkItem, Worklist, worklist};
