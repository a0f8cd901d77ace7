//! The tree of tokens: who is tripped with whom, the hooks, and why something was tripped.
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
//! - [`cancel`](crate::CancelToken::cancel) or the timer walks down the tree from one node, with a list
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

use crate::cancel::timer;
use crate::error::Cancelled;
use crate::sync::{Arc, AtomicU32, AtomicUsize, Condvar, Instant, Mutex, Ordering, Weak};
use crate::unwind::{self, Payload};
use std::collections::BTreeMap;
use std::fmt;
use std::mem;

pub(super) type Hook = Box<dyn FnOnce(Cancelled) + Send>;

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

pub(super) struct Node {
    /// Its number among all nodes, greater than its parent's.
    pub(super) birth: u64,
    pub(super) tripped: Why,
    /// The tokens that share this node. Links of the tree and of the timer do not count.
    pub(super) handles: AtomicUsize,
    pub(super) deadline: Option<Instant>,
    /// Those that race for the same result, and as which of them.
    pub(super) rivals: Option<(Arc<Rivals>, usize)>,
    pub(super) links: Mutex<Links>,
    pub(super) wake: Condvar,
}

#[derive(Default)]
pub(super) struct Links {
    /// `None` for a root. One that cannot be upgraded was tripped: see [`Node::retire`].
    pub(super) parent: Option<Weak<Node>>,
    /// By birth, the oldest first.
    pub(super) children: BTreeMap<u64, Arc<Node>>,
    /// By number, so in the order of registration.
    pub(super) hooks: BTreeMap<u64, Hook>,
    pub(super) next_hook: u64,
    /// Whether the timer has an entry.
    pub(super) timed: bool,
    /// How many threads sleep: to wake nobody is a system call too.
    pub(super) waiters: usize,
}

impl timer::Expires for Node {
    fn expire(self: Arc<Self>) -> Option<Payload> {
        Node::trip(&self, Cancelled::BY_DEADLINE)
    }
}

impl Node {
    pub(super) fn new(
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
    pub(super) fn is_tripped(&self) -> bool {
        self.tripped.get().is_some()
    }

    #[inline]
    pub(super) fn has_expired(&self) -> bool {
        self.deadline.is_some_and(|at| at <= Instant::now())
    }

    /// Why it counts as tripped, if it does.
    #[inline]
    pub(super) fn why(&self) -> Option<Cancelled> {
        let expired = || self.has_expired().then_some(Cancelled::BY_DEADLINE);
        self.tripped.get().or_else(expired)
    }

    /// Sleeps until the node is tripped or the time has come. Tells whether it was tripped.
    pub(super) fn park(&self, limit: Option<Instant>) -> bool {
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
    pub(super) fn trip(top: &Arc<Node>, why: Cancelled) -> Option<Payload> {
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
    pub(super) fn retire(node: &Arc<Node>) {
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

    pub(super) fn schedule(node: &Arc<Node>, links: &mut Links) {
        if let (Some(at), false) = (node.deadline, links.timed) {
            links.timed = true;
            timer::add(at, node.birth, Arc::clone(node) as _);
        }
    }

    pub(super) fn unschedule(&self, links: &mut Links) {
        if let (Some(at), true) = (self.deadline, links.timed) {
            links.timed = false;
            timer::remove(at, self.birth);
        }
    }
}

#[cfg(not(loom))]
pub(super) fn birth() -> u64 {
    static BIRTHS: crate::sync::AtomicU64 = crate::sync::AtomicU64::new(0);
    // Relaxed: the numbers are distinct, and grow from a parent to a child, in any case.
    BIRTHS.fetch_add(1, Ordering::Relaxed)
}

#[cfg(loom)]
pub(super) fn birth() -> u64 {
    // All threads of a model are one thread of the system.
    thread_local!(static BIRTHS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) });
    BIRTHS.replace(BIRTHS.get() + 1)
}

/// The tokens of those that race for one result.
#[derive(Default)]
pub(crate) struct Rivals(pub(super) Mutex<TiedTokens>);

#[derive(Default)]
pub(super) struct TiedTokens {
    pub(super) claimed: Option<usize>,
    /// Nobody's work counts any more but this one's.
    pub(super) won: Option<usize>,
    pub(super) members: Vec<Weak<Node>>,
}

impl fmt::Debug for Rivals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rivals").finish_non_exhaustive()
    }
}

impl Rivals {
    pub(super) fn claim(&self, me: usize) -> Result<(), Cancelled> {
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

    pub(super) fn trip_others(&self, me: usize) -> Option<Payload> {
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
