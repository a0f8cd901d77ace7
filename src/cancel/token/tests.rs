//! The token, the tree and the timer.

use std::panic::{RefUnwindSafe, UnwindSafe, catch_unwind};
use std::thread;

use super::*;
use crate::sync::{AtomicBool, Mutex};
use std::mem;

/// Far longer than anything here takes, and far shorter than [`STUCK`].
const PROMPT: Duration = Duration::from_secs(10);
const STUCK: Duration = Duration::from_secs(1000);
const SHORT: Duration = Duration::from_millis(20);

type Log = Arc<Mutex<Vec<u32>>>;

fn note(log: &Log, entry: u32) -> impl FnOnce() + Send + 'static {
    let log = Arc::clone(log);
    move || log.lock().push(entry)
}

fn taken(log: &Log) -> Vec<u32> {
    mem::take(&mut log.lock())
}

fn prompt<R>(f: impl FnOnce() -> R) -> R {
    let start = Instant::now();
    let result = f();
    assert!(start.elapsed() < PROMPT, "took {:?}", start.elapsed());
    result
}

fn hear(token: &CancelToken) {
    token.with_timeout(PROMPT).wait();
    assert!(token.is_cancelled(), "not heard of");
}

fn message(panic: Result<(), Payload>) -> &'static str {
    panic
        .expect_err("no panic")
        .downcast_ref::<&str>()
        .expect("another payload")
}

fn children(token: &CancelToken) -> usize {
    token.node.links.lock().children.len()
}

#[test]
fn tokens_and_guards_cross_threads_and_unwinding() {
    fn check<T: Send + Sync + UnwindSafe + RefUnwindSafe + fmt::Debug>() {}
    check::<CancelToken>();
    check::<CancelHook>();
    assert!(format!("{:?}", CancelToken::default()).contains("is_cancelled: false"));
}

#[test]
fn a_child_follows_its_parent_and_not_the_other_way_round() {
    let root = CancelToken::new();
    let (a, b) = (root.child(), root.child());
    let below = a.child().child(); // the token between them is dropped at once
    a.cancel();
    assert!(a.is_cancelled() && below.is_cancelled());
    assert!(!root.is_cancelled() && !b.is_cancelled());
    assert_eq!((a.check(), b.check()), (Err(Cancelled::BY_CALL), Ok(())));
    assert!(a.child().is_cancelled());
    root.clone().cancel();
    assert!(root.is_cancelled() && b.is_cancelled());
}

#[test]
fn dropped_ancestors_pass_their_children_on() {
    let root = CancelToken::new();
    let a = root.child();
    let b = a.child();
    let (c, d) = (b.child(), b.child());
    drop(b);
    drop(a);
    assert_eq!(children(&root), 2);
    c.cancel();
    assert!(!d.is_cancelled());
    root.cancel();
    assert!(d.is_cancelled());

    let root = CancelToken::new();
    let (orphan, other) = (root.child(), root.child());
    drop(root);
    drop(other);
    assert!(orphan.node.links.lock().parent.is_none());
    assert!(!orphan.is_cancelled());
    let below = orphan.child();
    orphan.cancel();
    assert!(below.is_cancelled());
}

#[test]
fn a_tripped_child_leaves_its_parent_when_dropped() {
    let root = CancelToken::new();
    let child = root.child();
    child.cancel();
    drop(child);
    assert_eq!(children(&root), 0);
}

#[test]
fn a_child_born_during_the_walk_is_tripped() {
    for _ in 0..1000 {
        let root = CancelToken::new();
        let middle = root.child();
        let born = thread::scope(|scope| {
            let births = scope.spawn(|| {
                let mut born = Vec::new();
                while !root.is_cancelled() {
                    born.push(middle.child());
                    born.push(root.child().child());
                }
                born
            });
            root.cancel();
            births.join().unwrap()
        });
        assert!(born.iter().all(CancelToken::is_cancelled));
    }
}

#[test]
fn a_walk_misses_no_token_whose_ancestors_are_dropped_meanwhile() {
    for round in 0..1000 {
        let root = CancelToken::new();
        let mut line = vec![root.child()];
        for _ in 0..4 {
            line.push(line[line.len() - 1].child());
        }
        let last = line.pop().unwrap();
        if round % 2 == 0 {
            line.reverse();
        }
        let rest = line.split_off(2);
        thread::scope(|scope| {
            scope.spawn(|| drop(line));
            scope.spawn(|| drop(rest));
            root.cancel();
            assert!(last.is_cancelled());
        });
        assert_eq!(children(&root), 0);
        assert_eq!(Arc::strong_count(&last.node), 1);
    }
}

#[test]
fn drops_of_a_whole_family_at_once_leave_nothing_behind() {
    for _ in 0..1000 {
        let root = CancelToken::new();
        let mut family = vec![root.clone()];
        for at in 0..12 {
            family.push(family[at / 2].child());
        }
        let nodes: Vec<_> = family
            .iter()
            .map(|token| Arc::downgrade(&token.node))
            .collect();
        let mut parts: [Vec<CancelToken>; 3] = Default::default();
        for (at, token) in family.into_iter().enumerate() {
            parts[at % 3].push(token);
        }
        thread::scope(|scope| {
            for part in parts {
                scope.spawn(|| drop(part));
            }
        });
        assert_eq!(children(&root), 0);
        drop(root);
        assert!(nodes.iter().all(|node| node.upgrade().is_none()));
    }
}

#[test]
fn hooks_run_once_in_order_parents_first_when_all_are_tripped() {
    let log = Log::default();
    let root = CancelToken::new();
    let child = root.child();
    let seen = Arc::clone(&log);
    let below = child.clone();
    child.on_cancel(note(&log, 3)).detach();
    let _one = root.on_cancel(move || seen.lock().push(below.is_cancelled().into()));
    let _two = root.on_cancel(note(&log, 2));
    drop(root.on_cancel(note(&log, 9)));
    child.on_cancel(note(&log, 4)).detach();
    root.cancel();
    assert_eq!(taken(&log), [1, 2, 3, 4]);
    root.cancel();
    child.cancel();
    assert_eq!(taken(&log), []);

    let root = CancelToken::new();
    let family = [1, 3, 4].map(|entry| (entry, root.child()));
    let below = family[0].1.child();
    let guards = [4, 3, 1].map(|entry| {
        let (_, token) = family.iter().find(|(own, _)| *own == entry).unwrap();
        token.on_cancel(note(&log, entry))
    });
    let _below = below.on_cancel(note(&log, 2));
    root.cancel();
    assert_eq!(taken(&log), [1, 2, 3, 4]);
    drop(guards);
}

#[test]
fn a_hook_on_a_tripped_token_runs_at_once_on_this_thread() {
    let token = CancelToken::new();
    token.cancel();
    let here = thread::current().id();
    let ran = Arc::new(AtomicBool::new(false));
    let (flag, own) = (Arc::clone(&ran), token.clone());
    let _guard = token.on_cancel(move || {
        assert_eq!(thread::current().id(), here);
        assert!(prompt(|| own.child()).is_cancelled());
        flag.store(true, Ordering::Release);
    });
    assert!(ran.load(Ordering::Acquire));
    let log = Log::default();
    let _guard = token.with_timeout(Duration::ZERO).on_cancel(note(&log, 1));
    let _guard = CancelToken::new()
        .with_timeout(Duration::ZERO)
        .on_cancel(note(&log, 2));
    assert_eq!(taken(&log), [1, 2]);
}

#[test]
fn a_panic_in_a_hook_stops_no_other_hook() {
    let log = Log::default();
    let root = CancelToken::new();
    let child = root.child();
    root.on_cancel(note(&log, 1)).detach();
    root.on_cancel(|| panic!("first")).detach();
    root.on_cancel(|| panic!("second")).detach();
    root.on_cancel(note(&log, 2)).detach();
    child.on_cancel(note(&log, 3)).detach();
    assert_eq!(message(catch_unwind(|| root.cancel())), "first");
    assert_eq!(taken(&log), [1, 2, 3]);
    assert!(root.is_cancelled() && child.is_cancelled());
    root.cancel();

    let at_once = catch_unwind(|| root.on_cancel(|| panic!("now")).detach());
    assert_eq!(message(at_once), "now");
    assert!(root.child().is_cancelled());
}

#[test]
fn a_panic_in_a_hook_during_unwinding_does_not_abort() {
    struct CancelOnDrop(CancelToken);
    impl Drop for CancelOnDrop {
        fn drop(&mut self) {
            self.0.cancel();
        }
    }
    let token = CancelToken::new();
    token.on_cancel(|| panic!("the hook")).detach();
    let panic = catch_unwind(|| {
        let _stage = CancelOnDrop(token);
        panic!("the item");
    });
    assert_eq!(message(panic), "the item");
}

#[test]
fn hooks_may_use_their_token() {
    let log = Log::default();
    let token = CancelToken::new();
    let guards = Arc::new(Mutex::new(Vec::new()));
    let (own, held, inner) = (token.clone(), Arc::clone(&guards), Arc::clone(&log));
    let first = token.on_cancel(move || {
        let guards = mem::take(&mut *held.lock());
        assert_eq!(guards.len(), 2);
        drop(guards); // drops its own guard, and the next hook's, which therefore does not run
        own.cancel();
        own.wait();
        assert!(own.child().is_cancelled());
        own.on_cancel(note(&inner, 1)).detach();
    });
    let second = token.on_cancel(note(&log, 2));
    guards.lock().extend([first, second]);
    token.on_cancel(note(&log, 3)).detach();
    prompt(|| token.cancel());
    assert_eq!(taken(&log), [1, 3]);
}

#[test]
fn the_last_handle_drops_hooks_without_running_them() {
    let canary = Arc::new(());
    let token = CancelToken::new();
    let other = token.clone();
    let (held, kept) = (Arc::clone(&canary), Arc::clone(&canary));
    let guard = token.on_cancel(move || unreachable!("{held:?}"));
    token.on_cancel(move || unreachable!("{kept:?}")).detach();
    drop(token);
    assert_eq!(Arc::strong_count(&canary), 3);
    drop(other);
    assert_eq!(Arc::strong_count(&canary), 1);
    drop(guard);
}

#[test]
fn a_hook_whose_drop_uses_the_token_does_not_deadlock() {
    struct Nosy(CancelToken);
    impl Drop for Nosy {
        fn drop(&mut self) {
            self.0.on_cancel(|| ()).detach();
            drop(self.0.child());
        }
    }
    let root = CancelToken::new();
    let token = root.child();
    let (a, b) = (Nosy(token.clone()), Nosy(root.clone()));
    prompt(|| drop(token.on_cancel(move || drop(a))));
    token.on_cancel(move || drop(b)).detach();
    prompt(|| drop(token));
}

#[test]
fn a_hook_may_drop_the_last_handle_and_the_others_still_run() {
    let log = Log::default();
    let root = CancelToken::new();
    let child = root.child();
    let last = Arc::new(Mutex::new(None));
    let held = Arc::clone(&last);
    child.on_cancel(move || drop(held.lock().take())).detach();
    child.on_cancel(note(&log, 1)).detach();
    *last.lock() = Some(child);
    root.cancel();
    assert_eq!(taken(&log), [1]);
    assert!(last.lock().is_none());
}

#[test]
fn a_guard_racing_with_cancel_runs_its_hook_at_most_once() {
    for _ in 0..1000 {
        let log = Log::default();
        let token = CancelToken::new();
        let guard = token.on_cancel(note(&log, 1));
        thread::scope(|scope| {
            scope.spawn(|| token.cancel());
            scope.spawn(|| drop(guard));
            scope.spawn(|| token.cancel());
        });
        assert!(taken(&log).len() <= 1);
    }
}

#[test]
fn cancel_wakes_sleepers_and_waiters() {
    let root = CancelToken::new();
    let token = root.child().with_timeout(STUCK);
    thread::scope(|scope| {
        for time in [STUCK, Duration::MAX] {
            let token = &token;
            scope.spawn(move || {
                assert_eq!(prompt(|| token.sleep(time)), Err(Cancelled::BY_CALL));
            });
        }
        scope.spawn(|| prompt(|| token.wait()));
        scope.spawn(|| prompt(|| root.wait()));
        thread::sleep(SHORT);
        root.cancel();
    });
    assert_eq!(prompt(|| token.sleep(STUCK)), Err(Cancelled::BY_CALL));
    prompt(|| token.wait());
}

#[test]
fn a_waiter_is_woken_in_every_race() {
    for _ in 0..1000 {
        let token = CancelToken::new();
        thread::scope(|scope| {
            scope.spawn(|| token.cancel());
            assert_eq!(prompt(|| token.sleep(STUCK)), Err(Cancelled::BY_CALL));
        });
    }
}

#[test]
fn a_sleep_lasts_its_whole_time() {
    let start = Instant::now();
    let token = CancelToken::new().with_timeout(STUCK);
    assert_eq!(prompt(|| token.sleep(SHORT)), Ok(()));
    assert!(start.elapsed() >= SHORT);
    assert_eq!(token.sleep(Duration::ZERO), Ok(()));
}

#[test]
fn a_deadline_ends_every_wait_at_its_time() {
    let start = Instant::now();
    let root = CancelToken::new();
    let token = root.with_timeout(SHORT);
    assert_eq!(prompt(|| token.sleep(STUCK)), Err(Cancelled::BY_DEADLINE));
    assert!(start.elapsed() >= SHORT);
    assert!(token.is_cancelled() && token.child().is_cancelled());
    assert_eq!(token.check(), Err(Cancelled::BY_DEADLINE));
    assert_eq!(token.sleep(Duration::ZERO), Err(Cancelled::BY_DEADLINE));
    prompt(|| token.wait());
    prompt(|| root.with_timeout(SHORT).child().wait());
    assert!(!root.is_cancelled());
}

#[test]
fn the_nearest_deadline_holds() {
    let root = CancelToken::new();
    let outer = root.with_timeout(SHORT);
    let inner = outer
        .with_timeout(STUCK)
        .child()
        .with_timeout(Duration::MAX);
    assert_eq!(inner.node.deadline, outer.node.deadline);
    prompt(|| inner.wait());
    assert!(outer.is_cancelled());

    let outer = root.with_timeout(STUCK);
    let inner = outer.with_deadline(Instant::now());
    assert!(inner.is_cancelled() && !outer.is_cancelled());

    // Inherited for good: the token that set it may be gone.
    let inner = root.with_timeout(SHORT).child();
    prompt(|| inner.wait());
}

#[test]
fn an_endless_timeout_is_none() {
    let token = CancelToken::new().with_timeout(Duration::MAX);
    assert_eq!(token.node.deadline, None);
    token.on_cancel(|| ()).detach();
    token.cancel();
    assert_eq!(token.sleep(Duration::MAX), Err(Cancelled::BY_CALL));
}

#[test]
fn hooks_run_at_their_deadlines_on_the_timer_thread() {
    let ran = Log::default();
    let root = CancelToken::new();
    let hook = |token: &CancelToken, entry: u32| {
        let (ran, heard) = (Arc::clone(&ran), CancelToken::new());
        let tell = heard.clone();
        token
            .on_cancel(move || {
                assert_eq!(thread::current().name(), Some("fanfold-timer"));
                ran.lock().push(entry);
                tell.cancel();
            })
            .detach();
        heard
    };
    let never = root.with_timeout(STUCK);
    let late = root.with_timeout(SHORT * 10);
    let soon = root.with_timeout(SHORT);
    let below = soon.child();
    let _unheard = hook(&never, 0);
    soon.on_cancel(|| panic!("at the deadline")).detach();
    let heard = [hook(&late, 3), hook(&below, 2), hook(&soon, 1)];
    heard.iter().for_each(hear);
    assert_eq!(taken(&ran), [1, 2, 3]);
    assert!(late.is_cancelled() && below.is_cancelled());
    assert!(!never.is_cancelled() && !root.is_cancelled());
}

#[test]
fn the_timer_holds_only_live_tokens_with_hooks() {
    let root = CancelToken::new();
    let holds = |token: &CancelToken| timer::holds(token.node.deadline.unwrap(), token.node.birth);
    let token = root.with_timeout(STUCK);
    assert!(!holds(&token));
    token.on_cancel(|| ()).detach();
    token.on_cancel(|| ()).detach();
    assert!(holds(&token));
    let (at, birth) = (token.node.deadline.unwrap(), token.node.birth);
    let node = Arc::downgrade(&token.node);
    drop(token);
    assert!(!timer::holds(at, birth));
    assert!(node.upgrade().is_none());

    let token = root.with_timeout(STUCK);
    token.on_cancel(|| ()).detach();
    root.cancel();
    assert!(!holds(&token));
    token.on_cancel(|| ()).detach();
    assert!(!holds(&token));
}

#[test]
fn a_hook_that_is_due_outlives_its_token() {
    for _ in 0..20 {
        let heard = CancelToken::new();
        let tell = heard.clone();
        let token = CancelToken::new().with_timeout(Duration::from_millis(1));
        token.on_cancel(move || tell.cancel()).detach();
        token.wait();
        drop(token);
        hear(&heard);
    }
}

#[test]
fn long_chains_need_no_stack() {
    const LENGTH: usize = 100_000;
    let chain = || {
        let mut chain = vec![CancelToken::new()];
        for at in 0..LENGTH {
            chain.push(chain[at].child());
        }
        chain
    };
    let tripped = chain();
    tripped[0].cancel();
    assert!(tripped.iter().all(CancelToken::is_cancelled));
    drop(tripped); // starting at the root

    drop(chain());
    let mut backwards = chain();
    while backwards.pop().is_some() {}

    let mut sparse = chain();
    let last = sparse.pop().unwrap();
    let first = sparse.swap_remove(0);
    drop(sparse);
    assert_eq!(children(&first), 1);
    first.cancel();
    assert!(last.is_cancelled());

    // Each is the only handle at its time: nothing grows.
    let root = CancelToken::new();
    let mut token = root.child();
    for _ in 0..LENGTH {
        token = token.child();
    }
    assert_eq!(children(&root), 1);
    root.cancel();
    assert!(token.is_cancelled());
}

#[test]
fn many_short_lived_children_do_not_grow_the_parent() {
    let root = CancelToken::new();
    let mut others = Vec::new();
    for round in 0..100_000 {
        let child = root.child();
        if round % 10_000 == 0 {
            others.push(child);
        }
    }
    assert_eq!(children(&root), others.len());
    drop(others);
    assert_eq!(children(&root), 0);
    assert_eq!(Arc::strong_count(&root.node), 1);
    assert_eq!(Arc::weak_count(&root.node), 0);
}

#[test]
fn a_wait_that_ends_leaves_no_waiter_registered() {
    let token = CancelToken::new();
    let node = &token.node;
    for _ in 0..3 {
        assert!(!node.park(Instant::now().checked_add(SHORT)));
        assert_eq!(node.links.lock().waiters, 0);
    }
}

#[test]
fn only_one_rival_holds_the_claim_at_a_time() {
    let (parent, rivals) = (CancelToken::new(), Arc::<Rivals>::default());
    let (first, one) = rivals.join(&parent, None);
    let (second, two) = rivals.join(&parent, None);
    assert!(!rivals.is_claimed());
    assert_eq!(rivals.claim(two), Ok(()));
    assert_eq!((rivals.claim(two), rivals.is_claimed()), (Ok(()), true));
    assert_eq!(rivals.claim(one), Err(Cancelled::BY_CALL));
    let (late, _) = rivals.join(&parent, None);
    assert!(late.is_cancelled() && !first.is_cancelled());
    rivals.give_up(one);
    assert!(rivals.is_claimed(), "by another");
    rivals.give_up(two);
    assert_eq!(rivals.claim(one), Ok(()));
    rivals.give_up(one);
    assert!(rivals.win(one).is_none());
    assert!(second.is_cancelled() && !first.is_cancelled());
    assert_eq!(
        (rivals.claim(one), rivals.claim(two)),
        (Ok(()), Err(Cancelled::BY_CALL))
    );
    rivals.give_up(one);
    let (late, _) = rivals.join(&parent, None);
    assert!(late.is_cancelled() && !first.is_cancelled());
}

/// By then the timer sleeps until the later one.
#[test]
fn the_timer_wakes_for_an_earlier_deadline_set_later() {
    let root = CancelToken::new();
    let later = root.with_timeout(STUCK);
    let _hook = later.on_cancel(|| ());
    thread::sleep(SHORT); // until the timer has looked
    let (tell, told) = std::sync::mpsc::channel();
    let earlier = root.with_timeout(SHORT);
    let _hook = earlier.on_cancel(move || tell.send(()).expect("the receiver lives"));
    assert_eq!(told.recv_timeout(PROMPT), Ok(()));
    assert!(!later.is_cancelled());
}
