//! What runs in the span of its stage: closures and sources of all operators, also where the consumer runs them.

use crate::support::{SOON, barren, pushing, within};
use crate::tree::Tree;
use fanfold::{
    Fanfold, Permits, group, group_all, merge, merge_sorted_by_key, parallel_map, replica,
    round_robin, try_push_map_ordered,
};
use tracing::{info, info_span};

/// So many items of a source that tells each.
fn items(count: u64) -> impl Iterator<Item = u64> + Send {
    (0..count).inspect(|_| info!("pulled"))
}

fn ran(x: u64) -> u64 {
    info!("ran");
    x
}

/// Runs it in a span for all widths. Each event must lie in one stage with this operator, whose parent is that span.
fn check(
    operator: &str,
    pulled: usize,
    closures: usize,
    run: impl Fn(usize) + Clone + Send + 'static,
) {
    for n in 1..=9 {
        let (run, operator) = (run.clone(), operator.to_owned());
        within(SOON, move || {
            let tree = Tree::new();
            tree.run(|| info_span!("request").in_scope(|| run(n)));
            let stage = tree.one("fanfold::stage");
            assert_eq!(stage.get("operator"), operator);
            assert_eq!(
                stage.parent,
                Some(tree.one("request").id),
                "{operator}, {n}"
            );
            for (message, count) in [("pulled", pulled), ("ran", closures)] {
                let told = tree.told(message);
                assert_eq!(told.len(), count, "{operator}, {n}: {message}");
                assert!(
                    told.iter().all(|told| told.span == Some(stage.id)),
                    "{operator}, {n}: {message}"
                );
            }
            assert_eq!(tree.warnings().len(), 0);
            tree.assert_closed();
        });
    }
}

#[test]
fn stages_in_order_and_without() {
    check("par", 300, 300, |n| {
        assert_eq!(items(300).par_map_ordered(n, ran).count(), 300);
    });
    check("par", 300, 300, |n| {
        assert_eq!(items(300).par_map_unordered(n, ran).count(), 300);
    });
    check("par", 40, 40, |n| {
        items(40).par_for_each(n, |x| {
            ran(x);
        });
    });
    check("par", 40, 40, |n| {
        assert_eq!(items(40).par_filter(n, |x| ran(*x) % 2 == 0).count(), 20);
    });
    check("par", 40, 40, |n| {
        let state = |calls: &mut u64, x| {
            *calls += 1;
            ran(x)
        };
        assert_eq!(items(40).par_map_ordered_init(n, || 0, state).count(), 40);
    });
    check("par", 40, 40, |n| {
        let all: Result<Vec<_>, ()> = items(40).try_par_map_ordered(n, |x| Ok(ran(x))).collect();
        assert_eq!(all.unwrap().len(), 40);
    });
    check("par", 40, 40, |n| {
        let all: Result<Vec<_>, ()> = parallel_map(items(40), n, |x| Ok(ran(x)));
        assert_eq!(all.unwrap().len(), 40);
    });
}

/// With and without a subscriber that wants their spans, consumers would run these.
#[test]
fn work_that_the_consumer_would_run_itself() {
    check("par", 20_000, 20_000, |n| {
        assert_eq!(
            items(20_000)
                .par_map_ordered(n, ran)
                .fold(0, |sum, x| sum + x),
            199_990_000
        );
    });
    for bound in [1, 2, 4, 16] {
        check("par", 3_000, 3_000, move |n| {
            let mut sum = 0;
            for x in items(3_000).par_map_ordered(n, ran).in_flight(bound) {
                info_span!("user").in_scope(|| sum += x);
            }
            assert_eq!(sum, 4_498_500);
        });
    }
}

#[test]
fn options_with_loops_of_their_own() {
    check("par", 40, 40, |n| {
        let timed = items(40).par_map_ordered(n, ran).item_timeout(SOON);
        assert_eq!(timed.count(), 40);
    });
    check("par", 40, 40, |n| {
        let permits = Permits::new(2);
        assert_eq!(
            items(40)
                .par_map_ordered(n, ran)
                .limited_by(&permits)
                .count(),
            40
        );
    });
    check("par", 40, 40, |n| {
        let weighed = items(40).par_map_ordered(n, ran).in_flight_weight(8, |_| 3);
        assert_eq!(weighed.count(), 40);
    });
    check("par", 40, 40, |n| {
        assert_eq!(items(40).par_map_ordered(n, ran).isolate().count(), 40);
    });
    check("par", 40, 40, |n| {
        assert_eq!(items(40).local().par_map_ordered(n, ran).count(), 40);
    });
    check("par", 40, 40, |n| {
        assert_eq!(items(40).par_map_ordered(n, ran).on(&barren()).count(), 40);
    });
    check("par", 0, 40, |n| {
        let stage = try_push_map_ordered(n, |x| Ok::<_, std::io::Error>(ran(x)));
        assert_eq!(pushing(0..40, stage).count(), 40);
    });
}

#[test]
fn stages_by_key_and_flat_ones() {
    check("par_map_by_key", 200, 200, |n| {
        assert_eq!(items(200).par_map_by_key(n, |x| x % 5, ran).count(), 200);
    });
    check("par_map_by_key", 40, 40, |n| {
        let alone = items(40).par_map_by_key(n, |x| x % 5, ran).on(&barren());
        assert_eq!(alone.count(), 40);
    });
    let inner = |x| (0..3).map(move |y| ran(x * y));
    check("par_flat_map", 100, 300, move |n| {
        assert_eq!(items(100).par_flat_map(n, inner).count(), 300);
    });
    for bound in [1, 2, 16] {
        check("par_flat_map", 100, 300, move |n| {
            assert_eq!(
                items(100).par_flat_map(n, inner).in_flight(bound).count(),
                300
            );
        });
    }
    check("par_flat_map", 100, 300, move |n| {
        assert_eq!(
            items(100)
                .local()
                .par_flat_map(n, inner)
                .on(&barren())
                .count(),
            300
        );
    });
}

#[test]
fn several_sources() {
    check("merge", 120, 0, |n| {
        assert_eq!(merge((0..3).map(|_| items(40))).max_threads(n).count(), 120);
    });
    check("round_robin", 120, 0, |_| {
        assert_eq!(round_robin((0..3).map(|_| items(40))).count(), 120);
    });
    check("merge_sorted_by_key", 120, 120, |_| {
        let merged = merge_sorted_by_key((0..3).map(|_| items(40)), |x| ran(*x));
        assert_eq!(merged.count(), 120);
    });
    check("readahead", 40, 0, |n| {
        assert_eq!(items(40).readahead(n).count(), 40);
    });
    check("readahead", 40, 0, |n| {
        assert_eq!(items(40).readahead(n).on(&barren()).count(), 40);
    });
    check("ready_chunks", 40, 0, |n| {
        assert_eq!(items(40).ready_chunks(n).flatten().count(), 40);
    });
    check("window", 40, 40, |n| {
        let sum = |sum: u64, x| sum + ran(x);
        let sums = items(40).window(n).max_age(SOON).aggregate(|| 0, sum);
        assert_eq!(sums.sum::<u64>(), 780);
    });
}

#[test]
fn several_readers() {
    check("broadcast", 40, 240, |_| {
        let counts = items(40).broadcast_into(6, |_, reader| reader.map(ran).count());
        assert_eq!(counts, [40; 6]);
    });
    check("partition_readers", 40, 80, |_| {
        let chosen = |x: &u64| ran(*x) % 4 == 0;
        let counts =
            items(40).partition_into(chosen, |a| a.map(ran).count(), |b| b.map(ran).count());
        assert_eq!(counts, (10, 30));
    });
    check("route", 40, 40, |n| {
        let counts = items(40).route_into(
            n,
            move |x| *x as usize % n,
            |_, reader| reader.map(ran).count(),
        );
        assert_eq!(counts.iter().sum::<usize>(), 40);
    });
    // On the thread that asks, and in whatever it is in.
    check("broadcast", 40, 0, |_| {
        let mut readers = items(40).broadcast(2).buffer(40).readers();
        assert_eq!(readers.remove(0).count() + readers.remove(0).count(), 80);
    });
}

#[test]
fn tasks_and_replicas() {
    check("group", 0, 40, |n| {
        let done = group(n, |g| {
            (0..40).for_each(|x| drop(g.spawn(move || Ok::<_, ()>(ran(x)))));
        });
        assert_eq!(done, Ok(()));
    });
    check("group", 0, 40, |n| {
        let done = group_all(n, |g| {
            (0..40).for_each(|x| drop(g.spawn(move || Ok::<_, ()>(ran(x)))));
        });
        assert_eq!(done, Ok(()));
    });
    check("hedge", 0, 1, |_| {
        let answer = [replica(|_| Ok::<_, ()>(ran(7)))]
            .into_iter()
            .hedge()
            .wait_for_losers()
            .run();
        assert_eq!(answer.unwrap(), 7);
    });
}

#[test]
fn the_span_shows_what_is_known_of_the_stage() {
    for n in 1..=9 {
        within(SOON, move || {
            let tree = Tree::new();
            tree.run(|| {
                (0..9)
                    .par_map_ordered(n, |x| x)
                    .named("a")
                    .in_flight(n + 1)
                    .for_each(drop);
                (0..9).par_map_by_key(n, |x| *x, |x| x).for_each(drop);
                merge([0..9, 0..9]).named("c").for_each(drop);
                (0..9)
                    .broadcast(2)
                    .named("d")
                    .into_sinks(|_, reader| reader.count());
                parallel_map(0..9, n, Ok::<_, ()>).unwrap();
            });
            let fields = |at: usize| {
                let stage = &tree.stages()[at];
                ["name", "operator", "width", "in_flight"].map(|field| stage.get(field).to_owned())
            };
            let (width, bound) = (n.to_string(), (n + 1).to_string());
            assert_eq!(fields(0), ["a", "par", &width, &bound]);
            assert_eq!(fields(1), ["-", "par_map_by_key", &width, "-"]);
            assert_eq!(fields(2), ["c", "merge", "-", "-"]);
            assert_eq!(fields(3), ["d", "broadcast", "-", "-"]);
            assert_eq!(fields(4), ["-", "par", &width, &usize::MAX.to_string()]);
            tree.assert_closed();
        });
    }
}
