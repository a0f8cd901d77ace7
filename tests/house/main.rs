//! Checks that are not about behaviour: the layers, the public surface, the traits of types, the pages,
//! and programs as users would write them.

#[path = "../support/mod.rs"]
mod support;

mod aliases;
mod api;
mod auto_traits;
mod layers;
mod operators;
mod ui;
