//! Borrowed sources and closures: the terminal calls of a stage block, so they may borrow.

#![allow(clippy::redundant_closure_for_method_calls)] // a closure over borrowed items is the point

use crate::support::{SOON, within};
use fanfold::{CancelToken, Fanfold, Pool, Stage};
use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::rc::Rc;

fn docs() -> Vec<String> {
    (0..20).map(|i| format!("d{i} needle")).collect()
}

#[test]
fn every_adaptor_of_a_stage_borrows() {
    let (docs, few) = (docs(), 3);
    let names = docs
        .iter()
        .par_map_ordered(3, |doc| doc.as_str())
        .par_filter(3, |doc| doc.len() > few)
        .par_filter_map(3, |doc| doc.get(..few))
        .par_flat_map(3, |doc| doc.split(' '))
        .par_map_ordered_init(3, || few, |few, part| &part[..(*few).min(part.len())])
        .collect::<Vec<_>>();
    let want = docs.iter().flat_map(|doc| doc[..few].split(' '));
    assert!(names.into_iter().eq(want));
}

#[test]
fn every_terminal_call_borrows() {
    let (docs, needle) = (docs(), String::from("needle"));
    let stage = || {
        docs.iter()
            .par_map_ordered(8, |d| d.matches(&needle).count())
    };
    assert_eq!(stage().collect::<Vec<_>>(), [1; 20]);
    let mut total = 0;
    stage().for_each(|x| total += x);
    assert_eq!(total, 20);
    assert_eq!(stage().fold(0, |a, b| a + b), 20);
    assert_eq!(stage().fold::<u64, _>(0, |a, b| a + b as u64), 20);
    assert_eq!(stage().reduce(|a, b| a + b), Some(20));
    assert_eq!(stage().count(), 20);
    assert_eq!(stage().last(), Some(1));
    assert_eq!(stage().sum::<usize>(), 20);
    assert_eq!(stage().product::<usize>(), 1);
    assert_eq!((stage().min(), stage().max()), (Some(1), Some(1)));
    assert_eq!(stage().min_by_key(|x| *x), Some(1));
    assert_eq!(stage().max_by_key(|x| *x), Some(1));
    assert_eq!(stage().min_by(Ord::cmp), Some(1));
    assert_eq!(stage().max_by(Ord::cmp), Some(1));
    let (some, none) = stage().partition::<Vec<_>, _>(|x| *x > 0);
    assert_eq!((some.len(), none.len()), (20, 0));
    let pair = |d: &'_ String| (d.len(), needle.len());
    let (a, b): (Vec<_>, Vec<_>) = docs.iter().par_map_ordered(4, pair).unzip();
    assert_eq!((a.len(), b.len()), (20, 20));
}

#[test]
fn terminal_calls_that_may_stop_early_borrow_too() {
    let (docs, needle) = (docs(), String::from("needle"));
    let stage = || {
        docs.iter()
            .par_map_ordered(8, |d| d.matches(&needle).count())
    };
    assert!(stage().any(|x| x == 1) && stage().all(|x| x == 1));
    assert_eq!(stage().find(|x| *x == 1), Some(1));
    assert_eq!(stage().find_map(|x| (x == 1).then_some("one")), Some("one"));
    assert_eq!(stage().position(|x| x == 1), Some(0));
    assert_eq!(stage().position(|x| x == 2), None);
    let big = |x| if x > 5 { Err("big") } else { Ok(()) };
    assert_eq!(stage().try_for_each(big), Ok(()));
    let narrow = |x: usize| {
        let _: u8 = x.try_into()?;
        Ok::<_, std::num::TryFromIntError>(())
    };
    assert!(stage().try_for_each(narrow).is_ok());
    assert_eq!(stage().try_for_each(|x| (x < 1).then_some(())), None);
    assert_eq!(stage().try_for_each(|x| (x < 9).then_some(())), Some(()));
    let flow = stage().try_for_each(|x| {
        if x < 9 {
            ControlFlow::Break(x)
        } else {
            ControlFlow::Continue(())
        }
    });
    assert_eq!(flow, ControlFlow::Break(1));
}

#[allow(clippy::ptr_arg)] // it is the iterator's item
fn measured(word: &String) -> (usize, &str) {
    (word.len(), word)
}

#[test]
fn terminal_calls_agree_with_std() {
    for n in 1..=9 {
        let words: Vec<String> = (0..200).map(|i| (i * 7 % 50).to_string()).collect();
        let ours = || words.iter().par_map_ordered(n, measured);
        let theirs = || words.iter().map(measured);
        // which of several equal items it is matters
        assert_eq!(ours().min_by_key(|x| x.0), theirs().min_by_key(|x| x.0));
        assert_eq!(ours().max_by_key(|x| x.0), theirs().max_by_key(|x| x.0));
        assert_eq!(ours().max(), theirs().max());
        assert_eq!(
            ours().min_by(|a, b| a.1.cmp(b.1)),
            theirs().min_by(|a, b| a.1.cmp(b.1))
        );
        assert_eq!(ours().last(), words.last().map(measured));
        let add = |all: String, x: (usize, &str)| all + x.1;
        assert_eq!(
            ours().fold(String::new(), add),
            theirs().fold(String::new(), add)
        );
        let longer = |a: (usize, _), b: (usize, _)| if a.0 > b.0 { a } else { b };
        assert_eq!(ours().reduce(longer), theirs().reduce(longer));
        let long = |x: &(usize, &str)| x.0 > 1;
        let pair: (Vec<_>, Vec<_>) = ours().partition(long);
        assert_eq!(pair, theirs().partition(long));
        assert_eq!(
            ours().position(|x| x.1 == "49"),
            theirs().position(|x| x.1 == "49")
        );
        assert_eq!(ours().find(|x| x.1 > "3"), theirs().find(|x| x.1 > "3"));
        let set: BTreeSet<&str> = words.iter().par_map_ordered(n, |w| w.as_str()).collect();
        assert_eq!(set, words.iter().map(String::as_str).collect());
    }
}

#[test]
fn results_may_borrow_from_the_items() {
    let docs = docs();
    let lens: HashMap<&str, usize> = docs
        .iter()
        .par_map_ordered(4, |d| (d.as_str(), d.len()))
        .collect();
    assert_eq!(lens["d7 needle"], 9);
    let first: Result<Vec<usize>, std::num::ParseIntError> = docs
        .iter()
        .par_map_ordered(4, |d| d.parse::<usize>())
        .collect();
    assert!(first.is_err());
    let needle = String::from("needle");
    let all: Result<Vec<usize>, String> = docs
        .iter()
        .try_par_map_ordered(4, |d| {
            if d.contains(&needle) {
                Ok(d.len())
            } else {
                Err(d.clone())
            }
        })
        .collect();
    assert_eq!(all.map(|lens| lens.len()), Ok(20));
}

#[test]
fn every_adaptor_borrows() {
    let (docs, needle) = (docs(), String::from("needle"));
    let kept: Vec<&String> = docs.iter().par_filter(4, |d| d.contains(&needle)).collect();
    assert_eq!(kept.len(), 20);
    let strip = |d: &'_ String| d.strip_suffix(&*needle).map(str::len);
    let stripped: Vec<usize> = docs.iter().par_filter_map(4, strip).collect();
    assert_eq!(stripped.len(), 20);
    let words: Vec<&str> = docs.iter().par_flat_map(4, |d| d.split(' ')).collect();
    assert_eq!(words.len(), 40);
    let init = || Rc::new(needle.len());
    let sums: Vec<usize> = docs
        .iter()
        .par_map_ordered_init(4, init, |n, d| d.len() + **n)
        .collect();
    assert_eq!(sums[0], 15);
    let mut unordered: Vec<usize> = docs
        .iter()
        .par_map_unordered(4, |d| d.len() + needle.len())
        .collect();
    unordered.sort_unstable();
    assert_eq!((unordered[0], unordered[19]), (15, 16));
}

#[test]
fn items_may_be_borrowed_mutably() {
    let mut numbers = vec![1_u64, 2, 3];
    let one = 1;
    numbers
        .iter_mut()
        .par_map_ordered(2, |x| *x += one)
        .for_each(drop);
    assert_eq!(numbers, [2, 3, 4]);
    let mut rows = [[0_u8; 4]; 50];
    rows.iter_mut()
        .par_map_unordered(3, |row| row.fill(7))
        .for_each(drop);
    assert!(rows.iter().all(|row| *row == [7; 4]));
}

#[test]
fn options_do_not_prevent_borrowing() {
    let (docs, needle) = (docs(), String::from("needle"));
    let (token, pool) = (CancelToken::new(), Pool::builder().named("own").build());
    let got = docs
        .iter()
        .par_map_ordered(4, |d| d.matches(&needle).count())
        .in_flight(9)
        .unordered()
        .named("count")
        .named(format!("count {}", 1))
        .cancel_on(&token)
        .on(&pool)
        .eager()
        .isolate()
        .collect::<Vec<_>>();
    assert_eq!(got, vec![Ok(1); 20]);
}

#[test]
fn chains_of_stages_borrow_without_a_scope() {
    let (docs, needle) = (docs(), String::from("needle"));
    let v: Vec<usize> = docs
        .iter()
        .par_filter(8, |d| d.contains(&needle))
        .par_map_ordered(4, |d| d.len() + needle.len())
        .par_flat_map(2, |n| [n, n])
        .in_flight(5)
        .collect();
    assert_eq!((v.len(), v[0], v[39]), (40, 15, 16));
    let sum = docs
        .iter()
        .par_filter(8, |d| d.contains(&needle))
        .isolate()
        .par_map_ordered(4, |d| d.map_or(0, String::len))
        .sum::<usize>();
    assert_eq!(sum, docs.iter().map(String::len).sum());
    let good: Result<Vec<_>, String> = docs
        .iter()
        .par_map_unordered(8, |d| d.as_str())
        .try_par_map_ordered(4, |d| {
            if d.contains(&needle) {
                Ok(d)
            } else {
                Err(d.to_owned())
            }
        })
        .collect();
    assert_eq!(good.map(|all| all.len()), Ok(20));
    let rc = Rc::new(2_usize);
    let n = docs
        .iter()
        .map(|d| d.len() + *rc)
        .local()
        .par_map_ordered(2, |n| n + needle.len())
        .local()
        .par_filter(2, |n| *n > needle.len())
        .count();
    assert_eq!(n, 20);
}

#[test]
fn by_ref_reaches_the_methods_of_std() {
    within(SOON, || {
        let mut stage = (0..10_u32).par_map_ordered(2, |x| x);
        assert_eq!(stage.by_ref().find(|x| *x == 3), Some(3));
        assert_eq!(Iterator::position(&mut stage, |x| x == 5), Some(1));
        assert!(stage.by_ref().take(2).eq([6, 7]));
        assert_eq!(stage.collect::<Vec<_>>(), [8, 9]);
        let boxed: Box<Stage<_>> = Box::new((0..10_u32).par_map_ordered(2, |x| x));
        assert_eq!(boxed.count(), 10);
    });
}

#[test]
fn a_stage_that_has_begun_ends_in_a_terminal_call() {
    for n in 1..=9 {
        within(SOON, move || {
            let begun = || {
                let mut stage = (0..100_u64).par_map_ordered(n, |i| i);
                assert_eq!([stage.next(), stage.next()], [Some(0), Some(1)]);
                stage
            };
            assert_eq!(begun().count(), 98);
            assert_eq!(begun().sum::<u64>(), 4_949);
            assert_eq!(begun().last(), Some(99));
            assert!(begun().collect::<Vec<_>>().into_iter().eq(2..100));
        });
    }
}

#[test]
fn vectors_by_value_and_by_reference() {
    let words = vec![String::from("a"), String::from("bb")];
    assert_eq!(
        words.iter().par_map_ordered(2, |w| w.len()).sum::<usize>(),
        3
    );
    assert_eq!(
        words
            .into_iter()
            .par_map_ordered(2, |w| w.len())
            .sum::<usize>(),
        3
    );
}

#[test]
fn terminal_calls_on_no_items_give_the_empty_result() {
    let none: [u8; 0] = [];
    let stage = || none.iter().par_map_ordered(3, |x| *x);
    assert_eq!(stage().reduce(|a, _| a), None);
    assert_eq!(
        (stage().min(), stage().max(), stage().last()),
        (None, None, None)
    );
    assert_eq!(
        (
            stage().sum::<u8>(),
            stage().product::<u8>(),
            stage().count()
        ),
        (0, 1, 0)
    );
    assert!(stage().all(|_| false) && !stage().any(|_| true));
}
