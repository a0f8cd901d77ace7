//! One source for several readers, or for several sinks that run side by side.
//!
//! ```text
//! source              1  2  3  4 |
//! broadcast(2)        reader 0: 1 2 3 4 |        reader 1: 1 2 3 4 |
//! partition_readers   those for which `pred` holds: 2 4 |    the rest: 1 3 |
//! route(3, f)         reader f(&item) of three
//! ```
//!
//! No thread of its own pulls the source: a reader that has no item pulls it, for all readers. The `_into`
//! forms run a sink for each reader, each on its own thread, so a bound can never be waited for in vain. Code
//! that takes the [readers](Reader) themselves must read them at the same time, or say by
//! [`overflow`](Fanout::overflow) what happens to the items of a slow one.
//!
//! # Examples
//!
//! ```
//! use fanfold::Fanfold;
//!
//! let (even, odd) = (1..=100).partition_into(|x| x % 2 == 0, |even| even.sum::<u32>(), |odd| odd.count());
//! assert_eq!((even, odd), (2_550, 50));
//! ```
// `fan_out/README.md` describes the protocol.

mod broadcast;
mod demand;
mod dispatch;
mod fanout;
#[cfg(all(test, loom))]
mod models;
mod partition_readers;
mod route;
mod shared_source;
mod state;

pub use crate::fan_out::broadcast::{Broadcast, ToAll};
pub use crate::fan_out::dispatch::Dispatch;
pub use crate::fan_out::fanout::{Fanout, Reader};
pub use crate::fan_out::partition_readers::{ByPredicate, PartitionReaders};
pub use crate::fan_out::route::{ByRoute, Route};
