//! The side of a reader: it takes from its lane, or leads. `README.md` describes the protocol.

use crate::error::said;
use crate::fan_out::demand::{Demand, Visit, Wish};
use crate::fan_out::dispatch::Dispatch;
use crate::fan_out::state::{
    EndReason, ReaderLane, ReaderStep, SharedOrigin, SourceState, take_held,
};
use crate::overflow::{DropCount, Overflow};
use crate::runtime::context::Link;
use crate::runtime::event::{Event, Listener, WaitResult};
use crate::sync::{Arc, Mutex};
use crate::unwind::{self, Payload, catch};
use std::collections::VecDeque;
use std::panic::resume_unwind;

/// What all readers share.
pub(crate) struct SharedSource<I: Iterator, D> {
    demand: Arc<Demand>,
    opts: ReaderOpts,
    state: Mutex<SourceState<I, D>>,
}

impl<I: Iterator, D> SharedSource<I, D> {
    /// Nobody reads this lane for now, so it must not stop the others.
    pub(crate) fn postpone(&self, reader: usize) {
        if self.opts.overflow == Overflow::Block {
            self.set_bound(reader, usize::MAX);
        }
    }

    /// Now it is read.
    pub(crate) fn begin(&self, reader: usize) {
        if self.opts.overflow == Overflow::Block {
            self.set_bound(reader, self.opts.buffer);
        }
    }

    fn set_bound(&self, reader: usize, bound: usize) {
        let mut state = self.state.lock();
        state.lanes[reader].bound = bound;
        state.let_in(reader);
        let event = state.pass_on();
        drop(state);
        notify(event);
    }

    /// The reader that has raised the panic of which the others tell.
    pub(crate) fn culprit(&self) -> Option<usize> {
        match &self.state.lock().end {
            Some(EndReason::Panic(reader, _)) => Some(*reader),
            _ => None,
        }
    }
}

fn notify(event: Option<Arc<Event>>) {
    if let Some(event) = event {
        event.notify();
    }
}

fn raise(panic: Option<Payload>) {
    if let Some(panic) = panic {
        resume_unwind(panic);
    }
}

/// How a shared source is read.
#[derive(Clone, Debug)]
pub(crate) struct ReaderOpts {
    pub(crate) name: Option<String>,
    pub(crate) overflow: Overflow,
    pub(crate) buffer: usize,
}

/// A reader.
pub(crate) struct ReaderHandle<I: Iterator, D> {
    me: usize,
    shared: Arc<SharedSource<I, D>>,
    wish: Arc<Wish>,
    listener: Listener,
    dropped: DropCount,
    /// It has come to its end, and that was before the source's.
    over: bool,
    cut_short: bool,
    /// What is to be dropped, and who is to be notified for, as soon as there is no lock: empty
    /// otherwise.
    spilt: Vec<I::Item>,
    notified: Vec<Arc<Event>>,
}

impl<I: Iterator, D> std::fmt::Debug for ReaderHandle<I, D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReaderHandle")
            .field("me", &self.me)
            .field("over", &self.over)
            .finish_non_exhaustive()
    }
}

/// Makes the readers. Nothing is pulled before one of them is asked.
pub(crate) fn reader_handles<I, D>(
    source: I,
    deal: D,
    readers: usize,
    opts: ReaderOpts,
    link: Option<Link>,
) -> Vec<ReaderHandle<I, D>>
where
    I: Iterator,
    D: Dispatch<I::Item>,
{
    let bound = opts.overflow.bound(opts.buffer);
    let ears: Vec<Listener> = (0..readers).map(|_| Listener::new()).collect();
    let events = ears
        .iter()
        .map(|listener| Arc::clone(listener.event()))
        .collect();
    let lane = |listener: &Listener| ReaderLane {
        queue: VecDeque::new(),
        bound,
        dropped: DropCount::default(),
        lives: true,
        waits: false,
        event: Arc::clone(listener.event()),
    };
    let lanes: Vec<_> = ears.iter().map(lane).collect();
    let dropped: Vec<_> = lanes.iter().map(|lane| lane.dropped.clone()).collect();
    let state = SourceState {
        origin: Some(Box::new(SharedOrigin {
            source,
            deal,
            readers: Vec::new(),
            dealt: Vec::new(),
        })),
        end: None,
        held: Vec::new(),
        lanes,
        overflow: opts.overflow,
        living: readers,
        reading: readers,
        waiting: 0,
        name: opts.name.clone().unwrap_or_else(|| D::NAME.to_owned()),
        alive: None,
    };
    let shared = Arc::new(SharedSource {
        demand: Demand::new(events, link),
        opts,
        state: Mutex::new(state),
    });
    let port = |(me, (listener, dropped))| ReaderHandle {
        me,
        wish: Wish::new(&shared.demand),
        shared: Arc::clone(&shared),
        listener,
        dropped,
        over: false,
        cut_short: false,
        spilt: Vec::new(),
        notified: Vec::new(),
    };
    ears.into_iter()
        .zip(dropped)
        .enumerate()
        .map(port)
        .collect()
}

/// What became of a lead.
enum Led<T> {
    Item(T),
    End,
    /// The origin is home again, without an item for the leader.
    Home,
}

impl<I: Iterator, D> ReaderHandle<I, D> {
    pub(crate) fn shared(&self) -> &Arc<SharedSource<I, D>> {
        &self.shared
    }

    pub(crate) fn number(&self) -> usize {
        self.me
    }

    pub(crate) fn dropped(&self) -> &DropCount {
        &self.dropped
    }

    /// Notifies and drops what was noted under the lock.
    fn settle(&mut self) -> Option<Payload> {
        for event in self.notified.drain(..) {
            event.notify();
        }
        let mut panic = None;
        for item in self.spilt.drain(..) {
            unwind::first(&mut panic, unwind::discard(item));
        }
        panic
    }

    fn bring_home(&self, origin: Box<SharedOrigin<I, D>>) {
        let mut state = self.shared.state.lock();
        state.origin = Some(origin);
        let event = state.pass_on();
        drop(state);
        notify(event);
    }

    /// Leader: nothing more comes. Hands back what the drops throw.
    fn end(&mut self, origin: SharedOrigin<I, D>, end: EndReason) -> Option<Payload> {
        self.shared.state.lock().end(end, &mut self.notified);
        let mut panic = self.settle();
        unwind::first(&mut panic, origin.discard());
        self.close();
        panic
    }

    /// This reader ends before the source does.
    fn cut(&mut self) {
        self.cut_short = true;
        self.shared.demand.tell_cut();
        self.close();
    }

    pub(crate) fn is_cut_short(&self) -> bool {
        self.cut_short
    }

    /// This reader is at its end.
    fn close(&mut self) {
        if !std::mem::replace(&mut self.over, true) {
            let mut state = self.shared.state.lock();
            state.reading -= 1;
            if state.reading == 0 {
                state.alive = None;
            }
        }
    }
}

impl<I: Iterator, D: Dispatch<I::Item>> ReaderHandle<I, D> {
    pub(crate) fn next(&mut self) -> Option<I::Item> {
        while !self.over {
            let (step, event) = self.shared.state.lock().step(self.me);
            notify(event);
            let cancelled = self.shared.demand.cancelled().is_some();
            match step {
                ReaderStep::Item(item) => return Some(item),
                ReaderStep::Lead(origin) if cancelled => {
                    self.bring_home(origin);
                    self.cut();
                }
                ReaderStep::Wait if cancelled => self.cut(),
                ReaderStep::End(EndReason::Source) => self.close(),
                ReaderStep::End(EndReason::Panic(_, message)) => {
                    self.close();
                    panic!("{message}");
                }
                ReaderStep::Wait => {
                    if !self.wish.is_asked() {
                        return None;
                    }
                    let (shared, me) = (&self.shared, self.me);
                    let cancelled = || shared.demand.cancelled().is_some();
                    let ready = || shared.state.lock().is_ready(me) || cancelled();
                    if self.listener.wait(ready, None) == WaitResult::Unwanted {
                        shared.state.lock().call(me);
                    }
                }
                ReaderStep::Lead(origin) if !self.wish.is_asked() => {
                    self.bring_home(origin);
                    return None;
                }
                ReaderStep::Lead(origin) => match self.lead(origin) {
                    Led::Item(item) => return Some(item),
                    Led::End | Led::Home => {}
                },
            }
        }
        None
    }

    /// Pulls until there is an item for this reader.
    fn lead(&mut self, mut origin: Box<SharedOrigin<I, D>>) -> Led<I::Item> {
        let visit = self.shared.demand.visit();
        loop {
            let item = match catch(|| origin.source.next()) {
                Ok(Some(item)) if visit.as_ref().is_some_and(Visit::is_in_vain) => {
                    self.bring_home(origin);
                    raise(unwind::discard(item));
                    return Led::Home;
                }
                Ok(Some(item)) => item,
                Ok(None) if visit.as_ref().is_some_and(Visit::is_over) => {
                    self.bring_home(origin);
                    return Led::Home;
                }
                Ok(None) => {
                    let panic = self.end(*origin, EndReason::Source);
                    raise(panic);
                    return Led::End;
                }
                Err(payload) => self.fail(*origin, payload),
            };
            if D::EACH {
                self.shared
                    .state
                    .lock()
                    .readers(self.me, &mut origin.readers);
            }
            let SharedOrigin {
                deal,
                readers,
                dealt,
                ..
            } = &mut *origin;
            if let Err(payload) = catch(|| deal.deal(item, readers, dealt)) {
                self.fail(*origin, payload);
            }
            let (mut mine, mut behind) = (None, None);
            let mut state = self.shared.state.lock();
            for (to, item) in origin.dealt.drain(..) {
                if to == self.me {
                    mine = Some(item);
                } else if !state.put(to, item, &mut self.spilt, &mut self.notified) {
                    behind = Some(to);
                }
            }
            if let Some(behind) = behind {
                drop(state);
                self.spilt.extend(mine);
                self.too_many(*origin, behind);
            }
            let goes_home = mine.is_some() || !state.held.is_empty() || !self.wish.wants();
            if !goes_home {
                drop(state);
                if let Some(panic) = self.settle() {
                    self.bring_home(origin);
                    resume_unwind(panic);
                }
                continue;
            }
            state.origin = Some(origin);
            self.notified.extend(state.pass_on());
            drop(state);
            let panic = self.settle();
            return match (panic, mine) {
                (None, Some(item)) => Led::Item(item),
                (None, None) => Led::Home,
                (Some(panic), mine) => {
                    // The item comes before what others have put there meanwhile.
                    if let Some(item) = mine {
                        let mut state = self.shared.state.lock();
                        state.lanes[self.me].queue.push_front(item);
                    }
                    resume_unwind(panic);
                }
            };
        }
    }

    /// Leader: the source, the choice of a reader or a clone has panicked.
    fn fail(&mut self, origin: SharedOrigin<I, D>, payload: Payload) -> ! {
        let message = format!(
            "{}: it is over for all readers, as {} has met with a panic in what they share: {}",
            self.label(),
            D::reader(self.me),
            said(&*payload)
        );
        let end = EndReason::Panic(self.me, message.into());
        if let Some(later) = self.end(origin, end) {
            unwind::bury(later);
        }
        resume_unwind(payload);
    }

    /// Leader: a lane is as full as may be.
    fn too_many(&mut self, origin: SharedOrigin<I, D>, behind: usize) -> ! {
        let message: Arc<str> = format!(
            "{}: {} has not taken the items that were pulled for it, as many as {:?} keeps, and {} \
             asks for another one: read both at the same time, as `into_sinks` does, let Grow keep more, \
             or drop the reader that is not needed",
            self.label(),
            D::reader(behind),
            self.shared.opts.overflow,
            D::reader(self.me),
        )
        .into();
        if let Some(panic) = self.end(origin, EndReason::Panic(self.me, Arc::clone(&message))) {
            unwind::bury(panic);
        }
        panic!("{message}");
    }

    /// What the whole is called in messages.
    fn label(&self) -> String {
        match &self.shared.opts.name {
            Some(name) => format!("{} {name:?}", D::NAME),
            None => D::NAME.to_owned(),
        }
    }

    pub(crate) fn size_hint(&self) -> (usize, Option<usize>) {
        if self.over {
            return (0, Some(0));
        }
        let (here, origin) = {
            let mut state = self.shared.state.lock();
            let held = state.held.iter().any(|(to, _)| *to == self.me);
            let here = state.lanes[self.me].queue.len() + usize::from(held);
            if state.end.is_some() {
                return (here, Some(here));
            }
            (here, state.origin.take())
        };
        // While a leader has the source, nobody else can ask it.
        let Some(origin) = origin else {
            return (here, None);
        };
        let hint = catch(|| origin.source.size_hint());
        self.bring_home(origin);
        let (low, high) = hint.unwrap_or_else(|panic| resume_unwind(panic));
        let all_come = D::EACH
            && self.shared.opts.overflow.keeps_all()
            && self.shared.demand.cancelled().is_none();
        let low = if all_come { low } else { 0 };
        (
            here.saturating_add(low),
            high.and_then(|high| high.checked_add(here)),
        )
    }
}

impl<I: Iterator, D> Drop for ReaderHandle<I, D> {
    fn drop(&mut self) {
        self.wish.give_up();
        let mut state = self.shared.state.lock();
        state.lanes[self.me].lives = false;
        let queue = std::mem::take(&mut state.lanes[self.me].queue);
        let held = take_held(&mut state.held, self.me);
        state.living -= 1;
        let origin = match state.living {
            0 => state.origin.take(),
            _ => None,
        };
        let event = state.pass_on();
        drop(state);
        notify(event);
        let mut panic = self.shared.demand.take_stray();
        for item in queue {
            unwind::first(&mut panic, unwind::discard(item));
        }
        unwind::first(&mut panic, unwind::discard(held));
        if let Some(origin) = origin {
            unwind::first(&mut panic, origin.discard());
        }
        self.close();
        match panic {
            Some(panic) if std::thread::panicking() => unwind::bury(panic),
            panic => raise(panic),
        }
    }
}
