use super::{Roster, Wake};
use crate::sync::Parker;

fn parked(threads: usize) -> Roster {
    let mut roster = Roster::new();
    for thread in 0..threads {
        assert_eq!(roster.enlist(), thread);
        roster.register(thread, Parker::new().unparker().clone());
        roster.fall_asleep(thread);
    }
    roster
}

#[test]
fn a_thread_that_woke_by_itself_no_longer_counts_as_asleep() {
    let mut roster = parked(3);
    assert!(roster.woke_up(1), "nobody has taken it off");
    assert!(!roster.woke_up(1));
    let left: Vec<_> =
        std::iter::from_fn(|| roster.pop_sleeper().map(|(thread, _)| thread)).collect();
    assert_eq!(left, [2, 0]);
    assert!(!roster.is_anybody_asleep() && !roster.woke_up(0));
}

#[test]
fn a_thread_that_is_being_started_is_not_woken() {
    let mut roster = Roster::new();
    assert!(matches!(roster.grow(1), Wake::Lease(0)));
    assert!(matches!(roster.unpark(0), Wake::Nobody));
    roster.register(0, Parker::new().unparker().clone());
    assert!(matches!(roster.unpark(0), Wake::Unpark(_)));
}

#[test]
fn the_roster_grows_to_its_limit_or_until_a_lease_fails() {
    let mut roster = Roster::new();
    assert!(matches!(roster.grow(0), Wake::Nobody));
    assert!(matches!(roster.grow(2), Wake::Lease(0)));
    assert!(matches!(roster.grow(2), Wake::Lease(1)));
    assert!(matches!(roster.grow(2), Wake::Nobody));
    roster.lease_failed();
    assert!(matches!(roster.grow(9), Wake::Nobody));
    assert_eq!((roster.len(), roster.is_nobody()), (1, false));
    roster.lease_failed();
    assert!(roster.is_nobody());
}

#[test]
fn a_sleeper_is_called_before_another_thread_is_leased() {
    let mut roster = Roster::new();
    assert!(matches!(roster.call(0), Wake::Nobody));
    assert!(!roster.is_anybody_coming());
    assert!(matches!(roster.call(2), Wake::Lease(0)));
    assert!(roster.is_anybody_coming());
    assert!(matches!(roster.call(2), Wake::Lease(1)));
    roster.register(0, Parker::new().unparker().clone());
    assert!(!roster.is_anybody_coming(), "it has arrived");
    roster.fall_asleep(0);
    assert!(matches!(roster.call(9), Wake::Unpark(_)));
    assert!(roster.is_anybody_coming());
    assert!(!roster.woke_up(0));
    assert!(!roster.is_anybody_coming(), "it has arrived");
    assert!(matches!(roster.call(2), Wake::Nobody));
    assert!(!roster.is_anybody_coming());
}

#[test]
fn nobody_is_on_its_way_after_a_failed_lease_or_a_look() {
    let mut roster = parked(1);
    assert!(matches!(roster.call(1), Wake::Unpark(_)));
    roster.begin_look();
    assert!(!roster.woke_up(0));
    assert!(roster.is_anybody_coming(), "it looks around");
    roster.end_look();
    assert!(!roster.is_anybody_coming());
    assert!(matches!(roster.call(2), Wake::Lease(1)));
    roster.lease_failed();
    assert!(!roster.is_anybody_coming());
    // A thread that wakes by itself leaves it as it is.
    let mut roster = parked(2);
    assert!(matches!(roster.call(2), Wake::Unpark(_)));
    assert!(roster.woke_up(0));
    assert!(roster.is_anybody_coming());
}
