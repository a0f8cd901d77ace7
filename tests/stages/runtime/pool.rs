//! The threads of a pool: how many there are, and what they are called.

use crate::support::{Counter, Gate, Meter, SOON, blocks, eventually, within};
use fanfold::{Fanfold, Pool, merge};
use std::sync::mpsc;
use std::thread::current;
use std::time::Duration;

fn name() -> String {
    current().name().expect("a thread of a pool").to_owned()
}

/// The names of so many threads of this pool.
fn names(pool: &Pool, threads: usize) -> Vec<String> {
    let meter = Meter::new();
    let stage = (0..threads).par_map_unordered(threads, move |_| {
        meter.meet(threads);
        name()
    });
    let mut names: Vec<_> = stage.on(pool).collect();
    names.sort();
    names
}

#[test]
fn the_index_comes_first_and_a_long_name_is_cut() {
    within(SOON, || {
        for (given, got) in [
            ("decode", "0-decode"),
            ("thumbnail-decoder", "0-thumbnail-dec"),
            ("thumbnails---of-images", "0-thumbnails"),
            ("exactly-13-by", "0-exactly-13-by"),
            ("exactly-14-byt", "0-exactly-14-by"),
            // a character of two bytes, of which one would fit
            ("twelve-bytesé", "0-twelve-bytes"),
            ("ééééééé", "0-éééééé"),
            ("日本語の名前です", "0-日本語の"),
            ("a\0b", "0-a?b"),
            ("", "0"),
            ("---", "0"),
        ] {
            let pool = Pool::builder().named(given).build();
            assert_eq!(names(&pool, 1), [got]);
        }
        let many = names(&Pool::builder().named("thumbnail-decoder").build(), 12);
        assert_eq!(
            many[..3],
            ["0-thumbnail-dec", "1-thumbnail-dec", "10-thumbnail-de"]
        );
    });
}

#[cfg(target_os = "linux")]
#[test]
fn the_kernel_keeps_the_whole_name() {
    within(SOON, || {
        let pool = Pool::builder().named("thumbnail-decoder").build();
        let stage = (0..1).par_map_ordered(1, |_| {
            let kept = std::fs::read_to_string("/proc/thread-self/comm").expect("Linux has it");
            (kept.trim_end().to_owned(), name())
        });
        let both: Vec<_> = stage.on(&pool).collect();
        assert_eq!(both[0].0, both[0].1);
    });
}

/// A thread takes the smallest index that none has.
#[test]
fn an_index_is_free_when_its_thread_has_left() {
    within(SOON, || {
        let pool = Pool::builder().idle_time(Duration::ZERO).build();
        for _ in 0..20 {
            let held = Gate::new();
            let mut stage = (0..3)
                .par_map_unordered(3, {
                    let (held, meter) = (held.clone(), Meter::new());
                    move |i| {
                        meter.meet(3);
                        if name() == "1-fanfold" {
                            held.wait();
                        }
                        i
                    }
                })
                .on(&pool);
            let _opener = held.opener();
            assert!(stage.next().is_some() && stage.next().is_some());
            eventually("two have left", || pool.threads() == 1);
            assert_eq!(names(&pool, 2), ["0-fanfold", "2-fanfold"]);
            held.open();
            drop(stage);
            eventually("all have left", || pool.threads() == 0);
        }
    });
}

// ---- the limit

/// A thread idles before its stage has ended, so the next stage gets it, and all `k` of them.
#[test]
fn stages_one_after_another_get_all_threads() {
    for k in 1..=9 {
        within(SOON, move || {
            let pool = Pool::builder().max_threads(k).build();
            for _ in 0..200 {
                let meter = Meter::new();
                let stage = (0..k).par_map_ordered(k, move |i| {
                    meter.meet(k); // is stuck if one of them is refused
                    i
                });
                assert!(stage.on(&pool).eq(0..k));
                assert_eq!(pool.threads(), k);
            }
        });
    }
}

#[test]
fn never_more_threads_than_allowed_and_as_many_as_there_are() {
    for (n, k) in (1..=9).flat_map(|n| (1..=9).map(move |k| (n, k))) {
        within(SOON, move || {
            let pool = Pool::builder().max_threads(k).build();
            let (meter, most) = (Meter::new(), Meter::new());
            let stage = (0..200).par_map_ordered(n, {
                let (meter, pool) = (meter.clone(), pool.clone());
                move |i| {
                    meter.meet(n.min(k));
                    let _entered = most.enter();
                    assert!(pool.threads() <= k && most.most() <= n.min(k));
                    i
                }
            });
            assert!(stage.on(&pool).eq(0..200), "{n}, {k}");
            assert!(meter.most() == n.min(k));
        });
    }
}

/// What a thread has pulled is run although it is in a source that blocks until then, and although no other thread can
/// be had to take it over.
#[test]
fn a_source_that_waits_for_results_gets_them() {
    for (n, k) in (1..=9).flat_map(|n| [1, 2, 3, 9].map(move |k| (n, k))) {
        within(SOON, move || {
            let pool = Pool::builder().max_threads(k).build();
            let done = Counter::new();
            let source = (0..300).inspect({
                let done = done.clone();
                move |&i| done.wait_for(i - i % 7)
            });
            let stage = source.par_map_ordered(n, move |i| {
                done.add();
                i
            });
            assert!(stage.on(&pool).eq(0..300), "{n}, {k}");
        });
    }
}

/// The same where the consumer has the source, with a thread for the closures and without.
#[test]
fn a_local_source_that_waits_for_results_gets_them() {
    for (n, free) in (1..=9).flat_map(|n| [false, true].map(|free| (n, free))) {
        within(SOON, move || {
            let pool = Pool::builder().max_threads(1).build();
            let gate = Gate::new();
            let mut other = blocks::<u64>(&gate).readahead(1).on(&pool);
            let _opener = gate.opener();
            if !free {
                assert!(other.next_within(Duration::from_millis(1)).is_err());
            }
            let done = Counter::new();
            let source = (0..300).inspect({
                let done = done.clone();
                move |&i| done.wait_for(i - i % 7)
            });
            let stage = source.local().par_map_ordered(n, move |i| {
                done.add();
                i
            });
            assert!(stage.on(&pool).eq(0..300), "{n}, {free}");
        });
    }
}

/// The consumer sends the next items when it has the results of the last.
#[test]
fn a_consumer_that_feeds_the_source_is_not_stuck() {
    for (n, k) in (1..=9).flat_map(|n| [1, 2, 3, 9].map(move |k| (n, k))) {
        within(SOON, move || {
            let pool = Pool::builder().max_threads(k).build();
            let (send, items) = mpsc::channel();
            let mut stage = items.into_iter().par_map_ordered(n, |i: usize| i).on(&pool);
            for round in 0..300 {
                let many = 1 + round % 60;
                (0..many).for_each(|i| send.send(i).expect("the stage pulls"));
                for i in 0..many {
                    assert_eq!(stage.next(), Some(i), "{n}, {k}");
                }
            }
            drop(send);
            assert_eq!(stage.next(), None);
        });
    }
}

/// Sources that need no other one's items: its threads go from one to the next.
#[test]
fn a_merge_with_fewer_threads_than_sources() {
    for k in 1..=9 {
        within(SOON, move || {
            let pool = Pool::builder().max_threads(k).build();
            let merged = merge((0..20).map(|i| i * 100..i * 100 + 50)).on(&pool);
            let mut all: Vec<usize> = merged.collect();
            all.sort_unstable();
            assert!(
                all.into_iter()
                    .eq((0..20).flat_map(|i| i * 100..i * 100 + 50))
            );
            assert!((1..=k).contains(&pool.threads()));
        });
    }
}
