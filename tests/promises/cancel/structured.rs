//! An operation that starts inside another is a part of it: which inner one ends with which outer one, pair by pair.
//!
//! The outer operations are in [`OUTER`], each with a way to end; the inner ones are in [`INNER`]. Each inner one
//! waits in its user code for an hour, or until its token is tripped; each outer one runs an inner one, and
//! ends as soon as that waits. So a pair that is not linked hangs.

use crate::support::{Counter, Gate, SOON, bang, barren, caught, eventually, spin, within};
use fanfold::{
    CancelToken, Cancelled, Fanfold, Merge, Permits, Pool, SourceOptions, group, group_with,
    parallel_map, parallel_map_with, push_map_ordered,
};
use std::iter::from_fn;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3_600);
const SHORT: Duration = Duration::from_millis(10);

/// How far the inner operation has got.
#[derive(Clone, Default)]
struct Probe {
    waits: Gate,
    heard: Counter,
}

impl Probe {
    /// The user code of the inner operation.
    fn wait(&self) {
        let token = CancelToken::current();
        self.waits.open();
        token.sleep(HOUR).expect_err("no wait lasts an hour");
        self.heard.add();
    }

    fn source(&self) -> impl Iterator<Item = u32> + Send + use<> {
        let probe = self.clone();
        from_fn(move || {
            probe.wait();
            None
        })
    }
}

type Run = fn(&Probe);

/// The inner operations.
const INNER: &[(&str, Run)] = &[
    ("stage", |probe| {
        (0..1).par_map_ordered(1, |_| probe.wait()).for_each(drop);
    }),
    ("stage as an iterator", |probe| {
        let probe = probe.clone();
        for () in (0..1).par_map_unordered(1, move |_| probe.wait()) {}
    }),
    ("stage in a scope", |probe| {
        fanfold::scope(|s| {
            let mut stage = (0..1).par_map_ordered(1, |_| probe.wait()).within(s);
            stage.next();
        });
    }),
    ("stage of a stage", |probe| {
        let first = (0..1).par_map_ordered(1, |_| probe.wait());
        first.par_map_ordered(1, |()| ()).for_each(drop);
    }),
    ("scoped", |probe| {
        let stage = (0..1).par_map_ordered(1, |_| probe.wait());
        stage.scoped(|mut outputs| outputs.next());
    }),
    ("par_for_each", |probe| {
        (0..1).par_for_each(1, |_| probe.wait());
    }),
    ("try_par_for_each", |probe| {
        let f = |_| {
            probe.wait();
            Ok::<_, ()>(())
        };
        assert_eq!((0..1).try_par_for_each(1, f), Ok(()));
    }),
    ("par_fold", |probe| {
        (0..1).par_fold(1, || (), |(), _| probe.wait(), |(), ()| ());
    }),
    ("parallel_map", |probe| {
        let f = |_| {
            probe.wait();
            Err::<(), _>(())
        };
        assert_eq!(parallel_map(0..1, 2, f), Err(()));
    }),
    ("parallel_map_with", |probe| {
        let f = |_| {
            probe.wait();
            Ok::<_, Cancelled>(())
        };
        let _ = parallel_map_with(&CancelToken::new(), 0..2, 1, f);
    }),
    ("group", |probe| {
        let done = group(2, |g| {
            g.spawn(|| {
                probe.wait();
                Err::<(), _>(())
            });
        });
        assert_eq!(done, Err(()));
    }),
    ("group_with", |probe| {
        let done: Result<(), Cancelled> = group_with(&CancelToken::new(), 2, |g| {
            g.spawn(|| {
                probe.wait();
                Ok(())
            });
        });
        assert_eq!(done, Ok(()));
    }),
    #[cfg(feature = "crossbeam-channel")]
    ("recv", |probe| {
        let (_silent, items) = crossbeam_channel::unbounded::<u32>();
        probe.waits.open();
        assert_eq!(fanfold::recv(items).next(), None);
        probe.heard.add();
    }),
    ("hedge", |probe| {
        let replicas = [|_| {
            probe.wait();
            Err::<(), _>(())
        }];
        let answer = replicas.into_iter().hedge().wait_for_losers().run();
        assert!(answer.is_err());
    }),
    ("keyed", |probe| {
        (0..1)
            .par_map_by_key(1, |x| *x, |_| probe.wait())
            .for_each(drop);
    }),
    ("permit", |probe| {
        let permits = Permits::new(1);
        let _held = permits.acquire(1);
        probe.waits.open();
        permits.acquire(1).expect_err("it never comes");
        probe.heard.add();
    }),
    ("stage without a permit", |probe| {
        let permits = Permits::new(1);
        let _held = permits.acquire(1);
        probe.waits.open();
        let stage = (0..1).par_map_ordered(1, |_| ());
        assert_eq!(stage.limited_by(&permits).count(), 0);
        probe.heard.add();
    }),
    ("flat", |probe| {
        let outputs = |_| std::iter::once_with(|| probe.wait());
        (0..1).par_flat_map(1, outputs).for_each(drop);
    }),
    ("pushed", |probe| {
        let probe = probe.clone();
        let mut stage = push_map_ordered(1, move |()| probe.wait());
        stage.push(()).for_each(drop);
        stage.finish().for_each(drop);
    }),
    ("readahead", |probe| {
        probe.source().readahead(1).for_each(drop);
    }),
    ("merge as an iterator", |probe| {
        for _ in fanfold::merge([probe.source()]) {}
    }),
    ("windows by time", |probe| {
        probe.source().window(2).max_age(HOUR).for_each(drop);
    }),
    ("broadcast", |probe| {
        probe
            .source()
            .broadcast_into(2, |_, reader| reader.for_each(drop));
    }),
    ("tee_into", |probe| {
        let source = probe.source();
        source.tee_into(|reader| reader.for_each(drop), |reader| reader.count());
    }),
    ("ready_chunks", |probe| {
        probe.source().ready_chunks(2).for_each(drop);
    }),
    ("source", |probe| {
        probe.source().par_map_ordered(1, |x| x).for_each(drop);
    }),
    ("local source", |probe| {
        let source = probe.source().local();
        source.par_map_ordered(1, |x| x).for_each(drop);
    }),
];

type Inside = Arc<dyn Fn() + Send + Sync>;

type RunOuter = fn(&Gate, Inside);

/// The outer operations, and what ends each. The first argument tells when the inner one waits.
const OUTER: &[(&str, RunOuter)] = &[
    ("stage, failure", |waits, inner| {
        let stage = (0..2).try_par_map_ordered(2, |i| {
            if i == 0 {
                waits.wait();
                return Err(());
            }
            inner();
            Ok(())
        });
        assert_eq!(stage.collect::<Vec<_>>(), [Err(())]);
    }),
    ("stage, panic", |waits, inner| {
        let stage = (0..2_u64).par_map_ordered(2, |i| {
            if i == 0 {
                waits.wait();
                bang(7);
            }
            inner();
        });
        assert_eq!(caught(|| stage.count()), Err(7));
    }),
    ("stage, timeout", |_, inner| {
        let stage = (0..1).par_map_ordered(1, |_| inner());
        let stage = stage.item_timeout(SHORT).isolate();
        assert!(
            stage
                .last()
                .is_some_and(|last| last.unwrap_err().is_timeout())
        );
    }),
    ("stage, deadline", |_, inner| {
        let limit = CancelToken::new().with_timeout(SHORT);
        let stage = (0..1).par_map_ordered(1, |_| inner());
        stage.cancel_on(&limit).for_each(drop);
    }),
    ("stage, cancel", |waits, inner| {
        let token = CancelToken::new();
        let stage = (0..1).par_map_unordered(1, |_| inner()).cancel_on(&token);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                waits.wait();
                token.cancel();
            });
            stage.for_each(drop);
        });
    }),
    ("stage, drop", |waits, inner| {
        let f = move |i| {
            if i == 1 {
                inner();
            }
        };
        let mut stage = (0..2).par_map_ordered(2, f);
        assert_eq!(stage.next(), Some(()));
        waits.wait();
    }),
    ("stage with states, drop", |waits, inner| {
        let f = move |(): &mut (), i| {
            if i == 1 {
                inner();
            }
        };
        let mut stage = (0..2).par_map_ordered_init(2, || (), f);
        assert_eq!(stage.next(), Some(()));
        waits.wait();
    }),
    ("for each, failure", |waits, inner| {
        let f = |i| {
            if i == 0 {
                waits.wait();
                return Err(());
            }
            inner();
            Ok(())
        };
        assert_eq!((0..2).try_par_for_each(2, f), Err(()));
    }),
    ("for each, panic", |waits, inner| {
        let f = |i| {
            if i == 0 {
                waits.wait();
                bang(7);
            }
            inner();
        };
        assert_eq!(caught(|| (0..2_u64).par_for_each(2, f)), Err(7));
    }),
    ("fold, panic", |waits, inner| {
        let fold = |(), i| {
            if i == 0 {
                waits.wait();
                bang(7);
            }
            inner();
        };
        let run = || (0..2_u64).par_fold(2, || (), fold, |(), ()| ());
        assert_eq!(caught(run), Err(7));
    }),
    ("parallel_map, failure", |waits, inner| {
        let f = |i| {
            if i == 0 {
                waits.wait();
                return Err(());
            }
            inner();
            Ok(())
        };
        assert_eq!(parallel_map(0..2, 2, f), Err(()));
    }),
    ("parallel_map, panic", |waits, inner| {
        let f = |i| {
            if i == 0 {
                waits.wait();
                bang(7);
            }
            inner();
            Ok::<_, ()>(())
        };
        assert_eq!(caught(|| parallel_map(0..2, 2, f)), Err(7));
    }),
    ("parallel_map, deadline", |_, inner| {
        let limit = CancelToken::new().with_timeout(SHORT);
        let f = |_| {
            inner();
            Ok::<_, Cancelled>(())
        };
        let _ = parallel_map_with(&limit, 0..1, 2, f);
    }),
    ("group, failure", |waits, inner| {
        let done: Result<(), ()> = group(2, |g| {
            g.spawn(|| {
                inner();
                Ok(())
            });
            g.spawn(|| {
                waits.wait();
                Err::<(), _>(())
            });
        });
        assert_eq!(done, Err(()));
    }),
    ("group, panic", |waits, inner| {
        let run = || {
            group::<_, _, ()>(2, |g| {
                g.spawn(|| {
                    inner();
                    Ok(())
                });
                g.spawn(|| -> Result<(), _> {
                    waits.wait();
                    bang(7)
                });
            })
        };
        assert_eq!(caught(run), Err(7));
    }),
    ("group, its closure unwinds", |waits, inner| {
        let run = || {
            group::<_, (), ()>(2, |g| {
                g.spawn(|| {
                    inner();
                    Ok(())
                });
                waits.wait();
                bang(7)
            })
        };
        assert_eq!(caught(run), Err(7));
    }),
    ("group, deadline of what is around", |_, inner| {
        let limit = CancelToken::new().with_timeout(SHORT);
        let f = |_| -> Result<(), Cancelled> {
            group(1, |g| {
                g.spawn(|| {
                    inner();
                    Ok(())
                });
            })
        };
        let _ = parallel_map_with(&limit, 0..1, 1, f);
    }),
    ("hedge, another wins", |waits, inner| {
        let loser = fanfold::replica(|_| {
            inner();
            Err(())
        });
        let winner = fanfold::replica(|_| {
            waits.wait();
            Ok(1)
        });
        let hedge = [loser, winner].into_iter().hedge();
        assert_eq!(hedge.wait_for_losers().run(), Ok(1));
    }),
    ("hedge, timeout", |_, inner| {
        let replicas = [|_| {
            inner();
            Err::<(), _>(())
        }];
        let hedge = replicas.into_iter().hedge().timeout(SHORT);
        assert!(hedge.wait_for_losers().run().unwrap_err().is_timeout());
    }),
    ("hedge, deadline", |_, inner| {
        let limit = CancelToken::new().with_timeout(SHORT);
        let replicas = [|_| {
            inner();
            Ok::<_, ()>(())
        }];
        let hedge = replicas.into_iter().hedge().cancel_on(&limit);
        let _ = hedge.wait_for_losers().run();
    }),
    ("keyed, panic", |waits, inner| {
        let f = |i| {
            if i == 0 {
                waits.wait();
                bang(7);
            }
            inner();
        };
        let stage = (0..2_u64).par_map_by_key(2, |i| *i, f);
        assert_eq!(caught(|| stage.count()), Err(7));
    }),
    ("keyed, deadline", |_, inner| {
        let limit = CancelToken::new().with_timeout(SHORT);
        let stage = (0..1).par_map_by_key(1, |i| *i, |_| inner());
        stage.cancel_on(&limit).for_each(drop);
    }),
    ("keyed, drop", |waits, inner| {
        let f = move |i| {
            if i == 1 {
                inner();
            }
        };
        let mut stage = (0..2).par_map_by_key(2, |i| *i, f);
        assert_eq!(stage.next(), Some(()));
        waits.wait();
    }),
    ("flat, failure", |waits, inner| {
        let outputs = |i| {
            let inner = &inner;
            let output = move || {
                if i == 0 {
                    waits.wait();
                    return Err(());
                }
                inner();
                Ok(())
            };
            Ok(std::iter::once_with(output))
        };
        let stage = (0..2).try_par_flat_map(2, outputs);
        assert_eq!(stage.collect::<Vec<_>>(), [Err(())]);
    }),
    ("flat, deadline", |_, inner| {
        let limit = CancelToken::new().with_timeout(SHORT);
        let stage = (0..1).par_flat_map(1, |_| std::iter::once_with(|| inner()));
        stage.cancel_on(&limit).for_each(drop);
    }),
    ("flat, drop", |waits, inner| {
        let outputs = move |i| {
            let inner = Arc::clone(&inner);
            (0..2).inspect(move |j| {
                if i + j == 1 {
                    inner();
                }
            })
        };
        let mut stage = (0..1).par_flat_map(2, outputs);
        assert_eq!(stage.next(), Some(0));
        waits.wait();
    }),
    ("pushed, drop", |waits, inner| {
        let mut stage = push_map_ordered(1, move |()| inner());
        assert_eq!(stage.push(()).count(), 0);
        waits.wait();
    }),
    ("merge, timeout", |_, inner| {
        let silent = from_fn(move || {
            inner();
            Some(1)
        });
        let options = SourceOptions::new().timeout(SHORT);
        assert_eq!(Merge::new().source_with(silent, options).count(), 0);
    }),
    ("merge, deadline", |_, inner| {
        let limit = CancelToken::new().with_timeout(SHORT);
        let silent = from_fn(move || {
            inner();
            Some(1)
        });
        fanfold::merge([silent]).cancel_on(&limit).next();
    }),
    ("readahead, drop", |waits, inner| {
        let mut ahead = behind(0..1, inner).readahead(1);
        assert_eq!(ahead.next(), Some(0));
        waits.wait();
    }),
    ("source of a stage, failure", |waits, inner| {
        let stage = behind(0..1, inner).try_par_map_ordered(2, |_| {
            waits.wait();
            Err::<(), _>(())
        });
        assert_eq!(stage.collect::<Vec<_>>(), [Err(())]);
    }),
    ("source of a stage, panic", |waits, inner| {
        let stage = behind(0..1, inner).par_map_ordered(2, |_| {
            waits.wait();
            bang(7)
        });
        assert_eq!(caught(|| stage.for_each(drop::<()>)), Err(7));
    }),
    ("source of a stage, deadline", |_, inner| {
        let limit = CancelToken::new().with_timeout(SHORT);
        let stage = behind(0..0, inner).par_map_ordered(1, |i| i);
        assert_eq!(stage.cancel_on(&limit).count(), 0);
    }),
    ("source of a stage, drop", |waits, inner| {
        let mut stage = behind(0..1, inner).par_map_ordered(1, |i| i);
        assert_eq!(stage.next(), Some(0));
        waits.wait();
    }),
    ("source of a keyed stage, drop", |waits, inner| {
        let mut stage = behind(0..1, inner).par_map_by_key(1, |i| *i, |i| i);
        assert_eq!(stage.next(), Some(0));
        waits.wait();
    }),
    ("sink, deadline of what is around", |_, inner| {
        let limit = CancelToken::new().with_timeout(SHORT);
        let f = |_| -> Result<(), Cancelled> {
            (0..2).broadcast_into(2, |number, reader| {
                if number == 1 {
                    inner();
                }
                drop(reader);
            });
            Ok(())
        };
        let _ = parallel_map_with(&limit, 0..1, 1, f);
    }),
];

/// The items, and after them a `next()` in which the inner operation runs and which then yields an item.
fn behind(
    items: std::ops::Range<u32>,
    inner: Inside,
) -> impl Iterator<Item = u32> + Send + 'static {
    items.chain(from_fn(move || {
        inner();
        Some(99)
    }))
}

#[test]
fn every_inner_operation_ends_with_every_outer_one() {
    for (outer, run_outer) in OUTER {
        for (inner, run_inner) in INNER {
            let probe = Probe::default();
            let (inside, waits) = (probe.clone(), probe.waits.clone());
            let in_time = std::panic::catch_unwind(|| {
                within(SOON, move || {
                    run_outer(&waits, Arc::new(move || run_inner(&inside)));
                });
            });
            assert!(in_time.is_ok(), "{inner} in {outer}");
            // A deadline may have passed before it.
            let waited = usize::from(probe.waits.is_open());
            assert_eq!(probe.heard.get(), waited, "{inner} in {outer}");
        }
    }
    fanfold::testing::assert_quiescent();
}

/// The value that a closure returns belongs to the consumer, even if the outer stage is over by then.
#[test]
fn stages_returned_from_a_closure_live_on() {
    for n in 1..=9 {
        within(SOON, move || {
            let f = |i: u32| {
                let mut stage = (0..100).par_map_ordered(2, move |x| i * 100 + x);
                (stage.next(), stage)
            };
            let stages: Vec<_> = (0..3).par_map_ordered(n, f).collect();
            for (i, (first, stage)) in (0..).zip(stages) {
                assert_eq!(first, Some(i * 100));
                assert!(stage.eq(i * 100 + 1..(i + 1) * 100));
            }
            let f = |i: u32| {
                let mut ahead = (0..100).map(move |x| i * 100 + x).readahead(4);
                (ahead.next(), ahead)
            };
            let mut outer = (0..).par_map_ordered(n, f);
            let (first, ahead) = outer.next().expect("it is endless");
            drop(outer);
            assert_eq!(first, Some(0));
            assert!(ahead.eq(1..100));
            let mut outer = (0..).par_map_ordered(n, |_: u32| (0..100).broadcast(1).readers());
            let readers = outer.next().expect("it is endless");
            drop(outer);
            assert!(readers.into_iter().flatten().eq(0..100));
        });
    }
}

#[test]
fn detached_operations_do_not_end_with_the_outer_one() {
    type Detached = fn(&Probe, &Gate) -> usize;
    const KINDS: &[(&str, Detached)] = &[
        ("stage", |probe, gate| {
            let f = |_| {
                probe.waits.open();
                gate.wait();
                CancelToken::current().check().is_ok()
            };
            let stage = (0..3).par_map_ordered(2, f).detached();
            stage.filter_count()
        }),
        ("keyed", |probe, gate| {
            let f = |_| {
                probe.waits.open();
                gate.wait();
                CancelToken::current().check().is_ok()
            };
            let stage = (0..3).par_map_by_key(2, |i| *i, f).detached();
            stage.filter_count()
        }),
        ("readahead", |probe, gate| {
            let (probe, gate) = (probe.clone(), gate.clone());
            let source = (0..3).map(move |_| {
                probe.waits.open();
                gate.wait();
                CancelToken::current().check().is_ok()
            });
            source.readahead(2).detached().filter_count()
        }),
        ("hedge", |probe, gate| {
            let replicas = [|token: CancelToken| {
                probe.waits.open();
                gate.wait();
                token.check()
            }];
            let hedge = replicas.into_iter().hedge().detached().wait_for_losers();
            hedge.run().map_or(0, |()| 3)
        }),
        ("broadcast", |probe, gate| {
            let source = (0..3).inspect(|_| {
                probe.waits.open();
                gate.wait();
            });
            let fanout = source.broadcast(1).detached();
            let counts = fanout.into_sinks(|_, reader| reader.count());
            counts[0]
        }),
    ];
    for (name, run) in KINDS {
        within(SOON, move || {
            let (probe, gate, done) = (Probe::default(), Gate::new(), Counter::new());
            let token = CancelToken::new();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    probe.waits.wait();
                    token.cancel();
                    gate.open();
                });
                let f = |_| {
                    assert_eq!(run(&probe, &gate), 3, "{name}");
                    assert!(CancelToken::current().is_cancelled());
                    done.add();
                };
                assert_eq!(
                    (0..1).par_map_unordered(1, f).cancel_on(&token).count(),
                    1,
                    "{name}"
                );
            });
            assert_eq!(done.get(), 1, "{name}");
        });
    }
}

trait FilterCount {
    fn filter_count(self) -> usize;
}

impl<P: fanfold::Plan<Output = bool>> FilterCount for fanfold::Stage<P> {
    fn filter_count(self) -> usize {
        self.fold(0, |count, good| count + usize::from(good))
    }
}

/// If an operation inside a closure is cut short, whatever the closure makes of it is not yielded as a result.
#[test]
fn a_result_made_of_a_cut_short_part_is_not_yielded() {
    const PARTS: u32 = 60;
    type Part = fn(u32) -> u32;
    const KINDS: &[(&str, Part)] = &[
        ("stage", |i| {
            (0..PARTS).par_map_ordered(2, |x| x.min(i)).count() as u32
        }),
        ("iterator", |_| {
            (0..PARTS).par_map_ordered(2, |x| x).map(|_| 1).sum()
        }),
        ("keyed", |_| {
            (0..PARTS)
                .par_map_by_key(2, |x| *x, |_| 1)
                .fold(0, u32::max)
                * (0..PARTS).par_map_by_key(2, |x| *x, |x| x).count() as u32
        }),
        ("flat", |_| {
            (0..PARTS).par_flat_map(2, |x| [x]).count() as u32
        }),
        ("readahead", |_| (0..PARTS).readahead(3).count() as u32),
        ("merge", |_| {
            fanfold::merge([0..PARTS / 2, 0..PARTS / 2]).count() as u32
        }),
        ("broadcast", |_| {
            (0..PARTS).broadcast_into(2, |_, reader| reader.count())[1] as u32
        }),
        ("in a task of a group", |_| {
            let mut count = 0;
            let done = group::<_, _, ()>(1, |g| {
                g.spawn(|| {
                    count = (0..PARTS).par_map_ordered(2, |x| x).count() as u32;
                    Ok(())
                });
            });
            done.map_or(0, |()| count)
        }),
        ("in a parallel_map", |_| {
            let f = |_| Ok::<_, ()>((0..PARTS / 2).par_map_ordered(2, |x| x).count() as u32);
            let counts = parallel_map(0..2, 2, f);
            counts.map_or(0, |counts| counts.into_iter().sum())
        }),
    ];
    for (name, part) in KINDS {
        for n in [1, 2, 4] {
            for round in 0..8 {
                within(SOON, move || {
                    let token = CancelToken::new();
                    let mut stage = (0..).par_map_ordered(n, *part).cancel_on(&token);
                    for taken in 0.. {
                        if taken == round {
                            token.cancel();
                        }
                        match stage.next() {
                            Some(count) => assert_eq!(count, PARTS, "{name}, n = {n}"),
                            None => break,
                        }
                    }
                    assert!(stage.is_cut_short());
                });
            }
        }
    }
}

/// A stage that is pulled in a closure but was started elsewhere does not belong to the closure.
#[test]
fn a_stage_started_elsewhere_outlives_the_closure_that_pulls() {
    within(SOON, || {
        let mut shared = (0..1_000).par_map_ordered(2, |x: u32| x);
        assert_eq!(shared.next(), Some(0));
        let shared = std::sync::Mutex::new(shared);
        let pull = |_| shared.lock().expect("no panic").next();
        let pulled = (0..).par_map_ordered(3, pull).in_flight(9);
        let taken: Vec<_> = fanfold::scope(|s| pulled.within(s).take(5).flatten().collect());
        assert_eq!(taken.len(), 5);
        let rest: Vec<u32> = shared.into_inner().expect("no panic").collect();
        assert!(rest.len() >= 1_000 - 1 - 5 - 9);
        assert_eq!(rest.last(), Some(&999));
    });
}

/// Links do not accumulate in a closure that runs for a long time.
#[test]
fn ended_stages_leave_nothing_in_their_closure() {
    within(SOON, || {
        let canary = Arc::new(());
        let f = |_| {
            for _ in 0..1_000 {
                let held = Arc::clone(&canary);
                let stage = (0..2).par_map_ordered(1, move |x| (x, Arc::strong_count(&held)));
                assert_eq!(stage.count(), 2);
            }
            eventually("all are dropped", || Arc::strong_count(&canary) == 1);
        };
        (0..1).par_map_ordered(1, f).for_each(drop);
    });
}

type Work = Arc<dyn Fn(u64) + Send + Sync>;
type Asked = Box<dyn Iterator<Item = u64> + Send>;

/// A stage with this bound, on this pool if it is `Some`.
macro_rules! asked {
    ($stage:expr, $k:expr, $pool:expr) => {{
        let stage = $stage.in_flight($k);
        match $pool {
            Some(pool) => Box::new(stage.on(pool)) as Asked,
            None => Box::new(stage) as Asked,
        }
    }};
}

/// A consumer may run items itself: where there is no thread, and at a small bound. If it is in the source of something
/// else, they hear the end of that; otherwise the drop of that would wait for them.
#[test]
fn what_a_consumer_runs_hears_the_end_of_what_asks_it() {
    type Make = fn(usize, usize, Option<&Pool>, Work) -> Asked;
    const KINDS: [(&str, Make); 4] = [
        ("ordered", |n, k, pool, f| {
            let work = move |i| (f(i), i).1;
            asked!((0..1_000).par_map_ordered(n, work), k, pool)
        }),
        ("unordered", |n, k, pool, f| {
            let work = move |i| (f(i), i).1;
            asked!((0..1_000).par_map_unordered(n, work), k, pool)
        }),
        ("by key", |n, k, pool, f| {
            let work = move |i| (f(i), i).1;
            asked!((0..1_000).par_map_by_key(n, |i| i % 3, work), k, pool)
        }),
        ("flat", |n, k, pool, f| {
            let outputs = move |i| {
                let f = Arc::clone(&f);
                (0..2).map(move |part| (f(2 * i + part), 2 * i + part).1)
            };
            asked!((0..500u64).par_flat_map(n, outputs), k, pool)
        }),
    ];
    let nobody = barren();
    for (name, make) in KINDS {
        for (n, k) in [(1, 4), (2, 1), (2, 4), (2, 16), (3, 9)] {
            for pool in [None, Some(nobody.clone())] {
                within(SOON, move || {
                    let consumer = Arc::new(Mutex::new(None));
                    let (asks, inside) = (Arc::clone(&consumer), Gate::new());
                    let waits = inside.clone();
                    let me = || Some(thread::current().id());
                    let work: Work = Arc::new(move |i| {
                        // Otherwise it may be run there only because it is short.
                        spin(Duration::from_micros(2));
                        if i >= 200 && *asks.lock().expect("no panic") == me() {
                            waits.open();
                            CancelToken::current().wait();
                        }
                    });
                    let mut stage = make(n, k, pool.as_ref(), work);
                    let source = from_fn(move || {
                        *consumer.lock().expect("no panic") = me();
                        stage.next()
                    });
                    let mut outer = source.par_map_ordered(1, |i| i).eager();
                    loop {
                        let taken = outer.next_within(SHORT);
                        if inside.is_open() || matches!(taken, Ok(None)) {
                            break;
                        }
                    }
                    assert!(inside.is_open() || pool.is_none(), "{name}");
                    drop(outer);
                });
            }
        }
    }
}
