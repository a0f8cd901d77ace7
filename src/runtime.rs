//! What every scheduler stands on.
//!
//! A stage is described (`plan`), starts when it is first asked (`lazy`), and lives as long as its `session`: its threads
//! are leased from a `pool` (`lease`) and joined, at the end of a `scope` if it borrows. `control` tells them to stop, `roster`
//! says which of them sleep, `context` what each is in the middle of, and `registry` which stages there are. The consumer sleeps
//! until an `event`, after a short look (`spin`). `cost` measures items, `unwind` carries panics, `barrier` is the one system
//! call, and `abreast` runs a fixed number of tasks.

pub(crate) mod abreast;
pub(crate) mod barrier;
pub(crate) mod biased;
pub(crate) mod context;
pub(crate) mod control;
pub(crate) mod cost;
pub(crate) mod event;
pub(crate) mod lazy;
pub(crate) mod lease;
pub(crate) mod plan;
pub(crate) mod pool;
pub(crate) mod registry;
pub(crate) mod roster;
pub(crate) mod scope;
pub(crate) mod session;
pub(crate) mod spin;
