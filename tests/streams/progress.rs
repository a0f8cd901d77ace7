//! `indicatif`: a bar behind each iterator of the crate shows how many items have come out of it, and has a length
//! where the iterator knows it. A bar in front of a stage shows how many were pulled.

use crate::support::{SOON, WIDTHS, within};
use fanfold::{
    Fanfold, merge, merge_sorted_by_key, parallel_map, push_map_ordered, round_robin, worklist,
};
use indicatif::{ProgressBar, ProgressFinish, ProgressIterator};
use std::collections::BTreeSet;
use std::time::Duration;

const ITEMS: usize = 300;

/// The name of an iterator, and what is to be seen of it with this width.
type Row = (&'static str, fn(usize));

/// The public iterators, and the plans of a `Stage`, which is the iterator of all of them. The row of one behind a
/// feature is empty without it.
const ROWS: &[Row] = &[
    ("Stage", |n| {
        exact((0..ITEMS).par_map_ordered(n, |x| x), ITEMS);
    }),
    ("Scoped", |n| {
        let one = 1;
        fanfold::scope(|s| {
            let stage = (0..ITEMS).par_map_ordered(n, |x| x + one).within(s);
            known(stage, Some(ITEMS), ITEMS);
        });
    }),
    ("stage::Outputs", |n| {
        (0..ITEMS)
            .par_map_ordered(n, |x| x)
            .scoped(|outputs| exact(outputs, ITEMS));
    }),
    ("stage::Par", |n| {
        exact((0..ITEMS).par_map_unordered(n, |x| x), ITEMS);
        known(
            (0..ITEMS).local().par_map_ordered(n, |x| x),
            Some(ITEMS),
            ITEMS,
        );
        exact((0..ITEMS).par_map_ordered_init(n, || (), |(), x| x), ITEMS);
        let chain = (0..ITEMS)
            .par_map_ordered(n, |x| x)
            .par_map_ordered(n, |x| x);
        known(chain, Some(ITEMS), ITEMS);
        let filtered = (0..ITEMS).par_filter(n, |x| x % 3 == 0);
        known(filtered, None, ITEMS / 3);
        let filtered = (0..ITEMS).par_filter_map(n, |x| (x % 3 == 0).then_some(x));
        known(filtered, None, ITEMS / 3);
        let failing = |x| if x == 100 { Err(x) } else { Ok(x) };
        // The error is an item too.
        known((0..ITEMS).try_par_map_ordered(n, failing), None, 101);
    }),
    ("stage::Ready", |n| {
        let mut stage = push_map_ordered(n, |x: usize| x).in_flight(8);
        let bar = bar();
        for x in 0..ITEMS {
            for _ in stage.push(x).progress_with(bar.clone()) {}
        }
        let ready = position(&bar);
        assert!(ready >= ITEMS - 8, "{ready}");
        assert_eq!(stage.finish().count(), ITEMS - ready);
    }),
    ("stage::Flat", |n| {
        let pairs = (0..ITEMS).par_flat_map(n, |x| [x, x]);
        known(pairs, None, 2 * ITEMS);
    }),
    ("stage::Keyed", |n| {
        exact((0..ITEMS).par_map_by_key(n, |x| x % 5, |x| x), ITEMS);
    }),
    ("fan_in::MergePlan", |_| {
        known(merge([0..ITEMS, 0..ITEMS]), Some(2 * ITEMS), 2 * ITEMS);
    }),
    ("fan_in::MergeSortedPlan", |_| {
        let merged = merge_sorted_by_key([0..ITEMS, 0..ITEMS], |x| *x);
        known(merged, None, 2 * ITEMS);
    }),
    ("fan_in::RoundRobinPlan", |_| {
        known(
            round_robin([0..ITEMS, 0..ITEMS]),
            Some(2 * ITEMS),
            2 * ITEMS,
        );
    }),
    ("fan_in::ReadaheadPlan", |n| {
        known((0..ITEMS).readahead(n), Some(ITEMS), ITEMS);
    }),
    ("batches::BatchesByAgePlan", |_| {
        let batches = (0..ITEMS).window(7).max_age(Duration::from_secs(3600));
        known(batches, None, ITEMS.div_ceil(7));
    }),
    ("batches::ReadyChunksPlan", |n| {
        // How many there are depends on what is ready.
        let (mut items, bar) = (0, bar());
        let chunks = (0..ITEMS).ready_chunks(n);
        for (seen, chunk) in chunks.progress_with(bar.clone()).enumerate() {
            items += chunk.len();
            assert_eq!(position(&bar), seen + 1);
        }
        assert_eq!(items, ITEMS);
        assert!(position(&bar) >= ITEMS / n);
    }),
    ("batches::Window", |n| {
        exact((0..ITEMS).window(n), ITEMS.div_ceil(n));
    }),
    ("batches::Aggregate", |n| {
        let sums = (0..ITEMS).window(n).aggregate(|| 0, |sum, x| sum + x);
        exact(sums, ITEMS.div_ceil(n));
    }),
    ("batches::Sliding", |_| {
        exact((0..ITEMS).window(4).sliding(2), (ITEMS - 2) / 2);
    }),
    ("batches::SlidingAggregate", |_| {
        let sums = (0..ITEMS)
            .window(4)
            .sliding(2)
            .aggregate(|| 0, |sum, x| sum + x);
        exact(sums, (ITEMS - 2) / 2);
    }),
    ("Reader", |_| {
        let (even, odd) = (0..ITEMS)
            .partition_readers(|x| x % 2 == 0)
            .buffer(1)
            .pair();
        std::thread::scope(|s| {
            s.spawn(move || known(odd, None, ITEMS / 2));
            known(even, None, ITEMS / 2);
        });
        for reader in (0..ITEMS).broadcast(2).buffer(1000).readers() {
            known(reader, Some(ITEMS), ITEMS);
        }
        let by_route = (0..ITEMS).route(3, |x| *x % 3).buffer(1000);
        for (place, reader) in by_route.readers().into_iter().enumerate() {
            // The first one reads the source to its end, and what is left for the others is known then.
            let len = (place > 0).then_some(ITEMS / 3);
            known(reader, len, ITEMS / 3);
        }
    }),
    ("Worklist", |_| known(worklist(0..ITEMS), None, ITEMS)),
    ("worklist::BudgetedWorklist", |_| {
        // What was refused makes an error at the end.
        known(worklist(0..ITEMS).budget(50), None, 51);
    }),
    ("limiter::Throttle", |_| {
        #[cfg(feature = "throttle")]
        exact((0..ITEMS).throttle(1_000_000), ITEMS);
    }),
    ("Recv", |_| {
        #[cfg(feature = "crossbeam-channel")]
        {
            let (sender, receiver) = crossbeam_channel::unbounded();
            (0..ITEMS).for_each(|x| sender.send(x).expect("there is a receiver"));
            drop(sender);
            known(fanfold::recv(receiver), None, ITEMS);
        }
    }),
    ("from_rayon::Ordered", |n| {
        #[cfg(feature = "rayon")]
        {
            use fanfold::FromRayon;
            use rayon::iter::{IntoParallelIterator, ParallelIterator};
            let doubled = (0..ITEMS).into_par_iter().map(|x| 2 * x);
            known(doubled.ordered(n), Some(ITEMS), ITEMS);
        }
        let _ = n;
    }),
];

/// Leaves the position as it is at the end; other bars set it to their length.
fn bar() -> ProgressBar {
    ProgressBar::hidden().with_finish(ProgressFinish::Abandon)
}

fn position(bar: &ProgressBar) -> usize {
    usize::try_from(bar.position()).expect("few items")
}

/// An iterator of so many items, which says how many are left as far as `len` is known.
#[track_caller]
fn known<I: Iterator>(items: I, len: Option<usize>, count: usize) {
    let bar = bar();
    let (least, most) = items.size_hint();
    let hint = most.filter(|most| *most == least);
    assert_eq!(hint, len, "the length of the bar");
    if let Some(hint) = hint {
        bar.set_length(hint as u64);
    }
    let mut items = items.progress_with(bar.clone());
    for seen in 1..=count {
        assert!(items.next().is_some(), "{seen} of {count}");
        assert_eq!(position(&bar), seen, "of {count}");
        assert!(!bar.is_finished());
    }
    assert!(items.next().is_none());
    assert!(bar.is_finished());
    assert_eq!(position(&bar), count);
    assert_eq!(bar.length(), len.map(|len| len as u64));
}

/// The same, for [`ProgressIterator::progress`], which asks for the length itself.
#[track_caller]
fn exact<I: ExactSizeIterator>(items: I, count: usize) {
    assert_eq!(items.len(), count);
    known(items, Some(count), count);
}

#[test]
fn a_bar_behind_it_shows_what_has_come_out() {
    for (name, row) in ROWS {
        for n in WIDTHS {
            let run = move || within(SOON, move || row(n));
            let outcome = std::panic::catch_unwind(run);
            assert!(outcome.is_ok(), "{name}, n = {n}");
        }
    }
}

/// By the recorded surface of the crate.
#[test]
fn every_public_iterator_has_a_row() {
    let is_one = |about: &&str| {
        ["Iterator", "Plan"]
            .iter()
            .any(|name| about.starts_with(&format!("impl {name} for ")))
    };
    let surface = include_str!("../house/api.txt");
    let split = surface.lines().filter_map(|line| line.split_once(": "));
    let all: BTreeSet<&str> = split
        .filter(|(_, about)| is_one(about))
        .map(|(name, _)| name)
        .collect();
    let rows: BTreeSet<&str> = ROWS.iter().map(|(name, _)| *name).collect();
    assert_eq!(all, rows);
}

#[test]
fn a_bar_in_front_of_it_shows_what_was_pulled() {
    for n in WIDTHS {
        within(SOON, move || {
            let (pulled, done) = (bar(), bar());
            let stage = (0..ITEMS)
                .progress_with(pulled.clone())
                .par_map_ordered(n, |x| x);
            let outputs = stage.in_flight(16).progress_with(done.clone());
            for (x, output) in outputs.enumerate() {
                assert_eq!(output, x);
                let (done, pulled) = (position(&done), position(&pulled));
                assert_eq!(done, x + 1);
                assert!((done..=done + 16).contains(&pulled), "{pulled} for {done}");
            }
            assert_eq!((position(&pulled), position(&done)), (ITEMS, ITEMS));
        });
    }
}

#[test]
fn loops_without_results_have_one_in_front() {
    for n in WIDTHS {
        within(SOON, move || {
            let (pulled, ran) = (bar(), bar());
            let items = || (0..ITEMS).progress_with(pulled.clone());
            items().par_for_each(n, |_| ran.inc(1));
            assert_eq!((position(&pulled), position(&ran)), (ITEMS, ITEMS));
            let sum = items().par_fold(n, || 0, |sum, x| sum + x, |a, b| a + b);
            assert_eq!(
                (position(&pulled), sum),
                (2 * ITEMS, ITEMS * (ITEMS - 1) / 2)
            );
            let all = parallel_map(items(), n, Ok::<_, ()>);
            assert_eq!(
                (position(&pulled), all.map(|all| all.len())),
                (3 * ITEMS, Ok(ITEMS))
            );
        });
    }
}
