//! The handshakes as users run them, on the real machine: the light barriers are no
//! instruction at all, and the heavy one is the kernel's. Loom knows only fences; here two cores race
//! over many small copies of the same parts, both at the same copy at the same time, and no outcome may be
//! one that the protocol rules out. Without the heavy barrier such outcomes occur, unless this machine
//! cannot show them: each litmus test also runs without it and must see one.
//!
//! The names and the parts are those of `models.rs`.

use crate::error::Cancelled;
use crate::ordered::chunk::{self, Chunk, ChunkExecutor, Claim, LockProof, StealAmount};
use crate::ordered::signals::lone;
use crate::runtime::barrier::{Light, heavy, prepare};
use crate::runtime::biased::{self, Visit};
use crate::sync::{Arc, AtomicU64, AtomicUsize, Mutex, Ordering, planted, spawn};
use crossbeam_utils::CachePadded;
use std::hint::spin_loop;
use std::time::{Duration, Instant};

/// How many copies of the parts there are at once.
const COPIES: usize = 256;
/// How long each litmus runs with the barrier, without a wrong outcome; `FANFOLD_LITMUS=60` makes it a minute.
const TIME: Duration = Duration::from_millis(300);
/// A machine that has not shown the missing barrier by then cannot show it: its two cores may really be
/// one. With `FANFOLD_LITMUS` that is a failure; otherwise it is only reported.
const LIMIT: Duration = Duration::from_secs(30);

/// How far the two threads are. Each waits for the other before the next copy, but not for long: the
/// other may have been preempted.
struct Abreast([CachePadded<AtomicUsize>; 2]);

impl Abreast {
    fn meet(&self, side: usize, at: usize) {
        self.0[side].store(at, Ordering::Relaxed);
        for _ in 0..2_000 {
            if self.0[1 - side].load(Ordering::Relaxed) >= at {
                break;
            }
            spin_loop();
        }
        // Each is a little late in turn.
        for _ in 0..(at * 7 + side * 3) % 11 {
            spin_loop();
        }
    }

    fn run_all<R>(&self, side: usize, runs: Vec<impl FnOnce() -> R>) -> Vec<R> {
        let mut outcomes = Vec::with_capacity(runs.len());
        for (at, run) in runs.into_iter().enumerate() {
            self.meet(side, at + 1);
            outcomes.push(run());
        }
        self.0[side].store(usize::MAX, Ordering::Relaxed);
        outcomes
    }
}

/// One round over all copies; returns how many outcomes are wrong.
fn round<A, B, L, R>(
    bug: Option<&'static str>,
    make: impl Fn() -> (L, R),
    right: impl Fn(A, B) -> bool,
) -> usize
where
    L: FnOnce() -> A + Send + 'static,
    R: FnOnce() -> B,
    A: Send + 'static,
{
    let (lefts, rights): (Vec<_>, Vec<_>) = (0..COPIES).map(|_| make()).unzip();
    let abreast = Arc::new(Abreast(
        [0, 0].map(|at| CachePadded::new(AtomicUsize::new(at))),
    ));
    let outcomes = Arc::new(Mutex::new(Vec::new()));
    let other = spawn("litmus", None, {
        let (abreast, outcomes) = (Arc::clone(&abreast), Arc::clone(&outcomes));
        move || {
            planted(bug);
            *outcomes.lock() = abreast.run_all(0, lefts);
        }
    });
    planted(bug);
    let here = abreast.run_all(1, rights);
    planted(None);
    other.expect("a thread").join().expect("no panic");
    let there = std::mem::take(&mut *outcomes.lock());
    let wrong = |(a, b)| usize::from(!right(a, b));
    there.into_iter().zip(here).map(wrong).sum()
}

/// The left side has the light barrier, the right side the heavy one.
fn litmus<A, B, L, R>(make: impl Fn() -> (L, R), right: impl Fn(A, B) -> bool)
where
    L: FnOnce() -> A + Send + 'static,
    R: FnOnce() -> B,
    A: Send + 'static,
{
    prepare();
    if crate::sync::cores() < 2 {
        eprintln!("skipped: with one core nothing is out of order");
        return;
    }
    let named = std::env::var("FANFOLD_LITMUS").ok();
    let named = named.map(|seconds| {
        let seconds = seconds.parse().expect("FANFOLD_LITMUS is in seconds");
        Duration::from_secs(seconds)
    });
    let began = Instant::now();
    let mut rounds = 1;
    while round(Some("no_heavy_barrier"), &make, &right) == 0 {
        rounds += 1;
        if began.elapsed() > LIMIT {
            assert!(named.is_none(), "not seen in {rounds} rounds");
            eprintln!("nothing is proved: without the barrier right in {rounds} rounds");
            return;
        }
    }
    let time = named.unwrap_or(TIME);
    let (began, mut all) = (Instant::now(), 0);
    while began.elapsed() < time {
        assert_eq!(round(None, &make, &right), 0, "in round {all}");
        all += 1;
    }
    eprintln!("without the barrier: wrong in round {rounds}; with it: right in {all} rounds");
}

/// Only the barriers.
#[test]
#[ignore = "takes both cores: ci/litmus.sh"]
fn litmus_store_and_load() {
    let make = || {
        let words = Arc::new([0, 0].map(|word| CachePadded::new(AtomicU64::new(word))));
        let theirs = Arc::clone(&words);
        let light = move || {
            theirs[0].store(1, Ordering::Relaxed);
            Light::new().pass();
            theirs[1].load(Ordering::Relaxed)
        };
        let heavy = move || {
            words[1].store(1, Ordering::Relaxed);
            heavy();
            words[0].load(Ordering::Relaxed)
        };
        (light, heavy)
    };
    litmus(make, |a, b| a + b > 0);
}

#[test]
#[ignore = "takes both cores: ci/litmus.sh"]
fn litmus_publish_and_sleep() {
    let make = || {
        let (signals, _parker) = lone();
        let (mut owning, mut taking) = chunk::filled(1, &mut LockProof::new());
        let worker = {
            let signals = Arc::clone(&signals);
            move || {
                let (mut cursor, _) = owning.cursor();
                cursor.take();
                let _ = cursor.publish(());
                (signals.is_alarmed(1), owning)
            }
        };
        let consumer = move || {
            signals.sleep_for(0);
            (taking.is_ready(), taking)
        };
        (worker, consumer)
    };
    litmus(make, |(alarmed, _), (ready, _)| alarmed || ready);
}

#[test]
#[ignore = "takes both cores: ci/litmus.sh"]
fn litmus_cancel_and_start() {
    let make = || {
        let (signals, _parker) = lone();
        let (mut owning, taking) = chunk::filled(1, &mut LockProof::new());
        let worker = {
            let signals = Arc::clone(&signals);
            move || {
                owning.start();
                (signals.cut() > 0, owning)
            }
        };
        // Another thread got no further.
        let consumer = move || {
            signals.say_cancelled(Cancelled::default());
            let cut_off = signals.is_cut_off();
            (
                cut_off && !taking.is_next_claimed(&mut LockProof::new()),
                taking,
            )
        };
        (worker, consumer)
    };
    litmus(make, |(started, _), (lost, _)| !(started && lost));
}

#[test]
#[ignore = "takes both cores: ci/litmus.sh"]
fn litmus_claim_and_steal() {
    /// Runs what is left of a chunk, as a worker does; the rest is settled later.
    fn run_all(owning: &mut ChunkExecutor<usize, ()>) -> Vec<usize> {
        let mut ran = Vec::with_capacity(4);
        loop {
            let (mut cursor, _) = owning.cursor();
            ran.push(cursor.take());
            if cursor.publish(()) == Claim::Contested {
                return ran;
            }
        }
    }
    let make = || {
        let key = Arc::new(Mutex::new(LockProof::new()));
        let (mut owning, taking) = chunk::filled(3, &mut LockProof::new());
        let (victim, fresh) = (Arc::clone(owning.chunk()), Arc::new(Chunk::new(false)));
        let owner = {
            let key = Arc::clone(&key);
            move || {
                owning.start();
                let mut ran = run_all(&mut owning);
                while owning.settle(&mut key.lock()) {
                    ran.extend(run_all(&mut owning));
                }
                ran
            }
        };
        let thief = move || {
            let stolen = chunk::split(&victim, fresh, StealAmount::Rest, &mut key.lock());
            let first = stolen.as_ref().map(|(chunk, _)| chunk.first());
            (first.ok(), stolen.ok(), taking)
        };
        (owner, thief)
    };
    // The owner ran exactly what the thief left.
    litmus(make, |ran, (stolen, ..)| {
        ran.len() as u64 == stolen.unwrap_or(3)
    });
}

#[test]
#[ignore = "takes both cores: ci/litmus.sh"]
fn litmus_fill_and_seal() {
    let make = || {
        let (mut filling, _) = chunk::open::<usize, ()>(Arc::new(Chunk::new(false)), 0, 2);
        assert!(filling.cursor().push(0));
        let open = Arc::clone(filling.chunk());
        let puller = move || (filling.cursor().push(1), filling);
        let rescuer =
            move || chunk::seal(&open, &mut LockProof::new()).map(|chunk| (chunk.len(), chunk));
        (puller, rescuer)
    };
    // Either the rescuer saw the item, or the puller saw the seal.
    litmus(make, |(open, _), sealed| {
        !open || sealed.is_some_and(|(len, _)| len == 2)
    });
}

#[test]
#[ignore = "takes both cores: ci/litmus.sh"]
fn litmus_yield_and_room() {
    let make = || {
        let (signals, _parker) = lone();
        let consumer = {
            let signals = Arc::clone(&signals);
            move || signals.set_yielded(1, Light::new())
        };
        let puller = move || {
            signals.wait_for_room(1);
            signals.yielded() >= 1
        };
        (consumer, puller)
    };
    litmus(make, |asked, room| asked || room);
}

#[test]
#[ignore = "takes both cores: ci/litmus.sh"]
fn litmus_pull_and_starve() {
    let make = || {
        let (signals, _parker) = lone();
        let (mut filling, _) = chunk::open::<usize, ()>(Arc::new(Chunk::new(false)), 0, 2);
        let open = Arc::clone(filling.chunk());
        let puller = {
            let signals = Arc::clone(&signals);
            move || {
                let _ = filling.cursor().push(0);
                (signals.is_pull_over(0), filling)
            }
        };
        let consumer = move || {
            signals.sleep_for(0);
            open.pulled() > 0
        };
        (puller, consumer)
    };
    litmus(make, |(starving, _), seen| starving || seen);
}

#[test]
#[ignore = "takes both cores: ci/litmus.sh"]
fn litmus_pull_and_unwatch() {
    let make = || {
        let (mut filling, _) = chunk::open::<usize, ()>(Arc::new(Chunk::new(false)), 0, 2);
        let open = Arc::clone(filling.chunk());
        let puller = move || (filling.cursor().push(0), filling);
        let watcher = move || {
            open.set_watched(false, &mut LockProof::new());
            heavy();
            open.pulled() > 0
        };
        (puller, watcher)
    };
    litmus(make, |(watched, _), seen| !watched || seen);
}

#[test]
#[ignore = "takes both cores: ci/litmus.sh"]
fn litmus_visit_and_revoke() {
    prepare();
    let Some(free) = Light::new().free() else {
        eprintln!("skipped: here the light barrier is a fence, and no source is lent");
        return;
    };
    let make = || {
        let (revoker, mut cursor) = biased::lend(7_u64, 0, free);
        let words = Arc::clone(revoker.words());
        let borrower = move || {
            (
                cursor.visits().visit(1, |value| Some(*value)) != Visit::Called,
                cursor,
            )
        };
        let lender = move || {
            let revoked = revoker.revoke();
            (revoked.is_ok(), words.seen().0)
        };
        (borrower, lender)
    };
    // The thread that revoked it sees every visit there will ever be.
    litmus(make, |(visited, _), (revoked, visits)| {
        !(revoked && visited) || visits == 1
    });
}
