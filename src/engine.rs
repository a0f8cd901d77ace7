//! The engine: one for every parallel adaptor. `engine/README.md` tells its protocol.
//!
//! `stage` is where the parts meet; `worker` (with `puller`, for when it is in the source) and
//! `consumer` are its two sides. Below them, `desk` is what lies under the stage's lock, `ctl` the
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
pub(crate) mod demand;
pub(crate) mod desk;
pub(crate) mod erase;
pub(crate) mod hedged;
pub(crate) mod hub;
pub(crate) mod inline;
pub(crate) mod job;
pub(crate) mod keyed;
pub(crate) mod lent;
#[cfg(all(test, not(loom)))]
mod litmus;
#[cfg(all(test, loom))]
mod models;
pub(crate) mod policy;
pub(crate) mod pool;
pub(crate) mod puller;
pub(crate) mod race;
pub(crate) mod reorder;
pub(crate) mod run;
pub(crate) mod source;
pub(crate) mod spin;
pub(crate) mod stage;
pub(crate) mod tee;
pub(crate) mod timed;
pub(crate) mod unwind;
pub(crate) mod worker;
