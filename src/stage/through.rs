//! A stream as the source of a stage, and the outputs as a stream.

use crate::config::Workers;
use crate::ordered::start::Par;
use crate::par::job::Job;
use crate::par::map::Map;
use crate::par::pushed::Pushed;
use crate::runtime::plan::StreamPlan;
use crate::stage::base::Stage;
use crate::stage::push;
use crate::stage::stream::Leaving;
use futures_core::Stream;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

/// The outputs of a stage whose items come from a stream; made by [`StreamFanfold`].
#[must_use = "a stream is lazy: nothing runs before it is polled"]
pub struct Through<T: Stream, J>
where
    Par<Pushed<T::Item>, J>: StreamPlan + 'static,
    T::Item: Send + 'static,
    J: Job<T::Item> + 'static,
{
    /// `None`: it has ended.
    source: Option<Pin<Box<T>>>,
    /// What has found no room.
    held: Option<T::Item>,
    stage: Leaving<Par<Pushed<T::Item>, J>>,
}

impl<T: Stream, J> fmt::Debug for Through<T, J>
where
    Par<Pushed<T::Item>, J>: StreamPlan + 'static,
    T::Item: Send + 'static,
    J: Job<T::Item> + 'static,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Through")
            .field("stage", &self.stage.0)
            .finish_non_exhaustive()
    }
}

impl<T: Stream, J> Stream for Through<T, J>
where
    Par<Pushed<T::Item>, J>: StreamPlan<Output = J::Output> + 'static,
    T::Item: Send + Unpin + 'static,
    J: Job<T::Item> + 'static,
{
    type Item = J::Output;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<J::Output>> {
        let this = self.get_mut();
        let Some(stage) = &mut this.stage.0 else {
            return Poll::Ready(None);
        };
        loop {
            // First what is ready. The waker is there from now on, whatever is pushed below.
            match stage.lazy.poll_owned(cx.waker()) {
                Poll::Ready(Some(output)) => return Poll::Ready(Some(output)),
                Poll::Ready(None) if stage.lazy.has_ended() => return Poll::Ready(None),
                // Nothing is in flight, or it is not ready.
                Poll::Ready(None) | Poll::Pending => {}
            }
            let mut is_new = false;
            while let Some(source) = &mut this.source {
                let item = match this.held.take() {
                    Some(item) => item,
                    None => match source.as_mut().poll_next(cx) {
                        Poll::Ready(Some(item)) => item,
                        Poll::Ready(None) => {
                            this.source = None;
                            push::close(&mut stage.lazy);
                            is_new = true;
                            break;
                        }
                        Poll::Pending => break,
                    },
                };
                if let Err(item) = push::try_push(&mut stage.lazy, item) {
                    this.held = Some(item);
                    break;
                }
                is_new = true;
            }
            if !is_new {
                return Poll::Pending;
            }
        }
    }
}

/// Streams as sources of stages: for closures that compute or block, in programs that are async.
#[cfg_attr(docsrs, doc(cfg(feature = "futures")))]
pub trait StreamFanfold: Stream + Sized {
    /// Maps the items on `n` threads, in order: as [`Fanfold::par_map_ordered`](crate::Fanfold::par_map_ordered), from a
    /// stream to a stream.
    ///
    /// Order: outputs come in the order of the items, each as soon as its turn has come. Memory: the stream is polled only
    /// while there is room for an item, and one more is held. For options give a stage of your own to
    /// [`through`](Self::through).
    ///
    /// # Panics
    ///
    /// If `n` is 0. The poll, with the panic of `f`.
    fn par_map_ordered<O, F>(self, n: impl Into<Workers>, f: F) -> Through<Self, Map<F>>
    where
        Self::Item: Send + 'static,
        O: Send + 'static,
        F: Fn(Self::Item) -> O + Send + Sync + 'static,
        Par<Pushed<Self::Item>, Map<F>>: StreamPlan,
    {
        self.through(crate::push_map_ordered::push_map_ordered(n, f))
    }

    /// Pushes the items into a stage, made by [`push_map_ordered`](crate::push_map_ordered()) or
    /// [`try_push_map_ordered`](crate::try_push_map_ordered()) with all options that it takes, and gives its outputs.
    fn through<J>(self, stage: Stage<Par<Pushed<Self::Item>, J>>) -> Through<Self, J>
    where
        Self::Item: Send + 'static,
        J: Job<Self::Item> + 'static,
        Par<Pushed<Self::Item>, J>: StreamPlan,
    {
        Through {
            source: Some(Box::pin(self)),
            held: None,
            stage: Leaving(Some(stage)),
        }
    }
}

impl<T: Stream> StreamFanfold for T {}
