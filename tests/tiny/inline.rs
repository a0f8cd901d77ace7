//! Work of a few nanoseconds is run by the consumer itself, which shows in nothing but the time it takes.

// Without optimization no work is that short. With ordinary fences, or without the kernel's barrier, running
// inline would cost more than it saves.
#![cfg(all(
    not(debug_assertions),
    any(target_os = "linux", windows),
    not(fanfold_fence)
))]

use crate::support::{
    Counter, Gate, Ledger, Meter, SOON, bang, blocks, caught, eventually, within,
};
use crate::trap::{Trap, here, run, until_on_consumer};
use fanfold::Fanfold;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

#[test]
fn results_are_the_same_and_in_order() {
    for n in 1..=9 {
        within(SOON, move || {
            let mut stage = (0..usize::MAX).par_map_ordered(n, run);
            let began = until_on_consumer(&mut stage);
            for (want, (i, _)) in (began..began + 10_000).zip(&mut stage) {
                assert_eq!(i, want);
            }
            drop(stage);
            fanfold::testing::assert_quiescent();
        });
    }
}

/// P4: without an order no result waits for another, so none waits for a closure on the consumer. (Where no two items
/// run at once, see `one_worker.rs`.)
#[test]
fn an_unordered_stage_runs_nothing_on_the_consumer() {
    for n in 2..=9 {
        within(SOON, move || {
            let me = here();
            let mut seen = vec![false; 200_000];
            for (i, thread) in (0..200_000).par_map_unordered(n, run) {
                assert!(!std::mem::replace(&mut seen[i], true), "{i} twice");
                assert_ne!(thread, me);
            }
            assert!(seen.iter().all(|seen| *seen));
        });
    }
}

/// P4: one item turns out to be long. Meanwhile other threads run the items after it.
#[test]
fn a_long_item_is_left_alone_with_the_consumer() {
    for n in 2..=9 {
        within(SOON, move || {
            let (trap, done) = (Trap::new(), Counter::new());
            let closure = {
                let (trap, done) = (trap.clone(), done.clone());
                move |i| {
                    if trap.springs(i) {
                        done.wait_for(20);
                    } else if i > trap.at() {
                        done.add();
                    }
                    run(i)
                }
            };
            let mut stage = (0..usize::MAX).par_map_ordered(n, closure);
            let began = until_on_consumer(&mut stage);
            trap.set();
            trap.passed_in_order(&mut stage, began, 10_000);
        });
    }
}

/// P3: while the consumer runs a closure, too, at most `n` closures run.
#[test]
fn the_consumers_closure_counts() {
    const BOUND: usize = 500;
    for n in 1..=9 {
        within(SOON, move || {
            let most = || {
                let (meter, started, gate) = (Meter::new(), Counter::new(), Gate::new());
                let (trap, pulled) = (Trap::new(), Arc::new(AtomicUsize::new(0)));
                let closure = {
                    let (meter, gate, started) = (meter.clone(), gate.clone(), started.clone());
                    let trap = trap.clone();
                    move |i| {
                        if trap.springs(i) || i > trap.at() {
                            let _entered = meter.enter();
                            started.add();
                            gate.wait();
                        }
                        run(i)
                    }
                };
                let last = Arc::clone(&pulled);
                let source = (0..usize::MAX).inspect(move |i| last.store(*i, Relaxed));
                let mut stage = source.par_map_ordered(n, closure).in_flight(BOUND);
                until_on_consumer(&mut stage);
                let sprung = trap.clone();
                let opens = std::thread::spawn(move || {
                    // On a busy machine the others may have run nearly all items within the bound before it springs.
                    let few_left = || pulled.load(Relaxed) > sprung.at().saturating_add(BOUND - 50);
                    eventually("it starts", || started.get() >= n || few_left());
                    crate::support::settle();
                    gate.open();
                });
                trap.set();
                while trap.at() == usize::MAX {
                    assert!(stage.next().is_some());
                }
                opens.join().expect("no panic");
                drop(stage);
                meter.most()
            };
            let reached = std::iter::repeat_with(most)
                .take(50)
                .find(|most| *most >= n);
            assert_eq!(reached, Some(n));
        });
    }
}

/// P2: a consumer that stays away finds exactly as much done as the bound allows.
#[test]
fn workers_stand_in_for_a_consumer_that_stays_away() {
    for n in 1..=9 {
        within(SOON, move || {
            let pulled = Arc::new(AtomicUsize::new(0));
            let source = {
                let pulled = Arc::clone(&pulled);
                (0..usize::MAX).inspect(move |_| {
                    pulled.fetch_add(1, Relaxed);
                })
            };
            let done = Arc::new(AtomicUsize::new(0));
            let closure = {
                let done = Arc::clone(&done);
                move |i| {
                    done.fetch_add(1, Relaxed);
                    run(i)
                }
            };
            let mut stage = source.par_map_ordered(n, closure).in_flight(300);
            let taken = until_on_consumer(&mut stage);
            eventually("the bound is reached", || {
                pulled.load(Relaxed) >= taken + 300
            });
            eventually("all of it is done", || done.load(Relaxed) >= taken + 300);
            crate::support::settle();
            assert_eq!(pulled.load(Relaxed), taken + 300);
            for want in taken..taken + 10_000 {
                assert_eq!(stage.next().map(|(i, _)| i), Some(want));
            }
        });
    }
}

/// The consumer gives the source back when closures take longer than a hand-over.
#[test]
fn items_that_grow_long_are_shared_out_again() {
    within(SOON, || {
        let long = Arc::new(AtomicUsize::new(usize::MAX));
        let mut stage = (0..).par_map_ordered(2, {
            let long = Arc::clone(&long);
            move |i| {
                if i >= long.load(Relaxed) {
                    crate::support::spin(Duration::from_micros(100));
                }
                run(i)
            }
        });
        let me = here();
        let next = until_on_consumer(&mut stage);
        long.store(next, Relaxed);
        let mut others = stage.by_ref().take(10_000).filter(|item| item.1 != me);
        assert!(others.any(|(i, _)| i > next));
    });
}

/// The same where the consumer is away in the sink of a fold.
#[test]
fn workers_stand_in_for_a_consumer_blocked_in_a_sink() {
    for n in 1..=9 {
        within(SOON, move || {
            let (me, done) = (here(), Arc::new(AtomicUsize::new(0)));
            let closure = {
                let done = Arc::clone(&done);
                move |i| {
                    done.fetch_add(1, Relaxed);
                    run(i)
                }
            };
            // On a busy machine it is long before the consumer runs items, so the source ends after it has.
            let end = Arc::new(AtomicUsize::new(usize::MAX));
            let source = {
                let end = Arc::clone(&end);
                (0..).take_while(move |i| *i < end.load(Relaxed))
            };
            let stage = source.par_map_ordered(n, closure).in_flight(300);
            let count = stage.fold(0, |count, (i, thread)| {
                assert_eq!(i, count);
                if thread == me && end.load(Relaxed) == usize::MAX {
                    let all = || done.load(Relaxed) >= i + 1 + 300;
                    eventually("others have gone ahead", all);
                    end.store(i + 10_000, Relaxed);
                }
                count + 1
            });
            assert_eq!(count, end.load(Relaxed));
        });
    }
}

/// P4: pulled items come out, although the source blocks.
#[test]
fn a_source_that_blocks() {
    for n in 1..=9 {
        within(SOON, move || {
            let gate = Gate::new();
            let mut stage = (0..100_000).chain(blocks(&gate)).par_map_ordered(n, run);
            for want in 0..100_000 {
                assert_eq!(stage.next().map(|(i, _)| i), Some(want));
            }
            gate.open();
            assert_eq!(stage.next(), None);
        });
    }
}

/// P3: no thread looks while the source blocks; the item that it gives at last is long, and the items after
/// it are run meanwhile.
#[test]
fn a_long_item_after_a_source_that_blocked() {
    for n in 2..=9 {
        within(SOON, move || {
            let (gate, done, blocked) = (Gate::new(), Counter::new(), Counter::new());
            let last = Arc::new(AtomicUsize::new(usize::MAX));
            let source = {
                let (last, gate, blocked) = (Arc::clone(&last), gate.clone(), blocked.clone());
                (0..usize::MAX).inspect(move |i| {
                    if *i == last.load(Relaxed) {
                        blocked.add();
                        gate.wait();
                    }
                })
            };
            let closure = {
                let (last, done) = (Arc::clone(&last), done.clone());
                move |i| {
                    let last = last.load(Relaxed);
                    if i == last {
                        done.wait_for(20);
                    } else if i > last {
                        done.add();
                    }
                    run(i)
                }
            };
            let mut stage = source.par_map_ordered(n, closure);
            let next = until_on_consumer(&mut stage);
            last.store(next + 100, Relaxed);
            let opens = std::thread::spawn(move || {
                blocked.wait_for(1);
                crate::support::settle();
                gate.open();
            });
            for want in next..next + 200 {
                assert_eq!(stage.next().map(|(i, _)| i), Some(want));
            }
            opens.join().expect("no panic");
        });
    }
}

#[test]
fn a_panic_of_the_closure() {
    for n in 1..=9 {
        within(SOON, move || {
            let (items, trap) = (Ledger::new(), Trap::new());
            let source = {
                let items = items.clone();
                (0..usize::MAX).map(move |i| (i, (i % 64 == 0).then(|| items.track(i as u64))))
            };
            let closure = {
                let trap = trap.clone();
                move |(i, item): (usize, _)| {
                    if trap.springs(i) {
                        bang(i as u64);
                    }
                    drop(item);
                    run(i)
                }
            };
            let mut stage = source.par_map_ordered(n, closure);
            let began = until_on_consumer(&mut stage);
            trap.set();
            for want in began.. {
                match caught(|| stage.next()) {
                    Ok(next) => assert_eq!(next.map(|(i, _)| i), Some(want)),
                    Err(id) => {
                        assert_eq!((id as usize, trap.at()), (want, want));
                        break;
                    }
                }
            }
            assert_eq!(stage.next(), None);
            drop(stage);
            items.assert_dropped_once();
            fanfold::testing::assert_quiescent();
        });
    }
}

#[test]
fn a_panic_of_the_source() {
    for n in 1..=9 {
        within(SOON, move || {
            let bad = Arc::new(AtomicUsize::new(usize::MAX));
            let source = {
                let bad = Arc::clone(&bad);
                (0..usize::MAX).inspect(move |i| {
                    if *i == bad.load(Relaxed) {
                        bang(7);
                    }
                })
            };
            let mut stage = source.par_map_ordered(n, run);
            let next = until_on_consumer(&mut stage);
            bad.store(next + 100_000, Relaxed);
            for want in next..next + 100_000 {
                assert_eq!(stage.next().map(|(i, _)| i), Some(want));
            }
            assert_eq!(caught(|| stage.next()), Err(7));
            assert_eq!(stage.next(), None);
        });
    }
}

/// P6: after a panic nothing is pulled, although the stage is not dropped.
#[test]
fn nothing_is_pulled_after_a_panic() {
    for n in 1..=9 {
        within(SOON, move || {
            let (pulled, trap) = (Arc::new(AtomicUsize::new(0)), Trap::new());
            let source = {
                let pulled = Arc::clone(&pulled);
                (0..usize::MAX).inspect(move |i| pulled.store(*i, Relaxed))
            };
            let closure = {
                let trap = trap.clone();
                move |i| {
                    if trap.springs(i) {
                        bang(i as u64);
                    }
                    run(i)
                }
            };
            let mut stage = source.par_map_ordered(n, closure);
            until_on_consumer(&mut stage);
            trap.set();
            while caught(|| stage.next()).is_ok() {}
            assert_eq!(stage.next(), None);
            fanfold::testing::assert_quiescent();
            assert_eq!(pulled.load(Relaxed), trap.at());
        });
    }
}

#[test]
fn the_first_error_ends_it() {
    for n in 1..=9 {
        within(SOON, move || {
            let all = (0..1_000_000).try_par_map_ordered(n, |i| match i {
                700_000.. => Err(i),
                _ => Ok(i),
            });
            let (mut good, mut bad) = (0, None);
            all.for_each(|result| match result {
                Ok(i) => {
                    assert_eq!(i, good);
                    good += 1;
                }
                Err(i) => assert_eq!(bad.replace(i), None),
            });
            assert_eq!((good, bad), (700_000, Some(700_000)));
        });
    }
}

#[test]
fn a_drop_in_mid_flight() {
    for n in 1..=9 {
        within(SOON, move || {
            let items = Ledger::new();
            let source = {
                let items = items.clone();
                // Cheap items from an expensive source.
                let held = items.track(u64::MAX);
                (0..usize::MAX).map(move |i| {
                    let _ = &held;
                    (i, (i % 64 == 0).then(|| items.track(i as u64)))
                })
            };
            let mut stage = source.par_map_ordered(n, |(i, item)| {
                let (i, thread) = run(i);
                (i, thread, item)
            });
            let me = here();
            assert!(stage.by_ref().any(|(_, thread, _)| thread == me));
            drop(stage);
            items.assert_dropped_once();
            fanfold::testing::assert_quiescent();
        });
    }
}

/// A closure has the token of its stage, on this thread as on another; the consumer does not.
#[test]
fn the_current_token() {
    within(SOON, || {
        let outside = fanfold::CancelToken::current();
        let trap = Trap::new();
        let (tell, told) = std::sync::mpsc::channel();
        let closure = {
            let trap = trap.clone();
            move |i| {
                if trap.springs(i) {
                    tell.send(fanfold::CancelToken::current()).expect("heard");
                }
                run(i)
            }
        };
        let mut stage = (0..usize::MAX).par_map_ordered(2, closure);
        until_on_consumer(&mut stage);
        trap.set();
        while trap.at() == usize::MAX {
            assert!(stage.next().is_some());
        }
        let inside = told.recv().expect("a token");
        let between = fanfold::CancelToken::current();
        assert!(!inside.is_cancelled());
        drop(stage);
        assert!(inside.is_cancelled());
        assert!(!between.is_cancelled() && !outside.is_cancelled());
    });
}

#[test]
fn stages_in_a_chain_and_in_a_closure() {
    for n in 1..=4 {
        within(SOON, move || {
            let chain = (0..200_000_u64)
                .par_map_ordered(n, |x| x + 1)
                .par_map_ordered(n, |x| x * 2)
                .par_filter(n, |x| x % 3 == 0);
            let want = (0..200_000).map(|x| (x + 1) * 2).filter(|x| x % 3 == 0);
            assert!(chain.eq(want));
            let nested = (0..20_000_u64).par_map_ordered(n, move |x| {
                if x % 5_000 == 4_999 {
                    (0..x).par_map_ordered(n, |y| y & 1).sum()
                } else {
                    x
                }
            });
            let want = |x: u64| if x % 5_000 == 4_999 { x / 2 } else { x };
            assert!(nested.eq((0..20_000).map(want)));
            fanfold::testing::assert_quiescent();
        });
    }
}
