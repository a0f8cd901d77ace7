//! What the closures around a thread hold of the user's `Permits`: so that a wait that cannot end is noticed. In
//! debug builds only.
//!
//! A closure of a limited stage has a number while it runs. It is on the list of its thread, and on those of all
//! threads that run what it has started: a leased thread gets the list of the thread that has begun what it is
//! leased for ([`lease`](crate::runtime::lease)). A number that is found on a list after its closure has
//! returned means nothing any more: `Permits` knows which closures hold any.

use crate::sync::Arc;
use crate::sync::fixed::{AtomicU64, Relaxed};
use std::cell::RefCell;

/// Not in a release build; and not in models, all threads of which are one system thread.
const ON: bool = cfg!(all(debug_assertions, not(loom)));

/// A list of numbers, the innermost closure first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Holds(Option<Arc<Hold>>);

#[derive(Debug)]
struct Hold {
    number: u64,
    outer: Holds,
}

thread_local! {
    static HOLDS: RefCell<Holds> = const { RefCell::new(Holds(None)) };
}

impl Holds {
    /// The list of this thread.
    pub(crate) fn here() -> Self {
        let list = || HOLDS.try_with(|holds| holds.borrow().clone()).ok();
        ON.then(list).flatten().unwrap_or_default()
    }

    /// Makes it this thread's list until the guard is dropped.
    pub(crate) fn enter(self) -> HoldsGuard {
        let former = || HOLDS.try_with(|holds| holds.replace(self)).ok();
        HoldsGuard(ON.then(former).flatten().unwrap_or_default())
    }

    pub(crate) fn numbers(&self) -> impl Iterator<Item = u64> + '_ {
        let list = std::iter::successors(self.0.as_ref(), |hold| hold.outer.0.as_ref());
        list.map(|hold| hold.number)
    }
}

/// Restores the former list of the thread.
#[derive(Debug)]
pub(crate) struct HoldsGuard(Holds);

impl Drop for HoldsGuard {
    fn drop(&mut self) {
        if ON {
            let former = std::mem::take(&mut self.0);
            // Dropped outside of the borrow.
            let _list = HOLDS.try_with(|holds| holds.replace(former));
        }
    }
}

/// A closure that holds something, until the guard is dropped.
#[derive(Debug)]
pub(crate) struct HoldGuard {
    number: u64,
    _list: HoldsGuard,
}

impl HoldGuard {
    pub(crate) fn number(&self) -> u64 {
        self.number
    }
}

/// This thread is about to run a closure that holds something. `None`: nobody wants to know.
pub(crate) fn hold() -> Option<HoldGuard> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    ON.then(|| {
        let number = NEXT.fetch_add(1, Relaxed);
        let outer = Holds::here();
        HoldGuard {
            number,
            _list: Holds(Some(Arc::new(Hold { number, outer }))).enter(),
        }
    })
}
