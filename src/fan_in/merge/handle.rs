//! Sources that are added to a merge that runs.

use crate::fan_in::merge::options::SourceOptions;
use crate::fan_in::merge::report::{Life, Tally};
use crate::runtime::event::Event;
use crate::sync::{Arc, AtomicBool, Mutex, Ordering};
use std::fmt;

/// A source of whatever type. Its drop is the end of its life.
pub(super) struct LiveSource<'s, T> {
    pub(super) iter: Box<dyn Iterator<Item = T> + Send + 's>,
    pub(super) life: Arc<Life>,
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

/// A source and what was said of it.
pub(super) type SourceEntry<'s, T> = (LiveSource<'s, T>, SourceOptions);

/// Where sources wait that a handle has added. The merge takes them in when it looks for its next
/// item; the event calls it to do so.
pub(super) struct Additions<'s, T> {
    pub(super) tally: Arc<Tally>,
    /// Something here has changed since the merge looked.
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
    /// Something has changed under the lock.
    pub(super) fn tell(&self, event: Option<Arc<Event>>) {
        self.news.store(true, Ordering::Release);
        if let Some(event) = event {
            event.notify();
        }
    }
}

/// The merge's end of the intake: its drop closes it.
pub(super) struct Door<'s, T>(pub(super) Arc<Additions<'s, T>>);

impl<T> Drop for Door<'_, T> {
    fn drop(&mut self) {
        let waiting = {
            let mut state = self.0.state.lock();
            state.closed = true;
            std::mem::take(&mut state.waiting)
        };
        drop(waiting); // not under the lock: it is user code
    }
}

/// Adds sources to a running merge; made by [`Merge::handle`](crate::Merge::handle). Cheap to clone; works from any thread.
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
    /// Adds a source. It is pulled from the next time on that the merge is asked for an item, or at
    /// once if somebody waits for one.
    ///
    /// # Errors
    ///
    /// Gives the source back if the merge is over or was dropped.
    pub fn add<I>(&self, source: I) -> Result<(), I::IntoIter>
    where
        I: IntoIterator<Item = T, IntoIter: Send + 's>,
    {
        self.add_with(source, SourceOptions::new())
    }

    /// Adds a source with options of its own.
    ///
    /// # Errors
    ///
    /// Gives the source back if the merge is over or was dropped.
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
                life: Life::new(&self.0.tally),
            };
            state.waiting.push((source, options));
            state.event.clone()
        };
        self.0.tell(event);
        Ok(())
    }
}
