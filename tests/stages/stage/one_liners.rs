//! What users write on one line where source and closure borrow: terminal calls and further stages follow directly,
//! everything else within `scoped`. (`tests/ui/borrowed_one_liners.rs` shows the errors without it.)

use crate::support::{SOON, within};
use fanfold::{Fanfold, Plan, SendPlan, Stage, merge};
use itertools::Itertools;
use std::ops::ControlFlow;

fn docs() -> Vec<String> {
    ["a", "bcd", "ef", ""].map(String::from).into()
}

/// The lengths of the documents.
fn lens(docs: &[String]) -> Stage<impl SendPlan<Output = usize>> {
    docs.iter().par_map_ordered(4, |doc| doc.len())
}

#[test]
fn terminal_calls_and_further_stages() {
    within(SOON, || {
        let (docs, more) = (docs(), 1);
        let (docs, lens) = (&docs, || lens(&docs));
        assert_eq!(lens().nth(1), Some(3));
        assert!(lens().eq([1, 3, 2, 0]));
        assert_eq!(
            lens().try_fold(0_usize, |sum, len| sum.checked_add(len)),
            Some(6)
        );
        let short = |_, len| {
            if len > more {
                ControlFlow::Break(len)
            } else {
                ControlFlow::Continue(len)
            }
        };
        assert_eq!(lens().try_fold(0, short), ControlFlow::Break(3));
        assert_eq!(
            lens().try_fold(7, |_, _| Err::<usize, _>("first")),
            Err("first")
        );
        assert_eq!(lens().try_for_each(|len| (len > 0).then_some(())), None);
        let stage = docs
            .iter()
            .readahead(8)
            .par_map_ordered(2, |doc| doc.len() + more);
        assert_eq!(stage.sum::<usize>(), 10);
        let keyed = || {
            docs.iter()
                .par_map_by_key(2, |doc| doc.len(), |doc| doc.len() + more)
        };
        assert_eq!(
            keyed().par_map_unordered(2, |len| len * more).max(),
            Some(4)
        );
        assert_eq!(keyed().sum::<usize>(), 10);
        assert_eq!(
            merge([docs.iter(), docs.iter()]).max().map(String::as_str),
            Some("ef")
        );
        assert_eq!(
            merge([docs.iter()])
                .par_map_ordered(2, |doc| doc.len() + more)
                .count(),
            4
        );
        let windows = docs
            .iter()
            .window(3)
            .par_map_ordered(2, |window| window.len() + more);
        assert_eq!(windows.collect::<Vec<_>>(), [4, 2]);
        assert_eq!(
            lens().par_fold(2, || 0, |sum, len| sum + len * more, |a, b| a + b),
            6
        );
    });
}

#[test]
fn all_else_within_scoped() {
    within(SOON, || {
        let (docs, more) = (docs(), 1);
        let lens = || lens(&docs);
        assert_eq!(
            lens().scoped(|lens| lens.map(|len| len + more).sum::<usize>()),
            10
        );
        assert_eq!(
            lens().scoped(|lens| lens.filter(|len| *len > more).count()),
            2
        );
        assert_eq!(
            lens().scoped(|lens| lens.enumerate().map(|(i, len)| i * len).max()),
            Some(4)
        );
        assert_eq!(lens().scoped(|lens| lens.take(2).collect_vec()), [1, 3]);
        assert_eq!(
            lens().scoped(|lens| lens.window(3).map(|window| window.len()).collect_vec()),
            [3, 1]
        );
        assert_eq!(lens().scoped(|lens| lens.readahead(2).count()), 4);
        let ahead =
            lens().scoped(|lens| lens.readahead(2).par_map_ordered(2, |len| len + more).max());
        assert_eq!(ahead, Some(4));
        let parts = lens().scoped(|lens| {
            lens.partition_into(
                |len| *len > more,
                |long| long.count(),
                |short| short.sum::<usize>(),
            )
        });
        assert_eq!(parts, (2, 1));
        let sums = lens().scoped(|lens| lens.broadcast_into(2, |i, lens| lens.sum::<usize>() + i));
        assert_eq!(sums, [6, 7]);
        let mut all = vec![7];
        lens().scoped(|lens| all.extend(lens));
        assert_eq!(all, [7, 1, 3, 2, 0]);
        assert_eq!(
            lens().scoped(|lens| lens.sorted().collect_vec()),
            [0, 1, 2, 3]
        );
        #[cfg(feature = "throttle")]
        assert_eq!(lens().scoped(|lens| lens.throttle(1_000_000).count()), 4);
    });
}

/// Those that only wait have the same calls.
#[test]
fn waiting_stages_have_the_calls_of_stages() {
    fn all<P: Plan<Output = u64>>(stage: impl Fn() -> Stage<P>) {
        let sorted = |mut all: Vec<u64>| (all.sort_unstable(), all).1;
        let third = stage().nth(2);
        assert!(third.is_some_and(|third| third < 3));
        assert_eq!(sorted(stage().collect()), [0, 1, 2]);
        assert_eq!(
            (stage().sum::<u64>(), stage().min(), stage().max()),
            (3, Some(0), Some(2))
        );
        assert_eq!((stage().count(), stage().last().is_some()), (3, true));
        assert!(stage().any(|i| i == 2) && stage().all(|i| i < 3));
        assert_eq!(stage().find(|i| *i == 1), Some(1));
        assert_eq!(stage().reduce(|a, b| a + b), Some(3));
        assert_eq!(stage().try_for_each(|i| (i < 9).then_some(())), Some(()));
        assert_eq!(stage().try_fold(0, |sum, i| Some(sum + i)), Some(3));
        assert_eq!(stage().scoped(|all| all.map(|i| i * 2).sum::<u64>()), 6);
    }
    within(SOON, || {
        let numbers = [0_u64, 1, 2];
        let numbers = || numbers.iter().copied();
        all(|| numbers().readahead(2));
        all(|| merge([numbers()]));
        all(|| fanfold::round_robin([numbers()]));
        all(|| numbers().par_map_by_key(2, |i| *i, |i| i));
        all(|| numbers().par_map_unordered(2, |i| i));
        let sorted = || fanfold::merge_sorted_by_key([numbers()], |i| *i);
        assert_eq!(sorted().scoped(|all| all.flatten().sum::<u64>()), 3);
        let windows = || numbers().window(1).max_age(SOON);
        assert_eq!(windows().scoped(|all| all.flatten().sum::<u64>()), 3);
    });
}
