//! `next_within`: the next output, or an error if it is not ready yet.

use crate::support::{Counter, Gate, Meter, SOON, bang, blocks, caught, counted, settle, within};
use fanfold::{Fanfold, NotReady, Plan, Stage};
use std::convert::Infallible;
use std::time::{Duration, Instant};

const SHORT: Duration = Duration::from_millis(20);
const LONG: Duration = Duration::from_secs(3_600);

#[test]
fn next_within_yields_every_result_and_then_the_end() {
    for n in 1..=9 {
        within(SOON, move || {
            let mut stage = (0..2_000).par_map_ordered(n, |i| i * 2);
            for i in 0..2_000 {
                assert_eq!(stage.next_within(LONG), Ok(Some(i * 2)));
            }
            assert_eq!(stage.next_within(LONG), Ok(None));
            assert_eq!(stage.next_within(Duration::ZERO), Ok(None));
            assert_eq!(stage.next(), None);
        });
    }
}

#[test]
fn a_stuck_item_is_named_and_not_lost() {
    for n in 1..=9 {
        within(SOON, move || {
            let gate = Gate::new();
            let mut stage = (0..20_u64).par_map_ordered(n, {
                let gate = gate.clone();
                move |i| {
                    if i == 5 {
                        gate.wait();
                    }
                    i
                }
            });
            let _opener = gate.opener();
            for i in 0..5 {
                assert_eq!(stage.next_within(LONG), Ok(Some(i)));
            }
            let began = Instant::now();
            for _ in 0..3 {
                let late = stage.next_within(SHORT).unwrap_err();
                assert_eq!(late.seq(), Some(5));
                assert_eq!(late.to_string(), "item 5 is not ready yet");
            }
            assert!(began.elapsed() >= 3 * SHORT);
            gate.open();
            assert!(stage.eq(5..20));
        });
    }
}

#[test]
fn without_an_order_the_error_names_no_item() {
    within(SOON, || {
        let gate = Gate::new();
        let mut stage = (0..2).par_map_unordered(2, {
            let gate = gate.clone();
            move |i| (gate.wait(), i).1
        });
        let _opener = gate.opener();
        let late: NotReady = stage.next_within(SHORT).unwrap_err();
        assert_eq!(
            (late.seq(), late.to_string()),
            (None, "no item is ready yet".into())
        );
        gate.open();
        assert_eq!(stage.sum::<i32>(), 1);
    });
}

#[test]
fn a_blocked_source_is_waited_for_no_longer() {
    for n in 1..=5 {
        within(SOON, move || {
            let gate = Gate::new();
            let mut stage = (0..50).chain(blocks(&gate)).par_map_ordered(n, |i| i);
            let _opener = gate.opener();
            for i in 0..50 {
                assert_eq!(stage.next_within(LONG), Ok(Some(i)));
            }
            assert_eq!(
                stage.next_within(SHORT).map_err(|late| late.seq()),
                Err(Some(50))
            );
            gate.open();
            assert_eq!(stage.next_within(LONG), Ok(None));
        });
    }
}

/// A consumer that only ever asks for ready results gets everything: asking moves the stage on.
#[test]
fn asking_for_what_is_ready_gets_everything() {
    for (n, bound) in [(1, 1), (1, 2), (2, 1), (2, 3), (3, 8), (5, 100)] {
        within(SOON, move || {
            let pulled = Counter::new();
            let source = counted(0..500, &pulled);
            let mut stage = source.par_map_ordered(n, |i| i).in_flight(bound);
            let mut got = Vec::new();
            loop {
                match stage.next_within(Duration::ZERO) {
                    Ok(Some(i)) => got.push(i),
                    Ok(None) => break,
                    Err(_) => std::thread::yield_now(),
                }
            }
            assert!(got.into_iter().eq(0..500));
        });
    }
}

/// An item that a puller holds while it is stuck in the source.
#[test]
fn asking_frees_what_a_stuck_puller_holds() {
    within(SOON, || {
        let gate = Gate::new();
        let mut stage = (0..3_000).chain(blocks(&gate)).par_map_ordered(2, |i| i);
        let _opener = gate.opener();
        let mut got = 0;
        while got < 3_000 {
            if let Ok(item) = stage.next_within(Duration::ZERO) {
                assert_eq!(item, Some(got));
                got += 1;
            } else {
                std::thread::yield_now();
            }
        }
    });
}

/// The consumer runs tiny items itself, where it could get stuck.
#[test]
fn the_limit_is_kept_even_if_items_are_tiny() {
    within(SOON, || {
        let gate = Gate::new();
        let mut stage = (0..1_000_000_u64).par_map_ordered(2, {
            let gate = gate.clone();
            move |i| {
                if i == 500_000 {
                    gate.wait();
                }
                i
            }
        });
        let _opener = gate.opener();
        assert!(stage.by_ref().take(400_000).eq(0..400_000));
        let mut next = 400_000;
        let late = loop {
            match stage.next_within(10 * SHORT) {
                Ok(item) => {
                    assert_eq!(item, Some(next));
                    next += 1;
                }
                Err(late) => break late,
            }
        };
        assert_eq!(late.seq(), Some(500_000));
        gate.open();
        assert!(stage.eq(500_000..1_000_000));
    });
}

#[test]
fn the_first_call_starts_the_stage() {
    within(SOON, || {
        let (pulled, gate) = (Counter::new(), Gate::new());
        let source = counted(0..5, &pulled);
        let mut stage = source.par_map_ordered(2, {
            let gate = gate.clone();
            move |i| (gate.wait(), i).1
        });
        let _opener = gate.opener();
        settle();
        assert_eq!(pulled.get(), 0);
        assert!(stage.next_within(Duration::ZERO).is_err());
        pulled.wait_for(1);
        gate.open();
        assert!(stage.eq(0..5));
    });
}

#[test]
fn batches_and_errors_come_as_from_next() {
    within(SOON, || {
        let mut flat = (0..3).par_flat_map(2, |i| vec![i; i]);
        let mut got = Vec::new();
        while let Ok(Some(item)) = flat.next_within(LONG) {
            got.push(item);
        }
        assert_eq!(got, [1, 2, 2]);

        let mut tried = (0..5).try_par_map_ordered(2, |i| if i == 1 { Err(i) } else { Ok(i) });
        assert_eq!(tried.next_within(LONG), Ok(Some(Ok(0))));
        assert_eq!(tried.next_within(LONG), Ok(Some(Err(1))));
        assert_eq!(tried.next_within(LONG), Ok(None));

        let mut panics = (0..5).par_map_ordered(2, |i| if i == 1 { bang(1) } else { i });
        assert_eq!(panics.next_within(LONG), Ok(Some(0)));
        assert_eq!(caught(|| panics.next_within(LONG)), Err(1));
        assert_eq!(panics.next_within(LONG), Ok(None));
    });
}

#[test]
fn a_scoped_stage_has_next_within() {
    within(SOON, || {
        let (gate, words) = (Gate::new(), ["a", "bc"]);
        fanfold::scope(|s| {
            let stage = words
                .iter()
                .par_map_ordered(2, |word| (gate.wait(), word.len()).1);
            let mut stage = stage.within(s);
            let _opener = gate.opener();
            assert_eq!(
                stage.next_within(SHORT).map_err(|late| late.seq()),
                Err(Some(0))
            );
            gate.open();
            assert_eq!(stage.next_within(LONG), Ok(Some(1)));
            assert_eq!(stage.next_within(LONG), Ok(Some(2)));
            assert_eq!(stage.next_within(LONG), Ok(None));
        });
    });
}

#[test]
fn a_late_answer_leaves_next_as_it_was() {
    within(SOON, || {
        let gate = Gate::new();
        let mut stage = (0..3).par_map_ordered(2, {
            let gate = gate.clone();
            move |i| (gate.wait(), i).1
        });
        let opener = gate.opener();
        assert!(stage.next_within(SHORT).is_err());
        std::thread::spawn(move || {
            std::thread::sleep(2 * SHORT);
            drop(opener);
        });
        assert_eq!(stage.next(), Some(0));
        assert_eq!(stage.size_hint(), (2, Some(2)));
    });
}

/// Everything has been yielded; a state's drop still runs.
#[test]
fn the_end_waits_for_no_state() {
    struct Slow(Gate);
    impl Drop for Slow {
        fn drop(&mut self) {
            self.0.wait();
        }
    }
    for n in 1..=3 {
        within(SOON, move || {
            let gate = Gate::new();
            let init = {
                let gate = gate.clone();
                move || Slow(gate.clone())
            };
            let mut stage = (0..9).par_map_ordered_init(n, init, |_, i| i);
            let _opener = gate.opener();
            for i in 0..9 {
                assert_eq!(stage.next_within(LONG), Ok(Some(i)));
            }
            assert_eq!(stage.next_within(SOON), Ok(None));
            assert_eq!(stage.next_within(SHORT), Ok(None));
            gate.open();
            drop(stage);
            fanfold::testing::assert_quiescent();
        });
    }
}

// ---- for every kind of stage

type Items = Box<dyn Iterator<Item = u64> + Send>;
type Within = Box<dyn FnMut(Duration) -> Result<Option<u64>, NotReady> + Send>;

fn calls<P: Plan<Output = u64> + Send + 'static>(mut stage: Stage<P>) -> Within
where
    Stage<P>: Send,
{
    Box::new(move |time| stage.next_within(time))
}

/// One kind of stage: its name, and how it is made.
type Kind = (&'static str, fn(Items) -> Within);

const KINDS: &[Kind] = &[
    ("ordered", |items| calls(items.par_map_ordered(2, |i| i))),
    ("unordered", |items| {
        calls(items.par_map_unordered(2, |i| i))
    }),
    ("keyed", |items| {
        calls(items.par_map_by_key(2, |i| i % 2, |i| i))
    }),
    ("flat", |items| calls(items.par_flat_map(2, |i| [i]))),
    ("flat with a small bound", |items| {
        calls(items.window(2).par_flat_map(2, |w| w).in_flight(2))
    }),
    ("flat and fallible", |items| {
        let mut stage = items.try_par_flat_map(2, |i| Ok::<_, Infallible>([Ok(i)]));
        Box::new(move |time| Ok(stage.next_within(time)?.map(|Ok(i)| i)))
    }),
    ("weighed", |items| {
        let stage = items.par_map_ordered(2, |i| i).in_flight_weight(5, |_| 2);
        calls(stage.parked_weight(2, |_| 1))
    }),
    ("readahead", |items| calls(items.readahead(2))),
    ("ready_chunks", |items| {
        let mut chunks = items.ready_chunks(1);
        Box::new(move |time| {
            let chunk = chunks.next_within(time)?;
            Ok(chunk.map(|chunk| chunk[0]))
        })
    }),
    ("merge", |items| {
        calls(fanfold::merge([items, Box::new(std::iter::empty())]))
    }),
    ("round_robin", |items| calls(fanfold::round_robin([items]))),
    ("merge_sorted", |items| {
        calls(fanfold::merge_sorted_by_key([items], |i| *i).assume_sorted())
    }),
    ("max_age", |items| {
        let windows = items.window(1).max_age(LONG);
        calls(windows.aggregate(|| 0, |sum, i| sum + i))
    }),
];

#[test]
fn a_wait_for_any_kind_ends_in_time_and_loses_nothing() {
    for (name, make) in KINDS {
        within(SOON, move || {
            let gate = Gate::new();
            let mut next_within = make(Box::new((0..20).chain(blocks(&gate))));
            let _opener = gate.opener();
            let mut got = Vec::new();
            while got.len() < 20 {
                match next_within(SHORT) {
                    Ok(output) => got.extend(output),
                    Err(late) => assert!(late.seq().is_none_or(|seq| seq == got.len() as u64)),
                }
            }
            got.sort_unstable();
            assert!(got.into_iter().eq(0..20), "{name}");
            for _ in 0..3 {
                assert!(next_within(SHORT).is_err(), "{name}: the source blocks");
            }
            gate.open();
            assert_eq!(next_within(LONG), Ok(None), "{name}");
            assert_eq!(next_within(LONG), Ok(None), "{name}");
        });
    }
}

/// A batch that is open stays so: its items come out with those that follow.
#[test]
fn a_batch_that_is_not_full_in_time_is_kept() {
    within(SOON, || {
        let gate = Gate::new();
        let later = blocks(&gate).chain(2..4);
        let mut batches = (0..2).chain(later).window(3).max_age(LONG);
        let _opener = gate.opener();
        for _ in 0..2 {
            assert!(batches.next_within(SHORT).is_err(), "one is missing");
        }
        gate.open();
        assert_eq!(batches.next_within(LONG), Ok(Some(vec![0, 1, 2])));
        assert_eq!(batches.next_within(LONG), Ok(Some(vec![3])));
        assert_eq!(batches.next_within(LONG), Ok(None));
    });
}

/// The first worker, in the first item, has seen that there is work for others.
#[test]
fn all_workers_start_although_the_consumer_has_gone() {
    for n in 1..=9 {
        within(SOON, move || {
            let (meter, done) = (Meter::new(), Counter::new());
            let work = {
                let (meter, done) = (meter.clone(), done.clone());
                move |i: usize| {
                    meter.meet(n);
                    done.add();
                    i
                }
            };
            let gate = Gate::new();
            let source = (0..n).inspect({
                let gate = gate.clone();
                move |_| gate.wait()
            });
            let mut stage = source.par_map_ordered(n, work);
            assert!(stage.next_within(Duration::ZERO).is_err());
            gate.open();
            done.wait_for(n);
            assert!(stage.by_ref().eq(0..n));
        });
    }
}
