//! Whose child the span of a stage is: of the span in which it was made, whoever runs it, and wherever.

use crate::support::{SOON, within};
use crate::tree::Tree;
use fanfold::Fanfold;
use tracing::{info, info_span};

#[test]
fn the_parent_is_the_span_in_which_the_stage_was_made() {
    for n in 1..=9 {
        within(SOON, move || {
            let tree = Tree::new();
            tree.run(|| {
                let request = info_span!("request");
                let stage = request.in_scope(|| (0..20).par_map_ordered(n, |x| x * 2));
                drop(request);
                assert!(tree.one("request").is_open, "the stage may still need it");
                // Elsewhere, in another span, and without a subscriber.
                let run = move || stage.sum::<i32>();
                let sum = info_span!("elsewhere").in_scope(|| std::thread::spawn(run).join());
                assert_eq!(sum.unwrap(), 380);
            });
            let stage = tree.one("fanfold::stage");
            assert_eq!(stage.parent, Some(tree.one("request").id));
            tree.assert_closed();
        });
    }
}

#[test]
fn a_stage_that_was_made_in_no_span_has_no_parent() {
    within(SOON, || {
        let tree = Tree::new();
        tree.run(|| {
            let stage = (0..20).par_map_unordered(3, |x| x);
            info_span!("elsewhere").in_scope(|| assert_eq!(stage.count(), 20));
        });
        assert_eq!(tree.one("fanfold::stage").parent, None);
        tree.assert_closed();
    });
}

#[test]
fn a_stage_that_never_starts_has_no_span() {
    within(SOON, || {
        let tree = Tree::new();
        tree.run(|| {
            let _request = info_span!("request").entered();
            drop((0..20).par_map_unordered(3, |x| x));
            drop((0..20).broadcast(2));
        });
        assert!(tree.stages().is_empty());
        tree.assert_closed();
    });
}

#[test]
fn a_stage_in_a_closure_is_a_child_of_the_outer_one() {
    for n in 1..=9 {
        within(SOON, move || {
            let tree = Tree::new();
            tree.run(|| {
                let inner = move |x: u64| {
                    let deep = move |y: u64| {
                        info!("deep");
                        x * y
                    };
                    (0..4).par_map_ordered(2, deep).named("inner").sum::<u64>()
                };
                let outer = (0..10).par_map_ordered(n, inner).named("outer");
                assert_eq!(outer.sum::<u64>(), 270);
            });
            let outer = tree.stage("outer").id;
            let stages = tree.stages();
            let inner: Vec<_> = stages
                .iter()
                .filter(|stage| stage.get("name") == "inner")
                .collect();
            assert_eq!(inner.len(), 10);
            assert!(inner.iter().all(|stage| stage.parent == Some(outer)));
            let deep = tree.told("deep");
            assert_eq!(deep.len(), 40);
            for told in deep {
                assert!(inner.iter().any(|stage| Some(stage.id) == told.span));
            }
            tree.assert_closed();
        });
    }
}

#[test]
fn the_stages_of_a_chain_are_siblings() {
    for n in 1..=9 {
        within(SOON, move || {
            let tree = Tree::new();
            tree.run(|| {
                let _request = info_span!("request").entered();
                let tell = |stage: &'static str| {
                    move |x: u64| {
                        info!(stage, "ran");
                        x + 1
                    }
                };
                let first = (0..30).par_map_ordered(n, tell("first")).named("first");
                let second = first
                    .par_map_unordered(n, tell("second"))
                    .named("second")
                    .par_map_by_key(n, |x| x % 3, tell("third"))
                    .named("third");
                assert_eq!(second.sum::<u64>(), (3..33).sum::<u64>());
            });
            let request = Some(tree.one("request").id);
            assert_eq!(tree.stages().len(), 3);
            assert!(tree.stages().iter().all(|stage| stage.parent == request));
            let ran = tree.told("ran");
            assert_eq!(ran.len(), 90);
            for told in ran {
                assert_eq!(told.span, Some(tree.stage(told.get("stage")).id));
            }
            tree.assert_closed();
        });
    }
}

/// Threads of the pool are used by one stage after the other, each with its own subscriber, or without.
#[test]
fn what_runs_has_the_subscriber_of_its_stage() {
    within(SOON, || {
        let trees: Vec<Tree> = (0..6).map(|_| Tree::new()).collect();
        let tell = |x: u64| {
            info!("ran");
            x
        };
        for round in 0..12 {
            let count = || (0..50_u64).par_map_ordered(3, tell).count();
            match trees.get(round % 7) {
                Some(tree) => tree.run(count),
                None => count(),
            };
        }
        for (at, tree) in trees.iter().enumerate() {
            let rounds = if at < 5 { 2 } else { 1 };
            assert_eq!(tree.told("ran").len(), 50 * rounds);
            assert_eq!(tree.stages().len(), rounds);
            tree.assert_closed();
        }
    });
}
