//! Plants with known answers.

use super::{Change, Outcome, Plant, Work, run};
use crate::costs::Costs;
use crate::rows::{CHANGES, MEASURED, ask, saturated};

fn plant(cores: usize, work: Work, source: f64, items: u64) -> Plant {
    Plant {
        cores,
        work,
        source,
        items,
        change: Change::default(),
    }
}

fn assert_near(found: f64, expected: f64, share: f64) {
    let off = (found / expected - 1.0).abs();
    assert!(off <= share, "{found} is not within {share} of {expected}");
}

#[test]
fn reproduces_the_two_core_rows_within_5_percent() {
    for row in MEASURED {
        assert_near(row.simulated(), row.speed_up, 0.05);
    }
}

#[test]
fn one_core_is_the_loop() {
    let plant = plant(1, Work::even(1e4), 0.0, 10_000);
    // The last nap may end a millisecond after the last item.
    assert_near(run(&plant, &Costs::NONE, 1).speed_up, 1.0, 0.01);
}

#[test]
fn without_costs_all_cores_are_used() {
    for cores in [2, 16, 64] {
        let plant = plant(cores, Work::even(1e4), 0.0, 20_000 * cores as u64);
        let outcome = run(&plant, &Costs::NONE, 1);
        // The last chunks of the workers do not end at the same time.
        assert_near(outcome.speed_up, cores as f64, 0.02);
        assert_eq!(saturated(&outcome, cores), "nothing");
    }
}

#[test]
fn long_items_do_not_hold_up_the_others() {
    // Each 256th takes a thousand times as long, so these are four fifths of the work.
    let plant = plant(4, Work::skewed(1e3, 256, 1e6), 0.0, 200_000);
    assert_near(run(&plant, &Costs::NONE, 1).speed_up, 4.0, 0.03);
}

#[test]
fn a_slow_source_is_the_limit() {
    let (item, source) = (1e3, 500.0);
    let plant = plant(8, Work::even(item), source, 100_000);
    let outcome = run(&plant, &Costs::NONE, 1);
    assert_near(outcome.speed_up, (item + source) / source, 0.03);
    assert!(outcome.pulls > 0.97, "{outcome:?}");
    assert_eq!(saturated(&outcome, 8), "source");
}

#[test]
fn a_slow_consumer_is_the_limit() {
    let costs = Costs {
        consume: 100.0,
        ..Costs::NONE
    };
    let plant = plant(32, Work::even(1e3), 0.0, 2_000_000);
    let outcome = run(&plant, &costs, 1);
    assert_near(outcome.speed_up, 10.0, 0.05);
    assert!(outcome.consumer > 0.95, "{outcome:?}");
    assert_eq!(saturated(&outcome, 32), "consumer");
}

#[test]
fn a_slow_lock_is_the_limit() {
    // Four sections for a chunk of 400 µs.
    let costs = Costs {
        lock: 50_000.0,
        ..Costs::NONE
    };
    let plant = plant(16, Work::even(1e4), 0.0, 200_000);
    let outcome = run(&plant, &costs, 1);
    assert!(outcome.speed_up < 4.0, "{outcome:?}");
    assert!(outcome.scheduler > 0.95, "{outcome:?}");
    assert!(saturated(&outcome, 16).starts_with("scheduler's lock"));
}

#[test]
fn the_bound_is_the_limit_of_a_consumer_that_wakes_up_late() {
    // 256 workers finish the two million items of the bound in less than a millisecond.
    let costs = Costs {
        wake: 2e6,
        ..Costs::NONE
    };
    let plant = plant(256, Work::even(100.0), 0.0, 50_000_000);
    let outcome = run(&plant, &costs, 1);
    assert!(outcome.no_room > 0.2, "{outcome:?}");
    assert_eq!(saturated(&outcome, 256), "bound");
}

#[test]
fn a_seed_gives_the_same_run() {
    let plant = plant(16, Work::skewed(1e3, 256, 1e5), 50.0, 100_000);
    let seed = |seed| -> Outcome { run(&plant, &Costs::MEASURED, seed) };
    assert_eq!(seed(1), seed(1));
    assert_ne!(seed(1).nanos, seed(2).nanos);
}

#[test]
fn what_is_asked_for_can_be_changed() {
    let efficiency = |[_, _, _, (_, change)]: [(&str, Change); 4], cores: usize| {
        ask(1e4, 50.0, cores, change).speed_up / cores as f64
    };
    let [as_built, ..] = CHANGES;
    assert!(efficiency([as_built; 4], 128) < 0.6);
    assert!(efficiency(CHANGES, 128) > 0.9);
}

#[test]
fn items_done_are_the_inverse_of_their_time() {
    let work = Work::skewed(10.0, 4, 100.0);
    assert_eq!(work.time(0, 8), 260.0);
    assert_eq!(work.time(1, 4), 30.0);
    assert_eq!(work.done(0, 8, 99.0, 0.0), 0);
    assert_eq!(work.done(0, 8, 100.0, 0.0), 1);
    assert_eq!(work.done(1, 8, 30.0, 0.0), 3);
    assert_eq!(work.done(1, 8, 33.0, 1.0), 3);
    assert_eq!(work.done(0, 8, 1e9, 0.0), 8);
}
