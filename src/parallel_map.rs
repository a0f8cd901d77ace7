//! The errgroup loop in one call.

use crate::cancel::CancelToken;
use crate::config::Workers;
use crate::error::Cancelled;
use crate::fanfold::Fanfold;

/// Maps all items with a fallible `f`, up to `n` at once, and collects the results in order.
///
/// Blocks until everything is done, so items and closure may borrow. The calling thread is one of
/// the `n`, so short loops gain too. It replaces the loop that spawns a task per item with a limit,
/// a wait and a slot per result. Nothing new is started once any item has failed; the items before
/// it are finished, so every run returns the same error.
///
/// Called inside a closure of a stage or a task of a group, it is part of that work: when that is
/// cancelled, fails or is dropped, [`CancelToken::current`] is tripped in each `f`, and an `f` that
/// obeys it ends the call with its error. This does not make the call skip an item, as it has no
/// error to report that; see [`parallel_map_with`] for one that stops by itself.
///
/// A limit beyond this call: let `f` [acquire](crate::Permits::acquire) a permit.
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
    // All results are held in any case, so a bound would only delay items.
    let stage = items.into_iter().try_par_map_ordered(n, f);
    let stage = stage.in_flight(usize::MAX).taking_part();
    stage.running_all().collect()
}

/// As [`parallel_map`], but gives up early when the token is tripped.
///
/// Then nothing new is started, and the call waits for the running closures; let them watch
/// [`CancelToken::current`] to end sooner. The same holds for the token of the surrounding work (a
/// closure of a stage, a task of a group), so `parallel_map_with(&CancelToken::current(), ..)`
/// inside it stops with it.
///
/// # Panics
///
/// As [`parallel_map`].
///
/// # Errors
///
/// The first error of `f` by the position of its item, or [`Cancelled`], as an `E`, if the token
/// was tripped before everything was done: never a part of the results.
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
