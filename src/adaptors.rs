//! The adaptors, one a file. A parallel one is a job; what runs it is the engine.

pub(crate) mod aged;
pub(crate) mod broadcast;
pub(crate) mod by_key;
pub(crate) mod filter;
pub(crate) mod filter_map;
pub(crate) mod flat_map;
pub(crate) mod init;
pub(crate) mod isolated;
pub(crate) mod local;
pub(crate) mod map;
pub(crate) mod merge;
pub(crate) mod merge_sorted;
pub(crate) mod readahead;
pub(crate) mod round_robin;
pub(crate) mod route;
pub(crate) mod sliding;
pub(crate) mod split;
#[cfg(feature = "throttle")]
pub(crate) mod throttle;
pub(crate) mod try_map;
pub(crate) mod window;
