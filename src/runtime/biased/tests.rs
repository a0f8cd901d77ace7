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
        text.len()
    });
    assert_eq!((inside, revoker.is_some()), (Some(5), true));
    assert_eq!(words.seen(), (6, OwnerPlace::Running));
    visits.leave(6);
    assert_eq!(words.seen(), (6, OwnerPlace::Away));

    // The attempt has called the borrower, which may go on.
    assert_eq!(visits.visit(7, |_| ()), None);
    assert_eq!(words.seen(), (6, OwnerPlace::Away));
    let mut revoker = revoker.unwrap();
    revoker.go_on();
    let grown = visits.visit(7, |(text, _)| {
        text.push('?');
        text.len()
    });
    assert_eq!(grown, Some(6));
    let second = visits.visit(8, |(text, _)| text.len());
    assert_eq!(second, Some(6));

    // A panic inside returns the value and is propagated.
    let thrown = catch_unwind(AssertUnwindSafe(|| {
        visits.visit(9, |(text, _)| -> () {
            text.push('.');
            panic!("inside")
        })
    }));
    assert!(thrown.is_err());
    assert_eq!(words.seen(), (9, OwnerPlace::Running));

    // While the borrower runs what it got, the value can be taken.
    let (text, bytes) = revoker.revoke().expect("it is outside");
    assert_eq!((&text[..], bytes), ("lent!?.", [7; N]));
    assert_eq!(visits.visit(10, |_| ()), None);

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
