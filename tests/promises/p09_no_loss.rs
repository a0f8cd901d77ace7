//! P9: the counts agree at the end: admitted = run + discarded, and no result of a run item is lost.

use crate::kinds::{KINDS, With, each, items};
use crate::support::{Counter, Ledger, SOON, Tracked, bang, caught, counted, dawdle, mix, within};
use fanfold::testing::assert_quiescent;
use fanfold::{CancelToken, Fanfold};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

/// What went into a stage and what came out of it.
#[derive(Clone, Default)]
struct Books {
    admitted: Counter,
    items: Ledger,
    results: Ledger,
    ran: Arc<Mutex<BTreeSet<u64>>>,
}

impl Books {
    fn source(&self, len: u64) -> impl Iterator<Item = Tracked> + Send + use<> {
        let items = self.items.clone();
        counted((0..len).map(move |i| items.track(i)), &self.admitted)
    }

    /// Records the item as run; its result carries its id.
    fn run(&self, item: &Tracked) -> Tracked {
        let first = self.ran.lock().expect("not poisoned").insert(item.id);
        assert!(first, "item {} has run twice", item.id);
        self.results.track(item.id)
    }

    /// To be called when the stage is gone.
    #[track_caller]
    fn assert_tally(&self, yielded: usize) {
        self.items.assert_dropped_once();
        self.results.assert_dropped_once();
        let (admitted, ran) = (self.admitted.get(), self.ran.lock().expect("not poisoned"));
        assert_eq!(self.items.created(), admitted);
        assert_eq!(self.results.created(), ran.len());
        assert!(ran.len() <= admitted && yielded <= ran.len());
        // admitted items have consecutive numbers: the source skips none
        assert!(ran.iter().all(|&id| id < admitted as u64));
        // and every item before the last yielded one has run
        assert!(ran.iter().copied().take(yielded).eq(0..yielded as u64));
    }
}

#[test]
fn at_the_end_all_is_admitted_run_and_yielded() {
    for n in 1..=9 {
        within(SOON, move || {
            let books = Books::default();
            let yielded = books
                .source(1_000)
                .par_map_ordered(n, |item| books.run(&item))
                .count();
            assert_eq!((yielded, books.admitted.get()), (1_000, 1_000));
            assert_eq!(books.ran.lock().expect("not poisoned").len(), 1_000);
            books.assert_tally(1_000);
        });
    }
}

#[test]
fn after_an_early_drop() {
    for (n, k) in (1..=9).flat_map(|n| [0, 1, 9, 60, 299].map(move |k| (n, k))) {
        within(SOON, move || {
            let books = Books::default();
            let stage = books.source(300).par_map_ordered(n, {
                let books = books.clone();
                move |item| {
                    dawdle(item.id);
                    books.run(&item)
                }
            });
            assert_eq!(stage.take(k).count(), k);
            books.assert_tally(k);
        });
    }
}

#[test]
fn after_an_error() {
    for (n, k) in (1..=9).flat_map(|n| [0, 1, 9, 60, 299].map(move |k| (n, k))) {
        within(SOON, move || {
            let books = Books::default();
            let mut stage = books.source(300).try_par_map_ordered(n, {
                let books = books.clone();
                move |item| {
                    dawdle(item.id);
                    let result = books.run(&item);
                    if item.id < k { Ok(result) } else { Err(result) }
                }
            });
            let good = stage.by_ref().take_while(Result::is_ok).count();
            assert_eq!(good as u64, k);
            assert!(stage.next().is_none());
            drop(stage);
            books.assert_tally(good + 1);
        });
    }
}

#[test]
fn after_a_panic() {
    for (n, k) in (1..=9).flat_map(|n| [0, 1, 9, 60, 299].map(move |k| (n, k))) {
        within(SOON, move || {
            let books = Books::default();
            let mut stage = books.source(300).par_map_ordered(n, {
                let books = books.clone();
                move |item| {
                    dawdle(item.id);
                    let result = books.run(&item);
                    if item.id >= k {
                        bang(item.id);
                    }
                    result
                }
            });
            for _ in 0..k {
                assert!(stage.next().is_some());
            }
            assert_eq!(caught(|| stage.next().map(drop)), Err(k));
            drop(stage);
            books.assert_tally(k as usize);
        });
    }
}

#[test]
fn isolated_panics_lose_nothing() {
    for n in 1..=9 {
        within(SOON, move || {
            let books = Books::default();
            let results: Vec<_> = books
                .source(300)
                .par_map_ordered(n, |item| {
                    let result = books.run(&item);
                    if item.id % 3 == 1 {
                        bang(item.id);
                    }
                    result.id
                })
                .isolate()
                .collect();
            assert_eq!(results.len(), 300);
            let failed = results.iter().filter(|result| result.is_err()).count();
            assert_eq!(failed, 100);
            books.assert_tally(300);
        });
    }
}

#[test]
fn after_a_cancellation() {
    for (n, k) in (1..=9).flat_map(|n| [0, 1, 9, 60, 299].map(move |k| (n, k))) {
        within(SOON, move || {
            let (books, token) = (Books::default(), CancelToken::new());
            let mut stage = books
                .source(300)
                .par_map_ordered(n, {
                    let books = books.clone();
                    move |item| {
                        dawdle(item.id);
                        books.run(&item)
                    }
                })
                .cancel_on(&token);
            let mut yielded = stage.by_ref().take(k).count();
            token.cancel();
            yielded += stage.by_ref().count();
            assert!(stage.next().is_none());
            drop(stage);
            books.assert_tally(yielded);
        });
    }
}

#[test]
fn a_filter_loses_only_what_it_rejects() {
    for n in 1..=9 {
        within(SOON, move || {
            let books = Books::default();
            let kept: Vec<u64> = books
                .source(1_000)
                .par_filter(n, {
                    let books = books.clone();
                    move |item| {
                        drop(books.run(item));
                        item.id % 3 == 0
                    }
                })
                .map(|item| item.id)
                .collect();
            assert!(kept.into_iter().eq((0..1_000).step_by(3)));
            books.assert_tally(1_000);
        });
    }
}

/// Random ends of unordered stages, where the yielded items need not be the first ones.
#[test]
fn without_the_order() {
    for run in 0..200_u64 {
        within(SOON, move || {
            let (books, n) = (Books::default(), 1 + (run % 9) as usize);
            let stage = books.source(200).par_map_unordered(n, {
                let books = books.clone();
                move |item| {
                    dawdle(run << 8 ^ item.id);
                    books.run(&item)
                }
            });
            let take = crate::support::mix(run) as usize % 220;
            let ids: BTreeSet<u64> = stage.take(take).map(|result| result.id).collect();
            assert_eq!(ids.len(), take.min(200));
            assert!(ids.is_subset(&books.ran.lock().expect("not poisoned")));
            books.assert_tally(0);
        });
    }
}

/// Everything together, in each kind of stage: random times and bounds, and results that are kept for a while.
#[test]
fn no_kind_loses_anything_whatever_the_timing() {
    const LEN: u64 = 120;
    each(KINDS, 0..12, |kind, seed| {
        let random = mix(seed);
        let n = (random % 9) as usize + 1;
        let k = (random >> 8 & 31) as usize + 1;
        let ledger = Ledger::new();
        let source = (0..LEN).inspect(move |i| dawdle(i ^ random));
        let with = With::n(n).bound(k);
        let with = with.work(move |item| dawdle(item.id ^ mix(random)));
        let stage = kind.build(items(source, &ledger), &with);
        let ids: Vec<u64> = stage
            .map(|item| {
                dawdle(!item.id);
                item.id
            })
            .collect();
        kind.assert_all(&ids, LEN);
        ledger.assert_dropped_once();
        assert_quiescent();
    });
}
