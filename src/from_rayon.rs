//! A parallel iterator of rayon as a stage: its results come out in order, while it runs, within a bound.
//!
//! ```text
//! rayon     vec.par_iter().map(f)             any IndexedParallelIterator
//! fanfold   .ordered(4)                       a Stage: its options, its terminal calls, an iterator
//! ```
//!
//! Needs the feature `rayon`. The items are run by fanfold's threads, and none of rayon's is blocked.
//!
//! # Examples
//!
//! ```
//! use fanfold::from_rayon::FromRayon;
//! use rayon::prelude::*;
//!
//! let first = (0..1_000_000_usize).into_par_iter().map(|x| x * x).ordered(2).find(|square| *square > 50);
//! assert_eq!(first, Some(64)); // and the rest was not run
//! ```
// `from_rayon/README.md` describes the protocol.

mod consumer;
mod drive;
mod handover;
mod outcome;
mod pieces;
mod plan;
mod relay;

pub use crate::from_rayon::outcome::{Isolating, Outcome, Raising};
pub use crate::from_rayon::plan::{FromRayon, Ordered};
