//! P10: after drop or end no thread holds anything of the stage, and `assert_quiescent` proves it.

use crate::kinds::{KINDS, With, each, items, widths_and};
use crate::support::{
    Counter, Gate, Ledger, OnDrop, SOON, bang, blocks, caught, dawdle, eventually, message,
    panics_at, payload, settle, within,
};
use fanfold::testing::assert_quiescent;
use fanfold::{CancelToken, Fanfold, Pool};
use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

#[test]
fn quiescent_before_anything_has_run() {
    within(SOON, || {
        assert_quiescent();
        let stage = (0..10).par_map_ordered(2, |i| i);
        assert_quiescent();
        drop(stage);
        assert_quiescent();
    });
}

#[test]
fn quiescent_after_an_error() {
    for n in 1..=9 {
        within(SOON, move || {
            let stage = (0..).try_par_map_ordered(n, |i| if i == 20 { Err(i) } else { Ok(i) });
            assert_eq!(stage.count(), 21);
            assert_quiescent();
            let failed = fanfold::parallel_map(0.., n, |i| if i == 20 { Err(i) } else { Ok(i) });
            assert_eq!(failed, Err(20));
            assert_quiescent();
        });
    }
}

#[test]
fn quiescent_after_a_cancellation() {
    for n in 1..=9 {
        within(SOON, move || {
            let token = CancelToken::new();
            let mut stage = (0..).par_map_ordered(n, |i| i).cancel_on(&token);
            assert_eq!(stage.next(), Some(0));
            token.cancel();
            let _ = stage.by_ref().count();
            assert_eq!(stage.next(), None);
            drop(stage);
            assert_quiescent();
        });
    }
}

#[test]
fn quiescent_after_a_chain_a_nest_and_a_scope() {
    for n in 1..=5 {
        within(SOON, move || {
            let chain = (0..).par_map_ordered(n, |i: u64| i).par_filter(n, |_| true);
            assert_eq!(chain.take(10).count(), 10);
            assert_quiescent();
            let nest = (0..10).par_map_ordered(n, move |i| {
                (0..)
                    .par_map_ordered(n, move |j| i + j)
                    .take(3)
                    .sum::<u64>()
            });
            assert_eq!(nest.count(), 10);
            assert_quiescent();
            let text = String::from("borrowed");
            fanfold::scope(|s| {
                let mut stage = (0..).par_map_ordered(n, |i| i + text.len()).within(s);
                assert_eq!(stage.next(), Some(8));
                std::mem::forget(stage);
            });
            assert_quiescent();
        });
    }
}

/// Everything that returns `None` before its source has ended; each is kept alive.
#[test]
fn quiescent_after_an_early_end_that_is_not_dropped() {
    for n in 1..=5 {
        within(SOON, move || {
            let mut failed = (0..).try_par_map_ordered(n, |i| if i == 20 { Err(i) } else { Ok(i) });
            assert_eq!(failed.by_ref().count(), 21);
            assert_quiescent();
            let mut bad = (0..).par_map_ordered(n, |i| if i == 20 { bang(i) } else { i });
            assert_eq!(caught(|| bad.by_ref().count()), Err(20));
            assert_eq!(bad.next(), None);
            assert_quiescent();
            let mut bad = panics_at(20, &Counter::new()).par_map_unordered(n, |i| i);
            assert_eq!(caught(|| bad.by_ref().count()), Err(20));
            assert_eq!(bad.next(), None);
            assert_quiescent();

            let token = CancelToken::new();
            let mut stage = (0..).par_map_ordered(n, |i| i).cancel_on(&token);
            let mut ahead = (0..).readahead(n).cancel_on(&token);
            let mut merged = fanfold::merge([0.., 5..]).cancel_on(&token);
            let mut turns = fanfold::round_robin([0.., 5..]).cancel_on(&token);
            let mut keyed = (0..).par_map_by_key(n, |i| i % 3, |i| i).cancel_on(&token);
            assert_eq!(stage.next(), Some(0));
            assert_eq!(ahead.next(), Some(0));
            assert!(merged.next().is_some() && turns.next().is_some());
            assert!(keyed.next().is_some());
            token.cancel();
            for count in [
                stage.by_ref().count(),
                ahead.by_ref().count(),
                merged.by_ref().count(),
                turns.by_ref().count(),
                keyed.by_ref().count(),
            ] {
                assert!(count < 1_000_000);
            }
            assert_quiescent();

            let mut short = fanfold::round_robin([0..1, 0..9]).stop_at_first_end();
            assert_eq!(short.by_ref().count(), 2);
            let mut wrong = fanfold::merge_sorted_by_key([vec![2, 1], vec![3, 4]], |x| *x);
            assert!(wrong.by_ref().last().is_some_and(|last| last.is_err()));
            assert_eq!(wrong.next(), None);
            let mut timely = (0..3).par_map_ordered(n, |i| i);
            while !matches!(timely.next_within(SOON), Ok(None)) {}
            assert_quiescent();
        });
    }
}

/// A closure or a source that still runs after an early end counts as a leak until it returns.
#[test]
fn the_report_names_what_still_runs_after_an_early_end() {
    within(SOON, || {
        let (gate, asked) = (Gate::new(), Gate::new());
        let mut late = (0..1)
            .par_map_ordered(2, {
                let gate = gate.clone();
                move |_| gate.wait()
            })
            .item_timeout(Duration::from_millis(5))
            .named("a closure");
        let _open = gate.opener();
        assert!(payload(|| late.next()).is_err());
        assert_eq!(late.next(), None);
        let token = CancelToken::new();
        let source = std::iter::from_fn({
            let (gate, asked) = (gate.clone(), asked.clone());
            move || (asked.open(), gate.wait(), None::<u8>).2
        });
        let mut silent = source.readahead(2).cancel_on(&token).named("a source");
        let canceller = std::thread::spawn(move || {
            asked.wait();
            token.cancel();
        });
        assert_eq!(silent.next(), None);
        canceller.join().expect("no panic");
        let said = message(assert_quiescent);
        assert!(
            said.contains("a closure") && said.contains("a source"),
            "{said}"
        );
        gate.open();
        assert_quiescent();
    });
}

#[test]
fn a_running_stage_is_named() {
    for n in 1..=9 {
        within(SOON, move || {
            let mut stage = (0..).par_map_ordered(n, |i| i).named("fetch");
            assert_eq!(stage.next(), Some(0));
            let text = message(assert_quiescent);
            assert!(text.contains("fetch"), "{text}");
            drop(stage);
            assert_quiescent();
        });
    }
}

#[test]
fn a_forgotten_stage_is_named() {
    for n in 1..=9 {
        within(SOON, move || {
            let mut stage = (0..).par_map_ordered(n, |i| i).named("lost");
            assert_eq!(stage.next(), Some(0));
            std::mem::forget(stage);
            let text = message(assert_quiescent);
            assert!(text.contains("lost"), "{text}");
        });
    }
}

#[test]
fn a_stage_forgotten_in_a_closure_counts_for_the_outer_thread() {
    for n in 1..=5 {
        within(SOON, move || {
            let outer = (0..3).par_map_ordered(n, |i| {
                if i == 1 {
                    let mut inner = (0..).par_map_ordered(2, |j| j).named("inner");
                    assert_eq!(inner.next(), Some(0));
                    std::mem::forget(inner);
                }
            });
            assert_eq!(outer.count(), 3);
            let text = message(assert_quiescent);
            assert!(text.contains("inner"), "{text}");
        });
    }
}

#[test]
fn the_stages_of_other_threads_do_not_count() {
    within(SOON, || {
        let (running, gate) = (Gate::new(), Gate::new());
        let other = std::thread::spawn({
            let (running, gate) = (running.clone(), gate.clone());
            move || {
                let mut stage = (0..).par_map_ordered(2, |i| i);
                assert_eq!(stage.next(), Some(0));
                running.open();
                gate.wait();
            }
        });
        running.wait();
        assert_quiescent();
        gate.open();
        other.join().expect("no panic");
    });
}

/// The workers' states are gone too: each is dropped on the thread that made it.
#[test]
fn no_state_is_left_when_the_drop_returns() {
    struct State(Counter, std::thread::ThreadId);
    impl Drop for State {
        fn drop(&mut self) {
            assert_eq!(std::thread::current().id(), self.1);
            self.0.add();
        }
    }
    for (n, k) in (1..=9).flat_map(|n| [1, 5, 30, 100].map(move |k| (n, k))) {
        within(SOON, move || {
            let (made, dropped) = (Counter::new(), Counter::new());
            let init = {
                let (made, dropped) = (made.clone(), dropped.clone());
                move || {
                    made.add();
                    State(dropped.clone(), std::thread::current().id())
                }
            };
            let stage = (0..100).par_map_ordered_init(n, init, |_, i| dawdle(i));
            assert_eq!(stage.take(k).count(), k);
            assert_eq!(dropped.get(), made.get());
            assert!((1..=n).contains(&made.get()));
        });
    }
}

#[test]
fn a_thousand_stages_leave_few_threads() {
    within(SOON, || {
        let (gate, pool) = (Gate::new(), Pool::builder().build());
        for i in 0..1_000_u64 {
            let mut stage = (0..5)
                .chain(blocks(&gate))
                .par_map_ordered(3, move |j| i + j)
                .on(&pool);
            assert_eq!(stage.next(), Some(i));
            gate.open();
        }
        assert_quiescent();
        let threads = pool.threads();
        assert!((1..500).contains(&threads), "{threads} threads");
    });
}

thread_local! {
    /// Dropped when its thread ends.
    static LIFE: RefCell<Option<OnDrop>> = const { RefCell::new(None) };
}

/// A closure that counts the threads that have run it, and those of them that have ended.
fn lives(begun: &Counter, ended: &Counter) -> impl Fn(u64) -> u64 + Send + Sync + use<> {
    let (begun, ended) = (begun.clone(), ended.clone());
    move |i| {
        LIFE.with_borrow_mut(|life| {
            life.get_or_insert_with(|| {
                begun.add();
                ended.on_drop()
            });
        });
        i
    }
}

/// A thread leaves its pool when it has been idle for the idle time, unless it has just been leased.
#[test]
fn threads_that_idle_leave_their_pool() {
    within(SOON, || {
        let (begun, ended) = (Counter::new(), Counter::new());
        let pool = Pool::builder().idle_time(Duration::ZERO).build();
        for _ in 0..100 {
            let stage = (0..4).par_map_ordered(2, lives(&begun, &ended));
            assert!(stage.on(&pool).eq(0..4));
        }
        eventually("all have left", || pool.threads() == 0);
        // A thread that leaves alone.
        assert!((0..4).readahead(2).on(&pool).eq(0..4));
        eventually("all have left", || pool.threads() == 0);
        ended.wait_for(begun.get());
    });
}

#[test]
fn threads_stay_in_their_pool_for_the_idle_time() {
    within(SOON, || {
        let idle = Duration::from_millis(20);
        let pool = Pool::builder().idle_time(idle).build();
        assert!((0..4).par_map_ordered(2, |i| i).on(&pool).eq(0..4));
        eventually("all have left", || pool.threads() == 0);
        let pool = Pool::builder()
            .idle_time(Duration::from_secs(3_600))
            .build();
        assert!((0..4).par_map_ordered(2, |i| i).on(&pool).eq(0..4));
        settle();
        assert!(pool.threads() > 0);
    });
}

#[test]
fn the_threads_of_a_pool_have_names_of_their_own() {
    within(SOON, || {
        let pool = Pool::builder().named("nail").build();
        let begun = Counter::new();
        let stage = (0..3).par_map_unordered(3, move |_| {
            begun.add();
            begun.wait_for(3);
            std::thread::current().name().map(str::to_owned)
        });
        let mut names: Vec<_> = stage.on(&pool).flatten().collect();
        names.sort();
        assert_eq!(names, ["0-nail", "1-nail", "2-nail"]);
    });
}

#[test]
fn a_pool_that_is_dropped_has_joined_its_threads() {
    for n in 1..=9 {
        within(SOON, move || {
            let (begun, ended) = (Counter::new(), Counter::new());
            let pool = Pool::builder().build();
            let stage = (0..100).par_map_ordered(n, lives(&begun, &ended));
            assert!(stage.on(&pool).eq(0..100));
            drop(pool);
            assert!(begun.get() > 0);
            assert_eq!(ended.get(), begun.get());
        });
    }
}

/// What the closure and the source hold is free as soon as the stage is dropped or over, not some time later.
#[test]
fn nothing_of_any_kind_is_held_when_it_is_gone() {
    each(KINDS, widths_and([0, 1, 5, 30, 101]), |kind, (n, k)| {
        let (held, held_by_source) = (Arc::new(()), Arc::new(()));
        let source = (0..100).inspect({
            let held = Arc::clone(&held_by_source);
            move |_| assert!(Arc::strong_count(&held) > 0)
        });
        let with = With::n(n).work({
            let held = Arc::clone(&held);
            move |item| {
                dawdle(item.id);
                assert!(Arc::strong_count(&held) > 0);
            }
        });
        let stage = kind.build(items(source, &Ledger::new()), &with);
        drop(with);
        assert_eq!(stage.take(k).count(), k.min(100));
        assert_eq!(Arc::strong_count(&held), 1);
        assert_eq!(Arc::strong_count(&held_by_source), 1);
        assert_quiescent();
    });
}
