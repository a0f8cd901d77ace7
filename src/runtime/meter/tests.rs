use super::*;

struct Taken(u64);

impl Live for Taken {
    fn taken(&self) -> u64 {
        self.0
    }
}

const MS: Duration = Duration::from_millis(1);

/// A meter of a stage that starts now, and a clock that begins there.
fn started(width: usize, taken: u64) -> (Meter, impl Fn(u32) -> Instant) {
    let (meter, began) = (Meter::default(), Instant::now());
    meter.start(began, width, 16, Some(Arc::new(Taken(taken))));
    (meter, move |ms| began + MS * ms)
}

/// Run, source, room and spare, in milliseconds.
fn workers(totals: &Totals) -> [u128; 4] {
    [totals.run, totals.source, totals.room, totals.spare].map(|time| time.as_millis())
}

#[test]
fn every_permit_is_somewhere() {
    let (meter, at) = started(3, 0);
    meter.set(at(10), 0, Doing::Source);
    meter.set(at(12), 0, Doing::Run);
    meter.set(at(15), 1, Doing::Run);
    meter.full(at(20), true, 16);
    meter.set(at(30), 0, Doing::Nothing);
    meter.set(at(40), 1, Doing::Nothing);
    let totals = meter.totals(at(50));
    // Three for 10 ms, two for 5, one for 5; after 20 ms what is left has no room.
    assert_eq!(workers(&totals), [18 + 25, 2, 10 + 20 + 30, 30 + 4 + 6 + 5]);
    assert_eq!(totals.elapsed, 50 * MS);
    assert_eq!(totals.peak_running, 2);
}

#[test]
fn the_width_may_change() {
    let (meter, at) = started(2, 0);
    meter.set(at(0), 0, Doing::Run);
    meter.set(at(0), 1, Doing::Run);
    meter.resize(at(10), 5, 80);
    let totals = meter.totals(at(20));
    assert_eq!(workers(&totals), [20 + 20, 0, 0, 30]);
    assert_eq!((totals.width, totals.bound), (5, 80));
    // Of the two that run one is more than the width from now on.
    meter.resize(at(20), 1, 16);
    let totals = meter.totals(at(30));
    assert_eq!(workers(&totals), [40 + 10, 0, 0, 30]);
    meter.set(at(30), 1, Doing::Nothing);
    let totals = meter.totals(at(40));
    assert_eq!(workers(&totals), [40 + 20, 0, 0, 30]);
    assert_eq!(totals.elapsed, 40 * MS);
}

#[test]
fn a_thread_in_the_source_may_have_lost_its_permit() {
    let (meter, at) = started(1, 0);
    meter.set(at(0), 0, Doing::Source);
    meter.set(at(5), 1, Doing::Run);
    assert_eq!(workers(&meter.totals(at(8))), [3, 5, 0, 0]);
}

#[test]
fn the_consumer_waits_runs_or_is_away() {
    let (meter, at) = started(2, 0);
    meter.waits(at(1), true);
    meter.full(at(2), true, 16);
    meter.waits(at(5), false);
    meter.set(at(7), usize::MAX, Doing::Run);
    meter.set(at(9), usize::MAX, Doing::Nothing);
    let totals = meter.totals(at(10));
    assert_eq!(
        (totals.head, totals.blocked, totals.own),
        (4 * MS, 3 * MS, 2 * MS)
    );
    assert_eq!(totals.room_blocked, 6 * MS);
}

#[test]
fn no_time_passes_before_the_start_and_after_the_end() {
    let meter = Meter::default();
    let now = Instant::now();
    meter.set(now, 0, Doing::Run);
    assert_eq!(meter.totals(now + MS).elapsed, Duration::ZERO);
    let (meter, at) = started(1, 0);
    meter.end(at(3));
    assert_eq!(meter.totals(at(9)).elapsed, 3 * MS);
}

#[test]
fn counts_are_in_order_although_they_lag() {
    let (meter, at) = started(2, 7);
    let totals = meter.totals(at(1));
    assert_eq!((totals.pulled, totals.ran, totals.taken), (7, 7, 7));
    meter.pulled(20);
    meter.ran_to(10);
    let totals = meter.totals(at(1));
    assert_eq!((totals.pulled, totals.ran, totals.taken), (20, 10, 7));
    assert_eq!(totals.peak_in_flight, 13);
}

#[test]
fn what_was_not_taken_was_dropped() {
    let (meter, at) = started(2, 0);
    meter.pulled(20);
    meter.fate(Fate::Failed, 1);
    meter.close(12);
    let totals = meter.totals(at(1));
    assert_eq!(
        (totals.taken, totals.failed, totals.discarded, totals.left),
        (12, 1, 8, 8)
    );
}
