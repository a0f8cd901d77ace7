//! The names under which the statistics of stages are published: the only list of them. The table in the documentation of
//! [`MetricsPublisher`](super::MetricsPublisher), and `docs/grafana-fanfold.json`, are checked against it.

use crate::stats::Snapshot;
use crate::sync::Arc;
use ::metrics::{Label, SharedString};
use std::time::Duration;

/// The label that each family has: the name of the stage.
pub(super) const STAGE: &str = "stage";

/// The label of this stage.
pub(super) fn stage_label(name: &Arc<str>) -> Label {
    Label::new(STAGE, SharedString::from(Arc::clone(name)))
}

/// How the values of a family are written. Histograms are not in here: see `item_times.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A counter of items.
    Count,
    /// A time that only grows. A gauge, because a counter of the façade holds whole numbers only.
    Seconds,
    /// A gauge: how many there are now. 0 if the stage does not run.
    Now,
}

/// All series that have one name.
#[derive(Debug)]
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) help: &'static str,
    /// The label beside [`STAGE`], whose values tell the series apart. `None`: there is one series.
    pub(super) label: Option<&'static str>,
    pub(super) series: &'static [Series],
}

/// The value of the family's label, and where it is in a snapshot: items, or nanoseconds.
pub(super) type Series = (&'static str, fn(&Snapshot) -> u128);

pub(super) const FAMILIES: &[Family] = &[
    Family {
        name: "fanfold_stage_items_total",
        kind: Kind::Count,
        help: "Items that have left the stage, by what became of them.",
        label: Some("outcome"),
        series: &[
            ("yielded", |now| now.yielded.into()),
            ("filtered", |now| now.filtered.into()),
            ("failed", |now| now.failed.into()),
            ("panicked", |now| now.panicked.into()),
            ("timed_out", |now| now.timed_out.into()),
            ("discarded", |now| now.discarded.into()),
        ],
    },
    // No outcome: each item would be in the sum over the outcomes twice.
    Family {
        name: "fanfold_stage_admitted_items_total",
        kind: Kind::Count,
        help: "Items that the stage has pulled from its source.",
        label: None,
        series: &[("", |now| now.admitted.into())],
    },
    Family {
        name: "fanfold_stage_time_seconds_total",
        kind: Kind::Seconds,
        help: "Time of the permits of the stage: in closures, in the source, without room, with nothing to do.",
        label: Some("state"),
        series: &[
            ("run", |now| nanoseconds(now.time.run)),
            ("source", |now| nanoseconds(now.time.source)),
            ("room", |now| nanoseconds(now.time.room)),
            ("spare", |now| nanoseconds(now.time.spare)),
        ],
    },
    Family {
        name: "fanfold_consumer_time_seconds_total",
        kind: Kind::Seconds,
        help: "Time of the consumer: waiting for the head of the line, away, running items itself.",
        label: Some("state"),
        series: &[
            ("head", |now| nanoseconds(now.consumer.head)),
            ("away", |now| nanoseconds(now.consumer.away)),
            ("own", |now| nanoseconds(now.consumer.own)),
        ],
    },
    Family {
        name: "fanfold_stage_head_blocked_seconds_total",
        kind: Kind::Seconds,
        help: "Time in which the bound was full and everybody waited for one item.",
        label: None,
        series: &[("", |now| nanoseconds(now.consumer.blocked))],
    },
    Family {
        name: "fanfold_stage_hedges_total",
        kind: Kind::Count,
        help: "Copies of slow items: sent, of these those whose result counted, and those that the budget refused.",
        label: Some("result"),
        series: &[
            ("sent", |now| now.hedges.sent.into()),
            ("won", |now| now.hedges.won.into()),
            ("refused", |now| now.hedges.refused.into()),
        ],
    },
    Family {
        name: "fanfold_stage_in_flight",
        kind: Kind::Now,
        help: "Items in the stage: not begun, running, finished and not taken.",
        label: Some("state"),
        series: &[
            ("queued", |now| now.queued().into()),
            ("running", |now| now.running().into()),
            ("parked", |now| now.parked().into()),
        ],
    },
    Family {
        name: "fanfold_stage_in_flight_limit",
        kind: Kind::Now,
        help: "How many items may be in flight.",
        label: None,
        series: &[("", |now| now.in_flight_limit.into())],
    },
    Family {
        name: "fanfold_stage_workers",
        kind: Kind::Now,
        help: "How many closures may run at once now.",
        label: None,
        series: &[("", |now| now.width as u128)],
    },
    Family {
        name: "fanfold_stage_workers_limit",
        kind: Kind::Now,
        help: "The most closures that may ever run at once.",
        label: None,
        // A width does not change yet. Once it does, this is its limit.
        series: &[("", |now| now.width as u128)],
    },
];

/// How many series a stage has.
pub(super) const SERIES: usize = {
    let (mut sum, mut family) = (0, 0);
    while family < FAMILIES.len() {
        sum += FAMILIES[family].series.len();
        family += 1;
    }
    sum
};

fn nanoseconds(time: Duration) -> u128 {
    time.as_nanos()
}

#[cfg(all(test, not(loom)))]
mod tests;
