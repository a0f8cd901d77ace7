//! Stop signals.
//!
//! A [`CancelToken`] is shared by the code that gives the signal and the code that obeys it. A
//! child is tripped with its parent, and can be tripped alone; a deadline trips a token at its time.
//!
//! ```text
//! program ──┬── request 1 ──┬── stage      cancel() on request 1 trips the stage and the group,
//!           │               └── group      and nothing of request 2
//!           └── request 2 ───── stage
//! ```
//!
//! # Examples
//!
//! ```
//! use fanfold::{CancelToken, Fanfold};
//!
//! let request = CancelToken::new();
//! let squares = (0_u64..).par_map_ordered(2, |x| x * x).cancel_on(&request.child());
//! let seen = squares.inspect(|square| if *square == 9 { request.cancel() }).count();
//! assert!(seen >= 4); // ready results are still yielded, then the stage ends
//! ```

mod hook;
mod node;
mod timer;
mod token;

pub use crate::cancel::hook::CancelHook;
pub use crate::cancel::token::CancelToken;
pub use crate::error::Cancelled;

pub(crate) use crate::cancel::node::{Rivals, Why};
pub(crate) use crate::cancel::token::keep_time;
