//! Which stages run, and on whose behalf: what `testing::assert_quiescent` asks.
//!
//! A stage belongs to the thread that started it; one that is started by a worker belongs to the
//! thread that started the worker's stage. So tests that run side by side do not see one another.
//!
//! One that has said its last word and was not joined (a panic, an error, a token, a time-out) runs as long
//! as a thread holds something of it, and no longer.

use crate::sync::fixed::{AtomicU64, Mutex, Relaxed};
use crate::sync::{Arc, Instant};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

static NEXT: AtomicU64 = AtomicU64::new(1);
static ALIVE: Mutex<BTreeMap<u64, StageEntry>> = Mutex::new(BTreeMap::new());

/// Threads that have been told to leave have this long to do so.
const PATIENCE: Duration = Duration::from_secs(1);

struct StageEntry {
    root: u64,
    name: String,
    /// It is over, and this is what threads hold of it.
    over: Option<Arc<dyn HeldThreads>>,
}

/// What threads hold of a stage.
pub(crate) trait HeldThreads: Send + Sync {
    /// Whether a thread still holds something then; waits no longer than until none does.
    fn is_held_at(&self, time: Instant) -> bool;
}

thread_local! {
    static ROOT: Cell<u64> = const { Cell::new(0) };
}

fn unique() -> u64 {
    NEXT.fetch_add(1, Relaxed)
}

/// On whose behalf this thread works.
pub(crate) fn root() -> u64 {
    ROOT.try_with(|root| {
        if root.get() == 0 {
            root.set(unique());
        }
        root.get()
    })
    .unwrap_or(0)
}

/// Works on behalf of `root` until the guard is dropped.
pub(crate) fn enter(root: u64) -> RootGuard {
    RootGuard(ROOT.try_with(|here| here.replace(root)).unwrap_or(0))
}

/// Restores the thread's former root.
#[derive(Debug)]
pub(crate) struct RootGuard(u64);

impl Drop for RootGuard {
    fn drop(&mut self) {
        let _ = ROOT.try_with(|here| here.set(self.0));
    }
}

/// A stage that runs, until this is dropped.
#[derive(Debug)]
pub(crate) struct Alive(u64);

impl Alive {
    pub(crate) fn new(name: &str) -> Self {
        let id = unique();
        let entry = StageEntry {
            root: root(),
            name: name.to_owned(),
            over: None,
        };
        ALIVE.lock().insert(id, entry);
        Alive(id)
    }

    /// Nothing more comes of it: it only runs while threads hold something.
    pub(crate) fn over(&self, held: Arc<dyn HeldThreads>) {
        if let Some(entry) = ALIVE.lock().get_mut(&self.0) {
            entry.over = Some(held);
        }
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        ALIVE.lock().remove(&self.0);
    }
}

/// The names of the stages that run on behalf of this thread. Those that are about to end are waited for.
pub(crate) fn alive() -> Vec<String> {
    let here = root();
    let own: Vec<_> = ALIVE
        .lock()
        .values()
        .filter(|entry| entry.root == here)
        .map(|entry| (entry.name.clone(), entry.over.clone()))
        .collect();
    let until = Instant::now() + PATIENCE;
    own.into_iter()
        .filter(|(_, over)| over.as_ref().is_none_or(|held| held.is_held_at(until)))
        .map(|(name, _)| name)
        .collect()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn who_has_worked_for_another_works_for_itself_again() {
        let own = root();
        let outer = enter(own + 1);
        let inner = enter(own + 2);
        assert_eq!(root(), own + 2);
        drop(inner);
        assert_eq!(root(), own + 1);
        drop(outer);
        assert_eq!(root(), own);
    }
}
