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

#[test]
fn the_slowest_closure_is_kept() {
    let mut times = TimeLog::default();
    for (seq, millis) in [(7, 3), (8, 9), (9, 9), (10, 1)] {
        times.ran(seq, millis * MS);
    }
    assert_eq!(times.slowest, Some((8, 9 * MS)));
    assert_eq!(times.service.len(), 4);
}

#[test]
fn an_endless_time_counts_as_the_longest() {
    let mut times = TimeLog::default();
    times.ran(0, Duration::MAX);
    assert!(times.service.max() >= nanos(LONGEST) / 100 * 99);
}
