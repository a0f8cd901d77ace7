//! The forms of `map`, `filter`, `filter_map` and `flat_map`: plain or fallible, without a state or with one, in order or
//! not. Each has a name, or is a `map` whose outputs are taken apart (the table is in `DESIGN.md`).

use crate::support::{SOON, dawdle, within};
use fanfold::Fanfold;
use itertools::Itertools;
use std::fmt::Debug;

const LEN: u64 = 200;

/// Where a fallible closure fails.
const BAD: u64 = 150;

fn mapped(i: u64) -> u64 {
    dawdle(i);
    i * 10
}

fn kept(i: u64) -> bool {
    dawdle(i);
    i % 3 > 0
}

fn several(i: u64) -> Vec<u64> {
    dawdle(i);
    (0..i % 3).map(|more| i * 10 + more).collect()
}

fn attempt<T>(i: u64, f: impl FnOnce(u64) -> T) -> Result<T, u64> {
    if i == BAD { Err(i) } else { Ok(f(i)) }
}

/// A state counts its items.
fn init() -> u64 {
    0
}

#[allow(clippy::unnecessary_wraps)] // it stands for one that may fail
fn try_init() -> Result<u64, u64> {
    Ok(0)
}

/// Until the first error, which is the last output.
fn until_error<T>(all: impl Iterator<Item = Result<T, u64>>) -> Vec<Result<T, u64>> {
    let mut ended = false;
    all.take_while(|output| !std::mem::replace(&mut ended, output.is_err()))
        .collect()
}

#[track_caller]
fn same<T: Debug + Ord>(ordered: bool, got: impl Iterator<Item = T>, want: &[T]) {
    let mut got: Vec<T> = got.collect();
    if !ordered {
        got.sort();
    }
    assert_eq!(got, want);
}

/// Without an order, results before the error may be missing, and later ones may be there.
#[track_caller]
fn same_tries<T: Debug + Ord>(
    ordered: bool,
    got: impl Iterator<Item = Result<T, u64>>,
    want: &[Result<T, u64>],
) {
    let got: Vec<_> = got.collect();
    if ordered {
        assert_eq!(got, want);
    } else {
        let (last, before) = got.split_last().expect("an error");
        assert_eq!(last.as_ref().err(), Some(&BAD));
        assert!(before.iter().all(Result::is_ok) && before.iter().all_unique_by_value());
    }
}

trait AllUnique: Iterator {
    fn all_unique_by_value(self) -> bool;
}

impl<I: Iterator<Item: Ord>> AllUnique for I {
    fn all_unique_by_value(self) -> bool {
        let mut all: Vec<_> = self.collect();
        all.sort();
        all.windows(2).all(|two| two[0] != two[1])
    }
}

/// The stage in order, and not.
macro_rules! both {
    ($same:ident, $stage:expr, $take:expr, $want:expr) => {{
        let want: Vec<_> = $want;
        $same(true, $take($stage), &want);
        $same(false, $take($stage.unordered()), &want);
    }};
}

#[test]
fn plain() {
    within(SOON, || {
        for n in 1..=9 {
            let all = || 0..LEN;
            both!(
                same,
                all().par_map_ordered(n, mapped),
                |s| s,
                all().map(mapped).collect()
            );
            same(
                false,
                all().par_map_unordered(n, mapped),
                &all().map(mapped).collect::<Vec<_>>(),
            );
            let odd = |i: &u64| kept(*i);
            both!(
                same,
                all().par_filter(n, odd),
                |s| s,
                all().filter(odd).collect()
            );
            let f = |i| kept(i).then(|| mapped(i));
            both!(
                same,
                all().par_filter_map(n, f),
                |s| s,
                all().filter_map(f).collect()
            );
            let want: Vec<_> = all().flat_map(several).collect();
            same(true, all().par_flat_map(n, several), &want);
            // The outputs of an item as one: in the order of arrival, too.
            both!(
                same,
                all().par_map_ordered(n, several),
                Iterator::flatten,
                want.clone()
            );
        }
    });
}

#[test]
fn fallible() {
    within(SOON, || {
        for n in 1..=9 {
            let all = || 0..LEN;
            let map = |i| attempt(i, mapped);
            let want: Vec<_> = until_error(all().map(map));
            both!(
                same_tries,
                all().try_par_map_ordered(n, map),
                |s| s,
                want.clone()
            );
            same_tries(false, all().try_par_map_unordered(n, map), &want);

            let odd = |i: &u64| attempt(*i, kept);
            let want = until_error(
                all().filter_map(|i| odd(&i).map(|keep| keep.then_some(i)).transpose()),
            );
            both!(same_tries, all().try_par_filter(n, odd), |s| s, want);

            let f = |i| attempt(i, |i| kept(i).then(|| mapped(i)));
            let want = until_error(all().filter_map(|i| f(i).transpose()));
            both!(same_tries, all().try_par_filter_map(n, f), |s| s, want);

            let f = |i| attempt(i, several);
            let want = until_error(all().map(f).flatten_ok());
            let g = move |i| f(i).map(|all| all.into_iter().map(Ok));
            same_tries(true, all().try_par_flat_map(n, g), &want);
            both!(
                same_tries,
                all().try_par_map_ordered(n, f),
                Itertools::flatten_ok,
                want
            );
        }
    });
}

#[test]
fn with_a_state() {
    within(SOON, || {
        for n in 1..=9 {
            let all = || 0..LEN;
            let count = |state: &mut u64| *state += 1;
            let map = move |state: &mut u64, i| (count(state), mapped(i)).1;
            both!(
                same,
                all().par_map_ordered_init(n, init, map),
                |s| s,
                all().map(mapped).collect()
            );
            let filter = move |state: &mut u64, i| (count(state), kept(i).then_some(i)).1;
            let stage = || all().par_map_ordered_init(n, init, filter);
            both!(
                same,
                stage(),
                Iterator::flatten,
                all().filter(|i| kept(*i)).collect()
            );
            let f = move |state: &mut u64, i| (count(state), kept(i).then(|| mapped(i))).1;
            let want = all().filter(|i| kept(*i)).map(mapped).collect();
            both!(
                same,
                all().par_map_ordered_init(n, init, f),
                Iterator::flatten,
                want
            );
            let f = move |state: &mut u64, i| (count(state), several(i)).1;
            let want = all().flat_map(several).collect();
            both!(
                same,
                all().par_map_ordered_init(n, init, f),
                Iterator::flatten,
                want
            );
        }
    });
}

#[test]
fn fallible_with_a_state() {
    within(SOON, || {
        for n in 1..=9 {
            let all = || 0..LEN;
            let map = |_: &mut u64, i| attempt(i, mapped);
            let want = until_error(all().map(|i| attempt(i, mapped)));
            both!(
                same_tries,
                all().try_par_map_ordered_init(n, try_init, map),
                |s| s,
                want
            );
            let f = |_: &mut u64, i| attempt(i, |i| kept(i).then_some(i));
            let some = |s| Iterator::filter_map(s, Result::transpose);
            let want =
                until_error(all().filter_map(|i| attempt(i, |i| kept(i).then_some(i)).transpose()));
            both!(
                same_tries,
                all().try_par_map_ordered_init(n, try_init, f),
                some,
                want
            );
            let f = |_: &mut u64, i| attempt(i, several);
            let want = until_error(all().map(|i| attempt(i, several)).flatten_ok());
            both!(
                same_tries,
                all().try_par_map_ordered_init(n, try_init, f),
                |s| Itertools::flatten_ok(s),
                want
            );
        }
    });
}

/// All of them, where the source and the closures borrow.
#[test]
fn on_a_stage_that_borrows() {
    within(SOON, || {
        let (numbers, ten): (Vec<u64>, u64) = ((0..LEN).collect(), 10);
        let stage = || numbers.iter().par_map_ordered(2, |i| *i);
        let f = |i| Ok::<_, ()>(i * ten);
        assert!(
            stage()
                .try_par_map_unordered(3, f)
                .all(|output| output.is_ok())
        );
        let even = |i: &u64| Ok::<_, ()>(i * ten % 20 == 0);
        assert_eq!(stage().try_par_filter(3, even).count(), 100);
        let even = |i| Ok::<_, ()>((i * ten % 20 == 0).then_some(i));
        assert_eq!(stage().try_par_filter_map(3, even).count(), 100);
        let init = || Ok::<_, ()>(ten);
        let f = |state: &mut u64, i| Ok(*state * i);
        let sum: Result<u64, ()> = stage().try_par_map_ordered_init(3, init, f).sum();
        assert_eq!(sum, Ok(199_000));
    });
}
