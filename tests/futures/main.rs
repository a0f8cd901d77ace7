//! The bridge to async: stages as streams, and streams as sources of stages.

#[path = "../support/mod.rs"]
mod support;

mod from_stream;
mod into_stream;
mod runtimes;
