//! Spans of items, by choice.

use crate::support::{SOON, within};
use crate::tree::Tree;
use fanfold::{Fanfold, HedgePolicy, Permits};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tracing::info;

fn ran(x: u64) -> u64 {
    info!(x, "ran");
    x
}

/// Items are numbered from 0, so the `seq` of each is what it is.
fn check(count: u64, run: impl Fn(usize) + Clone + Send + 'static) {
    for n in 1..=9 {
        let run = run.clone();
        within(SOON, move || {
            let tree = Tree::new();
            tree.run(|| run(n));
            let stage = tree.one("fanfold::stage");
            let items = tree.all("fanfold::item");
            let seqs: BTreeSet<u64> = items
                .iter()
                .map(|item| item.get("seq").parse().unwrap())
                .collect();
            assert!(seqs.into_iter().eq(0..count));
            assert_eq!(items.len() as u64, count);
            assert!(
                items
                    .iter()
                    .all(|item| item.parent == Some(stage.id) && item.entries == 1)
            );
            let told = tree.told("ran");
            assert_eq!(told.len() as u64, count);
            let seqs: BTreeMap<u64, &str> = items
                .iter()
                .map(|item| (item.id, item.get("seq")))
                .collect();
            for told in told {
                let seq = told.span.and_then(|span| seqs.get(&span));
                assert_eq!(seq, Some(&told.get("x")), "it ran in its item");
            }
            tree.assert_closed();
        });
    }
}

#[test]
fn each_item_has_a_span_with_its_seq() {
    check(200, |n| {
        assert_eq!((0..200).par_map_ordered(n, ran).trace_items().count(), 200);
    });
    check(200, |n| {
        assert_eq!(
            (0..200).par_map_unordered(n, ran).trace_items().count(),
            200
        );
    });
    check(200, |n| {
        let keyed = (0..200).par_map_by_key(n, |x| x % 7, ran).trace_items();
        assert_eq!(keyed.count(), 200);
    });
    check(200, |n| {
        let flat = (0..200).par_flat_map(n, |x| [ran(x); 2]).trace_items();
        assert_eq!(flat.count(), 400);
    });
    check(5_000, |n| {
        let tiny = (0..5_000)
            .par_map_ordered(n, ran)
            .in_flight(4)
            .trace_items();
        assert_eq!(tiny.fold(0, |sum, x| sum + x), 12_497_500);
    });
}

#[test]
fn options_with_loops_of_their_own() {
    check(40, |n| {
        let timed = (0..40).par_map_ordered(n, ran).item_timeout(SOON);
        assert_eq!(timed.trace_items().count(), 40);
    });
    check(40, |n| {
        let policy = HedgePolicy::after(Duration::from_secs(60));
        let hedged = (0..40).par_map_ordered(n, ran).hedge_slow(&policy);
        assert_eq!(hedged.trace_items().count(), 40);
    });
    check(40, |n| {
        let permits = Permits::new(1);
        let limited = (0..40).par_map_ordered(n, ran).limited_by(&permits);
        assert_eq!(limited.trace_items().isolate().count(), 40);
    });
    check(40, |n| {
        assert_eq!(
            (0..40)
                .local()
                .par_map_ordered(n, ran)
                .trace_items()
                .count(),
            40
        );
    });
}

#[test]
fn without_the_option_there_is_none() {
    within(SOON, || {
        let tree = Tree::new();
        tree.run(|| assert_eq!((0..40).par_map_ordered(3, ran).count(), 40));
        assert!(tree.all("fanfold::item").is_empty());
        // And with it nothing happens without a subscriber.
        assert_eq!((0..40).par_map_ordered(3, ran).trace_items().count(), 40);
    });
}
