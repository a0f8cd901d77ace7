//! Adds sources to a running merge.

use crate::fan_in::merge::options::SourceOptions;
use crate::fan_in::merge::report::{LiveMark, Tally};
use crate::runtime::event::Event;
use crate::sync::{Arc, AtomicBool, Mutex, Ordering};
use std::fmt;

/// A boxed source. Its drop ends its life.
pub(super) struct LiveSource<'s, T> {
    pub(super) iter: Box<dyn Iterator<Item = T> + Send + 's>,
    pub(super) life: Arc<LiveMark>,
}

impl<T> Iterator for LiveSource<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.iter.next()
    }
}

impl<T> Drop for LiveSource<'_, T> {
    fn drop(&mut self) {
        self.life.over();
    }
}

/// A source and its options.
pub(super) type SourceEntry<'s, T> = (LiveSource<'s, T>, SourceOptions);

/// The sources added by handles, until the merge admits them when it looks for its next item; the
/// event wakes it to do so.
pub(super) struct Additions<'s, T> {
    pub(super) tally: Arc<Tally>,
    /// Whether something has changed since the merge last looked.
    pub(super) news: AtomicBool,
    pub(super) state: Mutex<Admission<'s, T>>,
}

pub(super) struct Admission<'s, T> {
    pub(super) waiting: Vec<SourceEntry<'s, T>>,
    pub(super) handles: usize,
    /// The merge is over.
    pub(super) closed: bool,
    pub(super) event: Option<Arc<Event>>,
}

impl<T> Additions<'_, T> {
    /// Announces a change that was made under the lock.
    pub(super) fn tell(&self, event: Option<Arc<Event>>) {
        self.news.store(true, Ordering::Release);
        if let Some(event) = event {
            event.notify();
        }
    }
}

/// The merge's end of the additions: its drop closes them.
pub(super) struct Door<'s, T>(pub(super) Arc<Additions<'s, T>>);

impl<T> Drop for Door<'_, T> {
    fn drop(&mut self) {
        let waiting = {
            let mut state = self.0.state.lock();
            state.closed = true;
            std::mem::take(&mut state.waiting)
        };
        drop(waiting); // user code, so not under the lock
    }
}

/// Adds sources to a running merge; made by [`Merge::handle`](crate::Merge::handle). Cheap to
/// clone; works from any thread.
pub struct MergeHandle<'s, T>(pub(super) Arc<Additions<'s, T>>);

impl<T> fmt::Debug for MergeHandle<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MergeHandle").finish_non_exhaustive()
    }
}

impl<T> Clone for MergeHandle<'_, T> {
    fn clone(&self) -> Self {
        self.0.state.lock().handles += 1;
        MergeHandle(Arc::clone(&self.0))
    }
}

impl<T> Drop for MergeHandle<'_, T> {
    fn drop(&mut self) {
        let event = {
            let mut state = self.0.state.lock();
            state.handles -= 1;
            state.event.clone()
        };
        self.0.tell(event);
    }
}

impl<'s, T> MergeHandle<'s, T> {
    /// Adds a source. It is pulled from the merge's next call of `next()` on, or at once if a
    /// thread is waiting in one.
    ///
    /// # Errors
    ///
    /// Returns the source if the merge is over or was dropped.
    pub fn add<I>(&self, source: I) -> Result<(), I::IntoIter>
    where
        I: IntoIterator<Item = T, IntoIter: Send + 's>,
    {
        self.add_with(source, SourceOptions::new())
    }

    /// Adds a source with its own options.
    ///
    /// # Errors
    ///
    /// Returns the source if the merge is over or was dropped.
    pub fn add_with<I>(&self, source: I, options: SourceOptions) -> Result<(), I::IntoIter>
    where
        I: IntoIterator<Item = T, IntoIter: Send + 's>,
    {
        let iter = source.into_iter();
        let event = {
            let mut state = self.0.state.lock();
            if state.closed {
                return Err(iter);
            }
            let source = LiveSource {
                iter: Box::new(iter),
                life: LiveMark::new(&self.0.tally),
            };
            state.waiting.push((source, options));
            state.event.clone()
        };
        self.0.tell(event);
        Ok(())
    }
}
