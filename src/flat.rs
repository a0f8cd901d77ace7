//! The scheduler of `par_flat_map`: workers run the inner iterators of many items at the same time, and the
//! outputs come out in order, while they are made.
//!
//! `flat/README.md` describes the protocol.

mod begun;
pub(crate) mod consumer;
mod frame;
mod lane;
mod outputs;
mod own;
pub(crate) mod plan;
mod shared;
mod state;
mod taker;
mod worker;

#[cfg(all(test, loom))]
mod models;
