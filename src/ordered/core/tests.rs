use super::*;
use crate::ordered::chunk::{self, ChunkWriter, Claim};
use crate::sync::Parker;

type TestCore = Core<usize, ()>;

/// A core whose threads are all registered.
fn staffed(width: usize, threads: usize) -> TestCore {
    let mut core = Core::new(width, false, MeterSlot::default());
    for thread in 0..threads {
        assert_eq!(core.enlist(), thread);
        core.roster
            .register(thread, Parker::new().unparker().clone());
    }
    core
}

/// The time of a recent look, however slow this test is.
fn now() -> Option<Instant> {
    Instant::now().checked_add(Duration::from_secs(3600))
}

fn long_ago() -> Option<Instant> {
    Instant::now().checked_sub(PRESENCE)
}

/// Opens a chunk that others can see.
fn open(core: &mut TestCore, items: usize) -> ChunkWriter<usize, ()> {
    let (mut filling, _) = chunk::open(Arc::new(Chunk::new(false)), 0, items + 8);
    for item in 0..items {
        let _ = filling.cursor().push(item);
    }
    core.show(OpenChunk {
        chunk: Arc::clone(filling.chunk()),
        arrival: None,
    });
    filling
}

#[test]
fn wake_prefers_a_sleeper_then_the_watcher_then_a_lease() {
    let mut core = staffed(3, 2);
    let mut taken = [0; 3].map(|_| core.permits.take());
    core.roster.fall_asleep(1);
    assert!(matches!(core.wake(), Wake::Nobody), "all are at work");
    core.permits.give_back(taken[0].take());
    core.watcher = Some(0);
    assert!(matches!(core.wake(), Wake::Unpark(_)));
    assert!(!core.roster.is_anybody_asleep());
    assert!(matches!(core.wake(), Wake::Unpark(_)), "the watcher");
    assert_eq!(core.watcher, Some(0));
    core.watcher = None;
    assert!(matches!(core.wake(), Wake::Lease(2)));
    assert!(matches!(core.wake(), Wake::Nobody), "never more than three");
    core.roster.fall_asleep(2);
    let woken = core.wake();
    assert!(matches!(woken, Wake::Nobody), "it is being started");
}

#[test]
fn wake_sleeper_wakes_only_a_sleeping_thread() {
    let mut core = staffed(3, 1);
    core.watcher = Some(0);
    assert!(matches!(core.wake_sleeper(), Wake::Nobody));
    core.watcher = None;
    core.roster.fall_asleep(0);
    assert!(matches!(core.wake_sleeper(), Wake::Unpark(_)));
    assert!(matches!(core.wake_sleeper(), Wake::Nobody));
}

#[test]
fn the_thread_that_is_called_becomes_the_watcher() {
    let mut core = staffed(2, 2);
    core.watcher = Some(1);
    core.roster.fall_asleep(0);
    assert!(matches!(core.call_watcher(true), Wake::Unpark(_)));
    assert_eq!(
        (core.watcher, core.roster.is_anybody_asleep()),
        (Some(1), true)
    );
    core.watcher = None;
    assert!(matches!(core.call_watcher(true), Wake::Unpark(_)));
    assert_eq!(
        (core.watcher, core.roster.is_anybody_asleep()),
        (Some(0), false)
    );
    core.watcher = None;
    assert!(matches!(core.call_watcher(false), Wake::Nobody));
    assert_eq!(core.watcher, None);
    assert!(matches!(core.call_watcher(true), Wake::Lease(2)), "a spare");
    assert_eq!(core.watcher, Some(2));
    assert!(matches!(core.lease_failed(2), Wake::Nobody));
    assert_eq!(core.watcher, None);
    assert!(matches!(core.call_watcher(true), Wake::Nobody));
}

/// One that was to watch does not come, and another has fallen asleep because that one would.
#[test]
fn a_watcher_that_never_comes_is_replaced() {
    let mut core = staffed(2, 1);
    assert!(matches!(core.call_watcher(false), Wake::Lease(1)));
    core.roster.fall_asleep(0);
    assert!(matches!(core.lease_failed(1), Wake::Unpark(_)));
    assert_eq!(core.watcher, Some(0));
    // Not one that was called for something else.
    let mut core = staffed(2, 1);
    assert!(matches!(core.wake(), Wake::Lease(1)));
    core.roster.fall_asleep(0);
    assert!(matches!(core.lease_failed(1), Wake::Nobody));
}

#[test]
fn a_stage_whose_only_lease_failed_has_no_threads() {
    let mut core = TestCore::new(2, false, MeterSlot::default());
    assert!(!core.roster.is_nobody());
    assert!(matches!(core.wake(), Wake::Lease(0)));
    assert_eq!(core.roster.len(), 1);
    assert!(matches!(core.lease_failed(0), Wake::Nobody));
    assert!(core.roster.is_nobody());
    let mut core = staffed(2, 1);
    assert!(matches!(core.wake(), Wake::Lease(1)));
    assert!(matches!(core.lease_failed(1), Wake::Nobody));
    assert!(!core.roster.is_nobody(), "one is there");
}

#[test]
fn the_consumer_has_one_permit() {
    let mut core = TestCore::new(2, false, MeterSlot::default());
    assert!(core.is_at_rest());
    core.permit_consumer();
    assert!(!core.is_at_rest());
    let other = core.permits.take();
    assert!(other.is_some() && !core.permits.is_any_free());
    core.permits.give_back(other);
    core.retire_consumer();
    assert!(core.is_at_rest());
    core.retire_consumer();
    assert!(core.is_at_rest(), "given back once");
}

#[test]
fn push_reports_whether_the_puller_is_watched() {
    let mut core = staffed(2, 2);
    let mut filling = open(&mut core, 1);
    assert!(!filling.cursor().push(1), "no one watches");
    assert!(!core.tell_puller());
    core.set_watched(true);
    assert!(core.is_watched() && core.tell_puller());
    assert!(filling.cursor().push(2));
    assert!(core.end_watch(false), "another thread has to");
    assert!(!core.is_watched());
    assert!(!filling.cursor().push(3));
    core.set_looked(now());
    assert!(filling.cursor().push(4), "the consumer watches");
    assert!(!core.end_watch(false));
    core.set_looked(None);
    assert!(!filling.cursor().push(5));
}

#[test]
fn nothing_is_in_hand_until_something_is_pulled() {
    let mut core = staffed(1, 1);
    assert!(!core.is_something_in_hand() && !core.end_watch(false));
    let mut filling = open(&mut core, 0);
    assert!(!core.is_something_in_hand() && !core.end_watch(false));
    let _ = filling.cursor().push(0);
    assert!(core.is_something_in_hand() && core.end_watch(false));
}

#[test]
fn end_watch_hands_on_while_the_source_may_hold_a_permit() {
    let mut core = staffed(3, 3);
    let mut taken = [0; 3].map(|_| core.permits.take());
    let runs = [2, 2, 2].map(|items| chunk::filled(items, &mut core.key));
    core.activate(1, &runs[1].0);
    core.activate(2, &runs[2].0);
    assert!(
        core.end_watch(true),
        "thread 0 has a permit and runs nothing"
    );
    assert!(!core.end_watch(false), "but nothing waits for it");
    core.set_looked(now());
    assert!(!core.end_watch(true), "the consumer watches");
    core.set_looked(None);
    core.activate(0, &runs[0].0);
    assert!(!core.end_watch(true), "all three run something");
    core.deactivate(0);
    core.permits.give_back(taken[0].take());
    assert!(!core.end_watch(true), "two run, and one permit is free");
    core.permit_consumer();
    assert!(!core.end_watch(true), "the consumer runs items");
}

#[test]
fn a_recent_look_covers_if_a_thread_would_notice_its_end() {
    let mut core = staffed(2, 2);
    assert!(!core.is_covered());
    core.set_looked(long_ago());
    assert!(!core.is_looked_after() && !core.is_covered());
    core.set_looked(now());
    assert!(
        core.is_looked_after() && core.is_covered(),
        "no thread idles"
    );
    core.roster.fall_asleep(1);
    assert!(!core.is_covered(), "a sleeping thread would not notice");
    core.backup_watcher = Some(1);
    assert!(core.is_covered());
    core.set_looked(long_ago());
    assert!(!core.is_covered());
}

#[test]
fn a_stage_that_can_lease_a_spare_thread_is_not_covered() {
    let mut core = staffed(1, 1);
    core.set_looked(now());
    assert!(!core.is_covered(), "a spare thread is still to be leased");
    let _ = core.enlist();
    core.roster.lease_failed();
    assert!(core.is_covered(), "no spare thread can be leased");
    let mut core = staffed(1, 2);
    core.set_looked(now());
    assert!(core.is_covered(), "it is there");
}

#[test]
fn resign_reports_whether_the_last_watcher_left() {
    let mut core = staffed(4, 4);
    assert!(!core.resign(0), "was neither");
    core.watcher = Some(0);
    core.set_watched(true);
    assert!(!core.resign(1) && core.is_watched());
    assert!(core.resign(0) && !core.is_watched());
    assert_eq!(core.watcher, None);
    core.backup_watcher = Some(2);
    assert!(!core.resign(1) && core.backup_watcher == Some(2));
    assert!(core.resign(2) && core.backup_watcher.is_none());
    (core.backup_watcher, core.watcher) = (Some(2), Some(3));
    assert!(!core.resign(2), "the watcher is left");
    assert_eq!((core.backup_watcher, core.watcher), (None, Some(3)));
}

#[test]
fn the_richest_is_the_other_thread_with_most_unclaimed_items() {
    let mut core = staffed(4, 4);
    assert_eq!(core.threads(), 4);
    assert_eq!(core.richest(0), None);
    let runs = [2, 5, 1].map(|items| chunk::filled(items, &mut core.key));
    for (thread, (owning, _)) in runs.iter().enumerate() {
        core.activate(thread, owning);
    }
    assert_eq!(core.richest(3), Some((1, 4)));
    assert_eq!(core.richest(1), Some((0, 1)), "not its own");
    core.deactivate(0);
    assert_eq!(core.richest(1), None, "one item has none unclaimed");
    assert!(core.active(0).is_none() && core.active(1).is_some());
    core.activate(9, &runs[0].0); // a thread that is alone is not listed
    core.deactivate(9);
    core.forget_runs();
    assert_eq!((core.threads(), core.richest(0)), (0, None));
}

#[test]
fn progress_is_seen_only_of_chunks_with_unclaimed_items() {
    let mut core = staffed(3, 3);
    let (mut owning, _taking) = chunk::filled(3, &mut core.key);
    core.activate(1, &owning);
    assert!(!core.is_any_started());
    owning.start();
    assert!(core.is_any_started());
    assert!(core.sight_of(0).is_none());
    let before = core.sight_of(1).expect("two are unclaimed");
    assert_eq!((before.thread, before.first, before.count), (1, 0, 0));
    assert!(before.same(&core.sight_of(1).expect("nothing has moved")));
    let (mut cursor, _) = owning.cursor();
    cursor.take();
    assert!(cursor.publish(()) != Claim::Contested);
    let after = core.sight_of(1).expect("one is unclaimed");
    assert!(!after.same(&before));
    cursor.take();
    assert!(cursor.publish(()) != Claim::Contested);
    assert!(core.sight_of(1).is_none(), "the last one is claimed");
    cursor.take();
    let _ = cursor.publish(());
}

#[test]
fn progress_unmoved_for_the_limit_is_stuck() {
    let at = Instant::now();
    let sight = |first, count, millis| Progress {
        thread: 0,
        first,
        count,
        at: at + Duration::from_millis(millis),
    };
    let limit = Duration::from_millis(10);
    let mut old = None;
    assert!(!Progress::unmoved(&mut old, sight(0, 1, 0), limit));
    assert!(!Progress::unmoved(&mut old, sight(0, 1, 9), limit));
    assert!(Progress::unmoved(&mut old, sight(0, 1, 10), limit));
    assert!(
        !Progress::unmoved(&mut old, sight(0, 2, 11), limit),
        "moved"
    );
    assert!(!Progress::unmoved(&mut old, sight(0, 2, 20), limit));
    assert!(
        !Progress::unmoved(&mut old, sight(3, 2, 21), limit),
        "another"
    );
    assert!(Progress::unmoved(&mut old, sight(3, 2, 31), limit));
}

#[test]
fn chunks_are_reused_once_no_one_else_holds_them() {
    let mut core = staffed(1, 1);
    let kept = core.fresh();
    let address = Arc::as_ptr(&kept);
    core.keep(kept);
    assert_eq!(Arc::as_ptr(&core.fresh()), address);

    let (mut owning, mut taking) = chunk::filled(1, &mut core.key);
    owning.cursor().0.take();
    let _ = owning.cursor().0.publish(());
    assert!(taking.is_ready());
    taking.take();
    let address = std::ptr::from_ref(taking.chunk());
    core.recycle(taking);
    assert_ne!(
        Arc::as_ptr(&core.fresh()),
        address,
        "its owner still holds it"
    );
    drop(owning);
    assert_eq!(Arc::as_ptr(&core.fresh()), address);
}
