//! A consumer that is polled: it never waits. What it would sleep on is its task's waker (`runtime/sleeper.rs`), and the
//! announcement of its sleep stays in force until it is polled again.
//!
//! It runs no items, as a consumer with a time limit runs none; only where no thread can be started it does.

use crate::cancel::{CancelHook, CancelToken};
use crate::ordered::consumer::Consumer;
use crate::par::job::Job;
use crate::par::source::Source;
use crate::runtime::plan::{Polled, Running};
use crate::sync::Instant;
use std::task::{Poll, Waker};

/// Wakes the task when a running item may be overdue or slow. First the hook is dropped, and then its token.
#[derive(Debug)]
pub(super) struct PollTimer {
    at: Instant,
    _hook: CancelHook,
    _token: CancelToken,
}

impl<S: Source, J: Job<S::Item>> Polled for Consumer<S, J>
where
    S::Item: Send,
{
    fn poll_output(&mut self, waker: &Waker) -> Poll<Option<J::Output>> {
        if let Some(output) = self.next_ready() {
            return Poll::Ready(Some(output));
        }
        // First the waker, then the look (poll / call).
        self.cursor.sleeper.begin_poll(waker);
        if std::mem::take(&mut self.cursor.announced) {
            self.cursor.session.control().awake();
        }
        let output = self.next_until(Some(Instant::now()));
        self.cursor.sleeper.end_poll();
        match output {
            Ok(output) => Poll::Ready(output),
            Err(_) => {
                self.set_timer();
                Poll::Pending
            }
        }
    }
}

impl<S: Source, J: Job<S::Item>> Consumer<S, J>
where
    S::Item: Send,
{
    /// Timed stages: the consumer is to look at the clocks at that time, whether it is called or not.
    fn set_timer(&mut self) {
        let timer = &mut self.cursor.timer;
        if self.cursor.check == timer.as_ref().map(|timer| timer.at) {
            return;
        }
        *timer = self.cursor.check.map(|at| {
            let token = CancelToken::new().with_deadline(at);
            let caller = self.cursor.sleeper.caller().clone();
            PollTimer {
                at,
                _hook: token.on_trip(move |_| caller.unpark()),
                _token: token,
            }
        });
    }
}
