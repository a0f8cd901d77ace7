//! P2: admitted minus yielded items are at most `in_flight` at every instant, parked ones included.

use crate::support::{Counter, Gate, SOON, counted, dawdle, eventually, settle, within};
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
fn a_stuck_head_stops_admission_at_the_bound() {
    for (n, k) in (1..=9).flat_map(|n| (1..=9).chain([64]).map(move |k| (n, k))) {
        within(SOON, move || {
            let (pulls, gate) = (Counter::new(), Gate::new());
            let stage = counted(0_usize..1_000, &pulls)
                .par_map_ordered(n, {
                    let gate = gate.clone();
                    move |i| {
                        if i == BEFORE {
                            gate.wait();
                        }
                    }
                })
                .in_flight(k);
            let consumer = std::thread::spawn(move || stage.count());
            assert_filled(&pulls, BEFORE, k, n);
            gate.open();
            assert_eq!(consumer.join().expect("no panic"), 1_000);
        });
    }
}

#[test]
fn a_consumer_that_is_away_stops_admission_at_the_bound() {
    for (n, k) in (1..=9).flat_map(|n| [1, 2, 3, 7, 64].map(move |k| (n, k))) {
        within(SOON, move || {
            let pulls = Counter::new();
            let mut stage = counted(0_usize.., &pulls)
                .par_map_ordered(n, |i| i)
                .in_flight(k);
            for yielded in 1..=BEFORE {
                assert_eq!(stage.next(), Some(yielded - 1));
                std::thread::sleep(std::time::Duration::from_millis(2));
                assert_bound(&pulls, yielded, k, n);
            }
        });
    }
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
fn an_unordered_bound_of_one_waits_for_its_one_item() {
    for n in 1..=9 {
        within(SOON, move || {
            let (pulls, gate) = (Counter::new(), Gate::new());
            let stage = counted(0..100, &pulls)
                .par_map_unordered(n, {
                    let gate = gate.clone();
                    move |i| {
                        if i == 10 {
                            gate.wait();
                        }
                    }
                })
                .in_flight(1);
            let consumer = std::thread::spawn(move || stage.count());
            pulls.wait_for(11);
            settle();
            assert_eq!(pulls.get(), 11);
            gate.open();
            assert_eq!(consumer.join().expect("no panic"), 100);
        });
    }
}

/// The source checks the bound on every pull: it has given out, this item included, at most `k` items
/// more than there were calls of `next()`.
#[test]
fn the_bound_holds_at_every_pull() {
    for (n, k) in (1..=9).flat_map(|n| [1, 2, 3, 9, 64].map(move |k| (n, k))) {
        within(SOON, move || {
            let asked = Arc::new(AtomicUsize::new(0));
            let worst = Arc::new(AtomicUsize::new(0));
            let source = (1_usize..=600).inspect({
                let (asked, worst) = (Arc::clone(&asked), Arc::clone(&worst));
                move |&pulled| {
                    worst.fetch_max(pulled.saturating_sub(asked.load(SeqCst)), SeqCst);
                }
            });
            let mut stage = source
                .par_map_ordered(n, |i| {
                    dawdle(i as u64);
                    i
                })
                .in_flight(k);
            for i in 1..=601 {
                asked.fetch_add(1, SeqCst);
                assert_eq!(stage.next(), (i <= 600).then_some(i));
                if i % 32 == 0 {
                    dawdle(0);
                }
            }
            let worst = worst.load(SeqCst);
            assert!(worst <= k, "{worst} in flight, n = {n}, k = {k}");
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
