//! Stop signals: [`CancelToken`], its deadlines and hooks, and why it was tripped. Whose token a thread is
//! to heed is told in [`context`](crate::runtime::context).
//!
//! # States
//!
//! A token is live or tripped, and a tripped one stays so. Each token has a node. While it has
//! handles, its node hangs in a tree: links down are strong, links up are weak, and the drop of the
//! last handle takes the node out. So a child keeps no ancestor alive, a parent remembers no child
//! that is gone, and as no node is freed with links to others, no drop ever recurses.
//!
//! A deadline is fixed at birth, as the earliest of the token's own and its ancestors'. A token
//! whose deadline has passed counts as tripped for everyone who looks at the clock, and everyone
//! does: who asks, and who waits, which is never longer than to that time. Nobody has to trip it
//! for that. Only hooks need someone to act at the time, so the timer thread starts with the first
//! hook on a token with a deadline, and holds an entry for such tokens only.
//!
//! # Who acts
//!
//! - [`cancel`](CancelToken::cancel) or the timer walks down the tree from one node, with a list
//!   instead of recursion. At each node, under its lock, it sets the state, takes the children away,
//!   and wakes who waits there. When the whole tree below is tripped, it runs the hooks, each taken
//!   out of its node just before it runs, with no lock held.
//! - The drop of the last handle hands the node's children to its parent, so that a token whose
//!   ancestor was dropped still hears from those above it.
//!
//! # Locks
//!
//! One lock a node, and the timer's. A thread that holds a node's lock takes only those of its
//! descendants, and the timer's last of all.
//!
//! - *A birth against a walk.* A child is entered under its parent's lock, where the state is read
//!   too: either the walk comes later and finds it, or it has been there and the child is born
//!   tripped.
//! - *A drop against a walk.* Children move up under the locks of both nodes. If the upper one is
//!   live, a later walk finds them there. If it is tripped, the walk holds the lower node already,
//!   and the children stay for it to find.
//! - *A wait against a walk.* The state changes under the lock under which a waiter reads it before
//!   it sleeps, so no wake-up is lost.
//!
//! State is stored with `Release` and loaded with `Acquire`: what was written before a token was
//! tripped is seen by whoever sees it tripped.

#[cfg(all(test, not(loom)))]
mod tests;
mod timer;

use std::collections::BTreeMap;
use std::fmt;
use std::mem;
use std::panic::resume_unwind;
use std::time::Duration;

use crate::error::Cancelled;
use crate::sync::{Arc, AtomicU32, AtomicUsize, Condvar, Instant, Mutex, Ordering, Weak};
use crate::unwind::{self, Payload};

type Hook = Box<dyn FnOnce(Cancelled) + Send>;

/// Why something was cancelled, once it was; what was said first stays. `SeqCst`, so that who says so and then
/// wakes somebody can pair with a fence of his.
#[derive(Debug)]
pub(crate) struct Why(AtomicU32);

impl Why {
    const NOT_YET: u32 = 0;
    const BY_CALL: u32 = 1;
    const BY_DEADLINE: u32 = 2;

    pub(crate) fn new() -> Self {
        Why(AtomicU32::new(Self::NOT_YET))
    }

    #[inline]
    pub(crate) fn get(&self) -> Option<Cancelled> {
        match self.0.load(Ordering::Acquire) {
            Self::NOT_YET => None,
            Self::BY_CALL => Some(Cancelled::BY_CALL),
            _ => Some(Cancelled::BY_DEADLINE),
        }
    }

    pub(crate) fn set(&self, why: Cancelled) {
        let code = if why.is_deadline() {
            Self::BY_DEADLINE
        } else {
            Self::BY_CALL
        };
        let order = (Ordering::SeqCst, Ordering::Relaxed);
        let _ = (self.0).compare_exchange(Self::NOT_YET, code, order.0, order.1);
    }
}

struct Node {
    /// Its number among all nodes, greater than its parent's.
    birth: u64,
    tripped: Why,
    /// The tokens that share this node. Links of the tree and of the timer do not count.
    handles: AtomicUsize,
    deadline: Option<Instant>,
    /// Those that race for the same result, and as which of them.
    rivals: Option<(Arc<Rivals>, usize)>,
    links: Mutex<Links>,
    wake: Condvar,
}

#[derive(Default)]
struct Links {
    /// `None` for a root. One that cannot be upgraded was tripped: see [`Node::retire`].
    parent: Option<Weak<Node>>,
    /// By birth, the oldest first.
    children: BTreeMap<u64, Arc<Node>>,
    /// By number, so in the order of registration.
    hooks: BTreeMap<u64, Hook>,
    next_hook: u64,
    /// Whether the timer has an entry.
    timed: bool,
    /// How many threads sleep: to wake nobody is a system call too.
    waiters: usize,
}

impl timer::Expires for Node {
    fn expire(self: Arc<Self>) -> Option<Payload> {
        Node::trip(&self, Cancelled::BY_DEADLINE)
    }
}

impl Node {
    fn new(
        deadline: Option<Instant>,
        parent: Option<Weak<Node>>,
        rivals: Option<(Arc<Rivals>, usize)>,
    ) -> Arc<Self> {
        Arc::new(Node {
            birth: birth(),
            tripped: Why::new(),
            handles: AtomicUsize::new(1),
            deadline,
            rivals,
            links: Mutex::new(Links {
                parent,
                ..Links::default()
            }),
            wake: Condvar::new(),
        })
    }

    #[inline]
    fn is_tripped(&self) -> bool {
        self.tripped.get().is_some()
    }

    #[inline]
    fn has_expired(&self) -> bool {
        self.deadline.is_some_and(|at| at <= Instant::now())
    }

    /// Why it counts as tripped, if it does.
    #[inline]
    fn why(&self) -> Option<Cancelled> {
        let expired = || self.has_expired().then_some(Cancelled::BY_DEADLINE);
        self.tripped.get().or_else(expired)
    }

    /// Sleeps until the node is tripped or the time has come. Tells whether it was tripped.
    fn park(&self, limit: Option<Instant>) -> bool {
        let mut links = self.links.lock();
        while !self.is_tripped() {
            let left = limit.map(|at| at.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return false;
            }
            links.waiters += 1;
            links = match left {
                None => self.wake.wait(links),
                Some(left) => self.wake.wait_timeout(links, left),
            };
            links.waiters -= 1;
        }
        true
    }

    /// Trips a node and all below it, and runs their hooks. Returns the first panic among these. What has
    /// expired before was so by its deadline, whoever comes now.
    fn trip(top: &Arc<Node>, why: Cancelled) -> Option<Payload> {
        let mut reached = vec![Arc::clone(top)];
        let mut hooked = Vec::new();
        while let Some(node) = reached.pop() {
            let mut links = node.links.lock();
            if node.is_tripped() {
                continue;
            }
            node.tripped.set(node.why().unwrap_or(why));
            node.unschedule(&mut links);
            // The oldest on top: parents before children, and elder before younger ones.
            reached.extend(mem::take(&mut links.children).into_values().rev());
            let (has_waiters, has_hooks) = (links.waiters > 0, !links.hooks.is_empty());
            drop(links);
            if has_waiters {
                node.wake.notify_all();
            }
            if has_hooks {
                hooked.push(node);
            }
        }
        let mut panic = None;
        for node in hooked {
            loop {
                // One at a time, so that a hook that is deregistered by then does not run.
                let next = node.links.lock().hooks.pop_first();
                let Some((_, hook)) = next else { break };
                let why = node.tripped.get().unwrap_or(why);
                unwind::first(&mut panic, unwind::catch(|| hook(why)).err());
            }
        }
        panic
    }

    /// Takes a node without handles out of the tree, and drops its hooks if they are not due.
    fn retire(node: &Arc<Node>) {
        loop {
            // Upgraded under the node's lock: a parent that retired before has renamed itself here,
            // so one that is gone was tripped, and its walk leaves nothing to do.
            let parent = node.links.lock().parent.as_ref().map(Weak::upgrade);
            let parent = match parent {
                None => None,
                Some(Some(parent)) => Some(parent),
                Some(None) => return,
            };
            let mut above = parent.as_ref().map(|parent| parent.links.lock());
            if parent.as_ref().is_some_and(|parent| parent.is_tripped()) {
                return;
            }
            let mut own = node.links.lock();
            if own.parent.as_ref().map(Weak::as_ptr) != parent.as_ref().map(Arc::as_ptr) {
                continue; // The parent has retired meanwhile, and this node has moved up.
            }

            // What is due is left to the timer, which trips the token soon if it is not at it.
            let hooks = if node.has_expired() && timer::is_started() {
                BTreeMap::new()
            } else {
                node.unschedule(&mut own);
                mem::take(&mut own.hooks)
            };
            let children = mem::take(&mut own.children);
            for child in children.values() {
                child.links.lock().parent.clone_from(&own.parent);
            }
            if let Some(above) = &mut above {
                above.children.remove(&node.birth);
                above.children.extend(children);
            }
            drop(own);
            drop(above);
            drop(hooks); // User code, so after the locks.
            return;
        }
    }

    fn schedule(node: &Arc<Node>, links: &mut Links) {
        if let (Some(at), false) = (node.deadline, links.timed) {
            links.timed = true;
            timer::add(at, node.birth, Arc::clone(node) as _);
        }
    }

    fn unschedule(&self, links: &mut Links) {
        if let (Some(at), true) = (self.deadline, links.timed) {
            links.timed = false;
            timer::remove(at, self.birth);
        }
    }
}

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
pub struct CancelToken {
    node: Arc<Node>,
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

    /// Says that this one does the work: the others that race for the same result are tripped.
    ///
    /// For the replicas of a [hedge](crate::Fanfold::hedge), and for an item of a
    /// [hedged](crate::Stage::hedged) stage and its copy. The first that claims goes on, and every
    /// other gets the error, or finds its token tripped. So a request may be sent to two queues, and
    /// whichever reaches its turn first tells the other not to bother: these are the tied requests of
    /// Dean and Barroso, *The Tail at Scale* (2013). If the one that has claimed fails, the claim is
    /// void, and a replica that was not started yet may be.
    ///
    /// Where nothing races, this is [`check`](Self::check).
    ///
    /// # Errors
    ///
    /// [`Cancelled`] if the token is tripped, or another has claimed.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::{CancelToken, Cancelled, Fanfold};
    ///
    /// let replicas = ["a", "b"].map(|name| {
    ///     move |token: CancelToken| -> Result<&'static str, Cancelled> {
    ///         token.claim()?; // before the work that must not be done twice
    ///         Ok(name)
    ///     }
    /// });
    /// assert!(replicas.into_iter().hedge().run().is_ok());
    /// ```
    pub fn claim(&self) -> Result<(), Cancelled> {
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
    /// [`detach`](OnCancel::detach) it: it is dropped with the token's last clone, unless the token
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
    pub fn on_cancel(&self, f: impl FnOnce() + Send + 'static) -> OnCancel {
        self.on_trip(|_| f())
    }

    /// The same, for who wants to know why.
    pub(crate) fn on_trip(&self, f: impl FnOnce(Cancelled) + Send + 'static) -> OnCancel {
        let mut links = self.node.links.lock();
        if let Some(why) = self.node.why() {
            drop(links);
            f(why);
            return OnCancel { entry: None };
        }
        let number = links.next_hook;
        links.next_hook += 1;
        links.hooks.insert(number, Box::new(f));
        Node::schedule(&self.node, &mut links);
        drop(links);
        OnCancel {
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

/// The registration of a hook: dropping it deregisters the hook.
///
/// Made by [`CancelToken::on_cancel`]. The drop never blocks: a hook that runs at that moment on
/// another thread runs to its end, but none starts afterwards.
///
/// # Examples
///
/// ```
/// let token = fanfold::CancelToken::new();
/// let guard = token.on_cancel(|| unreachable!("deregistered"));
/// drop(guard);
/// token.cancel();
/// ```
#[must_use = "dropping it deregisters the hook at once: bind it to a name (`let _hook = ..`, not `let _ = ..`), or \
              `detach` it"]
pub struct OnCancel {
    entry: Option<(Arc<Node>, u64)>,
}

impl OnCancel {
    /// Keeps the hook registered for the life of the token.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::CancelToken;
    ///
    /// // Two tokens of different families, tied together.
    /// let (token, other) = (CancelToken::new(), CancelToken::new());
    /// let tied = other.clone();
    /// token.on_cancel(move || tied.cancel()).detach();
    ///
    /// token.cancel();
    /// assert!(other.is_cancelled());
    /// ```
    pub fn detach(mut self) {
        self.entry = None;
    }
}

impl Drop for OnCancel {
    fn drop(&mut self) {
        if let Some((node, number)) = self.entry.take() {
            let hook = node.links.lock().hooks.remove(&number);
            drop(hook); // User code, so after the lock.
        }
    }
}

impl fmt::Debug for OnCancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnCancel").finish_non_exhaustive()
    }
}

#[cfg(not(loom))]
fn birth() -> u64 {
    static BIRTHS: crate::sync::AtomicU64 = crate::sync::AtomicU64::new(0);
    // Relaxed: the numbers are distinct, and grow from a parent to a child, in any case.
    BIRTHS.fetch_add(1, Ordering::Relaxed)
}

#[cfg(loom)]
fn birth() -> u64 {
    // All threads of a model are one thread of the system.
    thread_local!(static BIRTHS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) });
    BIRTHS.replace(BIRTHS.get() + 1)
}

fn earliest(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    a.into_iter().chain(b).min()
}

/// The tokens of those that race for one result.
#[derive(Default)]
pub(crate) struct Rivals(Mutex<TiedTokens>);

#[derive(Default)]
struct TiedTokens {
    claimed: Option<usize>,
    /// Nobody's work counts any more but this one's.
    won: Option<usize>,
    members: Vec<Weak<Node>>,
}

impl fmt::Debug for Rivals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rivals").finish_non_exhaustive()
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

    fn claim(&self, me: usize) -> Result<(), Cancelled> {
        let mut race = self.0.lock();
        if race.won.is_some_and(|won| won != me) || *race.claimed.get_or_insert(me) != me {
            return Err(Cancelled::BY_CALL);
        }
        Ok(())
    }

    /// Whether one of them does the work alone.
    pub(crate) fn is_claimed(&self) -> bool {
        self.0.lock().claimed.is_some()
    }

    /// This one has failed: if it had claimed, another may.
    pub(crate) fn give_up(&self, me: usize) {
        self.0.lock().claimed.take_if(|claimed| *claimed == me);
    }

    /// Nobody's work counts any more, but for this one's, who has done it. A panic of a hook comes back.
    pub(crate) fn win(&self, me: usize) -> Option<Payload> {
        self.0.lock().won = Some(me);
        self.trip_others(me)
    }

    fn trip_others(&self, me: usize) -> Option<Payload> {
        let others: Vec<_> = {
            let race = self.0.lock();
            let others = race.members.iter().enumerate().filter(|(at, _)| *at != me);
            others.filter_map(|(_, node)| node.upgrade()).collect()
        };
        let mut panic = None;
        for node in others {
            unwind::first(&mut panic, Node::trip(&node, Cancelled::BY_CALL));
        }
        panic
    }
}

/// Trips the tokens that are due, where the thread that does so could not be started: for consumers that
/// work alone, between two items. No lock may be held.
pub(crate) fn keep_time() {
    timer::keep_time();
}
