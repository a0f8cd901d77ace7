//! How many cores there are for an [`auto`](crate::Workers::auto) stage: those that the process may use, without what
//! other such stages use, as each of them has said last.

use crate::sync::{
    self,
    fixed::{AtomicU64, Relaxed},
};

/// What all such stages use, in thousandths of a core. Relaxed: it guards nothing, and is an estimate.
static USED: AtomicU64 = AtomicU64::new(0);

/// What one stage uses; until its drop.
#[derive(Debug)]
pub(crate) struct CoreShare {
    /// Asked once, as the answer is read from several files.
    all: usize,
    mine: u64,
}

impl CoreShare {
    pub(crate) fn new() -> Self {
        CoreShare {
            all: sync::cores(),
            mine: 0,
        }
    }

    /// How many there are, and at least one.
    pub(crate) fn left(&self) -> f64 {
        let others = USED.load(Relaxed).saturating_sub(self.mine);
        (self.all as f64 - others as f64 / 1e3).max(1.0)
    }

    /// The stage uses so many from now on.
    pub(crate) fn uses(&mut self, cores: f64) {
        let now = (cores.max(0.0) * 1e3) as u64;
        // A difference below zero wraps, and so does the sum.
        USED.fetch_add(now.wrapping_sub(self.mine), Relaxed);
        self.mine = now;
    }
}

impl Drop for CoreShare {
    fn drop(&mut self) {
        self.uses(0.0);
    }
}
