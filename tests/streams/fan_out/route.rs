//! `route`: each item to the reader that a closure names.

use crate::support::{
    Counter, Gate, Ledger, SOON, Script, bang, blocks, calls_counted, caught, counted, dawdle,
    message, mix, panics_at, settle, within,
};
use fanfold::testing::assert_quiescent;
use fanfold::{Fanfold, Overflow, Pool, Reader, fan_out::ByRoute};
use quickcheck::quickcheck;
use std::thread;

/// The items that this reader should get.
fn of(way: usize, k: usize, items: u64) -> impl Iterator<Item = u64> {
    (0..items).filter(move |x| choose(k)(x) == way)
}

fn choose(k: usize) -> impl Fn(&u64) -> usize {
    move |x| mix(*x) as usize % k
}

// ---- order and completeness

quickcheck! {
    fn each_item_goes_where_it_is_sent(items: Vec<u8>, k: u8, buffer: u8) -> bool {
        let (k, buffer) = (usize::from(k % 9) + 1, usize::from(buffer % 4) + 1);
        let way = |x: &u8| usize::from(*x) % k;
        let source = items.clone().into_iter().route(k, way).buffer(buffer);
        let got = source.into_sinks(|_, reader| reader.collect::<Vec<_>>());
        let theirs = |i| items.iter().copied().filter(move |x| way(x) == i);
        got.into_iter().enumerate().all(|(i, got)| got.into_iter().eq(theirs(i)))
    }
}

#[test]
fn each_thread_gets_its_items_in_order() {
    for k in 1..=9 {
        for buffer in [1, 2, 16] {
            within(SOON, move || {
                let readers = (0..400).route(k, choose(k)).buffer(buffer).readers();
                let read = |(way, reader): (usize, Reader<_, ByRoute<_>>)| {
                    thread::spawn(move || reader.inspect(|x| dawdle(*x)).eq(of(way, k, 400)))
                };
                let threads: Vec<_> = readers.into_iter().enumerate().map(read).collect();
                assert!(threads.into_iter().all(|thread| thread.join().unwrap()));
                assert_quiescent();
            });
        }
    }
}

#[test]
fn more_readers_than_items() {
    within(SOON, || {
        let counts = (0..5).route_into(40, |x| *x * 2, |_, reader| reader.count());
        assert_eq!(counts.iter().sum::<usize>(), 5);
        assert!((0..5).all(|x| counts[x * 2] == 1));
    });
}

#[test]
fn readers_served_in_turn_can_be_read_in_turns() {
    within(SOON, || {
        let mut readers = (0..900_usize).route(3, |x| x % 3).buffer(1).readers();
        for x in 0..900 {
            assert_eq!(readers[x % 3].next(), Some(x));
        }
        assert!(readers.iter_mut().all(|reader| reader.next().is_none()));
    });
}

#[test]
fn each_item_is_asked_about_once_and_never_cloned() {
    for k in 1..=9 {
        let (ledger, calls) = (Ledger::new(), Counter::new());
        let items = (0..200).map(|id| ledger.track(id));
        let way = |item: &crate::support::Tracked| {
            calls.add();
            item.id as usize % k
        };
        let counts = items.route_into(k, way, |_, reader| reader.count());
        assert_eq!((counts.iter().sum::<usize>(), calls.get()), (200, 200));
        ledger.assert_dropped_once();
    }
}

// ---- laziness and bound

#[test]
fn nothing_is_pulled_before_a_reader_is_asked() {
    let pulled = Counter::new();
    let readers = counted(0..10, &pulled).route(3, choose(3)).readers();
    settle();
    assert_eq!(pulled.get(), 0);
    drop(readers);
    assert_eq!(pulled.get(), 0);
    assert_quiescent();
}

#[test]
fn nothing_is_pulled_while_one_reader_has_no_room() {
    for buffer in 1..=9 {
        within(SOON, move || {
            let pulled = Counter::new();
            // all for reader 2
            let mut readers = counted(0..50, &pulled)
                .route(3, |_| 2)
                .buffer(buffer)
                .readers();
            let mut full = readers.pop().unwrap();
            let read = |mut reader: Reader<_, _>| thread::spawn(move || reader.next());
            let waiting: Vec<_> = readers.into_iter().map(read).collect();
            pulled.wait_for(buffer + 1);
            settle();
            assert_eq!(pulled.get(), buffer + 1);
            assert!(full.by_ref().eq(0..50));
            assert!(
                waiting
                    .into_iter()
                    .all(|thread| thread.join().unwrap().is_none())
            );
        });
    }
}

// ---- a reader that is dropped

#[test]
fn items_for_a_dropped_reader_are_dropped_and_free_the_others() {
    for k in 2..=9 {
        within(SOON, move || {
            let ledger = Ledger::new();
            let items = ledger.clone();
            let source = (0..400).map(move |id| items.track(id));
            let mut readers = source
                .route(k, move |item| item.id as usize % k)
                .buffer(1)
                .readers();
            let gone = readers.remove(k / 2);
            let count = |reader: Reader<_, _>| thread::spawn(move || reader.count());
            let threads: Vec<_> = readers.into_iter().map(count).collect();
            settle(); // until all wait for this reader
            assert!(threads.iter().all(|thread| !thread.is_finished()));
            drop(gone);
            let counts = threads.into_iter().map(|thread| thread.join().unwrap());
            let gone = (400 - k / 2).div_ceil(k);
            assert_eq!(counts.sum::<usize>(), 400 - gone);
            ledger.assert_dropped_once();
            assert_quiescent();
        });
    }
}

#[test]
fn each_item_is_dropped_once_wherever_readers_stop() {
    for (k, taken) in (1..=4).flat_map(|k| (0..=10).map(move |taken| (k, taken))) {
        within(SOON, move || {
            let ledger = Ledger::new();
            let items = (0..400).map(|id| ledger.track(id));
            let route = items.route(k, |item| mix(item.id) as usize % k).buffer(2);
            let counts = route.into_sinks(|i, reader| reader.take(taken * (i + 1)).count());
            assert!(counts.into_iter().eq((1..=k).map(|i| taken * i)));
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
            let source = (0..30).chain(calls_counted(blocks(&gate), &inside));
            let mut readers = source.route(k, choose(k)).buffer(30).readers();
            let _open = gate.opener();
            let leader = readers.remove(0);
            let leader = thread::spawn(move || leader.count());
            inside.wait_for(1);
            for (way, reader) in readers.iter_mut().enumerate() {
                let count = of(way + 1, k, 30).count();
                assert!(reader.by_ref().take(count).eq(of(way + 1, k, 30)));
            }
            gate.open();
            assert_eq!(leader.join().unwrap(), of(0, k, 30).count());
            assert!(readers.iter_mut().all(|reader| reader.next().is_none()));
        });
    }
}

#[test]
fn every_waiting_reader_can_become_the_leader() {
    for k in 2..=9 {
        within(SOON, move || {
            // One item each, in an order that no reader knows: each must come, whichever reader leads.
            let order: Vec<usize> = (0..k).map(|i| (i * 7 + 3) % k).collect();
            let all: std::collections::BTreeSet<_> = order.iter().copied().collect();
            let k = all.len();
            let (ask, asked) = std::sync::mpsc::channel();
            let source = std::iter::from_fn(move || asked.recv().ok());
            let readers = source.route(9, |x: &usize| *x).readers();
            let (tell, told) = std::sync::mpsc::channel();
            let threads: Vec<_> = readers
                .into_iter()
                .map(|mut reader| {
                    let tell = tell.clone();
                    thread::spawn(move || {
                        let item = reader.next();
                        tell.send(item).unwrap();
                        reader // kept, and not asked again
                    })
                })
                .collect();
            settle(); // until one is in the source and the others wait
            for x in &all {
                ask.send(*x).unwrap();
                assert_eq!(told.recv(), Ok(Some(*x)));
            }
            drop(ask);
            assert!((k..9).all(|_| told.recv() == Ok(None)));
            assert!(threads.into_iter().all(|thread| thread.join().is_ok()));
        });
    }
}

#[test]
fn an_interrupted_reader_does_not_become_the_leader() {
    within(SOON, || {
        let (ask, asked) = std::sync::mpsc::channel();
        let (inside, source) = (
            Counter::new(),
            std::iter::from_fn(move || asked.recv().ok()),
        );
        let source = calls_counted(source, &inside);
        let mut readers = source.route(3, |x: &usize| *x).readers();
        let (mut c, mut b, mut a) = (
            readers.pop().unwrap(),
            readers.pop().unwrap(),
            readers.pop().unwrap(),
        );
        let leader = thread::spawn(move || (c.next(), c));
        inside.wait_for(1);
        fanfold::scope(|s| {
            let token = fanfold::CancelToken::new();
            let mut stage = a
                .by_ref()
                .par_map_unordered(1, |x| x)
                .cancel_on(&token)
                .within(s);
            let cancels = thread::spawn(move || {
                settle(); // it waits for the leader
                token.cancel();
            });
            assert_eq!(stage.next(), None);
            cancels.join().unwrap();
        });
        let waits = thread::spawn(move || b.next());
        settle(); // until this one waits too
        ask.send(2).unwrap();
        let (item, _kept) = leader.join().unwrap();
        assert_eq!(item, Some(2)); // and it is not asked again
        ask.send(1).unwrap();
        assert_eq!(waits.join().unwrap(), Some(1));
        ask.send(0).unwrap();
        assert_eq!(a.next(), Some(0));
    });
}

// ---- policies

#[test]
fn the_policies_drop_and_count_for_each_reader() {
    for k in 2..=9 {
        let route = |overflow| {
            (0..100 * k)
                .route(k, move |x| x % k)
                .buffer(3)
                .overflow(overflow)
        };
        let mut newest = route(Overflow::DropNewest).readers();
        assert_eq!(newest.remove(0).count(), 100);
        for (i, reader) in newest.into_iter().enumerate() {
            assert_eq!(reader.dropped().get(), 97);
            assert!(reader.eq((0..3).map(|x| x * k + i + 1)));
        }
        let mut oldest = route(Overflow::DropOldest).readers();
        assert_eq!(oldest.remove(0).count(), 100);
        for (i, reader) in oldest.into_iter().enumerate() {
            assert_eq!(reader.dropped().get(), 97);
            assert!(reader.eq((97..100).map(|x| x * k + i + 1)));
        }
        let grown = route(Overflow::Grow(100)).readers();
        assert!(grown.into_iter().all(|reader| reader.count() == 100));
    }
}

#[test]
fn beyond_the_cap_both_readers_are_named() {
    let mut readers = (0..)
        .route(4, |x| if x % 2 == 0 { 1 } else { 3 })
        .overflow(Overflow::Grow(5))
        .readers();
    let said = message(|| readers[1].by_ref().count());
    for part in ["reader 1", "reader 3", "Grow(5)", "into_sinks"] {
        assert!(said.contains(part), "{said}");
    }
    assert!(readers[3].by_ref().take(5).eq([1, 3, 5, 7, 9]));
    for reader in [0, 2, 3] {
        assert_eq!(message(|| readers[reader].next()), said);
        assert_eq!(readers[reader].next(), None);
    }
    assert_quiescent();
}

// ---- panics

#[test]
fn a_number_without_a_reader_panics_with_both_numbers() {
    let mut readers = (0..9_usize).route(3, |x| *x).readers();
    assert_eq!(readers[2].next(), Some(2));
    let said = message(|| readers[2].next());
    assert!(
        said.contains("route(3, ..)") && said.contains("returned 3"),
        "{said}"
    );
    assert!(said.contains("below 3"), "{said}");
    assert_eq!(readers[2].next(), None);
    assert_eq!(readers[0].next(), Some(0));
    assert!(message(|| readers[0].next()).contains(&said));
    assert_eq!(readers[0].next(), None);
    let run = || (0..9_usize).route_into(2, |x| *x, |_, reader| reader.count());
    assert!(message(run).contains("returned 2"));
}

#[test]
fn the_puller_raises_a_panic_of_the_closure_or_the_source() {
    for k in 1..=9 {
        for by_closure in [false, true] {
            let source = panics_at(if by_closure { 99 } else { 20 }, &Counter::new());
            let way = move |x: &u64| if *x == 20 { bang(20) } else { *x as usize % k };
            let mut readers = source.route(k, way).readers();
            let mut last = readers.pop().unwrap();
            let theirs = |i| (0..20_u64).filter(move |x| *x as usize % k == i);
            assert!(last.by_ref().take(theirs(k - 1).count()).eq(theirs(k - 1)));
            assert_eq!(caught(|| last.next()), Err(20));
            assert_eq!(last.next(), None);
            for (i, mut reader) in readers.into_iter().enumerate() {
                assert!(reader.by_ref().take(theirs(i).count()).eq(theirs(i)));
                let told = format!("reader {} has met with a panic", k - 1);
                assert!(message(|| reader.next()).contains(&told));
                assert_eq!(reader.next(), None);
            }
            assert_quiescent();
        }
    }
}

// ---- sinks

#[test]
fn sinks_run_at_the_same_time_and_give_their_results_in_order() {
    for k in 1..=9 {
        within(SOON, move || {
            let meter = crate::support::Meter::new();
            let numbers: Vec<u64> = (0..300).collect(); // borrowed
            let sums = numbers.iter().route_into(
                k,
                |x| choose(k)(x),
                |_, reader| {
                    meter.meet(k);
                    reader.sum::<u64>()
                },
            );
            assert!(
                sums.into_iter()
                    .eq((0..k).map(|way| of(way, k, 300).sum::<u64>()))
            );
            assert_quiescent();
        });
    }
}

#[test]
fn a_panic_of_a_sink_is_raised_when_all_have_ended() {
    for k in 1..=9 {
        within(SOON, move || {
            let ended = Counter::new();
            let run = || {
                (0..900).route_into(k, choose(k), |i, reader| {
                    if i == k / 2 {
                        bang(7);
                    }
                    assert!(reader.eq(of(i, k, 900)));
                    ended.add();
                })
            };
            assert_eq!(caught(run).err(), Some(7));
            assert_eq!(ended.get(), k - 1);
        });
    }
}

#[test]
fn without_a_thread_the_sinks_run_one_after_the_other() {
    let none = Pool::builder().stack_size(usize::MAX / 4 * 3).build();
    for k in 1..=9 {
        let pool = none.clone();
        within(SOON, move || {
            let route = (0..1_000).route(k, choose(k)).buffer(1).on(&pool);
            assert_eq!(
                route.into_sinks(|i, reader| reader.eq(of(i, k, 1_000))),
                vec![true; k]
            );
            assert_quiescent();
        });
    }
}

#[test]
fn readers_in_stages() {
    for n in 1..=4 {
        within(SOON, move || {
            let ok = (0..300_u64)
                .route(4, choose(4))
                .buffer(2)
                .into_sinks(|i, reader| {
                    let stage = reader.par_map_ordered(n, |x| {
                        dawdle(x);
                        x
                    });
                    stage.eq(of(i, 4, 300))
                });
            assert_eq!(ok, [true; 4]);
            assert_quiescent();
        });
    }
}

// ---- ends, messages

#[test]
fn readers_are_fused_and_pull_nothing_after_the_end() {
    let calls = Counter::new();
    let mut readers = Script::new([Some(0), None, Some(1)], &calls)
        .route(2, |x| *x)
        .readers();
    assert_eq!((readers[1].next(), readers[1].next()), (None, None));
    assert_eq!((readers[0].next(), readers[0].next()), (Some(0), None));
    assert_eq!(calls.get(), 2);
}

#[test]
fn zeros_panic_with_the_fix() {
    assert!(message(|| (0..3).route(0, |_| 0)).contains("route(1, ..)"));
    assert!(message(|| (0..3).route_into(0, |_| 0, |_, _| ())).contains("route(1, ..)"));
    assert!(message(|| (0..3).route(2, |_| 0).overflow(Overflow::Grow(0))).contains("at least 1"));
}
