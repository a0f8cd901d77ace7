//! A stage in a program that is async: its outputs as a stream.

use crate::runtime::plan::StreamPlan;
use crate::runtime::pool::{LeasedTask, Pool};
use crate::stage::base::Stage;
use crate::unwind;
use futures_core::Stream;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

/// The outputs of a stage as a [`Stream`]; made by [`Stage::into_stream`].
#[must_use = "a stream is lazy: nothing runs before it is polled"]
pub struct StageStream<P: StreamPlan + 'static> {
    pub(super) stage: Leaving<P>,
}

impl<P: StreamPlan + 'static> fmt::Debug for StageStream<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StageStream").field(&self.stage.0).finish()
    }
}

impl<P: StreamPlan + 'static> Stage<P> {
    /// The outputs as a [`Stream`], for programs that are async, on any runtime.
    ///
    /// Order, bound and laziness are those of the stage: nothing runs before the first poll. A poll never waits: the
    /// threads of the stage wake the task when the output whose turn it is has come. The source and the closures run on
    /// these threads, so they may block or compute; they run outside of the runtime, so what needs it takes a handle along.
    /// Only where no thread can be started does a poll run an item.
    ///
    /// The drop does not wait either. It hands the stage to a thread, which does what the drop of a stage does: starts
    /// nothing more, tells what runs, waits for that, and drops the rest. A panic of these drops goes no further than the
    /// panic hook's message.
    ///
    /// # Panics
    ///
    /// The poll, as `next()` of the stage.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    /// use std::pin::pin;
    /// use std::task::{Context, Poll};
    /// # use futures_core::Stream;
    /// # use std::sync::Arc;
    /// # use std::thread::{self, Thread};
    /// # struct Unpark(Thread);
    /// # impl std::task::Wake for Unpark { fn wake(self: Arc<Self>) { self.0.unpark() } }
    ///
    /// let squares = (0..4).par_map_ordered(2, |x| x * x).into_stream();
    /// # let waker = Arc::new(Unpark(thread::current())).into();
    /// # let mut context = Context::from_waker(&waker);
    /// # let mut squares = pin!(squares);
    /// # let mut got = Vec::new();
    /// # loop {
    /// #     match squares.as_mut().poll_next(&mut context) {
    /// #         Poll::Ready(Some(square)) => got.push(square),
    /// #         Poll::Ready(None) => break,
    /// #         Poll::Pending => thread::park(),
    /// #     }
    /// # }
    /// // in an async function: while let Some(square) = squares.next().await { got.push(square); }
    /// assert_eq!(got, [0, 1, 4, 9]);
    /// ```
    #[cfg_attr(docsrs, doc(cfg(feature = "futures")))]
    #[doc(alias("async", "tokio", "stream"))]
    pub fn into_stream(self) -> StageStream<P> {
        StageStream {
            stage: Leaving(Some(self)),
        }
    }
}

impl<P: StreamPlan + 'static> Stream for StageStream<P> {
    type Item = P::Output;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<P::Output>> {
        match &mut self.get_mut().stage.0 {
            Some(stage) => stage.lazy.poll_owned(cx.waker()),
            None => Poll::Ready(None),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let stage = self.stage.0.as_ref();
        stage.map_or((0, Some(0)), |stage| stage.lazy.size_hint())
    }
}

/// A stage whose drop waits on another thread.
pub(super) struct Leaving<P: StreamPlan + 'static>(pub(super) Option<Stage<P>>);

impl<P: StreamPlan + 'static> Drop for Leaving<P> {
    fn drop(&mut self) {
        let Some(mut stage) = self.0.take() else {
            return;
        };
        if !stage.lazy.has_started() {
            return; // There is nothing to wait for.
        }
        let task = LeasedTask::uncounted(Box::new(move || {
            if let Some(panic) = unwind::discard(stage) {
                unwind::bury(panic);
            }
        }));
        // Without a thread it is done here.
        if let Err(task) = Pool::global().lease(task) {
            task.run();
        }
    }
}
