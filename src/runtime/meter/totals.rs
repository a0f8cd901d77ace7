//! What the meter adds up.

use crate::runtime::pilot::WidthReason;
use crate::sync::Instant;
use std::time::Duration;

/// The sums up to some time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Totals {
    /// Since the start of the stage, up to its end.
    pub(crate) elapsed: Duration,
    /// Nothing more is yielded.
    pub(crate) over: bool,
    pub(crate) run: Duration,
    pub(crate) source: Duration,
    pub(crate) room: Duration,
    pub(crate) spare: Duration,
    /// The part of `run` in which the clocks of the CPU time were looked at, and what they said.
    pub(crate) run_looked: Duration,
    pub(crate) run_cpu: Duration,
    /// The consumer was in `next()`, and there was nothing to take.
    pub(crate) head: Duration,
    /// The same, while nothing more could be pulled.
    pub(crate) blocked: Duration,
    /// The part of `room` in that time.
    pub(crate) room_blocked: Duration,
    /// The consumer ran items itself.
    pub(crate) own: Duration,
    /// How many closures run now, and how many threads the stage has.
    pub(crate) running: usize,
    pub(crate) threads: usize,
    pub(crate) pulled: u64,
    pub(crate) ran: u64,
    pub(crate) taken: u64,
    /// Those of `taken` that had no outputs.
    pub(crate) filtered: u64,
    pub(crate) failed: u64,
    pub(crate) panicked: u64,
    pub(crate) timed_out: u64,
    /// Those that were never taken are `left`.
    pub(crate) discarded: u64,
    pub(crate) left: u64,
    pub(crate) peak_in_flight: u64,
    pub(crate) peak_running: usize,
    pub(crate) width: usize,
    /// `Some`: it finds itself.
    pub(crate) width_reason: Option<WidthReason>,
    pub(crate) bound: u64,
    /// Since when the consumer waits.
    pub(crate) waits_since: Option<Instant>,
    /// What the items in flight weighed when they were last pulled, at most, and the limit of the user's.
    pub(crate) weight: u64,
    pub(crate) peak_weight: u64,
    pub(crate) weight_limit: Option<u64>,
    pub(crate) hedges: [u64; 3],
    pub(crate) steals: u64,
    pub(crate) wakeups: u64,
    pub(crate) naps: u64,
    pub(crate) own_items: u64,
}
