//! Work that the consumer runs itself. Of work of a few nanoseconds: nothing is that quick in debug, so `ci/test.sh` runs these in release too.

#[path = "../support/mod.rs"]
mod support;

mod inline;
mod next_within;
mod one_worker;
mod short_bounds;
mod trap;
