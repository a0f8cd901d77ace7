//! The thread that shows what the stages do.

use crate::chain::{Chain, View};
use crate::cli::Args;
use crate::keys::Keys;
use crate::layout;
use crate::screen::Screen;
use fanfold::CancelToken;
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Shows the stages until it is finished or dropped.
pub(crate) struct Display {
    end: Arc<End>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

/// Set by [`Display`], and awaited by its thread between two looks at the stages.
#[derive(Default)]
struct End {
    has_come: Mutex<bool>,
    told: Condvar,
}

impl Display {
    /// Trips the token if nothing can be written any more, and at a `q` on a terminal.
    pub(crate) fn start(chain: Chain, args: &Args, stop: &CancelToken) -> Self {
        let end = Arc::new(End::default());
        let looks = Looks {
            chain,
            every: args.every(),
            end: Arc::clone(&end),
        };
        let (items, stop) = (args.items, stop.clone());
        let thread = thread::spawn(move || {
            let shown = match Keys::watch(&stop) {
                Some(keys) => on_terminal(looks, items, &keys, &stop),
                None => looks.each(|view, _| layout::print(&layout::text(view, items))),
            };
            if shown.is_err() {
                stop.cancel();
            }
            shown
        });
        Display {
            end,
            thread: Some(thread),
        }
    }

    /// Shows what the stages have done altogether.
    pub(crate) fn finish(mut self) -> Result<(), String> {
        self.join().map_err(layout::cannot_write)
    }

    fn join(&mut self) -> io::Result<()> {
        *self
            .end
            .has_come
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = true;
        self.end.told.notify_all();
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        let outcome = thread.join();
        outcome.unwrap_or_else(|_| Err(io::Error::other("the display has panicked")))
    }
}

impl Drop for Display {
    /// Also if the pipeline panics: the terminal is restored all the same.
    fn drop(&mut self) {
        // `finish` has reported an error, or a panic is under way.
        drop(self.join());
    }
}

/// Looks at the stages, from time to time.
struct Looks {
    chain: Chain,
    every: Duration,
    end: Arc<End>,
}

impl Looks {
    /// Shows what each look has seen, and whether it is the last one.
    fn each(mut self, mut show: impl FnMut(&View, bool) -> io::Result<()>) -> io::Result<()> {
        while !self.end_comes() {
            show(&self.chain.lately(), false)?;
        }
        show(&self.chain.altogether(), true)
    }

    /// Waits for the end, or until it is time for the next look.
    fn end_comes(&self) -> bool {
        let End { has_come, told } = &*self.end;
        let has_come = has_come.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = told.wait_timeout_while(has_come, self.every, |has_come| !*has_come);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

fn on_terminal(looks: Looks, items: u64, keys: &Keys, stop: &CancelToken) -> io::Result<()> {
    let mut screen = Screen::open()?;
    looks.each(|view, is_last| {
        let (rows, columns) = screen.size();
        let mut lines = layout::lines(view, items, columns);
        if !is_last {
            lines.push(layout::help(stop.is_cancelled()).to_owned());
        }
        lines.truncate(rows.saturating_sub(1));
        screen.show(&lines, keys.entered())
    })
}
