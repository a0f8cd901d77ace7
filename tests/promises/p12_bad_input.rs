//! P12: invalid arguments panic at the call, with the fix in the message; hostile sources, items and
//! machines are survived.

use crate::kinds::{KINDS, With, ahead, each, items, widths_and};
use crate::support::{
    Counter, Ledger, Lying, Meter, SOON, bang, barren, caught, dawdle, message, panics_at, settle,
    within,
};
use fanfold::testing::assert_quiescent;
use fanfold::{
    CancelToken, Cancelled, Fanfold, HedgePolicy, Merge, Pool, SourceOptions, Workers, replica,
};
use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

#[track_caller]
fn assert_names_the_fix<T>(f: impl FnOnce() -> T) {
    let text = message(f);
    assert!(text.contains("at least 1"), "{text}");
}

#[test]
fn a_width_of_zero_panics_at_the_call() {
    let source = || (0..3_u32).inspect(|_| unreachable!("nothing is pulled"));
    let zero = || 0_usize;
    let stage = source().par_map_unordered(1_usize, |i| i);
    assert_names_the_fix(|| stage.par_map_ordered(zero(), |i| i));
    assert_names_the_fix(|| fanfold::parallel_map(source(), zero(), Ok::<_, ()>));
    let token = CancelToken::new();
    let on = || fanfold::parallel_map_with(&token, source(), zero(), Ok::<_, fanfold::Cancelled>);
    assert_names_the_fix(on);
    assert_names_the_fix(|| fanfold::group::<_, _, ()>(zero(), |_| ()));
    assert_names_the_fix(|| fanfold::group_all::<_, _, ()>(zero(), |_| ()));
    assert_names_the_fix(|| Pool::builder().max_threads(zero()));
}

#[test]
fn a_window_of_size_zero_panics_at_the_call() {
    assert_names_the_fix(|| (0..3).window(0));
    assert_names_the_fix(|| (0..3).ready_chunks(0));
}

#[test]
fn an_option_behind_the_first_next_panics_and_says_so() {
    within(SOON, || {
        let started = || {
            let mut stage = (0..100).par_map_ordered(2, |i| i);
            assert_eq!(stage.next(), Some(0));
            stage
        };
        let token = CancelToken::new();
        let late: [&dyn Fn(); 6] = [
            &|| drop(started().in_flight(3)),
            &|| drop(started().unordered()),
            &|| drop(started().named("late")),
            &|| drop(started().cancel_on(&token)),
            &|| drop(started().isolate()),
            &|| drop(started().on(&Pool::global())),
        ];
        for option in late {
            let text = message(option);
            assert!(text.contains("first"), "{text}");
        }
        fanfold::testing::assert_quiescent();
    });
}

/// The number of threads whose closures run at once.
fn threads_of(stage: impl Iterator<Item = std::thread::ThreadId>) -> usize {
    stage.collect::<HashSet<_>>().len()
}

#[test]
fn a_huge_width_starts_no_more_threads_than_there_are_items() {
    within(SOON, || {
        let hints = [
            (3, Some(3)),
            (0, None),
            (0, Some(usize::MAX)),
            (usize::MAX, None),
        ];
        for hint in hints {
            let (meter, pool) = (Meter::new(), Pool::builder().build());
            let source = Lying { inner: 0..3, hint };
            let stage = source.par_map_ordered(usize::MAX, {
                let meter = meter.clone();
                move |_| {
                    meter.meet(3);
                    std::thread::current().id()
                }
            });
            assert_eq!(threads_of(stage.on(&pool)), 3);
            // one to pull beside the three
            assert!(pool.threads() <= 4, "{} threads", pool.threads());
        }
    });
}

#[test]
fn a_huge_bound_costs_nothing() {
    for n in [1, 3, usize::MAX] {
        within(SOON, move || {
            let stage = (0..200).par_map_ordered(n, |i| i).in_flight(usize::MAX);
            assert!(stage.eq(0..200));
            let stage = (0..200).par_map_unordered(n, |i| i).in_flight(usize::MAX);
            assert_eq!(stage.count(), 200);
            assert_eq!((0..10).window(usize::MAX).count(), 1);
        });
    }
}

#[test]
fn a_size_hint_that_lies_does_not_break_collect() {
    for n in 1..=9 {
        within(SOON, move || {
            for hint in [
                (0, Some(0)),
                (50, Some(50)),
                (9, Some(3)),
                (5_000, Some(5_000)),
            ] {
                let source = || Lying {
                    inner: 0..100_u64,
                    hint,
                };
                let out: Vec<u64> = source().par_map_ordered(n, |i| i).collect();
                assert!(out.into_iter().eq(0..100), "{hint:?}");
                let out = Iterator::collect::<Vec<u64>>(source().par_map_ordered(n, |i| i));
                assert!(out.into_iter().eq(0..100), "{hint:?}");
                assert_eq!(source().window(7).count(), 15);
            }
        });
    }
}

#[test]
fn a_size_hint_that_lies_inside_a_flat_map_is_survived() {
    for n in 1..=9 {
        within(SOON, move || {
            let vast = isize::MAX as usize / 64;
            for low in [9, vast, usize::MAX] {
                // reserving that is possible only for zero-sized items
                let hint = (low, None);
                let many = move |i: u64| Lying { inner: 0..i, hint };
                let nothing = move |i| many(i).map(drop);
                assert_eq!((0..20).par_flat_map(n, nothing).count(), 190);
                if low != vast {
                    assert_eq!((0..20).par_flat_map(n, many).count(), 190);
                }
            }
        });
    }
}

#[test]
fn a_size_hint_that_panics_is_no_disaster() {
    struct Silent(std::ops::Range<u64>);
    impl Iterator for Silent {
        type Item = u64;
        fn next(&mut self) -> Option<u64> {
            self.0.next()
        }
        fn size_hint(&self) -> (usize, Option<usize>) {
            bang(13)
        }
    }
    for n in 1..=4 {
        within(SOON, move || {
            // either the hint is not asked for, or the caller gets the panic, at once and not on a worker
            if let Err(id) = caught(|| Silent(0..10).par_map_ordered(n, |i| i).count()) {
                assert_eq!(id, 13);
            }
            fanfold::testing::assert_quiescent();
        });
    }
}

#[test]
fn no_items_and_one_item() {
    for n in 1..=9 {
        within(SOON, move || {
            let none = std::iter::empty::<u8>;
            assert_eq!(none().par_map_unordered(n, |i| i).max(), None);
            assert_eq!(none().local().par_filter(n, |_| true).count(), 0);
            let one = || std::iter::once(5);
            assert_eq!(one().par_filter(n, |_| false).last(), None);
            assert_eq!(one().par_flat_map(n, |_| [0_u8; 0]).last(), None);
            assert_eq!(one().window(3).last(), Some(vec![5]));
        });
    }
}

#[test]
fn items_of_no_size() {
    for n in 1..=4 {
        within(SOON, move || {
            let stage = std::iter::repeat_n((), 50_000).par_map_ordered(n, |()| ());
            assert_eq!(stage.count(), 50_000);
            let stage = std::iter::repeat_n((), 1_000).par_filter(n, |()| true);
            assert_eq!(stage.count(), 1_000);
        });
    }
}

#[test]
#[allow(clippy::large_stack_arrays)] // the size is the point
fn items_of_a_large_size_and_a_strict_alignment() {
    #[repr(align(4096))]
    struct Page(u64);
    struct Big([u8; 65_536]);
    fn is_aligned(page: &Page) -> bool {
        std::ptr::from_ref(page).addr() % 4096 == 0
    }
    for n in 1..=4 {
        within(SOON, move || {
            let stage = (0..300).map(Page).par_map_ordered(n, |page| {
                assert!(is_aligned(&page));
                Page(page.0 + 1)
            });
            for (i, page) in (1..).zip(stage) {
                assert!(is_aligned(&page) && page.0 == i);
            }
            let big = (0..40)
                .map(|i| Big([i; 65_536]))
                .par_map_ordered(n, |big| big);
            assert!(big.in_flight(8).map(|big| big.0[65_535]).eq(0..40));
        });
    }
}

// ---- Workers

#[test]
fn a_number_of_workers_is_a_usize() {
    assert_eq!(Workers::from(7).get(), 7);
    assert_eq!(Workers::from(NonZeroUsize::MIN).get(), 1);
    let cpus = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    assert_eq!(Workers::cpus().get(), cpus);
}

#[test]
fn workers_that_wait_are_many() {
    let ms = Duration::from_millis;
    let cpus = Workers::cpus().get();
    assert_eq!(Workers::io(ms(90), ms(10)).get(), cpus * 10);
    assert_eq!(Workers::io(ms(0), ms(10)).get(), cpus);
    assert_eq!(Workers::io(ms(5), ms(10)).get(), (cpus * 3).div_ceil(2));
    // every number of workers is valid, however extreme
    assert!(Workers::io(Duration::MAX, Duration::from_nanos(1)).get() < 1_000_000);
    let (meter, n) = (Meter::new(), cpus * 10);
    let wide = (0..n).par_map_ordered(Workers::io(ms(90), ms(10)), |_| meter.meet(n));
    assert_eq!(wide.count(), n);
}

#[test]
fn workers_that_never_compute_are_no_number() {
    assert_names_the_fix(|| Workers::io(Duration::from_secs(1), Duration::ZERO));
}

// ---- endless durations

/// Items that come so late that the threads that wait for them sleep.
fn late() -> impl Iterator<Item = u32> + Clone + Send {
    (0..3).inspect(|_| settle())
}

/// No sum of times overflows, wherever a duration can be given.
#[test]
fn the_longest_duration_is_no_limit() {
    const AGES: Duration = Duration::MAX;
    within(SOON, || {
        let policies = [
            HedgePolicy::after(AGES),
            HedgePolicy::after(Duration::ZERO).floor(AGES),
            HedgePolicy::after(AGES).cap(AGES),
        ];
        for policy in &policies {
            assert!(late().par_map_ordered(2, |i| i).hedge_slow(policy).eq(0..3));
            assert!(
                late()
                    .par_map_unordered(2, |i| i)
                    .hedge_slow(policy)
                    .eq(0..3)
            );
            let replicas = || [1, 2].map(|i| replica(move |_| (settle(), Ok::<_, ()>(i)).1));
            let hedge = replicas().into_iter().hedge();
            assert_eq!(hedge.policy(policy).run(), Ok(1));
            let hedge = replicas().into_iter().hedge().after(AGES).timeout(AGES);
            assert_eq!(hedge.run(), Ok(1));
            policy.request().record(AGES);
        }
        let timed = || late().par_map_ordered(2, |i| i).item_timeout(AGES);
        assert!(timed().eq(0..3) && timed().unordered().count() == 3);
        assert!(timed().hedge_slow(&policies[0]).isolate().count() == 3);
        let mut stage = timed();
        for i in 0..3 {
            assert_eq!(stage.next_within(AGES).ok(), Some(Some(i)));
        }
        assert!(stage.next_within(AGES).is_ok_and(|end| end.is_none()));
        let patient = || SourceOptions::new().timeout(AGES);
        let merged = Merge::new().source_with(late(), patient());
        let mut merged = merged.source_with(late(), patient());
        let report = merged.report();
        assert_eq!(merged.count(), 6);
        assert_eq!(report.timed_out().len(), 0);
        assert!(late().window(2).max_age(AGES).eq([vec![0, 1], vec![2]]));
        let pool = Pool::builder().idle_time(AGES).build();
        assert!(late().par_map_ordered(2, |i| i).on(&pool).eq(0..3));
        settle(); // until the threads idle
        assert!(late().par_map_ordered(2, |i| i).on(&pool).eq(0..3));
        drop(pool);
        let token = CancelToken::new().with_timeout(AGES);
        let _hook = token.on_cancel(|| ());
        let sleeper = std::thread::spawn({
            let token = token.clone();
            move || (token.sleep(AGES), token.wait()).0
        });
        settle();
        token.cancel();
        assert_eq!(sleeper.join().expect("no panic"), Err(Cancelled::default()));
    });
}

const VARIABLE: &str = "FANFOLD_TEST_WORKERS";

/// Asks, in its own process, how the variable is read when it holds `value`: the environment cannot be
/// changed safely while other threads run.
fn workers_of(value: Option<&str>) -> String {
    let mut command = Command::new(std::env::current_exe().expect("this test"));
    command.args([
        "--exact",
        "p12_bad_input::asked_in_a_process_of_its_own",
        "--ignored",
        "--nocapture",
    ]);
    match value {
        Some(value) => command.env(VARIABLE, value),
        None => command.env_remove(VARIABLE),
    };
    let output = command.output().expect("a process");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
#[ignore = "run by the test below, with a variable set"]
fn asked_in_a_process_of_its_own() {
    println!("<{} workers>", Workers::from_env(VARIABLE, 4).get());
}

#[test]
fn workers_come_from_the_environment() {
    assert!(workers_of(None).contains("<4 workers>"));
    assert!(workers_of(Some("7")).contains("<7 workers>"));
    assert!(workers_of(Some("256")).contains("<256 workers>"));
}

#[test]
fn a_variable_that_holds_no_number_is_named_with_what_it_holds() {
    for value in ["many", "-3", "2.5", "0", "99999999999999999999999"] {
        let said = workers_of(Some(value));
        assert!(!said.contains("workers>"), "{said}");
        assert!(said.contains(VARIABLE) && said.contains(value), "{said}");
        assert!(said.contains("at least 1"), "{said}");
    }
}

// ---- threads that cannot be started

#[test]
fn without_threads_each_result_comes_before_the_next_begins() {
    for n in [1, 4] {
        within(SOON, move || {
            let begun = Counter::new();
            let stage = (0..50).par_map_ordered(n, {
                let begun = begun.clone();
                move |_| _ = begun.add()
            });
            for (taken, ()) in stage.on(&barren()).enumerate() {
                assert_eq!(begun.get(), taken + 1, "n = {n}");
            }
            assert_eq!(begun.get(), 50);
        });
    }
}

#[test]
fn without_threads_every_kind_of_stage_works() {
    for n in [1, 4] {
        within(SOON, move || {
            let pool = barren();
            let even = (0..50).par_filter(n, |i| i % 2 == 0).on(&pool);
            assert_eq!(even.count(), 25);
            let flat = (0..50).par_flat_map(n, |i| [i; 3]).in_flight(2).on(&pool);
            assert_eq!(flat.count(), 150);
            let failed = (0..).try_par_map_ordered(n, |i| if i == 7 { Err(i) } else { Ok(i) });
            assert_eq!(failed.on(&pool).last(), Some(Err(7)));
            let local = (0..50).local().par_map_ordered(n, |i| i).on(&pool);
            assert_eq!(local.sum::<u32>(), 1_225);
            let text = String::from("borrowed");
            let borrowed = (0..50).par_map_ordered(n, |i| i + text.len()).on(&pool);
            assert_eq!(borrowed.count(), 50);
            fanfold::testing::assert_quiescent();
        });
    }
}

/// A pool that can start a limited number of threads.
/// A start hook that panics is a thread that cannot be started: all of them, or all but the first few.
#[test]
fn start_hooks_that_panic_cost_threads_and_nothing_else() {
    each(KINDS, widths_and([0, 1, 2, 3]), |kind, (n, good)| {
        let ran = Arc::new(AtomicUsize::new(0));
        let pool = Pool::builder().on_thread_start({
            let ran = Arc::clone(&ran);
            move |_| {
                if ran.fetch_add(1, SeqCst) >= good {
                    bang(7)
                }
            }
        });
        let pool = pool.build();
        for _ in 0..3 {
            let ledger = Ledger::new();
            let with = With::n(n).pool(&pool).work(|item| dawdle(item.id));
            let stage = kind.build(items(0..60, &ledger), &with);
            let ids: Vec<u64> = stage.map(|item| item.id).collect();
            kind.assert_all(&ids, 60);
            ledger.assert_dropped_once();
            assert!(pool.threads() <= good);
        }
        assert_quiescent();
    });
}

#[test]
fn a_stage_nested_in_the_callers_own_thread_works_too() {
    within(SOON, || {
        let pool = barren();
        let sums = (0..10_u64).par_map_ordered(3, {
            let pool = pool.clone();
            move |i| {
                dawdle(i);
                (0..i).par_map_ordered(3, |j| j).on(&pool).sum::<u64>()
            }
        });
        assert_eq!(
            sums.on(&pool).sum::<u64>(),
            (0..10).map(|i: u64| (0..i).sum::<u64>()).sum()
        );
    });
}

// ---- every kind of stage

#[test]
fn a_zero_of_any_kind_panics_at_the_call() {
    each(KINDS, [()], |kind, ()| {
        let source = || {
            items(
                (0..3).inspect(|_| unreachable!("nothing is pulled")),
                &Ledger::new(),
            )
        };
        if kind.runs {
            let text = message(|| kind.build(source(), &With::n(0)));
            assert!(
                text.contains("at least 1") && text.contains("Workers::cpus()"),
                "{text}"
            );
        }
        let text = message(|| kind.build(source(), &With::n(1).bound(0)));
        assert!(
            text.contains("at least 1") && text.contains(kind.least),
            "{text}"
        );
    });
}

#[test]
fn a_late_option_of_any_kind_panics_and_says_so() {
    each(ahead(), [()], |kind, ()| {
        let late = With::n(2).late();
        for with in [
            late.clone().token(&CancelToken::new()),
            late.clone().pool(&Pool::global()),
        ] {
            let text = message(|| kind.build(items(0..100, &Ledger::new()), &with));
            assert!(text.contains("before its first"), "{text}");
        }
        if kind.least == "in_flight(1)" || kind.least == "buffer(1)" {
            let with = late.bound(3);
            let text = message(|| kind.build(items(0..100, &Ledger::new()), &with));
            assert!(text.contains("before its first"), "{text}");
        }
        assert_quiescent();
    });
}

#[test]
fn a_size_hint_that_lies_is_survived_by_every_kind() {
    let hints = [
        (0, None),
        (0, Some(0)),
        (0, Some(7)),
        (1_000, Some(1_000)),
        (1_000, None),
        (9, Some(3)),
        (usize::MAX, None),
        (usize::MAX, Some(usize::MAX)),
        (usize::MAX, Some(0)),
    ];
    each(KINDS, widths_and(hints), |kind, (n, hint)| {
        let (ledger, inner) = (Ledger::new(), 0..20);
        let mut stage = kind.build(items(Lying { inner, hint }, &ledger), &With::n(n));
        let mut ids = Vec::new();
        let is_possible = |(low, high): (usize, Option<usize>)| high.is_none_or(|high| low <= high);
        // A reader hands on the hint of its source.
        assert!(is_possible(stage.size_hint()) || !kind.runs);
        while let Some(item) = stage.next() {
            assert!(is_possible(stage.size_hint()) || !kind.runs);
            ids.push(item.id);
        }
        assert_eq!(stage.size_hint(), (0, Some(0)));
        kind.assert_all(&ids, 20);
    });
}

#[test]
fn no_item_and_one_item_are_enough_for_every_kind() {
    each(KINDS, widths_and([0, 1]), |kind, (n, len)| {
        let ledger = Ledger::new();
        let mut stage = kind.build(items(0..len, &ledger), &With::n(n));
        assert_eq!(stage.next().map(|item| item.id), (len > 0).then_some(0));
        assert!(stage.next().is_none());
        drop(stage);
        ledger.assert_dropped_once();
        assert_quiescent();
    });
}

#[test]
fn without_threads_the_callers_own_does_the_work_of_any_kind() {
    each(ahead(), [1, 4], |kind, n| {
        let (pool, here) = (barren(), std::thread::current().id());
        let ledger = Ledger::new();
        let with = With::n(n).pool(&pool);
        let with = with.work(move |_| assert_eq!(std::thread::current().id(), here));
        let source = (0..50).inspect(move |_| assert_eq!(std::thread::current().id(), here));
        let stage = kind.build(items(source, &ledger), &with);
        let ids: Vec<u64> = stage.map(|item| item.id).collect();
        kind.assert_all(&ids, 50);
        let mut early = kind.build(items(0.., &Ledger::new()), &with.clone().bound(2));
        assert_eq!(early.by_ref().take(5).count(), 5);
        drop(early);
        let source = items(panics_at(7, &Counter::new()), &Ledger::new());
        assert_eq!(caught(|| kind.build(source, &with).count()), Err(7));
        if kind.runs {
            let with = with.work(|item| {
                if item.id == 7 {
                    bang(7)
                }
            });
            let stage = kind.build(items(0.., &Ledger::new()), &with);
            assert_eq!(caught(|| stage.count()), Err(7));
        }
        assert_eq!(pool.threads(), 0);
        ledger.assert_dropped_once();
        assert_quiescent();
    });
}
