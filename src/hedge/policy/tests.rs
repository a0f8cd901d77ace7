use super::*;

const MS: Duration = Duration::from_millis(1);

#[test]
fn the_budget_is_a_share_and_a_reserve() {
    let policy = HedgePolicy::after(MS).budget(0.05).reserve(3);
    let sent = (0..10_000).filter(|_| {
        policy.begin();
        policy.try_hedge()
    });
    let sent = sent.count();
    assert_eq!(sent, 500 + 3);
    let stats = policy.stats();
    assert_eq!((stats.requests, stats.sent), (10_000, 503));
    assert_eq!(stats.refused, 10_000 - 503);
}

#[test]
fn a_request_is_hedged_once_and_lost_unless_its_copy_has_won() {
    let policy = HedgePolicy::after(MS).budget(0.0).reserve(3);
    let mut request = policy.request();
    assert!(request.try_hedge());
    assert!(!request.try_hedge(), "one copy is enough");
    request.end(true);
    let mut request = policy.request();
    assert!(request.try_hedge());
    request.end(false);
    let mut request = policy.request();
    assert!(request.try_hedge());
    drop(request);
    policy.request().end(true); // it was not hedged
    let mut request = policy.request();
    assert!(!request.try_hedge(), "the budget is spent");
    let stats = policy.stats();
    assert_eq!((stats.requests, stats.sent), (5, 3));
    assert_eq!((stats.won, stats.lost, stats.refused), (1, 2, 1));
}

#[test]
fn the_unspent_budget_is_capped() {
    let policy = HedgePolicy::after(MS).budget(0.1).reserve(2);
    (0..1_000_000).for_each(|_| policy.begin());
    assert_eq!((0..1_000).filter(|_| policy.try_hedge()).count(), 100 + 2);
}

#[test]
fn a_budget_of_zero_leaves_only_the_reserve() {
    for (reserve, sent) in [(0, 0), (7, 7)] {
        let policy = HedgePolicy::after(MS).budget(0.0).reserve(reserve);
        (0..100).for_each(|_| policy.begin());
        assert_eq!((0..100).filter(|_| policy.try_hedge()).count(), sent);
    }
}

#[test]
fn a_hedge_that_was_not_needed_uses_no_budget() {
    let policy = HedgePolicy::after(MS).budget(0.0).reserve(1);
    for _ in 0..10 {
        assert!(policy.try_hedge());
        policy.spare();
    }
    assert!(policy.try_hedge());
    policy.end(true);
    assert!(!policy.try_hedge());
    let stats = policy.stats();
    assert_eq!((stats.sent, stats.won, stats.lost), (11, 1, 10));
}

#[test]
fn clones_share_what_they_saw_and_keep_their_options() {
    let policy = HedgePolicy::after(MS);
    let slower = policy.clone().floor(5 * MS);
    policy.begin();
    slower.begin();
    assert_eq!(policy.stats().requests, 2);
    assert_eq!((policy.delay(), slower.delay()), (Some(MS), Some(5 * MS)));
    assert_eq!(slower.cap(3 * MS).delay(), Some(3 * MS));
}

#[cfg(feature = "percentile")]
#[test]
fn a_percentile_warms_up_follows_and_forgets() {
    let policy = HedgePolicy::percentile(90.0).warm_up(50);
    for millis in 1..50 {
        assert!(!policy.record(millis * MS));
        assert_eq!(policy.delay(), None);
    }
    assert!(policy.record(50 * MS));
    let delay = policy.delay().expect("it is warm");
    assert!((45 * MS..47 * MS).contains(&delay), "{delay:?}");
    (0..2_000).for_each(|_| assert!(!policy.record(2 * MS)));
    let delay = policy.delay().expect("it is warm");
    assert!((2 * MS..3 * MS).contains(&delay), "{delay:?}");
    let floor = policy.clone().floor(20 * MS);
    assert_eq!(floor.delay(), Some(20 * MS));
    assert_eq!(policy.cap(MS).delay(), Some(MS));
}

#[cfg(feature = "percentile")]
#[test]
fn a_cached_delay_soon_follows_new_samples() {
    let policy = HedgePolicy::percentile(90.0).warm_up(100);
    (0..100).for_each(|_| _ = policy.record(MS));
    let delay = policy.delay().expect("it is warm");
    assert!(delay < 2 * MS, "{delay:?}");
    (0..100).for_each(|_| _ = policy.record(50 * MS));
    let delay = policy.delay().expect("it is warm");
    assert!(delay > 40 * MS, "{delay:?}");
}

#[cfg(feature = "percentile")]
#[test]
fn a_time_too_long_to_measure_counts_as_an_hour() {
    let policy = HedgePolicy::percentile(50.0).warm_up(1);
    assert!(policy.record(Duration::MAX));
    let delay = policy.delay().expect("it is warm");
    assert!(delay >= Duration::from_secs(3_500), "{delay:?}");
}
