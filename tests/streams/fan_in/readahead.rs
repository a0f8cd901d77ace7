//! `readahead`: order, bound, liveness, overflow, and its end.

use crate::support::{
    Counter, Gate, Ledger, SOON, bang, blocks, caught, counted, eventually, listens, message,
    settle, within,
};
use fanfold::{CancelToken, DropCount, Fanfold, Overflow, Pool};
use quickcheck::quickcheck;

quickcheck! {
    fn it_changes_nothing(items: Vec<u16>, k: u8) -> bool {
        let k = usize::from(k) + 1;
        items.clone().into_iter().readahead(k).eq(items)
    }
}

#[test]
fn a_cancelled_readahead_yields_its_buffer_without_waiting() {
    within(SOON, || {
        let (gate, token, pulled) = (Gate::new(), CancelToken::new(), Counter::new());
        let source = counted(0..3, &pulled).chain(blocks(&gate));
        let mut ahead = source.readahead(8).cancel_on(&token);
        let _open = gate.opener();
        assert_eq!(ahead.next(), Some(0));
        pulled.wait_for(3);
        settle();
        token.cancel();
        assert_eq!(ahead.next(), Some(1));
        assert_eq!(ahead.next(), Some(2));
        assert_eq!(ahead.next(), None);
        assert_eq!(ahead.next(), None);
    });
}

#[test]
fn a_cancellation_wakes_a_waiting_consumer() {
    within(SOON, || {
        let (gate, token) = (Gate::new(), CancelToken::new());
        let mut ahead = blocks::<u32>(&gate).readahead(8).cancel_on(&token);
        let _open = gate.opener();
        let trip = std::thread::spawn(move || {
            settle();
            token.cancel();
        });
        assert_eq!(ahead.next(), None);
        trip.join().expect("no panic");
    });
}

#[test]
fn the_newest_are_dropped() {
    within(SOON, || {
        let pulled = Counter::new();
        let go = Gate::new();
        let source = counted(0..100, &pulled).inspect({
            let go = go.clone();
            move |&i| {
                if i == 1 {
                    go.wait();
                }
            }
        });
        let mut ahead = source.readahead(3).overflow(Overflow::DropNewest);
        let dropped = ahead.dropped();
        assert_eq!(ahead.next(), Some(0));
        go.open();
        eventually("all are dropped", || dropped.get() == 96);
        assert!(ahead.eq([1, 2, 3]));
    });
}

#[test]
fn the_oldest_are_dropped() {
    within(SOON, || {
        let go = Gate::new();
        let source = (0..100).inspect({
            let go = go.clone();
            move |&i| {
                if i == 1 {
                    go.wait();
                }
            }
        });
        let mut ahead = source.readahead(3).overflow(Overflow::DropOldest);
        let dropped = ahead.dropped();
        assert_eq!(ahead.next(), Some(0));
        go.open();
        eventually("all are dropped", || dropped.get() == 96);
        assert!(ahead.eq([97, 98, 99]));
    });
}

#[test]
fn grow_panics_beyond_its_limit_after_the_kept_items() {
    for most in 1..=9 {
        within(SOON, move || {
            let (ledger, gone) = (Ledger::new(), Counter::new());
            let (items, end) = (ledger.clone(), gone.on_drop());
            let source = (0..).map(move |i| {
                let _until_then = &end;
                items.track(i)
            });
            let mut ahead = source.readahead(1).overflow(Overflow::Grow(most));
            let mut taken = 1;
            assert_eq!(ahead.next().expect("the first").id, 0);
            gone.wait_for(1); // the source ran too far ahead, and was dropped
            let said = message(|| {
                for item in ahead.by_ref() {
                    assert_eq!(item.id, taken, "in order");
                    taken += 1;
                }
            });
            // The first item was taken either before or after the others filled the queue.
            let most_taken = most as u64 + 1;
            assert!(taken == most_taken || taken == most_taken - 1, "{taken}");
            assert!(
                said.contains(&format!("more than {most} items ahead")),
                "{said}"
            );
            assert!(said.contains("Overflow::Grow"), "{said}");
            assert!(ahead.next().is_none());
            drop(ahead);
            ledger.assert_dropped_once();
        });
    }
}

#[test]
fn grow_keeps_items_up_to_its_limit_and_refuses_zero() {
    within(SOON, || {
        assert!(
            (0..100)
                .readahead(1)
                .overflow(Overflow::Grow(100))
                .eq(0..100)
        );
        assert_eq!(
            (0..100)
                .readahead(1)
                .overflow(Overflow::Grow(9))
                .size_hint(),
            (100, Some(100))
        );
    });
    let said = message(|| (0..9).readahead(1).overflow(Overflow::Grow(0)));
    assert!(said.contains("at least 1"), "{said}");
}

#[test]
fn every_item_is_taken_or_counted_as_dropped() {
    for overflow in [
        Overflow::Block,
        Overflow::DropNewest,
        Overflow::DropOldest,
        Overflow::Grow(3_000),
    ] {
        for k in 1..=4 {
            within(SOON, move || {
                let ledger = Ledger::new();
                let items = ledger.clone();
                let mut ahead = (0..3_000)
                    .map(move |i| items.track(i))
                    .readahead(k)
                    .overflow(overflow);
                let dropped: DropCount = ahead.dropped();
                let mut last = None;
                let mut taken = 0;
                for item in ahead.by_ref() {
                    assert!(last < Some(item.id), "in order");
                    last = Some(item.id);
                    taken += 1;
                }
                assert_eq!(taken + dropped.get(), 3_000);
                if let Overflow::Block | Overflow::Grow(_) = overflow {
                    assert_eq!(taken, 3_000);
                }
                ledger.assert_dropped_once();
            });
        }
    }
}

#[test]
fn the_hint_allows_for_what_is_dropped() {
    assert_eq!(
        (0..9)
            .readahead(4)
            .overflow(Overflow::DropNewest)
            .size_hint(),
        (0, Some(9))
    );
}

/// The hint of the source is endless, and a `collect` must not reserve that much memory.
#[test]
fn an_endless_source_that_a_token_ends_can_be_collected() {
    within(SOON, || {
        let token = CancelToken::new();
        let ahead = (0..).readahead(8).cancel_on(&token);
        let some: Vec<u32> = ahead.inspect(|_| token.cancel()).collect();
        assert!((1..=9).contains(&some.len()));
    });
}

#[test]
fn readahead_goes_before_and_after_a_stage() {
    for n in 1..=9 {
        within(SOON, move || {
            let ahead = (0..500)
                .readahead(3)
                .par_map_ordered(n, |i: u64| i * 2)
                .readahead(5)
                .par_filter(n, |i| i % 3 == 0)
                .readahead(1);
            assert!(ahead.eq((0..500).map(|i| i * 2).filter(|i| i % 3 == 0)));
            fanfold::testing::assert_quiescent();
        });
    }
}

#[test]
fn the_end_of_a_stage_ends_a_readahead_in_its_source() {
    within(SOON, || {
        let token = CancelToken::new();
        let mut stage = (0..1_u64)
            .chain(listens())
            .readahead(4)
            .par_map_ordered(2, |i| i)
            .cancel_on(&token);
        assert_eq!(stage.next(), Some(0));
        drop(stage);
        fanfold::testing::assert_quiescent();
    });
}

#[test]
fn a_stage_in_the_source_ends_with_the_readahead() {
    within(SOON, || {
        let (gate, begun) = (Gate::new(), Counter::new());
        let inner = {
            let (gate, begun) = (gate.clone(), begun.clone());
            (0_u64..).par_map_ordered(2, move |i| {
                if i == 1 {
                    begun.add();
                    CancelToken::current().wait();
                    gate.open();
                }
                i
            })
        };
        let mut ahead = inner.readahead(2);
        assert_eq!(ahead.next(), Some(0));
        begun.wait_for(1);
        drop(ahead);
        assert!(gate.is_open());
        fanfold::testing::assert_quiescent();
    });
}

#[test]
fn without_a_thread_the_consumer_pulls() {
    let none = Pool::builder().stack_size(usize::MAX / 4 * 3).build();
    within(SOON, move || {
        let me = std::thread::current().id();
        let source = (0..100).inspect(move |_| assert_eq!(std::thread::current().id(), me));
        assert!(source.readahead(8).on(&none).eq(0..100));
        // Buffered items come before more is pulled.
        let pulled = Counter::new();
        let mut early = counted(0.., &pulled).readahead(8).on(&none);
        for taken in 1..=5 {
            assert!(early.next().is_some());
            assert_eq!(pulled.get(), taken);
        }
        drop(early);
        fanfold::testing::assert_quiescent();
    });
}

#[test]
fn without_a_thread_a_cancellation_ends_the_readahead() {
    let none = Pool::builder().stack_size(usize::MAX / 4 * 3).build();
    within(SOON, move || {
        let token = CancelToken::new();
        let mut ahead = (0..).readahead(8).on(&none).cancel_on(&token);
        assert_eq!(ahead.next(), Some(0));
        token.cancel();
        assert!(ahead.count() <= 8);
    });
}

#[test]
fn borrowed_items_go_through_a_scope_or_a_terminal_call() {
    let words = ["to", "be", "or", "not"].map(String::from);
    let (mut seen, mut tried) = (Vec::new(), 0);
    words.iter().readahead(2).for_each(|word| seen.push(word));
    assert_eq!(seen, ["to", "be", "or", "not"]);
    assert_eq!(words.iter().readahead(2).count(), 4);
    assert_eq!(
        words
            .iter()
            .readahead(2)
            .fold(0, |sum, word| sum + word.len()),
        9
    );
    let result = words.iter().readahead(2).try_for_each(|word| {
        tried += 1;
        if *word == "be" { Err("be") } else { Ok(()) }
    });
    assert_eq!((result, tried), (Err("be"), 2));
    fanfold::scope(|s| {
        let mut ahead = words.iter().readahead(2).within(s);
        assert_eq!(ahead.size_hint(), (4, Some(4)));
        assert_eq!(ahead.next().map(String::as_str), Some("to"));
        let lengths = ahead.par_map_ordered(2, |word| word.len()).within(s);
        assert!(lengths.eq([2, 2, 3]));
        std::mem::forget(words.iter().readahead(2).within(s));
        let mut forgotten = words.iter().cycle().readahead(2).within(s);
        assert!(forgotten.next().is_some());
        std::mem::forget(forgotten);
    });
    fanfold::testing::assert_quiescent();
}

#[test]
fn a_panic_in_a_terminal_call_joins() {
    let (ledger, pulled) = (Ledger::new(), Counter::new());
    let items = (0..).map(|i| {
        pulled.add();
        ledger.track(i)
    });
    assert_eq!(
        caught(|| items.readahead(4).for_each(|item| bang(item.id))),
        Err(0)
    );
    ledger.assert_dropped_once();
    fanfold::testing::assert_quiescent();
}

#[test]
fn a_late_policy_panics_with_the_fix() {
    let mut running = (0..3).readahead(1);
    running.next();
    assert!(message(|| running.overflow(Overflow::DropNewest)).contains("before its first"));
}

#[test]
fn debug_and_leak_report_describe_the_stage() {
    let mut ahead = (0..3).readahead(1).named("rows");
    assert_eq!(
        format!("{ahead:?}"),
        "Stage { operator: \"readahead\", name: Some(\"rows\"), state: \"idle\", .. }"
    );
    ahead.next();
    let left = message(fanfold::testing::assert_quiescent);
    assert!(left.contains("rows"), "{left}");
}
