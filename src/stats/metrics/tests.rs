#![allow(clippy::float_cmp)] // all but the times are small whole numbers, and those are made of whole milliseconds

use super::*;
use crate::fanfold::Fanfold;
use crate::runtime::meter::{Event, Fate, Meter};
use crate::sync::Instant;
use ::metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, with_local_recorder,
};
use std::collections::BTreeMap;
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);

/// Keeps what it is told last, as it is: an exporter may hide a counter that falls.
#[derive(Debug, Default)]
struct Book {
    values: Arc<Mutex<BTreeMap<String, f64>>>,
    described: Mutex<BTreeMap<String, (Option<Unit>, String)>>,
}

#[derive(Debug)]
struct Line {
    values: Arc<Mutex<BTreeMap<String, f64>>>,
    key: String,
}

impl Book {
    fn line(&self, key: &Key) -> Arc<Line> {
        let labels = key
            .labels()
            .map(|label| format!("{}={}", label.key(), label.value()));
        let labels = labels.collect::<Vec<_>>().join(",");
        Arc::new(Line {
            values: Arc::clone(&self.values),
            key: format!("{}{{{labels}}}", key.name()),
        })
    }

    fn describe(&self, name: &KeyName, unit: Option<Unit>, help: &str) {
        let entry = (unit, help.to_owned());
        self.described
            .lock()
            .insert(name.as_str().to_owned(), entry);
    }

    /// What is there after a call.
    fn published(&self, publisher: &MetricsPublisher) -> BTreeMap<String, f64> {
        with_local_recorder(self, || publisher.publish());
        self.values.lock().clone()
    }
}

impl Line {
    fn put(&self, value: f64) {
        self.values.lock().insert(self.key.clone(), value);
    }
}

impl CounterFn for Line {
    fn increment(&self, _: u64) {
        panic!("only totals are published");
    }
    fn absolute(&self, value: u64) {
        self.put(value as f64);
    }
}

impl GaugeFn for Line {
    fn increment(&self, _: f64) {
        panic!("only totals are published");
    }
    fn decrement(&self, _: f64) {
        panic!("only totals are published");
    }
    fn set(&self, value: f64) {
        self.put(value);
    }
}

impl HistogramFn for Line {
    /// Counts them.
    fn record(&self, _: f64) {
        *self.values.lock().entry(self.key.clone()).or_default() += 1.0;
    }
}

impl Recorder for Book {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, help: SharedString) {
        self.describe(&name, unit, &help);
    }
    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, help: SharedString) {
        self.describe(&name, unit, &help);
    }
    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, help: SharedString) {
        self.describe(&name, unit, &help);
    }
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.line(key))
    }
    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.line(key))
    }
    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.line(key))
    }
}

/// A stage of nobody's: the test says what it does.
fn plant(name: &str) -> (StageStats, Arc<Meter>) {
    let meter = Arc::new(Meter::default());
    (StageStats::new(name.into(), Arc::clone(&meter)), meter)
}

#[test]
fn all_of_a_snapshot_is_published() {
    let (stats, meter) = plant("all");
    let began = Instant::now();
    meter.start(began, 3, 20, None);
    meter.set(began, 0, crate::runtime::meter::Doing::Run);
    meter.waits(began, true);
    meter.set(began + 10 * MS, 1, crate::runtime::meter::Doing::Source);
    meter.full(began + 40 * MS, true, 24);
    meter.pulled(17);
    meter.ran_to(11);
    meter.taken_to(9);
    for (fate, items) in [
        (Fate::Failed, 1),
        (Fate::Panicked, 2),
        (Fate::TimedOut, 3),
        (Fate::Discarded, 1),
    ] {
        meter.fate(fate, items);
    }
    for event in [Event::HedgeSent, Event::HedgeSent, Event::HedgeWon] {
        meter.count_event(event);
    }
    meter.end(began + 100 * MS);
    let (publisher, book) = (MetricsPublisher::new(), Book::default());
    publisher.add(&stats);
    let expected = [
        (
            "fanfold_consumer_time_seconds_total{stage=all,state=away}",
            0.0,
        ),
        (
            "fanfold_consumer_time_seconds_total{stage=all,state=head}",
            0.1,
        ),
        (
            "fanfold_consumer_time_seconds_total{stage=all,state=own}",
            0.0,
        ),
        ("fanfold_stage_admitted_items_total{stage=all}", 17.0),
        ("fanfold_stage_head_blocked_seconds_total{stage=all}", 0.06),
        ("fanfold_stage_hedges_total{stage=all,result=refused}", 0.0),
        ("fanfold_stage_hedges_total{stage=all,result=sent}", 2.0),
        ("fanfold_stage_hedges_total{stage=all,result=won}", 1.0),
        ("fanfold_stage_in_flight_limit{stage=all}", 24.0),
        ("fanfold_stage_in_flight{stage=all,state=parked}", 2.0),
        ("fanfold_stage_in_flight{stage=all,state=queued}", 5.0),
        ("fanfold_stage_in_flight{stage=all,state=running}", 1.0),
        (
            "fanfold_stage_items_total{stage=all,outcome=discarded}",
            1.0,
        ),
        ("fanfold_stage_items_total{stage=all,outcome=failed}", 1.0),
        ("fanfold_stage_items_total{stage=all,outcome=filtered}", 0.0),
        ("fanfold_stage_items_total{stage=all,outcome=panicked}", 2.0),
        (
            "fanfold_stage_items_total{stage=all,outcome=timed_out}",
            3.0,
        ),
        ("fanfold_stage_items_total{stage=all,outcome=yielded}", 2.0),
        (
            "fanfold_stage_time_seconds_total{stage=all,state=room}",
            0.06,
        ),
        ("fanfold_stage_time_seconds_total{stage=all,state=run}", 0.1),
        (
            "fanfold_stage_time_seconds_total{stage=all,state=source}",
            0.09,
        ),
        (
            "fanfold_stage_time_seconds_total{stage=all,state=spare}",
            0.05,
        ),
        ("fanfold_stage_workers_limit{stage=all}", 3.0),
        ("fanfold_stage_workers{stage=all}", 3.0),
    ];
    let published = book.published(&publisher);
    let published: Vec<_> = published
        .iter()
        .map(|(key, value)| (&**key, *value))
        .collect();
    assert_eq!(published, expected);

    let described = book.described.lock();
    for family in FAMILIES {
        let unit = match family.kind {
            Kind::Seconds => Unit::Seconds,
            Kind::Count | Kind::Now => Unit::Count,
        };
        assert_eq!(described[family.name], (Some(unit), family.help.to_owned()));
    }
}

#[test]
fn namesakes_are_added_up_and_those_that_are_gone_stay_in_the_totals() {
    let (publisher, book) = (MetricsPublisher::new(), Book::default());
    let yielded = "fanfold_stage_items_total{stage=same,outcome=yielded}";
    let workers = "fanfold_stage_workers{stage=same}";
    let run = "fanfold_stage_time_seconds_total{stage=same,state=run}";
    let mut first = (0..100).par_map_ordered(2, |x: u64| x).named("same");
    let mut second = (0..).par_map_ordered(3, |x: u64| x).named("same");
    let of_the_first = first.stats();
    publisher.add(&of_the_first);
    publisher.add(&second.stats());
    assert_eq!(book.published(&publisher)[workers], 0.0, "none has begun");
    assert_eq!(second.by_ref().take(10).count(), 10);
    assert_eq!(first.by_ref().take(10).count(), 10);
    let now = book.published(&publisher);
    assert_eq!((now[yielded], now[workers]), (20.0, 5.0));

    // It has ended, and its handle is still there: added again, it would count twice.
    assert_eq!(first.count(), 90);
    publisher.add(&of_the_first);
    let now = book.published(&publisher);
    assert_eq!((now[yielded], now[workers]), (110.0, 3.0));
    assert_eq!(publisher.names.lock()["same"].stages.len(), 2);

    drop(of_the_first);
    drop(second);
    let then = book.published(&publisher);
    assert_eq!((then[yielded], then[workers]), (110.0, 0.0));
    assert!(then[run] >= now[run]);
    assert!(publisher.names.lock()["same"].stages.is_empty());
    assert_eq!(book.published(&publisher), then, "nothing changes any more");

    let mut third = (0..5).par_map_ordered(1, |x: u64| x).named("same");
    publisher.add(&third.stats());
    assert_eq!(third.count(), 5);
    assert_eq!(book.published(&publisher)[yielded], 115.0);
}

#[test]
fn a_stage_that_never_starts_is_given_back() {
    let (publisher, book) = (MetricsPublisher::new(), Book::default());
    let mut stage = (0..9).par_map_ordered(2, |x| x).named("idle");
    publisher.add(&stage.stats());
    drop(stage);
    assert!(
        book.published(&publisher)
            .values()
            .all(|value| *value == 0.0)
    );
    assert!(publisher.names.lock()["idle"].stages.is_empty());
}

#[test]
fn totals_do_not_fall_even_if_a_count_does() {
    let (publisher, book) = (MetricsPublisher::new(), Book::default());
    let (stats, meter) = plant("falls");
    publisher.add(&stats);
    meter.start(Instant::now(), 1, 4, None);
    meter.pulled(8);
    meter.ran_to(5);
    meter.taken_to(5);
    let yielded = "fanfold_stage_items_total{stage=falls,outcome=yielded}";
    assert_eq!(book.published(&publisher)[yielded], 5.0);
    meter.fate(Fate::Failed, 1);
    assert_eq!(stats.snapshot().yielded, 4);
    assert_eq!(book.published(&publisher)[yielded], 5.0);
}

#[test]
fn without_a_recorder_nothing_happens() {
    let publisher = MetricsPublisher::default();
    let mut stage = (0..9).par_map_ordered(2, |x| x).named("nobody");
    publisher.add(&stage.stats());
    publisher.publish();
    assert_eq!(stage.count(), 9);
    let shown = format!("{publisher:?}");
    assert!(shown.contains("nobody"), "{shown}");
}

#[cfg(feature = "percentile")]
#[test]
fn the_time_of_each_item_is_recorded_once() {
    let (publisher, book) = (MetricsPublisher::new(), Book::default());
    let (duration, delay) = (
        "fanfold_stage_item_duration_seconds{stage=timed}",
        "fanfold_stage_item_delay_seconds{stage=timed}",
    );
    for round in 1..=2 {
        let mut stage = (0..100_u64).par_map_ordered(2, |x| x).named("timed");
        let stats = stage.stats().item_times();
        publisher.add(&stats);
        assert_eq!(stage.by_ref().take(40).count(), 40);
        let before = book.published(&publisher);
        assert_eq!(before[delay], f64::from(100 * (round - 1) + 40));
        assert_eq!(stage.count(), 60);
        drop(stats);
        for _ in 0..3 {
            let all = book.published(&publisher);
            assert_eq!(
                (all[duration], all[delay]),
                (f64::from(100 * round), f64::from(100 * round))
            );
        }
    }
}
