//! How long the calling thread has used a CPU, where the platform says so and the feature `cpu-time` asks.

use std::time::Duration;

/// `None`: it is not known here.
#[cfg(all(feature = "cpu-time", unix, not(loom)))]
pub(crate) fn thread_time() -> Option<Duration> {
    use rustix::time::{ClockId, clock_gettime};
    let now = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(now.tv_sec).ok()?;
    let nanos = u32::try_from(now.tv_nsec).ok()?;
    Some(Duration::new(seconds, nanos))
}

#[cfg(not(all(feature = "cpu-time", unix, not(loom))))]
pub(crate) fn thread_time() -> Option<Duration> {
    None
}
