//! One warning for each panic that a stage catches, with its place, in the span of that stage.

use crate::support::{Gate, SOON, payload, within};
use crate::tree::{Told, Tree};
use fanfold::{Fanfold, HedgePolicy, group, merge, parallel_map, replica};
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::panic::resume_unwind;
use std::time::Duration;
use tracing::Level;

/// A panic that prints nothing.
fn bad<T>(x: u64) -> T {
    resume_unwind(Box::new(format!("bad {x}")))
}

fn bad_at(k: u64) -> impl Fn(u64) -> u64 + Copy + Send + Sync {
    move |x| if x == k { bad(x) } else { x }
}

fn seq(told: &Told) -> Option<u64> {
    told.get("seq").parse().ok()
}

/// Runs it, and expects one panic that comes out, and one warning: in the span of this stage, and at this place.
fn check<T: Debug>(
    stage: &'static str,
    place: Option<u64>,
    run: impl Fn(usize) -> T + Clone + Send + 'static,
) {
    for n in 1..=9 {
        let run = run.clone();
        within(SOON, move || {
            for level in [Level::TRACE, Level::INFO] {
                let tree = Tree::up_to(level);
                let raised = payload(|| tree.run(|| run(n))).expect_err("it panics");
                let raised = raised.downcast_ref::<String>().expect("a text");
                let warnings = tree.warnings();
                assert_eq!(warnings.len(), 1, "{stage}, {n}: {warnings:?}");
                let told = &warnings[0];
                assert_eq!(told.get("panic"), raised);
                assert_eq!(told.get("stage"), stage);
                assert_eq!(seq(told), place);
                let span = tree
                    .stages()
                    .into_iter()
                    .find(|span| Some(span.id) == told.span);
                let span = span.expect("it was told in the span of a stage");
                assert!([span.get("name"), span.get("operator")].contains(&stage));
                tree.assert_closed();
            }
            // Spans are not wanted, and warnings are.
            let tree = Tree::up_to(Level::WARN);
            assert!(payload(|| tree.run(|| run(n))).is_err());
            assert_eq!(tree.warnings().len(), 1, "{stage}, {n}");
            assert_eq!(seq(&tree.warnings()[0]), place);
            tree.assert_closed();
        });
    }
}

#[test]
fn a_closure() {
    check("par", Some(7), |n| {
        (0..40).par_map_ordered(n, bad_at(7)).count()
    });
    check("fetch", Some(7), |n| {
        (0..40).par_map_ordered(n, bad_at(7)).named("fetch").count()
    });
    check("par", Some(7), |n| {
        (0..40).par_map_unordered(n, bad_at(7)).last()
    });
    check("par", Some(3000), |n| {
        let tiny = (0..40_000).par_map_ordered(n, bad_at(3000)).in_flight(2);
        assert_eq!(tiny.fold(0, |_, x| x), 0);
    });
    check("par", Some(7), |n| {
        (0..40)
            .par_map_ordered(n, bad_at(7))
            .item_timeout(SOON)
            .count()
    });
    check("par", Some(7), |n| {
        parallel_map(0..40, n, |x| Ok::<_, ()>(bad_at(7)(x)))
    });
    check("par_map_by_key", Some(7), |n| {
        (0..40).par_map_by_key(n, |x| x % 3, bad_at(7)).count()
    });
    check("par_flat_map", Some(7), |n| {
        (0..40)
            .par_flat_map(n, |x| [1, 2].map(|_| bad_at(7)(x)))
            .count()
    });
    check("par_flat_map", Some(7), |n| {
        let inner = |x| (0..2).map(move |_| bad_at(7)(x));
        (0..40).par_flat_map(n, inner).in_flight(2).count()
    });
}

#[test]
fn a_source() {
    let source = || (0..).map(bad_at(7));
    check("par", Some(7), move |n| {
        source().par_map_ordered(n, |x| x).count()
    });
    check("par", Some(7), move |n| {
        source().par_map_unordered(n, |x| x).count()
    });
    check("par", Some(7), move |n| {
        source().local().par_map_ordered(n, |x| x).count()
    });
    check("par", Some(7), move |n| {
        source().par_map_ordered(n, |x| x).in_flight(1).count()
    });
    check("par_map_by_key", None, move |n| {
        source().par_map_by_key(n, |x| *x, |x| x).count()
    });
    check("par_flat_map", None, move |n| {
        source().par_flat_map(n, |x| [x]).count()
    });
    check("readahead", None, move |n| source().readahead(n).count());
    check("merge", None, move |_| merge([source()]).count());
    check("broadcast", None, move |n| {
        source().broadcast_into(n, |_, reader| reader.count())
    });
}

/// The outer stages catch it as well, and do not tell it again.
#[test]
fn a_panic_that_is_raised_again() {
    check("a", Some(7), |n| {
        let a = (0..40).par_map_ordered(n, bad_at(7)).named("a");
        let b = a
            .par_map_unordered(n, |x| x)
            .named("b")
            .readahead(2)
            .named("c");

        b.par_map_by_key(n, |x| *x, |x| x)
            .par_flat_map(n, |x| [x])
            .count()
    });
    check("inner", Some(2), |n| {
        let inner = move |x: u64| {
            (0..4)
                .par_map_ordered(2, move |y| if x == 5 { bad_at(2)(y) } else { y })
                .named("inner")
                .sum::<u64>()
        };
        (0..10).par_map_ordered(n, inner).named("outer").count()
    });
    check("inner", Some(2), |n| {
        let inner = |x: u64| {
            group(2, |g| {
                g.spawn(move || {
                    Ok::<_, ()>(
                        (x == 5)
                            .then(|| (0..4).par_map_ordered(2, bad_at(2)).named("inner").count()),
                    )
                });
            })
        };
        (0..10).par_map_ordered(n, inner).named("outer").count()
    });
    check("a", Some(7), |n| {
        let a = (0..40).par_map_ordered(n, bad_at(7)).named("a");
        a.broadcast_into(n, |_, reader| reader.count())
    });
}

#[test]
fn panics_that_become_values() {
    for n in 1..=9 {
        within(SOON, move || {
            let tree = Tree::new();
            tree.run(|| {
                let every_third = |x: u64| if x % 3 == 0 { bad(0) } else { x };
                let all = (0..60).par_map_ordered(n, every_third).isolate();
                assert_eq!(all.filter(Result::is_err).count(), 20);
                let all = (0..60).par_map_by_key(n, |x| x % 4, every_third).isolate();
                assert_eq!(all.filter(Result::is_err).count(), 20);
                let all = (0..60).par_flat_map(n, move |x| [every_third(x)]).isolate();
                assert_eq!(all.filter(Result::is_err).count(), 20);
            });
            let stages = tree.stages();
            assert_eq!((stages.len(), tree.warnings().len()), (3, 60));
            for stage in stages {
                let mut own = tree.warnings();
                own.retain(|told| told.span == Some(stage.id));
                let seqs: BTreeSet<_> = own.iter().filter_map(seq).collect();
                assert!(seqs.into_iter().eq((0..60).filter(|x| x % 3 == 0)));
            }
            tree.assert_closed();
        });
    }
}

/// The user catches a panic, and the next one has the same text, and perhaps the same place in memory.
#[test]
fn panics_that_look_the_same_are_told_each() {
    within(SOON, || {
        let tree = Tree::new();
        tree.run(|| {
            for _ in 0..50 {
                for n in 1..=3 {
                    assert!(
                        payload(|| parallel_map(0..4, n, |x| Ok::<_, ()>(bad_at(1)(x)))).is_err()
                    );
                }
            }
        });
        assert_eq!(tree.warnings().len(), 150);
        tree.assert_closed();
    });
}

#[test]
fn tasks_and_replicas() {
    check("group", Some(3), |n| {
        group(n, |g| {
            for x in 0..4 {
                g.spawn(move || Ok::<_, ()>(bad_at(3)(x)));
            }
        })
    });
    within(SOON, || {
        let tree = Tree::new();
        tree.run(|| {
            let replicas = [replica(|_| bad::<Result<(), ()>>(1)), replica(|_| Ok(()))];
            assert!(replicas.into_iter().hedge().wait_for_losers().run().is_ok());
        });
        let warnings = tree.warnings();
        assert_eq!(warnings.len(), 1);
        assert_eq!(
            (seq(&warnings[0]), warnings[0].span),
            (Some(0), Some(tree.one("fanfold::stage").id))
        );
        tree.assert_closed();
    });
}

/// A copy that wins hides the panic of the first run, which is told all the same; so is that of the copy.
#[test]
fn both_runs_of_a_hedged_item() {
    within(SOON, || {
        for copy_fails in [false, true] {
            let tree = Tree::new();
            let (slow, first) = (Gate::new(), std::sync::atomic::AtomicBool::new(true));
            let came = tree.run(|| {
                let policy = HedgePolicy::after(Duration::from_millis(1)).budget(1.0);
                let run = |x: u64| {
                    let is_first = x == 2 && first.swap(false, std::sync::atomic::Ordering::SeqCst);
                    if x == 2 && is_first != copy_fails {
                        if is_first {
                            slow.wait();
                        }
                        slow.open();
                        bad::<()>(x);
                    }
                    if x == 2 {
                        if is_first {
                            slow.wait();
                        } else {
                            slow.open();
                        }
                    }
                    x
                };
                (0..4)
                    .par_map_ordered(3, run)
                    .hedge_slow(&policy)
                    .isolate()
                    .collect::<Vec<_>>()
            });
            assert_eq!(came.len(), 4);
            let warnings = tree.warnings();
            assert_eq!(warnings.len(), 1, "{copy_fails}: {warnings:?}");
            assert_eq!(seq(&warnings[0]), Some(2));
            tree.assert_closed();
        }
    });
}
