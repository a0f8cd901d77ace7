//! Cancellation: tokens, stages under a token, and `CancelToken::current()` inside a closure.

use crate::support::{
    Counter, Gate, Ledger, Meter, SOON, bang, blocks, calls_counted, caught, counted, dawdle, mix,
    payload, settle, within,
};
use fanfold::{CancelToken, Cancelled, Fanfold};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const HOUR: Duration = Duration::from_secs(3_600);

#[derive(Debug, PartialEq, Eq)]
enum Error {
    Stopped,
    Bad(u64),
}

impl From<Cancelled> for Error {
    fn from(_: Cancelled) -> Self {
        Error::Stopped
    }
}

// ---- the token

#[test]
fn a_token_is_live_until_it_is_cancelled() {
    let token = CancelToken::new();
    assert_eq!((token.is_cancelled(), token.check()), (false, Ok(())));
    let other = token.clone();
    other.cancel();
    other.cancel();
    assert_eq!(
        (token.is_cancelled(), token.check()),
        (true, Err(Cancelled::default()))
    );
    assert!(!CancelToken::default().is_cancelled());
    assert_eq!(Cancelled::default().to_string(), "cancelled");
}

#[test]
fn a_child_hears_from_its_parent_and_not_the_other_way_round() {
    let parent = CancelToken::new();
    let (child, sibling) = (parent.child(), parent.child());
    let grandchild = child.child();
    child.cancel();
    assert!(grandchild.is_cancelled() && !parent.is_cancelled() && !sibling.is_cancelled());
    parent.cancel();
    assert!(sibling.is_cancelled() && parent.child().is_cancelled());
}

#[test]
fn a_sleep_ends_with_the_token() {
    within(SOON, || {
        let token = CancelToken::new();
        assert_eq!(token.sleep(Duration::from_millis(1)), Ok(()));
        let sleeper = std::thread::spawn({
            let token = token.clone();
            move || token.sleep(HOUR)
        });
        settle();
        token.cancel();
        assert_eq!(sleeper.join().expect("no panic"), Err(Cancelled::default()));
        assert_eq!(token.sleep(HOUR), Err(Cancelled::default()));
        token.wait();
    });
}

#[test]
fn a_deadline_trips_the_token() {
    within(SOON, || {
        let token = CancelToken::new();
        let hurried = token.with_timeout(Duration::from_millis(5));
        assert!(hurried.sleep(HOUR).unwrap_err().is_deadline());
        hurried.wait();
        assert!(hurried.is_cancelled() && hurried.child().is_cancelled() && !token.is_cancelled());
        let late = token.with_deadline(Instant::now() + HOUR);
        assert!(!late.is_cancelled());
        token.cancel();
        assert!(late.is_cancelled());
    });
}

#[test]
fn a_hook_runs_once_when_the_token_is_cancelled() {
    within(SOON, || {
        let (token, ran) = (CancelToken::new(), Counter::new());
        let hook = || {
            let ran = ran.clone();
            move || {
                ran.add();
            }
        };
        let kept = token.on_cancel(hook());
        drop(token.on_cancel(hook()));
        token.on_cancel(hook()).detach();
        token.cancel();
        token.cancel();
        assert_eq!(ran.get(), 2);
        let late = token.on_cancel(hook());
        assert_eq!(ran.get(), 3);
        drop((kept, late));
        // and at a deadline that no one polls for
        let hurried = CancelToken::new().with_timeout(Duration::from_millis(5));
        hurried.on_cancel(hook()).detach();
        ran.wait_for(4);
    });
}

// ---- a stage under a token

/// The items `0, 1, 2, …` in the list, up to the first gap.
fn without_a_gap(ran: &[usize]) -> std::ops::Range<usize> {
    let gap = (0..=ran.len()).find(|i| !ran.contains(i));
    0..gap.unwrap_or_default()
}

#[test]
fn a_cancelled_stage_starts_nothing_and_yields_running_items() {
    for n in 1..=9 {
        within(SOON, move || {
            let (token, gate) = (CancelToken::new(), Gate::new());
            let (started, pulls) = (Counter::new(), Counter::new());
            let ran = Arc::new(Mutex::new(Vec::new()));
            let stage = counted(0.., &pulls)
                .par_map_ordered(n, {
                    let (started, gate, ran) = (started.clone(), gate.clone(), Arc::clone(&ran));
                    move |i| {
                        ran.lock().expect("not poisoned").push(i);
                        started.add();
                        gate.wait();
                        i
                    }
                })
                .in_flight(100)
                .cancel_on(&token);
            let consumer = std::thread::spawn(move || stage.collect::<Vec<usize>>());
            started.wait_for(n);
            token.cancel();
            gate.open();
            let out = consumer.join().expect("no panic");
            let ran = ran.lock().expect("not poisoned");
            assert!(out.into_iter().eq(without_a_gap(&ran)), "{ran:?}");
            assert_eq!(ran.len(), n);
            assert!(pulls.get() <= 100);
        });
    }
}

#[test]
fn a_cancelled_stage_yields_results_without_a_gap() {
    for (n, k) in (1..=9).flat_map(|n| [0, 1, 7, 100].map(move |k| (n, k))) {
        within(SOON, move || {
            let (token, ended) = (CancelToken::new(), Counter::new());
            let ran = Arc::new(Mutex::new(Vec::new()));
            let mut stage = (0_usize..)
                .par_map_ordered(n, {
                    let (ended, ran) = (ended.clone(), Arc::clone(&ran));
                    move |i| {
                        ran.lock().expect("not poisoned").push(i);
                        dawdle(i as u64);
                        ended.add();
                        i
                    }
                })
                .in_flight(200)
                .cancel_on(&token);
            assert!(stage.by_ref().take(k).eq(0..k));
            if k > 0 {
                // There is something to lose, whatever the consumer does.
                ended.wait_for(k + 10);
            }
            token.cancel();
            let rest: Vec<usize> = stage.by_ref().collect();
            for _ in 0..3 {
                assert_eq!(stage.next(), None);
            }
            drop(stage);
            let ran = ran.lock().expect("not poisoned");
            // All of it, and nothing else.
            let finished = without_a_gap(&ran);
            assert!(rest.into_iter().eq(k..finished.end), "{k}, {finished:?}");
        });
    }
}

#[test]
fn a_tripped_token_lets_nothing_begin() {
    for n in 1..=9 {
        within(SOON, move || {
            let (token, calls, ran) = (CancelToken::new(), Counter::new(), Counter::new());
            token.cancel();
            let mut stage = calls_counted(0..10, &calls)
                .par_map_ordered(n, {
                    let ran = ran.clone();
                    move |_| ran.add()
                })
                .cancel_on(&token);
            for _ in 0..3 {
                assert_eq!(stage.next(), None);
            }
            drop(stage);
            assert_eq!((calls.get(), ran.get()), (0, 0));
        });
    }
}

/// The same for operations that only move items; each has its own place for the options.
#[test]
fn under_a_tripped_token_nothing_is_moved() {
    fn check<P: fanfold::Plan + 'static>(stage: fanfold::Stage<P>) {
        let token = CancelToken::new();
        token.cancel();
        let mut stage = stage.cancel_on(&token);
        assert_eq!(stage.size_hint().0, 0, "not even promised");
        assert!(stage.next().is_none() && stage.next().is_none());
    }
    within(SOON, || {
        let pulled = Counter::new();
        let source = || calls_counted(0..100, &pulled);
        check(source().readahead(4));
        check(source().window(4).max_age(HOUR));
        check(source().par_map_by_key(2, |i| i % 3, |i| i));
        check(fanfold::merge([source(), source()]));
        check(fanfold::merge_sorted_by_key([source(), source()], |i| *i));
        check(fanfold::round_robin([source(), source()]));
        assert_eq!(pulled.get(), 0);
    });
}

#[test]
fn a_cancellation_ends_next_although_the_source_blocks() {
    for n in 1..=9 {
        within(SOON, move || {
            let (token, gate, over) = (CancelToken::new(), Gate::new(), Gate::new());
            let taken = Gate::new();
            let mut stage = (0..3)
                .chain(blocks(&gate))
                .par_map_ordered(n, |i| i)
                .cancel_on(&token);
            let consumer = std::thread::spawn({
                let (over, gate, taken) = (over.clone(), gate.clone(), taken.clone());
                move || {
                    let _opener = gate.opener();
                    assert!(stage.by_ref().take(3).eq(0..3));
                    taken.open();
                    assert_eq!(stage.next(), None);
                    over.open();
                    // the stage itself cannot be dropped before its source returns
                    gate.wait();
                    assert_eq!(stage.next(), None);
                }
            });
            taken.wait();
            settle();
            assert!(!over.is_open());
            token.cancel();
            over.wait();
            gate.open();
            consumer.join().expect("no panic");
        });
    }
}

#[test]
fn a_cancellation_ends_unordered_next_too() {
    for n in 1..=9 {
        within(SOON, move || {
            let (token, gate, over) = (CancelToken::new(), Gate::new(), Gate::new());
            let _opener = gate.opener();
            let mut stage = (0..3)
                .chain(blocks(&gate))
                .par_map_unordered(n, |i| i)
                .cancel_on(&token);
            let mut taken: Vec<i32> = stage.by_ref().take(3).collect();
            taken.sort_unstable();
            assert_eq!(taken, [0, 1, 2]);
            let consumer = std::thread::spawn({
                let over = over.clone();
                move || {
                    assert_eq!(stage.next(), None);
                    over.open();
                    drop(stage); // waits for the source
                }
            });
            token.cancel();
            over.wait();
            gate.open();
            consumer.join().expect("no panic");
        });
    }
}

#[test]
fn an_unordered_stage_ends_too_and_yields_all_that_has_run() {
    for n in 1..=9 {
        within(SOON, move || {
            let (token, gate, started) = (CancelToken::new(), Gate::new(), Counter::new());
            let ran = Arc::new(Mutex::new(Vec::new()));
            let stage = (0..)
                .par_map_unordered(n, {
                    let (started, gate, ran) = (started.clone(), gate.clone(), Arc::clone(&ran));
                    move |i| {
                        ran.lock().expect("not poisoned").push(i);
                        if i >= 50 {
                            started.add();
                            gate.wait();
                        }
                        i
                    }
                })
                .cancel_on(&token);
            let consumer = std::thread::spawn(move || stage.collect::<Vec<usize>>());
            started.wait_for(n);
            token.cancel();
            settle(); // the consumer has looked; the running items are still to come
            gate.open();
            let mut out = consumer.join().expect("no panic");
            let mut ran = ran.lock().expect("not poisoned").clone();
            out.sort_unstable();
            ran.sort_unstable();
            assert_eq!(out, ran);
        });
    }
}

#[test]
fn any_of_several_tokens_ends_the_stage() {
    for which in 0..3 {
        within(SOON, move || {
            let tokens = [(); 3].map(|()| CancelToken::new());
            let mut stage = (0..)
                .par_map_ordered(2, |i| i)
                .cancel_on(&tokens[0])
                .cancel_on(&tokens[1])
                .cancel_on(&tokens[2]);
            assert_eq!(stage.next(), Some(0));
            tokens[which].cancel();
            let _ = stage.by_ref().count();
            assert_eq!(stage.next(), None);
        });
    }
}

#[test]
fn a_deadline_ends_a_stage_whose_closures_sleep() {
    within(SOON, || {
        let token = CancelToken::new().with_timeout(Duration::from_millis(30));
        let stage = (0..)
            .par_map_ordered(4, |_| CancelToken::current().sleep(HOUR))
            .cancel_on(&token);
        assert!(stage.collect::<Vec<_>>().iter().all(Result::is_err));
    });
}

/// The stage is the only one that has its tokens then.
#[test]
fn a_stage_keeps_the_tokens_that_it_is_under() {
    fn endless() -> impl Iterator<Item = u64> + Send + 'static {
        0..
    }
    type Start = fn(&CancelToken) -> Box<dyn Iterator<Item = u64>>;
    let kinds: [(&str, Start); 7] = [
        ("ordered", |token| {
            Box::new(
                endless()
                    .par_map_ordered(2, |i| i)
                    .cancel_on(&token.child()),
            )
        }),
        ("unordered", |token| {
            Box::new(
                endless()
                    .par_map_unordered(2, |i| i)
                    .cancel_on(&token.child()),
            )
        }),
        ("keyed", |token| {
            Box::new(
                endless()
                    .par_map_by_key(2, |i| i % 3, |i| i)
                    .cancel_on(&token.child()),
            )
        }),
        ("local", |token| {
            Box::new(
                endless()
                    .local()
                    .par_map_ordered(2, |i| i)
                    .cancel_on(&token.child()),
            )
        }),
        ("readahead", |token| {
            Box::new(endless().readahead(4).cancel_on(&token.child()))
        }),
        ("merge", |token| {
            Box::new(fanfold::merge([endless(), endless()]).cancel_on(&token.child()))
        }),
        ("drained", |token| {
            Box::new(endless().par_map_ordered(2, |i| i).drain_on(&token.child()))
        }),
    ];
    for (kind, start) in kinds {
        within(SOON, move || {
            let token = CancelToken::new();
            let stage = start(&token).inspect(|_| token.cancel());
            // Far more than is in flight: an endless stage would fail here, and not hang.
            assert!(stage.take(10_000_000).count() < 10_000_000, "{kind}");
        });
    }
}

/// Nobody else has it, and nobody trips it.
#[test]
fn a_token_with_a_deadline_may_be_given_away() {
    within(SOON, || {
        let limit = || CancelToken::new().with_timeout(Duration::from_millis(5));
        let waits = |_| CancelToken::current().wait();
        assert!((0..2).par_map_ordered(2, waits).cancel_on(&limit()).count() <= 2);
        assert!(
            (0..2)
                .par_map_by_key(2, |i| *i, waits)
                .cancel_on(&limit())
                .count()
                <= 2
        );
    });
}

#[test]
fn a_token_outlives_its_stages_without_trouble() {
    within(SOON, || {
        let token = CancelToken::new();
        for i in 0..200 {
            let stage = (0..20).par_map_ordered(3, move |j| i + j).cancel_on(&token);
            assert!(stage.eq(i..i + 20));
        }
        token.cancel();
        assert_eq!(
            (0..20).par_map_ordered(3, |i| i).cancel_on(&token).count(),
            0
        );
    });
}

#[test]
fn everything_is_dropped_once_whenever_it_is_cancelled() {
    for run in 0..300_u64 {
        within(SOON, move || {
            let (ledger, token, n) = (Ledger::new(), CancelToken::new(), 1 + (run % 9) as usize);
            let source = (0..100).map({
                let ledger = ledger.clone();
                move |i| ledger.track(i)
            });
            let at = mix(run) % 100;
            let stage = source
                .par_map_ordered(n, {
                    let token = token.clone();
                    move |item| {
                        dawdle(run << 8 ^ item.id);
                        if item.id == at {
                            token.cancel();
                        }
                        item
                    }
                })
                .cancel_on(&token);
            let out: Vec<u64> = stage.map(|item| item.id).collect();
            assert!(out.iter().copied().eq(0..out.len() as u64));
            ledger.assert_dropped_once();
        });
    }
}

#[test]
fn cancelling_while_results_flow_ends_the_flow() {
    for n in 1..=9 {
        within(SOON, move || {
            let (token, yielded) = (CancelToken::new(), Counter::new());
            let stage = (0_usize..).par_map_ordered(n, |i| i).cancel_on(&token);
            let canceller = std::thread::spawn({
                let (token, yielded) = (token.clone(), yielded.clone());
                move || {
                    yielded.wait_for(1_000);
                    token.cancel();
                }
            });
            let stage = stage.inspect(|_| {
                yielded.add();
            });
            assert!(stage.enumerate().all(|(at, i)| at == i));
            canceller.join().expect("no panic");
            assert!(token.is_cancelled());
        });
    }
}

#[test]
fn a_panic_and_an_error_before_the_cancellation_are_not_lost() {
    for n in 2..=9 {
        within(SOON, move || {
            let run = |error: bool| {
                let (token, cancelled, begun) = (CancelToken::new(), Gate::new(), Gate::new());
                (0..10)
                    .try_par_map_ordered(n, {
                        let token = token.clone();
                        move |i| match i {
                            0 => {
                                begun.open();
                                cancelled.wait();
                                if error { Err(i) } else { bang(i) }
                            }
                            1 => {
                                begun.wait();
                                token.cancel();
                                cancelled.open();
                                Ok(i)
                            }
                            _ => Ok(i),
                        }
                    })
                    .cancel_on(&token)
            };
            assert_eq!(run(true).collect::<Vec<_>>(), [Err(0)]);
            assert_eq!(caught(|| run(false).collect::<Vec<_>>()), Err(0));
        });
    }
}

// ---- parallel_map_on

#[test]
fn a_cancelled_parallel_map_returns_the_error() {
    for n in 1..=9 {
        within(SOON, move || {
            let (token, running) = (CancelToken::new(), Counter::new());
            let canceller = std::thread::spawn({
                let (token, running) = (token.clone(), running.clone());
                move || {
                    running.wait_for(n);
                    token.cancel();
                }
            });
            let result = fanfold::parallel_map_with(&token, 0..100_u64, n, |i| {
                running.add();
                CancelToken::current().sleep(HOUR)?;
                Ok::<u64, Error>(i)
            });
            assert_eq!(result, Err(Error::Stopped));
            canceller.join().expect("no panic");
            assert_eq!(running.get(), n);
        });
    }
}

/// The closures ignore the token; even so, the result is not a partial list.
#[test]
fn a_parallel_map_that_was_cut_short_is_an_error() {
    for n in 1..=9 {
        within(SOON, move || {
            let (token, ran) = (CancelToken::new(), Counter::new());
            let result = fanfold::parallel_map_with(&token, 0..100_000_u64, n, |i| {
                if ran.add() == 20 {
                    token.cancel();
                }
                Ok::<u64, Error>(i)
            });
            assert_eq!(result, Err(Error::Stopped));
            assert!(ran.get() < 100_000);
            // a token that was tripped beforehand
            let none = fanfold::parallel_map_with(&token, 0..3_u64, n, Ok::<u64, Error>);
            assert_eq!(none, Err(Error::Stopped));
            // a token that is never tripped
            let live = CancelToken::new();
            let all = fanfold::parallel_map_with(&live, 0..3_u64, n, Ok::<u64, Error>);
            assert_eq!(all, Ok(vec![0, 1, 2]));
            let bad = fanfold::parallel_map_with(&live, 0..9_u64, n, |i| {
                if i >= 4 { Err(Error::Bad(i)) } else { Ok(i) }
            });
            assert_eq!(bad, Err(Error::Bad(4)));
        });
    }
}

// ---- inside a closure

#[test]
fn outside_a_stage_the_current_token_is_never_tripped() {
    within(SOON, || {
        assert!(!CancelToken::current().is_cancelled());
        CancelToken::current().cancel();
        assert!(!CancelToken::current().is_cancelled());
        let mut stage = (0..9).par_map_ordered(2, |i| i);
        assert_eq!(stage.next(), Some(0));
        drop(stage);
        assert!(!CancelToken::current().is_cancelled());
    });
}

/// Four items run and the third fails; then the token of the fourth is tripped, and those of the first two
/// are not.
fn who_hears_of(fail: fn(u64) -> Result<u64, Error>) -> [bool; 4] {
    within(SOON, move || {
        let (meter, told) = (Meter::new(), Gate::new());
        let heard = Arc::new(Mutex::new([false; 4]));
        let mut stage = (0..4_u64).try_par_map_ordered(4, {
            let heard = Arc::clone(&heard);
            move |i| {
                meter.meet(4);
                let token = CancelToken::current();
                match i {
                    2 => return fail(i),
                    3 => {
                        token.wait();
                        told.open();
                    }
                    _ => {
                        told.wait();
                        // an earlier item must not be told later either
                        assert_eq!(token.sleep(Duration::from_millis(5)), Ok(()));
                    }
                }
                heard.lock().expect("not poisoned")[i as usize] = token.is_cancelled();
                token.check()?;
                Ok(i)
            }
        });
        assert!(stage.by_ref().take(2).eq([Ok(0), Ok(1)]));
        match caught(|| stage.next()) {
            Ok(error) => assert_eq!(error, Some(Err(Error::Bad(2)))),
            Err(id) => assert_eq!(id, 2),
        }
        assert_eq!(stage.next(), None);
        *heard.lock().expect("not poisoned")
    })
}

#[test]
fn a_failure_trips_the_tokens_of_the_later_items_only() {
    let later = [false, false, false, true];
    assert_eq!(who_hears_of(|i| Err(Error::Bad(i))), later);
    assert_eq!(who_hears_of(|i| bang(i)), later);
}

#[test]
fn a_look_at_the_token_does_not_change_which_error_is_the_first() {
    for run in 0..300_u64 {
        within(SOON, move || {
            let n = 1 + (run % 9) as usize;
            let bad = move |i: u64| mix(run << 8 ^ i) % 6 == 0;
            let first = (0..60).find(|&i| bad(i));
            let mut stage = (0..60).try_par_map_ordered(n, move |i| {
                for step in 0..4 {
                    CancelToken::current().check()?;
                    dawdle(run << 16 ^ i << 3 ^ step);
                }
                if bad(i) {
                    return Err(Error::Bad(i));
                }
                CancelToken::current().check()?;
                Ok(i)
            });
            for i in 0..first.unwrap_or(60) {
                assert_eq!(stage.next(), Some(Ok(i)), "run {run}");
            }
            assert_eq!(stage.next(), first.map(|i| Err(Error::Bad(i))), "run {run}");
            assert_eq!(stage.next(), None);
        });
    }
}

#[test]
fn the_token_is_tripped_when_the_stage_is_cancelled() {
    for n in 1..=9 {
        within(SOON, move || {
            let (token, running) = (CancelToken::new(), Counter::new());
            let stage = (0..)
                .par_map_ordered(n, {
                    let running = running.clone();
                    move |_| {
                        running.add();
                        CancelToken::current().wait();
                    }
                })
                .cancel_on(&token);
            let consumer = std::thread::spawn(move || stage.count());
            running.wait_for(n);
            token.cancel();
            assert_eq!(consumer.join().expect("no panic"), n);
        });
    }
}

#[test]
fn the_token_may_leave_the_closure() {
    within(SOON, || {
        let mut stage = (0..).par_map_ordered(2, |_| CancelToken::current());
        let token = stage.next().expect("a token");
        assert!(!token.is_cancelled());
        drop(stage);
        assert!(token.is_cancelled());
        token.wait();
        // the token of a stage that ended by itself: nothing was cancelled, and nothing hangs
        let token = (0..1).par_map_ordered(2, |_| CancelToken::current()).last();
        let _ = token.expect("a token").is_cancelled();
    });
}

#[test]
fn hooks_on_the_token_run_when_the_stage_is_dropped() {
    for n in 1..=9 {
        within(SOON, move || {
            let (running, hooks) = (Counter::new(), Counter::new());
            let mut stage = (0..).par_map_ordered(n, {
                let (running, hooks) = (running.clone(), hooks.clone());
                move |i| {
                    if i > 0 {
                        let token = CancelToken::current();
                        let hooks = hooks.clone();
                        let guard = token.on_cancel(move || {
                            hooks.add();
                        });
                        running.add();
                        token.wait();
                        drop(guard);
                    }
                }
            });
            assert!(stage.next().is_some());
            running.wait_for(n);
            drop(stage);
            // a hook whose guard removed it in time need not run, but no hook runs twice
            assert!(hooks.get() <= n);
        });
    }
}

#[test]
fn the_current_token_in_a_nested_stage_is_the_inner_one() {
    within(SOON, || {
        let sums = (0..4_u64).par_map_ordered(2, |i| {
            let outer = CancelToken::current();
            let mut inner = (0..).par_map_ordered(2, |j: u64| (j, CancelToken::current()));
            let (j, token) = inner.next().expect("an item");
            drop(inner);
            assert!(token.is_cancelled() && !outer.is_cancelled());
            assert!(!CancelToken::current().is_cancelled());
            i + j
        });
        assert_eq!(sums.sum::<u64>(), 6);
    });
}

#[test]
fn cancelling_the_current_token_in_a_closure_ends_in_order() {
    for n in 1..=9 {
        within(SOON, move || {
            let stage = (0..100).par_map_ordered(n, |i| {
                if i == 10 {
                    CancelToken::current().cancel();
                }
                i
            });
            // whatever that means, the stage ends and its results are in order
            let out: Vec<u64> = stage.collect();
            assert!(out.iter().copied().eq(0..out.len() as u64));
        });
    }
}

#[test]
fn a_hook_panic_reaches_the_canceller_and_not_the_stage() {
    within(SOON, || {
        let token = CancelToken::new();
        token.on_cancel(|| bang(1)).detach();
        let mut stage = (0..).par_map_ordered(2, |i| i).cancel_on(&token);
        assert_eq!(stage.next(), Some(0));
        assert!(payload(|| token.cancel()).is_err());
        let _ = stage.by_ref().count();
        assert_eq!(stage.next(), None);
    });
}
