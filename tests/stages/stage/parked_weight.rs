//! `parked_weight`: results that wait weigh no more than the limit and what ran when it was reached, and the head of the
//! line is never stopped.

use crate::support::{
    Counter, Gate, Ledger, SOON, Tracked, WIDTHS, bang, caught, mix, settle, within,
};
use fanfold::{CancelToken, Fanfold, HedgePolicy, ItemError, Permits, Pool, Stage};
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(3_600);

type Items = Box<dyn Iterator<Item = Tracked> + Send>;
type Built = Box<dyn Iterator<Item = Tracked>>;
type Work = Arc<dyn Fn(&Tracked) + Send + Sync>;

/// What an item's result weighs.
type Weight = fn(u64) -> usize;

struct Kind {
    name: &'static str,
    ordered: bool,
    build: fn(Items, usize, Work, usize, Weight) -> Built,
}

fn f(work: Work) -> impl Fn(Tracked) -> Tracked + Send + Sync {
    move |item| {
        work(&item);
        item
    }
}

macro_rules! kind {
    ($name:literal, $ordered:literal, |$s:ident, $n:ident, $f:ident, $limit:ident, $w:ident| $stage:expr) => {
        Kind {
            name: $name,
            ordered: $ordered,
            build: |$s, $n, work, $limit, weight| {
                let ($f, $w) = (f(work), move |item: &Tracked| weight(item.id));
                Box::new($stage)
            },
        }
    };
}

fn kinds() -> Vec<Kind> {
    vec![
        kind!("ordered", true, |s, n, f, limit, w| s
            .par_map_ordered(n, f)
            .parked_weight(limit, w)),
        kind!("eager", true, |s, n, f, limit, w| {
            s.par_map_ordered(n, f).eager().parked_weight(limit, w)
        }),
        kind!("small bound", true, |s, n, f, limit, w| {
            s.par_map_ordered(n, f).in_flight(5).parked_weight(limit, w)
        }),
        kind!("unordered", false, |s, n, f, limit, w| {
            s.par_map_unordered(n, f).parked_weight(limit, w)
        }),
        kind!("unordered, small bound", false, |s, n, f, limit, w| {
            s.par_map_unordered(n, f)
                .in_flight(4)
                .parked_weight(limit, w)
        }),
        kind!("filter", true, |s, n, f, limit, w| {
            let keep = move |item: &Tracked| {
                let _ = &f;
                item.id < u64::MAX
            };
            s.par_filter(n, keep).parked_weight(limit, w)
        }),
        kind!("init", true, |s, n, f, limit, w| {
            s.par_map_ordered_init(n, || (), move |(), item| f(item))
                .parked_weight(limit, w)
        }),
        kind!("try", true, |s, n, f, limit, w| {
            let stage = s.try_par_map_ordered(n, move |item| Ok::<_, Infallible>(f(item)));
            let stage = stage.parked_weight(limit, move |item| item.as_ref().map_or(0, &w));
            stage.map(|Ok(item)| item)
        }),
        kind!("isolated", true, |s, n, f, limit, w| {
            let stage = s.par_map_ordered(n, f).parked_weight(limit, w).isolate();
            stage.map(|item: Result<Tracked, ItemError>| item.expect("no panic"))
        }),
        kind!("timed", true, |s, n, f, limit, w| {
            s.par_map_ordered(n, f)
                .item_timeout(LONG)
                .parked_weight(limit, w)
        }),
        kind!("timed, unordered", false, |s, n, f, limit, w| {
            s.par_map_unordered(n, f)
                .item_timeout(LONG)
                .parked_weight(limit, w)
        }),
        kind!("limited", true, |s, n, f, limit, w| {
            s.par_map_ordered(n, f)
                .limited_by(&Permits::new(2))
                .parked_weight(limit, w)
        }),
        kind!("local", true, |s, n, f, limit, w| {
            s.local().par_map_ordered(n, f).parked_weight(limit, w)
        }),
        kind!("local, unordered", false, |s, n, f, limit, w| {
            s.local().par_map_unordered(n, f).parked_weight(limit, w)
        }),
        kind!("both", true, |s, n, f, limit, w| {
            let stage = s
                .par_map_ordered(n, f)
                .in_flight_weight(limit.saturating_mul(3), w);
            stage.parked_weight(limit, w).in_flight(50)
        }),
        kind!("both, unordered", false, |s, n, f, limit, w| {
            let stage = s.par_map_unordered(n, f).parked_weight(limit, w);
            stage.in_flight_weight(limit.saturating_mul(3), w)
        }),
        kind!("one thread", true, |s, n, f, limit, w| {
            let pool = Pool::builder().max_threads(1).build();
            s.par_map_ordered(n, f).parked_weight(limit, w).on(&pool)
        }),
    ]
}

fn source(len: u64, ledger: &Ledger) -> Items {
    let ledger = ledger.clone();
    Box::new((0..len).map(move |id| ledger.track(id)))
}

/// Any weights: one in sixteen is large, one in eight is nothing.
fn any(id: u64) -> usize {
    match mix(id) % 16 {
        0 => 60,
        1 | 2 => 0,
        _ => (mix(id) % 10) as usize,
    }
}

#[test]
fn all_items_come_and_the_bound_holds() {
    for kind in kinds() {
        for (seed, n) in (0..).zip([1, 2, 3, 5, 9]) {
            within(SOON, move || {
                let (ledger, limit) = (Ledger::new(), 1 + (mix(seed) % 40) as usize);
                // What has been run and not been yielded, and how many closures have begun since.
                let parked = Arc::new(Mutex::new((0_usize, BTreeSet::new())));
                let seen = Arc::clone(&parked);
                let work: Work = Arc::new(move |item: &Tracked| {
                    let mut seen = seen.lock().expect("no panic");
                    let sum = seen.0;
                    // The heaviest of all: what runs beside this one, and the one that is being yielded.
                    assert!(sum < limit + 60 * (n + 3), "{sum} of {limit}");
                    seen.0 += any(item.id);
                    seen.1.insert(item.id);
                });
                let mut stage = (kind.build)(source(300, &ledger), n, work, limit, any);
                let mut ids = Vec::new();
                for item in &mut stage {
                    ids.push(item.id);
                    // A filter of the table runs no work.
                    let mut parked = parked.lock().expect("no panic");
                    if parked.1.remove(&item.id) {
                        parked.0 -= any(item.id);
                    }
                    drop(parked);
                    if mix(seed ^ item.id) % 64 == 0 {
                        settle();
                    }
                }
                drop(stage);
                if !kind.ordered {
                    ids.sort_unstable();
                }
                assert!(ids.into_iter().eq(0..300), "{}, n = {n}", kind.name);
                ledger.assert_dropped_once();
            });
        }
    }
}

#[test]
fn a_slow_head_stops_the_others_at_the_limit_and_they_go_on_behind_it() {
    for kind in kinds() {
        // One that cannot go past its head, or has none.
        if !kind.ordered || ["filter", "one thread", "small bound"].contains(&kind.name) {
            continue;
        }
        for n in [2, 3, 9] {
            within(SOON, move || {
                let (ledger, gate, ran) = (Ledger::new(), Gate::new(), Counter::new());
                let (at_head, count) = (gate.clone(), ran.clone());
                let work: Work = Arc::new(move |item: &Tracked| {
                    if item.id == 0 {
                        at_head.wait();
                    } else {
                        count.add();
                    }
                });
                let mut stage = (kind.build)(source(200, &ledger), n, work, 20, |_| 5);
                let (opened, runs, name) = (gate, ran.clone(), kind.name);
                let opener = std::thread::spawn(move || {
                    runs.wait_for(4); // the limit
                    for _ in 0..5 {
                        settle();
                        // Those that ran when the fourth was done, beside it and the head.
                        assert!(runs.get() <= 4 + n - 2, "{name}, n = {n}: {}", runs.get());
                    }
                    opened.open();
                });
                let ids: Vec<u64> = stage.by_ref().map(|item| item.id).collect();
                opener.join().expect("the bound");
                assert!(ids.into_iter().eq(0..200), "{}", kind.name);
                drop(stage);
                ledger.assert_dropped_once();
            });
        }
    }
}

#[test]
fn a_stalled_consumer_holds_it_flat() {
    // How many results reach the limit. What weighs more than that counts as the limit.
    let loads: [(usize, Weight, usize); 3] = [
        (20, |_| 5, 4),
        (20, |_| usize::MAX, 1),
        (usize::MAX, |_| usize::MAX, 1),
    ];
    for kind in kinds().into_iter().filter(|kind| kind.name != "filter") {
        for (n, (limit, weight, reach)) in [1, 2, 5]
            .into_iter()
            .flat_map(|n| loads.map(|load| (n, load)))
        {
            within(SOON, move || {
                let (ledger, ran) = (Ledger::new(), Counter::new());
                let count = ran.clone();
                let work: Work = Arc::new(move |_: &Tracked| {
                    count.add();
                });
                let mut stage = (kind.build)(source(500, &ledger), n, work, limit, weight);
                assert!(stage.next().is_some());
                // The one that was yielded, those at the limit, what ran then, and the head.
                let most = 1 + reach + n;
                for _ in 0..3 {
                    settle();
                    let ran = ran.get();
                    assert!(
                        ran <= most,
                        "{}, n = {n}: {ran} of {}",
                        kind.name,
                        weight(0)
                    );
                }
                drop(stage);
                assert_eq!(ledger.alive(), 0, "{}", kind.name);
                ledger.assert_dropped_once();
            });
        }
    }
}

#[test]
fn what_the_consumer_takes_makes_room_although_it_goes_away() {
    for kind in kinds() {
        if ["filter", "local", "local, unordered"].contains(&kind.name) {
            continue;
        }
        for n in [1, 2, 3] {
            within(SOON, move || {
                let (ledger, ran) = (Ledger::new(), Counter::new());
                let count = ran.clone();
                let work: Work = Arc::new(move |_: &Tracked| {
                    count.add();
                });
                let mut stage = (kind.build)(source(12, &ledger), n, work, 20, |_| 5);
                // All are pulled, so nobody comes by for that, and all that is taken is ready, so the consumer has no
                // reason to wake anybody in its own interest.
                assert!(stage.next().is_some());
                ran.wait_for(5); // the limit
                settle();
                let before = ran.get();
                for _ in 0..3 {
                    assert!(stage.next().is_some());
                }
                ran.wait_for(before + 1);
            });
        }
    }
}

/// Whatever the lengths of the chunks.
#[test]
fn the_bound_holds_within_a_long_chunk() {
    for n in [1, 2, 3] {
        within(SOON, move || {
            let ran = Counter::new();
            let stage = (0_usize..).par_map_ordered(n, {
                let ran = ran.clone();
                move |i| (ran.add(), i).1
            });
            let mut stage = stage.in_flight(10_000).parked_weight(500, |_| 1);
            assert!(stage.by_ref().take(2_000).eq(0..2_000));
            let mut taken = 2_000;
            for round in 0..30 {
                let more = 500 + round % 7;
                assert!(stage.by_ref().take(more).eq(taken..taken + more));
                taken += more;
                settle(); // mostly, all that may run has run by now
                // Beside those at the limit what ran then, and the head.
                assert!(
                    ran.get() <= taken + 500 + n,
                    "{n}: {} of {taken}",
                    ran.get()
                );
            }
        });
    }
}

/// As above, but what goes on is only the head, as what is behind it has reached the limit.
#[test]
fn what_has_become_the_head_begins_although_the_consumer_goes_away() {
    const HEADS: u64 = 12;
    const APART: u64 = 40;
    for n in [2, 3] {
        within(SOON, move || {
            let gates: Arc<[Gate]> = (0..HEADS).map(|_| Gate::new()).collect();
            let ran: Arc<[Counter]> = (0..=HEADS * APART).map(|_| Counter::new()).collect();
            let (at, count) = (Arc::clone(&gates), Arc::clone(&ran));
            let stage = (0..=HEADS * APART).par_map_ordered(n, move |i| {
                // In a chunk with others, by then: the items before it have been quick.
                if i % APART == APART - 2 {
                    at[(i / APART) as usize].wait();
                }
                count[i as usize].add();
                i
            });
            let mut stage = stage.parked_weight(20, |_| 5);
            let mut next = 0;
            for gate in &*gates {
                let _opener = gate.opener();
                while next % APART < APART - 2 {
                    assert_eq!(stage.next(), Some(next));
                    next += 1;
                }
                settle(); // mostly, the others have filled up what is behind it by now
                gate.open();
                ran[next as usize].wait_for(1);
                settle(); // mostly, its thread has put aside what follows by now
                assert_eq!(stage.next(), Some(next));
                next += 1;
                ran[next as usize].wait_for(1);
            }
        });
    }
}

#[test]
fn with_everything_above_the_limit_only_the_head_runs() {
    for n in WIDTHS {
        within(SOON, move || {
            let stage = (0..500_u64).par_map_ordered(n, |i| i);
            assert!(stage.parked_weight(1, |_| usize::MAX).eq(0..500));
            let stage = (0..500_u64).par_map_unordered(n, |i| i);
            let sum: u64 = stage.parked_weight(usize::MAX, |_| usize::MAX).sum();
            assert_eq!(sum, (0..500).sum());
        });
    }
}

#[test]
fn the_head_runs_although_the_source_is_stuck() {
    for n in WIDTHS {
        within(SOON, move || {
            // The source blocks after some items, with the only permit, if there is one only.
            let (gate, pulled) = (Gate::new(), Counter::new());
            let (at_end, count) = (gate.clone(), pulled.clone());
            let source = (0..40).inspect(move |i| {
                count.add();
                if *i == 20 {
                    at_end.wait();
                }
            });
            let mut stage = source
                .par_map_ordered(n, |i: u64| i)
                .parked_weight(3, |_| 3);
            for i in 0..20 {
                assert_eq!(stage.next(), Some(i));
            }
            gate.open();
            assert!(stage.eq(20..40));
        });
    }
}

#[test]
fn failures_end_the_stage_where_they_are() {
    for n in WIDTHS {
        within(SOON, move || {
            let ledger = Ledger::new();
            let stage = source(300, &ledger).try_par_map_ordered(n, |item: Tracked| {
                if item.id == 70 {
                    Err(item.id)
                } else {
                    Ok(item)
                }
            });
            let stage = stage.parked_weight(2, |_| 1);
            let results: Vec<_> = stage.map(|result| result.map(|item| item.id)).collect();
            assert!(results[..70].iter().copied().eq((0..70).map(Ok)));
            assert_eq!(results[70..], [Err(70)]);
            ledger.assert_dropped_once();

            let ledger = Ledger::new();
            let weight = |item: &Tracked| if item.id == 30 { bang(30) } else { 1 };
            let mut stage = source(300, &ledger)
                .par_map_ordered(n, |item| item)
                .parked_weight(2, weight);
            assert_eq!(stage.by_ref().take(30).count(), 30);
            assert_eq!(caught(|| stage.next().map(|item| item.id)), Err(30));
            drop(stage);
            ledger.assert_dropped_once();

            let ledger = Ledger::new();
            let weight = |item: &Tracked| if item.id % 3 == 0 { bang(item.id) } else { 1 };
            let stage = source(300, &ledger).par_map_ordered(n, |item| item);
            let stage = stage.item_timeout(LONG).parked_weight(2, weight).isolate();
            let results: Vec<bool> = stage.map(|result| result.is_ok()).collect();
            assert!(results.into_iter().eq((0..300).map(|id| id % 3 > 0)));
            ledger.assert_dropped_once();
        });
    }
}

#[test]
fn what_was_put_aside_is_run_although_no_state_can_be_made() {
    for (seed, n) in (0..60).zip([2, 3, 4, 9].into_iter().cycle()) {
        within(SOON, move || {
            // The first one or two states can be made.
            let made = AtomicUsize::new(0);
            let init = move || {
                let number = made.fetch_add(1, SeqCst);
                if number > seed % 2 {
                    Err(number)
                } else {
                    Ok(())
                }
            };
            let f = move |(): &mut (), i: u64| {
                if mix(seed as u64 ^ i) % 8 == 0 {
                    std::thread::yield_now();
                }
                Ok(i)
            };
            let stage = (0..200_u64).try_par_map_ordered_init(n, init, f);
            let results: Vec<_> = stage.parked_weight(1, |_| 1).collect();
            let good = results.iter().take_while(|result| result.is_ok()).count();
            assert!(results[..good].iter().copied().eq((0..good as u64).map(Ok)));
            assert!(results.len() == good + 1 || good == 200, "{results:?}");
        });
    }
}

#[test]
fn a_cancelled_stage_drops_what_was_put_aside() {
    for kind in kinds() {
        within(SOON, move || {
            let (ledger, ran) = (Ledger::new(), Counter::new());
            let count = ran.clone();
            let work: Work = Arc::new(move |_: &Tracked| {
                count.add();
            });
            let mut stage = (kind.build)(source(500, &ledger), 3, work, 1, |_| 1);
            for _ in 0..10 {
                assert!(stage.next().is_some());
            }
            settle();
            drop(stage);
            ledger.assert_dropped_once();
        });
    }
    for n in WIDTHS {
        within(SOON, move || {
            let (ledger, token) = (Ledger::new(), CancelToken::new());
            let stage = source(500, &ledger)
                .par_map_ordered(n, |item| item)
                .cancel_on(&token);
            let mut stage = stage.parked_weight(1, |_| 1);
            assert!(stage.next().is_some());
            settle();
            token.cancel();
            assert!(stage.by_ref().count() < 500);
            drop(stage);
            ledger.assert_dropped_once();
            // And a drain runs all that was pulled.
            let (token, pulled) = (CancelToken::new(), Arc::new(AtomicUsize::new(0)));
            let count = Arc::clone(&pulled);
            let source = (0..5_000_usize).inspect(move |_| _ = count.fetch_add(1, SeqCst));
            let stage = source.par_map_ordered(n, |i| i).drain_on(&token);
            let mut stage = stage.parked_weight(1, |_| 1);
            assert_eq!(stage.next(), Some(0));
            settle();
            token.cancel();
            let rest: Vec<usize> = stage.collect();
            assert!(rest.into_iter().eq(1..pulled.load(SeqCst)));
        });
    }
}

#[test]
fn a_slow_item_is_given_up_or_copied_as_ever() {
    for n in [2, 3, 8] {
        within(SOON, move || {
            let f = |i: u64| {
                if i == 5 {
                    CancelToken::current().wait();
                }
                i
            };
            let stage = (0..100)
                .par_map_ordered(n, f)
                .item_timeout(Duration::from_millis(30));
            let results: Vec<_> = stage.parked_weight(3, |_| 1).isolate().collect();
            assert!(
                results[5].is_err() && results.iter().filter(|result| result.is_err()).count() == 1
            );
            let policy = HedgePolicy::after(Duration::from_millis(1)).budget(1.0);
            let first = AtomicUsize::new(0);
            let f = move |i: u64| {
                if i == 5 && first.fetch_add(1, SeqCst) == 0 {
                    CancelToken::current().wait();
                }
                i
            };
            let stage = (0..100).par_map_ordered(n, f).hedge_slow(&policy);
            assert!(stage.parked_weight(3, |_| 1).eq(0..100));
        });
    }
}

#[test]
fn the_weight_may_borrow() {
    let sizes = vec![3_usize, 1, 4, 1, 5];
    let ids = [0_usize, 1, 2, 3, 4];
    let stage: Stage<_> = ids.iter().par_map_ordered(2, |id| *id);
    assert_eq!(stage.parked_weight(4, |id| sizes[*id]).sum::<usize>(), 10);
}

#[test]
fn a_consumer_that_waits_for_a_limited_time_gets_all() {
    for n in WIDTHS {
        within(SOON, move || {
            let mut stage = (0..300)
                .par_map_ordered(n, |i: u32| i)
                .parked_weight(8, |i| *i as usize % 5);
            let mut all = Vec::new();
            loop {
                match stage.next_within(Duration::from_micros(50)) {
                    Ok(Some(i)) => all.push(i),
                    Ok(None) => break,
                    Err(_) => {}
                }
            }
            assert!(all.into_iter().eq(0..300));
        });
    }
}

#[test]
#[should_panic(expected = "parked_weight must be at least 1")]
fn a_limit_of_zero_is_refused() {
    let _ = (0..3)
        .par_map_ordered(2, |i: u32| i)
        .parked_weight(0, |_| 1);
}
