//! `limited_by`: the closures of any stages share permits.

use crate::permits::{wait_in_line, waiting};
use crate::support::{
    Counter, Gate, Ledger, Meter, SOON, Tracked, bang, caught, counted, dawdle, eventually,
    message, mix, payload, settle, timely, within,
};
use fanfold::{CancelToken, Fanfold, HedgePolicy, Parallel, Permits, Stage};
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(3_600);
const SHORT: Duration = Duration::from_millis(20);

type Items = Box<dyn Iterator<Item = Tracked> + Send>;
type Built = Box<dyn Iterator<Item = Tracked>>;
type Work = Arc<dyn Fn(&Tracked) + Send + Sync>;

/// A form of a stage that runs a closure. All items have keys of their own.
#[derive(Clone, Copy)]
struct Kind {
    name: &'static str,
    build: fn(Items, usize, Work, &Permits, &CancelToken) -> Built,
    ordered: bool,
    keyed: bool,
    /// The stage goes on after a panic.
    isolated: bool,
}

fn f(work: &Work) -> impl Fn(Tracked) -> Tracked + Send + Sync + use<> {
    let work = Arc::clone(work);
    move |item| {
        work(&item);
        item
    }
}

fn with<P: Parallel>(stage: Stage<P>, permits: &Permits, token: &CancelToken) -> Stage<P> {
    stage.limited_by(permits).cancel_on(token)
}

const ORDERED: Kind = Kind {
    name: "ordered",
    build: |source, n, work, permits, token| {
        Box::new(with(source.par_map_ordered(n, f(&work)), permits, token))
    },
    ordered: true,
    keyed: false,
    isolated: false,
};

const KINDS: [Kind; 14] = [
    ORDERED,
    Kind {
        name: "ordered, small bound",
        build: |source, n, work, permits, token| {
            let stage = source.par_map_ordered(n, f(&work)).in_flight(n);
            Box::new(with(stage, permits, token))
        },
        ..ORDERED
    },
    Kind {
        name: "unordered",
        build: |source, n, work, permits, token| {
            Box::new(with(source.par_map_unordered(n, f(&work)), permits, token))
        },
        ordered: false,
        ..ORDERED
    },
    Kind {
        name: "unordered, small bound",
        build: |source, n, work, permits, token| {
            let stage = source.par_map_unordered(n, f(&work)).in_flight(n);
            Box::new(with(stage, permits, token))
        },
        ordered: false,
        ..ORDERED
    },
    Kind {
        name: "filter",
        build: |source, n, work, permits, token| {
            let stage = source.par_filter(n, move |item| {
                work(item);
                true
            });
            Box::new(with(stage, permits, token))
        },
        ..ORDERED
    },
    Kind {
        name: "filter_map",
        build: |source, n, work, permits, token| {
            let f = f(&work);
            let stage = source.par_filter_map(n, move |item| Some(f(item)));
            Box::new(with(stage, permits, token))
        },
        ..ORDERED
    },
    Kind {
        name: "flat_map",
        build: |source, n, work, permits, token| {
            let f = f(&work);
            let stage = source.par_flat_map(n, move |item| [f(item)]);
            Box::new(with(stage, permits, token))
        },
        ..ORDERED
    },
    Kind {
        name: "init",
        build: |source, n, work, permits, token| {
            let f = f(&work);
            let stage = source.par_map_ordered_init(n, || (), move |(), item| f(item));
            Box::new(with(stage, permits, token))
        },
        ..ORDERED
    },
    Kind {
        name: "try",
        build: |source, n, work, permits, token| {
            let f = f(&work);
            let f = move |item| Ok::<_, Infallible>(f(item));
            let stage = with(source.try_par_map_ordered(n, f), permits, token);
            Box::new(stage.map(|Ok(item)| item))
        },
        ..ORDERED
    },
    Kind {
        name: "isolated",
        build: |source, n, work, permits, token| {
            let stage = source.par_map_ordered(n, f(&work)).isolate();
            let stage = with(stage, permits, token);
            Box::new(stage.map(|result| result.unwrap_or_else(|why| bang(why.seq()))))
        },
        isolated: true,
        ..ORDERED
    },
    Kind {
        name: "timed",
        build: |source, n, work, permits, token| {
            let stage = source.par_map_ordered(n, f(&work)).item_timeout(LONG);
            Box::new(with(stage, permits, token))
        },
        ..ORDERED
    },
    Kind {
        name: "local",
        build: |source, n, work, permits, token| {
            let stage = source.local().par_map_ordered(n, f(&work));
            Box::new(with(stage, permits, token))
        },
        ..ORDERED
    },
    Kind {
        name: "by key",
        build: |source, n, work, permits, token| {
            let stage = source.par_map_by_key(n, |item| item.id, f(&work));
            Box::new(with(stage, permits, token))
        },
        ordered: false,
        keyed: true,
        ..ORDERED
    },
    Kind {
        name: "by key, isolated",
        build: |source, n, work, permits, token| {
            let stage = source.par_map_by_key(n, |item| item.id, f(&work)).isolate();
            let stage = with(stage, permits, token);
            Box::new(stage.map(|result| result.unwrap_or_else(|why| bang(why.seq()))))
        },
        ordered: false,
        keyed: true,
        isolated: true,
    },
];

/// Runs the check for each kind and each `n`, and names those for which it fails.
fn each(check: fn(&Kind, usize)) {
    for kind in KINDS {
        for n in 1..=9 {
            within(SOON, move || {
                let end = payload(|| check(&kind, n));
                if end.is_err() {
                    eprintln!("{}, n = {n}", kind.name);
                }
                end.unwrap_or_else(|why| std::panic::resume_unwind(why));
            });
        }
    }
}

fn items(ids: std::ops::Range<u64>, ledger: &Ledger) -> Items {
    let ledger = ledger.clone();
    Box::new(ids.map(move |id| ledger.track(id)))
}

// ---- how many

#[test]
fn no_more_closures_run_than_there_are_permits_and_all_items_come() {
    each(|kind, n| {
        for total in [1, 2, 3, 9] {
            let (permits, meter, ledger) = (Permits::new(total), Meter::new(), Ledger::new());
            let work = Arc::new({
                let meter = meter.clone();
                move |item: &Tracked| {
                    let _entered = meter.enter();
                    dawdle(item.id);
                }
            });
            let source = items(0..60, &ledger);
            let stage = (kind.build)(source, n, work, &permits, &CancelToken::new());
            let mut ids: Vec<u64> = stage.map(|item| item.id).collect();
            if !kind.ordered {
                ids.sort_unstable();
            }
            assert!(ids.into_iter().eq(0..60));
            assert!(meter.most() <= n.min(total), "{} of {total}", meter.most());
            assert_eq!((permits.available(), waiting(&permits)), (total, 0));
            ledger.assert_dropped_once();
        }
    });
}

#[test]
fn as_many_closures_run_as_there_are_permits() {
    each(|kind, n| {
        let (permits, meter) = (Permits::new(n), Meter::new());
        let work = Arc::new({
            let meter = meter.clone();
            move |_: &Tracked| meter.meet(n)
        });
        let source = items(0..30, &Ledger::new());
        let stage = (kind.build)(source, 9, work, &permits, &CancelToken::new());
        assert_eq!((stage.count(), meter.most()), (30, n));
    });
}

/// Three stages in one another, of which the innermost one is limited; and a chain of two, both limited. They run at
/// the same time.
#[test]
fn nested_and_chained_stages_share_permits() {
    for total in 1..=9 {
        within(SOON, move || {
            let (permits, meter) = (Permits::new(total), Meter::new());
            let limited = |seed: u64| {
                meter.meet(total);
                dawdle(seed);
                seed
            };
            let nested = || {
                let innermost = |a: u64, b: u64| {
                    let items = (0..5).map(|c| a * 100 + b * 10 + c);
                    items
                        .par_map_ordered(3, limited)
                        .limited_by(&permits)
                        .sum::<u64>()
                };
                let middle = |a: u64| (0..5).par_map_ordered(3, |b| innermost(a, b)).sum::<u64>();
                (0..5).par_map_ordered(3, middle).sum::<u64>()
            };
            let chained = || {
                let first = (0..100).par_map_ordered(4, limited).limited_by(&permits);
                first
                    .par_map_unordered(4, limited)
                    .limited_by(&permits)
                    .sum::<u64>()
            };
            let sums = std::thread::scope(|s| {
                let nested = s.spawn(nested);
                (chained(), nested.join().expect("no panic"))
            });
            let each =
                (0..5).flat_map(|a| (0..5).flat_map(move |b| (0..5).map(move |c| (a, b, c))));
            let nested: u64 = each.map(|(a, b, c)| a * 100 + b * 10 + c).sum();
            assert_eq!(sums, (99 * 50, nested));
            assert_eq!(meter.most(), total);
            assert_eq!((permits.available(), waiting(&permits)), (total, 0));
        });
    }
}

/// All of three levels hold permits, and there is one more than the outer ones can ever hold.
#[test]
fn nested_stages_may_share_permits_if_there_are_enough() {
    for n in 1..=4 {
        within(SOON, move || {
            let (permits, meter) = (Permits::new(n + n * n + 1), Meter::new());
            let (permits, count) = (&permits, &Counter::new());
            let innermost = |_: usize| {
                let _entered = meter.enter();
                count.add();
            };
            let middle = |_: usize| {
                let _entered = meter.enter();
                (0..9)
                    .par_map_ordered(n, innermost)
                    .limited_by(permits)
                    .for_each(drop);
            };
            let outer = |_: usize| {
                let _entered = meter.enter();
                (0..9)
                    .par_map_unordered(n, middle)
                    .limited_by(permits)
                    .for_each(drop);
            };
            (0..9)
                .par_map_ordered(n, outer)
                .limited_by(permits)
                .for_each(drop);
            assert_eq!(count.get(), 9 * 9 * 9);
            assert!(meter.most() <= permits.total());
            assert_eq!(permits.available(), permits.total());
        });
    }
}

// ---- the end of a wait

/// How many closures have run, and what they do.
fn counts(ran: &Counter) -> Work {
    let ran = ran.clone();
    Arc::new(move |_| {
        ran.add();
    })
}

#[test]
fn a_cancellation_ends_the_waits_and_what_has_not_begun_is_dropped() {
    each(|kind, n| {
        let (permits, ran, ledger) = (Permits::new(1), Counter::new(), Ledger::new());
        let (held, token) = (permits.acquire(1), CancelToken::new());
        let source = items(0..60, &ledger);
        let mut stage = (kind.build)(source, n, counts(&ran), &permits, &token);
        let cancels = std::thread::spawn({
            let permits = permits.clone();
            move || {
                wait_in_line(&permits, n);
                token.cancel();
            }
        });
        assert!(stage.next().is_none());
        cancels.join().expect("no panic");
        drop(stage);
        assert_eq!((ran.get(), waiting(&permits)), (0, 0));
        ledger.assert_dropped_once();
        drop(held);
        assert_eq!(permits.available(), 1);
    });
}

#[test]
fn a_drop_ends_the_waits_and_what_has_not_begun_is_dropped() {
    fn check<P: Parallel<Running: Send> + 'static>(
        n: usize,
        build: impl Fn(Items, Work) -> Stage<P>,
    ) {
        let (permits, ran, ledger) = (Permits::new(1), Counter::new(), Ledger::new());
        let held = permits.acquire(1);
        let mut stage = build(items(0..60, &ledger), counts(&ran)).limited_by(&permits);
        assert!(stage.next_within(Duration::ZERO).is_err());
        wait_in_line(&permits, n);
        drop(stage);
        assert_eq!((ran.get(), waiting(&permits)), (0, 0));
        ledger.assert_dropped_once();
        drop(held);
        assert_eq!(permits.available(), 1);
    }
    for n in 1..=9 {
        within(SOON, move || {
            check(n, |source, work| source.par_map_ordered(n, f(&work)));
            check(n, |source, work| source.par_map_unordered(n, f(&work)));
            check(n, |source, work| {
                source.par_map_by_key(n, |item| item.id, f(&work))
            });
        });
    }
}

/// The first closure that runs panics while the others wait for its permit.
#[test]
fn an_item_that_waits_is_not_run_after_a_failure() {
    each(|kind, n| {
        let (permits, ledger, late) = (Permits::new(1), Ledger::new(), Counter::new());
        let held = permits.acquire(1);
        let first = Arc::new(AtomicU64::new(u64::MAX));
        let work = Arc::new({
            let (first, late, keyed) = (Arc::clone(&first), late.clone(), kind.keyed);
            move |item: &Tracked| {
                let order = (SeqCst, SeqCst);
                match first.compare_exchange(u64::MAX, item.id, order.0, order.1) {
                    Ok(_) => bang(item.id),
                    // Those before it may still be wanted.
                    Err(failed) if !keyed && item.id < failed => {}
                    Err(_) => {
                        late.add();
                    }
                }
            }
        });
        let source = items(0..60, &ledger);
        let mut stage = (kind.build)(source, n, work, &permits, &CancelToken::new());
        let starts = std::thread::spawn({
            let permits = permits.clone();
            move || {
                wait_in_line(&permits, n);
                drop(held);
            }
        });
        let mut came = Vec::new();
        let failed = loop {
            match caught(|| stage.next()) {
                Ok(item) => came.push(item.expect("one fails").id),
                Err(id) => break id,
            }
        };
        assert_eq!(failed, first.load(SeqCst));
        drop(stage);
        starts.join().expect("no panic");
        if !kind.isolated {
            assert_eq!(late.get(), 0);
            if kind.ordered {
                assert!(came.into_iter().eq(0..failed));
            }
        }
        assert_eq!((permits.available(), waiting(&permits)), (1, 0));
        ledger.assert_dropped_once();
    });
}

/// A worker whose item is dropped because one before it has failed may have to run earlier ones.
#[test]
fn items_before_a_failure_are_run_and_with_permits() {
    for seed in 0..400 {
        within(SOON, move || {
            let (total, meter) = (1 + mix(seed) as usize % 3, Meter::new());
            let (n, fails) = (2 + mix(seed) as usize % 5, 50 + mix(seed + 1) % 200);
            let stage = (0..300).try_par_map_ordered(n, {
                let meter = meter.clone();
                move |i: u64| {
                    let _entered = meter.enter();
                    dawdle(seed << 16 ^ i);
                    if i < fails { Ok(i) } else { Err(i) }
                }
            });
            let results = stage.limited_by(&Permits::new(total));
            assert!(results.eq((0..fails).map(Ok).chain([Err(fails)])));
            assert!(meter.most() <= total);
        });
    }
}

/// A drain is no reason to leave anything out that was pulled.
#[test]
fn a_drain_runs_what_waits() {
    for n in 1..=9 {
        within(SOON, move || {
            let (permits, pulled, stop) = (Permits::new(1), Counter::new(), CancelToken::new());
            let held = permits.acquire(1);
            let stage = counted(0_u64.., &pulled).par_map_ordered(n, |i| i);
            let stage = stage.limited_by(&permits).drain_on(&stop);
            let starts = std::thread::spawn({
                let permits = permits.clone();
                move || {
                    wait_in_line(&permits, n);
                    stop.cancel();
                    settle();
                    drop(held);
                }
            });
            assert_eq!(stage.count(), pulled.get());
            starts.join().expect("no panic");
        });
    }
}

// ---- the other promises

/// The next item has its permit, and those after it have none.
#[test]
fn results_come_out_while_other_items_wait() {
    each(|kind, n| {
        // A consumer that is in its source yields nothing.
        if kind.name == "local" {
            return;
        }
        let (permits, ledger) = (Permits::new(1), Ledger::new());
        let turn = Arc::new(Mutex::new(None));
        let work = Arc::new({
            let (permits, turn) = (permits.clone(), Arc::clone(&turn));
            move |item: &Tracked| {
                if item.id == 0 {
                    // The next one in the line is this test, which keeps the permit.
                    let thread = std::thread::spawn({
                        let permits = permits.clone();
                        move || permits.acquire(1).expect("not cancelled")
                    });
                    wait_in_line(&permits, 1);
                    *turn.lock().expect("not poisoned") = Some(thread);
                }
            }
        });
        // Nobody else waits before item 0 has its permit, as there is no other item yet.
        let gate = Gate::new();
        let rest = items(1..30, &ledger);
        let later = std::iter::once_with({
            let gate = gate.clone();
            move || {
                gate.wait();
                rest
            }
        });
        let source = Box::new(items(0..1, &ledger).chain(later.flatten()));
        let mut stage = (kind.build)(source, n, work, &permits, &CancelToken::new());
        assert_eq!(stage.next().map(|item| item.id), Some(0));
        let thread = turn.lock().expect("not poisoned").take().expect("it waits");
        let held = thread.join().expect("no panic");
        gate.open();
        let starts = std::thread::spawn({
            let permits = permits.clone();
            move || {
                wait_in_line(&permits, n);
                drop(held);
            }
        });
        assert_eq!(stage.count(), 29);
        starts.join().expect("no panic");
    });
}

#[test]
fn next_within_gives_up_and_goes_on_later() {
    for n in 1..=9 {
        within(SOON, move || {
            let permits = Permits::new(1);
            let held = permits.acquire(1);
            let mut stage = (0..60).par_map_ordered(n, |i| i).limited_by(&permits);
            assert!(stage.next_within(Duration::from_millis(1)).is_err());
            wait_in_line(&permits, n);
            assert!(stage.next_within(Duration::ZERO).is_err());
            drop(held);
            assert!(stage.eq(0..60));
        });
    }
}

/// It would have to wait for a permit, and could yield nothing meanwhile.
#[test]
fn the_consumer_runs_no_items_itself() {
    for n in 1..=9 {
        for (bound, ordered) in [None, Some(1), Some(n), Some(64)]
            .into_iter()
            .flat_map(|bound| [(bound, true), (bound, false)])
        {
            within(SOON, move || {
                let permits = Permits::new(n);
                let consumer = std::thread::current().id();
                let items = if cfg!(debug_assertions) {
                    3_000
                } else {
                    100_000
                };
                let stage = (0..items).par_map_ordered(n, move |i: u64| {
                    assert_ne!(std::thread::current().id(), consumer);
                    i
                });
                let stage = stage.limited_by(&permits);
                let stage = match bound {
                    Some(k) => stage.in_flight(k),
                    None => stage,
                };
                let sum: u64 = if ordered { stage } else { stage.unordered() }.sum();
                assert_eq!(sum, items * (items - 1) / 2);
            });
        }
    }
}

#[test]
fn a_panic_gives_the_permit_back() {
    each(|kind, n| {
        let (permits, ledger) = (Permits::new(2), Ledger::new());
        let work: Work = Arc::new(|item: &Tracked| {
            if item.id % 7 == 3 {
                bang(item.id);
            }
        });
        let source = items(0..60, &ledger);
        let mut stage = (kind.build)(source, n, work, &permits, &CancelToken::new());
        let mut panics = 0;
        loop {
            match caught(|| stage.next()) {
                Ok(None) => break,
                Ok(Some(_)) => {}
                Err(id) => {
                    assert_eq!(id % 7, 3);
                    panics += 1;
                }
            }
        }
        assert_eq!(panics, if kind.isolated { 9 } else { 1 });
        drop(stage);
        assert_eq!((permits.available(), waiting(&permits)), (2, 0));
        ledger.assert_dropped_once();
    });
}

#[test]
fn the_last_call_counts() {
    within(SOON, || {
        let (none, permits) = (Permits::new(1), Permits::new(2));
        let _held = none.acquire(1);
        let stage = (0..9)
            .par_map_ordered(2, |i| i)
            .limited_by(&none)
            .limited_by(&permits);
        assert!(stage.eq(0..9));
    });
}

#[test]
fn it_must_come_before_the_first_item() {
    let permits = Permits::new(2);
    let mut stage = (0..9).par_map_ordered(2, |i| i);
    assert_eq!(stage.next(), Some(0));
    let text = message(|| stage.limited_by(&permits));
    assert!(text.contains("before"), "{text}");
}

// ---- time limits and copies

#[test]
fn the_time_of_an_item_begins_when_it_has_its_permit() {
    for n in 1..=4 {
        timely(SHORT, move || {
            let permits = Permits::new(1);
            let held = permits.acquire(1);
            let stage = (0..20).par_map_ordered(n, |i| {
                CancelToken::current().check().expect("it has just begun");
                i
            });
            let stage = stage.limited_by(&permits).item_timeout(SHORT);
            let starts = std::thread::spawn({
                let permits = permits.clone();
                move || {
                    wait_in_line(&permits, n);
                    std::thread::sleep(3 * SHORT);
                    drop(held);
                }
            });
            assert!(stage.eq(0..20));
            starts.join().expect("no panic");
        });
    }
}

#[test]
fn a_closure_that_has_timed_out_holds_its_permit_until_it_returns() {
    timely(SHORT, || {
        let (permits, gate) = (Permits::new(2), Gate::new());
        let stuck = gate.clone();
        let stage = (0..9).par_map_ordered(3, move |i| {
            if i == 0 {
                stuck.wait();
            }
            i
        });
        let mut stage = stage.limited_by(&permits).item_timeout(SHORT).isolate();
        let _opener = gate.opener();
        let first = stage.next().expect("the first");
        assert!(first.is_err_and(|why| why.is_timeout()));
        assert_eq!(stage.by_ref().count(), 8);
        assert_eq!(permits.available(), 1);
        gate.open();
        drop(stage);
        assert_eq!(permits.available(), 2);
    });
}

/// With two permits the copy gets the second one; with one it is not run.
#[test]
fn a_copy_holds_a_permit_or_is_not_run() {
    for total in [1, 2] {
        within(SOON, move || {
            let (permits, runs, meter) = (Permits::new(total), Counter::new(), Meter::new());
            let policy = HedgePolicy::after(Duration::ZERO).budget(1.0).reserve(9);
            let stage = std::iter::once(0).par_map_ordered(3, {
                let (runs, meter, policy) = (runs.clone(), meter.clone(), policy.clone());
                move |i| {
                    let _entered = meter.enter();
                    if runs.add() == 1 {
                        // The copy wins; or it was taken, and is lost because it has no permit.
                        if total == 2 {
                            CancelToken::current().wait();
                        } else {
                            eventually("a copy that is lost", || policy.stats().lost == 1);
                        }
                    }
                    i
                }
            });
            let stage = stage.limited_by(&permits).hedge_slow(&policy);
            assert!(stage.eq([0]));
            assert_eq!((runs.get(), meter.most()), (total, total));
            assert_eq!(permits.available(), total);
        });
    }
}
