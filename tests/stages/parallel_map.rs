//! `parallel_map`: the errgroup loop in one call.

use crate::support::{Counter, Ledger, Meter, SOON, bang, caught, dawdle, mix, within};
use fanfold::{CancelToken, Workers, parallel_map, parallel_map_with};
use std::collections::{BTreeMap, HashSet};
use std::error::Error;

#[test]
fn all_results_in_the_order_of_the_items() {
    for n in 1..=9 {
        let doubled = within(SOON, move || {
            parallel_map(0..500_u64, n, |i| {
                dawdle(i);
                Ok::<_, ()>(i * 2)
            })
        });
        assert_eq!(doubled, Ok((0..500).map(|i| i * 2).collect()));
    }
}

#[test]
fn items_and_closures_may_be_borrowed() {
    let docs: Vec<String> = (0..20).map(|i| format!("d{i}")).collect();
    let prefix = String::from("d");
    let number = |d: &String| d.strip_prefix(&prefix).ok_or("no d").map(str::len);
    assert_eq!(
        parallel_map(&docs, 4, number).map(|lens| lens.len()),
        Ok(20)
    );
    assert_eq!(
        parallel_map(docs.iter().rev(), 4, number).map(|lens| lens[0]),
        Ok(2)
    );
    assert_eq!(parallel_map(&docs[..0], 4, number), Ok(Vec::new()));
    let ages = BTreeMap::from([("a", 1), ("b", 2)]);
    let pairs = parallel_map(&ages, Workers::cpus(), |(name, age)| {
        Ok::<_, ()>((*name, *age + 1))
    });
    assert_eq!(pairs, Ok(vec![("a", 2), ("b", 3)]));
    let mut numbers = [1, 2, 3];
    let doubled = parallel_map(&mut numbers, 2, |x| {
        *x *= 2;
        Ok::<_, ()>(*x)
    });
    assert_eq!((doubled, numbers), (Ok(vec![2, 4, 6]), [2, 4, 6]));
    assert_eq!(
        parallel_map(docs, 2, |d| Ok::<_, ()>(d.len())).map(|lens| lens.len()),
        Ok(20)
    );
}

#[test]
fn the_first_error_by_index() {
    for run in 0..300_u64 {
        let n = 1 + (run % 9) as usize;
        let bad = |i: u64| mix(run << 8 ^ i) % 10 == 0;
        let ours = parallel_map(0..60, n, |i| {
            dawdle(run << 16 ^ i);
            if bad(i) { Err(i) } else { Ok(i) }
        });
        let theirs = (0..60)
            .map(|i| if bad(i) { Err(i) } else { Ok(i) })
            .collect();
        assert_eq!(ours, theirs, "run {run}");
    }
}

#[test]
fn an_endless_source_ends_with_the_error() {
    let failed = within(SOON, || {
        parallel_map(0.., 4, |i| if i == 99 { Err(i) } else { Ok(i) })
    });
    assert_eq!(failed, Err(99));
}

#[test]
fn a_question_mark_goes_inside_and_outside() {
    fn lens(docs: &[&str]) -> Result<usize, Box<dyn Error + Send + Sync>> {
        let parsed = parallel_map(docs, 4, |d| -> Result<u8, Box<dyn Error + Send + Sync>> {
            Ok(d.strip_prefix('d').ok_or("no d")?.parse::<u8>()?)
        })?;
        Ok(parsed.len())
    }
    assert_eq!(lens(&["d1", "d2"]).ok(), Some(2));
    assert_eq!(lens(&["d1", "2", "dx"]).unwrap_err().to_string(), "no d");
    let bad = lens(&["d1", "dx", "2"]).unwrap_err();
    assert!(bad.is::<std::num::ParseIntError>());
}

#[test]
fn n_at_once() {
    for n in 1..=9 {
        within(SOON, move || {
            let meter = Meter::new();
            let all = parallel_map(0..n * 3, n, |i| {
                meter.meet(n);
                Ok::<_, ()>(i)
            });
            assert_eq!(all.map(|all| all.len()), Ok(n * 3));
            assert_eq!(meter.most(), n);
        });
    }
}

#[test]
fn the_calling_thread_is_one_of_the_n() {
    let here = std::thread::current().id();
    for n in 1..=9 {
        let meter = Meter::new();
        let threads = parallel_map(0..n * 3, n, |_| {
            meter.meet(n);
            Ok::<_, ()>(std::thread::current().id())
        });
        let threads: HashSet<_> = threads.into_iter().flatten().collect();
        assert!(threads.contains(&here));
        // A single worker may get help while it is held up in the source, but two never run at once.
        assert!(threads.len() == n || n == 1 && threads.len() == 2);
        assert_eq!(meter.most(), n);
    }
}

#[test]
fn one_long_item_holds_up_no_others() {
    for n in 2..=9 {
        within(SOON, move || {
            let done = Counter::new();
            // The thread with the first item, the caller or not, waits for all others.
            let all = parallel_map(0..1_000, n, |i| {
                if i == 0 {
                    done.wait_for(999);
                } else {
                    done.add();
                }
                Ok::<_, ()>(i)
            });
            assert_eq!(all.map(|all| all.len()), Ok(1_000));
        });
    }
}

/// Pulled items are run, even if the thread that pulled them gets stuck in the source.
#[test]
fn a_source_that_waits_for_its_items() {
    for n in 1..=9 {
        within(SOON, move || {
            let done = Counter::new();
            let source = (0..500).inspect(|&i| done.wait_for(i - i % 50));
            let all = parallel_map(source, n, |i| {
                done.add();
                Ok::<_, ()>(i)
            });
            assert_eq!(all.map(|all| all.len()), Ok(500));
        });
    }
}

#[test]
fn panics_arrive_and_are_ranked_with_the_errors() {
    for n in 1..=9 {
        within(SOON, move || {
            let run = |panic: u64, error: u64| {
                caught(|| {
                    parallel_map(0..40_u64, n, |i| {
                        dawdle(i);
                        if i == panic {
                            bang(i);
                        }
                        if i == error { Err(i) } else { Ok(i) }
                    })
                })
            };
            assert_eq!(run(7, 99), Err(7));
            assert_eq!(run(7, 9), Err(7));
            assert_eq!(run(9, 7), Ok(Err(7)));
        });
    }
}

#[test]
fn nothing_is_left_over() {
    for (n, bad) in (1..=9).flat_map(|n| [0, 5, 59, 100].map(move |bad| (n, bad))) {
        within(SOON, move || {
            let (items, results) = (Ledger::new(), Ledger::new());
            let source = (0..60_u64).map(|i| items.track(i));
            let all = parallel_map(source, n, |item| {
                dawdle(item.id);
                if item.id == bad {
                    return Err(results.track(item.id));
                }
                Ok(results.track(item.id))
            });
            assert_eq!(all.is_ok(), bad == 100);
            drop(all);
            items.assert_dropped_once();
            results.assert_dropped_once();
            fanfold::testing::assert_quiescent();
        });
    }
}

#[test]
fn under_a_token_that_is_live_it_is_the_same() {
    #[derive(Debug, PartialEq, Eq)]
    struct Failed(Option<u64>);
    impl From<fanfold::Cancelled> for Failed {
        fn from(_: fanfold::Cancelled) -> Self {
            Failed(None)
        }
    }
    let (token, docs) = (CancelToken::new(), [3_u64, 1, 2]);
    let plus = 1;
    let all = parallel_map_with(&token, &docs, 2, |x| Ok::<_, Failed>(x + plus));
    assert_eq!(all, Ok(vec![4, 2, 3]));
    let f = |x: &u64| {
        if *x < 3 {
            Err(Failed(Some(*x)))
        } else {
            Ok(*x)
        }
    };
    assert_eq!(parallel_map_with(&token, &docs, 2, f), Err(Failed(Some(1))));
    token.cancel();
    let ran = Counter::new();
    let none = parallel_map_with(&token, &docs, 2, |_| Ok::<_, Failed>(ran.add()));
    assert_eq!((none, ran.get()), (Err(Failed(None)), 0));
}
