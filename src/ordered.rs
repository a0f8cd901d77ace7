//! The scheduler of stages that run a closure for each item of a source, in order or as results arrive.
//! `ordered/README.md` describes its protocol.
//!
//! - `start` starts a stage, by its `opts`.
//! - `sched` is the scheduler. It knows only the types of items and results: its state is there, and what
//!   threads do with it is in `find`, `idle`, `execute` and `pull`.
//! - `runner` is the side of the job and `puller` that of the source; `shared` puts the three together.
//! - `consumer` is the side of `next()`, and `cursor` the part of it that is the same for every job and
//!   source. `near` is for a source that stays on the consumer's thread, `pushed` for one that is pushed into, and
//!   `inline` for tiny items.
//! - Below them, `core` is the state under the scheduler's lock, `signals` what threads signal to one another
//!   without it, `chunk` the items and results, and `reorder` their order. `timed` and `timing` are for time
//!   limits, `copies` and `attempts` for second runs, `limited` for permits of the user's, `weight`, `parked` and `aside` for bounds in
//!   bytes, `unowned` for chunks that any thread may run, `item_context` for tokens, and `worker` is one thread.

mod aside;
pub(crate) mod attempts;
pub(crate) mod chunk;
mod company;
pub(crate) mod consumer;
pub(crate) mod copies;
pub(crate) mod core;
pub(crate) mod cursor;
pub(crate) mod execute;
pub(crate) mod find;
mod gain;
mod head;
pub(crate) mod idle;
pub(crate) mod inline;
pub(crate) mod item_context;
mod limited;
#[cfg(all(test, not(loom)))]
mod litmus;
#[cfg(all(test, loom))]
mod models;
pub(crate) mod near;
mod one_worker;
pub(crate) mod opts;
mod own;
mod parked;
mod permits;
#[cfg(feature = "futures")]
mod polled;
pub(crate) mod pull;
pub(crate) mod puller;
pub(crate) mod pushed;
pub(crate) mod reorder;
mod resize;
pub(crate) mod runner;
pub(crate) mod sched;
pub(crate) mod shared;
pub(crate) mod signals;
pub(crate) mod start;
pub(crate) mod timed;
pub(crate) mod timing;
mod unowned;
mod weight;
pub(crate) mod worker;
