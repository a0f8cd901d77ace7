//! `par_map_by_key`: order within a key, width over keys, bound, liveness, and ends.

use crate::support::{
    Counter, Gate, Ledger, Meter, SOON, bang, barren, blocks, calls_counted, caught, counted,
    dawdle, eventually, listens, message, mix, panics_at, settle, spin, within,
};
use fanfold::{CancelToken, Fanfold, Pool};
use quickcheck::quickcheck;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// The values of each key, in the order in which they came.
fn by_key<T: Copy>(values: &[T], key: impl Fn(T) -> u64) -> BTreeMap<u64, Vec<T>> {
    let mut keys: BTreeMap<u64, Vec<T>> = BTreeMap::new();
    for value in values {
        keys.entry(key(*value)).or_default().push(*value);
    }
    keys
}

/// Ways to spread items over keys.
const SPREADS: [fn(u64) -> u64; 6] = [
    |_| 0,
    |i| i,
    |i| i % 3,
    |i| mix(i) % 16,
    |i| i / 10,
    // one key has most of them
    |i| if mix(i) % 4 > 0 { 0 } else { i },
];

// ---- order

quickcheck! {
    fn the_results_of_each_key_are_those_of_map(items: Vec<u64>, n: u8, k: u8, keys: u8) -> bool {
        let (n, k) = (usize::from(n % 9) + 1, usize::from(k) + 1);
        let key = move |item: u64| item % (u64::from(keys) + 1);
        let results: Vec<u64> = (items.clone().into_iter())
            .par_map_by_key(n, move |&item| key(item), |item| item)
            .in_flight(k)
            .collect();
        by_key(&results, key) == by_key(&items, key)
    }
}

#[test]
fn the_items_of_a_key_run_in_order_and_one_at_a_time() {
    for (n, key) in (1..=9).flat_map(|n| SPREADS.map(|key| (n, key))) {
        within(SOON, move || {
            let (meter, running) = (Meter::new(), Arc::new([const { AtomicUsize::new(0) }; 300]));
            let last: Arc<[_; 300]> = Arc::new([const { AtomicUsize::new(0) }; 300]);
            let most = meter.clone();
            let stage = (0..300).par_map_by_key(
                n,
                move |&i| key(i),
                move |i| {
                    let _entered = meter.enter();
                    let lane = key(i) as usize;
                    assert_eq!(running[lane].fetch_add(1, Ordering::SeqCst), 0, "alone");
                    assert!(last[lane].swap(i as usize + 1, Ordering::SeqCst) <= i as usize);
                    dawdle(i);
                    running[lane].fetch_sub(1, Ordering::SeqCst);
                    i
                },
            );
            let results: Vec<u64> = stage.collect();
            let all: Vec<u64> = (0..300).collect();
            assert_eq!(by_key(&results, key), by_key(&all, key));
            assert!(most.most() <= n);
            fanfold::testing::assert_quiescent();
        });
    }
}

#[test]
fn the_key_of_each_item_is_asked_for_once_and_in_order() {
    within(SOON, || {
        let mut asked = 0;
        let key = move |&i: &u64| {
            assert_eq!(i, asked);
            asked += 1;
            i % 7
        };
        assert_eq!((0..500).par_map_by_key(3, key, |i| i).count(), 500);
    });
}

#[test]
fn results_come_as_they_arrive() {
    within(SOON, || {
        let gate = Gate::new();
        let wait = gate.clone();
        let mut stage = (0..100).par_map_by_key(
            2,
            |&i| i,
            move |i: u64| {
                if i == 0 {
                    wait.wait();
                }
                i
            },
        );
        let _open = gate.opener();
        let before: BTreeSet<u64> = stage.by_ref().take(99).collect();
        assert_eq!(before, (1..100).collect());
        gate.open();
        assert_eq!(stage.next(), Some(0));
        assert_eq!(stage.next(), None);
    });
}

/// Many items of one key, `h`, and behind them two each of three others. Returns the results of one
/// worker, which begins when all items are in their queues, that is, when the source is asked once more.
fn hot_and_cold(hot: usize, each: Duration) -> Vec<(char, usize)> {
    let calls = Counter::new();
    let all = calls.clone();
    let cold = (0..6).map(|i| (['a', 'b', 'c'][i % 3], i / 3));
    let source = calls_counted((0..hot).map(|i| ('h', i)).chain(cold), &calls);
    let f = move |item| {
        all.wait_for(hot + 7);
        spin(each);
        item
    };
    let stage = source.par_map_by_key(1, |item| item.0, f);
    stage.in_flight(hot + 10).collect()
}

#[test]
fn a_key_that_has_more_goes_behind_those_that_are_ready() {
    within(SOON, || {
        let results = hot_and_cold(30, Duration::from_micros(50));
        let turns = ["h0", "a0", "b0", "c0", "h1", "a1", "b1", "c1"];
        let seen = results.iter().map(|(key, i)| format!("{key}{i}"));
        assert!(seen.take(8).eq(turns), "{results:?}");
        assert!(
            results[8..]
                .iter()
                .eq(&(2..30).map(|i| ('h', i)).collect::<Vec<_>>())
        );
    });
}

#[test]
fn a_key_with_many_tiny_items_does_not_starve_the_others() {
    within(SOON, || {
        let results = hot_and_cold(1_000, Duration::ZERO);
        let last_cold = results.iter().rposition(|(key, _)| *key != 'h');
        assert!(last_cold < Some(200), "{last_cold:?}");
        let hot = results.iter().filter(|(key, _)| *key == 'h');
        assert!(hot.map(|(_, i)| *i).eq(0..1_000));
    });
}

// ---- the bound

#[test]
fn the_default_bound_is_sixteen_items_per_worker() {
    within(SOON, || {
        let (gate, pulled) = (Gate::new(), Counter::new());
        let wait = gate.clone();
        let source = counted(0.., &pulled);
        let mut stage = source.par_map_by_key(3, |&i| i, move |_: u64| wait.wait());
        let _open = gate.opener();
        let open = (gate.clone(), pulled.clone());
        let watch = std::thread::spawn(move || {
            open.1.wait_for(3 * 16);
            settle();
            let pulled = open.1.get();
            open.0.open();
            pulled
        });
        assert!(stage.next().is_some());
        assert_eq!(watch.join().expect("no panic"), 3 * 16);
    });
}

/// A key that counts its live instances.
struct Living(u64, Arc<AtomicUsize>);

impl Living {
    fn new(id: u64, alive: &Arc<AtomicUsize>) -> Self {
        alive.fetch_add(1, Ordering::SeqCst);
        Living(id, Arc::clone(alive))
    }
}

impl Drop for Living {
    fn drop(&mut self) {
        self.1.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Hash for Living {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl PartialEq for Living {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Living {}

#[test]
fn keys_without_items_are_forgotten() {
    within(SOON, || {
        let alive = Arc::new(AtomicUsize::new(0));
        let all = Arc::clone(&alive);
        let stage = (0..5_000).par_map_by_key(2, move |&i| Living::new(i, &all), |i| i);
        for _ in stage.in_flight(10) {
            let now = alive.load(Ordering::SeqCst);
            assert!(now < 100, "{now} keys of 10 items");
        }
        assert_eq!(alive.load(Ordering::SeqCst), 0);
    });
}

// ---- width

#[test]
fn n_closures_run_at_once_with_just_as_many_keys() {
    for n in 1..=9 {
        within(SOON, move || {
            let meter = Meter::new();
            let most = meter.clone();
            let stage = (0..20 * n).par_map_by_key(
                n,
                move |&i| i % n,
                move |i| {
                    if i >= 10 * n {
                        meter.meet(n);
                    }
                },
            );
            assert_eq!(stage.count(), 20 * n);
            assert!(most.most() <= n);
        });
    }
}

#[test]
fn keys_behind_a_busy_one_are_found_within_the_bound() {
    for n in 2..=9 {
        within(SOON, move || {
            let meter = Meter::new();
            // all but the last ones are of one key, the first of which waits for these
            let key = move |&i: &usize| i.saturating_sub(50);
            let stage = (0..50 + n).par_map_by_key(n, key, move |i| {
                if i == 0 || i > 50 {
                    meter.meet(n);
                }
            });
            assert_eq!(stage.in_flight(60).count(), 50 + n);
        });
    }
}

#[test]
fn pulling_does_not_count_as_running() {
    for n in 1..=4 {
        within(SOON, move || {
            let calls = Counter::new();
            let wait = calls.clone();
            // the closures that run wait until the source has been asked for one more
            let stage = calls_counted(0..100, &calls).par_map_by_key(
                n,
                |&i| i,
                move |i| {
                    if i < n {
                        wait.wait_for(n + 1);
                    }
                },
            );
            assert_eq!(stage.count(), 100);
        });
    }
}

#[test]
fn a_huge_width_starts_no_more_threads_than_there_are_items() {
    within(SOON, || {
        for (keys, most) in [(1, 2), (3, 4), (20, 21)] {
            let pool = Pool::builder().build();
            let stage = (0..20_u64).par_map_by_key(
                usize::MAX,
                move |&i| i % keys,
                |i| {
                    dawdle(i);
                },
            );
            assert_eq!(stage.on(&pool).count(), 20);
            assert!(pool.threads() <= most, "{} for {keys}", pool.threads());
        }
    });
}

// ---- deliver first

#[test]
fn the_queue_of_a_key_is_worked_off_while_the_source_blocks() {
    for n in 1..=4 {
        within(SOON, move || {
            let (gate, pulled) = (Gate::new(), Counter::new());
            let all = pulled.clone();
            let source = counted(0..20, &pulled).chain(blocks(&gate));
            let stage = source.par_map_by_key(
                n,
                |_| (),
                move |i| {
                    all.wait_for(20);
                    i
                },
            );
            let mut stage = stage.in_flight(30);
            let _open = gate.opener();
            assert!(stage.by_ref().take(20).eq(0..20));
            gate.open();
            assert_eq!(stage.next(), None);
        });
    }
}

/// Tiny items are taken several at once, yet the result of one does not wait for another.
#[test]
fn a_result_is_there_although_a_later_one_of_its_key_blocks() {
    for (n, at) in (1..=3).flat_map(|n| (100..108).map(move |at| (n, at))) {
        within(SOON, move || {
            let (gate, calls) = (Gate::new(), Counter::new());
            let (wait, all) = (gate.clone(), calls.clone());
            let source = calls_counted(0..200, &calls);
            let f = move |i| {
                all.wait_for(201);
                if i == at {
                    wait.wait();
                }
                i
            };
            let stage = source.par_map_by_key(n, |_| (), f);
            let mut stage = stage.in_flight(300);
            let _open = gate.opener();
            assert!(stage.by_ref().take(at).eq(0..at));
            gate.open();
            assert!(stage.eq(at..200));
        });
    }
}

#[test]
fn a_result_is_there_although_others_never_cease() {
    within(SOON, || {
        let gate = Gate::new();
        let wait = gate.clone();
        // one key has 500 items, of which one blocks; the other has items forever
        let key = |&i: &u64| i % 2 == 0 || i > 1_000;
        let f = move |i| {
            if i == 777 {
                wait.wait();
            }
            (key(&i), i)
        };
        let mut stage = (0..).par_map_by_key(2, key, f).in_flight(1_000);
        let _open = gate.opener();
        let mut seen = 0;
        while seen < 777 / 2 {
            let (is_other, _) = stage.next().expect("it is endless");
            seen += usize::from(!is_other);
        }
    });
}

// ---- panics

#[test]
fn nothing_starts_after_a_panic() {
    within(SOON, || {
        let (gate, started, pulled) = (Gate::new(), Counter::new(), Counter::new());
        let (wait, count) = (gate.clone(), started.clone());
        let stage = counted(0..100, &pulled).par_map_by_key(
            2,
            |&i| i,
            move |i: u64| {
                count.add();
                wait.wait();
                if i == 0 {
                    bang(0);
                }
                CancelToken::current().wait();
            },
        );
        let mut stage = stage.in_flight(50);
        let _open = gate.opener();
        let watch = std::thread::spawn(move || {
            pulled.wait_for(50);
            gate.open();
        });
        assert_eq!(caught(|| stage.next()), Err(0));
        watch.join().expect("no panic");
        drop(stage);
        assert_eq!(started.get(), 2);
    });
}

#[test]
fn a_panic_of_the_key_comes_after_all_that_was_before() {
    for n in 1..=9 {
        within(SOON, move || {
            let (ledger, pulled) = (Ledger::new(), Counter::new());
            let items = ledger.clone();
            let source = counted((0..).map(move |i| items.track(i)), &pulled);
            let key = |item: &crate::support::Tracked| {
                if item.id == 20 {
                    bang(20);
                }
                item.id % 4
            };
            let mut stage = source.par_map_by_key(n, key, |item| item.id);
            let mut seen = BTreeSet::new();
            assert_eq!(caught(|| seen.extend(stage.by_ref())), Err(20));
            assert_eq!(seen, (0..20).collect());
            assert_eq!(stage.next(), None);
            assert_eq!(pulled.get(), 21);
            ledger.assert_dropped_once();
            fanfold::testing::assert_quiescent();
        });
    }
}

/// A key that misbehaves: all have the same hash, and it panics where it is told to.
#[derive(Clone, Copy, Debug)]
struct Bad {
    id: u64,
    hash_at: u64,
    eq_at: u64,
    drop_at: u64,
}

const NEVER: u64 = u64::MAX;

impl Bad {
    fn new(id: u64) -> Self {
        Bad {
            id,
            hash_at: NEVER,
            eq_at: NEVER,
            drop_at: NEVER,
        }
    }
}

#[derive(Debug)]
struct BadKey(Bad);

impl Hash for BadKey {
    fn hash<H: Hasher>(&self, _: &mut H) {
        if self.0.id == self.0.hash_at {
            bang(self.0.id);
        }
    }
}

impl PartialEq for BadKey {
    fn eq(&self, other: &Self) -> bool {
        if other.0.id == self.0.eq_at {
            bang(other.0.id);
        }
        self.0.id == other.0.id
    }
}

impl Eq for BadKey {}

impl Drop for BadKey {
    fn drop(&mut self) {
        if self.0.id == self.0.drop_at && !std::thread::panicking() {
            bang(self.0.id);
        }
    }
}

#[test]
fn keys_with_one_hash_are_told_apart() {
    within(SOON, || {
        let stage = (0..300).par_map_by_key(3, |&i| BadKey(Bad::new(i % 17)), |i| i);
        let results: Vec<u64> = stage.collect();
        let all: Vec<u64> = (0..300).collect();
        assert_eq!(by_key(&results, |i| i % 17), by_key(&all, |i| i % 17));
    });
}

#[test]
fn a_panic_of_a_keys_hash_or_eq_counts_as_a_key_panic() {
    for n in 1..=4 {
        within(SOON, move || {
            let hash = |&i: &u64| {
                BadKey(Bad {
                    hash_at: 9,
                    ..Bad::new(i)
                })
            };
            let mut stage = (0..).par_map_by_key(n, hash, |i| i);
            let mut seen = BTreeSet::new();
            assert_eq!(caught(|| seen.extend(stage.by_ref())), Err(9));
            assert_eq!(seen, (0..9).collect());
            assert_eq!(stage.next(), None);
            let eq = |&i: &u64| {
                BadKey(Bad {
                    eq_at: i.max(9),
                    ..Bad::new(i.min(9))
                })
            };
            let mut stage = (0..).par_map_by_key(n, eq, |i| i);
            assert_eq!(caught(|| stage.by_ref().for_each(drop)), Err(9));
            assert_eq!(stage.next(), None);
            fanfold::testing::assert_quiescent();
        });
    }
}

#[test]
fn a_panic_in_a_keys_drop_is_raised_at_the_end_without_loss() {
    for n in 1..=4 {
        within(SOON, move || {
            let key = |&i: &u64| {
                BadKey(Bad {
                    drop_at: 5,
                    ..Bad::new(i)
                })
            };
            let mut stage = (0..500).par_map_by_key(n, key, |i| i);
            let mut seen = BTreeSet::new();
            assert_eq!(caught(|| seen.extend(stage.by_ref())), Err(5));
            assert_eq!(seen.len(), 500);
            assert_eq!(stage.next(), None);
            drop(stage);
            fanfold::testing::assert_quiescent();
        });
    }
}

#[test]
fn a_panic_in_the_drop_of_a_result_is_raised_and_loses_nothing() {
    within(SOON, || {
        let (ledger, ran) = (Ledger::new(), Counter::new());
        let (results, runs) = (ledger.clone(), ran.clone());
        let mut stage = (0..100)
            .par_map_by_key(
                1,
                |_| (),
                move |i| {
                    let result = if i % 20 == 10 {
                        results.bomb(i)
                    } else {
                        results.track(i)
                    };
                    runs.add();
                    result
                },
            )
            .in_flight(100);
        assert_eq!(stage.next().map(|result| result.id), Some(0));
        ran.wait_for(100);
        settle();
        assert_eq!(stage.next().map(|result| result.id), Some(1)); // the consumer holds the rest
        assert_eq!(caught(|| drop(stage)), Err(10));
        ledger.assert_dropped_once();
        fanfold::testing::assert_quiescent();
    });
}

#[test]
fn a_panic_in_a_terminal_call_joins() {
    let ledger = Ledger::new();
    let items = (0..).map(|i| ledger.track(i));
    let stage = items.par_map_by_key(3, |item| item.id % 2, |item| item);
    assert!(caught(|| stage.for_each(|item| bang(item.id % 2))).is_err());
    ledger.assert_dropped_once();
    fanfold::testing::assert_quiescent();
}

// ---- drop and cancel

#[test]
fn a_cancelled_stage_yields_what_has_been_started() {
    for n in 1..=4 {
        within(SOON, move || {
            let (gate, token, started) = (Gate::new(), CancelToken::new(), Counter::new());
            let (wait, count) = (gate.clone(), started.clone());
            let source = (0..50).chain(blocks(&gate));
            let stage = source.par_map_by_key(
                n,
                |&i| i,
                move |i: usize| {
                    count.add();
                    wait.wait();
                    i
                },
            );
            let mut stage = stage.cancel_on(&token);
            let _open = gate.opener();
            let trip = std::thread::spawn({
                let (gate, started) = (gate.clone(), started.clone());
                move || {
                    started.wait_for(n);
                    token.cancel();
                    settle();
                    gate.open();
                }
            });
            assert_eq!(stage.by_ref().count(), n);
            assert!(gate.is_open());
            assert_eq!(started.get(), n);
            assert_eq!(stage.next(), None);
            trip.join().expect("no panic");
            drop(stage);
            fanfold::testing::assert_quiescent();
        });
    }
}

#[test]
fn a_cancellation_does_not_wait_for_the_source() {
    within(SOON, || {
        let (gate, token) = (Gate::new(), CancelToken::new());
        let source = (0..3).chain(blocks(&gate));
        let mut stage = source
            .par_map_by_key(2, |&i| i, |i: u64| i)
            .cancel_on(&token);
        let _open = gate.opener();
        assert_eq!(stage.by_ref().take(3).count(), 3);
        let trip = std::thread::spawn(move || {
            settle();
            token.cancel();
        });
        assert_eq!(stage.next(), None);
        assert!(!gate.is_open());
        trip.join().expect("no panic");
    });
}

#[test]
fn a_token_that_is_tripped_before_the_start_lets_nothing_begin() {
    within(SOON, || {
        let (token, pulled) = (CancelToken::new(), Counter::new());
        token.cancel();
        let stage = counted(0..9, &pulled).par_map_by_key(2, |&i| i, |i: u64| i);
        assert_eq!(stage.cancel_on(&token).next(), None);
        assert_eq!(pulled.get(), 0);
        fanfold::testing::assert_quiescent();
    });
}

#[test]
fn the_current_token_is_that_of_one_item() {
    within(SOON, || {
        let stage = (0..100).par_map_by_key(
            3,
            |&i| i % 5,
            |_: u64| {
                let token = CancelToken::current();
                let was = token.is_cancelled();
                token.cancel();
                !was && CancelToken::current().is_cancelled()
            },
        );
        let all: Vec<bool> = stage.collect();
        assert_eq!(all, [true; 100]);
    });
}

// ---- ends and hints

/// Not even an item that a worker has already taken.
#[test]
fn after_a_panic_nothing_of_that_key_is_started() {
    for n in 1..=3 {
        for round in 0..30_u64 {
            within(SOON, move || {
                let behind = Counter::new();
                let last = 500 + mix(round) % 500;
                let mut stage = (0..5_000).par_map_by_key(n, |_| (), {
                    let behind = behind.clone();
                    move |i| {
                        if i > last {
                            behind.add();
                        }
                        if i == last { bang(i) } else { i }
                    }
                });
                assert!(stage.by_ref().take(last as usize).eq(0..last));
                assert_eq!(caught(|| stage.next()), Err(last));
                drop(stage);
                assert_eq!(behind.get(), 0);
            });
        }
    }
}

#[test]
fn the_consumers_thread_runs_nothing() {
    for n in 1..=4 {
        within(SOON, move || {
            let here = std::thread::current().id();
            let elsewhere = move |_| std::thread::current().id() != here;
            let stage = (0..200).par_map_by_key(n, |&i| i % 3, elsewhere);
            assert!(stage.all(|elsewhere| elsewhere));
        });
    }
}

#[test]
fn the_hint_is_exact_once_the_end_is_known() {
    let (gate, pulled) = (Gate::new(), Counter::new());
    let wait = gate.clone();
    let source = counted(0..20, &pulled).filter(|i| i % 2 == 0);
    let mut stage = source.par_map_by_key(
        2,
        |&i| i,
        move |i: u64| {
            if i > 0 {
                wait.wait();
            }
        },
    );
    let _open = gate.opener();
    assert_eq!(stage.size_hint(), (0, Some(20)));
    assert!(stage.next().is_some());
    // once the end is known, so is the number
    eventually("the end is seen", || stage.size_hint() == (9, Some(9)));
    gate.open();
    assert_eq!(stage.by_ref().count(), 9);
    assert_eq!(stage.size_hint(), (0, Some(0)));
}

// ---- threads

/// Including workers that sleep because the source, which one of them waits for, has not ended yet.
#[test]
fn workers_leave_when_the_source_has_ended() {
    for n in 2..=9 {
        within(SOON, move || {
            let pool = Pool::builder().idle_time(Duration::ZERO).build();
            let (gate, meter) = (Gate::new(), Meter::new());
            let _opener = gate.opener();
            let mut stage = (0..n)
                .chain(blocks(&gate))
                .par_map_by_key(n, |&i| i, move |_| meter.meet(n))
                .on(&pool);
            assert!(stage.next().is_some());
            settle();
            assert!(pool.threads() >= n);
            gate.open();
            eventually("the threads leave", || pool.threads() == 0);
            assert_eq!(stage.count(), n - 1);
        });
    }
}

#[test]
fn without_any_thread_local_and_nested_stages_work() {
    for n in [1, 4] {
        within(SOON, move || {
            let none = barren();
            let local = (0..50)
                .local()
                .par_map_by_key(n, |&i| i, |i: u64| i)
                .on(&none);
            assert_eq!(local.count(), 50);
            let inner = none.clone();
            let nested = (0..10).par_map_by_key(
                n,
                |&i| i % 2,
                move |i: u64| {
                    (0..i)
                        .par_map_by_key(n, |&j| j, |j| j)
                        .on(&inner)
                        .sum::<u64>()
                },
            );
            assert_eq!(nested.on(&none).sum::<u64>(), 120);
            assert_eq!(none.threads(), 0);
            fanfold::testing::assert_quiescent();
        });
    }
}

#[test]
fn a_keyed_stage_chains_with_other_stages_and_with_itself() {
    for n in 1..=9 {
        within(SOON, move || {
            let chain = (0..300)
                .par_map_ordered(n, |i: u64| i + 1)
                .par_map_by_key(n, |i| i % 7, |i| i * 2)
                .readahead(4)
                .par_map_by_key(n, |i| i % 5, |i| i + 1)
                .par_map_unordered(n, |i| i);
            let results: BTreeSet<u64> = chain.collect();
            assert_eq!(results, (0..300).map(|i| (i + 1) * 2 + 1).collect());
            fanfold::testing::assert_quiescent();
        });
    }
}

#[test]
fn a_keyed_stage_nests_inside_its_own_closure() {
    for n in 1..=4 {
        within(SOON, move || {
            let nested = (0..20).par_map_by_key(
                n,
                |&i| i % 4,
                move |i: u64| (0..i).par_map_by_key(n, |&j| j % 2, |j| j).sum::<u64>(),
            );
            let total: u64 = (0..20).map(|i: u64| (0..i).sum::<u64>()).sum();
            assert_eq!(nested.sum::<u64>(), total);
            fanfold::testing::assert_quiescent();
        });
    }
}

#[test]
fn the_end_of_a_stage_ends_a_keyed_one_in_its_source() {
    for dropped in [true, false] {
        within(SOON, move || {
            let (gate, token) = (Gate::new(), CancelToken::new());
            // its source blocks until the end of the outer stage reaches it
            let source = (0..1_u64).chain(listens());
            let inner = source.par_map_by_key(2, |&i| i, |i| i);
            let mut outer = inner.par_map_ordered(2, |i| i).cancel_on(&token);
            assert_eq!(outer.next(), Some(0));
            if !dropped {
                token.cancel();
                assert_eq!(outer.next(), None);
            }
            drop(outer);
            gate.open();
            fanfold::testing::assert_quiescent();
        });
    }
}

#[test]
fn the_end_of_a_keyed_stage_ends_a_stage_in_its_source() {
    within(SOON, || {
        let (gate, begun) = (Gate::new(), Counter::new());
        let inner = {
            let (gate, begun) = (gate.clone(), begun.clone());
            (0_u64..).par_map_ordered(2, move |i| {
                if i == 1 {
                    begun.add();
                    CancelToken::current().wait();
                    gate.open();
                }
                i
            })
        };
        let mut stage = inner.par_map_by_key(2, |&i| i, |i| i);
        assert_eq!(stage.next(), Some(0));
        begun.wait_for(1);
        drop(stage);
        assert!(gate.is_open());
        fanfold::testing::assert_quiescent();
    });
}

// ---- borrowed and local parts

#[test]
fn borrowed_parts_go_through_a_scope_or_a_terminal_call() {
    let words = ["to", "be", "or", "not"].map(String::from);
    let suffix = String::from("!");
    let stage = || {
        words
            .iter()
            .par_map_by_key(2, |word| word.len(), |word| word.len() + suffix.len())
    };
    let mut lengths: Vec<usize> = stage().collect();
    lengths.sort_unstable();
    assert_eq!(lengths, [3, 3, 3, 4]);
    let (mut seen, mut tried) = (0, 0);
    stage().for_each(|length| seen += length);
    assert_eq!(
        (seen, stage().count(), stage().fold(0, |a, b| a + b)),
        (13, 4, 13)
    );
    let result = stage().try_for_each(|length| {
        tried += 1;
        if length == 4 { Err(length) } else { Ok(()) }
    });
    assert_eq!((result, tried > 0), (Err(4), true));
    fanfold::scope(|s| {
        let mut within = stage().within(s);
        assert_eq!(within.size_hint(), (4, Some(4)));
        assert!(within.next().is_some());
        let next = within.par_map_ordered(2, |length| length).within(s);
        assert_eq!(next.count(), 3);
        let endless = || words.iter().cycle();
        std::mem::forget(
            endless()
                .par_map_by_key(2, |word| word.len(), |word| word)
                .within(s),
        );
        let mut forgotten = endless()
            .par_map_by_key(2, |word| word.len(), |word| word)
            .within(s);
        assert!(forgotten.next().is_some());
        std::mem::forget(forgotten);
    });
    fanfold::testing::assert_quiescent();
}

#[test]
fn a_borrowing_stage_can_be_the_source_of_a_keyed_one() {
    let words = ["to", "be", "or", "not"].map(String::from);
    let chain = words
        .iter()
        .par_filter(2, |word| word.contains('o'))
        .par_map_by_key(2, |word| word.len(), |word| word.as_str());
    let mut with_o: Vec<&str> = chain.collect();
    with_o.sort_unstable();
    assert_eq!(with_o, ["not", "or", "to"]);
    fanfold::testing::assert_quiescent();
}

#[test]
fn a_local_source_is_pulled_by_the_consumer_within_the_bound() {
    for n in 1..=9 {
        within(SOON, move || {
            let (me, pulled) = (std::thread::current().id(), Rc::new(AtomicUsize::new(0)));
            let count = Rc::clone(&pulled);
            let source = (0..200).inspect(move |_| {
                assert_eq!(std::thread::current().id(), me);
                count.fetch_add(1, Ordering::Relaxed);
            });
            let stage = source.local().par_map_by_key(n, |&i| i % 5, |i: u64| i);
            let mut results = Vec::new();
            for i in stage.in_flight(20) {
                results.push(i);
                assert!(pulled.load(Ordering::Relaxed) <= results.len() + 20);
            }
            let all: Vec<u64> = (0..200).collect();
            assert_eq!(by_key(&results, |i| i % 5), by_key(&all, |i| i % 5));
            fanfold::testing::assert_quiescent();
        });
    }
}

#[test]
fn a_local_source_may_panic_and_be_cancelled() {
    within(SOON, || {
        let mut stage = panics_at(7, &Counter::new())
            .local()
            .par_map_by_key(2, |&i| i, |i| i);
        let mut seen = BTreeSet::new();
        assert_eq!(caught(|| seen.extend(stage.by_ref())), Err(7));
        assert_eq!(seen, (0..7).collect());
        assert_eq!(stage.next(), None);
        let token = CancelToken::new();
        let source = (0..).inspect({
            let token = token.clone();
            move |&i| {
                if i == 30 {
                    token.cancel();
                }
            }
        });
        let stage = source.local().par_map_by_key(2, |&i| i % 3, |i: u64| i);
        assert!(stage.cancel_on(&token).count() <= 30);
        fanfold::testing::assert_quiescent();
    });
}

// ---- isolated, fallible, with a state

#[test]
fn an_isolated_panic_stands_at_its_place_among_its_key() {
    for n in 1..=9 {
        within(SOON, move || {
            let f = |i: u64| if i % 7 == 0 { panic!("no {i}") } else { i };
            let stage = (0..300_u64).par_map_by_key(n, |i| i % 4, f).isolate();
            let mut keys: [Vec<u64>; 4] = [const { Vec::new() }; 4];
            for result in stage {
                let i = match result {
                    Ok(i) => i,
                    Err(failure) => {
                        assert_eq!(failure.message(), format!("no {}", failure.seq()));
                        assert_eq!(failure.seq() % 7, 0);
                        failure.seq()
                    }
                };
                keys[(i % 4) as usize].push(i);
            }
            for (key, got) in keys.iter().enumerate() {
                let want = (0..300_u64).filter(|i| i % 4 == key as u64);
                assert!(got.iter().copied().eq(want), "{key}: {got:?}");
            }
        });
    }
}

#[test]
fn a_source_panic_is_raised_even_if_the_stage_is_isolated() {
    within(SOON, || {
        let source = panics_at(50, &Counter::new());
        let mut stage = source.par_map_by_key(3, |i| i % 3, |i| i).isolate();
        let mut got = 0;
        let raised = caught(|| {
            for result in stage.by_ref() {
                assert!(result.is_ok());
                got += 1;
            }
        });
        assert!(raised.is_err());
        assert_eq!((got, stage.next().is_none()), (50, true));
    });
}

#[test]
fn the_first_error_of_a_key_is_the_last_output() {
    for n in 1..=9 {
        within(SOON, move || {
            let ran = Counter::new();
            let f = {
                let ran = ran.clone();
                move |i: u64| {
                    ran.add();
                    if i == 50 || i == 54 { Err(i) } else { Ok(i) }
                }
            };
            let mut stage = (0..).try_par_map_by_key(n, |i| i % 4, f).in_flight(20);
            let got: Vec<Result<u64, u64>> = stage.by_ref().collect();
            let (last, done) = got.split_last().expect("an error");
            assert_eq!(*last, Err(50), "54 comes after 50");
            let done: Vec<u64> = done.iter().map(|ok| ok.expect("no other")).collect();
            for (key, values) in by_key(&done, |i| i % 4) {
                let all = (0..).filter(|i| i % 4 == key);
                assert!(all.zip(&values).all(|(a, b)| a == *b), "{values:?}");
            }
            assert_eq!(stage.next(), None);
            assert!(!stage.is_cut_short(), "no token cut it short");
            drop(stage);
            let yielded = got.len();
            assert!(ran.get() <= yielded + 20, "{} of {yielded}", ran.get());
        });
    }
}

#[test]
fn results_of_a_key_before_its_error_come_first() {
    within(SOON, || {
        for n in 1..=5 {
            let stage =
                (0..64_u64).try_par_map_by_key(n, |_| 0, |i| if i < 40 { Ok(i) } else { Err(i) });
            let got: Vec<_> = stage.collect();
            assert!(got.iter().take(40).copied().eq((0..40).map(Ok)), "{got:?}");
            assert_eq!(got[40..], [Err(40)]);
        }
    });
}

#[test]
fn there_are_n_states_at_most_and_each_is_dropped() {
    for n in 1..=9 {
        within(SOON, move || {
            let states = Ledger::new();
            let init = {
                let (states, made) = (states.clone(), AtomicUsize::new(0));
                // not `Send`
                move || Rc::new(states.track(made.fetch_add(1, Ordering::Relaxed) as u64))
            };
            let f = |state: &mut Rc<_>, i: u64| {
                spin(Duration::from_micros(10));
                (Rc::strong_count(state), i)
            };
            let stage = (0..500_u64).par_map_by_key_init(n, |i| i % 16, init, f);
            let mut got: Vec<_> = stage.map(|(one, i)| (assert_eq!(one, 1), i).1).collect();
            got.sort_unstable();
            assert!(got.into_iter().eq(0..500));
            assert!((1..=n).contains(&states.created()), "{states:?}");
            states.assert_dropped_once();
        });
    }
}

#[test]
fn with_states_n_closures_run_and_all_items_come_out() {
    for n in 1..=4 {
        within(SOON, move || {
            let (gate, running) = (Gate::new(), Counter::new());
            let f = {
                let (gate, running) = (gate.clone(), running.clone());
                move |(): &mut (), i: usize| {
                    running.add();
                    gate.wait();
                    i
                }
            };
            let mut stage = (0..40).par_map_by_key_init(n, |i| *i, || (), f);
            let opener = gate.opener();
            let waiter = std::thread::spawn(move || stage.by_ref().count());
            running.wait_for(n);
            settle();
            assert_eq!(running.get(), n);
            drop(opener);
            assert_eq!(waiter.join().ok(), Some(40));
        });
    }
}

#[test]
fn a_panic_of_init_counts_as_a_panic_of_the_item() {
    within(SOON, || {
        let tries = AtomicUsize::new(0);
        let init = || assert!(tries.fetch_add(1, Ordering::Relaxed) > 1, "not yet");
        let stage = (0..20_u64).par_map_by_key_init(1, |i| *i, init, |(), i| i);
        let results: Vec<_> = stage.isolate().collect();
        assert_eq!(results.len(), 20);
        let failed: Vec<u64> = results
            .iter()
            .filter_map(|r| Some(r.as_ref().err()?.seq()))
            .collect();
        assert_eq!(
            failed,
            [0, 1],
            "each item tries anew until there is a state"
        );
    });
}

// ---- a wait with a limit

#[test]
fn a_result_that_is_not_ready_in_time_is_late_and_not_lost() {
    const SHORT: Duration = Duration::from_millis(5);
    for n in 1..=9 {
        within(SOON, move || {
            let (gate, source) = (Gate::new(), Gate::new());
            let f = {
                let gate = gate.clone();
                move |i: u64| {
                    if i == 3 {
                        gate.wait();
                    }
                    i
                }
            };
            let items = (0..10).chain(blocks(&source));
            let mut stage = items.par_map_by_key(n, |i| i % 2, f);
            let _openers = (gate.opener(), source.opener());
            let mut got = Vec::new();
            while let Ok(output) = stage.next_within(10 * SHORT) {
                got.extend(output);
            }
            let late = stage.next_within(SHORT).unwrap_err();
            assert_eq!(late.seq(), None);
            assert!(got.contains(&0) && !got.contains(&3), "{got:?}");
            gate.open();
            while got.len() < 10 {
                got.extend(stage.next_within(SOON).expect("all are to come"));
            }
            got.sort_unstable();
            assert!(got.into_iter().eq(0..10));
            assert!(stage.next_within(SHORT).is_err(), "the source blocks");
        });
    }
}

/// First results flow. Then each closure waits until the consumer has the result of the one before it, though
/// tiny items are taken several at once. No nap ends the consumer's sleep, so one wake-up too few, or one that waits for
/// several results, is the end of both.
#[test]
fn an_eager_stage_yields_every_result() {
    const FLOW: u64 = 3_000;
    for n in 1..=4 {
        within(SOON, move || {
            let yielded = Counter::new();
            let seen = yielded.clone();
            let f = move |i| {
                if i >= FLOW {
                    seen.wait_for(i as usize);
                }
                i
            };
            let stage = (0..FLOW + 300).par_map_by_key(n, |_| (), f).eager();
            let results = stage.inspect(|_| {
                yielded.add();
            });
            assert!(results.eq(0..FLOW + 300));
        });
    }
}

#[test]
fn borrowing_stages_chain_through_a_keyed_stage() {
    within(SOON, || {
        let words = ["to", "be", "or", "not", "to", "be"].map(String::from);
        let chained = (words.iter())
            .par_map_ordered(2, |word| word.as_str())
            .par_map_by_key(2, |word| *word, |word| word.len())
            .par_filter(2, |len| *len == 2);
        assert_eq!(chained.count(), 5);
        let tried = (words.iter())
            .par_filter(2, |_| true)
            .try_par_map_by_key(2, |word| *word, |word| Ok::<_, ()>(word.len()))
            .par_map_ordered(2, Result::unwrap);
        assert_eq!(tried.sum::<usize>(), 13);
        let state = (words.iter()).par_filter(2, |_| true).par_map_by_key_init(
            2,
            |word| *word,
            || 1,
            |one, word| word.len() + *one,
        );
        assert_eq!(state.max(), Some(4));
        assert_eq!((0..7).par_map_by_key(2, |i| *i, |i| i).len(), 7);
    });
}

// ---- debug output

#[test]
fn debug_and_leak_report_describe_the_stage() {
    let mut stage = (0..3).par_map_by_key(2, |&i| i, |i: u64| i).named("rows");
    assert_eq!(
        format!("{stage:?}"),
        "Stage { operator: \"par_map_by_key\", name: Some(\"rows\"), state: \"idle\", .. }"
    );
    stage.next();
    let left = message(fanfold::testing::assert_quiescent);
    assert!(left.contains("rows"), "{left}");
}
