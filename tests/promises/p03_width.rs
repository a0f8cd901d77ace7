//! P3: at most `n` closures at once, and `n` at once whenever the source and the bound allow it.

use crate::kinds::{With, each, items, runs};
use crate::support::{
    Counter, Gate, Ledger, Meter, SOON, WIDTHS, blocks, dawdle, settle, slow, spin, within,
};
use fanfold::{Fanfold, Workers};
use std::time::{Duration, Instant};

#[test]
fn never_more_than_n() {
    for n in 1..=9 {
        within(SOON, move || {
            let meter = Meter::new();
            let f = {
                let meter = meter.clone();
                move |i| {
                    let _entered = meter.enter();
                    dawdle(i);
                    i
                }
            };
            assert_eq!((0..400).par_map_ordered(n, f.clone()).count(), 400);
            assert_eq!(
                (0..400)
                    .par_map_unordered(n, f.clone())
                    .in_flight(2)
                    .count(),
                400
            );
            assert_eq!((0..400).par_filter_map(n, move |i| Some(f(i))).count(), 400);
            assert!(meter.most() <= n, "{} at once on n = {n}", meter.most());
        });
    }
}

#[test]
fn never_more_than_n_beside_a_source_that_blocks() {
    for n in 1..=9 {
        within(SOON, move || {
            let (meter, started, gate) = (Meter::new(), Counter::new(), Gate::new());
            let mut stage = (0..40_usize)
                .chain(blocks(&gate))
                .par_map_ordered(n, {
                    let (meter, started) = (meter.clone(), started.clone());
                    move |i| {
                        let _entered = meter.enter();
                        started.add();
                        spin(Duration::from_micros(50));
                        i
                    }
                })
                .in_flight(64);
            let _opener = gate.opener();
            assert_eq!(stage.next(), Some(0));
            started.wait_for(40);
            assert!(stage.by_ref().take(39).eq(1..40));
            assert!(meter.most() <= n, "{} at once on n = {n}", meter.most());
        });
    }
}

#[test]
fn n_at_once_from_the_first_item_on() {
    for n in 1..=9 {
        within(SOON, move || {
            let meter = Meter::new();
            let meet = |meter: &Meter| {
                let meter = meter.clone();
                move |_| meter.meet(n)
            };
            assert_eq!((0..n).par_map_ordered(n, meet(&meter)).count(), n);
            assert_eq!(meter.most(), n);
            // a bound of n is just enough
            let meter = Meter::new();
            let stage = (0..n * 5).par_map_ordered(n, meet(&meter)).in_flight(n);
            assert_eq!(stage.count(), n * 5);
            assert_eq!(meter.most(), n);
            // and so it is for a source of unknown length
            let meter = Meter::new();
            assert_eq!(
                (0..).par_map_unordered(n, meet(&meter)).take(n * 5).count(),
                n * 5
            );
            assert_eq!(meter.most(), n);
        });
    }
}

#[test]
fn ten_closures_of_a_second_take_a_second() {
    let start = Instant::now();
    let second = |_| std::thread::sleep(Duration::from_secs(1));
    assert_eq!((0..10).par_map_ordered(10, second).count(), 10);
    let took = start.elapsed();
    assert!(took < slow(Duration::from_secs(5)), "{took:?}");
}

#[test]
fn a_width_of_256_is_256() {
    within(SOON, || {
        let meter = Meter::new();
        let count = (0..1_000).par_map_ordered(256, |_| meter.meet(256)).count();
        assert_eq!((count, meter.most()), (1_000, 256));
    });
}

#[test]
fn a_width_of_256_is_256_right_behind_a_source_that_blocks() {
    within(SOON, || {
        let (meter, gate) = (Meter::new(), Gate::new());
        let mut stage = (0..256).chain(blocks(&gate)).par_map_ordered(256, {
            let meter = meter.clone();
            move |_| meter.meet(256)
        });
        let _opener = gate.opener();
        assert_eq!(stage.by_ref().take(256).count(), 256);
        assert_eq!(meter.most(), 256);
        gate.open();
        assert_eq!(stage.next(), None);
    });
}

/// Tiny items make large chunks; blocking ones must not be left in them.
#[test]
fn n_at_once_right_behind_a_flood_of_tiny_items() {
    const TINY: usize = 20_000;
    for n in 1..=9 {
        within(SOON, move || {
            let meter = Meter::new();
            let stage = (0..TINY + n).par_map_ordered(n, {
                let meter = meter.clone();
                move |i| {
                    if i >= TINY {
                        meter.meet(n);
                    }
                }
            });
            assert_eq!(stage.count(), TINY + n);
            assert_eq!(meter.most(), n);
        });
    }
}

/// The blocking items are not neighbours: between any two of them is a flood of tiny ones.
#[test]
fn n_at_once_with_floods_in_between() {
    for n in 1..=5 {
        within(SOON, move || {
            let meter = Meter::new();
            let stage = (0..600 * n)
                .par_map_ordered(n, {
                    let meter = meter.clone();
                    move |i| {
                        if i % 600 == 300 {
                            meter.meet(n);
                        }
                    }
                })
                .in_flight(600 * n);
            assert_eq!(stage.count(), 600 * n);
            assert_eq!(meter.most(), n);
        });
    }
}

/// All workers sleep in between, and all are woken again.
#[test]
fn n_at_once_after_each_pause() {
    for n in 2..=9 {
        within(SOON, move || {
            let (taken, started) = (Counter::new(), Counter::new());
            let source = (0..n * 5).inspect({
                let taken = taken.clone();
                move |&i| {
                    if i % n == 0 {
                        taken.wait_for(i);
                        settle();
                    }
                }
            });
            let stage = source.par_map_ordered(n, move |i| {
                started.add();
                started.wait_for((i / n + 1) * n);
            });
            stage.for_each(|()| _ = taken.add());
            assert_eq!(taken.get(), n * 5);
        });
    }
}

#[test]
fn n_at_once_without_a_consumer() {
    for n in 1..=9 {
        within(SOON, move || {
            let (meter, gate) = (Meter::new(), Gate::new());
            let mut stage = (0..100).par_map_ordered(n, {
                let (meter, gate) = (meter.clone(), gate.clone());
                move |i| {
                    if i > 0 {
                        let _entered = meter.enter();
                        gate.wait();
                    }
                }
            });
            let _opener = gate.opener();
            assert!(stage.next().is_some());
            // the consumer is away
            meter.wait_for(n);
            settle();
            assert_eq!(meter.most(), n);
        });
    }
}

#[test]
fn each_stage_of_a_chain_has_a_width_of_its_own() {
    within(SOON, || {
        let (first, second) = (Meter::new(), Meter::new());
        let count = (0..60)
            .par_map_ordered(3, |_| first.meet(3))
            .par_map_ordered(5, |()| second.meet(5))
            .count();
        assert_eq!((count, first.most(), second.most()), (60, 3, 5));
    });
}

#[test]
fn as_wide_as_the_cpus() {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    within(SOON, move || {
        let meter = Meter::new();
        (0..cpus * 10)
            .par_map_ordered(Workers::cpus(), |_| meter.meet(cpus))
            .for_each(drop);
        assert_eq!(meter.most(), cpus);
    });
}

// ---- every kind of stage

/// Each closure stays until `n` are inside and one more has had the time to come, and a source that blocks does so until
/// the first `n` are inside.
#[test]
fn every_kind_runs_n_at_once_and_never_more() {
    const ROUNDS: usize = 4;
    let widths = WIDTHS.into_iter().chain([32, 100]);
    let cases = widths.flat_map(|n| [false, true].map(|blocks| (n, blocks)));
    let wide = runs().filter(|kind| kind.is_wide());
    each(wide, cases, |kind, (n, blocks)| {
        let (meter, gate, ledger) = (Meter::new(), Gate::new(), Ledger::new());
        let (begun, let_go) = (Counter::new(), Counter::new());
        let with = With::n(n).work({
            let (meter, begun, let_go) = (meter.clone(), begun.clone(), let_go.clone());
            move |_| {
                let _entered = meter.enter();
                let_go.wait_for(begun.add());
            }
        });
        let source = (0..(ROUNDS * n) as u64).inspect({
            let gate = gate.clone();
            move |&i| {
                if blocks && i == n as u64 {
                    gate.wait();
                }
            }
        });
        let watch = std::thread::spawn(move || {
            for round in 1..=ROUNDS {
                begun.wait_for(round * n);
                gate.open();
                settle();
                (0..n).for_each(|_| _ = let_go.add());
            }
        });
        let stage = kind.build(items(source, &ledger), &with);
        assert_eq!(stage.count(), ROUNDS * n);
        watch.join().expect("no panic");
        assert_eq!(meter.most(), n);
    });
}
