//! Merges several sources into one stream, or reads one source ahead on a separate thread.
//!
//! ```text
//! source 1   a . . b |              merge                 1 a 2 3 b |   as they arrive
//! source 2   . 1 2 3 |              round_robin           a 1 b 2 3 |   in turns
//!                                   merge_sorted_by_key   1 2 3 a b |   by key, if each is sorted
//! ```
//!
//! A thread pulls each source, up to a buffer ahead of the consumer.
//! [`readahead`](crate::Fanfold::readahead) does the same for a single source. All return a
//! [`Stage`](crate::Stage), with its options and terminal calls.
//!
//! # Examples
//!
//! ```
//! use fanfold::{merge, merge_sorted_by_key, round_robin};
//!
//! assert_eq!(merge([0..5, 5..10]).sum::<i32>(), 45);
//! assert!(round_robin([[1, 3], [2, 4]]).eq([1, 2, 3, 4]));
//! let sorted: Result<Vec<_>, _> = merge_sorted_by_key([[1, 4], [2, 3]], |x| *x).collect();
//! assert_eq!(sorted.unwrap(), [1, 2, 3, 4]);
//! ```
// `fan_in/README.md` describes the protocol.

mod alarm;
pub(crate) mod batches_by_age;
mod front;
mod lane;
mod measured;
mod merge;
mod merge_sorted;
#[cfg(all(test, loom))]
mod models;
mod readahead;
pub(crate) mod ready_chunks;
mod round_robin;
mod turns;
mod worker;

pub use crate::fan_in::merge::{Merge, MergeHandle, MergePlan, MergeReport, SourceOptions, merge};
pub use crate::fan_in::merge_sorted::{
    MergeSorted, MergeSortedPlan, Unsorted, merge_sorted_by_key,
};
pub use crate::fan_in::readahead::{Readahead, ReadaheadPlan};
pub use crate::fan_in::round_robin::{RoundRobin, RoundRobinPlan, round_robin};
