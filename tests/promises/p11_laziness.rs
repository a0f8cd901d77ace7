//! P11: nothing before the first `next()`; fused after `None`; `size_hint` stays true while items are
//! in flight; `take(k)` admits at most k + `in_flight`.

#![allow(clippy::redundant_closure_for_method_calls)] // a closure over borrowed items is the point

use crate::support::{
    Counter, Lying, SOON, Script, bang, calls_counted, caught, counted, dawdle, eventually, settle,
    within,
};
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
        let filter = source().par_filter(3, {
            let f = f();
            move |i| f(*i) > 0
        });
        let filter_map = source().par_filter_map(3, {
            let f = f();
            move |i| Some(f(i))
        });
        let flat_map = source().par_flat_map(3, {
            let f = f();
            move |i| [f(i)]
        });
        let init = {
            let f = f();
            move || f(0)
        };
        let with_init = source().par_map_ordered_init(3, init, |_, i| i);
        let tried = source().try_par_map_ordered(3, {
            let f = f();
            move |i| Ok::<_, ()>(f(i))
        });
        let chain = source().par_map_unordered(3, f()).par_map_ordered(3, f());
        let local = source().local().par_map_ordered(3, f());
        let window = source().window(3);
        settle();
        assert_eq!((calls.get(), ran.get()), (0, 0));
        assert_eq!(map.size_hint(), (10, Some(10)));
        drop((
            map, filter, filter_map, flat_map, with_init, tried, chain, local, window,
        ));
        assert_eq!((calls.get(), ran.get()), (0, 0));
    });
}

#[test]
fn taking_nothing_admits_nothing() {
    within(SOON, || {
        let calls = Counter::new();
        let stage = calls_counted(0..10, &calls).par_map_ordered(3, |i| i);
        assert_eq!(stage.take(0).count(), 0);
        assert_eq!(calls.get(), 0);
    });
}

#[test]
fn a_stage_is_fused_and_pulls_nothing_after_the_end() {
    for n in 1..=9 {
        within(SOON, move || {
            let calls = Counter::new();
            let script = || Script::new([Some(1), Some(2), None, Some(3), Some(4)], &calls);
            let mut stage = script().par_map_ordered(n, |i| i * 10);
            assert_eq!([stage.next(), stage.next()], [Some(10), Some(20)]);
            for _ in 0..5 {
                assert_eq!(stage.next(), None);
                assert_eq!(stage.size_hint(), (0, Some(0)));
            }
            drop(stage);
            assert_eq!(
                calls.get(),
                3,
                "the source is not asked again after its end"
            );
            assert_eq!(script().par_map_unordered(n, |i| i).count(), 2);
            assert_eq!(script().par_filter(n, |_| true).count(), 2);
            assert_eq!(script().local().par_map_ordered(n, |i| i).count(), 2);
            assert_eq!(calls.get(), 12);
        });
    }
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
fn size_hint_is_exact_in_flight_for_one_to_one_stages() {
    for n in 1..=9 {
        for k in [1, 5, 64] {
            within(SOON, move || {
                let f = |i| {
                    dawdle(i);
                    i
                };
                hints_are_true((0..150).par_map_ordered(n, f).in_flight(k), true);
                hints_are_true((0..150).par_map_unordered(n, f).in_flight(k), true);
                let init = (0..150).par_map_ordered_init(n, || (), move |(), i| f(i));
                hints_are_true(init.in_flight(k), true);
                let isolated =
                    (0..150).par_map_ordered(n, |i| if i % 9 == 1 { bang(i) } else { i });
                hints_are_true(isolated.in_flight(k).isolate(), true);
                hints_are_true((0..150).local().par_map_ordered(n, f).in_flight(k), true);
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
    for n in 1..=9 {
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

#[test]
fn take_admits_at_most_k_and_the_bound() {
    for (n, bound) in (1..=9).flat_map(|n| [1, 2, 9, 64].map(move |bound| (n, bound))) {
        for k in [1, 2, 10, 100] {
            within(SOON, move || {
                let pulls = Counter::new();
                let mut stage = counted(0.., &pulls)
                    .par_map_ordered(n, |i| i)
                    .in_flight(bound)
                    .take(k);
                assert!(stage.by_ref().eq(0..k));
                settle_shortly();
                assert!(pulls.get() <= k + bound, "{} admitted", pulls.get());
                drop(stage);
                assert!(pulls.get() <= k + bound, "{} admitted", pulls.get());
            });
        }
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
