//! A handle on the width of a stage.

use crate::config::Workers;
use crate::runtime::width::SharedWidth;
use crate::sync::Arc;

/// Sets the width of a stage while it runs: made by [`Stage::workers_handle`](crate::Stage::workers_handle).
///
/// It outlives the stage, and may be used from any thread, also from a closure of the stage. All clones are the same
/// handle.
///
/// # Examples
///
/// A program that leaves a machine to others for a while:
///
/// ```
/// use fanfold::Fanfold;
///
/// let mut thumbnails = (0..200).par_map_unordered(8, |image: u32| image % 7);
/// let workers = thumbnails.workers_handle();
/// let busy = std::thread::spawn(move || workers.set(2));
/// assert_eq!(thumbnails.count(), 200);
/// busy.join().unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct WorkersHandle {
    width: Arc<SharedWidth>,
}

impl WorkersHandle {
    pub(crate) fn new(width: Arc<SharedWidth>) -> Self {
        WorkersHandle { width }
    }

    /// Sets how many closures run at once from now on.
    ///
    /// **More**: what waits starts at once, on as many threads as there is work for. **Fewer**: no closure is interrupted,
    /// and none begins until enough have ended. An item that a worker has taken counts as begun, also while it waits for a
    /// [permit](crate::Stage::limited_by). A thread too many sleeps until the stage becomes wider again, or ends, and keeps
    /// its state, if the job has one: so there may be as many states as the stage ever was wide.
    ///
    /// **Before the start** it is the width with which the stage begins. **After the end** nothing happens.
    ///
    /// The call waits for no closure and no source, only for other calls of `set`, and until a thread is started.
    ///
    /// # Panics
    ///
    /// If `n` is 0. The width stays as it was.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    ///
    /// let mut stage = (0..9).par_map_ordered(1, |x| x);
    /// let workers = stage.workers_handle();
    /// workers.set(3);
    /// assert_eq!(stage.count(), 9);
    /// workers.set(4); // too late
    /// assert_eq!(workers.get(), 3);
    /// ```
    #[track_caller]
    pub fn set(&self, n: impl Into<Workers>) {
        self.width.set(n.into().checked());
    }

    /// The width that was set last, or with which the stage was made.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    ///
    /// assert_eq!((0..9).par_map_ordered(2, |x| x).workers_handle().get(), 2);
    /// ```
    #[must_use]
    pub fn get(&self) -> usize {
        self.width.get()
    }
}
