//! The tree of tokens: which tokens are tripped together, the hooks, and why a token was tripped.
//!
//! # States
//!
//! A token is live or tripped, and a tripped one stays tripped. Each token has a node. While the
//! token has handles, its node is in a tree: links down are strong, links up are weak, and the drop
//! of the last handle removes the node. So a child keeps no ancestor alive and a parent keeps no
//! dropped child. No node is freed with links to others, so no drop ever recurses.
//!
//! A deadline is fixed at birth, as the earliest of the token's own and its ancestors'. A token
//! whose deadline has passed counts as tripped for every thread that checks the clock, and all do:
//! both those that ask and those that wait, which never wait past it. No thread has to trip the
//! token for that. Only hooks need a thread to act at the time, so the timer thread starts with the
//! first hook on a token with a deadline, and holds entries for such tokens only.
//!
//! # Actors
//!
//! - [`cancel`](crate::CancelToken::cancel) or the timer walks down the tree from one node, with a
//!   list instead of recursion. At each node, under its lock, it sets the state, takes the children
//!   away, and wakes the waiting threads. When the whole subtree is tripped, it runs the hooks with
//!   no lock held, and takes each out of its node just before running it.
//! - The drop of the last handle moves the node's children to its parent, so that a token whose
//!   ancestor was dropped still hears from the ancestors above that one.
//!
//! # Locks
//!
//! One lock per node, and the timer's. A thread that holds a node's lock takes only locks of its
//! descendants, and the timer's lock last of all.
//!
//! - *Birth against walk.* A child is added under its parent's lock, under which the state is read
//!   too. Either the walk comes later and finds the child, or it came before and the child is born tripped.
//! - *Drop against walk.* Children move up under the locks of both nodes. If the upper node is
//!   live, a later walk finds them there. If it is tripped, the walk already holds the lower node,
//!   and the children stay there for it to find.
//! - *Wait against walk.* The state changes under the lock under which a waiter reads it before it
//!   sleeps, so no wake-up is lost.
//!
//! State is stored with `Release` and loaded with `Acquire`: a thread that sees a token tripped
//! sees everything written before it was tripped.

use crate::cancel::timer;
use crate::error::Cancelled;
use crate::sync::{Arc, AtomicU32, AtomicUsize, Condvar, Instant, Mutex, Ordering, Weak};
use crate::unwind::{self, Payload};
use std::collections::BTreeMap;
use std::fmt;
use std::mem;

pub(super) type Hook = Box<dyn FnOnce(Cancelled) + Send>;

/// Why something was cancelled, if it was; the first reason stays. `SeqCst`, so that a thread that
/// sets it and then wakes another can pair with that one's fence.
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
    /// The rivals that race for the same result, and its index among them.
    pub(super) rivals: Option<(Arc<Rivals>, usize)>,
    pub(super) links: Mutex<Links>,
    pub(super) wake: Condvar,
}

#[derive(Default)]
pub(super) struct Links {
    /// `None` for a root. If it cannot be upgraded, the parent was tripped: see [`Node::retire`].
    pub(super) parent: Option<Weak<Node>>,
    /// By birth, the oldest first.
    pub(super) children: BTreeMap<u64, Arc<Node>>,
    /// By number, that is, in the order of registration.
    pub(super) hooks: BTreeMap<u64, Hook>,
    pub(super) next_hook: u64,
    /// Whether the timer has an entry.
    pub(super) timed: bool,
    /// How many threads sleep. Waking none would still be a system call.
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

    /// Why the node counts as tripped, if it does.
    #[inline]
    pub(super) fn why(&self) -> Option<Cancelled> {
        let expired = || self.has_expired().then_some(Cancelled::BY_DEADLINE);
        self.tripped.get().or_else(expired)
    }

    /// Sleeps until the node is tripped or the time has come. Returns whether it was tripped.
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

    /// Trips a node and everything below it, and runs their hooks. Returns the first panic of a
    /// hook. A node that had already expired is tripped by its deadline, whatever `why` says.
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
            // The oldest on top: parents before children, and older children before younger ones.
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
                // One at a time, so that a hook deregistered in the meantime does not run.
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
            // Upgraded under the node's lock: a parent that retired has put its own parent here. So
            // a parent that is gone was tripped, and its walk leaves nothing to do.
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
                continue; // The parent has retired, and this node has moved up.
            }

            // Hooks that are due are left to the timer, which trips the token soon, if not already.
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
            drop(hooks); // User code, so after the locks are released.
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
    // Relaxed: the numbers are distinct, and grow from parent to child, in any case.
    BIRTHS.fetch_add(1, Ordering::Relaxed)
}

#[cfg(loom)]
pub(super) fn birth() -> u64 {
    // All threads of a loom model are one system thread.
    thread_local!(static BIRTHS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) });
    BIRTHS.replace(BIRTHS.get() + 1)
}

/// The tokens of the rivals for one result.
#[derive(Default)]
pub(crate) struct Rivals(pub(super) Mutex<TiedTokens>);

#[derive(Default)]
pub(super) struct TiedTokens {
    pub(super) claimed: Option<usize>,
    /// Only the work of this rival still counts.
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

    /// Whether one rival has claimed the work for itself.
    pub(crate) fn is_claimed(&self) -> bool {
        self.0.lock().claimed.is_some()
    }

    /// Rival `me` has failed: if it had claimed the work, another may.
    pub(crate) fn give_up(&self, me: usize) {
        self.0.lock().claimed.take_if(|claimed| *claimed == me);
    }

    /// Rival `me` has finished, and no other's work counts any more. Returns a panic of a hook.
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
