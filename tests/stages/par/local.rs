//! `.local()`: a source that cannot leave its thread is pulled by the consumer's, head first.

use crate::support::{
    Counter, Gate, Ledger, Meter, SOON, WIDTHS, bang, caught, counted, dawdle, panics_at, settle,
    within,
};
use fanfold::{CancelToken, Fanfold};
use std::cell::Cell;
use std::io::{BufRead, Cursor};
use std::rc::Rc;

#[test]
fn a_source_with_an_rc_is_pulled_on_the_consumers_thread() {
    for n in 1..=9 {
        within(SOON, move || {
            let (here, pulls) = (std::thread::current().id(), Rc::new(Cell::new(0)));
            let source = (0..500_u64).inspect(|_| {
                assert_eq!(std::thread::current().id(), here);
                pulls.set(pulls.get() + 1);
            });
            let stage = source.local().par_map_ordered(n, |i| {
                dawdle(i);
                assert_ne!(std::thread::current().id(), here);
                i * 2
            });
            assert!(
                stage
                    .collect::<Vec<_>>()
                    .into_iter()
                    .eq((0..500).map(|i| i * 2))
            );
            assert_eq!(pulls.get(), 500);
        });
    }
}

#[test]
fn every_adaptor_takes_a_local_source() {
    for n in 1..=9 {
        within(SOON, move || {
            let rc = Rc::new(1_u64);
            let source = || (0..100).map(|i| i * *rc).local();
            assert_eq!(source().par_map_ordered(n, |i| i).sum::<u64>(), 4_950);
            assert_eq!(source().par_map_unordered(n, |i| i).sum::<u64>(), 4_950);
            assert_eq!(source().par_filter(n, |i| i % 2 == 0).sum::<u64>(), 2_450);
            assert_eq!(
                source()
                    .par_filter_map(n, |i| (i > 89).then_some(1))
                    .sum::<u64>(),
                10
            );
            assert_eq!(source().par_flat_map(n, |i| [i, i]).sum::<u64>(), 9_900);
            let init = source().par_map_ordered_init(n, || Rc::new(1), |one, i| i + **one);
            assert_eq!(init.sum::<u64>(), 5_050);
            let tried = source().try_par_map_ordered(n, |i| if i < 9 { Ok(i) } else { Err(i) });
            assert_eq!(tried.last(), Some(Err(9)));
            assert_eq!(source().par_map_unordered(n, |i| i).isolate().count(), 100);
        });
    }
}

#[test]
fn boxes_and_lines_without_send() {
    within(SOON, || {
        let boxed: Box<dyn Iterator<Item = u64>> = Box::new(0..50);
        assert_eq!(boxed.local().par_map_unordered(2, |x| x).count(), 50);
        let mut boxed: Box<dyn Iterator<Item = u64>> = Box::new(0..50);
        let by_ref = boxed
            .by_ref()
            .local()
            .par_map_ordered(2, |x| x + 1)
            .in_flight(1);
        assert_eq!(by_ref.sum::<u64>(), 1_275);
        let read = Rc::new(Cursor::new("one\ntwo\nthree"));
        let lens = Cursor::new(*read.get_ref())
            .lines()
            .local()
            .par_map_ordered(4, |line| line.map_or(0, |line| line.len()));
        assert!(lens.collect::<Vec<_>>() == [3, 3, 5]);
        // idle: it would wait for input
        let stdin = std::io::stdin().lock().lines().local();
        drop(stdin.par_map_ordered(4, |line| line.map_or(0, |line| line.len())));
    });
}

#[test]
fn a_local_stage_is_an_iterator_that_stays_on_its_thread() {
    within(SOON, || {
        let rc = Rc::new(3_u64);
        let v: Vec<u64> = (0..20_u64)
            .map(move |x| x * *rc)
            .local()
            .par_map_ordered(4, |x| x + 1)
            .filter(|x| x % 2 == 0)
            .local()
            .par_filter(2, |x| x % 5 == 0)
            .collect();
        let theirs = (0..20).map(|x| x * 3 + 1).filter(|x| x % 10 == 0);
        assert!(v.into_iter().eq(theirs));
    });
}

/// The one exemption from "deliver first": a pull blocks the consumer. But ready results go first.
#[test]
fn ready_results_are_yielded_before_the_next_pull() {
    for n in 1..=9 {
        within(SOON, move || {
            let (pulls, ran) = (Counter::new(), Counter::new());
            let mut stage = counted(0..100_usize, &pulls)
                .local()
                .par_map_ordered(n, {
                    let ran = ran.clone();
                    move |i| {
                        ran.add();
                        i
                    }
                })
                .in_flight(10);
            let (mut good, mut next) = (0, 0);
            while next < 100 {
                assert_eq!(stage.next(), Some(next));
                next += 1;
                // every pulled item is finished
                let pulled = pulls.get();
                ran.wait_for(pulled);
                std::thread::sleep(std::time::Duration::from_millis(1));
                // then each result comes without a pull
                let ready = pulled - next;
                assert!(stage.by_ref().take(ready).eq(next..pulled));
                next += ready;
                good += usize::from(pulls.get() == pulled);
            }
            // a finished closure is not yet a published result, so one may be missed now and then
            let rounds = good.max(1);
            assert!(good * 10 >= rounds * 9 && good > 0, "{good} of {rounds}");
        });
    }
}

#[test]
fn n_closures_at_once_and_never_more() {
    for n in 1..=9 {
        within(SOON, move || {
            let meter = Meter::new();
            let stage = (0..n * 5).local().par_map_ordered(n, |_| meter.meet(n));
            assert_eq!(stage.in_flight(n).count(), n * 5);
            assert_eq!(meter.most(), n);
        });
    }
}

#[test]
fn the_bound_holds() {
    for (n, k) in WIDTHS
        .into_iter()
        .flat_map(|n| [1, 2, 9, 64].map(move |k| (n, k)))
    {
        within(SOON, move || {
            let (pulls, gate) = (Counter::new(), Gate::new());
            let source = counted(0..100_usize, &pulls);
            let consumer = std::thread::spawn({
                let gate = gate.clone();
                move || {
                    let stage = source.local().par_map_ordered(n, |i| {
                        if i == 5 {
                            gate.wait();
                        }
                    });
                    stage.in_flight(k).count()
                }
            });
            // here the consumer pulls, whether the workers are stuck or not
            pulls.wait_for(5 + k);
            settle();
            assert_eq!(pulls.get(), 5 + k);
            gate.open();
            assert_eq!(consumer.join().expect("no panic"), 100);
        });
    }
}

#[test]
fn a_source_that_panics_panics_at_its_place() {
    for (n, k) in (1..=9).flat_map(|n| [0, 1, 7, 100].map(move |k| (n, k))) {
        within(SOON, move || {
            let calls = Counter::new();
            let mut stage = panics_at(k, &calls).local().par_map_ordered(n, |i| i);
            for i in 0..k {
                assert_eq!(stage.next(), Some(i));
            }
            assert_eq!(caught(|| stage.next()), Err(k));
            assert_eq!((stage.next(), stage.next()), (None, None));
            assert_eq!(calls.get() as u64, k + 1);
        });
    }
}

#[test]
fn a_panic_and_an_error_stop_the_pulling() {
    for n in 1..=9 {
        within(SOON, move || {
            let stage = (0..)
                .local()
                .par_map_ordered(n, |i| if i == 30 { bang(i) } else { i });
            assert_eq!(caught(|| stage.count()), Err(30));
            let f = |i| if i == 30 { Err(i) } else { Ok(i) };
            assert_eq!(
                (0..).local().try_par_map_ordered(n, f).last(),
                Some(Err(30))
            );
        });
    }
}

#[test]
fn everything_is_dropped_exactly_once() {
    for (n, k) in (1..=9).flat_map(|n| [0, 1, 7, 50, 120].map(move |k| (n, k))) {
        within(SOON, move || {
            let (items, results) = (Ledger::new(), Ledger::new());
            let source = (0..120_u64).map({
                let items = items.clone();
                move |i| items.track(i)
            });
            let stage = source.local().par_map_ordered(n, {
                let results = results.clone();
                move |item| {
                    dawdle(item.id);
                    results.track(item.id)
                }
            });
            assert_eq!(stage.take(k).count(), k);
            items.assert_dropped_once();
            results.assert_dropped_once();
            fanfold::testing::assert_quiescent();
        });
    }
}

#[test]
fn a_cancellation_ends_it() {
    for n in 1..=9 {
        within(SOON, move || {
            let token = CancelToken::new();
            let mut stage = (0..).local().par_map_ordered(n, |i| i).cancel_on(&token);
            assert_eq!(stage.next(), Some(0));
            token.cancel();
            assert!(stage.by_ref().count() < 100_000);
            assert_eq!(stage.next(), None);
        });
    }
}

#[test]
fn a_local_stage_nests_and_chains() {
    for n in 1..=5 {
        within(SOON, move || {
            let rc = Rc::new(1_u64);
            let sum: u64 = (0..30)
                .map(|i| i * *rc)
                .local()
                .par_map_ordered(n, move |i| {
                    (0..i).local().par_map_ordered(n, |j| j).sum::<u64>()
                })
                .local()
                .par_map_ordered(n, |x| x + 1)
                .sum();
            assert_eq!(sum, (0..30).map(|i: u64| (0..i).sum::<u64>() + 1).sum());
        });
    }
}
