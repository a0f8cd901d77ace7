//! `try_par_map_ordered_init`: an `init` that fails ends the stage at one place, and its worker spoils nothing else.

use crate::support::{
    Bang, Counter, Gate, Ledger, SOON, Tracked, barren, blocks, dawdle, payload, spin, within,
};
use fanfold::Fanfold;
use std::time::Duration;

/// Why a stage ended.
#[derive(Debug, PartialEq, Eq)]
enum Broken {
    Init(usize),
    Item(u64),
}

/// Makes states, until the one with a certain number fails; later ones fail too, or do not.
#[derive(Clone, Debug, Default)]
struct Inits {
    /// How many were tried.
    tried: Counter,
    /// How many of the states have been dropped.
    dropped: Counter,
    fails: usize,
    for_good: bool,
}

/// A state, which notes its drop.
struct State(Counter);

impl Drop for State {
    fn drop(&mut self) {
        self.0.add();
    }
}

impl Inits {
    fn fail_at(fails: usize, for_good: bool) -> Self {
        Inits {
            fails,
            for_good,
            ..Inits::default()
        }
    }

    fn make(&self) -> Result<State, Broken> {
        let number = self.tried.add();
        if number == self.fails || self.for_good && number > self.fails {
            return Err(Broken::Init(number));
        }
        Ok(State(self.dropped.clone()))
    }

    /// No state was made that is not dropped, and none was tried without need.
    fn assert_over(&self, n: usize) {
        let tried = self.tried.get();
        assert!(tried <= n, "{tried} states tried by {n} workers");
        let failed = if self.for_good {
            (tried + 1).saturating_sub(self.fails)
        } else {
            usize::from(tried >= self.fails)
        };
        assert_eq!(self.dropped.get(), tried - failed);
    }
}

/// Which `init` fails, with each width, and whether later ones fail too.
fn cases() -> impl Iterator<Item = (usize, usize, bool)> {
    (1..=9).flat_map(|n| (1..=n).flat_map(move |k| [(n, k, false), (n, k, true)]))
}

/// Checks that these are the items in order, then one error of an `init`, and then nothing. Returns the place of the error.
fn assert_ends(outputs: &mut dyn Iterator<Item = Result<Tracked, Broken>>) -> u64 {
    let mut place = 0;
    let error = loop {
        match outputs.next().expect("an error") {
            Ok(item) => assert_eq!(item.id, place),
            Err(error) => break error,
        }
        place += 1;
    };
    assert!(matches!(error, Broken::Init(_)), "{error:?}");
    for _ in 0..3 {
        assert!(outputs.next().is_none(), "the error is the end");
    }
    place
}

#[test]
fn a_failed_init_is_one_error_and_spoils_no_item_before_it() {
    within(SOON, || {
        for (n, k, for_good) in cases() {
            let (inits, ledger) = (Inits::fail_at(k, for_good), Ledger::new());
            let source = (0..300).map(|id| ledger.track(id)).collect::<Vec<_>>();
            let mut stage = source.into_iter().try_par_map_ordered_init(
                n,
                {
                    let inits = inits.clone();
                    move || inits.make()
                },
                {
                    let inits = inits.clone();
                    // The workers with a state stay with their first items until the one without is there.
                    move |_: &mut State, item: Tracked| {
                        inits.tried.wait_for(k);
                        dawdle(item.id);
                        Ok(item)
                    }
                },
            );
            assert_ends(&mut stage);
            drop(stage);
            inits.assert_over(n);
            ledger.assert_dropped_once();
        }
    });
}

/// A worker that comes late fails late: then others have long chunks with earlier items, which it must not steal.
#[test]
fn a_worker_without_a_state_steals_nothing() {
    within(SOON, || {
        for round in 0..60 {
            let n = 9 + round % 12;
            let (inits, calls) = (Inits::fail_at(n, true), Counter::new());
            let (made, ran) = (inits.clone(), calls.clone());
            let stage = (0..10_000).try_par_map_ordered_init(
                n,
                move || made.make(),
                move |_, i| {
                    spin(Duration::from_nanos(300));
                    ran.add();
                    Ok::<_, Broken>(i)
                },
            );
            let outputs: Vec<_> = stage.collect();
            let good = outputs.iter().filter(|output| output.is_ok()).count();
            let failed = outputs.len() - good;
            // Perhaps fewer workers were needed.
            assert!(failed == 1 || failed == 0 && good == 10_000);
            assert!(
                outputs
                    .iter()
                    .enumerate()
                    .all(|(place, output)| match output {
                        Ok(i) => *i == place,
                        Err(_) => place == good,
                    })
            );
            assert!(calls.get() >= good);
            inits.assert_over(n);
        }
    });
}

#[test]
fn the_first_worker_fails_at_the_first_item() {
    for n in 1..=9 {
        within(SOON, move || {
            let inits = Inits::fail_at(1, true);
            let mut stage = (0..50_u64).try_par_map_ordered_init(
                n,
                {
                    let inits = inits.clone();
                    move || inits.make()
                },
                |_, i| Ok(i),
            );
            assert!(matches!(stage.next(), Some(Err(Broken::Init(_)))));
            assert_eq!(stage.next(), None);
            inits.assert_over(n);
        });
    }
}

#[test]
fn an_item_that_fails_first_comes_first() {
    for n in 1..=9 {
        within(SOON, move || {
            let inits = Inits::fail_at(n + 1, true);
            let mut stage = (0..50_u64).try_par_map_ordered_init(
                n,
                {
                    let inits = inits.clone();
                    move || inits.make()
                },
                |_, i| {
                    if i == 7 { Err(Broken::Item(i)) } else { Ok(i) }
                },
            );
            assert!(stage.by_ref().take(7).map(Result::unwrap).eq(0..7));
            assert_eq!(stage.next(), Some(Err(Broken::Item(7))));
            assert_eq!(stage.next(), None);
            drop(stage);
            inits.assert_over(n);
        });
    }
}

/// Also while the source blocks, and the workers sleep.
#[test]
fn the_error_does_not_wait_for_the_source() {
    for n in 2..=9 {
        within(SOON, move || {
            let (inits, gate) = (Inits::fail_at(n, true), Gate::new());
            let source = (0..n as u64).chain(blocks(&gate));
            let ledger = Ledger::new();
            let mut stage = source.try_par_map_ordered_init(
                n,
                {
                    let inits = inits.clone();
                    move || inits.make()
                },
                {
                    let (inits, ledger) = (inits.clone(), ledger.clone());
                    move |_, i| {
                        inits.tried.wait_for(n);
                        Ok(ledger.track(i))
                    }
                },
            );
            let _opener = gate.opener();
            assert_ends(&mut stage);
            gate.open();
            drop(stage);
            inits.assert_over(n);
            ledger.assert_dropped_once();
        });
    }
}

#[test]
fn without_an_order_there_is_one_error_at_the_end() {
    within(SOON, || {
        for (n, k, for_good) in cases() {
            let inits = Inits::fail_at(k, for_good);
            let (made, wait) = (inits.clone(), inits.clone());
            let stage = (0..200_u64)
                .try_par_map_ordered_init(
                    n,
                    move || made.make(),
                    move |_, i| {
                        wait.tried.wait_for(k);
                        Ok(i)
                    },
                )
                .unordered();
            let outputs: Vec<_> = stage.collect();
            let errors = outputs.iter().filter(|output| output.is_err()).count();
            assert_eq!(errors, 1);
            assert!(outputs.last().is_some_and(|last| last.is_err()));
            inits.assert_over(n);
        }
    });
}

#[test]
fn the_source_may_stay_on_its_thread_or_be_a_stage() {
    within(SOON, || {
        for (n, k, for_good) in cases() {
            let borrowed = [0_u64, 1, 2, 3, 4, 5, 6, 7, 8, 9];
            let run = |is_local: bool| {
                let inits = Inits::fail_at(k, for_good);
                let init = || inits.make();
                let f = |_: &mut State, i: &u64| {
                    inits.tried.wait_for(k);
                    Ok(*i)
                };
                let outputs: Vec<Result<u64, Broken>> = if is_local {
                    let source = borrowed.iter().local();
                    source.try_par_map_ordered_init(n, init, f).collect()
                } else {
                    let source = borrowed.iter().par_map_ordered(2, |i| i);
                    source.try_par_map_ordered_init(n, init, f).collect()
                };
                let place = outputs.len() as u64 - 1;
                assert!(outputs.iter().zip(0..).all(|(output, i)| match output {
                    Ok(value) => *value == i,
                    Err(error) => i == place && matches!(error, Broken::Init(_)),
                }));
                assert!(outputs.last().is_some_and(|last| last.is_err()));
                inits.assert_over(n);
            };
            run(true);
            run(false);
        }
    });
}

/// A worker of a timed stage may be needed for an earlier item, so it stays. The outputs are the same.
#[test]
fn a_timed_stage_ends_with_one_error_too() {
    within(SOON, || {
        for (n, k, for_good) in cases() {
            let (inits, ledger) = (Inits::fail_at(k, for_good), Ledger::new());
            let (made, wait, items) = (inits.clone(), inits.clone(), ledger.clone());
            let mut stage = (0..60_u64)
                .try_par_map_ordered_init(
                    n,
                    move || made.make(),
                    move |_, i| {
                        wait.tried.wait_for(k);
                        Ok(items.track(i))
                    },
                )
                .item_timeout(2 * SOON);
            // With `for_good` unset a later try may succeed.
            assert_ends(&mut stage);
            drop(stage);
            ledger.assert_dropped_once();
        }
    });
}

/// The consumer runs the items itself, with a state for each.
#[test]
fn without_threads_the_item_whose_init_fails_is_the_last() {
    within(SOON, || {
        let pool = barren();
        for k in 1..=9 {
            let inits = Inits::fail_at(k, true);
            let made = inits.clone();
            let mut stage = (0..20_u64)
                .try_par_map_ordered_init(3, move || made.make(), |_, i| Ok(i))
                .on(&pool);
            assert!(
                stage
                    .by_ref()
                    .take(k - 1)
                    .map(Result::unwrap)
                    .eq(0..k as u64 - 1)
            );
            assert_eq!(stage.next(), Some(Err(Broken::Init(k))));
            assert_eq!(stage.next(), None);
            assert_eq!(inits.tried.get(), k);
        }
    });
}

#[test]
fn isolated_it_still_ends_the_stage() {
    for n in 1..=9 {
        within(SOON, move || {
            let inits = Inits::fail_at(n, true);
            let (made, wait) = (inits.clone(), inits.clone());
            let stage = (0..50_u64)
                .try_par_map_ordered_init(
                    n,
                    move || made.make(),
                    move |_, i| {
                        wait.tried.wait_for(n);
                        Ok(i)
                    },
                )
                .isolate();
            let outputs: Vec<_> = stage.collect();
            let (last, before) = outputs.split_last().expect("an error");
            assert!(
                before
                    .iter()
                    .zip(0..)
                    .all(|(output, i)| *output == Ok(Ok(i)))
            );
            assert!(matches!(last, Ok(Err(Broken::Init(_)))), "{last:?}");
            inits.assert_over(n);
        });
    }
}

/// A panic is as an error, in the plain stage too.
#[test]
fn a_worker_whose_init_panics_takes_no_other_item() {
    within(SOON, || {
        for (n, k, for_good) in cases() {
            for round in 0..10_u64 {
                let (inits, ledger) = (Inits::fail_at(k, for_good), Ledger::new());
                let (made, wait) = (inits.clone(), inits.clone());
                let init = move || {
                    let made = made.make();
                    made.unwrap_or_else(|_| std::panic::resume_unwind(Box::new(Bang(77))))
                };
                let source = (0..300).map(|id| ledger.track(id)).collect::<Vec<_>>();
                let mut stage =
                    source
                        .into_iter()
                        .par_map_ordered_init(n, init, move |_, item: Tracked| {
                            wait.tried.wait_for(k);
                            dawdle(round << 8 ^ item.id);
                            item
                        });
                let mut place = 0;
                let raised = payload(|| {
                    for item in stage.by_ref() {
                        assert_eq!(item.id, place);
                        place += 1;
                    }
                });
                let raised = raised
                    .err()
                    .and_then(|raised| raised.downcast::<Bang>().ok());
                assert_eq!(raised.as_deref(), Some(&Bang(77)));
                assert!(stage.next().is_none());
                drop(stage);
                inits.assert_over(n);
                ledger.assert_dropped_once();
            }
        }
    });
}

/// A panic is a value there, so the worker stays and tries again.
#[test]
fn isolated_a_panic_of_init_fails_its_item_only() {
    for n in 1..=9 {
        within(SOON, move || {
            let tried = Counter::new();
            let number = tried.clone();
            let init = move || {
                if number.add() <= 3 {
                    std::panic::resume_unwind(Box::new(Bang(77)));
                }
            };
            let stage = (0..100_u64)
                .par_map_ordered_init(n, init, |(), i| i)
                .isolate();
            let outputs: Vec<_> = stage.collect();
            assert_eq!(outputs.iter().filter(|output| output.is_err()).count(), 3);
            assert!(outputs.iter().zip(0..).all(|(output, i)| match output {
                Ok(value) => *value == i,
                Err(error) => error.is_panic() && error.seq() == i,
            }));
            assert!(tried.get() <= n + 3);
        });
    }
}
