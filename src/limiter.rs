//! At most so many items a second, for all who share a limiter. Needs the feature `throttle`.
//!
//! ```text
//! seconds   0         1         2
//! 2 a second, one by one          a    b    c    d    e
//! the same, with a burst of 3     abc  d    e
//! ```
//!
//! [`throttle`](crate::Fanfold::throttle) holds back the items of an iterator; a [`Limiter`] that is shared holds back
//! several of them, and closures that [ask](Limiter::acquire) it. With a [`Clock`] of one's own tests need not wait.
//!
//! # Examples
//!
//! ```
//! use fanfold::Fanfold;
//! use fanfold::limiter::{Limiter, Rate};
//!
//! let calls = Limiter::new(Rate::from(1_000).burst(10)); // of both sources together
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
