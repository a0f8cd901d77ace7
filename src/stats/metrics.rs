//! The statistics of stages in the recorder of the `metrics` crate.

use self::item_times::{NewTimes, SeenTimes};
use crate::stats::{Snapshot, StageStats};
use crate::sync::{Arc, Mutex};
use ::metrics::{Label, Unit, counter, describe_counter, describe_gauge, gauge};
use families::{FAMILIES, Family, Kind, SERIES, Series, stage_label};
use std::collections::BTreeMap;
use std::fmt;

mod families;
mod item_times;

/// Writes the statistics of stages into the recorder of the [`metrics`](https://docs.rs/metrics) crate, from where an
/// exporter takes them, for Prometheus for example. Needs the feature `metrics`.
///
/// It has no thread: nothing is written but by [`publish`](MetricsPublisher::publish), which is best called before each
/// scrape, or else every few seconds. It may be a `static`, and may be used from several threads. One is enough for a
/// program; two overwrite each other's values where they have stages of the same name.
///
/// | name | label | what it is |
/// | --- | --- | --- |
/// | `fanfold_stage_items_total` | `outcome`: `yielded`, `filtered`, `failed`, `panicked`, `timed_out`, `discarded` | what became of items; at the end of a stage, the sum is what was admitted |
/// | `fanfold_stage_admitted_items_total` | | items that were pulled from the source |
/// | `fanfold_stage_time_seconds_total` | `state`: `run`, `source`, `room`, `spare` | where the permits spent their [time](crate::stats::StageTime) |
/// | `fanfold_consumer_time_seconds_total` | `state`: `head`, `away`, `own` | where the consumer spent its [time](crate::stats::ConsumerTime) |
/// | `fanfold_stage_head_blocked_seconds_total` | | the bound was full, and everybody waited for one item |
/// | `fanfold_stage_hedges_total` | `result`: `sent`, `won`, `refused` | copies of slow items, see [`Hedges`](crate::stats::Hedges) |
/// | `fanfold_stage_in_flight` | `state`: `queued`, `running`, `parked` | items that are in the stage now |
/// | `fanfold_stage_in_flight_limit` | | how many may be |
/// | `fanfold_stage_workers` | | how many closures may run at once now |
/// | `fanfold_stage_workers_limit` | | the most that this may become |
/// | `fanfold_stage_item_duration_seconds` | | a histogram: how long closures took; with the feature `percentile`, of stages that keep [`item_times`](StageStats::item_times) |
/// | `fanfold_stage_item_delay_seconds` | | a histogram as well: from the pull of an item to the moment in which it was handed over |
///
/// Each of them also has the label `stage`, the [name](crate::Stage::named) of the stage, and no other one: choose few names,
/// not one for each request.
///
/// **Stages with the same name are added up.** So a pipeline that is made anew for each request is one series, and its rates
/// are those of all requests together. A stage that has ended keeps its part of the totals, which therefore never fall, and
/// has none in those of what runs now: in flight, workers, and their limits.
///
/// **Seconds are gauges**, although they only grow: the counters of `metrics` are whole numbers, and a utilisation is made of
/// fractions of a second. `rate()` and `increase()` of Prometheus work on them as on a counter, as these look at the values
/// and not at the type; only `promtool check metrics` remarks that the name ends like that of a counter.
///
/// `docs/grafana-fanfold.json` in the repository is a dashboard for Grafana with all of them, and the example `prometheus`
/// serves them.
///
/// Memory: the totals of each name stay; what belongs to a stage is freed when it and all other handles on its statistics are
/// gone, with the next call.
///
/// # Examples
///
/// ```
/// use fanfold::Fanfold;
/// use fanfold::stats::MetricsPublisher;
/// use metrics_exporter_prometheus::PrometheusBuilder;
///
/// static METRICS: MetricsPublisher = MetricsPublisher::new();
///
/// let exporter = PrometheusBuilder::new().install_recorder()?;
/// let mut squares = (0..1000_u64).par_map_ordered(2, |x| x * x).named("square");
/// METRICS.add(&squares.stats());
/// assert_eq!(squares.sum::<u64>(), 332_833_500);
///
/// METRICS.publish();
/// let yielded = r#"fanfold_stage_items_total{stage="square",outcome="yielded"} 1000"#;
/// assert!(exporter.render().contains(yielded));
/// # Ok::<(), metrics_exporter_prometheus::BuildError>(())
/// ```
#[derive(Default)]
pub struct MetricsPublisher {
    /// Those with one name are one series.
    names: Mutex<BTreeMap<Arc<str>, Namesakes>>,
    /// Held while the recorder is called, so that what is written last is the newest.
    writing: Mutex<()>,
}

/// For each of [`series`], in that order: items, or nanoseconds.
type Values = [u128; SERIES];

/// All stages with one name.
struct Namesakes {
    stages: Vec<Watched>,
    /// The totals of those that are gone.
    gone: Values,
}

/// A stage whose values may still change, or whose handle the user still has and may add again.
struct Watched {
    stats: StageStats,
    seen: Values,
    times: SeenTimes,
}

impl fmt::Debug for MetricsPublisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.names.lock().keys().cloned().collect();
        f.debug_struct("MetricsPublisher")
            .field("names", &names)
            .finish_non_exhaustive()
    }
}

impl MetricsPublisher {
    /// One that has no stages yet.
    pub const fn new() -> Self {
        MetricsPublisher {
            names: Mutex::new(BTreeMap::new()),
            writing: Mutex::new(()),
        }
    }

    /// From now on, the stage with these statistics is among those that are published.
    ///
    /// A stage that is there already is not added twice.
    pub fn add(&self, stats: &StageStats) {
        let mut names = self.names.lock();
        let namesakes = names
            .entry(Arc::clone(&stats.name))
            .or_insert_with(|| Namesakes {
                stages: Vec::new(),
                gone: [0; SERIES],
            });
        let is_same = |known: &Watched| Arc::ptr_eq(&known.stats.meter, &stats.meter);
        if !namesakes.stages.iter().any(is_same) {
            namesakes.stages.push(Watched {
                stats: stats.clone(),
                seen: [0; SERIES],
                times: SeenTimes::default(),
            });
        }
    }

    /// Writes the present state of all stages into the recorder, with a description and a unit for each name.
    ///
    /// The recorder is the one that is current at this call: that of the thread, or else that of the program. Without one,
    /// nothing happens. Calls from several threads wait for one another, so a recorder must not call this itself.
    pub fn publish(&self) {
        let _one_at_a_time = self.writing.lock();
        let sums: Vec<_> = (self.names.lock().iter_mut())
            .map(|(name, namesakes)| {
                let mut times = NewTimes::default();
                let sums = namesakes.sums(&mut times);
                (Arc::clone(name), sums, times)
            })
            .collect();
        for family in FAMILIES {
            describe(family);
        }
        item_times::describe();
        for (name, sums, times) in &sums {
            write(name, sums);
            times.write(name);
        }
    }
}

impl Namesakes {
    fn sums(&mut self, times: &mut NewTimes) -> Values {
        self.stages.retain_mut(|stage| {
            // If this is the only handle, the stage is gone: nobody can make another one, and nothing changes any more.
            let is_gone = Arc::strong_count(&stage.stats.meter) == 1;
            let now = stage.look(is_gone || stage.stats.meter.is_closed());
            stage.times.add_new(&now, times);
            if is_gone {
                add_to(&mut self.gone, &stage.seen);
            }
            !is_gone
        });
        let mut sums = self.gone;
        for stage in &self.stages {
            add_to(&mut sums, &stage.seen);
        }
        sums
    }
}

impl Watched {
    fn look(&mut self, is_over: bool) -> Snapshot {
        let now = self.stats.snapshot();
        for ((family, (_, read)), seen) in series().zip(&mut self.seen) {
            *seen = match family.kind {
                Kind::Now if is_over => 0,
                Kind::Now => read(&now),
                // An item that fails may be counted as yielded for a moment. What was published must not fall.
                Kind::Count | Kind::Seconds => read(&now).max(*seen),
            };
        }
        now
    }
}

fn series() -> impl Iterator<Item = (&'static Family, &'static Series)> {
    let of = |family: &'static Family| family.series.iter().map(move |series| (family, series));
    FAMILIES.iter().flat_map(of)
}

fn add_to(sums: &mut Values, values: &Values) {
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum += value;
    }
}

fn describe(family: &Family) {
    match family.kind {
        Kind::Count => describe_counter!(family.name, Unit::Count, family.help),
        Kind::Seconds => describe_gauge!(family.name, Unit::Seconds, family.help),
        Kind::Now => describe_gauge!(family.name, Unit::Count, family.help),
    }
}

fn write(name: &Arc<str>, sums: &Values) {
    for ((family, (value, _)), &sum) in series().zip(sums) {
        let stage = stage_label(name);
        let other = family
            .label
            .map(|label| Label::from_static_parts(label, value));
        let labels: Vec<_> = std::iter::once(stage).chain(other).collect();
        match family.kind {
            Kind::Count => {
                counter!(family.name, labels).absolute(u64::try_from(sum).unwrap_or(u64::MAX));
            }
            Kind::Seconds => gauge!(family.name, labels).set(sum as f64 / 1e9),
            Kind::Now => gauge!(family.name, labels).set(sum as f64),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
