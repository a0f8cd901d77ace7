//! `on_thread_start` and `on_thread_stop`.

use crate::support::{Counter, Gate, Meter, SOON, bang, dawdle, eventually, within};
use fanfold::{Fanfold, Pool, PoolBuilder, replica};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::thread::{ThreadId, current};
use std::time::Duration;

// A read-ahead that has room for all items is one task of one thread.

/// Which threads are between their two hooks, by index, and how many have ever been.
#[derive(Clone, Default)]
struct Log {
    here: Arc<Mutex<BTreeMap<usize, ThreadId>>>,
    most: Arc<AtomicUsize>,
    started: Counter,
    stopped: Counter,
    /// A panic in a hook goes no further than a message, so what is wrong there is noted.
    wrong: Arc<Mutex<Vec<String>>>,
}

thread_local! {
    /// What the start hook of this thread was given. The stop hook sees it, as it runs before the thread-locals go.
    static INDEX: Cell<Option<usize>> = const { Cell::new(None) };
}

impl Log {
    fn expect(&self, holds: bool, what: &str, index: usize) {
        if !holds {
            lock(&self.wrong).push(format!("{what}, thread {index}"));
        }
    }

    fn start(&self, index: usize) {
        self.expect(INDEX.replace(Some(index)).is_none(), "starts twice", index);
        let mut here = lock(&self.here);
        let other = here.insert(index, current().id());
        self.expect(other.is_none(), "an index twice", index);
        self.most.fetch_max(here.len(), SeqCst);
        self.started.add();
    }

    fn stop(&self, index: usize) {
        self.expect(
            INDEX.take() == Some(index),
            "stops on another thread",
            index,
        );
        let other = lock(&self.here).remove(&index);
        self.expect(other == Some(current().id()), "stops twice", index);
        self.stopped.add();
    }

    fn hooked(&self) -> PoolBuilder {
        let (a, b) = (self.clone(), self.clone());
        Pool::builder()
            .on_thread_start(move |index| a.start(index))
            .on_thread_stop(move |index| b.stop(index))
    }

    /// Fails unless this many threads have been, and all are gone.
    #[track_caller]
    fn assert_all_gone(&self, threads: usize) {
        assert_eq!(*lock(&self.wrong), Vec::<String>::new());
        assert_eq!((self.started.get(), self.stopped.get()), (threads, threads));
        assert!(lock(&self.here).is_empty());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("not poisoned")
}

#[test]
fn each_hook_runs_once_for_each_thread_on_that_thread() {
    for n in 1..=9 {
        within(SOON, move || {
            let log = Log::default();
            let pool = log.hooked().build();
            for _ in 0..20 {
                let meter = Meter::new();
                let seen = (0..n).par_map_unordered(n, {
                    move |_| {
                        meter.meet(n);
                        let index = INDEX.get().expect("the hook has run on this thread");
                        let name = current().name().expect("a name").to_owned();
                        assert_eq!(name, format!("{index}-fanfold"));
                        index
                    }
                });
                let mut seen: Vec<usize> = seen.on(&pool).collect();
                seen.sort_unstable();
                seen.dedup();
                assert_eq!(seen.len(), n, "each on another thread");
            }
            let threads = pool.threads();
            assert!(threads == n || threads == n + 1);
            assert_eq!((log.started.get(), log.stopped.get()), (threads, 0));
            drop(pool);
            log.assert_all_gone(threads);
        });
    }
}

#[test]
fn a_thread_that_has_idled_runs_its_stop_hook() {
    within(SOON, || {
        let log = Log::default();
        let pool = log.hooked().idle_time(Duration::ZERO).build();
        for _ in 0..100 {
            assert!((0..9).par_map_ordered(3, |i| i).on(&pool).eq(0..9));
        }
        eventually("all have left", || pool.threads() == 0);
        assert!(log.started.get() > 0);
        log.assert_all_gone(log.started.get());
    });
}

/// Threads come and go all the time, and slowly. One that runs its stop hook still counts.
#[test]
fn no_index_twice_and_never_more_than_the_limit() {
    for k in 1..=9 {
        within(SOON, move || {
            let log = Log::default();
            let (starts, stops) = (log.clone(), log.clone());
            let pool = Pool::builder()
                .max_threads(k)
                .idle_time(Duration::ZERO)
                .on_thread_start(move |index| {
                    starts.expect(index < k, "not below the limit", index);
                    starts.start(index);
                    dawdle(index as u64);
                })
                .on_thread_stop(move |index| {
                    dawdle(!index as u64);
                    stops.stop(index);
                })
                .build();
            std::thread::scope(|s| {
                for t in 0..3_u64 {
                    let pool = &pool;
                    s.spawn(move || {
                        for run in 0..60 {
                            let stage = (0..20).par_map_ordered(1 + run % 4, move |i| {
                                dawdle(t << 20 ^ (run as u64) << 8 ^ i);
                                i
                            });
                            assert_eq!(stage.on(pool).sum::<u64>(), 190);
                            assert!(pool.threads() <= k);
                        }
                    });
                }
            });
            drop(pool);
            assert!((1..=k).contains(&log.most.load(SeqCst)));
            log.assert_all_gone(log.started.get());
        });
    }
}

/// A thread whose start hook has panicked runs nothing, has no stop hook, and its index is free.
#[test]
fn a_thread_that_fails_to_start_is_as_if_it_had_never_been() {
    within(SOON, || {
        let (starts, zeros, stops) = (Counter::new(), Counter::new(), Counter::new());
        let pool = Pool::builder().on_thread_start({
            let (starts, zeros) = (starts.clone(), zeros.clone());
            move |index| {
                if index == 0 {
                    zeros.add();
                }
                if starts.add() <= 5 {
                    bang(1)
                }
            }
        });
        let stop = stops.clone();
        let pool = pool.on_thread_stop(move |_| _ = stop.add()).build();
        let here = current().id();
        for run in 1..=8 {
            // one thread, or else the consumer's
            let ids = (0..4).map(|_| current().id()).readahead(9).on(&pool);
            assert!(ids.map(|id| id == here).eq([run <= 5; 4]), "run {run}");
            assert_eq!(pool.threads(), usize::from(run > 5));
        }
        drop(pool);
        assert_eq!((starts.get(), zeros.get(), stops.get()), (6, 6, 1));
    });
}

/// What a thread has pulled is run although it is in a source that blocks until then, and although every other thread
/// fails to start.
#[test]
fn a_source_that_waits_for_results_gets_them_where_threads_fail_to_start() {
    for (n, good) in (1..=5).flat_map(|n| [1, 2].map(move |good| (n, good))) {
        within(SOON, move || {
            let starts = Counter::new();
            let pool = Pool::builder().on_thread_start(move |_| {
                if starts.add() > good {
                    bang(1)
                }
            });
            let done = Counter::new();
            let source = (0..30).inspect({
                let done = done.clone();
                move |&i| done.wait_for(i - i % 7)
            });
            let stage = source.par_map_ordered(n, move |i| {
                done.add();
                i
            });
            assert!(stage.on(&pool.build()).eq(0..30), "{n}, {good}");
        });
    }
}

#[test]
fn a_stop_hook_that_panics_ends_its_thread_all_the_same() {
    within(SOON, || {
        for idle in [Duration::ZERO, SOON] {
            let stops = Counter::new();
            let pool = Pool::builder().idle_time(idle).on_thread_stop({
                let stops = stops.clone();
                move |_| {
                    stops.add();
                    bang(1)
                }
            });
            let pool = pool.build();
            for _ in 0..10 {
                assert!((0..9).par_map_ordered(3, |i| i).on(&pool).eq(0..9));
            }
            if idle.is_zero() {
                eventually("all have left", || pool.threads() == 0);
            }
            drop(pool);
            assert!(stops.get() > 0);
        }
    });
}

/// Neither hook is called with a lock held, and a stage that runs in one gets no thread: that one, or one that it starts,
/// would run the same hook, and so on.
#[test]
fn hooks_may_use_the_pool_and_run_stages_on_it() {
    for n in [1, 2, 5] {
        within(SOON, move || {
            static POOL: [OnceLock<Pool>; 6] = [const { OnceLock::new() }; 6];
            let (begun, starts, stops) = (Counter::new(), Counter::new(), Counter::new());
            let hook = |done: &Counter| {
                let (begun, done) = (begun.clone(), done.clone());
                move |_| {
                    begun.add();
                    let pool = POOL[n].get().expect("it is built");
                    assert!(pool.threads() > 0);
                    assert!((0..9).par_map_ordered(3, |i| i).on(pool).eq(0..9));
                    assert!((0..9).par_map_ordered(3, |i| i).eq(0..9));
                    done.add();
                }
            };
            let pool = Pool::builder().idle_time(Duration::ZERO);
            let pool = pool.on_thread_start(hook(&starts));
            let pool = pool.on_thread_stop(hook(&stops));
            let pool = POOL[n].get_or_init(|| pool.build());
            for _ in 0..20 {
                assert!((0..9).par_map_ordered(n, |i| i).on(pool).eq(0..9));
            }
            eventually("all have left", || pool.threads() == 0);
            let most = 20 * (n + 1);
            assert!((1..=most).contains(&starts.get()), "{starts:?} {begun:?}");
            assert_eq!((stops.get(), begun.get()), (starts.get(), 2 * starts.get()));
        });
    }
}

/// While one thread is in its start hook, others are leased and returned.
#[test]
fn a_slow_start_holds_up_only_what_leases_it() {
    within(SOON, || {
        let (gate, reached) = (Gate::new(), Counter::new());
        let pool = Pool::builder().on_thread_start({
            let (gate, reached) = (gate.clone(), reached.clone());
            move |_| {
                if reached.add() == 2 {
                    gate.wait();
                }
            }
        });
        let pool = pool.build();
        assert_eq!((0..4).readahead(9).on(&pool).count(), 4);
        std::thread::scope(|s| {
            let waits = s.spawn(|| {
                // Each source holds its thread until there are two.
                let reached = &reached;
                let both = [0, 1].map(|_| (0..9).inspect(|_| reached.wait_for(2)));
                fanfold::scope(|s| fanfold::merge(both).on(&pool).within(s).count())
            });
            reached.wait_for(2);
            let _opener = gate.opener();
            for _ in 0..50 {
                assert_eq!((0..4).readahead(9).on(&pool).count(), 4);
            }
            assert!(!waits.is_finished());
            gate.open();
            assert_eq!(waits.join().expect("no panic"), 18);
        });
    });
}

/// A loser of a hedge drops the last handle on its own thread, which cannot join itself.
#[test]
fn the_stop_hook_runs_on_a_thread_that_drops_its_own_pool() {
    within(SOON, || {
        let (starts, stops, gate) = (Counter::new(), Counter::new(), Gate::new());
        let (start, stop) = (starts.clone(), stops.clone());
        let pool = Pool::builder().on_thread_start(move |_| _ = start.add());
        let pool = pool.on_thread_stop(move |_| _ = stop.add()).build();
        let replicas = [0, 1].map(|number| {
            let (pool, gate) = (pool.clone(), gate.clone());
            replica(move |_| {
                if number == 0 {
                    gate.wait();
                }
                drop(pool);
                Ok::<_, ()>(number)
            })
        });
        assert_eq!(replicas.into_iter().hedge().on(&pool).run(), Ok(1));
        drop(pool);
        assert_eq!((starts.get(), stops.get()), (2, 0));
        gate.open();
        stops.wait_for(2);
    });
}

/// A second call replaces the first.
#[test]
fn the_last_hook_counts() {
    within(SOON, || {
        let (first, second) = (Counter::new(), Counter::new());
        let add = |counter: &Counter| {
            let counter = counter.clone();
            move |_| _ = counter.add()
        };
        let pool = Pool::builder()
            .on_thread_start(add(&first))
            .on_thread_start(add(&second))
            .on_thread_stop(add(&first))
            .on_thread_stop(add(&second))
            .build();
        assert_eq!((0..4).readahead(9).on(&pool).count(), 4);
        drop(pool);
        assert_eq!((first.get(), second.get()), (0, 2));
    });
}
