//! `hedge`: the first of several replicas to answer wins.

use crate::support::{
    Counter, Gate, Ledger, SOON, bang, barren, calls_counted, caught, counted, eventually, message,
    mix, settle, within,
};
use fanfold::{
    CancelToken, Cancelled, Fanfold, HedgePolicy, Pool,
    hedge::{self, ReplicaError},
    replica, testing,
};
use std::time::{Duration, Instant};

const SHORT: Duration = Duration::from_millis(5);
const LONG: Duration = Duration::from_secs(3_600);

/// Answers with its number when its gate is open, or fails when its token is tripped.
fn gated(gate: &Gate, number: u32) -> impl FnOnce(CancelToken) -> Result<u32, u32> + use<> {
    let gate = gate.clone();
    move |_| {
        gate.wait();
        Ok(number)
    }
}

/// Never answers, and returns when its token is tripped.
fn stuck(told: &Counter) -> impl FnOnce(CancelToken) -> Result<u32, u32> + use<> {
    let told = told.clone();
    move |token| {
        token.wait();
        told.add();
        Err(99)
    }
}

// ---- the answer

#[test]
fn the_first_answer_counts() {
    for winner in 0..5 {
        within(SOON, move || {
            let told = Counter::new();
            let replicas = (0..5).map(|i| {
                if i == winner {
                    replica(move |_| Ok(i))
                } else {
                    replica(stuck(&told))
                }
            });
            assert_eq!(replicas.hedge().run(), Ok(winner));
            // The tokens of those that were started are tripped.
            eventually("all have been told", || told.get() >= winner as usize);
        });
    }
}

#[test]
fn one_replica_is_enough_and_none_is_an_error() {
    assert_eq!(
        [replica(|_| Ok::<_, ()>(1))].into_iter().hedge().run(),
        Ok(1)
    );
    let none = Vec::<fn(CancelToken) -> Result<u8, u8>>::new()
        .into_iter()
        .hedge()
        .run();
    let error = none.unwrap_err();
    assert!(error.is_failure() && error.failures().is_empty());
    assert!(error.to_string().contains("is empty"), "{error}");
}

#[test]
fn if_all_fail_every_error_comes_back_in_order() {
    for delay in [None, Some(Duration::ZERO), Some(LONG)] {
        within(SOON, move || {
            let (first, second) = (Gate::new(), Gate::new());
            let replicas = [
                replica({
                    let first = first.clone();
                    move |_| {
                        if delay != Some(LONG) {
                            first.wait(); // it fails last
                        }
                        Err::<u8, _>(0)
                    }
                }),
                replica({
                    let second = second.clone();
                    move |_| {
                        if delay != Some(LONG) {
                            second.wait();
                        }
                        first.open();
                        panic!("the {}nd", 2)
                    }
                }),
                replica(move |_| {
                    second.open();
                    Err(2)
                }),
            ];
            let hedge = replicas.into_iter().hedge();
            let hedge = match delay {
                None => hedge,
                Some(delay) => hedge.after(delay),
            };
            let error = hedge.run().unwrap_err();
            assert!(error.is_failure() && !error.is_timeout() && !error.is_cancelled());
            let all = [
                (0, ReplicaError::Failed(0)),
                (1, ReplicaError::Panicked("the 2nd".to_owned())),
                (2, ReplicaError::Failed(2)),
            ];
            assert_eq!(error.failures(), all);
            assert_eq!(
                error.to_string(),
                "no replica has an answer: 0: 0; 1: panicked: the 2nd; 2: 2"
            );
            assert_eq!(error.into_failures(), all);
        });
    }
}

#[test]
fn a_failure_does_not_beat_a_later_answer() {
    within(SOON, || {
        let failed = Gate::new();
        let replicas = [
            replica({
                let failed = failed.clone();
                move |_| {
                    failed.wait();
                    settle();
                    Ok(7)
                }
            }),
            replica(move |_| {
                failed.open();
                Err("down")
            }),
            replica(|_| bang(3)),
        ];
        assert_eq!(replicas.into_iter().hedge().run(), Ok(7));
    });
}

// ---- when the next one is started

#[test]
fn the_next_is_started_after_the_delay_and_not_before() {
    within(SOON, || {
        let started = Counter::new();
        let told = Counter::new();
        let delay = 10 * SHORT;
        let began = Instant::now();
        let replicas = (0..3).map(|i| {
            started.add();
            if i == 2 {
                replica(|_| Ok(2))
            } else {
                replica(stuck(&told))
            }
        });
        assert_eq!(replicas.hedge().after(delay).run(), Ok(2));
        assert!(began.elapsed() >= 2 * delay);
        assert_eq!(started.get(), 3);
        told.wait_for(2);
    });
}

#[test]
fn replicas_that_are_not_needed_are_not_pulled() {
    within(SOON, || {
        for (delay, pulled_max_replicas) in [(Some(LONG), 1), (None, 1_000)] {
            let calls = Counter::new();
            let replicas =
                calls_counted((0..).map(|i: u64| replica(move |_| Ok::<_, ()>(i))), &calls);
            let hedge = replicas.hedge();
            let answer = match delay {
                Some(delay) => hedge.after(delay).run(),
                // All at once, but no more once there is an answer: this list has no end.
                None => hedge.run(),
            };
            assert!(answer.is_ok());
            assert!(calls.get() <= pulled_max_replicas, "{}", calls.get());
        }
    });
}

#[test]
fn a_failure_starts_the_next_at_once() {
    within(SOON, || {
        let replicas = (0..5).map(|i| move |_: CancelToken| if i < 4 { Err(i) } else { Ok(i) });
        assert_eq!(replicas.hedge().after(LONG).run(), Ok(4));
    });
}

#[test]
fn max_replicas_is_kept() {
    for k in 1..=5 {
        within(SOON, move || {
            let pulled = Counter::new();
            let replicas = counted(
                (0..9).map(|i| move |_: CancelToken| Err::<(), _>(i)),
                &pulled,
            );
            let error = replicas.hedge().max_replicas(k).run().unwrap_err();
            assert_eq!(pulled.get(), k);
            assert_eq!(error.failures().len(), k);
        });
    }
    let said = message(|| {
        [replica(|_| Ok::<_, ()>(1))]
            .into_iter()
            .hedge()
            .max_replicas(0)
    });
    assert!(said.contains("leave it out"), "{said}");
}

#[test]
fn the_iterator_is_not_asked_after_its_end() {
    within(SOON, || {
        let calls = Counter::new();
        let mut lines = vec![Some(1), None, Some(2)].into_iter();
        let source = std::iter::from_fn(move || lines.next().flatten());
        let replicas = calls_counted(source, &calls).map(|i| move |_: CancelToken| Err::<(), _>(i));
        let error = replicas.hedge().after(SHORT).run().unwrap_err();
        assert_eq!((error.failures().len(), calls.get()), (1, 2));
    });
}

// ---- timeouts and cancellation

#[test]
fn a_hedge_as_a_whole_has_a_timeout() {
    const TIME: Duration = Duration::from_millis(200);
    within(SOON, || {
        let (pulled, told, began) = (Counter::new(), Counter::new(), Instant::now());
        let replicas = [
            replica(|_| Err(5)),
            replica(stuck(&told)),
            replica(stuck(&told)),
        ];
        let hedge = counted(replicas.into_iter(), &pulled).hedge().after(SHORT);
        let error = hedge.timeout(TIME).run().unwrap_err();
        assert!(error.is_timeout());
        assert!(began.elapsed() >= TIME);
        assert_eq!(error.failures(), [(0, ReplicaError::Failed(5))]);
        assert!(
            error
                .to_string()
                .starts_with("no replica has answered in time: 0: 5")
        );
        told.wait_for(pulled.get() - 1);
    });
}

/// However quickly they fail: where no thread can be started, each has failed before the caller looks.
#[test]
fn no_replica_is_started_after_the_end() {
    for by_token in [false, true] {
        for delay in [None, Some(Duration::ZERO), Some(LONG)] {
            for threads in [false, true] {
                within(SOON, move || {
                    let (pulled, token) = (Counter::new(), CancelToken::new());
                    let replicas = std::iter::repeat_with({
                        let (pulled, token) = (pulled.clone(), token.clone());
                        move || {
                            if pulled.add() == 5 {
                                if by_token {
                                    token.cancel();
                                } else {
                                    std::thread::sleep(3 * SHORT);
                                }
                            }
                            |_: CancelToken| Err::<(), _>(1)
                        }
                    });
                    let pool = if threads {
                        Pool::global()
                    } else {
                        Pool::builder().stack_size(usize::MAX / 2).build()
                    };
                    let mut hedge = replicas.hedge().on(&pool).cancel_on(&token);
                    if let Some(delay) = delay {
                        hedge = hedge.after(delay);
                    }
                    let error = if by_token {
                        hedge.run().unwrap_err()
                    } else {
                        hedge.timeout(SHORT).run().unwrap_err()
                    };
                    assert_eq!(error.is_cancelled(), by_token, "{error}");
                    assert_eq!(error.is_timeout(), !by_token, "{error}");
                    let pulled = pulled.get();
                    assert!(pulled <= 5, "{pulled} after {delay:?}");
                });
            }
        }
    }
}

#[test]
fn a_timeout_trips_the_token_of_a_replica() {
    within(SOON, || {
        let replicas = [|token: CancelToken| token.sleep(LONG)];
        let error = replicas
            .into_iter()
            .hedge()
            .timeout(SHORT)
            .run()
            .unwrap_err();
        assert!(error.is_timeout() && error.failures().is_empty());
    });
}

#[test]
fn a_cancelled_hedge_is_not_reported_as_a_failure_of_all() {
    let token = CancelToken::new();
    let stop = token.clone();
    let failed = replica(|_| Err::<u8, _>(1));
    // Tripped after the failure was seen, and before the end of the hedge.
    let end = std::iter::from_fn(move || {
        stop.cancel();
        None
    });
    let hedge = std::iter::once(failed).chain(end).hedge().after(LONG);
    let error = hedge.cancel_on(&token).run().unwrap_err();
    assert!(error.is_cancelled() && !error.is_failure(), "{error}");
    assert_eq!(error.failures(), [(0, ReplicaError::Failed(1))]);
}

#[test]
fn a_tripped_token_ends_the_hedge() {
    for before in [true, false] {
        within(SOON, move || {
            let (token, told, begun) = (CancelToken::new(), Counter::new(), Gate::new());
            if before {
                token.cancel();
            }
            let canceller = std::thread::spawn({
                let (token, begun) = (token.clone(), begun.clone());
                move || {
                    if !before {
                        begun.wait();
                        token.cancel();
                    }
                }
            });
            let replicas = [replica({
                let told = told.clone();
                move |token: CancelToken| {
                    begun.open();
                    token.wait();
                    told.add();
                    Ok::<u8, u8>(1)
                }
            })];
            let error = replicas.into_iter().hedge().cancel_on(&token).run();
            // A result that came at that very moment may be an answer.
            assert!(
                error
                    .as_ref()
                    .map_or_else(|e| e.is_cancelled(), |_| !before),
                "{error:?}"
            );
            canceller.join().expect("no panic");
        });
    }
}

#[test]
fn the_end_of_the_surrounding_stage_ends_the_hedge() {
    within(SOON, || {
        let (told, begun, token) = (Counter::new(), Counter::new(), CancelToken::new());
        let stage = (0..4).par_map_ordered(2, {
            let (told, begun) = (told.clone(), begun.clone());
            move |i: u32| {
                let replicas = [stuck(&told), stuck(&told)].map(|stuck| {
                    let begun = begun.clone();
                    move |token| {
                        begun.add();
                        stuck(token)
                    }
                });
                replicas.into_iter().hedge().run().unwrap_or(i)
            }
        });
        let mut stage = stage.cancel_on(&token);
        std::thread::spawn(move || {
            begun.wait_for(2);
            token.cancel();
        });
        assert!(stage.by_ref().count() <= 4);
        drop(stage);
        told.wait_for(2);
    });
}

/// Asks replicas that never answer until their tokens are tripped.
fn asks_for_ever(begun: &Counter, told: &Counter) -> impl Iterator<Item = u32> + Send + use<> {
    let (begun, told) = (begun.clone(), told.clone());
    std::iter::from_fn(move || {
        let (begun, stuck) = (begun.clone(), stuck(&told));
        let replica = move |token| {
            begun.add();
            stuck(token)
        };
        [replica].into_iter().hedge().run().ok()
    })
}

/// A hedge in the source of a stage ends with the stage.
#[test]
fn a_hedge_in_a_source_ends_with_the_stage() {
    within(SOON, || {
        let (told, begun) = (Counter::new(), Counter::new());
        let source = asks_for_ever(&begun, &told);
        let token = CancelToken::new();
        let mut stage = source.par_map_ordered(2, |i| i).cancel_on(&token);
        std::thread::spawn(move || {
            begun.wait_for(1);
            token.cancel();
        });
        assert_eq!(stage.next(), None);
        drop(stage);
        told.wait_for(1);
    });
}

/// The same if the consumer itself is in the source, where no item's token is the current one.
#[test]
fn a_hedge_in_a_local_source_ends_with_the_stage() {
    within(SOON, || {
        let (told, begun) = (Counter::new(), Counter::new());
        let source = asks_for_ever(&begun, &told);
        let token = CancelToken::new();
        let mut stage = source.local().par_map_ordered(2, |i| i).cancel_on(&token);
        std::thread::spawn(move || {
            begun.wait_for(1);
            settle(); // until the hedge waits
            token.cancel();
        });
        assert_eq!(stage.next(), None);
        drop(stage);
        told.wait_for(1);
    });
}

// ---- claims

#[test]
fn only_the_first_that_claims_does_the_work() {
    for round in 0..50 {
        within(SOON, move || {
            let worked = Counter::new();
            let replicas = (0..4_u64).map(|i| {
                let worked = worked.clone();
                move |token: CancelToken| {
                    if mix(round ^ i << 32) % 2 == 0 {
                        std::thread::yield_now();
                    }
                    hedge::claim(&token)?;
                    assert_eq!(worked.add(), 1);
                    settle_a_little();
                    Ok::<_, Cancelled>(i)
                }
            });
            assert!(replicas.hedge().wait_for_losers().run().is_ok());
            assert_eq!(worked.get(), 1);
        });
    }
}

fn settle_a_little() {
    std::thread::sleep(Duration::from_micros(200));
}

#[test]
fn a_claim_keeps_others_from_being_started() {
    within(SOON, || {
        let pulled = Counter::new();
        let replicas = counted(
            (0..9).map(|i| {
                move |token: CancelToken| {
                    hedge::claim(&token)?;
                    std::thread::sleep(80 * SHORT);
                    Ok::<_, Cancelled>(i)
                }
            }),
            &pulled,
        );
        assert_eq!(replicas.hedge().after(40 * SHORT).run(), Ok(0));
        assert_eq!(pulled.get(), 1);
    });
}

#[test]
fn a_failure_beside_a_claim_starts_no_further_replica() {
    within(SOON, || {
        let (pulled, begun) = (Counter::new(), Counter::new());
        let (claimed, failed) = (Gate::new(), Gate::new());
        let replicas = counted(
            (0..9).map(|i| {
                let begun = begun.clone();
                let (claimed, failed) = (claimed.clone(), failed.clone());
                move |token: CancelToken| match i {
                    0 => {
                        begun.wait_for(1);
                        hedge::claim(&token)?;
                        claimed.open();
                        failed.wait();
                        settle(); // until the claim has been seen
                        Ok(0)
                    }
                    1 => {
                        begun.add();
                        claimed.wait();
                        failed.open();
                        Err(Cancelled::default())
                    }
                    _ => Ok(i),
                }
            }),
            &pulled,
        );
        assert_eq!(replicas.hedge().after(40 * SHORT).run(), Ok(0));
        assert_eq!(pulled.get(), 2);
    });
}

#[test]
fn the_claim_of_one_that_fails_is_void() {
    within(SOON, || {
        let replicas = (0..3).map(|i| {
            move |token: CancelToken| {
                hedge::claim(&token).map_err(|_| "claimed")?;
                if i < 2 { Err("down") } else { Ok(i) }
            }
        });
        assert_eq!(replicas.hedge().after(LONG).run(), Ok(2));
    });
}

#[test]
fn a_claim_outside_of_a_race_is_a_check() {
    let token = CancelToken::new();
    assert_eq!(hedge::claim(&token), Ok(()));
    assert_eq!(hedge::claim(&token), Ok(()));
    token.cancel();
    assert_eq!(hedge::claim(&token), Err(Cancelled::default()));
}

/// A clone, a child and the current token of a replica all claim for it.
#[test]
fn clones_and_children_of_the_token_claim_for_the_replica() {
    within(SOON, || {
        let replicas = [|token: CancelToken| {
            hedge::claim(&token.child())?;
            hedge::claim(&token.clone())?;
            hedge::claim(&CancelToken::current())?;
            Ok::<_, Cancelled>(())
        }];
        assert_eq!(replicas.into_iter().hedge().run(), Ok(()));
    });
}

#[test]
fn the_current_token_of_a_loser_is_tripped() {
    within(SOON, || {
        let told = Counter::new();
        let replicas = (0..2).map(|i| {
            let told = told.clone();
            move |_: CancelToken| {
                if i == 0 {
                    CancelToken::current().wait();
                    told.add();
                }
                Ok::<_, ()>(i)
            }
        });
        assert_eq!(replicas.hedge().run(), Ok(1));
        eventually("it has been told", || told.get() == 1);
    });
}

// ---- what is left behind

fn losers_return() {
    eventually("the losers return", || {
        std::panic::catch_unwind(testing::assert_quiescent).is_ok()
    });
}

#[test]
fn losers_are_waited_for_if_asked() {
    within(SOON, || {
        let (told, begun) = (Counter::new(), Counter::new());
        let replicas = (0..4).map(|i| {
            let (told, begun) = (&told, &begun); // borrowed
            move |token: CancelToken| {
                begun.add();
                if i == 3 {
                    begun.wait_for(4);
                    return Ok(i);
                }
                token.wait();
                told.add();
                Err(())
            }
        });
        assert_eq!(replicas.hedge().wait_for_losers().run(), Ok(3));
        assert_eq!(told.get(), 3);
        testing::assert_quiescent();
    });
}

/// Answers of losers panic when they are dropped: the panics are swallowed, and nothing is left.
#[test]
fn late_answers_that_panic_in_drop_are_all_dropped() {
    within(SOON, || {
        let (dropped, gate, begun) = (Counter::new(), Gate::new(), Counter::new());
        let replicas = (0..4).map(|i| {
            let (dropped, gate, begun) = (dropped.clone(), gate.clone(), begun.clone());
            move |_: CancelToken| {
                begun.add();
                if i == 3 {
                    begun.wait_for(4);
                    return Ok::<_, ()>(None);
                }
                gate.wait();
                Ok(Some(dropped.stubborn(i + 1)))
            }
        });
        let _open = gate.opener();
        assert!(replicas.hedge().run().is_ok_and(|answer| answer.is_none()));
        gate.open();
        losers_return();
        assert_eq!(dropped.get(), 3);
    });
}

/// A loser counts as left behind until its answer has been dropped.
#[test]
fn a_late_answer_counts_until_it_is_dropped() {
    struct Waits(Gate, Counter);
    impl Drop for Waits {
        fn drop(&mut self) {
            self.1.add();
            self.0.wait();
        }
    }
    within(SOON, || {
        let (gate, begun, over, dropping) =
            (Gate::new(), Counter::new(), Gate::new(), Counter::new());
        let replicas = (0..2).map(|i| {
            let (gate, begun, over) = (gate.clone(), begun.clone(), over.clone());
            let dropping = dropping.clone();
            move |_: CancelToken| {
                begun.add();
                if i == 1 {
                    begun.wait_for(2);
                    return Ok::<_, ()>(None);
                }
                over.wait();
                Ok(Some(Waits(gate, dropping)))
            }
        });
        let _open = gate.opener();
        assert!(replicas.hedge().run().is_ok_and(|answer| answer.is_none()));
        over.open();
        dropping.wait_for(1);
        std::panic::catch_unwind(testing::assert_quiescent).expect_err("it is being dropped");
        gate.open();
        losers_return();
    });
}

#[test]
fn losers_are_not_waited_for_otherwise_and_leave_nothing() {
    within(SOON, || {
        let (gate, begun) = (Gate::new(), Counter::new());
        let replicas = (0..3).map(|i| {
            let (gate, begun) = (gate.clone(), begun.clone());
            move |_: CancelToken| {
                begun.add();
                if i == 2 {
                    begun.wait_for(3);
                } else {
                    gate.wait(); // ignores its token
                }
                Ok::<_, ()>(i)
            }
        });
        assert_eq!(replicas.hedge().named("a slow one").run(), Ok(2));
        let said = message(testing::assert_quiescent);
        assert!(said.contains("a slow one"), "{said}");
        gate.open();
        losers_return();
    });
}

#[test]
fn every_answer_is_dropped_once() {
    for waits in [true, false] {
        let ledger = Ledger::new();
        within(SOON, {
            let ledger = ledger.clone();
            move || {
                for round in 0..40_u64 {
                    let replicas = (0..4).map(|i| {
                        let ledger = ledger.clone();
                        move |_: CancelToken| {
                            if mix(round * 4 + i) % 3 == 0 {
                                std::thread::yield_now();
                            }
                            let answer = ledger.track(round * 4 + i);
                            if mix(round * 4 + i) % 5 == 0 {
                                Err(answer)
                            } else {
                                Ok(answer)
                            }
                        }
                    });
                    let hedge = replicas.hedge();
                    drop(if waits {
                        hedge.wait_for_losers().run()
                    } else {
                        hedge.run()
                    });
                }
            }
        });
        eventually("the losers return", || ledger.alive() == 0);
        ledger.assert_dropped_once();
    }
}

#[test]
fn a_late_answer_whose_drop_panics_does_no_harm() {
    within(SOON, || {
        let (ledger, gate) = (Ledger::new(), Gate::new());
        let replicas = (0..2).map(|i| {
            let (ledger, gate) = (ledger.clone(), gate.clone());
            move |_: CancelToken| {
                if i == 0 {
                    gate.wait();
                    return Ok::<_, ()>(ledger.bomb(0));
                }
                Ok(ledger.track(1))
            }
        });
        let answer = replicas.hedge().run().expect("the second answers");
        assert_eq!(answer.id, 1);
        gate.open();
        eventually("the loser returns", || {
            ledger.created() == 2 && ledger.alive() == 1
        });
        drop(answer);
        ledger.assert_dropped_once();
    });
}

#[test]
fn a_panic_of_the_iterator_passes_through_and_trips_the_tokens() {
    within(SOON, || {
        let told = Counter::new();
        let replicas = (0..3).map(|i| if i == 2 { bang(2) } else { stuck(&told) });
        assert_eq!(
            caught(|| replicas.hedge().after(SHORT).run().is_ok()),
            Err(2)
        );
        told.wait_for(2);
    });
}

#[test]
fn without_threads_replicas_run_one_by_one_on_the_caller() {
    within(SOON, || {
        let pool = barren();
        let here = std::thread::current().id();
        let replicas = (0..4).map(|i| {
            move |_: CancelToken| {
                assert_eq!(std::thread::current().id(), here);
                if i < 2 { Err(i) } else { Ok(i) }
            }
        });
        assert_eq!(replicas.clone().hedge().on(&pool).run(), Ok(2));
        assert_eq!(replicas.hedge().on(&pool).wait_for_losers().run(), Ok(2));
    });
}

// ---- with a policy

#[test]
fn the_policy_gives_the_delay_and_counts() {
    within(SOON, || {
        let (gate, policy) = (Gate::new(), HedgePolicy::after(SHORT).budget(1.0));
        let replicas = [replica(gated(&gate, 0)), replica(|_| Ok(1))];
        assert_eq!(replicas.into_iter().hedge().policy(&policy).run(), Ok(1));
        gate.open();
        let stats = policy.stats();
        assert_eq!(
            (stats.requests, stats.sent, stats.won, stats.lost),
            (1, 1, 1, 0)
        );

        let slow = Gate::new();
        let replicas = [
            replica({
                let slow = slow.clone();
                move |_| {
                    slow.wait();
                    settle();
                    Ok(0)
                }
            }),
            replica(move |token: CancelToken| {
                slow.open();
                token.wait();
                Err(1)
            }),
        ];
        assert_eq!(replicas.into_iter().hedge().policy(&policy).run(), Ok(0));
        let stats = policy.stats();
        assert_eq!(
            (stats.requests, stats.sent, stats.won, stats.lost),
            (2, 2, 1, 1)
        );
    });
}

/// The replica waits until it is known to be slow, which is when a second one would be started.
#[test]
fn where_there_is_no_other_replica_no_hedge_is_counted() {
    within(SOON, || {
        let policy = HedgePolicy::after(SHORT).budget(0.0).reserve(1);
        let asked = Gate::new();
        let slow = {
            let asked = asked.clone();
            replica(move |_| {
                asked.wait();
                Ok::<_, u8>(0)
            })
        };
        let others = std::iter::from_fn({
            let asked = asked.clone();
            move || {
                asked.open();
                None
            }
        });
        let hedge = std::iter::once(slow).chain(others).hedge();
        assert_eq!(hedge.policy(&policy).run(), Ok(0));
        assert_eq!(policy.stats().sent, 0);
        // and the reserve it would have used is left for another request
        let slow = Gate::new();
        let replicas = [replica(gated(&slow, 0)), replica(|_| Ok(1))];
        let hedge = replicas.into_iter().hedge();
        assert_eq!(hedge.policy(&policy).run(), Ok(1));
        slow.open();
        assert_eq!(policy.stats().sent, 1);
    });
}

#[test]
fn a_spent_budget_refuses_hedges_but_not_replacements() {
    within(SOON, || {
        let policy = HedgePolicy::after(SHORT).budget(0.0).reserve(0);
        let slow = {
            let policy = policy.clone();
            move |_: CancelToken| {
                eventually("it is slow", || policy.stats().refused > 0);
                Ok::<_, u8>(0)
            }
        };
        let hedge = [replica(slow), replica(|_| Ok(1))].into_iter().hedge();
        assert_eq!(hedge.policy(&policy).run(), Ok(0));
        assert_eq!((policy.stats().sent, policy.stats().refused), (0, 1));
        let hedge = [replica(|_| Err(3)), replica(|_| Ok(1))]
            .into_iter()
            .hedge();
        assert_eq!(hedge.policy(&policy).run(), Ok(1));
        assert_eq!((policy.stats().requests, policy.stats().sent), (2, 0));
    });
}

#[cfg(feature = "percentile")]
#[test]
fn a_percentile_learns_from_the_answers() {
    within(SOON, || {
        let policy = HedgePolicy::percentile(95.0).warm_up(20).budget(1.0);
        for _ in 0..20 {
            let hedge = [replica(|_| Ok::<_, ()>(0))].into_iter().hedge();
            assert!(hedge.policy(&policy).run().is_ok());
        }
        eventually("20 are recorded", || policy.delay().is_some());
        let told = Counter::new();
        let replicas = [replica(stuck(&told)), replica(|_| Ok(1))];
        assert_eq!(replicas.into_iter().hedge().policy(&policy).run(), Ok(1));
        told.wait_for(1);
    });
}
