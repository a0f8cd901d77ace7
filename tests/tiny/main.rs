//! Work of a few nanoseconds. Nothing is that quick in debug, so `ci/test.sh` runs these in release too.

#[path = "../support/mod.rs"]
mod support;

mod inline;
mod next_within;
