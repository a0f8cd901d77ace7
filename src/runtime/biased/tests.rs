use super::*;
use crate::runtime::barrier::{Light, prepare};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// With a value of `N` bytes and a string.
fn check<const N: usize>() {
    prepare();
    let Some(free) = Light::new().free() else {
        return; // on machines that use fences nothing is lent
    };
    let value = || (String::from("lent"), [7_u8; N]);
    let (revoker, mut hand) = lend(value(), 5, free);
    assert!(Arc::ptr_eq(revoker.words(), hand.words()));
    let words = Arc::clone(revoker.words());
    assert_eq!(words.seen(), (5, OwnerPlace::Away));
    let mut revoker = Some(revoker);

    // While the borrower is inside it cannot be taken.
    let mut visits = hand.visits();
    let inside = visits.visit(6, |(text, _)| {
        assert_eq!(words.seen(), (5, OwnerPlace::Inside));
        revoker = revoker.take().and_then(|revoker| revoker.revoke().err());
        text.push('!');
        Some(text.len())
    });
    assert_eq!((inside, revoker.is_some()), (Visit::Found(5), true));
    assert_eq!(words.seen(), (6, OwnerPlace::Running));
    visits.leave(6);
    assert_eq!(words.seen(), (6, OwnerPlace::Away));

    // The attempt has called the borrower, which may go on.
    assert_eq!(visits.visit(7, |_| Some(())), Visit::Called);
    assert_eq!(words.seen(), (6, OwnerPlace::Away));
    let mut revoker = revoker.unwrap();
    revoker.go_on();
    let grown = visits.visit(7, |(text, _)| {
        text.push('?');
        Some(text.len())
    });
    assert_eq!(grown, Visit::Found(6));
    let second = visits.visit(8, |(text, _)| Some(text.len()));
    assert_eq!(second, Visit::Found(6));

    // While the borrower runs what it got, the value can be taken.
    assert_eq!(words.seen(), (8, OwnerPlace::Running));
    let (text, bytes) = revoker.revoke().expect("it is outside");
    assert_eq!((&text[..], bytes), ("lent!?", [7; N]));
    assert_eq!(visits.visit(9, |_| Some(())), Visit::Called);

    // After a visit that found nothing, or panicked, only the borrower can end the loan, with the value as it
    // was left.
    for panics in [false, true] {
        let (revoker, mut hand) = lend(value(), 0, free);
        let mut visits = hand.visits();
        let last = catch_unwind(AssertUnwindSafe(|| {
            visits.visit(1, |(text, _)| {
                text.push('.');
                assert!(!panics, "inside");
                None::<()>
            })
        }));
        assert_eq!(last.is_err(), panics);
        assert!(matches!(last, Err(_) | Ok(Visit::Nothing)));
        assert_eq!(revoker.words().seen(), (0, OwnerPlace::Inside));
        let revoker = revoker.revoke().expect_err("the borrower is inside");
        let (text, bytes) = hand.give_back(revoker).expect("the same loan");
        assert_eq!((&text[..], bytes), ("lent.", [7; N]));
    }

    let (revoker, hand) = lend(value(), 0, free);
    assert_eq!(hand.give_back(revoker), Some(value()));
}

#[test]
fn a_small_value_is_held_by_exactly_one_side() {
    check::<8>();
}

#[test]
fn a_large_value_is_held_by_exactly_one_side() {
    check::<SMALL>();
}

#[test]
fn give_back_refuses_the_loan_of_another_owner() {
    prepare();
    if let Some(free) = Light::new().free() {
        let ((revoker, mine), (other, others)) = (lend(1, 0, free), lend(2, 0, free));
        assert_eq!(
            (mine.give_back(other), others.give_back(revoker)),
            (None, None)
        );
    }
}
