//! `broadcast`: order, bound, clones, policies, panics, and the end.

use crate::support::{
    Counter, Gate, Ledger, Lying, SOON, Script, Tracked, bang, blocks, calls_counted, caught,
    counted, dawdle, listens, message, panics_at, settle, within,
};
use fanfold::testing::assert_quiescent;
use fanfold::{
    CancelToken, Fanfold, Overflow, Pool, Reader,
    fan_out::{Broadcast, ToAll},
    worklist,
};
use quickcheck::quickcheck;
use std::ops::Range;
use std::sync::mpsc;
use std::thread;

/// An item whose clones are counted, and whose drops are counted, those of clones included.
#[derive(Debug)]
struct Coin {
    id: u64,
    clones: Counter,
    ledger: Ledger,
    _life: Tracked,
}

impl Coin {
    /// Values are numbered, so that each clone has its own number.
    fn new(id: u64, clones: &Counter, ledger: &Ledger) -> Self {
        Coin {
            id,
            clones: clones.clone(),
            ledger: ledger.clone(),
            _life: ledger.track(1_000_000 + id),
        }
    }
}

impl Clone for Coin {
    fn clone(&self) -> Self {
        let clone = self.clones.add() as u64;
        Coin {
            id: self.id,
            clones: self.clones.clone(),
            ledger: self.ledger.clone(),
            _life: self.ledger.track(clone),
        }
    }
}

/// The two readers.
fn two<I: Iterator<Item: Clone>>(broadcast: Broadcast<I>) -> (Reader<I, ToAll>, Reader<I, ToAll>) {
    let mut readers = broadcast.readers();
    let second = readers.pop().unwrap();
    (readers.pop().unwrap(), second)
}

// ---- order and completeness

quickcheck! {
    fn each_reader_gets_everything(items: Vec<u16>, k: u8, buffer: u8) -> bool {
        let (k, buffer) = (usize::from(k % 9) + 1, usize::from(buffer % 4) + 1);
        let source = items.clone().into_iter().broadcast(k).buffer(buffer);
        source.into_sinks(|_, reader| reader.collect::<Vec<_>>()).into_iter().all(|got| got == items)
    }
}

#[test]
fn each_thread_gets_everything_in_order() {
    for k in 1..=9 {
        for buffer in [1, 2, 16] {
            within(SOON, move || {
                let readers = (0..300_u64).broadcast(k).buffer(buffer).readers();
                let read = |(i, reader): (usize, Reader<_, _>)| {
                    thread::spawn(move || {
                        let slow = |item: &u64| dawdle(item * 10 + i as u64);
                        reader.inspect(slow).eq(0..300)
                    })
                };
                let threads: Vec<_> = readers.into_iter().enumerate().map(read).collect();
                assert!(threads.into_iter().all(|thread| thread.join().unwrap()));
                assert_quiescent();
            });
        }
    }
}

#[test]
fn two_mapped_readers_zipped_give_the_pairs_in_order() {
    for buffer in [1, 2, 16] {
        within(SOON, move || {
            let (a, b) = two((0..200_u64).broadcast(2).buffer(buffer));
            let pairs = a.map(|x| x + 1).zip(b.map(|x| x * x));
            assert!(pairs.eq((0..200).map(|x| (x + 1, x * x))));
            assert_quiescent();
        });
    }
}

#[test]
fn two_readers_in_stages_zipped_give_the_pairs_in_order() {
    for n in 1..=9 {
        for buffer in [1, 5, 16] {
            within(SOON, move || {
                let (a, b) = two((0..200_u64).broadcast(2).buffer(buffer));
                let a = a.par_map_ordered(n, |x| {
                    dawdle(x);
                    x + 1
                });
                let b = b.par_map_ordered(10 - n, |x| {
                    dawdle(!x);
                    x * x
                });
                assert!(a.zip(b).eq((0..200).map(|x| (x + 1, x * x))));
                assert_quiescent();
            });
        }
    }
}

#[test]
fn readers_go_through_every_kind_of_stage() {
    within(SOON, || {
        let readers = (0..300_u64).broadcast(4).buffer(3).readers();
        let mut readers = readers.into_iter();
        let mut next = || readers.next().unwrap();
        let (a, b, c, d) = (next(), next(), next(), next());
        thread::scope(|s| {
            s.spawn(|| assert!(a.readahead(4).eq(0..300)));
            s.spawn(|| assert_eq!(fanfold::merge([b]).count(), 300));
            s.spawn(|| assert_eq!(c.local().par_map_ordered(3, |x| x).sum::<u64>(), 44_850));
            assert_eq!(d.window(7).count(), 43);
        });
    });
}

#[test]
fn a_source_that_is_not_send_can_be_read_on_its_thread() {
    let items = [1, 2, 3].map(std::rc::Rc::new);
    let (a, b) = two(items.into_iter().broadcast(2));
    assert!(a.zip(b).all(|(a, b)| std::rc::Rc::ptr_eq(&a, &b)));
}

#[test]
fn a_source_that_borrows_is_read_in_scoped_threads() {
    let words = ["to", "be", "or", "not"].map(String::from);
    let (a, b) = two(words.iter().broadcast(2));
    thread::scope(|s| {
        s.spawn(|| assert!(a.eq(["to", "be", "or", "not"].iter())));
        assert_eq!(b.map(String::len).sum::<usize>(), 9);
    });
}

// ---- laziness and bound

#[test]
fn nothing_is_pulled_before_a_reader_is_asked() {
    let pulled = Counter::new();
    let broadcast = counted(0..10, &pulled).broadcast(3);
    let readers = broadcast.readers();
    let hint = readers[0].size_hint();
    settle();
    assert_eq!((pulled.get(), hint), (0, (10, Some(10))));
    assert_quiescent();
    drop(readers);
    assert_eq!(pulled.get(), 0);
}

#[test]
fn a_reader_runs_ahead_by_the_buffer_plus_one_item() {
    for buffer in 1..=9 {
        within(SOON, move || {
            let pulled = Counter::new();
            let (mut a, mut b) = two(counted(0.., &pulled).broadcast(2).buffer(buffer));
            let ahead = thread::spawn(move || {
                let got = a.by_ref().take(buffer + 3).count();
                (a, got)
            });
            pulled.wait_for(buffer + 1);
            settle();
            assert_eq!(pulled.get(), buffer + 1, "and then it waits");
            assert_eq!((b.next(), b.next()), (Some(0), Some(1)));
            let (a, got) = ahead.join().unwrap();
            assert_eq!((got, pulled.get()), (buffer + 3, buffer + 3));
            drop(a);
            assert!(b.take(100).eq(2..102));
        });
    }
}

#[test]
fn one_thread_can_read_as_many_items_as_fit_the_buffer() {
    for buffer in 1..=9 {
        within(SOON, move || {
            for readers in 1..=9 {
                let readers = (0..buffer).broadcast(readers).buffer(buffer).readers();
                assert!(readers.into_iter().all(|reader| reader.eq(0..buffer)));
            }
        });
    }
}

// ---- clones

#[test]
fn no_clone_is_made_for_the_last_reader() {
    for k in 1..=9 {
        within(SOON, move || {
            let (clones, ledger) = (Counter::new(), Ledger::new());
            let source = (0..100).map(|id| Coin::new(id, &clones, &ledger));
            let sinks = source.broadcast_into(k, |_, reader| reader.map(|coin| coin.id).eq(0..100));
            assert_eq!(sinks, vec![true; k]);
            assert_eq!(clones.get(), 100 * (k - 1));
            ledger.assert_dropped_once();
        });
    }
}

#[test]
fn no_clone_is_made_for_a_dropped_reader() {
    let (clones, ledger) = (Counter::new(), Ledger::new());
    let source = {
        let (clones, ledger) = (clones.clone(), ledger.clone());
        (0..).map(move |id| Coin::new(id, &clones, &ledger))
    };
    let mut readers = source.broadcast(3).readers();
    assert_eq!(readers[0].next().map(|coin| coin.id), Some(0));
    assert_eq!(clones.get(), 2);
    readers.remove(1);
    assert_eq!(readers[0].next().map(|coin| coin.id), Some(1));
    assert_eq!(clones.get(), 3);
    readers.remove(1);
    assert_eq!(readers[0].by_ref().take(100).count(), 100);
    assert_eq!(clones.get(), 3);
    drop(readers);
    ledger.assert_dropped_once();
}

#[test]
fn no_clone_is_made_for_a_reader_that_would_not_get_it() {
    let (clones, ledger) = (Counter::new(), Ledger::new());
    let source = (0..100).map(|id| Coin::new(id, &clones, &ledger));
    let (a, b) = two(source.broadcast(2).buffer(3).overflow(Overflow::DropNewest));
    assert_eq!(a.count(), 100);
    assert_eq!(clones.get(), 3);
    assert_eq!((b.dropped().get(), b.count()), (97, 3));
    ledger.assert_dropped_once();
}

// ---- a reader that is dropped

#[test]
fn a_dropped_reader_stops_counting() {
    for k in 2..=9 {
        within(SOON, move || {
            let mut readers = (0..1_000).broadcast(k).buffer(1).readers();
            let mut first = readers.remove(0);
            assert_eq!((first.next(), first.next()), (Some(0), Some(1)));
            let rest = thread::spawn(move || first.count());
            settle(); // it waits for room by now
            assert!(!rest.is_finished());
            for reader in readers {
                drop(reader);
            }
            assert_eq!(rest.join().unwrap(), 998);
        });
    }
}

#[test]
fn a_drop_does_not_wait_for_the_source() {
    within(SOON, || {
        let gate = Gate::new();
        let inside = Counter::new();
        let source = (0..2).chain(calls_counted(blocks(&gate), &inside));
        let (mut a, mut b) = two(source.broadcast(2));
        let _open = gate.opener();
        let reader = thread::spawn(move || a.by_ref().count());
        inside.wait_for(1);
        assert_eq!(b.next(), Some(0));
        drop(b); // with an item in its queue, and the other reader inside the source
        assert!(!gate.is_open());
        gate.open();
        assert_eq!(reader.join().unwrap(), 2);
    });
}

#[test]
fn the_last_reader_drops_the_source() {
    for k in 1..=9 {
        let ledger = Ledger::new();
        let owned = Some(ledger.track(0));
        let source = (0..).inspect(move |_| assert!(owned.is_some()));
        let mut readers = source.broadcast(k).readers();
        assert_eq!(readers[k - 1].next(), Some(0));
        while readers.len() > 1 {
            readers.pop();
        }
        assert_eq!(ledger.alive(), 1);
        assert_eq!(readers[0].next(), Some(usize::from(k == 1)));
        drop(readers);
        ledger.assert_dropped_once();
        assert_quiescent();
    }
}

#[test]
fn each_item_is_dropped_once_wherever_readers_stop() {
    for (k, taken) in (1..=4).flat_map(|k| (0..=20).map(move |taken| (k, taken))) {
        within(SOON, move || {
            let (clones, ledger) = (Counter::new(), Ledger::new());
            let source = (0..10_000).map(|id| Coin::new(id, &clones, &ledger));
            source.broadcast(k).buffer(3).into_sinks(|i, reader| {
                assert_eq!(reader.take(taken * (i + 1)).count(), taken * (i + 1));
            });
            ledger.assert_dropped_once();
            assert_quiescent();
        });
    }
}

// ---- one reader waits, another does not

#[test]
fn a_source_that_blocks_keeps_no_item_from_its_reader() {
    for k in 2..=9 {
        within(SOON, move || {
            let (gate, inside) = (Gate::new(), Counter::new());
            let source = (0..5).chain(calls_counted(blocks(&gate), &inside));
            let mut readers = source.broadcast(k).readers();
            let _open = gate.opener();
            let leader = readers.pop().unwrap();
            let leader = thread::spawn(move || leader.count());
            inside.wait_for(1); // it has taken its five items, and is in the source
            for reader in &mut readers {
                assert!(reader.by_ref().take(5).eq(0..5));
            }
            gate.open();
            assert_eq!(leader.join().unwrap(), 5);
            assert!(
                readers
                    .into_iter()
                    .all(|mut reader| reader.next().is_none())
            );
        });
    }
}

#[test]
fn a_waiting_reader_gets_an_item_as_soon_as_it_arrives() {
    within(SOON, || {
        let (tell, told) = mpsc::channel();
        let (asked, was_asked) = mpsc::channel::<u32>();
        let source = std::iter::from_fn(move || was_asked.recv().ok());
        let readers = source.broadcast(5).readers();
        let threads: Vec<_> = readers
            .into_iter()
            .map(|reader| {
                let tell = tell.clone();
                thread::spawn(move || reader.for_each(|item| tell.send(item).unwrap()))
            })
            .collect();
        for item in 0..50 {
            asked.send(item).unwrap();
            for _ in 0..5 {
                assert_eq!(told.recv(), Ok(item));
            }
        }
        drop(asked);
        assert!(threads.into_iter().all(|thread| thread.join().is_ok()));
    });
}

// ---- policies

#[test]
fn the_newest_are_dropped_and_counted() {
    for k in 2..=9 {
        within(SOON, move || {
            let broadcast = (0..100)
                .broadcast(k)
                .buffer(3)
                .overflow(Overflow::DropNewest);
            let mut readers = broadcast.readers();
            assert!(readers.remove(0).eq(0..100));
            for reader in readers {
                assert_eq!(reader.dropped().get(), 97);
                assert!(reader.eq(0..3));
            }
        });
    }
}

#[test]
fn the_oldest_are_dropped_and_counted() {
    for k in 2..=9 {
        within(SOON, move || {
            let broadcast = (0..100)
                .broadcast(k)
                .buffer(3)
                .overflow(Overflow::DropOldest);
            let mut readers = broadcast.readers();
            let first = readers.remove(0);
            let dropped = first.dropped();
            assert!(first.eq(0..100));
            assert_eq!(dropped.get(), 0);
            for reader in readers {
                assert_eq!(reader.dropped().get(), 97);
                assert!(reader.eq(97..100));
            }
        });
    }
}

#[test]
fn every_item_is_taken_or_counted_as_dropped() {
    for overflow in [
        Overflow::Block,
        Overflow::DropNewest,
        Overflow::DropOldest,
        Overflow::Grow(300),
    ] {
        for k in 1..=4 {
            within(SOON, move || {
                let ledger = Ledger::new();
                let clones = Counter::new();
                let source = (0..300).map(|id| Coin::new(id, &clones, &ledger));
                source
                    .broadcast(k)
                    .buffer(2)
                    .overflow(overflow)
                    .into_sinks(|i, reader| {
                        let dropped = reader.dropped();
                        let mut last = None;
                        let mut taken = 0;
                        for coin in reader {
                            assert!(last < Some(coin.id), "in order");
                            last = Some(coin.id);
                            taken += 1;
                            dawdle(coin.id * 10 + i as u64);
                        }
                        let lost = dropped.get();
                        assert_eq!(taken + lost, 300);
                        assert!(
                            lost == 0 || !matches!(overflow, Overflow::Block | Overflow::Grow(_))
                        );
                    });
                ledger.assert_dropped_once();
            });
        }
    }
}

#[test]
fn room_is_checked_when_an_item_arrives_and_not_before() {
    // Room is checked when the item arrives, not when the source is entered.
    within(SOON, || {
        let (gate, inside) = (Gate::new(), Counter::new());
        let source = {
            let (gate, inside) = (gate.clone(), inside.clone());
            (0..3).inspect(move |i| {
                if *i == 2 {
                    inside.add();
                    gate.wait();
                }
            })
        };
        let (mut a, mut b) = two(source.broadcast(2).buffer(2).overflow(Overflow::DropNewest));
        let _open = gate.opener();
        let leader = thread::spawn(move || a.by_ref().count());
        inside.wait_for(1);
        assert_eq!(b.next(), Some(0));
        gate.open();
        assert_eq!(leader.join().unwrap(), 3);
        assert_eq!(b.dropped().get(), 0);
        assert!(b.eq(1..3));
    });
}

#[test]
fn readers_one_after_the_other_are_served_up_to_a_cap() {
    for k in 1..=9 {
        within(SOON, move || {
            let broadcast = (0..500)
                .broadcast(k)
                .buffer(1)
                .overflow(Overflow::Grow(500));
            let readers = broadcast.readers();
            assert!(readers.into_iter().all(|reader| reader.eq(0..500)));
            assert_quiescent();
        });
    }
}

#[test]
fn beyond_the_cap_both_readers_are_named() {
    let broadcast = (0..)
        .broadcast(3)
        .overflow(Overflow::Grow(10))
        .named("rows");
    let mut readers = broadcast.readers().into_iter();
    let (mut a, mut b, mut c) = (
        readers.next().unwrap(),
        readers.next().unwrap(),
        readers.next().unwrap(),
    );
    assert!(c.by_ref().take(5).eq(0..5));
    assert!(a.by_ref().take(10).eq(0..10));
    let said = message(|| a.next());
    for part in ["\"rows\"", "reader 0", "reader 1", "Grow(10)", "into_sinks"] {
        assert!(said.contains(part), "{said}");
    }
    assert_eq!((a.next(), a.next()), (None, None));
    assert!(b.by_ref().take(10).eq(0..10));
    assert_eq!(message(|| b.next()), said);
    assert_eq!(b.next(), None);
    // It had room, so it gets the last pulled item too.
    assert!(c.by_ref().take(6).eq(5..11));
    assert_eq!(message(|| c.next()), said);
    assert_eq!(c.next(), None);
    assert_quiescent();
}

// ---- panics

#[test]
fn the_puller_raises_a_source_panic_and_the_others_report_it() {
    for k in 1..=9 {
        let mut readers = panics_at(5, &Counter::new()).broadcast(k).readers();
        let mut first = readers.remove(0);
        assert!(first.by_ref().take(5).eq(0..5));
        assert_eq!(caught(|| first.next()), Err(5));
        assert_eq!((first.next(), first.next()), (None, None));
        for mut reader in readers {
            assert!(reader.by_ref().take(5).eq(0..5));
            let said = message(|| reader.next());
            assert!(said.contains("reader 0 has met with a panic"), "{said}");
            assert_eq!((reader.next(), reader.next()), (None, None));
        }
        assert_quiescent();
    }
}

#[test]
fn the_other_readers_report_the_message_of_the_panic() {
    let source = (0..3).inspect(|i| assert!(*i < 2, "no number like {i}"));
    let (mut a, mut b) = two(source.broadcast(2));
    assert!(b.by_ref().take(2).eq(0..2));
    assert_eq!(message(|| b.next()), "no number like 2");
    assert!(a.by_ref().take(2).eq(0..2));
    assert!(
        message(|| a.next())
            .contains("reader 1 has met with a panic in what they share: no number like 2")
    );
}

#[test]
fn a_waiting_reader_reports_the_panic() {
    for k in 2..=9 {
        within(SOON, move || {
            let (gate, inside) = (Gate::new(), Counter::new());
            let source = {
                let (gate, inside) = (gate.clone(), inside.clone());
                std::iter::from_fn(move || -> Option<u64> {
                    inside.add();
                    gate.wait();
                    bang(7)
                })
            };
            let read = |mut reader: Reader<_, _>| thread::spawn(move || reader.next());
            let threads: Vec<_> = source
                .broadcast(k)
                .readers()
                .into_iter()
                .map(read)
                .collect();
            inside.wait_for(1);
            settle(); // until the others wait
            gate.open();
            let panics = threads.into_iter().filter_map(|thread| thread.join().err());
            let (own, told): (Vec<_>, Vec<_>) =
                panics.partition(|panic| panic.is::<crate::support::Bang>());
            assert_eq!((own.len(), told.len()), (1, k - 1));
            assert_eq!(inside.get(), 1);
        });
    }
}

#[derive(Debug)]
struct Fussy(u64);

impl Clone for Fussy {
    fn clone(&self) -> Self {
        if self.0 == 3 {
            bang(3);
        }
        Fussy(self.0)
    }
}

#[test]
fn a_panic_of_clone_counts_as_a_source_panic() {
    for k in 2..=9 {
        let mut readers = (0..).map(Fussy).broadcast(k).readers();
        let mut first = readers.remove(0);
        assert_eq!(first.by_ref().take(3).count(), 3);
        assert_eq!(caught(|| first.next().map(|item| item.0)), Err(3));
        assert!(first.next().is_none());
        for mut reader in readers {
            assert_eq!(reader.by_ref().take(3).count(), 3);
            assert!(message(|| reader.next()).contains("met with a panic"));
            assert!(reader.next().is_none());
        }
    }
    // With one reader there is no clone to panic.
    assert_eq!(
        (0..10).map(Fussy).broadcast(1).readers().remove(0).count(),
        10
    );
}

#[test]
fn a_panic_in_the_drop_of_an_item_is_raised_and_loses_nothing() {
    #[derive(Debug)]
    struct Shell(u64, Ledger, Counter, #[allow(dead_code)] Option<Tracked>);
    impl Clone for Shell {
        fn clone(&self) -> Self {
            let clone = self.2.add() as u64;
            let life = if self.0 == 1 {
                self.1.bomb(clone)
            } else {
                self.1.track(clone)
            };
            Shell(self.0, self.1.clone(), self.2.clone(), Some(life))
        }
    }
    let (ledger, clones) = (Ledger::new(), Counter::new());
    let source = {
        let (ledger, clones) = (ledger.clone(), clones.clone());
        (0..6).map(move |id| Shell(id, ledger.clone(), clones.clone(), None))
    };
    let (mut a, b) = two(source.broadcast(2).buffer(2).overflow(Overflow::DropOldest));
    let mut next = || caught(|| a.next().map(|item| item.0));
    assert_eq!(
        (next(), next(), next()),
        (Ok(Some(0)), Ok(Some(1)), Ok(Some(2)))
    );
    // Item 1 makes room for item 3: the panic is that of its second clone's drop, not of the source.
    assert_eq!((next(), next(), next()), (Err(2), Ok(Some(3)), Ok(Some(4))));
    assert_eq!((next(), next(), next()), (Ok(Some(5)), Ok(None), Ok(None)));
    assert_eq!(b.dropped().get(), 4);
    assert!(b.map(|item| item.0).eq([4, 5]));
    ledger.assert_dropped_once();
}

#[test]
fn a_drop_panic_at_the_end_is_raised_once_and_nothing_leaks() {
    // in the drop of items that a dropped reader has not taken
    let ledger = Ledger::new();
    let items = ledger.clone();
    let source = (0..3).map(move |id| std::rc::Rc::new(items.bomb(id)));
    let (a, b) = two(source.broadcast(2));
    drop(a.collect::<Vec<_>>());
    assert_eq!(caught(|| drop(b)), Err(0));
    ledger.assert_dropped_once();
    // in the drop of the source, at its end and by the last reader
    for taken in [0, 3, 10] {
        let ledger = Ledger::new();
        let bomb = Some(ledger.bomb(7));
        let source = (0..5).inspect(move |_| assert!(bomb.is_some()));
        let (mut a, b) = two(source.broadcast(2));
        let outcome = caught(|| a.by_ref().take(taken).count());
        assert_eq!(outcome, if taken > 5 { Err(7) } else { Ok(taken) });
        assert_eq!(a.size_hint().0, 5_usize.saturating_sub(taken));
        drop(a);
        if taken > 5 {
            assert_eq!(b.count(), 5, "its items are complete");
        } else {
            assert_eq!(caught(|| drop(b)), Err(7));
        }
        ledger.assert_dropped_once();
        assert_quiescent();
    }
}

#[test]
fn a_panic_in_a_drop_does_not_meet_another() {
    let dropped = Counter::new();
    let outcome = caught(|| {
        let items = (1..4).map(|id| std::rc::Rc::new(dropped.stubborn(id)));
        let (a, _b) = two(items.broadcast(2));
        assert_eq!(a.count(), 3);
        bang(9); // unwinding drops what `_b` has not taken
    });
    assert_eq!(outcome, Err(9));
}

#[test]
fn the_last_reader_raises_a_hook_panic_of_the_source_token() {
    within(SOON, || {
        let mut stage = (0..1).par_map_ordered(1, |_| {
            let mut hook = None;
            let source = (0..3_u64).inspect(move |_| {
                hook.get_or_insert_with(|| CancelToken::current().on_cancel(|| bang(7)));
            });
            let (mut a, b) = two(source.broadcast(2));
            assert_eq!(a.next(), Some(0));
            drop(a);
            caught(|| drop(b))
        });
        assert_eq!(stage.next(), Some(Err(7)));
    });
}

// ---- sinks

#[test]
fn sinks_run_at_the_same_time_and_give_their_results_in_order() {
    for k in 1..=9 {
        within(SOON, move || {
            let meter = crate::support::Meter::new();
            let numbers: Vec<u64> = (0..100).collect(); // borrowed
            let sums = numbers.iter().broadcast_into(k, |i, reader| {
                meter.meet(k);
                reader.sum::<u64>() + i as u64
            });
            assert!(sums.into_iter().eq((0..k as u64).map(|i| 4_950 + i)));
            assert_quiescent();
        });
    }
}

#[test]
fn the_first_sink_runs_on_the_calling_thread() {
    let me = thread::current().id();
    let here = (0..3).broadcast_into(3, |_, reader| {
        reader.for_each(drop);
        thread::current().id() == me
    });
    assert_eq!(here, [true, false, false]);
}

#[test]
fn a_sink_that_ends_early_frees_the_others() {
    for k in 1..=9 {
        within(SOON, move || {
            let counts =
                (0..5_000).broadcast_into(k, |i, reader| reader.take((i + 1) * 10).count());
            assert!(counts.into_iter().eq((1..=k).map(|i| i * 10)));
        });
    }
}

#[test]
fn a_panic_of_a_sink_is_raised_when_all_have_ended() {
    for k in 1..=9 {
        for bad in 0..k {
            within(SOON, move || {
                let ended = Counter::new();
                let run = || {
                    (0..500_u64).broadcast_into(k, |i, mut reader| {
                        if i == bad {
                            reader.next();
                            bang(i as u64);
                        }
                        assert_eq!(reader.count(), 500);
                        ended.add();
                    })
                };
                assert_eq!(caught(run).err(), Some(bad as u64));
                assert_eq!(ended.get(), k - 1);
                assert_quiescent();
            });
        }
    }
}

#[test]
fn sinks_raise_a_source_panic_with_its_payload() {
    for k in 1..=9 {
        within(SOON, move || {
            let source = panics_at(50, &Counter::new());
            let run =
                || source.broadcast_into(k, |_, reader| reader.inspect(|i| dawdle(*i)).count());
            assert_eq!(caught(run).err(), Some(50));
            assert_quiescent();
        });
    }
}

#[test]
fn unreturned_results_are_dropped_once_even_if_they_panic() {
    within(SOON, || {
        let ledger = Ledger::new();
        let run = || {
            (0..9).broadcast_into(4, |i, reader| {
                reader.for_each(drop);
                if i == 2 {
                    bang(2)
                } else {
                    ledger.bomb(i as u64)
                }
            })
        };
        assert_eq!(caught(run).err(), Some(2));
        ledger.assert_dropped_once();
    });
}

#[test]
fn without_a_thread_the_sinks_run_one_after_the_other() {
    let none = Pool::builder().stack_size(usize::MAX / 4 * 3).build();
    for k in 1..=9 {
        let pool = none.clone();
        within(SOON, move || {
            let me = thread::current().id();
            let order = std::sync::Mutex::new(Vec::new());
            let broadcast = (0..1_000).broadcast(k).buffer(1).on(&pool);
            let all = broadcast.into_sinks(|i, reader| {
                assert_eq!(thread::current().id(), me);
                order.lock().unwrap().push(i);
                reader.eq(0..1_000)
            });
            assert_eq!(all, vec![true; k]);
            assert!(order.into_inner().unwrap().into_iter().eq(0..k));
            assert_quiescent();
        });
    }
    // The cap applies.
    let broadcast = (0..1_000)
        .broadcast(2)
        .overflow(Overflow::Grow(100))
        .on(&none);
    let said = message(|| broadcast.into_sinks(|_, reader| reader.count()));
    assert!(said.contains("Grow(100)"), "{said}");
}

#[test]
fn sinks_see_the_token_of_the_caller() {
    within(SOON, || {
        let result: Result<(), &str> = fanfold::group(2, |g| {
            g.spawn(|| {
                let seen = (0..3).broadcast_into(3, |_, reader| {
                    reader.for_each(drop);
                    CancelToken::current().wait();
                    CancelToken::current().is_cancelled()
                });
                assert_eq!(seen, [true; 3]);
                Ok(())
            });
            g.spawn(|| Err::<(), _>("stop"));
        });
        assert_eq!(result, Err("stop"));
    });
}

// ---- in stages

/// A stage of 50 items that waits at its eleventh. As a source it would end if it were told that no one
/// wants its items.
fn a_stage_that_waits(gate: &Gate, inside: &Counter) -> impl Iterator<Item = u64> + Send + use<> {
    let (gate, inside) = (gate.clone(), inside.clone());
    (0..50_u64).par_map_ordered(2, move |i| {
        if i == 10 {
            inside.add();
            gate.wait();
        }
        i
    })
}

/// One stage reads through a worker inside the shared source; the other reader goes on.
#[test]
fn the_end_of_a_stage_does_not_end_the_source_for_others() {
    for n in 1..=4 {
        within(SOON, move || {
            let (gate, inside) = (Gate::new(), Counter::new());
            let source = a_stage_that_waits(&gate, &inside);
            let (a, mut b) = two(source.broadcast(2).buffer(20));
            let _open = gate.opener();
            let mut stage = a.par_map_ordered(n, |i| i);
            assert_eq!(stage.next(), Some(0));
            inside.wait_for(1);
            assert!(b.by_ref().take(10).eq(0..10));
            let ends = thread::spawn(move || drop(stage));
            settle();
            gate.open();
            ends.join().unwrap();
            assert!(b.eq(10..50));
        });
    }
}

/// The same without a worker: the consumer itself is in the shared source.
#[test]
fn a_cancelled_local_stage_does_not_end_the_source_for_others() {
    within(SOON, || {
        let (gate, inside) = (Gate::new(), Counter::new());
        let source = a_stage_that_waits(&gate, &inside);
        let (a, b) = two(source.broadcast(2).buffer(60));
        let open = gate.opener();
        let token = CancelToken::new();
        let cancels = {
            let token = token.clone();
            thread::spawn(move || {
                inside.wait_for(1);
                token.cancel();
                drop(open);
            })
        };
        let stage = a.local().par_map_ordered(2, |i| i).cancel_on(&token);
        let taken: Vec<u64> = stage.collect();
        assert!(taken.into_iter().zip(0..).all(|(i, place)| i == place));
        cancels.join().unwrap();
        assert!(b.eq(0..50));
    });
}

#[test]
fn a_source_that_listens_to_its_token_is_not_ended_for_others() {
    within(SOON, || {
        let (gate, inside) = (Gate::new(), Counter::new());
        let source = {
            let (gate, inside) = (gate.clone(), inside.clone());
            (0..20).map_while(move |i| {
                if i == 5 {
                    inside.add();
                    gate.wait();
                }
                (!CancelToken::current().is_cancelled()).then_some(i)
            })
        };
        let (a, mut b) = two(source.broadcast(2));
        let _open = gate.opener();
        let mut ahead = a.readahead(2);
        assert!(b.by_ref().take(1).eq(0..1));
        let reads = thread::spawn(move || b.eq(1..20));
        assert_eq!(ahead.next(), Some(0));
        inside.wait_for(1);
        let ends = thread::spawn(move || drop(ahead));
        settle();
        gate.open();
        ends.join().unwrap();
        assert!(reads.join().unwrap());
    });
}

#[test]
fn a_stage_whose_reader_waits_for_another_reader_ends_at_once() {
    for n in 1..=4 {
        within(SOON, move || {
            let (gate, inside) = (Gate::new(), Counter::new());
            let source = (0..3).chain(calls_counted(blocks(&gate), &inside));
            let (a, b) = two(source.broadcast(2));
            let _open = gate.opener();
            let leader = thread::spawn(move || a.count());
            inside.wait_for(1);
            let mut stage = b.par_map_ordered(n, |i: u64| i);
            assert!(stage.by_ref().take(3).eq(0..3));
            settle(); // its worker waits for the leader
            drop(stage);
            assert!(!gate.is_open());
            gate.open();
            assert_eq!(leader.join().unwrap(), 3);
        });
    }
}

#[test]
fn a_stage_whose_reader_waits_for_room_ends_at_once() {
    within(SOON, || {
        let (a, b) = two((0..100).broadcast(2).buffer(2));
        let mut ahead = a.readahead(50);
        assert!(ahead.by_ref().take(3).eq(0..3));
        settle(); // it waits for the other reader to take something
        drop(ahead);
        assert!(b.eq(0..100));
    });
}

#[test]
fn a_source_has_its_token_tripped_when_no_stage_wants_more() {
    for both in [false, true] {
        within(SOON, move || {
            let inside = Counter::new();
            let source = (0..1_u64).chain(calls_counted(listens(), &inside));
            let (a, b) = two(source.broadcast(2));
            let token = CancelToken::new();
            let mut ahead = a.readahead(2).cancel_on(&token);
            let mut other = both.then_some(b).map(|b| b.readahead(2).cancel_on(&token));
            assert_eq!(ahead.next(), Some(0));
            if let Some(other) = &mut other {
                assert_eq!(other.next(), Some(0));
            }
            inside.wait_for(1);
            settle(); // until the other reader waits
            token.cancel();
            drop(ahead);
            drop(other);
            assert_quiescent();
        });
    }
}

#[test]
fn a_stage_inside_the_source_ends_with_the_last_reader() {
    within(SOON, || {
        let begun = Counter::new();
        let source = {
            let begun = begun.clone();
            (0..).par_map_ordered(2, move |i: u64| {
                if i == 1 {
                    begun.add();
                    CancelToken::current().wait();
                }
                i
            })
        };
        let (a, b) = two(source.broadcast(2));
        let mut ahead = a.readahead(2);
        assert_eq!(ahead.next(), Some(0));
        begun.wait_for(1);
        drop(b);
        drop(ahead);
        assert_quiescent();
    });
}

#[test]
fn an_interrupted_reader_can_be_asked_again() {
    within(SOON, || {
        let (gate, inside) = (Gate::new(), Counter::new());
        let source = {
            let (gate, inside) = (gate.clone(), inside.clone());
            (0..9_u64).inspect(move |i| {
                if *i == 3 {
                    inside.add();
                    gate.wait();
                }
            })
        };
        let (a, mut b) = two(source.broadcast(2));
        let _open = gate.opener();
        let leader = thread::spawn(move || a.count());
        inside.wait_for(1);
        fanfold::scope(|s| {
            let mut stage = b.by_ref().par_map_ordered(2, |i| i).within(s);
            assert!(stage.by_ref().take(3).eq(0..3));
            settle(); // a worker waits for the leader
            drop(stage);
        });
        let opens = thread::spawn(move || {
            settle();
            gate.open();
        });
        assert!(b.eq(3..9), "and waits for it here");
        assert_eq!(leader.join().unwrap(), 9);
        opens.join().unwrap();
    });
}

/// Waits for an item in a stage that is cancelled meanwhile.
fn wait_in_vain(reader: &mut (impl Iterator<Item = i32> + Send)) {
    fanfold::scope(|s| {
        let token = CancelToken::new();
        let stage = reader.par_map_unordered(2, |i| i).cancel_on(&token);
        let mut stage = stage.within(s);
        let cancels = thread::spawn(move || {
            settle();
            token.cancel();
        });
        assert_eq!(stage.next(), None);
        cancels.join().unwrap();
    });
}

#[test]
fn a_reader_interrupted_in_one_stage_works_in_the_next() {
    within(SOON, || {
        let mut source = worklist([0]);
        let work_item = source.next().unwrap();
        let mut reader = source.map(|item| *item).broadcast(1).readers().remove(0);
        for round in 1..4 {
            wait_in_vain(&mut reader);
            thread::scope(|threads| {
                threads.spawn(|| {
                    settle(); // until the next stage waits
                    work_item.push(round).unwrap();
                });
                fanfold::scope(|s| {
                    let mut stage = reader.by_ref().par_map_unordered(2, |i: i32| i).within(s);
                    assert_eq!(stage.next(), Some(round));
                });
            });
        }
    });
}

#[test]
fn a_reader_interrupted_in_the_source_can_be_asked_again() {
    within(SOON, || {
        let mut source = worklist([0]);
        let work_item = source.next().unwrap();
        let mut reader = source.map(|item| *item).broadcast(1).readers().remove(0);
        wait_in_vain(&mut reader);
        work_item.push(1).unwrap();
        drop(work_item);
        assert_eq!(
            (reader.next(), reader.next(), reader.next()),
            (Some(1), None, None)
        );
    });
}

#[test]
fn a_broadcast_of_a_broadcast() {
    for k in 1..=4 {
        within(SOON, move || {
            let sums = (0..100_u64).broadcast_into(k, |_, reader| {
                let inner = reader.broadcast(k).buffer(1);
                inner
                    .into_sinks(|_, reader| reader.sum::<u64>())
                    .into_iter()
                    .sum::<u64>()
            });
            assert_eq!(sums, vec![4_950 * k as u64; k]);
            assert_quiescent();
        });
    }
}

#[test]
fn many_readers_of_a_source_with_threads_of_its_own() {
    within(SOON, || {
        let source = (0..300_u64).par_map_ordered(3, |i| i * 2).readahead(8);
        let ok = source.broadcast_into(5, |i, reader| {
            let reader = reader.readahead(i + 1).par_map_ordered(2, |i| i / 2);
            reader.eq(0..300)
        });
        assert_eq!(ok, [true; 5]);
        let source = (0..300).readahead(3).overflow(Overflow::Block);
        assert_eq!(
            source.broadcast_into(2, |_, reader| reader.count()),
            [300; 2]
        );
        assert_quiescent();
    });
}

// ---- ends, hints, messages

#[test]
fn readers_are_fused_and_pull_nothing_after_the_end() {
    let calls = Counter::new();
    let (mut a, mut b) = two(Script::new([Some(1), None, Some(2)], &calls).broadcast(2));
    assert_eq!((a.next(), a.next(), a.next()), (Some(1), None, None));
    assert_eq!((b.next(), b.next(), b.next()), (Some(1), None, None));
    assert_eq!(calls.get(), 2);
    assert_quiescent();
}

#[test]
fn the_hint_is_true_at_every_step() {
    let (mut a, mut b) = two((0..20).broadcast(2).buffer(4));
    for left in (0..=20_usize).rev() {
        assert_eq!(a.size_hint(), (left, Some(left)));
        assert_eq!(b.size_hint(), (left, Some(left)));
        assert_eq!(a.next().is_some(), left > 0);
        assert_eq!(a.size_hint().0, left.saturating_sub(1));
        assert_eq!(b.size_hint(), (left, Some(left)));
        assert_eq!(b.next().is_some(), left > 0);
    }
    for overflow in [Overflow::DropNewest, Overflow::DropOldest] {
        let (mut a, b) = two((0..20).broadcast(2).buffer(4).overflow(overflow));
        assert_eq!(b.size_hint(), (0, Some(20)));
        assert_eq!(a.by_ref().take(10).count(), 10);
        assert_eq!(b.size_hint(), (4, Some(14)));
        assert_eq!(a.by_ref().count(), 10);
        assert_eq!(b.size_hint(), (4, Some(4)));
    }
    let hint = (usize::MAX, Some(3));
    let (a, b) = two(Lying { inner: 0..9, hint }.broadcast(2));
    assert_eq!(a.size_hint(), hint);
    assert!(a.eq(0..9));
    assert!(b.eq(0..9));
}

#[test]
fn a_hint_while_another_reader_pulls_counts_what_is_queued() {
    within(SOON, || {
        let (gate, inside) = (Gate::new(), Counter::new());
        let source = (0..3).chain(calls_counted(blocks(&gate), &inside));
        let (a, b) = two(source.broadcast(2));
        let _open = gate.opener();
        let leader = thread::spawn(move || a.count());
        inside.wait_for(1);
        assert_eq!(b.size_hint(), (3, None));
        gate.open();
        leader.join().unwrap();
        assert_eq!(b.size_hint(), (3, Some(3)));
    });
}

#[test]
fn a_panicking_size_hint_leaves_the_readers_usable() {
    struct Moody(Range<u64>);
    impl Iterator for Moody {
        type Item = u64;
        fn next(&mut self) -> Option<u64> {
            self.0.next()
        }
        fn size_hint(&self) -> (usize, Option<usize>) {
            bang(9)
        }
    }
    let (mut a, mut b) = two(Moody(0..3).broadcast(2));
    assert_eq!(caught(|| a.size_hint()), Err(9));
    assert!(a.by_ref().eq(0..3));
    assert!(b.by_ref().eq(0..3));
}

#[test]
fn zeros_panic_with_the_fix() {
    assert!(message(|| (0..3).broadcast(0)).contains("broadcast(1)"));
    assert!(message(|| (0..3).broadcast_into(0, |_, _| ())).contains("broadcast(1)"));
    assert!(message(|| (0..3).broadcast(2).buffer(0)).contains("buffer(1)"));
    assert!(message(|| (0..3).broadcast(2).overflow(Overflow::Grow(0))).contains("at least 1"));
}

#[test]
fn debug_and_leak_report_describe_readers() {
    let broadcast = (0..3).broadcast(2).named("rows");
    assert_eq!(
        format!("{broadcast:?}"),
        "Fanout { readers: 2, overflow: Block, .. }"
    );
    let (mut a, mut b) = two(broadcast);
    assert_eq!(format!("{b:?}"), "Reader { number: 1, .. }");
    a.next();
    let left = message(assert_quiescent);
    assert!(left.contains("rows"), "{left}");
    assert_eq!(a.by_ref().count(), 2);
    assert!(
        message(assert_quiescent).contains("rows"),
        "one has not ended"
    );
    assert_eq!(b.by_ref().count(), 3);
    assert_quiescent();
}

#[test]
fn a_forgotten_reader_with_room_does_not_stop_the_other() {
    within(SOON, || {
        let (a, mut b) = two((0..10).broadcast(2).buffer(16));
        std::mem::forget(a);
        assert!(b.by_ref().eq(0..10));
        assert_eq!(b.next(), None);
    });
}

/// It never takes anything, so the other waits for it as for any that is slow, and can be cancelled in that wait.
#[test]
fn a_forgotten_reader_whose_buffer_is_full_stops_the_other() {
    for buffer in 1..=4 {
        within(SOON, move || {
            let (token, pulled) = (CancelToken::new(), Counter::new());
            let (a, b) = two(counted(0..100, &pulled).broadcast(2).buffer(buffer));
            std::mem::forget(a);
            let mut ahead = b.readahead(100).cancel_on(&token);
            assert!(ahead.by_ref().take(buffer).eq(0..buffer));
            let rest = thread::spawn(move || ahead.collect::<Vec<_>>());
            pulled.wait_for(buffer + 1);
            settle();
            assert_eq!(pulled.get(), buffer + 1, "and then it waits");
            assert!(!rest.is_finished());
            token.cancel();
            assert_eq!(rest.join().unwrap(), [buffer]);
        });
    }
}

/// Forgotten readers of the other policies hold nobody up.
#[test]
fn a_forgotten_reader_that_drops_items_stops_nobody() {
    for overflow in [Overflow::DropNewest, Overflow::DropOldest] {
        within(SOON, move || {
            let (a, b) = two((0..100).broadcast(2).buffer(2).overflow(overflow));
            std::mem::forget(a);
            assert!(b.eq(0..100));
        });
    }
}
