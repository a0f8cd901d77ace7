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
    for (after, yielded) in [(0, 10), (3, 11), (4, 1_000), (7, 1_000 + results)] {
        assert!(!gain.is_doubtful(at(ms + after), yielded, (item, 100.0)));
    }
    for window in 1..u64::from(DOUBTS) {
        let (at, yielded) = (at(ms + 4 + 4 * window), 1_000 + window * results);
        assert!(!gain.is_doubtful(at, yielded, (item, 100.0)));
    }
    let yielded = 1_000 + u64::from(DOUBTS) * results;
    gain.is_doubtful(at(ms + 4 + 4 * u64::from(DOUBTS)), yielded, (item, 100.0))
}

#[test]
fn there_is_doubt_where_threads_gain_little() {
    for (nanos, item, doubt) in [
        (200, 50.0, true),
        (200, 170.0, true),
        (200, 190.0, false),
        (100, 50.0, false),
        // Too long, and too few.
        (10_000, 9_000.0, true),
        (30_000, 29_000.0, false),
        (200_000, 15_000.0, false),
    ] {
        let doubts = window(&mut Gain::new(), &clock(), 0, nanos, item);
        assert_eq!(doubts, doubt, "{nanos} ns, {item} ns in the closure");
    }
    let slow_source = Gain::new().is_doubtful(Instant::now(), 0, (50.0, 10_000.0));
    assert!(!slow_source);
}

#[test]
fn one_good_window_ends_the_doubt() {
    let (mut gain, at) = (Gain::new(), clock());
    let mut yielded = 0;
    for window in 0..30 {
        yielded += if window % 3 == 2 { 40_000 } else { 20_000 };
        assert!(!gain.is_doubtful(at(4 * window), yielded, (50.0, 100.0)));
    }
}

#[test]
fn the_better_way_is_kept() {
    for (inline, better) in [(150, true), (209, true), (215, false), (400, false)] {
        let (mut gain, at) = (Gain::new(), clock());
        assert!(window(&mut gain, &at, 0, 200, 50.0));
        gain.begin(true);
        let verdict = gain.judge(at(18), 1_000_000 / inline, MS);
        assert_eq!(verdict == Verdict::Stay, better, "{inline} ns inline");
    }
}

#[test]
fn a_short_look_decides_nothing() {
    let (mut gain, at) = (Gain::new(), clock());
    assert!(window(&mut gain, &at, 0, 200, 50.0));
    gain.begin(true);
    assert_eq!(gain.judge(at(17), 1, MS / 4), Verdict::Stay);
    assert_eq!(gain.judge(at(18), 1, MS), Verdict::FanOut);
}

#[test]
fn it_looks_again_less_and_less_often() {
    let (mut gain, at) = (Gain::new(), clock());
    let mut now = 0;
    // The second one is the first answer of its kind.
    for stay in [32, 64, 128, 256, 512, 512] {
        assert!(window(&mut gain, &at, now, 200, 50.0));
        gain.begin(true);
        now += 18;
        assert_eq!(gain.judge(at(now), 10_000, MS), Verdict::Stay);
        assert_eq!(gain.judge(at(now + stay - 1), 10_000, MS), Verdict::Stay);
        now += stay;
        assert_eq!(gain.judge(at(now), 10_000, MS), Verdict::FanOut);
        gain.end(at(now));
    }
    // And now the threads are better.
    for stay in [32, 64, 128] {
        assert!(window(&mut gain, &at, now, 200, 50.0));
        gain.begin(true);
        now += 18;
        assert_eq!(gain.judge(at(now), 100, MS), Verdict::FanOut);
        gain.end(at(now));
        now += stay;
        assert!(!gain.is_doubtful(at(now - 1), 0, (50.0, 100.0)));
        assert!(!gain.is_doubtful(at(now - 1), 1 << 30, (50.0, 100.0)));
    }
}

#[test]
fn a_trial_that_ends_early_counts_against_it() {
    let (mut gain, at) = (Gain::new(), clock());
    assert!(window(&mut gain, &at, 0, 200, 50.0));
    gain.begin(true);
    gain.end(at(17));
    assert!(!gain.is_doubtful(at(70), 0, (50.0, 100.0)));
    assert!(window(&mut gain, &at, 100, 200, 50.0));
}

#[test]
fn tiny_items_are_not_on_trial() {
    let (mut gain, at) = (Gain::new(), clock());
    gain.begin(false);
    assert_eq!(gain.judge(at(1_000), 1, MS), Verdict::Stay);
    gain.end(at(1_000));
    assert!(window(&mut gain, &at, 1_000, 200, 50.0));
}
