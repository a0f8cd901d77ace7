//! Items that are run key by key: those of one key one at a time and in order, those of different keys at the
//! same time. This is the scheduler of `par_map_by_key`; `keyed/README.md` describes its protocol.

pub(crate) mod consumer;
pub(crate) mod intake;
#[cfg(all(test, loom))]
mod models;
pub(crate) mod plan;
mod resize;
mod shared;
mod state;
mod taker;
#[cfg(all(test, not(loom)))]
mod tests;
mod worker;
