//! `par_map_ordered_init`: `init` runs exactly once per worker, whatever the workers have to do.

use crate::support::{Counter, Gate, Meter, SOON, blocks, dawdle, settle, within};
use fanfold::Fanfold;
use std::rc::Rc;
use std::thread::ThreadId;

#[test]
fn at_most_n_states_are_made() {
    for n in 1..=9 {
        within(SOON, move || {
            let inits = Counter::new();
            let stage = (0..500).par_map_ordered_init(n, || inits.add(), |_, i| dawdle(i));
            assert_eq!(stage.count(), 500);
            assert!((1..=n).contains(&inits.get()), "{} for {n}", inits.get());
        });
    }
}

/// The source has ended and everything has been started: a worker that is no longer needed leaves the
/// stage, even while others are still running.
#[test]
fn a_worker_without_work_leaves() {
    for n in 2..=9 {
        within(SOON, move || {
            let (left, gate, meter) = (Counter::new(), Gate::new(), Meter::new());
            let mut stage = (0..n).par_map_ordered_init(
                n,
                {
                    let left = left.clone();
                    move || left.on_drop()
                },
                {
                    let gate = gate.clone();
                    move |_, i| {
                        meter.meet(n);
                        if i == n - 1 {
                            gate.wait();
                        }
                        i
                    }
                },
            );
            let _opener = gate.opener();
            assert_eq!(stage.next(), Some(0));
            left.wait_for(n - 1);
            gate.open();
            assert_eq!(stage.count(), n - 1);
        });
    }
}

/// Including workers that sleep because the source, which one of them waits for, has not ended yet.
#[test]
fn workers_that_sleep_leave_when_the_source_has_ended() {
    for n in 2..=9 {
        within(SOON, move || {
            let (left, gate, meter) = (Counter::new(), Gate::new(), Meter::new());
            let _opener = gate.opener();
            let source = (0..n).chain(blocks(&gate));
            let mut stage = source.par_map_ordered_init(
                n,
                {
                    let left = left.clone();
                    move || left.on_drop()
                },
                move |_, i| {
                    meter.meet(n);
                    i
                },
            );
            assert_eq!(stage.next(), Some(0));
            settle();
            assert_eq!(left.get(), 0);
            gate.open();
            left.wait_for(n);
            assert_eq!(stage.count(), n - 1);
        });
    }
}

#[test]
fn n_workers_at_once_have_n_states() {
    for n in 1..=9 {
        within(SOON, move || {
            let (inits, meter) = (Counter::new(), Meter::new());
            let stage = (0..n * 10).par_map_ordered_init(n, || inits.add(), |_, _| meter.meet(n));
            assert_eq!(stage.count(), n * 10);
            assert_eq!(inits.get(), n);
        });
    }
}

/// A worker that is stuck in the source may be replaced, but not by one with a new state.
#[test]
fn a_source_that_blocks_costs_no_further_state() {
    for n in 1..=9 {
        within(SOON, move || {
            let (inits, received, gate) = (Counter::new(), Counter::new(), Gate::new());
            let source = (0..100_usize).inspect({
                let received = received.clone();
                move |&i| received.wait_for(i)
            });
            let init = {
                let inits = inits.clone();
                move || inits.add()
            };
            let stage = source
                .chain(blocks(&gate))
                .par_map_ordered_init(n, init, |_, i| i);
            gate.open();
            for i in stage {
                assert_eq!(received.add(), i + 1);
            }
            assert!((1..=n).contains(&inits.get()), "{} for {n}", inits.get());
        });
    }
}

#[test]
fn a_state_is_used_by_one_worker_at_a_time_and_kept() {
    for n in 1..=9 {
        within(SOON, move || {
            // neither `Send` nor `Sync`: made, used and dropped on one thread
            struct State(Rc<u32>, ThreadId, u32);
            impl Drop for State {
                fn drop(&mut self) {
                    assert_eq!(self.1, std::thread::current().id());
                }
            }
            let init = || State(Rc::new(7), std::thread::current().id(), 0);
            let stage = (0..500).par_map_ordered_init(n, init, |state, i| {
                assert_eq!(state.1, std::thread::current().id());
                state.2 += *state.0;
                dawdle(i);
                state.2 / 7
            });
            // each state counts how often it has been used
            let uses: Vec<u32> = stage.collect();
            let fresh = uses.iter().filter(|uses| **uses == 1).count();
            assert!((1..=n).contains(&fresh), "{fresh} states for {n} workers");
        });
    }
}

#[test]
fn no_items_no_states() {
    for n in 1..=9 {
        within(SOON, move || {
            let inits = Counter::new();
            let stage = (0..0).par_map_ordered_init(n, || inits.add(), |_, i: u32| i);
            assert_eq!(stage.count(), 0);
            assert_eq!(inits.get(), 0);
        });
    }
}

#[test]
fn no_more_states_than_items() {
    within(SOON, || {
        let inits = Counter::new();
        let stage = (0..3).par_map_ordered_init(100, || inits.add(), |_, i: u32| i);
        assert_eq!(stage.count(), 3);
        assert!(inits.get() <= 3, "{}", inits.get());
    });
}
