//! Loom models of the line, in every order of its steps.

use super::*;
use loom::thread::{self, JoinHandle};
use std::mem::ManuallyDrop;

/// All permits but these are free. Not dropped by a model that fails, or that would end the process.
fn take(permits: &Permits, weight: usize) -> ManuallyDrop<Permit> {
    ManuallyDrop::new(permits.try_acquire(weight).expect("all are free"))
}

fn give_back(permit: ManuallyDrop<Permit>) {
    drop(ManuallyDrop::into_inner(permit));
}

/// A thread that waits, and gives back what it gets. Returns whether it got anything.
fn waits(permits: &Permits, weight: usize, token: &CancelToken) -> JoinHandle<bool> {
    let (permits, token) = (permits.clone(), token.clone());
    thread::spawn(move || permits.acquire_under(&[&token], weight).map(drop).is_ok())
}

/// Join / give back, hand over / leave: two threads find too few permits while they are given back, and the
/// first one gives up its wait while it is handed them. They come to the second one.
#[test]
fn loom_permits_hand_over_and_leave() {
    loom::model(|| {
        let (permits, token) = (Permits::new(1), CancelToken::new());
        let held = take(&permits, 1);
        let given_up = waits(&permits, 1, &token);
        let served = waits(&permits, 1, &CancelToken::new());
        token.cancel();
        give_back(held);
        assert!(served.join().expect("no panic"));
        let _ = given_up.join().expect("no panic");
        assert_eq!(permits.available(), 1);
    });
}

/// Leave / hand on: a token ends the wait of a thread that needs more than is free, at any step of it. What is
/// free is enough for the thread behind it, although nothing is given back.
#[test]
fn loom_permits_leave_and_hand_on() {
    loom::model(|| {
        let (permits, token) = (Permits::new(2), CancelToken::new());
        let held = take(&permits, 1);
        let given_up = waits(&permits, 2, &token);
        let served = waits(&permits, 1, &CancelToken::new());
        token.cancel();
        assert!(served.join().expect("no panic"));
        give_back(held);
        let _ = given_up.join().expect("no panic");
        assert_eq!(permits.available(), 2);
    });
}
