//! `recv`: a channel of `crossbeam-channel` as a source that notices when nothing more is wanted from it.
//!
//! # The wait
//!
//! A wait ends by an item, by the last sender's drop, or by an end of what this thread is inside of: the token
//! of the innermost frame is tripped, or a source around it is interrupted ([`context`]). For the latter two
//! the wait also selects on a channel of its own that is never sent to. Its sender is in a [`Stop`], and
//! whatever ends the wait drops it. A sender that is gone stays gone, so it does not matter whether that comes
//! before the thread selects, or after. All this is made for a wait and taken back after it: a call that finds
//! an item only looks at the token.

use crate::cancel::CancelToken;
use crate::runtime::context::{self, Interrupt};
use crate::runtime::spin::SpinPolicy;
use crate::sync::{Arc, Mutex};
use crossbeam_channel::{Receiver, Select, Sender, TryRecvError, bounded};
use std::convert::Infallible;

/// Makes a source of the receiver of a channel, which stops waiting when its items are no longer wanted.
///
/// Yields the items as they arrive, and ends when the channel is empty and all its senders are gone, like
/// [`Receiver::iter`]. While it waits, it also watches [`CancelToken::current`]: as the source of a stage, a
/// merge, a read-ahead it ends at once when that is cancelled, drained, dropped, or has waited for longer
/// than its [timeout](crate::SourceOptions::timeout); in a closure or a task when that is to end. Outside of
/// all of them it waits as the receiver would.
///
/// Once the token is tripped, nothing is taken from the channel: what is in it stays there for other
/// receivers. What was taken is always yielded. So a stage with [`drain_on`](crate::Stage::drain_on) loses
/// nothing, and its source leaves the rest in the channel. Lazy; holds no item. Several of them over clones
/// of one receiver share its items. One that was lent goes on when it is asked again.
///
/// Needs the feature `crossbeam-channel`. A receiver of `std::sync::mpsc` cannot wait for two things at once:
/// `docs/recipes.md` shows what to do with one.
///
/// # Complexity
///
/// Where an item is there, a look at the token on top of the receiver's `try_recv`. A wait makes a token, a
/// hook on it and a channel, on top of the receiver's own wait.
///
/// # Examples
///
/// ```
/// use crossbeam_channel::unbounded;
/// use fanfold::{CancelToken, Fanfold, recv};
///
/// let (send, jobs) = unbounded();
/// let stop = CancelToken::new(); // ctrlc::set_handler({ let stop = stop.clone(); move || stop.cancel() })
/// let mut results = recv(jobs).par_map_ordered(4, |job: u32| job * 2).drain_on(&stop);
/// send.send(1).unwrap();
/// assert_eq!(results.next(), Some(2));
/// stop.cancel();
/// assert_eq!(results.next(), None); // although the channel has a sender
/// # drop(send);
/// ```
#[doc(alias(
    "channel",
    "receiver",
    "recv_timeout",
    "select",
    "from_channel",
    "par_bridge"
))]
pub fn recv<T>(receiver: Receiver<T>) -> Recv<T> {
    Recv {
        receiver,
        patience: SpinPolicy::new(),
        cut_short: false,
    }
}

/// The items of a channel, made by [`recv`].
///
/// It is no `FusedIterator`: after a `None` because of the token it goes on when it is asked where that is
/// not tripped.
#[derive(Debug)]
#[must_use = "it is lazy: nothing is received before the first `next()`"]
pub struct Recv<T> {
    receiver: Receiver<T>,
    /// Whether a short look before a wait has paid lately.
    patience: SpinPolicy,
    cut_short: bool,
}

/// How a wait has ended.
enum Waited<T> {
    Item(T),
    /// No sender is left.
    End,
    /// Nothing more is wanted.
    Stop,
}

impl<T> Recv<T> {
    /// Whether the last call has returned `None` although senders may be left, because nothing more was
    /// wanted from it.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::{CancelToken, recv};
    ///
    /// let (send, receiver) = crossbeam_channel::bounded(1);
    /// let mut items = recv(receiver);
    /// let result: Result<(), ()> = fanfold::group(1, |g| {
    ///     g.token().cancel();
    ///     g.spawn(|| Ok(assert_eq!(items.next(), None)));
    /// });
    /// assert!(result.is_ok() && items.is_cut_short());
    /// send.send(1).unwrap();
    /// assert_eq!(items.next(), Some(1)); // here, outside of the group, the token is not tripped
    /// ```
    pub fn is_cut_short(&self) -> bool {
        self.cut_short
    }

    /// Waits inside of something.
    fn wait(&mut self) -> Waited<T> {
        let token = CancelToken::current();
        let is_over = || token.is_cancelled() || context::is_unwanted();
        if is_over() {
            return Waited::Stop;
        }
        let (receiver, mut found) = (&self.receiver, None);
        let is_there = || {
            found = take(receiver).or_else(|| is_over().then_some(Waited::Stop));
            found.is_some()
        };
        self.patience.look(is_there);
        found.unwrap_or_else(|| select(receiver, &token))
    }
}

/// Takes an item, if one is there.
fn take<T>(receiver: &Receiver<T>) -> Option<Waited<T>> {
    match receiver.try_recv() {
        Ok(item) => Some(Waited::Item(item)),
        Err(TryRecvError::Disconnected) => Some(Waited::End),
        Err(TryRecvError::Empty) => None,
    }
}

/// Waits for an item, or for the end of what this thread is inside of.
fn select<T>(receiver: &Receiver<T>, token: &CancelToken) -> Waited<T> {
    let (sender, stopped) = bounded(0);
    let stop = Arc::new(Stop(Mutex::new(Some(sender))));
    // Both run at once if that end has come already.
    let _hook = token.on_trip({
        let stop = Arc::clone(&stop);
        move |_| stop.interrupt()
    });
    context::tell_outer(&stop);
    let mut select = Select::new();
    let of_channel = select.recv(receiver);
    select.recv(&stopped);
    // The hook of a token with a deadline needs a thread that may not be there.
    let ready = match token.deadline() {
        Some(deadline) => select.select_deadline(deadline).ok(),
        None => Some(select.select()),
    };
    match ready {
        Some(ready) if ready.index() == of_channel => {
            ready.recv(receiver).map_or(Waited::End, Waited::Item)
        }
        Some(ready) => {
            let _disconnected = ready.recv(&stopped);
            Waited::Stop
        }
        None => Waited::Stop,
    }
}

impl<T> Iterator for Recv<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.cut_short = false;
        let is_tripped = context::is_tripped();
        let there = (!is_tripped).then(|| take(&self.receiver)).flatten();
        let waited = match there {
            Some(there) => there,
            None if context::is_inside() => self.wait(),
            None => self.receiver.recv().map_or(Waited::End, Waited::Item),
        };
        match waited {
            Waited::Item(item) => Some(item),
            Waited::End => None,
            Waited::Stop => {
                self.cut_short = true;
                // A stage knows of its own end, and another may go on with its source. But a closure that
                // takes the items for all there are makes something of a part of them.
                if !context::is_in_source() {
                    context::tell_cut();
                }
                None
            }
        }
    }
}

/// Ends a wait: its drop disconnects the channel that the wait selects on too.
struct Stop(Mutex<Option<Sender<Infallible>>>);

impl Interrupt for Stop {
    fn interrupt(&self) {
        let sender = self.0.lock().take();
        drop(sender); // Without the lock, as it wakes a thread.
    }
}
