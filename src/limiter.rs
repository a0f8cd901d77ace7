//! Limits of items per second, which several users can share. Needs the feature `throttle`.
//!
//! ```text
//! seconds   0         1         2
//! 2 a second, one by one          a    b    c    d    e
//! the same, with a burst of 3     abc  d    e
//! ```
//!
//! [`throttle`](crate::Fanfold::throttle) limits the items of one iterator. A shared [`Limiter`]
//! limits several of them together, and closures that [ask](Limiter::acquire) it. With their own
//! [`Clock`], tests need not wait.
//!
//! # Examples
//!
//! ```
//! use fanfold::Fanfold;
//! use fanfold::limiter::{Limiter, Rate};
//!
//! let calls = Limiter::new(Rate::from(1_000).burst(10)); // for both sources together
//! let (a, b) = ((0..9).throttle(&calls), (0..9).throttle(&calls));
//! assert_eq!(a.chain(b).count(), 18);
//! ```

mod clock;
mod limit;
mod queue;
mod rate;
mod throttle;

pub use crate::limiter::clock::{Clock, Sleeper};
pub use crate::limiter::limit::Limit;
pub use crate::limiter::queue::Limiter;
pub use crate::limiter::rate::Rate;
pub use crate::limiter::throttle::Throttle;
