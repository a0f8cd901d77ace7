//! Loom models of the protocol of keyed stages.

use super::intake::{KeyedSource, Lanes};
use super::shared::KeyedStage;
use super::taker::{Found, Taker};
use crate::error::Cancelled;
use crate::par::job::One;
use crate::par::map::Map;
use crate::runtime::control::Control;
use crate::runtime::event::{Listener, WaitResult};
use crate::runtime::lease::{Leases, with_crew};
use crate::runtime::life::Scheduler;
use crate::runtime::pool::Pool;
use crate::sync::{Arc, Gate};
use std::ops::Range;

/// The parameters of a model.
#[derive(Clone)]
struct Case {
    workers: usize,
    width: usize,
    bound: usize,
    items: Range<usize>,
    keys: usize,
    /// How many items have been pulled before any thread starts.
    pulled: usize,
    /// Whether a turn takes several items.
    tiny: bool,
    /// Whether a thread cancels.
    cancelled: bool,
    /// The closure of this item waits for the result of the item before.
    waits: Option<usize>,
}

const CASE: Case = Case {
    workers: 1,
    width: 1,
    bound: 1,
    items: 0..2,
    keys: 1,
    pulled: 0,
    tiny: false,
    cancelled: false,
    waits: None,
};

/// The whole protocol but for the leases, in every order of its steps: no thread sleeps forever; unless
/// the stage is cancelled, all results come; and those of each key come in order.
fn all_come(case: Case) {
    loom::model(move || with_crew(Pool::builder().build(), |leases| run(&case, leases)));
}

fn run(case: &Case, leases: &Leases) {
    let (keys, waits) = (case.keys, case.waits);
    let listener = Listener::new();
    let control = Arc::new(Control::new(listener.event(), None));
    let gate = Arc::new(Gate::default());
    let (f, key) = (
        {
            let gate = Arc::clone(&gate);
            move |item| {
                if waits == Some(item) {
                    gate.wait();
                }
                item
            }
        },
        move |item: &usize| item % keys,
    );
    let intake = Box::new(KeyedSource::new(case.items.clone(), key));
    let bound = Some(case.bound);
    let shared = KeyedStage::new(
        Map::new(f),
        case.width,
        bound,
        Some(intake),
        Arc::clone(&control),
        leases.clone(),
    );
    let shared = Arc::new(shared);
    {
        let mut state = shared.state.lock();
        for thread in 0..case.workers {
            assert_eq!(state.roster.enlist(), thread);
        }
        state.roster.enlist();
        state.roster.lease_failed(); // none further
    }
    if case.tiny {
        shared.cost.observe(1, &mut [1.0; 4], None);
    }
    {
        let mut state = shared.state.lock();
        let mut intake = state.intake.take().expect("not started");
        for _ in 0..case.pulled {
            let admitted = shared.admit(&mut state, intake.pull());
            admitted.expect("an item");
        }
        state.intake = Some(intake);
    }
    let mut threads: Vec<_> = (0..case.workers)
        .map(|thread| {
            let shared = Arc::clone(&shared);
            loom::thread::spawn(move || shared.work(thread))
        })
        .collect();
    if case.cancelled {
        let control = Arc::clone(&control);
        threads.push(loom::thread::spawn(move || {
            control.cancel(Cancelled::default())
        }));
    }
    let mut taker = Taker::new(shared, listener, false);
    let mut got = Vec::new();
    loop {
        match taker.take() {
            Found::Result(result) => {
                let Ok(One(item)) = result else {
                    panic!("no panic")
                };
                got.push(item);
                if waits == Some(item + 1) {
                    gate.open();
                }
            }
            Found::Nothing => assert_eq!(taker.wait(None), WaitResult::Ready),
            Found::Over => break,
        }
    }
    control.cancel(Cancelled::default());
    for thread in threads {
        thread.join().expect("no panic");
    }
    assert!(got.len() == case.items.len() || case.cancelled);
    for of_key in 0..keys {
        let of_key = |item: &usize| item % keys == of_key;
        let all = case.items.clone().filter(of_key);
        assert!(
            all.zip(got.iter().copied().filter(of_key))
                .all(|(a, b)| a == b)
        );
    }
}

/// One worker and a bound of one: sleep for room, make room, notify, end.
#[test]
fn loom_keyed_room() {
    all_come(CASE);
}

/// Two workers that take turns in the source and share a bound of one.
#[test]
fn loom_keyed_two_for_one_place() {
    all_come(Case {
        workers: 2,
        width: 2,
        ..CASE
    });
}

/// One of two workers runs, the other pulls or sleeps, although both may run.
#[test]
fn loom_keyed_one_key() {
    all_come(Case {
        workers: 2,
        width: 2,
        bound: 2,
        ..CASE
    });
}

#[test]
fn loom_keyed_two_keys() {
    all_come(Case {
        workers: 2,
        width: 2,
        bound: 2,
        keys: 2,
        ..CASE
    });
}

/// Turns of several items, whose results go through outboxes.
#[test]
fn loom_keyed_outboxes() {
    all_come(Case {
        workers: 2,
        bound: 3,
        items: 0..3,
        tiny: true,
        ..CASE
    });
}

/// Results in an outbox are taken although its worker is stuck.
#[test]
fn loom_keyed_outbox_of_a_stuck_worker() {
    all_come(Case {
        workers: 2,
        bound: 3,
        items: 0..3,
        tiny: true,
        waits: Some(2),
        ..CASE
    });
}

/// Stop / finish: the consumer may take all results from the outbox before the worker has finished.
#[test]
fn loom_keyed_cancel_and_outbox() {
    all_come(Case {
        bound: 2,
        pulled: 2,
        tiny: true,
        cancelled: true,
        ..CASE
    });
}

#[test]
fn loom_keyed_cancel() {
    all_come(Case {
        bound: 2,
        cancelled: true,
        ..CASE
    });
}
