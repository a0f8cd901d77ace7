//! The helm of an [`auto`](crate::Workers::auto) stage: measures what the stage does, asks the [`Pilot`], and says which
//! width is to be set.
//!
//! It has no thread and no timer. A worker asks it between two chunks, under the lock of its scheduler
//! ([`look`](Helm::look)); before the interval is over that costs a reading of the clock. A stage whose workers all wait
//! has nothing to decide: when one of them comes by, it decides for the time since.

use crate::runtime::cores::CoreShare;
use crate::runtime::meter::{MeterSlot, Totals};
use crate::runtime::pilot::{Course, Pilot, Sample};
use crate::runtime::plan::WorkOpts;
use crate::sync::Instant;
use std::time::Duration;

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Helm {
    pilot: Pilot,
    cores: CoreShare,
    /// What was done up to the beginning of the interval. `None`: the stage is just getting used to its width.
    from: Option<Totals>,
    /// Until when the interval, or that time, lasts. `None`: nobody has asked yet.
    due: Option<Instant>,
    measure: Duration,
}

impl Helm {
    /// Of a stage with these options, if its width finds itself. `by_number`: its bound is one on the number of items.
    pub(crate) fn of(opts: &WorkOpts, by_number: bool) -> Option<Box<Self>> {
        // The default bound grows with the width.
        let bound_follows = by_number && opts.in_flight.is_none();
        opts.auto.map(|cap| {
            Box::new(Helm {
                pilot: Pilot::new(opts.width, cap, bound_follows),
                cores: CoreShare::new(),
                from: None,
                due: None,
                measure: Pilot::first(),
            })
        })
    }

    /// The width that is to be set now, if it is another one. `is_over`: the source has ended, or the stage was told to.
    pub(crate) fn look(&mut self, meter: &MeterSlot, is_over: bool) -> Option<usize> {
        if is_over {
            // It will not use the cores for long.
            self.cores.uses(0.0);
            return None;
        }
        let now = Instant::now();
        if self.due.is_some_and(|due| now < due) {
            return None;
        }
        let meter = meter.get()?;
        let totals = meter.totals(now);
        let Some(from) = self.from else {
            self.from = Some(totals);
            self.due = Some(now + self.measure);
            return None;
        };
        let sample = self.sample(&from, &totals);
        let before = self.pilot.width();
        match self.pilot.observe(&sample) {
            Course::GoOn(wait) => self.due = Some(now + wait),
            Course::Next { settle, measure } => {
                let is_new = self.pilot.width() != before;
                self.measure = measure;
                self.from = (!is_new).then_some(totals);
                self.due = Some(now + if is_new { settle } else { measure });
                let used = sample.run.as_secs_f64() * sample.cpu.unwrap_or(0.0);
                self.cores
                    .uses(used / sample.elapsed.as_secs_f64().max(1e-9));
                meter.explain(self.pilot.reason());
            }
        }
        (self.pilot.width() != before).then(|| self.pilot.width())
    }

    fn sample(&self, from: &Totals, to: &Totals) -> Sample {
        let looked = to.run_looked.saturating_sub(from.run_looked);
        let used = to.run_cpu.saturating_sub(from.run_cpu).min(looked);
        Sample {
            elapsed: to.elapsed.saturating_sub(from.elapsed),
            run: to.run.saturating_sub(from.run),
            source: to.source.saturating_sub(from.source),
            room: to.room.saturating_sub(from.room),
            spare: to.spare.saturating_sub(from.spare),
            blocked: to.blocked.saturating_sub(from.blocked),
            cpu: (!looked.is_zero()).then(|| used.as_secs_f64() / looked.as_secs_f64()),
            finished: to.ran.saturating_sub(from.ran),
            cores: self.cores.left(),
        }
    }
}
