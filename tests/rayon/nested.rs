//! Inside of rayon, rayon inside, and either inside of fanfold: nothing waits for a thread that waits for it.

use crate::support::{SOON, barren, within};
use fanfold::testing::assert_quiescent;
use fanfold::{CancelToken, Fanfold, FromRayon, Pool, parallel_map};
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::process::{Command, Stdio};

fn pool(threads: usize) -> ThreadPool {
    ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .expect("threads for a small pool")
}

fn sum(len: usize) -> usize {
    let squares = || (0..len).into_par_iter().map(|x| x * x).ordered(2);
    let looped = squares().by_ref().sum::<usize>();
    assert_eq!(squares().sum::<usize>(), looped);
    looped
}

#[test]
fn in_a_pool_of_one_thread() {
    within(SOON, || {
        let pool = pool(1);
        assert_eq!(pool.install(|| sum(1_000)), 332_833_500);
        // Several at once, of which the pool can run one.
        let all = pool.install(|| {
            let all: Vec<usize> = (0..8_usize).into_par_iter().map(|_| sum(100)).collect();
            all
        });
        assert_eq!(all, [328_350; 8]);
    });
}

#[test]
fn in_a_scope_of_rayons() {
    within(SOON, || {
        for threads in [1, 2, 4] {
            let pool = pool(threads);
            let (mut a, mut b) = (0, 0);
            pool.scope(|s| {
                s.spawn(|_| a = sum(500));
                s.spawn(|_| b = sum(501));
            });
            assert_eq!(b - a, 500 * 500);
        }
    });
}

/// `skip` asks rayon to run what it skips; here the only thread there is waits for the results.
#[test]
fn skip_on_the_only_thread() {
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .env("RAYON_NUM_THREADS", "1")
        .args(["--exact", "nested::skips", "--ignored"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("a process");
    let ended = within(SOON, move || child.wait().expect("an end"));
    assert!(ended.success());
}

#[test]
#[ignore = "run by the test above, in a process of its own"]
fn skips() {
    assert_eq!(rayon::current_num_threads(), 1);
    within(SOON / 2, || {
        let looped = rayon::scope(|_| {
            let numbers = || (0..100_usize).into_par_iter().skip(3).ordered(2);
            let mut all = Vec::new();
            for x in numbers() {
                all.push(x);
            }
            assert_eq!(numbers().count(), all.len());
            all
        });
        assert!(looped.into_iter().eq(3..100));
        assert_quiescent();
    });
}

/// The closure uses rayon itself, in the pool whose only thread waits for the results.
#[test]
fn rayon_in_the_closure() {
    within(SOON, || {
        let run = || {
            let rows = (0..20_usize).into_par_iter();
            let rows = rows.map(|row| {
                (0..50_usize)
                    .into_par_iter()
                    .map(|x| x * row)
                    .sum::<usize>()
            });
            rows.ordered(2).collect::<Vec<_>>()
        };
        let expected: Vec<usize> = (0..20).map(|row| row * 1225).collect();
        assert_eq!(run(), expected);
        assert_eq!(pool(1).install(run), expected);
    });
}

#[test]
fn one_in_another() {
    within(SOON, || {
        let rows = (0..20_usize).into_par_iter().map(|row| {
            let row = (0..row).into_par_iter().map(|x| x + 1).ordered(2);
            row.filter(|x| x % 2 == 0).count()
        });
        let rows: Vec<usize> = rows.ordered(3).collect();
        assert!(rows.into_iter().eq((0..20).map(|row| row / 2)));
    });
}

#[test]
fn in_a_closure_of_fanfolds() {
    within(SOON, || {
        let rows: Vec<usize> = (0..30_usize).par_map_ordered(3, sum).collect();
        assert!(
            rows.into_iter()
                .eq((0..30).map(|n| (0..n).map(|x| x * x).sum()))
        );
        let both = parallel_map([10, 20], 2, |n| Ok::<usize, ()>(sum(n)));
        assert_eq!(both, Ok(vec![285, 2470]));
        assert_quiescent();
    });
}

/// What is started in a closure ends with the stage around it.
#[test]
fn the_end_of_the_outer_stage_is_heard() {
    within(SOON, || {
        let token = CancelToken::new();
        let cancels = token.clone();
        let mut outer = (0..4)
            .par_map_ordered(2, move |x| {
                if x == 1 {
                    let mut endless = (0..usize::MAX).into_par_iter().ordered(2);
                    assert_eq!(endless.next(), Some(0));
                    cancels.cancel();
                    endless.fold(0, |_, x| x)
                } else {
                    x
                }
            })
            .cancel_on(&token);
        let seen = outer.by_ref().count();
        assert!(seen < 4 && outer.is_cut_short());
        drop(outer);
        assert_quiescent();
    });
}

/// As the source of a stage that is dropped while it waits for a result.
#[test]
fn as_a_source_that_is_not_wanted_any_more() {
    within(SOON, || {
        for _ in 0..20 {
            let source = (0..usize::MAX).into_par_iter().ordered(2);
            let mut outer = source.par_map_ordered(2, |x| x);
            assert!(outer.by_ref().take(10).eq(0..10));
            drop(outer);
            assert_quiescent();
        }
    });
}

/// Lent to a stage, it goes on behind it, and nothing in between is lost.
#[test]
fn lent() {
    within(SOON, || {
        let mut numbers = (0..10_000_usize).into_par_iter().ordered(2);
        let first: Vec<usize> = numbers.by_ref().take(100).collect();
        assert!(first.into_iter().eq(0..100));
        let pulled = numbers.by_ref().par_map_ordered(2, |x| x).in_flight(1);
        let seen: Vec<usize> = pulled.scoped(|pulled| pulled.take(50).collect());
        assert!(seen.into_iter().eq(100..150));
        let next = numbers.next().unwrap();
        assert!((150..=151).contains(&next));
        assert!(numbers.eq(next + 1..10_000));
    });
}

/// Without any thread.
#[test]
fn no_thread_can_be_started() {
    within(SOON, || {
        let squares = || (0..1_000_usize).into_par_iter().map(|x| x * x).ordered(3);
        let expected: Vec<usize> = (0..1_000).map(|x| x * x).collect();
        assert_eq!(squares().on(&barren()).collect::<Vec<_>>(), expected);
        assert!(
            squares()
                .on(&barren())
                .in_flight(1)
                .eq(expected.iter().copied())
        );
        let sum = squares().on(&barren()).sum::<usize>();
        assert_eq!(sum, expected.iter().sum::<usize>());
        for most in 1..4 {
            let pool = Pool::builder().max_threads(most).build();
            assert!(squares().on(&pool).eq(expected.iter().copied()));
        }
        assert_quiescent();
    });
}
