//! `throttle`: limits the items per second. Needs no thread.

use crate::limiter::queue::Limiter;
use crate::runtime::context::is_unwanted;

/// A source whose items pass at a limited rate; made by [`throttle`](crate::Fanfold::throttle).
/// Needs the feature `throttle`.
///
/// Clones share the limiter.
#[derive(Clone, Debug)]
#[must_use = "a throttle is lazy: nothing is pulled before the first `next()`"]
pub struct Throttle<S: Iterator> {
    /// `None` after its end.
    source: Option<S>,
    /// The item that was pulled and may not pass yet. It stays here when a wait is given up.
    held: Option<S::Item>,
    limiter: Limiter,
}

impl<S: Iterator> Throttle<S> {
    pub(crate) fn new(source: S, limiter: Limiter) -> Self {
        Throttle {
            source: Some(source),
            held: None,
            limiter,
        }
    }
}

// Not `FusedIterator`: after a wait that was given up, `next()` returns `None` before the end.
impl<S: Iterator> Iterator for Throttle<S> {
    type Item = S::Item;

    fn next(&mut self) -> Option<S::Item> {
        // The item first, then its permit. Otherwise the permit would age while the source blocks,
        // and two items would pass at once; and the end of the source would have to wait for a permit.
        if self.held.is_none() {
            self.held = self.source.as_mut()?.next();
            if self.held.is_none() {
                // Keeps the source if this was not its end but a wait in it that was cut short.
                self.source.take_if(|_| !is_unwanted());
                return None;
            }
        }
        self.limiter.acquire_on(None).ok()?;
        self.held.take()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let held = usize::from(self.held.is_some());
        let source = self.source.as_ref();
        let (low, high) = source.map_or((0, Some(0)), Iterator::size_hint);
        let high = high.and_then(|high| high.checked_add(held));
        (low.saturating_add(held), high)
    }
}

impl<S: ExactSizeIterator> ExactSizeIterator for Throttle<S> {}
