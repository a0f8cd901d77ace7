//! What a thread does with its permit, and how much of a CPU it uses meanwhile.

use crate::runtime::cpu_clock;
use crate::sync::Instant;
use std::thread::ThreadId;
use std::time::Duration;

/// How long after it has looked at the clock of its CPU time a thread looks again: that is a system call.
const CPU_LOOK: Duration = Duration::from_micros(100);

/// What a thread does with its permit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Doing {
    #[default]
    Nothing,
    Source,
    Run,
}

/// What a thread with a permit does.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seat {
    pub(super) doing: Doing,
    /// Since it began to run: the thread, its CPU time, and when that was.
    cpu: Option<(ThreadId, Duration, Instant)>,
    /// When its CPU time was looked at last.
    looked: Option<Instant>,
}

impl Seat {
    /// The calling thread begins to run closures. Returns no time.
    pub(super) fn begin_run(&mut self, now: Instant) -> Duration {
        let is_due = |looked| now.saturating_duration_since(looked) >= CPU_LOOK;
        if self.looked.is_none_or(is_due) {
            self.looked = Some(now);
            self.cpu =
                cpu_clock::thread_time().map(|time| (std::thread::current().id(), time, now));
        }
        Duration::ZERO
    }

    /// It runs none any more. Returns for how long it was looked at, and how much of that it has used a CPU.
    pub(super) fn end_run(&mut self, now: Instant) -> (Duration, Duration) {
        // Another thread may report what it has taken away from this one.
        let cpu = self
            .cpu
            .take()
            .filter(|(id, ..)| *id == std::thread::current().id());
        let used = cpu.and_then(|(_, before, at)| {
            let used = cpu_clock::thread_time()?.saturating_sub(before);
            Some((now.saturating_duration_since(at), used))
        });
        used.unwrap_or_default()
    }
}
