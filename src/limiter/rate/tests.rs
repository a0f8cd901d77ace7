use super::*;

#[test]
fn a_rate_is_a_number_of_items_in_a_number_of_nanoseconds() {
    let fastest = u64::from(FASTEST);
    let per = |n, time| Rate::per(n, time).ratio();
    let nano = Duration::from_nanos(1);
    assert_eq!(per(3, SECOND), (3, 1_000_000_000));
    assert_eq!(per(FASTEST, SECOND), (fastest, 1_000_000_000));
    assert_eq!(per(5, nano), (fastest, 1_000_000_000), "the fastest");
    assert_eq!(per(4, nano), (4, 1));
    assert_eq!(Rate::from(0.5).ratio(), (1, 2_000_000_000));
    let (items, nanos) = Rate::from(1.5).ratio();
    assert_eq!(items * 2_000_000_000, nanos * 3);
    let (items, nanos) = Rate::from(1e30).ratio();
    assert_eq!(items / 1_000_000, fastest);
    assert_eq!(nanos, 1_000_000_000_000_000);
}
