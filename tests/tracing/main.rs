//! The feature `tracing`, by a subscriber that records the tree of spans, and who is in which of them.

#[path = "../support/mod.rs"]
mod support;

mod ends;
mod items;
mod operators;
mod panics;
mod parents;
mod random;
mod tree;
