//! `partition_readers`: each item one way or the other; bound, policies, panics, sinks.

use crate::support::{
    Counter, Gate, Ledger, Lying, SOON, Script, bang, blocks, calls_counted, caught, counted,
    dawdle, message, mix, panics_at, settle, within,
};
use fanfold::testing::assert_quiescent;
use fanfold::{CancelToken, Fanfold, Overflow, Pool};
use quickcheck::quickcheck;
use std::sync::mpsc;
use std::thread;

#[allow(clippy::trivially_copy_pass_by_ref)] // as `partition_readers` passes it
fn even(x: &u64) -> bool {
    x % 2 == 0
}

// ---- order and completeness

quickcheck! {
    fn it_is_partition(items: Vec<u16>, modulus: u16, buffer: u8) -> bool {
        let accepts = move |x: &u16| x % modulus.clamp(1, 9) == 0;
        let theirs: (Vec<u16>, Vec<u16>) = items.iter().partition(|x| accepts(x));
        let parts = items.into_iter().partition_readers(accepts).buffer(usize::from(buffer % 4) + 1);
        parts.into_sinks(|a| a.collect::<Vec<_>>(), |b| b.collect::<Vec<_>>()) == theirs
    }
}

#[test]
fn each_half_keeps_its_order_at_any_speed() {
    for buffer in [1, 2, 16] {
        for seed in 0..9 {
            within(SOON, move || {
                let parts = (0..400_u64).partition_readers(move |x| mix(x + seed) % 3 == 0);
                let (a, b) = parts.buffer(buffer).pair();
                let rest =
                    thread::spawn(move || b.inspect(|x| dawdle(x + seed)).collect::<Vec<_>>());
                let accepted: Vec<u64> = a.inspect(|x| dawdle(x * 3 + seed)).collect();
                let theirs: (Vec<u64>, Vec<u64>) = (0..400).partition(|x| mix(x + seed) % 3 == 0);
                assert_eq!((accepted, rest.join().unwrap()), theirs);
                assert_quiescent();
            });
        }
    }
}

#[test]
fn one_half_may_be_empty() {
    within(SOON, || {
        let (a, b) = (0..100).partition_into(|_| true, |a| a.count(), |b| b.count());
        assert_eq!((a, b), (100, 0));
        let (a, b) = (0..100).partition_into(|_| false, |a| a.count(), |b| b.count());
        assert_eq!((a, b), (0, 100));
        let (a, b) = (0..0).partition_into(|_| true, |a| a.count(), |b| b.count());
        assert_eq!((a, b), (0, 0));
    });
}

#[test]
fn halves_that_alternate_can_be_read_in_turns() {
    within(SOON, || {
        let (a, b) = (0..500).partition_readers(even).buffer(1).pair();
        assert!(a.zip(b).eq((0..250).map(|i| (2 * i, 2 * i + 1))));
    });
}

#[test]
fn nothing_needs_to_be_cloned() {
    let ledger = Ledger::new();
    let items = (0..100).map(|id| ledger.track(id));
    let (a, b) = items.partition_into(|item| item.id < 40, |a| a.count(), |b| b.count());
    assert_eq!((a, b), (40, 60));
    ledger.assert_dropped_once();
}

#[test]
fn the_closure_may_keep_a_state_and_borrow() {
    let words = ["to", "be", "or", "not", "to", "be"].map(String::from);
    let mut seen = std::collections::BTreeSet::new();
    let (new, old) = words.iter().partition_into(
        |word| seen.insert(word.as_str()),
        |new| new.cloned().collect::<String>(),
        |old| old.cloned().collect::<String>(),
    );
    assert_eq!((new.as_str(), old.as_str()), ("tobeornot", "tobe"));
    assert_eq!(seen.len(), 4);
}

#[test]
fn each_item_is_asked_about_once() {
    let calls = Counter::new();
    let counts = calls.clone();
    let parts = (0..300_u64).partition_readers(move |x| {
        counts.add();
        even(x)
    });
    parts.into_sinks(|a| a.for_each(drop), |b| b.for_each(drop));
    assert_eq!(calls.get(), 300);
}

// ---- laziness and bound

#[test]
fn nothing_is_pulled_before_a_reader_is_asked() {
    let pulled = Counter::new();
    let (a, b) = counted(0..10, &pulled).partition_readers(even).pair();
    let hints = (a.size_hint(), b.size_hint());
    settle();
    assert_eq!(pulled.get(), 0);
    assert_eq!(hints, ((0, Some(10)), (0, Some(10))));
    assert_quiescent();
}

#[test]
fn a_reader_stops_at_the_item_that_finds_no_room() {
    for buffer in 1..=9 {
        within(SOON, move || {
            let pulled = Counter::new();
            // 100 items for the rest, and then one that is accepted
            let source = counted(0..101_u64, &pulled);
            let (mut a, mut b) = source
                .partition_readers(|x| *x == 100)
                .buffer(buffer)
                .pair();
            let waits = thread::spawn(move || a.next());
            pulled.wait_for(buffer + 1);
            settle();
            assert_eq!(pulled.get(), buffer + 1);
            assert_eq!(b.size_hint(), (buffer + 1, Some(101)));
            assert_eq!(b.next(), Some(0));
            pulled.wait_for(buffer + 2);
            settle();
            assert_eq!(pulled.get(), buffer + 2);
            assert!(b.eq(1..100));
            assert_eq!(waits.join().unwrap(), Some(100));
        });
    }
}

#[test]
fn halves_that_fit_the_buffer_can_be_read_one_by_one() {
    for buffer in 1..=9 {
        let (a, b) = (0..buffer as u64 + 50)
            .partition_readers(|x| *x < 50)
            .buffer(buffer)
            .pair();
        assert!(a.eq(0..50));
        assert!(b.eq(50..50 + buffer as u64));
    }
}

// ---- a reader that is dropped

#[test]
fn a_dropped_half_stops_counting() {
    within(SOON, || {
        let (a, b) = (0..1_000).partition_readers(even).buffer(1).pair();
        let counts = thread::spawn(move || a.count());
        settle(); // until it waits for room for item 3
        assert!(!counts.is_finished());
        drop(b);
        assert_eq!(counts.join().unwrap(), 500);
    });
}

#[test]
fn items_for_a_dropped_half_are_dropped_once() {
    for taken in 0..=20 {
        within(SOON, move || {
            let ledger = Ledger::new();
            let items = ledger.clone();
            let source = (0..2_000).map(move |id| items.track(id));
            let (mut a, b) = source
                .partition_readers(|item| item.id % 2 == 0)
                .buffer(3)
                .pair();
            let other = thread::spawn(move || b.take(taken).count());
            assert_eq!(a.by_ref().take(50).count(), 50);
            drop(a);
            assert_eq!(other.join().unwrap(), taken);
            ledger.assert_dropped_once();
            assert_quiescent();
        });
    }
}

#[test]
fn a_drop_does_not_wait_for_the_source() {
    within(SOON, || {
        let (gate, inside) = (Gate::new(), Counter::new());
        let source = (0..4).chain(calls_counted(blocks(&gate), &inside));
        let (a, b) = source.partition_readers(even).pair();
        let _open = gate.opener();
        let leader = thread::spawn(move || a.count());
        inside.wait_for(1);
        drop(b);
        assert!(!gate.is_open());
        gate.open();
        assert_eq!(leader.join().unwrap(), 2);
    });
}

#[test]
fn the_last_reader_drops_the_closure_too() {
    for first in [true, false] {
        let ledger = Ledger::new();
        let owned = std::sync::Arc::new(ledger.track(0));
        let (mut a, b) = (0..9_u64)
            .partition_readers(move |x| owned.id == 0 && even(x))
            .pair();
        assert_eq!(a.next(), Some(0));
        if first {
            drop(a);
            assert_eq!(ledger.alive(), 1);
            drop(b);
        } else {
            drop(b);
            assert_eq!(ledger.alive(), 1);
            drop(a);
        }
        ledger.assert_dropped_once();
        assert_quiescent();
    }
}

// ---- one reader waits, another does not

#[test]
fn an_item_is_there_while_the_leader_is_in_the_source() {
    within(SOON, || {
        let (gate, inside) = (Gate::new(), Counter::new());
        let source = (0..10).chain(calls_counted(blocks(&gate), &inside));
        let (mut a, mut b) = source.partition_readers(|x| *x == 99).pair();
        let _open = gate.opener();
        let leader = thread::spawn(move || a.next()); // none is for it
        inside.wait_for(1);
        assert!(b.by_ref().take(10).eq(0..10));
        gate.open();
        assert_eq!(leader.join().unwrap(), None);
        assert_eq!(b.next(), None);
    });
}

#[test]
fn another_reader_leads_once_the_leader_has_its_item() {
    within(SOON, || {
        let (ask, asked) = mpsc::channel::<u64>();
        let source = std::iter::from_fn(move || asked.recv().ok());
        let (mut a, b) = source.partition_readers(even).pair();
        let first = thread::spawn(move || (a.next(), a));
        let (tell, told) = mpsc::channel();
        let second = thread::spawn(move || b.for_each(|x| tell.send(x).unwrap()));
        settle(); // until one of them is in the source and the other waits
        ask.send(0).unwrap();
        let (item, a) = first.join().unwrap();
        assert_eq!(item, Some(0)); // and it is not asked again
        ask.send(1).unwrap();
        assert_eq!(told.recv(), Ok(1));
        drop(ask);
        second.join().unwrap();
        assert_eq!(a.count(), 0);
    });
}

#[test]
fn new_room_wakes_the_reader_that_waits_for_it() {
    for buffer in 1..=4 {
        within(SOON, move || {
            // Long runs of items for one half after the other: each fills up, and the other waits.
            let parts = (0..1_000_u64)
                .partition_readers(|x| x / 100 % 2 == 0)
                .buffer(buffer);
            let (a, b) = parts.into_sinks(|a| a.sum::<u64>(), |b| b.sum::<u64>());
            assert_eq!(a + b, 1_000 * 999 / 2);
        });
    }
}

// ---- policies

#[test]
fn the_newest_are_dropped_and_counted() {
    let (a, b) = (0..100)
        .partition_readers(even)
        .buffer(3)
        .overflow(Overflow::DropNewest)
        .pair();
    let dropped = a.dropped();
    assert_eq!(a.count(), 50);
    assert_eq!((dropped.get(), b.dropped().get()), (0, 47));
    assert!(b.eq([1, 3, 5]));
}

#[test]
fn the_oldest_are_dropped_and_counted() {
    let (a, b) = (0..100)
        .partition_readers(even)
        .buffer(3)
        .overflow(Overflow::DropOldest)
        .pair();
    assert_eq!(a.count(), 50);
    assert_eq!(b.dropped().get(), 47);
    assert!(b.eq([95, 97, 99]));
}

#[test]
fn every_item_is_taken_or_counted_as_dropped() {
    for overflow in [
        Overflow::Block,
        Overflow::DropNewest,
        Overflow::DropOldest,
        Overflow::Grow(400),
    ] {
        for buffer in 1..=4 {
            within(SOON, move || {
                let ledger = Ledger::new();
                let items = (0..400).map(|id| ledger.track(id));
                let parts = items
                    .partition_readers(|item| mix(item.id) % 3 == 0)
                    .buffer(buffer)
                    .overflow(overflow);
                let tally = |reader: &mut dyn Iterator<Item = crate::support::Tracked>| {
                    let mut last = None;
                    reader
                        .inspect(|item| {
                            assert!(last < Some(item.id), "in order");
                            last = Some(item.id);
                            dawdle(item.id);
                        })
                        .count() as u64
                };
                let (a, b) = parts.into_sinks(
                    |mut a| tally(&mut a) + a.dropped().get(),
                    |mut b| tally(&mut b) + b.dropped().get(),
                );
                assert_eq!(a + b, 400);
                assert_eq!(a, (0..400).filter(|id| mix(*id) % 3 == 0).count() as u64);
                ledger.assert_dropped_once();
            });
        }
    }
}

#[test]
fn one_half_after_the_other_is_served_up_to_a_cap() {
    let (a, b) = (0..1_000)
        .partition_readers(even)
        .buffer(1)
        .overflow(Overflow::Grow(500))
        .pair();
    assert!(a.eq((0..1_000).step_by(2)));
    assert!(b.eq((1..1_000).step_by(2)));
}

#[test]
fn beyond_the_cap_both_readers_are_named() {
    let (mut a, mut b) = (0..)
        .partition_readers(even)
        .overflow(Overflow::Grow(10))
        .pair();
    assert_eq!(a.by_ref().take(11).count(), 11);
    let said = message(|| a.next());
    for part in ["accepted items", "the rest", "Grow(10)", "into_sinks"] {
        assert!(said.contains(part), "{said}");
    }
    assert_eq!(a.next(), None);
    assert_eq!(b.by_ref().take(10).count(), 10);
    assert_eq!(message(|| b.next()), said);
    assert_eq!((b.next(), b.size_hint()), (None, (0, Some(0))));
    assert_quiescent();
}

// ---- panics

#[test]
fn a_panic_of_the_closure_counts_as_a_source_panic() {
    let parts = (0..).partition_readers(|x| if *x == 5 { bang(5) } else { even(x) });
    let (mut a, mut b) = parts.pair();
    assert!(a.by_ref().take(3).eq([0, 2, 4]));
    assert_eq!(caught(|| a.next()), Err(5));
    assert_eq!(a.next(), None);
    assert!(b.by_ref().take(2).eq([1, 3]));
    let said = message(|| b.next());
    assert!(
        said.contains("the reader of the accepted items has met with a panic"),
        "{said}"
    );
    assert_eq!(b.next(), None);
    assert_quiescent();
}

#[test]
fn a_panic_loses_no_item_of_the_other() {
    for at in 0..20 {
        within(SOON, move || {
            let (a, b) = panics_at(at, &Counter::new())
                .partition_readers(even)
                .pair();
            let read = |reader: &mut dyn Iterator<Item = u64>| {
                let mut got = Vec::new();
                let ended = crate::support::payload(|| reader.for_each(|x| got.push(x)));
                (got, ended.is_err())
            };
            let (mut a, mut b) = (a, b);
            let other = thread::spawn(move || read(&mut b));
            let (evens, told) = read(&mut a);
            let (odds, told_too) = other.join().unwrap();
            assert!(told && told_too, "both hear of it");
            assert!(evens.into_iter().eq((0..at).filter(even)));
            assert!(odds.into_iter().eq((0..at).filter(|x| !even(x))));
        });
    }
}

#[test]
fn a_panic_in_the_drop_of_an_item_is_raised_and_loses_nothing() {
    let ledger = Ledger::new();
    let items = ledger.clone();
    let source = (0..10).map(move |id| {
        if id == 5 {
            items.bomb(id)
        } else {
            items.track(id)
        }
    });
    let (mut a, b) = source.partition_readers(|item| item.id % 2 == 0).pair();
    drop(b);
    let mut next = || caught(|| a.next().map(|item| item.id));
    assert_eq!(
        (next(), next(), next()),
        (Ok(Some(0)), Ok(Some(2)), Ok(Some(4)))
    );
    assert_eq!((next(), next(), next()), (Err(5), Ok(Some(6)), Ok(Some(8))));
    assert_eq!((next(), next()), (Ok(None), Ok(None)));
    ledger.assert_dropped_once();
    assert_quiescent();
}

// ---- sinks

#[test]
fn sinks_run_at_the_same_time() {
    within(SOON, || {
        let meter = crate::support::Meter::new();
        let numbers: Vec<u64> = (0..100).collect(); // borrowed
        let (a, b) = numbers.iter().partition_into(
            |x| even(x),
            |a| {
                meter.meet(2);
                a.sum::<u64>()
            },
            |b| {
                meter.meet(2);
                b.map(u64::to_string).collect::<String>().len()
            },
        );
        assert_eq!((a, b), (2_450, 5 + 45 * 2));
        assert_quiescent();
    });
}

#[test]
fn the_first_sink_runs_here_and_need_not_be_send() {
    let shared = std::rc::Rc::new(std::cell::Cell::new(0));
    let counts = std::rc::Rc::clone(&shared);
    let (a, b) = (0..10).partition_into(
        even,
        move |a| {
            a.for_each(|_| counts.set(counts.get() + 1));
            counts
        },
        |b| b.count(),
    );
    assert_eq!((a.get(), b, shared.get()), (5, 5, 5));
}

#[test]
fn a_sink_that_ends_early_frees_the_other() {
    within(SOON, || {
        let (a, b) = (0..10_000).partition_into(even, |a| a.take(2).count(), |b| b.count());
        assert_eq!((a, b), (2, 5_000));
        let (a, b) = (0..10_000).partition_into(even, |a| a.count(), |mut b| b.next());
        assert_eq!((a, b), (5_000, Some(1)));
        let (a, b) = (0..10_000).partition_into(even, |a| a.count(), drop);
        assert_eq!((a, b), (5_000, ()));
    });
}

#[test]
fn a_panic_of_a_sink_is_raised_when_both_have_ended() {
    within(SOON, || {
        let ended = Counter::new();
        let all = |count: usize| {
            assert_eq!(count, 500);
            ended.add()
        };
        let run = || (0..1_000).partition_into(even, |_| bang(1), |b| all(b.count()));
        assert_eq!(caught(run).err(), Some(1));
        let run = || (0..1_000).partition_into(even, |a| all(a.count()), |_| -> u8 { bang(2) });
        assert_eq!(caught(run).err(), Some(2));
        assert_eq!(ended.get(), 2);
        // of two panics, that of the first sink
        let run = || (0..9).partition_into(even, |_| -> u8 { bang(3) }, |_| -> u8 { bang(4) });
        assert_eq!(caught(run).err(), Some(3));
        assert_quiescent();
    });
}

#[test]
fn sinks_raise_a_source_panic_with_its_payload() {
    for at in 0..20 {
        within(SOON, move || {
            let source = panics_at(at, &Counter::new());
            let run = || source.partition_into(even, |a| a.count(), |b| b.count());
            assert_eq!(caught(run).err(), Some(at));
        });
    }
}

#[test]
fn without_a_thread_one_sink_runs_after_the_other() {
    let none = Pool::builder().stack_size(usize::MAX / 4 * 3).build();
    within(SOON, move || {
        let first = Counter::new();
        let parts = (0..10_000).partition_readers(even).buffer(1).on(&none);
        let (a, b) = parts.into_sinks(|a| (a.count(), first.add()).0, |b| (b.count(), first.get()));
        assert_eq!((a, b), (5_000, (5_000, 1)));
        let parts = (0..10_000)
            .partition_readers(even)
            .buffer(3)
            .overflow(Overflow::DropOldest)
            .on(&none);
        let (a, b) = parts.into_sinks(|a| a.count(), |b| (b.dropped().get(), b.count()));
        assert_eq!((a, b), (5_000, (4_997, 3)));
        assert_quiescent();
    });
}

// ---- in stages

#[test]
fn halves_in_stages() {
    for n in 1..=9 {
        within(SOON, move || {
            let (a, b) = (0..300_u64)
                .partition_readers(|x| mix(*x) % 5 == 0)
                .buffer(2)
                .pair();
            let work = |x: u64| {
                dawdle(x);
                x
            };
            let (a, b) = (a.par_map_ordered(n, work), b.par_map_ordered(10 - n, work));
            let mut all: Vec<u64> = fanfold::merge([
                Box::new(a) as Box<dyn Iterator<Item = u64> + Send>,
                Box::new(b),
            ])
            .collect();
            all.sort_unstable();
            assert!(all.into_iter().eq(0..300));
            assert_quiescent();
        });
    }
}

#[test]
fn a_cancelled_reader_stops_pulling_for_the_other_half() {
    within(SOON, || {
        // No item is for this half, and the source has no end and never blocks.
        let (a, b) = (0_u64..)
            .partition_readers(|_| false)
            .overflow(Overflow::DropOldest)
            .pair();
        let token = CancelToken::new();
        let mut ahead = a.readahead(2).cancel_on(&token);
        let dropped = b.dropped();
        let cancels = thread::spawn(move || {
            crate::support::eventually("it pulls", || dropped.get() > 1_000);
            token.cancel();
        });
        assert_eq!(ahead.next(), None);
        drop(ahead);
        cancels.join().unwrap();
        assert!(b.take(100).count() == 100);
    });
}

// ---- ends, hints, messages

#[test]
fn readers_are_fused_and_pull_nothing_after_the_end() {
    let calls = Counter::new();
    let (mut a, mut b) = Script::new([Some(2), None, Some(1)], &calls)
        .partition_readers(even)
        .pair();
    assert_eq!((a.next(), a.next(), a.next()), (Some(2), None, None));
    assert_eq!((b.next(), b.next()), (None, None));
    assert_eq!(calls.get(), 2);
}

#[test]
fn the_hint_never_promises_too_much() {
    let (mut a, mut b) = (0..20).partition_readers(even).buffer(4).pair();
    for left in (1..=10_usize).rev() {
        assert!(a.next().is_some());
        assert!(a.size_hint().0 < left && a.size_hint().1 >= Some(left - 1));
        assert!(b.size_hint().0 <= left && b.size_hint().1 >= Some(left));
        assert!(b.next().is_some());
    }
    assert_eq!((a.next(), a.size_hint()), (None, (0, Some(0))));
    let hint = (usize::MAX, Some(3));
    let (a, b) = Lying { inner: 0..9, hint }.partition_readers(even).pair();
    assert_eq!(a.size_hint(), (0, Some(3)));
    assert_eq!((a.count(), b.count()), (5, 4));
}

#[test]
fn debug_and_leak_report_describe_readers() {
    let parts = (0..3).partition_readers(even).named("halves");
    assert_eq!(
        format!("{parts:?}"),
        "Fanout { readers: 2, overflow: Block, .. }"
    );
    let (mut a, b) = parts.pair();
    a.next();
    assert!(message(assert_quiescent).contains("halves"));
    drop((a, b));
    assert_quiescent();
    assert!(message(|| (0..3).partition_readers(even).buffer(0)).contains("buffer(1)"));
}

/// Source and closure both panic when they are dropped, even while the thread unwinds.
#[test]
fn drop_panics_of_source_and_closure_do_not_abort() {
    let dropped = Counter::new();
    let (in_source, in_closure) = (dropped.stubborn(1), dropped.stubborn(2));
    let source = (0..9_u64).inspect(move |_| assert_eq!(in_source.id(), 1));
    let (mut a, b) = source
        .partition_readers(move |x| in_closure.id() == 2 && even(x))
        .pair();
    assert_eq!(a.next(), Some(0));
    drop(a);
    assert_eq!(caught(|| drop(b)), Err(1));
    assert_eq!(dropped.get(), 2);
}
