//! P5: everything before the first error in input order, then that error, then nothing; the same
//! error on every run; admission stops at the first failure seen.

use crate::support::{
    Counter, Gate, SOON, calls_counted, counted, dawdle, mix, settle, spin, within,
};
use fanfold::{CancelToken, Fanfold};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Several items fail, at random: about one in eight, but never the first three.
fn fails(run: u64, i: u64) -> bool {
    i > 2 && mix(run << 32 ^ i) % 8 == 0
}

#[test]
fn the_first_error_by_index_on_every_one_of_1000_runs() {
    for run in 0..1_000 {
        let n = 1 + (run % 9) as usize;
        within(SOON, move || {
            let mut stage = (0..60).try_par_map_ordered(n, move |i| {
                dawdle(run << 16 ^ i);
                if fails(run, i) { Err(i) } else { Ok(i) }
            });
            let first = (0..60).find(|&i| fails(run, i));
            let before = first.unwrap_or(60);
            assert!(stage.by_ref().take(before as usize).eq((0..before).map(Ok)));
            assert_eq!(stage.next(), first.map(Err), "run {run}");
            for _ in 0..3 {
                assert_eq!(stage.next(), None);
            }
        });
    }
}

#[test]
fn the_first_error_wins_though_a_later_one_came_earlier() {
    for n in 2..=9 {
        within(SOON, move || {
            let later = Gate::new();
            let ours: Vec<_> = (0..20)
                .try_par_map_ordered(n, |i| match i {
                    0 => {
                        later.wait();
                        Err(i)
                    }
                    1 => {
                        later.open();
                        Err(i)
                    }
                    _ => Ok(i),
                })
                .collect();
            assert_eq!(ours, [Err(0)]);
        });
    }
}

#[test]
fn everything_before_the_error_comes_out_though_it_ends_later() {
    for n in 2..=9 {
        within(SOON, move || {
            let failed = Gate::new();
            let ours: Vec<_> = (0..20)
                .try_par_map_ordered(n, |i| match i {
                    0 => {
                        failed.wait();
                        Ok(i)
                    }
                    1 => {
                        failed.open();
                        Err(i)
                    }
                    _ => Ok(i),
                })
                .collect();
            assert_eq!(ours, [Ok(0), Err(1)]);
        });
    }
}

#[test]
fn an_infinite_source_ends_with_the_error() {
    for n in 1..=9 {
        within(SOON, move || {
            let run =
                || (0_u64..).try_par_map_ordered(n, |i| if i == 500 { Err(i) } else { Ok(i) });
            assert_eq!(run().count(), 501);
            assert_eq!(run().last(), Some(Err(500)));
        });
    }
}

/// The failure of a later item is enough: the head still runs when admission stops.
#[test]
fn a_later_failure_stops_admission_while_the_head_still_runs() {
    // a fourth worker, for the fourth pull
    for n in 4..=9 {
        within(SOON, move || {
            let (calls, head, fail, source) =
                (Counter::new(), Gate::new(), Gate::new(), Gate::new());
            let (running, tripped) = (Counter::new(), Gate::new());
            // three items are given out; the fourth pull blocks
            let items = (0_u64..).inspect({
                let source = source.clone();
                move |&i| {
                    if i == 3 {
                        source.wait();
                    }
                }
            });
            let stage = calls_counted(items, &calls).try_par_map_ordered(n, {
                let (head, fail) = (head.clone(), fail.clone());
                let (running, tripped) = (running.clone(), tripped.clone());
                move |i| {
                    running.add();
                    match i {
                        0 => head.wait(),
                        1 => {
                            fail.wait();
                            return Err(i);
                        }
                        2 => {
                            // an earlier item has failed: the tripped token shows that the stage has seen it
                            while !CancelToken::current().is_cancelled() {
                                std::thread::yield_now();
                            }
                            tripped.open();
                        }
                        _ => {}
                    }
                    Ok(i)
                }
            });
            let consumer = std::thread::spawn(move || stage.collect::<Vec<_>>());
            running.wait_for(3);
            calls.wait_for(4);
            fail.open();
            tripped.wait();
            source.open();
            settle();
            assert_eq!(calls.get(), 4, "no pull is begun after the failure");
            head.open();
            assert_eq!(consumer.join().expect("no panic"), [Ok(0), Err(1)]);
            assert_eq!(calls.get(), 4);
            assert!(running.get() <= 4);
        });
    }
}

/// The first item of a long chunk is being pulled when another item fails: it remains the last.
#[test]
fn a_chunk_that_is_being_pulled_ends_with_the_failure() {
    thread_local! {
        /// Whether this thread has run a closure since it was in the source.
        static RAN: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
    }
    for failing in 20..28 {
        within(SOON, move || {
            let (inside, hold, pulls) = (Gate::new(), Gate::new(), Counter::new());
            let source = (0_u64..).inspect({
                let (inside, hold) = (inside.clone(), hold.clone());
                move |&i| {
                    // A thread that has just run a closure comes for the first item of a chunk.
                    if RAN.take() && i >= 100 && !inside.is_open() {
                        inside.open();
                        hold.wait();
                    }
                }
            });
            let mut stage = calls_counted(source, &pulls)
                .try_par_map_ordered(2, move |i| {
                    RAN.set(true);
                    if i == failing {
                        inside.wait();
                        return Err(i);
                    }
                    Ok(i)
                })
                .in_flight(100_000);
            let _opener = hold.opener();
            let error = stage.by_ref().find_map(Result::err);
            assert_eq!(error, Some(failing));
            let pulled = pulls.get();
            hold.open();
            drop(stage);
            assert_eq!(pulls.get(), pulled);
        });
    }
}

#[test]
fn few_items_run_after_an_error() {
    for n in 1..=9 {
        within(SOON, move || {
            let (pulls, gone) = (Counter::new(), Gate::new());
            let ours: Vec<_> = counted(0_u64..1_000_000, &pulls)
                .try_par_map_ordered(n, |i| {
                    if i == 1 {
                        gone.open();
                        return Err(i);
                    }
                    if i > 1 {
                        gone.wait();
                        crate::support::spin(std::time::Duration::from_micros(20));
                    }
                    Ok(i)
                })
                .collect();
            assert_eq!(ours, [Ok(0), Err(1)]);
            assert!(pulls.get() < 5_000, "{} admitted", pulls.get());
        });
    }
}

/// A worker waits in an item, the first of its chunk, until the item before it has failed.
#[test]
fn a_chunk_behind_a_failure_starts_no_further_item() {
    thread_local!(static LAST: Cell<u64> = const { Cell::new(0) });
    for _ in 0..20 {
        within(SOON, || {
            // The last item so far, and the one that waits.
            let begun = Arc::new(Mutex::new((0, None::<(u64, CancelToken)>)));
            let known = Arc::new(AtomicBool::new(false));
            let behind = Counter::new();
            let stage = (0..).try_par_map_ordered(2, {
                let behind = behind.clone();
                move |i: u64| {
                    // Enough work that the consumer does not run everything itself.
                    spin(Duration::from_nanos(500));
                    if known.load(SeqCst) {
                        behind.add();
                    }
                    let begins = LAST.replace(i) + 1 != i;
                    let mut begun = begun.lock().unwrap();
                    let (last, waiting) = &mut *begun;
                    *last = i.max(*last);
                    match waiting {
                        Some((item, _)) if i + 1 == *item => return Err(i),
                        Some((item, goes_on)) if i > *item => {
                            goes_on.cancel(); // the items before it had already been run
                            *waiting = None;
                        }
                        // Behind a later item that has begun there may be none: all within the bound may have been run.
                        None if begins && i > 1_000 && i == *last => {
                            let current = CancelToken::current();
                            let goes_on = current.child();
                            *waiting = Some((i, goes_on.clone()));
                            drop(begun);
                            goes_on.wait();
                            known.fetch_or(current.is_cancelled(), SeqCst);
                        }
                        _ => {}
                    }
                    Ok(i)
                }
            });
            let failed = stage.map(Result::err).find_map(|error| error);
            assert!(failed.is_some_and(|i| i >= 1_000));
            assert_eq!(behind.get(), 0);
        });
    }
}

#[test]
fn a_stage_collects_into_a_result() {
    for n in 1..=9 {
        let run = |bad: u64| {
            (0..200).try_par_map_ordered(n, move |i| if i >= bad { Err(i) } else { Ok(i) })
        };
        let good: Result<Vec<u64>, u64> = run(1_000).collect();
        assert_eq!(good, Ok((0..200).collect()));
        let bad: Result<Vec<u64>, u64> = run(70).collect();
        assert_eq!(bad, Err(70));
        // through an ordinary iterator, without an adaptor of its own
        let bad: Result<u64, u64> = run(70).map(|result| result.map(|i| i * 2)).sum();
        assert_eq!(bad, Err(70));
        let plain = (0..200).par_map_ordered(n, |i| if i < 70 { Ok(i) } else { Err(i) });
        assert_eq!(plain.collect::<Result<Vec<u64>, u64>>(), Err(70));
    }
}

#[test]
fn an_error_in_the_middle_of_a_chain_is_the_first_one_too() {
    for run in 0..100 {
        let n = 1 + (run % 9) as usize;
        let ours: Result<Vec<u64>, u64> = within(SOON, move || {
            (0..60)
                .par_map_ordered(n, move |i| {
                    dawdle(run ^ i);
                    i
                })
                .try_par_map_ordered(n, move |i| if fails(run, i) { Err(i) } else { Ok(i) })
                .par_map_ordered(n, move |result| {
                    dawdle(run);
                    result
                })
                .collect()
        });
        let theirs = (0..60).map(|i| if fails(run, i) { Err(i) } else { Ok(i) });
        assert_eq!(ours, theirs.collect(), "run {run}");
    }
}

/// Without the order there is no first error by index, but there is one error, and it comes last.
#[test]
fn an_unordered_stage_ends_with_its_error() {
    for run in 0..100 {
        let n = 1 + (run % 9) as usize;
        let ours: Vec<Result<u64, u64>> = within(SOON, move || {
            (0..)
                .try_par_map_ordered(n, move |i| {
                    dawdle(run ^ i);
                    if fails(run, i) { Err(i) } else { Ok(i) }
                })
                .unordered()
                .collect()
        });
        let errors: Vec<usize> = (0..ours.len()).filter(|&at| ours[at].is_err()).collect();
        assert_eq!(errors, [ours.len() - 1], "run {run}");
    }
}
