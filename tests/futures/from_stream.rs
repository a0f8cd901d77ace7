//! A stream as the source of a stage.

use crate::runtimes::{Task, all, block_on, next, on_each};
use crate::support::{Gate, SOON, bang, caught, eventually, within};
use fanfold::{StreamFanfold, push_map_ordered, try_push_map_ordered};
use futures_core::Stream;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll};

/// Numbers, of which each third one is there only at the second poll.
struct Numbers {
    next: u64,
    end: u64,
    waited: bool,
    asked: Arc<AtomicU64>,
}

impl Numbers {
    fn new(end: u64) -> (Self, Arc<AtomicU64>) {
        let asked = Arc::new(AtomicU64::new(0));
        let numbers = Numbers {
            next: 0,
            end,
            waited: false,
            asked: Arc::clone(&asked),
        };
        (numbers, asked)
    }
}

impl Stream for Numbers {
    type Item = u64;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<u64>> {
        if self.next % 3 == 2 && !std::mem::replace(&mut self.waited, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.waited = false;
        if self.next == self.end {
            return Poll::Ready(None);
        }
        self.next += 1;
        self.asked.store(self.next, SeqCst);
        Poll::Ready(Some(self.next - 1))
    }
}

#[test]
fn outputs_come_in_order() {
    on_each(|| async {
        for n in 1..=9 {
            for bound in [1, 2, 4 * n, 1000] {
                let stage = push_map_ordered(n, |x: u64| x * 3).in_flight(bound);
                let got = all(Numbers::new(300).0.through(stage)).await;
                assert!(got.into_iter().eq((0..300).map(|x| x * 3)), "{n} {bound}");
            }
            let got = all(Numbers::new(300).0.par_map_ordered(n, |x| x + 1)).await;
            assert!(got.into_iter().eq(1..=300));
        }
    });
}

/// The stream is asked for no more than there is room for, and one.
#[test]
fn the_stream_feels_the_bound() {
    within(SOON, || {
        let gate = Gate::new();
        let wait = gate.clone();
        let (numbers, asked) = Numbers::new(100);
        let stage = push_map_ordered(2, move |x| {
            wait.wait();
            x
        })
        .in_flight(5);
        let mut stream = numbers.through(stage);
        let task = Task::here();
        let waker = task.clone().into();
        let mut cx = Context::from_waker(&waker);
        for _ in 0..20 {
            assert_eq!(Pin::new(&mut stream).poll_next(&mut cx), Poll::Pending);
        }
        assert_eq!(asked.load(SeqCst), 6);
        let before = task.wakes.load(SeqCst);
        gate.open();
        eventually("it is woken", || task.wakes.load(SeqCst) > before);
        assert!(block_on(all(stream)).into_iter().eq(0..100));
    });
}

#[test]
fn errors_and_panics_end_it() {
    within(SOON, || {
        let stage = try_push_map_ordered(2, |x: u64| {
            if x == 50 {
                Err(std::io::Error::other("50"))
            } else {
                Ok(x)
            }
        });
        let got = block_on(all(Numbers::new(300).0.through(stage)));
        assert_eq!(
            (got.len(), got.last().is_some_and(Result::is_err)),
            (51, true)
        );
        let mut stream = Numbers::new(300)
            .0
            .par_map_ordered(2, |x| if x == 40 { bang(x) } else { x });
        let mut got = 0;
        let panic = caught(|| {
            block_on(async {
                while next(&mut stream).await.is_some() {
                    got += 1;
                }
            })
        });
        assert_eq!((panic, got), (Err(40), 40));
    });
}

#[test]
fn a_drop_waits_for_nothing() {
    within(SOON, || {
        for taken in 0..10 {
            let gate = Gate::new();
            let (wait, done) = (gate.clone(), Arc::new(AtomicUsize::new(0)));
            let held = Arc::clone(&done);
            let mut stream = Numbers::new(100).0.par_map_ordered(2, move |x| {
                let _held = &held;
                if x >= taken {
                    wait.wait();
                }
                x
            });
            block_on(async {
                for _ in 0..taken {
                    next(&mut stream).await;
                }
            });
            drop(stream);
            gate.open();
            eventually("the closure is gone", || Arc::strong_count(&done) == 1);
        }
    });
}
