//! How it ends: panics, an early `break`, tokens; and that nothing is left.

use crate::support::{Bang, Gate, Ledger, SOON, bang, caught, payload, within};
use fanfold::testing::assert_quiescent;
use fanfold::{CancelToken, Cancelled, FromRayon};
use rayon::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

#[test]
fn a_panic_comes_at_its_place_with_its_payload() {
    within(SOON, || {
        for n in [1, 2, 5] {
            for at in [0_usize, 1, 7, 63, 99] {
                for bound in [None, Some(1), Some(4), Some(32)] {
                    let items = (0..100_usize).into_par_iter();
                    let items = items.map(move |x| if x == at { bang(x as u64) } else { x });
                    let make = || match bound {
                        Some(k) => items.clone().ordered(n).in_flight(k),
                        None => items.clone().ordered(n),
                    };
                    let mut stage = make();
                    assert!(stage.by_ref().take(at).eq(0..at));
                    assert_eq!(caught(|| stage.next()), Err(at as u64));
                    assert_eq!(stage.next(), None);
                    drop(stage);
                    // and in a fold
                    let mut seen = 0;
                    let folded = caught(|| make().for_each(|_| seen += 1));
                    assert_eq!((folded, seen), (Err(at as u64), at));
                }
            }
        }
        assert_quiescent();
    });
}

/// The consumer's own panic, in every place.
#[test]
fn a_consumer_that_panics() {
    within(SOON, || {
        for at in [0, 1, 5, 50] {
            let items = || (0..100_usize).into_par_iter().map(|x| x + 1);
            let folded = caught(|| {
                items().ordered(3).for_each(|x| {
                    if x == at + 1 {
                        bang(x as u64);
                    }
                });
            });
            assert_eq!(folded, Err(at as u64 + 1));
            let looped = caught(|| {
                for x in items().ordered(3) {
                    if x == at + 1 {
                        bang(x as u64);
                    }
                }
            });
            assert_eq!(looped, Err(at as u64 + 1));
        }
        assert_quiescent();
    });
}

#[test]
fn a_panic_as_a_value() {
    let items = (0..50_usize).into_par_iter();
    let items = items.map(|x| if x % 7 == 3 { bang(x as u64) } else { x });
    for (place, result) in (0..).zip(items.ordered(3).isolate()) {
        match result {
            Ok(x) => assert_eq!(x, place),
            Err(why) => {
                assert_eq!(place % 7, 3);
                assert!(why.is_panic() && why.seq() == place as u64);
            }
        }
    }
    assert_quiescent();
}

/// In every place; each item is dropped once, and nothing runs behind the drop.
#[test]
fn an_early_break() {
    within(SOON, || {
        for n in [1, 2, 4] {
            for bound in [None, Some(1), Some(3), Some(40)] {
                for at in [0, 1, 2, 7, 30, 59, 60_usize] {
                    let ledger = Ledger::new();
                    let running = Arc::new(AtomicUsize::new(0));
                    let items: Vec<_> = (0..60).map(|id| ledger.track(id)).collect();
                    let inside = Arc::clone(&running);
                    let items = items.into_par_iter().map(move |item| {
                        inside.fetch_add(1, Relaxed);
                        inside.fetch_sub(1, Relaxed);
                        item
                    });
                    let stage = items.ordered(n);
                    let mut stage = match bound {
                        Some(k) => stage.in_flight(k),
                        None => stage,
                    };
                    let taken = stage.by_ref().take(at).count();
                    drop(stage);
                    assert_eq!((taken, running.load(Relaxed)), (at, 0));
                    ledger.assert_dropped_once();
                    assert_quiescent();
                }
            }
        }
    });
}

/// A queue that is full, and a consumer that does not come.
#[test]
fn a_drop_while_the_carrier_waits_for_room() {
    within(SOON, || {
        let mut stage = (0..1_000_000_usize).into_par_iter().ordered(2);
        assert_eq!(stage.next(), Some(0));
        crate::support::settle();
        drop(stage);
        assert_quiescent();
    });
}

#[test]
fn what_is_forgotten_in_a_scope() {
    within(SOON, || {
        let limit = 100_000;
        fanfold::scope(|s| {
            let items = (0..1_000_000_usize).into_par_iter().map(|x| x.min(limit));
            let mut stage = items.ordered(2).within(s);
            assert_eq!(stage.next(), Some(0));
            std::mem::forget(stage);
        });
    });
}

#[test]
fn a_panic_of_a_drop_is_raised_once() {
    within(SOON, || {
        let ledger = Ledger::new();
        let items: Vec<_> = (0..30).map(|id| ledger.bomb(id)).collect();
        let mut stage = items.into_par_iter().ordered(2).in_flight(2);
        let first = stage.next().unwrap();
        std::mem::forget(first);
        assert!(payload(|| drop(stage)).is_err());
        assert_quiescent();
    });
}

#[test]
fn a_cancellation() {
    within(SOON, || {
        let numbers = || (0..usize::MAX).into_par_iter();
        let token = CancelToken::new();
        let mut stage = numbers().ordered(3).cancel_on(&token);
        assert!(stage.by_ref().take(100).eq(0..100));
        token.cancel();
        let rest = stage.by_ref().collect::<Vec<_>>();
        assert!(rest.iter().copied().eq(100..100 + rest.len()));
        assert!(stage.is_cut_short());

        // In a fold, whose closure trips it.
        let token = CancelToken::new();
        let mut count = 0;
        numbers().ordered(3).cancel_on(&token).for_each(|x| {
            assert_eq!(x, count);
            count += 1;
            if x == 1_000 {
                token.cancel();
            }
        });
        assert!(count > 1_000);

        // With an error at the end.
        let token = CancelToken::new();
        let results = numbers()
            .map(Ok::<usize, Cancelled>)
            .ordered(2)
            .fail_on(&token);
        let mut seen = 0;
        let why = results.into_iter().find_map(|result| {
            seen += usize::from(result.is_ok());
            if seen == 50 {
                token.cancel();
            }
            result.err()
        });
        assert_eq!(why.and_then(|why| why.seq()), Some(seen as u64));

        // Before the start.
        let mut stage = numbers().ordered(2).cancel_on(&token);
        assert_eq!((stage.size_hint().0, stage.next()), (0, None));
        assert!(stage.is_cut_short());
        assert_quiescent();
    });
}

/// Everything that was begun comes out.
#[test]
fn a_drain() {
    within(SOON, || {
        let begun = Arc::new(AtomicUsize::new(0));
        let counts = Arc::clone(&begun);
        let token = CancelToken::new();
        let items = (0..usize::MAX).into_par_iter().map(move |x| {
            counts.fetch_add(1, Relaxed);
            x
        });
        let mut stage = items.ordered(3).drain_on(&token);
        assert!(stage.by_ref().take(500).eq(0..500));
        token.cancel();
        let rest = stage.by_ref().count();
        assert_eq!(500 + rest, begun.load(Relaxed));
        assert!(stage.is_cut_short());
    });
}

/// The closure is asked to return, and waited for.
#[test]
fn a_drop_trips_the_token_of_what_runs() {
    within(SOON, || {
        let (began, ended) = (Gate::new(), Gate::new());
        let (begins, ends) = (began.clone(), ended.clone());
        let items = (0..9).into_par_iter().map(move |x| {
            if x == 1 {
                let tripped = Gate::new();
                let opener = tripped.clone();
                let _hook = CancelToken::current().on_cancel(move || opener.open());
                begins.open();
                tripped.wait();
                ends.open();
            }
            x
        });
        let mut stage = items.ordered(2);
        assert_eq!(stage.next(), Some(0));
        began.wait();
        drop(stage);
        assert!(ended.is_open());
    });
}

#[test]
fn bang_is_what_it_says() {
    let panic = payload(|| (0..1).into_par_iter().map(|_| bang(9)).ordered(1).count());
    assert!(panic.unwrap_err().is::<Bang>());
}
