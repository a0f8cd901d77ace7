//! What comes out is what `collect` gives, whatever the adaptors, the length and the width.

use fanfold::{Fanfold, FromRayon};
use rayon::prelude::*;
use std::fmt::Debug;
use std::iter::repeat_n;

const LENGTHS: [usize; 4] = [0, 1, 2, 1000];

/// Compares each way in which results are taken with rayon's `collect`.
fn law<I, T>(name: &str, make: impl Fn() -> I)
where
    I: IndexedParallelIterator<Item = T>,
    T: Send + PartialEq + Debug + 'static,
{
    let expected: Vec<T> = make().collect();
    for n in 1..=9 {
        let stage = || make().ordered(n);
        assert_eq!(stage().collect::<Vec<_>>(), expected, "{name}, n = {n}");
        let folded = stage().fold(Vec::new(), |mut all, x| {
            all.push(x);
            all
        });
        assert_eq!(folded, expected, "{name}, n = {n}, folded");
        stage().scoped(|mut results| {
            // Some by `next`, and the rest folded.
            let mut all: Vec<T> = results.by_ref().take(expected.len() / 2).collect();
            assert_eq!(results.len(), expected.len() - all.len());
            results.for_each(|x| all.push(x));
            assert_eq!(all, expected, "{name}, n = {n}, in two parts");
        });
    }
    for bound in [1, 2, 8, 64] {
        let stage = make().ordered(3).in_flight(bound);
        assert_eq!(
            stage.collect::<Vec<_>>(),
            expected,
            "{name}, {bound} in flight"
        );
        let folded = make().ordered(3).in_flight(bound).fold(0, |sum, _| sum + 1);
        assert_eq!(folded, expected.len());
    }
}

#[test]
fn sources() {
    for len in LENGTHS {
        let items: Vec<u32> = (0..len as u32).collect();
        law("a range", || (0..len).into_par_iter());
        law("an inclusive range", || (0..=len as u16).into_par_iter());
        law("a Vec", || items.clone().into_par_iter());
        law("a Vec of strings", || {
            let words: Vec<String> = items.iter().map(u32::to_string).collect();
            words.into_par_iter()
        });
        law("a drain", || {
            let mut items = items.clone();
            items
                .par_drain(..)
                .map(|x| x)
                .collect::<Vec<_>>()
                .into_par_iter()
        });
        law("repeat_n", || rayon::iter::repeat_n(7_u8, len));
        law("an option", || Some(len).into_par_iter());
        law("an array", || [len, 1, 2].into_par_iter());
    }
    let nothing = Vec::<u8>::new();
    law("nothing", || nothing.clone().into_par_iter());
}

#[test]
fn adaptors() {
    for len in LENGTHS {
        let items: Vec<u32> = (0..len as u32).collect();
        let items = || items.clone().into_par_iter();
        law("map", || items().map(|x| x * 2));
        law("enumerate", || items().enumerate());
        law("zip", || items().zip(0..len + 3));
        law("chain", || items().chain(items().map(|x| x + 1)));
        law("rev", || items().rev());
        law("take", || items().take(len / 3));
        law("skip", || items().skip(len / 3));
        law("step_by", || items().step_by(3));
        law("chunks", || items().chunks(7));
        law("fold_chunks", || items().fold_chunks(4, || 0, |a, b| a + b));
        law("interleave", || items().interleave(items().map(|x| x + 9)));
        law("intersperse", || items().intersperse(5));
        law("inspect", || items().inspect(|_| ()));
        law("update", || items().update(|x| *x += 1));
        law("panic_fuse", || items().panic_fuse());
        law("with_max_len", || items().with_max_len(2));
        law("map_init", || items().map_init(|| 3, |by, x| x * *by));
        law("map_with", || items().map_with(2, |by, x| x * *by));
        for least in [2, 5, 64, 5000] {
            law("with_min_len", || {
                items().with_min_len(least).map(|x| x + 1)
            });
        }
        law("a long chain", || {
            let all = items()
                .chain(items())
                .rev()
                .enumerate()
                .zip(items().chain(items()));
            all.map(|((place, x), y)| place as u32 + x * 3 + y)
                .step_by(2)
        });
    }
}

#[test]
fn borrowed() {
    let words = ["to", "be", "or", "not", "to", "be"];
    let by = 3;
    let lens = || words.par_iter().map(|word| word.len() * by).ordered(2);
    assert_eq!(lens().collect::<Vec<_>>(), [6, 6, 6, 9, 6, 6]);
    assert_eq!(lens().sum::<usize>(), 39);
    lens().scoped(|lens| assert_eq!(lens.skip(2).max(), Some(9)));
    fanfold::scope(|s| {
        let both = lens().within(s).zip(lens().within(s));
        assert!(both.into_iter().all(|(a, b)| a == b));
    });
    // A stage behind it, which borrows too.
    let more = lens()
        .par_map_ordered(3, |len| len + by)
        .collect::<Vec<_>>();
    assert_eq!(more, [9, 9, 9, 12, 9, 9]);
    let mut buffer = vec![1, 2, 3, 4];
    let sums: Vec<i32> = buffer
        .par_chunks_mut(2)
        .map(|pair| {
            pair[0] += 10;
            pair[0] + pair[1]
        })
        .ordered(2)
        .collect();
    assert_eq!((sums, buffer), (vec![13, 17], vec![11, 2, 13, 4]));
}

#[test]
fn as_an_iterator() {
    let squares = (0..100_usize).into_par_iter().map(|x| x * x).ordered(4);
    assert_eq!(squares.len(), 100);
    let pairs = squares.filter(|x| x % 2 == 0).zip(repeat_n('x', 10));
    assert_eq!(pairs.count(), 10);
    // In front of any operator.
    let stage = (0..50_usize).into_par_iter().ordered(2);
    let sum: usize = stage.readahead(4).par_map_unordered(3, |x| x).sum();
    assert_eq!(sum, 49 * 25);
}

#[test]
fn longer_than_any_queue() {
    let numbers = (0..200_000_usize).into_par_iter().map(|x| x ^ 5);
    let expected: Vec<usize> = numbers.clone().collect();
    for n in [1, 2, 5] {
        assert!(numbers.clone().ordered(n).eq(expected.iter().copied()));
    }
}
