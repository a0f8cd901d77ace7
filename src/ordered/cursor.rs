//! How far the consumer is: it takes results, restores their order, and knows when to wait and when to
//! end. It alone touches these fields; what it shares with the workers is in `sched.rs`.
//!
//! # Waiting
//!
//! The consumer never sleeps with a result in reach. When it finds nothing it either naps, for a
//! bounded time and only while results flow faster than they can be announced (each wake-up costs
//! its microseconds and pushes a worker off a core), or it announces which `seq` it sleeps for,
//! passes the heavy barrier, looks at everything once more, and sleeps until that very result is
//! published. Before that sleep it sees to it that nobody else sleeps who could bring the result
//! nearer: workers that wait for room, and unstarted items whose puller is stuck in the source.

use crate::cancel::CancelHook;
use crate::ordered::chunk::{ChunkReader, Special};
use crate::ordered::core::{CONSUMER, Progress};
use crate::ordered::sched::{Host, Sched};
use crate::ordered::signals::{ANY, Signals};
use crate::ordered::timing::StageHedge;
use crate::ordered::worker::STUCK;
use crate::runtime::lease::JoinGuard;
use crate::runtime::roster::Wake;
use crate::runtime::spin::Spin;
use crate::sync::{Instant, Parker, steal};
use std::collections::VecDeque;
use std::panic::resume_unwind;
use std::time::Duration;

const NAP: Duration = Duration::from_micros(20);
const LONGEST_NAP: Duration = Duration::from_millis(1);
/// A wait as short as this, or as many results at once, mean that results flow.
const FLOW: Duration = Duration::from_micros(300);
pub(crate) const BULK: u64 = 32;

/// What a look for results gave.
pub(crate) enum Look {
    Ready,
    Nothing,
    End,
}

/// The consumer's own state, whatever the source and the job are.
pub(crate) struct Cursor<I, B: IntoIterator> {
    /// Joined before anything is cleared away.
    join_guard: JoinGuard,
    hooks: Vec<CancelHook>,
    parker: Parker,
    /// The outputs of the item that is being yielded.
    pub(crate) batch: Option<B::IntoIter>,
    /// The chunk that is being taken, and in an unordered stage those that have more to come.
    pub(crate) head: Option<ChunkReader<I, B>>,
    pub(crate) partial: VecDeque<ChunkReader<I, B>>,
    /// How many items have been taken; in an ordered stage also the `seq` of the next.
    pub(crate) taken: u64,
    pub(crate) over: bool,
    pub(crate) cut_short: bool,
    /// How many of what was taken had not been run.
    pub(crate) discarded: u64,
    /// As which thread it takes part in the work.
    pub(crate) part: Option<usize>,
    /// Set while it does not sleep at all.
    pub(crate) spin: Option<Spin>,
    /// Whether results flow, so that it naps, and for how long the next time.
    pub(crate) flows: bool,
    nap: Duration,
    /// How many items had been taken when it last found nothing.
    pub(crate) waited_at: u64,
    /// What it has seen of the source before its last nap.
    sight: Option<Progress>,
    eager: bool,
    /// Timed stages: before that nothing that runs is overdue or slow.
    check: Option<Instant>,
    /// The call that is being served waits until then, and whether it did so in vain.
    pub(crate) until: Option<Instant>,
    pub(crate) late: bool,
}

impl<I, B: IntoIterator> Cursor<I, B> {
    pub(crate) fn new(
        parker: Parker,
        join_guard: JoinGuard,
        hooks: Vec<CancelHook>,
        eager: bool,
    ) -> Self {
        Cursor {
            hooks,
            over: false,
            join_guard,
            parker,
            batch: None,
            head: None,
            partial: VecDeque::new(),
            taken: 0,
            cut_short: false,
            discarded: 0,
            part: None,
            spin: Some(Spin::begin()),
            flows: false,
            nap: NAP,
            waited_at: 0,
            sight: None,
            eager,
            check: None,
            until: None,
            late: false,
        }
    }

    /// Whether there is something to take in the head.
    #[inline]
    pub(crate) fn is_ready(&mut self) -> bool {
        self.head.as_mut().is_some_and(|head| head.is_ready())
    }

    /// How many outputs are left of the item that is being yielded.
    pub(crate) fn rest_of_batch(&self) -> (usize, Option<usize>) {
        self.batch
            .as_ref()
            .map_or((0, Some(0)), Iterator::size_hint)
    }

    // ---- looking

    pub(crate) fn look(&mut self, sched: &Sched<I, B>) -> Look {
        if sched.ordered {
            self.look_at_head(sched)
        } else {
            self.look_around(sched)
        }
    }

    fn look_at_head(&mut self, sched: &Sched<I, B>) -> Look {
        if self.is_ready() {
            return Look::Ready;
        }
        let mut core = sched.core.lock();
        loop {
            if let Some(head) = self.head.take() {
                if !head.is_exhausted(&mut core.key) {
                    self.head = Some(head);
                    break;
                }
                core.recycle(head);
            }
            self.head = core.order.pop(self.taken);
            if self.head.is_none() {
                break;
            }
        }
        if self.is_ready() {
            return Look::Ready;
        }
        match &self.head {
            None if core.end.is_some_and(|end| end <= self.taken) => Look::End,
            None if sched.signals.is_cancelled() => {
                self.cut_short = true;
                Look::End
            }
            // Who runs the next item has claimed it, or will see the cut.
            Some(head) if sched.signals.is_cut_off() && !head.is_next_claimed(&mut core.key) => {
                self.cut_short = true;
                Look::End
            }
            _ => Look::Nothing,
        }
    }

    fn look_around(&mut self, sched: &Sched<I, B>) -> Look {
        if let Some(mut head) = self.head.take() {
            if head.is_ready() {
                self.head = Some(head);
                return Look::Ready;
            }
            let mut core = sched.core.lock();
            if head.is_exhausted(&mut core.key) {
                core.recycle(head);
            } else {
                self.partial.push_back(head);
            }
        }
        self.partial
            .extend(std::iter::from_fn(|| steal(&sched.arrivals)));
        if let Some(place) = self.partial.iter_mut().position(|chunk| chunk.is_ready()) {
            self.head = self.partial.remove(place);
            return Look::Ready;
        }
        let mut core = sched.core.lock();
        for place in (0..self.partial.len()).rev() {
            if self.partial[place].is_exhausted(&mut core.key) {
                if let Some(chunk) = self.partial.remove(place) {
                    core.recycle(chunk);
                }
            }
        }
        let all = core.end.is_some_and(|end| end <= self.taken);
        let cancelled = sched.signals.is_cut_off()
            && !core.is_any_started()
            && sched.arrivals.is_empty()
            && !self.partial.iter_mut().any(|chunk| chunk.is_ready());
        self.cut_short |= cancelled && !all;
        if all || cancelled {
            Look::End
        } else {
            Look::Nothing
        }
    }

    // ---- waiting

    /// Before the first result: waits for a [moment](Spin). On an otherwise idle machine it is there
    /// sooner than this thread could be woken. `false`: does not, or no longer.
    pub(crate) fn spin(&mut self) -> bool {
        if self.taken > 0 && self.part.is_none() {
            self.spin = None;
        }
        self.spin = self.spin.filter(|spin| spin.turn());
        self.spin.is_some()
    }

    /// Naps if results flow. `false`: does not.
    pub(crate) fn take_nap(&mut self, sched: &Sched<I, B>, host: &dyn Host<I, B>) -> bool {
        if self.eager || !self.flows {
            return false;
        }
        self.look_after_source(sched, host);
        sched.signals.set_napping(true);
        self.parker.park_timeout(self.nap);
        sched.signals.set_napping(false);
        let pays = matches!(self.look(sched), Look::Ready | Look::End);
        if pays && !sched.signals.is_room_wanted() {
            self.nap = (self.nap * 2).min(LONGEST_NAP);
        } else {
            self.flows = pays && self.nap > NAP;
            self.nap = (self.nap / 2).max(NAP);
        }
        true
    }

    /// Does what a thread that watches would do, so that none has to be woken for it as long as this
    /// one comes by: has somebody been stuck in the source since the last nap?
    fn look_after_source(&mut self, sched: &Sched<I, B>, host: &dyn Host<I, B>) {
        if !sched.pulls {
            return; // here it is this thread that would be stuck
        }
        let mut core = sched.core.lock();
        let now = Progress {
            thread: CONSUMER,
            first: core.pulls,
            count: core.open.as_ref().map_or(0, |open| open.chunk.pulled()),
            at: Instant::now(),
        };
        core.set_looked(Some(now.at));
        // Who peeks at the source does so under the scheduler's lock, so this is somebody pulling.
        let wake = if !host.is_source_free()
            && Progress::unmoved(&mut self.sight, now, STUCK)
            && sched.is_something_unstarted(&core, CONSUMER)
        {
            sched.call_watcher(&mut core)
        } else {
            Wake::Nobody
        };
        drop(core);
        sched.act(host, wake);
    }

    /// Is about to sleep without a limit: says so, and sees to it that somebody works, and that
    /// somebody watches.
    pub(crate) fn announce(&mut self, sched: &Sched<I, B>, host: &dyn Host<I, B>) {
        let mut core = sched.core.lock();
        core.set_looked(None);
        sched.signals.set_untimed(true); // until it has looked at the clocks
        // Its heavy barrier pairs with the light one in `WriteCursor::push` as well.
        sched
            .signals
            .sleep_for(if sched.ordered { self.taken } else { ANY });
        let unwatched = !core.is_watched() && sched.is_something_unstarted(&core, CONSUMER);
        let wake = if unwatched || core.is_something_in_hand() {
            sched.call_watcher(&mut core)
        } else if sched.signals.is_room_wanted() || core.roster.len() == 0 {
            sched.signals.room_granted();
            core.wake()
        } else {
            Wake::Nobody
        };
        drop(core);
        sched.act(host, wake);
    }

    pub(crate) fn sleep(&mut self, sched: &Sched<I, B>) {
        let began = Instant::now();
        match self.until.into_iter().chain(self.check).min() {
            Some(limit) => {
                let limit = limit.saturating_duration_since(began);
                self.parker.park_timeout(limit);
            }
            None => self.parker.park(),
        }
        sched.signals.awake();
        self.flows = began.elapsed() < FLOW;
    }

    /// Looks at the clocks of what it waits for. Whether anything was given up.
    pub(crate) fn look_at_clocks(&mut self, sched: &Sched<I, B>, host: &dyn Host<I, B>) -> bool {
        let runs = self.head.iter().chain(&self.partial);
        sched.look_at_clocks(host, runs, &mut self.check)
    }

    // ---- yielding

    pub(crate) fn next_of_batch(&mut self) -> Option<B::Item> {
        let output = self.batch.as_mut()?.next();
        if output.is_none() {
            self.batch = None;
        }
        output
    }

    #[inline]
    pub(crate) fn open(&mut self, batch: B) -> Option<B::Item> {
        let mut batch = batch.into_iter();
        let output = batch.next();
        if output.is_some() && batch.size_hint().1 != Some(0) {
            self.batch = Some(batch);
        }
        output
    }

    #[cold]
    pub(crate) fn take_special(&mut self, sched: &Sched<I, B>) -> Option<B::Item> {
        match self.head.as_mut()?.take_any() {
            Ok(batch) => self.open(batch),
            Err(Special::Last(batch)) => {
                self.stop(sched);
                self.open(batch)
            }
            Err(Special::Panicked(payload)) => {
                self.stop(sched);
                resume_unwind(payload)
            }
            Err(Special::TimedOut(failure)) => {
                self.stop(sched);
                panic!(
                    "{failure}: give it longer with item_timeout, or isolate() the stage to get an \
                     Err in its place and go on"
                )
            }
            Err(Special::Discarded) => {
                self.cut_short = true;
                self.discarded += 1;
                if sched.ordered {
                    self.stop(sched);
                }
                None
            }
        }
    }

    // ---- ending

    /// Nothing is left to yield. At the source's end nothing is running any more but the drops of
    /// states, which a call with a time does not wait for; after a cancellation somebody may still be
    /// in the source. Both are left to the drop. So is the drop of the source: it may be a stage of
    /// that kind.
    #[cold]
    pub(crate) fn finish(&mut self, sched: &Sched<I, B>) {
        self.over = true;
        let timed = self.until.is_some();
        let copies = sched.hedge().map_or(0, StageHedge::copies);
        if self.cut_short || timed || sched.core.lock().abandoned > 0 || copies > 0 {
            self.stop(sched);
        } else {
            self.join_guard.join();
        }
        if let Some(panic) = sched.signals.take_stray() {
            resume_unwind(panic);
        }
    }

    /// Nothing more is yielded, though closures may still run: they are joined by the drop.
    #[cold]
    pub(crate) fn stop(&mut self, sched: &Sched<I, B>) {
        self.over = true;
        sched.stop();
    }

    /// Stops and joins the threads.
    pub(crate) fn join(&mut self, signals: Option<&Signals>) {
        self.hooks.clear();
        if let Some(signals) = signals {
            signals.disinherit();
        }
        self.join_guard.join();
    }

    /// Leaves what it has taken to whoever clears the scheduler away.
    pub(crate) fn put_back(&mut self, sched: &Sched<I, B>) {
        let takings = self.head.take().into_iter().chain(self.partial.drain(..));
        for taking in takings.collect::<Vec<_>>() {
            sched.core.lock().order.push(u64::MAX, taking);
        }
    }
}
