//! What the kernel says of a thread: whether it waits for a core.
//!
//! A thread that has not moved may be in a long call, may sleep, or may have been put aside for another program. Only
//! the first two are its own doing. Linux tells them apart in `/proc/self/task`: the state of a thread, and for how long
//! it has run (`man 5 proc_pid_stat`, and *Scheduler Statistics* in the kernel's documentation). Elsewhere, and where
//! that is not to be had, no thread is said to wait.

use std::time::Duration;

/// One thread of this process, and for how long it had run when it was last looked at.
#[derive(Debug)]
pub(crate) struct Probe {
    #[cfg(all(target_os = "linux", not(loom)))]
    folder: std::path::PathBuf,
    #[cfg(all(target_os = "linux", not(loom)))]
    ran: Option<Duration>,
}

#[cfg(all(target_os = "linux", not(loom)))]
impl Probe {
    /// The calling thread.
    pub(crate) fn here() -> Option<Probe> {
        let thread = std::fs::read_link("/proc/thread-self").ok()?;
        Some(Probe {
            folder: std::path::Path::new("/proc").join(thread),
            ran: None,
        })
    }

    /// Whether it could run, and has not since the last call of this function. The kernel counts in ticks, of 10 ms
    /// at most, so of a thread that runs this may say so for that long.
    pub(crate) fn waits(&mut self) -> bool {
        let read = |name| std::fs::read_to_string(self.folder.join(name)).ok();
        let ran = read("stat")
            .filter(|stat| is_runnable(stat))
            .and_then(|_| time_run(&read("schedstat")?));
        let before = std::mem::replace(&mut self.ran, ran);
        ran.is_some() && (before.is_none() || before == ran)
    }

    /// The next look is the first one.
    pub(crate) fn forget(&mut self) {
        self.ran = None;
    }
}

#[cfg(not(all(target_os = "linux", not(loom))))]
impl Probe {
    pub(crate) fn here() -> Option<Probe> {
        None
    }

    pub(crate) fn waits(&mut self) -> bool {
        false
    }

    pub(crate) fn forget(&mut self) {}
}

/// The state stands behind the name, which is in brackets and may have brackets itself.
#[cfg_attr(not(all(target_os = "linux", not(loom))), allow(dead_code))]
fn is_runnable(stat: &str) -> bool {
    let state = stat.rsplit_once(')').map(|(_, rest)| rest.trim_start());
    state.is_some_and(|state| state.starts_with('R'))
}

/// The first number, in nanoseconds.
#[cfg_attr(not(all(target_os = "linux", not(loom))), allow(dead_code))]
fn time_run(schedstat: &str) -> Option<Duration> {
    let nanos = schedstat.split_whitespace().next()?.parse().ok()?;
    Some(Duration::from_nanos(nanos))
}

#[cfg(all(test, not(loom)))]
mod tests;
