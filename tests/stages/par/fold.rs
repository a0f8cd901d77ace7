//! `par_fold`: a value per worker, merged at the end.

use crate::support::{
    Bang, Counter, Ledger, Meter, SOON, Tracked, bang, barren, caught, dawdle, payload, within,
};
use fanfold::{CancelToken, Fanfold, testing};
use std::cell::Cell;
use std::collections::BTreeSet;

#[test]
fn every_item_is_folded_once() {
    within(SOON, || {
        for n in 1..=9 {
            let add = |mut seen: Vec<u64>, i: u64| {
                dawdle(i);
                seen.push(i);
                seen
            };
            let merge = |mut a: Vec<u64>, b: Vec<u64>| (a.extend(b), a).1;
            let mut all = (0..2_000).par_fold(n, Vec::new, add, merge);
            all.sort_unstable();
            assert!(all.into_iter().eq(0..2_000));
            testing::assert_quiescent();
        }
    });
}

/// Each value belongs to one worker, and there are at most `n`: also if the source blocks.
#[test]
fn there_is_a_value_per_worker() {
    within(SOON, || {
        for n in 1..=9 {
            let (inits, merges, meter) = (Counter::new(), Cell::new(0), Meter::new());
            let sum = (0..n * 10).par_fold(
                n,
                || (inits.add(), 0),
                |(_, sum), i| {
                    meter.meet(n);
                    (0, sum + i)
                },
                |a, b| {
                    merges.set(merges.get() + 1);
                    (0, a.1 + b.1)
                },
            );
            assert_eq!(sum.1, (0..n * 10).sum());
            assert_eq!((inits.get(), merges.get(), meter.most()), (n, n - 1, n));

            let (inits, ran) = (Counter::new(), Counter::new());
            let source = (0..200).inspect(|i| ran.wait_for(*i));
            let init = || inits.add();
            source.par_fold(n, init, |_, _| ran.add(), |a, _| a);
            assert!(inits.get() <= n, "{} of {n}", inits.get());
        }
    });
}

#[test]
fn without_items_the_result_is_init() {
    within(SOON, || {
        for n in 1..=9 {
            let none = std::iter::empty::<u32>();
            assert_eq!(
                none.par_fold(n, || 7, |_, _| unreachable!(), |_, _| unreachable!()),
                7
            );
        }
    });
}

/// Neither values nor items are lost or dropped twice.
#[test]
fn everything_is_dropped_once() {
    within(SOON, || {
        for n in 1..=9 {
            let (ledger, ids) = (Ledger::new(), Counter::new());
            let value = || ledger.track(1_000 + ids.add() as u64);
            let source: Vec<_> = (0..300).map(|id| ledger.track(id)).collect();
            let items: BTreeSet<u64> = source.iter().map(|item| item.id).collect();
            let (value, seen) = source.into_iter().par_fold(
                n,
                || (value(), BTreeSet::new()),
                |(old, mut seen), item: Tracked| {
                    seen.insert(item.id);
                    drop(old);
                    (value(), seen)
                },
                |(a, mut seen), (_b, more)| {
                    seen.extend(more);
                    (a, seen)
                },
            );
            assert_eq!(seen, items);
            drop(value);
            ledger.assert_dropped_once();
        }
    });
}

/// In each case the panic is raised, and all values are dropped, each by itself, even if their drops panic too.
#[test]
fn a_panic_drops_all_values() {
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum At {
        Init,
        Fold,
        Merge,
        Source,
    }
    within(SOON, || {
        for n in 1..=9 {
            for at in [At::Init, At::Fold, At::Merge, At::Source] {
                for stubborn in [false, true] {
                    let (ledger, ids, meter) = (Ledger::new(), Counter::new(), Meter::new());
                    let value = || match 1_000 + ids.add() as u64 {
                        id if stubborn => ledger.stubborn(id),
                        id => ledger.track(id),
                    };
                    let source = (0..50 + n).map(|i| {
                        if at == At::Source && i == 40 + n {
                            bang(77);
                        }
                        ledger.track(i as u64)
                    });
                    let raised = payload(|| {
                        let folded = source.par_fold(
                            n,
                            || {
                                if at == At::Init && ids.get() + 1 == n {
                                    bang(77);
                                }
                                value()
                            },
                            |value, item| {
                                if item.id < n as u64 && at != At::Init {
                                    meter.meet(n);
                                }
                                if at == At::Fold && item.id == 40 {
                                    std::mem::forget(value);
                                    bang(77);
                                }
                                value
                            },
                            |a, b| {
                                std::mem::forget((a, b));
                                if at == At::Merge {
                                    bang(77);
                                }
                                value()
                            },
                        );
                        // Of one value nothing is merged.
                        std::mem::forget(folded);
                        if at == At::Merge && n == 1 || at == At::Init {
                            bang(77);
                        }
                    });
                    let raised = raised
                        .err()
                        .and_then(|raised| raised.downcast::<Bang>().ok());
                    assert_eq!(raised.as_deref(), Some(&Bang(77)), "{at:?}, {n}");
                    testing::assert_quiescent();
                }
            }
        }
    });
}

#[test]
fn it_borrows_and_is_a_part_of_chains() {
    within(SOON, || {
        let (docs, least) = (vec!["a", "bc", "def"], 2);
        let longer = |sum, len| if len >= least { sum + len } else { sum };
        let lens = docs.iter().par_map_ordered(2, |doc| doc.len());
        assert_eq!(lens.par_fold(3, || 0, longer, |a, b| a + b), 5);
        let local = docs.iter().local();
        assert_eq!(
            local.par_fold(3, || 0, |sum, doc| sum + doc.len(), |a, b| a + b),
            6
        );
    });
}

#[test]
fn it_ends_with_the_work_around_it() {
    within(SOON, || {
        for n in 1..=9 {
            let (token, ran) = (CancelToken::new(), Counter::new());
            let stage = (0..2).par_map_ordered(2, |i| {
                if i == 1 {
                    (0_u64..).par_fold(n, || 0, |_, _| ran.add(), |a, _| a);
                }
                i
            });
            let stage = stage.cancel_on(&token);
            std::thread::scope(|s| {
                s.spawn(|| {
                    ran.wait_for(100);
                    token.cancel();
                });
                assert!([0].starts_with(&stage.collect::<Vec<_>>()));
            });
            testing::assert_quiescent();
        }
    });
}

/// The calling thread runs everything, with a value per item; the sum is the same.
#[test]
fn without_threads_the_result_is_the_same() {
    within(SOON, || {
        let pool = barren();
        // No option can be set, so the calls come from a stage on that pool.
        let stage = (0..100_u64).par_map_ordered(2, |i| i).on(&pool);
        assert_eq!(
            stage.par_fold(3, || 0, |sum, i| sum + i, |a, b| a + b),
            4_950
        );
    });
}

#[test]
fn the_merge_runs_on_the_calling_thread() {
    within(SOON, || {
        let here = std::thread::current().id();
        let not_send = std::rc::Rc::new(Cell::new(0));
        let meter = Meter::new();
        let sum = (0..90).par_fold(
            3,
            || 0,
            |sum, i| {
                meter.meet(3);
                sum + i
            },
            |a, b| {
                assert_eq!(std::thread::current().id(), here);
                not_send.set(not_send.get() + 1);
                a + b
            },
        );
        assert_eq!((sum, not_send.get()), ((0..90).sum(), 2));
    });
}

#[test]
fn a_width_of_zero_is_told_what_to_write() {
    let text = crate::support::message(|| (0..3).par_fold(0, || 0, |a, b| a + b, |a, b| a + b));
    assert!(text.contains("at least 1"), "{text}");
    assert_eq!(
        caught(|| (0..3).par_fold(1, || 0, |a, b| a + b, |a, b| a + b)),
        Ok(3)
    );
}
