//! A bound within which all items are done soon: the consumer runs what is at the head of the line itself, beside the
//! workers, which shows in nothing but the time it takes.

// With ordinary fences, or without the kernel's barrier, this is not done.
#![cfg(all(any(target_os = "linux", windows), not(fanfold_fence)))]

use crate::support::{Counter, Gate, Ledger, Meter, SOON, bang, caught, spin, within};
use crate::trap::{Trap, here, run, until_on_consumer};
use fanfold::testing::assert_quiescent;
use fanfold::{CancelToken, Fanfold};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Long enough that two of them pay for a second thread, and so short that a few are no reason to sleep.
const ITEM: Duration = Duration::from_micros(20);
const BOUNDS: [usize; 5] = [2, 3, 4, 8, 16];

/// For each `n`, and each bound.
fn each(f: impl Fn(usize, usize) + Clone + Send + 'static) {
    for n in 2..=9 {
        for bound in BOUNDS {
            let f = f.clone();
            within(SOON, move || {
                f(n, bound);
                assert_quiescent();
            });
        }
    }
}

#[test]
fn results_are_the_same_and_in_order() {
    each(|n, bound| {
        let work = |i| {
            spin(ITEM);
            run(i)
        };
        let mut stage = (0..usize::MAX).par_map_ordered(n, work).in_flight(bound);
        let began = until_on_consumer(&mut stage);
        for want in began..began + 300 {
            assert_eq!(stage.next().map(|(i, _)| i), Some(want));
        }
    });
}

#[test]
fn it_ends_with_the_source() {
    each(|n, bound| {
        for items in [30, 31, 32, 33] {
            let work = |i| {
                spin(ITEM);
                i
            };
            let stage = (0..items).par_map_ordered(n, work).in_flight(bound);
            assert!(stage.eq(0..items));
        }
    });
}

/// P3: the consumer is one of the `n`.
#[test]
fn never_more_than_n_at_once() {
    each(|n, bound| {
        let (meter, trap) = (Meter::new(), Trap::new());
        let work = {
            let (meter, trap) = (meter.clone(), trap.clone());
            move |i| {
                let _entered = meter.enter();
                trap.springs(i);
                spin(ITEM);
                run(i)
            }
        };
        let mut stage = (0..usize::MAX).par_map_ordered(n, work).in_flight(bound);
        until_on_consumer(&mut stage);
        trap.set();
        while trap.at() == usize::MAX {
            assert!(stage.next().is_some());
        }
        drop(stage);
        assert!(meter.most() <= n);
    });
}

/// P2, P4: everything within the bound is run while the consumer is in a long closure.
#[test]
fn a_long_item_holds_up_none_behind_it() {
    each(|n, bound| {
        let (trap, done) = (Trap::new(), Counter::new());
        let work = {
            let (trap, done) = (trap.clone(), done.clone());
            move |i| {
                spin(ITEM);
                if trap.springs(i) {
                    // All before it are done, as their results are yielded.
                    done.wait_for(i + bound - 1);
                }
                done.add();
                run(i)
            }
        };
        let mut stage = (0..usize::MAX).par_map_ordered(n, work).in_flight(bound);
        let began = until_on_consumer(&mut stage);
        trap.set();
        trap.passed_in_order(&mut stage, began, 50);
    });
}

/// P4: the consumer is in a long closure, and the source blocks; what was pulled is run meanwhile.
#[test]
fn nothing_waits_behind_a_long_item_and_a_blocked_source() {
    each(|n, bound| {
        let (trap, done, gate) = (Trap::new(), Counter::new(), Gate::new());
        let blocks_at = Arc::new(AtomicUsize::new(usize::MAX));
        let source = {
            let (gate, blocks_at) = (gate.clone(), Arc::clone(&blocks_at));
            (0..usize::MAX).inspect(move |i| {
                if *i >= blocks_at.load(Relaxed) {
                    gate.wait();
                }
            })
        };
        let work = {
            let (trap, done, gate) = (trap.clone(), done.clone(), gate.clone());
            move |i| {
                spin(ITEM);
                if trap.springs(i) {
                    let last = i + bound - 1;
                    blocks_at.store(last, Relaxed);
                    // All before it are done, as their results are yielded.
                    done.wait_for(last - 1);
                    gate.open();
                } else if i > trap.at() {
                    // So long that a watcher sees no reason to stay awake.
                    std::thread::sleep(Duration::from_millis(3));
                }
                done.add();
                run(i)
            }
        };
        let mut stage = source.par_map_ordered(n, work).in_flight(bound);
        let began = until_on_consumer(&mut stage);
        trap.set();
        trap.passed_in_order(&mut stage, began, 20);
    });
}

/// P2, P3: while the consumer is away, `n` closures run at once, up to the bound (but for less than half a chunk) and not
/// further.
#[test]
fn a_consumer_that_stays_away_is_not_waited_for() {
    each(|n, bound| {
        let (meter, started) = (Meter::new(), Counter::new());
        let from = Arc::new(AtomicUsize::new(usize::MAX));
        let work = {
            let (meter, started, from) = (meter.clone(), started.clone(), Arc::clone(&from));
            move |i| {
                started.add();
                if i >= from.load(Relaxed) {
                    meter.meet(n.min(bound));
                }
                spin(ITEM);
                run(i)
            }
        };
        let mut stage = (0..usize::MAX).par_map_ordered(n, work).in_flight(bound);
        let taken = until_on_consumer(&mut stage);
        // Past everything that may have been started.
        from.store(taken + bound, Relaxed);
        let taken = taken + stage.by_ref().take(bound).count();
        // A worker that sleeps for want of room is woken for half a chunk of it, so less than that may be left.
        let half = (bound / (2 * n) / 2).max(1);
        started.wait_for(taken + bound - (half - 1));
        crate::support::settle();
        assert!(started.get() <= taken + bound);
        assert_eq!(meter.most(), n.min(bound));
    });
}

#[test]
fn a_panic_on_the_consumer_comes_at_its_place() {
    each(|n, bound| {
        let (trap, ledger) = (Trap::new(), Ledger::new());
        let items = (0..).map({
            let ledger = ledger.clone();
            move |i| ledger.track(i)
        });
        let work = {
            let trap = trap.clone();
            move |item: crate::support::Tracked| {
                spin(ITEM);
                let i = usize::try_from(item.id).expect("small");
                if trap.springs(i) {
                    bang(item.id);
                }
                (i, here())
            }
        };
        let mut stage = items.par_map_ordered(n, work).in_flight(bound);
        let mut next = until_on_consumer(&mut stage);
        trap.set();
        let bang = loop {
            match caught(|| stage.next()) {
                Ok(result) => assert_eq!(result.map(|(i, _)| i), Some(next)),
                Err(id) => break id,
            }
            next += 1;
        };
        assert_eq!((bang, trap.at()), (next as u64, next));
        assert_eq!(stage.next(), None);
        drop(stage);
        ledger.assert_dropped_once();
    });
}

#[test]
fn every_item_is_dropped_once_wherever_it_stops() {
    each(|n, bound| {
        for more in [0, 1, 2, 7] {
            let ledger = Ledger::new();
            let items = (0..).map({
                let ledger = ledger.clone();
                move |i| ledger.track(i)
            });
            let work = |item: crate::support::Tracked| {
                spin(ITEM);
                (here(), item)
            };
            let mut stage = items.par_map_ordered(n, work).in_flight(bound);
            let me = here();
            assert!(stage.by_ref().any(|(thread, _)| thread == me));
            assert_eq!(stage.by_ref().take(more).count(), more);
            drop(stage);
            ledger.assert_dropped_once();
        }
    });
}

/// P5: nothing is started after a cancellation, and what was yielded is whole.
#[test]
fn a_cancellation_between_two_items() {
    each(|n, bound| {
        let (token, started) = (CancelToken::new(), Counter::new());
        let work = {
            let started = started.clone();
            move |i| {
                started.add();
                spin(ITEM);
                run(i)
            }
        };
        let mut stage = (0..usize::MAX)
            .par_map_ordered(n, work)
            .in_flight(bound)
            .cancel_on(&token);
        let mut next = until_on_consumer(&mut stage);
        token.cancel();
        let begun = started.get();
        for (i, _) in &mut stage {
            assert_eq!(i, next);
            next += 1;
        }
        assert!(next <= begun + n, "{next} results, {begun} begun by then");
        assert!(started.get() <= begun + n);
        assert!(token.is_cancelled());
    });
}

/// A call with a time limit does not get stuck in an item.
#[test]
fn a_limited_wait_runs_nothing_on_the_consumer() {
    each(|n, bound| {
        let (gate, me) = (Gate::new(), here());
        let work = {
            let gate = gate.clone();
            move |i| {
                spin(ITEM);
                if gate.is_open() {
                    assert_ne!(here(), me);
                }
                run(i)
            }
        };
        let mut stage = (0..usize::MAX).par_map_ordered(n, work).in_flight(bound);
        let taken = until_on_consumer(&mut stage);
        gate.open();
        for want in taken..taken + 100 {
            let next = stage.next_within(SOON).expect("in time");
            assert_eq!(next.map(|(i, _)| i), Some(want));
        }
    });
}

/// Not on trial either, where threads gain nothing, and while the consumer waits in the call for workers at rest.
#[test]
fn a_limited_wait_is_no_time_for_a_trial() {
    within(SOON, || {
        let nanos = Duration::from_nanos;
        for (pull, item) in [(0, 60), (0, 100), (300, 50)] {
            for bound in [2, 3, 4, 8] {
                let (me, began) = (here(), Instant::now());
                let source = (0..usize::MAX).inspect(move |_| spin(nanos(pull)));
                let work = move |i| {
                    spin(nanos(item));
                    run(i)
                };
                let mut stage = source.par_map_ordered(2, work).in_flight(bound);
                let mut want = 0;
                while began.elapsed() < Duration::from_millis(200) {
                    let (i, thread) = stage.next_within(SOON).expect("in time").expect("endless");
                    assert_eq!(i, want);
                    assert_ne!(thread, me);
                    want += 1;
                }
            }
        }
    });
}

/// No two items run at once, so the consumer runs all of them; but what it could run while it is with its user is
/// run by a worker.
#[test]
fn a_single_worker_runs_the_next_item_while_the_consumer_is_away() {
    for (n, bound) in [(1, 1), (1, 4), (3, 1)] {
        within(SOON, move || {
            let started = Counter::new();
            let work = {
                let started = started.clone();
                move |i| {
                    started.add();
                    spin(ITEM);
                    run(i)
                }
            };
            let mut stage = (0..usize::MAX).par_map_ordered(n, work).in_flight(bound);
            let mut taken = until_on_consumer(&mut stage);
            for _ in 0..50 {
                started.wait_for(taken + 1);
                taken += stage.by_ref().take(1).count();
            }
            // And where it is hardly ever with its user, it runs them again.
            until_on_consumer(&mut stage);
            drop(stage);
            assert_quiescent();
        });
    }
}
