//! `push_map_ordered`: random programs against a model, errors, and early ends.

use crate::support::{
    Counter, Gate, Ledger, Meter, SOON, Tracked, bang, barren, caught, dawdle, eventually, message,
    mix, within,
};
use fanfold::{
    CancelToken, Cancelled, Fanfold, HedgePolicy, ItemError, Permits, Pool, push_map_ordered,
    try_push_map_ordered,
};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3_600);

/// No bound, and those up to nine.
fn bounds() -> impl Iterator<Item = Option<usize>> {
    std::iter::once(None).chain((1..=9).map(Some))
}

/// An own error, or one that the stage makes.
#[derive(Debug, PartialEq)]
enum Why {
    Item(u64),
    Over,
}

impl From<Cancelled> for Why {
    fn from(_: Cancelled) -> Self {
        Why::Over
    }
}

// ---- random programs

/// What a stage has to do: it is a queue with a bound.
#[derive(Debug, Default)]
struct Model {
    queue: VecDeque<u64>,
    next: u64,
    yielded: u64,
}

impl Model {
    fn take(&mut self, output: Option<Tracked>) -> Option<u64> {
        let output = output?;
        assert_eq!(Some(output.id), self.queue.pop_front(), "not the next one");
        self.yielded += 1;
        Some(output.id)
    }

    /// With all outputs, or some.
    fn push(&mut self, mut outputs: impl Iterator<Item = Tracked>, random: u64, k: Option<usize>) {
        self.queue.push_back(self.next);
        self.next += 1;
        let most = match random & 64 {
            0 => usize::MAX,
            _ => (random >> 8) as usize % 3,
        };
        for _ in 0..most {
            if self.take(outputs.next()).is_none() {
                let room = k.is_none_or(|k| self.queue.len() <= k);
                assert!(room, "no room, and push has ended");
                return;
            }
        }
    }
}

/// One program: calls at random, and then one of the ends.
fn program(n: usize, bound: Option<usize>, seed: u64) {
    let (ledger, started) = (Ledger::new(), Arc::new(AtomicU64::new(0)));
    let meter = Meter::new();
    let mut stage = push_map_ordered(n, {
        let (started, meter) = (Arc::clone(&started), meter.clone());
        move |item: Tracked| {
            let _entered = meter.enter();
            started.fetch_add(1, SeqCst);
            dawdle(seed ^ item.id);
            item
        }
    });
    if let Some(k) = bound {
        stage = stage.in_flight(k);
    }
    let mut model = Model::default();
    for step in 0..60 {
        let random = mix(seed.wrapping_mul(1_000) + step);
        match random % 8 {
            0..=3 => {
                let item = ledger.track(model.next);
                model.push(stage.push(item), random, bound);
            }
            4 => {
                let room = bound.map(|k| model.queue.len() < k);
                match stage.try_push(ledger.track(model.next)) {
                    Ok(()) => {
                        assert_ne!(room, Some(false), "more than the bound");
                        model.queue.push_back(model.next);
                    }
                    Err(item) => {
                        assert_ne!(room, Some(true), "there was room");
                        assert!(room.is_some() || model.queue.len() >= 16 * n);
                        assert_eq!(item.id, model.next);
                    }
                }
                model.next += 1;
            }
            5 => {
                let some = !model.queue.is_empty();
                assert_eq!(model.take(stage.next()).is_some(), some);
            }
            6 => {
                model.take(stage.try_next());
            }
            _ => match random >> 8 & 7 {
                0 => {
                    for output in stage.by_ref() {
                        model.take(Some(output));
                    }
                    assert!(model.queue.is_empty());
                }
                1 => {
                    let late = stage.next_within(Duration::ZERO);
                    let some = !model.queue.is_empty();
                    if let Ok(output) = late {
                        assert_eq!(model.take(output).is_some(), some);
                    }
                }
                _ => {
                    model.take(stage.try_next());
                }
            },
        }
        if let Some(k) = bound {
            assert!(started.load(SeqCst) <= model.yielded + k as u64);
        }
        // The model has one that was given back for each that is not in it.
        assert!(ledger.alive() >= model.queue.len());
    }
    assert!(meter.most() <= n);
    match mix(seed) % 3 {
        0 => drop(stage),
        1 => {
            let mut rest = stage.finish();
            for _ in 0..model.queue.len() {
                assert!(model.take(rest.next()).is_some());
            }
            assert_eq!(rest.next().map(|output| output.id), None);
            assert_eq!(rest.size_hint(), (0, Some(0)));
            assert_eq!(rest.next().map(|output| output.id), None);
        }
        _ => {
            let rest: Vec<u64> = stage.finish().map(|output| output.id).collect();
            assert!(rest.into_iter().eq(model.queue));
        }
    }
    ledger.assert_dropped_once();
}

#[test]
fn random_programs_do_what_a_queue_does() {
    for n in 1..=9 {
        for bound in bounds() {
            within(SOON, move || {
                for round in 0..6 {
                    program(
                        n,
                        bound,
                        mix(round * 100 + n as u64 * 10) ^ bound.unwrap_or(0) as u64,
                    );
                }
            });
        }
    }
}

/// The item that has found no room is in the stage's hand, weighed: it counts as pushed, and can be given back.
#[test]
fn random_programs_with_weights_do_what_a_queue_does() {
    let weigh = |id: &u64| match mix(*id) % 16 {
        0 => 1_000,
        weight => weight as usize % 5,
    };
    for n in 1..=5 {
        for limit in [1, 3, 10, 100] {
            within(SOON, move || {
                for round in 0..6 {
                    let seed = mix(round * 10 + n as u64) ^ limit as u64;
                    let started = Arc::new(Mutex::new(Vec::new()));
                    let mut stage = push_map_ordered(n, {
                        let started = Arc::clone(&started);
                        move |id: u64| {
                            started.lock().expect("no panic").push(id);
                            dawdle(seed ^ id);
                            id
                        }
                    })
                    .in_flight_weight(limit, weigh);
                    let (mut next, mut queue) = (0, VecDeque::new());
                    for step in 0..80 {
                        let random = mix(seed ^ step << 8);
                        let mut got = Vec::new();
                        match random % 5 {
                            0 | 1 => {
                                queue.push_back(next);
                                let outputs = stage.push(next);
                                if random & 64 == 0 {
                                    got.extend(outputs);
                                } else {
                                    got.extend(outputs.take(random as usize >> 8 & 1));
                                }
                                next += 1;
                            }
                            2 => match stage.try_push(next) {
                                Ok(()) => {
                                    queue.push_back(next);
                                    next += 1;
                                }
                                Err(id) => {
                                    assert_eq!(id, next);
                                    got.push(stage.next().expect("something is in flight"));
                                }
                            },
                            3 => got.extend(stage.try_next()),
                            _ => {
                                let output = stage.next();
                                assert_eq!(output.is_some(), !queue.is_empty());
                                got.extend(output);
                            }
                        }
                        assert!(got.into_iter().all(|id| Some(id) == queue.pop_front()));
                        let begun = started.lock().expect("no panic").clone();
                        let front = queue.front().copied().unwrap_or(next);
                        let weights = begun.iter().filter(|id| **id >= front).map(weigh);
                        let (count, sum) = weights.fold((0, 0), |(n, sum), w| (n + 1, sum + w));
                        assert!(sum <= limit || count == 1, "{sum} in {count} items");
                    }
                    if mix(seed) % 2 == 0 {
                        assert!(stage.finish().eq(queue));
                    }
                }
            });
        }
    }
}

/// Of a stage that fails, the error comes out in its place whatever the program, and everything before it.
#[test]
fn random_programs_get_the_first_error_in_its_place() {
    for n in 1..=9 {
        for bound in bounds() {
            within(SOON, move || {
                for round in 0..4 {
                    let seed = mix(round) ^ n as u64;
                    let fails = move |i: u64| i >= 3 && mix(seed ^ i) % 7 == 0;
                    let first = (3..1_000).find(|i| fails(*i)).expect("some do");
                    let mut stage = try_push_map_ordered(n, move |i: u64| {
                        dawdle(seed ^ i);
                        if fails(i) { Err(Why::Item(i)) } else { Ok(i) }
                    });
                    if let Some(k) = bound {
                        stage = stage.in_flight(k);
                    }
                    let mut got = Vec::new();
                    let mut next = 0;
                    for step in 0..first + 40 {
                        match mix(seed ^ step << 8) % 4 {
                            0 => match stage.try_push(next) {
                                Ok(()) => next += 1,
                                Err(item) => assert_eq!(item, next),
                            },
                            1 => got.extend(stage.try_next()),
                            2 => {
                                got.extend(stage.push(next).take((step % 3) as usize));
                                next += 1;
                            }
                            _ => {
                                got.extend(stage.push(next));
                                next += 1;
                            }
                        }
                    }
                    while next <= first {
                        got.extend(stage.push(next));
                        next += 1;
                    }
                    got.extend(stage.finish());
                    let place = got.iter().position(Result::is_err).expect("it fails");
                    let (good, bad) = got.split_at(place);
                    assert!(good.iter().eq(&(0..first).map(Ok).collect::<Vec<_>>()));
                    assert_eq!(bad[0], Err(Why::Item(first)));
                    assert!(bad[1..].iter().all(|over| *over == Err(Why::Over)));
                }
            });
        }
    }
}

// ---- errors

#[test]
fn an_error_of_block_7_of_100_comes_out_as_itself_and_before_any_later_one() {
    for n in 1..=9 {
        for bound in bounds() {
            within(SOON, move || {
                let later = Counter::new();
                let mut stage = try_push_map_ordered(n, {
                    let later = later.clone();
                    move |i: u64| match i {
                        // After a later one, where two run at once.
                        7 if n > 1 && bound.is_none_or(|k| k > 1) => {
                            later.wait_for(1);
                            Err(Why::Item(7))
                        }
                        7 => Err(Why::Item(7)),
                        8.. => {
                            later.add();
                            Err(Why::Item(i))
                        }
                        _ => Ok(i),
                    }
                });
                if let Some(k) = bound {
                    stage = stage.in_flight(k);
                }
                let mut got = Vec::new();
                let mut pushes = 0;
                'all: for block in 0..100 {
                    pushes += 1;
                    for output in stage.push(block) {
                        let is_over = output.is_err();
                        got.push(output);
                        if is_over {
                            break 'all;
                        }
                    }
                }
                if got.last().is_none_or(Result::is_ok) {
                    got.extend(stage.by_ref());
                }
                let want = (0..7).map(Ok).chain([Err(Why::Item(7))]);
                assert!(got.into_iter().eq(want), "{pushes} pushes");
                // It is sticky.
                for block in pushes..100 {
                    assert_eq!(stage.try_push(block), Err(block));
                    assert!(stage.push(block).eq([Err(Why::Over)]));
                    assert_eq!((stage.next(), stage.try_next()), (None, None));
                }
                assert!(!stage.is_cut_short());
                assert_eq!(stage.finish().next(), None);
            });
        }
    }
}

#[test]
fn an_infallible_stage_goes_on_after_an_error() {
    within(SOON, || {
        let mut stage = push_map_ordered(3, |i: u64| if i % 2 == 0 { Ok(i) } else { Err(i) });
        let mut got = Vec::new();
        for i in 0..50 {
            got.extend(stage.push(i));
        }
        got.extend(stage.finish());
        assert!(
            got.into_iter()
                .map(|result| result.unwrap_or_else(|i| i))
                .eq(0..50)
        );
    });
}

#[test]
fn a_panic_is_raised_in_its_place() {
    for n in 1..=9 {
        for bound in bounds() {
            within(SOON, move || {
                let mut stage = push_map_ordered(n, |i: u64| if i == 7 { bang(i) } else { i });
                if let Some(k) = bound {
                    stage = stage.in_flight(k);
                }
                let mut got = Vec::new();
                let raised = caught(|| {
                    for i in 0..20 {
                        for output in stage.push(i) {
                            got.push(output);
                        }
                    }
                    for output in stage.by_ref() {
                        got.push(output);
                    }
                });
                assert_eq!(raised, Err(7));
                assert!(got.into_iter().eq(0..7));
                assert_eq!(stage.push(99).next(), None);
                assert_eq!(stage.try_push(99), Err(99));
                assert_eq!(stage.finish().next(), None);
            });
        }
    }
}

#[test]
fn an_isolated_stage_goes_on_and_tells_when_it_has_ended() {
    within(SOON, || {
        let token = CancelToken::new();
        let stage = push_map_ordered(2, |i: u64| if i == 7 { bang(i) } else { i });
        let mut stage = stage.isolate().cancel_on(&token);
        let mut got = Vec::new();
        for i in 0..20 {
            got.extend(stage.push(i));
        }
        got.extend(stage.by_ref());
        assert!(got[7].as_ref().is_err_and(ItemError::is_panic));
        assert_eq!(got.iter().filter(|result| result.is_ok()).count(), 19);
        token.cancel();
        assert_eq!(stage.next(), None);
        let refused = stage.push(20).next();
        assert!(refused.is_some_and(|result| result.is_err_and(|why| why.is_cancelled())));
    });
}

// ---- waits

#[test]
fn push_waits_only_while_the_bound_is_reached() {
    for n in 1..=9 {
        for k in 1..=9 {
            within(SOON, move || {
                let gate = Gate::new();
                let mut stage = push_map_ordered(n, {
                    let gate = gate.clone();
                    move |i: usize| (gate.wait(), i).1
                });
                stage = stage.in_flight(k);
                let _opener = gate.opener();
                for i in 0..k {
                    assert_eq!(stage.push(i).next(), None);
                }
                assert_eq!(stage.try_push(k), Err(k));
                assert_eq!(stage.try_next(), None);
                // This one waits, so somebody opens the gate.
                let opening = std::thread::spawn(move || gate.open());
                let mut got: Vec<_> = stage.push(k).collect();
                assert!(!got.is_empty());
                opening.join().unwrap();
                got.extend(stage.finish());
                assert!(got.into_iter().eq(0..=k));
            });
        }
    }
}

/// It has begun before the output that made room for it is used.
#[test]
fn the_item_that_waited_is_handed_over_first() {
    for n in 1..=9 {
        for k in 1..=9 {
            within(SOON, move || {
                let started = Counter::new();
                let mut stage = push_map_ordered(n, {
                    let started = started.clone();
                    move |i: usize| (started.add(), i).1
                });
                stage = stage.in_flight(k);
                for i in 0..k {
                    drop(stage.push(i));
                }
                let mut outputs = stage.push(k);
                assert_eq!(outputs.next(), Some(0));
                started.wait_for(k + 1);
                assert!(outputs.all(|i| i <= k));
            });
        }
    }
}

/// What is ready before a stuck item comes out of the calls that do not wait.
#[test]
fn what_is_ready_does_not_wait_for_what_is_stuck() {
    for n in 2..=9 {
        within(SOON, move || {
            let (gate, stuck) = (Gate::new(), Counter::new());
            let mut stage = push_map_ordered(n, {
                let (gate, stuck) = (gate.clone(), stuck.clone());
                move |i: u64| {
                    if i == 5 {
                        stuck.add();
                        gate.wait();
                    }
                    i
                }
            });
            let _opener = gate.opener();
            let mut got = Vec::new();
            for i in 0..10 {
                got.extend(stage.push(i));
            }
            stuck.wait_for(1);
            for i in got.len() as u64..5 {
                assert_eq!(stage.next(), Some(i));
            }
            assert_eq!(stage.try_next(), None);
            assert!(stage.next_within(Duration::from_millis(5)).is_err());
            gate.open();
            assert!(stage.finish().eq(5..10));
        });
    }
}

#[test]
fn with_nothing_in_flight_nothing_waits() {
    for n in 1..=9 {
        within(SOON, move || {
            let mut stage = push_map_ordered(n, |i: u64| i);
            for i in 0..20 {
                assert_eq!((stage.next(), stage.try_next()), (None, None));
                assert_eq!(stage.next_within(HOUR), Ok(None));
                assert_eq!(stage.by_ref().count(), 0);
                assert_eq!(stage.try_push(i), Ok(()));
                assert_eq!(stage.next(), Some(i));
            }
            assert_eq!(stage.finish().count(), 0);
            assert_eq!(push_map_ordered(n, |i: u64| i).finish().count(), 0);
        });
    }
}

#[test]
fn outputs_that_nobody_takes_are_not_lost() {
    for n in 1..=9 {
        for k in 1..=9 {
            within(SOON, move || {
                let mut stage = push_map_ordered(n, |i: u64| i).in_flight(k);
                for i in 0..100 {
                    drop(stage.push(i));
                }
                assert!(stage.finish().eq(0..100));
            });
        }
    }
}

#[test]
fn a_pushed_item_runs_although_nobody_calls() {
    within(SOON, || {
        let ran = Counter::new();
        let mut stage = push_map_ordered(4, {
            let ran = ran.clone();
            move |_: u64| ran.add()
        });
        for i in 0..9 {
            drop(stage.push(i));
            ran.wait_for(i as usize + 1);
        }
        assert_eq!(stage.finish().count(), 9);
    });
}

/// It was in the stage's hand already, to be weighed.
#[test]
fn try_push_gives_back_what_is_too_heavy_for_now() {
    for n in 1..=9 {
        within(SOON, move || {
            let gate = Gate::new();
            let stage = push_map_ordered(n, {
                let gate = gate.clone();
                move |i: usize| (gate.wait(), i).1
            });
            let mut stage = stage.in_flight_weight(3, |i| *i);
            let _opener = gate.opener();
            assert_eq!((stage.try_push(1), stage.try_push(1)), (Ok(()), Ok(())));
            for _ in 0..3 {
                assert_eq!(stage.try_push(2), Err(2));
            }
            assert_eq!((stage.try_push(1), stage.try_push(1)), (Ok(()), Err(1)));
            gate.open();
            assert!(stage.by_ref().eq([1, 1, 1]));
            assert_eq!((stage.try_push(9), stage.try_push(1)), (Ok(()), Err(1)));
            assert!(stage.finish().eq([9]));
        });
    }
}

/// It makes the room itself, also for an item that is in hand already, to be weighed.
#[test]
fn try_next_hands_over_what_waited_for_room() {
    for (n, k, weighs) in (1..=9).flat_map(|n| [(n, 1, 0), (n, 3, 0), (n, 9, 2)]) {
        within(SOON, move || {
            let stage = push_map_ordered(n, |i: u64| i).in_flight(k);
            let mut stage = stage.in_flight_weight(3, move |_| weighs);
            (0..20).for_each(|i| drop(stage.push(i)));
            for i in 0..20 {
                let mut output = None;
                eventually("the next one", || {
                    output = stage.try_next();
                    output.is_some()
                });
                assert_eq!(output, Some(i));
            }
            assert_eq!(stage.next(), None);
        });
    }
}

/// Nobody waits for the item.
#[test]
fn try_next_gives_up_an_item_whose_time_is_over() {
    for n in 1..=9 {
        within(SOON, move || {
            let gate = Gate::new();
            let stage = push_map_ordered(n, {
                let gate = gate.clone();
                move |i: u64| {
                    if i == 0 {
                        gate.wait();
                    }
                }
            });
            let mut stage = stage.item_timeout(Duration::from_millis(5)).isolate();
            let _opener = gate.opener();
            assert_eq!(stage.try_push(0), Ok(()));
            let mut first = None;
            eventually("it is given up", || {
                first = stage.try_next();
                first.is_some()
            });
            assert!(first.is_some_and(|first| first.is_err_and(|why| why.is_timeout())));
        });
    }
}

// ---- ends

#[test]
fn a_drop_without_finish_abandons() {
    for n in 1..=9 {
        within(SOON, move || {
            let (ledger, started, gate) = (Ledger::new(), Counter::new(), Gate::new());
            let mut stage = push_map_ordered(n, {
                let (started, gate) = (started.clone(), gate.clone());
                move |item: Tracked| {
                    started.add();
                    CancelToken::current().wait();
                    gate.open();
                    item
                }
            });
            for i in 0..3 * n as u64 {
                assert!(stage.push(ledger.track(i)).next().is_none());
            }
            started.wait_for(n);
            drop(stage);
            // The running ones have been joined, and no other was started.
            assert!(gate.is_open());
            assert_eq!(started.get(), n);
            ledger.assert_dropped_once();
        });
    }
}

/// What waited in front of a stage is dropped when that has ended, not with it.
#[test]
fn an_ended_stage_keeps_no_item() {
    for n in 1..=9 {
        within(SOON, move || {
            let ledger = Ledger::new();
            let fails = |_: Tracked| Err::<(), _>(Why::Over);
            let mut stage = try_push_map_ordered(n, fails).in_flight(1);
            for i in 0..9 {
                drop(stage.push(ledger.track(i)));
            }
            assert_eq!(stage.next(), Some(Err(Why::Over)));
            assert_eq!(stage.try_next(), None);
            eventually("all are dropped", || ledger.alive() == 0);
            assert_eq!(stage.push(ledger.track(9)).next(), Some(Err(Why::Over)));
            assert_eq!(ledger.alive(), 0);
        });
    }
}

#[test]
fn a_cancelled_stage_takes_nothing_more() {
    for n in 1..=9 {
        for bound in bounds() {
            within(SOON, move || {
                let (ledger, token) = (Ledger::new(), CancelToken::new());
                let mut stage = push_map_ordered(n, |item: Tracked| item).cancel_on(&token);
                if let Some(k) = bound {
                    stage = stage.in_flight(k);
                }
                let mut next = 0;
                for i in 0..30 {
                    if i == 20 {
                        token.cancel();
                    }
                    for output in stage.push(ledger.track(i)) {
                        assert_eq!(output.id, next);
                        next += 1;
                    }
                }
                for output in stage.by_ref() {
                    assert_eq!(output.id, next);
                    next += 1;
                }
                assert!(next <= 20 && stage.is_cut_short());
                drop(stage);
                ledger.assert_dropped_once();
            });
        }
    }
}

#[test]
fn a_fallible_stage_that_is_cut_short_says_so() {
    for n in 1..=9 {
        within(SOON, move || {
            let token = CancelToken::new();
            let stage = try_push_map_ordered(n, |i: u64| Ok::<_, Why>(i));
            let mut stage = stage.cancel_on(&token);
            assert_eq!(stage.push(0).count() + stage.by_ref().count(), 1);
            token.cancel();
            assert_eq!(stage.push(1).last(), Some(Err(Why::Over)));
            assert_eq!(stage.push(2).last(), Some(Err(Why::Over)));
            assert_eq!(stage.finish().next(), None);

            let token = CancelToken::new();
            let stage = try_push_map_ordered(n, |i: u64| Ok::<_, Why>(i));
            let mut stage = stage.cancel_on(&token);
            assert_eq!(stage.push(0).count() + stage.by_ref().count(), 1);
            token.cancel();
            assert_eq!(stage.finish().last(), Some(Err(Why::Over)));

            // from a call that does not wait, too
            let token = CancelToken::new();
            let stage = try_push_map_ordered(n, |i: u64| Ok::<_, Why>(i));
            let mut stage = stage.cancel_on(&token);
            assert_eq!(stage.push(0).count() + stage.by_ref().count(), 1);
            token.cancel();
            assert_eq!(stage.try_next(), Some(Err(Why::Over)));
            assert!(stage.is_cut_short());
            assert_eq!((stage.try_next(), stage.next()), (None, None));
        });
    }
}

/// What an error knows of the place at which its stage was cut short.
#[derive(Debug)]
struct Place(Option<u64>);

impl From<Cancelled> for Place {
    fn from(why: Cancelled) -> Self {
        assert!(!why.is_deadline());
        Place(why.seq())
    }
}

/// Each refusal tells why the stage has ended, and how many items it has given results of.
#[test]
fn a_refused_item_is_told_why_and_where() {
    for n in 1..=9 {
        within(SOON, move || {
            let token = CancelToken::new().with_timeout(Duration::from_millis(1));
            token.wait();
            let stage = try_push_map_ordered(n, |i: u64| Ok::<_, Cancelled>(i));
            let mut stage = stage.cancel_on(&token);
            for i in 0..3 {
                let refused = stage.push(i).last().expect("an error");
                let why = refused.expect_err("it is over");
                assert!(why.is_deadline() && why.seq() == Some(0), "{why:?}");
            }
            // after an error of its own, which is its third result
            let fails = |i: u64| if i < 2 { Ok(i) } else { Err(Place(None)) };
            let mut stage = try_push_map_ordered(n, fails);
            for i in 0..3 {
                drop(stage.push(i));
            }
            assert_eq!(stage.by_ref().count(), 3);
            let refused = stage.push(3).last().expect("an error");
            assert_eq!(refused.expect_err("it is over").0, Some(3));
        });
    }
}

#[test]
fn a_drain_gives_everything_that_was_pushed() {
    for n in 1..=9 {
        within(SOON, move || {
            let token = CancelToken::new();
            let mut stage = push_map_ordered(n, |i: u64| i)
                .drain_on(&token)
                .in_flight(4);
            let mut got = Vec::new();
            for i in 0..20 {
                got.extend(stage.push(i));
            }
            token.cancel();
            got.extend(stage.push(99));
            got.extend(stage.by_ref());
            assert!(got.into_iter().eq(0..20));
            assert_eq!(stage.try_push(99), Err(99));
            assert!(stage.is_cut_short());
        });
    }
}

/// Nobody knows how much will be pushed, or whether an item that is in there fails.
#[test]
fn the_hint_knows_of_an_end_only_after_finish() {
    for n in 1..=9 {
        within(SOON, move || {
            let idle = push_map_ordered(n, |i: u64| i);
            assert_eq!(idle.size_hint(), (0, None));
            assert_eq!(idle.finish().size_hint(), (0, Some(0)));
            let mut stage = push_map_ordered(n, |i: u64| i);
            (0..3).for_each(|i| stage.try_push(i).expect("there is room"));
            assert_eq!(stage.size_hint().1, None);
            let mut stage = stage.finish();
            for left in (1..=3).rev() {
                let (low, high) = stage.size_hint();
                assert!(low <= left && high.is_none_or(|high| left <= high));
                assert!(stage.next().is_some());
            }
            assert_eq!((stage.next(), stage.size_hint()), (None, (0, Some(0))));
            let mut fails = try_push_map_ordered(n, |_: u64| Err::<u64, _>(Why::Over));
            (0..3).for_each(|i| drop(fails.push(i)));
            let mut fails = fails.finish();
            assert!(fails.size_hint().0 <= 1);
            assert_eq!(fails.by_ref().count(), 1);
        });
    }
}

#[test]
fn nothing_is_pushed_after_finish() {
    within(SOON, || {
        let said = "nothing can be pushed after finish(): push it before, or make a new stage";
        let mut stage = push_map_ordered(2, |i: u64| i);
        drop(stage.push(1));
        let mut stage = stage.finish();
        assert_eq!(message(|| drop(stage.push(2))), said);
        assert_eq!(message(|| stage.try_push(2)), said);
        assert!(stage.eq([1]));
        let mut never = push_map_ordered(2, |i: u64| i).finish();
        assert_eq!(message(|| drop(never.push(2))), said);
    });
}

#[test]
fn a_stage_inside_a_closure_ends_with_it() {
    within(SOON, || {
        let (outer, inside) = (CancelToken::new(), Counter::new());
        let stage = (0..1).par_map_ordered(1, {
            let inside = inside.clone();
            move |_| {
                let mut stage = push_map_ordered(2, |i: u64| {
                    CancelToken::current().wait();
                    i
                });
                stage = stage.in_flight(2);
                drop(stage.push(0));
                drop(stage.push(1));
                inside.add();
                stage.push(2).count()
            }
        });
        let mut stage = stage.cancel_on(&outer);
        let stop = std::thread::spawn(move || {
            inside.wait_for(1);
            outer.cancel();
        });
        assert_eq!(stage.next(), None);
        assert!(stage.is_cut_short());
        stop.join().unwrap();
    });
}

// ---- options and places

#[test]
fn outputs_stay_on_the_thread_that_pushes() {
    within(SOON, || {
        let here = Rc::new(std::cell::RefCell::new(String::new()));
        let mut stage = push_map_ordered(3, |i: u64| i.to_string());
        for i in 0..9 {
            stage
                .push(i)
                .for_each(|text| here.borrow_mut().push_str(&text));
        }
        stage
            .finish()
            .for_each(|text| here.borrow_mut().push_str(&text));
        assert_eq!(here.take(), "012345678");
    });
}

#[test]
fn a_stage_may_move_to_another_thread() {
    within(SOON, || {
        let mut stage = push_map_ordered(3, |i: u64| i);
        let mut got = Vec::new();
        for i in 0..20 {
            (stage, got) = std::thread::spawn(move || {
                got.extend(stage.push(i));
                (stage, got)
            })
            .join()
            .unwrap();
        }
        got.extend(stage.finish());
        assert!(got.into_iter().eq(0..20));
    });
}

#[test]
fn a_scope_lends_to_the_closure() {
    for n in 1..=9 {
        let (base, seen) = (vec![100_u64], Mutex::new(0));
        let got = fanfold::scope(|s| {
            let stage = push_map_ordered(n, |i: &u64| {
                *seen.lock().unwrap() += 1;
                base[0] + i
            });
            let mut stage = stage.in_flight(3).within(s);
            let mut got = Vec::new();
            for i in &[0, 1, 2, 3, 4, 5, 6, 7, 8] {
                got.extend(stage.push(i));
            }
            assert_eq!(stage.try_push(&9).is_ok(), got.len() > 6);
            got.extend(stage.try_next());
            got.extend(stage.finish());
            got
        });
        assert!(got.into_iter().take(9).eq(100..109));
    }
}

#[test]
fn it_takes_the_options_of_a_stage() {
    for n in 1..=9 {
        within(SOON, move || {
            type Stage = fanfold::PushMapOrdered<u64, fn(u64) -> u64>;
            let double: fn(u64) -> u64 = |i| i * 2;
            let options: [fn(Stage) -> Stage; 8] = [
                |stage| stage.on(&Pool::builder().build()),
                // No thread can be started.
                |stage| stage.on(&barren()),
                |stage| stage.limited_by(&Permits::new(2)),
                |stage| stage.item_timeout(HOUR),
                |stage| stage.hedge_slow(&HedgePolicy::after(Duration::from_micros(20))),
                |stage| stage.eager(),
                |stage| stage.named("push").detached(),
                |stage| stage.unordered(),
            ];
            for (place, option) in options.into_iter().enumerate() {
                for k in [1, 3, 100] {
                    let mut stage = option(push_map_ordered(n, double)).in_flight(k);
                    let mut got = Vec::new();
                    for i in 0..100 {
                        got.extend(stage.push(i));
                        got.extend(stage.try_next());
                    }
                    got.extend(stage.finish());
                    got.sort_unstable();
                    let want = (0..100).map(|i| i * 2);
                    assert!(got.into_iter().eq(want), "option {place}, bound {k}");
                }
            }
        });
    }
}

/// The calls that do not wait run an item, as nobody else does.
#[test]
fn without_threads_the_items_run_here() {
    for n in 1..=9 {
        within(SOON, move || {
            let none = barren();
            let mut stage = push_map_ordered(n, |i: u64| i).on(&none);
            for i in 0..9 {
                assert_eq!(stage.try_push(i), Ok(()));
                assert_eq!((stage.try_next(), stage.try_next()), (Some(i), None));
            }
            for i in 9..18 {
                assert!(stage.push(i).eq([i]));
            }
            assert_eq!(stage.finish().next(), None);
        });
    }
}

#[test]
fn a_stage_that_is_finished_is_a_source() {
    within(SOON, || {
        let mut stage = push_map_ordered(2, |i: u64| i + 1);
        let first: Vec<_> = stage.push(1).chain(None).collect();
        drop(stage.push(2));
        let rest: Vec<_> = stage.finish().par_map_ordered(2, |i| i * 10).collect();
        assert_eq!(
            first
                .into_iter()
                .map(|i| i * 10)
                .chain(rest)
                .collect::<Vec<_>>(),
            [20, 30]
        );
    });
}
