//! One source that several readers share: under `broadcast`, `split` and `route`.
//!
//! # Who acts
//!
//! There is no thread of its own. Each reader has a *lane*: a queue of what was pulled for it and
//! not taken yet, with a bound. The source, with what deals its items out, is the *origin*; it is
//! always in one place: at home under the lock, in the hands of a *leader*, or gone. A reader takes
//! from its lane. If that is empty and the origin is at home, the reader becomes the leader: it
//! takes the origin away, pulls on its own thread, and puts each item into the lanes it is for,
//! until one is for itself; then it brings the origin home. All other readers without an item wait
//! on their own [bell](crate::engine::bell).
//!
//! # The protocol
//!
//! One short lock guards the lanes and the home of the origin. What is the user's (the source, the
//! choice of a reader, `clone`, every drop) runs without it.
//!
//! - *Put and take.* An item goes into a lane under the lock, and its reader is rung for if it
//!   `waits`. A reader that finds nothing sets `waits` under the lock and then sleeps, and looks
//!   again in between, so it finds the item or is rung for. So an item is there for its reader at
//!   once, wherever the leader goes next.
//! - *The lead passes on.* Whoever brings the origin home or makes room wakes one waiting reader
//!   (`pass_on`), if the origin may be pulled. So while a reader waits, either somebody leads, or
//!   nobody may. A reader that was rung for the lead looks again under the lock: it leads; or it
//!   wants nothing any more and brings the origin home at once; or somebody else was faster, and
//!   will pass on.
//! - *No room*, where nothing may be lost. An item that finds its lane full is `held` under the
//!   lock, and nobody leads until the reader of that lane takes something (then it is put into the
//!   lane) or is dropped (then so is the item). So nobody sits in the source meanwhile, and who
//!   waits for room waits on a bell, like everybody else. That it is the item that tells, and not
//!   the full lane, lets a source end that has no more items than there is room for.
//! - *Clones* are made by the leader between two locks, for the readers that lived at the first;
//!   one that is dropped in between costs a clone. The leader lives, and its own item is the
//!   original.
//! - *The end* (also a panic) is set by the leader, who then drops the origin; lanes are emptied
//!   first. The last reader that is dropped drops the origin if it is at home; somebody else's
//!   hands it cannot be in, as a leader is a reader.
//! - *Interrupts* are told in [`demand`](crate::engine::demand).

use crate::dropped::Dropped;
use crate::engine::bell::{Bell, Ear, Heard};
use crate::engine::census::Alive;
use crate::engine::context::Link;
use crate::engine::demand::{Demand, Visit, Wish};
use crate::engine::unwind::{self, Payload, catch};
use crate::error::said;
use crate::sync::{Arc, Mutex, bug};
use std::collections::VecDeque;
use std::panic::resume_unwind;

/// What happens when one reader of a shared source is slower than another.
///
/// The bound of a reader is how many items may be pulled for it and not yet taken:
/// [`buffer`](crate::Fanout::buffer) says it.
///
/// # Examples
///
/// ```
/// use fanfold::{Fanfold, Skew};
///
/// // Two readers on one thread, one after the other: with `Block` the first would wait for ever.
/// let (even, odd) = (0..100).split(|x| x % 2 == 0).skew(Skew::Grow(1_000)).pair();
/// assert_eq!(even.sum::<i32>(), 2_450);
/// assert_eq!(odd.sum::<i32>(), 2_500);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Skew {
    /// The source is not pulled while an item would find no room: the slowest reader sets the pace,
    /// and nothing is lost. So the readers must be read at the same time, on threads of their own
    /// or in turns. One that is neither read nor dropped stops the others.
    #[default]
    Block,
    /// An item that finds no room is not given to that reader; the reader
    /// [counts](crate::Reader::dropped) it. Nobody waits for another reader.
    DropNewest,
    /// The item that has waited longest for that reader makes room, and is
    /// [counted](crate::Reader::dropped). Nobody waits for another reader.
    DropOldest,
    /// Up to so many items (at least 1) are kept for each reader, instead of its buffer. A reader
    /// that would have to pull one more panics, with a message that names it and the reader that is
    /// behind; the others panic with that message when they have taken what was pulled for them.
    Grow(usize),
}

/// To which readers an item goes. Sealed: only the crate implements it.
pub trait Deal<T>: sealed::Sealed {
    /// What it is called in messages.
    #[doc(hidden)]
    const NAME: &'static str;

    /// Whether every item goes to every reader.
    #[doc(hidden)]
    const EACH: bool = false;

    /// Puts the item, with the number of its reader, into `out`; if there are several, for each of
    /// `readers`, and for the last of them the item itself.
    #[doc(hidden)]
    fn deal(&mut self, item: T, readers: &[usize], out: &mut Vec<(usize, T)>);

    /// How a reader is called in messages.
    #[doc(hidden)]
    fn reader(number: usize) -> String {
        format!("reader {number}")
    }
}

pub(crate) mod sealed {
    #[allow(unreachable_pub)] // what is above the public `Deal`
    pub trait Sealed {}
}

/// Where what was pulled for one reader waits for it.
struct Lane<T> {
    queue: VecDeque<T>,
    bound: usize,
    dropped: Dropped,
    /// Not dropped.
    lives: bool,
    /// Is to be rung for.
    waits: bool,
    bell: Arc<Bell>,
}

impl<T> Lane<T> {
    fn is_full(&self) -> bool {
        self.queue.len() >= self.bound
    }
}

/// What a leader takes away.
struct Origin<I: Iterator, D> {
    source: I,
    deal: D,
    /// For whom the item is, and what is for whom: empty at home.
    readers: Vec<usize>,
    dealt: Vec<(usize, I::Item)>,
}

impl<I: Iterator, D> Origin<I, D> {
    /// Drops it part by part, as each may panic.
    fn discard(self) -> Option<Payload> {
        let mut panic = None;
        for dealt in self.dealt {
            unwind::first(&mut panic, unwind::discard(dealt));
        }
        unwind::first(&mut panic, unwind::discard(self.source));
        unwind::first(&mut panic, unwind::discard(self.deal));
        panic
    }
}

/// Why nothing more comes.
#[derive(Clone)]
enum End {
    /// The source has ended.
    Source,
    /// This reader has raised a panic; the others say this.
    Panic(usize, Arc<str>),
}

struct State<I: Iterator, D> {
    /// `None`: in the hands of a leader, or gone.
    origin: Option<Box<Origin<I, D>>>,
    end: Option<End>,
    /// Items for which there is no room, at most one a lane.
    held: Vec<(usize, I::Item)>,
    lanes: Vec<Lane<I::Item>>,
    skew: Skew,
    /// How many readers have not been dropped; how many have not come to their end, either.
    living: usize,
    reading: usize,
    /// In how many lanes somebody `waits`.
    waiting: usize,
    name: String,
    /// From the first lead on, until all readers are at their end.
    alive: Option<Alive>,
}

/// What a reader finds.
enum Step<T, O> {
    Item(T),
    Lead(O),
    Wait,
    End(End),
}

type StepOf<I, D> = Step<<I as Iterator>::Item, Box<Origin<I, D>>>;

impl<I: Iterator, D> State<I, D> {
    /// What there is for this reader, and who is to be rung for.
    fn step(&mut self, me: usize) -> (StepOf<I, D>, Option<Arc<Bell>>) {
        if let Some(item) = self.lanes[me].queue.pop_front() {
            self.let_in(me);
            return (Step::Item(item), self.pass_on());
        }
        if let Some(end) = &self.end {
            return (Step::End(end.clone()), None);
        }
        if !self.may_lead() {
            return (Step::Wait, None);
        }
        if self.alive.is_none() {
            self.alive = Some(Alive::new(&self.name));
        }
        (self.origin.take().map_or(Step::Wait, Step::Lead), None)
    }

    /// Whether [`step`](Self::step) would find anything; if not, the reader is rung for when it
    /// does.
    fn is_ready(&mut self, me: usize) -> bool {
        let ready = !self.lanes[me].queue.is_empty() || self.end.is_some() || self.may_lead();
        if self.lanes[me].waits == ready {
            self.lanes[me].waits = !ready;
            self.waiting = if ready {
                self.waiting - 1
            } else {
                self.waiting + 1
            };
        }
        ready
    }

    fn may_lead(&self) -> bool {
        self.origin.is_some() && self.held.is_empty()
    }

    /// There may be room in this lane.
    fn let_in(&mut self, reader: usize) {
        let lane = &mut self.lanes[reader];
        if !lane.is_full() {
            lane.queue.extend(take_held(&mut self.held, reader));
        }
    }

    /// Whom to ring for, if somebody may lead and nobody does.
    fn pass_on(&mut self) -> Option<Arc<Bell>> {
        if self.waiting == 0 || !self.may_lead() || bug("lead_is_kept") {
            return None;
        }
        let next = self.lanes.iter().position(|lane| lane.waits)?;
        self.call(next)
    }

    /// Whom to ring for, if this reader waits.
    fn call(&mut self, reader: usize) -> Option<Arc<Bell>> {
        let lane = &mut self.lanes[reader];
        if !std::mem::take(&mut lane.waits) {
            return None;
        }
        self.waiting -= 1;
        Some(Arc::clone(&lane.bell))
    }

    /// For whom an item is, if it is for all: the leader comes last.
    fn readers(&mut self, leader: usize, readers: &mut Vec<usize>) {
        readers.clear();
        for (number, lane) in self.lanes.iter_mut().enumerate() {
            if !lane.lives || number == leader {
                continue;
            }
            if self.skew == Skew::DropNewest && lane.is_full() {
                lane.dropped.add();
            } else {
                readers.push(number);
            }
        }
        readers.push(leader);
    }

    /// Puts an item where it belongs; into `spilt` what has no place, and into `rung` who is to be
    /// rung for. `false`: there is no room, and there must be.
    fn put(
        &mut self,
        to: usize,
        item: I::Item,
        spilt: &mut Vec<I::Item>,
        rung: &mut Vec<Arc<Bell>>,
    ) -> bool {
        let lane = &mut self.lanes[to];
        if !lane.lives {
            spilt.push(item);
            return true;
        }
        if lane.is_full() {
            match self.skew {
                Skew::Block => {
                    self.held.push((to, item));
                    return true;
                }
                Skew::DropNewest => {
                    spilt.push(item);
                    lane.dropped.add();
                    return true;
                }
                Skew::DropOldest => {
                    spilt.extend(lane.queue.pop_front());
                    lane.dropped.add();
                }
                Skew::Grow(_) => {
                    spilt.push(item);
                    return false;
                }
            }
        }
        lane.queue.push_back(item);
        rung.extend(self.call(to));
        true
    }

    /// Nothing more comes.
    fn end(&mut self, end: End, rung: &mut Vec<Arc<Bell>>) {
        self.end = Some(end);
        for reader in 0..self.lanes.len() {
            rung.extend(self.call(reader));
        }
    }
}

/// What is held for this reader.
fn take_held<T>(held: &mut Vec<(usize, T)>, reader: usize) -> Option<T> {
    let place = held.iter().position(|(to, _)| *to == reader)?;
    Some(held.swap_remove(place).1)
}

/// What all readers share.
pub(crate) struct Tee<I: Iterator, D> {
    demand: Arc<Demand>,
    opts: Opts,
    state: Mutex<State<I, D>>,
}

impl<I: Iterator, D> Tee<I, D> {
    /// Nobody reads this lane for now, so it must not stop the others.
    pub(crate) fn postpone(&self, reader: usize) {
        if self.opts.skew == Skew::Block {
            self.set_bound(reader, usize::MAX);
        }
    }

    /// Now it is read.
    pub(crate) fn begin(&self, reader: usize) {
        if self.opts.skew == Skew::Block {
            self.set_bound(reader, self.opts.buffer);
        }
    }

    fn set_bound(&self, reader: usize, bound: usize) {
        let mut state = self.state.lock();
        state.lanes[reader].bound = bound;
        state.let_in(reader);
        let bell = state.pass_on();
        drop(state);
        ring(bell);
    }

    /// The reader that has raised the panic of which the others tell.
    pub(crate) fn culprit(&self) -> Option<usize> {
        match &self.state.lock().end {
            Some(End::Panic(reader, _)) => Some(*reader),
            _ => None,
        }
    }
}

fn ring(bell: Option<Arc<Bell>>) {
    if let Some(bell) = bell {
        bell.ring();
    }
}

fn raise(panic: Option<Payload>) {
    if let Some(panic) = panic {
        resume_unwind(panic);
    }
}

/// How a shared source is read.
#[derive(Clone, Debug)]
pub(crate) struct Opts {
    pub(crate) name: Option<String>,
    pub(crate) skew: Skew,
    pub(crate) buffer: usize,
}

/// A reader.
pub(crate) struct Port<I: Iterator, D> {
    me: usize,
    tee: Arc<Tee<I, D>>,
    wish: Arc<Wish>,
    ear: Ear,
    dropped: Dropped,
    /// It has come to its end, and that was before the source's.
    over: bool,
    cut_short: bool,
    /// What is to be dropped, and who is to be rung for, as soon as there is no lock: empty
    /// otherwise.
    spilt: Vec<I::Item>,
    rung: Vec<Arc<Bell>>,
}

impl<I: Iterator, D> std::fmt::Debug for Port<I, D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Port")
            .field("me", &self.me)
            .field("over", &self.over)
            .finish_non_exhaustive()
    }
}

/// Makes the readers. Nothing is pulled before one of them is asked.
pub(crate) fn ports<I, D>(
    source: I,
    deal: D,
    readers: usize,
    opts: Opts,
    link: Option<Link>,
) -> Vec<Port<I, D>>
where
    I: Iterator,
    D: Deal<I::Item>,
{
    let bound = match opts.skew {
        Skew::Grow(cap) => cap,
        _ => opts.buffer,
    };
    let ears: Vec<Ear> = (0..readers).map(|_| Ear::new()).collect();
    let bells = ears.iter().map(|ear| Arc::clone(ear.bell())).collect();
    let lane = |ear: &Ear| Lane {
        queue: VecDeque::new(),
        bound,
        dropped: Dropped::default(),
        lives: true,
        waits: false,
        bell: Arc::clone(ear.bell()),
    };
    let lanes: Vec<_> = ears.iter().map(lane).collect();
    let dropped: Vec<_> = lanes.iter().map(|lane| lane.dropped.clone()).collect();
    let state = State {
        origin: Some(Box::new(Origin {
            source,
            deal,
            readers: Vec::new(),
            dealt: Vec::new(),
        })),
        end: None,
        held: Vec::new(),
        lanes,
        skew: opts.skew,
        living: readers,
        reading: readers,
        waiting: 0,
        name: opts.name.clone().unwrap_or_else(|| D::NAME.to_owned()),
        alive: None,
    };
    let tee = Arc::new(Tee {
        demand: Demand::new(bells, link),
        opts,
        state: Mutex::new(state),
    });
    let port = |(me, (ear, dropped))| Port {
        me,
        wish: Wish::new(&tee.demand),
        tee: Arc::clone(&tee),
        ear,
        dropped,
        over: false,
        cut_short: false,
        spilt: Vec::new(),
        rung: Vec::new(),
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

impl<I: Iterator, D> Port<I, D> {
    pub(crate) fn tee(&self) -> &Arc<Tee<I, D>> {
        &self.tee
    }

    pub(crate) fn number(&self) -> usize {
        self.me
    }

    pub(crate) fn dropped(&self) -> &Dropped {
        &self.dropped
    }

    /// Rings and drops what was noted under the lock.
    fn settle(&mut self) -> Option<Payload> {
        for bell in self.rung.drain(..) {
            bell.ring();
        }
        let mut panic = None;
        for item in self.spilt.drain(..) {
            unwind::first(&mut panic, unwind::discard(item));
        }
        panic
    }

    fn bring_home(&self, origin: Box<Origin<I, D>>) {
        let mut state = self.tee.state.lock();
        state.origin = Some(origin);
        let bell = state.pass_on();
        drop(state);
        ring(bell);
    }

    /// Leader: nothing more comes. Hands back what the drops throw.
    fn end(&mut self, origin: Origin<I, D>, end: End) -> Option<Payload> {
        self.tee.state.lock().end(end, &mut self.rung);
        let mut panic = self.settle();
        unwind::first(&mut panic, origin.discard());
        self.close();
        panic
    }

    /// This reader ends before the source does.
    fn cut(&mut self) {
        self.cut_short = true;
        self.tee.demand.tell_cut();
        self.close();
    }

    pub(crate) fn is_cut_short(&self) -> bool {
        self.cut_short
    }

    /// This reader is at its end.
    fn close(&mut self) {
        if !std::mem::replace(&mut self.over, true) {
            let mut state = self.tee.state.lock();
            state.reading -= 1;
            if state.reading == 0 {
                state.alive = None;
            }
        }
    }
}

impl<I: Iterator, D: Deal<I::Item>> Port<I, D> {
    pub(crate) fn next(&mut self) -> Option<I::Item> {
        while !self.over {
            let (step, bell) = self.tee.state.lock().step(self.me);
            ring(bell);
            let cancelled = self.tee.demand.cancelled().is_some();
            match step {
                Step::Item(item) => return Some(item),
                Step::Lead(origin) if cancelled => {
                    self.bring_home(origin);
                    self.cut();
                }
                Step::Wait if cancelled => self.cut(),
                Step::End(End::Source) => self.close(),
                Step::End(End::Panic(_, message)) => {
                    self.close();
                    panic!("{message}");
                }
                Step::Wait => {
                    if !self.wish.is_asked() {
                        return None;
                    }
                    let (tee, me) = (&self.tee, self.me);
                    let cancelled = || tee.demand.cancelled().is_some();
                    let ready = || tee.state.lock().is_ready(me) || cancelled();
                    if self.ear.wait(ready, None) == Heard::Unwanted {
                        tee.state.lock().call(me);
                    }
                }
                Step::Lead(origin) if !self.wish.is_asked() => {
                    self.bring_home(origin);
                    return None;
                }
                Step::Lead(origin) => match self.lead(origin) {
                    Led::Item(item) => return Some(item),
                    Led::End | Led::Home => {}
                },
            }
        }
        None
    }

    /// Pulls until there is an item for this reader.
    fn lead(&mut self, mut origin: Box<Origin<I, D>>) -> Led<I::Item> {
        let visit = self.tee.demand.visit();
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
                    let panic = self.end(*origin, End::Source);
                    raise(panic);
                    return Led::End;
                }
                Err(payload) => self.fail(*origin, payload),
            };
            if D::EACH {
                self.tee.state.lock().readers(self.me, &mut origin.readers);
            }
            let Origin {
                deal,
                readers,
                dealt,
                ..
            } = &mut *origin;
            if let Err(payload) = catch(|| deal.deal(item, readers, dealt)) {
                self.fail(*origin, payload);
            }
            let (mut mine, mut behind) = (None, None);
            let mut state = self.tee.state.lock();
            for (to, item) in origin.dealt.drain(..) {
                if to == self.me {
                    mine = Some(item);
                } else if !state.put(to, item, &mut self.spilt, &mut self.rung) {
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
            self.rung.extend(state.pass_on());
            drop(state);
            let panic = self.settle();
            return match (panic, mine) {
                (None, Some(item)) => Led::Item(item),
                (None, None) => Led::Home,
                (Some(panic), mine) => {
                    // The item comes before what others have put there meanwhile.
                    if let Some(item) = mine {
                        let mut state = self.tee.state.lock();
                        state.lanes[self.me].queue.push_front(item);
                    }
                    resume_unwind(panic);
                }
            };
        }
    }

    /// Leader: the source, the choice of a reader or a clone has panicked.
    fn fail(&mut self, origin: Origin<I, D>, payload: Payload) -> ! {
        let message = format!(
            "{}: it is over for all readers, as {} has met with a panic in what they share: {}",
            self.label(),
            D::reader(self.me),
            said(&*payload)
        );
        let end = End::Panic(self.me, message.into());
        if let Some(later) = self.end(origin, end) {
            unwind::bury(later);
        }
        resume_unwind(payload);
    }

    /// Leader: a lane is as full as may be.
    fn too_many(&mut self, origin: Origin<I, D>, behind: usize) -> ! {
        let message: Arc<str> = format!(
            "{}: {} has not taken the items that were pulled for it, as many as {:?} keeps, and {} \
             asks for another one: read both at the same time, as `{}_into` does, raise the cap, or \
             drop the reader that is not needed",
            self.label(),
            D::reader(behind),
            self.tee.opts.skew,
            D::reader(self.me),
            D::NAME,
        )
        .into();
        if let Some(panic) = self.end(origin, End::Panic(self.me, Arc::clone(&message))) {
            unwind::bury(panic);
        }
        panic!("{message}");
    }

    /// What the whole is called in messages.
    fn label(&self) -> String {
        match &self.tee.opts.name {
            Some(name) => format!("{} {name:?}", D::NAME),
            None => D::NAME.to_owned(),
        }
    }

    pub(crate) fn size_hint(&self) -> (usize, Option<usize>) {
        if self.over {
            return (0, Some(0));
        }
        let (here, origin) = {
            let mut state = self.tee.state.lock();
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
            && matches!(self.tee.opts.skew, Skew::Block | Skew::Grow(_))
            && self.tee.demand.cancelled().is_none();
        let low = if all_come { low } else { 0 };
        (
            here.saturating_add(low),
            high.and_then(|high| high.checked_add(here)),
        )
    }
}

impl<I: Iterator, D> Drop for Port<I, D> {
    fn drop(&mut self) {
        self.wish.give_up();
        let mut state = self.tee.state.lock();
        state.lanes[self.me].lives = false;
        let queue = std::mem::take(&mut state.lanes[self.me].queue);
        let held = take_held(&mut state.held, self.me);
        state.living -= 1;
        let origin = match state.living {
            0 => state.origin.take(),
            _ => None,
        };
        let bell = state.pass_on();
        drop(state);
        ring(bell);
        let mut panic = self.tee.demand.take_stray();
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

#[cfg(all(test, loom))]
mod models {
    use super::*;

    /// One way for even, the other for odd numbers, as `split` does; or all ways.
    struct ByParity;
    struct All;

    impl sealed::Sealed for ByParity {}
    impl sealed::Sealed for All {}

    impl Deal<usize> for ByParity {
        const NAME: &'static str = "a model";

        fn deal(&mut self, item: usize, _: &[usize], out: &mut Vec<(usize, usize)>) {
            out.push((item % 2, item));
        }
    }

    impl Deal<usize> for All {
        const NAME: &'static str = "a model";
        const EACH: bool = true;

        fn deal(&mut self, item: usize, readers: &[usize], out: &mut Vec<(usize, usize)>) {
            out.extend(readers.iter().map(|reader| (*reader, item)));
        }
    }

    const OPTS: Opts = Opts {
        name: None,
        skew: Skew::Block,
        buffer: 1,
    };

    /// Put / take, no room, the end, a drop: two readers on two threads; the second may stop after
    /// so many items.
    fn both_get<D: Deal<usize> + Send + 'static>(
        source: &'static [usize],
        deal: fn() -> D,
        wants: [&'static [usize]; 2],
        stops: Option<usize>,
    ) {
        loom::model(move || {
            let mut ports = ports(source.iter().copied(), deal(), 2, OPTS, None);
            let (second, mut first) = (ports.pop(), ports.pop().expect("two"));
            let reader = loom::thread::spawn(move || {
                let mut second = second.expect("two");
                let mut next = || second.next();
                match stops {
                    Some(count) => (0..count).map_while(|_| next()).collect(),
                    None => std::iter::from_fn(next).collect::<Vec<_>>(),
                }
            });
            let got: Vec<_> = std::iter::from_fn(|| first.next()).collect();
            assert_eq!(got, wants[0]);
            let got = reader.join().expect("no panic");
            assert_eq!(got, wants[1]);
        });
    }

    /// A leader that has its item and is not asked again calls who waits.
    #[test]
    fn loom_tee_lead_passes_on() {
        loom::model(|| {
            let mut ports = ports([1, 0].into_iter(), ByParity, 2, OPTS, None);
            let (second, mut first) = (ports.pop(), ports.pop().expect("two"));
            let reader = loom::thread::spawn(move || {
                let mut second = second.expect("two");
                (second.next(), second)
            });
            assert_eq!(first.next(), Some(0));
            let (got, _second) = reader.join().expect("no panic");
            assert_eq!(got, Some(1));
        });
    }

    #[test]
    fn loom_tee_split() {
        both_get(&[0, 1, 2], || ByParity, [&[0, 2], &[1]], None);
    }

    #[test]
    fn loom_tee_no_room() {
        both_get(&[1, 3, 0], || ByParity, [&[0], &[1, 3]], None);
    }

    #[test]
    fn loom_tee_broadcast() {
        both_get(&[0, 1], || All, [&[0, 1], &[0, 1]], None);
    }

    #[test]
    fn loom_tee_drop() {
        both_get(&[1, 3, 0], || ByParity, [&[0], &[]], Some(0));
        both_get(&[0, 1, 2], || All, [&[0, 1, 2], &[0]], Some(1));
    }
}
