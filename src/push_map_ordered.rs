//! A stage that items are pushed into, for programs that have a writer and no iterator.
//!
//! # What `push` returns
//!
//! Outputs become ready while the caller pushes, and go to the caller. Three forms were written out in real use: a
//! writer of compressed blocks, a loop with progress, a function with `?`.
//!
//! - `push(item)` returns an iterator of what is ready: `for block in stage.push(item) { out.write_all(&block?)? }`.
//!   This form was chosen. It is the loop that one writes over a stage that is pulled, with its `?`, `break` and
//!   `return`; and there is nothing in that iterator, so nothing is lost with it.
//! - `push(item, |output| ..)` is as short, and outputs cannot be ignored. But `?` within a closure of some lines does
//!   not compile before its error type is written out, and an error of the sink arrives with the item neither in nor
//!   out.
//! - `push(item)` returns an `Option`: `if let Some(block) = stage.push(item) { .. }`. After one slow item there are as
//!   many outputs as the bound, and one comes out per push, so all later ones come late, although they are ready; and
//!   `stage.push(item);` loses an output.
//!
//! A stage that has failed takes nothing more. The loop that only logs the error and pushes on would lose its items
//! unnoticed, so the fallible form has an `Err` for each of them. That is why its errors must be `From<Cancelled>`. The
//! alternatives: a clone of the first error (`io::Error` has none), or a `push` that returns a `Result` (a second `?`
//! in each call, for something that most programs never see).

use crate::config::Workers;
use crate::error::Cancelled;
use crate::ordered::start::Par;
use crate::par::map::Map;
use crate::par::pushed::Pushed;
use crate::par::try_push::TryPush;
use crate::stage::Stage;

/// A stage that items are pushed into; made by [`push_map_ordered`].
///
/// For a field, give it a function: `PushMapOrdered<Vec<u8>, fn(Vec<u8>) -> Vec<u8>>`, or a boxed closure if it
/// captures something.
pub type PushMapOrdered<I, F> = Stage<Par<Pushed<I>, Map<F>>>;

/// The same, fallible; made by [`try_push_map_ordered`].
pub type TryPushMapOrdered<I, F> = Stage<Par<Pushed<I>, TryPush<F>>>;

/// Maps items that are [pushed](Stage::push) into it, up to `n` at once, and gives the outputs back in order.
///
/// For an `impl Write` and everything else that gets its items one by one and has no iterator. Items and outputs are
/// exchanged on the caller's thread, so what it does with the outputs need be neither `Send` nor `'static`. There is
/// no thread but the workers. Takes all options of a stage, before the first push.
///
/// Order: outputs come out in the order of the pushes, each as soon as its turn has come and the caller asks. Memory:
/// at most [`in_flight`](Stage::in_flight) items are in the stage, and one waits in front of it; the default is at
/// least 16 per worker. [`push`](Stage::push) waits only while that bound is reached; [`try_push`](Stage::try_push)
/// and [`try_next`](Stage::try_next) never wait; `next()` waits if something is in flight, and its `None` means that
/// nothing is, for now. [`finish`](Stage::finish) gives what is left.
///
/// **Dropped without `finish`, it is abandoned**: the drop starts nothing more, waits for the running closures, and
/// drops all items and outputs. Each push is handed over by itself, for about a microsecond, so push blocks, not
/// bytes.
///
/// # Panics
///
/// If `n` is 0. A panic of `f` is raised by the call that would have given its output, after everything before it.
///
/// # Examples
///
/// ```
/// use fanfold::push_map_ordered;
///
/// let mut report = String::new(); // stays on this thread
/// let mut stage = push_map_ordered(4, |line: &str| line.split(' ').count());
/// for line in ["one two", "three", "four five six"] {
///     for words in stage.push(line) {
///         report += &format!("{words}\n");
///     }
/// }
/// for words in stage.finish() {
///     report += &format!("{words}\n");
/// }
/// assert_eq!(report, "2\n1\n3\n");
/// ```
///
/// A closure that borrows, in a [scope](crate::scope()):
///
/// ```
/// let base = vec![10, 20];
/// let sums: Vec<u32> = fanfold::scope(|s| {
///     let mut stage = fanfold::push_map_ordered(2, |x: u32| base[0] + x).within(s);
///     let mut sums: Vec<u32> = stage.push(1).collect();
///     sums.extend(stage.push(2));
///     sums.extend(stage.finish());
///     sums
/// });
/// assert_eq!(sums, [11, 12]);
/// ```
#[doc(alias("channel", "sink", "push", "writer"))]
#[track_caller]
pub fn push_map_ordered<I, O, F>(n: impl Into<Workers>, f: F) -> PushMapOrdered<I, F>
where
    I: Send,
    O: Send,
    F: Fn(I) -> O + Send + Sync, // borrows? see `Stage::within`
{
    let n = n.into().checked().into();
    Stage::of(Par::new(Pushed::new(), Map::new(f), n, true))
}

/// As [`push_map_ordered`], with a fallible `f`: the first error by position comes out after everything before it, and
/// nothing after it.
///
/// The error is sticky. No item is started once one has failed, and when the error has come out, each further
/// [`push`](Stage::push) gives an `Err` made from [`Cancelled`], so that a loop that goes on cannot take its items for
/// done; [`try_push`](Stage::try_push) returns the item. A stage that a token has cut short
/// ([`cancel_on`](Stage::cancel_on) and the like) yields such an `Err` too, as with [`fail_on`](Stage::fail_on). The
/// error types of `std` and `anyhow` can be made from `Cancelled`: `io::Error`, `Box<dyn Error + Send + Sync>`. To go
/// on after an error, use `push_map_ordered` with a closure that returns a `Result`.
///
/// # Panics
///
/// As [`push_map_ordered`].
///
/// # Errors
///
/// None here; the stage yields them, as described.
///
/// # Examples
///
/// ```
/// use fanfold::try_push_map_ordered;
/// use std::io::{Error, Write};
///
/// fn square(x: u64) -> Result<u64, Error> {
///     x.checked_mul(x).ok_or_else(|| Error::other(format!("{x} is too large")))
/// }
///
/// fn write_squares(of: &[u64], mut out: impl Write) -> Result<(), Error> {
///     let mut stage = try_push_map_ordered(4, square);
///     for x in of {
///         for square in stage.push(*x) {
///             writeln!(out, "{}", square?)?;
///         }
///     }
///     for square in stage.finish() {
///         writeln!(out, "{}", square?)?;
///     }
///     Ok(())
/// }
///
/// let mut text = Vec::new();
/// let error = write_squares(&[2, u64::MAX, u64::MAX - 1], &mut text).unwrap_err();
/// assert_eq!((error.to_string(), &*text), (format!("{} is too large", u64::MAX), &b"4\n"[..]));
/// ```
#[track_caller]
pub fn try_push_map_ordered<I, O, E, F>(n: impl Into<Workers>, f: F) -> TryPushMapOrdered<I, F>
where
    I: Send,
    O: Send,
    E: Send + From<Cancelled>,
    F: Fn(I) -> Result<O, E> + Send + Sync, // borrows? see `Stage::within`
{
    let n = n.into().checked().into();
    let stage = Par::new(Pushed::new(), TryPush::new(f), n, true);
    Stage::of(stage).failing_when_cut()
}
