//! The source of a keyed stage, and the lane of each key.

use crate::unwind::{self, Payload, catch};
use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hash, RandomState};

/// What has come of a pull.
#[allow(unreachable_pub)] // it stands in the signature of `Plan`
#[derive(Debug)]
pub enum PulledItem<T> {
    /// An item, with its lane and its number in the source.
    Item(usize, (u64, T)),
    /// On the consumer's thread: the answer is not wanted now.
    Later,
    End,
    Panic(Payload),
}

/// A source whose items have lanes. The thread that has it may pull.
#[allow(unreachable_pub)] // it stands in the signature of `Plan`
pub trait Lanes {
    type Item;

    /// Pulls an item, and determines its lane.
    fn pull(&mut self) -> PulledItem<Self::Item>;

    /// The list into which the state puts the lanes that it has forgotten.
    fn forgotten(&mut self) -> &mut Vec<usize>;

    /// Drops the keys of these lanes.
    fn forget(&mut self) -> Option<Payload>;

    /// Drops each part separately.
    fn dispose(self) -> Option<Payload>;
}

/// The source, and the lane of each key.
#[allow(unreachable_pub)] // it stands in the signature of `Plan`
#[derive(Debug)]
pub struct KeyedSource<I, G, K> {
    source: I,
    key: G,
    hasher: RandomState,
    /// By the hash of the key, and the number of its lane: keys with the same hash are neighbours.
    keys: BTreeMap<(u64, usize), K>,
    /// The hash of each lane's key, by which `forget` finds the key.
    hashes: Vec<u64>,
    /// How many items have been pulled.
    pulled: u64,
    /// Numbers of forgotten lanes, for new keys.
    unused: Vec<usize>,
    /// Lanes whose keys the next pull drops.
    forgotten: Vec<usize>,
}

impl<I, G, K> KeyedSource<I, G, K>
where
    I: Iterator,
    G: FnMut(&I::Item) -> K,
    K: Hash + Eq,
{
    pub(super) fn new(source: I, key: G) -> Self {
        KeyedSource {
            source,
            key,
            hasher: RandomState::new(),
            keys: BTreeMap::new(),
            hashes: Vec::new(),
            pulled: 0,
            unused: Vec::new(),
            forgotten: Vec::new(),
        }
    }

    /// The lane of an item. Everything that may panic (`key`, `hash`, `eq`) comes before any change.
    fn lane(&mut self, item: &I::Item) -> usize {
        let key = (self.key)(item);
        let hash = self.hasher.hash_one(&key);
        let mut same = self.keys.range((hash, 0)..=(hash, usize::MAX));
        if let Some(((_, lane), _)) = same.find(|(_, other)| **other == key) {
            return *lane;
        }
        // A forgotten number first, so that the numbers stay as few as the keys that are in use.
        let lane = self.unused.pop().unwrap_or(self.hashes.len());
        if lane == self.hashes.len() {
            self.hashes.push(hash);
        } else {
            self.hashes[lane] = hash;
        }
        self.keys.insert((hash, lane), key);
        lane
    }
}

impl<I, G, K> Lanes for KeyedSource<I, G, K>
where
    I: Iterator,
    G: FnMut(&I::Item) -> K,
    K: Hash + Eq,
{
    type Item = I::Item;

    fn pull(&mut self) -> PulledItem<I::Item> {
        // A panic is returned as a value: the puller must bring the result to the state in any case.
        let item = match catch(|| self.source.next()) {
            Ok(Some(item)) => item,
            Ok(None) => return PulledItem::End,
            Err(panic) => return PulledItem::Panic(panic),
        };
        match catch(|| self.lane(&item)) {
            Ok(lane) => {
                let seq = self.pulled;
                self.pulled += 1;
                PulledItem::Item(lane, (seq, item))
            }
            Err(panic) => {
                // The panic of `key` counts. One of the item's drop is lost.
                if let Some(worse) = unwind::discard(item) {
                    unwind::bury(worse);
                }
                PulledItem::Panic(panic)
            }
        }
    }

    fn forgotten(&mut self) -> &mut Vec<usize> {
        &mut self.forgotten
    }

    fn forget(&mut self) -> Option<Payload> {
        let mut panic = None;
        // Only now are the numbers free: until its key is gone, a lane must not get another one.
        for lane in self.forgotten.drain(..) {
            let key = self.keys.remove(&(self.hashes[lane], lane));
            unwind::first(&mut panic, unwind::discard(key));
            self.unused.push(lane);
        }
        panic
    }

    fn dispose(self) -> Option<Payload> {
        let mut panic = unwind::discard(self.source);
        unwind::first(&mut panic, unwind::discard(self.key));
        for key in self.keys.into_values() {
            unwind::first(&mut panic, unwind::discard(key));
        }
        panic
    }
}
