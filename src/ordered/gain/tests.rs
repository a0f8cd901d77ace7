use super::*;

/// Milliseconds after a beginning, which is the same in one test.
fn clock() -> impl Fn(u64) -> Instant {
    let began = Instant::now();
    move |ms| began + Duration::from_millis(ms)
}

const MS: Duration = Duration::from_millis(1);

/// Some windows from `ms` on, in all of which but the first a result takes `nanos`. Whether there is doubt at the end.
fn window(gain: &mut Gain, at: &impl Fn(u64) -> Instant, ms: u64, nanos: u64, item: f32) -> bool {
    let results = 4_000_000 / nanos;
    let mut ask = |after, yielded| {
        let now = at(ms + after);
        gain.is_doubtful(now, yielded, (item, 100.0), false)
    };
    for (after, yielded) in [(0, 10), (3, 11), (4, 1_000), (7, 1_000 + results)] {
        assert!(!ask(after, yielded));
    }
    for window in 1..u64::from(DOUBTS) {
        assert!(!ask(4 + 4 * window, 1_000 + window * results));
    }
    let all = u64::from(DOUBTS);
    ask(4 + 4 * all, 1_000 + all * results)
}

/// How long such a window takes, and a trial after it.
const WINDOW_MS: u64 = 16;
const TRIAL_MS: u64 = 3;

/// A trial in which an item takes `nanos`, from `ms` on.
fn trial(gain: &mut Gain, at: &impl Fn(u64) -> Instant, ms: u64, nanos: u64) -> Verdict {
    gain.begin(true);
    let moved = 1_000_000 / nanos;
    assert_eq!(gain.judge(at(ms + 1), 1, MS), Verdict::Stay, "to get going");
    match gain.judge(at(ms + 2), moved, MS) {
        Verdict::Stay => gain.judge(at(ms + TRIAL_MS), moved, MS),
        Verdict::FanOut => Verdict::FanOut,
    }
}

#[test]
fn there_is_doubt_where_threads_gain_little() {
    for (nanos, item, doubt) in [
        (200, 50.0, true),
        (200, 170.0, true),
        (200, 190.0, false),
        (100, 50.0, false),
        // However few, but not of long ones.
        (10_000, 9_000.0, true),
        (40_000, 39_000.0, true),
        (60_000, 59_000.0, false),
    ] {
        let doubts = window(&mut Gain::new(), &clock(), 0, nanos, item);
        assert_eq!(doubts, doubt, "{nanos} ns, {item} ns in the closure");
    }
    let slow_source = Gain::new().is_doubtful(Instant::now(), 0, (50.0, 10_000.0), false);
    assert!(!slow_source);
}

#[test]
fn one_good_window_ends_the_doubt() {
    let (mut gain, at) = (Gain::new(), clock());
    let mut yielded = 0;
    for window in 0..30 {
        yielded += if window % 3 == 2 { 40_000 } else { 20_000 };
        assert!(!gain.is_doubtful(at(4 * window), yielded, (50.0, 100.0), false));
    }
}

#[test]
fn two_short_windows_are_enough_if_they_are_bad() {
    for (short, second, enough) in [(true, 20, true), (true, 9_000, false), (false, 20, false)] {
        let (mut gain, at) = (Gain::new(), clock());
        let mut ask = |ms, yielded| gain.is_doubtful(at(ms), yielded, (50.0, 100.0), short);
        assert!(!ask(0, 0) && !ask(2, 10), "to get going");
        assert!(!ask(4, 11));
        assert_eq!(ask(6, second), enough);
    }
}

#[test]
fn what_is_clearly_better_is_kept_for_longer() {
    let (mut gain, at) = (Gain::new(), clock());
    let mut now = 0;
    for stay in [128, 256, 512, 512] {
        for (after, yielded) in [(0, 0), (2, 10), (4, 11)] {
            assert!(!gain.is_doubtful(at(now + after), yielded, (50.0, 100.0), true));
        }
        assert!(gain.is_doubtful(at(now + 6), 12, (50.0, 100.0), true));
        assert_eq!(trial(&mut gain, &at, now + 6, 200), Verdict::Stay);
        now += 6 + TRIAL_MS;
        assert_eq!(gain.judge(at(now + stay - 1), 5_000, MS), Verdict::Stay);
        now += stay;
        assert_eq!(gain.judge(at(now), 5_000, MS), Verdict::FanOut);
        gain.end(at(now));
    }
}

#[test]
fn the_better_way_is_kept() {
    for (inline, better) in [(150, true), (209, true), (215, false), (400, false)] {
        let (mut gain, at) = (Gain::new(), clock());
        assert!(window(&mut gain, &at, 0, 200, 50.0));
        let verdict = trial(&mut gain, &at, WINDOW_MS, inline);
        assert_eq!(verdict == Verdict::Stay, better, "{inline} ns inline");
        assert_eq!(gain.is_for_threads(at(WINDOW_MS + TRIAL_MS)), !better);
    }
}

#[test]
fn a_short_look_decides_nothing() {
    let (mut gain, at) = (Gain::new(), clock());
    assert!(window(&mut gain, &at, 0, 200, 50.0));
    gain.begin(true);
    assert_eq!(gain.judge(at(17), 1, MS / 4), Verdict::Stay);
    assert_eq!(gain.judge(at(18), 1, MS), Verdict::Stay, "to get going");
    assert_eq!(gain.judge(at(18), 1, MS / 4), Verdict::Stay);
    assert_eq!(gain.judge(at(19), 1, MS), Verdict::FanOut);
}

#[test]
fn it_looks_again_less_and_less_often() {
    let (mut gain, at) = (Gain::new(), clock());
    let mut now = 0;
    // The second one is the first answer of its kind.
    for stay in [32, 64, 128, 256, 512, 512] {
        assert!(window(&mut gain, &at, now, 200, 50.0));
        assert_eq!(trial(&mut gain, &at, now + WINDOW_MS, 190), Verdict::Stay);
        now += WINDOW_MS + TRIAL_MS;
        assert_eq!(gain.judge(at(now + stay - 1), 10_000, MS), Verdict::Stay);
        now += stay;
        assert_eq!(gain.judge(at(now), 10_000, MS), Verdict::FanOut);
        gain.end(at(now));
    }
    // And now the threads are better.
    for stay in [32, 64, 128] {
        assert!(window(&mut gain, &at, now, 200, 50.0));
        assert_eq!(trial(&mut gain, &at, now + WINDOW_MS, 250), Verdict::FanOut);
        now += WINDOW_MS + TRIAL_MS;
        gain.end(at(now));
        assert!(gain.is_for_threads(at(now)));
        now += stay;
        assert!(!gain.is_doubtful(at(now - 1), 0, (50.0, 100.0), true));
        assert!(!gain.is_doubtful(at(now - 1), 1 << 30, (50.0, 100.0), true));
    }
    assert!(!gain.is_for_threads(at(now)));
}

#[test]
fn a_trial_that_ends_early_counts_against_it() {
    let (mut gain, at) = (Gain::new(), clock());
    assert!(window(&mut gain, &at, 0, 200, 50.0));
    gain.begin(true);
    gain.end(at(17));
    assert!(!gain.is_doubtful(at(48), 0, (50.0, 100.0), false));
    assert!(window(&mut gain, &at, 100, 200, 50.0));
}

#[test]
fn tiny_items_are_not_on_trial() {
    let (mut gain, at) = (Gain::new(), clock());
    gain.begin(false);
    assert_eq!(gain.judge(at(1_000), 1, MS), Verdict::Stay);
    assert_eq!(gain.judge(at(1_001), 1, MS), Verdict::Stay);
    gain.end(at(1_001));
    assert!(!gain.is_for_threads(at(1_001)));
    assert!(window(&mut gain, &at, 1_001, 200, 50.0));
}
