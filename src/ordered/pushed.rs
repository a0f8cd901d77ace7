//! A stage that is pushed into. Its source is local: an inbox that may have nothing now without being at its end
//! (`Source::at_hand`). The consumer puts items there and pulls them at once, as long as there is room. So there is
//! no other thread, and nothing new to exchange with the workers.

use crate::error::Cancelled;
use crate::ordered::consumer::Consumer;
use crate::ordered::cursor::Look;
use crate::par::job::Job;
use crate::par::pushed::{Inbox, Pushed};
use crate::runtime::plan::Ending;

impl<I: Send, J: Job<I>> Consumer<Pushed<I>, J> {
    /// Puts an item into the inbox, and hands over what there is room for.
    #[track_caller]
    pub(crate) fn put(&mut self, item: I) {
        if let Some(inbox) = &mut self.near {
            assert!(
                !inbox.is_closed,
                "nothing can be pushed after finish(): push it before, or make a new stage"
            );
            inbox.items.push_back(item);
        }
        self.hand_over();
    }

    /// Takes the item back that was put last, if it has not been handed over.
    pub(crate) fn take_back(&mut self) -> Option<I> {
        let last = self.near.as_mut()?.items.pop_back();
        // It may be in hand, weighed, if nothing waited before it.
        let held = || self.shared.as_ref()?.weights.as_ref()?.take_held();
        last.or_else(held)
    }

    pub(crate) fn has_waiting(&self) -> bool {
        let waits = |inbox: &Inbox<I>| !inbox.items.is_empty();
        self.near.as_ref().is_some_and(waits) || self.is_holding()
    }

    pub(crate) fn close(&mut self) {
        if let Some(inbox) = &mut self.near {
            inbox.is_closed = true;
        }
    }

    /// Hands over what waits in the inbox, as far as there is room. Drops it, if the stage has ended.
    pub(crate) fn hand_over(&mut self) {
        let Some(shared) = self.shared.clone() else {
            return;
        };
        if self.cursor.is_over() {
            drop(
                self.near
                    .as_mut()
                    .map(|inbox| std::mem::take(&mut inbox.items)),
            );
        }
        while self.has_waiting() && self.pull_near(&shared) {}
    }

    /// The next output if it is ready.
    pub(crate) fn try_next(&mut self) -> Option<J::Output> {
        if let Some(output) = self.cursor.next_of_batch() {
            return Some(output);
        }
        while !self.cursor.is_over() {
            let shared = self.shared.clone()?;
            match self.cursor.look(&shared) {
                Look::Ready => {}
                // Where no thread can be started, an item is run here.
                Look::Nothing => {
                    if self.cursor.look_at_clocks(&shared, &shared) || self.work(&shared) {
                        continue;
                    }
                    return None;
                }
                // This does not wait: all that is left to do is to end.
                Look::End | Look::Own => return self.next(),
            }
            let output = self.take_ready();
            if output.is_some() {
                return output;
            }
        }
        None
    }

    /// Why nothing more is taken.
    pub(crate) fn why_over(&self) -> Cancelled {
        let failed = || Cancelled::default().at(self.cursor.taken);
        self.cut().unwrap_or_else(failed)
    }
}
