//! The same on every runtime: a plain thread that parks, and tokio in both flavours.

use crate::support::{SOON, within};
use futures_core::Stream;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Wake};
use std::thread::{self, Thread};

/// A task that counts how often it was woken.
pub(crate) struct Task {
    thread: Thread,
    pub(crate) wakes: AtomicUsize,
}

impl Task {
    pub(crate) fn here() -> Arc<Self> {
        Arc::new(Task {
            thread: thread::current(),
            wakes: AtomicUsize::new(0),
        })
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.wakes.fetch_add(1, SeqCst);
        self.thread.unpark();
    }
}

/// Runs a future on this thread.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Task::here().into();
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

/// The next item of a stream.
pub(crate) fn next<S: Stream + Unpin>(
    stream: &mut S,
) -> impl Future<Output = Option<S::Item>> + '_ {
    std::future::poll_fn(move |cx| Pin::new(&mut *stream).poll_next(cx))
}

/// All items of a stream.
pub(crate) async fn all<S: Stream + Unpin>(mut stream: S) -> Vec<S::Item> {
    let mut got = Vec::new();
    while let Some(item) = next(&mut stream).await {
        got.push(item);
    }
    got
}

/// Runs it on each runtime.
pub(crate) fn on_each<F: Future<Output = ()> + Send + 'static>(
    f: impl Fn() -> F + Clone + Send + 'static,
) {
    let tokio =
        |mut builder: tokio::runtime::Builder| builder.enable_time().build().expect("a runtime");
    let g = f.clone();
    within(SOON, move || block_on(g()));
    let g = f.clone();
    within(SOON, move || {
        tokio(tokio::runtime::Builder::new_current_thread()).block_on(g())
    });
    within(SOON, move || {
        let runtime = tokio(tokio::runtime::Builder::new_multi_thread());
        // On one of its workers.
        runtime
            .block_on(async move { tokio::spawn(f()).await })
            .expect("no panic");
    });
}
