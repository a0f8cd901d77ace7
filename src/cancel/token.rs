//! [`CancelToken`]: the handle of a node of the tree.

use crate::cancel::hook::CancelHook;
use crate::cancel::node::{Node, Rivals};
use crate::cancel::timer;
use crate::error::Cancelled;
use crate::sync::{Arc, Instant, Ordering};
use crate::unwind::{self, Payload};
use std::fmt;
use std::panic::resume_unwind;
use std::time::Duration;

/// A signal to stop, shared by those who give it and those who heed it.
///
/// Clones are the same token. A [`child`](Self::child) is tripped with its parent, and can be
/// tripped alone. Nothing is interrupted by force: work stops where it asks, by
/// [`check`](Self::check) between steps or by [`sleep`](Self::sleep) instead of
/// [`std::thread::sleep`].
///
/// A clone costs two atomic additions, a question one load (and a look at the clock where there is
/// a deadline). A dropped token leaves nothing behind, in its parent either.
///
/// # Examples
///
/// ```
/// use fanfold::{CancelToken, Cancelled};
/// use std::thread;
/// use std::time::Duration;
///
/// let token = CancelToken::new();
/// let worker = thread::spawn({
///     let token = token.clone();
///     move || -> Result<(), Cancelled> {
///         loop {
///             // one step of the work, and then
///             token.sleep(Duration::from_secs(3600))?;
///         }
///     }
/// });
///
/// token.cancel();
/// assert!(worker.join().unwrap().is_err());
/// ```
#[doc(alias("CancellationToken", "StopToken", "Context"))]
pub struct CancelToken {
    pub(super) node: Arc<Node>,
}

impl CancelToken {
    /// Makes a token that is live, has no parent and no deadline.
    ///
    /// # Examples
    ///
    /// ```
    /// let token = fanfold::CancelToken::new();
    /// assert!(!token.is_cancelled());
    /// ```
    pub fn new() -> Self {
        CancelToken {
            node: Node::new(None, None, None),
        }
    }

    /// Makes a token that is tripped when this one is, but not the other way round.
    ///
    /// It inherits the deadline. It keeps nothing of this token alive, and still hears from this
    /// one's ancestors when this one is dropped. A child of a tripped token is tripped.
    ///
    /// # Examples
    ///
    /// ```
    /// let parent = fanfold::CancelToken::new();
    /// let (a, b) = (parent.child(), parent.child());
    ///
    /// a.cancel();
    /// assert!(!parent.is_cancelled() && !b.is_cancelled());
    ///
    /// parent.cancel();
    /// assert!(b.is_cancelled());
    /// ```
    #[must_use = "the child is a new token: this one does not change"]
    pub fn child(&self) -> CancelToken {
        self.child_until(None, self.node.rivals.clone())
    }

    /// Makes a [`child`](Self::child) that is tripped after this time at the latest.
    ///
    /// It counts as tripped from that moment on, whichever thread looks. The first
    /// [`on_cancel`](Self::on_cancel) on a token with a deadline starts the thread that runs hooks
    /// at the time, one a process. A time beyond the range of the clock is no limit.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::CancelToken;
    /// use std::time::Duration;
    ///
    /// let token = CancelToken::new();
    /// let hurried = token.with_timeout(Duration::from_millis(5));
    ///
    /// let why = hurried.sleep(Duration::from_secs(3600)).unwrap_err();
    /// assert!(why.is_deadline() && !token.is_cancelled());
    /// ```
    #[must_use = "the limit is the child's: this token does not change"]
    pub fn with_timeout(&self, time: Duration) -> CancelToken {
        let at = Instant::now().checked_add(time);
        self.child_until(at, self.node.rivals.clone())
    }

    /// Makes a [`child`](Self::child) that is tripped at this instant at the latest.
    ///
    /// As [`with_timeout`](Self::with_timeout) otherwise. Where an ancestor's deadline is earlier,
    /// that one holds.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::CancelToken;
    /// use std::time::{Duration, Instant};
    ///
    /// let soon = Instant::now() + Duration::from_secs(3600);
    /// assert!(!CancelToken::new().with_deadline(soon).is_cancelled());
    /// assert!(CancelToken::new().with_deadline(Instant::now()).is_cancelled());
    /// ```
    #[must_use = "the limit is the child's: this token does not change"]
    pub fn with_deadline(&self, at: Instant) -> CancelToken {
        self.child_until(Some(at), self.node.rivals.clone())
    }

    fn child_until(
        &self,
        at: Option<Instant>,
        rivals: Option<(Arc<Rivals>, usize)>,
    ) -> CancelToken {
        let node = Node::new(
            earliest(at, self.node.deadline),
            Some(Arc::downgrade(&self.node)),
            rivals,
        );
        let mut links = self.node.links.lock();
        if let Some(why) = self.node.tripped.get() {
            node.tripped.set(why);
        } else {
            links.children.insert(node.birth, Arc::clone(&node));
        }
        drop(links);
        CancelToken { node }
    }

    /// Trips the token and all its descendants, for good.
    ///
    /// First all of them are tripped and those who wait on them are woken, then the hooks run on
    /// this thread: of one token in the order of registration, of a parent before its children,
    /// of an elder child before a younger one.
    /// The second call and every later one does nothing, and does not wait for the hooks of the
    /// first.
    ///
    /// # Panics
    ///
    /// If hooks panic, with the payload of the first, after all hooks have run. During the unwinding
    /// of another panic it is dropped instead, as it would abort the process.
    ///
    /// # Examples
    ///
    /// ```
    /// let token = fanfold::CancelToken::new();
    /// token.cancel();
    /// token.cancel();
    /// assert!(token.is_cancelled());
    /// ```
    pub fn cancel(&self) {
        match self.trip(Cancelled::BY_CALL) {
            Some(payload) if std::thread::panicking() => unwind::bury(payload),
            Some(payload) => resume_unwind(payload),
            None => {}
        }
    }

    /// As [`cancel`](Self::cancel), but hands the first panic of a hook back: never unwinds.
    pub(crate) fn trip(&self, why: Cancelled) -> Option<Payload> {
        Node::trip(&self.node, why)
    }

    /// Whether the token is tripped, or its deadline has passed.
    ///
    /// Never blocks. What a thread wrote before it tripped the token is visible to whoever gets
    /// `true` here.
    ///
    /// # Examples
    ///
    /// ```
    /// let token = fanfold::CancelToken::new();
    /// let mut steps = 0;
    /// while !token.is_cancelled() {
    ///     steps += 1;
    ///     if steps == 3 {
    ///         token.cancel();
    ///     }
    /// }
    /// assert_eq!(steps, 3);
    /// ```
    #[inline]
    pub fn is_cancelled(&self) -> bool {
        self.node.why().is_some()
    }

    /// Returns an error if the token is [tripped](Self::is_cancelled), to leave with `?`.
    ///
    /// # Errors
    ///
    /// [`Cancelled`] if it is, which says [why](Cancelled::is_deadline).
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::{CancelToken, Cancelled};
    ///
    /// fn sum(token: &CancelToken, numbers: &[u64]) -> Result<u64, Cancelled> {
    ///     let mut total = 0;
    ///     for number in numbers {
    ///         token.check()?;
    ///         total += number;
    ///     }
    ///     Ok(total)
    /// }
    ///
    /// let token = CancelToken::new();
    /// assert_eq!(sum(&token, &[1, 2]), Ok(3));
    /// token.cancel();
    /// assert_eq!(sum(&token, &[1, 2]), Err(Cancelled::default()));
    /// ```
    #[inline]
    pub fn check(&self) -> Result<(), Cancelled> {
        self.node.why().map_or(Ok(()), Err)
    }

    /// Whether this is the same token as that.
    pub(crate) fn is(&self, other: &CancelToken) -> bool {
        Arc::ptr_eq(&self.node, &other.node)
    }

    /// See [`hedge::claim`](crate::hedge::claim).
    pub(crate) fn claim(&self) -> Result<(), Cancelled> {
        self.check()?;
        let Some((rivals, me)) = &self.node.rivals else {
            return Ok(());
        };
        rivals.claim(*me)?;
        match rivals.trip_others(*me) {
            Some(panic) => resume_unwind(panic),
            None => Ok(()),
        }
    }

    /// Sleeps for a time, or fails as soon as the token is tripped.
    ///
    /// Blocks without polling. A time beyond the range of the clock has no end.
    ///
    /// # Errors
    ///
    /// [`Cancelled`] if the token is tripped before the time is over. If the deadline is not after the
    /// end of the sleep, it is an error at the deadline, however late the thread wakes up.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::{CancelToken, Cancelled};
    /// use std::time::Duration;
    ///
    /// let token = CancelToken::new();
    /// assert_eq!(token.sleep(Duration::from_millis(1)), Ok(()));
    /// token.cancel();
    /// assert_eq!(token.sleep(Duration::MAX), Err(Cancelled::default()));
    /// ```
    pub fn sleep(&self, time: Duration) -> Result<(), Cancelled> {
        let end = Instant::now().checked_add(time);
        let deadline = self.node.deadline;
        // Which of the two comes first is read off them, not off the time of waking.
        let expires = deadline.is_some_and(|at| end.is_none_or(|end| at <= end));
        if self.node.park(earliest(deadline, end)) {
            self.check()
        } else if expires {
            Err(Cancelled::BY_DEADLINE)
        } else {
            Ok(())
        }
    }

    /// Blocks until the token is tripped, or its deadline has passed.
    ///
    /// Without polling; for ever, if nobody is left to trip it.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::CancelToken;
    ///
    /// let token = CancelToken::new();
    /// let stop = token.clone();
    /// let signal = std::thread::spawn(move || stop.cancel());
    ///
    /// token.wait();
    /// assert!(token.is_cancelled());
    /// signal.join().unwrap();
    /// ```
    pub fn wait(&self) {
        self.node.park(self.node.deadline);
    }

    /// Runs `f` once when the token is tripped, unless the returned guard is dropped before.
    ///
    /// `f` runs on the thread that trips the token, which at a deadline is one that all tokens
    /// share, so it should be short: set a flag, shut a socket down, wake somebody. If the token is
    /// tripped already, `f` runs here and now. No lock is held meanwhile, so `f` may use this and
    /// any other token.
    ///
    /// Drop the guard and `f` is dropped without having run. To keep it as long as the token,
    /// [`detach`](CancelHook::detach) it: it is dropped with the token's last clone, unless the token
    /// is tripped or past its deadline by then. An `f` that owns a clone of the token keeps it alive
    /// until it is tripped.
    ///
    /// Where the thread for deadlines cannot be started, `f` does not run at the deadline, but at
    /// [`cancel`](Self::cancel); nothing else depends on that thread.
    ///
    /// # Panics
    ///
    /// A panic of `f` is raised in the call that trips the token, or here if it runs here. At a
    /// deadline it goes no further than the panic hook's message.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::CancelToken;
    /// use std::net::{TcpListener, TcpStream, Shutdown};
    /// use std::io::Read;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let server = TcpListener::bind("127.0.0.1:0")?;
    /// let mut client = TcpStream::connect(server.local_addr()?)?;
    ///
    /// let token = CancelToken::new();
    /// let handle = client.try_clone()?;
    /// let _guard = token.on_cancel(move || {
    ///     let _ = handle.shutdown(Shutdown::Both);
    /// });
    /// std::thread::spawn(move || token.cancel());
    ///
    /// assert_eq!(client.read(&mut [0])?, 0); // the blocked read has come to an end
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_cancel(&self, f: impl FnOnce() + Send + 'static) -> CancelHook {
        self.on_trip(|_| f())
    }

    /// The same, for who wants to know why.
    pub(crate) fn on_trip(&self, f: impl FnOnce(Cancelled) + Send + 'static) -> CancelHook {
        let mut links = self.node.links.lock();
        if let Some(why) = self.node.why() {
            drop(links);
            f(why);
            return CancelHook { entry: None };
        }
        let number = links.next_hook;
        links.next_hook += 1;
        links.hooks.insert(number, Box::new(f));
        Node::schedule(&self.node, &mut links);
        drop(links);
        CancelHook {
            entry: Some((Arc::clone(&self.node), number)),
        }
    }
}

impl Clone for CancelToken {
    fn clone(&self) -> Self {
        // Relaxed: from a handle that exists, so the last drop comes later in any case. Beyond the
        // count's range `Arc` aborts first.
        self.node.handles.fetch_add(1, Ordering::Relaxed);
        CancelToken {
            node: Arc::clone(&self.node),
        }
    }
}

impl Drop for CancelToken {
    fn drop(&mut self) {
        // AcqRel: its partners are the other handles' drops, which what they did comes before.
        if self.node.handles.fetch_sub(1, Ordering::AcqRel) == 1 {
            Node::retire(&self.node);
        }
    }
}

impl Default for CancelToken {
    fn default() -> Self {
        CancelToken::new()
    }
}

impl fmt::Debug for CancelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelToken")
            .field("is_cancelled", &self.is_cancelled())
            .field("deadline", &self.node.deadline)
            .finish_non_exhaustive()
    }
}

impl Rivals {
    /// A token for the next of them. Born tripped if another does the work already.
    pub(crate) fn join(
        self: &Arc<Self>,
        parent: &CancelToken,
        deadline: Option<Instant>,
    ) -> (CancelToken, usize) {
        let mut race = self.0.lock();
        let me = race.members.len();
        let token = parent.child_until(deadline, Some((Arc::clone(self), me)));
        race.members.push(Arc::downgrade(&token.node));
        let late = race.claimed.is_some() || race.won.is_some();
        drop(race);
        if late {
            token.node.tripped.set(Cancelled::BY_CALL); // it is new: nobody waits on it
        }
        (token, me)
    }
}

fn earliest(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    a.into_iter().chain(b).min()
}

/// Trips the tokens that are due, where the thread that does so could not be started: for consumers that
/// work alone, between two items. No lock may be held.
pub(crate) fn keep_time() {
    timer::keep_time();
}

#[cfg(all(test, not(loom)))]
mod tests;
