//! Work of some nanoseconds. Nothing is as quick in debug, so `ci/test.sh` runs these in release too.

mod support;

mod inline;
mod next_within;
