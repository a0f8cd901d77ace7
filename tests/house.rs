//! What is not about behaviour: the layers, the public surface, what types may do, the pages, and the
//! programs that users would write.

mod support;

mod api;
mod auto_traits;
mod layers;
mod operators;
mod ui;
