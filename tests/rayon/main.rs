//! The bridge out of rayon: parallel iterators as ordered stages.

#[path = "../support/mod.rs"]
mod support;

mod ends;
mod laws;
mod nested;
mod options;
