//! Over HTTP, as the example `prometheus` does it: what is scraped is what the snapshots say, and counters never fall.

use crate::support::{Gate, SOON, within};
use crate::{Values, values};
use fanfold::stats::{MetricsPublisher, Snapshot};
use fanfold::{Fanfold, StageStats};
use metrics::with_local_recorder;
use metrics_exporter_prometheus::PrometheusBuilder;
use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

#[path = "../../examples/prometheus/server.rs"]
mod server;

/// Each series of a stage, and where it is in a snapshot.
type Series = (&'static str, &'static str, fn(&Snapshot) -> f64);

const COUNTS: &[Series] = &[
    ("items_total", r#",outcome="yielded""#, |now| {
        now.yielded as f64
    }),
    ("items_total", r#",outcome="filtered""#, |now| {
        now.filtered as f64
    }),
    ("items_total", r#",outcome="failed""#, |now| {
        now.failed as f64
    }),
    ("items_total", r#",outcome="panicked""#, |now| {
        now.panicked as f64
    }),
    ("items_total", r#",outcome="timed_out""#, |now| {
        now.timed_out as f64
    }),
    ("items_total", r#",outcome="discarded""#, |now| {
        now.discarded as f64
    }),
    ("admitted_items_total", "", |now| now.admitted as f64),
    ("hedges_total", r#",result="sent""#, |now| {
        now.hedges.sent as f64
    }),
    ("hedges_total", r#",result="won""#, |now| {
        now.hedges.won as f64
    }),
    ("hedges_total", r#",result="refused""#, |now| {
        now.hedges.refused as f64
    }),
];
const TIMES: &[Series] = &[
    ("time_seconds_total", r#",state="run""#, |now| {
        now.time.run.as_secs_f64()
    }),
    ("time_seconds_total", r#",state="source""#, |now| {
        now.time.source.as_secs_f64()
    }),
    ("time_seconds_total", r#",state="room""#, |now| {
        now.time.room.as_secs_f64()
    }),
    ("time_seconds_total", r#",state="spare""#, |now| {
        now.time.spare.as_secs_f64()
    }),
    ("consumer", r#",state="head""#, |now| {
        now.consumer.head.as_secs_f64()
    }),
    ("consumer", r#",state="away""#, |now| {
        now.consumer.away.as_secs_f64()
    }),
    ("consumer", r#",state="own""#, |now| {
        now.consumer.own.as_secs_f64()
    }),
    ("head_blocked_seconds_total", "", |now| {
        now.consumer.blocked.as_secs_f64()
    }),
];
const GAUGES: &[Series] = &[
    ("in_flight", r#",state="queued""#, |now| now.queued() as f64),
    ("in_flight", r#",state="running""#, |now| {
        now.running() as f64
    }),
    ("in_flight", r#",state="parked""#, |now| now.parked() as f64),
    ("in_flight_limit", "", |now| now.in_flight_limit as f64),
    ("workers", "", |now| now.width as f64),
    ("workers_limit", "", |now| now.width as f64),
];

fn line(stage: &str, (name, label, _): &Series) -> String {
    let name = match *name {
        "consumer" => "fanfold_consumer_time_seconds_total".to_owned(),
        name => format!("fanfold_stage_{name}"),
    };
    format!("{name}{{stage=\"{stage}\"{label}}}")
}

/// A server that publishes when it is asked.
fn serve(publisher: MetricsPublisher, builder: PrometheusBuilder) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let recorder = builder.build_recorder();
    let exporter = recorder.handle();
    server::serve(listener, move || {
        with_local_recorder(&recorder, || publisher.publish());
        exporter.render()
    });
    address
}

/// What the server says, and the same as numbers.
fn scrape(address: SocketAddr) -> (String, Values) {
    within(SOON, move || {
        let mut page = ureq::get(format!("http://{address}/metrics"))
            .call()
            .expect("the page is there");
        let kind = page.headers()["content-type"]
            .to_str()
            .expect("text")
            .to_owned();
        assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
        let page = page.body_mut().read_to_string().expect("it is text");
        let values = values(&page);
        (page, values)
    })
}

fn is_close(left: f64, right: f64) -> bool {
    (left - right).abs() <= 1e-9 * left.abs().max(1.0)
}

#[test]
fn a_running_pipeline_is_scraped() {
    let gate = Gate::new();
    let publisher = MetricsPublisher::new();
    let wait = gate.clone();
    let fetch = move |x: u64| {
        if x == 40 {
            wait.wait(); // until the test has looked
        }
        sleep(Duration::from_micros(100));
        x
    };
    let mut fetched = (0..200)
        .par_map_ordered(3, fetch)
        .in_flight(8)
        .named("fetch");
    let mut handles = vec![fetched.stats()];
    let fails = |x: u64| if x == 150 { Err(x) } else { Ok(x) };
    let mut parsed = fetched
        .try_par_map_ordered(2, fails)
        .in_flight(4)
        .named("parse");
    handles.push(parsed.stats());
    for stats in &handles {
        publisher.add(stats);
    }
    let address = serve(publisher, PrometheusBuilder::new());

    // Not started.
    let (_, before) = scrape(address);
    assert!(before.values().all(|value| *value == 0.0), "{before:?}");

    let consumer = std::thread::spawn(move || parsed.by_ref().flatten().count());
    // It stands still: 40 is the head, and behind it the bound is full.
    let stats = handles[0].clone();
    within(SOON, move || {
        let stands = |now: Snapshot| now.yielded == 40 && now.admitted == 48 && now.parked() == 7;
        while !stands(stats.snapshot()) {
            std::thread::yield_now();
        }
    });
    let (_, during) = scrape(address);
    between(&handles, &before, &during);
    assert_eq!(
        during[r#"fanfold_stage_items_total{stage="fetch",outcome="yielded"}"#],
        40.0
    );
    assert_eq!(
        during[r#"fanfold_stage_in_flight{stage="fetch",state="running"}"#],
        1.0
    );
    assert_eq!(
        during[r#"fanfold_stage_in_flight{stage="fetch",state="parked"}"#],
        7.0
    );
    assert_eq!(
        during[r#"fanfold_stage_in_flight_limit{stage="fetch"}"#],
        8.0
    );
    assert_eq!(during[r#"fanfold_stage_workers{stage="fetch"}"#], 3.0);
    assert_eq!(
        during[r#"fanfold_stage_in_flight_limit{stage="parse"}"#],
        4.0
    );
    // A closure runs, and its time passes in steps much smaller than a second.
    let run = r#"fanfold_stage_time_seconds_total{stage="fetch",state="run"}"#;
    let mut last = during;
    for _ in 0..3 {
        let (_, now) = scrape(address);
        between(&handles, &last, &now);
        assert!(now[run] > last[run], "{last:?} {now:?}");
        last = now;
    }

    gate.open();
    assert_eq!(
        within(SOON, move || consumer.join().expect("no panic")),
        150
    );
    let (_, after) = scrape(address);
    between(&handles, &last, &after);
    // All has ended, so that each value is known exactly; and in neither stage is anything left.
    for stats in &handles {
        let now = stats.snapshot();
        for series in COUNTS.iter().chain(TIMES) {
            let line = line(stats.name(), series);
            let (value, want) = (after[&line], (series.2)(&now));
            assert!(is_close(value, want), "{line}: {value} and not {want}");
        }
        for series in GAUGES {
            assert_eq!(after[&line(stats.name(), series)], 0.0, "{series:?}");
        }
    }
    assert_eq!(
        after[r#"fanfold_stage_items_total{stage="parse",outcome="yielded"}"#],
        150.0
    );
    assert_eq!(
        after[r#"fanfold_stage_items_total{stage="parse",outcome="failed"}"#],
        1.0
    );
    drop(handles);
    assert_eq!(
        scrape(address).1,
        after,
        "the totals of stages that are gone stay"
    );
}

/// Two scrapes, the second one just now: all series are there, counters have not fallen, and none is ahead of the stage.
fn between(handles: &[StageStats], before: &Values, after: &Values) {
    let mut expected = BTreeSet::new();
    for stats in handles {
        let now = stats.snapshot();
        for series in COUNTS.iter().chain(TIMES) {
            let line = line(stats.name(), series);
            assert!(after[&line] >= before[&line], "{line} has fallen");
            assert!(after[&line] <= (series.2)(&now) + 1e-9, "{line} is ahead");
            expected.insert(line);
        }
        expected.extend(GAUGES.iter().map(|series| line(stats.name(), series)));
    }
    let names: BTreeSet<String> = after.keys().cloned().collect();
    assert_eq!(names, expected);
}

#[test]
fn each_name_has_a_type_and_a_text() {
    let publisher = MetricsPublisher::new();
    let mut stage = (0..9).par_map_ordered(1, |x| x).named("typed");
    publisher.add(&stage.stats());
    let (page, _) = scrape(serve(publisher, PrometheusBuilder::new()));
    for (name, kind) in [
        ("fanfold_stage_items_total", "counter"),
        ("fanfold_stage_admitted_items_total", "counter"),
        ("fanfold_stage_time_seconds_total", "gauge"),
        ("fanfold_consumer_time_seconds_total", "gauge"),
        ("fanfold_stage_head_blocked_seconds_total", "gauge"),
        ("fanfold_stage_hedges_total", "counter"),
        ("fanfold_stage_in_flight", "gauge"),
        ("fanfold_stage_in_flight_limit", "gauge"),
        ("fanfold_stage_workers", "gauge"),
        ("fanfold_stage_workers_limit", "gauge"),
    ] {
        assert!(page.contains(&format!("# TYPE {name} {kind}\n")), "{page}");
        assert!(page.contains(&format!("# HELP {name} ")), "{page}");
    }
}

/// An exporter that appends units and `_total` finds them there already.
#[test]
fn the_names_are_those_that_prometheus_recommends() {
    let pages = [false, true].map(|recommended| {
        let publisher = MetricsPublisher::new();
        let mut stage = (0..9).par_map_ordered(1, |x| x).named("named");
        publisher.add(&stage.stats());
        assert_eq!(stage.count(), 9);
        let builder = PrometheusBuilder::new().with_recommended_naming(recommended);
        let (_, values) = scrape(serve(publisher, builder));
        values.into_keys().collect::<Vec<_>>()
    });
    assert_eq!(pages[0], pages[1]);
    assert_eq!(pages[0].len(), COUNTS.len() + TIMES.len() + GAUGES.len());
}

#[test]
fn counters_never_fall_while_stages_come_and_go() {
    let publisher = Arc::new(MetricsPublisher::new());
    let recorder = PrometheusBuilder::new().build_recorder();
    let exporter = recorder.handle();
    let runs = std::thread::spawn({
        let publisher = Arc::clone(&publisher);
        move || {
            for _ in 0..50 {
                let mut stage = (0..500_u64).par_map_ordered(2, |x| x + 1).named("again");
                publisher.add(&stage.stats());
                assert_eq!(stage.count(), 500);
            }
        }
    });
    let totals = || {
        with_local_recorder(&recorder, || publisher.publish());
        let mut values = values(&exporter.render());
        values.retain(|series, _| series.contains("_total{"));
        values
    };
    let mut before = totals();
    while !runs.is_finished() {
        let now = totals();
        for (series, value) in &before {
            assert!(now[series] >= *value, "{series} has fallen from {value}");
        }
        before = now;
    }
    runs.join().expect("no panic");
    let all = totals();
    let yielded = all[r#"fanfold_stage_items_total{stage="again",outcome="yielded"}"#];
    assert_eq!(yielded, 25_000.0);
    let permits = ["run", "source", "room", "spare"].map(|state| {
        all[&format!(r#"fanfold_stage_time_seconds_total{{stage="again",state="{state}"}}"#)]
    });
    let consumer = ["head", "away", "own"].map(|state| {
        all[&format!(r#"fanfold_consumer_time_seconds_total{{stage="again",state="{state}"}}"#)]
    });
    let (permits, consumer): (f64, f64) = (permits.iter().sum(), consumer.iter().sum());
    assert!(
        is_close(permits, 2.0 * consumer),
        "{permits} of two, {consumer} of one"
    );
}

#[test]
fn a_client_that_asks_for_something_else_or_goes_away_stops_nothing() {
    let address = serve(MetricsPublisher::new(), PrometheusBuilder::new());
    drop(std::net::TcpStream::connect(address).expect("it listens"));
    let other = ureq::get(format!("http://{address}/other")).call();
    assert!(
        matches!(other, Err(ureq::Error::StatusCode(404))),
        "{other:?}"
    );
    assert!(scrape(address).1.is_empty());
}
