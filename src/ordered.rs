//! The scheduler of stages that run a closure for each item of a source, in order or as they arrive.
//! `ordered/README.md` tells its protocol.
//!
//! `start` starts a stage, by its `opts`. `sched` is the scheduler, which knows the types of items and results only: what
//! lies there, and in `find`, `idle`, `execute` and `pull` what threads do with it. `runner` is the side of the job and
//! `puller` that of the source; `shared` puts the three together. `consumer` is the side of `next()`, and `cursor` as much
//! of it as is the same for every job and source; `near` is what it does for a source that stays on
//! its thread, and `inline` when items are tiny. Below them, `core` is what lies under the scheduler's lock, `signals` what threads tell one another
//! without it, `chunk` the items and results, `reorder` their order, `timed` and `timing` their limits, `copies` and `attempts`
//! their second chance, `worker` a thread.

pub(crate) mod attempts;
pub(crate) mod chunk;
pub(crate) mod consumer;
pub(crate) mod copies;
pub(crate) mod core;
pub(crate) mod cursor;
pub(crate) mod execute;
pub(crate) mod find;
pub(crate) mod idle;
pub(crate) mod inline;
pub(crate) mod item_context;
#[cfg(all(test, not(loom)))]
mod litmus;
#[cfg(all(test, loom))]
mod models;
pub(crate) mod near;
pub(crate) mod opts;
pub(crate) mod pull;
pub(crate) mod puller;
pub(crate) mod reorder;
pub(crate) mod runner;
pub(crate) mod sched;
pub(crate) mod shared;
pub(crate) mod signals;
pub(crate) mod start;
pub(crate) mod timed;
pub(crate) mod timing;
pub(crate) mod worker;
