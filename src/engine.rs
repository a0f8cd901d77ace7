//! The engine: one for every parallel adaptor. `engine/README.md` tells its protocol.
//!
//! A stage is a job, a source and a scheduler. `sched` is the scheduler, which knows the types of items and results
//! only: what lies there, and in `find`, `idle`, `execute` and `pull` what threads do with it. `runner` is the side
//! of the job and `puller` that of the source; `stage` puts the three together, `start` starts them, with `opts`.
//! `consumer` is the side of `next()`, and `cursor` as much of it as is the same for every job and source; `inline` is
//! what it does when items are tiny. Below them, `desk` is what lies under the scheduler's lock, `ctl` the
//! words that threads exchange without it, `run` the items and results, `reorder` their order, `cost`
//! their size, `timed` their limits, `hedged` their second chance, `pool` the threads, `spin` their
//! shortest wait, `bell` their longest, `context` what a thread is in the middle of, `tee` one source of several
//! readers, `demand` who of them wants more, `abreast` tasks that run at the same time, `erase` the
//! lifetimes, `barrier` the one system call.

pub(crate) mod abreast;
pub(crate) mod barrier;
pub(crate) mod bell;
pub(crate) mod cancel;
pub(crate) mod census;
#[cfg(feature = "throttle")]
pub(crate) mod clock;
pub(crate) mod consumer;
pub(crate) mod context;
pub(crate) mod cost;
pub(crate) mod ctl;
pub(crate) mod cursor;
pub(crate) mod demand;
pub(crate) mod desk;
pub(crate) mod erase;
pub(crate) mod execute;
pub(crate) mod find;
pub(crate) mod hedged;
pub(crate) mod hub;
pub(crate) mod idle;
pub(crate) mod inline;
pub(crate) mod job;
pub(crate) mod keyed;
pub(crate) mod lent;
#[cfg(all(test, not(loom)))]
mod litmus;
#[cfg(all(test, loom))]
mod models;
pub(crate) mod opts;
pub(crate) mod policy;
pub(crate) mod pool;
pub(crate) mod pull;
pub(crate) mod puller;
pub(crate) mod race;
pub(crate) mod reorder;
pub(crate) mod run;
pub(crate) mod runner;
pub(crate) mod sched;
pub(crate) mod source;
pub(crate) mod spin;
pub(crate) mod stage;
pub(crate) mod start;
pub(crate) mod tee;
pub(crate) mod timed;
pub(crate) mod timing;
pub(crate) mod unwind;
pub(crate) mod worker;
