//! P4: a result whose predecessors have been yielded is yielded at once, whatever the source does and
//! however long another item runs; an admitted item is started while a worker is free.

use crate::kinds::{KINDS, Kind, With, each, items};
use crate::support::{
    Counter, Gate, Ledger, SOON, WIDTHS, blocks, counted, eventually, settle, slow, within,
};
use fanfold::Fanfold;
use std::time::{Duration, Instant};

thread_local! {
    /// Whether this thread has run a closure since it was in the source.
    static RAN: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

#[test]
fn a_stage_delivers_whatever_an_item_gives_while_the_source_blocks() {
    for n in 1..=9 {
        within(SOON, move || {
            let gate = Gate::new();
            let source = || (0..50_u64).chain(blocks(&gate));
            let mut filter = source().par_filter(n, |i| i % 2 == 0);
            let mut flat_map = source().par_flat_map(n, |i| [i, i]);
            let mut isolated = source().par_map_ordered(n, |i| i).isolate();
            let _opener = gate.opener();
            assert_eq!(filter.by_ref().take(25).sum::<u64>(), 24 * 25);
            assert_eq!(flat_map.by_ref().take(100).sum::<u64>(), 49 * 50);
            assert_eq!(isolated.by_ref().take(50).flatten().sum::<u64>(), 49 * 25);
        });
    }
}

#[test]
fn no_result_of_a_chain_waits_for_another_pull() {
    for n in WIDTHS {
        within(SOON, move || {
            let received = Counter::new();
            let source = (0..200_usize).inspect({
                let received = received.clone();
                move |&i| received.wait_for(i)
            });
            let chain = source
                .par_map_ordered(n, |i| i)
                .par_filter(1 + n / 2, |_| true)
                .enumerate()
                .par_map_ordered(n, |(_, i)| i);
            for (i, x) in chain.enumerate() {
                assert_eq!(x, i);
                received.add();
            }
            assert_eq!(received.get(), 200);
        });
    }
}

/// The source gives an item only when the closure of the one before it has been started.
#[test]
fn an_admitted_item_starts_although_the_source_blocks_next() {
    // many times, as the threads are at different points from run to run
    for n in (1..=9).cycle().take(180) {
        within(SOON, move || {
            let started = Counter::new();
            let source = (0..60_usize).inspect({
                let started = started.clone();
                move |&i| started.wait_for(i)
            });
            let mut stage = source
                .par_map_ordered(n, {
                    let started = started.clone();
                    move |i| {
                        started.add();
                        i
                    }
                })
                .in_flight(64);
            assert_eq!(stage.next(), Some(0));
            // the consumer is away
            started.wait_for(60);
            assert!(stage.eq(1..60));
        });
    }
}

/// One of two workers is stuck in a closure with more items behind it; the other goes into the source with
/// nothing else to do, and stays there. A third thread takes the items behind.
#[test]
fn items_behind_a_long_one_are_started_while_the_source_blocks() {
    for (stuck, away) in (60..76).zip([false, true].into_iter().cycle()) {
        within(SOON, move || {
            let (gate, begun, blocked) = (Gate::new(), Gate::new(), Gate::new());
            let (given, ran) = (Counter::new(), Counter::new());
            let source = std::iter::from_fn({
                let (gate, begun, blocked) = (gate.clone(), begun.clone(), blocked.clone());
                let given = given.clone();
                move || {
                    // A thread that has just run a closure comes for the first item of a chunk.
                    if begun.is_open() && RAN.take() {
                        blocked.open();
                        gate.wait();
                        return None;
                    }
                    Some(given.add() - 1)
                }
            });
            let mut stage = source
                .par_map_unordered(2, {
                    let (gate, begun, ran) = (gate.clone(), begun.clone(), ran.clone());
                    move |i| {
                        RAN.set(true);
                        if i == stuck {
                            begun.open();
                            gate.wait();
                        }
                        ran.add();
                    }
                })
                .in_flight(100_000);
            let _opener = gate.opener();
            let consumer = std::thread::spawn({
                let gate = gate.clone();
                move || {
                    if away {
                        assert_eq!(stage.next(), Some(()));
                        gate.wait();
                    }
                    stage.count()
                }
            });
            blocked.wait();
            ran.wait_for(given.get() - 1);
            gate.open();
            let rest = consumer.join().expect("no panic");
            assert_eq!(rest, given.get() - usize::from(away));
        });
    }
}

/// The same with closures that never end: a worker is free until all items are taken.
#[test]
fn every_free_worker_is_put_to_work_while_the_source_blocks() {
    for n in 1..=9 {
        within(SOON, move || {
            let (started, gate) = (Counter::new(), Gate::new());
            let source = (0..n).chain(blocks(&gate)).inspect({
                let started = started.clone();
                move |&i| started.wait_for(i)
            });
            let stage = source.par_map_ordered(n, {
                let (started, gate) = (started.clone(), gate.clone());
                move |_| {
                    started.add();
                    gate.wait();
                }
            });
            let consumer = std::thread::spawn(move || stage.count());
            started.wait_for(n);
            gate.open();
            assert_eq!(consumer.join().expect("no panic"), n);
        });
    }
}

#[test]
fn all_items_run_without_consumer_while_the_source_blocks() {
    for n in 1..=9 {
        within(SOON, move || {
            let (ran, gate) = (Counter::new(), Gate::new());
            let mut stage = (0..50)
                .chain(blocks(&gate))
                .par_map_ordered(n, {
                    let ran = ran.clone();
                    move |i| {
                        ran.add();
                        i
                    }
                })
                .in_flight(64);
            let _opener = gate.opener();
            assert_eq!(stage.next(), Some(0));
            ran.wait_for(50);
            assert!(stage.by_ref().take(49).eq(1..50));
        });
    }
}

/// How long each item behind a flood took from the source to the consumer; and, at the same times, how long
/// a message took to a thread that waits for a channel, which is the cost of a wake-up on this machine.
fn delays_after_a_flood(n: usize) -> [Vec<Duration>; 2] {
    const FLOOD: usize = 100_000;
    const SLOW: usize = 60;
    within(SOON, move || {
        let (to_other, other) = std::sync::mpsc::channel::<Instant>();
        let other = std::thread::spawn(move || other.iter().map(|made| made.elapsed()).collect());
        let source = (0..FLOOD + SLOW).map(move |i| {
            if i >= FLOOD {
                std::thread::sleep(Duration::from_millis(5));
                to_other.send(Instant::now()).expect("it listens");
            }
            Instant::now()
        });
        let delays = source
            .par_map_ordered(n, |made| made)
            .skip(FLOOD)
            .map(|made| made.elapsed())
            .collect();
        [delays, other.join().expect("no panic")]
    })
}

#[test]
fn a_trickle_behind_a_flood_comes_out_promptly() {
    for n in [1, 2, 4] {
        let [mut delays, mut others] = delays_after_a_flood(n);
        delays.sort_unstable();
        others.sort_unstable();
        let prompt =
            |at: usize, time| delays[at] < slow(Duration::from_millis(time)) + 10 * others[at];
        let (middle, last) = (delays.len() / 2, delays.len() - 1);
        let both = format!("{delays:?} on n = {n}; a channel: {others:?}");
        assert!(prompt(middle, 50) && prompt(last, 1_000), "{both}");
    }
}

const TINY: usize = 10_000;

#[test]
fn every_result_before_a_long_item_comes_out_at_once() {
    for n in 1..=9 {
        within(SOON, move || {
            let gate = Gate::new();
            let mut stage = (0_usize..).par_map_ordered(n, {
                let gate = gate.clone();
                move |i| {
                    if i == TINY {
                        gate.wait();
                    }
                    i
                }
            });
            let _opener = gate.opener();
            assert!(stage.by_ref().take(TINY).eq(0..TINY));
            assert!(!gate.is_open());
        });
    }
}

#[test]
fn every_item_after_a_long_one_is_finished_meanwhile() {
    for n in [2, 3, 8] {
        for k in [10, 256, 5_000] {
            within(SOON, move || {
                let (after, gate) = (Counter::new(), Gate::new());
                let stage = (0..TINY + 8_000)
                    .par_map_ordered(n, {
                        let (after, gate) = (after.clone(), gate.clone());
                        move |i| {
                            if i == TINY {
                                gate.wait();
                            } else if i > TINY {
                                after.add();
                            }
                            i
                        }
                    })
                    .in_flight(k);
                let consumer = std::thread::spawn(move || stage.eq(0..TINY + 8_000));
                after.wait_for(k - 1);
                settle();
                assert_eq!(after.get(), k - 1);
                gate.open();
                assert!(consumer.join().expect("no panic"));
            });
        }
    }
}

/// The same with the default bound, whatever it is: only the long item is still running.
#[test]
fn nothing_admitted_is_left_behind_a_long_item() {
    for n in 2..=9 {
        within(SOON, move || {
            let (pulls, ran, gate) = (Counter::new(), Counter::new(), Gate::new());
            let stage = counted(0.., &pulls).par_map_ordered(n, {
                let (ran, gate) = (ran.clone(), gate.clone());
                move |i| {
                    if i == TINY {
                        gate.wait();
                    }
                    ran.add();
                }
            });
            let consumer = std::thread::spawn(move || stage.take(TINY + 1).count());
            ran.wait_for(TINY + 16 * n - 1);
            let mut last = 0;
            eventually("all that is admitted has run", || {
                settle();
                let now = pulls.get();
                let still = std::mem::replace(&mut last, now) == now;
                still && ran.get() == now - 1
            });
            gate.open();
            assert_eq!(consumer.join().expect("no panic"), TINY + 1);
        });
    }
}

/// Two long items close to each other: the items between and behind them are still finished.
#[test]
fn several_long_items_delay_no_other_item() {
    for n in 3..=9 {
        within(SOON, move || {
            let (after, gate) = (Counter::new(), Gate::new());
            let stage = (0..TINY * 2)
                .par_map_ordered(n, {
                    let (after, gate) = (after.clone(), gate.clone());
                    move |i| {
                        if i == TINY || i == TINY + 3 {
                            gate.wait();
                        } else if i > TINY {
                            after.add();
                        }
                    }
                })
                .in_flight(100);
            let consumer = std::thread::spawn(move || stage.count());
            after.wait_for(98);
            gate.open();
            assert_eq!(consumer.join().expect("no panic"), TINY * 2);
        });
    }
}

/// All `n` closures are long, so that no thread watches any more. The first to finish goes on into a source
/// that blocks; the items behind the others are run nevertheless.
#[test]
fn items_behind_stuck_ones_run_once_a_thread_is_free() {
    for (n, behind) in (2..=5).flat_map(|n| [8, 64, 256].map(|behind| (n, behind))) {
        within(SOON, move || {
            let (stuck, ran, one, others) =
                (Counter::new(), Counter::new(), Gate::new(), Gate::new());
            let source = (0..TINY + behind).chain(blocks(&others));
            let stage = source.par_map_ordered(n, {
                let (stuck, ran) = (stuck.clone(), ran.clone());
                let (one, others) = (one.clone(), others.clone());
                move |i| {
                    if i >= TINY {
                        match stuck.add() {
                            nth if nth < n => others.wait(),
                            nth if nth == n => one.wait(),
                            _ => {}
                        }
                    }
                    ran.add();
                }
            });
            let stage = stage.in_flight(1_000);
            let consumer = std::thread::spawn(move || stage.count());
            let _opener = others.opener();
            stuck.wait_for(n);
            settle();
            one.open();
            ran.wait_for(TINY + behind - (n - 1));
            others.open();
            assert_eq!(consumer.join().expect("no panic"), TINY + behind);
        });
    }
}

/// A source blocks in the middle of a chunk and does not return; its last items are all long. Many such
/// stages run at once, so that any thread may be late anywhere. In each of them all `n` closures run, one of
/// them with the permit of the thread that is in the source.
#[test]
fn n_closures_run_beside_a_stuck_source_on_late_threads() {
    const STAGES: usize = 16;
    const ROUNDS: usize = 2;
    within(SOON, || {
        std::thread::scope(|scope| {
            for stage in 0..STAGES {
                scope.spawn(move || {
                    let widths = (0..ROUNDS).flat_map(|_| 2..=5);
                    for (n, behind) in widths.flat_map(|n| [8, 64].map(|behind| (n, behind))) {
                        let (stuck, gate) = (Counter::new(), Gate::new());
                        let last = TINY / 4 + 37 * stage;
                        let source = (0..last + behind).chain(blocks(&gate));
                        let results = source.par_map_ordered(n, {
                            let (stuck, gate) = (stuck.clone(), gate.clone());
                            move |i| {
                                if i >= last {
                                    stuck.add();
                                    gate.wait();
                                }
                            }
                        });
                        let results = results.in_flight(1_000);
                        let consumer = std::thread::spawn(move || results.count());
                        let _opener = gate.opener();
                        stuck.wait_for(n);
                        gate.open();
                        assert_eq!(consumer.join().expect("no panic"), last + behind);
                    }
                });
            }
        });
    });
}

/// Without the order a stuck item delays no other, not even its neighbours in the same chunk, although
/// the source goes on forever and gives the other workers enough to do.
#[test]
fn the_neighbours_of_a_stuck_item_overtake_it() {
    for n in 2..=9 {
        within(SOON, move || {
            let gate = Gate::new();
            let mut stage = (0_usize..)
                .par_map_ordered(n, {
                    let gate = gate.clone();
                    move |i| {
                        if i == TINY {
                            gate.wait();
                        }
                        i
                    }
                })
                .unordered();
            let _opener = gate.opener();
            let neighbours = TINY + 1..TINY + 65;
            let met = stage.by_ref().filter(|i| neighbours.contains(i)).take(64);
            assert_eq!(met.count(), 64);
            assert!(!gate.is_open());
        });
    }
}

#[test]
fn a_result_comes_out_while_all_other_closures_are_stuck() {
    for n in 2..=9 {
        within(SOON, move || {
            let gate = Gate::new();
            let mut stage = (0_usize..).par_map_ordered(n, {
                let gate = gate.clone();
                move |i| {
                    if i >= 100 {
                        gate.wait();
                    }
                    i
                }
            });
            let _opener = gate.opener();
            assert!(stage.by_ref().take(100).eq(0..100));
        });
    }
}

// ---- every kind of stage

/// A local source is pulled by the consumer, so it keeps what it blocks.
fn pulled_elsewhere() -> impl Iterator<Item = &'static Kind> {
    KINDS.iter().filter(|kind| kind.ahead || !kind.runs)
}

#[test]
fn every_kind_delivers_while_the_source_blocks() {
    each(pulled_elsewhere(), WIDTHS, |kind, n| {
        let (gate, ledger) = (Gate::new(), Ledger::new());
        // A window by age is not full then.
        let source = items((0..51).chain(blocks(&gate)), &ledger);
        let mut stage = kind.build(source, &With::n(n));
        let _opener = gate.opener();
        let ids: Vec<u64> = stage.by_ref().take(51).map(|item| item.id).collect();
        kind.assert_all(&ids, 51);
        assert!(!gate.is_open());
        gate.open();
        assert!(stage.next().is_none());
    });
}

/// The source gives the next few items only when all results so far have been received.
#[test]
fn no_result_of_any_kind_waits_for_another_pull() {
    // In lots of 1 to 9 items.
    const LEN: u64 = 9 * 15;
    each(pulled_elsewhere(), WIDTHS, |kind, n| {
        let (received, ledger) = (Counter::new(), Ledger::new());
        let source = (0..LEN).inspect({
            let received = received.clone();
            move |&i| {
                let lot = 1 + i / 15;
                if i % lot == 0 {
                    received.wait_for(i as usize);
                }
            }
        });
        let stage = kind.build(items(source, &ledger), &With::n(n));
        let ids: Vec<u64> = stage
            .map(|item| {
                received.add();
                item.id
            })
            .collect();
        kind.assert_all(&ids, LEN);
    });
}
