use super::*;

#[test]
fn no_more_than_the_width_are_taken() {
    let mut permits = WidthPermits::new(2);
    assert!(permits.are_all_free());
    let (a, b) = (permits.take(), permits.take());
    assert!(a.is_some() && b.is_some() && permits.take().is_none());
    assert!(!permits.is_any_free() && !permits.is_any_unused(2) && permits.is_any_unused(1));
    permits.give_back(a);
    permits.give_back(None);
    assert!(permits.is_any_free() && !permits.are_all_free());
    permits.give_back(b);
    assert!(permits.are_all_free());
}

#[test]
fn a_lent_permit_is_void_when_its_thread_comes_back() {
    let mut permits = WidthPermits::new(1);
    let mut stuck = permits.take();
    let borrowed = permits.lend();
    assert!(borrowed.is_some() && permits.is_lent());
    assert!(permits.lend().is_none(), "it is lent once");
    permits.repay(&mut stuck);
    assert!(stuck.is_none() && !permits.is_lent());
    permits.give_back(borrowed);
    assert!(permits.are_all_free());
}

#[test]
fn the_thread_takes_what_was_given_back_meanwhile() {
    let mut permits = WidthPermits::new(1);
    let mut stuck = permits.take();
    let borrowed = permits.lend();
    permits.give_back(borrowed);
    permits.repay(&mut stuck);
    assert!(stuck.is_some() && !permits.is_any_free());
    permits.repay(&mut stuck);
    assert!(stuck.is_some(), "nothing is lent");
    permits.give_back(stuck);
    assert!(permits.are_all_free());
}

#[test]
fn all_but_one_are_kept_back_as_they_come() {
    let mut permits = WidthPermits::new(3);
    let (a, b) = (permits.take(), permits.take());
    permits.keep_one(true);
    assert!(!permits.is_any_free() && permits.is_one_too_many());
    assert!(permits.is_any_unused(1) && !permits.is_any_unused(2));
    permits.give_back(a);
    assert!(!permits.is_any_free() && !permits.is_one_too_many());
    permits.give_back(b);
    assert!(permits.is_any_free(), "the last one");
    let one = permits.take();
    assert!(one.is_some() && permits.take().is_none());
    permits.keep_one(false);
    assert!(permits.take().is_some() && permits.take().is_some() && permits.take().is_none());
}

#[test]
fn the_last_one_can_be_lent() {
    let mut permits = WidthPermits::new(2);
    permits.keep_one(true);
    let mut stuck = permits.take();
    let borrowed = permits.lend();
    assert!(borrowed.is_some());
    permits.give_back(borrowed);
    permits.repay(&mut stuck);
    assert!(stuck.is_some() && permits.take().is_none());
    permits.keep_one(false);
    permits.give_back(stuck);
    assert!(permits.are_all_free());
}

/// It comes out, finds no other permit, and looks once more when the next thread is in the source.
#[test]
fn a_thread_without_a_permit_does_not_repay_for_another() {
    let mut permits = WidthPermits::new(2);
    let (mut first, mut second) = (permits.take(), permits.take());
    let borrowed = permits.lend();
    permits.repay(&mut first);
    assert!(first.is_none());
    // The second thread is in the source now.
    let again = permits.lend();
    assert!(again.is_some());
    permits.repay(&mut first);
    permits.repay(&mut second);
    assert!(first.is_none() && second.is_none(), "there are only two");
    permits.give_back(borrowed);
    permits.give_back(again);
    assert!(permits.are_all_free());
}
