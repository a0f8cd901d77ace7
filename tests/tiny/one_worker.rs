//! Without an order, and with a bound too small to pay for wake-ups: one worker runs all items, as long as none of them
//! is long.

use crate::support::{Counter, Gate, Ledger, Meter, SOON, Tracked, spin, within};
use crate::trap::{here, run, until_on_consumer};
use fanfold::Fanfold;
use fanfold::testing::assert_quiescent;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

const ITEM: Duration = Duration::from_micros(1);
const BOUNDS: [usize; 4] = [2, 3, 4, 16];

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

/// Takes results until many in a row come from one thread, and returns how many it has taken. Beside busy processes that
/// may never be so, and what the tests say must hold there too.
fn until_one_worker(stage: &mut impl Iterator<Item = (usize, usize)>) -> usize {
    let (mut last, mut row) = (0, 0);
    for (taken, (_, thread)) in stage.enumerate() {
        row = if thread == last { row + 1 } else { 0 };
        last = thread;
        if row == 500 || taken == 5000 {
            return taken + 1;
        }
    }
    unreachable!("the source has no end")
}

#[test]
fn every_result_comes_once() {
    each(|n, bound| {
        for items in [1, 2, 3, 1000, 1001] {
            let work = |i| {
                spin(ITEM);
                i
            };
            let stage = (0..items).par_map_unordered(n, work).in_flight(bound);
            let mut results: Vec<_> = stage.collect();
            results.sort_unstable();
            assert!(results.into_iter().eq(0..items));
        }
    });
}

/// P4: what comes behind a long item is yielded while that runs, on the second worker.
#[test]
fn a_long_item_holds_up_nothing() {
    each(|n, bound| {
        let gate = Gate::new();
        let long = Arc::new(AtomicUsize::new(usize::MAX));
        let work = {
            let (gate, long) = (gate.clone(), Arc::clone(&long));
            move |i| {
                spin(ITEM);
                if i == long.load(Relaxed) {
                    gate.wait();
                }
                run(i)
            }
        };
        let mut stage = (0..usize::MAX).par_map_unordered(n, work).in_flight(bound);
        let taken = until_one_worker(&mut stage);
        // Past everything that may have been started.
        long.store(taken + bound, Relaxed);
        let behind = stage.by_ref().filter(|(i, _)| *i > taken + bound);
        assert_eq!(behind.take(100).count(), 100);
        gate.open();
        assert!(stage.any(|(i, _)| i == taken + bound));
    });
}

/// P2, P3: while the consumer is away, `n` closures run at once, up to the bound and not further.
#[test]
fn a_consumer_that_stays_away_keeps_no_worker_from_work() {
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
        let mut stage = (0..usize::MAX).par_map_unordered(n, work).in_flight(bound);
        let taken = until_one_worker(&mut stage);
        from.store(taken + bound, Relaxed);
        let taken = taken + stage.by_ref().take(bound).count();
        started.wait_for(taken + bound);
        crate::support::settle();
        assert_eq!(started.get(), taken + bound);
        assert_eq!(meter.most(), n.min(bound));
    });
}

/// P4: the worker is in a source that blocks, and what it holds is yielded meanwhile.
#[test]
fn nothing_waits_behind_a_blocked_source() {
    each(|n, bound| {
        let gate = Gate::new();
        let blocks_at = Arc::new(AtomicUsize::new(usize::MAX));
        let source = {
            let (gate, blocks_at) = (gate.clone(), Arc::clone(&blocks_at));
            (0..usize::MAX).inspect(move |i| {
                if *i == blocks_at.load(Relaxed) {
                    gate.wait();
                }
            })
        };
        let work = |i| {
            spin(ITEM);
            run(i)
        };
        let mut stage = source.par_map_unordered(n, work).in_flight(bound);
        let taken = until_one_worker(&mut stage);
        let last = taken + bound;
        blocks_at.store(last, Relaxed);
        // All that comes before it.
        assert!(stage.by_ref().take(bound).all(|(i, _)| i < last));
        gate.open();
        assert!(stage.any(|(i, _)| i == last));
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
            let work = |item: Tracked| {
                spin(ITEM);
                item
            };
            let mut stage = items.par_map_unordered(n, work).in_flight(bound);
            assert_eq!(stage.by_ref().take(500 + more).count(), 500 + more);
            drop(stage);
            ledger.assert_dropped_once();
        }
    });
}

/// P4: no two items run at once, so none can be done while the consumer runs one; but a worker runs the next one while
/// the consumer is away.
#[cfg(all(any(target_os = "linux", windows), not(fanfold_fence)))]
#[test]
fn the_consumer_is_the_worker_where_no_two_items_run_at_once() {
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
            let mut stage = (0..usize::MAX).par_map_unordered(n, work).in_flight(bound);
            let me = here();
            let mut taken = until_on_consumer(&mut stage);
            for _ in 0..50 {
                started.wait_for(taken + 1);
                taken += stage.by_ref().take(1).count();
            }
            assert!(stage.by_ref().any(|(_, thread)| thread == me));
            drop(stage);
            assert_quiescent();
        });
    }
}
