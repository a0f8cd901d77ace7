//! One fault at every step of a run (a panic, a cancellation, a drop), and threads, closures and processes
//! that do not do what they should.
//!
//! User code runs at many places: the source, the closure, `init`, a clone, and the drop of everything that
//! a stage holds. Each is a *step*. A run is done once to count its steps, and then once more for each of
//! them, with the fault there. Afterwards nothing hangs, everything has been dropped exactly once, the
//! original panic has been raised, and no stage is left. `laws.rs` covers random cases, `stress.rs` chains.

mod support;

use fanfold::{
    CancelToken, Cancelled, Fanfold, HedgePolicy, ItemError, NotReady, Permits, Plan, Pool, Reader,
    Stage, push_map_ordered, testing,
};
use std::any::Any;
use std::panic::resume_unwind;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::ThreadId;
use std::time::Duration;
use support::{
    Bang, Counter, Gate, Ledger, Meter, SOON, Tracked, bang, barren, caught, payload, pushing,
    within,
};

const LONG: Duration = Duration::from_secs(3_600);
const LEN: u64 = 6;

/// What happens at the step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Panic,
    /// A token of the stage is tripped.
    Cancel,
    /// The stage is dropped, and the step does not end before the drop has begun.
    Drop,
}

/// One run, and the fault at one of its steps.
#[derive(Clone, Debug)]
struct Run(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    deed: Option<Deed>,
    /// At which step; from 1.
    at: u64,
    steps: AtomicU64,
    done: AtomicBool,
    token: CancelToken,
    /// Whether a step can wait for the drop: whether the consumer wakes up by itself.
    holds: AtomicBool,
    dropping: Gate,
    consumer: ThreadId,
    n: usize,
    pool: Option<Pool>,
    ledger: Ledger,
    ids: AtomicU64,
}

impl Run {
    fn new(deed: Option<Deed>, at: u64, n: usize, pool: Option<&Pool>) -> Self {
        Run(Arc::new(Inner {
            deed,
            at,
            steps: AtomicU64::new(0),
            done: AtomicBool::new(false),
            token: CancelToken::new(),
            holds: AtomicBool::new(false),
            dropping: Gate::new(),
            consumer: std::thread::current().id(),
            n,
            pool: pool.cloned(),
            ledger: Ledger::new(),
            ids: AtomicU64::new(0),
        }))
    }

    /// User code runs.
    fn step(&self) {
        let inner = &*self.0;
        let step = inner.steps.fetch_add(1, Ordering::SeqCst) + 1;
        // A thread that is already unwinding must not panic again.
        if step != inner.at || std::thread::panicking() {
            return;
        }
        inner.done.store(true, Ordering::SeqCst);
        let away = std::thread::current().id() != inner.consumer;
        match inner.deed {
            Some(Deed::Panic) => bang(step),
            Some(Deed::Cancel) => inner.token.cancel(),
            Some(Deed::Drop) if away && inner.holds.load(Ordering::SeqCst) => inner.dropping.wait(),
            Some(Deed::Drop) | None => {}
        }
    }

    fn is_done(&self) -> bool {
        self.0.done.load(Ordering::SeqCst)
    }

    /// Something whose drop is a step.
    fn thing(&self, value: u64) -> Thing {
        let id = self.0.ids.fetch_add(1, Ordering::SeqCst);
        Thing {
            value,
            _life: self.0.ledger.track(id),
            run: self.clone(),
        }
    }

    fn source(&self) -> Origin {
        self.part(0, 1)
    }

    /// The values from `first` on, in steps.
    fn part(&self, first: u64, every: u64) -> Origin {
        Origin {
            next: first,
            every,
            _held: self.thing(99),
            run: self.clone(),
        }
    }

    /// A closure: two steps, and what it holds.
    fn map(&self) -> impl Fn(Thing) -> Thing + Send + Sync + use<> {
        let (run, held) = (self.clone(), self.thing(100));
        move |item| {
            run.step();
            let value = item.value + held.value();
            drop(item);
            run.step();
            run.thing(value)
        }
    }

    fn keep(&self) -> impl Fn(&Thing) -> bool + Send + Sync + use<> {
        let (run, held) = (self.clone(), self.thing(1));
        move |item| {
            run.step();
            item.value % 2 != held.value()
        }
    }

    /// With the pool and the token of the run.
    fn with<P: Plan>(&self, stage: Stage<P>) -> Stage<P> {
        let stage = match &self.0.pool {
            Some(pool) => stage.on(pool),
            None => stage,
        };
        match self.0.deed {
            Some(Deed::Cancel) => stage.cancel_on(&self.0.token),
            _ => stage,
        }
    }
}

/// An item, a result, a state, or what a source or a closure holds.
#[derive(Debug)]
struct Thing {
    value: u64,
    _life: Tracked,
    run: Run,
}

impl Thing {
    /// Called on a value that a closure is to capture as a whole, not field by field.
    fn value(&self) -> u64 {
        self.value
    }
}

impl Clone for Thing {
    fn clone(&self) -> Self {
        self.run.step();
        self.run.thing(self.value)
    }
}

impl Drop for Thing {
    fn drop(&mut self) {
        self.run.step();
    }
}

struct Origin {
    next: u64,
    every: u64,
    _held: Thing,
    run: Run,
}

impl Iterator for Origin {
    type Item = Thing;

    fn next(&mut self) -> Option<Thing> {
        self.run.step();
        if self.next >= LEN {
            return None;
        }
        self.next += self.every;
        Some(self.run.thing(self.next - self.every))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(LEN as usize))
    }
}

/// What a line yields, of whatever kind.
#[derive(Debug)]
struct Out {
    things: Vec<Thing>,
    failed: bool,
}

impl From<Thing> for Out {
    fn from(thing: Thing) -> Self {
        Out::from(vec![thing])
    }
}

impl From<Vec<Thing>> for Out {
    fn from(things: Vec<Thing>) -> Self {
        Out {
            things,
            failed: false,
        }
    }
}

impl From<Result<Thing, Thing>> for Out {
    fn from(result: Result<Thing, Thing>) -> Self {
        Out::from(result.unwrap_or_else(|error| error))
    }
}

impl From<Result<Thing, ItemError>> for Out {
    fn from(result: Result<Thing, ItemError>) -> Self {
        let failed = result.is_err();
        Out {
            things: result.into_iter().collect(),
            failed,
        }
    }
}

/// An iterator of any kind; given a duration, a stage waits no longer than that.
type Line = Box<dyn FnMut(Option<Duration>) -> Result<Option<Out>, NotReady>>;

fn stage<P>(mut stage: Stage<P>, run: &Run) -> Line
where
    P: Plan<Output: Into<Out>> + 'static,
{
    run.0.holds.store(true, Ordering::SeqCst);
    Box::new(move |time| {
        let output = match time {
            Some(time) => stage.next_within(time)?,
            None => stage.next(),
        };
        Ok(output.map(Into::into))
    })
}

fn plain<I: Iterator<Item: Into<Out>> + 'static>(mut iter: I) -> Line {
    Box::new(move |_| Ok(iter.next().map(Into::into)))
}

/// What may happen to the panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It is raised.
    Raised,
    /// It may be a value instead.
    Value,
    /// It may lose to a copy that succeeds, or to an earlier error.
    May,
}

/// One kind of run.
struct Kind {
    name: &'static str,
    ordered: bool,
    fate: Fate,
    make: fn(&Run) -> Line,
}

const fn kind(name: &'static str, make: fn(&Run) -> Line) -> Kind {
    Kind {
        name,
        ordered: true,
        fate: Fate::Raised,
        make,
    }
}

const STAGES: &[Kind] = &[
    kind("map", |run| {
        let line = run.source().par_map_ordered(run.0.n, run.map());
        stage(run.with(line), run)
    }),
    Kind {
        ordered: false,
        ..kind("unordered map", |run| {
            let line = run.source().par_map_unordered(run.0.n, run.map());
            stage(run.with(line), run)
        })
    },
    kind("one in flight", |run| {
        let line = run.source().par_map_ordered(run.0.n, run.map());
        stage(run.with(line).in_flight(1), run)
    }),
    kind("filter", |run| {
        let line = run.source().par_filter(run.0.n, run.keep());
        stage(run.with(line), run)
    }),
    kind("filter_map", |run| {
        let (f, keep) = (run.map(), run.clone());
        let line = run.source().par_filter_map(run.0.n, move |item| {
            let item = f(item);
            keep.step();
            (item.value % 2 == 0).then_some(item)
        });
        stage(run.with(line), run)
    }),
    kind("flat_map", |run| {
        let (f, many) = (run.map(), run.clone());
        let line = run.source().par_flat_map(run.0.n, move |item| {
            let value = f(item).value;
            let many = many.clone();
            (0..value % 3).map(move |i| {
                many.step();
                many.thing(value + i)
            })
        });
        stage(run.with(line), run)
    }),
    kind("init", |run| {
        let (f, init) = (run.map(), run.clone());
        let state = move || {
            init.step();
            init.thing(0)
        };
        let line = run
            .source()
            .par_map_ordered_init(run.0.n, state, move |_, item| f(item));
        stage(run.with(line), run)
    }),
    kind("try", |run| {
        let f = run.map();
        let line = run
            .source()
            .try_par_map_ordered(run.0.n, move |item| Ok::<_, Thing>(f(item)));
        stage(run.with(line), run)
    }),
    Kind {
        fate: Fate::May,
        ..kind("try that fails", |run| {
            let f = run.map();
            let line = run.source().try_par_map_ordered(run.0.n, move |item| {
                let fails = item.value == 2;
                let item = f(item);
                if fails { Err(item) } else { Ok(item) }
            });
            stage(run.with(line), run)
        })
    },
    kind("try filter", |run| {
        let keep = run.keep();
        let line = run
            .source()
            .try_par_filter(run.0.n, move |item| Ok::<_, Thing>(keep(item)));
        stage(run.with(line), run)
    }),
    kind("try filter_map", |run| {
        let f = run.map();
        let line = run
            .source()
            .try_par_filter_map(run.0.n, move |item| Ok::<_, Thing>(Some(f(item))));
        stage(run.with(line), run)
    }),
    kind("try flat_map", |run| {
        let f = run.map();
        let line = run
            .source()
            .try_par_flat_map(run.0.n, move |item| Ok::<_, Thing>([Ok(f(item))]));
        stage(run.with(line), run)
    }),
    kind("try init", |run| {
        let (f, init) = (run.map(), run.clone());
        let state = move || {
            init.step();
            Ok(init.thing(0))
        };
        let f = move |_: &mut Thing, item| Ok::<_, Thing>(f(item));
        let line = run.source().try_par_map_ordered_init(run.0.n, state, f);
        stage(run.with(line), run)
    }),
    Kind {
        ordered: false,
        ..kind("try without an order", |run| {
            let f = run.map();
            let line = run
                .source()
                .try_par_map_unordered(run.0.n, move |item| Ok::<_, Thing>(f(item)));
            stage(run.with(line), run)
        })
    },
    Kind {
        fate: Fate::May,
        ..kind("try filter that fails", |run| {
            let keep = run.keep();
            let line = run.source().try_par_filter(run.0.n, move |item| {
                let kept = keep(item);
                if item.value == 3 {
                    Err(item.clone())
                } else {
                    Ok(kept)
                }
            });
            stage(run.with(line), run)
        })
    },
    Kind {
        fate: Fate::Value,
        ..kind("isolate", |run| {
            let line = run.source().par_map_ordered(run.0.n, run.map());
            stage(run.with(line).isolate(), run)
        })
    },
    kind("limited", |run| {
        let line = run.source().par_map_ordered(run.0.n, run.map());
        stage(run.with(line).limited_by(&Permits::new(1)), run)
    }),
    Kind {
        ordered: false,
        ..kind("unordered and limited", |run| {
            let line = run.source().par_map_unordered(run.0.n, run.map());
            stage(run.with(line).limited_by(&Permits::new(2)), run)
        })
    },
    kind("weighed", |run| {
        let line = run.source().par_map_ordered(run.0.n, run.map());
        let line = run.with(line).in_flight_weight(7, |_| 2);
        stage(line.parked_weight(2, |_| 1), run)
    }),
    Kind {
        ordered: false,
        ..kind("unordered and weighed", |run| {
            let line = run.source().par_map_unordered(run.0.n, run.map());
            let line = run.with(line).in_flight_weight(7, |_| 2);
            stage(line.parked_weight(2, |_| 1), run)
        })
    },
    kind("chain that shares permits", |run| {
        let permits = Permits::new(1);
        let first = run.with(run.source().par_filter(run.0.n, run.keep()));
        let first = first.limited_by(&permits);
        let second = first.par_map_ordered(run.0.n, run.map());
        stage(run.with(second).limited_by(&permits), run)
    }),
    kind("item_timeout", |run| {
        let line = run.source().par_map_ordered(run.0.n, run.map());
        stage(run.with(line).item_timeout(LONG), run)
    }),
    Kind {
        fate: Fate::May,
        ..kind("hedged", |run| {
            let line = run.source().par_map_ordered(run.0.n, run.map());
            let policy = HedgePolicy::after(Duration::ZERO).budget(1.0);
            stage(run.with(line).hedge_slow(&policy), run)
        })
    },
    Kind {
        ordered: false,
        fate: Fate::May,
        ..kind("unordered and hedged", |run| {
            let line = run.source().par_map_unordered(run.0.n, run.map());
            let policy = HedgePolicy::after(Duration::ZERO).budget(1.0);
            stage(run.with(line).hedge_slow(&policy), run)
        })
    },
    kind("local", |run| {
        let line = run.source().local().par_map_ordered(run.0.n, run.map());
        stage(run.with(line), run)
    }),
    kind("chain", |run| {
        let first = run.with(run.source().par_filter(run.0.n, run.keep()));
        let second = first.par_map_ordered(run.0.n, run.map());
        stage(run.with(second), run)
    }),
    kind("behind a read-ahead", |run| {
        let ahead = run.with(run.source().readahead(2));
        let line = ahead.par_map_ordered(run.0.n, run.map());
        stage(run.with(line), run)
    }),
];

const OTHERS: &[Kind] = &[
    kind("pushed", |run| {
        let line = push_map_ordered(run.0.n, run.map());
        plain(pushing(run.source(), run.with(line)))
    }),
    kind("readahead", |run| {
        plain(run.with(run.source().readahead(run.0.n)))
    }),
    Kind {
        ordered: false,
        ..kind("merge", |run| {
            let sources = (0..3).map(|first| run.part(first, 3));
            plain(run.with(fanfold::merge(sources).buffer(run.0.n)))
        })
    },
    Kind {
        ordered: false,
        ..kind("round_robin", |run| {
            let sources = (0..3).map(|first| run.part(first, 3));
            plain(run.with(fanfold::round_robin(sources).buffer(run.0.n)))
        })
    },
    Kind {
        ordered: false,
        ..kind("merge_sorted_by_key", |run| {
            let sources = (0..3).map(|first| run.part(first, 3));
            let keys = run.clone();
            let merge = fanfold::merge_sorted_by_key(sources, move |item: &Thing| {
                keys.step();
                Key(item.value, keys.clone())
            });
            plain(run.with(merge.buffer(run.0.n).assume_sorted()))
        })
    },
    Kind {
        ordered: false,
        ..kind("by key", |run| {
            let (f, keys) = (run.map(), run.clone());
            let key = move |item: &Thing| {
                keys.step();
                item.value % 3
            };
            let line = run.source().par_map_by_key(run.0.n, key, f);
            plain(run.with(line))
        })
    },
    Kind {
        ordered: false,
        ..kind("by key and limited", |run| {
            let line = run
                .source()
                .par_map_by_key(run.0.n, |item| item.value % 3, run.map());
            plain(run.with(line).limited_by(&Permits::new(1)))
        })
    },
    kind("a stage behind a merge of stages", |run| {
        let stages = (0..2).map(|first| {
            let line = run.part(first, 2).par_map_ordered(run.0.n, run.map());
            run.with(line)
        });
        let merge = run.with(fanfold::round_robin(stages));
        let line = merge.par_map_ordered(run.0.n, run.map());
        plain(run.with(line))
    }),
    Kind {
        ordered: false,
        ..kind("window", |run| plain(run.source().window(run.0.n)))
    },
    Kind {
        ordered: false,
        ..kind("sliding window", |run| {
            plain(run.source().window(run.0.n + 1).sliding(1))
        })
    },
    Kind {
        ordered: false,
        ..kind("window by age", |run| {
            plain(run.with(run.source().window(run.0.n).max_age(LONG)))
        })
    },
    kind("ready_chunks", |run| {
        plain(run.with(run.source().ready_chunks(run.0.n)).flatten())
    }),
];

/// One output, of a call that does everything.
fn once(f: impl FnOnce() -> Vec<Thing> + 'static) -> Line {
    let mut f = Some(f);
    Box::new(move |_| Ok(f.take().map(|f| f().into())))
}

const CALLS: &[Kind] = &[
    kind("parallel_map", |run| {
        let run = run.clone();
        once(move || {
            let f = run.map();
            let result = |item| Ok::<_, Cancelled>(f(item));
            let (token, n) = (run.0.token.clone(), run.0.n);
            let things = match run.0.deed {
                Some(Deed::Cancel) => {
                    fanfold::parallel_map_with(&token, run.source(), n, result).unwrap_or_default()
                }
                _ => fanfold::parallel_map(run.source(), n, result).expect("nothing fails"),
            };
            drop(f); // dropped after the return, its panic would leak the returned value (rust #47949)
            things
        })
    }),
    Kind {
        ordered: false,
        ..kind("par_for_each", |run| {
            let run = run.clone();
            once(move || {
                let done = Mutex::new(Vec::new());
                let f = run.map();
                run.source().par_for_each(run.0.n, |item| {
                    let thing = f(item);
                    done.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(thing);
                });
                drop(f);
                done.into_inner().unwrap_or_else(PoisonError::into_inner)
            })
        })
    },
    Kind {
        ordered: false,
        ..kind("try_par_for_each", |run| {
            let run = run.clone();
            once(move || {
                let done = Mutex::new(Vec::new());
                let f = run.map();
                let result = run.source().try_par_for_each(run.0.n, |item| {
                    let thing = f(item);
                    done.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(thing);
                    Ok::<_, Thing>(())
                });
                assert!(result.is_ok());
                drop(f);
                done.into_inner().unwrap_or_else(PoisonError::into_inner)
            })
        })
    },
    Kind {
        ordered: false,
        ..kind("par_fold", |run| {
            let run = run.clone();
            once(move || {
                let (init, f, merge) = (run.clone(), run.map(), run.clone());
                let held = run.thing(100);
                run.source().par_fold(
                    run.0.n,
                    move || {
                        init.step();
                        Vec::from_iter((held.value() == 0).then(|| init.thing(0)))
                    },
                    move |mut done, item| {
                        done.push(f(item));
                        done
                    },
                    move |mut a, b| {
                        merge.step();
                        a.extend(b);
                        a
                    },
                )
            })
        })
    },
    Kind {
        ordered: false,
        ..kind("group", |run| {
            let run = run.clone();
            once(move || {
                let done = Mutex::new(Vec::new());
                let result = fanfold::group(run.0.n, |group| {
                    for value in 0..LEN {
                        let (item, run, done) = (run.thing(value), &run, &done);
                        group.spawn(move || {
                            run.step();
                            let value = item.value();
                            drop(item);
                            run.step();
                            let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                            done.push(run.thing(value));
                            Ok::<_, ()>(())
                        });
                    }
                });
                assert_eq!(result, Ok(()));
                done.into_inner().unwrap_or_else(PoisonError::into_inner)
            })
        })
    },
    Kind {
        ordered: false,
        ..kind("broadcast", |run| {
            let run = run.clone();
            once(move || {
                let all = |_, reader: Reader<_, _>| reader.collect::<Vec<Thing>>();
                let readers = run.source().broadcast_into(run.0.n, all);
                readers.into_iter().flatten().collect()
            })
        })
    },
    Kind {
        ordered: false,
        ..kind("tee_into", |run| {
            let run = run.clone();
            once(move || {
                let all = |reader: Reader<_, _>| reader.collect::<Vec<Thing>>();
                let (mut all, rest) = run.source().tee_into(all, all);
                all.extend(rest);
                all
            })
        })
    },
    Kind {
        ordered: false,
        ..kind("partition_readers", |run| {
            let run = run.clone();
            once(move || {
                let keep = run.keep();
                let (mut kept, rest): (Vec<_>, Vec<_>) = run.source().partition_into(
                    move |item| keep(item),
                    |reader| reader.collect(),
                    |reader| reader.collect(),
                );
                kept.extend(rest);
                kept
            })
        })
    },
    Kind {
        ordered: false,
        ..kind("route", |run| {
            let run = run.clone();
            once(move || {
                let (n, ways) = (run.0.n, run.clone());
                let way = move |item: &Thing| {
                    ways.step();
                    item.value as usize % n
                };
                let all = |_, reader: Reader<_, _>| reader.collect::<Vec<Thing>>();
                let readers = run.source().route_into(n, way, all);
                readers.into_iter().flatten().collect()
            })
        })
    },
    Kind {
        ordered: false,
        fate: Fate::May,
        ..kind("hedge", |run| {
            let run = run.clone();
            once(move || {
                let replicas = run.source().map(|item| {
                    let run = run.clone();
                    move |_: CancelToken| {
                        run.step();
                        let value = item.value();
                        drop(item);
                        run.step();
                        if value == LEN - 1 {
                            Ok(run.thing(0))
                        } else {
                            Err(())
                        }
                    }
                });
                let mut hedge = replicas.hedge();
                if let Some(pool) = &run.0.pool {
                    hedge = hedge.on(pool);
                }
                if run.0.deed == Some(Deed::Cancel) {
                    hedge = hedge.cancel_on(&run.0.token);
                }
                let answer = hedge.wait_for_losers().run();
                answer.into_iter().collect()
            })
        })
    },
];

/// A key whose comparison and drop are steps too.
#[derive(Debug)]
struct Key(u64, Run);

impl Ord for Key {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.1.step();
        self.0.cmp(&other.0)
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Key {}

impl Drop for Key {
    fn drop(&mut self) {
        self.1.step();
    }
}

/// The outcome of a run.
#[derive(Debug, Default)]
struct Seen {
    values: Vec<u64>,
    panics: Vec<u64>,
    /// Payloads that are not ours.
    thrown: usize,
    failures: usize,
}

impl Seen {
    fn panicked(&mut self, raised: Box<dyn Any + Send>) {
        match raised.downcast::<Bang>() {
            Ok(bang) => self.panics.push(bang.0),
            Err(raised) if raised.is::<Thing>() => {
                self.thrown += 1;
                if let Err(raised) = payload(|| drop(raised)) {
                    self.panicked(raised);
                }
            }
            Err(raised) => resume_unwind(raised),
        }
    }
}

/// Consumes the run to its end, or to the drop.
fn consume(run: &Run, make: fn(&Run) -> Line) -> Seen {
    let mut seen = Seen::default();
    let mut line = make(run);
    let drops = run.0.deed == Some(Deed::Drop);
    let holds = run.0.holds.load(Ordering::SeqCst);
    let time = (drops && holds).then(|| Duration::from_millis(1));
    while !(drops && run.is_done()) {
        match payload(|| line(time)) {
            Ok(Ok(Some(out))) => {
                seen.values
                    .extend(out.things.iter().map(|thing| thing.value));
                seen.failures += usize::from(out.failed);
                if let Err(raised) = payload(|| drop(out)) {
                    seen.panicked(raised);
                }
            }
            Ok(Ok(None)) => break,
            Ok(Err(_late)) => {}
            Err(raised) => seen.panicked(raised),
        }
    }
    run.0.dropping.open();
    if let Err(raised) = payload(|| drop(line)) {
        seen.panicked(raised);
    }
    seen
}

/// Whether `part` is a sub-multiset of `whole`.
fn is_part(part: &[u64], whole: &[u64]) -> bool {
    let count = |list: &[u64], value| list.iter().filter(|other| **other == value).count();
    part.iter()
        .all(|value| count(part, *value) <= count(whole, *value))
}

fn check(kind: &Kind, run: &Run, seen: &Seen, want: &[u64]) {
    let inner = &*run.0;
    let what = format!(
        "{}, n = {}, {:?} at {}: {seen:?}",
        kind.name, inner.n, inner.deed, inner.at
    );
    let left = payload(|| inner.ledger.assert_dropped_once()).is_err();
    assert!(!left, "{what}: not all was dropped once");
    testing::assert_quiescent();
    let expected: &[u64] = match inner.deed {
        Some(Deed::Panic) if run.is_done() => &[inner.at],
        _ => &[],
    };
    match kind.fate {
        Fate::Value if seen.failures == 1 => {
            assert!(!expected.is_empty() && seen.panics.is_empty(), "{what}");
        }
        Fate::May if seen.panics.is_empty() => {}
        _ => assert_eq!(seen.panics, expected, "{what}"),
    }
    if !run.is_done() {
        let whole = if kind.ordered {
            seen.values == want
        } else {
            seen.values.len() == want.len()
        };
        assert!(whole, "{what}, but want {want:?}");
    }
    if kind.ordered && kind.fate != Fate::Value {
        assert!(want.starts_with(&seen.values), "{what}, but want {want:?}");
    } else {
        assert!(is_part(&seen.values, want), "{what}, but want {want:?}");
    }
}

/// With one, two and three workers, and with the consumer alone.
fn at_every_step(kinds: &'static [Kind], deed: Deed) {
    for kind in kinds {
        for (n, alone) in [(1, false), (2, false), (3, false), (2, true)] {
            within(SOON, move || {
                let pool = alone.then(barren);
                at_each(kind, deed, n, pool.as_ref());
            });
        }
    }
}

fn at_each(kind: &Kind, deed: Deed, n: usize, pool: Option<&Pool>) {
    let run = Run::new(None, 0, n, pool);
    let want = consume(&run, kind.make).values;
    let steps = run.0.steps.load(Ordering::SeqCst);
    assert!(steps > 2 * LEN, "{}", kind.name);
    let mut done = 0;
    for at in 1..=steps {
        let run = Run::new(Some(deed), at, n, pool);
        let seen = consume(&run, kind.make);
        check(kind, &run, &seen, &want);
        done += u64::from(run.is_done());
    }
    // A run is not always as long as the first.
    assert!(done > steps / 2, "{}: {done} of {steps}", kind.name);
}

#[test]
fn a_panic_at_every_step_of_a_stage() {
    at_every_step(STAGES, Deed::Panic);
}

#[test]
fn a_cancellation_at_every_step_of_a_stage() {
    at_every_step(STAGES, Deed::Cancel);
}

#[test]
fn a_drop_at_every_step_of_a_stage() {
    at_every_step(STAGES, Deed::Drop);
}

#[test]
fn a_panic_at_every_step_of_the_others() {
    at_every_step(OTHERS, Deed::Panic);
}

#[test]
fn a_cancellation_at_every_step_of_the_others() {
    at_every_step(OTHERS, Deed::Cancel);
}

#[test]
fn a_drop_at_every_step_of_the_others() {
    at_every_step(OTHERS, Deed::Drop);
}

#[test]
fn a_panic_at_every_step_of_a_whole_call() {
    at_every_step(CALLS, Deed::Panic);
}

#[test]
fn a_cancellation_at_every_step_of_a_whole_call() {
    at_every_step(CALLS, Deed::Cancel);
}

// ---- payloads, hooks

/// Several closures panic, and their payloads are dropped, the losing ones inside the stage. Whenever one
/// of these drops panics too, one payload comes out, and it is ours.
#[test]
fn a_panic_at_every_step_where_closures_panic_anyway() {
    fn throws(run: &Run) -> impl Fn(Thing) -> Thing + Send + Sync + use<> {
        let (f, thrown) = (run.map(), run.clone());
        move |item| {
            let value = item.value;
            let result = f(item);
            if value >= 2 {
                drop(result);
                resume_unwind(Box::new(thrown.thing(value)));
            }
            result
        }
    }
    const KINDS: &[fn(&Run) -> Line] = &[
        |run| {
            let line = run.source().par_map_ordered(run.0.n, throws(run));
            stage(run.with(line), run)
        },
        |run| {
            let line = run.source().par_map_unordered(run.0.n, throws(run));
            stage(run.with(line), run)
        },
        |run| {
            let line = run.source().par_map_ordered(run.0.n, throws(run));
            let policy = HedgePolicy::after(Duration::ZERO).budget(1.0);
            stage(run.with(line).hedge_slow(&policy), run)
        },
    ];
    for (make, n) in KINDS
        .iter()
        .flat_map(|make| (1..=3).map(move |n| (make, n)))
    {
        within(SOON, move || {
            let mut steps = 1;
            let mut at = 0;
            while at <= steps {
                let run = Run::new(Some(Deed::Panic), at, n, None);
                let seen = consume(&run, *make);
                if at == 0 {
                    steps = run.0.steps.load(Ordering::SeqCst);
                    assert_eq!((seen.thrown, &*seen.panics), (1, &[][..]));
                }
                // Where the consumer dropped the payload, it gets that panic too.
                let heard = seen.thrown + seen.panics.len();
                assert!(
                    (1..=2).contains(&heard) && seen.thrown <= 1,
                    "{n}, {at}: {seen:?}"
                );
                assert!(seen.panics.iter().all(|panic| *panic == at));
                run.0.ledger.assert_dropped_once();
                testing::assert_quiescent();
                at += 1;
            }
        });
    }
}

/// Which items come out before the error depends on the run; nothing else does.
#[test]
fn a_panic_at_every_step_where_an_init_fails() {
    fn make(run: &Run) -> Line {
        let (f, init, tried) = (run.map(), run.clone(), AtomicUsize::new(0));
        let state = move || {
            init.step();
            let state = init.thing(0);
            let fails = tried.fetch_add(1, Ordering::Relaxed) + 1 == init.0.n;
            if fails { Err(state) } else { Ok(state) }
        };
        let f = move |_: &mut Thing, item| Ok(f(item));
        stage(
            run.source().try_par_map_ordered_init(run.0.n, state, f),
            run,
        )
    }
    for n in 1..=3 {
        within(SOON, move || {
            // A run may be longer than another one, but not than all of it.
            for at in 0..=LEN * 7 + 30 {
                let run = Run::new(Some(Deed::Panic), at, n, None);
                let seen = consume(&run, make);
                assert!(seen.panics.iter().all(|panic| *panic == at) && seen.panics.len() <= 1);
                // What may hide the panic is the error, which is the last value.
                assert!(
                    !run.is_done() || !seen.panics.is_empty() || seen.values.last() == Some(&0)
                );
                let good = seen.values.split_last().map_or(&[][..], |(last, before)| {
                    if *last == 0 { before } else { &seen.values }
                });
                assert!(
                    good.iter().zip(100..).all(|(value, i)| *value == i),
                    "{seen:?}"
                );
                run.0.ledger.assert_dropped_once();
                testing::assert_quiescent();
            }
        });
    }
}

/// Waits for a hook on the token of the running item, which then panics.
fn listen(i: u64, hooked: &Counter) {
    let told = Gate::new();
    let _hook = CancelToken::current().on_cancel({
        let told = told.clone();
        move || {
            told.open();
            bang(i);
        }
    });
    hooked.add();
    told.wait();
}

/// How many panics come out, up to the drop.
fn heard<T>(mut iter: impl Iterator<Item = T>) -> usize {
    let mut heard = 0;
    loop {
        match caught(|| iter.next()) {
            Ok(Some(_)) => {}
            Ok(None) => break,
            Err(_) => heard += 1,
        }
    }
    heard + usize::from(caught(|| drop(iter)).is_err())
}

#[test]
fn a_hook_panic_in_a_drop_is_raised_there() {
    for (n, ordered) in (1..=3).flat_map(|n| [true, false].map(|ordered| (n, ordered))) {
        within(SOON, move || {
            let hooked = Counter::new();
            let stage = (0_u64..).par_map_ordered(n, {
                let hooked = hooked.clone();
                move |i| {
                    if i > 0 {
                        listen(i, &hooked);
                    }
                }
            });
            let mut stage = if ordered { stage } else { stage.unordered() };
            assert_eq!(stage.next(), Some(()));
            hooked.wait_for(n);
            assert!(caught(|| drop(stage)).is_err());
            testing::assert_quiescent();
        });
    }
}

#[test]
fn a_hook_panic_in_a_cancellation_is_raised_at_the_end() {
    for (n, ordered) in (1..=3).flat_map(|n| [true, false].map(|ordered| (n, ordered))) {
        within(SOON, move || {
            let (hooked, token) = (Counter::new(), CancelToken::new());
            let stage = (0_u64..).par_map_ordered(n, {
                let hooked = hooked.clone();
                move |i| {
                    if i > 0 {
                        listen(i, &hooked);
                    }
                }
            });
            let stage = stage.cancel_on(&token);
            let mut stage = if ordered { stage } else { stage.unordered() };
            assert_eq!(stage.next(), Some(()));
            hooked.wait_for(n);
            token.cancel(); // the hook's panic is not raised here
            assert_eq!(heard(stage), 1);
            testing::assert_quiescent();
        });
    }
}

/// A failed item trips the tokens of the items behind it.
#[test]
fn a_hook_panic_when_an_item_fails_is_raised_at_the_end() {
    for n in 2..=3 {
        within(SOON, move || {
            let hooked = Counter::new();
            let mut stage = (0_u64..).try_par_map_ordered(n, move |i| {
                if i == 0 {
                    hooked.wait_for(1);
                    return Err(i);
                }
                listen(i, &hooked);
                Ok(())
            });
            assert_eq!(stage.next(), Some(Err(0)));
            assert_eq!(heard(stage), 1);
            testing::assert_quiescent();
        });
    }
}

// ---- processes of their own

/// Runs this test program again with one of its ignored tests, possibly through a shell.
fn role(name: &str, around: Option<&str>) -> Command {
    let this = std::env::current_exe().expect("this test");
    let mut command = match around {
        Some(script) => {
            let mut shell = Command::new("sh");
            shell
                .args(["-c", &format!("{script} \"$0\" \"$@\"")])
                .arg(this);
            shell
        }
        None => Command::new(this),
    };
    command.args([
        "--exact",
        name,
        "--ignored",
        "--nocapture",
        "--test-threads=1",
    ]);
    // It ends while its threads are busy: what they hold is no leak.
    command.env("ASAN_OPTIONS", "detect_leaks=0");
    command
}

/// Its exit code and its output.
#[track_caller]
fn ends(mut command: Command) -> (Option<i32>, String) {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().expect("a process");
    let pid = child.id();
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || tell.send(child.wait_with_output()));
    let in_time = told.recv_timeout(2 * SOON);
    let stuck = in_time.is_err();
    let output = in_time.unwrap_or_else(|_| {
        let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
        told.recv().expect("it has ended")
    });
    let output = output.expect("its output");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(!stuck, "stuck: {said}");
    let code = output.status.code();
    assert!(code != Some(0) || said.contains("1 passed"), "{said}");
    (code, said)
}

#[track_caller]
fn assert_ends(name: &str, around: Option<&str>, code: i32) {
    let (status, said) = ends(role(name, around));
    assert_eq!(status, Some(code), "{said}");
}

/// The closure of the third of ten items never returns.
fn never_returns(i: u64) -> u64 {
    if i == 2 {
        loop {
            std::thread::park();
        }
    }
    i
}

#[test]
#[ignore = "run by the test below, in a process of its own"]
fn waits_for_a_while() {
    let mut stage = (0..10).par_map_ordered(3, never_returns);
    let short = Duration::from_millis(50);
    assert_eq!([stage.next(), stage.next()], [Some(0), Some(1)]);
    assert_eq!(
        stage.next_within(short).map_err(|late| late.seq()),
        Err(Some(2))
    );
    // Dropping it here would wait forever. Another thread may do so.
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        drop(stage);
        tell.send(())
    });
    assert!(told.recv_timeout(short).is_err());
    std::process::exit(7);
}

#[test]
#[ignore = "run by the test below, in a process of its own"]
fn sets_a_limit() {
    for ordered in [true, false] {
        let stage = (0..10).par_map_ordered(3, never_returns);
        let stage = stage.item_timeout(Duration::from_millis(50)).isolate();
        let mut stage = if ordered { stage } else { stage.unordered() };
        let results: Vec<_> = stage.by_ref().collect();
        let late = results.iter().filter_map(|result| result.as_ref().err());
        // On a busy machine others may be late too.
        assert!(late.clone().any(|failure| failure.seq() == 2));
        assert!(late.clone().all(ItemError::is_timeout));
        assert_eq!(results.len(), 10);
        std::mem::forget(stage); // its drop would wait forever
    }
    // The process ends with the test.
}

/// For a closure that never returns, see `next_within` and `item_timeout`.
#[test]
fn a_closure_that_never_returns_need_not_hold_up_the_program() {
    assert_ends("waits_for_a_while", None, 7);
    assert_ends("sets_a_limit", None, 0);
}

/// Keeps one thread of every kind the library has busy or stuck.
fn busy() {
    let spins = |_: u64| loop {
        std::hint::spin_loop();
    };
    let mut stage = (0..).par_map_ordered(2, spins).item_timeout(LONG);
    assert!(stage.next_within(Duration::from_millis(5)).is_err());
    let stuck = || (0..1).chain(std::iter::from_fn(|| never_returns(2).into()));
    let mut ahead = stuck().readahead(4);
    assert_eq!(ahead.next(), Some(0));
    let mut merge = fanfold::merge([stuck(), stuck()]);
    assert_eq!([merge.next(), merge.next()], [Some(0), Some(0)]);
    let mut behind = stuck().par_map_ordered(2, |i| i);
    assert_eq!(behind.next(), Some(0));
    let replicas = [2, 0].map(|i| move |_: CancelToken| Ok::<_, ()>(never_returns(i)));
    assert_eq!(replicas.into_iter().hedge().run(), Ok(0));
    let token = CancelToken::new().with_timeout(LONG);
    let hook = token.on_cancel(|| ());
    std::mem::forget((stage, ahead, merge, behind, token, hook));
}

#[test]
#[ignore = "run by the test below, in a process of its own"]
fn exits() {
    busy();
    std::process::exit(7);
}

#[test]
#[ignore = "run by the test below, in a process of its own"]
fn returns() {
    busy();
}

#[test]
#[ignore = "run by the test below, in a process of its own"]
fn panics() {
    busy();
    panic!("the end");
}

#[test]
fn a_process_ends_at_once_with_its_code_whatever_runs() {
    assert_ends("exits", None, 7);
    assert_ends("returns", None, 0);
    assert_ends("panics", None, 101);
}

// ---- threads that cannot be started

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod threads {
    use super::*;

    const GIB: u64 = 1 << 30;
    const VARIABLE: &str = "FANFOLD_TEST_THREADS";

    #[test]
    #[ignore = "run by the test below, in a process that has room for few stacks"]
    fn has_few_threads() {
        let most: usize = std::env::var(VARIABLE)
            .expect("set")
            .parse()
            .expect("a number");
        let pool = Pool::builder().stack_size(GIB as usize).build();
        let meter = Meter::new();
        let stage = (0..50).par_map_ordered(4, {
            let meter = meter.clone();
            move |_| meter.meet(most)
        });
        assert_eq!(stage.on(&pool).count(), 50);
        assert_eq!((meter.most(), pool.threads()), (most, most));
        for kind in [STAGES, OTHERS, CALLS].into_iter().flatten() {
            at_each(kind, Deed::Panic, 3, Some(&pool));
        }
        assert!(pool.threads() <= most);
        println!("{} threads", pool.threads());
    }

    /// As long as each thread can get a stack of one GiB.
    #[test]
    fn stages_work_with_only_some_of_their_threads() {
        for most in 1..=3 {
            let kib = (most * GIB + GIB * 4 / 5) >> 10;
            let script = format!("ulimit -v {kib} && exec");
            let mut command = role("threads::has_few_threads", Some(&script));
            command.env(VARIABLE, most.to_string());
            let (status, said) = ends(command);
            assert_eq!(status, Some(0), "{most}: {said}");
        }
    }

    #[test]
    #[cfg(feature = "crossbeam-channel")]
    #[ignore = "run by the test below, in a process that can start no thread"]
    fn waits_for_a_channel_without_a_timer() {
        let token = CancelToken::new().with_timeout(Duration::from_millis(20));
        let done: Result<(), Cancelled> = fanfold::group_with(&token, 2, |g| {
            g.spawn(|| {
                let mut items = fanfold::recv(crossbeam_channel::never::<u64>());
                assert!(items.next().is_none() && items.is_cut_short());
                CancelToken::current().check()
            });
        });
        assert!(done.is_err_and(|why| why.is_deadline()));
        assert_eq!(Pool::global().threads(), 0);
    }

    /// No thread can get its stack, so none tells a deadline either.
    #[test]
    #[cfg(feature = "crossbeam-channel")]
    fn a_wait_for_a_channel_hears_its_deadline_without_a_timer() {
        let mut command = role("threads::waits_for_a_channel_without_a_timer", None);
        command.env("RUST_MIN_STACK", (usize::MAX / 4 * 3).to_string());
        let (status, said) = ends(command);
        assert_eq!(status, Some(0), "{said}");
    }

    #[test]
    #[ignore = "run by the test below, in a process that can start a thread now and then"]
    fn has_threads_now_and_then() {
        for kind in [STAGES, OTHERS, CALLS].into_iter().flatten() {
            let pool = Pool::builder().build();
            let want = consume(&Run::new(None, 0, 3, Some(&barren())), kind.make);
            let run = Run::new(None, 0, 3, Some(&pool));
            let seen = consume(&run, kind.make);
            check(kind, &run, &seen, &want.values);
        }
    }

    /// Every second thread that a thread starts fails, as when a limit is reached now and
    /// then.
    #[test]
    fn stages_work_when_every_second_thread_fails_to_start() {
        let strace = "strace -f -qq -e trace=none -o /dev/null";
        let can = Command::new("sh")
            .args(["-c", &format!("{strace} true")])
            .output();
        if !can.is_ok_and(|output| output.status.success()) {
            eprintln!("skipped: strace is not here, or may not trace");
            return;
        }
        for when in ["1+2", "2+2", "2+"] {
            let inject = format!("exec {strace} -e inject=clone3,clone:error=EAGAIN:when={when}");
            assert_ends("threads::has_threads_now_and_then", Some(&inject), 0);
        }
    }
}

// ---- fork

#[cfg(target_os = "linux")]
mod fork {
    use super::*;

    /// The work of a forked child; an error says what went wrong.
    fn child() -> Result<(), &'static str> {
        let sum: u64 = (0..1_000).par_map_ordered(3, |i: u64| i).sum();
        let own = Pool::builder().build();
        let count = (0..100).par_map_unordered(3, |i: u64| i).on(&own).count();
        let ahead = (0..100_u64).readahead(4).count();
        if (sum, count, ahead) != (499_500, 100, 100) {
            return Err("the numbers are wrong");
        }
        let (tell, told) = mpsc::channel();
        let token = CancelToken::new().with_timeout(Duration::from_millis(1));
        let _hook = token.on_cancel(move || {
            let _ = tell.send(());
        });
        told.recv_timeout(SOON)
            .map_err(|_| "no hook runs at its deadline")
    }

    #[test]
    #[ignore = "run by the test below, in a process of its own"]
    #[allow(unsafe_code)]
    fn forks() {
        // Parent and child have used everything before.
        assert_eq!(child(), Ok(()));
        // SAFETY: no stage runs and no lock of ours is held. The child leaves by `_exit`, so that it
        // runs no destructor and no handler of its parent's.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            let code = match payload(child) {
                Ok(Ok(())) => 0,
                Ok(Err(why)) => {
                    eprintln!("in the child: {why}");
                    1
                }
                Err(_) => 2,
            };
            // SAFETY: it takes a number and does not return.
            unsafe { libc::_exit(code) };
        }
        assert!(pid > 0);
        assert_eq!(child(), Ok(()), "the parent goes on");
        let mut status = 0;
        // SAFETY: the pointer is to a variable that outlives the call.
        assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
        assert_eq!(status, 0, "the child");
    }

    /// Not while a stage runs: the child has none of its threads.
    #[test]
    fn a_forked_child_has_threads_of_its_own() {
        assert_ends("fork::forks", None, 0);
    }
}
