//! P2: admitted minus yielded items are at most `in_flight` at every instant, parked ones included.

use crate::kinds::{KINDS, With, each, items, runs, widths_and};
use crate::support::{Counter, Gate, Ledger, SOON, counted, dawdle, eventually, settle, within};
use fanfold::Fanfold;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// How many items are yielded before the head gets stuck.
const BEFORE: usize = 5;

/// The consumer sleeps in `next()` and the head is stuck: a lone worker cannot go on; more workers fill the
/// bound to the last item.
fn assert_filled(pulls: &Counter, yielded: usize, k: usize, n: usize) {
    pulls.wait_for(yielded + if n > 1 { k } else { 1 });
    settle();
    assert_bound(pulls, yielded, k, n);
}

#[track_caller]
fn assert_bound(pulls: &Counter, yielded: usize, k: usize, n: usize) {
    let beyond = pulls.get() - yielded;
    assert!(beyond <= k, "{beyond} beyond the yielded: n = {n}, k = {k}");
}

#[test]
fn finished_items_that_wait_for_the_head_count() {
    for (n, k) in (2..=9).flat_map(|n| [2, 9, 100].map(move |k| (n, k))) {
        within(SOON, move || {
            let (pulls, ran, gate) = (Counter::new(), Counter::new(), Gate::new());
            let stage = counted(0_usize..1_000, &pulls)
                .par_map_ordered(n, {
                    let (ran, gate) = (ran.clone(), gate.clone());
                    move |i| {
                        if i == BEFORE {
                            gate.wait();
                        }
                        ran.add();
                    }
                })
                .in_flight(k);
            let consumer = std::thread::spawn(move || stage.count());
            // everything but the head is finished and parked
            ran.wait_for(BEFORE + k - 1);
            settle();
            assert_eq!((ran.get(), pulls.get()), (BEFORE + k - 1, BEFORE + k));
            gate.open();
            assert_eq!(consumer.join().expect("no panic"), 1_000);
        });
    }
}

#[test]
fn a_stuck_item_counts_also_when_the_others_overtake_it() {
    for (n, k) in (2..=9).flat_map(|n| [2, 3, 9, 64].map(move |k| (n, k))) {
        within(SOON, move || {
            let (pulls, gate) = (Counter::new(), Gate::new());
            let mut stage = counted(0_usize.., &pulls)
                .par_map_ordered(n, {
                    let gate = gate.clone();
                    move |i| {
                        if i == 0 {
                            gate.wait();
                        }
                        i
                    }
                })
                .unordered()
                .in_flight(k);
            let _opener = gate.opener();
            for yielded in 1..=60 {
                assert_ne!(stage.next(), Some(0));
                assert_bound(&pulls, yielded, k, n);
            }
            settle();
            assert_bound(&pulls, 60, k, n);
        });
    }
}

#[test]
fn rejected_items_count_until_the_consumer_is_past_them() {
    for (n, k) in (1..=9).flat_map(|n| [1, 4, 64].map(move |k| (n, k))) {
        within(SOON, move || {
            let (pulls, gate) = (Counter::new(), Gate::new());
            let stage = counted(0_usize..500, &pulls)
                .par_filter(n, {
                    let gate = gate.clone();
                    move |&i| {
                        if i == BEFORE {
                            gate.wait();
                        }
                        false
                    }
                })
                .in_flight(k);
            let consumer = std::thread::spawn(move || stage.count());
            assert_filled(&pulls, BEFORE, k, n);
            gate.open();
            assert_eq!(consumer.join().expect("no panic"), 0);
            assert_eq!(pulls.get(), 500);
        });
    }
}

#[test]
fn an_item_of_many_results_is_one_item() {
    for n in 1..=9 {
        within(SOON, move || {
            let pulls = Counter::new();
            let mut stage = counted(0.., &pulls)
                .par_flat_map(n, |i| vec![i; 10])
                .in_flight(3);
            for taken in 1..=200_usize {
                assert!(stage.next().is_some());
                let begun = taken.div_ceil(10);
                assert!(
                    pulls.get() <= begun + 3,
                    "{} after {taken}, n = {n}",
                    pulls.get()
                );
            }
        });
    }
}

/// Without a bound set by the user there is a default one: at most 65,536 items, or 32,768 per worker.
#[test]
fn the_default_bound_is_finite() {
    for n in [1, 2, 4, 9] {
        within(SOON, move || {
            let (pulls, gate) = (Counter::new(), Gate::new());
            let stage = counted(0_usize.., &pulls).par_map_ordered(n, {
                let gate = gate.clone();
                move |i| {
                    // fast enough at first for the stage to make large chunks
                    if i == 20_000 {
                        gate.wait();
                    }
                }
            });
            let consumer = std::thread::spawn(move || stage.take(20_001).count());
            pulls.wait_for(20_001);
            if n > 1 {
                pulls.wait_for(20_000 + 16 * n); // at least
            }
            let mut last = 0;
            eventually("the pulls come to an end", || {
                settle();
                let now = pulls.get();
                let most = 65_536.max(32_768 * n);
                assert!(now <= 20_000 + most, "{now} pulled behind a stuck head");
                std::mem::replace(&mut last, now) == now
            });
            gate.open();
            assert_eq!(consumer.join().expect("no panic"), 20_001);
        });
    }
}

#[test]
fn each_stage_of_a_chain_has_a_bound_of_its_own() {
    for n in 1..=9 {
        within(SOON, move || {
            let (pulls, gate) = (Counter::new(), Gate::new());
            let stage = counted(0_usize..300, &pulls)
                .par_map_ordered(n, |i| i)
                .in_flight(7)
                .par_map_ordered(n, {
                    let gate = gate.clone();
                    move |i| {
                        if i == BEFORE {
                            gate.wait();
                        }
                    }
                })
                .in_flight(5);
            let consumer = std::thread::spawn(move || stage.count());
            if n > 1 {
                pulls.wait_for(BEFORE + 12);
            } else {
                pulls.wait_for(BEFORE + 1);
            }
            settle();
            assert!(pulls.get() <= BEFORE + 12, "{}", pulls.get());
            gate.open();
            assert_eq!(consumer.join().expect("no panic"), 300);
        });
    }
}

// ---- every kind of stage

/// The source checks the bound on every pull: it has given out, this item included, at most as many items more
/// as the kind may hold than there were calls of `next()`.
#[test]
fn the_bound_of_every_kind_holds_at_every_pull() {
    each(KINDS, widths_and([1, 2, 3, 9, 64]), |kind, (n, k)| {
        let len = 40 + 2 * k as u64;
        let (asked, pulls, worst) = (
            Counter::new(),
            Counter::new(),
            Arc::new(AtomicUsize::new(0)),
        );
        let source = (0..len).inspect({
            let (asked, pulls, worst) = (asked.clone(), pulls.clone(), Arc::clone(&worst));
            move |_| {
                worst.fetch_max(pulls.add().saturating_sub(asked.get()), SeqCst);
            }
        });
        let with = With::n(n).bound(k).work(|item| dawdle(item.id));
        let ledger = Ledger::new();
        let mut stage = kind.build(items(source, &ledger), &with);
        let mut ids = Vec::new();
        loop {
            asked.add();
            let Some(item) = stage.next() else { break };
            ids.push(item.id);
            if item.id % 32 == 0 {
                dawdle(0);
            }
        }
        kind.assert_all(&ids, len);
        let (worst, most) = (worst.load(SeqCst), (kind.holds)(k));
        assert!(worst <= most, "{worst} in flight, not {most}");
    });
}

#[test]
fn a_consumer_that_is_away_stops_every_kind_at_the_bound() {
    each(KINDS, widths_and([1, 2, 3, 5, 8, 64]), |kind, (n, k)| {
        let (pulls, ledger) = (Counter::new(), Ledger::new());
        let with = With::n(n).bound(k);
        let mut stage = kind.build(items(counted(0.., &pulls), &ledger), &with);
        for taken in 1..=20 {
            assert!(stage.next().is_some());
            if taken % 10 == 0 {
                pulls.wait_for(taken + (kind.fills)(n, k));
                settle();
            }
            let beyond = pulls.get() - taken;
            assert!(beyond <= (kind.holds)(k), "{beyond} beyond the yielded");
        }
    });
}

#[test]
fn a_stuck_item_of_any_kind_stops_the_pulls_at_the_bound() {
    each(runs(), widths_and([1, 2, 3, 5, 8, 64]), |kind, (n, k)| {
        let len = (BEFORE + (kind.holds)(k) + 20) as u64;
        let (pulls, gate, ledger) = (Counter::new(), Gate::new(), Ledger::new());
        let wait = gate.clone();
        let with = With::n(n).bound(k).work(move |item| {
            if item.id == BEFORE as u64 {
                wait.wait();
            }
        });
        let stage = kind.build(items(counted(0..len, &pulls), &ledger), &with);
        let watch = std::thread::spawn(move || {
            let _opener = gate.opener();
            // A lone worker cannot go on; more workers fill the bound.
            pulls.wait_for(BEFORE + if n > 1 { k } else { 1 });
            settle();
            pulls.get()
        });
        let ids: Vec<u64> = stage.map(|item| item.id).collect();
        kind.assert_all(&ids, len);
        let place = ids.iter().position(|id| *id == BEFORE as u64);
        let most = place.expect("it comes") + (kind.holds)(k);
        let pulled = watch.join().expect("no panic");
        assert!(pulled <= most, "{pulled} pulled, not {most}");
    });
}
