//! The parallel adaptors that run a closure for each item. Each is a *job* in a file of its own,
//! and does not depend on what runs it; `source` is what a stage pulls from.

pub(crate) mod filter;
pub(crate) mod filter_map;
pub(crate) mod flat_map;
pub(crate) mod fold;
pub(crate) mod for_each;
pub(crate) mod in_flight_weight;
pub(crate) mod init;
pub(crate) mod isolated;
pub(crate) mod job;
pub(crate) mod local;
pub(crate) mod map;
pub(crate) mod parked_weight;
pub(crate) mod pushed;
pub(crate) mod runner;
pub(crate) mod source;
pub(crate) mod try_filter;
pub(crate) mod try_filter_map;
pub(crate) mod try_for_each;
pub(crate) mod try_init;
pub(crate) mod try_map;
pub(crate) mod try_push;
