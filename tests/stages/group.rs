//! `group` and `group_all`: heterogeneous tasks that may borrow, at most `limit` at once.

use crate::support::{Counter, Gate, Ledger, Meter, SOON, bang, caught, dawdle, settle, within};
use fanfold::{CancelToken, Cancelled, Fanfold, Task, group, group_all, group_with};
use std::time::Duration;

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

#[test]
fn heterogeneous_tasks_borrow_and_all_end_with_the_group() {
    within(SOON, || {
        let docs: Vec<String> = (0..20).map(|i| format!("d{i}")).collect();
        let (mut sum, mut text) = (0, String::new());
        let result: Result<&str, Error> = group(4, |g| {
            g.spawn(|| {
                sum = docs.iter().map(String::len).sum();
                Ok(())
            });
            g.spawn(|| {
                text.push_str(&docs[7]);
                Ok(())
            });
            for d in &docs {
                g.spawn(move || {
                    if d.is_empty() {
                        Err(Error::Bad(0))
                    } else {
                        Ok(())
                    }
                });
            }
            "value"
        });
        assert_eq!((result, sum, text.as_str()), (Ok("value"), 50, "d7"));
        assert_eq!(group::<_, _, Error>(3, |_| 7), Ok(7));
    });
}

#[test]
fn limit_tasks_run_at_once_and_never_more() {
    for limit in 1..=9 {
        within(SOON, move || {
            let meter = Meter::new();
            let result: Result<(), Error> = group(limit, |g| {
                for _ in 0..limit * 4 {
                    g.spawn(|| {
                        meter.meet(limit);
                        Ok(())
                    });
                }
            });
            assert_eq!((result, meter.most()), (Ok(()), limit));
        });
    }
}

#[test]
fn spawn_blocks_at_the_limit() {
    for limit in 1..=5 {
        within(SOON, move || {
            let (gate, spawned) = (Gate::new(), Counter::new());
            let main = std::thread::spawn({
                let (gate, spawned) = (gate.clone(), spawned.clone());
                move || {
                    group(limit, |g| {
                        for _ in 0..=limit {
                            g.spawn(|| {
                                gate.wait();
                                Ok::<_, Error>(())
                            });
                            spawned.add();
                        }
                    })
                }
            });
            spawned.wait_for(limit);
            settle();
            assert_eq!(spawned.get(), limit);
            gate.open();
            assert_eq!(main.join().expect("no panic"), Ok(()));
            assert_eq!(spawned.get(), limit + 1);
        });
    }
}

#[test]
fn try_spawn_gives_the_task_back_at_the_limit() {
    for limit in 1..=5 {
        within(SOON, move || {
            let (gate, ran) = (Gate::new(), Counter::new());
            let result: Result<(), Error> = group(limit, |g| {
                let task = || {
                    ran.add();
                    gate.wait();
                    Ok(())
                };
                for _ in 0..limit {
                    assert!(g.try_spawn(task).is_ok());
                }
                let back = g.try_spawn(task).expect_err("the task");
                gate.open();
                // a place becomes free some time after a task has ended
                crate::support::eventually("a place", || g.try_spawn(back).is_ok());
            });
            assert_eq!((result, ran.get()), (Ok(()), limit + 1));
        });
    }
}

#[test]
fn the_first_error_trips_the_token_and_is_returned() {
    for limit in 2..=9 {
        within(SOON, move || {
            let running = Counter::new();
            let result: Result<(), Error> = group(limit, |g| {
                for _ in 1..limit {
                    g.spawn(|| {
                        running.add();
                        // an error caused by the tripped token only echoes the first one
                        let token = CancelToken::current();
                        token.wait();
                        Ok(token.check()?)
                    });
                }
                running.wait_for(limit - 1);
                assert!(!g.token().is_cancelled());
                g.spawn(|| Err::<(), _>(Error::Bad(7)));
                g.token().wait();
            });
            assert_eq!(result, Err(Error::Bad(7)));
        });
    }
}

#[test]
fn nothing_starts_after_the_first_error() {
    within(SOON, || {
        let (ledger, ran) = (Ledger::new(), Counter::new());
        let result: Result<(), Error> = group(2, |g| {
            g.spawn(|| Err::<(), _>(Error::Bad(1)));
            g.token().wait();
            for i in 0..50 {
                let (item, ran) = (ledger.track(i), &ran);
                g.spawn(move || {
                    ran.add();
                    drop(item);
                    Ok(())
                });
            }
            let more = g.try_spawn(|| {
                ran.add();
                Ok(())
            });
            assert!(more.is_ok());
        });
        assert_eq!((result, ran.get()), (Err(Error::Bad(1)), 0));
        ledger.assert_dropped_once();
    });
}

/// A `spawn` that waits for a place does not wait forever once nothing more will be started.
#[test]
fn an_error_ends_the_wait_for_a_place() {
    within(SOON, || {
        let result: Result<(), Error> = group(1, |g| {
            g.spawn(|| Err::<(), _>(Error::Bad(1)));
            for _ in 0..100 {
                g.spawn(|| Ok(()));
            }
        });
        assert_eq!(result, Err(Error::Bad(1)));
    });
}

#[test]
fn cancelling_the_groups_token_reaches_the_tasks() {
    within(SOON, || {
        let result: Result<u8, Error> = group(3, |g| {
            for _ in 0..3 {
                g.spawn(|| {
                    CancelToken::current().wait();
                    Ok(())
                });
            }
            g.token().cancel();
            9
        });
        assert_eq!(result, Ok(9));
    });
}

#[test]
fn all_errors_come_back_in_the_order_of_the_tasks() {
    for limit in 1..=9 {
        within(SOON, move || {
            let ran = Counter::new();
            let result = group_all(limit, |g| {
                for i in 0..40_u64 {
                    let ran = &ran;
                    g.spawn(move || {
                        ran.add();
                        dawdle(i * limit as u64);
                        if i % 3 == 0 {
                            Err(Error::Bad(i))
                        } else {
                            Ok(())
                        }
                    });
                }
            });
            let bad: Vec<Error> = (0..40).step_by(3).map(Error::Bad).collect();
            assert_eq!((result, ran.get()), (Err(bad), 40));
            let task = group_all::<_, _, Error>(limit, |g| g.spawn(|| Ok(())));
            assert_eq!(task.map(Task::join), Ok(Some(())));
        });
    }
}

#[test]
fn a_panic_propagates_with_its_payload_when_all_are_done() {
    for limit in 1..=9 {
        within(SOON, move || {
            let ledger = Ledger::new();
            let raised = caught(|| {
                group(limit, |g| {
                    for i in 0..20 {
                        let item = ledger.track(i);
                        g.spawn(move || {
                            dawdle(item.id);
                            if item.id == 9 {
                                bang(9)
                            } else {
                                Ok::<_, Error>(())
                            }
                        });
                    }
                })
            });
            assert_eq!(raised, Err(9));
            ledger.assert_dropped_once();
            let raised = caught(|| {
                group_all::<_, _, Error>(limit, |g| {
                    let _: Task<()> = g.spawn(|| bang(3));
                })
            });
            assert_eq!(raised, Err(3));
        });
    }
}

/// Hooks run on the thread of the task whose failure trips the token.
#[test]
fn a_panic_of_a_hook_propagates_like_one_of_a_task() {
    within(SOON, || {
        let raised = caught(|| {
            group(2, |g| {
                g.token().on_cancel(|| bang(5)).detach();
                g.spawn(|| Err::<(), _>(1));
            })
        });
        assert_eq!(raised, Err(5));
    });
}

#[test]
fn a_panic_of_the_closure_waits_for_the_tasks_and_tells_them() {
    for limit in 1..=9 {
        within(SOON, move || {
            let (running, over) = (Counter::new(), Counter::new());
            let raised = caught(|| {
                group(limit, |g| -> () {
                    for _ in 0..limit {
                        g.spawn(|| {
                            running.add();
                            CancelToken::current().wait();
                            over.add();
                            Ok::<_, Error>(())
                        });
                    }
                    running.wait_for(limit);
                    bang(5)
                })
            });
            assert_eq!((raised.map(drop), over.get()), (Err(5), limit));
        });
    }
}

#[test]
fn tasks_may_spawn_tasks() {
    within(SOON, || {
        let ran = Counter::new();
        let result: Result<(), Error> = group(4, |g| {
            for _ in 0..3 {
                g.spawn(|| {
                    ran.add();
                    group(2, |h| {
                        for _ in 0..5 {
                            h.spawn(|| {
                                ran.add();
                                Ok(())
                            });
                        }
                    })
                });
            }
        });
        assert_eq!((result, ran.get()), (Ok(()), 18));
    });
}

#[test]
fn groups_and_stages_nest() {
    within(SOON, || {
        let items = [1_u64, 2, 3];
        let sums = (0..10_u64).par_map_ordered(3, |i| {
            let total = std::sync::Mutex::new(0);
            let result: Result<(), Error> = group(2, |g| {
                for &x in &items {
                    let total = &total;
                    g.spawn(move || {
                        let part: u64 = (0..i).par_map_ordered(2, |j| j * x).sum();
                        *total.lock().expect("not poisoned") += part;
                        Ok(())
                    });
                }
            });
            result.map(|()| total.into_inner().expect("not poisoned"))
        });
        let ours: Result<Vec<u64>, Error> = sums.collect();
        let theirs = (0..10).map(|i: u64| (0..i).sum::<u64>() * 6).collect();
        assert_eq!(ours, Ok(theirs));
    });
}

#[test]
fn many_groups_at_once() {
    within(SOON, || {
        std::thread::scope(|s| {
            for _ in 0..8 {
                s.spawn(|| {
                    for _ in 0..50 {
                        let ran = Counter::new();
                        let result: Result<(), Error> = group(3, |g| {
                            for _ in 0..10 {
                                g.spawn(|| {
                                    ran.add();
                                    Ok(())
                                });
                            }
                        });
                        assert_eq!((result, ran.get()), (Ok(()), 10));
                    }
                });
            }
        });
    });
}

// ---- values

#[test]
fn tasks_of_unlike_types_give_their_values() {
    for limit in 1..=9 {
        within(SOON, move || {
            let words = [String::from("to"), String::from("be")];
            let result: Result<_, Error> = group(limit, |g| {
                let number = g.spawn(|| Ok(words.len()));
                let borrowed = g.spawn(|| Ok(&words[1]));
                let many: Vec<_> = (0..20_u64)
                    .map(|i| {
                        g.spawn(move || {
                            dawdle(i * limit as u64);
                            Ok(i)
                        })
                    })
                    .collect();
                (number, borrowed, many)
            });
            let (number, borrowed, many) = result.expect("no error");
            assert!(number.is_finished());
            assert_eq!((number.join(), borrowed.join()), (Some(2), Some(&words[1])));
            assert!(many.into_iter().map(Task::join).eq((0..20).map(Some)));
        });
    }
}

#[test]
fn a_join_within_the_group_waits() {
    for limit in 1..=9 {
        within(SOON, move || {
            let result: Result<_, Error> = group(limit, |g| {
                let gate = Gate::new();
                let slow = g.spawn({
                    let gate = gate.clone();
                    move || {
                        gate.wait();
                        Ok(7)
                    }
                });
                assert!(!slow.is_finished());
                gate.open();
                slow.join()
            });
            assert_eq!(result, Ok(Some(7)));
        });
    }
}

/// Each task but the first waits for the one before it. It has been started by then, so this cannot dead-lock.
#[test]
fn tasks_join_one_another() {
    for limit in 1..=9 {
        within(SOON, move || {
            let result: Result<_, Error> = group(limit, |g| {
                let first = g.spawn(|| Ok(0_u64));
                (1..50).fold(first, |before, i| {
                    g.spawn(move || {
                        dawdle(i);
                        Ok(before.join().expect("it has succeeded") + i)
                    })
                })
            });
            assert_eq!(result.map(Task::join), Ok(Some(49 * 50 / 2)));
        });
    }
}

/// Who has joined a task finds its place free.
#[test]
fn a_joined_task_runs_no_more() {
    within(SOON, || {
        let result: Result<(), Error> = group(1, |g| {
            for i in 0..1_000_u64 {
                let task = g.try_spawn(move || Ok(i)).ok().expect("there is room");
                assert_eq!(task.join(), Some(i));
            }
        });
        assert_eq!(result, Ok(()));
    });
}

/// It has no value; and the group has failed by then, so nothing that is spawned afterwards runs.
#[test]
fn a_task_that_failed_is_joined() {
    for limit in 1..=9 {
        within(SOON, move || {
            for _ in 0..50 {
                let ran = Counter::new();
                let result = group(limit, |g| {
                    let task = g.spawn(|| Err::<u8, _>(Error::Bad(3)));
                    assert_eq!(task.join(), None);
                    assert!(g.token().is_cancelled());
                    let skipped = g.spawn(|| Ok(ran.add()));
                    assert!(skipped.is_finished());
                    assert_eq!(skipped.join(), None);
                    assert_eq!(
                        g.try_spawn(|| Ok(ran.add())).ok().map(Task::join),
                        Some(None)
                    );
                });
                assert_eq!((result, ran.get()), (Err(Error::Bad(3)), 0));
            }
            // where no error ends the group, the others have their values
            let result = group_all(limit, |g| {
                let bad = g.spawn(|| Err::<u8, _>(Error::Bad(3)));
                let good = g.spawn(|| Ok(5));
                assert_eq!((bad.join(), good.join()), (None, Some(5)));
                assert_eq!(g.spawn(|| Ok(6)).join(), Some(6));
            });
            assert_eq!(result, Err(vec![Error::Bad(3)]));
        });
    }
}

#[test]
fn a_task_that_panicked_is_joined() {
    for limit in 1..=9 {
        within(SOON, move || {
            let seen = Counter::new();
            let raised = caught(|| {
                group::<_, _, Error>(limit, |g| {
                    let task: Task<u8> = g.spawn(|| bang(4));
                    assert_eq!(task.join(), None);
                    assert_eq!(g.spawn(|| Ok(1)).join(), None);
                    seen.add();
                })
            });
            assert_eq!((raised, seen.get()), (Err(4), 1));
        });
    }
}

/// A value is dropped once: with the handle, or where the handle is gone by the end of the task, before the group ends.
#[test]
fn values_are_dropped_with_their_handles() {
    for limit in 1..=9 {
        within(SOON, move || {
            let ledger = Ledger::new();
            let result: Result<_, Error> = group(limit, |g| {
                let gate = Gate::new();
                // dropped before the value is there
                drop(g.spawn({
                    let (gate, ledger) = (gate.clone(), ledger.clone());
                    move || {
                        gate.wait();
                        Ok(ledger.track(0))
                    }
                }));
                gate.open();
                // dropped after it
                let early = g.spawn(|| Ok(ledger.track(1)));
                crate::support::eventually("it has ended", || early.is_finished());
                drop(early);
                // joined, and left to the group's value
                drop(g.spawn(|| Ok(ledger.track(2))).join());
                g.spawn(|| Ok(ledger.track(3)))
            });
            let kept = result.expect("no error");
            assert_eq!((ledger.created(), ledger.alive()), (4, 1));
            drop(kept);
            ledger.assert_dropped_once();
            // the values of a group that fails go with its closure's value
            let ledger = Ledger::new();
            let failed = group(limit, |g| {
                let task = g.spawn(|| Ok(ledger.track(0)));
                g.spawn(|| Err::<(), _>(Error::Bad(1)));
                task
            });
            assert_eq!(failed.err(), Some(Error::Bad(1)));
            assert_eq!(ledger.alive(), 0);
        });
    }
}

#[test]
fn a_value_without_a_handle_whose_drop_panics() {
    for limit in 1..=9 {
        within(SOON, move || {
            let (dropped, gate) = (Counter::new(), Gate::new());
            let raised = caught(|| {
                group::<_, _, Error>(limit, |g| {
                    drop(g.spawn(|| {
                        gate.wait();
                        Ok(dropped.stubborn(6))
                    }));
                    gate.open();
                })
            });
            assert_eq!((raised, dropped.get()), (Err(6), 1));
        });
    }
}

/// A handle is bound to nothing: it may go to a thread that outlives the group, or be forgotten.
#[test]
fn a_handle_may_outlive_its_group() {
    within(SOON, || {
        let result: Result<_, Error> = group(2, |g| {
            std::mem::forget(g.spawn(|| Ok(1)));
            let task = g.spawn(|| Ok(vec![1, 2]));
            std::thread::spawn(move || task.join())
        });
        let thread = result.expect("no error");
        assert_eq!(thread.join().expect("no panic"), Some(vec![1, 2]));
    });
}

// ---- group_with

#[test]
fn a_token_stops_a_group() {
    for limit in 1..=9 {
        within(SOON, move || {
            let (token, running, ran) = (CancelToken::new(), Counter::new(), Counter::new());
            let result = group_with(&token, limit, |g| {
                for _ in 0..limit {
                    g.spawn(|| {
                        running.add();
                        CancelToken::current().wait();
                        ran.add();
                        Ok(())
                    });
                }
                running.wait_for(limit);
                let waits = std::thread::spawn({
                    let token = token.clone();
                    move || {
                        settle(); // mostly, the spawn below waits by now
                        token.cancel();
                    }
                });
                let skipped = g.spawn(|| Ok(ran.add()));
                assert_eq!(skipped.join(), None);
                assert!(g.token().is_cancelled());
                waits.join().expect("no panic");
                assert_eq!(
                    g.try_spawn(|| Ok(ran.add())).ok().map(Task::join),
                    Some(None)
                );
                5
            });
            assert_eq!((result, ran.get()), (Err(Error::Stopped), limit));
        });
    }
}

#[test]
fn a_token_that_is_tripped_already_runs_no_task() {
    within(SOON, || {
        let (token, ran) = (CancelToken::new(), Counter::new());
        token.cancel();
        let result: Result<(), Error> = group_with(&token, 2, |g| {
            assert!(g.token().is_cancelled());
            g.spawn(|| Ok(ran.add()));
        });
        assert_eq!((result, ran.get()), (Err(Error::Stopped), 0));
        // nothing was left out
        let result: Result<u8, Error> = group_with(&token, 2, |_| 3);
        assert_eq!(result, Ok(3));
    });
}

#[test]
fn what_was_done_when_the_token_is_tripped_is_done() {
    for limit in 1..=9 {
        within(SOON, move || {
            let token = CancelToken::new();
            let result: Result<_, Error> = group_with(&token, limit, |g| {
                let task = g.spawn(|| Ok(7));
                let seven = task.join();
                token.cancel();
                seven
            });
            assert_eq!(result, Ok(Some(7)));
            // a task that does not look at its token has run to its end, too
            let token = CancelToken::new();
            let result: Result<_, Error> = group_with(&token, limit, |g| {
                g.spawn(|| {
                    token.cancel();
                    Ok(8)
                })
            });
            assert_eq!(result.map(Task::join), Ok(Some(8)));
        });
    }
}

#[test]
fn the_error_of_a_task_comes_before_that_of_the_token() {
    within(SOON, || {
        let token = CancelToken::new();
        let result = group_with(&token, 2, |g| {
            g.spawn(|| {
                CancelToken::current().wait();
                Err::<(), _>(Error::Bad(1))
            });
            token.cancel();
            g.spawn(|| Ok(()));
        });
        assert_eq!(result, Err(Error::Bad(1)));
    });
}

#[test]
fn a_group_with_a_deadline() {
    for limit in 1..=3 {
        within(SOON, move || {
            let token = CancelToken::new().with_timeout(Duration::from_millis(20));
            let result: Result<(), Cancelled> = group_with(&token, limit, |g| {
                for _ in 0..9 {
                    g.spawn(|| CancelToken::current().sleep(Duration::from_secs(3_600)));
                }
            });
            assert!(result.expect_err("the deadline").is_deadline());
            // tasks that do not look at it: a spawn that waits hears of it
            let token = CancelToken::new().with_timeout(Duration::from_millis(20));
            let gate = Gate::new();
            let result: Result<(), Cancelled> = group_with(&token, limit, |g| {
                let _opener = gate.opener();
                for _ in 0..limit {
                    g.spawn(|| {
                        gate.wait();
                        Ok(())
                    });
                }
                assert_eq!(g.spawn(|| Ok(())).join(), None);
            });
            assert!(result.expect_err("the deadline").is_deadline());
        });
    }
}

/// The task has returned `Ok`, but of a part.
#[test]
fn a_task_in_which_something_was_cut_short_is_not_done() {
    within(SOON, || {
        let (token, begun) = (CancelToken::new(), Counter::new());
        let result: Result<_, Error> = group_with(&token, 2, |g| {
            let count = g.spawn(|| {
                let endless = (0_u64..).par_map_ordered(2, |i| {
                    begun.add();
                    i
                });
                Ok(endless.count())
            });
            begun.wait_for(10);
            token.cancel();
            count
        });
        assert_eq!(result.err(), Some(Error::Stopped));
    });
}

/// In a closure of a stage, whether its own token is another one or that of the closure.
#[test]
fn a_group_in_a_closure_stops_with_the_stage() {
    for own in [false, true] {
        within(SOON, move || {
            let (begun, seen) = (Counter::new(), Counter::new());
            let all = fanfold::parallel_map(0..2, 2, |i| {
                if i == 0 {
                    begun.wait_for(1);
                    return Err(Error::Bad(0));
                }
                let token = if own {
                    CancelToken::new()
                } else {
                    CancelToken::current()
                };
                let result = group_with(&token, 1, |g| {
                    for _ in 0..3 {
                        g.spawn(|| {
                            begun.add();
                            CancelToken::current().wait();
                            Ok(())
                        });
                    }
                });
                assert_eq!(result, Err(Error::Stopped));
                seen.add();
                result
            });
            assert_eq!(all, Err(Error::Bad(0)));
            assert_eq!((begun.get(), seen.get()), (1, 1));
        });
    }
}

/// The caller learns of it by the error, so what it makes of that is a result like any other.
#[test]
fn a_group_that_was_stopped_spoils_nothing_around_it() {
    within(SOON, || {
        let outer = CancelToken::new();
        let result: Result<_, Error> = group_with(&outer, 1, |g| {
            g.spawn(|| {
                let limit = CancelToken::new();
                let inner: Result<usize, Error> = group_with(&limit, 1, |g| {
                    let cut =
                        g.spawn(|| Ok((0..).readahead(1).inspect(|_| limit.cancel()).count()));
                    cut.join().unwrap_or(0)
                });
                assert_eq!(inner, Err(Error::Stopped));
                outer.cancel(); // too late to matter
                Ok(7)
            })
        });
        assert_eq!(result.map(Task::join), Ok(Some(7)));
    });
}
