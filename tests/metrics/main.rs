//! `MetricsPublisher` with the exporter for Prometheus, and the dashboard for Grafana.

#![allow(clippy::float_cmp)] // small whole numbers are exact

#[path = "../support/mod.rs"]
mod support;

mod dashboard;
mod scrape;

use fanfold::Fanfold;
use fanfold::stats::MetricsPublisher;
use metrics::with_local_recorder;
use metrics_exporter_prometheus::PrometheusBuilder;
use std::collections::BTreeMap;

/// The series of a page, like `name{label="value"}`.
type Values = BTreeMap<String, f64>;

fn values(page: &str) -> Values {
    let lines = page.lines();
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let values = lines.map(|line| {
        let (series, value) = line.rsplit_once(' ').expect("a name and a value");
        (series.to_owned(), value.parse().expect("a number"))
    });
    values.collect()
}

/// Runs a stage of nine items, and gives what is published of it.
fn publish_one(name: &str) -> Values {
    let publisher = MetricsPublisher::new();
    let mut stage = (0..9).par_map_ordered(1, |x| x).named(name);
    publisher.add(&stage.stats().item_times());
    assert_eq!(stage.count(), 9);
    let recorder = PrometheusBuilder::new().build_recorder();
    with_local_recorder(&recorder, || publisher.publish());
    values(&recorder.handle().render())
}
