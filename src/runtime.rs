//! What every scheduler is built on.
//!
//! A stage is a description (`plan`) until it is first asked for an output, and then it starts (`lazy`). A
//! running stage has a `session`: its threads are leased (`lease`) from a `pool` and joined (`latch`) at the
//! end, or at the end of a `scope` if the stage borrows.
//!
//! What all running stages have in common is in `life`, and `control` tells their threads to stop. `roster`
//! records which threads sleep, `context` what each thread is in the middle of, and `registry` which stages
//! run. The consumer sleeps until an `event`, after it has looked around briefly (`spin`). `gauge` counts the
//! items in flight.
//!
//! `permits` are the user's, for limits beyond one stage, and `holds` is what closures hold of them. `cost` measures
//! items. `barrier` is the asymmetric barrier of the handshakes, and `biased` a value that can be taken back from its
//! borrower. `probe` asks the kernel whether a thread waits for a core. `abreast` runs a fixed number of tasks. `width` is
//! what the handles of a stage and the stage share, if its width may change. Where a width finds itself, `helm` measures,
//! `pilot` decides, and `cores` is what other such stages leave over.
//!
//! `meter` adds up what `stats` shows, if that is asked for: with `cpu_clock`, how long a thread has used a CPU, and
//! `item_times`. `trace` is the feature `tracing`.

pub(crate) mod abreast;
pub(crate) mod barrier;
pub(crate) mod biased;
pub(crate) mod context;
pub(crate) mod control;
pub(crate) mod cores;
pub(crate) mod cost;
pub(crate) mod cpu_clock;
pub(crate) mod event;
pub(crate) mod gauge;
pub(crate) mod helm;
pub(crate) mod holds;
#[cfg(feature = "percentile")]
pub(crate) mod item_times;
pub(crate) mod latch;
pub(crate) mod lazy;
pub(crate) mod lease;
pub(crate) mod life;
pub(crate) mod meter;
pub(crate) mod permits;
pub(crate) mod pilot;
pub(crate) mod plan;
pub(crate) mod pool;
pub(crate) mod probe;
pub(crate) mod registry;
pub(crate) mod roster;
pub(crate) mod scope;
pub(crate) mod session;
pub(crate) mod sleeper;
pub(crate) mod spin;
pub(crate) mod trace;
pub(crate) mod width;
