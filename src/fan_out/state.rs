//! What lies under the lock: the lanes of the readers, and the source while nobody has it.

use crate::overflow::{DropCount, Overflow};
use crate::runtime::event::Event;
use crate::runtime::registry::Alive;
use crate::sync::{Arc, bug};
use crate::unwind::{self, Payload};
use std::collections::VecDeque;

/// Where what was pulled for one reader waits for it.
pub(super) struct ReaderLane<T> {
    pub(super) queue: VecDeque<T>,
    pub(super) bound: usize,
    pub(super) dropped: DropCount,
    /// Not dropped.
    pub(super) lives: bool,
    /// Is to be notified for.
    pub(super) waits: bool,
    pub(super) event: Arc<Event>,
}

impl<T> ReaderLane<T> {
    pub(super) fn is_full(&self) -> bool {
        self.queue.len() >= self.bound
    }
}

/// What a leader takes away.
pub(super) struct SharedOrigin<I: Iterator, D> {
    pub(super) source: I,
    pub(super) deal: D,
    /// For whom the item is, and what is for whom: empty at home.
    pub(super) readers: Vec<usize>,
    pub(super) dealt: Vec<(usize, I::Item)>,
}

impl<I: Iterator, D> SharedOrigin<I, D> {
    /// Drops it part by part, as each may panic.
    pub(super) fn discard(self) -> Option<Payload> {
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
pub(super) enum EndReason {
    /// The source has ended.
    Source,
    /// This reader has raised a panic; the others say this.
    Panic(usize, Arc<str>),
}

pub(super) struct SourceState<I: Iterator, D> {
    /// `None`: in the hands of a leader, or gone.
    pub(super) origin: Option<Box<SharedOrigin<I, D>>>,
    pub(super) end: Option<EndReason>,
    /// Items for which there is no room, at most one a lane.
    pub(super) held: Vec<(usize, I::Item)>,
    pub(super) lanes: Vec<ReaderLane<I::Item>>,
    pub(super) overflow: Overflow,
    /// How many readers have not been dropped; how many have not come to their end, either.
    pub(super) living: usize,
    pub(super) reading: usize,
    /// In how many lanes somebody `waits`.
    pub(super) waiting: usize,
    pub(super) name: String,
    /// From the first lead on, until all readers are at their end.
    pub(super) alive: Option<Alive>,
}

/// What a reader finds.
pub(super) enum ReaderStep<T, O> {
    Item(T),
    Lead(O),
    Wait,
    End(EndReason),
}

pub(super) type StepOf<I, D> = ReaderStep<<I as Iterator>::Item, Box<SharedOrigin<I, D>>>;

impl<I: Iterator, D> SourceState<I, D> {
    /// What there is for this reader, and who is to be notified for.
    pub(super) fn step(&mut self, me: usize) -> (StepOf<I, D>, Option<Arc<Event>>) {
        if let Some(item) = self.lanes[me].queue.pop_front() {
            self.let_in(me);
            return (ReaderStep::Item(item), self.pass_on());
        }
        if let Some(end) = &self.end {
            return (ReaderStep::End(end.clone()), None);
        }
        if !self.may_lead() {
            return (ReaderStep::Wait, None);
        }
        if self.alive.is_none() {
            self.alive = Some(Alive::new(&self.name));
        }
        (
            self.origin
                .take()
                .map_or(ReaderStep::Wait, ReaderStep::Lead),
            None,
        )
    }

    /// Whether [`step`](Self::step) would find anything; if not, the reader is notified for when it
    /// does.
    pub(super) fn is_ready(&mut self, me: usize) -> bool {
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

    pub(super) fn may_lead(&self) -> bool {
        self.origin.is_some() && self.held.is_empty()
    }

    /// There may be room in this lane.
    pub(super) fn let_in(&mut self, reader: usize) {
        let lane = &mut self.lanes[reader];
        if !lane.is_full() {
            lane.queue.extend(take_held(&mut self.held, reader));
        }
    }

    /// Whom to notify, if somebody may lead and nobody does.
    pub(super) fn pass_on(&mut self) -> Option<Arc<Event>> {
        if self.waiting == 0 || !self.may_lead() || bug("lead_is_kept") {
            return None;
        }
        let next = self.lanes.iter().position(|lane| lane.waits)?;
        self.call(next)
    }

    /// Whom to notify, if this reader waits.
    pub(super) fn call(&mut self, reader: usize) -> Option<Arc<Event>> {
        let lane = &mut self.lanes[reader];
        if !std::mem::take(&mut lane.waits) {
            return None;
        }
        self.waiting -= 1;
        Some(Arc::clone(&lane.event))
    }

    /// For whom an item is, if it is for all: the leader comes last.
    pub(super) fn readers(&mut self, leader: usize, readers: &mut Vec<usize>) {
        readers.clear();
        for (number, lane) in self.lanes.iter_mut().enumerate() {
            if !lane.lives || number == leader {
                continue;
            }
            if self.overflow == Overflow::DropNewest && lane.is_full() {
                lane.dropped.add();
            } else {
                readers.push(number);
            }
        }
        readers.push(leader);
    }

    /// Puts an item where it belongs; into `spilt` what has no place, and into `notified` who is to be
    /// notified for. `false`: there is no room, and there must be.
    pub(super) fn put(
        &mut self,
        to: usize,
        item: I::Item,
        spilt: &mut Vec<I::Item>,
        notified: &mut Vec<Arc<Event>>,
    ) -> bool {
        let lane = &mut self.lanes[to];
        if !lane.lives {
            spilt.push(item);
            return true;
        }
        if lane.is_full() {
            match self.overflow {
                Overflow::Block => {
                    self.held.push((to, item));
                    return true;
                }
                Overflow::DropNewest => {
                    spilt.push(item);
                    lane.dropped.add();
                    return true;
                }
                Overflow::DropOldest => {
                    spilt.extend(lane.queue.pop_front());
                    lane.dropped.add();
                }
                Overflow::Grow(_) => {
                    spilt.push(item);
                    return false;
                }
            }
        }
        lane.queue.push_back(item);
        notified.extend(self.call(to));
        true
    }

    /// Nothing more comes.
    pub(super) fn end(&mut self, end: EndReason, notified: &mut Vec<Arc<Event>>) {
        self.end = Some(end);
        for reader in 0..self.lanes.len() {
            notified.extend(self.call(reader));
        }
    }
}

/// What is held for this reader.
pub(super) fn take_held<T>(held: &mut Vec<(usize, T)>, reader: usize) -> Option<T> {
    let place = held.iter().position(|(to, _)| *to == reader)?;
    Some(held.swap_remove(place).1)
}
