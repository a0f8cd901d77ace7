//! Which stages run, and on whose behalf: what `testing::assert_quiescent` asks.
//!
//! A stage belongs to the thread that started it; one that is started by a worker belongs to the
//! thread that started the worker's stage. So tests that run side by side do not see one another.

use crate::sync::fixed::{AtomicU64, Mutex, Relaxed};
use std::cell::Cell;
use std::collections::BTreeMap;

static NEXT: AtomicU64 = AtomicU64::new(1);
static ALIVE: Mutex<BTreeMap<u64, (u64, String)>> = Mutex::new(BTreeMap::new());

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
pub(crate) fn enter(root: u64) -> Entered {
    Entered(ROOT.try_with(|here| here.replace(root)).unwrap_or(0))
}

/// Restores the thread's former root.
#[derive(Debug)]
pub(crate) struct Entered(u64);

impl Drop for Entered {
    fn drop(&mut self) {
        let _ = ROOT.try_with(|here| here.set(self.0));
    }
}

/// A stage that runs, until it is dropped.
#[derive(Debug)]
pub(crate) struct Alive(u64);

impl Alive {
    pub(crate) fn new(name: &str) -> Self {
        let id = unique();
        ALIVE.lock().insert(id, (root(), name.to_owned()));
        Alive(id)
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        ALIVE.lock().remove(&self.0);
    }
}

/// The names of the stages that run on behalf of this thread.
pub(crate) fn alive() -> Vec<String> {
    let here = root();
    ALIVE
        .lock()
        .values()
        .filter(|(root, _)| *root == here)
        .map(|(_, name)| name.clone())
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
