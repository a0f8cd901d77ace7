//! P8: stages chained, nested in closures, run inside rayon's pool never wait for one another's
//! threads.

use crate::kinds::{KINDS, Kind, With, each, items};
use crate::support::{Counter, Gate, Ledger, Meter, SOON, WIDTHS, dawdle, within};
use fanfold::{CancelToken, Fanfold, Pool, replica, testing::assert_quiescent};
use rayon::prelude::*;
use std::sync::Mutex;

#[test]
fn four_stages_chained() {
    for n in 1..=9 {
        let ours: Vec<u64> = within(SOON, move || {
            (0..500)
                .par_map_ordered(n, |i| {
                    dawdle(i);
                    i + 1
                })
                .par_filter(n, |i| i % 3 != 0)
                .par_flat_map(n, |i| [i, i])
                .par_map_ordered(n, |i| {
                    dawdle(!i);
                    i * 2
                })
                .collect()
        });
        let theirs = (1..=500).filter(|i| i % 3 != 0).flat_map(|i| [i * 2; 2]);
        assert!(ours.into_iter().eq(theirs), "n = {n}");
    }
}

#[test]
fn four_stages_chained_with_a_bound_of_one() {
    for n in WIDTHS {
        let ours: Vec<u64> = within(SOON, move || {
            (0..300)
                .par_map_ordered(n, |i| i + 1)
                .in_flight(1)
                .par_map_unordered(n, |i| i + 1)
                .in_flight(1)
                .par_filter(n, |i| i % 2 == 0)
                .in_flight(1)
                .par_map_ordered(n, |i| i + 1)
                .in_flight(1)
                .collect()
        });
        let theirs = (2..302).filter(|i| i % 2 == 0).map(|i| i + 1);
        assert!(ours.into_iter().eq(theirs), "n = {n}");
    }
}

#[test]
fn stages_chained_by_ordinary_adaptors() {
    for n in 1..=9 {
        let ours: Vec<(usize, u64)> = within(SOON, move || {
            (0..300_u64)
                .par_map_ordered(n, |i| i)
                .skip(3)
                .step_by(2)
                .par_filter(n, |i| i % 5 != 0)
                .chain((0..10).par_map_ordered(n, |i| i))
                .enumerate()
                .par_map_ordered(n, |(at, i)| (at, i))
                .take_while(|(at, _)| *at < 100)
                .collect()
        });
        let theirs = (3..300).step_by(2).filter(|i| i % 5 != 0).chain(0..10);
        assert!(ours.into_iter().eq(theirs.enumerate().take(100)), "n = {n}");
    }
}

/// Pulled items are run, even if the source blocks until they have been, and if the consumer, which was
/// just about to watch the source, stays away.
#[test]
fn a_source_and_a_consumer_that_wait_for_the_same_items() {
    const ITEMS: usize = 400;
    for (n, taken) in (1..=9).flat_map(|n| [0, 1, 40, 333].map(move |taken| (n, taken))) {
        within(SOON, move || {
            let done = Counter::new();
            let source = (0..ITEMS).inspect(|&i| done.wait_for(i - i % 50));
            fanfold::scope(|s| {
                let mut stage = source
                    .par_map_ordered(n, |i| {
                        done.add();
                        i
                    })
                    .in_flight(ITEMS)
                    .within(s);
                for i in 0..taken {
                    assert_eq!(stage.next(), Some(i));
                }
                if taken > 0 {
                    done.wait_for(ITEMS);
                }
                assert_eq!(stage.count(), ITEMS - taken);
            });
        });
    }
}

fn nested(depth: u32, n: usize) -> u64 {
    if depth == 0 {
        return 1;
    }
    (0..4)
        .par_map_ordered(n, move |i| {
            dawdle(i);
            nested(depth - 1, n)
        })
        .sum()
}

#[test]
fn stages_nested_three_deep_in_closures() {
    for n in 1..=5 {
        assert_eq!(within(SOON, move || nested(3, n)), 64);
    }
}

#[test]
fn a_nested_stage_whose_outer_workers_all_wait_for_it() {
    for n in 1..=9 {
        within(SOON, move || {
            let meter = Meter::new();
            let sum = (0..n as u64)
                .par_map_ordered(n, |_| {
                    // all outer workers are in here, and each needs threads for its own stage
                    meter.meet(n);
                    let inner = Meter::new();
                    (0..6)
                        .par_map_ordered(3, |i| {
                            inner.meet(3);
                            i
                        })
                        .sum::<u64>()
                })
                .sum::<u64>();
            assert_eq!(sum, 15 * n as u64);
        });
    }
}

#[test]
fn a_source_that_runs_a_stage() {
    for n in [1, 2] {
        within(SOON, move || {
            let source = (0..50_u64).map(move |i| (0..i).par_map_ordered(n, |j| j).sum::<u64>());
            let sum: u64 = source.par_map_ordered(n, |x| x).sum();
            assert_eq!(sum, (0..50).map(|i: u64| (0..i).sum::<u64>()).sum());
        });
    }
}

#[test]
fn inside_rayons_pool_200_at_once() {
    within(SOON, || {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build();
        let sums: Vec<u64> = pool.expect("a pool").install(|| {
            (0..200_u64)
                .into_par_iter()
                .map(|i| {
                    (0..20)
                        .par_map_ordered(2, move |j| {
                            dawdle(i ^ j);
                            j
                        })
                        .par_map_ordered(2, move |j| i + j)
                        .sum()
                })
                .collect()
        });
        assert!(sums.into_iter().eq((0..200).map(|i| 20 * i + 190)));
    });
}

#[test]
fn rayon_inside_a_closure() {
    within(SOON, || {
        let sums = (0..50_u64).par_map_ordered(4, |i| (0..i).into_par_iter().sum::<u64>());
        assert_eq!(
            sums.sum::<u64>(),
            (0..50).map(|i: u64| (0..i).sum::<u64>()).sum()
        );
    });
}

#[test]
fn two_hundred_stages_at_once() {
    within(SOON, || {
        let (alive, gate) = (Meter::new(), Gate::new());
        // each stage has a running closure before any may go on
        let threads: Vec<_> = (0..200_u64)
            .map(|i| {
                let (alive, gate) = (alive.clone(), gate.clone());
                std::thread::spawn(move || {
                    (0..8)
                        .par_map_ordered(2, move |j| {
                            if j == 0 {
                                let _entered = alive.enter();
                                gate.wait();
                            }
                            i + j
                        })
                        .sum::<u64>()
                })
            })
            .collect();
        alive.wait_for(200);
        gate.open();
        for (i, thread) in (0..).zip(threads) {
            assert_eq!(thread.join().expect("no panic"), 8 * i + 28);
        }
    });
}

/// A waiting thread that ran another stage's item would deadlock on its own lock.
#[test]
fn a_lock_may_be_held_around_a_nested_stage() {
    for n in 1..=5 {
        within(SOON, move || {
            let total = Mutex::new(0);
            (0..40_u64)
                .par_map_ordered(n, |i| {
                    let mut total = total.lock().expect("not poisoned");
                    *total += (0..10)
                        .par_map_ordered(n, |j| {
                            dawdle(i ^ j);
                            j
                        })
                        .sum::<u64>();
                })
                .for_each(drop);
            assert_eq!(total.into_inner().expect("not poisoned"), 40 * 45);
        });
    }
}

#[test]
fn a_thread_that_waits_in_a_nested_stage_runs_no_outer_item() {
    use std::cell::Cell;
    thread_local!(static INSIDE: Cell<bool> = const { Cell::new(false) });
    for n in 1..=5 {
        within(SOON, move || {
            let sum: u64 = (0..30_u64)
                .par_map_ordered(n, |_| {
                    assert!(!INSIDE.replace(true), "an item inside of another one");
                    let sum = (0..10).par_map_ordered(n, |j| j).sum::<u64>();
                    INSIDE.set(false);
                    sum
                })
                .sum();
            assert_eq!(sum, 30 * 45);
        });
    }
}

#[test]
fn closures_may_pull_from_another_stage() {
    for n in 1..=5 {
        within(SOON, move || {
            let inner = Mutex::new((0..200_u64).par_map_ordered(n, |i| i));
            let mut got: Vec<u64> = (0..100)
                .par_map_ordered(n, |_| {
                    let mut inner = inner.lock().expect("not poisoned");
                    inner.next().expect("an item")
                })
                .collect();
            got.sort_unstable();
            assert!(got.into_iter().eq(0..100));
        });
    }
}

#[test]
fn closures_may_drop_another_stage() {
    for n in 1..=5 {
        within(SOON, move || {
            let count = (0..50)
                .par_map_ordered(n, move |_| {
                    let mut stage = (0..).par_map_ordered(n, |i| i);
                    assert_eq!(stage.next(), Some(0));
                })
                .count();
            assert_eq!(count, 50);
        });
    }
}

#[test]
fn a_stage_moves_into_a_closure_and_out_of_it() {
    within(SOON, || {
        let stages = (0..20_u64).map(|i| (0..50_u64).par_map_ordered(2, move |j| i + j));
        let begun = stages.par_map_ordered(3, |mut stage| (stage.next(), stage));
        let sum: u64 = begun
            .map(|(first, stage)| first.expect("an item") + stage.sum::<u64>())
            .sum();
        assert_eq!(sum, (0..20).map(|i| 50 * i + 1_225).sum());
    });
}

#[test]
fn many_threads_with_many_stages_each() {
    within(SOON, || {
        std::thread::scope(|s| {
            for t in 0..8_u64 {
                s.spawn(move || {
                    for run in 0..100 {
                        let sum: u64 = (0..30)
                            .par_map_ordered(1 + (run % 4) as usize, move |i| {
                                dawdle(t << 20 ^ run << 8 ^ i);
                                i
                            })
                            .sum();
                        assert_eq!(sum, 435);
                    }
                });
            }
        });
    });
}

/// The nested stage of a dropped stage ends by itself if its closures check their token.
#[test]
fn a_drop_with_nested_stages_at_work() {
    for n in 1..=5 {
        within(SOON, move || {
            let started = Counter::new();
            let mut stage = (0..).par_map_ordered(n, {
                let started = started.clone();
                move |i: u64| {
                    if i == 0 {
                        return 0;
                    }
                    started.add();
                    let token = CancelToken::current();
                    (0..)
                        .par_map_ordered(2, |j: u64| j)
                        .take_while(|_| !token.is_cancelled())
                        .fold(0, |sum, j| sum ^ j)
                }
            });
            assert_eq!(stage.next(), Some(0));
            started.wait_for(n);
            drop(stage);
        });
    }
}

// ---- pools with a limit

/// Each width with each of these limits.
fn widths_and_limits() -> impl Iterator<Item = (usize, usize)> {
    (1..=9).flat_map(|n| [1, 2, 3, 5, 9].map(|k| (n, k)))
}

/// All threads of the pool may be in the outer stage's closures, so that the inner ones get none.
#[test]
fn every_kind_within_closures_on_a_pool_of_few_threads() {
    each(KINDS, widths_and_limits(), |kind: &Kind, (n, k)| {
        let pool = Pool::builder().max_threads(k).build();
        let inner = |outer: u64| {
            let ledger = Ledger::new();
            let with = With::n(n).pool(&pool).work(|item| dawdle(item.id));
            let source = items(0..30, &ledger).inspect(move |item| dawdle(outer << 8 ^ item.id));
            let stage = kind.build(Box::new(source), &with);
            let ids: Vec<u64> = stage.map(|item| item.id).collect();
            kind.assert_all(&ids, 30);
            ledger.assert_dropped_once();
            assert!(pool.threads() <= k);
            outer
        };
        let outer: Vec<u64> = (0..8).par_map_ordered(n, inner).on(&pool).collect();
        assert!(outer.into_iter().eq(0..8));
        let keyed = (0..8).par_map_by_key(n, |outer| outer % 3, inner);
        assert_eq!(keyed.on(&pool).sum::<u64>(), 28);
        assert_quiescent();
    });
}

/// The worker in the source is the inner stage's consumer.
#[test]
fn chains_on_a_pool_of_few_threads() {
    for (n, k) in widths_and_limits() {
        within(SOON, move || {
            let pool = Pool::builder().max_threads(k).build();
            let chain = (0..200_u64)
                .par_map_ordered(n, |i| i + 1)
                .on(&pool)
                .par_map_by_key(n, |i| i % 5, |i| i)
                .on(&pool)
                .readahead(4)
                .on(&pool)
                .window(3)
                .max_age(SOON)
                .on(&pool)
                .par_flat_map(n, |window| window)
                .on(&pool);
            assert_eq!(chain.sum::<u64>(), 20_100, "{n}, {k}");
            assert!(pool.threads() <= k);
        });
    }
}

#[test]
fn stages_nested_three_deep_on_a_pool_of_few_threads() {
    fn nested(depth: u32, n: usize, pool: &Pool) -> u64 {
        if depth == 0 {
            return 1;
        }
        let inner = |i| {
            dawdle(i);
            nested(depth - 1, n, pool)
        };
        (0..4).par_map_ordered(n, inner).on(pool).sum()
    }
    for (n, k) in widths_and_limits() {
        within(SOON, move || {
            let pool = Pool::builder().max_threads(k).build();
            assert_eq!(nested(3, n, &pool), 64);
            assert!(pool.threads() <= k);
        });
    }
}

#[test]
fn sinks_and_replicas_on_a_pool_of_few_threads() {
    for (n, k) in widths_and_limits() {
        within(SOON, move || {
            let pool = Pool::builder().max_threads(k).build();
            let both = |i: u64| {
                let sums = (0..50).broadcast(3).buffer(1).on(&pool);
                let sums = sums.into_sinks(|_, reader| reader.sum::<u64>());
                assert_eq!(sums, [1_225; 3]);
                let replicas = [0, 1].map(|r| replica(move |_| Ok::<_, ()>(i + r)));
                let hedge = replicas.into_iter().hedge().on(&pool).wait_for_losers();
                hedge.run().expect("an answer") - i
            };
            let sum: u64 = (0..10).par_map_ordered(n, both).on(&pool).sum();
            assert!(sum <= 10 && pool.threads() <= k);
        });
    }
}

/// Several stages on threads of their own share one pool, and each of them may get no thread at all.
#[test]
fn many_consumers_on_a_pool_of_few_threads() {
    for k in 1..=5 {
        within(SOON, move || {
            let pool = Pool::builder().max_threads(k).build();
            std::thread::scope(|s| {
                for t in 0..6_u64 {
                    let pool = &pool;
                    s.spawn(move || {
                        for run in 0..60 {
                            let stage = (0..40).par_map_ordered(1 + (run % 5) as usize, move |i| {
                                dawdle(t << 20 ^ run << 8 ^ i);
                                i
                            });
                            assert_eq!(stage.on(pool).sum::<u64>(), 780);
                            assert!(pool.threads() <= k);
                        }
                    });
                }
            });
        });
    }
}
