//! P11: nothing before the first `next()`; fused after `None`; `size_hint` stays true while items are
//! in flight; `take(k)` admits at most k + `in_flight`.

#![allow(clippy::redundant_closure_for_method_calls)] // a closure over borrowed items is the point

use crate::kinds::{Built, KINDS, With, ahead, each, items, widths_and};
use crate::support::{
    Counter, Ledger, Lying, SOON, Script, WIDTHS, bang, calls_counted, caught, counted, dawdle,
    eventually, settle, within,
};
use fanfold::testing::assert_quiescent;
use fanfold::{CancelToken, Fanfold};

#[test]
fn nothing_happens_before_the_first_next() {
    within(SOON, || {
        let (calls, ran) = (Counter::new(), Counter::new());
        let source = || calls_counted(0..10, &calls);
        let f = || {
            let ran = ran.clone();
            move |i: u32| {
                ran.add();
                i
            }
        };
        let token = CancelToken::new();
        let map = source()
            .par_map_ordered(3, f())
            .in_flight(5)
            .unordered()
            .named("lazy")
            .cancel_on(&token)
            .isolate();
        let window = source().window(3);
        settle();
        assert_eq!((calls.get(), ran.get()), (0, 0));
        assert_eq!(map.size_hint(), (10, Some(10)));
        drop((map, window));
        assert_eq!((calls.get(), ran.get()), (0, 0));
    });
}

#[test]
fn a_stage_is_fused_after_an_error_and_after_a_panic() {
    for n in 1..=9 {
        within(SOON, move || {
            let mut tried = (0..9).try_par_map_ordered(n, |i| if i == 2 { Err(i) } else { Ok(i) });
            assert_eq!(tried.by_ref().count(), 3);
            let mut bad = (0..9).par_map_ordered(n, |i| if i == 2 { bang(i) } else { i });
            assert_eq!([bad.next(), bad.next()], [Some(0), Some(1)]);
            assert_eq!(caught(|| bad.next()), Err(2));
            for _ in 0..5 {
                assert_eq!((tried.next(), bad.next()), (None, None));
                assert_eq!(tried.size_hint(), (0, Some(0)));
                assert_eq!(bad.size_hint(), (0, Some(0)));
            }
        });
    }
}

/// Takes everything and compares the `size_hint` of each step with what really came.
fn hints_are_true<I: Iterator>(mut stage: I, exact: bool) {
    let mut hints = vec![stage.size_hint()];
    while stage.next().is_some() {
        hints.push(stage.size_hint());
    }
    for (left, (low, high)) in (0..hints.len()).zip(hints.into_iter().rev()) {
        assert!(low <= left, "at least {low}, but {left} came");
        assert!(
            high.is_none_or(|high| left <= high),
            "at most {high:?}, but {left} came"
        );
        if exact {
            assert_eq!((low, high), (left, Some(left)));
        }
    }
}

#[test]
fn size_hint_of_an_isolated_stage_is_exact() {
    for n in 1..=9 {
        for k in [1, 5, 64] {
            within(SOON, move || {
                let isolated =
                    (0..150).par_map_ordered(n, |i| if i % 9 == 1 { bang(i) } else { i });
                hints_are_true(isolated.in_flight(k).isolate(), true);
            });
        }
    }
}

#[test]
fn len_is_the_number_of_items_that_come() {
    for n in 1..=9 {
        within(SOON, move || {
            let mut stage = vec![5_u8; 100].into_iter().par_map_ordered(n, |i| i);
            for left in (0..=100).rev() {
                assert_eq!(stage.len(), left);
                assert_eq!(stage.next().is_some(), left > 0);
            }
            assert_eq!(stage.len(), 0);
            let chained = (0..100)
                .par_map_unordered(n, |i: i32| i)
                .par_map_ordered(n, |i| i);
            hints_are_true(chained, true);
        });
    }
}

/// How many items a cancellation leaves is not known beforehand, and `len` must not panic over that.
#[test]
fn len_after_a_cancellation_is_what_is_left_at_most() {
    for n in 1..=9 {
        within(SOON, move || {
            let token = fanfold::CancelToken::new();
            let mut stage = (0..100_u8).par_map_ordered(n, |i| i).cancel_on(&token);
            assert_eq!(stage.next(), Some(0));
            token.cancel();
            let unborn = (0..100_u8).par_map_ordered(n, |i| i).cancel_on(&token);
            assert_eq!(unborn.size_hint(), (0, Some(100)));
            assert_eq!((stage.size_hint(), stage.len()), ((0, Some(99)), 99));
            let rest = stage.by_ref().count();
            assert!(rest <= 99);
            assert_eq!((stage.size_hint(), stage.len()), ((0, Some(0)), 0));
        });
    }
}

#[test]
fn size_hint_is_true_in_flight_for_the_others() {
    for n in WIDTHS {
        for k in [1, 5, 64] {
            within(SOON, move || {
                let slow = |i: u64| {
                    dawdle(i);
                    i
                };
                let source = || 0..150_u64;
                let filter = source().par_filter(n, move |&i| slow(i) % 3 == 0);
                hints_are_true(filter.in_flight(k), false);
                let filter = source().par_filter_map(n, move |i| (slow(i) > 100).then_some(i));
                hints_are_true(filter.in_flight(k), false);
                let flat_map = source().par_flat_map(n, move |i| vec![i; (slow(i) % 4) as usize]);
                hints_are_true(flat_map.in_flight(k), false);
                for bad in [0, 70, 149, 1_000] {
                    let f = move |i| if slow(i) == bad { Err(i) } else { Ok(i) };
                    hints_are_true(source().try_par_map_ordered(n, f).in_flight(k), false);
                }
                let chain = source().par_filter(n, |i| i % 2 == 0).in_flight(k);
                hints_are_true(chain.par_map_ordered(n, slow).in_flight(k), false);
                let unsized_source = source().filter(|i| i % 2 == 0);
                hints_are_true(unsized_source.par_map_ordered(n, slow).in_flight(k), false);
            });
        }
    }
}

#[test]
fn a_fallible_stage_promises_only_one_result() {
    let mut stage = (0..10_u64).try_par_map_ordered(2, Ok::<_, ()>);
    assert_eq!(stage.size_hint(), (1, Some(10)));
    assert_eq!(stage.next(), Some(Ok(0)));
    assert_eq!(stage.size_hint(), (1, Some(9)));
    assert_eq!(stage.by_ref().count(), 9);
    assert_eq!(stage.size_hint(), (0, Some(0)));
    let none = std::iter::empty::<u64>;
    let tried = none().try_par_map_ordered(2, Ok::<_, ()>);
    assert_eq!(tried.size_hint(), (0, Some(0)));
    let flat = none().par_flat_map(2, |i| [i]);
    assert_eq!(flat.size_hint(), (0, Some(0)), "nothing gives nothing");
}

#[test]
fn the_hint_is_exact_once_the_end_is_known() {
    within(SOON, || {
        let source = (0..20_u64).filter(|_| true);
        let mut stage = source.par_map_ordered(2, |i| i).in_flight(64);
        assert_eq!(stage.size_hint(), (0, Some(20)));
        assert_eq!(stage.next(), Some(0));
        eventually("the end is seen", || stage.size_hint() == (19, Some(19)));
        assert_eq!(stage.by_ref().count(), 19);
        assert_eq!(stage.size_hint(), (0, Some(0)));
    });
}

#[test]
fn the_upper_hint_of_a_filter_falls_as_it_goes() {
    for n in 1..=9 {
        within(SOON, move || {
            let mut stage = (0..100).par_filter(n, |_| true);
            assert_eq!(stage.size_hint(), (0, Some(100)));
            assert_eq!(stage.by_ref().take(60).count(), 60);
            assert_eq!(stage.size_hint(), (0, Some(40)));
        });
    }
}

#[test]
fn size_hint_in_a_scope_is_exact_too() {
    for n in 1..=9 {
        within(SOON, move || {
            let docs: Vec<String> = (0..50).map(|i| i.to_string()).collect();
            fanfold::scope(|s| {
                hints_are_true(docs.iter().par_map_ordered(n, |d| d.len()).within(s), true);
            });
        });
    }
}

/// The hint of a source may be as large as possible, and must not overflow with the items in flight.
#[test]
fn size_hint_of_an_endless_source_does_not_overflow() {
    for n in 1..=9 {
        within(SOON, move || {
            let mut stage = (0_u64..).par_map_ordered(n, |i| i);
            for i in 0..100 {
                assert_eq!(stage.size_hint().1, None);
                assert_eq!(stage.next(), Some(i));
            }
            let all = Lying {
                inner: 0..100,
                hint: (usize::MAX, Some(usize::MAX)),
            };
            let mut stage = all.par_flat_map(n, |i| [i; 3]);
            while stage.next().is_some() {
                let (low, high) = stage.size_hint();
                assert!(high.is_none_or(|high| low <= high));
            }
        });
    }
}

fn settle_shortly() {
    std::thread::sleep(std::time::Duration::from_millis(1));
}

#[test]
fn a_terminal_call_that_stops_early_admits_no_more_than_that() {
    for n in 1..=9 {
        within(SOON, move || {
            let pulls = Counter::new();
            let stage = || counted(0.., &pulls).par_map_ordered(n, |i| i).in_flight(10);
            assert_eq!(stage().find(|i| *i == 20), Some(20));
            assert!(pulls.get() <= 31, "{} admitted", pulls.get());
            assert!(stage().any(|i| i == 20));
            assert!(pulls.get() <= 62, "{} admitted", pulls.get());
            assert_eq!(stage().position(|i| i == 20), Some(20));
            assert_eq!(stage().find_map(|i| (i == 20).then_some("x")), Some("x"));
            assert!(!stage().all(|i| i < 20));
            assert_eq!(
                stage().try_for_each(|i| if i < 20 { Ok(()) } else { Err(i) }),
                Err(20)
            );
            assert!(pulls.get() <= 6 * 31, "{} admitted", pulls.get());
        });
    }
}

// ---- every kind of stage

#[test]
fn no_kind_pulls_or_runs_before_the_first_next() {
    each(KINDS, [1, 3], |kind, n| {
        let (calls, ran, ledger) = (Counter::new(), Counter::new(), Ledger::new());
        let count = ran.clone();
        let with = With::n(n).bound(5).work(move |_| _ = count.add());
        let stage = kind.build(items(calls_counted(0..10, &calls), &ledger), &with);
        let (low, high) = stage.size_hint();
        assert!(
            low <= 10 && high.is_none_or(|high| high >= 10),
            "{low}, {high:?}"
        );
        settle();
        assert_eq!((calls.get(), ran.get()), (0, 0));
        drop(stage);
        assert_eq!((calls.get(), ran.get(), ledger.created()), (0, 0, 0));
        assert_quiescent();
    });
}

#[test]
fn every_kind_is_fused_and_pulls_nothing_after_the_end() {
    each(KINDS, WIDTHS, |kind, n| {
        let (calls, ledger) = (Counter::new(), Ledger::new());
        let mut lines: Vec<_> = (0..40).map(Some).collect();
        lines.extend([None, Some(40), Some(41)]);
        let script = items(Script::new(lines, &calls), &ledger);
        let mut stage = kind.build(script, &With::n(n));
        let ids: Vec<u64> = stage.by_ref().map(|item| item.id).collect();
        kind.assert_all(&ids, 40);
        for _ in 0..5 {
            assert!(stage.next().is_none());
            assert_eq!(stage.size_hint(), (0, Some(0)));
        }
        if kind.ahead {
            assert_quiescent();
        }
        drop(stage);
        assert_eq!(calls.get(), 41, "the source is not asked after its end");
        assert_quiescent();
    });
}

#[test]
fn every_hint_of_every_kind_is_true() {
    each(KINDS, widths_and([1, 5, 64]), |kind, (n, k)| {
        let ledger = Ledger::new();
        let with = With::n(n).bound(k).work(|item| dawdle(item.id));
        let build = |ids: Ids| -> Built { kind.build(items(ids, &ledger), &with) };
        hints_are_true(build(Box::new(0..80)), kind.exact);
        hints_are_true(build(Box::new((0..20).filter(|_| true))), false);
    });
}

type Ids = Box<dyn Iterator<Item = u64> + Send>;

#[test]
fn no_kind_promises_items_after_a_cancellation() {
    each(ahead(), WIDTHS, |kind, n| {
        let (token, ledger) = (CancelToken::new(), Ledger::new());
        let with = With::n(n).token(&token);
        let mut begun = kind.build(items(0..100, &ledger), &with);
        assert!(begun.next().is_some());
        token.cancel();
        let (low, high) = begun.size_hint();
        let rest = begun.by_ref().count();
        // A window that is being taken apart is there.
        let there = if kind.comes_in_vecs() { 3 } else { 0 };
        assert!(low <= there && low <= rest, "{low}: {rest}");
        assert!(
            high.is_none_or(|high| (rest..=99).contains(&high)),
            "{high:?}: {rest}"
        );
        assert!(rest <= 99);
        assert_eq!(begun.size_hint(), (0, Some(0)));
        let unborn = kind.build(items(0..100, &ledger), &with);
        assert_eq!(unborn.size_hint().0, 0);
        assert_eq!(unborn.count(), 0);
    });
}

#[test]
fn taking_some_of_any_kind_pulls_those_and_the_bound() {
    each(KINDS, widths_and([1, 2, 9, 64]), |kind, (n, bound)| {
        for k in [0, 1, 2, 20] {
            let (pulls, ledger) = (Counter::new(), Ledger::new());
            let with = With::n(n).bound(bound);
            let mut stage = kind.build(items(counted(0.., &pulls), &ledger), &with);
            let ids: Vec<u64> = stage.by_ref().take(k).map(|item| item.id).collect();
            kind.assert_in_order(&ids);
            settle_shortly();
            let most = if k == 0 { 0 } else { k + (kind.holds)(bound) };
            assert!(pulls.get() <= most, "{} pulled for {k}", pulls.get());
            drop(stage);
            assert!(pulls.get() <= most, "{} pulled for {k}", pulls.get());
        }
    });
}
