use super::*;

/// Milliseconds after a beginning, which is the same in one test.
fn clock() -> impl Fn(u64) -> Instant {
    let began = Instant::now();
    move |ms| began + Duration::from_millis(ms)
}

const MS: Duration = Duration::from_millis(1);

/// The consumer has yielded as many as were run.
fn both(ran: u64) -> Counts {
    Counts { yielded: ran, ran }
}

/// Some windows from `ms` on, in all of which but the first a result takes `nanos`. Whether there is doubt at the end.
fn window(gain: &mut Gain, at: &impl Fn(u64) -> Instant, ms: u64, nanos: u64, item: f32) -> bool {
    let (results, all) = (4_000_000 / nanos, windows(gain));
    let mut ask = |after, ran| {
        let now = at(ms + after);
        gain.is_doubtful(now, both(ran), (item, 100.0), false)
    };
    for (after, ran) in [(0, 10), (3, 11), (4, 1_000), (7, 1_000 + results)] {
        assert!(!ask(after, ran));
    }
    for window in 1..all {
        assert!(!ask(4 + 4 * window, 1_000 + window * results));
    }
    ask(4 + 4 * all, 1_000 + all * results)
}

/// So many of them in a row are enough.
fn windows(gain: &Gain) -> u64 {
    u64::from(if gain.inline { DOUBTS_AGAIN } else { DOUBTS })
}

/// In milliseconds: how long that takes at first, and a trial after it.
const WINDOWS_MS: u64 = 12;
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
    let slow_source = Gain::new().is_doubtful(Instant::now(), both(0), (50.0, 10_000.0), false);
    assert!(!slow_source);
}

#[test]
fn one_good_window_ends_the_doubt() {
    let (mut gain, at) = (Gain::new(), clock());
    let mut yielded = 0;
    for window in 0..30 {
        yielded += if window % 2 == 1 { 40_000 } else { 20_000 };
        assert!(!gain.is_doubtful(at(4 * window), both(yielded), (50.0, 100.0), false));
    }
}

#[test]
fn a_rush_of_results_is_no_gain() {
    for (yielded, ran, doubt) in [(40_000_u64, 20_000_u64, true), (20_000, 40_000, false)] {
        let (mut gain, at) = (Gain::new(), clock());
        let mut ask = |window| {
            let counts = Counts {
                yielded: yielded * window,
                ran: ran * window,
            };
            gain.is_doubtful(at(4 * window), counts, (50.0, 100.0), false)
        };
        assert!(!(0..3).any(&mut ask));
        assert_eq!(ask(3), doubt);
    }
}

#[test]
fn two_short_windows_are_enough_if_they_are_bad() {
    for (short, second, enough) in [(true, 20, true), (true, 9_000, false), (false, 20, false)] {
        let (mut gain, at) = (Gain::new(), clock());
        let mut ask = |ms, yielded| gain.is_doubtful(at(ms), both(yielded), (50.0, 100.0), short);
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
            assert!(!gain.is_doubtful(at(now + after), both(yielded), (50.0, 100.0), true));
        }
        assert!(gain.is_doubtful(at(now + 6), both(12), (50.0, 100.0), true));
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
        let verdict = trial(&mut gain, &at, WINDOWS_MS, inline);
        assert_eq!(verdict == Verdict::Stay, better, "{inline} ns inline");
        assert_eq!(gain.is_for_threads(at(WINDOWS_MS + TRIAL_MS)), !better);
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
    // How long it takes until there is doubt: less if threads were not worth it before.
    let doubt = |gain: &mut Gain, at: &dyn Fn(u64) -> Instant, now| {
        let took = 4 + 4 * windows(gain);
        assert!(window(gain, &at, now, 200, 50.0));
        took
    };
    let (mut gain, at) = (Gain::new(), clock());
    let mut now = 0;
    for stay in [32, 64, 128, 256, 512, 512] {
        now += doubt(&mut gain, &at, now);
        assert_eq!(trial(&mut gain, &at, now, 190), Verdict::Stay);
        now += TRIAL_MS;
        assert_eq!(gain.judge(at(now + stay - 1), 10_000, MS), Verdict::Stay);
        now += stay;
        assert_eq!(gain.judge(at(now), 10_000, MS), Verdict::FanOut);
        gain.end(at(now));
    }
    // And now the threads are better.
    for stay in [32, 64, 128] {
        now += doubt(&mut gain, &at, now);
        assert_eq!(trial(&mut gain, &at, now, 240), Verdict::FanOut);
        now += TRIAL_MS;
        gain.end(at(now));
        assert!(gain.is_for_threads(at(now)));
        now += stay;
        assert!(!gain.is_doubtful(at(now - 1), both(0), (50.0, 100.0), true));
        assert!(!gain.is_doubtful(at(now - 1), both(1 << 30), (50.0, 100.0), true));
    }
    assert!(!gain.is_for_threads(at(now)));
}

#[test]
fn a_trial_that_ends_early_counts_against_it() {
    let (mut gain, at) = (Gain::new(), clock());
    assert!(window(&mut gain, &at, 0, 200, 50.0));
    gain.begin(true);
    gain.end(at(17));
    assert!(!gain.is_doubtful(at(48), both(0), (50.0, 100.0), false));
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
