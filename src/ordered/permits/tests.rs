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
    assert!(borrowed.is_some() && !permits.may_lend());
    assert!(permits.lend().is_none(), "it is lent once");
    permits.repay(&mut stuck);
    assert!(stuck.is_none() && permits.may_lend());
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

#[test]
fn a_wider_stage_has_more_at_once() {
    let mut permits = WidthPermits::new(1);
    let first = permits.take();
    assert_eq!(permits.resize(3, false), 0);
    let (second, third) = (permits.take(), permits.take());
    assert!(second.is_some() && third.is_some() && permits.take().is_none());
    for permit in [first, second, third] {
        permits.give_back(permit);
    }
    assert!(permits.are_all_free());
}

#[test]
fn a_narrower_stage_withdraws_free_ones_first_and_is_owed_the_rest() {
    let mut permits = WidthPermits::new(4);
    let (a, b, mut c) = (permits.take(), permits.take(), permits.take());
    assert_eq!(permits.resize(1, false), 2);
    assert!(permits.take().is_none() && permits.is_any_owed());
    assert!(permits.is_any_unused(2) && !permits.is_any_unused(3));
    permits.give_back(a);
    assert!(permits.take().is_none(), "it was owed");
    permits.pay(&mut c, false);
    assert!(c.is_none() && !permits.is_any_owed());
    permits.give_back(b);
    assert!(permits.are_all_free());
}

#[test]
fn what_is_owed_is_forgiven_first() {
    let mut permits = WidthPermits::new(3);
    let all = [permits.take(), permits.take(), permits.take()];
    assert_eq!(permits.resize(1, false), 2);
    assert_eq!(permits.resize(2, false), 1);
    assert_eq!(permits.resize(5, false), 0);
    let more = [permits.take(), permits.take()];
    assert!(more.iter().all(Option::is_some) && permits.take().is_none());
    for permit in all.into_iter().chain(more) {
        permits.give_back(permit);
    }
    assert!(permits.are_all_free());
}

#[test]
fn the_permit_of_a_thread_in_the_source_goes_first() {
    let mut permits = WidthPermits::new(2);
    let (mut stuck, mut other) = (permits.take(), permits.take());
    assert_eq!(permits.resize(1, true), 0);
    permits.pay(&mut other, true);
    assert!(other.is_some(), "nothing is owed");
    assert!(permits.lend().is_none(), "it is void");
    permits.repay(&mut stuck);
    assert!(stuck.is_none() && permits.may_lend());
    permits.give_back(other);
    assert!(permits.are_all_free());
}

#[test]
fn a_debt_is_paid_with_that_of_a_thread_in_the_source() {
    let mut permits = WidthPermits::new(3);
    let (mut stuck, mut other, third) = (permits.take(), permits.take(), permits.take());
    assert_eq!(permits.resize(1, false), 2);
    assert!(permits.lend().is_none(), "one is owed");
    permits.pay(&mut other, true);
    assert!(other.is_none(), "the second one is its own");
    permits.repay(&mut stuck);
    assert!(stuck.is_none());
    permits.give_back(third);
    assert!(permits.are_all_free());
}

#[test]
fn a_thread_that_comes_out_of_the_source_pays() {
    let mut permits = WidthPermits::new(2);
    let (mut first, second) = (permits.take(), permits.take());
    assert_eq!(permits.resize(1, false), 1);
    permits.repay(&mut first);
    assert!(first.is_none());
    permits.give_back(second);
    assert!(permits.are_all_free());
}

/// Whatever happens in whichever order, in the end there are as many as the stage is wide.
#[test]
fn none_is_lost_or_made_by_random_changes() {
    let mut seed = 1_u64;
    let mut random = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) as usize % below
    };
    for _ in 0..200 {
        let mut permits = WidthPermits::new(1 + random(9));
        // The first thread may be in the source.
        let mut held: Vec<_> = (0..12).map(|_| None).collect();
        let mut inside = false;
        let mut width = 1;
        permits.resize(1, false);
        for _ in 0..200 {
            let thread = random(held.len());
            match random(5) {
                0 => {
                    width = 1 + random(9);
                    permits.resize(width, inside);
                }
                1 if thread == 0 && inside => {
                    permits.repay(&mut held[0]);
                    inside = false;
                }
                1 => inside |= thread == 0 && held[0].is_some(),
                2 if !(thread == 0 && inside) => permits.pay(&mut held[thread], inside),
                3 if !(thread == 0 && inside) => permits.give_back(held[thread].take()),
                _ if held[thread].is_none() => held[thread] = permits.take(),
                _ => {}
            }
            let runs = held.iter().skip(usize::from(inside)).flatten().count();
            assert!(permits.is_any_owed() || runs <= width, "{runs} of {width}");
        }
        permits.repay(&mut held[0]);
        for permit in held {
            permits.give_back(permit);
        }
        assert!(permits.are_all_free(), "{permits:?}");
    }
}
