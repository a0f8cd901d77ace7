//! `workers_handle`: a width that is set while the stage runs.

use crate::support::{
    Counter, Gate, Ledger, Meter, SOON, blocks, counted, eventually, message, mix, settle, within,
};
use fanfold::testing::assert_quiescent;
use fanfold::{CancelToken, Fanfold, Pool, WorkersHandle};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Ordered,
    Unordered,
    /// Each of a thousand items in a row has its own key.
    Keyed,
    /// A state per worker.
    Stateful,
    /// The consumer pulls the source.
    Local,
    /// Items are timed one by one.
    Timed,
}

use Kind::{Keyed, Local, Ordered, Stateful, Timed, Unordered};

const KINDS: [Kind; 6] = [Ordered, Unordered, Keyed, Stateful, Local, Timed];

impl Kind {
    fn has_order(self) -> bool {
        !matches!(self, Unordered | Keyed)
    }
}

type Items = Box<dyn Iterator<Item = usize> + Send>;

/// Builds the stage in the thread that runs it, and hands out its handle first.
fn run(
    kind: Kind,
    n: usize,
    bound: Option<usize>,
    source: Items,
    f: impl Fn(usize) -> usize + Send + Sync + 'static,
    with: impl FnOnce(WorkersHandle, &mut dyn Iterator<Item = usize>),
) {
    macro_rules! with {
        ($stage:expr) => {{
            let mut stage = $stage;
            if let Some(bound) = bound {
                stage = stage.in_flight(bound);
            }
            let workers = stage.workers_handle();
            with(workers, &mut stage);
        }};
    }
    match kind {
        Ordered => with!(source.par_map_ordered(n, f)),
        Unordered => with!(source.par_map_unordered(n, f)),
        Keyed => with!(source.par_map_by_key(n, |i| i % 1000, f)),
        Stateful => with!(source.par_map_ordered_init(n, || (), move |(), i| f(i))),
        Local => with!(source.local().par_map_ordered(n, f)),
        Timed => with!(source.par_map_ordered(n, f).item_timeout(2 * SOON)),
    }
}

/// Lets closures in, and out again when told: so the test knows at any time who is in one.
#[derive(Clone, Default)]
struct Rounds(Arc<(Mutex<Round>, Condvar)>);

#[derive(Debug, Default)]
struct Round {
    /// Closures that began before it are let out.
    number: usize,
    /// How many of this round are in.
    new: usize,
    /// How many of former rounds still are.
    old: usize,
    /// How many there may be, of this round and together.
    most: usize,
    most_together: usize,
    over: bool,
    wrong: Option<String>,
}

impl Rounds {
    fn visit(&self) {
        let (round, changed) = &*self.0;
        let mut round = round.lock().unwrap();
        if round.over {
            return;
        }
        round.new += 1;
        let too_many = round.new > round.most || round.new + round.old > round.most_together;
        if too_many && round.wrong.is_none() {
            round.wrong = Some(format!("{round:?}"));
        }
        changed.notify_all();
        let number = round.number;
        while round.number == number && !round.over {
            round = changed.wait(round).unwrap();
        }
        if round.over {
            return;
        }
        round.old -= 1;
        changed.notify_all();
    }

    /// So many closures may be in at once.
    fn allow(&self, most: usize) {
        let mut round = self.0.0.lock().unwrap();
        round.most = most;
        round.most_together = round.most_together.max(most);
    }

    /// Lets everybody out, and `most` others in.
    fn next(&self, most: usize) {
        let mut round = self.0.0.lock().unwrap();
        round.number += 1;
        round.old += std::mem::take(&mut round.new);
        round.most = most;
        round.most_together = round.old.max(most);
        self.0.1.notify_all();
    }

    /// Waits until as many are in as may be, and nobody else.
    fn wait_until_full(&self) {
        let (round, changed) = &*self.0;
        let mut round = round.lock().unwrap();
        while round.wrong.is_none() && (round.old > 0 || round.new < round.most) {
            let (again, timeout) = changed.wait_timeout(round, SOON / 2).unwrap();
            round = again;
            if timeout.timed_out() {
                let at = format!("stuck: {round:?}");
                drop(round);
                panic!("{at}");
            }
        }
        let wrong = round.wrong.clone();
        drop(round);
        assert_eq!(wrong, None);
    }

    fn end(&self) {
        self.0.0.lock().unwrap().over = true;
        self.0.1.notify_all();
    }
}

/// Each width is in force at once, whatever it was before: as many closures are in as are allowed, and never more. The
/// first ones are blocked while others are to begin.
fn exact(kind: Kind, widths: impl Iterator<Item = usize> + Send + 'static) {
    let rounds = Rounds::default();
    let done = Arc::new(AtomicBool::new(false));
    let source = (0..).take_while({
        let done = Arc::clone(&done);
        move |_| !done.load(SeqCst)
    });
    let visit = {
        let rounds = rounds.clone();
        move |i| {
            rounds.visit();
            i
        }
    };
    // In order the results wait for the first one, which may be in by chance for many rounds: with the default bound there
    // would be no room for others.
    let bound = kind.has_order().then_some(1_000_000);
    run(kind, 1, bound, Box::new(source), visit, |workers, stage| {
        let mut now = 1;
        rounds.allow(now);
        let setter = std::thread::spawn({
            let rounds = rounds.clone();
            move || {
                // If it fails, the stage must end all the same.
                let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    rounds.wait_until_full();
                    for width in widths {
                        if width > now {
                            rounds.allow(width);
                            workers.set(width);
                        } else {
                            workers.set(width);
                            rounds.next(width);
                        }
                        now = width;
                        assert_eq!(workers.get(), width);
                        rounds.wait_until_full();
                    }
                }));
                done.store(true, SeqCst);
                rounds.end();
                outcome
            }
        });
        let mut all: Vec<_> = stage.collect();
        if let Err(panic) = setter.join().unwrap() {
            std::panic::resume_unwind(panic);
        }
        if !kind.has_order() {
            all.sort_unstable();
        }
        assert!(all.iter().copied().eq(0..all.len()));
    });
}

fn random(most: usize, count: usize) -> impl Iterator<Item = usize> + Send {
    (0..count).map(move |i| 1 + mix(i as u64) as usize % most)
}

#[test]
fn growth_is_at_once_and_a_shrink_is_exact() {
    for kind in KINDS {
        let widths = [4, 2, 9, 1, 3, 3, 1, 2, 1, 9, 8, 7, 1].into_iter();
        within(SOON, move || exact(kind, widths));
    }
}

#[test]
fn thousands_of_random_widths_are_exact() {
    for kind in [Ordered, Unordered, Keyed] {
        within(3 * SOON, move || exact(kind, random(9, 10_000)));
    }
    for kind in [Stateful, Local, Timed] {
        within(3 * SOON, move || exact(kind, random(9, 1_000)));
    }
}

/// Workers that have many short items in hand come back after the one in which they are.
#[test]
fn a_shrink_is_exact_although_many_items_are_in_hand() {
    const WARM: usize = 20_000;
    for kind in KINDS.repeat(4) {
        within(SOON, move || {
            let (blocked, gate) = (Counter::new(), Gate::new());
            let [now, most] = [(); 2].map(|()| Arc::new(AtomicUsize::new(0)));
            let f = {
                let (blocked, gate) = (blocked.clone(), gate.clone());
                let (now, most) = (Arc::clone(&now), Arc::clone(&most));
                move |i| {
                    if i >= WARM && !gate.is_open() {
                        blocked.add();
                        gate.wait();
                    } else if i >= WARM {
                        most.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
                        std::thread::yield_now();
                        now.fetch_sub(1, SeqCst);
                    }
                    // As long as it takes for chunks and turns of several items.
                    (0..100).fold(i, |i, _| std::hint::black_box(i))
                }
            };
            let source = Box::new(0..WARM + 5_000);
            run(kind, 4, Some(10_000), source, f, |workers, stage| {
                let _opener = gate.opener();
                let setter = std::thread::spawn({
                    let gate = gate.clone();
                    move || {
                        blocked.wait_for(4);
                        workers.set(1);
                        gate.open();
                    }
                });
                assert_eq!(stage.count(), WARM + 5_000);
                setter.join().unwrap();
                assert_eq!(most.load(SeqCst), 1, "at once: {kind:?}");
            });
        });
    }
}

/// What is taken from a worker that has too much in hand is older than what is pulled meanwhile, and the consumer waits
/// for it first. With a local source all that is within the bound may be there.
#[test]
fn what_a_shrink_takes_back_keeps_its_turn() {
    const WARM: usize = 20_000;
    const ALL: usize = WARM + 5_000;
    for kind in [Ordered, Unordered, Stateful, Local, Timed].repeat(4) {
        within(SOON, move || {
            let (blocked, gate) = (Counter::new(), Gate::new());
            let run_late = Arc::new(Mutex::new(Vec::new()));
            let f = {
                let (blocked, gate) = (blocked.clone(), gate.clone());
                let run_late = Arc::clone(&run_late);
                move |i| {
                    if i >= WARM && !gate.is_open() {
                        blocked.add();
                        gate.wait();
                    } else if i >= WARM {
                        run_late.lock().unwrap().push(i);
                    }
                    // As long as it takes for chunks and turns of several items.
                    (0..100).fold(i, |i, _| std::hint::black_box(i))
                }
            };
            run(
                kind,
                4,
                Some(10_000),
                Box::new(0..ALL),
                f,
                |workers, stage| {
                    let _opener = gate.opener();
                    let setter = std::thread::spawn({
                        let gate = gate.clone();
                        move || {
                            blocked.wait_for(4);
                            settle(); // a consumer that pulls has pulled all
                            workers.set(1);
                            gate.open();
                        }
                    });
                    assert_eq!(stage.count(), ALL);
                    setter.join().unwrap();
                    let run_late = run_late.lock().unwrap();
                    assert!(run_late.is_sorted(), "{kind:?}: {run_late:?}");
                },
            );
        });
    }
}

#[test]
fn from_one_to_a_thousand_and_back() {
    for kind in [Ordered, Unordered, Keyed] {
        within(3 * SOON, move || {
            exact(kind, [1_000, 1, 1_000, 2].into_iter());
        });
    }
}

/// With items that are short, so that chunks are long, and many changes at any moment.
#[test]
fn results_order_bound_and_width_hold_through_random_changes() {
    for kind in KINDS {
        for bound in [None, Some(1), Some(7), Some(100)] {
            within(3 * SOON, move || any_moment(kind, bound));
        }
    }
}

fn any_moment(kind: Kind, bound: Option<usize>) {
    const CHANGES: usize = 10_000;
    let (meter, done) = (Meter::new(), Arc::new(AtomicBool::new(false)));
    let pulls = Arc::new(AtomicUsize::new(0));
    let source = (0..).take_while({
        let (done, pulls) = (Arc::clone(&done), Arc::clone(&pulls));
        move |_| {
            let more = !done.load(SeqCst);
            pulls.fetch_add(usize::from(more), SeqCst);
            more
        }
    });
    let f = {
        let meter = meter.clone();
        move |i| {
            let _entered = meter.enter();
            (0..mix(i as u64) % 2_000).fold(i, |x, _| std::hint::black_box(x))
        }
    };
    run(kind, 5, bound, Box::new(source), f, |workers, stage| {
        let setter = std::thread::spawn({
            let done = Arc::clone(&done);
            move || {
                for width in random(9, CHANGES) {
                    workers.set(width);
                }
                workers.set(3);
                done.store(true, SeqCst);
            }
        });
        let mut all = Vec::new();
        for i in stage {
            all.push(i);
            if let Some(bound) = bound {
                let beyond = pulls.load(SeqCst) - all.len();
                assert!(beyond <= bound, "{beyond} beyond the yielded, at {kind:?}");
            }
        }
        setter.join().unwrap();
        if !kind.has_order() {
            all.sort_unstable();
        }
        assert_eq!(all.len(), pulls.load(SeqCst));
        assert!(all.iter().copied().eq(0..all.len()));
        assert!(meter.most() <= 9, "{} at once", meter.most());
    });
}

#[test]
fn the_width_before_the_start_is_that_of_the_start() {
    for kind in KINDS {
        for n in [1, 2, 9, 1_000] {
            within(SOON, move || {
                let meter = Meter::new();
                let meet = {
                    let meter = meter.clone();
                    move |i| {
                        meter.meet(n);
                        i
                    }
                };
                run(kind, 3, None, Box::new(0..n), meet, |workers, stage| {
                    assert_eq!(workers.get(), 3);
                    workers.clone().set(n);
                    assert_eq!(stage.count(), n);
                    assert_eq!((meter.most(), workers.get()), (n, n));
                });
            });
        }
    }
}

#[test]
fn after_the_end_nothing_happens() {
    for kind in KINDS {
        within(SOON, move || {
            let mut kept = None;
            run(
                kind,
                2,
                None,
                Box::new(0..9),
                |i| i,
                |workers, stage| {
                    assert_eq!(stage.count(), 9);
                    assert_quiescent();
                    workers.set(7);
                    assert_eq!(workers.get(), 2);
                    kept = Some(workers);
                },
            );
            let workers = kept.expect("it has run");
            workers.set(8);
            assert_eq!(workers.get(), 2);
            assert_quiescent();
        });
    }
}

#[test]
fn a_stage_that_never_starts_leaves_its_handle_alone() {
    let mut stage = (0..9).par_map_ordered(2, |i| i);
    let workers = stage.workers_handle();
    drop(stage);
    workers.set(5);
    assert_eq!(workers.get(), 5);
}

#[test]
fn two_handles_are_the_same() {
    let mut stage = (0..9).par_map_ordered(2, |i| i);
    let (one, other) = (stage.workers_handle(), stage.workers_handle());
    one.set(4);
    assert_eq!(other.get(), 4);
    assert_eq!(stage.count(), 9);
}

#[test]
fn bad_calls_panic() {
    let mut stage = (0..9).par_map_ordered(2, |i| i);
    let workers = stage.workers_handle();
    let why = message(|| workers.set(0));
    assert!(why.contains("at least 1"), "{why}");
    assert_eq!(workers.get(), 2);
    assert_eq!(stage.next(), Some(0));
    let why = message(|| workers.set(0));
    assert!(why.contains("at least 1"), "{why}");
    let why = message(|| stage.workers_handle());
    assert!(why.contains("first `next()`"), "{why}");
    assert_eq!(stage.count(), 8);
}

/// It takes no lock that is held while the user's code runs.
#[test]
fn closures_and_the_source_may_set_it() {
    for kind in KINDS {
        within(SOON, move || {
            let place = Arc::new(Mutex::new(None::<WorkersHandle>));
            let set = |place: &Arc<Mutex<Option<WorkersHandle>>>| {
                let place = Arc::clone(place);
                move |i: usize| {
                    let workers = place.lock().unwrap().clone();
                    workers.expect("set").set(1 + mix(i as u64) as usize % 9);
                    i
                }
            };
            let source = (0..2_000).map(set(&place));
            run(
                kind,
                2,
                None,
                Box::new(source),
                set(&place),
                |workers, stage| {
                    *place.lock().unwrap() = Some(workers);
                    let mut all: Vec<_> = stage.collect();
                    if !kind.has_order() {
                        all.sort_unstable();
                    }
                    assert!(all.into_iter().eq(0..2_000));
                },
            );
        });
    }
}

/// A source that blocks keeps no permit from a stage that has become narrow: one worker is in the source, the other one
/// in the first item, and then only one is left.
#[test]
fn a_blocked_source_holds_up_nothing_after_a_shrink() {
    for kind in [Ordered, Unordered, Stateful, Keyed] {
        for (n, to) in [(2, 1), (3, 1), (3, 2), (9, 1)] {
            within(SOON, move || {
                let (started, pulls) = (Counter::new(), Counter::new());
                let (first, end) = (Gate::new(), Gate::new());
                let source = counted(0..8, &pulls).chain(blocks(&end));
                let f = {
                    let (started, first) = (started.clone(), first.clone());
                    move |i| {
                        started.add();
                        if i == 0 {
                            first.wait();
                        }
                        i
                    }
                };
                run(kind, n, None, Box::new(source), f, |workers, stage| {
                    let _opener = (first.opener(), end.opener());
                    let setter = std::thread::spawn({
                        let first = first.clone();
                        move || {
                            // The others have run what there is, and one of them is in the source.
                            started.wait_for(8);
                            settle();
                            workers.set(to);
                            first.open();
                        }
                    });
                    let mut all: Vec<_> = stage.take(8).collect();
                    setter.join().unwrap();
                    all.sort_unstable();
                    assert!(all.into_iter().eq(0..8));
                    end.open();
                });
            });
        }
    }
}

/// While a thread sets the width all the time.
fn hammered<T>(workers: &WorkersHandle, f: impl FnOnce() -> T) -> T {
    let done = Arc::new(AtomicBool::new(false));
    let setter = std::thread::spawn({
        let (workers, done) = (workers.clone(), Arc::clone(&done));
        move || {
            for i in 0.. {
                workers.set(1 + mix(i) as usize % 9);
                if done.load(SeqCst) {
                    break;
                }
            }
        }
    });
    let value = f();
    done.store(true, SeqCst);
    setter.join().unwrap();
    value
}

#[test]
fn it_is_dropped_and_cancelled_meanwhile() {
    within(3 * SOON, || {
        for round in 0..300 {
            let (ledger, token) = (Ledger::new(), CancelToken::new());
            let source = {
                let ledger = ledger.clone();
                (0..).map(move |i| ledger.track(i))
            };
            let mut stage = source
                .par_map_ordered(1 + round % 9, |item| item)
                .cancel_on(&token);
            let workers = stage.workers_handle();
            hammered(&workers, || {
                assert_eq!(stage.by_ref().take(round).count(), round);
                if round % 2 == 0 {
                    token.cancel();
                    stage.by_ref().for_each(drop);
                }
                drop(stage);
                assert_quiescent();
            });
            ledger.assert_dropped_once();
        }
    });
}

#[test]
fn a_failure_ends_it_meanwhile() {
    within(3 * SOON, || {
        for round in 0..100 {
            let mut stage = (0..).try_par_map_ordered(3, |i| if i < 500 { Ok(i) } else { Err(i) });
            let workers = stage.workers_handle();
            let all: Result<Vec<_>, _> = hammered(&workers, || stage.collect());
            assert_eq!(all, Err(500), "round {round}");
            assert_quiescent();
        }
    });
}

/// The handle outlives what the stage borrows.
#[test]
fn a_stage_that_borrows_may_be_forgotten_in_its_scope() {
    within(SOON, || {
        for forgotten in [false, true] {
            let words: Vec<_> = (0..100).map(|i| i.to_string()).collect();
            let workers = fanfold::scope(|s| {
                let mut stage = words.iter().par_map_ordered(2, |word| word.len());
                let workers = stage.workers_handle();
                let mut stage = stage.within(s);
                assert_eq!(stage.next(), Some(1));
                workers.set(5);
                assert_eq!(stage.next(), Some(1));
                if forgotten {
                    std::mem::forget(stage);
                }
                workers
            });
            drop(words);
            workers.set(9);
            assert_eq!(workers.get(), 5);
            assert_quiescent();
        }
    });
}

/// A pool that has no thread for it: the consumer does the work, and wider is no wider.
#[test]
fn a_pool_that_is_at_its_limit_refuses_the_growth() {
    within(SOON, || {
        for most in [1, 2] {
            let pool = Pool::builder().max_threads(most).build();
            let meter = Meter::new();
            let mut stage = (0..200)
                .par_map_ordered(1, {
                    let meter = meter.clone();
                    move |i| {
                        let _entered = meter.enter();
                        i
                    }
                })
                .on(&pool);
            let workers = stage.workers_handle();
            let all: Vec<_> = hammered(&workers, || stage.collect());
            assert!(all.into_iter().eq(0..200));
            assert!(meter.most() <= most, "{} on {most}", meter.most());
        }
    });
}

/// Threads that are too many sleep, and run again when they are wanted: a stage that changes leases no more than it is
/// wide, and one more for a source that blocks.
#[test]
fn threads_are_used_again() {
    within(SOON, || {
        let pool = Pool::builder().build();
        let mut stage = (0..).par_map_ordered(4, |i: usize| i).on(&pool);
        let workers = stage.workers_handle();
        let mut last = VecDeque::new();
        for i in 0..2_000 {
            workers.set(if i % 2 == 0 { 1 } else { 4 });
            last.extend(stage.next());
        }
        assert!(last.into_iter().eq(0..2_000));
        assert!(pool.threads() <= 5, "{} threads", pool.threads());
        drop(stage);
        eventually("the threads are back", || pool.threads() <= 5);
    });
}

/// The times add up, whatever the width was.
#[test]
fn the_statistics_follow() {
    within(SOON, || {
        let gate = Gate::new();
        let mut stage = (0..100).par_map_ordered(2, {
            let gate = gate.clone();
            move |i| {
                if i == 0 {
                    gate.wait();
                }
                i
            }
        });
        let (stats, workers) = (stage.stats(), stage.workers_handle());
        let _opener = gate.opener();
        let sum = |now: &fanfold::stats::Snapshot| {
            now.time.run + now.time.source + now.time.room + now.time.spare
        };
        let consumer = std::thread::spawn(move || stage.count());
        eventually("it runs", || stats.snapshot().peak_running > 0);
        let before = stats.snapshot();
        assert_eq!(sum(&before), before.elapsed * 2);
        workers.set(7);
        let after = stats.snapshot();
        assert_eq!(after.width, 7);
        settle();
        let later = stats.snapshot();
        // What was 7 wide from then on adds up to 7 times as much.
        let rest = later.elapsed.saturating_sub(after.elapsed) * 7;
        assert_eq!(sum(&later), sum(&after) + rest);
        workers.set(1);
        assert_eq!(stats.snapshot().width, 1);
        assert!(sum(&later) > later.elapsed * 2 && sum(&later) < later.elapsed * 7);
        gate.open();
        assert_eq!(consumer.join().unwrap(), 100);
    });
}
