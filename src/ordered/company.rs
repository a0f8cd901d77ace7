//! Whether a second thread is there to take over what a puller holds that gets stuck in the source.
//!
//! A pool with a limit, or with a start hook that may fail, may refuse every thread but the first. Then items
//! that the puller has pulled and not started would wait for the source's next item, and if that waits for
//! their results, forever. So in such a stage a thread pulls item by item until another one has come. If a
//! thread is refused for good, it stays so. On any other pool a second thread can be counted on.

use crate::sync::{AtomicUsize, Ordering};

const HERE: usize = 0;
const AWAITED: usize = 1;
const NEVER: usize = 2;

/// See the head of this file. All loads and stores are `Relaxed`: a thread that comes stores this under the
/// scheduler's lock, and whatever is decided about it is decided under that lock.
#[derive(Debug)]
pub(super) struct Company(AtomicUsize);

impl Company {
    pub(super) fn new(is_certain: bool) -> Self {
        Company(AtomicUsize::new(if is_certain { HERE } else { AWAITED }))
    }

    pub(super) fn has_come(&self) {
        self.0.store(HERE, Ordering::Relaxed);
    }

    pub(super) fn never_comes(&self) {
        self.0.store(NEVER, Ordering::Relaxed);
    }

    /// Whether there is another thread.
    #[inline]
    pub(super) fn is_here(&self) -> bool {
        self.0.load(Ordering::Relaxed) == HERE
    }

    /// Whether one may still come, and is to be asked for.
    pub(super) fn is_awaited(&self) -> bool {
        self.0.load(Ordering::Relaxed) == AWAITED
    }
}
