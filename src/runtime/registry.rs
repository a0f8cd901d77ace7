//! Which stages run, and on whose behalf. `testing::assert_quiescent` reads it.
//!
//! A stage belongs to the thread that started it. A stage that is started by a worker belongs to the thread
//! that started the worker's stage. So tests that run side by side do not see one another's stages.
//!
//! A stage that has yielded its last output without being joined (after a panic, an error, a token or a
//! timeout) counts as running only as long as a thread holds a part of it.

use crate::sync::fixed::{AtomicU64, Mutex, Relaxed};
use crate::sync::{Arc, Instant};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

static NEXT: AtomicU64 = AtomicU64::new(1);
static ALIVE: Mutex<BTreeMap<u64, StageEntry>> = Mutex::new(BTreeMap::new());

/// How long threads that have been told to leave may take. On a busy machine a thread may have to wait for more than a
/// second before it runs.
const PATIENCE: Duration = Duration::from_secs(10);

/// A stage that runs.
struct StageEntry {
    /// The thread on whose behalf it runs.
    root: u64,
    name: String,
    /// `Some`: the stage is over, and this is what threads still hold of it.
    over: Option<Arc<dyn HeldThreads>>,
}

/// What threads hold of a stage.
pub(crate) trait HeldThreads: Send + Sync {
    /// How many threads hold something.
    fn count(&self) -> usize;

    /// Whether a thread still holds something at that time. Returns earlier if none does.
    fn is_held_at(&self, time: Instant) -> bool;
}

// The number of the thread on whose behalf this one works; 0 before anyone has asked.
thread_local! {
    static ROOT: Cell<u64> = const { Cell::new(0) };
}

fn unique() -> u64 {
    NEXT.fetch_add(1, Relaxed)
}

/// The number of the thread on whose behalf this thread works.
pub(crate) fn root() -> u64 {
    // The thread may be so near its end that it has no thread-locals any more: then it works on its own
    // behalf.
    ROOT.try_with(|root| {
        // Its own number, until `enter` lends it that of another thread.
        if root.get() == 0 {
            root.set(unique());
        }
        root.get()
    })
    .unwrap_or(0)
}

/// Makes this thread work on behalf of `root` until the guard is dropped.
pub(crate) fn enter(root: u64) -> RootGuard {
    RootGuard(ROOT.try_with(|here| here.replace(root)).unwrap_or(0))
}

/// Restores the former root of the thread.
#[derive(Debug)]
pub(crate) struct RootGuard(u64);

impl Drop for RootGuard {
    fn drop(&mut self) {
        let _ = ROOT.try_with(|here| here.set(self.0));
    }
}

/// The entry of a running stage. Dropping it removes the entry.
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

    /// The stage yields nothing more: it counts as running only as long as threads hold a part of it.
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

/// The names of the stages that run on behalf of this thread. Waits briefly for those that are about to end.
pub(crate) fn alive() -> Vec<String> {
    // Copied first: waiting under the lock would keep the threads that are awaited from removing their
    // entries.
    let here = root();
    let own: Vec<_> = ALIVE
        .lock()
        .values()
        .filter(|entry| entry.root == here)
        .map(|entry| (entry.name.clone(), entry.over.clone()))
        .collect();
    // One limit for all of them together, not for each.
    let until = Instant::now() + PATIENCE;
    own.into_iter()
        .filter(|(_, over)| over.as_ref().is_none_or(|held| held.is_held_at(until)))
        .map(|(name, _)| name)
        .collect()
}

#[cfg(all(test, not(loom)))]
mod tests;
