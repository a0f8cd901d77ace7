//! Sources within sources: who waits inside the source of whom, and is to be interrupted with it.
//!
//! A thread that pulls a source says so ([`in_source`]) with the [`Inside`] of whoever wants the
//! items. Whatever waits for long in there (the consumer of an inner stage, a pause of a throttle)
//! enters itself before it sleeps ([`tell_outer`]). When the outer one ends, it interrupts all that
//! have entered; who enters later is interrupted at once. So it does not matter which comes first,
//! and the end of a chain never waits for a source of its own that nobody wants any more.

use crate::engine::cancel::{self, InlineOf};
use crate::sync::{Arc, Mutex, Weak};
use std::cell::RefCell;

/// What can be told, from any thread, that nobody wants its items any more.
pub(crate) trait Interrupt: Send + Sync {
    fn interrupt(&self);
}

/// What waits inside one source.
#[derive(Default)]
pub(crate) struct Inside(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    over: bool,
    list: Vec<Weak<dyn Interrupt>>,
}

impl std::fmt::Debug for Inside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inside").finish_non_exhaustive()
    }
}

impl Inside {
    /// Nobody wants the source's items any more.
    pub(crate) fn interrupt(&self) {
        let list = {
            let mut waiting = self.0.lock();
            waiting.over = true;
            std::mem::take(&mut waiting.list)
        };
        // Not under the lock: what is interrupted may have an inside of its own.
        for inner in list.iter().filter_map(Weak::upgrade) {
            inner.interrupt();
        }
    }

    /// Whether that has been said.
    pub(crate) fn is_over(&self) -> bool {
        self.0.lock().over
    }

    /// `false`: it is over.
    fn enter(&self, inner: &Arc<impl Interrupt + 'static>) -> bool {
        let mut waiting = self.0.lock();
        if waiting.over {
            return false;
        }
        let known = |entry: &Weak<dyn Interrupt>| {
            std::ptr::addr_eq(Weak::as_ptr(entry), Arc::as_ptr(inner))
        };
        waiting.list.retain(|entry| entry.strong_count() > 0);
        if !waiting.list.iter().any(known) {
            let inner: Weak<dyn Interrupt> = Arc::downgrade(inner) as _;
            waiting.list.push(inner);
        }
        true
    }
}

thread_local! {
    /// In whose source this thread is.
    static IN_SOURCE_OF: RefCell<Option<Arc<Inside>>> = const { RefCell::new(None) };
}

/// Marks this thread as being in a source, until the guard is dropped.
pub(crate) fn in_source(inside: &Arc<Inside>) -> InSource {
    InSource::enter(Some(Arc::clone(inside)))
}

/// Whether this thread is in the source of somebody.
pub(crate) fn is_in_source() -> bool {
    IN_SOURCE_OF
        .try_with(|outer| outer.borrow().is_some())
        .unwrap_or(false)
}

/// Whether this thread is in a source whose items nobody wants any more. Who was interrupted may have
/// been so by what it had waited in before, and has another wait before it if not.
pub(crate) fn is_unwanted() -> bool {
    outer().is_some_and(|outer| outer.is_over())
}

/// Out of any source while a closure runs, until the guard is dropped: what waits inside a closure
/// is not in the source of the closure's stage.
pub(crate) fn in_closure() -> InSource {
    InSource::enter(None)
}

/// Restores what was before.
#[derive(Debug)]
pub(crate) struct InSource {
    outer: Option<Arc<Inside>>,
    // Not in a closure that the consumer runs itself, either.
    _inline: InlineOf,
}

impl InSource {
    fn enter(source: Option<Arc<Inside>>) -> Self {
        let outer = IN_SOURCE_OF.try_with(|outer| outer.replace(source));
        InSource {
            outer: outer.ok().flatten(),
            _inline: InlineOf::none(),
        }
    }
}

impl Drop for InSource {
    fn drop(&mut self) {
        let outer = self.outer.take();
        let _ = IN_SOURCE_OF.try_with(|here| here.replace(outer));
    }
}

/// Before a sleep: if this thread is inside a source, the end of whoever wants its items is to
/// interrupt `inner`. It may be interrupted before this returns.
pub(crate) fn tell_outer(inner: &Arc<impl Interrupt + 'static>) {
    if outer().is_some_and(|outer| !outer.enter(inner)) {
        inner.interrupt();
    }
}

/// In whose source this thread is, unless it is inside a closure that the consumer runs there.
fn outer() -> Option<Arc<Inside>> {
    if cancel::is_inline() {
        return None;
    }
    IN_SOURCE_OF.try_with(|outer| outer.borrow().clone()).ok()?
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::sync::{AtomicUsize, Ordering};

    #[derive(Default)]
    struct Inner(AtomicUsize);

    impl Interrupt for Inner {
        fn interrupt(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn each_that_is_there_is_interrupted_once_and_what_is_gone_takes_no_place() {
        let inside = Inside::default();
        let waits: Vec<Arc<Inner>> = (0..3).map(|_| Arc::default()).collect();
        let gone = Arc::new(Inner::default());
        assert!(inside.enter(&gone));
        drop(gone);
        for inner in waits.iter().chain(&waits) {
            assert!(inside.enter(inner));
        }
        assert_eq!(inside.0.lock().list.len(), 3);
        inside.interrupt();
        inside.interrupt();
        assert!(inside.is_over() && !inside.enter(&waits[0]));
        assert!(inside.0.lock().list.is_empty());
        for inner in waits {
            assert_eq!(inner.0.load(Ordering::Relaxed), 1);
        }
    }
}
