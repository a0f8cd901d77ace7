//! Carrying a panic from where it happened to where it belongs.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a panic carries.
pub(crate) type Payload = Box<dyn Any + Send>;

/// Runs user code. What it leaves half done is its own; ours is not touched in between.
pub(crate) fn catch<R>(f: impl FnOnce() -> R) -> Result<R, Payload> {
    catch_unwind(AssertUnwindSafe(f))
}

/// Drops what may panic while it is dropped, and hands that panic back.
pub(crate) fn discard<T>(value: T) -> Option<Payload> {
    if std::mem::needs_drop::<T>() {
        catch(|| drop(value)).err()
    } else {
        None
    }
}

/// Drops a payload that nobody will see. Its own drop may panic, and so may what *that* throws:
/// the second one is leaked, as an endless chain of them could be built.
pub(crate) fn bury(payload: Payload) {
    if let Some(worse) = discard(payload) {
        std::mem::forget(worse);
    }
}

/// Keeps the first panic and buries the others. Where `kept` is under a lock, see [`keep`].
pub(crate) fn first(kept: &mut Option<Payload>, next: Option<Payload>) {
    if let Some(lost) = keep(kept, next) {
        bury(lost);
    }
}

/// Keeps the first panic, and hands another back: to be buried when no lock is held.
#[must_use]
pub(crate) fn keep(kept: &mut Option<Payload>, next: Option<Payload>) -> Option<Payload> {
    if kept.is_none() {
        *kept = next;
        return None;
    }
    next
}

/// Raises the panic, if there is one; while another is under way it is buried.
pub(crate) fn raise(panic: Option<Payload>) {
    match panic {
        Some(panic) if std::thread::panicking() => bury(panic),
        Some(panic) => std::panic::resume_unwind(panic),
        None => {}
    }
}
