//! `par_flat_map` with a bound that is too small to pay for threads: the consumer runs the items, and nothing but the
//! thread and the speed may show that.

use crate::support::{
    Counter, Gate, Ledger, Meter, SOON, bang, caught, eventually, settle, within,
};
use fanfold::testing::assert_quiescent;
use fanfold::{CancelToken, Fanfold};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread::{self, ThreadId};
use std::time::Duration;

/// An output: its number, and where it was made.
type Output = (usize, ThreadId);

fn here() -> ThreadId {
    thread::current().id()
}

/// Small bounds, with items of few outputs and of many.
fn each(f: impl Fn(usize, usize, usize) + Clone + Send + 'static) {
    for n in 1..=9 {
        for (k, per_item) in [(1, 1), (2, 3), (8, 1), (8, 1_000), (64, 7), (64, 10_000)] {
            let f = f.clone();
            within(SOON, move || {
                f(n, k, per_item);
                assert_quiescent();
            });
        }
    }
}

/// Takes outputs until one comes that this thread has made. Returns how many those were.
fn until_own(stage: &mut impl Iterator<Item = Output>) -> usize {
    let me = here();
    let own = stage.find(|(_, thread)| *thread == me);
    own.expect("the consumer runs them itself, sooner or later")
        .0
        + 1
}

#[test]
fn outputs_come_in_order() {
    each(|n, k, per_item| {
        let open = move |item| (0..per_item).map(move |i| (item * per_item + i, here()));
        let mut stage = (0..).par_flat_map(n, open).in_flight(k);
        let first = until_own(&mut stage);
        assert!(stage.map(|(i, _)| i).take(20_000).eq(first..first + 20_000));
    });
}

/// P2: whoever runs the items.
#[test]
fn the_bound_holds() {
    each(|n, k, per_item| {
        let made = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&made);
        let open = move |item| {
            let count = Arc::clone(&count);
            (0..per_item).map(move |i| {
                count.fetch_add(1, SeqCst);
                (item * per_item + i, here())
            })
        };
        let stage = (0..).par_flat_map(n, open).in_flight(k);
        for (taken, _) in stage.take(5_000).enumerate() {
            assert!(made.load(SeqCst) <= taken + k + 1, "n = {n}, k = {k}");
        }
    });
}

/// P3, P4: at most `n` closures run, and as many do, while the consumer is in a long one.
#[test]
fn the_others_run_while_the_consumer_is_in_a_long_item() {
    for n in 2..=9 {
        within(SOON, move || {
            let (meter, started, gate) = (Meter::new(), Counter::new(), Gate::new());
            // From the first output on that the consumer makes after it has said so.
            let (armed, at) = (Gate::new(), Arc::new(AtomicUsize::new(usize::MAX)));
            let me = here();
            let open = {
                let (meter, started, gate) = (meter.clone(), started.clone(), gate.clone());
                let (armed, at) = (armed.clone(), Arc::clone(&at));
                move |item: usize| {
                    let long = if here() == me {
                        armed.is_open() && at.fetch_min(item, SeqCst) >= item
                    } else {
                        at.load(SeqCst) < item
                    };
                    let _entered = long.then(|| {
                        let entered = meter.enter();
                        started.add();
                        gate.wait();
                        entered
                    });
                    std::iter::once((item, here()))
                }
            };
            let mut stage = (0..).par_flat_map(n, open).in_flight(8 * n);
            until_own(&mut stage);
            let opens = thread::spawn(move || {
                started.wait_for(n);
                settle();
                gate.open();
            });
            armed.open();
            while at.load(SeqCst) == usize::MAX {
                assert!(stage.next().is_some());
            }
            assert!(stage.next().is_some());
            opens.join().expect("no panic");
            drop(stage);
            assert_eq!(meter.most(), n);
        });
    }
}

/// What the consumer has begun is run on, and what comes after it, up to the bound.
#[test]
fn a_consumer_that_stays_away_is_not_waited_for() {
    for n in 1..=9 {
        for per_item in [1_usize, 1_000] {
            within(SOON, move || {
                let made = Counter::new();
                let count = made.clone();
                let open = move |item| {
                    let count = count.clone();
                    (0..per_item).map(move |i| {
                        count.add();
                        (item * per_item + i, here())
                    })
                };
                let mut stage = (0..).par_flat_map(n, open).in_flight(8 * n);
                let taken = until_own(&mut stage);
                // Some of the share of the one that runs; or all.
                made.wait_for(taken + if per_item == 1 { 8 * n } else { 3 });
                let rest: Vec<usize> = stage.map(|(i, _)| i).take(3_000).collect();
                assert!(rest.into_iter().eq(taken..taken + 3_000));
            });
        }
    }
}

#[test]
fn a_call_with_a_time_limit_runs_nothing() {
    each(|n, k, per_item| {
        let open = move |item| (0..per_item).map(move |i| (item * per_item + i, here()));
        let mut stage = (0..).par_flat_map(n, open).in_flight(k);
        let mut want = until_own(&mut stage);
        // What it had begun goes to the others.
        for _ in 0..100 {
            match stage.next_within(Duration::from_millis(50)) {
                Ok(Some((i, thread))) => {
                    assert_eq!(i, want);
                    assert_ne!(thread, here(), "n = {n}, k = {k}");
                    want += 1;
                }
                Ok(None) => unreachable!("it has no end"),
                Err(_) => {}
            }
        }
        // Nor does it later.
        for (i, thread) in stage.take(500) {
            assert_eq!((i, thread != here()), (want, true));
            want += 1;
        }
    });
}

#[test]
fn everything_is_dropped_once_wherever_it_ends() {
    each(|n, k, per_item| {
        for more in [0, 1, 2, per_item - 1, per_item] {
            let (ledger, opened, dropped) = (Ledger::new(), Counter::new(), Counter::new());
            let (items, count, gone) = (ledger.clone(), opened.clone(), dropped.clone());
            let open = move |item: u64| {
                count.add();
                let (items, guard) = (items.clone(), gone.on_drop());
                (0..per_item as u64).map(move |i| {
                    let _guard = &guard;
                    (items.track(item * per_item as u64 + i), here())
                })
            };
            let mut stage = (0..).par_flat_map(n, open).in_flight(k);
            until_own(
                &mut stage
                    .by_ref()
                    .map(|(item, thread)| (item.id as usize, thread)),
            );
            assert_eq!(stage.by_ref().take(more).count(), more);
            drop(stage);
            ledger.assert_dropped_once();
            assert_eq!(dropped.get(), opened.get());
        }
    });
}

/// A panic, an error, and a panic as a value: everything before it comes, and nothing after it, or everything.
#[test]
fn an_item_fails_at_its_place() {
    each(|n, k, per_item| {
        let fails = 6_000;
        let open = move |item: usize| {
            (0..per_item).map(move |i| {
                let number = item * per_item + i;
                if number == fails {
                    bang(number as u64);
                }
                (number, here())
            })
        };
        let mut stage = (0..).par_flat_map(n, open).in_flight(k);
        let taken = until_own(&mut stage);
        assert!(
            stage
                .by_ref()
                .take(fails - taken)
                .map(|(i, _)| i)
                .eq(taken..fails)
        );
        assert_eq!(caught(|| stage.next()), Err(fails as u64));
        assert!(stage.next().is_none());

        let stage = (0..).par_flat_map(n, open).in_flight(k).isolate();
        let numbers = stage.map(|output| output.map(|(i, _)| i).map_err(|why| why.seq()));
        let got: Vec<_> = numbers.take(fails + 20).collect();
        let item = fails / per_item;
        let after = (item + 1) * per_item;
        let want = (0..fails).map(Ok).chain([Err(item as u64)]);
        assert!(got.into_iter().eq(want.chain((after..after + 19).map(Ok))));

        let open = move |item: usize| {
            let outputs = (0..per_item).map(move |i| item * per_item + i);
            Ok(outputs.map(move |i| if i < fails { Ok(i) } else { Err(i) }))
        };
        let stage = (0..).try_par_flat_map(n, open).in_flight(k);
        let want = (0..fails).map(Ok).chain([Err(fails)]);
        assert!(stage.eq(want));
    });
}

#[test]
fn the_consumer_may_become_another_thread() {
    each(|n, k, per_item| {
        let open = move |item| (0..per_item).map(move |i| (item * per_item + i, here()));
        let mut stage = (0..).par_flat_map(n, open).in_flight(k);
        let mut want = until_own(&mut stage);
        for _ in 0..3 {
            let moved = thread::spawn(move || {
                let taken: Vec<usize> = stage.by_ref().take(100).map(|(i, _)| i).collect();
                (stage, taken)
            });
            let (back, taken) = moved.join().expect("no panic");
            assert!(taken.into_iter().eq(want..want + 100));
            (stage, want) = (back, want + 100);
        }
    });
}

/// A stage inside the iterator is a part of the item, whoever runs that, and in whichever step.
#[test]
fn what_is_started_in_an_item_ends_with_it() {
    for n in 1..=9 {
        within(SOON, move || {
            let (token, waits) = (CancelToken::new(), Gate::new());
            let inside = waits.clone();
            let open = move |item: usize| {
                let inside = inside.clone();
                let f = move |i: usize| {
                    if item == 1_000 && i == 1 {
                        inside.open();
                        CancelToken::current().wait();
                    }
                    (2 * item + i, here())
                };
                // Started in the first step, and then asked again in another one.
                let inner: Box<dyn Iterator<Item = Output> + Send> = if item == 1_000 {
                    Box::new((0..2).par_map_ordered(1, f))
                } else {
                    Box::new((0..2).map(f))
                };
                inner
            };
            let stage = (0..).par_flat_map(n, open).in_flight(8).cancel_on(&token);
            let cancels = thread::spawn(move || {
                waits.wait();
                settle();
                token.cancel();
            });
            let got: Vec<usize> = stage.map(|(i, _)| i).collect();
            cancels.join().expect("no panic");
            // Whoever ran ahead to it may have been up to the bound ahead.
            assert!((2_001 - 8..=2_002).contains(&got.len()), "{}", got.len());
            assert!(got.iter().copied().eq(0..got.len()));
            assert_quiescent();
        });
    }
}

/// The consumer pulls the source too.
#[test]
fn a_local_source() {
    each(|n, k, per_item| {
        let open = move |item| (0..per_item).map(move |i| (item * per_item + i, here()));
        let pulled = std::rc::Rc::new(std::cell::Cell::new(0));
        let count = std::rc::Rc::clone(&pulled);
        let source = (0..).inspect(move |_| count.set(count.get() + 1));
        let mut stage = source.local().par_flat_map(n, open).in_flight(k);
        let first = until_own(&mut stage);
        let mut taken = 0;
        for (i, want) in stage.map(|(i, _)| i).zip(first..first + 5_000) {
            assert_eq!(i, want, "n = {n}, k = {k}, {per_item}");
            taken += 1;
        }
        assert_eq!(taken, 5_000, "n = {n}, k = {k}, {per_item}");
        assert!(pulled.get() >= 5_000 / per_item);
    });
}

/// P4: while the source blocks, everything that was made before is out.
#[test]
fn a_source_that_blocks_holds_nothing_up() {
    for n in 1..=9 {
        within(SOON, move || {
            let (gate, asked) = (Gate::new(), Gate::new());
            let (wait, told) = (gate.clone(), asked.clone());
            let source = (0..4_000).inspect(move |&item| {
                if item == 3_000 {
                    told.open();
                    wait.wait();
                }
            });
            let open = |item: usize| (0..2).map(move |i| (2 * item + i, here()));
            let stage = source.par_flat_map(n, open).in_flight(8);
            let taken = Counter::new();
            let count = taken.clone();
            let consumer = thread::spawn(move || {
                let got = stage.map(|(i, _)| {
                    count.add();
                    i
                });
                got.collect::<Vec<usize>>()
            });
            let _opener = gate.opener();
            asked.wait();
            eventually("all before it are out", || taken.get() == 6_000);
            gate.open();
            assert!(consumer.join().expect("no panic").into_iter().eq(0..8_000));
        });
    }
}
