use super::*;

fn race() -> Attempts<u8, &'static str> {
    let mut race = Attempts::begin(7, 1, &Arc::default());
    race.sent();
    race
}

#[test]
fn a_failing_copy_returns_the_failure_that_the_owner_left() {
    let mut race = race();
    assert!(matches!(race.failed("owner"), OwnerFailure::Left));
    assert_eq!(race.copy_failed(6), None, "of an item before");
    assert_eq!(race.copy_failed(7), Some("owner"));
    assert_eq!(race.copy_failed(7), None, "once");
}

#[test]
fn an_owner_that_fails_after_its_copy_counts() {
    let mut race = race();
    assert_eq!(race.copy_failed(6), None);
    assert!(matches!(race.failed("owner"), OwnerFailure::Left));
    let mut race = self::race();
    assert_eq!(race.copy_failed(7), None);
    assert!(matches!(
        race.failed("owner"),
        OwnerFailure::Counts("owner")
    ));
}

#[test]
fn a_failure_after_giving_up_has_no_effect() {
    let mut race = race();
    race.give_up();
    assert!(matches!(race.failed("owner"), OwnerFailure::Over("owner")));
    assert_eq!(race.copy_failed(7), None);
}
