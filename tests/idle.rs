//! A stage in which nothing happens wakes no thread: whatever blocks in it, no thread polls.
//!
//! It counts how often each thread has gone to sleep, which only Linux reports, so it runs in its own
//! process. The rows of the table block at the same time, each on threads named after it; those that need
//! the global pool are counted together, or one by one.

#![cfg(target_os = "linux")]

mod support;

use fanfold::{
    Fanfold, HedgePolicy, Merge, Permits, Pool, SourceOptions, group, merge, merge_sorted_by_key,
    parallel_map, push_map_ordered, replica, round_robin, worklist,
};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs;
use std::sync::Arc;
use std::time::Duration;
use support::{Counter, Gate, pushing, spin};

/// How long to count for.
const WINDOW: Duration = Duration::from_millis(300);
/// In how many windows in a row it must be seen: on a busy machine, work under way may take seconds to come
/// to rest.
const WINDOWS: usize = 60;
/// How often one row may go to sleep in that time: twenty times a second. A thread that polls does so at
/// least fifty times a second, every 20 ms, and most would a thousand times.
const LIMIT: u64 = 6;
/// A time limit that passes again and again while nothing happens.
const TICK: Duration = Duration::from_millis(15);
const HOUR: Duration = Duration::from_secs(3_600);

/// Where a row blocks, and on whose threads.
#[derive(Clone, Debug)]
struct Hold {
    reached: Counter,
    gate: Gate,
    pool: Pool,
}

impl Hold {
    /// Blocks until the end of the test.
    fn block(&self) {
        self.reached.add();
        self.gate.wait();
    }

    /// As a source, or after one.
    fn blocks<T>(&self) -> impl Iterator<Item = T> + Send + use<T> {
        let hold = self.clone();
        std::iter::from_fn(move || {
            hold.block();
            None
        })
    }
}

type Row = (String, Box<dyn FnOnce(&Hold) + Send>);

fn row(name: impl Into<String>, run: impl FnOnce(&Hold) + Send + 'static) -> Row {
    (name.into(), Box::new(run))
}

// ---- stages

type Source = Box<dyn Iterator<Item = u64> + Send>;
type Closure = Box<dyn Fn(u64) -> u64 + Send + Sync>;
type Output = Box<dyn Iterator<Item = u64>>;
type Kind = fn(Source, Closure, &Pool) -> Output;

/// The closure, called when the iterator for an item is asked.
fn lazily(f: Closure) -> impl Fn(u64) -> Box<dyn Iterator<Item = u64> + Send> + Send + Sync {
    let f = Arc::new(f);
    move |i| {
        let f = Arc::clone(&f);
        Box::new(std::iter::once(i).map(move |i| f(i)))
    }
}

/// Every form of a stage, on the row's own pool.
const KINDS: [(&str, Kind); 28] = [
    ("ordered", |s, f, pool| {
        Box::new(s.par_map_ordered(2, f).on(pool))
    }),
    ("of width 1", |s, f, pool| {
        Box::new(s.par_map_ordered(1, f).on(pool))
    }),
    ("wide", |s, f, pool| {
        Box::new(s.par_map_ordered(5, f).on(pool))
    }),
    ("unordered", |s, f, pool| {
        Box::new(s.par_map_unordered(2, f).on(pool))
    }),
    ("local", |s, f, pool| {
        Box::new(s.local().par_map_ordered(2, f).on(pool))
    }),
    ("pushed", |s, f, pool| {
        Box::new(pushing(s, push_map_ordered(2, f).on(pool)))
    }),
    ("pushed and weighed", |s, f, pool| {
        let stage = push_map_ordered(2, f).in_flight_weight(9, |_| 2);
        Box::new(pushing(s, stage.parked_weight(3, |_| 1).on(pool)))
    }),
    ("flat", |s, f, pool| {
        Box::new(s.par_flat_map(2, lazily(f)).on(pool))
    }),
    ("flat and local", |s, f, pool| {
        Box::new(s.local().par_flat_map(2, lazily(f)).on(pool))
    }),
    ("flat and limited", |s, f, pool| {
        let stage = s.par_flat_map(3, lazily(f)).limited_by(&Permits::new(2));
        Box::new(stage.in_flight(9).on(pool))
    }),
    ("flat and eager", |s, f, pool| {
        Box::new(s.par_flat_map(2, move |i| [f(i)]).eager().on(pool))
    }),
    ("flat and fallible", |s, f, pool| {
        let stage = s.try_par_flat_map(2, move |i| Ok::<_, Infallible>([Ok(f(i))]));
        Box::new(stage.on(pool).map(Result::unwrap_or_default))
    }),
    ("init", |s, f, pool| {
        Box::new(s.par_map_ordered_init(2, || (), move |(), i| f(i)).on(pool))
    }),
    ("isolated", |s, f, pool| {
        let stage = s.par_map_ordered(2, f).isolate().on(pool);
        Box::new(stage.map(Result::unwrap_or_default))
    }),
    ("try", |s, f, pool| {
        let stage = s.try_par_map_ordered(2, move |i| Ok::<_, Infallible>(f(i)));
        Box::new(stage.on(pool).map(Result::unwrap_or_default))
    }),
    ("try, unordered", |s, f, pool| {
        let stage = s.try_par_map_unordered(2, move |i| Ok::<_, Infallible>(f(i)));
        Box::new(stage.on(pool).map(Result::unwrap_or_default))
    }),
    ("try init", |s, f, pool| {
        let f = move |(): &mut (), i| Ok::<_, Infallible>(f(i));
        let stage = s.try_par_map_ordered_init(2, || Ok(()), f);
        Box::new(stage.on(pool).map(Result::unwrap_or_default))
    }),
    ("eager", |s, f, pool| {
        Box::new(s.par_map_ordered(2, f).eager().on(pool))
    }),
    ("limited", |s, f, pool| {
        let stage = s.par_map_ordered(2, f).limited_by(&Permits::new(2));
        Box::new(stage.on(pool))
    }),
    ("weighed", |s, f, pool| {
        let stage = s.par_map_ordered(3, f).in_flight_weight(9, |_| 2);
        Box::new(stage.parked_weight(3, |_| 1).on(pool))
    }),
    ("unordered and weighed", |s, f, pool| {
        let stage = s.par_map_unordered(3, f).in_flight_weight(9, |_| 2);
        Box::new(stage.parked_weight(3, |_| 1).on(pool))
    }),
    ("timed", |s, f, pool| {
        Box::new(s.par_map_ordered(2, f).item_timeout(HOUR).on(pool))
    }),
    ("timed and unordered", |s, f, pool| {
        let stage = s
            .par_map_unordered(2, f)
            .isolate()
            .item_timeout(TICK)
            .on(pool);
        Box::new(stage.map(Result::unwrap_or_default))
    }),
    ("timed and short", |s, f, pool| {
        let stage = s.par_map_ordered(2, f).isolate().item_timeout(TICK);
        Box::new(stage.on(pool).map(Result::unwrap_or_default))
    }),
    ("hedged", |s, f, pool| {
        let policy = HedgePolicy::after(Duration::from_millis(1)).budget(1.0);
        Box::new(s.par_map_ordered(2, f).hedge_slow(&policy).on(pool))
    }),
    ("hedged at once", |s, f, pool| {
        let policy = HedgePolicy::after(Duration::ZERO).budget(1.0);
        Box::new(s.par_map_ordered(2, f).hedge_slow(&policy).on(pool))
    }),
    ("hedged without a budget", |s, f, pool| {
        let policy = HedgePolicy::after(Duration::ZERO).budget(0.0).reserve(0);
        Box::new(s.par_map_unordered(2, f).hedge_slow(&policy).on(pool))
    }),
    ("a chain", |s, f, pool| {
        let first = s.par_map_ordered(2, f).on(pool);
        Box::new(first.par_map_ordered(2, |i| i).on(pool))
    }),
];

/// On the global pool, so that the consumer may run items itself.
const INLINE: [(&str, Kind); 4] = [
    ("inline", |s, f, _| Box::new(s.par_map_ordered(2, f))),
    ("inline, of width 1", |s, f, _| {
        Box::new(s.par_map_ordered(1, f))
    }),
    ("inline and wide", |s, f, _| {
        Box::new(s.par_map_ordered(5, f))
    }),
    ("an inline chain", |s, f, _| {
        Box::new(s.par_map_ordered(2, f).par_map_ordered(2, |i| i))
    }),
];

/// How much work an item is.
#[derive(Clone, Copy, Debug)]
enum Work {
    /// A few nanoseconds, with enough items that the consumer runs them where it may.
    Tiny,
    Some,
}

impl Work {
    fn items(self) -> u64 {
        match self {
            Work::Tiny if cfg!(debug_assertions) => 5_000,
            Work::Tiny => 100_000,
            Work::Some => 500,
        }
    }

    fn closure(self) -> Closure {
        match self {
            Work::Tiny => Box::new(|i| i),
            Work::Some => Box::new(|i| {
                spin(Duration::from_micros(5));
                i
            }),
        }
    }
}

/// Blocked in one place.
fn stages(kinds: &[(&'static str, Kind)], works: &[Work]) -> Vec<Row> {
    let mut rows = Vec::new();
    for &(kind, make) in kinds {
        for &work in works {
            let name = |what: &str| format!("{kind}, {work:?}, blocked in its {what}");
            rows.push(row(name("source"), move |hold| {
                let source = (0..work.items()).chain(hold.blocks());
                let stage = make(Box::new(source), work.closure(), &hold.pool);
                assert_eq!(stage.count() as u64, work.items());
            }));
            rows.push(row(name("consumer"), move |hold| {
                let mut stage = make(Box::new(0..), work.closure(), &hold.pool);
                assert!(stage.by_ref().take(work.items() as usize).count() > 0);
                hold.block();
            }));
            rows.push(row(name("closure"), move |hold| {
                let (last, f, held) = (work.items(), work.closure(), hold.clone());
                let f = move |i| {
                    if i == last {
                        held.block();
                    }
                    f(i)
                };
                let stage = make(Box::new(0..last + 100), Box::new(f), &hold.pool);
                assert_eq!(stage.count() as u64, last + 100);
            }));
        }
    }
    rows
}

/// Blocked in several places.
fn mixed(kinds: &[(&'static str, Kind)]) -> Vec<Row> {
    let items = Work::Some.items();
    let mut rows = Vec::new();
    for &(kind, make) in kinds {
        let name = |what: &str| format!("{kind}, blocked in {what}");
        // From this item on, or at this item only.
        let blocks = |hold: &Hold, from: u64, to: u64| -> Closure {
            let (hold, f) = (hold.clone(), Work::Some.closure());
            Box::new(move |i| {
                if (from..to).contains(&i) {
                    hold.block();
                }
                f(i)
            })
        };
        rows.push(row(name("all closures"), move |hold| {
            let source = Box::new(0..items + 100);
            let stage = make(source, blocks(hold, items, u64::MAX), &hold.pool);
            assert_eq!(stage.count() as u64, items + 100);
        }));
        rows.push(row(name("source and closure"), move |hold| {
            let source = Box::new((0..items).chain(hold.blocks()));
            let closure = blocks(hold, items - 50, items - 49);
            assert_eq!(make(source, closure, &hold.pool).count() as u64, items);
        }));
        rows.push(row(name("source and all closures"), move |hold| {
            let source = Box::new((0..items).chain(hold.blocks()));
            let closure = blocks(hold, items - 50, u64::MAX);
            assert_eq!(make(source, closure, &hold.pool).count() as u64, items);
        }));
        rows.push(row(name("source and consumer"), move |hold| {
            let source = Box::new((0..items).chain(hold.blocks()));
            let mut stage = make(source, Work::Some.closure(), &hold.pool);
            let taken = stage.by_ref().take(items as usize - 50).count();
            hold.block();
            assert_eq!(taken + stage.count(), items as usize);
        }));
        rows.push(row(name("consumer and closure"), move |hold| {
            let closure = blocks(hold, items, items + 1);
            let mut stage = make(Box::new(0..items + 100), closure, &hold.pool);
            let taken = stage.by_ref().take(items as usize - 50).count();
            hold.block();
            assert_eq!(taken + stage.count(), items as usize + 100);
        }));
    }
    rows
}

// ---- the others

/// Rows without a pool of their own.
fn global() -> Vec<Row> {
    vec![
        row("parallel_map, blocked in its source", |hold| {
            let source = (0..500).chain(hold.blocks());
            let all = parallel_map(source, 2, Ok::<u64, ()>);
            assert_eq!(all.map(|all| all.len()), Ok(500));
        }),
        row("parallel_map, blocked in a closure", |hold| {
            let all = parallel_map(0..500, 2, |i| {
                if i == 300 {
                    hold.block();
                }
                Ok::<u64, ()>(i)
            });
            assert_eq!(all.map(|all| all.len()), Ok(500));
        }),
        row("broadcast, blocked in its source", |hold| {
            let source = (0..500).chain(hold.blocks());
            let counts = source.broadcast_into(3, |_, items| items.count());
            assert_eq!(counts, [500; 3]);
        }),
        row("broadcast, blocked in a reader", |hold| {
            let counts = (0..500).broadcast_into(3, |reader, items| {
                let late = items.inspect(|i| {
                    if reader == 1 && *i == 300 {
                        hold.block();
                    }
                });
                late.count()
            });
            assert_eq!(counts, [500; 3]);
        }),
        row("group, blocked in its tasks", |hold| {
            let all = group(2, |tasks| {
                for _ in 0..4 {
                    tasks.spawn(|| {
                        hold.block();
                        Ok::<_, ()>(())
                    });
                }
            });
            assert_eq!(all, Ok(()));
        }),
    ]
}

/// A source that blocks after a few items, and one that ends.
fn some(hold: &Hold) -> [Box<dyn Iterator<Item = u64> + Send>; 2] {
    [Box::new((0..50).chain(hold.blocks())), Box::new(0..500)]
}

fn merges() -> Vec<Row> {
    vec![
        row("merge, blocked in a source", |hold| {
            assert_eq!(merge(some(hold)).on(&hold.pool).count(), 550);
        }),
        row("merge, blocked in its consumer", |hold| {
            let mut merged = merge([0.., 0..]).on(&hold.pool);
            assert_eq!(merged.by_ref().take(500).count(), 500);
            hold.block();
        }),
        row(
            "merge, of which a source with a timeout has ended",
            |hold| {
                let timed = SourceOptions::new().timeout(TICK);
                let merged = Merge::new().source_with(0..9, timed);
                let merged = merged.source((0..9).chain(hold.blocks()));
                assert_eq!(merged.on(&hold.pool).count(), 18);
            },
        ),
        row("merge, of which a source was silent for too long", |hold| {
            let timed = SourceOptions::new().timeout(TICK);
            let merged = Merge::new().source_with((0..9).chain(hold.blocks()), timed);
            let merged = merged.source((0..9).chain(hold.blocks()));
            assert_eq!(merged.on(&hold.pool).count(), 18);
        }),
        row(
            "merge, of which a source with a timeout waits for a thread",
            |hold| {
                let timed = SourceOptions::new().timeout(TICK);
                let merged = Merge::new().source((0..9).chain(hold.blocks()));
                let merged = merged.source_with(0..9, timed).max_threads(1);
                assert_eq!(merged.on(&hold.pool).count(), 18);
            },
        ),
        row("merge with timeouts, blocked in its consumer", |hold| {
            let timed = || SourceOptions::new().timeout(TICK);
            let merged = Merge::new().source_with(0_u64.., timed());
            let mut merged = merged.source_with(0.., timed()).on(&hold.pool);
            assert_eq!(merged.by_ref().take(500).count(), 500);
            hold.block();
        }),
        row("merge_sorted, blocked in a source", |hold| {
            let merged = merge_sorted_by_key(some(hold), |i| *i).assume_sorted();
            assert_eq!(merged.on(&hold.pool).count(), 550);
        }),
        row("merge_sorted, blocked in its consumer", |hold| {
            let merged = merge_sorted_by_key([0_u64.., 0..], |i| *i).assume_sorted();
            let mut merged = merged.on(&hold.pool);
            assert_eq!(merged.by_ref().take(500).count(), 500);
            hold.block();
        }),
        row("round_robin, blocked in a source", |hold| {
            assert_eq!(round_robin(some(hold)).on(&hold.pool).count(), 550);
        }),
        row("round_robin, blocked in its consumer", |hold| {
            let mut turns = round_robin([0.., 0..]).on(&hold.pool);
            assert_eq!(turns.by_ref().take(500).count(), 500);
            hold.block();
        }),
    ]
}

/// Without a permit as long as the row is blocked.
fn lacks_permits(hold: &Hold, run: impl FnOnce(&Permits)) {
    let permits = Permits::new(1);
    let (held, hold) = (permits.acquire(1), hold.clone());
    let thread = std::thread::spawn(move || {
        hold.block();
        drop(held);
    });
    run(&permits);
    thread.join().expect("no panic");
}

fn others() -> Vec<Row> {
    vec![
        row("limited, without a permit", |hold| {
            lacks_permits(hold, |permits| {
                let stage = (0..500).par_map_ordered(3, |i: u64| i).limited_by(permits);
                assert_eq!(stage.on(&hold.pool).count(), 500);
            });
        }),
        row("limited and unordered, without a permit", |hold| {
            lacks_permits(hold, |permits| {
                let stage = (0..500).par_map_unordered(3, |i: u64| i);
                let stage = stage.limited_by(permits).item_timeout(HOUR);
                assert_eq!(stage.on(&hold.pool).count(), 500);
            });
        }),
        row("limited by key, without a permit", |hold| {
            lacks_permits(hold, |permits| {
                let keyed = (0_u64..500).par_map_by_key(3, |i| i % 7, |i| i);
                let keyed = keyed.limited_by(permits).on(&hold.pool);
                assert_eq!(keyed.count(), 500);
            });
        }),
        row("a permit that is not there", |hold| {
            lacks_permits(hold, |permits| assert!(permits.acquire(1).is_ok()));
        }),
        row("by key, blocked in its source", |hold| {
            let source = (0..500).chain(hold.blocks());
            let keyed = source.par_map_by_key(2, |i: &u64| i % 7, |i| i);
            assert_eq!(keyed.on(&hold.pool).count(), 500);
        }),
        row("by key, blocked in its consumer", |hold| {
            let keyed = (0_u64..).par_map_by_key(2, |i| i % 7, |i| i);
            let mut keyed = keyed.on(&hold.pool);
            assert_eq!(keyed.by_ref().take(500).count(), 500);
            hold.block();
        }),
        row("by key, blocked in a closure", |hold| {
            let held = hold.clone();
            let f = move |i| {
                if i == 300 {
                    held.block();
                }
                i
            };
            let keyed = (0_u64..500).par_map_by_key(2, |i| i % 7, f);
            assert_eq!(keyed.on(&hold.pool).count(), 500);
        }),
        row("flat, with full iterators behind a blocked one", |hold| {
            let held = hold.clone();
            let outputs = move |i: u64| {
                let held = held.clone();
                let outputs = (0..5_000).inspect(move |j| {
                    if (i, *j) == (0, 300) {
                        held.block();
                    }
                });
                outputs
            };
            let stage = (0..9).par_flat_map(3, outputs);
            assert_eq!(stage.on(&hold.pool).count(), 45_000);
        }),
        row(
            "flat, with endless iterators, blocked in its consumer",
            |hold| {
                let mut stage = (0..9).par_flat_map(3, |_| 0_u64..).on(&hold.pool);
                assert_eq!(stage.by_ref().take(500).count(), 500);
                hold.block();
            },
        ),
        row("flat and limited, without a permit", |hold| {
            lacks_permits(hold, |permits| {
                let stage = (0..500).par_flat_map(3, |i: u64| [i]).limited_by(permits);
                assert_eq!(stage.on(&hold.pool).count(), 500);
            });
        }),
        row("pushed into, with nothing in flight", |hold| {
            let mut stage = push_map_ordered(3, |i: u64| i).on(&hold.pool);
            let pushed: usize = (0..500).map(|i| stage.push(i).count()).sum();
            assert_eq!(pushed + stage.by_ref().count(), 500);
            hold.block();
        }),
        #[cfg(feature = "crossbeam-channel")]
        row("recv, whose sender is silent", |hold| {
            let (send, items) = crossbeam_channel::unbounded::<u64>();
            let sender = std::thread::spawn({
                let hold = hold.clone();
                move || {
                    (0..50).for_each(|i| send.send(i).expect("it is received"));
                    hold.block();
                    drop(send);
                }
            });
            let merged = merge([fanfold::recv(items.clone()), fanfold::recv(items)]);
            assert_eq!(merged.on(&hold.pool).count(), 50);
            sender.join().expect("no panic");
        }),
        row("readahead, blocked in its source", |hold| {
            let ahead = (0..500).chain(hold.blocks()).readahead(9);
            assert_eq!(ahead.on(&hold.pool).count(), 500);
        }),
        row("readahead, blocked in its consumer", |hold| {
            let mut ahead = (0..).readahead(9).on(&hold.pool);
            assert_eq!(ahead.by_ref().take(500).count(), 500);
            hold.block();
        }),
        row("ready_chunks, blocked in its source", |hold| {
            let chunks = (0..500).chain(hold.blocks()).ready_chunks(9);
            assert_eq!(chunks.on(&hold.pool).flatten().count(), 500);
        }),
        row("ready_chunks, blocked in its consumer", |hold| {
            let mut chunks = (0..).ready_chunks(9).on(&hold.pool);
            assert_eq!(chunks.by_ref().take(50).count(), 50);
            hold.block();
        }),
        row("max_age, blocked in its source", |hold| {
            let windows = (0..95).chain(hold.blocks()).window(10).max_age(TICK);
            assert!(windows.on(&hold.pool).count() >= 10);
        }),
        row("max_age, blocked in its consumer", |hold| {
            let windows = (0..).window(10).max_age(TICK);
            let mut windows = windows.on(&hold.pool);
            assert_eq!(windows.by_ref().take(50).count(), 50);
            hold.block();
        }),
        row("worklist, blocked in a closure", |hold| {
            let held = hold.clone();
            let items = worklist([0_u64]).par_map_unordered(2, move |item| {
                match *item {
                    300.. => held.block(),
                    i => _ = item.push(i + 1),
                }
                1
            });
            assert_eq!(items.on(&hold.pool).sum::<u64>(), 301);
        }),
        row("hedge, blocked in its replicas", |hold| {
            let replicas = [0, 1].map(|i| {
                let hold = hold.clone();
                replica(move |_| (hold.block(), Ok::<_, ()>(i)).1)
            });
            let hedge = replicas.into_iter().hedge().after(TICK).timeout(HOUR);
            assert!(hedge.on(&hold.pool).run().is_ok());
        }),
        row(
            "hedge without a budget, blocked in its first replica",
            |hold| {
                let replicas = [0, 1].map(|i| {
                    let hold = hold.clone();
                    replica(move |_| (hold.block(), Ok::<_, ()>(i)).1)
                });
                let policy = HedgePolicy::after(TICK).budget(0.0).reserve(0);
                let hedge = replicas.into_iter().hedge().policy(&policy);
                assert!(hedge.on(&hold.pool).run().is_ok());
            },
        ),
    ]
}

// ---- the count

/// For each thread but this one: its name behind a hyphen, and how often it has gone to sleep.
fn sleeps() -> BTreeMap<String, (String, u64)> {
    let me = fs::read_link("/proc/thread-self").expect("Linux has it");
    let me = me.file_name().expect("the thread's number").to_owned();
    let mut all = BTreeMap::new();
    for task in fs::read_dir("/proc/self/task").expect("Linux has it") {
        let task = task.expect("an entry").path();
        // The thread may have ended meanwhile.
        let Ok(status) = fs::read_to_string(task.join("status")) else {
            continue;
        };
        let field = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            line.expect("Linux says so")
                .trim_start_matches(':')
                .trim()
                .to_owned()
        };
        let id = task.file_name().expect("a number");
        if id != me {
            let name = field("Name").rsplit('-').next().expect("a name").to_owned();
            let count = field("voluntary_ctxt_switches").parse().expect("a number");
            all.insert(id.to_string_lossy().into_owned(), (name, count));
        }
    }
    all
}

/// How often the threads of each name go to sleep in a window.
fn count() -> BTreeMap<String, u64> {
    let before = sleeps();
    std::thread::sleep(WINDOW);
    let mut counts = BTreeMap::new();
    for (id, (name, after)) in sleeps() {
        let before = before.get(&id).map_or(0, |(_, before)| *before);
        *counts.entry(name).or_default() += after - before;
    }
    counts
}

/// The rows that wake up although all of them block, and how often.
fn awake(rows: Vec<Row>) -> Vec<String> {
    let mut names = BTreeMap::new();
    let mut holds = Vec::new();
    let alone = (rows.len() == 1).then(|| rows[0].0.clone());
    for (number, (name, run)) in rows.into_iter().enumerate() {
        let thread = format!("r{number}");
        let hold = Hold {
            reached: Counter::new(),
            gate: Gate::new(),
            pool: Pool::builder().named(&*thread).build(),
        };
        let held = hold.clone();
        let builder = std::thread::Builder::new().name(thread.clone());
        let runs = builder.spawn(move || run(&held)).expect("a thread");
        names.insert(thread, name);
        holds.push((hold, runs));
    }
    for (hold, _) in &holds {
        hold.reached.wait_for(1);
    }
    // Work that was under way comes to rest: a thread that wakes up in every window polls.
    let mut awake = BTreeMap::new();
    for attempt in 0..WINDOWS {
        let counts = count().into_iter().filter(|(_, count)| *count > LIMIT);
        awake = counts
            .filter(|(name, _)| attempt == 0 || awake.contains_key(name))
            .collect();
        if awake.is_empty() {
            break;
        }
    }
    for (hold, _) in &holds {
        hold.gate.open();
    }
    for (_, runs) in holds {
        runs.join().expect("no panic");
    }
    let said = awake.iter().map(|(thread, count)| {
        let name = names.get(thread).or(alone.as_ref()).unwrap_or(thread);
        format!("\n{count} times in {WINDOW:?}: {name}")
    });
    said.collect()
}

#[test]
fn a_blocked_stage_wakes_no_thread() {
    let works = [Work::Tiny, Work::Some];
    let pooled = stages(&KINDS, &works).into_iter().chain(mixed(&KINDS));
    let mut said = awake(pooled.chain(merges()).chain(others()).collect());
    // One by one, so that nothing keeps the consumer from running the items.
    for row in stages(&INLINE, &[Work::Tiny]) {
        said.extend(awake(vec![row]));
    }
    let rest = || mixed(&INLINE).into_iter().chain(global());
    let together = awake(rest().collect());
    if !together.is_empty() {
        let singly: Vec<String> = rest().flat_map(|row| awake(vec![row])).collect();
        said.extend(if singly.is_empty() { together } else { singly });
    }
    assert!(said.is_empty(), "awake{}", said.concat());
}
