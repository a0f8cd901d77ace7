//! An iterator lent with `by_ref` survives the end of its borrower, with nothing lost except what the
//! borrower had pulled.

use crate::support::{Bang, Counter, Gate, SOON, bang, blocks, payload, pushing, settle, within};
use fanfold::{CancelToken, Fanfold, WorkItem, Worklist, push_map_ordered, worklist};
use std::sync::{Arc, Mutex};
use std::time::Duration;

type Lent = Box<dyn Iterator<Item = u64> + Send>;
type Make = fn(Lent) -> Lent;
type Borrow = fn(&mut Noted, usize);

const HOUR: Duration = Duration::from_secs(3_600);
const ITEMS: u64 = 300;

/// Everything that waits and can be lent, over a source; each kind keeps the order.
const KINDS: &[(&str, Make)] = &[
    ("stage", |source| Box::new(source.par_map_ordered(2, |i| i))),
    ("stage of one", |source| {
        Box::new(source.par_map_ordered(1, |i| i).in_flight(1))
    }),
    ("stage of stages", |source| {
        let first = source.par_map_ordered(2, |i| i).in_flight(3);
        Box::new(first.par_filter(2, |_| true))
    }),
    ("timed stage", |source| {
        Box::new(source.par_map_ordered(2, |i| i).item_timeout(HOUR))
    }),
    ("keyed", |source| {
        Box::new(source.par_map_by_key(2, |_| (), |i| i))
    }),
    ("flat", |source| Box::new(source.par_flat_map(2, |i| [i]))),
    ("flat with a small bound", |source| {
        Box::new(source.window(3).par_flat_map(2, |w| w).in_flight(3))
    }),
    ("pushed", |source| {
        Box::new(pushing(source, push_map_ordered(2, |i| i)))
    }),
    ("readahead", |source| Box::new(source.readahead(4))),
    ("ready_chunks", |source| {
        Box::new(source.ready_chunks(1).map(|chunk| chunk[0]))
    }),
    ("merge", |source| Box::new(fanfold::merge([source]))),
    ("merge_sorted", |source| {
        Box::new(fanfold::merge_sorted_by_key([source], |i| *i).assume_sorted())
    }),
    ("round_robin", |source| {
        Box::new(fanfold::round_robin([source]))
    }),
    ("window", |source| {
        Box::new(source.readahead(4).window(1).map(|window| window[0]))
    }),
    ("windows by time", |source| {
        Box::new(source.window(1).max_age(HOUR).map(|window| window[0]))
    }),
    ("reader", |source| {
        let mut readers = source.broadcast(1).readers();
        Box::new(readers.remove(0))
    }),
    #[cfg(feature = "throttle")]
    ("throttle", |source| {
        Box::new(source.readahead(4).throttle(1_000_000))
    }),
];

/// How a borrower of width `n` ends, after some items.
const ENDS: &[(&str, Borrow)] = &[
    ("drop", |lent, n| {
        fanfold::scope(|s| {
            let stage = lent.par_map_ordered(n, |i| i).in_flight(2 * n);
            assert_eq!(stage.within(s).take(3).count(), 3);
        });
    }),
    ("failure", |lent, n| {
        let stage = lent.try_par_map_ordered(n, |i| if i % 50 == 49 { Err(i) } else { Ok(i) });
        assert!(
            stage
                .in_flight(2 * n)
                .collect::<Result<Vec<_>, _>>()
                .is_err()
        );
    }),
    ("failure of an init", |lent, n| {
        let inits = Counter::new();
        let init = || if inits.add() == n { Err(()) } else { Ok(()) };
        let ok = |(): &mut (), i| (inits.wait_for(n), Ok(i)).1;
        let stage = lent.by_ref().try_par_map_ordered_init(n, init, ok);
        let all: Result<Vec<_>, _> = stage.collect();
        // The others may have run everything before the worker without a state says so.
        assert!(all.is_err() || lent.next_is() == ITEMS);
    }),
    ("for each", |lent, n| {
        let calls = Counter::new();
        assert!(
            lent.try_par_for_each(n, |_| if calls.add() == 3 { Err(()) } else { Ok(()) })
                .is_err()
        );
    }),
    ("panic", |lent, n| {
        let stage = lent.par_map_ordered(n, |i| if i % 50 == 48 { bang(i) } else { i });
        assert!(
            payload(|| stage.in_flight(2 * n).count())
                .unwrap_err()
                .is::<Bang>()
        );
    }),
    ("cancel", |lent, n| {
        let token = CancelToken::new();
        let stage = lent.par_map_ordered(n, |i| i).in_flight(2 * n);
        let mut taken = 0;
        stage.cancel_on(&token).for_each(|_| {
            taken += 1;
            if taken == 3 {
                token.cancel();
            }
        });
    }),
    ("readahead", |lent, n| {
        fanfold::scope(|s| {
            let ahead = lent.readahead(n).within(s);
            assert_eq!(ahead.take(3).count(), 3);
        });
    }),
    ("keyed", |lent, n| {
        fanfold::scope(|s| {
            let stage = lent.par_map_by_key(n, |i| *i, |i| i).in_flight(2 * n);
            assert_eq!(stage.within(s).take(3).count(), 3);
        });
    }),
    ("flat", |lent, n| {
        fanfold::scope(|s| {
            let stage = lent.par_flat_map(n, |i| [i; 2]).in_flight(2 * n);
            assert_eq!(stage.within(s).take(3).count(), 3);
        });
    }),
    ("failure of an iterator", |lent, n| {
        let outputs = |i| Ok([Ok(i), if i % 50 == 49 { Err(i) } else { Ok(i) }]);
        let stage = lent.try_par_flat_map(n, outputs).in_flight(2 * n);
        assert!(stage.collect::<Result<Vec<_>, _>>().is_err());
    }),
    ("local", |lent, n| {
        let lent = lent.local();
        fanfold::scope(|s| {
            let stage = lent.par_map_ordered(n, |i| i).in_flight(2 * n);
            assert_eq!(stage.within(s).take(3).count(), 3);
        });
    }),
];

/// Records the items that are taken out of it.
struct Noted {
    lent: Lent,
    last: Arc<Mutex<Option<u64>>>,
}

impl Noted {
    /// The first item that has not been taken.
    fn next_is(&self) -> u64 {
        let last = *self.last.lock().expect("no panic");
        last.map_or(0, |last| last + 1)
    }
}

impl Iterator for Noted {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let item = self.lent.next()?;
        let last = self.last.lock().expect("no panic").replace(item);
        assert!(last.is_none_or(|last| last + 1 == item), "a gap at {item}");
        Some(item)
    }
}

#[test]
fn a_lent_iterator_continues_after_its_borrower() {
    for (kind, make) in KINDS {
        for (end, run) in ENDS {
            for n in [1, 2, 5] {
                within(SOON, move || {
                    let mut noted = Noted {
                        lent: make(Box::new(0..ITEMS)),
                        last: Arc::default(),
                    };
                    for _ in 0..3 {
                        run(&mut noted, n);
                    }
                    let next = noted.next_is();
                    let rest: Vec<u64> = noted.collect();
                    assert!(
                        rest.iter().copied().eq(next..ITEMS),
                        "{kind}, {end}, n = {n}: {next}, then {rest:?}"
                    );
                });
            }
        }
    }
    fanfold::testing::assert_quiescent();
}

/// The source blocks, and the borrower ends while one of its threads waits for the lent iterator.
#[test]
fn a_borrower_that_waits_in_a_lent_iterator_ends_without_it() {
    for (kind, make) in KINDS {
        if ["reader", "pushed"].contains(kind) {
            continue; // it has no thread in the source: the borrower's thread is there itself
        }
        for n in 1..=3 {
            within(SOON, move || {
                let gate = Gate::new();
                let source = (0..5).chain(blocks(&gate)).chain(5..ITEMS);
                let mut lent = Noted {
                    lent: make(Box::new(source)),
                    last: Arc::default(),
                };
                let _open = gate.opener();
                for _ in 0..2 {
                    fanfold::scope(|s| {
                        let mut stage = lent.by_ref().par_map_ordered(n, |i| i).within(s);
                        let _ = stage.next_within(Duration::from_millis(20));
                        settle(); // until a worker waits for more
                    });
                }
                assert!(
                    !gate.is_open(),
                    "{kind}: the end of the scope did not wait for it"
                );
                gate.open();
                let next = lent.next_is();
                let rest: Vec<u64> = lent.collect();
                let whole = rest.iter().copied().eq(next..ITEMS);
                assert!(whole, "{kind}, n = {n}: {next}, then {rest:?}");
            });
        }
    }
}

#[test]
fn windows_and_their_borrowers_lose_no_part_of_a_window() {
    within(SOON, || {
        let gate = Gate::new();
        let source = (0..5).chain(blocks(&gate)).chain(5..12);
        let mut windows = source.readahead(2).window(4);
        let _open = gate.opener();
        fanfold::scope(|s| {
            let mut stage = windows.by_ref().par_map_ordered(1, |w| w).within(s);
            assert_eq!(stage.next(), Some(vec![0, 1, 2, 3]));
            settle(); // until a worker waits for the rest of the second window
        });
        gate.open();
        assert!(windows.eq([vec![4, 5, 6, 7], vec![8, 9, 10, 11]]));
    });
}

/// It was not even started before it was lent, and the borrower ends during its first `next()`.
#[test]
fn a_stage_started_by_its_borrower_does_not_end_with_it() {
    for n in 1..=5 {
        within(SOON, move || {
            let gate = Gate::new();
            let _open = gate.opener();
            let mut lent = blocks(&gate).chain(0..ITEMS).par_map_ordered(2, |i| i);
            fanfold::scope(|s| {
                let mut stage = lent.by_ref().par_map_ordered(n, |i| i).within(s);
                assert!(stage.next_within(Duration::from_millis(20)).is_err());
            });
            gate.open();
            assert!(lent.eq(0..ITEMS));
        });
    }
}

#[test]
fn a_worklist_continues_after_its_borrower() {
    within(SOON, || {
        let mut source: Worklist<u32> = worklist([0]);
        let first: Vec<WorkItem<u32>> = fanfold::scope(|s| {
            let mut stage = source
                .by_ref()
                .par_map_ordered(2, |work_item| work_item)
                .within(s);
            let first = stage.next().into_iter().collect();
            settle(); // until a worker waits for more
            first
        });
        first[0].push(1).expect("there is no bound");
        assert_eq!(source.next().map(|item| *item), Some(1));
        drop(first);
        assert!(source.next().is_none());
    });
}

/// Tiny items, which the lent stage's consumer, here the borrower's thread, may run itself.
#[test]
fn a_stage_of_tiny_items_is_lent_and_comes_back() {
    for n in 1..=3 {
        within(SOON, move || {
            let last = Arc::new(Mutex::new(None));
            let mut lent = (0..200_000_u64).par_map_ordered(2, |i| i);
            let mut next = 0;
            for _ in 0..20 {
                let noted = lent.by_ref().inspect(|i| {
                    *last.lock().expect("no panic") = Some(*i);
                });
                fanfold::scope(|s| {
                    let stage = noted.par_map_ordered(n, |i| i).in_flight(64).within(s);
                    assert!(stage.take(500).eq(next..next + 500));
                });
                next = last.lock().expect("no panic").expect("some were taken") + 1;
            }
            assert!(lent.eq(next..200_000));
        });
    }
}
