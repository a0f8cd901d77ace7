//! Loom models of the protocol of flat stages.

use super::begun::OwnStep;
use super::shared::FlatStage;
use super::taker::{FlatTaker, Found};
use crate::error::Cancelled;
use crate::par::flat_map::TryFlatMap;
use crate::runtime::control::Control;
use crate::runtime::event::{Listener, WaitResult};
use crate::runtime::lease::{Leases, Stop, with_crew};
use crate::runtime::life::Scheduler;
use crate::runtime::plan::WorkOpts;
use crate::runtime::pool::Pool;
use crate::sync::{Arc, AtomicUsize, Condvar, Gate, Mutex, Ordering};
use std::iter;

/// The parameters of a model.
#[derive(Clone)]
pub(super) struct Case {
    pub(super) workers: usize,
    pub(super) bound: usize,
    pub(super) items: usize,
    /// How many outputs each item has.
    pub(super) outputs: usize,
    /// This item has an error instead.
    pub(super) fails: Option<usize>,
    /// Whether a thread cancels.
    pub(super) cancelled: bool,
    /// How many items a thread takes at once.
    pub(super) batch: usize,
    /// Whether the source gives an item only when the outputs of the one before it have been received.
    pub(super) waits: bool,
    /// How often the consumer gets the turn. It does as soon as a worker could say so.
    pub(super) turns: u64,
    /// Item 0 ends only when the first output of item 1 has been made.
    pub(super) ends_late: bool,
    /// The consumer stays away, with its first output, until then.
    pub(super) away: bool,
    /// The outputs of item 1 are made only when item 0 has ended.
    pub(super) follows: bool,
}

pub(super) const CASE: Case = Case {
    workers: 1,
    bound: 1,
    items: 1,
    outputs: 2,
    fails: None,
    cancelled: false,
    batch: 1,
    waits: false,
    turns: 0,
    ends_late: false,
    away: false,
    follows: false,
};

/// The whole protocol but for the leases, in every order of its steps: no thread sleeps forever; unless the stage is
/// cancelled, all outputs up to the error come; and they come in order.
pub(super) fn all_come(case: Case) {
    loom::model(move || with_crew(Pool::builder().build(), |leases| run(&case, leases)));
}

fn run(case: &Case, leases: &Leases) {
    let (outputs, fails) = (case.outputs, case.fails);
    let (ends_late, follows) = (case.ends_late, case.follows);
    // Opened by the end of item 0, and by the first output of item 1.
    let (first, second) = (Arc::new(Gate::default()), Arc::new(Gate::default()));
    let (begun, width) = (Arc::clone(&second), case.workers);
    let running = Arc::new(AtomicUsize::new(0));
    let open = move |item: usize| {
        let (begun, running) = (Arc::clone(&begun), Arc::clone(&running));
        let (ends, ended) = (Arc::clone(&first), Arc::clone(&first));
        let of_item = (0..outputs).map(move |i| {
            if follows && item == 1 {
                ended.wait();
            }
            let others = running.fetch_add(1, Ordering::Relaxed);
            assert!(
                others < width,
                "more closures at once than the stage is wide"
            );
            if item == 1 {
                begun.open();
            }
            if ends_late && item == 0 && i + 1 == outputs {
                begun.wait();
            }
            running.fetch_sub(1, Ordering::Relaxed);
            Ok((item, i))
        });
        if fails == Some(item) {
            return Err(item);
        }
        Ok(of_item.chain(iter::from_fn(move || {
            if follows && item == 0 {
                ends.open();
            }
            None
        })))
    };
    let received = Arc::new((Mutex::new(0), Condvar::new()));
    let (told, waits) = (Arc::clone(&received), case.waits);
    let source = (0..case.items).inspect(move |&item| {
        let mut received = told.0.lock();
        while waits && *received < item * outputs {
            received = told.1.wait(received);
        }
    });
    let listener = Listener::new();
    let control = Arc::new(Control::new(listener.event(), None));
    let mut opts = WorkOpts::new(case.workers, None);
    opts.in_flight = Some(case.bound);
    let shared = Arc::new(FlatStage::new(
        TryFlatMap::new(open),
        opts,
        case.turns > 0,
        Some(Box::new(source)),
        Arc::clone(&control),
        leases.clone(),
    ));
    {
        let mut state = shared.state.lock();
        state.batch = case.batch;
        state.own.turns = case.turns;
        for thread in 0..case.workers {
            assert_eq!(state.roster.enlist(), thread);
        }
        state.roster.enlist();
        state.roster.lease_failed(); // none further
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
            control.cancel(Cancelled::default());
        }));
    }
    let mut taker = FlatTaker::new(shared, listener, false);
    let mut got = Vec::new();
    loop {
        let mut output = taker.next_taken();
        if output.is_none() && (taker.owns || taker.has_turn && taker.take_own()) {
            output = match taker.owns.then(|| taker.run_own()) {
                Some(OwnStep::Output(output)) => Some(output),
                Some(OwnStep::Last(output)) => {
                    got.push(output);
                    control.stop();
                    break;
                }
                Some(OwnStep::Nothing) | None => continue,
                Some(OwnStep::Cut) => break,
                Some(OwnStep::Panic(_)) => panic!("no panic"),
            };
        }
        if let Some(output) = output {
            got.push(output);
            if case.away {
                second.wait();
            }
            *received.0.lock() = got.len();
            received.1.notify_all();
            continue;
        }
        match taker.refill() {
            Found::Some | Found::Own => {}
            Found::Nothing if !taker.has_lanes() && taker.take_own() => {}
            Found::Nothing => assert_eq!(taker.wait(None), WaitResult::Ready),
            Found::Last | Found::Over => break,
            Found::Panic(_) => panic!("no panic"),
        }
    }
    // They leave by themselves, after an error too.
    for thread in threads {
        thread.join().expect("no panic");
    }
    let before = fails.unwrap_or(case.items);
    let all = (0..before).flat_map(|item| (0..outputs).map(move |i| Ok((item, i))));
    let all: Vec<_> = all.chain(fails.map(Err)).collect();
    if case.cancelled {
        assert!(all.starts_with(&got));
    } else {
        assert_eq!(all, got);
    }
}

/// The exchanges between a worker and the consumer: outputs one by one, room, the end.
#[test]
fn loom_flat_one_by_one() {
    all_come(CASE);
}

/// An end without an output.
#[test]
fn loom_flat_empty() {
    all_come(Case {
        items: 2,
        outputs: 0,
        ..CASE
    });
}

/// Two workers whose items come out in order.
#[test]
fn loom_flat_two() {
    all_come(Case {
        workers: 2,
        bound: 2,
        items: 2,
        outputs: 1,
        ..CASE
    });
}

/// Two workers and one place for both.
#[test]
fn loom_flat_two_for_one_place() {
    all_come(Case {
        workers: 2,
        items: 2,
        outputs: 1,
        ..CASE
    });
}

/// The second item waits for room when the first one fails.
#[test]
fn loom_flat_failure() {
    all_come(Case {
        workers: 2,
        bound: 3,
        items: 2,
        outputs: 3,
        fails: Some(0),
        ..CASE
    });
}

/// Two items in one lane, of which the second one may be stolen.
#[test]
fn loom_flat_together() {
    all_come(Case {
        workers: 2,
        bound: 3,
        items: 2,
        outputs: 1,
        batch: 2,
        ..CASE
    });
}

/// The thread in the source waits there for the outputs of what it has pulled.
#[test]
fn loom_flat_source_waits() {
    for workers in [1, 2] {
        all_come(Case {
            workers,
            bound: 2,
            items: 2,
            outputs: 1,
            batch: 2,
            waits: true,
            ..CASE
        });
    }
}

#[test]
fn loom_flat_cancel() {
    all_come(Case {
        cancelled: true,
        ..CASE
    });
}
