//! `item_timeout`: an item that takes too long is an error at its place, and the rest goes on.

use crate::support::{
    Counter, Gate, Ledger, Meter, SOON, bang, barren, blocks, caught, counted, message, mix,
    settle, slow, timely, within,
};
use fanfold::{CancelToken, Fanfold, ItemError, testing};
use std::time::{Duration, Instant};

const SHORT: Duration = Duration::from_millis(20);
const LONG: Duration = Duration::from_secs(3_600);

fn timed_out<T>(result: &Result<T, ItemError>) -> Option<u64> {
    let failure = result.as_ref().err()?;
    failure.is_timeout().then(|| failure.seq())
}

// ---- the outcome

#[test]
fn items_within_the_limit_are_unaffected() {
    for n in 1..=9 {
        let stage = (0..10_000_u64)
            .par_map_ordered(n, |i| i * 3)
            .item_timeout(LONG);
        assert!(stage.eq((0..10_000).map(|i| i * 3)));
    }
}

#[test]
fn a_stuck_item_fails_at_its_place_and_the_rest_goes_on() {
    for n in 2..=9 {
        timely(SHORT, move || {
            let gate = Gate::new();
            let mut stage = (0..50_u64)
                .par_map_ordered(n, {
                    let gate = gate.clone();
                    move |i| {
                        if i == 20 {
                            gate.wait();
                        }
                        i
                    }
                })
                .item_timeout(SHORT)
                .isolate();
            let _opener = gate.opener();
            let got: Vec<_> = stage.by_ref().take(50).collect();
            assert_eq!(got.len(), 50);
            for (i, result) in got.iter().enumerate() {
                assert_eq!(timed_out(result), (i == 20).then_some(20));
                assert!(i == 20 || *result == Ok(i as u64));
            }
        });
    }
}

/// Nothing runs when the consumer falls asleep, so it has no timer yet; then each item gets stuck.
#[test]
fn an_item_started_while_the_consumer_sleeps_times_out() {
    for (n, ordered) in (1..=4).flat_map(|n| [(n, true), (n, false)]) {
        within(SOON, move || {
            let gate = Gate::new();
            let source = (0..n as u64).inspect(|_| settle()).chain(blocks(&gate));
            let wait = gate.clone();
            let stage = source.par_map_ordered(n, move |i| (wait.wait(), i).1);
            let stage = stage.item_timeout(SHORT).isolate();
            let mut stage = if ordered { stage } else { stage.unordered() };
            let _opener = gate.opener();
            let mut got: Vec<_> = stage.by_ref().take(n).map(|end| timed_out(&end)).collect();
            got.sort_unstable();
            assert!(got.into_iter().eq((0..n as u64).map(Some)));
        });
    }
}

/// The closure of the item that is given up never ends before the stage does.
#[test]
fn the_end_does_not_wait_for_a_stuck_closure_but_the_drop_does() {
    timely(SHORT, || {
        let (gate, ended) = (Gate::new(), Counter::new());
        let mut stage = (0..9)
            .par_map_ordered(3, {
                let (gate, ended) = (gate.clone(), ended.clone());
                move |i| {
                    if i == 4 {
                        gate.wait();
                        ended.add();
                    }
                    i
                }
            })
            .item_timeout(SHORT)
            .isolate();
        let opener = gate.opener();
        assert_eq!(stage.by_ref().flatten().count(), 8);
        assert_eq!(stage.next(), None);
        assert_eq!(ended.get(), 0);
        std::thread::spawn(move || {
            settle();
            drop(opener);
        });
        drop(stage);
        assert_eq!(ended.get(), 1);
    });
}

/// No thread is in `next()` when the limit passes; the result is late all the same.
#[test]
fn a_late_result_does_not_count_even_if_next_was_not_called() {
    timely(SHORT, || {
        let (started, late) = (Counter::new(), Counter::new());
        let mut stage = (0..3)
            .par_map_ordered(2, {
                let (started, late) = (started.clone(), late.clone());
                move |i| {
                    started.add();
                    if i == 1 {
                        std::thread::sleep(10 * SHORT);
                        late.add();
                    }
                    i
                }
            })
            .item_timeout(SHORT)
            .isolate();
        assert_eq!(stage.next(), Some(Ok(0)));
        late.wait_for(1);
        settle();
        assert_eq!(stage.next().as_ref().and_then(timed_out), Some(1));
        assert_eq!(stage.next(), Some(Ok(2)));
        assert_eq!(stage.next(), None);
    });
}

#[test]
fn a_timeout_without_isolate_panics_with_item_limit_and_fix() {
    timely(SHORT, || {
        let gate = Gate::new();
        let mut stage = (0..100)
            .par_map_ordered(3, {
                let gate = gate.clone();
                move |i| {
                    if i == 7 {
                        gate.wait();
                    }
                    i
                }
            })
            .item_timeout(SHORT);
        let _opener = gate.opener();
        assert!(stage.by_ref().take(7).eq(0..7));
        let said = message(|| stage.next());
        assert!(said.contains("item 7 timed out"), "{said}");
        assert!(said.contains("20ms"), "{said}");
        assert!(said.contains("isolate()"), "{said}");
        assert_eq!(stage.next(), None);
    });
}

#[test]
fn admission_stops_at_a_timeout_that_is_raised() {
    timely(SHORT, || {
        let (gate, pulled) = (Gate::new(), Counter::new());
        let source = counted(0.., &pulled);
        let mut stage = source
            .par_map_ordered(2, {
                let gate = gate.clone();
                move |i: u64| {
                    if i == 3 {
                        gate.wait();
                    }
                    i
                }
            })
            .in_flight(8)
            .item_timeout(SHORT);
        let _opener = gate.opener();
        assert_eq!(stage.by_ref().take(3).sum::<u64>(), 3);
        message(|| stage.next());
        settle(); // the thread that was in the source has come out
        let then = pulled.get();
        assert!(then <= 12, "{then}");
        settle();
        assert_eq!(pulled.get(), then);
    });
}

#[test]
fn without_an_order_a_stuck_item_delays_no_other() {
    for n in 3..=9 {
        timely(SHORT, move || {
            let gate = Gate::new();
            let mut stage = (0..60_u64)
                .par_map_unordered(n, {
                    let gate = gate.clone();
                    move |i| {
                        if i % 30 == 0 {
                            gate.wait();
                        }
                        i
                    }
                })
                .item_timeout(SHORT)
                .isolate();
            let _opener = gate.opener();
            let got: Vec<_> = stage.by_ref().take(60).collect();
            let mut late: Vec<_> = got.iter().filter_map(timed_out).collect();
            late.sort_unstable();
            assert_eq!(late, [0, 30]);
            assert_eq!(got.iter().flatten().sum::<u64>(), 59 * 30 - 30);
        });
    }
}

#[test]
fn every_kind_of_stage_takes_an_item_timeout() {
    timely(SHORT, || {
        let gate = Gate::new();
        let stuck = |i: &u64| {
            if *i == 2 {
                gate.wait();
            }
        };
        fanfold::scope(|s| {
            let source = || (0..6_u64).collect::<Vec<_>>().into_iter();
            let map = source().par_map_unordered(3, |i| (stuck(&i), i).1);
            let filter = source().par_filter(3, |i| (stuck(i), true).1);
            let filter_map = source().par_filter_map(3, |i| (stuck(&i), Some(i)).1);
            let init = source().par_map_ordered_init(3, || (), |(), i| (stuck(&i), i).1);
            let tried = source().try_par_map_ordered(3, |i| (stuck(&i), Ok::<_, ()>(i)).1);
            let mut map = map.item_timeout(SHORT).isolate().within(s);
            let mut filter = filter.item_timeout(SHORT).isolate().within(s);
            let mut filter_map = filter_map.isolate().item_timeout(SHORT).within(s);
            let mut init = init.item_timeout(SHORT).isolate().within(s);
            let mut tried = tried.item_timeout(SHORT).isolate().within(s);
            let _opener = gate.opener();
            assert_eq!(
                map.by_ref()
                    .take(6)
                    .filter_map(|r| timed_out(&r))
                    .sum::<u64>(),
                2
            );
            for stage in [
                &mut filter as &mut dyn Iterator<Item = Result<u64, ItemError>>,
                &mut filter_map,
                &mut init,
            ] {
                let got: Vec<_> = stage.take(6).collect();
                assert_eq!(got.iter().map(timed_out).collect::<Vec<_>>()[2], Some(2));
                assert_eq!(got.iter().flatten().sum::<u64>(), 13);
            }
            let got: Vec<_> = tried.by_ref().take(6).collect();
            assert_eq!(got[2].as_ref().err().map(ItemError::is_timeout), Some(true));
            assert_eq!(got.into_iter().flatten().flatten().sum::<u64>(), 13);
        });
    });
}

#[test]
fn errors_and_panics_are_told_apart_from_timeouts() {
    timely(SHORT, || {
        let got: Vec<_> = (0..4)
            .par_map_ordered(2, |i| {
                match i {
                    1 => bang(1),
                    2 => {
                        let _ = CancelToken::current().sleep(LONG);
                    }
                    _ => {}
                }
                i
            })
            .item_timeout(SHORT)
            .isolate()
            .collect();
        let kinds: Vec<_> = got
            .iter()
            .map(|r| r.as_ref().err().map(|f| (f.is_panic(), f.is_timeout())))
            .collect();
        assert_eq!(
            kinds,
            [None, Some((true, false)), Some((false, true)), None]
        );
        let failure = got[2].as_ref().unwrap_err();
        assert_eq!(failure.message(), "its closure ran for longer than 20ms");
        assert!(failure.to_string().starts_with("item 2 timed out"));

        let panicked = (0..4).par_map_ordered(2, |i| if i == 2 { bang(2) } else { i });
        assert_eq!(caught(|| panicked.item_timeout(LONG).count()), Err(2));
        let tried = (0..4).try_par_map_ordered(2, |i| if i == 2 { Err(2) } else { Ok(i) });
        let got: Vec<_> = tried.item_timeout(LONG).collect();
        assert_eq!(got, [Ok(0), Ok(1), Err(2)]);
    });
}

#[test]
fn zero_is_refused() {
    let said = message(|| {
        (0..3)
            .par_map_unordered(2, |i| i)
            .item_timeout(Duration::ZERO)
    });
    assert!(said.contains("leave it out"), "{said}");
}

#[test]
fn the_longest_duration_is_no_limit() {
    let stage = (0..100)
        .par_map_ordered(3, |i| i)
        .item_timeout(Duration::MAX);
    assert!(stage.eq(0..100));
}

// ---- the clock

/// Behind an item that is stuck up to the limit others wait for their turn, and before it others wait to be yielded: as
/// long as the limit, but they run for less.
#[test]
fn waiting_for_a_turn_does_not_count() {
    timely(SHORT, || {
        let told = Counter::new();
        let mut stage = (0..40)
            .par_map_ordered(1, {
                let told = told.clone();
                move |i| {
                    if i % 8 == 7 {
                        CancelToken::current().wait();
                        told.add();
                    }
                    i
                }
            })
            .in_flight(20)
            .item_timeout(SHORT)
            .isolate();
        assert_eq!(stage.next(), Some(Ok(0)));
        told.wait_for(2);
        for i in 1..40 {
            let result = stage.next().expect("an item");
            let late = (i % 8 == 7).then_some(i);
            assert_eq!(
                (timed_out(&result), result.ok()),
                (late, late.is_none().then_some(i))
            );
        }
        assert_eq!(stage.next(), None);
    });
}

#[test]
fn a_closure_sees_its_token_tripped_at_the_limit() {
    timely(SHORT, || {
        let told = Counter::new();
        let got: Vec<_> = (0..6)
            .par_map_ordered(2, |i| {
                if i % 2 == 1 {
                    CancelToken::current().wait();
                    told.add();
                }
                i
            })
            .item_timeout(SHORT)
            .isolate()
            .collect();
        assert_eq!(
            got.iter().filter_map(timed_out).collect::<Vec<_>>(),
            [1, 3, 5]
        );
        assert_eq!(told.get(), 3);
    });
}

/// No thread is in `next()`, and the token is tripped all the same.
#[test]
fn the_token_is_tripped_even_if_next_is_not_called() {
    timely(SHORT, || {
        let told = Counter::new();
        let mut stage = (0..2)
            .par_map_ordered(1, {
                let told = told.clone();
                move |i| {
                    if i == 1 {
                        CancelToken::current().wait();
                        told.add();
                    }
                    i
                }
            })
            .item_timeout(SHORT)
            .isolate();
        assert_eq!(stage.next(), Some(Ok(0)));
        told.wait_for(1);
        assert_eq!(stage.next().as_ref().and_then(timed_out), Some(1));
    });
}

/// The token of one item says nothing about the next.
#[test]
fn each_item_has_a_time_of_its_own() {
    timely(SHORT, || {
        let got: Vec<_> = (0..9)
            .par_map_ordered(1, |i| {
                let token = CancelToken::current();
                let was = token.is_cancelled();
                if i % 2 == 0 {
                    token.wait();
                }
                was
            })
            .item_timeout(SHORT)
            .isolate()
            .collect();
        let late: Vec<_> = got.iter().filter_map(timed_out).collect();
        assert_eq!(late, [0, 2, 4, 6, 8]);
        assert!(got.into_iter().flatten().eq([false; 4]));
    });
}

// ---- width, bound, drops

/// A closure that has run out of time still counts.
#[test]
fn never_more_than_n_at_once() {
    for n in 2..=5 {
        timely(SHORT, move || {
            let (gate, meter, started) = (Gate::new(), Meter::new(), Counter::new());
            let mut stage = (0..40_u64)
                .par_map_ordered(n, {
                    let (gate, meter, started) = (gate.clone(), meter.clone(), started.clone());
                    move |i| {
                        let _entered = meter.enter();
                        started.add();
                        if i < n as u64 {
                            gate.wait();
                        }
                        i
                    }
                })
                .item_timeout(SHORT)
                .isolate();
            let opener = gate.opener();
            for i in 0..n as u64 {
                assert_eq!(stage.next().as_ref().and_then(timed_out), Some(i));
            }
            settle();
            assert_eq!((started.get(), meter.most()), (n, n));
            drop(opener);
            assert_eq!(stage.by_ref().flatten().count(), 40 - n);
            assert_eq!(meter.most(), n);
        });
    }
}

#[test]
fn the_bound_holds() {
    within(SOON, || {
        let (gate, pulled) = (Gate::new(), Counter::new());
        let mut stage = counted(0..1_000_u64, &pulled)
            .par_map_ordered(3, {
                let gate = gate.clone();
                move |i| {
                    if i == 5 {
                        gate.wait();
                    }
                    i
                }
            })
            .in_flight(7)
            .item_timeout(SHORT)
            .isolate();
        let _opener = gate.opener();
        for yielded in 0..100 {
            assert!(pulled.get() <= yielded + 7, "{yielded}");
            assert!(stage.next().is_some());
        }
    });
}

#[test]
fn everything_is_dropped_exactly_once() {
    for n in 1..=5 {
        timely(SHORT, move || {
            let (items, results, gate) = (Ledger::new(), Ledger::new(), Gate::new());
            let source: Vec<_> = (0..40).map(|i| items.track(i)).collect();
            let mut stage = source
                .into_iter()
                .par_map_ordered(n, {
                    let (results, gate) = (results.clone(), gate.clone());
                    move |item| {
                        if item.id % 16 == 15 {
                            gate.wait();
                        }
                        results.track(item.id)
                    }
                })
                .item_timeout(SHORT)
                .isolate();
            let opener = gate.opener();
            let got: Vec<_> = stage.by_ref().take(16).collect();
            assert_eq!(got.iter().filter_map(timed_out).collect::<Vec<_>>(), [15]);
            drop(opener);
            drop(got);
            drop(stage);
            items.assert_dropped_once();
            results.assert_dropped_once();
        });
    }
}

#[test]
fn a_late_result_whose_drop_panics_is_not_lost() {
    within(SOON, || {
        let ledger = Ledger::new();
        let gate = Gate::new();
        let mut stage = (0..2)
            .par_map_ordered(2, {
                let (ledger, gate) = (ledger.clone(), gate.clone());
                move |i| {
                    if i == 0 {
                        gate.wait();
                        ledger.bomb(0)
                    } else {
                        ledger.track(i)
                    }
                }
            })
            .item_timeout(SHORT)
            .isolate();
        let opener = gate.opener();
        assert_eq!(stage.next().as_ref().and_then(timed_out), Some(0));
        drop(stage.next());
        drop(opener);
        assert_eq!(caught(|| drop(stage)), Err(0));
        ledger.assert_dropped_once();
    });
}

#[test]
fn a_late_panic_changes_nothing() {
    timely(SHORT, || {
        let gate = Gate::new();
        let mut stage = (0..9)
            .par_map_ordered(2, {
                let gate = gate.clone();
                move |i| {
                    if i == 3 {
                        gate.wait();
                        bang(3);
                    }
                    i
                }
            })
            .item_timeout(SHORT)
            .isolate();
        let opener = gate.opener();
        let got: Vec<_> = stage.by_ref().take(5).collect();
        assert_eq!(got.iter().filter_map(timed_out).collect::<Vec<_>>(), [3]);
        drop(opener);
        assert!(stage.by_ref().eq((5..9).map(Ok)));
        drop(stage);
    });
}

#[test]
fn a_cancelled_stage_still_gives_up_what_is_stuck() {
    for ordered in [true, false] {
        timely(10 * SHORT, move || {
            let (gate, token, started) = (Gate::new(), CancelToken::new(), Counter::new());
            let stage = (0..100)
                .par_map_ordered(2, {
                    let (gate, started) = (gate.clone(), started.clone());
                    move |i| {
                        if i == 1 {
                            started.add();
                            gate.wait();
                        }
                        i
                    }
                })
                .item_timeout(10 * SHORT)
                .cancel_on(&token)
                .isolate();
            let mut stage = if ordered { stage } else { stage.unordered() };
            let _opener = gate.opener();
            assert!(stage.next().is_some());
            started.wait_for(1);
            token.cancel();
            let rest: Vec<_> = stage.by_ref().collect();
            assert_eq!(rest.iter().filter_map(timed_out).collect::<Vec<_>>(), [1]);
        });
    }
}

// ---- with other options

/// The items that the stuck closure's thread was to run next have no owner and get none, so they are not
/// waited for.
#[test]
fn a_cancelled_stage_does_not_wait_for_items_without_an_owner() {
    for stuck in 100..108 {
        timely(SHORT, move || {
            let (token, gate) = (CancelToken::new(), Gate::new());
            let mut stage = (0..1_000_u64)
                .par_map_ordered(1, {
                    let gate = gate.clone();
                    move |i| {
                        if i == stuck {
                            gate.wait();
                        }
                        i
                    }
                })
                .item_timeout(SHORT)
                .isolate()
                .cancel_on(&token);
            let _opener = gate.opener();
            let late = stage.by_ref().find_map(|result| timed_out(&result));
            assert_eq!(late, Some(stuck));
            token.cancel();
            assert_eq!(stage.next(), None);
        });
    }
}

#[test]
fn a_blocked_source_is_no_timeout() {
    timely(SHORT, || {
        let gate = Gate::new();
        let mut stage = (0..30)
            .chain(blocks(&gate))
            .par_map_ordered(3, |i| i)
            .item_timeout(SHORT)
            .isolate();
        let _opener = gate.opener();
        assert!(stage.by_ref().take(30).eq((0..30).map(Ok)));
        std::thread::sleep(3 * SHORT);
        gate.open();
        assert_eq!(stage.next(), None);
    });
}

#[test]
fn each_stage_of_a_chain_has_its_own_limit() {
    timely(SHORT, || {
        let gate = Gate::new();
        let inner = (0..20).par_map_ordered(2, {
            let gate = gate.clone();
            move |i| {
                if i == 4 {
                    gate.wait();
                }
                i
            }
        });
        let mut outer = inner
            .item_timeout(SHORT)
            .isolate()
            .par_map_ordered(2, |r| r.map(|i| i * 2))
            .item_timeout(LONG);
        let _opener = gate.opener();
        let got: Vec<_> = outer.by_ref().take(20).collect();
        assert_eq!(got.iter().filter_map(timed_out).collect::<Vec<_>>(), [4]);
        assert_eq!(got.iter().flatten().sum::<i32>(), 2 * (190 - 4));
    });
}

#[test]
fn a_local_stage_takes_an_item_timeout() {
    timely(SHORT, || {
        let gate = Gate::new();
        let mut stage = (0..20)
            .local()
            .par_map_ordered(3, {
                let gate = gate.clone();
                move |i| {
                    if i == 4 {
                        gate.wait();
                    }
                    i
                }
            })
            .item_timeout(SHORT)
            .isolate();
        let _opener = gate.opener();
        let got: Vec<_> = stage.by_ref().take(20).collect();
        assert_eq!(got.iter().filter_map(timed_out).collect::<Vec<_>>(), [4]);
        assert_eq!(got.len(), 20);
    });
}

/// Then no other thread can give up an item that the consumer runs itself; it is late all the same.
#[test]
fn without_threads_the_limit_is_checked_afterwards() {
    timely(SHORT, || {
        let pool = barren();
        let got: Vec<_> = (0..4)
            .par_map_ordered(2, |i| {
                if i == 2 {
                    std::thread::sleep(2 * SHORT);
                }
                i
            })
            .on(&pool)
            .item_timeout(SHORT)
            .isolate()
            .collect();
        assert_eq!(got.iter().filter_map(timed_out).collect::<Vec<_>>(), [2]);
        assert_eq!(got.len(), 4);
    });
}

#[test]
fn nothing_is_left_behind() {
    within(SOON, || {
        for round in 0..50_u64 {
            let stage = (0..40)
                .par_map_ordered(1 + (round % 9) as usize, move |i| {
                    if mix(i ^ round << 8) % 8 == 0 {
                        let _ = CancelToken::current().sleep(LONG);
                    }
                    i
                })
                .item_timeout(Duration::from_micros(300))
                .isolate();
            let mut seqs = Vec::new();
            for (at, result) in stage.enumerate() {
                match result {
                    Ok(i) => assert_eq!(i, at as u64),
                    Err(failure) => {
                        assert!(failure.is_timeout());
                        assert_eq!(failure.seq(), at as u64);
                    }
                }
                seqs.push(at);
            }
            assert_eq!(seqs.len(), 40);
        }
        testing::assert_quiescent();
    });
}

#[test]
fn the_answer_is_prompt() {
    within(SOON, || {
        let gate = Gate::new();
        let mut stage = [0]
            .into_iter()
            .par_map_ordered(1, {
                let gate = gate.clone();
                move |i| (gate.wait(), i).1
            })
            .item_timeout(SHORT)
            .isolate();
        let _opener = gate.opener();
        let began = Instant::now();
        assert_eq!(stage.next().as_ref().and_then(timed_out), Some(0));
        assert!(began.elapsed() >= SHORT);
        assert!(began.elapsed() < slow(100 * SHORT), "{:?}", began.elapsed());
    });
}
