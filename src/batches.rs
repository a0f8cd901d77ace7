//! Batches of items: by number, by age, and sliding windows.
//!
//! ```text
//! in               a  b  c  d  e |
//! window(2)           ab    cd   e |
//! .sliding(1)         ab bc cd de  |
//! .max_age(1 s)    a batch also ends when its first item is 1 s old, full or not
//! ```
//!
//! [`window`](crate::Fanfold::window) makes all of them. Only [`max_age`](Window::max_age) needs a
//! thread: it pulls ahead, so that it can watch the clock while the source is slow.
//!
//! # Examples
//!
//! ```
//! use fanfold::Fanfold;
//!
//! let sums: Vec<i32> = (1..=5).window(2).map(|batch| batch.iter().sum()).collect();
//! assert_eq!(sums, [3, 7, 5]);
//! let sums: Vec<i32> = (1..=5).window(2).sliding(1).map(|pair| pair.iter().sum()).collect();
//! assert_eq!(sums, [3, 5, 7, 9]);
//! ```

mod sliding;
mod window;

pub use crate::batches::sliding::{Sliding, SlidingAggregate};
pub use crate::batches::window::{Aggregate, Window};
pub use crate::fan_in::batches_by_age::{BatchesByAge, BatchesByAgePlan};
