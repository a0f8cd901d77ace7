//! The errgroup loop, in one call.

use crate::cancel::CancelToken;
use crate::config::Workers;
use crate::error::Cancelled;
use crate::fanfold::Fanfold;

/// Maps all items with a fallible `f`, up to `n` at once, and collects the results in their order.
///
/// Blocks until all is done, so that items and closure may borrow; the calling thread is one of the
/// `n`, so that short loops gain too. It replaces the loop that
/// spawns a task an item, a limit, a wait and a place for the results. Nothing new is started once
/// any item has failed; what precedes it is finished, so that it is the same error on every run.
///
/// Called inside a closure of a stage, or a task of a group, it is a part of that: when that is cancelled,
/// fails or is dropped, [`CancelToken::current`] is tripped in each `f`, and an `f` that heeds it ends the call
/// with its error. Nothing is left out for that, as there is no error to tell of it; see
/// [`parallel_map_with`] for one that stops by itself.
///
/// # Panics
///
/// If `n` is 0. A panic of `f` is raised unless an error precedes it in the order of the items.
///
/// # Errors
///
/// The first error of `f`, by the position of its item.
///
/// # Examples
///
/// ```
/// let words = ["8", "9", "ten"];
/// let suffix = String::from("0");
/// let parse = |word: &&str| format!("{word}{suffix}").parse::<u32>();
/// assert_eq!(fanfold::parallel_map(&words[..2], 4, parse), Ok(vec![80, 90]));
/// assert!(fanfold::parallel_map(&words, 4, parse).is_err());
/// ```
#[doc(alias = "errgroup")]
#[track_caller]
pub fn parallel_map<I, O, E, F>(items: I, n: impl Into<Workers>, f: F) -> Result<Vec<O>, E>
where
    I: IntoIterator<IntoIter: Send, Item: Send>,
    F: Fn(I::Item) -> Result<O, E> + Send + Sync,
    O: Send,
    E: Send,
{
    // All results are held in any case, so a bound would only keep items from being started.
    let stage = items.into_iter().try_par_map_ordered(n, f);
    let stage = stage.in_flight(usize::MAX).taking_part();
    stage.running_all().collect()
}

/// [`parallel_map`] under a token: gives up early when the token is tripped.
///
/// Then nothing new is started, and the closures that run are waited for; let them look at
/// [`CancelToken::current`] to end sooner. The same holds for the token of what it is called in (a closure
/// of a stage, a task of a group), so inside of these `parallel_map_with(&CancelToken::current(), ..)` stops
/// with them.
///
/// # Panics
///
/// As [`parallel_map`].
///
/// # Errors
///
/// The first error of `f` by the position of its item, or [`Cancelled`], as an `E`, if the token was tripped
/// before all was done: never a part of the results.
///
/// # Examples
///
/// ```
/// use fanfold::{CancelToken, Cancelled};
///
/// let token = CancelToken::new();
/// let sleep = |_| CancelToken::current().sleep(std::time::Duration::from_secs(60));
/// let stop = token.clone();
/// std::thread::spawn(move || stop.cancel());
/// let why: Cancelled = fanfold::parallel_map_with(&token, 0..8, 4, sleep).unwrap_err();
/// assert!(!why.is_deadline());
/// ```
#[doc(alias("parallel_map_on", "errgroup"))]
#[track_caller]
pub fn parallel_map_with<I, O, E, F>(
    token: &CancelToken,
    items: I,
    n: impl Into<Workers>,
    f: F,
) -> Result<Vec<O>, E>
where
    I: IntoIterator<IntoIter: Send, Item: Send>,
    F: Fn(I::Item) -> Result<O, E> + Send + Sync,
    O: Send,
    E: Send + From<Cancelled>,
{
    let stage = items.into_iter().try_par_map_ordered(n, f);
    let stage = stage.in_flight(usize::MAX).taking_part();
    stage.fail_on(token).collect()
}
