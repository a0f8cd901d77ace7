//! `hedge_slow`: a slow item runs a second time, and the first result counts.

use crate::support::{
    Counter, Gate, Ledger, Meter, SOON, Tracked, bang, blocks, caught, counted, message, mix,
    settle, within,
};
use fanfold::{CancelToken, Fanfold, HedgePolicy, hedge, testing};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const SHORT: Duration = Duration::from_millis(5);
const LONG: Duration = Duration::from_secs(3_600);

/// A policy that hedges without a limit.
fn free() -> HedgePolicy {
    HedgePolicy::after(SHORT).budget(1.0).reserve(1_000)
}

/// Counts how often each item has been run.
#[derive(Clone)]
struct Runs(Arc<Vec<AtomicUsize>>);

impl Runs {
    fn new(items: usize) -> Self {
        Runs(Arc::new((0..items).map(|_| AtomicUsize::new(0)).collect()))
    }

    /// Counts one more run of the item and returns its number.
    fn run(&self, item: u64) -> usize {
        self.0[item as usize].fetch_add(1, Ordering::SeqCst) + 1
    }

    fn of(&self, item: u64) -> usize {
        self.0[item as usize].load(Ordering::SeqCst)
    }
}

// ---- the result

#[test]
fn a_fast_item_runs_once() {
    for n in 1..=9 {
        let policy = HedgePolicy::after(LONG);
        let runs = Runs::new(2_000);
        let stage = (0..2_000_u64).par_map_ordered(n, {
            let runs = runs.clone();
            move |i| (runs.run(i), i).1
        });
        assert!(stage.hedge_slow(&policy).eq(0..2_000));
        assert!((0..2_000).all(|i| runs.of(i) == 1));
        let stats = policy.stats();
        assert_eq!((stats.requests, stats.sent, stats.refused), (2_000, 0, 0));
    }
}

/// The first run of some items never ends: only the copies give results.
#[test]
fn a_stuck_item_is_replaced_at_its_place() {
    for n in 2..=9 {
        within(SOON, move || {
            let (gate, runs, policy) = (Gate::new(), Runs::new(60), free());
            let stuck = if n == 2 { 1 } else { 2 };
            let mut stage = (0..60)
                .par_map_ordered(n, {
                    let (gate, runs) = (gate.clone(), runs.clone());
                    move |i| {
                        if runs.run(i) == 1 && i % 30 == 7 && i / 30 < stuck {
                            gate.wait();
                        }
                        i * 2
                    }
                })
                .hedge_slow(&policy);
            let _opener = gate.opener();
            assert!(stage.by_ref().take(60).eq((0..60).map(|i| i * 2)));
            assert_eq!(stage.next(), None); // although detached threads still run
            assert_eq!(runs.of(7), 2);
            assert!(policy.stats().won >= stuck);
        });
    }
}

/// Nothing runs when the consumer falls asleep, so it has no timer yet; then an item gets stuck.
#[test]
fn an_item_started_while_the_consumer_sleeps_is_replaced() {
    for ordered in [true, false] {
        within(SOON, move || {
            let (gate, runs, policy) = (Gate::new(), Runs::new(2), free());
            let source = (0..2).inspect(|_| settle()).chain(blocks(&gate));
            let stage = source.par_map_ordered(4, {
                let (gate, runs) = (gate.clone(), runs.clone());
                move |i| {
                    if runs.run(i) == 1 {
                        gate.wait();
                    }
                    i
                }
            });
            let stage = stage.hedge_slow(&policy);
            let mut stage = if ordered { stage } else { stage.unordered() };
            let _opener = gate.opener();
            assert!(stage.by_ref().take(2).eq(0..2));
        });
    }
}

#[test]
fn without_an_order_any_slow_item_is_replaced() {
    for n in 3..=9 {
        within(SOON, move || {
            let (gate, runs, policy) = (Gate::new(), Runs::new(60), free());
            let mut stage = (0..60)
                .par_map_unordered(n, {
                    let (gate, runs) = (gate.clone(), runs.clone());
                    move |i| {
                        if runs.run(i) == 1 && i % 30 == 7 {
                            gate.wait();
                        }
                        i
                    }
                })
                .hedge_slow(&policy);
            let _opener = gate.opener();
            let mut got: Vec<_> = stage.by_ref().take(60).collect();
            got.sort_unstable();
            assert!(got.into_iter().eq(0..60));
            assert_eq!((runs.of(7), runs.of(37)), (2, 2));
        });
    }
}

#[test]
fn the_last_items_are_hedged_too() {
    for n in 2..=5 {
        within(SOON, move || {
            let (gate, runs, policy) = (Gate::new(), Runs::new(20), free());
            let mut stage = (0..20)
                .par_map_ordered(n, {
                    let (gate, runs) = (gate.clone(), runs.clone());
                    move |i| {
                        if runs.run(i) == 1 && i == 19 {
                            gate.wait();
                        }
                        i
                    }
                })
                .hedge_slow(&policy);
            let _opener = gate.opener();
            assert!(stage.by_ref().take(20).eq(0..20));
            assert_eq!(stage.next(), None);
        });
    }
}

/// The copy is stuck, the item is not.
#[test]
fn a_stuck_copy_does_no_harm() {
    within(SOON, || {
        let (gate, sent, runs, policy) = (Gate::new(), Gate::new(), Runs::new(30), free());
        let mut stage = (0..30)
            .par_map_ordered(3, {
                let (gate, sent, runs) = (gate.clone(), sent.clone(), runs.clone());
                move |i| {
                    if i == 5 {
                        if runs.run(i) == 1 {
                            sent.wait();
                        } else {
                            sent.open();
                            gate.wait();
                        }
                    }
                    i
                }
            })
            .hedge_slow(&policy);
        let _opener = (gate.opener(), sent.opener());
        assert!(stage.by_ref().take(30).eq(0..30));
        assert_eq!(stage.next(), None);
        assert_eq!(policy.stats().won, 0);
    });
}

#[test]
fn an_item_that_loses_has_its_token_tripped() {
    within(SOON, || {
        let (told, runs, policy) = (Counter::new(), Runs::new(9), free());
        let mut stage = (0..9)
            .par_map_ordered(2, {
                let (told, runs) = (told.clone(), runs.clone());
                move |i| {
                    if runs.run(i) == 1 && i == 4 {
                        CancelToken::current().wait();
                        told.add();
                    }
                    i
                }
            })
            .hedge_slow(&policy);
        assert!(stage.by_ref().take(5).eq(0..5));
        told.wait_for(1); // and not only at the end
        assert!(stage.eq(5..9));
    });
}

#[test]
fn a_copy_that_loses_has_its_token_tripped() {
    for both_ask in [false, true] {
        within(SOON, move || {
            let (told, begun, runs, policy) = (Counter::new(), Gate::new(), Runs::new(9), free());
            let mut stage = (0..9)
                .par_map_ordered(2, {
                    let (told, begun, runs) = (told.clone(), begun.clone(), runs.clone());
                    move |i| {
                        if i == 4 {
                            if runs.run(i) == 1 {
                                let _token = both_ask.then(CancelToken::current);
                                begun.wait();
                            } else {
                                let token = CancelToken::current();
                                begun.open();
                                token.wait();
                                told.add();
                            }
                        }
                        i
                    }
                })
                .hedge_slow(&policy);
            let _opener = begun.opener();
            assert!(stage.by_ref().take(5).eq(0..5));
            told.wait_for(1); // and not only at the end
            assert!(stage.eq(5..9));
            // On a busy machine others may be slow too.
            let stats = policy.stats();
            assert!(
                stats.lost >= 1 && stats.won + stats.lost <= stats.sent,
                "{stats:?}"
            );
        });
    }
}

/// Tied requests: the first to claim cancels the other.
#[test]
fn only_one_of_those_that_claim_goes_on() {
    within(SOON, || {
        let (worked, runs, policy) = (Counter::new(), Runs::new(40), free());
        let stage = (0..40)
            .par_map_ordered(4, {
                let (worked, runs) = (worked.clone(), runs.clone());
                move |i| {
                    let token = CancelToken::current();
                    if runs.run(i) == 1 && i % 8 == 3 {
                        let _ = token.sleep(LONG); // in the queue of a slow server
                    }
                    if hedge::claim(&token).is_ok() {
                        worked.add();
                    }
                    i
                }
            })
            .in_flight(8)
            .hedge_slow(&policy);
        assert!(stage.eq(0..40));
        assert_eq!(worked.get(), 40);
    });
}

#[test]
fn an_item_that_has_claimed_is_not_hedged() {
    within(SOON, || {
        let (claimed, policy) = (Counter::new(), free());
        let stage = (0..4).par_map_ordered(2, {
            let claimed = claimed.clone();
            move |i| {
                hedge::claim(&CancelToken::current()).expect("no other claims");
                claimed.add();
                std::thread::sleep(6 * SHORT);
                i
            }
        });
        assert!(stage.hedge_slow(&policy).eq(0..4));
        assert_eq!((claimed.get(), policy.stats().sent), (4, 0));
    });
}

// ---- failures

/// The first run fails while the copy runs; the copy succeeds.
#[test]
fn a_failure_does_not_beat_the_copy() {
    for fails in ["error", "panic"] {
        within(SOON, move || {
            let (copied, failed, runs) = (Gate::new(), Gate::new(), Runs::new(9));
            let policy = free();
            let mut stage = (0..9)
                .try_par_map_ordered(3, {
                    let (copied, failed, runs) = (copied.clone(), failed.clone(), runs.clone());
                    move |i| {
                        if i == 4 {
                            if runs.run(i) == 1 {
                                copied.wait();
                                failed.open();
                                if fails == "panic" {
                                    bang(4);
                                }
                                return Err(4);
                            }
                            copied.open();
                            failed.wait();
                            settle();
                        }
                        Ok(i)
                    }
                })
                .hedge_slow(&policy);
            let _opener = (copied.opener(), failed.opener());
            assert!(stage.by_ref().eq((0..9).map(Ok)), "{fails}");
            assert_eq!(policy.stats().won, 1);
        });
    }
}

/// The copy fails first; the item succeeds later.
#[test]
fn a_failure_of_the_copy_does_not_beat_the_item() {
    for fails in ["error", "panic"] {
        within(SOON, move || {
            let (failed, runs) = (Gate::new(), Runs::new(9));
            let policy = free();
            let mut stage = (0..9)
                .try_par_map_ordered(3, {
                    let (failed, runs) = (failed.clone(), runs.clone());
                    move |i| {
                        if i == 4 {
                            if runs.run(i) == 1 {
                                failed.wait();
                                settle();
                            } else {
                                failed.open();
                                if fails == "panic" {
                                    bang(4);
                                }
                                return Err(4);
                            }
                        }
                        Ok(i)
                    }
                })
                .hedge_slow(&policy);
            let _opener = failed.opener();
            assert!(stage.by_ref().eq((0..9).map(Ok)), "{fails}");
            assert_eq!((policy.stats().sent, policy.stats().lost), (1, 1));
        });
    }
}

/// Both fail, in either order: the results before the item come out, and then the item's own failure.
#[test]
fn if_both_fail_the_failure_is_that_of_the_item() {
    for first in ["item", "copy"] {
        within(SOON, move || {
            let (copied, one, runs, policy) = (Gate::new(), Gate::new(), Runs::new(99), free());
            let mut stage = (0..99)
                .try_par_map_ordered(3, {
                    let (copied, one, runs) = (copied.clone(), one.clone(), runs.clone());
                    move |i| {
                        if i != 4 {
                            return Ok(i);
                        }
                        let item = runs.run(i) == 1;
                        if item {
                            copied.wait();
                        } else {
                            copied.open();
                        }
                        if item == (first == "item") {
                            one.open();
                        } else {
                            one.wait();
                            settle();
                        }
                        Err(if item { "item" } else { "copy" })
                    }
                })
                .hedge_slow(&policy);
            let _opener = (copied.opener(), one.opener());
            let got: Vec<_> = stage.by_ref().collect();
            assert_eq!(got, [Ok(0), Ok(1), Ok(2), Ok(3), Err("item")], "{first}");
            assert_eq!(policy.stats().won, 0);
        });
    }
}

#[test]
fn panics_of_both_are_the_panic_of_the_item() {
    within(SOON, || {
        let (copied, runs, policy) = (Gate::new(), Runs::new(9), free());
        let mut stage = (0..9)
            .par_map_ordered(3, {
                let (copied, runs) = (copied.clone(), runs.clone());
                move |i| {
                    if i == 4 {
                        let which = runs.run(i);
                        if which == 1 {
                            copied.wait();
                        } else {
                            copied.open();
                        }
                        bang(which as u64);
                    }
                    i
                }
            })
            .hedge_slow(&policy);
        let _opener = copied.opener();
        assert!(stage.by_ref().take(4).eq(0..4));
        assert_eq!(caught(|| stage.next()), Err(1));
        assert_eq!(stage.next(), None);
    });
}

#[test]
fn an_isolated_panic_does_not_beat_the_copy_either() {
    within(SOON, || {
        let (copied, runs, policy) = (Gate::new(), Runs::new(9), free());
        let mut stage = (0..9)
            .par_map_ordered(3, {
                let (copied, runs) = (copied.clone(), runs.clone());
                move |i| {
                    if i == 4 || i == 6 {
                        if runs.run(i) == 1 {
                            copied.wait();
                            bang(4);
                        }
                        copied.open();
                        if i == 6 {
                            bang(6);
                        }
                    }
                    i
                }
            })
            .isolate()
            .hedge_slow(&policy);
        let _opener = copied.opener();
        let got: Vec<_> = stage.by_ref().collect();
        assert_eq!(got[4], Ok(4));
        assert!(got[6].as_ref().is_err_and(|failure| failure.seq() == 6));
        assert_eq!(got.len(), 9);
    });
}

/// The failure is held for a copy that the cancellation keeps from starting.
#[test]
fn a_failure_is_not_lost_in_a_cancellation() {
    for round in 0..100_u64 {
        within(SOON, move || {
            let (token, runs) = (CancelToken::new(), Runs::new(9));
            let policy = HedgePolicy::after(Duration::ZERO).budget(1.0);
            let mut stage = (0..9)
                .try_par_map_ordered(2, {
                    let (token, runs) = (token.clone(), runs.clone());
                    move |i| {
                        if i == 2 && runs.run(i) == 1 {
                            if round % 2 == 0 {
                                std::thread::yield_now();
                            }
                            token.cancel();
                            return Err(2);
                        }
                        Ok(i)
                    }
                })
                .hedge_slow(&policy)
                .cancel_on(&token);
            let got: Vec<_> = stage.by_ref().collect();
            // The finished results without a gap, and no more.
            let (good, rest) = got.split_at(2.min(got.len()));
            assert!(good.iter().copied().eq((0..good.len() as u64).map(Ok)));
            assert!(
                matches!(rest, [] | [Err(2) | Ok(2)] | [Ok(2), ..]),
                "{rest:?}"
            );
        });
    }
}

/// The copy of item 0 runs alone, with the failure of the first run in its care, when the stage is cancelled.
#[test]
fn a_cancelled_stage_without_order_waits_for_a_copy() {
    within(SOON, || {
        let (token, runs) = (CancelToken::new(), Runs::new(2));
        let (copied, finish) = (Gate::new(), Gate::new());
        let policy = HedgePolicy::after(Duration::ZERO).budget(1.0);
        // Item 1 comes when the copy runs. So no thread may run it before the first run of item 0 has failed.
        let source = (0..2_u64).inspect({
            let copied = copied.clone();
            move |i| (0..*i).for_each(|_| copied.wait())
        });
        let mut stage = source
            .par_map_unordered(2, {
                let (token, copied, finish) = (token.clone(), copied.clone(), finish.clone());
                move |i| match (i, runs.run(i)) {
                    (0, 1) => {
                        copied.wait();
                        bang(0)
                    }
                    (0, _) => {
                        copied.open();
                        finish.wait();
                        i
                    }
                    _ => {
                        token.cancel();
                        i
                    }
                }
            })
            .isolate()
            .hedge_slow(&policy)
            .cancel_on(&token);
        assert_eq!(stage.next(), Some(Ok(1)));
        let opener = std::thread::spawn(move || {
            settle();
            finish.open();
        });
        assert_eq!(stage.next(), Some(Ok(0)));
        assert_eq!(stage.next(), None);
        opener.join().unwrap();
    });
}

#[test]
fn a_clone_that_panics_is_the_panic_of_its_item() {
    #[derive(Debug)]
    struct Sour(u64);
    impl Clone for Sour {
        fn clone(&self) -> Self {
            if self.0 == 3 { bang(3) } else { Sour(self.0) }
        }
    }
    within(SOON, || {
        let mut stage = (0..9)
            .map(Sour)
            .par_map_ordered(2, |sour| sour.0)
            .hedge_slow(&free());
        assert!(stage.by_ref().take(3).eq(0..3));
        assert_eq!(caught(|| stage.next()), Err(3));
        assert_eq!(stage.next(), None);
    });
}

// ---- limits

#[test]
fn copies_count_towards_the_width() {
    for n in 2..=5 {
        within(SOON, move || {
            let (meter, policy) = (Meter::new(), free());
            let stage = (0..60_u64)
                .par_map_ordered(n, {
                    let meter = meter.clone();
                    move |i| {
                        let _entered = meter.enter();
                        if i % 20 == 3 {
                            std::thread::sleep(20 * SHORT); // the others are soon done
                        }
                        i
                    }
                })
                .hedge_slow(&policy);
            assert!(stage.eq(0..60));
            assert!(policy.stats().sent > 0);
            assert!(meter.most() <= n, "{} of {n}", meter.most());
        });
    }
}

#[test]
fn a_stage_of_one_worker_makes_no_copies() {
    within(SOON, || {
        let (runs, policy) = (Runs::new(9), free());
        let stage = (0..9).par_map_ordered(1, {
            let runs = runs.clone();
            move |i| {
                runs.run(i);
                std::thread::sleep(2 * SHORT);
                i
            }
        });
        assert!(stage.hedge_slow(&policy).eq(0..9));
        assert!((0..9).all(|i| runs.of(i) == 1));
    });
}

#[test]
fn copies_do_not_exceed_the_bound() {
    for bound in 1..=6 {
        within(SOON, move || {
            let (pulled, policy) = (Counter::new(), free());
            let mut stage = counted(0..60_u64, &pulled)
                .par_map_ordered(3, |i| {
                    if i % 8 == 3 {
                        std::thread::sleep(3 * SHORT);
                    }
                    i
                })
                .in_flight(bound)
                .hedge_slow(&policy);
            for yielded in 0..60 {
                assert!(pulled.get() <= yielded + bound);
                assert_eq!(stage.next(), Some(yielded as u64));
            }
            assert_eq!(stage.next(), None);
        });
    }
}

/// The hedge is refused, and the item is waited for.
#[test]
fn when_the_budget_is_spent_the_item_goes_on_unhedged() {
    within(SOON, || {
        let policy = HedgePolicy::after(SHORT).budget(0.0).reserve(2);
        let runs = Runs::new(20);
        let stage = (0..20).par_map_ordered(4, {
            let runs = runs.clone();
            move |i| {
                runs.run(i);
                std::thread::sleep(3 * SHORT);
                i
            }
        });
        assert!(stage.hedge_slow(&policy).eq(0..20));
        let stats = policy.stats();
        assert!(stats.sent >= 2, "{stats:?}"); // copies that were not needed cost nothing
        assert!(stats.refused > 0, "{stats:?}");
        let twice = (0..20).filter(|&i| runs.of(i) > 1).count();
        assert!(twice <= 2, "{twice}");
    });
}

#[test]
fn a_copy_never_keeps_an_item_from_being_started() {
    within(SOON, || {
        let (gate, runs, policy) = (Gate::new(), Runs::new(400), free());
        let mut stage = (0..400)
            .par_map_ordered(2, {
                let (gate, runs) = (gate.clone(), runs.clone());
                move |i| {
                    if runs.run(i) == 1 && i == 0 {
                        gate.wait();
                    } else {
                        std::thread::sleep(Duration::from_micros(200));
                    }
                    i
                }
            })
            .in_flight(200)
            .hedge_slow(&policy);
        let _opener = gate.opener();
        assert_eq!(stage.next(), Some(0));
        // All items that may be in flight beside the copy were started before it.
        assert!((0..199).all(|i| runs.of(i) >= 1));
    });
}

#[test]
fn every_item_result_and_clone_is_dropped_once() {
    #[derive(Debug)]
    struct Twin(Tracked, Arc<Ledgers>);
    #[derive(Debug)]
    struct Ledgers(Ledger, AtomicUsize);
    impl Clone for Twin {
        fn clone(&self) -> Self {
            let id = 1_000 + self.1.1.fetch_add(1, Ordering::SeqCst) as u64;
            Twin(self.1.0.track(id), Arc::clone(&self.1))
        }
    }
    for early in [false, true] {
        for n in 1..=5 {
            within(SOON, move || {
                let (ledger, results) = (Ledger::new(), Ledger::new());
                let ledgers = Arc::new(Ledgers(ledger.clone(), AtomicUsize::new(0)));
                let ids = Arc::new(AtomicUsize::new(0));
                let source: Vec<_> = (0..60)
                    .map(|i| Twin(ledger.track(i), Arc::clone(&ledgers)))
                    .collect();
                let mut stage = source
                    .into_iter()
                    .par_map_ordered(n, {
                        let results = results.clone();
                        move |twin| {
                            if mix(twin.0.id) % 8 == 0 {
                                std::thread::sleep(Duration::from_millis(2));
                            }
                            results.track(ids.fetch_add(1, Ordering::SeqCst) as u64)
                        }
                    })
                    .hedge_slow(&HedgePolicy::after(Duration::from_micros(300)).budget(1.0));
                drop(
                    stage
                        .by_ref()
                        .take(if early { 20 } else { 60 })
                        .collect::<Vec<_>>(),
                );
                drop(stage);
                ledger.assert_dropped_once();
                results.assert_dropped_once();
            });
        }
    }
}

// ---- with other options

#[test]
fn a_blocked_source_does_not_keep_a_copy_from_running() {
    for n in 2..=9 {
        within(SOON, move || {
            let (gate, stuck, runs, policy) = (Gate::new(), Gate::new(), Runs::new(10), free());
            let mut stage = (0..10)
                .chain(blocks(&gate))
                .par_map_ordered(n, {
                    let (stuck, runs) = (stuck.clone(), runs.clone());
                    move |i| {
                        if runs.run(i) == 1 && i == 6 {
                            stuck.wait();
                        }
                        i
                    }
                })
                .hedge_slow(&policy);
            let _opener = (gate.opener(), stuck.opener());
            assert!(stage.by_ref().take(10).eq(0..10));
        });
    }
}

#[test]
fn hedge_slow_combines_with_the_other_options() {
    within(SOON, || {
        let policy = free();
        let timeout = Duration::from_millis(100);
        let got: Vec<_> = (0..9)
            .par_map_ordered_init(
                3,
                || 0_u64,
                |calls, i| {
                    *calls += 1;
                    if i == 4 {
                        CancelToken::current().wait(); // on every run
                    }
                    i
                },
            )
            .item_timeout(timeout)
            .hedge_slow(&policy)
            .isolate()
            .collect();
        let late: Vec<_> = got.iter().map(|r| r.is_err()).collect();
        assert_eq!(late.iter().position(|late| *late), Some(4));
        assert_eq!(late.iter().filter(|late| **late).count(), 1);
        assert!(got[4].as_ref().is_err_and(|failure| failure.is_timeout()));
        assert_eq!((policy.stats().sent, policy.stats().won), (1, 0));
    });
}

/// It measures each item, not the stage.
#[cfg(feature = "percentile")]
#[test]
fn the_policy_learns_how_long_items_take() {
    within(SOON, || {
        let policy = HedgePolicy::percentile(50.0)
            .warm_up(20)
            .budget(0.0)
            .reserve(0);
        let stage = (0..60).par_map_ordered(3, |i| {
            std::thread::sleep(if i == 0 { 60 * SHORT } else { SHORT });
            i
        });
        assert!(stage.hedge_slow(&policy).eq(0..60));
        let median = policy.delay().expect("it has seen enough");
        assert!((SHORT / 2..30 * SHORT).contains(&median), "{median:?}");
    });
}

/// The copy comes too late, and no thread is in `next()` by then.
#[test]
fn a_late_copy_does_not_count_even_if_next_was_not_called() {
    within(SOON, || {
        let (policy, runs, late) = (free(), Runs::new(3), Counter::new());
        let mut stage = (0..3)
            .par_map_ordered(2, {
                let (runs, late) = (runs.clone(), late.clone());
                move |i| {
                    if i == 1 {
                        let is_copy = runs.run(i) == 2;
                        std::thread::sleep(60 * SHORT);
                        if is_copy {
                            late.add();
                        } else {
                            late.wait_for(1);
                            settle();
                        }
                    }
                    i
                }
            })
            .item_timeout(30 * SHORT)
            .hedge_slow(&policy)
            .isolate();
        assert!(stage.next().is_some_and(|result| result.is_ok()));
        while runs.of(1) < 2 {
            assert!(stage.next_within(SHORT).is_err(), "the copy is not there");
        }
        late.wait_for(1);
        settle();
        let second = stage.next().expect("one of three");
        assert!(second.is_err_and(|failure| failure.is_timeout()));
        assert_eq!(stage.map(Result::unwrap).collect::<Vec<_>>(), [2]);
    });
}

#[test]
fn borrowed_and_chained_stages_can_be_hedged() {
    within(SOON, || {
        let words = ["a", "bc", "def"];
        let runs = Runs::new(4);
        let policy = free();
        let lens: Vec<usize> = words
            .iter()
            .par_map_ordered(2, |word| {
                if runs.run(word.len() as u64) == 1 && word.len() == 2 {
                    CancelToken::current().wait();
                }
                word.len()
            })
            .hedge_slow(&policy)
            .par_map_ordered(2, |len| len * 10)
            .collect();
        assert_eq!(lens, [10, 20, 30]);
    });
}

#[test]
fn options_after_the_start_are_refused() {
    let mut stage = (0..3).par_map_unordered(2, |i| i);
    stage.next();
    let said = message(|| stage.hedge_slow(&free()));
    assert!(said.contains("before its first"), "{said}");
}

/// Random delays, failures and widths, against the sequential oracle.
#[test]
fn random_delays_and_failures_give_the_sequential_answer() {
    within(4 * SOON, || {
        for round in 0..150_u64 {
            let n = 1 + (round % 9) as usize;
            let policy = HedgePolicy::after(Duration::from_micros(mix(round) % 400)).budget(1.0);
            let runs = Runs::new(80);
            let fails = mix(round ^ 0x77) % 160;
            let stage = (0..80).try_par_map_ordered(n, {
                let runs = runs.clone();
                move |i| {
                    let random = mix(i ^ round << 8 ^ (runs.run(i) as u64) << 32);
                    if random % 8 == 0 {
                        std::thread::sleep(Duration::from_micros(random >> 8 & 1_023));
                    }
                    if i == fails { Err(i) } else { Ok(i) }
                }
            });
            let stage = stage.in_flight(1 + (mix(round) % 40) as usize);
            let mut got: Vec<_> = stage.hedge_slow(&policy).collect();
            if fails < 80 {
                assert_eq!(got.pop(), Some(Err(fails)));
            }
            assert!(
                got.into_iter().eq((0..80.min(fails)).map(Ok)),
                "round {round}"
            );
            let stats = policy.stats();
            assert!(stats.won + stats.lost <= stats.sent, "{stats:?}");
        }
        testing::assert_quiescent();
    });
}

/// An item has won, and its copy runs on: it takes the place of the next item until it ends. There the consumer pulls.
#[test]
fn a_consumer_that_pulls_is_woken_when_a_copy_ends() {
    for n in 2..=9 {
        within(SOON, move || {
            let (copy, first, runs) = (Gate::new(), Gate::new(), Runs::new(3));
            let f = {
                let (copy, first, runs) = (copy.clone(), first.clone(), runs.clone());
                move |i| {
                    if i == 0 && runs.run(i) == 1 {
                        first.wait();
                    } else if i == 0 {
                        first.open();
                        copy.wait();
                    }
                    i
                }
            };
            let stage = (0..3).local().par_map_ordered(n, f).in_flight(1);
            let mut stage = stage.hedge_slow(&free());
            let _opener = copy.opener();
            assert_eq!(stage.next(), Some(0));
            let opening = std::thread::spawn({
                let copy = copy.clone();
                move || {
                    settle();
                    copy.open();
                }
            });
            assert!(stage.eq(1..3));
            opening.join().expect("no panic");
        });
    }
}

#[cfg(feature = "percentile")]
#[test]
fn a_percentile_warms_up_while_the_first_item_is_stuck() {
    within(SOON, || {
        let (gate, runs) = (Gate::new(), Runs::new(200));
        let policy = HedgePolicy::percentile(50.0).warm_up(40).budget(1.0);
        let mut stage = (0..200)
            .par_map_ordered(3, {
                let (gate, runs) = (gate.clone(), runs.clone());
                move |i| {
                    if runs.run(i) == 1 && i == 0 {
                        gate.wait();
                    }
                    i
                }
            })
            .in_flight(100)
            .hedge_slow(&policy);
        let _opener = gate.opener();
        assert!(stage.by_ref().take(200).eq(0..200));
        assert!(policy.delay().is_some());
    });
}
