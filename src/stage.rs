//! Iterators that threads pull or run: [`Stage`], its parts, and the scope in which it may borrow.
//!
//! ```text
//! Stage<Par<S, J>>     the source S, the job J (Map, Filter, Init, ..) on workers; what the `par_` adaptors return
//! Stage<Keyed<..>>     the same, key by key
//! Stage<Flat<S, J>>    what `par_flat_map` returns: the job opens items into iterators
//! Stage<MergePlan>     what `merge` returns; likewise those of `fan_in` and `batches`
//! ```
//!
//! Most programs name none of these types. They appear in the types of fields and as return types:
//! `Stage<impl Plan<Output = T>>` still takes options, and [`Scoped`] is a stage that borrows and
//! is pulled by `next()`.
//!
//! # Examples
//!
//! ```
//! use fanfold::Fanfold;
//! use fanfold::stage::{Plan, Stage};
//!
//! fn squares(up_to: u32) -> Stage<impl Plan<Output = u32>> {
//!     (0..up_to).par_map_ordered(2, |x| x * x)
//! }
//!
//! assert_eq!(squares(4).named("squares").sum::<u32>(), 14);
//! ```

mod base;
mod chain;
mod options;
mod push;
mod run;
mod scoped;
#[cfg(feature = "futures")]
mod stream;
mod terminal;
#[cfg(feature = "futures")]
mod through;
mod workers_handle;

pub use crate::flat::plan::Flat;
pub use crate::keyed::plan::Keyed;
pub use crate::ordered::start::Par;
pub use crate::par::filter::Filter;
pub use crate::par::filter_map::FilterMap;
pub use crate::par::flat_map::{FlatJob, FlatMap, IsolatedFlat, TryFlatMap};
pub use crate::par::in_flight_weight::InFlightWeight;
pub use crate::par::init::Init;
pub use crate::par::isolated::Isolated;
pub use crate::par::job::{Job, OneToOne};
pub use crate::par::local::Local;
pub use crate::par::map::Map;
pub use crate::par::parked_weight::{ParkedWeight, Weighable};
pub use crate::par::pushed::Pushed;
pub use crate::par::source::Source;
pub use crate::par::try_filter::TryFilter;
pub use crate::par::try_filter_map::TryFilterMap;
pub use crate::par::try_init::TryInit;
pub use crate::par::try_map::TryMap;
pub use crate::par::try_push::TryPush;
pub use crate::runtime::lazy::Outputs;
#[cfg(feature = "futures")]
pub use crate::runtime::plan::StreamPlan;
pub use crate::runtime::plan::{ExactPlan, Parallel, Plan, SendPlan};
pub use crate::runtime::scope::Scope;
pub use crate::stage::base::Stage;
pub use crate::stage::chain::Chained;
pub use crate::stage::push::Ready;
pub use crate::stage::scoped::{Scoped, scope};
#[cfg(feature = "futures")]
pub use crate::stage::stream::StageStream;
pub use crate::stage::terminal::TryOutput;
#[cfg(feature = "futures")]
pub use crate::stage::through::{StreamFanfold, Through};
pub use crate::stage::workers_handle::WorkersHandle;
