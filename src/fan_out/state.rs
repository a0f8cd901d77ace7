//! What is under the lock: the lanes of the readers, and the source while no reader has it.

use crate::overflow::{DropCount, Overflow};
use crate::runtime::event::Event;
use crate::runtime::meter::{Doing, MeterSlot};
use crate::runtime::registry::Alive;
use crate::sync::{Arc, Instant, bug};
use crate::unwind::{self, Payload};
use std::collections::VecDeque;

/// Where the items that were pulled for one reader wait for it.
pub(super) struct ReaderLane<T> {
    pub(super) queue: VecDeque<T>,
    pub(super) bound: usize,
    pub(super) dropped: DropCount,
    /// The reader has not been dropped.
    pub(super) lives: bool,
    /// The reader waits, and must be notified.
    pub(super) waits: bool,
    /// Wakes the reader. Notified only after the lock was released.
    pub(super) event: Arc<Event>,
    /// `Some`: the reader was asked for statistics.
    pub(super) meter: MeterSlot,
}

impl<T> ReaderLane<T> {
    /// Whether the next item for this lane finds no room.
    pub(super) fn is_full(&self) -> bool {
        self.queue.len() >= self.bound
    }

    /// For the statistics: an item comes, and finds room or does not, or one is dropped.
    fn note_item(&self, drops: bool) {
        self.meter.note(|meter| {
            meter.pulled(1);
            meter.ran(1);
            if drops {
                meter.lost(1);
            }
        });
    }

    /// For the statistics: an item is held for want of room, or none is.
    fn note_held(&self, held: bool) {
        self.meter
            .note(|meter| meter.full(Instant::now(), held, self.bound as u64));
    }
}

/// What a leader takes away: the source, and the rule that decides where its items go.
pub(super) struct SharedOrigin<I: Iterator, D> {
    pub(super) source: I,
    pub(super) deal: D,
    /// Which readers the current item is for, and what each of them gets. Empty while the origin is at home;
    /// kept for their memory.
    pub(super) readers: Vec<usize>,
    pub(super) dealt: Vec<(usize, I::Item)>,
}

impl<I: Iterator, D> SharedOrigin<I, D> {
    /// Drops it part by part, because each drop may panic.
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
    /// This reader has raised a panic; the others report it by this message.
    Panic(usize, Arc<str>),
}

/// What is under the lock.
pub(super) struct SourceState<I: Iterator, D> {
    /// `None`: a leader has it, or it is gone.
    pub(super) origin: Option<Box<SharedOrigin<I, D>>>,
    /// `Some`: nothing more comes. The lanes may still have items.
    pub(super) end: Option<EndReason>,
    /// Items for which there is no room, at most one per lane. While there are any, no reader may lead.
    pub(super) held: Vec<(usize, I::Item)>,
    pub(super) lanes: Vec<ReaderLane<I::Item>>,
    pub(super) overflow: Overflow,
    /// How many readers have not been dropped; and how many have not come to their end.
    pub(super) living: usize,
    pub(super) reading: usize,
    /// How many lanes have `waits` set.
    pub(super) waiting: usize,
    /// A reader was asked for statistics.
    pub(super) measured: bool,
    pub(super) name: String,
    /// The entry in the registry, from the first lead until all readers are at their end.
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
    /// What there is for this reader, and which other reader to notify.
    pub(super) fn step(&mut self, me: usize) -> (StepOf<I, D>, Option<Arc<Event>>) {
        // The lane first, also after the end: what was pulled for a reader is yielded in any case.
        if let Some(item) = self.lanes[me].queue.pop_front() {
            self.lanes[me].meter.note(|meter| meter.took(1));
            // Taking an item makes room: a held item goes into the lane, and if none is held any more,
            // another reader may lead.
            self.let_in(me);
            return (ReaderStep::Item(item), self.pass_on());
        }
        if let Some(end) = &self.end {
            return (ReaderStep::End(end.clone()), None);
        }
        // If the origin is away, or an item is held, this reader can only wait. Its next look sets `waits`,
        // under the lock again.
        if !self.may_lead() {
            return (ReaderStep::Wait, None);
        }
        // The registry lists the source as soon as it is used, and not before.
        if self.alive.is_none() {
            self.alive = Some(Alive::new(&self.name));
        }
        self.note_source(Doing::Source);
        // From here on this reader is the leader: the origin is in its hand.
        (
            self.origin
                .take()
                .map_or(ReaderStep::Wait, ReaderStep::Lead),
            None,
        )
    }

    /// Whether [`step`](Self::step) would find anything. If not, the reader is marked as waiting in the same
    /// critical section, so that it is notified when there is something (exchange *put and take*).
    pub(super) fn is_ready(&mut self, me: usize) -> bool {
        // Exactly what `step` checks, in the same order: a reader that counts as ready must find something,
        // or it would spin.
        let ready = !self.lanes[me].queue.is_empty() || self.end.is_some() || self.may_lead();
        // Only a change is counted; a reader may ask several times in a row.
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

    /// For the statistics of all readers: a leader enters the source, or leaves it.
    pub(super) fn note_source(&self, doing: Doing) {
        if self.measured {
            let now = Instant::now();
            for lane in &self.lanes {
                lane.meter.note(|meter| meter.set(now, 0, doing));
            }
        }
    }

    /// Whether a reader may take the origin.
    pub(super) fn may_lead(&self) -> bool {
        // A full lane alone does not stop the lead, only an item that found no room: a source that has
        // exactly as many items as there is room for can end.
        self.origin.is_some() && self.held.is_empty()
    }

    /// There may be room in this lane: the item that is held for it goes in.
    pub(super) fn let_in(&mut self, reader: usize) {
        let lane = &mut self.lanes[reader];
        if !lane.is_full() {
            if let Some(item) = take_held(&mut self.held, reader) {
                lane.queue.push_back(item);
                lane.note_held(false);
            }
        }
    }

    /// Which reader to notify, if one may lead and none does. Called whenever the origin comes home or room
    /// is made.
    pub(super) fn pass_on(&mut self) -> Option<Arc<Event>> {
        // `waiting` is checked first, so that a take costs no search while no reader waits.
        if self.waiting == 0 || !self.may_lead() || bug("lead_is_kept") {
            return None;
        }
        // One is enough. It looks again under the lock: it leads, or finds that another reader was faster,
        // which then passes the lead on in turn.
        let next = self.lanes.iter().position(|lane| lane.waits)?;
        self.call(next)
    }

    /// Takes back that this reader waits. Returns its event if it did. So each wait is notified once.
    pub(super) fn call(&mut self, reader: usize) -> Option<Arc<Event>> {
        let lane = &mut self.lanes[reader];
        if !std::mem::take(&mut lane.waits) {
            return None;
        }
        self.waiting -= 1;
        Some(Arc::clone(&lane.event))
    }

    /// Which readers an item is for, if it is for all of them. The leader comes last, because it gets the
    /// original.
    pub(super) fn readers(&mut self, leader: usize, readers: &mut Vec<usize>) {
        readers.clear();
        for (number, lane) in self.lanes.iter_mut().enumerate() {
            if !lane.lives || number == leader {
                continue;
            }
            // Decided before the clone is made, so that an item that will be dropped costs none.
            if self.overflow == Overflow::DropNewest && lane.is_full() {
                lane.dropped.add();
                lane.note_item(true);
            } else {
                readers.push(number);
            }
        }
        readers.push(leader);
    }

    /// Puts an item into a lane. An item without a place goes into `spilt`, and the reader that must be
    /// notified into `notified`. `false`: there is no room, and there must be.
    pub(super) fn put(
        &mut self,
        to: usize,
        item: I::Item,
        spilt: &mut Vec<I::Item>,
        notified: &mut Vec<Arc<Event>>,
    ) -> bool {
        let lane = &mut self.lanes[to];
        // Its reader was dropped since the item was dealt.
        if !lane.lives {
            spilt.push(item);
            return true;
        }
        if lane.is_full() {
            match self.overflow {
                // Held, not lost: the leader sees it, and brings the origin home. The reader of this lane
                // lets it in when it takes an item.
                Overflow::Block => {
                    lane.note_item(false);
                    lane.note_held(true);
                    self.held.push((to, item));
                    return true;
                }
                // The lane was full already when the readers were chosen, or has become full since.
                Overflow::DropNewest => {
                    spilt.push(item);
                    lane.dropped.add();
                    lane.note_item(true);
                    return true;
                }
                // The new item takes the place of the oldest, so the lane stays as full as it is.
                Overflow::DropOldest => {
                    spilt.extend(lane.queue.pop_front());
                    lane.dropped.add();
                    lane.meter.note(|meter| meter.lost(1));
                }
                Overflow::Grow(_) => {
                    spilt.push(item);
                    return false;
                }
            }
        }
        lane.note_item(false);
        lane.queue.push_back(item);
        // In the same critical section: either this finds the reader waiting, or the reader's look finds the
        // item.
        notified.extend(self.call(to));
        true
    }

    /// Nothing more comes: all readers that wait are notified, as each of them must end.
    pub(super) fn end(&mut self, end: EndReason, notified: &mut Vec<Arc<Event>>) {
        self.end = Some(end);
        self.note_source(Doing::Nothing);
        // All of them, not one: there is no lead to pass on any more.
        for reader in 0..self.lanes.len() {
            notified.extend(self.call(reader));
        }
    }
}

/// Takes the item that is held for this reader.
pub(super) fn take_held<T>(held: &mut Vec<(usize, T)>, reader: usize) -> Option<T> {
    let place = held.iter().position(|(to, _)| *to == reader)?;
    Some(held.swap_remove(place).1)
}
