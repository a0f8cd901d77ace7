//! The intake: the source, and which key has which lane.

use crate::unwind::{self, Payload, catch};
use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hash, RandomState};

/// What came of a pull.
#[allow(unreachable_pub)] // it stands in the signature of `Plan`
#[derive(Debug)]
pub enum PulledItem<T> {
    /// An item, with its lane and its number in the source.
    Item(usize, (u64, T)),
    /// On the consumer's thread: nobody wants the answer now.
    Later,
    End,
    Panic(Payload),
}

/// A source whose items have lanes. Whoever has it may pull.
#[allow(unreachable_pub)] // it stands in the signature of `Plan`
pub trait Lanes {
    type Item;

    /// Pulls an item, and finds its lane.
    fn pull(&mut self) -> PulledItem<Self::Item>;

    /// Where the state puts the lanes that it has forgotten.
    fn forgotten(&mut self) -> &mut Vec<usize>;

    /// Drops the keys of those.
    fn forget(&mut self) -> Option<Payload>;

    /// Drops each part by itself.
    fn dispose(self) -> Option<Payload>;
}

/// The source, and which key has which lane.
#[allow(unreachable_pub)] // it stands in the signature of `Plan`
#[derive(Debug)]
pub struct KeyedSource<I, G, K> {
    source: I,
    key: G,
    hasher: RandomState,
    /// By the hash of the key and the number of its lane.
    keys: BTreeMap<(u64, usize), K>,
    /// The hash of each lane's key.
    hashes: Vec<u64>,
    /// How many items have been pulled.
    pulled: u64,
    unused: Vec<usize>,
    forgotten: Vec<usize>,
}

impl<I, G, K> KeyedSource<I, G, K>
where
    I: Iterator,
    G: FnMut(&I::Item) -> K,
    K: Hash + Eq,
{
    pub(crate) fn new(source: I, key: G) -> Self {
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

    /// The lane of an item. All that may panic comes before any change.
    fn lane(&mut self, item: &I::Item) -> usize {
        let key = (self.key)(item);
        let hash = self.hasher.hash_one(&key);
        let mut same = self.keys.range((hash, 0)..=(hash, usize::MAX));
        if let Some(((_, lane), _)) = same.find(|(_, other)| **other == key) {
            return *lane;
        }
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
