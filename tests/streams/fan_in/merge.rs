//! `merge`: each source on its own thread; none delays another.

use crate::support::{
    Counter, Gate, Ledger, Meter, SOON, blocks, caught, counted, eventually, listens, message, mix,
    panics_at, payload, settle, slow, within,
};
use fanfold::{CancelToken, Merge, Pool, SourceOptions, fan_in::MergeHandle, merge};
use quickcheck::quickcheck;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

/// Reports that it was dropped.
struct Flag(Arc<AtomicBool>);

impl Drop for Flag {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

quickcheck! {
    fn every_item_comes_once_and_each_source_in_order(sources: Vec<Vec<u8>>, knobs: u8) -> bool {
        let tagged = sources.iter().cloned().enumerate();
        let tagged = tagged.map(|(s, items)| items.into_iter().map(move |item| (s, item)));
        let mut merged = merge(tagged).buffer(usize::from(knobs % 4) + 1);
        if knobs & 4 != 0 {
            merged = merged.max_threads(usize::from(knobs >> 4) + 1);
        }
        if knobs & 8 != 0 {
            merged = merged.strict_priority();
        }
        let mut got = vec![Vec::new(); sources.len()];
        for (source, item) in merged {
            got[source].push(item);
        }
        got == sources
    }
}

#[test]
fn nothing_is_pulled_before_the_first_next() {
    let pulled = Counter::new();
    let merged = merge([counted(0..9, &pulled), counted(0..9, &pulled)]);
    settle();
    assert_eq!(pulled.get(), 0);
    drop(merged);
    fanfold::testing::assert_quiescent();
}

#[test]
fn a_source_that_blocks_delays_no_other() {
    within(SOON, || {
        let gate = Gate::new();
        let merged = Merge::new().source(blocks(&gate)).source(0..1_000);
        let mut merged = merged.source(blocks(&gate));
        let _open = gate.opener();
        assert!(merged.by_ref().take(1_000).eq(0..1_000));
        gate.open();
        assert_eq!(merged.next(), None);
        assert_eq!(merged.next(), None);
        fanfold::testing::assert_quiescent();
    });
}

#[test]
fn all_sources_are_pulled_at_once() {
    within(SOON, || {
        let meter = Meter::new();
        let sources = (0..50).map(|i| {
            let meter = meter.clone();
            std::iter::once_with(move || {
                meter.meet(50);
                i
            })
        });
        assert_eq!(merge(sources).count(), 50);
    });
}

#[test]
fn of_each_source_no_more_is_pulled_than_the_buffer_holds() {
    for buffer in 1..=5 {
        within(SOON, move || {
            let pulled = [Counter::new(), Counter::new(), Counter::new()];
            let sources = pulled.each_ref().map(|pulled| {
                let pulled = pulled.clone();
                (0..).map(move |i: usize| (pulled.add(), i).1)
            });
            let all = || pulled.iter().map(Counter::get).sum::<usize>();
            // A source that has filled its buffer is resumed once half of it is free.
            let each = if buffer <= 2 { buffer } else { buffer / 2 };
            let mut merged = merge(sources).buffer(buffer);
            for taken in 1..=30 {
                merged.next();
                eventually("the buffers are filled", || all() >= taken + 3 * each);
                if taken % 10 == 0 {
                    settle();
                }
                assert!(all() <= taken + 3 * buffer);
            }
        });
    }
}

#[test]
fn a_panic_or_an_end_of_one_leaves_the_others() {
    within(SOON, || {
        let calls = Counter::new();
        let sources = (0..6).map(|k| panics_at(k, &calls).take(4).map(move |i| (k, i)));
        let mut merged = merge(sources);
        let mut got: [Vec<u64>; 6] = Default::default();
        let mut panics = Vec::new();
        loop {
            match caught(|| merged.next()) {
                Ok(Some((source, item))) => {
                    assert!(!panics.contains(&source), "it comes after its items");
                    got[source as usize].push(item);
                }
                Ok(None) => break,
                Err(source) => panics.push(source),
            }
        }
        for (k, got) in (0..).zip(got) {
            assert!(got.into_iter().eq(0..k.min(4)));
        }
        panics.sort_unstable();
        assert_eq!(panics, [0, 1, 2, 3]);
        fanfold::testing::assert_quiescent();
    });
}

#[test]
fn a_drop_ends_sources_that_block_as_soon_as_they_return() {
    within(SOON, || {
        let inside = Meter::new();
        let sources = (0..5).map(|_| {
            let inside = inside.clone();
            std::iter::from_fn(move || {
                let _in = inside.enter();
                CancelToken::current().wait();
                Some(0)
            })
        });
        let mut merged = Merge::new().source([7]);
        for source in sources {
            merged = merged.source(source);
        }
        assert_eq!(merged.next(), Some(7));
        inside.wait_for(5);
        drop(merged);
        fanfold::testing::assert_quiescent();
    });
}

#[test]
fn untaken_items_are_dropped_once() {
    for (seed, taken) in (0..10).flat_map(|seed| (0..10).map(move |taken| (seed, taken))) {
        within(SOON, move || {
            let ledger = Ledger::new();
            let sources = (0..4).map(|source| {
                let items = ledger.clone();
                let len = mix(seed * 4 + source) % 7;
                (0..len).map(move |i| items.track(source * 100 + i))
            });
            let merged = merge(sources).buffer(seed as usize % 3 + 1);
            drop(merged.take(taken).collect::<Vec<_>>());
            ledger.assert_dropped_once();
            fanfold::testing::assert_quiescent();
        });
    }
}

// ---- priorities

#[test]
fn strict_priority_yields_the_higher_source_first() {
    within(SOON, || {
        let (low, high) = (Counter::new(), Counter::new());
        let wait = high.clone();
        let urgent = counted(0..100, &high).map(|_| "urgent");
        // The first is held back until the urgent ones are there.
        let rest = counted(0..100, &low).map(move |_| (wait.wait_for(100), "rest").1);
        let merged = Merge::new().source(urgent).source(rest).buffer(200);
        let mut merged = merged.strict_priority();
        assert_eq!(merged.next(), Some("urgent"));
        high.wait_for(100);
        low.wait_for(100);
        settle();
        let order: Vec<_> = merged.collect();
        assert!(order[..99].iter().all(|what| *what == "urgent"));
        assert!(order[99..].iter().all(|what| *what == "rest"));
    });
}

#[test]
fn each_source_gets_its_weight_in_every_round() {
    within(SOON, || {
        let full = Counter::new();
        let weights = [1, 2, 5];
        let mut merged = Merge::new().buffer(400);
        for (source, weight) in weights.into_iter().enumerate() {
            let items = counted(0..400, &full).map(move |_| source);
            merged = merged.source_with(items, SourceOptions::new().weight(weight));
        }
        merged.next();
        full.wait_for(1_200);
        settle();
        // The first round may have begun before all items were there.
        let order: Vec<_> = merged.skip(7).collect();
        for round in order.chunks(8).take(70) {
            let shares = [0, 1, 2].map(|s| round.iter().filter(|&&source| source == s).count());
            assert_eq!(shares, [1, 2, 5], "{order:?}");
        }
        // The sources that remain share the last rounds.
        assert_eq!(order.len(), 1_200 - 8);
    });
}

// ---- timeouts

#[test]
fn a_source_that_is_silent_for_too_long_is_dropped_and_named() {
    within(SOON, || {
        let dropped = Arc::new(AtomicBool::new(false));
        let flag = Flag(Arc::clone(&dropped));
        let silent = (0..3).chain(listens()).inspect(move |_| {
            let _held = &flag;
        });
        let limit = Duration::from_millis(20);
        let mut merged = Merge::new()
            .source(10..13)
            .source_with(silent, SourceOptions::new().named("sensor").timeout(limit));
        let report = merged.report();
        assert_eq!(report.live(), 2);
        let mut all: Vec<_> = merged.by_ref().collect();
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2, 10, 11, 12]);
        assert_eq!(
            (report.live(), report.timed_out()),
            (0, vec![String::from("sensor")])
        );
        assert_eq!(merged.next(), None);
        drop(merged);
        assert!(dropped.load(SeqCst));
        fanfold::testing::assert_quiescent();
    });
}

/// The drops of two sources panic where only the drop of the merge can raise it, and the losing payload
/// cancels the merge when it is dropped.
#[test]
fn a_losing_payload_may_cancel_the_merge() {
    struct Cancels(CancelToken);
    impl Drop for Cancels {
        fn drop(&mut self) {
            self.0.cancel();
        }
    }
    struct Held(CancelToken, Counter);
    impl Drop for Held {
        fn drop(&mut self) {
            self.1.add();
            std::panic::resume_unwind(Box::new(Cancels(self.0.clone())));
        }
    }
    within(SOON, || {
        let (token, dropped) = (CancelToken::new(), Counter::new());
        let silent = || {
            let held = Held(token.clone(), dropped.clone());
            listens().inspect(move |_: &u8| {
                let _held = &held;
            })
        };
        let short = || SourceOptions::new().timeout(Duration::from_millis(5));
        let mut merge = Merge::new()
            .source_with(silent(), short())
            .source_with(silent(), short())
            .source(std::iter::from_fn({
                let dropped = dropped.clone();
                move || (dropped.wait_for(2), None).1
            }))
            .cancel_on(&token);
        assert_eq!(merge.next(), None);
        let raised = payload(|| drop(merge)).expect_err("a panic");
        assert!(raised.is::<Cancels>());
    });
}

#[test]
fn the_timeout_restarts_per_item_and_pauses_while_full() {
    within(SOON, || {
        let limit = slow(Duration::from_secs(1));
        let slow = (0..60).inspect(|_| std::thread::sleep(Duration::from_millis(20)));
        let options = SourceOptions::new().timeout(limit).buffer(1);
        let mut merged = Merge::new().source_with(slow, options);
        let report = merged.report();
        let taken = merged.by_ref().inspect(|i| {
            if *i == 0 {
                std::thread::sleep(limit + limit / 4);
            }
        });
        assert_eq!(taken.count(), 60);
        assert!(report.timed_out().is_empty());
    });
}

#[test]
fn a_late_item_is_not_taken_even_if_next_was_not_called() {
    within(SOON, || {
        let late = Counter::new();
        let tell = late.clone();
        let source = (0..5).inspect(move |i| {
            if *i == 2 {
                std::thread::sleep(Duration::from_millis(50));
                tell.add();
            }
        });
        let options = SourceOptions::new().timeout(Duration::from_millis(5));
        let mut merged = Merge::new().source_with(source, options);
        let report = merged.report();
        assert_eq!(merged.next(), Some(0));
        late.wait_for(1);
        settle();
        assert!(merged.eq([1]));
        assert_eq!(report.timed_out(), ["source 0"]);
    });
}

#[test]
fn many_timeouts_at_once_lose_nothing_of_the_others() {
    within(SOON, || {
        let mut merged = Merge::new();
        for i in 0..40_u64 {
            let options = SourceOptions::new().timeout(Duration::from_millis(1 + i % 7));
            let source = (0..i).chain(listens());
            merged = merged
                .source_with(source, options)
                .source(100 * i..100 * i + i);
        }
        let report = merged.report();
        let patient = merged.filter(|item| *item >= 100).count();
        assert_eq!(patient, (0..40).sum::<usize>());
        assert_eq!((report.live(), report.timed_out().len()), (0, 40));
    });
}

// ---- the handle

#[test]
fn a_handle_adds_sources_and_its_drop_ends_the_merge() {
    within(SOON, || {
        let mut merged = Merge::new().source(0..1);
        let handle = merged.handle();
        let report = merged.report();
        let adder = std::thread::spawn(move || {
            for i in 1..50 {
                handle.clone().add([i]).expect("it runs");
            }
            settle();
            handle.add([50]).expect("it waits for the handle");
        });
        let mut all: Vec<_> = merged.by_ref().collect();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..51));
        assert_eq!(report.live(), 0);
        adder.join().expect("no panic");
        fanfold::testing::assert_quiescent();
    });
}

#[test]
fn a_merge_that_is_over_or_dropped_gives_sources_back() {
    within(SOON, || {
        let ledger = Ledger::new();
        let mut merged: Merge<u64> = Merge::new();
        let handle = merged.handle();
        let items = ledger.clone();
        handle
            .add((0..5).map(move |i| items.track(i).id))
            .expect("it has not begun");
        drop(merged);
        assert!(handle.add(0..3).expect_err("it is gone").eq(0..3));

        let mut running: Merge<u64> = Merge::new().source(0..);
        let handle: MergeHandle<u64> = running.handle();
        running.next();
        drop(running);
        assert!(handle.add(0..3).is_err());
        fanfold::testing::assert_quiescent();
    });
}

// ---- threads

#[test]
fn max_threads_limits_the_threads_of_all_sources() {
    for threads in 1..=5 {
        within(SOON, move || {
            let meter = Meter::new();
            let sources = (0..20).map(|_| {
                let meter = meter.clone();
                (0..20).inspect(move |_| drop(meter.enter()))
            });
            let merged = merge(sources).max_threads(threads).buffer(2);
            assert_eq!(merged.count(), 400);
            assert!(meter.most() <= threads);
        });
    }
}

#[test]
fn few_threads_serve_many_sources_that_trickle() {
    within(SOON, || {
        // Each waits for the one before it: a thread that stayed with one source would be stuck.
        let sources = (0..10).map(|i| (0..50).map(move |k| (i, k)));
        let mut next = [0; 10];
        for (i, k) in merge(sources).max_threads(2).buffer(50) {
            assert_eq!(next[i], k);
            next[i] += 1;
        }
        assert_eq!(next, [50; 10]);
    });
}

#[test]
fn a_silent_source_leaves_the_other_thread_to_the_rest() {
    within(SOON, || {
        let gate = Gate::new();
        let quick = (0..4).map(|i| i * 10..i * 10 + 10);
        let mut merged = Merge::new().source(blocks(&gate)).max_threads(2);
        for source in quick {
            merged = merged.source(source);
        }
        let _open = gate.opener();
        assert_eq!(merged.by_ref().take(40).count(), 40);
        gate.open();
        assert_eq!(merged.next(), None);
    });
}

#[test]
fn two_thousand_sources() {
    within(SOON, || {
        let meter = Meter::new();
        let sources = (0..2_000_u64).map(|i| {
            let meter = meter.clone();
            (0..5).inspect(move |k| {
                if *k == 0 {
                    meter.meet(2_000);
                }
                assert!(i < 2_000);
            })
        });
        // Stacks small enough for a 32-bit address space.
        let pool = Pool::builder().stack_size(256 << 10).build();
        let mut merged = merge(sources).on(&pool);
        let report = merged.report();
        assert_eq!(report.live(), 2_000);
        assert_eq!(merged.by_ref().count(), 10_000);
        assert_eq!(report.live(), 0);
        fanfold::testing::assert_quiescent();
    });
}

#[test]
fn without_a_thread_the_consumer_pulls_them_all() {
    let none = Pool::builder().stack_size(usize::MAX / 4 * 3).build();
    within(SOON, move || {
        let mut all: Vec<u32> = merge([0..40, 40..50, 50..60]).on(&none).collect();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..60));
        fanfold::testing::assert_quiescent();
    });
}

// ---- with other operators

#[test]
fn a_merge_goes_before_and_after_stages() {
    for n in 1..=9 {
        within(SOON, move || {
            use fanfold::Fanfold;
            let stages = (0..3).map(|s| (0..100).par_map_ordered(n, move |i| s * 100 + i));
            let mut all: Vec<u64> = merge(stages).par_map_ordered(n, |i| i).collect();
            all.sort_unstable();
            assert!(all.into_iter().eq(0..300));
            fanfold::testing::assert_quiescent();
        });
    }
}

#[test]
fn the_end_of_a_stage_ends_a_merge_that_waits_in_its_source() {
    within(SOON, || {
        let merged = Merge::new().source(listens()).source(0..1);
        let mut stage = merged.par_map_ordered(2, |i: u64| i);
        assert_eq!(stage.next(), Some(0));
        settle();
        drop(stage);
        fanfold::testing::assert_quiescent();
    });
}

#[test]
fn borrowed_sources_in_a_scope_forgotten_or_not() {
    within(SOON, || {
        let words = [vec!["to", "be"], vec!["or"]].map(|w| w.into_iter().map(String::from));
        let words: Vec<Vec<String>> = words.into_iter().map(Iterator::collect).collect();
        assert_eq!(merge(words.iter()).count(), 3);
        fanfold::scope(|s| {
            let mut lengths: Vec<_> = merge(words.iter()).within(s).map(String::len).collect();
            lengths.sort_unstable();
            assert_eq!(lengths, [2, 2, 2]);
            let mut forgotten = merge(words.iter().map(|w| w.iter().cycle())).within(s);
            forgotten.next();
            std::mem::forget(forgotten);
        });
        fanfold::testing::assert_quiescent();
    });
}

#[test]
fn the_report_counts_live_sources_while_the_merge_runs() {
    within(SOON, || {
        let (gate, seen) = (Gate::new(), Counter::new());
        let mut merged = Merge::new().source(0..10).source(blocks(&gate));
        let report = merged.report();
        let _open = gate.opener();
        let watch = std::thread::spawn({
            let (seen, gate) = (seen.clone(), gate.clone());
            move || {
                assert_eq!(report.live(), 2);
                seen.add();
                eventually("one is left", || report.live() == 1);
                gate.open();
                eventually("none is left", || report.live() == 0);
            }
        });
        seen.wait_for(1);
        assert_eq!(merged.by_ref().count(), 10);
        watch.join().expect("no panic");
    });
}

#[test]
fn the_hint_is_true() {
    let mut merged = merge([0..3, 0..4]);
    for left in (0..=7).rev() {
        assert_eq!(merged.size_hint(), (left, Some(left)));
        merged.next();
    }
    let mut open = merge([[1, 2, 3]]);
    let handle = open.handle();
    assert_eq!(open.size_hint(), (3, None));
    drop(handle);
    let patient = SourceOptions::new().timeout(SOON);
    let timed = Merge::new().source_with(0..3, patient);
    assert_eq!(timed.size_hint(), (0, Some(3)));
}

#[test]
fn zeros_panic_with_the_fix() {
    assert!(message(|| merge([[1]]).max_threads(0)).contains("leave max_threads out"));
    assert!(message(|| SourceOptions::new().weight(0)).contains("at least 1"));
    assert!(message(|| SourceOptions::new().buffer(0)).contains("buffer(1)"));
    let zero = || SourceOptions::new().timeout(Duration::ZERO);
    assert!(message(zero).contains("leave it out"));
}
