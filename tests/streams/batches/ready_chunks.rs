//! `ready_chunks`: what is there, at least one item, and no wait for more.

use crate::support::{
    Counter, Gate, Lying, SOON, Script, bang, blocks, calls_counted, caught, dawdle, eventually,
    listens, settle, within,
};
use fanfold::testing::assert_quiescent;
use fanfold::{CancelToken, Fanfold, Pool, merge, round_robin};
use std::time::Duration;

/// A source with `len` items that then blocks, and how often it has been called: once more than it has given items, so
/// that these are there.
fn given(len: usize, gate: &Gate) -> (impl Iterator<Item = usize> + Send + use<>, Counter) {
    let calls = Counter::new();
    let source = calls_counted((0..len).chain(blocks(gate)), &calls);
    (source, calls)
}

#[test]
fn what_is_there_comes_at_once() {
    for (max, len) in (2..=9).flat_map(|max| (1..max).map(move |len| (max, len))) {
        within(SOON, move || {
            let gate = Gate::new();
            let (source, calls) = given(len, &gate);
            let mut chunks = source.ready_chunks(max);
            let _opener = gate.opener();
            let first = chunks.next().expect("a chunk");
            calls.wait_for(len + 1);
            let mut all = first;
            if all.len() < len {
                all.extend(chunks.next().expect("the rest, in one chunk"));
            }
            assert!(all.into_iter().eq(0..len));
            gate.open();
            assert_eq!(chunks.next(), None);
        });
    }
}

/// A consumer that is slow gets all that was pulled ahead, which is more than half of what it allows.
#[test]
fn a_slow_consumer_gets_large_chunks() {
    for max in 1..=9 {
        within(SOON, move || {
            let calls = Counter::new();
            let mut chunks = calls_counted(0_usize.., &calls).ready_chunks(max);
            let mut next = chunks.next().expect("a chunk").len();
            for _ in 0..20 {
                let ahead = (max / 2 + 1).min(max);
                calls.wait_for(next + ahead);
                let chunk = chunks.next().expect("a chunk");
                // The last of them may not have arrived.
                assert!((ahead.max(2) - 1..=max).contains(&chunk.len()));
                assert!(chunk.iter().copied().eq(next..next + chunk.len()));
                next += chunk.len();
            }
            // The thread may be ahead of that, and then there are as many as are allowed.
            eventually("a full chunk", || {
                settle();
                chunks.next().expect("a chunk").len() == max
            });
        });
    }
}

/// One item is there, and the next one comes only when that has been taken.
#[test]
fn it_does_not_wait_for_more() {
    for max in 1..=9 {
        within(SOON, move || {
            let (send, items) = std::sync::mpsc::channel();
            let mut chunks = items.into_iter().ready_chunks(max);
            for i in 0..50 {
                send.send(i).expect("there is a receiver");
                assert_eq!(chunks.next(), Some(vec![i]));
            }
            drop(send);
            assert_eq!((chunks.next(), chunks.next()), (None, None));
        });
    }
}

#[test]
fn nothing_is_lost_or_moved_and_no_chunk_is_empty_or_too_long() {
    for max in (1..=9).chain([1_000, usize::MAX]) {
        for slow in [false, true] {
            within(SOON, move || {
                let source = (0..500_u64).inspect(|i| dawdle(*i));
                let mut next = 0;
                for chunk in source.ready_chunks(max) {
                    assert!((1..=max).contains(&chunk.len()));
                    for item in chunk {
                        assert_eq!(item, next);
                        next += 1;
                    }
                    if slow {
                        dawdle(!next);
                    }
                }
                assert_eq!(next, 500);
            });
        }
    }
}

#[test]
fn it_is_lazy_and_pulls_no_further_than_max_ahead() {
    for max in 1..=9 {
        within(SOON, move || {
            let calls = Counter::new();
            let mut chunks = calls_counted(0_usize.., &calls).ready_chunks(max);
            settle();
            assert_eq!(calls.get(), 0);
            let mut taken = 0;
            for _ in 0..9 {
                taken += chunks.next().expect("a chunk").len();
                settle();
                assert!(calls.get() <= taken + max);
            }
        });
    }
}

#[test]
fn a_panic_of_the_source_comes_after_what_it_gave() {
    for (max, at) in (1..=9).flat_map(|max| (0..12_u64).map(move |at| (max, at))) {
        within(SOON, move || {
            let source = (0..20_u64).inspect(move |i| {
                if *i == at {
                    bang(*i);
                }
            });
            let (mut chunks, mut got) = (source.ready_chunks(max), Vec::new());
            let raised = loop {
                match caught(|| chunks.next()) {
                    Ok(Some(chunk)) => got.extend(chunk),
                    Ok(None) => panic!("the panic is missing"),
                    Err(raised) => break raised,
                }
            };
            assert!(raised == at && got.into_iter().eq(0..at));
            assert_eq!((chunks.next(), chunks.next()), (None, None));
        });
    }
}

#[test]
fn it_ends_once_and_asks_no_more() {
    within(SOON, || {
        let calls = Counter::new();
        let script = Script::new([Some(1), Some(2), Some(3), None, Some(4)], &calls);
        let mut chunks = script.ready_chunks(2);
        let all: Vec<i32> = chunks.by_ref().flatten().collect();
        assert_eq!((all, chunks.next(), calls.get()), (vec![1, 2, 3], None, 4));
        assert_eq!(chunks.size_hint(), (0, Some(0)));
    });
}

#[test]
fn its_hint_is_true() {
    for (max, len) in (1..=9).flat_map(|max| (0..20_usize).map(move |len| (max, len))) {
        within(SOON, move || {
            let mut chunks = (0..len).ready_chunks(max);
            assert_eq!(chunks.size_hint(), (len.div_ceil(max), Some(len)));
            let mut hints = Vec::new();
            while chunks.next().is_some() {
                hints.push(chunks.size_hint());
            }
            for (left, (low, high)) in hints.into_iter().rev().enumerate() {
                assert!(low <= left && left <= high.expect("it is known"));
            }
        });
    }
}

/// A lie that could be true of no memory stays one when it is divided.
#[test]
fn a_hint_that_lies_does_not_break_collect() {
    for max in 1..=9 {
        within(SOON, move || {
            for low in [usize::MAX, usize::MAX / 2 + 1] {
                let (inner, hint) = (0..20, (low, None));
                let mut chunks = Lying { inner, hint }.ready_chunks(max);
                assert_eq!(chunks.size_hint(), (0, None));
                let first = chunks.next().expect("a chunk");
                assert_eq!(chunks.size_hint(), (0, None));
                let rest = Iterator::collect::<Vec<_>>(chunks);
                assert!(first.into_iter().chain(rest.concat()).eq(0..20));
            }
        });
    }
}

/// An end that is there is taken with the last chunk, so the hint then says that it was the last, although the source
/// does not know how many items it has.
#[test]
fn the_hint_knows_of_an_end_that_is_there() {
    for max in 3..=9 {
        within(SOON, move || {
            // The end may come a moment after the last item, but not each time.
            eventually("the end comes with the last chunk", || {
                let mut items = 1..max;
                let mut chunks = std::iter::from_fn(move || items.next()).ready_chunks(max);
                let mut got = chunks.next().expect("a chunk").len();
                settle(); // mostly, all is there by now
                while got < max - 1 {
                    got += chunks.next().expect("a chunk").len();
                }
                let hint = chunks.size_hint();
                assert_eq!(chunks.next(), None);
                hint == (0, Some(0))
            });
        });
    }
}

/// The consumer's thread pulls, and must not do so for a second item.
#[test]
fn without_threads_each_item_is_a_chunk() {
    for max in 1..=9 {
        within(SOON, move || {
            let none = Pool::builder().stack_size(usize::MAX / 4 * 3).build();
            let calls = Counter::new();
            let mut chunks = calls_counted(0..9, &calls).ready_chunks(max).on(&none);
            for i in 0..9 {
                assert_eq!(chunks.next(), Some(vec![i]));
                assert_eq!(calls.get(), i + 1);
            }
            assert_eq!(chunks.next(), None);
        });
    }
}

#[test]
fn it_is_cancelled_and_waits_for_a_limited_time() {
    for max in 1..=9 {
        within(SOON, move || {
            let (gate, token) = (Gate::new(), CancelToken::new());
            let (source, calls) = given(max, &gate);
            let mut chunks = source.ready_chunks(max).cancel_on(&token);
            let _opener = gate.opener();
            let mut got = 0;
            while got < max {
                got += chunks.next().expect("a chunk").len();
            }
            calls.wait_for(max + 1);
            assert!(chunks.next_within(Duration::from_millis(1)).is_err());
            token.cancel();
            assert_eq!(chunks.next(), None);
            assert!(chunks.is_cut_short());
        });
    }
}

/// Behind whatever waits, a chunk is the results that have come, in their order.
#[test]
fn the_results_of_whatever_waits() {
    fn all(source: impl Iterator<Item = u64> + Send + 'static, max: usize) -> Vec<u64> {
        let chunks = source.ready_chunks(max).inspect(move |chunk| {
            assert!((1..=max).contains(&chunk.len()));
        });
        chunks.flatten().collect()
    }
    for max in 1..=9 {
        within(SOON, move || {
            let source = || (0..200_u64).inspect(|i| dawdle(*i));
            let items: Vec<u64> = (0..200).collect();
            assert_eq!(all(source().par_map_ordered(3, |i| i), max), items);
            assert_eq!(all(source().par_map_by_key(3, |_| (), |i| i), max), items);
            assert_eq!(all(source().readahead(2), max), items);
            assert_eq!(all(merge([source()]), max), items);
            assert_eq!(all(round_robin([source()]), max), items);
            assert_eq!(all(source().window(3).max_age(SOON).flatten(), max), items);
            assert_eq!(all(source().ready_chunks(2).flatten(), max), items);
            let mut unordered = all(source().par_map_unordered(3, |i| i), max);
            unordered.sort_unstable();
            assert_eq!(unordered, items);
            // borrowed
            fanfold::scope(|s| {
                let stage = items.iter().par_map_ordered(2, |i| i).within(s);
                let chunks = stage.ready_chunks(max).within(s);
                assert!(chunks.flatten().eq(&items));
            });
        });
    }
}

/// The stage before it waits in its source, which hears of the drop.
#[test]
fn a_drop_reaches_the_stage_before_it() {
    for max in 1..=9 {
        within(SOON, move || {
            let waits = Counter::new();
            let source = (0..2_u64).chain(calls_counted(listens(), &waits));
            let mut chunks = source.par_map_ordered(2, |i| i).ready_chunks(max);
            let mut got = 0;
            while got < 2 {
                got += chunks.next().expect("a chunk").len();
            }
            waits.wait_for(1);
            assert!(chunks.next_within(Duration::from_millis(1)).is_err());
            drop(chunks);
            assert_quiescent();
        });
    }
}
