//! What goes wrong with an item or a wait, as values.

use std::any::Any;
use std::fmt;

/// The wait or the work was given up because a [`CancelToken`](crate::CancelToken) was tripped.
///
/// # Examples
///
/// ```
/// let token = fanfold::CancelToken::new();
/// token.cancel();
/// assert_eq!(token.check(), Err(fanfold::Cancelled));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_structs)]
pub struct Cancelled;

impl fmt::Display for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cancelled")
    }
}

impl std::error::Error for Cancelled {}

/// Why an item of an [isolated](crate::Stage::isolate) stage has no result: its closure panicked.
///
/// It stands at the item's place in the output; the items around it are not affected.
///
/// # Examples
///
/// ```
/// use fanfold::Fanfold;
///
/// let halves: Vec<_> = [2, 0, 4]
///     .into_iter()
///     .par_map_ordered(2, |x: i32| 8 / x)
///     .isolate()
///     .collect();
///
/// assert_eq!(halves[0], Ok(4));
/// let failure = halves[1].as_ref().unwrap_err();
/// assert_eq!(failure.seq(), 1);
/// assert!(failure.is_panic());
/// assert!(failure.message().contains("divide by zero"));
/// assert_eq!(halves[2], Ok(2));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    seq: u64,
    kind: Kind,
    message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Panic,
}

impl Failure {
    pub(crate) fn panicked(seq: u64, payload: &(dyn Any + Send)) -> Self {
        let message = payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "a payload that is not a string".to_owned());
        Failure {
            seq,
            kind: Kind::Panic,
            message,
        }
    }

    /// The item's position in the source, from 0.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// What the panic said. A payload that is not a string is described instead.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Whether the closure panicked.
    pub fn is_panic(&self) -> bool {
        self.kind == Kind::Panic
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "item {} panicked: {}", self.seq, self.message)
    }
}

impl std::error::Error for Failure {}
