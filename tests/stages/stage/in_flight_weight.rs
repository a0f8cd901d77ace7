//! `in_flight_weight`: what is in flight weighs no more than the limit, in every kind of stage.

use crate::support::{
    Counter, Gate, Ledger, SOON, Tracked, WIDTHS, bang, caught, mix, settle, within,
};
use fanfold::{CancelToken, Cancelled, Fanfold, HedgePolicy, ItemError, Permits, Stage, scope};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

type Items = Box<dyn Iterator<Item = Tracked> + Send>;
type Built = Box<dyn Iterator<Item = Tracked>>;

/// What is in flight, as the test sees it: an item leaves when the consumer has it.
#[derive(Clone, Debug)]
struct Scale(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    limit: usize,
    weights: Vec<usize>,
    in_flight: BTreeMap<u64, usize>,
    pulled: usize,
    /// The consumer is in `next()`, and may have an item that the test has not seen.
    inside: bool,
    /// How often the bound was checked to the item.
    strict: usize,
    broken: Option<String>,
}

impl Scale {
    fn new(limit: usize, weights: Vec<usize>) -> Self {
        Scale(Arc::new(Mutex::new(State {
            limit,
            weights,
            in_flight: BTreeMap::new(),
            pulled: 0,
            inside: false,
            strict: 0,
            broken: None,
        })))
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.0.lock().expect("no panic"))
    }

    fn weight(&self) -> impl Fn(&Tracked) -> usize + Send + Sync + use<> {
        let weights = self.with(|state| state.weights.clone());
        move |item| weights[item.id as usize]
    }

    /// Each call for an item checks the bound. The item that the last call gave is in no hand any more.
    fn source(&self, ledger: &Ledger) -> Items {
        let (scale, ledger, mut ids) = (self.clone(), ledger.clone(), 0..);
        Box::new(std::iter::from_fn(move || {
            let id = ids.next()?;
            scale.with(|state| {
                let all: usize = state.in_flight.values().sum();
                let heaviest = state.in_flight.values().max().copied().unwrap_or(0);
                let (slack, alone) = if state.inside { (heaviest, 2) } else { (0, 1) };
                state.strict += usize::from(!state.inside);
                let holds = all <= state.limit + slack || state.in_flight.len() <= alone;
                if !holds {
                    let broken = format!("{all} of {} in flight, at {id}", state.limit);
                    state.broken.get_or_insert(broken);
                }
                let weight = *state.weights.get(id as usize)?;
                state.in_flight.insert(id, weight);
                state.pulled += 1;
                Some(())
            })?;
            Some(ledger.track(id))
        }))
    }

    /// Takes the next result.
    fn next(&self, stage: &mut dyn Iterator<Item = Tracked>) -> Option<u64> {
        self.with(|state| state.inside = true);
        let id = stage.next().map(|item| item.id);
        self.with(|state| {
            state.inside = false;
            assert_eq!(state.broken, None);
            if let Some(id) = id {
                assert!(state.in_flight.remove(&id).is_some(), "{id} came twice");
            }
        });
        id
    }
}

/// How many items are pulled before the first is yielded: those that fit, and one in hand.
fn fill(limit: usize, weights: &[usize]) -> usize {
    let mut sum = 0;
    for (at, weight) in weights.iter().enumerate() {
        if at > 0 && sum + weight > limit {
            // With nothing to spare, nothing is pulled that could not fit.
            return at + usize::from(sum < limit);
        }
        sum += weight;
    }
    weights.len()
}

struct Kind {
    name: &'static str,
    ordered: bool,
    /// It pulls while its results wait.
    ahead: bool,
    build: fn(Items, usize, Work, &Scale) -> Built,
}

type Work = Arc<dyn Fn(&Tracked) + Send + Sync>;

fn f(work: Work) -> impl Fn(Tracked) -> Tracked + Send + Sync {
    move |item| {
        work(&item);
        item
    }
}

macro_rules! kind {
    ($name:literal, $ordered:literal, $ahead:literal, |$source:ident, $n:ident, $f:ident| $stage:expr, $out:expr) => {
        Kind {
            name: $name,
            ordered: $ordered,
            ahead: $ahead,
            build: |$source, $n, work, scale| {
                let $f = f(work);
                let limit = scale.with(|state| state.limit);
                let stage = $stage.in_flight_weight(limit, scale.weight());
                Box::new($out(stage))
            },
        }
    };
}

fn same<S>(stage: S) -> S {
    stage
}

#[allow(clippy::too_many_lines)] // a table
fn kinds() -> Vec<Kind> {
    const LONG: Duration = Duration::from_secs(3_600);
    vec![
        kind!(
            "ordered",
            true,
            true,
            |s, n, f| s.par_map_ordered(n, f),
            same
        ),
        kind!(
            "eager",
            true,
            true,
            |s, n, f| s.par_map_ordered(n, f).eager(),
            same
        ),
        kind!(
            "small bound",
            true,
            false,
            |s, n, f| s.par_map_ordered(n, f).in_flight(5),
            same
        ),
        kind!(
            "bound of 1",
            true,
            false,
            |s, n, f| s.par_map_ordered(n, f).in_flight(1),
            same
        ),
        kind!(
            "unordered",
            false,
            true,
            |s, n, f| s.par_map_unordered(n, f),
            same
        ),
        kind!(
            "unordered, small bound",
            false,
            false,
            |s, n, f| { s.par_map_unordered(n, f).in_flight(4) },
            same
        ),
        kind!(
            "unordered later",
            false,
            true,
            |s, n, f| s.par_map_ordered(n, f).unordered(),
            same
        ),
        kind!(
            "filter",
            true,
            true,
            |s, n, f| {
                s.par_filter(n, move |item| {
                    let _ = &f;
                    item.id < u64::MAX
                })
            },
            same
        ),
        kind!(
            "filter_map",
            true,
            true,
            |s, n, f| s.par_filter_map(n, move |item| Some(f(item))),
            same
        ),
        kind!(
            "init",
            true,
            true,
            |s, n, f| { s.par_map_ordered_init(n, || (), move |(), item| f(item)) },
            same
        ),
        kind!(
            "try",
            true,
            true,
            |s, n, f| { s.try_par_map_ordered(n, move |item| Ok::<_, Infallible>(f(item))) },
            |stage: Stage<_>| stage.map(|Ok(item)| item)
        ),
        kind!(
            "try, unordered",
            false,
            true,
            |s, n, f| { s.try_par_map_unordered(n, move |item| Ok::<_, Infallible>(f(item))) },
            |stage: Stage<_>| stage.map(|Ok(item)| item)
        ),
        kind!(
            "isolated",
            true,
            true,
            |s, n, f| s.par_map_ordered(n, f).isolate(),
            |stage: Stage<_>| {
                stage.map(|item: Result<Tracked, ItemError>| item.expect("no panic"))
            }
        ),
        kind!(
            "with a limit for what is parked",
            true,
            true,
            |s, n, f| s.par_map_ordered(n, f),
            |stage: Stage<_>| stage.parked_weight(usize::MAX, |_: &Tracked| 1)
        ),
        kind!(
            "isolated later",
            true,
            true,
            |s, n, f| s.par_map_ordered(n, f),
            |stage: Stage<_>| {
                stage
                    .isolate()
                    .map(|item: Result<Tracked, ItemError>| item.expect("no panic"))
            }
        ),
        kind!(
            "timed",
            true,
            true,
            |s, n, f| s.par_map_ordered(n, f).item_timeout(LONG),
            same
        ),
        kind!(
            "timed, unordered",
            false,
            true,
            |s, n, f| { s.par_map_unordered(n, f).item_timeout(LONG) },
            same
        ),
        kind!(
            "limited",
            true,
            true,
            |s, n, f| { s.par_map_ordered(n, f).limited_by(&Permits::new(2)) },
            same
        ),
        kind!(
            "local",
            true,
            false,
            |s, n, f| s.local().par_map_ordered(n, f),
            same
        ),
        kind!(
            "local, unordered",
            false,
            false,
            |s, n, f| s.local().par_map_unordered(n, f),
            same
        ),
    ]
}

fn weights(seed: u64, len: u64, most: u64) -> Vec<usize> {
    // One in sixteen is larger than anything else, and one in eight weighs nothing.
    let weight = |dice: u64| match dice % 16 {
        0 => dice % (8 * most),
        1 | 2 => 0,
        _ => dice % most + 1,
    };
    (0..len)
        .map(|at| weight(mix(seed ^ (at << 20))) as usize)
        .collect()
}

#[test]
fn the_bound_holds_at_each_pull_and_all_items_come() {
    for kind in kinds() {
        for (seed, n) in (0..).zip([1, 2, 3, 5, 9]) {
            within(SOON, move || {
                let (ledger, limit) = (Ledger::new(), 1 + mix(seed) as usize % 40);
                let scale = Scale::new(limit, weights(seed, 400, 12));
                let work: Work = Arc::new(move |item: &Tracked| {
                    if mix(seed ^ item.id) % 32 == 0 {
                        std::thread::yield_now();
                    }
                });
                let mut stage = (kind.build)(scale.source(&ledger), n, work, &scale);
                let mut ids = Vec::new();
                while let Some(id) = scale.next(&mut *stage) {
                    ids.push(id);
                    if mix(seed ^ id) % 64 == 0 {
                        settle(); // What the threads do meanwhile is checked to the item.
                        // On a busy machine that may take longer.
                        let unchecked = || kind.ahead && scale.with(|state| state.strict) == 0;
                        (0..50).take_while(|_| unchecked()).for_each(|_| settle());
                    }
                }
                drop(stage);
                if !kind.ordered {
                    ids.sort_unstable();
                }
                assert!(ids.into_iter().eq(0..400), "{}", kind.name);
                assert!(!kind.ahead || scale.with(|state| state.strict) > 0);
                ledger.assert_dropped_once();
            });
        }
    }
}

#[test]
fn it_is_filled_behind_a_slow_head_and_no_further() {
    for kind in kinds()
        .into_iter()
        .filter(|kind| kind.ordered && kind.ahead && kind.name != "filter")
    {
        for (seed, n) in (0..).zip([2, 3, 9]) {
            within(SOON, move || {
                // Within the default bound on the number of items.
                let weights: Vec<usize> =
                    (0..100).map(|at| 2 + mix(seed ^ at) as usize % 5).collect();
                let (limit, ledger, gate) = (40, Ledger::new(), Gate::new());
                let expected = fill(limit, &weights);
                let scale = Scale::new(limit, weights);
                let (pulled, at_first) = (Counter::new(), gate.clone());
                let work: Work = Arc::new(move |item: &Tracked| {
                    if item.id == 0 {
                        at_first.wait();
                    }
                });
                let source = scale.source(&ledger).inspect({
                    let pulled = pulled.clone();
                    move |_| {
                        pulled.add();
                    }
                });
                let mut stage = (kind.build)(Box::new(source), n, work, &scale);
                let name = kind.name;
                let opener = std::thread::spawn(move || {
                    pulled.wait_for(expected);
                    settle();
                    let seen = pulled.get();
                    gate.open();
                    assert_eq!(seen, expected, "{name}");
                });
                assert_eq!(scale.next(&mut *stage), Some(0), "{name}");
                opener.join().expect("no more than that were pulled");
                while scale.next(&mut *stage).is_some() {}
            });
        }
    }
}

#[test]
fn what_is_above_the_limit_goes_alone() {
    for n in WIDTHS {
        within(SOON, move || {
            let alone = Arc::new(Mutex::new(0));
            let scale = Scale::new(3, vec![7; 100]);
            let count = Arc::clone(&alone);
            let work: Work = Arc::new(move |_: &Tracked| {
                *count.lock().expect("no panic") += 1;
                assert_eq!(*count.lock().expect("no panic"), 1, "two at once");
                std::thread::yield_now();
                *count.lock().expect("no panic") -= 1;
            });
            let mut stage = (kinds()[0].build)(scale.source(&Ledger::new()), n, work, &scale);
            for id in 0..100 {
                assert_eq!(scale.next(&mut *stage), Some(id));
            }
        });
    }
}

#[test]
fn weights_as_large_as_can_be_do_not_overflow() {
    for n in WIDTHS {
        let weights = [usize::MAX, 1, usize::MAX - 1, 0, usize::MAX];
        let stage = (0..5).par_map_ordered(n, |i: usize| i);
        let stage = stage.in_flight_weight(usize::MAX, move |i| weights[*i]);
        assert!(within(SOON, move || stage.eq(0..5)));
    }
}

#[test]
fn a_stalled_consumer_holds_it_flat() {
    for kind in kinds() {
        within(SOON, move || {
            let (ledger, scale) = (Ledger::new(), Scale::new(30, vec![4; 500]));
            let mut stage = (kind.build)(scale.source(&ledger), 3, Arc::new(|_| ()), &scale);
            scale.next(&mut *stage);
            for _ in 0..5 {
                settle();
                // Seven fit, and one is in hand.
                let most = scale.with(|state| state.in_flight.len());
                assert!(most <= 8, "{}: {most}", kind.name);
            }
            // With all that was pulled.
            drop(stage);
            assert_eq!(ledger.alive(), 0, "{}", kind.name);
            ledger.assert_dropped_once();
        });
    }
}

#[test]
fn a_bomb_in_hand_is_dropped_once_and_is_heard() {
    within(SOON, || {
        let (ledger, pulled) = (Ledger::new(), Counter::new());
        let (source, count) = (ledger.clone(), pulled.clone());
        let items = (0..10_u64).map(move |id| {
            count.add();
            if id == 3 {
                source.bomb(id)
            } else {
                source.track(id)
            }
        });
        let mut stage = items
            .par_map_ordered(2, |item| item)
            .in_flight_weight(25, |_| 10);
        assert_eq!(stage.next().map(|item| item.id), Some(0));
        pulled.wait_for(4); // 1 and 2 are in flight, 3 is in hand
        assert_eq!(caught(move || drop(stage)), Err(3));
        ledger.assert_dropped_once();
    });
}

#[test]
fn a_panic_of_the_weight_comes_in_the_place_of_its_item() {
    for kind in ["far", "local"] {
        for n in WIDTHS {
            within(SOON, move || {
                let ledger = Ledger::new();
                let items = ledger.clone();
                let items = (0..100).map(move |id| items.track(id));
                let weight = |item: &Tracked| if item.id == 40 { bang(40) } else { 1 };
                let mut stage: Built = if kind == "far" {
                    Box::new(
                        items
                            .par_map_ordered(n, |item| item)
                            .in_flight_weight(9, weight),
                    )
                } else {
                    Box::new(
                        items
                            .local()
                            .par_map_ordered(n, |item| item)
                            .in_flight_weight(9, weight),
                    )
                };
                let before: Vec<u64> = stage.by_ref().take(40).map(|item| item.id).collect();
                assert!(before.into_iter().eq(0..40));
                let panic = caught(|| stage.next().map(|item| item.id));
                assert_eq!(panic, Err(40), "in its place");
                assert!(stage.next().is_none());
                drop(stage);
                ledger.assert_dropped_once();
            });
        }
    }
}

#[test]
fn a_drain_yields_what_is_in_hand() {
    for kind in kinds().into_iter().filter(|kind| kind.ahead) {
        within(SOON, move || {
            let (ledger, scale) = (Ledger::new(), Scale::new(20, vec![6; 1_000]));
            let (token, pulled) = (CancelToken::new(), Counter::new());
            let source = scale.source(&ledger).inspect({
                let (token, pulled) = (token.clone(), pulled.clone());
                move |_| {
                    // Three are in flight, and this one will be in hand, once or several times later.
                    if pulled.add() == 50 {
                        token.cancel();
                    }
                }
            });
            // The same kinds, with a token: it is the source that stops, and the hand that must not be lost.
            let mut stopped = false;
            let source = source.take_while(move |_| {
                let before = stopped;
                stopped |= token.is_cancelled();
                !before
            });
            let mut stage = (kind.build)(Box::new(source), 2, Arc::new(|_| ()), &scale);
            let mut count = 0;
            while scale.next(&mut *stage).is_some() {
                count += 1;
            }
            assert_eq!(count, 50, "{}", kind.name);
        });
    }
    for local in [false, true] {
        within(SOON, move || {
            let (token, pulled) = (CancelToken::new(), Counter::new());
            let (count, at_head) = (pulled.clone(), Gate::new());
            let gate = at_head.clone();
            let source = (0..1_000).inspect(move |_| {
                count.add();
            });
            let f = move |i: usize| {
                if i == 0 && !local {
                    gate.wait();
                }
                i
            };
            let weight = |_: &usize| 6;
            let mut stage: Box<dyn Iterator<Item = usize>> = if local {
                let stage = source.local().par_map_ordered(2, f).drain_on(&token);
                Box::new(stage.in_flight_weight(20, weight))
            } else {
                let stage = source.par_map_ordered(2, f).drain_on(&token);
                Box::new(stage.in_flight_weight(20, weight))
            };
            if local {
                assert_eq!(stage.next(), Some(0));
                token.cancel();
            } else {
                let (pulled, token) = (pulled.clone(), token.clone());
                std::thread::spawn(move || {
                    pulled.wait_for(4); // three in flight, one in hand
                    token.cancel();
                    at_head.open();
                });
                assert_eq!(stage.next(), Some(0));
            }
            let rest: Vec<usize> = stage.collect();
            assert!(
                rest.iter().copied().eq(1..pulled.get()),
                "{rest:?} of {}",
                pulled.get()
            );
        });
    }
}

#[test]
fn a_cancellation_drops_what_is_in_hand() {
    within(SOON, || {
        let (ledger, token, pulled) = (Ledger::new(), CancelToken::new(), Counter::new());
        let (source, count) = (ledger.clone(), pulled.clone());
        let items = (0..100).map(move |id| {
            count.add();
            source.track(id)
        });
        let stage = items.par_map_ordered(2, Ok::<_, Cancelled>).fail_on(&token);
        let mut stage = stage.in_flight_weight(25, |_| 10);
        assert!(stage.next().is_some_and(|first| first.is_ok()));
        pulled.wait_for(4);
        token.cancel();
        assert!(
            stage.by_ref().any(|last| last.is_err()),
            "the last word is kept"
        );
        drop(stage);
        ledger.assert_dropped_once();
    });
}

#[test]
fn a_copy_of_a_slow_item_needs_no_room() {
    within(SOON, || {
        let policy = HedgePolicy::after(Duration::from_millis(1)).budget(1.0);
        let first = Arc::new(Mutex::new(true));
        let f = move |i: u64| {
            let is_first = i == 0 && std::mem::take(&mut *first.lock().expect("no panic"));
            if is_first {
                CancelToken::current().wait();
            }
            i
        };
        let stage = (0..100).par_map_ordered(2, f).hedge_slow(&policy);
        assert!(stage.in_flight_weight(1, |_| 1).eq(0..100));
    });
}

#[test]
fn the_weight_may_borrow_and_stages_chain() {
    let sizes = vec![3_usize, 1, 4, 1, 5];
    let ids = [0_usize, 1, 2, 3, 4];
    let stage = ids.iter().par_map_ordered(2, |id| *id);
    let stage = stage.in_flight_weight(4, |id| sizes[**id]);
    let stage = stage.par_map_unordered(2, |id| id + 1);
    let stage = stage.in_flight_weight(5, |id| sizes[*id]);
    assert_eq!(stage.sum::<usize>(), 15);
    scope(|s| {
        let stage = ids
            .iter()
            .par_filter(3, |_| true)
            .in_flight_weight(4, |id| sizes[**id]);
        assert!(stage.within(s).eq(&ids));
    });
}

/// They take all of a chunk that is ready in a loop of their own.
#[test]
fn terminal_calls_make_room() {
    for (n, limit) in (1..=9).flat_map(|n| [1, 3, 100].map(|limit| (n, limit))) {
        within(SOON, move || {
            let stage = (0..1_000_u64).par_map_unordered(n, |i| i);
            let stage = stage.in_flight_weight(limit, |i| *i as usize % 3);
            assert_eq!(stage.sum::<u64>(), 499_500);
            let stage = (0..1_000_u64).par_map_ordered(n, |i| i);
            let stage = stage.in_flight_weight(limit, |i| *i as usize % 3);
            assert_eq!(stage.count(), 1_000);
            let stage = (0..1_000_u64).par_map_unordered(n, |i| i);
            let stage = stage.parked_weight(limit, |i| *i as usize % 3);
            assert_eq!(stage.max(), Some(999));
        });
    }
}

#[test]
fn the_length_stays_exact() {
    let stage = (0..10)
        .par_map_ordered(2, |i: u8| i)
        .in_flight_weight(3, |_| 2);
    assert_eq!(stage.len(), 10);
}

#[test]
fn a_consumer_that_waits_for_a_limited_time_gets_all() {
    for n in WIDTHS {
        within(SOON, move || {
            let mut stage = (0..300)
                .par_map_ordered(n, |i: u32| i)
                .in_flight_weight(8, |i| *i as usize % 5);
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
#[should_panic(expected = "in_flight_weight must be at least 1")]
fn a_limit_of_zero_is_refused() {
    let _ = (0..3)
        .par_map_ordered(2, |i: u32| i)
        .in_flight_weight(0, |_| 1);
}
