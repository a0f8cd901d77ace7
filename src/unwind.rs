//! Carries a panic from where it happened to where it is raised.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The payload of a panic.
pub(crate) type Payload = Box<dyn Any + Send>;

/// Runs user code. A panic can leave the user's data half changed, but not ours.
pub(crate) fn catch<R>(f: impl FnOnce() -> R) -> Result<R, Payload> {
    catch_unwind(AssertUnwindSafe(f))
}

/// Drops a value whose drop may panic, and returns that panic.
pub(crate) fn discard<T>(value: T) -> Option<Payload> {
    if std::mem::needs_drop::<T>() {
        catch(|| drop(value)).err()
    } else {
        None
    }
}

/// Drops a payload that will not be raised. Its drop may panic, and so may the drop of *that*
/// payload: the second one is leaked, as the chain could be endless.
pub(crate) fn bury(payload: Payload) {
    if let Some(worse) = discard(payload) {
        std::mem::forget(worse);
    }
}

/// Keeps the first panic and drops the others. If a lock guards `kept`, see [`keep`].
pub(crate) fn first(kept: &mut Option<Payload>, next: Option<Payload>) {
    if let Some(lost) = keep(kept, next) {
        bury(lost);
    }
}

/// Keeps the first panic, and returns any other, to be dropped when no lock is held.
#[must_use]
pub(crate) fn keep(kept: &mut Option<Payload>, next: Option<Payload>) -> Option<Payload> {
    if kept.is_none() {
        *kept = next;
        return None;
    }
    next
}

/// Raises the panic, if there is one; during another panic it is dropped.
pub(crate) fn raise(panic: Option<Payload>) {
    match panic {
        Some(panic) if std::thread::panicking() => bury(panic),
        Some(panic) => std::panic::resume_unwind(panic),
        None => {}
    }
}
