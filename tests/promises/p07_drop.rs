//! P7: dropping a stage stops admission, trips its token, waits for the closures that run, and drops
//! every item exactly once; queued items never start. `mem::forget` is safe.

use crate::kinds::{KINDS, Kind, With, ahead, each, items, runs, widths_and};
use crate::support::{
    Counter, Gate, Ledger, SOON, Tracked, WIDTHS, bang, blocks, calls_counted, caught, counted,
    dawdle, settle, within,
};
use fanfold::testing::assert_quiescent;
use fanfold::{CancelToken, Fanfold};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

/// Whether a closure was started after the drop had returned.
#[derive(Clone, Default)]
struct LateStarts {
    dropped: Arc<AtomicBool>,
    late: Arc<AtomicUsize>,
}

impl LateStarts {
    fn check(&self) {
        if self.dropped.load(SeqCst) {
            self.late.fetch_add(1, SeqCst);
        }
    }

    fn dropped(&self) {
        self.dropped.store(true, SeqCst);
    }

    #[track_caller]
    fn assert_none(&self) {
        assert_eq!(self.late.load(SeqCst), 0, "closures started after the drop");
    }
}

#[test]
fn every_item_result_and_state_is_dropped_exactly_once() {
    for (n, k) in (1..=9).flat_map(|n| (0..=50).map(move |k| (n, k))) {
        within(SOON, move || {
            let (items, results, states) = (Ledger::new(), Ledger::new(), Ledger::new());
            let made = Counter::new();
            let source = (0..120_u64).map({
                let items = items.clone();
                move |i| items.track(i)
            });
            let init = {
                let states = states.clone();
                move || states.track(made.add() as u64)
            };
            let mut stage = source.par_map_ordered_init(n, init, {
                let results = results.clone();
                move |_, item| {
                    dawdle(item.id ^ k << 8);
                    results.track(item.id)
                }
            });
            let taken: Vec<u64> = stage
                .by_ref()
                .take(k as usize)
                .map(|result| result.id)
                .collect();
            assert!(taken.into_iter().eq(0..k));
            drop(stage);
            items.assert_dropped_once();
            results.assert_dropped_once();
            states.assert_dropped_once();
            assert!(states.created() <= n);
        });
    }
}

#[test]
fn items_held_by_filter_and_flat_map_are_dropped_once() {
    for (n, k) in (1..=9).flat_map(|n| (0..=20).map(move |k| (n, k))) {
        within(SOON, move || {
            let ledger = Ledger::new();
            let source = || {
                let ledger = ledger.clone();
                (0..120_u64).map(move |i| ledger.track(i))
            };
            let mut filter = source().par_filter(n, |item| item.id % 2 == 0);
            assert_eq!(filter.by_ref().take(k).count(), k);
            drop(filter);
            ledger.assert_dropped_once();

            let (items, results) = (Ledger::new(), Ledger::new());
            let source = (0..120_u64).map({
                let items = items.clone();
                move |i| items.track(i)
            });
            let mut flat_map = source.par_flat_map(n, {
                let results = results.clone();
                move |item| {
                    (0..5)
                        .map(|j| results.track(item.id * 5 + j))
                        .collect::<Vec<_>>()
                }
            });
            // usually in the middle of one item's results
            assert_eq!(flat_map.by_ref().take(k * 3).count(), k * 3);
            drop(flat_map);
            items.assert_dropped_once();
            results.assert_dropped_once();
        });
    }
}

/// They are held back until after the drop has begun, and then let go at once: each ends before the drop does, and no
/// other starts, though there are workers for the queued ones.
#[test]
fn the_drop_waits_for_the_running_closures() {
    for n in 1..=9 {
        within(SOON, move || {
            let (started, told, ended) = (Counter::new(), Counter::new(), Counter::new());
            let (gate, over) = (Gate::new(), Gate::new());
            let mut stage = (0..1_000)
                .par_map_ordered(n, {
                    let (started, told, ended) = (started.clone(), told.clone(), ended.clone());
                    let gate = gate.clone();
                    move |i| {
                        if i > 0 {
                            started.add();
                            CancelToken::current().wait();
                            told.add();
                            gate.wait();
                            ended.add();
                        }
                    }
                })
                .in_flight(100);
            let _opener = gate.opener();
            assert!(stage.next().is_some());
            started.wait_for(n);
            let dropper = std::thread::spawn({
                let (ended, over) = (ended.clone(), over.clone());
                move || {
                    drop(stage);
                    over.open();
                    ended.get()
                }
            });
            told.wait_for(n);
            settle();
            assert!(!over.is_open(), "the drop is back before the closures");
            gate.open();
            assert_eq!(dropper.join().expect("no panic"), n);
            settle();
            assert_eq!((started.get(), ended.get()), (n, n));
        });
    }
}

#[test]
fn a_stage_that_never_started_touches_nothing() {
    within(SOON, || {
        let (ledger, pulls, ran) = (Ledger::new(), Counter::new(), Counter::new());
        let items: Vec<_> = (0..10).map(|i| ledger.track(i)).collect();
        let stage = counted(items.into_iter(), &pulls)
            .par_map_ordered(3, {
                let ran = ran.clone();
                move |_| ran.add()
            })
            .in_flight(4)
            .named("never");
        assert_eq!(ledger.alive(), 10);
        drop(stage);
        ledger.assert_dropped_once();
        assert_eq!((pulls.get(), ran.get()), (0, 0));
    });
}

#[test]
fn the_source_and_the_closure_are_dropped_with_the_stage() {
    for n in 1..=9 {
        within(SOON, move || {
            let ledger = Ledger::new();
            let (in_source, in_closure) = (ledger.track(1), ledger.track(2));
            let id = |held: &Tracked| held.id;
            let source = (0..1_000).inspect(move |_| assert_eq!(id(&in_source), 1));
            let mut stage = source.par_map_ordered(n, move |i| i + id(&in_closure));
            assert_eq!(stage.next(), Some(2));
            assert_eq!(ledger.alive(), 2);
            drop(stage);
            ledger.assert_dropped_once();
        });
    }
}

#[test]
fn a_drop_behind_the_end_finds_nothing_to_do() {
    for n in 1..=9 {
        within(SOON, move || {
            let ledger = Ledger::new();
            let source = (0..100).map({
                let ledger = ledger.clone();
                move |i| ledger.track(i)
            });
            let mut stage = source.par_map_ordered(n, |item| item.id);
            assert!(stage.by_ref().eq(0..100));
            assert!(stage.next().is_none());
            ledger.assert_dropped_once();
            drop(stage);
            ledger.assert_dropped_once();
        });
    }
}

#[test]
fn a_chain_is_dropped_as_a_whole() {
    for (n, k) in (1..=9).flat_map(|n| [0, 1, 7, 50].map(move |k| (n, k))) {
        within(SOON, move || {
            let (ledger, late) = (Ledger::new(), LateStarts::default());
            let check = |late: &LateStarts| {
                let late = late.clone();
                move |item| {
                    late.check();
                    item
                }
            };
            let source = (0..).map({
                let ledger = ledger.clone();
                move |i| ledger.track(i)
            });
            let mut chain = source
                .par_map_ordered(n, check(&late))
                .par_map_unordered(n, check(&late))
                .skip(1)
                .par_map_ordered(n, check(&late));
            assert_eq!(chain.by_ref().take(k).count(), k);
            drop(chain);
            late.dropped();
            ledger.assert_dropped_once();
            late.assert_none();
        });
    }
}

#[test]
fn a_panic_of_the_consumer_drops_the_stage_like_any_other() {
    for (n, k) in (1..=9).flat_map(|n| [0, 1, 10, 49].map(move |k| (n, k))) {
        within(SOON, move || {
            let (ledger, late) = (Ledger::new(), LateStarts::default());
            let source = (0..50).map({
                let ledger = ledger.clone();
                move |i| ledger.track(i)
            });
            let raised = caught(|| {
                let stage = source.par_map_ordered(n, {
                    let late = late.clone();
                    move |item| {
                        late.check();
                        item
                    }
                });
                for item in stage {
                    if item.id == k {
                        bang(k);
                    }
                }
            });
            late.dropped();
            assert_eq!(raised, Err(k));
            ledger.assert_dropped_once();
            settle();
            late.assert_none();
        });
    }
}

#[test]
fn a_panic_in_a_terminal_call_drops_the_stage_like_any_other() {
    for n in 1..=9 {
        within(SOON, move || {
            let ledger = Ledger::new();
            let (items, good) = (0..50_u64, String::from("borrowed"));
            let raised = caught(|| {
                items
                    .map(|i| ledger.track(i))
                    .par_map_ordered(n, |item| (item, good.len()))
                    .for_each(|(item, _)| {
                        if item.id == 9 {
                            bang(9);
                        }
                    });
            });
            assert_eq!(raised, Err(9));
            ledger.assert_dropped_once();
        });
    }
}

#[test]
fn a_started_stage_may_be_dropped_on_another_thread() {
    for n in 1..=9 {
        within(SOON, move || {
            let ledger = Ledger::new();
            let source = (0..).map({
                let ledger = ledger.clone();
                move |i| ledger.track(i)
            });
            let mut stage = source.par_map_ordered(n, |item| item);
            assert_eq!(stage.next().expect("an item").id, 0);
            let other = std::thread::spawn(move || {
                assert_eq!(stage.next().expect("an item").id, 1);
            });
            other.join().expect("no panic");
            ledger.assert_dropped_once();
        });
    }
}

/// A forgotten stage keeps what it holds, and its workers wait for room that never comes.
#[test]
fn a_forgotten_stage_is_safe() {
    for n in 1..=9 {
        within(SOON, move || {
            let (pulls, ran) = (Counter::new(), Counter::new());
            let mut stage = counted(0.., &pulls)
                .par_map_ordered(n, {
                    let ran = ran.clone();
                    move |i| {
                        ran.add();
                        i
                    }
                })
                .in_flight(4);
            assert_eq!(stage.next(), Some(0));
            std::mem::forget(stage);
            settle();
            assert!(pulls.get() <= 5 && ran.get() <= 5);
            // other stages are not affected
            assert_eq!((0..100).par_map_ordered(n, |i| i).count(), 100);
        });
    }
}

#[test]
fn a_forgotten_stage_is_stopped_before_its_scope_returns() {
    for n in 1..=9 {
        let late = LateStarts::default();
        let check = late.clone();
        within(SOON, move || {
            let text = String::from("borrowed");
            let f = |i: usize| {
                check.check();
                dawdle(i as u64);
                check.check();
                i + text.len()
            };
            fanfold::scope(|s| {
                let mut stage = (0..).par_map_ordered(n, f).in_flight(1_000_000).within(s);
                assert_eq!(stage.next(), Some(8));
                std::mem::forget(stage);
            });
            check.dropped();
        });
        settle();
        late.assert_none();
    }
}

/// Every stage of the chain, not just the last, which alone was given the scope.
#[test]
fn a_forgotten_chain_is_stopped_before_its_scope_returns() {
    for n in 1..=5 {
        let late = LateStarts::default();
        let check = late.clone();
        within(SOON, move || {
            let text = String::from("borrowed");
            let f = |i: usize| {
                check.check();
                dawdle(i as u64);
                i + text.len()
            };
            fanfold::scope(|s| {
                let mut chain = (0..)
                    .par_map_unordered(n, f)
                    .in_flight(1_000_000)
                    .par_map_ordered(n, f)
                    .within(s);
                assert!(chain.next().is_some());
                std::mem::forget(chain);
            });
            fanfold::scope(|s| {
                let mut chain = (0..)
                    .par_map_unordered(n, f)
                    .in_flight(1_000_000)
                    .local()
                    .par_map_ordered(n, f)
                    .within(s);
                assert!(chain.next().is_some());
                std::mem::forget(chain);
            });
            fanfold::scope(|s| {
                let mut chain = (0..)
                    .par_map_unordered(n, f)
                    .in_flight(1_000_000)
                    .within(s)
                    .map(|i| i + text.len())
                    .par_map_ordered(n, f)
                    .within(s);
                assert!(chain.next().is_some());
                std::mem::forget(chain);
            });
            check.dropped();
        });
        settle();
        late.assert_none();
    }
}

/// A scope stops its stages before it returns, even if a panic left one forgotten.
#[test]
fn a_panic_in_a_scope_stops_what_was_forgotten_there() {
    for n in 1..=5 {
        within(SOON, move || {
            let late = LateStarts::default();
            let raised = caught(|| {
                fanfold::scope(|s| {
                    let f = |i: u64| {
                        late.check();
                        i
                    };
                    let mut stage = (0..).par_map_ordered(n, f).in_flight(1_000_000).within(s);
                    assert_eq!(stage.next(), Some(0));
                    std::mem::forget(stage);
                    bang(5)
                })
            });
            late.dropped();
            assert_eq!(raised, Err(5));
            settle();
            late.assert_none();
        });
    }
}

// ---- every kind of stage

#[test]
fn every_item_is_dropped_once_whenever_the_stage_is() {
    each(
        KINDS,
        widths_and([0, 1, 2, 3, 7, 20, 50]),
        |kind, (n, taken)| {
            for bound in [1, 3, 64] {
                let ledger = Ledger::new();
                let with = With::n(n).bound(bound).work(|item| dawdle(item.id));
                let mut stage = kind.build(items(0..1_000, &ledger), &with);
                let ids: Vec<u64> = stage.by_ref().take(taken).map(|item| item.id).collect();
                assert_eq!(ids.len(), taken);
                kind.assert_in_order(&ids);
                drop(stage);
                ledger.assert_dropped_once();
                assert_quiescent();
            }
        },
    );
}

#[test]
fn no_kind_starts_a_closure_after_the_drop() {
    each(
        runs(),
        widths_and([1, 2, 3, 5, 8, 13, 21, 50]),
        |kind, (n, k)| {
            let (late, ledger) = (LateStarts::default(), Ledger::new());
            let with = With::n(n).bound(100).work({
                let late = late.clone();
                move |item| {
                    late.check();
                    dawdle(item.id ^ k << 8);
                    late.check();
                }
            });
            let stage = kind.build(items(0.., &ledger), &with);
            assert_eq!(stage.take(k as usize).count(), k as usize);
            late.dropped();
            ledger.assert_dropped_once();
            if k % 5 == 0 {
                settle();
            }
            late.assert_none();
        },
    );
}

/// All workers are busy until their tokens tell that the drop has begun: no queued item may start.
#[test]
fn a_drop_of_any_kind_waits_for_what_runs_and_starts_nothing() {
    let wide = |kind: &&Kind| kind.is_wide();
    each(ahead().filter(wide), WIDTHS, |kind, n| {
        let (started, ended) = (Counter::new(), Counter::new());
        let (pulls, ledger) = (Counter::new(), Ledger::new());
        let with = With::n(n).bound(100).work({
            let (started, ended) = (started.clone(), ended.clone());
            move |item| {
                if item.id > 0 {
                    started.add();
                    CancelToken::current().wait();
                    settle();
                    ended.add();
                }
            }
        });
        let mut stage = kind.build(items(counted(0..1_000, &pulls), &ledger), &with);
        assert_eq!(stage.next().map(|item| item.id), Some(0));
        started.wait_for(n);
        drop(stage);
        let pulled = pulls.get();
        assert_eq!((started.get(), ended.get()), (n, n));
        assert!(pulled <= 1 + (kind.holds)(100), "{pulled} pulled");
        settle();
        assert_eq!((started.get(), pulls.get()), (n, pulled));
        ledger.assert_dropped_once();
        assert_quiescent();
    });
}

/// The source is in `next()` when the stage is dropped. It is told, and not asked again, whether it ends then or
/// still has an item.
#[test]
fn a_drop_of_any_kind_tells_its_source_and_pulls_no_more() {
    each(ahead(), widths_and([false, true]), |kind, (n, ends)| {
        let (calls, ledger) = (Counter::new(), Ledger::new());
        let source = (0..1_000).map_while(move |i| {
            if i == 5 {
                CancelToken::current().wait();
            }
            (i < 5 || !ends).then_some(i)
        });
        let source = items(calls_counted(source, &calls), &ledger);
        let mut stage = kind.build(source, &With::n(n));
        assert_eq!(stage.by_ref().take(5).count(), 5);
        calls.wait_for(6);
        drop(stage);
        assert_eq!(calls.get(), 6);
        assert_eq!(ledger.created(), if ends { 5 } else { 6 });
        ledger.assert_dropped_once();
        assert_quiescent();
    });
}

#[test]
fn a_drop_of_any_kind_waits_for_a_source_that_is_asked() {
    each(ahead(), WIDTHS, |kind, n| {
        let (gate, inside, ledger) = (Gate::new(), Counter::new(), Ledger::new());
        let source = (0..1).chain(calls_counted(blocks(&gate), &inside));
        let mut stage = kind.build(items(source, &ledger), &With::n(n));
        let _open = gate.opener();
        assert!(stage.next().is_some());
        inside.wait_for(1);
        let opener = gate.clone();
        let watch = std::thread::spawn(move || {
            settle();
            opener.open();
        });
        drop(stage);
        assert!(gate.is_open(), "the drop is back before the source");
        watch.join().expect("no panic");
    });
}
