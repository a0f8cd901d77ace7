//! How far the consumer is: it takes results, restores their order, and decides when to wait and when to end.
//! Only the consumer touches these fields; what it shares with the workers is in `sched.rs`.
//!
//! # Waiting
//!
//! The consumer never sleeps while a result is within reach. When it finds nothing, it has two choices.
//!
//! - It *naps*, for a limited time, and only while results come faster than it is worth to announce them:
//!   each wake-up costs microseconds and pushes a worker off its core.
//! - It *announces* which `seq` it sleeps for, passes the heavy barrier, looks at everything once more, and
//!   sleeps until exactly that result is published. Before this sleep it makes sure that no thread sleeps
//!   that could bring the result nearer: a worker that waits for room, or one that could run unstarted items
//!   whose puller is stuck in the source.

use crate::ordered::chunk::{ChunkExecutor, ChunkReader, Special};
use crate::ordered::core::{CONSUMER, Core, Progress};
use crate::ordered::own::OwnChunk;
#[cfg(feature = "futures")]
use crate::ordered::polled::PollTimer;
use crate::ordered::sched::{Host, Sched};
use crate::ordered::signals::{ANY, Signals};
use crate::ordered::timing::StageHedge;
use crate::ordered::worker::STUCK;
use crate::runtime::meter::{Event, Fate};
use crate::runtime::roster::Wake;
use crate::runtime::session::Session;
use crate::runtime::sleeper::Sleeper;
use crate::runtime::spin::Spin;
use crate::runtime::trace;
use crate::sync::{Instant, steal};
use std::collections::VecDeque;
use std::panic::resume_unwind;
use std::time::Duration;

/// The consumer's first nap. It is doubled as long as naps pay.
const NAP: Duration = Duration::from_micros(20);
const LONGEST_NAP: Duration = Duration::from_millis(1);
/// A wait that is shorter than this, or this many results at once, mean that results flow.
const FLOW: Duration = Duration::from_micros(300);
pub(super) const BULK: u64 = 32;

/// What a look for results has found.
pub(super) enum Look {
    Ready,
    /// The next item is this thread's to run.
    Own,
    Nothing,
    End,
}

/// The consumer's own state, which does not depend on the types of the source and the job.
pub(super) struct Cursor<I, B: IntoIterator> {
    /// Closed before anything is cleared away.
    pub(super) session: Session<Signals>,
    pub(super) sleeper: Sleeper,
    /// A poll has found nothing, and what it has announced is in force.
    pub(super) announced: bool,
    /// The outputs of the item that is being yielded.
    pub(super) batch: Option<B::IntoIter>,
    /// The chunk whose results are being taken; in an unordered stage also those with more to come.
    pub(super) head: Option<ChunkReader<I, B>>,
    pub(super) partial: VecDeque<ChunkReader<I, B>>,
    /// `Some` while it runs a chunk at the head of the line.
    pub(super) own: Option<OwnChunk<I, B>>,
    /// How many items have been taken; in an ordered stage also the `seq` of the next one.
    pub(super) taken: u64,
    /// Something is missing from the outputs.
    cut_short: bool,
    /// How many of the taken items have not been run.
    pub(super) discarded: u64,
    /// The consumer's number as one of the threads, if it takes part in the work.
    pub(super) part: Option<usize>,
    /// `Some` while it does not sleep at all.
    pub(super) spin: Option<Spin>,
    /// Whether results flow, so that the consumer naps instead of sleeping; and the length of its next nap.
    pub(super) flows: bool,
    nap: Duration,
    /// How many items had been taken when it last found nothing.
    pub(super) waited_at: u64,
    /// What it saw of the source before its last nap.
    sight: Option<Progress>,
    /// The consumer is woken for each result, so it never naps.
    eager: bool,
    /// Timed stages: nothing that runs becomes overdue or slow before this time. And what calls a task then.
    pub(super) check: Option<Instant>,
    #[cfg(feature = "futures")]
    pub(super) timer: Option<PollTimer>,
    /// When the current call gives up, and whether it has.
    pub(super) until: Option<Instant>,
    pub(super) late: bool,
}

impl<I, B: IntoIterator> Cursor<I, B> {
    pub(super) fn new(sleeper: Sleeper, session: Session<Signals>, eager: bool) -> Self {
        Cursor {
            session,
            sleeper,
            announced: false,
            batch: None,
            head: None,
            partial: VecDeque::new(),
            own: None,
            taken: 0,
            cut_short: false,
            discarded: 0,
            part: None,
            spin: Spin::begin(),
            flows: false,
            nap: NAP,
            waited_at: 0,
            sight: None,
            eager,
            check: None,
            #[cfg(feature = "futures")]
            timer: None,
            until: None,
            late: false,
        }
    }

    /// Whether no more items are taken.
    #[inline]
    pub(super) fn is_over(&self) -> bool {
        self.session.is_over()
    }

    /// Whether the head has a result to take.
    #[inline]
    pub(super) fn is_ready(&mut self) -> bool {
        self.head.as_mut().is_some_and(|head| head.is_ready())
    }

    /// Unordered stages: whether a look may find a result. It takes no lock, and moves nothing.
    pub(super) fn may_take(&mut self, sched: &Sched<I, B>) -> bool {
        self.is_ready()
            || !sched.arrivals.is_empty()
            || self.partial.iter_mut().any(|chunk| chunk.is_ready())
    }

    /// How many outputs are left of the item that is being yielded.
    pub(super) fn rest_of_batch(&self) -> (usize, Option<usize>) {
        self.batch
            .as_ref()
            .map_or((0, Some(0)), Iterator::size_hint)
    }

    // ---- looking

    /// Looks for a result. All that it finds is moved to the fields above, so the next look is cheap.
    pub(super) fn look(&mut self, sched: &Sched<I, B>) -> Look {
        if sched.ordered {
            self.look_at_head(sched)
        } else {
            self.look_around(sched)
        }
    }

    /// Ordered stages: only the chunk with the next `seq` matters.
    fn look_at_head(&mut self, sched: &Sched<I, B>) -> Look {
        // Without the lock, as nearly every look ends here.
        if self.is_ready() {
            return Look::Ready;
        }
        if self.has_own() {
            return Look::Own;
        }
        // Under the lock no steal is half done: only then may the consumer believe that a chunk is exhausted.
        let mut core = sched.core.lock();
        self.end_own(sched, &mut core);
        loop {
            // The old head may be exhausted. Then the next chunk is popped, and checked in the same way.
            if let Some(head) = self.head.take() {
                if !head.is_exhausted(&mut core.key) {
                    self.head = Some(head);
                    break;
                }
                core.recycle(head);
            }
            // By the exact `seq`: what a thief has split off this chunk follows it as a chunk of its own.
            self.head = core.order.pop(self.taken);
            if self.head.is_none() {
                break;
            }
        }
        // Once more: the owner may have published since the look at the top, and the chunk may be a new one.
        if self.is_ready() {
            return Look::Ready;
        }
        // Nothing is ready, and the next item is this thread's, or may be: it runs it.
        if self.has_own() || self.take_left(sched, &mut core) {
            return Look::Own;
        }
        // Nothing to take. The order of the cases matters: a stage that has yielded everything has not been
        // cut short, even if it was cancelled too.
        match &self.head {
            None if core.end.is_some_and(|end| end <= self.taken) => Look::End,
            // No chunk holds the next item, and none will: nothing is pulled any more.
            None if sched.signals.is_cancelled() => {
                self.cut_short = true;
                Look::End
            }
            // The handshake claim / cut. `is_cut_off` passes the heavy barrier; behind it, a worker that runs
            // this chunk is seen as its owner, or will see the cut. An owner publishes something for each of
            // its items, so the consumer waits for it.
            Some(head) if sched.signals.is_cut_off() && !head.is_next_claimed(&mut core.key) => {
                self.cut_short = true;
                Look::End
            }
            _ => Look::Nothing,
        }
    }

    /// Whether the next item is this thread's to run, as far as it knows.
    #[inline]
    pub(super) fn has_own(&self) -> bool {
        self.own.as_ref().is_some_and(|own| !own.is_contested())
    }

    /// Ends the loan of its chunk, if that is over.
    fn end_own(&mut self, sched: &Sched<I, B>, core: &mut Core<I, B>) {
        let over = self.own.take_if(|own| own.is_contested());
        // A thief had lowered the limit, and has raised it again.
        if let Some((rest, free)) = over.and_then(|own| own.end(core)).zip(sched.may_help) {
            self.own = Some(OwnChunk::lend(core, rest, free));
        }
    }

    /// Takes the chunk that was left to it, if the next item is the first of it. `head` is that chunk then.
    fn take_left(&mut self, sched: &Sched<I, B>, core: &mut Core<I, B>) -> bool {
        let is_next = |left: &ChunkExecutor<I, B>| left.first() == self.taken;
        // Not within a time limit, and not past a cut: then nothing that is unstarted counts any more.
        if self.until.is_some()
            || sched.signals.is_cut()
            || !core.left.as_ref().is_some_and(is_next)
        {
            return false;
        }
        let chunk = sched.take_left(core).zip(sched.may_help);
        self.own = chunk.map(|(chunk, free)| OwnChunk::lend(core, chunk, free));
        self.own.is_some()
    }

    /// Unordered stages: any chunk with a result will do.
    fn look_around(&mut self, sched: &Sched<I, B>) -> Look {
        // The chunk of the last result first: this look needs no lock.
        if let Some(mut head) = self.head.take() {
            if head.is_ready() {
                self.head = Some(head);
                return Look::Ready;
            }
            // Exhausted or not is decided under the lock, as in an ordered stage.
            let mut core = sched.core.lock();
            if head.is_exhausted(&mut core.key) {
                core.recycle(head);
            } else {
                self.partial.push_back(head);
            }
        }
        // A lock-free queue: owners hand their chunks over before they publish the first result.
        self.partial
            .extend(std::iter::from_fn(|| steal(&sched.arrivals)));
        if let Some(place) = self.partial.iter_mut().position(|chunk| chunk.is_ready()) {
            self.head = self.partial.remove(place);
            return Look::Ready;
        }
        // Nothing is ready. Exhausted chunks are returned now, under the lock. A chunk may become exhausted
        // after its last result was taken, when a thief takes the rest of its items.
        let mut core = sched.core.lock();
        for place in (0..self.partial.len()).rev() {
            if self.partial[place].is_exhausted(&mut core.key) {
                if let Some(chunk) = self.partial.remove(place) {
                    core.recycle(chunk);
                }
            }
        }
        let all = core.end.is_some_and(|end| end <= self.taken);
        // In this order: `is_cut_off` passes the heavy barrier, and behind it a started chunk is seen as
        // started. A result can come only from a chunk that is started, has arrived, or is already here. One
        // that is here may have been left by its owner to the copy of its item (`Ran::Left`), and then it is
        // in no thread's place of `active`.
        let may_come =
            |chunk: &mut ChunkReader<I, B>| chunk.is_ready() || chunk.chunk().is_started();
        let cancelled = sched.signals.is_cut_off()
            && !core.is_any_started()
            && sched.arrivals.is_empty()
            && !self.partial.iter_mut().any(may_come);
        self.cut_short |= cancelled && !all;
        if all || cancelled {
            Look::End
        } else {
            Look::Nothing
        }
    }

    // ---- waiting

    /// Before the first result: waits for a [short time](Spin). On an otherwise idle machine the result is
    /// there sooner than this thread could be woken. `false`: does not wait, or no longer.
    pub(super) fn spin(&mut self) -> bool {
        if self.taken > 0 && self.part.is_none() {
            self.spin = None;
        }
        self.spin = self.spin.filter(|spin| spin.turn());
        self.spin.is_some()
    }

    /// Naps if results flow. `false`: does not nap.
    pub(super) fn take_nap(&mut self, sched: &Sched<I, B>, host: &dyn Host<I, B>) -> bool {
        if self.eager || !self.flows {
            return false;
        }
        // First what a watcher would do, so that no other thread has to watch during the nap.
        self.look_after_source(sched, host);
        // A puller without room wakes a consumer that naps (`Signals::wait_for_room`), as the nap would
        // otherwise hold up the source.
        sched.meter.note(|meter| meter.count_event(Event::Nap));
        sched.signals.set_napping(true);
        self.sleeper.park_timeout(self.nap);
        sched.signals.set_napping(false);
        // The length follows what the nap gave. It grows as long as results come and no puller waits for
        // room, and naps end when one finds nothing, or if a puller waits for room even after the shortest.
        let pays = matches!(self.look(sched), Look::Ready | Look::Own | Look::End);
        if pays && !sched.signals.is_room_wanted() {
            self.nap = (self.nap * 2).min(LONGEST_NAP);
        } else {
            self.flows = pays && self.nap > NAP;
            self.nap = (self.nap / 2).max(NAP);
        }
        true
    }

    /// Does what a watcher would do, so that no thread has to be woken for that while this one comes by: it
    /// checks whether a thread has been stuck in the source since the last nap.
    fn look_after_source(&mut self, sched: &Sched<I, B>, host: &dyn Host<I, B>) {
        if !sched.pulls {
            // Here this thread is the one that would be stuck.
            return;
        }
        let mut core = sched.core.lock();
        let now = Progress {
            thread: CONSUMER,
            first: core.pulls,
            count: core.open.as_ref().map_or(0, |open| open.chunk.pulled()),
            at: Instant::now(),
        };
        // From now on pullers need no other watcher, for a limited time: see *One watch is enough* in
        // `README.md`.
        core.set_looked(Some(now.at));
        // A thread that only tries the source's lock holds the scheduler's lock meanwhile, as this one does
        // now. So if the source is not free, a thread is pulling.
        let wake = if !host.is_source_free()
            && Progress::unmoved(&mut self.sight, now, STUCK)
            && sched.is_something_unstarted(&core, CONSUMER)
        {
            sched.call_watcher(&mut core)
        } else {
            Wake::Nobody
        };
        // Waking or leasing a thread takes long, so the lock is released before.
        drop(core);
        sched.act(host, wake);
    }

    /// Called before a sleep without a limit: announces the sleep, and makes sure that a thread works and
    /// that a thread watches.
    ///
    /// The announcement is made under the scheduler's lock. So it comes either before or after each critical
    /// section of a worker, and what a worker changes there, the next look finds.
    pub(super) fn announce(&mut self, sched: &Sched<I, B>, host: &dyn Host<I, B>) {
        let mut core = sched.core.lock();
        // The consumer no longer watches. Withdrawn before the barrier in `sleep_for`: a puller that still
        // sees the notice is seen by the check below.
        core.set_looked(None);
        // Until it has looked at the clocks: the handshake start / arm.
        sched.signals.set_untimed(true);
        // The heavy barrier in there pairs with the light one in `ExecCursor::publish` (publish / sleep), and
        // with that in `WriteCursor::push` (pull / watch).
        sched
            .signals
            .sleep_for(if sched.ordered { self.taken } else { ANY });
        // Pull / watch: behind the barrier, items that a puller has added are seen here, or it sees that this
        // thread sleeps.
        let unwatched = !core.is_watched() && sched.is_something_unstarted(&core, CONSUMER);
        let wake = if unwatched || core.is_something_in_hand() {
            sched.call_watcher(&mut core)
        } else if sched.signals.is_room_wanted() || core.roster.len() == 0 {
            // A sleeper that waits for room would wake only by an item that is yielded, and none is yielded
            // while this thread sleeps. With no thread at all, the first one is leased here.
            sched.signals.room_granted();
            core.wake()
        } else {
            Wake::Nobody
        };
        drop(core);
        sched.act(host, wake);
    }

    /// Sleeps until it is woken, or until the next time limit. The announcement has been made, and a last
    /// look was in vain.
    pub(super) fn sleep(&mut self, sched: &Sched<I, B>) {
        // The earlier of the call's limit and the next moment at which a running item may be overdue or slow.
        let began = Instant::now();
        match self.until.into_iter().chain(self.check).min() {
            Some(limit) => {
                let limit = limit.saturating_duration_since(began);
                self.sleeper.park_timeout(limit);
            }
            None => self.sleeper.park(),
        }
        // Taken back at once, so that workers stop waking this thread.
        sched.signals.awake();
        self.flows = began.elapsed() < FLOW;
    }

    /// Looks at the clocks of the items that it waits for. Returns whether it has given up any of them.
    pub(super) fn look_at_clocks(&mut self, sched: &Sched<I, B>, host: &dyn Host<I, B>) -> bool {
        let runs = self.head.iter().chain(&self.partial);
        sched.look_at_clocks(host, runs, &mut self.check)
    }

    // ---- yielding

    /// The next output of the item that is being yielded.
    pub(super) fn next_of_batch(&mut self) -> Option<B::Item> {
        let output = self.batch.as_mut()?.next();
        if output.is_none() {
            self.batch = None;
        }
        output
    }

    /// Begins to yield the outputs of an item. An item with one output, the common case, leaves nothing
    /// behind.
    #[inline]
    pub(super) fn open(&mut self, batch: B) -> Option<B::Item> {
        let mut batch = batch.into_iter();
        let output = batch.next();
        if output.is_none() {
            self.session.control().no_output();
        } else if batch.size_hint().1 != Some(0) {
            self.batch = Some(batch);
        }
        output
    }

    /// Takes the next result of a chunk that has something else than plain results.
    #[cold]
    pub(super) fn take_special(&mut self, sched: &Sched<I, B>) -> Option<B::Item> {
        match self.head.as_mut()?.take_any() {
            Ok(batch) => self.open(batch),
            // Results after this one may exist already. They are not wanted, and the drop discards them.
            Err(Special::Last(batch)) => {
                sched.meter.note(|meter| meter.fate(Fate::Failed, 1));
                self.stop();
                self.open(batch)
            }
            Err(Special::Panicked(payload)) => {
                sched.meter.note(|meter| meter.fate(Fate::Panicked, 1));
                self.stop();
                trace::resume_unwind(payload)
            }
            Err(Special::TimedOut(failure)) => {
                sched.meter.note(|meter| meter.fate(Fate::TimedOut, 1));
                self.stop();
                panic!(
                    "{failure}: give it longer with item_timeout, or isolate() the stage to get an \
                     Err in its place and go on"
                )
            }
            // An item past a failure or a cancellation. In order, everything after it is discarded too;
            // without an order, plain results may still come.
            Err(Special::Discarded) => {
                sched.meter.note(|meter| meter.fate(Fate::Discarded, 1));
                self.cut_short = true;
                self.discarded += 1;
                if sched.ordered {
                    self.stop();
                }
                None
            }
        }
    }

    // ---- ending

    /// Nothing is left to yield. If the source has ended, nothing runs any more except the drops of states,
    /// and a call with a time limit does not wait for these. After a cancellation a thread may still be in
    /// the source. In both cases the join is left to the drop. So is the drop of the source, as that may
    /// itself be a stage of this kind.
    #[cold]
    pub(super) fn finish(&mut self, sched: &Sched<I, B>) {
        let timed = self.until.is_some();
        // A copy or an abandoned closure may run for long; only the drop waits for it.
        let copies = sched.hedge().map_or(0, StageHedge::copies);
        if self.cut_short || timed || sched.core.lock().abandoned > 0 || copies > 0 {
            self.stop();
        } else {
            self.session.join();
            let cut_short = self.is_cut_short();
            self.session.end(cut_short);
        }
        if let Some(panic) = sched.signals.take_stray() {
            resume_unwind(panic);
        }
    }

    /// Nothing more is yielded, though closures may still run. The drop joins them.
    #[cold]
    pub(super) fn stop(&mut self) {
        let cut_short = self.is_cut_short();
        self.session.stop(cut_short);
    }

    /// A drain that has ended the source early has cut the stage short as well.
    fn is_cut_short(&self) -> bool {
        self.cut_short || self.session.control().is_drained()
    }

    /// Returns the chunks that it has taken to the scheduler, which is about to be cleared away.
    pub(super) fn put_back(&mut self, sched: &Sched<I, B>) {
        let takings = self.head.take().into_iter().chain(self.partial.drain(..));
        for taking in takings.collect::<Vec<_>>() {
            // Under no `seq` that is asked for: everything in there is only drained from now on.
            sched.core.lock().order.push(u64::MAX, taking);
        }
    }
}
