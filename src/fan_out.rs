//! One source for several readers. `fan_out/README.md` describes the protocol.

pub(crate) mod broadcast;
pub(crate) mod deal;
pub(crate) mod demand;
pub(crate) mod fanout;
#[cfg(all(test, loom))]
mod models;
pub(crate) mod route;
pub(crate) mod shared_source;
pub(crate) mod split;
mod state;
