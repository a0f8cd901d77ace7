//! P6: the original payload is raised on the consumer at the item's place; nothing is lost silently,
//! nothing hangs, nothing aborts.

use crate::kinds::{KINDS, Kind, With, ahead, each, items, runs, widths_and};
use crate::support::{
    Bang, Counter, Gate, Ledger, SOON, WIDTHS, bang, caught, counted, dawdle, message, mix,
    panics_at, payload, settle, within,
};
use fanfold::testing::assert_quiescent;
use fanfold::{CancelToken, Fanfold, ItemError};
use std::panic::panic_any;
use std::sync::Arc;

/// Takes all results up to a panic; returns them and the id of the [`Bang`]. Nothing may come after a
/// panic.
fn drained<T>(stage: &mut impl Iterator<Item = T>) -> (Vec<T>, Option<u64>) {
    let mut out = Vec::new();
    loop {
        match caught(|| stage.next()) {
            Ok(Some(x)) => out.push(x),
            Ok(None) => return (out, None),
            Err(id) => {
                for _ in 0..3 {
                    assert!(stage.next().is_none());
                }
                return (out, Some(id));
            }
        }
    }
}

#[test]
fn the_payload_is_the_original_one() {
    within(SOON, || {
        let text = message(|| {
            (0..5)
                .par_map_ordered(2, |i| assert!(i < 3, "item {i} is bad"))
                .count()
        });
        assert_eq!(text, "item 3 is bad");
        let shared = Arc::new(7_u8);
        let mut stage = [Arc::clone(&shared)]
            .into_iter()
            .par_map_ordered(2, |arc| panic_any(arc));
        let raised = payload(|| stage.next()).expect_err("a panic");
        let raised = raised.downcast::<Arc<u8>>().expect("an Arc");
        assert!(Arc::ptr_eq(&raised, &shared));
    });
}

#[test]
fn the_lowest_index_wins_on_every_run() {
    for run in 0..300 {
        let n = 1 + (run % 9) as usize;
        let first = (0..100).find(|&i| mix(run ^ i) % 5 == 0).expect("one");
        within(SOON, move || {
            let mut stage = (0..100).par_map_ordered(n, move |i| {
                dawdle(run << 16 ^ i);
                if mix(run ^ i) % 5 == 0 {
                    bang(i);
                }
                i
            });
            let (before, panic) = drained(&mut stage);
            assert_eq!(
                (before.len() as u64, panic),
                (first, Some(first)),
                "run {run}"
            );
        });
    }
}

#[test]
fn the_lowest_index_wins_though_it_panics_last() {
    for n in 2..=9 {
        within(SOON, move || {
            let later = Gate::new();
            let mut stage = (0..20).par_map_ordered(n, move |i| {
                match i {
                    0 => later.wait(),
                    1 => later.open(),
                    _ => {}
                }
                bang(i)
            });
            let (before, panic): (Vec<()>, _) = drained(&mut stage);
            assert_eq!((before.len(), panic), (0, Some(0)));
        });
    }
}

#[test]
fn an_error_and_a_panic_are_ranked_by_index() {
    for n in 1..=9 {
        within(SOON, move || {
            let run = |error: u64, panic: u64| {
                let mut stage = (0..50).try_par_map_ordered(n, move |i| {
                    dawdle(i);
                    if i == panic {
                        bang(i);
                    }
                    if i == error { Err(i) } else { Ok(i) }
                });
                drained(&mut stage)
            };
            let (before, panic) = run(7, 5);
            assert_eq!((before.len(), panic), (5, Some(5)));
            let (before, panic) = run(5, 7);
            assert_eq!(
                (before.len(), before.last(), panic),
                (6, Some(&Err(5)), None)
            );
        });
    }
}

#[test]
fn a_panic_of_init_arrives() {
    for n in 1..=9 {
        within(SOON, move || {
            let mut stage = (0..50).par_map_ordered_init(n, || bang(77), |(), i| i);
            let (before, panic) = drained(&mut stage);
            assert_eq!((before.len(), panic), (0, Some(77)));
        });
    }
}

/// One worker is made, the next is not.
#[test]
fn a_panic_of_the_second_init_arrives() {
    for n in 2..=9 {
        within(SOON, move || {
            let inits = Counter::new();
            let init = {
                let inits = inits.clone();
                move || {
                    if inits.add() == 2 {
                        bang(77);
                    }
                }
            };
            let mut stage = (0..200).par_map_ordered_init(n, init, move |(), i| {
                // the head takes its time until a second worker is needed
                inits.wait_for(2);
                i
            });
            let (before, panic) = drained(&mut stage);
            assert!(before.iter().copied().eq(0..before.len()));
            assert_eq!(panic, Some(77));
        });
    }
}

#[test]
fn a_panic_of_any_closure_arrives_at_its_place() {
    for n in 1..=9 {
        within(SOON, move || {
            let at = |i: u64| if i == 31 { bang(i) } else { i };
            let odd = move |i: u64| at(i) % 2 == 1;
            let (before, panic) = drained(&mut (0..99).par_filter(n, move |&i| odd(i)));
            assert_eq!((before.len(), panic), (15, Some(31)));
            let filter_map = move |i| odd(i).then_some(i);
            let (before, panic) = drained(&mut (0..99).par_filter_map(n, filter_map));
            assert_eq!((before.len(), panic), (15, Some(31)));
            let (before, panic) = drained(&mut (0..99).par_flat_map(n, move |i| [at(i); 3]));
            assert_eq!((before.len(), panic), (93, Some(31)));
            // the panic happens in the iterator that the closure returned
            let lazy = move |i| (0..3).map(move |_| at(i));
            let (before, panic) = drained(&mut (0..99).par_flat_map(n, lazy));
            assert_eq!((before.len(), panic), (93, Some(31)));
            let with = move |(): &mut (), i| at(i);
            let (before, panic) = drained(&mut (0..99).par_map_ordered_init(n, || (), with));
            assert_eq!((before.len(), panic), (31, Some(31)));
            let (before, panic) = drained(&mut (0..99).par_map_unordered(n, at).in_flight(1));
            assert_eq!((before.len(), panic), (31, Some(31)));
        });
    }
}

#[test]
fn a_panic_ends_an_unordered_stage() {
    for n in 1..=9 {
        within(SOON, move || {
            let mut stage = (0_u64..).par_map_unordered(n, |i| if i == 500 { bang(i) } else { i });
            let (before, panic) = drained(&mut stage);
            assert_eq!(panic, Some(500));
            assert!(before.iter().all(|&i| i != 500));
        });
    }
}

/// A payload that panics when it is dropped must not abort the program.
#[derive(Debug)]
struct Bomb(Counter);

impl Drop for Bomb {
    fn drop(&mut self) {
        self.0.add();
        if !std::thread::panicking() {
            bang(999);
        }
    }
}

#[test]
fn payloads_that_panic_in_drop_are_survived() {
    for n in 1..=9 {
        for run in 0..10 {
            within(SOON, move || {
                let dropped = Counter::new();
                let mut stage = (0..50).par_map_ordered(n, {
                    let dropped = dropped.clone();
                    move |i| {
                        dawdle(run << 8 ^ i);
                        if i > 3 {
                            std::panic::resume_unwind(Box::new(Bomb(dropped.clone())));
                        }
                        i
                    }
                });
                assert!(stage.by_ref().take(4).eq(0..4));
                let won = payload(|| stage.next()).expect_err("a panic");
                assert!(won.is::<Bomb>());
                std::mem::forget(won);
                assert!(payload(|| stage.next()).is_ok_and(|none| none.is_none()));
                let _ = payload(|| drop(stage));
                assert_eq!((0..9).par_map_unordered(n, |i| i).count(), 9);
            });
        }
    }
}

/// The losing payloads are never seen; not even the first one is, if the stage is dropped early.
#[test]
fn losing_payloads_that_panic_in_drop_are_dropped_all_the_same() {
    for n in 2..=9 {
        within(SOON, move || {
            let (dropped, gate, banged) = (Counter::new(), Gate::new(), Counter::new());
            let mut stage = (0..n).par_map_ordered(n, {
                let (dropped, gate, banged) = (dropped.clone(), gate.clone(), banged.clone());
                move |i| {
                    if i == 0 {
                        return;
                    }
                    banged.add();
                    gate.wait();
                    std::panic::resume_unwind(Box::new(Bomb(dropped.clone())));
                }
            });
            assert_eq!(stage.next(), Some(()));
            banged.wait_for(n - 1);
            gate.open();
            let _ = payload(|| drop(stage));
            assert_eq!(dropped.get(), n - 1);
        });
    }
}

#[test]
fn an_item_drop_panic_in_a_closure_is_a_closure_panic() {
    for n in 1..=9 {
        within(SOON, move || {
            let ledger = Ledger::new();
            let mut stage = (0..50)
                .map({
                    let ledger = ledger.clone();
                    move |i| {
                        if i == 20 {
                            ledger.bomb(i)
                        } else {
                            ledger.track(i)
                        }
                    }
                })
                .par_map_ordered(n, |item| item.id);
            let (before, panic) = drained(&mut stage);
            assert!(before.into_iter().eq(0..20));
            assert_eq!(panic, Some(20));
            drop(stage);
            ledger.assert_dropped_once();
        });
    }
}

/// Items that panic in drop, all discarded by an early drop of the stage: the queued ones before they
/// start, the running ones as results.
#[test]
fn a_drop_panic_of_a_discarded_value_is_survived() {
    for (n, every) in (1..=9).flat_map(|n| [1, 7, 64].map(move |every| (n, every))) {
        within(SOON, move || {
            let (ledger, running) = (Ledger::new(), Counter::new());
            let source = (0..1_000_u64).map({
                let ledger = ledger.clone();
                move |i| {
                    if i >= 30 && i % every == 0 {
                        ledger.bomb(i)
                    } else {
                        ledger.track(i)
                    }
                }
            });
            let mut stage = source
                .par_map_ordered(n, {
                    let running = running.clone();
                    move |item| {
                        if item.id >= 30 {
                            running.add();
                            CancelToken::current().wait();
                        }
                        item
                    }
                })
                .in_flight(100);
            assert_eq!(stage.by_ref().take(30).map(drop).count(), 30);
            running.wait_for(n);
            // one of the panics comes out of the drop
            assert!(caught(|| drop(stage)).is_err() || ledger.created() < 65);
            ledger.assert_dropped_once();
        });
    }
}

#[test]
fn the_others_are_dropped_once_though_some_panic_in_drop() {
    for n in 1..=9 {
        for every in [2, 10, 1_000] {
            within(SOON, move || {
                let (items, results) = (Ledger::new(), Ledger::new());
                let source = (0..1_000_u64).map({
                    let items = items.clone();
                    move |i| items.track(i)
                });
                let mut stage = source
                    .par_map_ordered(n, {
                        let results = results.clone();
                        move |item| {
                            if item.id % every == 9 % every {
                                results.bomb(item.id)
                            } else {
                                results.track(item.id)
                            }
                        }
                    })
                    .in_flight(60);
                for _ in 0..9 {
                    let _ = caught(|| drop(stage.next()));
                }
                let dropped = payload(|| drop(stage));
                if let Err(raised) = dropped {
                    assert!(
                        raised.is::<Bang>(),
                        "the first panic of a drop is the one raised"
                    );
                }
                items.assert_dropped_once();
                results.assert_dropped_once();
            });
        }
    }
}

/// While a panic unwinds the consumer, a second one out of the stage's drop would abort.
#[test]
fn the_consumers_own_panic_wins_over_drop_panics() {
    for n in 1..=9 {
        within(SOON, move || {
            let results = Ledger::new();
            let raised = caught(|| {
                let stage = (0..1_000).par_map_ordered(n, {
                    let results = results.clone();
                    move |i| results.bomb(i)
                });
                for result in stage {
                    if result.id == 5 {
                        std::mem::forget(result);
                        bang(4_321);
                    }
                    let _ = payload(|| drop(result));
                }
            });
            assert_eq!(raised, Err(4_321));
            assert_eq!(results.alive(), 1);
        });
    }
}

#[test]
fn an_isolated_panic_fails_its_item_and_the_rest_goes_on() {
    for n in 1..=9 {
        within(SOON, move || {
            let stage = (0..100_u64)
                .par_map_ordered(n, |i| {
                    dawdle(i);
                    assert!(i % 10 != 3, "{i} ends in 3");
                    i
                })
                .isolate();
            let results: Vec<Result<u64, ItemError>> = stage.collect();
            assert_eq!(results.len(), 100);
            for (i, result) in (0..).zip(results) {
                if i % 10 == 3 {
                    let failure = result.expect_err("a failure");
                    assert_eq!(failure.seq(), i);
                    assert_eq!(failure.message(), format!("{i} ends in 3"));
                    assert!(failure.is_panic());
                    assert!(failure.to_string().contains(failure.message()));
                } else {
                    assert_eq!(result, Ok(i));
                }
            }
        });
    }
}

#[test]
fn an_isolated_payload_without_text_may_panic_in_drop() {
    for n in 1..=9 {
        within(SOON, move || {
            let dropped = Counter::new();
            let results: Vec<Result<u64, ItemError>> = (0..20)
                .par_map_ordered(n, |i| {
                    if i % 4 == 1 {
                        std::panic::resume_unwind(Box::new(Bomb(dropped.clone())));
                    }
                    i
                })
                .isolate()
                .collect();
            for (i, result) in (0..).zip(&results) {
                match result {
                    Ok(x) => assert_eq!(*x, i),
                    Err(failure) => assert_eq!((failure.seq(), i % 4), (i, 1)),
                }
            }
            assert_eq!((results.len(), dropped.get()), (20, 5));
        });
    }
}

#[test]
fn every_adaptor_can_be_isolated() {
    within(SOON, || {
        let at = |i: u64| if i == 5 { bang(i) } else { i };
        let tally = |results: &mut dyn Iterator<Item = Result<u64, ItemError>>| {
            let (good, bad): (Vec<_>, Vec<_>) = results.partition(Result::is_ok);
            let seqs: Vec<u64> = bad
                .into_iter()
                .map(|failed| failed.expect_err("a failure").seq())
                .collect();
            (good.len(), seqs)
        };
        let source = || 0..10_u64;
        let mut stage = source().par_map_unordered(3, at).isolate();
        assert_eq!(tally(&mut stage), (9, vec![5]));
        let mut stage = source().par_filter(3, move |i| at(*i) % 2 == 0).isolate();
        assert_eq!(tally(&mut stage), (5, vec![5]));
        let mut stage = source().par_filter_map(3, move |i| Some(at(i))).isolate();
        assert_eq!(tally(&mut stage), (9, vec![5]));
        let mut stage = source().par_flat_map(3, move |i| [at(i); 2]).isolate();
        assert_eq!(tally(&mut stage), (18, vec![5]));
        let mut stage = source()
            .par_map_ordered_init(3, || (), move |(), i| at(i))
            .isolate();
        assert_eq!(tally(&mut stage), (9, vec![5]));
    });
}

#[test]
fn an_isolated_stage_still_ends_at_its_first_error() {
    for n in 1..=9 {
        within(SOON, move || {
            let results: Vec<_> = (0..100_u64)
                .try_par_map_ordered(n, |i| match i {
                    3 => bang(i),
                    8 => Err(i),
                    _ => Ok(i),
                })
                .isolate()
                .collect();
            assert_eq!(results.len(), 9);
            assert_eq!(results[3].as_ref().expect_err("a failure").seq(), 3);
            assert_eq!(results[8], Ok(Err(8)));
        });
    }
}

#[test]
fn few_items_run_after_a_panic() {
    for n in 2..=9 {
        within(SOON, move || {
            let (pulls, gone) = (Counter::new(), Gate::new());
            let mut stage = counted(0_u64..100_000, &pulls).par_map_ordered(n, {
                let gone = gone.clone();
                move |i| {
                    if i == 0 {
                        gone.open();
                        bang(i);
                    }
                    gone.wait();
                    crate::support::spin(std::time::Duration::from_micros(20));
                }
            });
            let (before, panic) = drained(&mut stage);
            assert_eq!((before.len(), panic), (0, Some(0)));
            drop(stage);
            let now = pulls.get();
            assert!(now < 5_000, "{now} admitted");
            settle();
            assert_eq!(pulls.get(), now, "and no more afterwards");
        });
    }
}

#[test]
fn a_panic_inside_a_stage_inside_a_closure_arrives() {
    for n in 1..=4 {
        within(SOON, move || {
            let mut stage = (0..20).par_map_ordered(n, move |i| {
                (0..20)
                    .par_map_ordered(n, move |j| if (i, j) == (7, 11) { bang(711) } else { j })
                    .sum::<u64>()
            });
            let (before, panic) = drained(&mut stage);
            assert_eq!((before, panic), (vec![190; 7], Some(711)));
        });
    }
}

#[test]
fn a_panic_passes_through_the_stages_of_a_chain() {
    for n in 1..=9 {
        within(SOON, move || {
            let mut stage = (0..100)
                .par_map_ordered(n, |i| if i == 42 { bang(i) } else { i })
                .par_filter(n, |_| true)
                .fuse()
                .par_map_ordered(n, |i| i);
            let (before, panic) = drained(&mut stage);
            assert!(before.into_iter().eq(0..42));
            assert_eq!(panic, Some(42));
        });
    }
}

#[test]
fn a_panic_reaches_a_terminal_call() {
    within(SOON, || {
        let stage = || (0..100).par_map_ordered(3, |i: u64| if i == 42 { bang(i) } else { i });
        assert_eq!(caught(|| stage().collect::<Vec<_>>()), Err(42));
        assert_eq!(caught(|| stage().for_each(drop)), Err(42));
        assert_eq!(caught(|| stage().sum::<u64>()), Err(42));
        assert_eq!(caught(|| stage().count()), Err(42));
        assert_eq!(caught(|| stage().last()), Err(42));
        // the panic does not reach a consumer that stopped before it
        assert_eq!(caught(|| stage().find(|i| *i == 41)), Ok(Some(41)));
        assert_eq!(caught(|| stage().any(|i| i == 41)), Ok(true));
    });
}

#[test]
fn a_hundred_panics_later_the_pool_is_as_good_as_new() {
    within(SOON, || {
        for i in 0..100 {
            let stage = (0..9).par_map_ordered(4, move |j| if j == i % 9 { bang(j) } else { j });
            assert_eq!(caught(|| stage.count()), Err(i % 9));
        }
        assert_eq!((0..1_000).par_map_ordered(4, |i| i).count(), 1_000);
    });
}

// ---- every kind of stage

#[test]
fn a_source_panic_comes_at_its_place_in_every_kind() {
    each(
        KINDS,
        widths_and([0, 1, 2, 5, 19, 30, 700]),
        |kind, (n, at)| {
            let (calls, ledger) = (Counter::new(), Ledger::new());
            // Many tiny items make large chunks.
            let with = With::n(n).work(move |item| {
                if at < 100 {
                    dawdle(item.id);
                }
            });
            let mut stage = kind.build(items(panics_at(at, &calls), &ledger), &with);
            let (before, panic) = drained(&mut stage.by_ref().map(|item| item.id));
            kind.assert_in_order(&before);
            // Without any order the panic has no place.
            if kind.serial || (kind.lane)(1) == 0 {
                assert_eq!(before.len() as u64, at);
            }
            assert_eq!(panic, Some(at));
            assert_eq!(calls.get() as u64, at + 1, "it is left alone then");
            if kind.ahead {
                assert_quiescent();
            }
            drop(stage);
            ledger.assert_dropped_once();
            assert_quiescent();
        },
    );
}

#[test]
fn a_closure_panic_comes_at_its_place_in_every_kind() {
    each(
        runs(),
        widths_and([0, 1, 2, 5, 10, 20, 49]),
        |kind, (n, at)| {
            let (pulls, ledger) = (Counter::new(), Ledger::new());
            let with = With::n(n).bound(100).work(move |item| {
                dawdle(item.id ^ at << 8);
                if item.id == at {
                    bang(at);
                }
            });
            let mut stage = kind.build(items(counted(0.., &pulls), &ledger), &with);
            let (mut seen, panic) = drained(&mut stage.by_ref().map(|item| item.id));
            assert_eq!(panic, Some(at));
            // It stands behind all that came before it in its lane, and nothing stands behind it.
            let lane = (kind.lane)(at);
            seen.push(at);
            kind.assert_in_order(&seen);
            let of_lane = seen.iter().rfind(|&&id| (kind.lane)(id) == lane);
            assert_eq!(of_lane, Some(&at));
            // The first stage of a chain has a bound of its own to fill.
            if at % 10 == 0 && (kind.holds)(1) == 1 {
                let now = pulls.get();
                settle();
                assert!(pulls.get() <= now + 1, "it goes on");
            }
            drop(stage);
            ledger.assert_dropped_once();
            assert_quiescent();
        },
    );
}

/// The items of a window, or of a chunk, are in a `Vec`, the drop of which aborts when two items panic.
fn without_windows() -> impl Iterator<Item = &'static Kind> {
    ahead().filter(|kind| !kind.comes_in_vecs())
}

/// Of eight items one is yielded, the others are held: as finished results, or else some run and others wait. Each
/// drop panics, and if two panics meet, the process aborts.
#[test]
fn panics_of_the_items_a_drop_discards_do_not_meet() {
    each(
        without_windows(),
        widths_and([false, true]),
        |kind, (n, finished)| {
            let (ledger, pulls) = (Ledger::new(), Counter::new());
            let (first, started, ran) = (Gate::new(), Counter::new(), Counter::new());
            let items = ledger.clone();
            let source = (0..8).map(move |i| match i {
                0 => items.track(0),
                _ => items.stubborn(i),
            });
            let with = With::n(n).bound(8).work({
                let (first, started, ran) = (first.clone(), started.clone(), ran.clone());
                move |item| {
                    started.add();
                    match item.id {
                        0 => {}
                        _ if finished => first.wait(),
                        _ => CancelToken::current().wait(),
                    }
                    ran.add();
                }
            });
            let mut stage = kind.build(Box::new(counted(source, &pulls)), &with);
            let _opener = first.opener();
            assert_eq!(stage.next().map(|item| item.id), Some(0));
            first.open();
            started.wait_for(if kind.runs { 2 } else { 0 });
            pulls.wait_for(if finished || kind.beside { 8 } else { 2 });
            settle();
            if finished && kind.runs {
                // The first one, which was yielded, and those behind it.
                ran.wait_for(kind.parks.min(7) + 1);
            }
            assert!(caught(|| drop(stage)).is_err());
            ledger.assert_dropped_once();
            assert_quiescent();
        },
    );
}

#[test]
fn a_panic_in_the_drop_of_a_held_item_is_raised() {
    each(ahead(), WIDTHS, |kind, n| {
        let (ledger, pulls, first) = (Ledger::new(), Counter::new(), Gate::new());
        let items = ledger.clone();
        let source = (0..8).map(move |i| match i {
            4 => items.bomb(4),
            _ => items.track(i),
        });
        let wait = first.clone();
        let with = With::n(n).bound(8).work(move |item| {
            if item.id > 0 {
                wait.wait();
            }
        });
        let mut stage = kind.build(Box::new(counted(source, &pulls)), &with);
        let _opener = first.opener();
        assert_eq!(stage.next().map(|item| item.id), Some(0));
        first.open();
        pulls.wait_for(8);
        assert_eq!(caught(|| drop(stage)), Err(4));
        ledger.assert_dropped_once();
        assert_quiescent();
    });
}

#[test]
fn a_drop_panic_of_any_kind_does_not_meet_the_users() {
    each(without_windows(), WIDTHS, |kind, n| {
        let (ledger, pulls) = (Ledger::new(), Counter::new());
        let items = ledger.clone();
        // As many as there is room for.
        let source = (0..4).map(move |i| items.stubborn(i));
        let source = Box::new(counted(source, &pulls));
        let met = caught(|| {
            let mut stage = kind.build(source, &With::n(n).bound(4));
            std::mem::forget(stage.next());
            pulls.wait_for(4);
            bang(9);
        });
        assert_eq!((met, ledger.alive()), (Err(9), 1));
    });
}
