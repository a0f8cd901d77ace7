//! Batches of items, without a thread.

pub(crate) mod sliding;
pub(crate) mod window;
