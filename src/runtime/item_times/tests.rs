use super::*;

const MS: Duration = Duration::from_millis(1);

#[test]
fn the_delay_is_that_of_the_pull_an_item_came_with() {
    let (mut times, born) = (TimeLog::default(), Instant::now());
    times.pulled(born, 0, 2);
    times.pulled(born + 10 * MS, 2, 3);
    times.pulled(born + 10 * MS, 5, 0);
    // Without an order.
    for (seq, at) in [(3, 12), (0, 20), (4, 30), (1, 40), (2, 11)] {
        times.taken(born + at * MS, seq);
    }
    let mut delays: Vec<u64> = times
        .delay
        .iter_recorded()
        .map(|v| v.value_iterated_to())
        .collect();
    delays.sort_unstable();
    let close = |value: u64, millis: u64| value.abs_diff(millis * 1_000_000) <= millis * 10_000;
    assert_eq!(times.delay.len(), 5);
    assert!(
        delays
            .iter()
            .zip([1, 2, 20, 40])
            .all(|(value, millis)| close(*value, millis)),
        "{delays:?}"
    );
    assert!(times.pulled.is_empty(), "nothing is kept of what is over");
}

#[test]
fn an_item_may_be_taken_before_its_pull_is_over() {
    let (mut times, born) = (TimeLog::default(), Instant::now());
    times.pulled(born, 0, 1);
    times.taken(born, 2);
    times.taken(born, 1);
    times.pulled(born + MS, 1, 3);
    times.taken(born + 3 * MS, 3);
    times.taken(born + 3 * MS, 0);
    assert_eq!(times.delay.len(), 4);
    assert!(times.pulled.is_empty() && times.early.is_empty());
}

/// A thread is stuck in the source, and others have run and taken what it has pulled so far.
#[test]
fn an_item_that_is_run_before_its_pull_is_over_is_late_since_it_was_begun() {
    let (mut times, born) = (TimeLog::default(), Instant::now());
    times.ran(born + 10 * MS, 0, 5 * MS);
    times.taken(born + 11 * MS, 0);
    times.ran(born + 20 * MS, 1, 5 * MS);
    times.pulled(born + 30 * MS, 0, 3);
    times.taken(born + 31 * MS, 1);
    times.ran(born + 35 * MS, 2, MS);
    times.taken(born + 35 * MS, 2);
    let delays = times.delay.iter_recorded();
    let millis: Vec<u64> = delays
        .map(|v| (v.value_iterated_to() + 500_000) / 1_000_000)
        .collect();
    assert_eq!(millis, [5, 6, 16]);
    assert!(times.pulled.is_empty() && times.early.is_empty() && times.begun.is_empty());
}

/// The copy of an item that was hedged.
#[test]
fn what_is_run_again_after_it_was_taken_leaves_nothing_behind() {
    let (mut times, born) = (TimeLog::default(), Instant::now());
    times.pulled(born, 0, 1);
    times.ran(born + MS, 0, MS);
    times.taken(born + 2 * MS, 0);
    times.ran(born + 3 * MS, 0, 3 * MS);
    assert!(times.pulled.is_empty() && times.early.is_empty() && times.begun.is_empty());
}

#[test]
fn closures_slower_than_all_later_ones_are_kept() {
    let (mut times, born) = (TimeLog::default(), Instant::now());
    for (seq, millis) in [(7, 3), (8, 9), (9, 9), (10, 1), (11, 2)] {
        times.ran(born + millis * MS, seq, millis * MS);
    }
    assert_eq!(times.slow, [(2, 9, 9 * MS), (4, 11, 2 * MS)]);
    assert_eq!(times.service.len(), 5);
}

/// Each a little faster than the one before: what is kept is neither all of them nor too little.
#[test]
fn what_is_kept_of_slow_closures_has_a_limit() {
    let (mut times, born) = (TimeLog::default(), Instant::now());
    let took: Vec<Duration> = (0..100_000)
        .map(|seq| Duration::from_nanos(1_000_000 - seq * 9))
        .collect();
    for (seq, time) in (0..).zip(&took) {
        times.ran(born, seq, *time);
    }
    assert!(
        (50..1_000).contains(&times.slow.len()),
        "{}",
        times.slow.len()
    );
    for (from, slowest) in took.iter().enumerate().step_by(997) {
        let later = times.slow.iter().find(|(at, ..)| *at >= from as u64);
        let (.., found) = later.expect("the last one is always there");
        assert!(
            slowest.as_nanos() - found.as_nanos() <= slowest.as_nanos() / 100,
            "{slowest:?} {found:?}"
        );
    }
}

#[test]
fn an_endless_time_counts_as_the_longest() {
    let mut times = TimeLog::default();
    times.ran(Instant::now(), 0, Duration::MAX);
    assert!(times.service.max() >= nanos(LONGEST) / 100 * 99);
}
