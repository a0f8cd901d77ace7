use super::*;

#[test]
fn gauge_counts_beside_its_flag() {
    let gauge = Gauge::default();
    gauge.add();
    gauge.add();
    gauge.add();
    assert_eq!((gauge.count(), gauge.is_anybody_waiting()), (3, false));
    assert_eq!(gauge.sub(1), (2, false));
    assert!(!gauge.ask(2), "two are as many as may be");
    assert_eq!((gauge.count(), gauge.is_anybody_waiting()), (2, true));
    gauge.add();
    assert_eq!(gauge.sub(2), (1, true));
    gauge.answer();
    assert_eq!((gauge.count(), gauge.is_anybody_waiting()), (1, false));
    assert!(gauge.ask(2), "there is room");
    assert_eq!((gauge.count(), gauge.is_anybody_waiting()), (1, false));
}

#[test]
fn nothing_is_taken_from_an_empty_gauge() {
    let gauge = Gauge::default();
    assert_eq!(gauge.take_one(), None);
    assert_eq!((gauge.add(), gauge.add()), (0, 1));
    assert_eq!(gauge.wait(), 2);
    assert_eq!(gauge.add(), 2, "without the bit");
    assert_eq!(gauge.take_one(), Some((2, true)));
    gauge.answer();
    assert_eq!(
        (gauge.take_one(), gauge.take_one()),
        (Some((1, false)), Some((0, false)))
    );
    assert_eq!(gauge.take_one(), None);
}
