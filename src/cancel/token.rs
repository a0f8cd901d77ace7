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

/// A signal to stop, shared by the code that gives it and the code that obeys it.
///
/// Clones are the same token. A [`child`](Self::child) is tripped with its parent, and can be
/// tripped alone. Nothing is interrupted by force: work stops where it asks, by calling
/// [`check`](Self::check) between steps or [`sleep`](Self::sleep) instead of [`std::thread::sleep`].
///
/// A clone costs two atomic additions, a check one load (plus a look at the clock if there is a
/// deadline). A dropped token leaves nothing behind, not even in its parent.
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
///             // one step of the work, then
///             token.sleep(Duration::from_secs(3600))?;
///         }
///     }
/// });
///
/// token.cancel();
/// assert!(worker.join().unwrap().is_err());
/// ```
#[doc(alias(
    "CancellationToken",
    "StopToken",
    "Context",
    "ctx",
    "abort",
    "AbortHandle"
))]
pub struct CancelToken {
    pub(super) node: Arc<Node>,
}

impl CancelToken {
    /// Makes a token that is live and has no parent and no deadline.
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

    /// Makes a token that is tripped when this one is, but not vice versa.
    ///
    /// It inherits the deadline. It does not keep this token alive; when this token is dropped, the
    /// child still hears from this token's ancestors. A child of a tripped token is tripped.
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
    /// From that moment on it counts as tripped, whichever thread checks. The first
    /// [`on_cancel`](Self::on_cancel) on a token with a deadline starts the thread that runs hooks
    /// at their time, one per process. A time beyond the range of the clock is no limit.
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
    /// Otherwise as [`with_timeout`](Self::with_timeout). An earlier deadline of an ancestor takes
    /// precedence.
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

    /// Trips the token and all its descendants, permanently.
    ///
    /// First all of them are tripped and the threads that wait on them are woken. Then the hooks
    /// run on this thread: those of one token in the order of registration, a parent's before its
    /// children's, an older child's before a younger one's. Later calls do nothing, and do not wait
    /// for the hooks of the first.
    ///
    /// # Panics
    ///
    /// If hooks panic: with the payload of the first, after all hooks have run. While another panic
    /// is unwinding, the payload is dropped instead, as it would abort the process.
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

    /// As [`cancel`](Self::cancel), but returns the first panic of a hook: never unwinds.
    pub(crate) fn trip(&self, why: Cancelled) -> Option<Payload> {
        Node::trip(&self.node, why)
    }

    /// Whether the token is tripped, or its deadline has passed.
    ///
    /// Never blocks. A thread that gets `true` sees what another wrote before it tripped the token.
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

    /// Returns an error if the token is [tripped](Self::is_cancelled), for use with `?`.
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

    /// When it is tripped at the latest.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.node.deadline
    }

    /// Whether the two are the same token.
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
    /// [`Cancelled`] if the token is tripped before the time is over. If the deadline comes no
    /// later than the end of the sleep, the call fails at the deadline, however late the thread
    /// wakes up.
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
        // Compares the two times, not the time of waking, to see which comes first.
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
    /// Does not poll. Blocks forever if nothing is left that could trip the token.
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
    /// `f` runs on the thread that trips the token. At a deadline that is one thread shared by all
    /// tokens, so keep `f` short: set a flag, shut down a socket, wake a thread. If the token is
    /// already tripped, `f` runs at once on this thread. No lock is held meanwhile, so `f` may use
    /// this and any other token.
    ///
    /// Dropping the guard drops `f` without running it. To keep it as long as the token,
    /// [`detach`](CancelHook::detach) it: it is dropped with the token's last clone, unless the
    /// token is tripped or past its deadline by then. An `f` that owns a clone of the token keeps
    /// the token alive until it is tripped.
    ///
    /// If the thread for deadlines cannot be started, `f` does not run at the deadline, but at
    /// [`cancel`](Self::cancel). Nothing else depends on that thread.
    ///
    /// # Panics
    ///
    /// A panic of `f` is raised in the call that trips the token, or in this call if `f` runs here.
    /// At a deadline it goes no further than the panic hook's message.
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
    /// assert_eq!(client.read(&mut [0])?, 0); // the blocked read has ended
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_cancel(&self, f: impl FnOnce() + Send + 'static) -> CancelHook {
        self.on_trip(|_| f())
    }

    /// As [`on_cancel`](Self::on_cancel), but passes the reason to `f`.
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
        // Relaxed: the clone is made from a live handle, so the last drop comes later in any case.
        // `Arc` aborts before the count overflows.
        self.node.handles.fetch_add(1, Ordering::Relaxed);
        CancelToken {
            node: Arc::clone(&self.node),
        }
    }
}

impl Drop for CancelToken {
    fn drop(&mut self) {
        // AcqRel: pairs with the drops of the other handles, so that their actions come before.
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
    /// Makes a token for the next rival. It is born tripped if another rival already does the work.
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
            token.node.tripped.set(Cancelled::BY_CALL); // new, so no thread waits on it
        }
        (token, me)
    }
}

fn earliest(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    a.into_iter().chain(b).min()
}

/// Trips the tokens that are due, if the timer thread could not be started. Called between two
/// items by consumers that work alone. The caller must not hold a lock.
pub(crate) fn keep_time() {
    timer::keep_time();
}

#[cfg(all(test, not(loom)))]
mod tests;
