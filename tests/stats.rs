//! `stats()`: counts that tally, times that add up, and what limits a stage whose limit is known.

#[path = "support/mod.rs"]
mod support;

#[cfg(feature = "percentile")]
use fanfold::stats::ItemTimes;
use fanfold::stats::{Bottleneck, Interval, Snapshot};
use fanfold::{CancelToken, Fanfold, HedgePolicy, Plan, Stage, StageStats};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};
use support::{Gate, SOON, bang, caught, within};

const MS: Duration = Duration::from_millis(1);

/// What holds at any time.
fn assert_sound(now: &Snapshot) {
    assert!(now.admitted >= now.started, "{now:?}");
    assert!(now.started >= now.finished, "{now:?}");
    assert!(now.finished >= now.yielded, "{now:?}");
    let parts = now.queued() + now.running() + now.parked();
    assert_eq!(parts, now.in_flight(), "{now:?}");
    let width = u32::try_from(now.width).expect("a width of a test");
    if now.name.contains("par_map") || now.name.contains("flat_map") {
        assert_eq!(now.time.total(), now.elapsed * width, "{now:?}");
    } else {
        // It gets its width source by source.
        assert!(now.time.total() <= now.elapsed * width, "{now:?}");
    }
    let consumer = &now.consumer;
    assert_eq!(consumer.head + consumer.own + consumer.away, now.elapsed);
    assert!(consumer.blocked <= consumer.head);
    assert!(now.peak_running <= now.width, "{now:?}");
}

/// What holds once the stage has been dropped.
fn assert_tallies(stats: &StageStats) -> Snapshot {
    let all = stats.snapshot();
    assert_sound(&all);
    let others = all.failed + all.panicked + all.timed_out + all.discarded;
    assert_eq!(all.admitted, all.yielded + all.filtered + others, "{all:?}");
    assert_eq!(all.head, None, "nobody waits any more");
    assert_eq!(all.in_flight(), 0, "{all:?}");
    assert_eq!(all.threads, 0, "they are joined");
    sleep(MS);
    assert_eq!(
        stats.snapshot().elapsed,
        all.elapsed,
        "no time passes any more"
    );
    all
}

/// For every width, without a bound and with some.
fn each(f: impl Fn(usize, Option<usize>) + Clone + Send + 'static) {
    for n in 1..=9 {
        for bound in [None, Some(1), Some(2), Some(4 * n), Some(1000)] {
            let f = f.clone();
            within(SOON, move || f(n, bound));
        }
    }
}

/// Spins for so many steps.
fn spin(steps: u64, from: u64) -> u64 {
    (0..steps).fold(from | 1, |x, i| {
        std::hint::black_box(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(i))
    })
}

macro_rules! bounded {
    ($stage:expr, $bound:expr) => {{
        let stage = $stage;
        match $bound {
            Some(bound) => stage.in_flight(bound),
            None => stage,
        }
    }};
}

#[test]
fn everything_is_counted_in_every_mode() {
    // From items of some nanoseconds, which the consumer runs itself, to some microseconds.
    for steps in [0, 30, 3000] {
        let items = if steps == 3000 { 500 } else { 50_000 };
        each(move |n, bound| {
            let f = move |x| spin(steps, x);
            let mut stage = bounded!((0..items).par_map_ordered(n, f), bound);
            let stats = stage.stats();
            assert_sound(&stats.snapshot());
            for _ in stage.by_ref().take(items as usize / 2) {}
            assert_sound(&stats.snapshot());
            assert_eq!(stage.count() as u64, items - items / 2);
            let all = assert_tallies(&stats);
            assert_eq!(
                (all.admitted, all.finished, all.yielded),
                (items, items, items)
            );
            if let Some(bound) = bound {
                assert_eq!(all.in_flight_limit, bound as u64);
                assert!(all.peak_in_flight <= bound as u64, "{all:?}");
            }
            let mut stage = bounded!((0..items).par_map_unordered(n, f), bound);
            let stats = stage.stats();
            assert_eq!(stage.count() as u64, items);
            assert_eq!(assert_tallies(&stats).yielded, items);
        });
    }
}

#[test]
fn a_stage_that_is_dropped_tallies() {
    each(|n, bound| {
        for taken in [0, 1, 7, 500] {
            let mut stage = bounded!((0..).par_map_ordered(n, |x| spin(50, x)), bound);
            let stats = stage.stats();
            assert_eq!(stage.by_ref().take(taken).count(), taken);
            drop(stage);
            let all = assert_tallies(&stats);
            assert_eq!(all.yielded, taken as u64);
        }
    });
}

#[test]
fn every_fate_is_counted() {
    each(|n, bound| {
        let fails = |x: u64| if x == 30 { Err(x) } else { Ok(x) };
        let mut stage = bounded!((0..100).try_par_map_ordered(n, fails), bound);
        let stats = stage.stats();
        assert!(stage.collect::<Result<Vec<_>, _>>().is_err());
        let all = assert_tallies(&stats);
        assert_eq!((all.yielded, all.failed), (30, 1));

        let bangs = |x: u64| if x == 30 { bang(1) } else { x };
        let mut stage = bounded!((0..100).par_map_ordered(n, bangs), bound);
        let stats = stage.stats();
        assert!(caught(move || stage.count()).is_err());
        let all = assert_tallies(&stats);
        assert_eq!((all.yielded, all.panicked), (30, 1));

        let mut stage = bounded!((0..100).par_map_ordered(n, bangs), bound).isolate();
        let stats = stage.stats();
        assert_eq!(stage.count(), 100);
        let all = assert_tallies(&stats);
        assert_eq!((all.yielded, all.panicked), (99, 1));

        let token = CancelToken::new();
        let trip = token.clone();
        let source = (0..).inspect(move |x| {
            if *x == 200 {
                trip.cancel();
            }
        });
        let mut stage = bounded!(source.par_map_ordered(n, |x: u64| x), bound).cancel_on(&token);
        let stats = stage.stats();
        let count = stage.count() as u64;
        assert_eq!(assert_tallies(&stats).yielded, count);
    });
}

#[test]
fn what_a_filter_drops_is_counted_in_every_mode() {
    for steps in [0, 30, 3000] {
        let items = if steps == 3000 { 300 } else { 30_000 };
        each(move |n, bound| {
            let keeps = move |x: &u64| {
                spin(steps, *x);
                x % 3 == 0
            };
            let third = items / 3;
            let mut stage = bounded!((0..items).par_filter(n, keeps), bound);
            let stats = stage.stats();
            // By a loop, and by a fold.
            for _ in stage.by_ref().take(third as usize / 2) {}
            assert_eq!(stage.count() as u64, third - third / 2);
            let all = assert_tallies(&stats);
            assert_eq!((all.yielded, all.filtered), (third, 2 * third), "{all:?}");
            let mut stage = bounded!((0..items).par_map_unordered(n, |x| x), bound);
            let stats = stage.stats();
            stage.for_each(drop);
            assert_eq!(assert_tallies(&stats).filtered, 0);
        });
    }
    // These have no outputs, which is no filter.
    let mut seen = std::sync::atomic::AtomicU64::new(0);
    (0..1000_u64).par_for_each(2, |x| {
        seen.fetch_add(x, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(*seen.get_mut(), 499_500);
}

#[test]
fn weights_and_hedges_and_waits_show() {
    let weighs = |x: &u64| *x as usize % 10 + 1;
    let mut stage = (0..1000)
        .par_map_ordered(3, |x| spin(100, x))
        .in_flight_weight(40, weighs);
    let stats = stage.stats();
    assert_eq!(stage.count(), 1000);
    let weight = assert_tallies(&stats)
        .in_flight_weight
        .expect("it has a bound");
    assert_eq!(weight.limit, 40);
    assert!((1..=40).contains(&weight.peak), "{weight:?}");

    // One item in ten is slow, but its copy is not.
    let runs: Arc<Vec<_>> = Arc::new(
        (0..50)
            .map(|_| std::sync::atomic::AtomicU64::new(0))
            .collect(),
    );
    let counts = Arc::clone(&runs);
    let policy = HedgePolicy::after(MS).budget(1.0);
    let mut stage = (0..50_usize)
        .par_map_ordered(2, move |x| {
            let first = counts[x].fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0;
            let token = CancelToken::current();
            while x % 10 == 0 && first && !token.is_cancelled() {
                std::thread::yield_now();
            }
            x
        })
        .in_flight(8) // one of the slow ones at a time, so that a permit is left for its copy
        .hedge_slow(&policy);
    let stats = stage.stats();
    within(SOON, move || assert_eq!(stage.count(), 50));
    let hedges = assert_tallies(&stats).hedges;
    assert!(
        hedges.sent >= 5 && hedges.won >= 5 && hedges.won <= hedges.sent,
        "{hedges:?}"
    );

    let gate = Gate::new();
    let wait = gate.clone();
    let mut stage = (0..8_u64).par_map_ordered(2, move |x| {
        if x == 3 {
            wait.wait();
        }
        x
    });
    let stats = stage.stats();
    let consumer = std::thread::spawn(move || stage.count());
    within(SOON, {
        let stats = stats.clone();
        move || {
            while stats.snapshot().head.is_none_or(|head| head.seq != 3) {
                std::thread::yield_now();
            }
        }
    });
    gate.open();
    assert_eq!(consumer.join().expect("no panic"), 8);
    assert_tallies(&stats);
}

/// A stage of 200 items, of which number 77 takes 5 ms.
#[cfg(feature = "percentile")]
fn all_are_timed(stats: StageStats, mut stage: impl Iterator<Item = u64>) {
    let stats = stats.item_times();
    // By a loop, and by a fold.
    for _ in stage.by_ref().take(50) {}
    let before = stats.snapshot();
    assert_eq!(stage.by_ref().count(), 150);
    let all = stats.snapshot();
    let times = all.items.clone().expect("they were asked for");
    assert_eq!((times.service().len(), times.delay().len()), (200, 200));
    // Beside other programs any item may be slower than that one.
    let (slowest, time) = times.slowest().expect("there are some");
    assert!(slowest == 77 || time > 5 * MS, "{slowest} {time:?}");
    assert!(time >= 5 * MS && times.delay().max() >= 5 * MS);
    assert!(times.service().quantile(0.5) <= times.delay().quantile(0.5));
    assert!(times.delay().mean() <= times.delay().max());
    let since = all.since(&before).items.expect("they were asked for");
    assert_eq!(since.delay().len(), 150);
}

#[cfg(feature = "percentile")]
#[test]
fn items_are_timed_one_by_one() {
    each(|n, bound| {
        let f = |x: u64| {
            if x == 77 {
                sleep(5 * MS);
            }
            spin(30, x)
        };
        let mut ordered = bounded!((0..200_u64).par_map_ordered(n, f), bound);
        all_are_timed(ordered.stats(), ordered);
        let mut unordered = bounded!((0..200_u64).par_map_ordered(n, f), bound).unordered();
        all_are_timed(unordered.stats(), unordered);
        let mut keyed = bounded!((0..200_u64).par_map_by_key(n, |x| x % 7, f), bound);
        all_are_timed(keyed.stats(), keyed);
    });
    let mut stage = (0..3).par_map_ordered(2, |x| x);
    let stats = stage.stats();
    assert!(stats.snapshot().items.is_none(), "nobody has asked");
    assert_eq!(stage.count(), 3);
}

#[cfg(feature = "percentile")]
#[test]
fn the_slowest_item_is_that_of_the_interval() {
    let f = |x: u64| {
        match x {
            10 => sleep(100 * MS),
            90 => sleep(5 * MS),
            _ => {}
        }
        x
    };
    let mut stage = (0..100_u64).par_map_ordered(1, f).in_flight(1);
    let stats = stage.stats().item_times();
    assert_eq!(stage.by_ref().take(50).count(), 50);
    let before = stats.snapshot();
    assert_eq!(stage.count(), 50);
    let all = stats.snapshot();
    let slowest = |times: Option<ItemTimes>| {
        times
            .expect("they were asked for")
            .slowest()
            .expect("there are some")
    };
    let (seq, time) = slowest(all.items.clone());
    assert!(
        time >= 100 * MS && (seq == 10 || time > 100 * MS),
        "{seq} {time:?}"
    );
    // Beside other programs any item may be slower than that one.
    let (seq, time) = slowest(all.since(&before).items);
    assert!(seq >= 50 && time >= 5 * MS, "{seq} {time:?}");
    assert!(
        all.since(&all)
            .items
            .expect("they were asked for")
            .slowest()
            .is_none()
    );
}

#[cfg(feature = "percentile")]
#[test]
#[should_panic(expected = "item_times goes before the first `next()`")]
fn item_times_are_asked_for_before_the_start() {
    let mut stage = (0..3).par_map_ordered(2, |x| x);
    let stats = stage.stats();
    assert_eq!(stage.count(), 3);
    let _ = stats.item_times();
}

#[cfg(all(unix, feature = "cpu-time"))]
#[test]
fn closures_that_wait_use_no_cpu() {
    fn cpu(f: impl Fn(u64) -> u64 + Send + Sync + 'static) -> f64 {
        let mut stage = (0..400).par_map_ordered(2, f);
        let stats = stage.stats();
        let before = stats.snapshot();
        assert_eq!(stage.count(), 400);
        let all = stats.snapshot().since(&before);
        assert!(all.time.run_cpu.expect("it is known") <= all.time.run);
        all.cpu_share().expect("it is known")
    }
    assert!(
        cpu(|x| {
            sleep(MS / 2);
            x
        }) < 0.5
    );
    // Beside other programs it may get a part of the time only.
    assert!(cpu(|x| spin(100_000, x)) > 0.1);
}

#[test]
fn keyed_stages() {
    each(|n, bound| {
        for taken in [0, 1, 100, 5000] {
            let mut stage = bounded!(
                (0..5000).par_map_by_key(n, |x| x % 7, |x: u64| spin(20, x)),
                bound
            );
            let stats = stage.stats();
            assert_eq!(stage.by_ref().take(taken).count(), taken);
            assert_sound(&stats.snapshot());
            drop(stage);
            let all = assert_tallies(&stats);
            assert_eq!(all.yielded, taken as u64);
        }
        let bangs = |x: u64| if x == 30 { bang(1) } else { x };
        let mut stage = bounded!((0..100).par_map_by_key(n, |x| x % 7, bangs), bound);
        let stats = stage.stats();
        assert!(caught(move || stage.count()).is_err());
        assert_eq!(assert_tallies(&stats).panicked, 1);
        let mut stage = bounded!((0..100).par_map_by_key(n, |x| x % 7, bangs), bound).isolate();
        let stats = stage.stats();
        assert_eq!(stage.count(), 100);
        let all = assert_tallies(&stats);
        assert_eq!((all.yielded, all.panicked), (99, 1));
        let source = (0..100_u64).inspect(|x| assert!(*x < 50, "a plan"));
        let mut stage = bounded!(source.par_map_by_key(n, |x| x % 3, |x| x), bound);
        let stats = stage.stats();
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| stage.count())).is_err());
        let all = assert_tallies(&stats);
        assert_eq!((all.yielded, all.panicked), (50, 1));
    });
}

#[test]
fn flat_stages() {
    each(|n, bound| {
        let all_outputs = |per: u64| (0..1000).map(|x| x % (per + 1)).sum::<u64>() as usize;
        for (per, steps) in [(0, 0), (1, 0), (3, 30), (40, 300)] {
            let open = move |x: u64| (0..x % (per + 1)).map(move |i| spin(steps, x + i));
            let mut stage = bounded!((0..1000).par_flat_map(n, open), bound);
            let stats = stage.stats();
            assert_eq!(stage.by_ref().take(20).count(), all_outputs(per).min(20));
            assert_sound(&stats.snapshot());
            assert_eq!(stage.count(), all_outputs(per).saturating_sub(20));
            let all = assert_tallies(&stats);
            assert_eq!(
                (all.admitted, all.finished, all.yielded),
                (1000, 1000, 1000)
            );
        }
        for taken in [0, 1, 7, 500] {
            let open = |x: u64| (0..3).map(move |i| spin(50, x + i));
            let mut stage = bounded!((0..).par_flat_map(n, open), bound);
            let stats = stage.stats();
            assert_eq!(stage.by_ref().take(taken).count(), taken);
            drop(stage);
            let all = assert_tallies(&stats);
            // Of an item whose last output was taken the end may not have been seen, and without a bound items are
            // counted together.
            let lag = if bound.is_some() { 1 } else { 64 };
            let yielded = (taken as u64 / 3).saturating_sub(lag)..=taken as u64 / 3;
            assert!(yielded.contains(&all.yielded), "{taken} {all:?}");
        }
        let bangs = |x: u64| {
            if x == 30 {
                bang(1)
            } else {
                std::iter::repeat_n(x, 2)
            }
        };
        let mut stage = bounded!((0..100).par_flat_map(n, bangs), bound);
        let stats = stage.stats();
        assert!(caught(move || stage.count()).is_err());
        let all = assert_tallies(&stats);
        assert_eq!((all.yielded, all.panicked), (30, 1));
        let mut stage = bounded!((0..100).par_flat_map(n, bangs), bound).isolate();
        let stats = stage.stats();
        assert_eq!(stage.count(), 199);
        let all = assert_tallies(&stats);
        assert_eq!((all.yielded, all.panicked), (99, 1), "{all:?}");
        let source = (0..100_u64).inspect(|x| assert!(*x < 50, "a plan"));
        let mut stage = bounded!(source.par_flat_map(n, |x| [x, x]), bound);
        let stats = stage.stats();
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| stage.count())).is_err());
        let all = assert_tallies(&stats);
        assert_eq!((all.yielded, all.panicked), (50, 1));
        let mut stage = bounded!((0..300).local().par_flat_map(n, |x: u64| [x, x]), bound);
        let stats = stage.stats();
        assert_eq!(stage.count(), 600);
        assert_eq!(assert_tallies(&stats).yielded, 300);
    });
}

/// The consumer is away, so a worker goes on with what it has left of the last item, and finds that nothing more comes.
#[test]
fn the_last_item_is_counted_although_its_rest_is_empty() {
    within(SOON, || {
        for (n, bound) in [(1, 4), (1, 5), (2, 4)] {
            for items in 40..80_u64 {
                let stage = (0..items).par_flat_map(n, |x| [x, x]);
                let mut stage = stage.in_flight(bound);
                let stats = stage.stats();
                let last = 2 * items - 3..2 * items;
                let got = stage.by_ref().zip(0..).inspect(|(_, place)| {
                    if last.contains(place) {
                        sleep(2 * MS);
                    }
                });
                assert_eq!(got.count() as u64, 2 * items);
                assert_eq!(assert_tallies(&stats).yielded, items);
            }
        }
    });
}

#[test]
fn fan_in() {
    /// Runs it to the end, and up to some item, and counts in items.
    fn tallies<P: Plan + 'static>(make: impl Fn() -> Stage<P>, items: u64) {
        for taken in [0, 1, 50, usize::MAX] {
            let mut stage = make();
            let stats = stage.stats();
            assert_sound(&stats.snapshot());
            let yielded = stage.by_ref().take(taken).count() as u64;
            assert_sound(&stats.snapshot());
            drop(stage);
            let all = assert_tallies(&stats);
            if taken == usize::MAX {
                assert_eq!((all.admitted, all.yielded), (items, items), "{all:?}");
            } else if P::NAME.contains("merge") || P::NAME == "readahead" {
                assert_eq!(all.yielded, yielded, "{all:?}");
            }
            assert!(all.peak_in_flight <= all.in_flight_limit + all.width as u64);
        }
    }
    within(SOON, || {
        let sources = || (0..3_u64).map(|s| (0..1000).map(move |x| 3 * x + s));
        tallies(|| (0..3000_u64).readahead(7), 3000);
        tallies(|| fanfold::merge(sources()), 3000);
        tallies(|| fanfold::merge(sources()).buffer(1).max_threads(2), 3000);
        tallies(|| fanfold::round_robin(sources()), 3000);
        tallies(|| (0..3000_u64).window(10).max_age(SOON), 3000);
        tallies(|| (0..3000_u64).ready_chunks(10), 3000);

        let mut sorted = fanfold::merge_sorted_by_key(sources(), |x| *x);
        let stats = sorted.stats();
        assert_eq!(sorted.count(), 3000);
        assert_eq!(assert_tallies(&stats).yielded, 3000);

        let source = (0..100_u64).inspect(|x| assert!(*x < 50, "a plan"));
        let mut ahead = source.readahead(3);
        let stats = ahead.stats();
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| ahead.count())).is_err());
        let all = assert_tallies(&stats);
        assert_eq!((all.yielded, all.panicked), (50, 1));

        let gate = Gate::new();
        let wait = gate.clone();
        let source = (0..100_u64).inspect(move |x| {
            if *x == 99 {
                wait.open();
            }
        });
        let mut latest = source.readahead(1).overflow(fanfold::Overflow::DropOldest);
        let stats = latest.stats();
        assert!(latest.next().is_some());
        gate.wait();
        let rest = latest.count() as u64;
        let all = assert_tallies(&stats);
        assert_eq!((all.admitted, all.yielded), (100, rest + 1), "{all:?}");
        assert_eq!(all.discarded, 99 - rest);
    });
}

#[test]
fn readers() {
    use fanfold::Overflow::{Block, DropNewest, DropOldest, Grow};
    within(SOON, || {
        for overflow in [Block, DropNewest, DropOldest, Grow(2000)] {
            for taken in [0, 1, 100, usize::MAX] {
                let fanout = (0..1000_u64).broadcast(3).buffer(5).overflow(overflow);
                let mut readers = fanout.readers();
                let stats: Vec<_> = readers.iter_mut().map(|reader| reader.stats()).collect();
                assert_eq!(stats[2].name(), "broadcast 2");
                let (mut first, mut yielded) = (readers.remove(0), 0);
                std::thread::scope(|scope| {
                    for mut reader in readers.drain(..) {
                        scope.spawn(move || reader.by_ref().take(taken).count());
                    }
                    yielded = first.by_ref().count() as u64;
                });
                drop(first);
                for stats in &stats {
                    let all = assert_tallies(stats);
                    assert!(all.admitted <= 1000);
                    assert!(all.yielded <= taken as u64 || stats.name() == "broadcast 0");
                }
                let all = stats[0].snapshot();
                assert_eq!((all.admitted, all.yielded), (1000, yielded), "{all:?}");
                assert!(yielded == 1000 || matches!(overflow, DropNewest | DropOldest));
            }
        }
        let (mut even, odd) = (0..100_u64)
            .partition_readers(|x| x % 2 == 0)
            .buffer(1)
            .pair();
        let stats = even.stats();
        drop(odd);
        assert_eq!(even.count(), 50);
        assert_eq!(assert_tallies(&stats).admitted, 50);
        let source = (0..100_u64).inspect(|x| assert!(*x < 50, "a plan"));
        let mut reader = source.broadcast(1).readers().remove(0);
        let stats = reader.stats();
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| reader.count())).is_err());
        let all = assert_tallies(&stats);
        assert_eq!((all.yielded, all.panicked), (50, 1));
    });
}

#[test]
fn a_stage_that_is_pushed_into() {
    each(|n, bound| {
        let mut stage = bounded!(fanfold::push_map_ordered(n, |x: u64| spin(50, x)), bound);
        let stats = stage.stats();
        let mut outputs = 0;
        for x in 0..500 {
            outputs += stage.push(x).count();
        }
        assert_sound(&stats.snapshot());
        outputs += stage.finish().count();
        assert_eq!(outputs, 500);
        assert_eq!(assert_tallies(&stats).yielded, 500);
    });
}

#[test]
fn a_local_source_and_a_source_that_panics() {
    each(|n, bound| {
        let mut stage = bounded!((0..300).local().par_map_ordered(n, |x: u64| x), bound);
        let stats = stage.stats();
        assert_eq!(stage.count(), 300);
        assert_eq!(assert_tallies(&stats).yielded, 300);

        let source = (0..100_u64).inspect(|x| assert!(*x < 50, "a plan"));
        let mut stage = bounded!(source.par_map_ordered(n, |x| spin(3000, x)), bound);
        let stats = stage.stats();
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| stage.count())).is_err());
        let all = assert_tallies(&stats);
        assert_eq!((all.yielded, all.panicked), (50, 1));
    });
}

#[test]
fn it_can_be_asked_while_the_stage_runs() {
    let mut stage = (0..200_000).par_map_ordered(3, |x| spin(100, x));
    let stats = stage.stats();
    let asker = std::thread::spawn({
        let stats = stats.clone();
        move || {
            let mut before = stats.snapshot();
            while before.yielded < 200_000 {
                let now = stats.snapshot();
                assert_sound(&now);
                let between = now.since(&before);
                assert!(between.rate() >= 0.0);
                before = now;
            }
        }
    });
    assert_eq!(stage.count(), 200_000);
    asker.join().expect("no panic");
}

#[test]
fn a_running_closure_shows() {
    let gate = Gate::new();
    let wait = gate.clone();
    let mut stage = (0..8_u64).par_map_ordered(2, move |x| {
        wait.wait();
        x
    });
    let stats = stage.stats();
    let consumer = std::thread::spawn(move || stage.count());
    within(SOON, {
        let stats = stats.clone();
        move || {
            while stats.snapshot().running() < 2 {
                std::thread::yield_now();
            }
        }
    });
    let before = stats.snapshot();
    // One more at most, which watches.
    assert!((2..=3).contains(&before.threads), "{before:?}");
    sleep(20 * MS);
    let during = stats.snapshot().since(&before);
    assert!(
        during.share_of_workers(during.time.run) > 0.99,
        "{during:?}"
    );
    assert_eq!(during.finished, 0);
    gate.open();
    assert_eq!(consumer.join().expect("no panic"), 8);
    assert_tallies(&stats);
}

#[test]
#[should_panic(expected = "options of a stage go before its first `next()`")]
fn it_is_asked_for_before_the_start() {
    let mut stage = (0..8).par_map_ordered(2, |x| x);
    stage.next();
    stage.stats();
}

/// Runs a stage for somewhat more than a second, and gives the interval after the first part of it.
fn watched(stats: &StageStats, run: impl FnOnce() + Send + 'static) -> Interval {
    let runs = std::thread::spawn(run);
    sleep(300 * MS);
    let before = stats.snapshot();
    sleep(1200 * MS);
    let interval = stats.snapshot().since(&before);
    runs.join().expect("no panic");
    interval
}

/// As many as there are in two seconds.
fn timed() -> impl FnMut(&u64) -> bool + Send {
    let began = Instant::now();
    move |_| began.elapsed() < 2000 * MS
}

#[test]
fn a_slow_source_is_found() {
    let source = (0..).take_while(timed()).inspect(|_| sleep(MS));
    let mut stage = source.par_map_ordered(3, |x| spin(100, x));
    let stats = stage.stats();
    let interval = watched(&stats, move || assert!(stage.count() > 0));
    let verdict = interval.bottleneck();
    assert!(
        matches!(verdict, Bottleneck::Source { rate } if rate < 1000.0),
        "{interval:?}"
    );
    assert!(verdict.to_string().starts_with("the source:"));
}

#[test]
fn busy_workers_are_found() {
    let mut stage = (0..).take_while(timed()).par_map_ordered(8, |x| {
        sleep(40 * MS);
        x
    });
    let stats = stage.stats();
    let interval = watched(&stats, move || assert!(stage.count() > 0));
    let verdict = interval.bottleneck();
    // Each worker finishes one item more than it has begun in the interval, if it was in one before.
    let most = 200.0 + 8.0 * 8.0 / interval.time.run.as_secs_f64();
    assert!(
        matches!(verdict, Bottleneck::Workers { width: 8, rate, headroom, .. } if rate <= most && headroom > 2.0),
        "{verdict:?} {interval:?}"
    );
}

#[test]
fn a_slow_head_is_found() {
    let mut stage = (0..).take_while(timed()).par_map_ordered(4, |x| {
        sleep(if x % 50 == 0 { 200 * MS } else { MS / 4 });
        x
    });
    let stats = stage.stats();
    let mut stage = stage.in_flight(8);
    let interval = watched(&stats, move || assert!(stage.by_ref().count() > 0));
    let verdict = interval.bottleneck();
    assert!(
        matches!(verdict, Bottleneck::Head { share, in_flight: 8, .. } if share >= 0.2),
        "{verdict:?} {interval:?}"
    );
}

#[test]
fn a_slow_consumer_is_found() {
    let mut stage = (0..).take_while(timed()).par_map_ordered(3, |x| {
        sleep(MS / 10);
        x
    });
    let stats = stage.stats();
    let interval = watched(&stats, move || stage.for_each(|_| sleep(2 * MS)));
    let verdict = interval.bottleneck();
    assert!(
        matches!(verdict, Bottleneck::Consumer { rate } if rate < 600.0),
        "{verdict:?} {interval:?}"
    );
}

#[test]
fn the_handle_is_shared() {
    let shared = Arc::new((0..3).par_map_ordered(1, |x| x).named("three").stats());
    assert_eq!(shared.name(), "three");
    assert_eq!(shared.snapshot().admitted, 0);
    assert!(format!("{shared:?}").contains("three"));
}
