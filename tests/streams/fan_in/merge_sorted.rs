//! `merge_sorted_by_key`: the order of a sort, and an error where the input is not sorted.

use crate::support::{
    Counter, Gate, Ledger, SOON, Tracked, bang, blocks, caught, message, panics_at, within,
};

type Boxed = Box<dyn Iterator<Item = u64> + Send>;
use fanfold::{CancelToken, fan_in::Unsorted, merge_sorted_by_key};
use quickcheck::quickcheck;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Items that know where they come from, sorted by their first part.
fn tagged(sources: Vec<Vec<u8>>) -> Vec<Vec<(u8, usize, usize)>> {
    let tag = |(index, mut source): (usize, Vec<u8>)| {
        source.sort_unstable();
        let tag = |(place, key)| (key, index, place);
        source.into_iter().enumerate().map(tag).collect()
    };
    sources.into_iter().enumerate().map(tag).collect()
}

quickcheck! {
    fn it_is_a_stable_sort(sources: Vec<Vec<u8>>, buffer: u8) -> bool {
        let sources = tagged(sources);
        let mut want: Vec<_> = sources.iter().flatten().copied().collect();
        want.sort_by_key(|item| item.0);
        let buffer = usize::from(buffer % 8) + 1;
        let checked = merge_sorted_by_key(sources.clone(), |item| item.0).buffer(buffer);
        let trusted = merge_sorted_by_key(sources, |item| item.0).assume_sorted();
        checked.map(Result::unwrap).eq(want.iter().copied()) && trusted.eq(want)
    }

    fn what_is_not_sorted_is_an_error_after_a_sorted_start(sources: Vec<Vec<u8>>) -> bool {
        let is_sorted = |source: &Vec<u8>| source.is_sorted();
        let good = sources.iter().all(is_sorted);
        let mut merged = merge_sorted_by_key(sources.clone(), |x| *x);
        let mut before = None;
        let end = loop {
            match merged.next() {
                Some(Ok(item)) if before > Some(item) => return false,
                Some(Ok(item)) => before = Some(item),
                Some(Err(error)) => break Some(error),
                None => break None,
            }
        };
        let named = |error: Unsorted<u8>| {
            let source = &sources[error.source_index];
            source.windows(2).any(|pair| pair == [error.before, error.after])
                && error.before > error.after
        };
        merged.next().is_none() && end.map_or(good, |error| !good && named(error))
    }
}

#[test]
fn an_item_whose_turn_has_come_waits_for_no_source() {
    within(SOON, || {
        let gate = Gate::new();
        let sources = [1, 2].map(|first| (first..=first).chain(blocks(&gate)));
        let mut merged = merge_sorted_by_key(sources, |x| *x).assume_sorted();
        let _open = gate.opener();
        assert_eq!(merged.next(), Some(1));
    });
}

#[test]
fn an_error_waits_for_no_source() {
    within(SOON, || {
        let gate = Gate::new();
        let sources: [Boxed; 2] = [
            Box::new([3, 1].into_iter()),
            Box::new(std::iter::once(9).chain(blocks(&gate))),
        ];
        let mut merged = merge_sorted_by_key(sources, |x| *x).buffer(4);
        let _open = gate.opener();
        assert_eq!(merged.next(), Some(Ok(3)));
        let error = merged.next().and_then(Result::err).expect("an error");
        assert_eq!((error.before, error.after), (3, 1));
        for _ in 0..3 {
            assert_eq!(merged.next(), None);
            assert_eq!(merged.size_hint(), (0, Some(0)));
        }
    });
}

/// A source that is stopped counts as one that has ended.
#[test]
fn a_cancelled_merge_yields_what_is_buffered_in_order() {
    within(SOON, || {
        type Boxed = Box<dyn Iterator<Item = u64> + Send>;
        let (gate, token, there) = (Gate::new(), CancelToken::new(), Counter::new());
        let ready = |first: u64| -> Boxed {
            let (there, gate) = (there.clone(), gate.clone());
            let rest = std::iter::from_fn(move || {
                there.add(); // every item before this has been handed over
                gate.wait();
                None
            });
            Box::new((first..10).step_by(2).chain(rest))
        };
        let sources = [ready(0), Box::new(blocks(&gate)) as Boxed, ready(1)];
        let merged = merge_sorted_by_key(sources, |x| *x).assume_sorted();
        let mut merged = merged.cancel_on(&token);
        let _open = gate.opener();
        let canceller = std::thread::spawn({
            let there = there.clone();
            move || {
                there.wait_for(2);
                token.cancel();
            }
        });
        let mut got = Vec::new();
        while let Some(item) = merged.next() {
            got.push(item);
            let most = merged.size_hint().1;
            assert!(most.is_none_or(|most| most >= 10 - got.len()));
        }
        assert!(got.into_iter().eq(0..10));
        assert_eq!((merged.next(), merged.size_hint()), (None, (0, Some(0))));
        canceller.join().expect("no panic");
    });
}

#[test]
fn a_panic_of_a_source_leaves_the_others() {
    within(SOON, || {
        let sources = [2, 4].map(|k| panics_at(k, &Counter::new()).take(6));
        let mut merged = merge_sorted_by_key(sources, |x| *x).assume_sorted();
        let mut got = Vec::new();
        for _ in 0..8 {
            got.push(caught(|| merged.next()).map(Option::unwrap));
        }
        assert_eq!(
            got,
            [Ok(0), Ok(0), Ok(1), Err(2), Ok(1), Ok(2), Ok(3), Err(4)]
        );
        assert_eq!(merged.next(), None);
    });
}

#[test]
fn a_panic_of_the_key_loses_one_item() {
    within(SOON, || {
        let key = |x: &u64| if *x == 3 { bang(3) } else { *x };
        let mut merged = merge_sorted_by_key([vec![1, 3, 5], vec![2, 4]], key);
        let mut got = Vec::new();
        for _ in 0..5 {
            got.push(caught(|| merged.next()).map(|item| item.map(Result::unwrap)));
        }
        assert_eq!(
            got,
            [Ok(Some(1)), Err(3), Ok(Some(2)), Ok(Some(4)), Ok(Some(5))]
        );
        assert_eq!(merged.next(), None);
    });
}

/// A key whose comparisons and drops count down, and panic at 0.
#[derive(Debug)]
struct Fused(u64, Arc<AtomicUsize>);

impl Fused {
    fn burn(&self) {
        if !std::thread::panicking() && self.1.fetch_sub(1, Ordering::SeqCst) == 1 {
            bang(self.0);
        }
    }
}

impl Drop for Fused {
    fn drop(&mut self) {
        self.burn();
    }
}

impl Ord for Fused {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.burn();
        self.0.cmp(&other.0)
    }
}

impl PartialOrd for Fused {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Fused {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Fused {}

/// At whatever point of a run of 12 items the panic comes.
#[test]
fn a_panic_in_a_keys_order_or_drop_loses_at_most_one_item() {
    /// How many items came, and how many panics; checks that each hint after a panic was true.
    fn come(mut merged: impl Iterator<Item = Tracked>) -> (usize, usize) {
        let (mut came, mut panics, mut hints) = (0, 0, Vec::new());
        loop {
            match caught(|| merged.next()) {
                Ok(None) => break,
                Ok(Some(_)) => came += 1,
                Err(_) => panics += 1,
            }
            if panics > 0 {
                hints.push((came, merged.size_hint()));
            }
        }
        for (before, (least, most)) in hints {
            let rest = came - before;
            assert!(
                least <= rest && most >= Some(rest),
                "{rest} came of {least}, {most:?}"
            );
        }
        panics += usize::from(caught(|| drop(merged)).is_err());
        (came, panics)
    }
    for at in 0..80 {
        for trusted in [false, true] {
            within(SOON, move || {
                let (ledger, fuse) = (Ledger::new(), Arc::new(AtomicUsize::new(at)));
                let sources = (0..3).map(|source| {
                    let items = ledger.clone();
                    (0..4).map(move |i| items.track(3 * i + source))
                });
                let key = move |item: &Tracked| Fused(item.id, Arc::clone(&fuse));
                let merged = merge_sorted_by_key(sources, key);
                let (came, panics) = if trusted {
                    come(merged.assume_sorted())
                } else {
                    come(merged.map(|item| item.expect("they are sorted")))
                };
                assert!(came + panics >= 12, "at {at}, {came} and {panics}");
                ledger.assert_dropped_once();
            });
        }
    }
}

#[test]
fn unyielded_items_are_dropped_once() {
    for taken in 0..12 {
        within(SOON, move || {
            let ledger = Ledger::new();
            let sources = (0..3).map(|source| {
                let items = ledger.clone();
                let wrong = move |i| if source == 2 && i == 3 { 0 } else { i };
                (0..5).map(move |i| items.track(1_000 * wrong(i) + 10 * source + i))
            });
            let mut merged = merge_sorted_by_key(sources, |item| item.id / 1_000);
            for _ in 0..taken {
                drop(merged.next());
            }
            drop(merged);
            ledger.assert_dropped_once();
            fanfold::testing::assert_quiescent();
        });
    }
}

#[test]
fn the_error_names_the_source_the_keys_and_the_fix() {
    let error = merge_sorted_by_key([vec!["a"], vec!["c", "b"]], |x| *x)
        .find_map(Result::err)
        .expect("an error");
    assert_eq!(
        (error.source_index, error.before, error.after),
        (1, "c", "b")
    );
    assert_eq!(
        error.to_string(),
        "source 1 is not sorted: key \"b\" comes after \"c\"; sort it, or merge by another key"
    );
    assert!(message(|| merge_sorted_by_key([[1]], |x| *x).buffer(0)).contains("buffer(1)"));
}

#[test]
fn no_sources_borrowed_sources_and_hints_work() {
    assert!(
        merge_sorted_by_key(Vec::<Vec<u8>>::new(), |x| *x)
            .next()
            .is_none()
    );
    let words = [
        vec![String::from("a"), String::from("c")],
        vec![String::from("b")],
    ];
    let all = merge_sorted_by_key(words.iter(), |word| word.len()).assume_sorted();
    assert_eq!(all.collect::<Vec<&String>>(), ["a", "c", "b"]);
    let mut merged = merge_sorted_by_key([[1, 3], [2, 4]], |x| *x).assume_sorted();
    for left in (0..=4).rev() {
        assert_eq!(merged.size_hint(), (left, Some(left)));
        merged.next();
    }
}
