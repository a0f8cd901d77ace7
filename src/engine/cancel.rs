//! Stop signals: [`CancelToken`], its deadlines and hooks, and why it was tripped. Whose token a thread is
//! to heed is told in [`context`](crate::engine::context).
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

use std::collections::BTreeMap;
use std::fmt;
use std::mem;
use std::panic::resume_unwind;
use std::time::Duration;

use crate::engine::unwind::{self, Payload};
use crate::error::Cancelled;
use crate::sync::{Arc, AtomicU32, AtomicUsize, Condvar, Instant, Mutex, Ordering, Weak};

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
            timer::add(at, node);
        }
    }

    fn unschedule(&self, links: &mut Links) {
        if let (Some(at), true) = (self.deadline, links.timed) {
            links.timed = false;
            timer::remove(at, self);
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
pub(crate) struct Rivals(Mutex<Race>);

#[derive(Default)]
struct Race {
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

/// The thread that trips tokens with hooks at their deadlines.
#[cfg(not(loom))]
mod timer {
    use std::collections::BTreeMap;

    use super::Node;
    use crate::engine::unwind;
    use crate::error::Cancelled;
    use crate::sync::{
        Arc, AtomicBool, Condvar, Instant, Mutex, MutexGuard, Ordering, fixed, spawn,
    };

    struct Timer {
        /// In which process the thread runs: a forked child needs one of its own.
        started: Option<u32>,
        /// When the thread looks again by itself; `None` if it sleeps without limit.
        looks: Option<Instant>,
        /// A map and not a heap, so that a token that is dropped takes its entry along.
        entries: BTreeMap<(Instant, u64), Arc<Node>>,
    }

    static TIMER: Mutex<Timer> = Mutex::new(Timer {
        started: None,
        looks: None,
        entries: BTreeMap::new(),
    });
    static EARLIER: Condvar = Condvar::new();
    /// Whether there are entries and perhaps no thread.
    static LACKS_THREAD: AtomicBool = AtomicBool::new(false);

    pub(super) fn add(at: Instant, node: &Arc<Node>) {
        let mut timer = TIMER.lock();
        timer.entries.insert((at, node.birth), Arc::clone(node));
        let here = fixed::process();
        if timer.started != Some(here) {
            // If it fails, the entry stays, and the next one tries again.
            let started = spawn("fanfold-timer", None, run);
            timer.started = started.is_ok().then_some(here);
            // Relaxed: a hint for `keep_time`, which takes the lock.
            LACKS_THREAD.store(started.is_err(), Ordering::Relaxed);
        } else if timer.looks.is_none_or(|looks| at < looks) {
            EARLIER.notify_one();
        }
    }

    pub(super) fn is_started() -> bool {
        TIMER.lock().started == Some(fixed::process())
    }

    /// Wakes nobody: at worst the thread looks once at a time when there is nothing to do.
    pub(super) fn remove(at: Instant, node: &Node) {
        TIMER.lock().entries.remove(&(at, node.birth));
    }

    #[cfg(test)]
    pub(super) fn holds(at: Instant, birth: u64) -> bool {
        TIMER.lock().entries.contains_key(&(at, birth))
    }

    fn run() {
        let mut timer = TIMER.lock();
        loop {
            let first = timer.entries.first_key_value().map(|(&(at, _), _)| at);
            timer.looks = first;
            let left = first.map(|at| at.saturating_duration_since(Instant::now()));
            timer = match left {
                None => EARLIER.wait(timer),
                Some(left) if left.is_zero() => trip_first(timer),
                Some(left) => EARLIER.wait_timeout(timer, left),
            };
        }
    }

    fn trip_first(mut timer: MutexGuard<'static, Timer>) -> MutexGuard<'static, Timer> {
        let due = timer.entries.pop_first();
        drop(timer);
        let trip = |(_, node)| Node::trip(&node, Cancelled::BY_DEADLINE);
        if let Some(panic) = due.and_then(trip) {
            unwind::bury(panic);
        }
        TIMER.lock()
    }

    pub(super) fn keep_time() {
        if !LACKS_THREAD.load(Ordering::Relaxed) {
            return;
        }
        let mut timer = TIMER.lock();
        let now = Instant::now();
        let is_due = |timer: &Timer| {
            let first = timer.entries.first_key_value();
            timer.started.is_none() && first.is_some_and(|(&(at, _), _)| at <= now)
        };
        while is_due(&timer) {
            timer = trip_first(timer);
        }
    }
}

/// A model has no clock: nothing is ever due.
#[cfg(loom)]
mod timer {
    use super::Node;
    use crate::sync::{Arc, Instant};

    pub(super) fn add(_: Instant, _: &Arc<Node>) {}

    pub(super) fn is_started() -> bool {
        false
    }

    pub(super) fn remove(_: Instant, _: &Node) {}

    pub(super) fn keep_time() {}
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::panic::{RefUnwindSafe, UnwindSafe, catch_unwind};
    use std::thread;

    use super::*;
    use crate::sync::AtomicBool;

    /// Far more than anything here takes, and far less than [`STUCK`].
    const PROMPT: Duration = Duration::from_secs(10);
    const STUCK: Duration = Duration::from_secs(1000);
    const SHORT: Duration = Duration::from_millis(20);

    type Log = Arc<Mutex<Vec<u32>>>;

    fn note(log: &Log, entry: u32) -> impl FnOnce() + Send + 'static {
        let log = Arc::clone(log);
        move || log.lock().push(entry)
    }

    fn taken(log: &Log) -> Vec<u32> {
        mem::take(&mut log.lock())
    }

    fn prompt<R>(f: impl FnOnce() -> R) -> R {
        let start = Instant::now();
        let result = f();
        assert!(start.elapsed() < PROMPT, "took {:?}", start.elapsed());
        result
    }

    fn hear(token: &CancelToken) {
        token.with_timeout(PROMPT).wait();
        assert!(token.is_cancelled(), "not heard of");
    }

    fn message(panic: Result<(), Payload>) -> &'static str {
        panic
            .expect_err("no panic")
            .downcast_ref::<&str>()
            .expect("another payload")
    }

    fn children(token: &CancelToken) -> usize {
        token.node.links.lock().children.len()
    }

    #[test]
    fn tokens_and_guards_cross_threads_and_unwinding() {
        fn check<T: Send + Sync + UnwindSafe + RefUnwindSafe + fmt::Debug>() {}
        check::<CancelToken>();
        check::<OnCancel>();
        assert!(format!("{:?}", CancelToken::default()).contains("is_cancelled: false"));
    }

    #[test]
    fn a_child_follows_its_parent_and_not_the_other_way_round() {
        let root = CancelToken::new();
        let (a, b) = (root.child(), root.child());
        let below = a.child().child(); // the one between is gone at once
        a.cancel();
        assert!(a.is_cancelled() && below.is_cancelled());
        assert!(!root.is_cancelled() && !b.is_cancelled());
        assert_eq!((a.check(), b.check()), (Err(Cancelled::BY_CALL), Ok(())));
        assert!(a.child().is_cancelled());
        root.clone().cancel();
        assert!(root.is_cancelled() && b.is_cancelled());
    }

    #[test]
    fn dropped_ancestors_pass_their_children_on() {
        let root = CancelToken::new();
        let a = root.child();
        let b = a.child();
        let (c, d) = (b.child(), b.child());
        drop(b);
        drop(a);
        assert_eq!(children(&root), 2);
        c.cancel();
        assert!(!d.is_cancelled());
        root.cancel();
        assert!(d.is_cancelled());

        let root = CancelToken::new();
        let (orphan, other) = (root.child(), root.child());
        drop(root);
        drop(other);
        assert!(orphan.node.links.lock().parent.is_none());
        assert!(!orphan.is_cancelled());
        let below = orphan.child();
        orphan.cancel();
        assert!(below.is_cancelled());
    }

    #[test]
    fn a_tripped_child_leaves_its_parent_when_dropped() {
        let root = CancelToken::new();
        let child = root.child();
        child.cancel();
        drop(child);
        assert_eq!(children(&root), 0);
    }

    #[test]
    fn a_child_born_during_the_walk_is_tripped() {
        for _ in 0..1000 {
            let root = CancelToken::new();
            let middle = root.child();
            let born = thread::scope(|scope| {
                let births = scope.spawn(|| {
                    let mut born = Vec::new();
                    while !root.is_cancelled() {
                        born.push(middle.child());
                        born.push(root.child().child());
                    }
                    born
                });
                root.cancel();
                births.join().unwrap()
            });
            assert!(born.iter().all(CancelToken::is_cancelled));
        }
    }

    #[test]
    fn a_walk_misses_no_token_whose_ancestors_are_dropped_meanwhile() {
        for round in 0..1000 {
            let root = CancelToken::new();
            let mut line = vec![root.child()];
            for _ in 0..4 {
                line.push(line[line.len() - 1].child());
            }
            let last = line.pop().unwrap();
            if round % 2 == 0 {
                line.reverse();
            }
            let rest = line.split_off(2);
            thread::scope(|scope| {
                scope.spawn(|| drop(line));
                scope.spawn(|| drop(rest));
                root.cancel();
                assert!(last.is_cancelled());
            });
            assert_eq!(children(&root), 0);
            assert_eq!(Arc::strong_count(&last.node), 1);
        }
    }

    #[test]
    fn drops_of_a_whole_family_at_once_leave_nothing_behind() {
        for _ in 0..1000 {
            let root = CancelToken::new();
            let mut family = vec![root.clone()];
            for at in 0..12 {
                family.push(family[at / 2].child());
            }
            let nodes: Vec<_> = family
                .iter()
                .map(|token| Arc::downgrade(&token.node))
                .collect();
            let mut parts: [Vec<CancelToken>; 3] = Default::default();
            for (at, token) in family.into_iter().enumerate() {
                parts[at % 3].push(token);
            }
            thread::scope(|scope| {
                for part in parts {
                    scope.spawn(|| drop(part));
                }
            });
            assert_eq!(children(&root), 0);
            drop(root);
            assert!(nodes.iter().all(|node| node.upgrade().is_none()));
        }
    }

    #[test]
    fn hooks_run_once_in_order_parents_first_when_all_are_tripped() {
        let log = Log::default();
        let root = CancelToken::new();
        let child = root.child();
        let seen = Arc::clone(&log);
        let below = child.clone();
        child.on_cancel(note(&log, 3)).detach();
        let _one = root.on_cancel(move || seen.lock().push(below.is_cancelled().into()));
        let _two = root.on_cancel(note(&log, 2));
        drop(root.on_cancel(note(&log, 9)));
        child.on_cancel(note(&log, 4)).detach();
        root.cancel();
        assert_eq!(taken(&log), [1, 2, 3, 4]);
        root.cancel();
        child.cancel();
        assert_eq!(taken(&log), []);

        let root = CancelToken::new();
        let family = [1, 3, 4].map(|entry| (entry, root.child()));
        let below = family[0].1.child();
        let guards = [4, 3, 1].map(|entry| {
            let (_, token) = family.iter().find(|(own, _)| *own == entry).unwrap();
            token.on_cancel(note(&log, entry))
        });
        let _below = below.on_cancel(note(&log, 2));
        root.cancel();
        assert_eq!(taken(&log), [1, 2, 3, 4]);
        drop(guards);
    }

    #[test]
    fn a_hook_on_a_tripped_token_runs_at_once_and_here() {
        let token = CancelToken::new();
        token.cancel();
        let here = thread::current().id();
        let ran = Arc::new(AtomicBool::new(false));
        let (flag, own) = (Arc::clone(&ran), token.clone());
        let _guard = token.on_cancel(move || {
            assert_eq!(thread::current().id(), here);
            assert!(prompt(|| own.child()).is_cancelled());
            flag.store(true, Ordering::Release);
        });
        assert!(ran.load(Ordering::Acquire));
        let log = Log::default();
        let _guard = token.with_timeout(Duration::ZERO).on_cancel(note(&log, 1));
        let _guard = CancelToken::new()
            .with_timeout(Duration::ZERO)
            .on_cancel(note(&log, 2));
        assert_eq!(taken(&log), [1, 2]);
    }

    #[test]
    fn a_panic_in_a_hook_stops_no_other_hook() {
        let log = Log::default();
        let root = CancelToken::new();
        let child = root.child();
        root.on_cancel(note(&log, 1)).detach();
        root.on_cancel(|| panic!("first")).detach();
        root.on_cancel(|| panic!("second")).detach();
        root.on_cancel(note(&log, 2)).detach();
        child.on_cancel(note(&log, 3)).detach();
        assert_eq!(message(catch_unwind(|| root.cancel())), "first");
        assert_eq!(taken(&log), [1, 2, 3]);
        assert!(root.is_cancelled() && child.is_cancelled());
        root.cancel();

        let at_once = catch_unwind(|| root.on_cancel(|| panic!("now")).detach());
        assert_eq!(message(at_once), "now");
        assert!(root.child().is_cancelled());
    }

    #[test]
    fn a_panic_in_a_hook_during_unwinding_does_not_abort() {
        struct CancelOnDrop(CancelToken);
        impl Drop for CancelOnDrop {
            fn drop(&mut self) {
                self.0.cancel();
            }
        }
        let token = CancelToken::new();
        token.on_cancel(|| panic!("the hook")).detach();
        let panic = catch_unwind(|| {
            let _stage = CancelOnDrop(token);
            panic!("the item");
        });
        assert_eq!(message(panic), "the item");
    }

    #[test]
    fn hooks_may_use_their_token() {
        let log = Log::default();
        let token = CancelToken::new();
        let guards = Arc::new(Mutex::new(Vec::new()));
        let (own, held, inner) = (token.clone(), Arc::clone(&guards), Arc::clone(&log));
        let first = token.on_cancel(move || {
            let guards = mem::take(&mut *held.lock());
            assert_eq!(guards.len(), 2);
            drop(guards); // its own, and the next one's, which so does not run
            own.cancel();
            own.wait();
            assert!(own.child().is_cancelled());
            own.on_cancel(note(&inner, 1)).detach();
        });
        let second = token.on_cancel(note(&log, 2));
        guards.lock().extend([first, second]);
        token.on_cancel(note(&log, 3)).detach();
        prompt(|| token.cancel());
        assert_eq!(taken(&log), [1, 3]);
    }

    #[test]
    fn the_last_handle_drops_hooks_without_running_them() {
        let canary = Arc::new(());
        let token = CancelToken::new();
        let other = token.clone();
        let (held, kept) = (Arc::clone(&canary), Arc::clone(&canary));
        let guard = token.on_cancel(move || unreachable!("{held:?}"));
        token.on_cancel(move || unreachable!("{kept:?}")).detach();
        drop(token);
        assert_eq!(Arc::strong_count(&canary), 3);
        drop(other);
        assert_eq!(Arc::strong_count(&canary), 1);
        drop(guard);
    }

    #[test]
    fn a_hook_whose_drop_uses_the_token_does_not_deadlock() {
        struct Nosy(CancelToken);
        impl Drop for Nosy {
            fn drop(&mut self) {
                self.0.on_cancel(|| ()).detach();
                drop(self.0.child());
            }
        }
        let root = CancelToken::new();
        let token = root.child();
        let (a, b) = (Nosy(token.clone()), Nosy(root.clone()));
        prompt(|| drop(token.on_cancel(move || drop(a))));
        token.on_cancel(move || drop(b)).detach();
        prompt(|| drop(token));
    }

    #[test]
    fn a_hook_may_drop_the_last_handle_and_the_others_still_run() {
        let log = Log::default();
        let root = CancelToken::new();
        let child = root.child();
        let last = Arc::new(Mutex::new(None));
        let held = Arc::clone(&last);
        child.on_cancel(move || drop(held.lock().take())).detach();
        child.on_cancel(note(&log, 1)).detach();
        *last.lock() = Some(child);
        root.cancel();
        assert_eq!(taken(&log), [1]);
        assert!(last.lock().is_none());
    }

    #[test]
    fn a_race_of_a_guard_and_a_walk_runs_the_hook_once_or_not_at_all() {
        for _ in 0..1000 {
            let log = Log::default();
            let token = CancelToken::new();
            let guard = token.on_cancel(note(&log, 1));
            thread::scope(|scope| {
                scope.spawn(|| token.cancel());
                scope.spawn(|| drop(guard));
                scope.spawn(|| token.cancel());
            });
            assert!(taken(&log).len() <= 1);
        }
    }

    #[test]
    fn cancel_wakes_sleepers_and_waiters() {
        let root = CancelToken::new();
        let token = root.child().with_timeout(STUCK);
        thread::scope(|scope| {
            for time in [STUCK, Duration::MAX] {
                let token = &token;
                scope.spawn(move || {
                    assert_eq!(prompt(|| token.sleep(time)), Err(Cancelled::BY_CALL));
                });
            }
            scope.spawn(|| prompt(|| token.wait()));
            scope.spawn(|| prompt(|| root.wait()));
            thread::sleep(SHORT);
            root.cancel();
        });
        assert_eq!(prompt(|| token.sleep(STUCK)), Err(Cancelled::BY_CALL));
        prompt(|| token.wait());
    }

    #[test]
    fn a_waiter_is_woken_in_every_race() {
        for _ in 0..1000 {
            let token = CancelToken::new();
            thread::scope(|scope| {
                scope.spawn(|| token.cancel());
                assert_eq!(prompt(|| token.sleep(STUCK)), Err(Cancelled::BY_CALL));
            });
        }
    }

    #[test]
    fn a_sleep_lasts_its_whole_time() {
        let start = Instant::now();
        let token = CancelToken::new().with_timeout(STUCK);
        assert_eq!(prompt(|| token.sleep(SHORT)), Ok(()));
        assert!(start.elapsed() >= SHORT);
        assert_eq!(token.sleep(Duration::ZERO), Ok(()));
    }

    #[test]
    fn a_deadline_ends_every_wait_at_its_time() {
        let start = Instant::now();
        let root = CancelToken::new();
        let token = root.with_timeout(SHORT);
        assert_eq!(prompt(|| token.sleep(STUCK)), Err(Cancelled::BY_DEADLINE));
        assert!(start.elapsed() >= SHORT);
        assert!(token.is_cancelled() && token.child().is_cancelled());
        assert_eq!(token.check(), Err(Cancelled::BY_DEADLINE));
        assert_eq!(token.sleep(Duration::ZERO), Err(Cancelled::BY_DEADLINE));
        prompt(|| token.wait());
        prompt(|| root.with_timeout(SHORT).child().wait());
        assert!(!root.is_cancelled());
    }

    #[test]
    fn the_nearest_deadline_holds() {
        let root = CancelToken::new();
        let outer = root.with_timeout(SHORT);
        let inner = outer
            .with_timeout(STUCK)
            .child()
            .with_timeout(Duration::MAX);
        assert_eq!(inner.node.deadline, outer.node.deadline);
        prompt(|| inner.wait());
        assert!(outer.is_cancelled());

        let outer = root.with_timeout(STUCK);
        let inner = outer.with_deadline(Instant::now());
        assert!(inner.is_cancelled() && !outer.is_cancelled());

        // Inherited for good: the one that brought it may be gone.
        let inner = root.with_timeout(SHORT).child();
        prompt(|| inner.wait());
    }

    #[test]
    fn an_endless_timeout_is_none() {
        let token = CancelToken::new().with_timeout(Duration::MAX);
        assert_eq!(token.node.deadline, None);
        token.on_cancel(|| ()).detach();
        token.cancel();
        assert_eq!(token.sleep(Duration::MAX), Err(Cancelled::BY_CALL));
    }

    #[test]
    fn hooks_run_at_their_deadlines_on_the_timer_thread() {
        let ran = Log::default();
        let root = CancelToken::new();
        let hook = |token: &CancelToken, entry: u32| {
            let (ran, heard) = (Arc::clone(&ran), CancelToken::new());
            let tell = heard.clone();
            token
                .on_cancel(move || {
                    assert_eq!(thread::current().name(), Some("fanfold-timer"));
                    ran.lock().push(entry);
                    tell.cancel();
                })
                .detach();
            heard
        };
        let never = root.with_timeout(STUCK);
        let late = root.with_timeout(SHORT * 10);
        let soon = root.with_timeout(SHORT);
        let below = soon.child();
        let _unheard = hook(&never, 0);
        soon.on_cancel(|| panic!("at the deadline")).detach();
        let heard = [hook(&late, 3), hook(&below, 2), hook(&soon, 1)];
        heard.iter().for_each(hear);
        assert_eq!(taken(&ran), [1, 2, 3]);
        assert!(late.is_cancelled() && below.is_cancelled());
        assert!(!never.is_cancelled() && !root.is_cancelled());
    }

    #[test]
    fn the_timer_holds_only_live_tokens_with_hooks() {
        let root = CancelToken::new();
        let holds =
            |token: &CancelToken| timer::holds(token.node.deadline.unwrap(), token.node.birth);
        let token = root.with_timeout(STUCK);
        assert!(!holds(&token));
        token.on_cancel(|| ()).detach();
        token.on_cancel(|| ()).detach();
        assert!(holds(&token));
        let (at, birth) = (token.node.deadline.unwrap(), token.node.birth);
        let node = Arc::downgrade(&token.node);
        drop(token);
        assert!(!timer::holds(at, birth));
        assert!(node.upgrade().is_none());

        let token = root.with_timeout(STUCK);
        token.on_cancel(|| ()).detach();
        root.cancel();
        assert!(!holds(&token));
        token.on_cancel(|| ()).detach();
        assert!(!holds(&token));
    }

    #[test]
    fn a_hook_that_is_due_outlives_its_token() {
        for _ in 0..20 {
            let heard = CancelToken::new();
            let tell = heard.clone();
            let token = CancelToken::new().with_timeout(Duration::from_millis(1));
            token.on_cancel(move || tell.cancel()).detach();
            token.wait();
            drop(token);
            hear(&heard);
        }
    }

    #[test]
    fn long_chains_need_no_stack() {
        const LENGTH: usize = 100_000;
        let chain = || {
            let mut chain = vec![CancelToken::new()];
            for at in 0..LENGTH {
                chain.push(chain[at].child());
            }
            chain
        };
        let tripped = chain();
        tripped[0].cancel();
        assert!(tripped.iter().all(CancelToken::is_cancelled));
        drop(tripped); // from the root on

        drop(chain());
        let mut backwards = chain();
        while backwards.pop().is_some() {}

        let mut sparse = chain();
        let last = sparse.pop().unwrap();
        let first = sparse.swap_remove(0);
        drop(sparse);
        assert_eq!(children(&first), 1);
        first.cancel();
        assert!(last.is_cancelled());

        // Each the only handle of its time: nothing grows.
        let root = CancelToken::new();
        let mut token = root.child();
        for _ in 0..LENGTH {
            token = token.child();
        }
        assert_eq!(children(&root), 1);
        root.cancel();
        assert!(token.is_cancelled());
    }

    #[test]
    fn many_short_lived_children_do_not_grow_the_parent() {
        let root = CancelToken::new();
        let mut others = Vec::new();
        for round in 0..100_000 {
            let child = root.child();
            if round % 10_000 == 0 {
                others.push(child);
            }
        }
        assert_eq!(children(&root), others.len());
        drop(others);
        assert_eq!(children(&root), 0);
        assert_eq!(Arc::strong_count(&root.node), 1);
        assert_eq!(Arc::weak_count(&root.node), 0);
    }

    #[test]
    fn who_has_waited_waits_no_longer() {
        let token = CancelToken::new();
        let node = &token.node;
        for _ in 0..3 {
            assert!(!node.park(Instant::now().checked_add(SHORT)));
            assert_eq!(node.links.lock().waiters, 0);
        }
    }

    #[test]
    fn one_of_the_rivals_does_the_work() {
        let (parent, rivals) = (CancelToken::new(), Arc::<Rivals>::default());
        let (first, one) = rivals.join(&parent, None);
        let (second, two) = rivals.join(&parent, None);
        assert!(!rivals.is_claimed());
        assert_eq!(rivals.claim(two), Ok(()));
        assert_eq!((rivals.claim(two), rivals.is_claimed()), (Ok(()), true));
        assert_eq!(rivals.claim(one), Err(Cancelled::BY_CALL));
        let (late, _) = rivals.join(&parent, None);
        assert!(late.is_cancelled() && !first.is_cancelled());
        rivals.give_up(one);
        assert!(rivals.is_claimed(), "by another");
        rivals.give_up(two);
        assert_eq!(rivals.claim(one), Ok(()));
        rivals.give_up(one);
        assert!(rivals.win(one).is_none());
        assert!(second.is_cancelled() && !first.is_cancelled());
        assert_eq!(
            (rivals.claim(one), rivals.claim(two)),
            (Ok(()), Err(Cancelled::BY_CALL))
        );
        rivals.give_up(one);
        let (late, _) = rivals.join(&parent, None);
        assert!(late.is_cancelled() && !first.is_cancelled());
    }

    /// The timer sleeps until the later one by then.
    #[test]
    fn an_earlier_deadline_is_heard_of_although_a_later_one_was_first() {
        let root = CancelToken::new();
        let later = root.with_timeout(STUCK);
        let _hook = later.on_cancel(|| ());
        thread::sleep(SHORT); // until the timer has looked
        let (tell, told) = std::sync::mpsc::channel();
        let earlier = root.with_timeout(SHORT);
        let _hook = earlier.on_cancel(move || tell.send(()).expect("somebody listens"));
        assert_eq!(told.recv_timeout(PROMPT), Ok(()));
        assert!(!later.is_cancelled());
    }
}
