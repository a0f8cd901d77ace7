use super::*;

const MS: Duration = Duration::from_millis(1);

#[test]
fn an_offer_that_costs_a_time_slice_is_not_made_again_soon() {
    let start = Instant::now();
    let mut dear = Dear::NEVER;
    assert!(dear.is_over(start));
    dear.made(SLICE / 2, start);
    assert!(dear.is_over(start));

    dear.made(4 * MS, start);
    assert!(!dear.is_over(start + (PAUSE * 4 - 1) * MS));
    assert!(dear.is_over(start + PAUSE * 4 * MS));
}

#[test]
fn the_pause_grows_up_to_its_limit_and_ends_with_the_first_cheap_offer() {
    let mut now = Instant::now();
    let mut dear = Dear::NEVER;
    for pause in [128, 256, 512, 1000, 1000] {
        dear.made(4 * MS, now);
        assert!(!dear.is_over(now + (pause - 1) * MS));
        now += pause * MS;
        assert!(dear.is_over(now));
    }
    dear.made(MS / 100, now);
    assert!(dear.is_over(now));
    dear.made(4 * MS, now);
    assert!(dear.is_over(now + 128 * MS));
}

/// An offer that took longer than any pause that is allowed.
#[test]
fn a_thread_that_was_stopped_for_a_day_offers_its_core_again() {
    let (now, mut dear) = (Instant::now(), Dear::NEVER);
    dear.made(Duration::from_secs(86_400), now);
    assert!(dear.is_over(now + LONGEST_PAUSE));
}
