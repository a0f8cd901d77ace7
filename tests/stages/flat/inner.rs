//! `par_flat_map` and `try_par_flat_map`: inner iterators that stream, their bound, and their ends.

use crate::support::{
    Bang, Counter, Gate, Ledger, Meter, SOON, bang, barren, blocks, caught, counted, listens,
    message, mix, settle, within,
};
use fanfold::{CancelToken, Fanfold, Permits, Pool};
use quickcheck::quickcheck;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread::ThreadId;

/// Widths with bounds, and without one.
fn widths() -> impl Iterator<Item = (usize, Option<usize>)> {
    (1..=9).flat_map(|n| [None, Some(1), Some(2), Some(7), Some(64)].map(|k| (n, k)))
}

// ---- the outputs of the head

#[test]
fn each_output_of_the_head_is_out_before_the_next_one_is_made() {
    for (n, k) in widths() {
        within(SOON, move || {
            let received = Counter::new();
            let told = received.clone();
            // Each one is made when the one before it has been received; the items behind are endless.
            let outputs = move |item: usize| {
                let told = told.clone();
                let most = if item == 0 { 50 } else { usize::MAX };
                (0..most).inspect(move |&i| {
                    if item == 0 {
                        told.wait_for(i);
                    }
                })
            };
            let stage = bounded!((0..).par_flat_map(n, outputs), k);
            for (i, output) in stage.take(50).enumerate() {
                assert_eq!(output, i);
                received.add();
            }
        });
    }
}

#[test]
fn the_next_item_streams_when_the_head_has_ended() {
    for (n, k) in widths() {
        within(SOON, move || {
            let received = Counter::new();
            let told = received.clone();
            let outputs = move |item: usize| {
                let told = told.clone();
                // Of the second half no output is made before the one before it was received.
                let wait = move |&i: &usize| {
                    if i % 10 >= 5 {
                        told.wait_for(i);
                    }
                };
                (item * 10..item * 10 + 10).inspect(wait)
            };
            let stage = bounded!((0..9).par_flat_map(n, outputs), k);
            for (i, output) in stage.enumerate() {
                assert_eq!(output, i);
                received.add();
            }
            assert_eq!(received.get(), 90);
        });
    }
}

#[test]
fn a_source_that_blocks_holds_no_output_up() {
    for (n, k) in widths() {
        within(SOON, move || {
            let gate = Gate::new();
            let source = (0..5_u64).chain(blocks(&gate));
            let mut stage = bounded!(source.par_flat_map(n, |i| vec![i; i as usize]), k);
            let _opener = gate.opener();
            let want = (0..5).flat_map(|i| vec![i; i as usize]);
            assert!(stage.by_ref().take(10).eq(want));
            gate.open();
            assert_eq!(stage.next(), None);
        });
    }
}

#[test]
fn later_iterators_run_ahead_while_the_head_is_stuck() {
    for n in 2..=9 {
        within(SOON, move || {
            let (gate, made) = (Gate::new(), Counter::new());
            let (wait, count) = (gate.clone(), made.clone());
            let outputs = move |item: usize| {
                let (wait, count) = (wait.clone(), count.clone());
                (0..3).map(move |i| {
                    if item == 0 {
                        wait.wait();
                    } else {
                        count.add();
                    }
                    (item, i)
                })
            };
            // A share is four outputs. Finished ones wait until the bound is full, to the last output.
            let most = 8 * n;
            let stage = (0..100).par_flat_map(n, outputs).in_flight(most + 1);
            let consumer = std::thread::spawn(move || stage.collect::<Vec<_>>());
            let _opener = gate.opener();
            made.wait_for(most);
            settle();
            assert_eq!(made.get(), most, "n = {n}");
            gate.open();
            let want = (0..100).flat_map(|item| (0..3).map(move |i| (item, i)));
            assert!(want.eq(consumer.join().expect("no panic")));
        });
    }
}

#[test]
fn an_endless_iterator_leaves_room_for_the_others() {
    for n in 3..=9 {
        within(SOON, move || {
            let (gate, ran) = (Gate::new(), Counter::new());
            let (wait, count) = (gate.clone(), ran.clone());
            let outputs = move |item: usize| {
                let (wait, count) = (wait.clone(), count.clone());
                let most = if item == 1 { usize::MAX } else { 1 };
                (0..most).inspect(move |_| match item {
                    0 => wait.wait(),
                    1 => {}
                    _ => drop(count.add()),
                })
            };
            let mut stage = (0..20).par_flat_map(n, outputs).in_flight(80);
            let _opener = gate.opener();
            let opener = gate.clone();
            let watch = std::thread::spawn(move || {
                // All of the others, behind the endless one.
                ran.wait_for(18);
                opener.open();
            });
            assert_eq!(stage.next(), Some(0));
            watch.join().expect("no panic");
            assert!(stage.take(1_000).eq(0..1_000));
        });
    }
}

// ---- the bound

#[test]
fn outputs_and_items_count() {
    for (n, k) in (1..=9).flat_map(|n| [1, 2, 3, 8, 20].map(move |k| (n, k))) {
        within(SOON, move || {
            let (made, yielded) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let worst = Arc::new(AtomicUsize::new(0));
            let outputs = {
                let (made, yielded, worst) = (made.clone(), yielded.clone(), worst.clone());
                move |item: u64| {
                    let (made, yielded, worst) = (made.clone(), yielded.clone(), worst.clone());
                    (0..mix(item) % 12).inspect(move |_| {
                        // In this order: what is yielded in between makes it less.
                        let made = made.fetch_add(1, SeqCst) + 1;
                        worst.fetch_max(made.saturating_sub(yielded.load(SeqCst)), SeqCst);
                    })
                }
            };
            let stage = (0..400).par_flat_map(n, outputs).in_flight(k);
            for _ in stage {
                yielded.fetch_add(1, SeqCst);
            }
            // One more: it has been yielded, and not been counted.
            let worst = worst.load(SeqCst);
            assert!(worst <= k + 1, "{worst} held, n = {n}, k = {k}");
            assert!(
                n == 1 || k < 8 || worst > 1,
                "never ahead: n = {n}, k = {k}"
            );
        });
    }
}

#[test]
fn items_without_outputs_count_until_their_turn() {
    for (n, k) in (2..=9).flat_map(|n| [1, 2, 3, 8, 20].map(move |k| (n, k))) {
        within(SOON, move || {
            let (gate, pulls) = (Gate::new(), Counter::new());
            let wait = gate.clone();
            let outputs = move |item: usize| {
                if item == 0 {
                    wait.wait();
                }
                (item == 99).then_some(item)
            };
            let mut stage = counted(0..100, &pulls)
                .par_flat_map(n, outputs)
                .in_flight(k);
            let _opener = gate.opener();
            let (opener, count) = (gate.clone(), pulls.clone());
            let watch = std::thread::spawn(move || {
                count.wait_for(k);
                settle();
                let pulled = count.get();
                opener.open();
                pulled
            });
            assert_eq!(stage.next(), Some(99));
            assert_eq!(watch.join().expect("no panic"), k, "n = {n}");
            assert_eq!(stage.next(), None);
        });
    }
}

#[test]
fn n_iterators_run_at_once_and_no_more() {
    for n in 1..=9 {
        within(SOON, move || {
            let meter = Meter::new();
            let inside = meter.clone();
            let outputs = move |item: usize| {
                let inside = inside.clone();
                (0..2).map(move |i| {
                    inside.meet(n);
                    (item, i)
                })
            };
            let stage = (0..100).par_flat_map(n, outputs).in_flight(n);
            assert!(stage.eq((0..100).flat_map(|item| (0..2).map(move |i| (item, i)))));
            assert_eq!(meter.most(), n);
        });
    }
}

quickcheck! {
    fn it_is_flat_map(items: Vec<u8>, n: u8, k: u8, bounded: bool) -> bool {
        let (n, k) = (usize::from(n % 9) + 1, bounded.then_some(usize::from(k % 40) + 1));
        let outputs = |item: u8| (0..u64::from(item % 90)).map(move |i| (item, i));
        let want: Vec<_> = items.clone().into_iter().flat_map(outputs).collect();
        let stage = bounded!(items.into_iter().par_flat_map(n, outputs), k);
        stage.collect::<Vec<_>>() == want
    }
}

// ---- panics

/// Panics in place of this output.
fn breaks(item: u64, at: u64) -> impl Iterator<Item = u64> + Send {
    (0..5).map(move |i| {
        if (item, i) == (6, at) {
            bang(i)
        } else {
            item * 5 + i
        }
    })
}

#[test]
fn a_panic_comes_behind_the_outputs_before_it() {
    for ((n, k), at) in widths().flat_map(|with| (0..5).map(move |at| (with, at))) {
        within(SOON, move || {
            let opened = Counter::new();
            let count = opened.clone();
            let outputs = move |item| {
                count.add();
                breaks(item, at)
            };
            let mut stage = bounded!((0..).par_flat_map(n, outputs), k);
            let before = 30 + at;
            assert!(stage.by_ref().take(before as usize).eq(0..before));
            assert_eq!(caught(|| stage.next()), Err(at));
            assert_eq!(stage.next(), None);
            drop(stage);
        });
    }
}

/// Panics when it is dropped, and its outputs are as many as its number.
struct Bomb(u64);

impl Iterator for Bomb {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.0 = self.0.checked_sub(1)?;
        Some(self.0)
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        bang(77);
    }
}

#[test]
fn a_panic_in_the_drop_of_an_iterator_comes_behind_its_outputs() {
    for (n, k) in widths() {
        within(SOON, move || {
            let mut stage = bounded!([3, 5].into_iter().par_flat_map(n, Bomb), k);
            assert!(stage.by_ref().take(3).eq([2, 1, 0]));
            assert_eq!(caught(|| stage.next()), Err(77));
            assert_eq!(stage.next(), None);
            // The other one may have been stopped in the middle.
            let _ = caught(|| drop(stage));
        });
    }
}

#[test]
fn an_iterator_that_panics_and_panics_in_its_drop_aborts_nothing() {
    struct Both;
    impl Iterator for Both {
        type Item = u64;
        fn next(&mut self) -> Option<u64> {
            bang(1)
        }
    }
    impl Drop for Both {
        fn drop(&mut self) {
            bang(2);
        }
    }
    within(SOON, || {
        let mut stage = (0..3).par_flat_map(2, |_| Both);
        assert_eq!(caught(|| stage.next()), Err(1));
        assert_eq!(stage.next(), None);
    });
}

#[test]
fn isolated_panics_are_outputs_and_the_others_go_on() {
    for (n, k) in widths() {
        within(SOON, move || {
            let stage = (0..20).par_flat_map(n, |item| breaks(item, 3)).isolate();
            let stage = bounded!(stage, k);
            let got: Vec<_> = stage
                .map(|output| output.map_err(|why| why.seq()))
                .collect();
            let all = (0..20).flat_map(|item| (0..5).map(move |i| (item, i)));
            let want = all
                .filter(|at| *at != (6, 4))
                .map(|(item, i)| match (item, i) {
                    (6, 3) => Err(6),
                    _ => Ok(item * 5 + i),
                });
            assert!(got.into_iter().eq(want));
        });
    }
}

#[test]
fn a_failure_stops_the_iterators_behind_it_and_no_other() {
    for n in 2..=9 {
        within(SOON, move || {
            let (gate, made) = (Gate::new(), Counter::new());
            let (wait, count) = (gate.clone(), made.clone());
            let outputs = move |item: usize| {
                let (wait, count) = (wait.clone(), count.clone());
                let outputs = std::iter::repeat_with(move || match item {
                    0 => {
                        wait.wait();
                        item
                    }
                    1 => bang(1),
                    // It hears its token, as the failure is before it; or it has not been opened.
                    _ => {
                        CancelToken::current().wait();
                        count.add();
                        item
                    }
                });
                outputs.take(if item == 0 { 50 } else { usize::MAX })
            };
            let mut stage = (0..n).par_flat_map(n, outputs);
            let _opener = gate.opener();
            let opener = gate.clone();
            // The head is let go only when all others have stopped.
            let others = made.clone();
            let watch = std::thread::spawn(move || {
                settle();
                let heard = others.get();
                opener.open();
                heard
            });
            assert_eq!(stage.by_ref().take(50).sum::<usize>(), 0);
            assert_eq!(caught(|| stage.next()), Err(1));
            assert!(watch.join().expect("no panic") <= n - 2);
            drop(stage);
            assert!(made.get() <= n - 2, "asked again after the failure");
        });
    }
}

// ---- errors

#[test]
fn the_first_error_by_position_ends_the_stage() {
    for (n, k) in widths() {
        within(SOON, move || {
            // Items 3, 5 and 7 have one; that of 5 comes first in time.
            let late = Gate::new();
            let outputs = {
                let late = late.clone();
                move |item: u64| {
                    let late = late.clone();
                    if item == 7 {
                        return Err((7, 0));
                    }
                    Ok((0..4).map(move |i| match (item, i) {
                        (5, 1) => {
                            late.open();
                            Err((item, i))
                        }
                        (3, 2) => {
                            if n > 5 && k.is_none() {
                                late.wait();
                            }
                            Err((item, i))
                        }
                        _ => Ok((item, i)),
                    }))
                }
            };
            let mut stage = bounded!((0..).try_par_flat_map(n, outputs), k);
            let got: Vec<_> = stage.by_ref().collect();
            let all = (0..4).flat_map(|item| (0..4).map(move |i| (item, i)));
            let want = all.map(|at| if at == (3, 2) { Err(at) } else { Ok(at) });
            assert!(got.into_iter().eq(want.take(15)));
            assert_eq!(stage.next(), None);
            assert!(!stage.is_cut_short());
        });
    }
}

#[test]
fn an_error_of_the_closure_stands_for_its_outputs() {
    within(SOON, || {
        let outputs = |item: u8| match item {
            2 => Err("two"),
            _ => Ok([Ok(item), Ok(item)]),
        };
        let got: Vec<_> = (0..9).try_par_flat_map(3, outputs).collect();
        assert_eq!(got, [Ok(0), Ok(0), Ok(1), Ok(1), Err("two")]);
        let all: Result<Vec<_>, _> = (0..2).try_par_flat_map(3, outputs).collect();
        assert_eq!(all, Ok(vec![0, 0, 1, 1]));
    });
}

// ---- drops and stops

#[test]
fn a_drop_in_the_middle_drops_everything_once() {
    for ((n, k), taken) in widths().flat_map(|with| [0, 1, 7, 40].map(move |t| (with, t))) {
        within(SOON, move || {
            let (ledger, opened) = (Ledger::new(), Counter::new());
            let (items, dropped) = (ledger.clone(), Counter::new());
            let (here, gone, count) =
                (std::thread::current().id(), dropped.clone(), opened.clone());
            let outputs = move |item: u64| {
                count.add();
                // With a small bound the consumer may run it.
                let guard = (gone.on_drop(), k.is_none().then(|| Elsewhere(here)));
                let items = items.clone();
                (0..mix(item) % 9 * 5).map(move |i| {
                    let _guard = &guard;
                    items.track(item * 100 + i)
                })
            };
            let mut stage = bounded!((0..).par_flat_map(n, outputs), k);
            assert_eq!(stage.by_ref().take(taken).count(), taken);
            drop(stage);
            ledger.assert_dropped_once();
            assert_eq!(dropped.get(), opened.get());
        });
    }
}

/// Must be dropped on another thread than this.
struct Elsewhere(ThreadId);

impl Drop for Elsewhere {
    fn drop(&mut self) {
        assert_ne!(std::thread::current().id(), self.0);
    }
}

#[test]
fn a_drop_reaches_an_iterator_that_waits() {
    for n in 1..=9 {
        within(SOON, move || {
            let inside = Counter::new();
            let count = inside.clone();
            let outputs = move |item: usize| {
                count.add();
                std::iter::once(item).chain(listens())
            };
            let mut stage = (0..n).par_flat_map(n, outputs);
            assert_eq!(stage.next(), Some(0));
            inside.wait_for(n);
            drop(stage);
        });
    }
}

#[test]
fn a_stage_inside_an_iterator_ends_with_the_outer_one() {
    for n in 1..=4 {
        within(SOON, move || {
            let inside = Counter::new();
            let count = inside.clone();
            // An inner stage, whose closures hear their tokens.
            let outputs = move |item: usize| {
                let count = count.clone();
                (0..5).par_map_ordered(2, move |i| {
                    if i == 1 {
                        count.add();
                        CancelToken::current().wait();
                    }
                    item * 10 + i
                })
            };
            let mut stage = (0..n).par_flat_map(n, outputs);
            assert_eq!(stage.next(), Some(0));
            inside.wait_for(n);
            drop(stage);
        });
    }
}

#[test]
fn stages_in_iterators_and_around_them() {
    for (n, k) in widths() {
        within(SOON, move || {
            let source = (0..20_u64).par_map_ordered(2, |i| i);
            let outputs = |item| (0..item).par_map_ordered(2, move |i| (item, i));
            let stage = bounded!(source.par_flat_map(n, outputs), k);
            let sums = stage.par_map_ordered(2, |(item, i)| item + i);
            assert!(sums.eq((0..20).flat_map(|item| (0..item).map(move |i| item + i))));
        });
    }
}

#[test]
fn a_cancelled_stage_yields_what_is_there_up_to_the_first_gap() {
    for n in 1..=9 {
        within(SOON, move || {
            let (token, made) = (CancelToken::new(), Counter::new());
            let (count, cancel) = (made.clone(), token.clone());
            let outputs = move |item: usize| {
                let (count, cancel) = (count.clone(), cancel.clone());
                (0..).inspect(move |&i| {
                    if item == 0 && count.add() == 11 {
                        cancel.cancel();
                    }
                    assert!(item > 0 || i <= 10, "asked after the cancellation");
                })
            };
            let mut stage = (0..).par_flat_map(n, outputs).cancel_on(&token);
            let got: Vec<_> = stage.by_ref().collect();
            // What was being made then counts too.
            assert!(got.into_iter().eq(0..=10));
            assert!(stage.is_cut_short());
        });
    }
}

#[test]
fn a_cancellation_passes_over_finished_items() {
    within(SOON, || {
        let (token, stuck, ran) = (CancelToken::new(), Gate::new(), Counter::new());
        let (wait, count) = (stuck.clone(), ran.clone());
        let outputs = move |item: usize| {
            if item == 0 {
                wait.wait();
            }
            count.add();
            let rest = (item == 3).then(|| {
                std::iter::from_fn(|| {
                    CancelToken::current().wait();
                    Some(9)
                })
            });
            [item; 2].into_iter().chain(rest.into_iter().flatten())
        };
        let mut stage = (0..4).par_flat_map(4, outputs).cancel_on(&token);
        let _opener = stuck.opener();
        let (opener, cancel) = (stuck.clone(), token.clone());
        let watch = std::thread::spawn(move || {
            ran.wait_for(3);
            settle();
            cancel.cancel();
            opener.open();
        });
        let got: Vec<_> = stage.by_ref().collect();
        watch.join().expect("no panic");
        // The head was in its closure, and was not asked for an output after the cancellation.
        assert!(got.is_empty(), "{got:?}");
        assert!(stage.is_cut_short());
    });
}

#[test]
fn a_drained_stage_runs_what_was_pulled_to_its_end() {
    for n in 1..=9 {
        within(SOON, move || {
            let (token, pulls) = (CancelToken::new(), Counter::new());
            let outputs = |item: u64| vec![item; 30];
            let mut stage = counted(0.., &pulls)
                .par_flat_map(n, outputs)
                .in_flight(40)
                .drain_on(&token);
            assert_eq!(stage.next(), Some(0));
            token.cancel();
            let got: Vec<_> = std::iter::once(0).chain(stage.by_ref()).collect();
            let pulled = pulls.get() as u64;
            assert!(
                got.into_iter()
                    .eq((0..pulled).flat_map(|item| vec![item; 30]))
            );
            assert!(stage.is_cut_short());
        });
    }
}

// ---- permits, threads, sources

#[test]
fn a_wait_for_room_holds_no_permit() {
    for (n, permits) in (1..=9).flat_map(|n| [1, 2].map(move |k| (n, k))) {
        within(SOON, move || {
            let (meter, limit) = (Meter::new(), Permits::new(permits));
            let inside = meter.clone();
            let outputs = move |item: usize| {
                let inside = inside.clone();
                (0..50).map(move |i| {
                    let _entered = inside.enter();
                    (item, i)
                })
            };
            // Bounds that the first items to run fill at once.
            for k in [1, n, 3 * n] {
                let stage = (0..12).par_flat_map(n, outputs.clone());
                let stage = stage.in_flight(k).limited_by(&limit);
                assert!(stage.eq((0..12).flat_map(|item| (0..50).map(move |i| (item, i)))));
            }
            assert!(meter.most() <= permits);
            assert!(limit.try_acquire(permits).is_some(), "a permit was kept");
        });
    }
}

#[test]
fn without_a_thread_the_consumer_makes_one_output_after_the_other() {
    for (n, k) in widths() {
        within(SOON, move || {
            let made = Counter::new();
            let count = made.clone();
            let outputs = move |item: usize| {
                let count = count.clone();
                let most = if item == 2 { usize::MAX } else { item };
                (0..most).map(move |i| {
                    count.add();
                    (item, i)
                })
            };
            let stage = (0..9).par_flat_map(n, outputs).on(&barren());
            let mut stage = bounded!(stage, k);
            let want = std::iter::once((1, 0)).chain((0..).map(|i| (2, i)));
            assert!(stage.by_ref().take(30).eq(want.take(30)));
            assert_eq!(made.get(), 30);
            // The consumer is another thread now.
            let rest = std::thread::spawn(move || stage.next());
            assert_eq!(rest.join().ok().flatten(), Some((2, 29)));
        });
    }
}

#[test]
fn with_fewer_threads_than_items_all_come() {
    for (n, k) in widths() {
        within(SOON, move || {
            let pool = Pool::builder().max_threads(1 + n / 2).build();
            let outputs = |item: u64| (0..mix(item) % 40).map(move |i| (item, i));
            let stage = (0..40).par_flat_map(n, outputs).on(&pool);
            let stage = bounded!(stage, k);
            assert!(stage.eq((0..40).flat_map(outputs)));
        });
    }
}

#[test]
fn a_local_source() {
    for (n, k) in widths() {
        within(SOON, move || {
            let here = std::thread::current().id();
            let source = (0..40_u64).inspect(|_| assert_eq!(std::thread::current().id(), here));
            let outputs = |item: u64| (0..mix(item) % 40).map(move |i| (item, i));
            let stage = bounded!(source.local().par_flat_map(n, outputs), k);
            let got: Vec<_> = stage.collect();
            assert!(got.into_iter().eq((0..40).flat_map(outputs)));
        });
    }
}

#[test]
fn a_cancelled_local_stage_ends() {
    for n in 1..=4 {
        within(SOON, move || {
            let token = CancelToken::new();
            let cancel = token.clone();
            let source = (0..).inspect(move |&i| {
                if i == 9 {
                    cancel.cancel();
                }
            });
            let stage = source
                .local()
                .par_flat_map(n, |i: usize| [i; 3])
                .cancel_on(&token);
            let got: Vec<_> = stage.collect();
            assert!(got.len() <= 30);
        });
    }
}

#[test]
fn a_stage_that_borrows() {
    let docs = ["a b".to_string(), "c".to_string()];
    let words: Vec<&str> = docs.iter().par_flat_map(2, |doc| doc.split(' ')).collect();
    assert_eq!(words, ["a", "b", "c"]);
}

#[test]
fn zero_workers_are_told_what_to_write() {
    let zero = || (0..3).par_flat_map(0, |i| [i]);
    assert!(message(zero).contains('1'));
    let payload =
        std::panic::catch_unwind(|| drop((0..3).try_par_flat_map(0, |i| Ok::<_, ()>([Ok(i)]))));
    assert!(payload.is_err_and(|payload| payload.downcast_ref::<Bang>().is_none()));
}

/// A worker that waits for a place gets one that the consumer frees, although the consumer comes to its item last.
#[test]
fn a_free_place_goes_to_a_worker_that_waits_for_one() {
    for _ in 0..20 {
        within(SOON, || {
            let (pulls, gate) = (Counter::new(), Gate::new());
            let wait = gate.clone();
            let open = move |item| {
                if item == 2 {
                    wait.wait();
                }
                [item]
            };
            let mut stage = counted(0.., &pulls).par_flat_map(2, open).in_flight(4);
            let _opener = gate.opener();
            assert_eq!(stage.next(), Some(0));
            // Items 1 and 3 have ended, 2 is stuck, and 4 has no place in which its end would be seen.
            pulls.wait_for(5);
            settle();
            assert_eq!(stage.next(), Some(1));
            pulls.wait_for(6);
        });
    }
}

/// The consumer pulls a local source. When an inner iterator ends and gives a place back, it is to pull on, although the
/// head is stuck.
#[test]
fn a_place_that_is_given_back_lets_a_local_source_go_on() {
    within(SOON, || {
        let (pulls, asked) = (Counter::new(), Gate::new());
        let (end, stuck) = (Gate::new(), Gate::new());
        let source = counted(0.., &pulls).inspect({
            let asked = asked.clone();
            // Until item 1 has its second place.
            move |item| {
                if *item == 2 {
                    asked.wait();
                }
            }
        });
        let outputs = {
            let (end, stuck) = (end.clone(), stuck.clone());
            move |item: u64| {
                if item != 1 {
                    stuck.wait();
                }
                let (asked, end) = (asked.clone(), end.clone());
                let no_more = std::iter::from_fn(move || {
                    asked.open();
                    end.wait();
                    None
                });
                std::iter::once(item).chain(no_more)
            }
        };
        let consumer = std::thread::spawn(move || {
            let stage = source.local().par_flat_map(2, outputs).in_flight(8);
            stage.take(20).eq(0..20)
        });
        let _opener = stuck.opener();
        // There are eight places, of which item 1 has two.
        pulls.wait_for(7);
        settle();
        assert_eq!(pulls.get(), 7);
        end.open();
        pulls.wait_for(8);
        stuck.open();
        assert!(consumer.join().is_ok_and(|all| all));
    });
}
