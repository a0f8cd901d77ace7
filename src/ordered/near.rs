//! A source that stays on the consumer's thread ([`Local`](crate::stage::Local)): the consumer pulls it, while it waits.

use crate::ordered::consumer::Consumer;
use crate::ordered::item_context::ItemContext;
use crate::ordered::pull;
use crate::ordered::shared::OrderedStage;
use crate::par::job::Job;
use crate::par::source::Source;
use crate::runtime::context;
use crate::sync::Arc;
use crate::unwind::catch;
use std::rc::Rc;

impl<S: Source, J: Job<S::Item>> Consumer<S, J>
where
    S::Item: Send,
{
    /// Pulls a source that is this thread's, head first: stops as soon as something is ready.
    /// `false`: there was nothing to do.
    pub(super) fn pull_near(&mut self, shared: &Arc<OrderedStage<S, J>>) -> bool {
        let Some(near) = &mut self.near else {
            return false;
        };
        if shared.signals.is_cut() || shared.core.lock().end.is_some() {
            return false;
        }
        if shared.signals.is_draining() {
            shared.drained(&mut shared.core.lock(), self.pulled);
            return true;
        }
        let want = shared
            .cost
            .len_at(self.pulled)
            .min(shared.room(self.pulled));
        if want == 0 {
            return false;
        }
        let here = Rc::new(ItemContext::new(Arc::clone(&shared.signals)));
        here.set_in_source();
        let in_source = context::in_source(Rc::clone(&here) as _, shared.signals.inside());
        let mut filling = None;
        let mut over = None;
        let first = self.pulled;
        loop {
            let item = match catch(|| near.next()) {
                Ok(Some(item)) => item,
                Ok(None) => {
                    over = Some(pull::Pulled::End);
                    break;
                }
                Err(payload) => {
                    over = Some(pull::Pulled::Panicked(payload));
                    break;
                }
            };
            self.pulled += 1;
            let filling = filling.get_or_insert_with(|| shared.open_shared(first, want));
            let mut cursor = filling.cursor();
            let watched = cursor.push(item);
            if cursor.is_full() || cursor.is_sealed() {
                break;
            }
            let ready = self.cursor.is_ready();
            if ready || shared.signals.is_cut() || shared.signals.is_draining() {
                break;
            }
            if !watched {
                shared.get_watched(shared);
            }
        }
        drop(in_source);
        over.take_if(|over| over.is_interrupted());
        let mut core = shared.core.lock();
        if let Some(chunk) = filling.and_then(|filling| shared.close(&mut core, filling)) {
            shared.waiting.push(chunk);
        }
        let failed = over.and_then(|over| shared.source_over(&mut core, self.pulled, over));
        let wake = core.wake();
        drop(core);
        shared.act(wake);
        if let Some(seq) = failed {
            shared.signals.fail(seq);
        }
        true
    }
}
