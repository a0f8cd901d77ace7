//! The promises and the options: the bound, the width, the first result, statistics.

use crate::support::{Counter, Gate, Meter, SOON, settle, spin, within};
use fanfold::{FromRayon, Permits, Pool};
use rayon::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

/// P2: item `i + k` is not begun before item `i` is yielded.
#[test]
fn the_bound_is_exact() {
    for (n, k) in [
        (1, 1),
        (2, 1),
        (2, 2),
        (2, 3),
        (3, 5),
        (2, 8),
        (4, 16),
        (2, 64),
        (2, 1000),
    ] {
        within(SOON, move || {
            let begun = Arc::new(AtomicUsize::new(0));
            let counts = Arc::clone(&begun);
            let items = (0..5_000_usize).into_par_iter().map(move |x| {
                counts.fetch_add(1, Relaxed);
                x
            });
            let mut stage = items.ordered(n).in_flight(k);
            for place in 0..5_000 {
                // The item that is being yielded counts as yielded.
                assert!(begun.load(Relaxed) <= place + k, "n = {n}, k = {k}");
                assert_eq!(stage.next(), Some(place));
                assert!(begun.load(Relaxed) <= place + 1 + k, "n = {n}, k = {k}");
                if place % 1_000 == 0 {
                    settle();
                    assert!(begun.load(Relaxed) <= place + 1 + k, "n = {n}, k = {k}");
                }
            }
            assert_eq!(stage.next(), None);
        });
    }
}

/// A group counts with all of its items.
#[test]
fn the_bound_holds_for_groups() {
    for (least, k) in [(4, 16), (64, 10), (5, 12)] {
        within(SOON, move || {
            let begun = Arc::new(AtomicUsize::new(0));
            let counts = Arc::clone(&begun);
            let items = (0..1_000_usize).into_par_iter().with_min_len(least);
            let items = items.map(move |x| {
                counts.fetch_add(1, Relaxed);
                x
            });
            let mut stage = items.ordered(2).in_flight(k);
            for place in 0..1_000 {
                assert_eq!(stage.next(), Some(place));
                assert!(begun.load(Relaxed) <= place + 1 + k, "{least}, {k}");
            }
        });
    }
}

/// Without a bound of the user's: results of items that take long do not pile up.
#[test]
fn a_consumer_that_stays_away_stops_the_work() {
    within(SOON, || {
        let begun = Counter::new();
        let counts = begun.clone();
        let items = (0..usize::MAX).into_par_iter().map(move |x| {
            counts.add();
            spin(Duration::from_micros(200));
            x
        });
        let mut stage = items.ordered(2);
        assert_eq!(stage.next(), Some(0));
        loop {
            let before = begun.get();
            settle();
            if begun.get() == before {
                break;
            }
        }
        assert!(begun.get() < 500, "{} were begun", begun.get());
    });
}

/// P3.
#[test]
fn so_many_at_once_and_no_more() {
    for n in [1, 2, 5] {
        within(SOON, move || {
            let meter = Meter::new();
            let enters = meter.clone();
            let items = (0..40).into_par_iter().map(move |x| {
                enters.meet(n); // until n have been there at the same time
                x
            });
            assert!(items.ordered(n).eq(0..40));
            assert_eq!(meter.most(), n);
        });
    }
}

/// P4: a result comes out although those behind it are stuck, and although nothing more is asked for.
#[test]
fn the_first_result_waits_for_no_other() {
    for (n, bound) in [(2, None), (2, Some(2)), (3, Some(64)), (2, Some(1))] {
        within(SOON, move || {
            let gate = Gate::new();
            let waits = gate.clone();
            let items = (0..100).into_par_iter().map(move |x| {
                if x == 1 {
                    waits.wait();
                }
                x
            });
            let stage = items.ordered(n);
            let mut stage = match bound {
                Some(k) => stage.in_flight(k),
                None => stage,
            };
            assert_eq!(stage.next(), Some(0));
            gate.open();
            assert!(stage.eq(1..100));
        });
    }
}

/// P11.
#[test]
fn lazy() {
    let calls = Counter::new();
    let counts = calls.clone();
    let stage = (0..9).into_par_iter().map(move |_| counts.add()).ordered(2);
    settle();
    assert_eq!(calls.get(), 0);
    drop(stage);
    assert_eq!(calls.get(), 0);
}

#[test]
fn endless() {
    within(SOON, || {
        let numbers = (0..usize::MAX).into_par_iter().map(|x| x * 2);
        assert!(
            numbers
                .ordered(3)
                .take(10_000)
                .eq((0..10_000).map(|x| x * 2))
        );
    });
}

#[test]
fn what_is_late_is_not_lost() {
    within(SOON, || {
        for bound in [None, Some(1), Some(2), Some(16)] {
            let gate = Gate::new();
            let waits = gate.clone();
            let items = (0..20).into_par_iter().map(move |x| {
                if x == 3 {
                    waits.wait();
                }
                x
            });
            let stage = items.ordered(2);
            let mut stage = match bound {
                Some(k) => stage.in_flight(k),
                None => stage,
            };
            assert!(stage.by_ref().take(3).eq(0..3));
            assert!(stage.next_within(Duration::from_millis(2)).is_err());
            assert!(stage.next_within(Duration::ZERO).is_err());
            gate.open();
            assert_eq!(stage.next_within(SOON), Ok(Some(3)));
            assert!(stage.eq(4..20));
        }
    });
}

#[test]
fn options_reach_the_work() {
    let permits = Permits::new(1);
    let meter = Meter::new();
    let pool = Pool::builder().named("bridge").build();
    let inside = meter.clone();
    let items = (0..200_usize).into_par_iter().map(move |x| {
        let _here = inside.enter();
        let thread = std::thread::current();
        assert!(thread.name().is_some_and(|name| name.contains("bridge")));
        x
    });
    let mut stage = items.ordered(4).limited_by(&permits).on(&pool).eager();
    let stats = stage.stats();
    assert!(stage.named("squares").eq(0..200));
    assert_eq!(meter.most(), 1);
    let all = stats.snapshot();
    assert_eq!((all.admitted, all.yielded), (200, 200));
}

#[test]
fn the_width_may_be_set() {
    within(SOON, || {
        let meter = Meter::new();
        let inside = meter.clone();
        let items = (0..100).into_par_iter().map(move |x| {
            if (30..33).contains(&x) {
                inside.meet(3);
            }
            x
        });
        let mut stage = items.ordered(1);
        let width = stage.workers_handle();
        let mut all = vec![stage.next().unwrap()];
        width.set(3);
        all.extend(stage);
        assert!(all.into_iter().eq(0..100));
    });
}

#[test]
#[should_panic(expected = "at least 1")]
fn a_width_of_nothing() {
    drop((0..9).into_par_iter().ordered(0));
}
