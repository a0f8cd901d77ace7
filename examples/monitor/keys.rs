//! `q` and Enter.

use fanfold::CancelToken;
use std::io::{IsTerminal, stdin, stdout};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// The lines that the user enters. The mode of the terminal stays as it is, so nothing is left to be restored if the
/// program is killed.
pub(crate) struct Keys {
    entered: Arc<AtomicUsize>,
}

impl Keys {
    /// If there is a terminal at both ends: trips the token at a line that says `q`.
    pub(crate) fn watch(stop: &CancelToken) -> Option<Self> {
        if !stdin().is_terminal() || !stdout().is_terminal() {
            return None;
        }
        let entered = Arc::new(AtomicUsize::new(0));
        // Not joined, as nothing ends a read but the end of the program.
        thread::spawn({
            let (stop, entered) = (stop.clone(), Arc::clone(&entered));
            move || {
                for line in stdin().lines().map_while(Result::ok) {
                    entered.fetch_add(1, Ordering::Relaxed);
                    if line.trim().eq_ignore_ascii_case("q") {
                        stop.cancel();
                    }
                }
            }
        });
        Some(Keys { entered })
    }

    /// How many lines were entered since the last call.
    pub(crate) fn entered(&self) -> usize {
        self.entered.swap(0, Ordering::Relaxed)
    }
}
