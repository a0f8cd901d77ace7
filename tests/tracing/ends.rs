//! When the span of a stage closes.

use crate::support::{Gate, SOON, listens, within};
use crate::tree::Tree;
use fanfold::{CancelToken, Fanfold, merge};

#[test]
fn a_stage_that_is_dropped_early() {
    for n in 1..=9 {
        within(SOON, move || {
            let tree = Tree::new();
            tree.run(|| {
                let mut stage = (0..).par_map_ordered(n, |x: u64| x);
                assert_eq!(stage.next(), Some(0));
                assert!(tree.one("fanfold::stage").is_open);
                drop(stage);
                assert!(!tree.one("fanfold::stage").is_open);
                let _some: Vec<u64> = (0..).par_map_by_key(n, |x| x % 3, |x| x).take(5).collect();
                let _some: Vec<u64> = (0..).par_flat_map(n, |x| [x, x]).take(5).collect();
                let _some: Vec<u64> = merge([0.., 5..]).take(5).collect();
                let mut readers = (0_u64..).broadcast(2).readers();
                assert_eq!(readers[0].next(), Some(0));
            });
            assert_eq!(tree.stages().len(), 5);
            tree.assert_closed();
        });
    }
}

#[test]
fn a_stage_that_has_ended_and_is_kept() {
    for n in 1..=9 {
        within(SOON, move || {
            let tree = Tree::new();
            tree.run(|| {
                let mut ordered = (0..30).par_map_ordered(n, |x| x);
                let mut keyed = (0..30).par_map_by_key(n, |x| x % 3, |x| x);
                let mut flat = (0..30).par_flat_map(n, |x| [x]);
                let mut merged = merge([0..15, 15..30]);
                assert_eq!(ordered.by_ref().count(), 30);
                assert_eq!(keyed.by_ref().count(), 30);
                assert_eq!(flat.by_ref().count(), 30);
                assert_eq!(merged.by_ref().count(), 30);
                tree.assert_closed();
                assert_eq!(ordered.next(), None);
                drop((ordered, keyed, flat, merged));
            });
            assert_eq!(tree.stages().len(), 4);
            tree.assert_closed();
        });
    }
}

#[test]
fn a_stage_that_is_cancelled_waits_for_what_runs() {
    for n in 1..=9 {
        within(SOON, move || {
            let (tree, token, gate) = (Tree::new(), CancelToken::new(), Gate::new());
            tree.run(|| {
                let inside = gate.clone();
                let work = move |x: u64| {
                    if x == 0 {
                        return x;
                    }
                    CancelToken::current().wait();
                    inside.wait();
                    x
                };
                let source = (0..3).chain(listens());
                let mut stage = source.par_map_unordered(n, work).cancel_on(&token);
                assert_eq!(stage.next(), Some(0));
                token.cancel();
                assert!(tree.one("fanfold::stage").is_open);
                gate.open();
                let _rest = stage.by_ref().count();
                drop(stage);
            });
            tree.assert_closed();
        });
    }
}

#[test]
fn a_stage_that_is_leaked_in_a_scope() {
    within(SOON, || {
        let tree = Tree::new();
        tree.run(|| {
            let text = String::from("borrowed");
            fanfold::scope(|s| {
                let mut stage = (0..100).par_map_ordered(2, |x| x + text.len()).within(s);
                assert_eq!(stage.next(), Some(8));
                std::mem::forget(stage);
            });
        });
        tree.assert_closed();
    });
}
