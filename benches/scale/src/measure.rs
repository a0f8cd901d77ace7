//! The primitive costs that the engine pays, measured on this machine: wall times as the least of several short
//! runs, CPU times as their median. All of them together take about twenty seconds.

mod items;

use crate::os;
use crossbeam_utils::CachePadded;
use crossbeam_utils::sync::Parker;
use std::hint::{black_box, spin_loop};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub use items::{source, spin, steps_of_100_nanos};

/// How often the engine tries to get into the source before it gives up, and how often it offers its core
/// meanwhile (`SPINS` and `TURNS` in `src/ordered/puller.rs`).
const TRIES: u32 = 200;
/// After so many tries it offers its core.
const TURNS: u32 = 50;

/// Measures everything and prints a table.
pub fn all() {
    os::register_heavy_barrier();
    let lock = Mutex::new(0_u64);
    let (parks, barriers) = (runs(park), runs(|| barrier(true)));
    let naps = runs(naps);
    let mut rows = vec![
        ("`Instant::now`", clock()),
        (
            "`sched_yield`, no other thread wants the core",
            each(200_000, std::thread::yield_now),
        ),
        (
            "lock and unlock of `std::sync::Mutex`, uncontended",
            each(1_000_000, || *lock.lock().expect("no panic") += 1),
        ),
        ("200 tries for a lock that is taken", tries(&lock)),
        ("a cache line from one core to the other", least(line)),
        (
            "a look at a line that another core has written, one of 256",
            least(scan),
        ),
        (
            "a section of a lock that two threads want all the time",
            least(contended),
        ),
        (
            "from `unpark` until the other thread runs",
            first(&parks, 0),
        ),
        (
            "`unpark` of a thread that sleeps, to the waker",
            first(&parks, 1),
        ),
        (
            "`membarrier`, no other thread runs",
            least(|| barrier(false)[0]),
        ),
        (
            "`membarrier`, the other core runs a thread",
            first(&barriers, 0),
        ),
        (
            "the same, to the thread that it interrupts",
            column(&barriers, 1),
        ),
        (
            "a nap of 1 ms that ends, to the thread that worked there",
            column(&naps, 0),
        ),
        ("the same, to the thread that napped", column(&naps, 1)),
        ("how much later than asked for it ends", first(&naps, 2)),
    ];
    items::measure(&mut rows);
    println!("| what | ns |\n| --- | --- |");
    for (what, nanos) in rows {
        println!("| {what} | {nanos:.1} |");
    }
}

/// Five runs.
fn runs<const N: usize>(run: impl FnMut() -> [f64; N]) -> Vec<[f64; N]> {
    std::iter::repeat_with(run).take(5).collect()
}

/// The least of five runs, for wall time: another program on the machine only adds to it.
fn least(run: impl FnMut() -> f64) -> f64 {
    let all = std::iter::repeat_with(run).take(5);
    all.fold(f64::INFINITY, f64::min)
}

/// The least of a column.
fn first<const N: usize>(rows: &[[f64; N]], at: usize) -> f64 {
    rows.iter().map(|row| row[at]).fold(f64::INFINITY, f64::min)
}

/// A reading of the clock.
fn clock() -> f64 {
    each(1_000_000, || _ = black_box(Instant::now()))
}

/// The median.
pub fn middle(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

/// The median of a column.
fn column<const N: usize>(rows: &[[f64; N]], at: usize) -> f64 {
    middle(rows.iter().map(|row| row[at]).collect())
}

/// Nanoseconds of one call.
fn each(calls: u32, mut call: impl FnMut()) -> f64 {
    least(|| {
        let began = Instant::now();
        for _ in 0..calls {
            call();
        }
        began.elapsed().as_nanos() as f64 / f64::from(calls)
    })
}

/// What it takes a worker to find the source taken, as `OrderedStage::visit` does.
fn tries(lock: &Mutex<u64>) -> f64 {
    let _held = lock.lock().expect("no panic");
    each(100, || {
        for turn in 1..=TRIES {
            if turn % TURNS == 0 {
                std::thread::yield_now();
            }
            spin_loop();
            black_box(lock.try_lock().is_err());
        }
    })
}

/// One way of a line that two cores write in turn.
fn line() -> f64 {
    const TURNS: u64 = 200_000;
    let word = CachePadded::new(AtomicU64::new(0));
    let play = |first: u64| {
        for turn in (first..TURNS).step_by(2) {
            while word.load(Ordering::Acquire) != turn {
                spin_loop();
            }
            word.store(turn + 1, Ordering::Release);
        }
    };
    let began = Instant::now();
    std::thread::scope(|s| {
        s.spawn(|| play(1));
        play(0);
    });
    began.elapsed().as_nanos() as f64 / TURNS as f64
}

/// A short section that two threads want all the time: what it costs when the lock changes hands.
fn contended() -> f64 {
    const SECTIONS: u64 = 200_000;
    let lock = CachePadded::new(Mutex::new(0_u64));
    let work = || {
        for _ in 0..SECTIONS {
            *lock.lock().expect("no panic") += 1;
            (0..8).for_each(|_| spin_loop());
        }
    };
    let began = Instant::now();
    std::thread::scope(|s| {
        s.spawn(work);
        work();
    });
    began.elapsed().as_nanos() as f64 / (2 * SECTIONS) as f64
}

/// Two threads on two cores that wake one another in turn: one way, and the call of the waker.
fn park() -> [f64; 2] {
    const TURNS: u32 = 5_000;
    let (here, there) = (Parker::new(), Parker::new());
    let (to_here, to_there) = (here.unparker().clone(), there.unparker().clone());
    std::thread::scope(|s| {
        s.spawn(move || {
            os::pin(1);
            for _ in 0..TURNS {
                there.park();
                to_here.unpark();
            }
        });
        let waker = s.spawn(move || {
            os::pin(0);
            let (mut calls, began) = (Duration::ZERO, Instant::now());
            for _ in 0..TURNS {
                let before = Instant::now();
                to_there.unpark();
                calls += before.elapsed();
                here.park();
            }
            let turns = f64::from(TURNS);
            let [way, calls] = [began.elapsed() / 2, calls].map(|time| time.as_nanos() as f64);
            [way / turns, calls / turns]
        });
        waker.join().expect("no panic")
    })
}

/// A call of the heavy barrier, and the CPU time that it costs a thread that works on the other core.
fn barrier(beside: bool) -> [f64; 2] {
    const CALLS: u32 = 4_000;
    const WORK: u64 = 400_000;
    let (stop, ready) = (AtomicBool::new(false), AtomicBool::new(!beside));
    // The CPU time of some work, while the barrier is passed or not.
    let work = |stop: &AtomicBool| {
        let (mut steps, before) = (0_u64, os::thread_cpu());
        ready.store(true, Ordering::Relaxed);
        while !stop.load(Ordering::Relaxed) {
            black_box(spin(WORK / 100, 1));
            steps += 1;
        }
        (os::thread_cpu() - before).as_nanos() as f64 / steps as f64
    };
    let (call, worked) = std::thread::scope(|s| {
        let other = beside.then(|| s.spawn(|| work(&stop)));
        while !ready.load(Ordering::Relaxed) {
            std::thread::yield_now();
        }
        let mut times = Vec::new();
        for _ in 0..CALLS {
            let began = Instant::now();
            os::heavy_barrier();
            times.push(began.elapsed().as_nanos() as f64);
            black_box(spin(10_000, 1)); // far apart, as in a stage
        }
        stop.store(true, Ordering::Relaxed);
        let worked = other.map_or(0.0, |other| other.join().expect("no panic"));
        (middle(times), worked)
    });
    let between = each(1_000, || _ = black_box(spin(10_000, 1)));
    let piece = each(1_000, || _ = black_box(spin(WORK / 100, 1)));
    // So much longer takes what the other thread does between two calls.
    [call, (worked - piece) * (between + call) / worked.max(1.0)]
}

/// Two threads work on two cores while a third naps for 1 ms at a time: the CPU time that a nap takes from
/// the workers and from the napper, and how late it ends.
fn naps() -> [f64; 3] {
    const NAP: Duration = Duration::from_millis(1);
    let work = || {
        let before = os::process_cpu();
        std::thread::scope(|s| {
            let half = || _ = black_box(spin(black_box(60_000_000), 1));
            s.spawn(half);
            s.spawn(half);
        });
        (os::process_cpu() - before).as_nanos() as f64
    };
    let quiet = work();
    let stop = AtomicBool::new(false);
    let (all, naps, cpu, late) = std::thread::scope(|s| {
        let napper = s.spawn(|| {
            let before = os::thread_cpu();
            let (parker, mut naps, mut late) = (Parker::new(), 0_u32, Duration::ZERO);
            while !stop.load(Ordering::Relaxed) {
                let began = Instant::now();
                parker.park_timeout(NAP);
                late += began.elapsed().saturating_sub(NAP);
                naps += 1;
            }
            (naps, os::thread_cpu() - before, late)
        });
        let all = work();
        stop.store(true, Ordering::Relaxed);
        let (naps, cpu, late) = napper.join().expect("no panic");
        let [cpu, late] = [cpu, late].map(|time| time.as_nanos() as f64);
        (all, f64::from(naps), cpu, late)
    });
    [(all - cpu - quiet) / naps, cpu / naps, late / naps]
}

/// A look at counters that another core has just written, one line each, for one of them: the lines come
/// side by side, as no load has to wait for another.
fn scan() -> f64 {
    const LINES: usize = 256;
    const ROUNDS: u64 = 2_000;
    let lines: Vec<CachePadded<AtomicU64>> = (0..LINES).map(|_| CachePadded::default()).collect();
    let turn = CachePadded::new(AtomicU64::new(0));
    let wait = |for_turn: u64| {
        while turn.load(Ordering::Acquire) != for_turn {
            spin_loop();
        }
    };
    let mut times = Vec::new();
    std::thread::scope(|s| {
        s.spawn(|| {
            for round in 0..ROUNDS {
                wait(2 * round);
                for line in &lines {
                    line.store(round, Ordering::Relaxed);
                }
                turn.store(2 * round + 1, Ordering::Release);
            }
        });
        for round in 0..ROUNDS {
            wait(2 * round + 1);
            let began = Instant::now();
            black_box(lines.iter().map(|line| line.load(Ordering::Relaxed)).max());
            times.push(began.elapsed().as_nanos() as f64 / LINES as f64);
            turn.store(2 * round + 2, Ordering::Release);
        }
    });
    middle(times)
}
