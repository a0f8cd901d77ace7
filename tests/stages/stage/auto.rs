//! `Workers::auto`: a width that finds itself. What it decides is tested with exact figures in `runtime/pilot/tests.rs`;
//! here are real threads, with wide limits.

use crate::support::{Gate, SOON, message, mix, within};
use fanfold::stats::{Snapshot, WidthReason};
use fanfold::testing::assert_quiescent;
use fanfold::{CancelToken, Fanfold, Plan, Stage, StageStats, Workers};
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

const MS: Duration = Duration::from_millis(1);

/// Computes for some 20 µs, and some ten times that in a debug build.
fn compute(item: usize) -> usize {
    (0..20_000).fold(item, |x, step| black_box(x ^ step)) & 1 | item
}

/// Whether the platform and the features say how much of a CPU closures use.
fn has_cpu_time() -> bool {
    cfg!(all(feature = "cpu-time", unix))
}

/// An endless source that ends when it is told.
#[derive(Clone, Default)]
struct Switch(Arc<AtomicBool>);

impl Switch {
    fn items(&self) -> impl Iterator<Item = usize> + Send + 'static {
        let over = Arc::clone(&self.0);
        (0..).take_while(move |_| !over.load(SeqCst))
    }

    fn off(&self) {
        self.0.store(true, SeqCst);
    }
}

/// Consumes the stage on its own thread until `enough`, which is asked after each output.
fn run_until<P>(
    mut stage: Stage<P>,
    switch: &Switch,
    enough: impl Fn(&Snapshot) -> bool,
) -> Snapshot
where
    P: Plan,
    Stage<P>: Iterator<Item = usize>,
{
    let stats = stage.stats();
    for _ in &mut stage {
        if enough(&stats.snapshot()) {
            switch.off();
        }
    }
    stats.snapshot()
}

#[test]
fn results_are_exact_and_in_order_beside_loads_that_change() {
    for seed in 0..6_u64 {
        within(SOON, move || {
            let work = move |i: usize| {
                match mix(seed ^ (i / 500) as u64) % 4 {
                    0 => sleep(MS),
                    1 => drop(compute(i)),
                    2 if mix(i as u64) % 50 == 0 => sleep(20 * MS),
                    _ => {}
                }
                i * 3
            };
            let cap = [1, 2, 7, 64, 300][seed as usize % 5];
            let most = Arc::new(AtomicUsize::new(0));
            let (running, peak) = (AtomicUsize::new(0), Arc::clone(&most));
            let counted = move |i| {
                peak.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
                let out = work(i);
                running.fetch_sub(1, SeqCst);
                out
            };
            let want = (0..4000).map(|i| i * 3);
            let items = 0..4000_usize;
            match seed % 3 {
                0 => assert!(items.par_map_ordered(Workers::auto(cap), counted).eq(want)),
                1 => {
                    let stage = items.par_map_unordered(Workers::auto(cap), counted);
                    let mut all: Vec<usize> = stage.collect();
                    all.sort_unstable();
                    assert!(all.into_iter().eq(want));
                }
                _ => {
                    let stage = items.par_map_by_key(Workers::auto(cap), |i| i % 10, counted);
                    let mut next: Vec<usize> = (0..10).collect();
                    for out in stage {
                        assert_eq!(out / 3, next[out / 3 % 10], "the order of a key");
                        next[out / 3 % 10] += 10;
                    }
                    assert!(next.iter().all(|next| *next >= 4000));
                }
            }
            assert!(most.load(SeqCst) <= cap, "{} > {cap}", most.load(SeqCst));
            assert_quiescent();
        });
    }
}

/// Runs it until it is wide, and not for ever.
fn assert_grows<P: Plan>(kind: &str, stage: Stage<P>, switch: &Switch)
where
    Stage<P>: Iterator<Item = usize>,
{
    let began = Instant::now();
    let is_late = || began.elapsed() > Duration::from_secs(10);
    let end = run_until(stage, switch, |now| now.width > 64 || is_late());
    assert!(
        end.width > 64,
        "{kind}: {} {:?}",
        end.width,
        end.width_reason
    );
}

#[test]
fn closures_that_sleep_get_many_workers() {
    let slow = |i: usize| {
        sleep(10 * MS);
        i
    };
    within(2 * SOON, move || {
        let on = Switch::default();
        assert_grows(
            "ordered",
            on.items().par_map_ordered(Workers::auto(256), slow),
            &on,
        );
        let on = Switch::default();
        assert_grows(
            "unordered",
            on.items().par_map_unordered(Workers::auto(256), slow),
            &on,
        );
        let on = Switch::default();
        let keyed = on
            .items()
            .par_map_by_key(Workers::auto(256), |i| i % 5000, slow);
        assert_grows("keyed", keyed, &on);
        let on = Switch::default();
        let timed = on.items().par_map_ordered(Workers::auto(256), slow);
        assert_grows("timed", timed.item_timeout(SOON), &on);
    });
}

#[test]
fn closures_that_compute_get_about_as_many_workers_as_there_are_cores() {
    within(SOON, || {
        let (on, cores) = (Switch::default(), Workers::cpus().get());
        let stage = on.items().par_map_ordered(Workers::auto(256), compute);
        let end = run_until(stage, &on, |now| now.elapsed >= 500 * MS);
        // Beside other programs they wait for a core too.
        assert!(
            end.width <= 10 * cores,
            "{} {:?}",
            end.width,
            end.width_reason
        );
        assert!(end.peak_running <= 10 * cores, "{}", end.peak_running);
        assert!(
            end.width_reason
                .is_some_and(|why| why != WidthReason::Measuring)
        );
    });
}

/// So many calls at once; the others wait for their turn.
struct Server {
    free: Mutex<usize>,
    freed: Condvar,
}

impl Server {
    fn new(slots: usize) -> Self {
        let free = Mutex::new(slots);
        Server {
            free,
            freed: Condvar::new(),
        }
    }

    fn call(&self, time: Duration) {
        let free = self.free.lock().unwrap();
        *self.freed.wait_while(free, |free| *free == 0).unwrap() -= 1;
        sleep(time);
        *self.free.lock().unwrap() += 1;
        self.freed.notify_one();
    }
}

#[test]
fn a_server_that_is_full_and_a_lock_get_no_more_than_they_can_use() {
    within(SOON, || {
        let (on, server) = (Switch::default(), Server::new(40));
        let stage = on.items().par_map_ordered(Workers::auto(1000), move |i| {
            server.call(10 * MS);
            i
        });
        let end = run_until(stage, &on, |now| {
            now.elapsed
                >= if now.width >= 8 {
                    4000 * MS
                } else {
                    15_000 * MS
                }
        });
        assert!(
            (8..=400).contains(&end.width),
            "{} {:?}",
            end.width,
            end.width_reason
        );
        let (on, lock) = (Switch::default(), Mutex::new(()));
        let stage = on.items().par_map_ordered(Workers::auto(1000), move |i| {
            let _one = lock.lock().unwrap();
            sleep(MS);
            i
        });
        let end = run_until(stage, &on, |now| now.elapsed >= 1000 * MS);
        assert!(end.width <= 20, "{} {:?}", end.width, end.width_reason);
    });
}

#[test]
fn work_that_begins_to_wait_and_then_computes_is_followed() {
    within(2 * SOON, || {
        let (on, waits) = (Switch::default(), Arc::new(AtomicBool::new(false)));
        let sleeps = Arc::clone(&waits);
        let mut stage = on.items().par_map_ordered(Workers::auto(128), move |i| {
            if sleeps.load(SeqCst) {
                sleep(10 * MS);
                i
            } else {
                compute(i)
            }
        });
        let stats = stage.stats();
        let (mut began, mut phase) = (Instant::now(), 0);
        for _ in &mut stage {
            let width = stats.snapshot().width;
            let is_late = began.elapsed() > SOON / 3;
            let is_done = match phase {
                0 => began.elapsed() > 200 * MS,
                1 => width > 64,
                _ => !has_cpu_time() || width <= 32,
            };
            if phase < 3 && (is_done || is_late) {
                assert!(
                    is_done,
                    "phase {phase}: {width} {:?}",
                    stats.snapshot().width_reason
                );
                (began, phase) = (Instant::now(), phase + 1);
                waits.store(phase == 1, SeqCst);
                if phase == 3 {
                    on.off();
                }
            }
        }
        assert_eq!(phase, 3);
    });
}

#[test]
fn a_slow_head_is_the_reason_and_nothing_grows_behind_it() {
    within(SOON, || {
        // One in twenty takes long, and the bound is full behind it.
        let on = Switch::default();
        let stage = on.items().par_map_ordered(Workers::auto(256), |i| {
            sleep(if i % 20 == 0 { 200 * MS } else { MS / 10 });
            i
        });
        let (began, is_head) = (Instant::now(), Some(WidthReason::Head));
        let seen = AtomicBool::new(false);
        let end = run_until(stage.in_flight(10), &on, |now| {
            seen.fetch_or(now.width_reason == is_head, SeqCst);
            seen.load(SeqCst) || began.elapsed() > SOON / 3
        });
        assert!(seen.load(SeqCst), "{:?}", end.width_reason);
        assert!(end.width <= 100, "{} {:?}", end.width, end.width_reason);
    });
}

#[test]
fn a_slow_source_and_a_slow_consumer_are_told() {
    within(SOON, || {
        let on = Switch::default();
        let source = on.items().inspect(|_| sleep(2 * MS));
        let stage = source.par_map_ordered(Workers::auto(64), |i| i);
        // Beside other programs an interval may say that these have the cores, so it is waited for.
        let (began, seen) = (Instant::now(), AtomicBool::new(false));
        let end = run_until(stage, &on, |now| {
            let is_told = now.width_reason == Some(WidthReason::SourceLimits);
            seen.fetch_or(is_told, SeqCst);
            is_told || began.elapsed() > SOON / 3
        });
        assert!(seen.load(SeqCst), "{:?}", end.width_reason);
        assert!(end.width <= Workers::cpus().get());
        let on = Switch::default();
        let mut stage = on
            .items()
            .par_map_ordered(Workers::auto(64), |i| i)
            .in_flight(8);
        let stats = stage.stats();
        let began = Instant::now();
        for _ in &mut stage {
            sleep(MS);
            if stats.snapshot().width_reason == Some(WidthReason::ConsumerLimits) {
                on.off();
            }
            assert!(began.elapsed() < SOON / 3, "{:?}", stats.snapshot());
        }
    });
}

#[test]
fn two_of_them_in_a_chain_stay_exact_and_narrow() {
    within(SOON, || {
        let (on, cores) = (Switch::default(), Workers::cpus().get());
        let mut first = on
            .items()
            .par_map_ordered(Workers::auto(256), compute)
            .named("first");
        let before = first.stats();
        let mut second = first
            .par_map_ordered(Workers::auto(256), compute)
            .named("second");
        let after = second.stats();
        for (next, item) in second.by_ref().enumerate() {
            assert_eq!(item | 1, next | 1);
            if after.snapshot().elapsed >= 1000 * MS {
                on.off();
            }
        }
        drop(second);
        for stats in [before, after] {
            let end: Snapshot = StageStats::snapshot(&stats);
            assert!(end.width <= 10 * cores, "{}: {}", end.name, end.width);
            assert_eq!(end.admitted, end.yielded);
        }
        assert_quiescent();
    });
}

#[test]
fn a_consumer_that_pulls_and_states_work_too() {
    within(SOON, || {
        let slow = |i: usize| {
            sleep(2 * MS);
            i
        };
        let local = (0..3000).local().par_map_ordered(Workers::auto(64), slow);
        assert!(local.eq(0..3000));
        let states = Arc::new(AtomicUsize::new(0));
        let made = Arc::clone(&states);
        let init = move || made.fetch_add(1, SeqCst);
        let stage = (0..3000).par_map_ordered_init(Workers::auto(64), init, move |_, i| slow(i));
        assert!(stage.eq(0..3000));
        assert!((1..=64).contains(&states.load(SeqCst)));
        let sum = (1..=1000).par_fold(
            Workers::auto(16),
            || 0,
            |sum, i: usize| sum + slow(i),
            |a, b| a + b,
        );
        assert_eq!(sum, 500_500);
        let calls = AtomicUsize::new(0);
        (0..1000).par_for_each(Workers::auto(16), |_: usize| {
            calls.fetch_add(1, SeqCst);
        });
        assert_eq!(calls.into_inner(), 1000);
        let all =
            fanfold::parallel_map(0..1000, Workers::auto(16), |i: usize| Ok::<_, ()>(slow(i)));
        assert!(all.unwrap().into_iter().eq(0..1000));
        assert_quiescent();
    });
}

#[test]
fn errors_panics_tokens_and_drops_end_it_as_ever() {
    within(SOON, || {
        for seed in 0..12_usize {
            let at = 37 * seed;
            let work = move |i: usize| {
                if i % 50 == 0 {
                    sleep(MS / 2);
                }
                if i == at { Err(i) } else { Ok(i) }
            };
            let fails = (0..2000_usize).try_par_map_ordered(Workers::auto(64), work);
            assert_eq!(fails.collect::<Result<Vec<_>, _>>(), Err(at));
            let mut panics = (0..2000_usize)
                .par_map_ordered(Workers::auto(64), move |i| work(i).unwrap())
                .isolate();
            assert!(panics.by_ref().take(at).all(|result| result.is_ok()));
            assert!(panics.next().unwrap().is_err());
            drop(panics);
            let token = CancelToken::new();
            let mut cut = (0..)
                .par_map_unordered(Workers::auto(64), |i: usize| i)
                .cancel_on(&token);
            assert_eq!(cut.by_ref().take(at).count(), at);
            token.cancel();
            assert!(cut.by_ref().count() < 1_000_000);
            assert!(cut.is_cut_short());
        }
        assert_quiescent();
    });
}

#[test]
fn nothing_begins_before_the_first_next_and_a_stuck_source_is_no_dead_lock() {
    within(SOON, || {
        let calls = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&calls);
        let stage = (0..9).par_map_ordered(Workers::auto(4), move |i: usize| {
            seen.fetch_add(1, SeqCst);
            i
        });
        drop(stage);
        assert_eq!(calls.load(SeqCst), 0);
        // The first item comes out while the source blocks after it.
        let gate = Gate::new();
        let blocks = gate.clone();
        let source = (0..2_usize).inspect(move |i| {
            if *i == 1 {
                blocks.wait();
            }
        });
        let mut stage = source.par_map_ordered(Workers::auto(1), |i| i);
        assert_eq!(stage.next(), Some(0));
        gate.open();
        assert_eq!(stage.next(), Some(1));
        assert_eq!(stage.next(), None);
    });
}

#[test]
fn where_the_width_is_fixed_the_call_says_so() {
    let auto = || Workers::auto(4);
    let said = |f: &dyn Fn()| message(f);
    for text in [
        said(&|| drop((0..3).par_flat_map(auto(), |i| 0..i))),
        said(&|| drop(fanfold::push_map_ordered(auto(), |i: u32| i))),
        said(&|| {
            let _ = fanfold::group(auto(), |_: &fanfold::Group<'_, '_, ()>| ());
        }),
        said(&|| {
            let mut stage = (0..3).par_map_ordered(2, |i: u32| i);
            stage.workers_handle().set(auto());
        }),
    ] {
        assert!(text.contains("Workers::auto is for stages"), "{text}");
    }
    let text = said(&|| drop((0..3).par_map_ordered(auto(), |i: u32| i).workers_handle()));
    assert!(text.contains("finds itself"), "{text}");
    assert!(said(&|| assert_ne!(Workers::auto(0).get(), 0)).contains("cap"));
}

#[test]
fn a_stage_with_a_number_has_no_reason() {
    let mut stage = (0..100).par_map_ordered(3, |i: u32| i);
    let stats = stage.stats();
    assert_eq!(stage.count(), 100);
    assert_eq!(stats.snapshot().width_reason, None);
    assert_eq!(Workers::auto(7).get(), 7);
    assert_ne!(Workers::auto(7), Workers::from(7));
}
