//! Stages in unusual places: in a thread's last moments, at the end of the process, in a static, while
//! a panic unwinds.

use crate::support::{Counter, Gate, SOON, bang, caught, within};
use fanfold::{CancelToken, Fanfold};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock};

#[test]
fn a_stage_in_the_destructor_of_a_thread_local() {
    struct AtTheEnd(Counter);
    impl Drop for AtTheEnd {
        fn drop(&mut self) {
            let sum: u64 = (0..100).par_map_ordered(3, |i| i).sum();
            if sum == 4_950 && !CancelToken::current().is_cancelled() {
                self.0.add();
            }
        }
    }
    thread_local!(static HELD: OnceLock<AtTheEnd> = const { OnceLock::new() });
    within(SOON, || {
        let good = Counter::new();
        let holder = std::thread::spawn({
            let good = good.clone();
            move || {
                HELD.with(|held| drop(held.set(AtTheEnd(good))));
                assert_eq!((0..10).par_map_ordered(2, |i| i).count(), 10);
            }
        });
        holder.join().expect("no panic");
        good.wait_for(1);
    });
}

#[test]
fn a_stage_that_still_runs_when_its_thread_ends() {
    type Running = Box<dyn Iterator<Item = u64>>;
    thread_local!(static STAGE: Mutex<Option<Running>> = const { Mutex::new(None) });
    within(SOON, || {
        let holder = std::thread::spawn(|| {
            let mut stage: Running = Box::new((0..).par_map_ordered(3, |i| i));
            assert_eq!(stage.next(), Some(0));
            STAGE.with(|held| *held.lock().expect("not poisoned") = Some(stage));
        });
        holder.join().expect("no panic");
    });
}

#[test]
fn a_stage_in_a_static() {
    static STAGE: Mutex<Option<Box<dyn Iterator<Item = u64> + Send>>> = Mutex::new(None);
    within(SOON, || {
        let stage = (0..).par_map_ordered(3, |i| i);
        *STAGE.lock().expect("not poisoned") = Some(Box::new(stage));
        let next = || {
            let mut stage = STAGE.lock().expect("not poisoned");
            stage.as_mut().and_then(Iterator::next)
        };
        for i in 0..100 {
            assert_eq!(std::thread::spawn(next).join().ok(), Some(Some(i)));
        }
        // never dropped: the process ends while it runs
    });
}

#[test]
fn a_stage_used_while_a_panic_unwinds() {
    struct Last(Counter);
    impl Drop for Last {
        fn drop(&mut self) {
            assert_eq!((0..100).par_map_ordered(3, |i| i).sum::<u64>(), 4_950);
            let mut early = (0..).par_map_ordered(3, |i| i);
            assert_eq!(early.next(), Some(0));
            drop(early);
            self.0.add();
        }
    }
    for n in 1..=4 {
        within(SOON, move || {
            let good = Counter::new();
            let on_the_consumer = caught(|| {
                let _last = Last(good.clone());
                bang(1)
            });
            assert_eq!(on_the_consumer.map(drop), Err(1));
            let on_a_worker = (0..5).par_map_ordered(n, {
                let good = good.clone();
                move |i| {
                    let _last = Last(good.clone());
                    if i == 3 { bang(2) } else { i }
                }
            });
            assert_eq!(caught(|| on_a_worker.count()), Err(2));
            assert!(good.get() >= 4);
        });
    }
}

/// How a process ends whose workers are busy, or stuck, at that moment.
fn ends(how: &str) -> Option<i32> {
    let how = format!("odd_places::{how}");
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", &how, "--ignored", "--nocapture"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("a process");
    within(SOON, move || child.wait().expect("an end").code())
}

fn leave_a_stage_running() {
    let gate = Gate::new();
    let mut stage = (0..).par_map_ordered(4, move |i| {
        if i > 2 {
            gate.wait();
        }
        i
    });
    assert_eq!(stage.next(), Some(0));
    std::mem::forget(stage);
}

#[test]
#[ignore = "run by the test below, in a process of its own"]
fn exits() {
    leave_a_stage_running();
    std::process::exit(7);
}

#[test]
#[ignore = "run by the test below, in a process of its own"]
fn returns() {
    leave_a_stage_running();
}

#[test]
#[ignore = "run by the test below, in a process of its own"]
fn panics() {
    leave_a_stage_running();
    panic!("the end");
}

#[test]
fn a_process_ends_while_its_workers_are_busy() {
    assert_eq!(ends("exits"), Some(7));
    assert_eq!(ends("returns"), Some(0));
    assert_eq!(ends("panics"), Some(101));
}
