//! `par_flat_map` of short items, several of which a thread takes at once: nothing but speed may show that.

use crate::support::{Bang, Counter, Gate, Ledger, SOON, Tracked, bang, caught, settle, within};
use fanfold::testing::assert_quiescent;
use fanfold::{CancelToken, Fanfold};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// So many items go by before something happens.
const SHORT: usize = 3000;

/// For every `n`, without a bound and with a wide one.
fn each(f: impl Fn(usize, Option<usize>) + Clone + Send + 'static) {
    for (n, k) in (1..=9).flat_map(|n| [None, Some(64 * n)].map(|k| (n, k))) {
        let f = f.clone();
        within(SOON, move || {
            f(n, k);
            assert_quiescent();
        });
    }
}

/// None, one or two outputs.
fn few(item: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..item % 3).map(move |i| (item, i))
}

#[test]
fn outputs_come_in_order() {
    each(|n, k| {
        for items in [1, 2, SHORT, SHORT + 7] {
            let stage = bounded!((0..items).par_flat_map(n, few), k);
            assert!(stage.eq((0..items).flat_map(few)), "n = {n}, k = {k:?}");
        }
    });
}

/// Other threads take what a thread has and cannot start.
#[test]
fn what_is_behind_a_long_item_runs_meanwhile() {
    each(|n, k| {
        if n == 1 {
            return;
        }
        for long in [SHORT, SHORT + 1, SHORT + 5] {
            let (gate, ran) = (Gate::new(), Counter::new());
            let (wait, count) = (gate.clone(), ran.clone());
            let open = move |item| {
                if item == long {
                    wait.wait();
                } else if item > long {
                    count.add();
                }
                few(item)
            };
            let stage = bounded!((0..2 * SHORT).par_flat_map(n, open), k);
            let consumer = std::thread::spawn(move || stage.collect::<Vec<_>>());
            let _opener = gate.opener();
            ran.wait_for(8);
            gate.open();
            let got = consumer.join().expect("no panic");
            assert!(got.into_iter().eq((0..2 * SHORT).flat_map(few)));
        }
    });
}

/// P4: what was pulled before is yielded, in whichever place of a batch the source blocks.
#[test]
fn nothing_waits_behind_a_source_that_blocks() {
    each(|n, k| {
        let received = Counter::new();
        let told = received.clone();
        let stops = [0, 1, 2, 3, 7, 20, 63, 64, 65, 300].map(|more| SHORT + more);
        let source = (0..2 * SHORT).inspect(move |item| {
            if stops.contains(item) {
                told.wait_for(*item);
            }
        });
        let stage = bounded!(source.par_flat_map(n, |item| [item]), k);
        for (want, item) in stage.enumerate() {
            assert_eq!(item, want);
            received.add();
        }
        assert_eq!(received.get(), 2 * SHORT);
    });
}

/// P2: a consumer that stays away holds the bound, to the item.
#[test]
fn the_bound_holds() {
    each(|n, k| {
        let (pulls, taken) = (Counter::new(), SHORT);
        let source = (0..).inspect({
            let pulls = pulls.clone();
            move |_| {
                pulls.add();
            }
        });
        let mut stage = bounded!(source.par_flat_map(n, |item: usize| [item]), k);
        assert_eq!(stage.by_ref().take(taken).last(), Some(taken - 1));
        settle();
        if let Some(k) = k {
            assert!(pulls.get() <= taken + k, "{} pulls, n = {n}", pulls.get());
        }
    });
}

#[test]
fn an_error_comes_at_its_place_and_nothing_after_it() {
    each(|n, k| {
        for bad in [SHORT, SHORT + 1, SHORT + 6] {
            let open = move |item| {
                if item == bad {
                    return Err(item);
                }
                Ok(few(item).map(Ok))
            };
            let mut stage = bounded!((0..).try_par_flat_map(n, open), k);
            let got: Vec<_> = stage.by_ref().collect();
            let want = (0..bad).flat_map(few).map(Ok);
            assert!(got.into_iter().eq(want.chain([Err(bad)])));
            assert_eq!(stage.next(), None);
        }
    });
}

#[test]
fn a_panic_comes_at_its_place() {
    each(|n, k| {
        let open = |item: usize| {
            if item == SHORT + 2 {
                bang(5);
            }
            few(item)
        };
        let mut stage = bounded!((0..).par_flat_map(n, open), k);
        let want: Vec<_> = (0..SHORT + 2).flat_map(few).collect();
        assert!(stage.by_ref().take(want.len()).eq(want));
        assert_eq!(caught(|| stage.next()), Err(5));
    });
}

#[test]
fn an_isolated_panic_names_its_item_and_the_others_go_on() {
    each(|n, k| {
        let is_bad = |item: &usize| *item >= SHORT && item % 5 == 0;
        let open = move |item: usize| {
            if is_bad(&item) {
                std::panic::panic_any(Bang(item as u64));
            }
            [item]
        };
        let stage = bounded!((0..SHORT + 50).par_flat_map(n, open), k).isolate();
        for (item, result) in stage.enumerate() {
            match result {
                Ok(output) => assert!(output == item && !is_bad(&item)),
                Err(error) => assert!(error.seq() == item as u64 && is_bad(&item)),
            }
        }
    });
}

/// P10: wherever it stops, in the middle of a batch too.
#[test]
fn every_item_is_dropped_once_wherever_it_stops() {
    each(|n, k| {
        for more in [0, 1, 2, 5] {
            let ledger = Ledger::new();
            let source = (0..).map({
                let ledger = ledger.clone();
                move |i| ledger.track(i)
            });
            let open = |item: Tracked| [item];
            let mut stage = bounded!(source.par_flat_map(n, open), k);
            assert_eq!(stage.by_ref().take(SHORT + more).count(), SHORT + more);
            drop(stage);
            ledger.assert_dropped_once();
        }
    });
}

/// P9: a drained stage runs what it has pulled.
#[test]
fn a_drain_runs_everything_that_was_pulled() {
    each(|n, k| {
        let (token, pulled) = (CancelToken::new(), Arc::new(AtomicUsize::new(0)));
        let (drain, count) = (token.clone(), Arc::clone(&pulled));
        let source = (0..).inspect(move |item| {
            count.fetch_add(1, SeqCst);
            if *item == SHORT + 3 {
                drain.cancel();
            }
        });
        let stage = bounded!(source.par_flat_map(n, |item: usize| [item]), k);
        let got: Vec<_> = stage.drain_on(&token).collect();
        assert!(got.into_iter().eq(0..pulled.load(SeqCst)));
    });
}

/// Each item has a token of its own.
#[test]
fn tokens_belong_to_one_item() {
    each(|n, k| {
        let open = |item: usize| {
            let token = CancelToken::current();
            assert!(!token.is_cancelled(), "of an item before this one");
            token.cancel();
            [item]
        };
        let stage = bounded!((0..SHORT).par_flat_map(n, open), k);
        assert!(stage.eq(0..SHORT));
    });
}
