//! `scope`: stages that borrow, as iterators.

#![allow(clippy::redundant_closure_for_method_calls)] // a closure over borrowed items is the point

use crate::support::{Counter, Ledger, Meter, SOON, bang, caught, settle, within};
use fanfold::{CancelToken, Fanfold};
use itertools::Itertools;
use std::cell::Cell;
use std::rc::Rc;

fn docs() -> Vec<String> {
    (0..40).map(|i| format!("d{i} needle")).collect()
}

#[test]
fn a_scope_returns_what_its_closure_returns() {
    assert_eq!(fanfold::scope(|_| 7), 7);
    let docs = docs();
    let first = fanfold::scope(|s| {
        docs.iter()
            .par_map_ordered(2, |d| d.as_str())
            .within(s)
            .next()
    });
    assert_eq!(first, Some("d0 needle"));
}

#[test]
fn a_stage_in_a_scope_is_an_iterator_that_borrows() {
    for n in 1..=9 {
        within(SOON, move || {
            let (docs, needle) = (docs(), String::from("needle"));
            let mut out = Vec::new();
            fanfold::scope(|s| {
                for len in docs
                    .iter()
                    .par_map_ordered(n, |d| d.len() + needle.len())
                    .within(s)
                {
                    out.push(len);
                }
                let stage = docs
                    .iter()
                    .par_filter(n, |d| d.contains(&needle))
                    .in_flight(3);
                let some = stage
                    .within(s)
                    .skip(1)
                    .step_by(3)
                    .map(String::len)
                    .sum::<usize>();
                assert!(some > 0);
                let pairs = docs
                    .iter()
                    .par_map_ordered(n, |d| d.len())
                    .within(s)
                    .tuple_windows();
                assert!(
                    pairs
                        .map(|(a, b)| a + b)
                        .eq(docs.windows(2).map(|w| w[0].len() + w[1].len()))
                );
            });
            assert!(out.into_iter().eq(docs.iter().map(|d| d.len() + 6)));
        });
    }
}

#[test]
fn every_adaptor_works_in_a_scope() {
    within(SOON, || {
        let (docs, six) = (docs(), 6_usize);
        fanfold::scope(|s| {
            assert_eq!(
                docs.iter()
                    .par_map_ordered(2, |d| d.len() + six)
                    .within(s)
                    .count(),
                40
            );
            assert_eq!(
                docs.iter()
                    .par_map_unordered(2, |d| d.len() + six)
                    .within(s)
                    .count(),
                40
            );
            assert_eq!(
                docs.iter()
                    .par_filter(2, |d| d.len() > six)
                    .within(s)
                    .count(),
                40
            );
            let strip = |d: &'_ String| d.get(six..).map(str::to_owned);
            assert_eq!(docs.iter().par_filter_map(2, strip).within(s).count(), 40);
            assert_eq!(
                docs.iter()
                    .par_flat_map(2, |d| d.split(' '))
                    .within(s)
                    .count(),
                80
            );
            let init = docs
                .iter()
                .par_map_ordered_init(2, || Rc::new(six), |n, d| d.len() + **n);
            assert_eq!(init.within(s).count(), 40);
            let tried = docs
                .iter()
                .try_par_map_ordered(2, |d| d.get(..six).ok_or(d));
            assert!(tried.within(s).all(|result| result.is_ok()));
            let isolated = docs.iter().par_map_ordered(2, |d| d.len() + six).isolate();
            assert!(isolated.within(s).all(|result| result.is_ok()));
        });
    });
}

#[test]
fn a_chain_of_borrowing_stages_needs_one_scope() {
    for n in 1..=9 {
        within(SOON, move || {
            let (docs, needle) = (docs(), String::from("1"));
            let out: Vec<usize> = fanfold::scope(|s| {
                docs.iter()
                    .par_filter(n, |d| d.contains(&needle))
                    .par_map_ordered(n, |d| d.len() + needle.len())
                    .within(s)
                    .map(|n| n * 2)
                    .collect()
            });
            let theirs = docs
                .iter()
                .filter(|d| d.contains('1'))
                .map(|d| (d.len() + 1) * 2);
            assert!(out.into_iter().eq(theirs));
        });
    }
}

/// Ordinary adaptors between borrowing stages: each of the stages is within the scope.
#[test]
fn a_chain_with_ordinary_adaptors_in_a_scope() {
    within(SOON, || {
        let (docs, needle) = (docs(), String::from("1"));
        let sum: usize = fanfold::scope(|s| {
            docs.iter()
                .par_filter(2, |d| d.contains(&needle))
                .within(s)
                .map(|d| d.len() + needle.len())
                .par_map_ordered(3, |n| n + needle.len())
                .within(s)
                .sum()
        });
        let theirs = docs.iter().filter(|d| d.contains('1')).map(|d| d.len() + 2);
        assert_eq!(sum, theirs.sum());
    });
}

#[test]
fn a_local_source_in_a_scope() {
    within(SOON, || {
        let (docs, rc, six) = (docs(), Rc::new(Cell::new(0)), 6_usize);
        let sum: usize = fanfold::scope(|s| {
            let source = docs.iter().inspect(|_| rc.set(rc.get() + 1));
            source
                .local()
                .par_map_ordered(3, |d| d.len() + six)
                .within(s)
                .sum()
        });
        assert_eq!(sum, docs.iter().map(|d| d.len() + 6).sum());
        assert_eq!(rc.get(), 40);
    });
}

#[test]
fn a_question_mark_leaves_a_scope() {
    fn all(docs: &[String]) -> Result<usize, std::num::ParseIntError> {
        fanfold::scope(|s| {
            let mut sum = 0;
            for number in docs
                .iter()
                .par_map_ordered(3, |d| d.parse::<usize>())
                .within(s)
            {
                sum += number?;
            }
            Ok(sum)
        })
    }
    within(SOON, || {
        assert!(all(&docs()).is_err());
        assert_eq!(all(&["1".to_owned(), "2".to_owned()]), Ok(3));
    });
}

#[test]
fn scopes_nest() {
    within(SOON, || {
        let outer_text = String::from("outer");
        let sum: usize = fanfold::scope(|s| {
            let stage = (0..10_usize).par_map_ordered(2, |i| {
                let inner_text = String::from("inner");
                fanfold::scope(|t| {
                    let f = |j| j + inner_text.len() + outer_text.len();
                    (0..i).par_map_ordered(2, f).within(t).sum::<usize>()
                })
            });
            let inside = fanfold::scope(|t| {
                (0..3_usize)
                    .par_map_unordered(2, |i| i + outer_text.len())
                    .within(t)
                    .sum::<usize>()
            });
            stage.within(s).sum::<usize>() + inside
        });
        let theirs: usize = (0..10)
            .map(|i: usize| (0..i).map(|j| j + 10).sum::<usize>())
            .sum();
        assert_eq!(sum, theirs + 18);
    });
}

#[test]
fn a_stage_that_never_starts_is_no_trouble() {
    within(SOON, || {
        let (docs, ran) = (docs(), Counter::new());
        fanfold::scope(|s| {
            let _idle = docs.iter().par_map_ordered(2, |_| ran.add()).within(s);
        });
        fanfold::scope(|s| {
            std::mem::forget(docs.iter().par_map_ordered(2, |_| ran.add()).within(s));
        });
        assert_eq!(ran.get(), 0);
    });
}

#[test]
fn several_stages_share_a_scope() {
    within(SOON, || {
        let docs = docs();
        let same = fanfold::scope(|s| {
            let lens = docs.iter().par_map_ordered(3, |d| d.len()).within(s);
            let lasts = docs
                .iter()
                .par_map_ordered(2, |d| d.chars().last())
                .within(s);
            lens.zip(lasts)
                .all(|(len, last)| len > 7 && last == Some('e'))
        });
        assert!(same);
    });
}

#[test]
fn a_stage_in_a_scope_may_be_used_by_a_scoped_thread() {
    within(SOON, || {
        let docs = docs();
        let count = fanfold::scope(|s| {
            let mut stage = docs.iter().par_map_ordered(3, |d| d.len()).within(s);
            assert_eq!(stage.next(), Some(9));
            std::thread::scope(|t| t.spawn(|| stage.count()).join().expect("no panic"))
        });
        assert_eq!(count, 39);
    });
}

#[test]
fn panics_leave_a_scope_with_their_payload() {
    for n in 1..=9 {
        within(SOON, move || {
            let docs = docs();
            assert_eq!(caught(|| fanfold::scope(|_| bang(1))), Err(1));
            let of_closure = caught(|| {
                fanfold::scope(|s| {
                    let f = |d: &String| if d.len() > 9 { bang(2) } else { d.len() };
                    docs.iter().par_map_ordered(n, f).within(s).count()
                })
            });
            assert_eq!(of_closure, Err(2));
            // a panic that no call was there to receive is not raised later
            let forgotten = caught(|| {
                fanfold::scope(|s| {
                    let f = |d: &String| if d.len() > 9 { bang(3) } else { d.len() };
                    let mut stage = docs.iter().par_map_ordered(n, f).within(s);
                    assert_eq!(stage.next(), Some(9));
                });
            });
            assert_eq!(forgotten, Ok(()));
        });
    }
}

/// A call of `scoped`: nothing runs before the first output is asked for, and nothing is left behind.
#[test]
fn scoped_is_lazy_and_joins() {
    for n in 1..=9 {
        within(SOON, move || {
            let (docs, pulls, ledger) = (docs(), Counter::new(), Ledger::new());
            let lens = || {
                let source = docs.iter().inspect(|_| _ = pulls.add());
                source.par_map_ordered(n, |doc| {
                    (ledger.track(pulls.get() as u64 + 1_000), doc.len()).1
                })
            };
            assert_eq!(lens().scoped(|lens| lens.size_hint()), (40, Some(40)));
            assert_eq!(lens().scoped(|lens| lens.len()), 40);
            settle();
            assert_eq!(pulls.get(), 0);
            let taken = lens().in_flight(3).scoped(|mut lens| {
                let first = lens.next();
                assert_eq!((lens.len(), lens.is_cut_short()), (39, false));
                assert!(format!("{lens:?}").contains("running"));
                assert!(lens.next_within(SOON).is_ok_and(|second| second == first));
                first
            });
            assert_eq!(taken, Some(9));
            assert!(pulls.get() <= 5, "{}", pulls.get());
            assert_eq!(ledger.alive(), 0);
            fanfold::testing::assert_quiescent();
        });
    }
}

#[test]
fn scoped_passes_panics_on_when_it_has_joined() {
    for n in 1..=9 {
        within(SOON, move || {
            let (docs, meter) = (docs(), Meter::new());
            let lens = || {
                docs.iter()
                    .par_map_ordered(n, |doc| (meter.enter(), doc.len()).1)
            };
            let result = caught(|| {
                lens().scoped(|mut lens| {
                    assert_eq!(lens.next(), Some(9));
                    bang(7);
                });
            });
            assert_eq!(result, Err(7));
            meter.wait_for(0);
            fanfold::testing::assert_quiescent();
            let bad = |doc: &String| {
                if doc.starts_with("d5") {
                    bang(5)
                } else {
                    doc.len()
                }
            };
            let result = caught(|| {
                docs.iter().par_map_ordered(n, bad).scoped(|mut lens| {
                    let before = lens.by_ref().take(5).count();
                    let raised = caught(|| lens.next());
                    assert_eq!((before, raised, lens.next()), (5, Err(5), None));
                    bang(8);
                });
            });
            assert_eq!(result, Err(8));
            fanfold::testing::assert_quiescent();
        });
    }
}

/// What is lent within `scoped` is not ended with its borrower, on whichever thread that was.
#[test]
fn the_outputs_of_scoped_can_be_lent_and_sent() {
    for n in 1..=9 {
        within(SOON, move || {
            let docs = docs();
            let sum = docs
                .iter()
                .par_map_ordered(n, |doc| doc.len())
                .scoped(|mut lens| {
                    let first: usize = lens.by_ref().take(10).par_map_ordered(n, |len| len).sum();
                    let front = std::thread::scope(|s| {
                        let front = s.spawn(|| lens.by_ref().take(10).sum::<usize>());
                        front.join().expect("no panic")
                    });
                    let rest: usize = lens.sum();
                    first + front + rest
                });
            assert_eq!(sum, docs.iter().map(String::len).sum());
        });
    }
}

/// Started by a borrower, it still belongs to the work around the call.
#[test]
fn scoped_ends_with_the_work_around_it() {
    for n in 1..=9 {
        within(SOON, move || {
            let (token, seen) = (CancelToken::new(), Counter::new());
            let stage = (0..2).par_map_ordered(2, |i: u64| {
                if i == 1 {
                    let count = (0_u64..)
                        .par_map_ordered(n, |j| j + i)
                        .scoped(|numbers| numbers.inspect(|_| _ = seen.add()).count());
                    assert!(count > 0);
                }
                i
            });
            let stage = stage.cancel_on(&token);
            std::thread::scope(|s| {
                s.spawn(|| {
                    seen.wait_for(1_000);
                    token.cancel();
                });
                assert!([0].starts_with(&stage.collect::<Vec<_>>()));
            });
            fanfold::testing::assert_quiescent();
        });
    }
}
