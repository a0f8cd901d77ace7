//! A stage as a stream.

use crate::runtimes::{Task, all, block_on, next, on_each};
use crate::support::{Counter, Gate, Ledger, SOON, bang, caught, eventually, within};
use fanfold::{CancelToken, Fanfold};
use futures_core::Stream;
use std::pin::Pin;
use std::sync::atomic::Ordering::SeqCst;
use std::task::{Context, Poll};
use std::thread::sleep;
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);

#[test]
fn outputs_come_in_order_for_every_width_and_bound() {
    on_each(|| async {
        for n in 1..=9 {
            for bound in [None, Some(1), Some(2), Some(4 * n), Some(1000)] {
                let mut stage = (0..500_u64).par_map_ordered(n, |x| x * 3);
                if let Some(bound) = bound {
                    stage = stage.in_flight(bound);
                }
                let got = all(stage.into_stream()).await;
                assert!(got.into_iter().eq((0..500).map(|x| x * 3)), "{n} {bound:?}");
            }
        }
    });
}

#[test]
fn all_outputs_come_without_an_order_filtered_and_from_a_chain() {
    on_each(|| async {
        for n in 1..=4 {
            let mut got = all((0..500_u64).par_map_unordered(n, |x| x + 1).into_stream()).await;
            got.sort_unstable();
            assert!(got.into_iter().eq(1..=500));
            let evens = (0..500_u64).par_filter(n, |x| x % 2 == 0).into_stream();
            assert!(all(evens).await.into_iter().eq((0..500).step_by(2)));
            let chain = (0..500_u64)
                .par_map_ordered(n, |x| x + 1)
                .par_map_ordered(2, |x| x * 2);
            assert!(
                all(chain.into_stream())
                    .await
                    .into_iter()
                    .eq((1..=500).map(|x| x * 2))
            );
        }
    });
}

#[test]
fn stages_by_key_and_of_iterators_are_streams_too() {
    on_each(|| async {
        for n in 1..=4 {
            for bound in [1, 3, 64] {
                let keyed = (0..300_u64)
                    .par_map_by_key(n, |x| x % 5, |x| x)
                    .in_flight(bound);
                let got = all(keyed.into_stream()).await;
                for key in 0..5 {
                    let of_key = got.iter().copied().filter(|x| x % 5 == key);
                    assert!(of_key.eq((key..300).step_by(5)), "{n} {bound} {key}");
                }
                let flat = (0..300_u64).par_flat_map(n, |x| 0..x % 4).in_flight(bound);
                let got = all(flat.into_stream()).await;
                assert!(
                    got.into_iter().eq((0..300).flat_map(|x| 0..x % 4)),
                    "{n} {bound}"
                );
            }
        }
    });
}

/// As `a_task_is_woken_when_its_output_is_there`, for those.
#[test]
fn their_tasks_are_woken_for_each_output() {
    fn check(stream: impl Stream<Item = u64> + Unpin, gate: &Gate) {
        let mut stream = stream;
        let task = Task::here();
        let waker = task.clone().into();
        let mut cx = Context::from_waker(&waker);
        assert_eq!(Pin::new(&mut stream).poll_next(&mut cx), Poll::Pending);
        sleep(20 * MS);
        assert_eq!(task.wakes.load(SeqCst), 0, "there was nothing to tell");
        gate.open();
        eventually("it is woken", || task.wakes.load(SeqCst) > 0);
        assert_eq!(block_on(all(stream)).len(), 40);
    }
    within(SOON, || {
        let gate = Gate::new();
        let wait = gate.clone();
        let keyed = (0..40).par_map_by_key(
            2,
            |x| x % 5,
            move |x| {
                wait.wait();
                x
            },
        );
        check(keyed.into_stream(), &gate);
        let gate = Gate::new();
        let wait = gate.clone();
        let flat = (0..20).par_flat_map(2, move |x| {
            wait.wait();
            [x, x]
        });
        check(flat.into_stream(), &gate);
    });
}

#[test]
fn ten_thousand_items_in_tasks_side_by_side() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .build()
        .expect("a runtime");
    within(SOON, move || {
        runtime.block_on(async {
            let tasks: Vec<_> = (0..4_u64)
                .map(|of| {
                    tokio::spawn(async move {
                        let stream = (0..10_000_u64)
                            .par_map_ordered(2, move |x| x ^ of)
                            .into_stream();
                        assert!(
                            all(stream)
                                .await
                                .into_iter()
                                .eq((0..10_000).map(|x| x ^ of))
                        );
                    })
                })
                .collect();
            for task in tasks {
                task.await.expect("no panic");
            }
        });
    });
}

/// While an item takes long, the thread of the runtime does other things.
#[test]
fn nothing_waits_on_the_thread_of_the_runtime() {
    within(SOON, || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let gate = Gate::new();
            let wait = gate.clone();
            let mut stream = (0..8)
                .par_map_ordered(2, move |x| {
                    wait.wait();
                    x
                })
                .into_stream();
            // Only this task opens the gate, while the other one waits for the stage.
            let other = tokio::spawn(async move {
                for _ in 0..10 {
                    tokio::time::sleep(MS).await;
                }
                gate.open();
            });
            assert_eq!(next(&mut stream).await, Some(0));
            other.await.expect("no panic");
            assert_eq!(all(stream).await, [1, 2, 3, 4, 5, 6, 7]);
        });
    });
}

/// A task that has been told to wait is not polled for nothing: it is woken when its output is there, and not before.
#[test]
fn a_task_is_woken_when_its_output_is_there() {
    within(SOON, || {
        for ordered in [true, false] {
            let gate = Gate::new();
            let wait = gate.clone();
            let task = Task::here();
            let waker = task.clone().into();
            let mut cx = Context::from_waker(&waker);
            let stage = (0..100).par_map_ordered(2, move |x| {
                if x == 0 || !wait.is_open() {
                    wait.wait();
                }
                x
            });
            let mut stream = if ordered { stage } else { stage.unordered() }.into_stream();
            assert_eq!(Pin::new(&mut stream).poll_next(&mut cx), Poll::Pending);
            sleep(20 * MS);
            assert_eq!(task.wakes.load(SeqCst), 0, "there was nothing to tell");
            gate.open();
            eventually("it is woken", || task.wakes.load(SeqCst) > 0);
            assert!(matches!(
                Pin::new(&mut stream).poll_next(&mut cx),
                Poll::Ready(Some(_))
            ));
            assert_eq!(block_on(all(stream)).len(), 99);
        }
    });
}

#[test]
fn a_time_limit_around_it_loses_nothing() {
    within(SOON, || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let gate = Gate::new();
            let wait = gate.clone();
            let mut stream = (0..50)
                .par_map_ordered(3, move |x| {
                    if x % 10 == 5 {
                        wait.wait();
                    }
                    x
                })
                .into_stream();
            let mut got = Vec::new();
            let mut late = 0;
            loop {
                match tokio::time::timeout(5 * MS, next(&mut stream)).await {
                    Ok(Some(x)) => got.push(x),
                    Ok(None) => break,
                    Err(_) => {
                        late += 1;
                        if late == 3 {
                            gate.open();
                        }
                    }
                }
            }
            assert!(late >= 3 && got.into_iter().eq(0..50));
        });
    });
}

/// The drop returns at once, and all items, outputs and closures are gone later.
#[test]
fn a_drop_at_every_step_waits_for_nothing_and_leaves_nothing() {
    within(SOON, || {
        for taken in 0..20 {
            for n in [1, 2, 4] {
                let (ledger, gate) = (Ledger::new(), Gate::new());
                let (made, wait) = (ledger.clone(), gate.clone());
                let source = (0..20_u64).map(move |x| (x, made.track(x)));
                let mut stream = source
                    .par_map_ordered(n, move |(x, item)| {
                        if x >= taken {
                            wait.wait();
                        }
                        item
                    })
                    .into_stream();
                block_on(async {
                    for _ in 0..taken {
                        assert!(next(&mut stream).await.is_some());
                    }
                });
                let _ =
                    Pin::new(&mut stream).poll_next(&mut Context::from_waker(&Task::here().into()));
                drop(stream); // beside closures that wait
                gate.open();
                eventually("all is dropped", || ledger.alive() == 0);
                ledger.assert_dropped_once();
            }
        }
    });
}

#[test]
fn a_stream_that_was_not_polled_has_done_nothing() {
    let begun = Counter::new();
    let begins = begun.clone();
    drop(
        (0..20)
            .par_map_ordered(2, move |_| begins.add())
            .into_stream(),
    );
    assert_eq!(begun.get(), 0);
}

#[test]
fn a_panic_comes_out_at_its_place() {
    within(SOON, || {
        let mut stream = (0..100_u64)
            .par_map_ordered(2, |x| if x == 40 { bang(x) } else { x })
            .into_stream();
        let mut got = 0;
        let panic = caught(|| {
            block_on(async {
                while next(&mut stream).await.is_some() {
                    got += 1;
                }
            })
        });
        assert_eq!((panic, got), (Err(40), 40));
        assert_eq!(block_on(next(&mut stream)), None);
    });
}

#[test]
fn a_token_wakes_a_task_that_waits() {
    within(SOON, || {
        let token = CancelToken::new();
        let stage = (0..9)
            .par_map_ordered(2, |x| {
                CancelToken::current().wait();
                x
            })
            .cancel_on(&token);
        let mut stream = stage.into_stream();
        let task = Task::here();
        let waker = task.clone().into();
        assert_eq!(
            Pin::new(&mut stream).poll_next(&mut Context::from_waker(&waker)),
            Poll::Pending
        );
        token.cancel();
        eventually("it is woken", || task.wakes.load(SeqCst) > 0);
        block_on(all(stream));
    });
}

/// No thread waits for the time: the task is woken for that too.
#[test]
fn an_item_that_takes_too_long_is_given_up() {
    within(SOON, || {
        let gate = Gate::new();
        let (wait, opener) = (gate.clone(), gate.opener());
        let stage = (0..4).par_map_ordered(2, move |x| {
            if x == 1 {
                wait.wait();
            }
            x
        });
        let stream = stage.item_timeout(50 * MS).isolate().into_stream();
        let got = block_on(all(stream));
        assert_eq!(got.len(), 4);
        assert!(
            got[1].is_err() && [0, 2, 3].iter().all(|at| got[*at].is_ok()),
            "{got:?}"
        );
        drop(opener);
    });
}

#[test]
fn the_first_error_is_the_last_item() {
    on_each(|| async {
        let stage = (0..100).try_par_map_ordered(2, |x| if x == 60 { Err(x) } else { Ok(x) });
        let got = all(stage.into_stream()).await;
        assert_eq!((got.len(), got.last()), (61, Some(&Err(60))));
    });
}
