use super::*;
use std::sync::mpsc::channel;

#[test]
fn the_state_is_behind_the_name() {
    for (stat, runnable) in [
        ("12 (fanfold-3) R 1 12", true),
        ("12 (a) S (b) R 1 12", true),
        ("12 (fanfold-3) S 1 12", false),
        ("12 (R) D 1 12", false),
        ("", false),
        ("12 R 1", false),
    ] {
        assert_eq!(is_runnable(stat), runnable, "{stat}");
    }
}

#[test]
fn the_time_is_the_first_number() {
    assert_eq!(time_run("1500 7 3\n"), Some(Duration::from_nanos(1500)));
    assert_eq!(time_run(""), None);
    assert_eq!(time_run("-1 7 3"), None);
}

#[cfg(target_os = "linux")]
#[test]
fn a_thread_that_sleeps_does_not_wait_for_a_core() {
    let (send, probes) = channel();
    let (end, ended) = channel::<()>();
    let asleep = std::thread::spawn(move || {
        send.send(Probe::here()).expect("the receiver waits");
        let _ = ended.recv();
    });
    if let Some(mut probe) = probes.recv().expect("one comes") {
        // As soon as it is in `recv`.
        while probe.waits() {
            std::thread::yield_now();
        }
        assert!(!probe.waits());
    }
    drop(end);
    asleep.join().expect("it only waits");
}

#[cfg(target_os = "linux")]
#[test]
fn a_thread_that_runs_is_seen_to_run() {
    let Some(mut probe) = Probe::here() else {
        return; // without /proc
    };
    assert!(probe.waits(), "the first look only takes note");
    let spun = std::iter::repeat_with(|| probe.waits()).position(|waits| !waits);
    assert!(spun.is_some(), "after a tick or more");
    probe.forget();
    assert!(probe.waits());
}

#[test]
fn a_thread_that_is_gone_does_not_wait() {
    let probe = std::thread::spawn(Probe::here).join().expect("it ends");
    // The kernel may still have it for a moment after the join.
    let waits = |mut probe: Probe| std::iter::repeat_with(move || probe.waits());
    assert!(probe.is_none_or(|probe| waits(probe).any(|waits| !waits)));
}
