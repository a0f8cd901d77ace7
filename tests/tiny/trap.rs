//! On which thread a closure runs, and what happens in one that runs on the consumer's.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

thread_local! {
    static MARK: u8 = const { 0 };
}

/// Identifies this thread, in about a nanosecond.
pub(crate) fn here() -> usize {
    MARK.with(|mark| std::ptr::from_ref(mark).addr())
}

/// Takes items, which are numbered from 0, until one has been run on this thread; returns how many.
pub(crate) fn until_on_consumer(stage: &mut impl Iterator<Item = (usize, usize)>) -> usize {
    let me = here();
    let (last, _) = stage
        .find(|(_, thread)| *thread == me)
        .expect("the consumer runs such items itself, sooner or later");
    last + 1
}

pub(crate) fn run(i: usize) -> (usize, usize) {
    (i, here())
}

/// Springs once, in the first closure that runs on the thread that set it, after it was set. The consumer
/// may lose its source at any moment, as a busy machine may keep it from running for a while; then the trap
/// springs later.
#[derive(Clone)]
pub(crate) struct Trap(Arc<(AtomicUsize, AtomicUsize)>);

impl Trap {
    pub(crate) fn new() -> Self {
        Trap(Arc::new((
            AtomicUsize::new(0),
            AtomicUsize::new(usize::MAX),
        )))
    }

    pub(crate) fn set(&self) {
        self.0.0.store(here(), Relaxed);
    }

    pub(crate) fn springs(&self, i: usize) -> bool {
        let springs = self.0.0.load(Relaxed) == here();
        if springs {
            self.0.1.store(i, Relaxed);
            self.0.0.store(0, Relaxed);
        }
        springs
    }

    /// Which item it sprang at; past all of them before that.
    pub(crate) fn at(&self) -> usize {
        self.0.1.load(Relaxed)
    }

    /// Takes results, which must be in order from `next` on, until `more` have come past the item at which it sprang.
    pub(crate) fn passed_in_order(
        &self,
        stage: &mut impl Iterator<Item = (usize, usize)>,
        next: usize,
        more: usize,
    ) {
        for want in next.. {
            assert_eq!(stage.next().map(|(i, _)| i), Some(want));
            if want > self.at().saturating_add(more) {
                break;
            }
        }
    }
}
