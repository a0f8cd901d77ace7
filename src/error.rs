//! The errors of an item or a wait, as values.

use std::any::Any;
use std::fmt;
use std::time::Duration;

/// A wait or work was given up because a [`CancelToken`](crate::CancelToken) was tripped: by a call
/// of [`cancel`](crate::CancelToken::cancel), or because its deadline had passed.
///
/// The `Default` is a cancellation by call.
///
/// # Examples
///
/// ```
/// use fanfold::CancelToken;
/// use std::time::Duration;
///
/// let token = CancelToken::new();
/// token.cancel();
/// assert!(!token.check().unwrap_err().is_deadline());
///
/// let hurried = CancelToken::new().with_timeout(Duration::ZERO);
/// assert!(hurried.check().unwrap_err().is_deadline());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Cancelled {
    deadline: bool,
    seq: Option<u64>,
}

impl Cancelled {
    pub(crate) const BY_CALL: Cancelled = Cancelled {
        deadline: false,
        seq: None,
    };
    pub(crate) const BY_DEADLINE: Cancelled = Cancelled {
        deadline: true,
        seq: None,
    };

    /// The same reason, for a stage that was cut short before this item.
    pub(crate) fn at(self, seq: u64) -> Self {
        Cancelled {
            seq: Some(seq),
            ..self
        }
    }

    /// Whether a deadline has passed: the token's own or that of an ancestor. Otherwise
    /// [`cancel`](crate::CancelToken::cancel) was called.
    pub fn is_deadline(&self) -> bool {
        self.deadline
    }

    /// If a stage was cut short ([`fail_on`](crate::Stage::fail_on)), the number of items whose
    /// results it has yielded.
    pub fn seq(&self) -> Option<u64> {
        self.seq
    }
}

impl fmt::Display for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.deadline {
            "the deadline has passed"
        } else {
            "cancelled"
        })?;
        match self.seq {
            Some(seq) => write!(f, " before item {seq} was done"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Cancelled {}

/// Of the kind `TimedOut` if a deadline has passed, and `Other` otherwise: not `Interrupted`, which means "try again".
impl From<Cancelled> for std::io::Error {
    fn from(why: Cancelled) -> Self {
        use std::io::ErrorKind;
        let kind = if why.deadline {
            ErrorKind::TimedOut
        } else {
            ErrorKind::Other
        };
        Self::new(kind, why)
    }
}

/// Why an item of an [isolated](crate::Stage::isolate) stage has no result: its closure panicked,
/// or ran for [too long](crate::Stage::item_timeout); or why the stage [ended
/// early](crate::Stage::fail_on).
///
/// It takes the item's position in the output; other items are not affected.
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
#[doc(alias("Failure", "JoinError"))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemError {
    seq: u64,
    kind: Kind,
    message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Panic,
    Timeout,
    Cancelled,
}

/// The message of a panic.
pub(crate) fn said(payload: &(dyn Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a payload that is not a string".to_owned())
}

impl ItemError {
    pub(crate) fn panicked(seq: u64, payload: &(dyn Any + Send)) -> Self {
        ItemError {
            seq,
            kind: Kind::Panic,
            message: said(payload),
        }
    }

    pub(crate) fn timed_out(seq: u64, limit: Duration) -> Self {
        ItemError {
            seq,
            kind: Kind::Timeout,
            message: format!("its closure ran for longer than {limit:?}"),
        }
    }

    /// The item's position in the source, from 0. For a stage that was cut short, the position of
    /// the first item that it has not yielded.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// The message of the panic, or how long the closure was allowed to run. If the payload is not
    /// a string, the message says so.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Whether the closure panicked.
    pub fn is_panic(&self) -> bool {
        self.kind == Kind::Panic
    }

    /// Whether the closure ran for longer than [`item_timeout`](crate::Stage::item_timeout) allows.
    pub fn is_timeout(&self) -> bool {
        self.kind == Kind::Timeout
    }

    /// Whether this is not the failure of an item, but the end of a stage that was cut short; see
    /// [`fail_on`](crate::Stage::fail_on).
    pub fn is_cancelled(&self) -> bool {
        self.kind == Kind::Cancelled
    }
}

impl From<Cancelled> for ItemError {
    fn from(why: Cancelled) -> Self {
        ItemError {
            seq: why.seq.unwrap_or(0),
            kind: Kind::Cancelled,
            message: Cancelled { seq: None, ..why }.to_string(),
        }
    }
}

impl fmt::Display for ItemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            Kind::Panic => "panicked",
            Kind::Timeout => "timed out",
            Kind::Cancelled => "was not done",
        };
        write!(f, "item {} {what}: {}", self.seq, self.message)
    }
}

impl std::error::Error for ItemError {}

/// Why a replica of a [hedge](crate::Fanfold::hedge) gave no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums)]
pub enum ReplicaError<E> {
    /// It returned this error.
    Failed(E),
    /// It panicked, with this message. If the payload is not a string, the message says so.
    Panicked(String),
}

impl<E> ReplicaError<E> {
    pub(crate) fn panicked(payload: &(dyn Any + Send)) -> Self {
        ReplicaError::Panicked(said(payload))
    }
}

impl<E: fmt::Display> fmt::Display for ReplicaError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReplicaError::Failed(error) => error.fmt(f),
            ReplicaError::Panicked(message) => write!(f, "panicked: {message}"),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> std::error::Error for ReplicaError<E> {}

/// Why a [hedge](crate::Fanfold::hedge) has no answer, with the failures of its replicas.
///
/// # Examples
///
/// ```
/// use fanfold::{Fanfold, hedge::ReplicaError, replica};
///
/// let replicas = [replica(|_| Err::<(), _>("down")), replica(|_| panic!("a bug"))];
/// let error = replicas.into_iter().hedge().run().unwrap_err();
/// assert!(error.is_failure());
/// assert_eq!(error.failures()[0], (0, ReplicaError::Failed("down")));
/// assert_eq!(error.to_string(), "no replica has an answer: 0: down; 1: panicked: a bug");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HedgeError<E> {
    end: EndKind,
    failures: Vec<(usize, ReplicaError<E>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EndKind {
    NoReplica,
    AllFailed,
    TimedOut,
    Cancelled,
}

impl<E> HedgeError<E> {
    pub(crate) fn none() -> Self {
        HedgeError {
            end: EndKind::NoReplica,
            failures: Vec::new(),
        }
    }

    pub(crate) fn all_failed(failures: Vec<(usize, ReplicaError<E>)>) -> Self {
        let end = EndKind::AllFailed;
        HedgeError { end, failures }
    }

    pub(crate) fn timed_out(failures: Vec<(usize, ReplicaError<E>)>) -> Self {
        let end = EndKind::TimedOut;
        HedgeError { end, failures }
    }

    pub(crate) fn cancelled(failures: Vec<(usize, ReplicaError<E>)>) -> Self {
        let end = EndKind::Cancelled;
        HedgeError { end, failures }
    }

    /// The replicas that had failed by then, each as its position in the iterator and its error.
    pub fn failures(&self) -> &[(usize, ReplicaError<E>)] {
        &self.failures
    }

    /// The same, by value.
    pub fn into_failures(self) -> Vec<(usize, ReplicaError<E>)> {
        self.failures
    }

    /// Whether all replicas have failed, or there was none.
    pub fn is_failure(&self) -> bool {
        matches!(self.end, EndKind::AllFailed | EndKind::NoReplica)
    }

    /// Whether the time limit has passed.
    pub fn is_timeout(&self) -> bool {
        self.end == EndKind::TimedOut
    }

    /// Whether a token was tripped.
    pub fn is_cancelled(&self) -> bool {
        self.end == EndKind::Cancelled
    }
}

impl<E: fmt::Display> fmt::Display for HedgeError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.end {
            EndKind::NoReplica => "there is no replica to ask: the iterator of the hedge is empty",
            EndKind::AllFailed => "no replica has an answer",
            EndKind::TimedOut => "no replica has answered in time",
            EndKind::Cancelled => "the hedge was cancelled",
        })?;
        for (at, (number, why)) in self.failures.iter().enumerate() {
            let between = if at == 0 { ": " } else { "; " };
            write!(f, "{between}{number}: {why}")?;
        }
        Ok(())
    }
}

impl<E: fmt::Debug + fmt::Display> std::error::Error for HedgeError<E> {}

/// Nothing was ready in time; see [`Stage::next_within`](crate::Stage::next_within).
///
/// # Examples
///
/// ```
/// use fanfold::Fanfold;
/// use std::time::Duration;
///
/// let (tell, wait) = std::sync::mpsc::channel::<()>();
/// let mut stage = [wait].into_iter().par_map_ordered(1, |wait| wait.recv());
/// let late = stage.next_within(Duration::from_millis(1)).unwrap_err();
/// assert_eq!(late.seq(), Some(0));
/// assert_eq!(late.to_string(), "item 0 is not ready yet");
/// drop(tell);
/// assert!(stage.next_within(Duration::MAX).unwrap().is_some());
/// ```
#[doc(alias("Late", "Timeout", "RecvTimeoutError"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NotReady {
    seq: Option<u64>,
}

impl NotReady {
    pub(crate) fn new(seq: Option<u64>) -> Self {
        NotReady { seq }
    }

    /// The position in the source of the item that was waited for; `None` if the stage is
    /// [unordered](crate::Stage::unordered), where any item would have done.
    pub fn seq(&self) -> Option<u64> {
        self.seq
    }
}

impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.seq {
            Some(seq) => write!(f, "item {seq} is not ready yet"),
            None => f.write_str("no item is ready yet"),
        }
    }
}

impl std::error::Error for NotReady {}

/// Why a [`Worklist`](crate::Worklist) refused a push; contains the item.
///
/// # Examples
///
/// ```
/// use fanfold::{worklist, worklist::PushError};
///
/// let mut source = worklist(["seed"]).buffer(1);
/// let lead = source.next().unwrap();
/// lead.push("a").unwrap();
/// let refused = lead.push("b").unwrap_err();
/// assert_eq!(refused.to_string(), "the queue is full");
/// assert_eq!(refused.into_inner(), "b");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PushError<T> {
    /// The queue holds as many items as its [`buffer`](crate::Worklist::buffer) allows. There is
    /// room again when one is given out.
    Full(T),
    /// As many items were accepted as the [`budget`](crate::Worklist::budget) allows. There will be
    /// no room again.
    Budget(T),
}

impl<T> PushError<T> {
    /// The item.
    pub fn into_inner(self) -> T {
        match self {
            PushError::Full(item) | PushError::Budget(item) => item,
        }
    }
}

// Written by hand without a bound on `T`, so that `?` and `unwrap` work with any item.
impl<T> fmt::Debug for PushError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PushError::Full(_) => f.write_str("Full(..)"),
            PushError::Budget(_) => f.write_str("Budget(..)"),
        }
    }
}

impl<T> fmt::Display for PushError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PushError::Full(_) => "the queue is full",
            PushError::Budget(_) => "the budget is spent",
        })
    }
}

impl<T> std::error::Error for PushError<T> {}

/// A [`Worklist`](crate::Worklist) was stopped by its [`budget`](crate::Worklist::budget): there
/// was more work than it allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BudgetExhausted {
    budget: usize,
    refused: usize,
}

impl BudgetExhausted {
    pub(crate) fn new(budget: usize, refused: usize) -> Self {
        BudgetExhausted { budget, refused }
    }

    /// How many items were given out.
    pub fn budget(&self) -> usize {
        self.budget
    }

    /// How many more are known to have been refused; each might have led to others.
    pub fn refused(&self) -> usize {
        self.refused
    }
}

impl fmt::Display for BudgetExhausted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BudgetExhausted { budget, refused } = self;
        write!(
            f,
            "the budget of {budget} items is spent, and {refused} more were refused"
        )
    }
}

impl std::error::Error for BudgetExhausted {}
