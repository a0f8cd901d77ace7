//! Loom models of the handshakes, each on the real parts and as small as it can be. Run by
//! `ci/loom.sh`. Under loom both barriers are `fence(SeqCst)`; `FANFOLD_BUG=..` plants a
//! bug that the models must catch (`ci/loom.sh` checks that they do).

use crate::error::Cancelled;
use crate::ordered::attempts::{Attempts, OwnerFailure};
use crate::ordered::chunk::{self, Chunk, ChunkExecutor, Claim, LockProof, Special, StealAmount};
use crate::ordered::core::Core;
use crate::ordered::own::OwnChunk;
use crate::ordered::parked::Parked;
use crate::ordered::permits::WidthPermit;
use crate::ordered::signals::{ANY, lone};
use crate::runtime::barrier::{Light, heavy};
use crate::runtime::biased::{self, Visit};
use crate::runtime::life::Scheduler;
use crate::runtime::meter::MeterSlot;
use crate::runtime::roster::Wake;
use crate::sync::{Arc, AtomicUsize, Mutex, MutexGuard, Ordering, Parker};
use loom::thread;

type Item = usize;

fn model(f: impl Fn() + Sync + Send + 'static) {
    loom::model(f);
}

/// How often each item has been run.
struct Ran([AtomicUsize; 3]);

impl Ran {
    fn new() -> Arc<Self> {
        Arc::new(Ran([0; 3].map(AtomicUsize::new)))
    }

    /// Runs what is left of a chunk, as a worker does.
    fn run_all(&self, mut owning: ChunkExecutor<Item, ()>, key: &Mutex<LockProof>) {
        owning.start();
        loop {
            let (mut cursor, _) = owning.cursor();
            let item = cursor.take();
            self.0[item].fetch_add(1, Ordering::Relaxed);
            if cursor.publish(()) == Claim::Contested && !owning.settle(&mut key.lock()) {
                return;
            }
        }
    }

    fn assert_once(&self, items: usize) {
        for ran in &self.0[..items] {
            assert_eq!(ran.load(Ordering::Relaxed), 1);
        }
    }
}

/// Publish / sleep: a consumer that announces what it sleeps for, and looks once more, is woken.
#[test]
fn loom_publish_and_sleep() {
    model(|| {
        let (signals, parker) = lone();
        let (mut owning, mut taking) = chunk::filled(2, &mut LockProof::new());
        let worker = thread::spawn({
            let signals = Arc::clone(&signals);
            move || {
                let (mut cursor, _) = owning.cursor();
                for seq in 0..2 {
                    cursor.take();
                    let _ = cursor.publish(());
                    if signals.is_alarmed(seq + 1) {
                        signals.published(seq);
                    }
                }
            }
        });
        for seq in 0..2 {
            while !taking.is_ready() {
                signals.sleep_for(seq);
                if taking.is_ready() {
                    signals.awake();
                } else {
                    parker.park();
                    signals.awake();
                }
            }
            taking.take();
        }
        worker.join().expect("no panic");
    });
}

/// Claim / steal: every item is run exactly once, by its owner or by the thief.
#[test]
fn loom_claim_and_steal() {
    model(|| {
        let ran = Ran::new();
        let key = Arc::new(Mutex::new(LockProof::new()));
        let (owning, _taking) = chunk::filled(3, &mut key.lock());
        let victim = Arc::clone(owning.chunk());
        let owner = thread::spawn({
            let (ran, key) = (Arc::clone(&ran), Arc::clone(&key));
            move || ran.run_all(owning, &key)
        });
        let stolen = chunk::split(
            &victim,
            Arc::new(Chunk::new(false)),
            StealAmount::Half,
            &mut key.lock(),
        );
        if let Ok((stolen, _taking)) = stolen {
            ran.run_all(stolen, &key);
        }
        owner.join().expect("no panic");
        ran.assert_once(3);
    });
}

/// Run / give up: an item's place is written once, by its owner or by the consumer that gave it up, and
/// the rest of the chunk is run once, by its owner or by the thread that got it.
#[test]
fn loom_run_and_give_up() {
    model(|| {
        let ran = Ran::new();
        let key = Arc::new(Mutex::new(LockProof::new()));
        let (mut owning, mut taking) = chunk::filled(2, &mut key.lock());
        let owner = thread::spawn({
            let (ran, key) = (Arc::clone(&ran), Arc::clone(&key));
            move || {
                owning.start();
                for clock in 1.. {
                    let (mut cursor, _) = owning.cursor();
                    let item = cursor.take();
                    owning.clock_in(clock);
                    ran.0[item].fetch_add(1, Ordering::Relaxed);
                    if !owning.clock_out(clock) {
                        return;
                    }
                    let claim = owning.cursor().0.publish(());
                    if claim == Claim::Contested && !owning.settle(&mut key.lock()) {
                        return;
                    }
                }
            }
        });
        let mut rest = None;
        let mut given = None;
        if let Some(since) = taking.chunk().since() {
            let mut core = key.lock();
            if let Some(given_up) = taking.chunk().give_up(since, &mut core) {
                let fresh = Arc::new(Chunk::new(false));
                rest = chunk::split(taking.chunk(), fresh, StealAmount::Rest, &mut core).ok();
                given = Some(given_up.seq() as usize);
                given_up.publish(Err(Special::Discarded), &mut core);
            }
        }
        if let Some((rest, _taking)) = rest {
            ran.run_all(rest, &key);
        }
        owner.join().expect("no panic");
        ran.assert_once(2);
        // Each place has been written: the one given up by the consumer, every other by the owner.
        let mut taken = 0;
        while taking.is_ready() {
            let special = taking.take_any().is_err();
            assert_eq!(special, given == Some(taken));
            taken += 1;
        }
        assert_eq!(taken, given.map_or(2, |given| given + 1));
        assert!(taking.is_exhausted(&mut key.lock()));
    });
}

/// Start / arm: a consumer that sleeps without a timer is notified when the item it waits for starts;
/// without an order, when the first item starts.
#[test]
fn loom_start_and_arm() {
    for ordered in [true, false] {
        model(move || {
            let (signals, parker) = lone();
            let workers = if ordered { 1 } else { 2 };
            let (threads, takings): (Vec<_>, Vec<_>) = (0..workers)
                .map(|seq| {
                    let (owning, taking) = chunk::filled(1, &mut LockProof::new());
                    let signals = Arc::clone(&signals);
                    let worker = thread::spawn(move || {
                        owning.clock_in(1);
                        signals.started(seq);
                    });
                    (worker, taking)
                })
                .unzip();
            let armed = || {
                takings
                    .iter()
                    .any(|taking| taking.chunk().since().is_some())
            };
            loop {
                signals.set_untimed(true);
                signals.sleep_for(if ordered { 0 } else { ANY });
                let armed = armed();
                signals.set_untimed(!armed);
                if !armed {
                    parker.park();
                }
                signals.awake();
                if armed {
                    break;
                }
            }
            for thread in threads {
                thread.join().expect("no panic");
            }
        });
    }
}

/// Item / copy: whichever of the two fails or succeeds, and in whichever order, the place is written
/// once: by a success if there is one, otherwise by the item's own failure.
#[test]
fn loom_item_and_copy() {
    for (item_fails, copy_fails) in [(false, false), (false, true), (true, false), (true, true)] {
        model(move || {
            let key = Arc::new(Mutex::new(LockProof::new()));
            let (mut filling, mut taking) =
                chunk::open::<Item, usize>(Arc::new(Chunk::new(false)), 0, 1);
            let _ = filling.cursor().push(0);
            let mut owning = filling.close(&mut key.lock()).expect("no thread seals");
            let chunk = Arc::clone(owning.chunk());
            *chunk.race().lock() = Attempts::begin(1, 0, &Arc::default());
            chunk.race().lock().sent();
            owning.start();
            owning.cursor().0.take();
            owning.clock_in(1);
            let copy = thread::spawn({
                let (chunk, key) = (Arc::clone(&chunk), Arc::clone(&key));
                move || {
                    let what = if copy_fails {
                        chunk.race().lock().copy_failed(1)
                    } else {
                        Some(Ok(2))
                    };
                    if let Some(what) = what {
                        let mut core = key.lock();
                        if let Some(given_up) = chunk.give_up(1, &mut core) {
                            chunk.race().lock().give_up();
                            given_up.publish(what, &mut core);
                        }
                    }
                }
            });
            let mut what = Ok(1);
            let mut left = false;
            if item_fails {
                match chunk.race().lock().failed(Err(Special::Last(1))) {
                    OwnerFailure::Left => left = true,
                    OwnerFailure::Counts(counts) | OwnerFailure::Over(counts) => what = counts,
                }
            }
            if !left && owning.clock_out(1) {
                let mut cursor = owning.cursor().0;
                let _ = match what {
                    Ok(batch) => cursor.publish(batch),
                    Err(special) => cursor.publish_special(special),
                };
            }
            copy.join().expect("no panic");
            assert!(taking.is_ready());
            match taking.take_any() {
                Ok(of) => assert!(!(of == 1 && item_fails || of == 2 && copy_fails)),
                Err(Special::Last(of)) => assert!(item_fails && copy_fails && of == 1),
                Err(special) => panic!("{special:?}"),
            }
            assert!(!taking.is_ready());
        });
    }
}

/// Fill / seal: every item is run exactly once, by the rescuer or by the puller; a thief may steal
/// from the rescuer before the puller settles.
#[test]
fn loom_fill_and_seal() {
    model(|| {
        let ran = Ran::new();
        let key = Arc::new(Mutex::new(LockProof::new()));
        let (mut filling, _taking) = chunk::open::<Item, ()>(Arc::new(Chunk::new(false)), 0, 3);
        let open = Arc::clone(filling.chunk());
        let puller = thread::spawn({
            let (ran, key) = (Arc::clone(&ran), Arc::clone(&key));
            move || {
                let mut pulled = 0;
                while pulled < 3 {
                    pulled += 1;
                    if !filling.cursor().push(pulled - 1) {
                        break;
                    }
                }
                let mut core = key.lock();
                let rest = match filling.close(&mut core) {
                    Ok(owning) => {
                        drop(core);
                        ran.run_all(owning, &key);
                        None
                    }
                    Err(sealed) => sealed.settle(&mut core),
                };
                // Items that the rescuer did not get go into a chunk of their own, and so do those that follow.
                for item in rest.into_iter().chain(pulled..3) {
                    ran.0[item].fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let sealed = chunk::seal(&open, &mut key.lock());
        if let Some(owning) = sealed {
            let stolen = chunk::split(
                &open,
                Arc::new(Chunk::new(false)),
                StealAmount::Rest,
                &mut key.lock(),
            );
            if let Ok((stolen, _taking)) = stolen {
                ran.run_all(stolen, &key);
            }
            ran.run_all(owning, &key);
        }
        puller.join().expect("no panic");
        ran.assert_once(3);
    });
}

/// Yield / wait for room: a puller that asks for room, and looks once more, is woken. The lock is
/// the core's, the flag in it the list of sleepers.
#[test]
fn loom_yield_and_room() {
    model(|| {
        let (signals, _consumer) = lone();
        let asleep = Arc::new(Mutex::new(false));
        let parker = Parker::new();
        let unparker = parker.unparker().clone();
        let puller = thread::spawn({
            let (signals, asleep) = (Arc::clone(&signals), Arc::clone(&asleep));
            move || {
                while signals.yielded() < 1 {
                    signals.wait_for_room(1);
                    if signals.yielded() >= 1 {
                        break;
                    }
                    {
                        let mut asleep = asleep.lock();
                        if signals.yielded() >= 1 || !signals.is_room_wanted() {
                            continue;
                        }
                        *asleep = true;
                    }
                    parker.park();
                }
            }
        });
        for count in 1..=2 {
            if signals.set_yielded(count, Light::new()) {
                signals.room_granted();
                if std::mem::take(&mut *asleep.lock()) {
                    unparker.unpark();
                }
            }
        }
        puller.join().expect("no panic");
    });
}

/// Take / aside: a thread that has put item 1 aside, and looks once more, is woken when that may be started: when it is
/// the head of the line, or when there is room. The lock is the core's, the flag in it the list of sleepers.
#[test]
fn loom_take_and_aside() {
    for ordered in [true, false] {
        model(move || {
            let (signals, _consumer) = lone();
            let parked = Arc::new(Parked::new(1, ordered));
            parked.add(1);
            if ordered {
                parked.add(1); // there will be no room
            }
            let asleep = Arc::new(Mutex::new(false));
            let parker = Parker::new();
            let unparker = parker.unparker().clone();
            let worker = thread::spawn({
                let (signals, parked) = (Arc::clone(&signals), Arc::clone(&parked));
                let asleep = Arc::clone(&asleep);
                move || loop {
                    {
                        let mut asleep = asleep.lock();
                        if parked.may_start(&signals, 1) {
                            return;
                        }
                        parked.ask(1);
                        if parked.may_start(&signals, 1) {
                            return;
                        }
                        *asleep = true;
                    }
                    parker.park();
                }
            });
            parked.take(1);
            let _ = signals.set_yielded(1, Light::new());
            if parked.is_asked(1) {
                let mut asleep = asleep.lock();
                parked.answer();
                if std::mem::take(&mut *asleep) {
                    unparker.unpark();
                }
            }
            worker.join().expect("no panic");
        });
    }
}

/// Pull / starve: a puller that goes back into the source has its item seen by the consumer that
/// goes to sleep, or sees that it is starving.
#[test]
fn loom_pull_and_starve() {
    model(|| {
        let (signals, _parker) = lone();
        let (mut filling, _taking) = chunk::open::<Item, ()>(Arc::new(Chunk::new(false)), 0, 2);
        let open = Arc::clone(filling.chunk());
        let puller = thread::spawn({
            let signals = Arc::clone(&signals);
            move || {
                assert!(filling.cursor().push(0));
                signals.is_pull_over(0)
            }
        });
        signals.sleep_for(0);
        let seen = open.pulled() > 0;
        let starving = puller.join().expect("no panic");
        assert!(seen || starving);
    });
}

/// Pull / watch: the same for a watcher that leaves.
#[test]
fn loom_pull_and_unwatch() {
    model(|| {
        let (mut filling, _taking) = chunk::open::<Item, ()>(Arc::new(Chunk::new(false)), 0, 2);
        let open = Arc::clone(filling.chunk());
        let puller = thread::spawn(move || filling.cursor().push(0));
        // As in `Core::end_watch`.
        open.set_watched(false, &mut LockProof::new());
        heavy();
        let seen = open.pulled() > 0;
        let watched = puller.join().expect("no panic");
        assert!(seen || !watched);
    });
}

/// Cancel / claim: the thread that cancels sees a started item as claimed, so that its result is waited
/// for. The first item of a chunk:
#[test]
fn loom_cancel_and_start() {
    model(|| {
        let (signals, _parker) = lone();
        let (mut owning, taking) = chunk::filled(1, &mut LockProof::new());
        let worker = thread::spawn({
            let signals = Arc::clone(&signals);
            move || {
                owning.start();
                signals.cut() > 0
            }
        });
        signals.cancel(Cancelled::default());
        assert!(signals.is_cut_off());
        let claimed = taking.is_next_claimed(&mut LockProof::new());
        let started = worker.join().expect("no panic");
        assert!(claimed || !started);
    });
}

/// And a later one, of a consumer that has taken those before it: as long as the chunk is started, it
/// waits; so whatever is published is a result, or says that the item was discarded.
#[test]
fn loom_cancel_and_go_on() {
    model(|| {
        let (signals, parker) = lone();
        let key = Arc::new(Mutex::new(LockProof::new()));
        let (mut owning, mut taking) = chunk::filled(2, &mut key.lock());
        owning.start();
        let worker = thread::spawn({
            let signals = Arc::clone(&signals);
            move || {
                let mut ran = 0;
                for seq in 0..2 {
                    let (mut cursor, _) = owning.cursor();
                    cursor.take();
                    let _ = if signals.cut() <= seq {
                        cursor.publish_special(Special::Discarded)
                    } else {
                        ran += 1;
                        cursor.publish(())
                    };
                    if signals.is_alarmed(seq + 1) {
                        signals.published(seq);
                    }
                }
                ran
            }
        });
        signals.cancel(Cancelled::default());
        let mut taken = 0;
        for seq in 0..2 {
            while !taking.is_ready() {
                assert!(signals.is_cut_off() && taking.is_next_claimed(&mut key.lock()));
                signals.sleep_for(seq);
                if !taking.is_ready() {
                    parker.park();
                }
                signals.awake();
            }
            taken += usize::from(taking.take_any().is_ok());
        }
        assert_eq!(worker.join().expect("no panic"), taken);
    });
}

/// Sleep / fail: a cut that is lowered while the consumer marks itself awake stays in force.
#[test]
fn loom_awake_and_fail() {
    model(|| {
        let (signals, _parker) = lone();
        signals.sleep_for(7);
        let worker = thread::spawn({
            let signals = Arc::clone(&signals);
            move || signals.fail(3)
        });
        signals.awake();
        worker.join().expect("no panic");
        assert!(signals.is_alarmed(4) && !signals.is_alarmed(3));
        assert_eq!(signals.cut(), 4);
    });
}

/// Several workers find the consumer asleep: it is woken, and its flags are clear afterwards.
#[test]
fn loom_two_wakers() {
    model(|| {
        let (signals, parker) = lone();
        let _ = signals.set_yielded(1_000, Light::new()); // past the start, when it always counts as waiting
        signals.sleep_for(ANY);
        let wakers = [0, 1].map(|seq| {
            let signals = Arc::clone(&signals);
            thread::spawn(move || signals.published(seq))
        });
        parker.park();
        signals.awake();
        for waker in wakers {
            waker.join().expect("no panic");
        }
        assert!(!signals.is_consumer_waiting());
    });
}

/// Inline / take over: the borrower and the revoking thread never hold the value at once (loom checks
/// that), it is moved out whole, and the borrower stays out afterwards.
#[test]
fn loom_visit_and_revoke() {
    model(|| {
        let free = Light::new().free().expect("a barrier");
        let (revoker, mut cursor) = biased::lend(0, 0, free);
        let words = Arc::clone(revoker.words());
        let borrower = thread::spawn(move || {
            let mut visits = cursor.visits();
            let mut count = 0;
            while count < 2 {
                let visited = visits.visit(count + 1, |value| {
                    *value += 1;
                    Some(*value)
                });
                let Visit::Found(value) = visited else {
                    break;
                };
                count += 1;
                assert_eq!(value, count);
                visits.leave(count);
            }
            count
        });
        let revoked = revoker.revoke();
        let seen = words.seen().0;
        let count = borrower.join().expect("no panic");
        match revoked {
            Ok(value) => assert_eq!((value, seen), (count, count)),
            // The revoker came late, during the borrower's last visits; the value is leaked.
            Err(revoker) => assert_eq!(revoker.revoke().ok(), Some(count)),
        }
    });
}

/// Inside / sleep: a watcher that finds the borrower inside sleeps until the borrower leaves. The flag is the
/// core's note.
#[test]
fn loom_visit_and_sleep() {
    model(|| {
        let free = Light::new().free().expect("a barrier");
        let (revoker, mut cursor) = biased::lend(0, 0, free);
        let note = Arc::new(Mutex::new(false));
        let parker = Parker::new();
        let watcher = parker.unparker().clone();
        let borrower = thread::spawn({
            let note = Arc::clone(&note);
            move || {
                let mut visits = cursor.visits();
                let visited = visits.visit(1, |_| Some(()));
                if visited == Visit::Called || visits.is_called() {
                    if std::mem::take(&mut *note.lock()) {
                        watcher.unpark();
                    }
                }
            }
        });
        let mut noted = note.lock();
        let inside = revoker.revoke().is_err();
        *noted = inside;
        drop(noted);
        if inside {
            parker.park();
        }
        borrower.join().expect("no panic");
    });
}

/// Inside / end: a source that has told the borrower its end is not taken from it before that is recorded, so nobody
/// asks it again.
#[test]
fn loom_visit_the_end() {
    model(|| {
        let free = Light::new().free().expect("a barrier");
        // How many items there are, and whether the end was told.
        let (revoker, mut cursor) = biased::lend((1, false), 0, free);
        let slot = Arc::new(Mutex::new(Some(revoker)));
        let borrower = thread::spawn({
            let slot = Arc::clone(&slot);
            move || {
                let mut visits = cursor.visits();
                for count in 1..=2 {
                    let visited = visits.visit(count, |(left, told)| {
                        *told = *left == 0;
                        (*left > 0).then(|| *left -= 1)
                    });
                    if !matches!(visited, Visit::Found(())) {
                        break;
                    }
                    visits.leave(count);
                }
                if let Some(revoker) = slot.lock().take() {
                    assert!(cursor.give_back(revoker).is_some());
                }
            }
        });
        let mut slot = slot.lock();
        let revoked = slot.take().map(biased::Revoker::revoke);
        match revoked {
            Some(Ok((_, told))) => assert!(!told),
            Some(Err(revoker)) => *slot = Some(revoker),
            None => {}
        }
        drop(slot);
        borrower.join().expect("no panic");
    });
}

/// The chunk that the consumer runs: each item is run once, by the consumer or by the watcher that takes the rest.
/// A watcher that finds the consumer in an item is called when that is over.
#[test]
fn loom_run_own_and_take_back() {
    model(|| {
        let free = Light::new().free().expect("a barrier");
        let ran = Ran::new();
        let core = Arc::new(Mutex::new(Core::<Item, ()>::new(
            2,
            false,
            MeterSlot::default(),
        )));
        let (chunk, _taking) = chunk::filled(2, &mut core.lock().key);
        let own = OwnChunk::lend(&mut core.lock(), chunk, free);
        let parker = Parker::new();
        let watcher = parker.unparker().clone();
        let run = {
            let ran = Arc::clone(&ran);
            move |chunk: &mut ChunkExecutor<Item, ()>| {
                let mut cursor = chunk.cursor().0;
                ran.0[cursor.take()].fetch_add(1, Ordering::Relaxed);
                cursor.publish(())
            }
        };
        let consumer = thread::spawn({
            let (core, run, mut next) = (Arc::clone(&core), run.clone(), Some(own));
            move || {
                while let Some(mut own) = next.take() {
                    let step = own.run(&run);
                    if !step.called && !own.is_contested() {
                        next = Some(own);
                        continue;
                    }
                    let mut core = core.lock();
                    if step.called {
                        if std::mem::take(&mut core.watches_itself) {
                            watcher.unpark();
                        }
                        match &mut core.lent {
                            Some(revoker) => revoker.go_on(),
                            None => break,
                        }
                    }
                    next = if own.is_contested() {
                        let rest = own.end(&mut core);
                        rest.map(|rest| OwnChunk::lend(&mut core, rest, free))
                    } else {
                        Some(own)
                    };
                }
            }
        });
        let rest = loop {
            let mut guard = core.lock();
            let Some(revoker) = guard.lent.take() else {
                break None;
            };
            match revoker.revoke() {
                Ok(chunk) => break guard.returned(chunk),
                Err(revoker) => {
                    guard.lent = Some(revoker);
                    guard.watches_itself = true;
                }
            }
            drop(guard);
            parker.park();
        };
        if let Some(mut rest) = rest {
            rest.start();
            while run(&mut rest) == Claim::Mine {}
        }
        consumer.join().expect("no panic");
        ran.assert_once(2);
    });
}

/// Call / go on: either the call is heard, or its cause is seen.
#[test]
fn loom_call_and_go_on() {
    model(|| {
        let free = Light::new().free().expect("a barrier");
        let (mut revoker, mut cursor) = biased::lend(0, 0, free);
        let (signals, _parker) = lone();
        signals.set_inline(Some(Arc::clone(revoker.words())));
        revoker.words().call();
        let canceller = thread::spawn({
            let signals = Arc::clone(&signals);
            move || signals.cancel(Cancelled::default())
        });
        revoker.go_on();
        let seen = signals.is_cut();
        canceller.join().expect("no panic");
        assert!(seen || cursor.visits().visit(1, |_| Some(())) == Visit::Called);
        assert!(revoker.revoke().is_ok());
        signals.set_inline(None);
    });
}

/// A stage whose width changes: the real permits and the real list of threads, and items that are only counted.
struct Wide {
    core: Core<Item, ()>,
    left: usize,
    /// The stage has become narrow, and so many run that were begun since.
    narrow: bool,
    new: usize,
}

impl Wide {
    fn new(width: usize, left: usize) -> Arc<Mutex<Self>> {
        let core = Core::new(width, false, MeterSlot::default());
        let (narrow, new) = (false, 0);
        Arc::new(Mutex::new(Wide {
            core,
            left,
            narrow,
            new,
        }))
    }

    fn add_thread(&mut self) -> (usize, Parker) {
        let parker = Parker::new();
        let number = self.core.enlist();
        self.core.roster.register(number, parker.unparker().clone());
        (number, parker)
    }

    /// Sets the width, as `Sched::resize`.
    fn resize(wide: &Mutex<Wide>, width: usize) {
        let mut guard = wide.lock();
        guard.narrow = width == 1;
        guard.core.resize(width, false);
        let wake = guard.core.wake();
        drop(guard);
        act(wake);
    }

    /// A worker, until nothing is left. `permit`: the one with which it comes.
    fn work(wide: &Mutex<Wide>, number: usize, parker: &Parker, mut permit: Option<WidthPermit>) {
        let mut guard = wide.lock();
        while guard.left > 0 {
            // As in `Sched::seek`.
            if permit.is_none() {
                permit = guard.core.permits.take();
            } else {
                guard.core.permits.pay(&mut permit, false);
            }
            if permit.is_some() {
                guard.left -= 1;
                let new = guard.narrow;
                guard.new += usize::from(new);
                assert!(guard.new <= 1, "two at once");
                drop(guard);
                guard = wide.lock();
                guard.new -= usize::from(new);
                continue;
            }
            guard = Wide::sleep(wide, guard, number, parker);
        }
        guard.core.permits.give_back(permit);
        let wake = guard.core.wake_sleeper();
        drop(guard);
        act(wake);
    }

    fn sleep<'a>(
        wide: &'a Mutex<Wide>,
        mut guard: MutexGuard<'a, Wide>,
        number: usize,
        parker: &Parker,
    ) -> MutexGuard<'a, Wide> {
        guard.core.roster.fall_asleep(number);
        drop(guard);
        parker.park();
        let mut guard = wide.lock();
        guard.core.roster.woke_up(number);
        guard
    }
}

fn act(wake: Wake) {
    if let Wake::Unpark(sleeper) = wake {
        sleeper.unpark();
    }
}

/// Shrink to 1 while two workers run: of the items that are begun from then on no two run at once, and in the end there
/// is one permit.
#[test]
fn loom_width_of_one_while_two_run() {
    model(|| {
        let wide = Wide::new(2, 3);
        let workers = [0, 1].map(|_| {
            let (number, parker) = wide.lock().add_thread();
            let permit = wide.lock().core.permits.take();
            let wide = Arc::clone(&wide);
            thread::spawn(move || Wide::work(&wide, number, &parker, permit))
        });
        Wide::resize(&wide, 1);
        for worker in workers {
            worker.join().expect("no panic");
        }
        assert!(wide.lock().core.permits.are_all_free());
    });
}

/// A permit is withdrawn while its worker runs, or goes to sleep, and the stage becomes wider again before or after that:
/// the worker goes on, or is woken, and no permit is lost or made.
#[test]
fn loom_width_narrow_and_wide_again() {
    model(|| {
        let wide = Wide::new(2, 2);
        let workers = [0, 1].map(|_| {
            let (number, parker) = wide.lock().add_thread();
            let permit = wide.lock().core.permits.take();
            let wide = Arc::clone(&wide);
            thread::spawn(move || Wide::work(&wide, number, &parker, permit))
        });
        Wide::resize(&wide, 1);
        Wide::resize(&wide, 2);
        for worker in workers {
            worker.join().expect("no panic");
        }
        assert!(wide.lock().core.permits.are_all_free());
    });
}

/// Growth while the last worker goes to sleep: it comes out of the source, where its permit was withdrawn, and has not
/// looked for what is left. It sees the new permit, or is woken.
#[test]
fn loom_width_grows_beside_the_last_one() {
    model(|| {
        let wide = Wide::new(2, 1);
        let (number, parker) = wide.lock().add_thread();
        // One worker is in a closure that does not end, the other in the source.
        let long = wide.lock().core.permits.take();
        let mut permit = wide.lock().core.permits.take();
        assert_eq!(wide.lock().core.resize(1, true), 0);
        let worker = thread::spawn({
            let wide = Arc::clone(&wide);
            move || {
                wide.lock().core.permits.repay(&mut permit);
                let guard = wide.lock();
                if permit.is_none() && !guard.core.is_wider(None) {
                    drop(Wide::sleep(&wide, guard, number, &parker));
                } else {
                    drop(guard);
                }
                Wide::work(&wide, number, &parker, permit);
            }
        });
        Wide::resize(&wide, 2);
        worker.join().expect("no panic");
        let core = &mut wide.lock().core;
        core.permits.give_back(long);
        assert!(core.permits.are_all_free());
    });
}
