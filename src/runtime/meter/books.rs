//! What is under the lock of the meter.

use crate::runtime::meter::seat::{Doing, Seat};
use crate::runtime::meter::totals::Totals;
use crate::runtime::registry::HeldThreads;
use crate::sync::{Arc, Instant, Weak};

/// Where a running stage has what changes for each item.
pub(crate) trait Live: Send + Sync {
    /// How many items have been pulled, as far as the meter is not told.
    fn pulled(&self) -> u64 {
        0
    }

    /// How many have been run.
    fn ran(&self) -> u64 {
        0
    }

    /// Of how many a filter has made nothing.
    fn filtered(&self) -> u64 {
        0
    }

    /// How many items the consumer has taken.
    fn taken(&self) -> u64;
}

#[derive(Default)]
pub(super) struct Books {
    /// Up to when everything is added up. `None`: not started.
    pub(super) at: Option<Instant>,
    pub(super) over: bool,
    pub(super) closed: bool,
    /// First of the consumer, then of each thread.
    pub(super) seats: Vec<Seat>,
    pub(super) running: usize,
    pub(super) inside: usize,
    pub(super) full: bool,
    pub(super) waits: bool,
    pub(super) live: Option<Arc<dyn Live>>,
    pub(super) threads: Option<Weak<dyn HeldThreads>>,
    /// No item has outputs, which says nothing then.
    pub(super) is_silent: bool,
    /// How many items have unwound the consumer.
    pub(super) unwound: u64,
    pub(super) totals: Totals,
}

impl Books {
    /// Adds up the time to now.
    pub(super) fn settle(&mut self, now: Instant) {
        let Some(at) = self.at.filter(|_| !self.over) else {
            return;
        };
        self.at = Some(now.max(at));
        let time = now.saturating_duration_since(at);
        let totals = &mut self.totals;
        let of = |permits: usize| time * u32::try_from(permits).unwrap_or(u32::MAX);
        let running = self.running.min(totals.width);
        let inside = self.inside.min(totals.width - running);
        let rest = of(totals.width - running - inside);
        totals.elapsed += time;
        totals.run += of(running);
        totals.source += of(inside);
        *if self.full {
            &mut totals.room
        } else {
            &mut totals.spare
        } += rest;
        let own = self.seats.first().map_or(Doing::Nothing, |seat| seat.doing);
        if own == Doing::Run {
            totals.own += time;
        } else if self.waits || own == Doing::Source {
            totals.head += time;
            if self.full {
                totals.blocked += time;
                totals.room_blocked += rest;
            }
        }
    }

    /// Adds what is counted elsewhere.
    pub(super) fn read_live(&mut self) {
        if let Some(live) = &self.live {
            let (totals, unwound) = (&mut self.totals, self.unwound);
            totals.ran = totals.ran.max(live.ran() + unwound);
            totals.pulled = totals.pulled.max(live.pulled() + unwound);
            if !self.is_silent {
                totals.filtered = live.filtered();
            }
        }
    }

    /// Keeps the most that are in flight.
    pub(super) fn note_peak(&mut self) {
        let in_flight = self.totals.pulled.saturating_sub(self.taken());
        self.totals.peak_in_flight = self.totals.peak_in_flight.max(in_flight);
    }

    /// How many items the consumer has taken. What is read elsewhere may fall behind for a moment, when it is stored in
    /// another place; this never falls.
    pub(super) fn taken(&mut self) -> u64 {
        if self.closed {
            return self.totals.taken;
        }
        let live = self.live.as_ref().map_or(0, |live| live.taken());
        self.totals.taken = self.totals.taken.max(live);
        self.totals.taken + self.unwound
    }

    pub(super) fn count(&mut self, doing: Doing, change: isize) {
        let count = match doing {
            Doing::Nothing => return,
            Doing::Source => &mut self.inside,
            Doing::Run => &mut self.running,
        };
        *count = count.saturating_add_signed(change);
    }
}
