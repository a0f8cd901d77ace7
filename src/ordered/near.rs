//! A source that stays on the consumer's thread ([`Local`](crate::stage::Local)): the consumer pulls it while
//! it waits for results.

use crate::ordered::consumer::Consumer;
use crate::ordered::core::CONSUMER;
use crate::ordered::item_context::ItemContext;
use crate::ordered::pull;
use crate::ordered::shared::OrderedStage;
use crate::ordered::weight::Hand;
use crate::par::job::Job;
use crate::par::source::Source;
use crate::runtime::context;
use crate::runtime::meter::Doing;
use crate::sync::{Arc, Instant};
use std::rc::Rc;

impl<S: Source, J: Job<S::Item>> Consumer<S, J>
where
    S::Item: Send,
{
    /// Pulls a chunk from a source that belongs to this thread, and stops as soon as a result is ready.
    /// `false`: there was nothing to do.
    pub(super) fn pull_near(&mut self, shared: &Arc<OrderedStage<S, J>>) -> bool {
        let Some(near) = &mut self.near else {
            return false;
        };
        // After a failure or a cancellation nothing is pulled; `end` also keeps an ended source from being
        // asked again.
        if shared.signals.is_cut() || shared.core.lock().end.is_some() {
            return false;
        }
        // The stop of a drain is noted here, as no worker comes to pull.
        if shared.signals.is_draining() && !shared.is_holding() {
            // Nothing was pulled past this item, as only this thread pulls.
            shared.drained(&mut shared.core.lock(), self.pulled);
            return true;
        }
        // No handshake for room: this thread is both the one that pulls and the one that makes room.
        let mut want = shared
            .cost
            .len_at(self.pulled)
            .min(shared.room(self.pulled))
            .min(S::at_hand(near).saturating_add(shared.is_holding().into()));
        if want == 0 {
            return false;
        }
        // Nobody would run the others while this thread is in the source.
        if want > 1 && shared.core.lock().roster.is_nobody() {
            want = 1;
        }
        // A new one for each call, because the consumer may move to another thread in between.
        let here = Rc::new(ItemContext::new(Arc::clone(&shared.signals)));
        here.set_in_source();
        let in_source = context::in_source(Rc::clone(&here) as _, shared.signals.inside());
        let in_stage = shared.signals.span().enter();
        shared.meter.set(CONSUMER, Doing::Source);
        // From here on this thread is in user code. The frame ends waits in there when the stage ends.
        let mut filling = None;
        let mut over = None;
        let first = self.pulled;
        let mut hand = shared.hand(first);
        loop {
            let item = match shared.next(&mut hand, || near.next()) {
                pull::Pulled::Item(item) => item,
                pull::Pulled::Held => break,
                last => {
                    shared.tell_panic(self.pulled, &last);
                    over = Some(last);
                    break;
                }
            };
            self.pulled += 1;
            // Only once there is an item: `close` relies on one.
            let filling = filling.get_or_insert_with(|| shared.open_shared(first, want));
            let mut cursor = filling.cursor();
            let watched = cursor.push(item);
            // Sealed: a worker found this thread stuck in the source, and has taken what was pulled.
            if cursor.is_full() || cursor.is_sealed() {
                break;
            }
            // The consumer is here to take results, so it does not pull on when one is ready.
            let ready = self.cursor.is_ready();
            let full = hand.as_ref().is_some_and(Hand::is_full);
            if full || ready || shared.signals.is_cut() || shared.signals.is_draining() {
                break;
            }
            // No thread watches over the items while this one is in the source, so one is called.
            if !watched {
                shared.get_watched(shared);
            }
        }
        drop(hand);
        drop(in_stage);
        // First outside of the source, as `is_interrupted` must be asked there.
        drop(in_source);
        shared.meter.note(|meter| {
            meter.pulled_from(first, self.pulled - first);
            shared.note_weight(meter);
            meter.set(Instant::now(), CONSUMER, Doing::Nothing);
        });
        over.take_if(|over| over.is_interrupted());
        let mut core = shared.core.lock();
        // This thread has no permit, so the chunk goes to the next thread that looks for work.
        if let Some(chunk) = filling.and_then(|filling| shared.close(&mut core, filling)) {
            shared.disown(&mut core, chunk);
        }
        // In the same critical section: the end, or the panic's place, comes right behind the last item.
        let failed = over.and_then(|over| shared.source_over(&mut core, self.pulled, over));
        // After the push, under the lock: a sleeping worker is woken, or the first one is leased.
        let wake = core.wake();
        drop(core);
        shared.act(wake);
        // Without any lock, because it runs hooks of the user's tokens.
        if let Some(seq) = failed {
            shared.signals.fail(seq);
        }
        true
    }

    /// Whether the source has nothing now, and everything that was pulled from it has been yielded.
    pub(super) fn is_dry(&self) -> bool {
        let dry = |near| S::at_hand(near) == 0;
        self.near.as_ref().is_some_and(dry)
            && !self.is_holding()
            && self.pulled == self.cursor.taken
    }

    /// Whether an item was pulled that has no place yet.
    pub(super) fn is_holding(&self) -> bool {
        (self.shared.as_ref()).is_some_and(|shared| shared.is_holding())
    }
}
