//! `par_for_each` and `try_par_for_each`: every item is run once, and nothing comes out but the first error.

use crate::support::{
    Bang, Counter, Gate, Ledger, Meter, SOON, Tracked, bang, blocks, calls_counted, caught,
    counted, dawdle, eventually, message, payload, settle, within,
};
use fanfold::{CancelToken, Fanfold, testing};
use std::sync::Mutex;

#[test]
fn every_item_is_run_once() {
    within(SOON, || {
        for n in 1..=9 {
            let (ledger, seen) = (Ledger::new(), Mutex::new(vec![0; 500]));
            (0..500).map(|id| ledger.track(id)).par_for_each(n, |item| {
                dawdle(item.id);
                seen.lock().unwrap()[item.id as usize] += 1;
            });
            ledger.assert_dropped_once();
            assert_eq!(seen.into_inner().unwrap(), [1; 500]);
            testing::assert_quiescent();
        }
    });
}

#[test]
fn n_run_at_once_and_no_more() {
    within(SOON, || {
        for n in 1..=9 {
            let meter = Meter::new();
            (0..n * 20).par_for_each(n, |_| meter.meet(n));
            assert_eq!(meter.most(), n);
            let meter = Meter::new();
            let met = |_| (meter.meet(n), Ok::<_, ()>(())).1;
            assert_eq!((0..n * 20).try_par_for_each(n, met), Ok(()));
            assert_eq!(meter.most(), n);
        }
    });
}

/// What was pulled is run while the source blocks, and tiny items are pulled many at a time.
#[test]
fn nothing_waits_for_the_source() {
    within(SOON, || {
        for n in 1..=9 {
            let ran = Counter::new();
            let source = (0..1_000_usize).inspect(|i| ran.wait_for(*i));
            source.par_for_each(n, |_| {
                ran.add();
            });
            assert_eq!(ran.get(), 1_000);
        }
    });
}

/// One item is stuck, and the others go on, for any time; what is pulled and not run stays within the default bound.
#[test]
fn a_stuck_item_holds_up_no_other() {
    within(SOON, || {
        for n in 2..=9 {
            let (pulled, gate, ran) = (Counter::new(), Gate::new(), Counter::new());
            let source = counted((0_u64..).take_while(|_| !gate.is_open()), &pulled);
            source.par_for_each(n, |i| {
                if i == 0 {
                    gate.wait();
                }
                if ran.add() == 100_000 {
                    let ahead = pulled.get() - ran.get();
                    assert!(ahead <= 70_000, "{ahead} items are pulled and not run");
                    gate.open();
                }
            });
            assert_eq!(ran.get(), pulled.get());
        }
    });
}

#[test]
fn no_items_no_calls() {
    within(SOON, || {
        for n in 1..=9 {
            std::iter::empty::<u8>().par_for_each(n, |_| unreachable!());
            let none = std::iter::empty::<u8>().try_par_for_each(n, |_| Err(()));
            assert_eq!(none, Ok(()));
        }
    });
}

#[test]
fn the_first_error_to_arrive_stops_the_rest() {
    within(SOON, || {
        for n in 1..=9 {
            let (pulls, calls, ledger) = (Counter::new(), Counter::new(), Ledger::new());
            let source = counted((0..).map(|id| ledger.track(id)), &pulls);
            let result = source.try_par_for_each(n, |item: Tracked| {
                calls.add();
                if item.id >= 50 { Err(item.id) } else { Ok(()) }
            });
            assert!(result.is_err_and(|id| id >= 50));
            assert!(calls.get() <= pulls.get());
            ledger.assert_dropped_once();
            testing::assert_quiescent();
        }
    });
}

/// The other calls see their token, and are waited for.
#[test]
fn an_error_trips_the_token_of_the_others() {
    within(SOON, || {
        for n in 2..=9 {
            let (meter, left) = (Meter::new(), Counter::new());
            let result = (0..n).try_par_for_each(n, |i| {
                meter.meet(n);
                if i == 0 {
                    return Err("the first");
                }
                CancelToken::current().wait();
                left.add();
                Ok(())
            });
            assert_eq!((result, left.get()), (Err("the first"), n - 1));
        }
    });
}

#[test]
fn an_error_is_dropped_once_also_if_there_are_several() {
    within(SOON, || {
        for n in 1..=9 {
            let (meter, ledger) = (Meter::new(), Ledger::new());
            let result = (0..n as u64).try_par_for_each(n, |id| {
                meter.meet(n);
                Err::<(), _>(ledger.track(id))
            });
            assert!(result.is_err());
            assert_eq!(ledger.alive(), 1);
            drop(result);
            ledger.assert_dropped_once();
        }
    });
}

#[test]
fn panics_arrive_with_their_payload() {
    within(SOON, || {
        for n in 1..=9 {
            let ledger = Ledger::new();
            let source = || (0..99).map(|id| ledger.track(id)).collect::<Vec<_>>();
            let f = |item: Tracked| {
                if item.id == 40 {
                    bang(40);
                }
            };
            assert_eq!(caught(|| source().into_iter().par_for_each(n, f)), Err(40));
            testing::assert_quiescent();
            let tried = caught(|| {
                let f = |item| (f(item), Ok::<_, ()>(())).1;
                (0..99)
                    .map(|id| Ledger::new().track(id))
                    .try_par_for_each(n, f)
            });
            assert_eq!(tried, Err(40));
            let source_panics = caught(|| {
                let source = (0..99).inspect(|i| {
                    if *i == 50 {
                        bang(50);
                    }
                });
                source.par_for_each(n, drop);
            });
            assert_eq!(source_panics, Err(50));
            ledger.assert_dropped_once();
        }
    });
}

/// The panic of a drop that belongs to no item comes at the end.
#[test]
fn an_item_whose_drop_panics_is_heard_of() {
    within(SOON, || {
        for n in 1..=9 {
            let ledger = Ledger::new();
            let source: Vec<_> = (0..20)
                .map(|id| {
                    if id == 9 {
                        ledger.bomb(id)
                    } else {
                        ledger.track(id)
                    }
                })
                .collect();
            let raised = payload(|| {
                source
                    .into_iter()
                    .par_for_each(n, |item: Tracked| drop(item));
            });
            let raised = raised
                .err()
                .and_then(|raised| raised.downcast::<Bang>().ok());
            assert_eq!(raised.as_deref(), Some(&Bang(9)));
            ledger.assert_dropped_once();
        }
    });
}

#[test]
fn a_source_is_not_asked_after_its_end() {
    within(SOON, || {
        for n in 1..=9 {
            let calls = Counter::new();
            calls_counted(0..30, &calls).par_for_each(n, drop);
            assert_eq!(calls.get(), 31);
        }
    });
}

#[test]
fn a_width_of_zero_is_told_what_to_write() {
    for text in [
        message(|| (0..3).par_for_each(0, drop)),
        message(|| (0..3).try_par_for_each(0, |_| Ok::<_, ()>(())).is_ok()),
    ] {
        assert!(text.contains("at least 1"), "{text}");
    }
}

/// It ends with the work that it is part of, although its source does not; and the item that it belongs to does not count.
#[test]
fn it_ends_with_the_work_around_it() {
    within(SOON, || {
        for n in 1..=9 {
            let (token, ran) = (CancelToken::new(), Counter::new());
            let endless = |i| {
                match i {
                    1 => (0..).par_for_each(n, |_: u64| {
                        ran.add();
                    }),
                    2 => assert_eq!((0..).try_par_for_each(n, |_: u64| Ok::<_, ()>(())), Ok(())),
                    _ => {}
                }
                i
            };
            let stage = (0..3).par_map_ordered(3, endless).cancel_on(&token);
            std::thread::scope(|s| {
                s.spawn(|| {
                    ran.wait_for(1_000);
                    token.cancel();
                });
                assert!([0].starts_with(&stage.collect::<Vec<_>>()));
            });
            testing::assert_quiescent();
        }
    });
}

#[test]
fn it_is_a_part_of_chains_that_borrow() {
    within(SOON, || {
        let (docs, sum) = (vec!["a", "bc", "def"], Mutex::new(0));
        let lens = || docs.iter().par_map_ordered(2, |doc| doc.len());
        lens().par_for_each(3, |len| *sum.lock().unwrap() += len);
        let result = lens().try_par_for_each(3, |len| {
            *sum.lock().unwrap() += len;
            Ok::<_, ()>(())
        });
        assert_eq!((result, *sum.lock().unwrap()), (Ok(()), 12));
    });
}

/// `.local()`: the calling thread pulls, and the others run.
#[test]
fn a_source_may_stay_on_its_thread() {
    within(SOON, || {
        for n in 1..=9 {
            let (seen, here) = (Counter::new(), std::rc::Rc::new(()));
            let source = (0..300).map(move |i| (std::rc::Rc::strong_count(&here), i).1);
            source.local().par_for_each(n, |_| {
                seen.add();
            });
            assert_eq!(seen.get(), 300);
        }
    });
}

/// The source blocks after what it has given: that is run, and the call is stuck like any loop over the source, until the
/// source goes on.
#[test]
fn it_waits_for_its_source() {
    within(SOON, || {
        for n in 1..=9 {
            let (gate, ran, over) = (Gate::new(), Counter::new(), Counter::new());
            let _opener = gate.opener();
            std::thread::scope(|s| {
                s.spawn(|| {
                    (0..5).chain(blocks(&gate)).par_for_each(n, |_| {
                        ran.add();
                    });
                    over.add();
                });
                ran.wait_for(5);
                settle();
                assert_eq!(over.get(), 0);
                gate.open();
            });
            eventually("the end", || over.get() == 1);
        }
    });
}
