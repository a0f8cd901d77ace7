use super::*;

#[test]
fn oversleep_is_made_up_for_and_idle_time_is_not() {
    let clock = crate::testing::ManualClock::new();
    let limiter = Limiter::with_clock(Rate::per(1, Duration::from_nanos(10)), clock);
    let mut state = limiter.0.state.lock();
    let taken = |state: &mut LineState, now, most| {
        let taken = (0..most).take_while(|_| state.take(now).is_ok());
        taken.count()
    };
    assert_eq!(taken(&mut state, 0, 9), 1);
    state.behind = 15; // what was due at 10 is taken at 25
    assert_eq!(taken(&mut state, 25, 2), 2, "and what was due at 20");
    let idle = "time in which nobody waited does not count";
    assert_eq!(taken(&mut state, 1_000, 9), 1, "{idle}");
}
