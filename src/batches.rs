//! Batches of items: by number, by age, what is there, and sliding windows.
//!
//! ```text
//! in               a  b  c  d  e |
//! window(2)           ab    cd   e |
//! .sliding(1)         ab bc cd de  |
//! .max_age(1 s)    a batch also ends when its first item is 1 s old, full or not
//! ready_chunks(9)  what has come since the last batch, at least one item
//! ```
//!
//! [`window`](crate::Fanfold::window) makes all of them but
//! [`ready_chunks`](crate::Fanfold::ready_chunks). Only that and [`max_age`](Window::max_age) need a
//! thread: it pulls ahead, so that a slow source does not hold up what is there.
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
pub use crate::fan_in::ready_chunks::{ReadyChunks, ReadyChunksPlan};
