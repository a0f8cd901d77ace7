//! Several sources into one stream, and one source on a thread of its own. `fan_in/README.md` describes the protocol.

mod alarm;
pub(crate) mod batches_by_age;
mod front;
pub(crate) mod lane;
pub(crate) mod merge;
pub(crate) mod merge_sorted;
#[cfg(all(test, loom))]
mod models;
pub(crate) mod readahead;
pub(crate) mod round_robin;
mod turns;
mod worker;
