//! What `stats()` shows of a fan-in. Each source has a permit: its thread is in the source, or without room, or gone.

use crate::runtime::meter::{Doing, Live, Meter};
use crate::sync::{Arc, AtomicU64, Instant, Mutex, Ordering};

/// Of a fan-in that was asked for statistics.
#[derive(Debug)]
pub(super) struct Measured {
    meter: Arc<Meter>,
    counts: Arc<Counts>,
    /// How many sources are without room, and how much there is in all.
    room: Mutex<(usize, u64)>,
}

/// What changes for each item.
#[derive(Debug, Default)]
struct Counts {
    pulled: AtomicU64,
    taken: AtomicU64,
}

impl Live for Counts {
    fn pulled(&self) -> u64 {
        self.pulled.load(Ordering::Relaxed)
    }

    fn ran(&self) -> u64 {
        self.pulled()
    }

    fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }
}

impl Measured {
    pub(super) fn new(meter: Arc<Meter>) -> Self {
        Measured {
            meter,
            counts: Arc::default(),
            room: Mutex::new((0, 0)),
        }
    }

    /// There are so many sources that can be pulled at once now, and so much room for their items.
    pub(super) fn resize(&self, width: usize, bound: u64) {
        let mut room = self.room.lock();
        if room.1 == 0 {
            let live = Arc::clone(&self.counts) as Arc<dyn Live>;
            self.meter.start(Instant::now(), width, bound, Some(live));
        } else {
            self.meter.resize(Instant::now(), width, bound);
        }
        room.1 = bound;
    }

    /// Worker: it pulls this source from now on, or not any more.
    pub(super) fn pulls(&self, lane: usize, pulls: bool) {
        let doing = if pulls { Doing::Source } else { Doing::Nothing };
        self.meter.set(Instant::now(), lane, doing);
    }

    /// A source is without room from now on, or has room again.
    pub(super) fn is_parked(&self, is_parked: bool) {
        let mut room = self.room.lock();
        let (parked, bound) = &mut *room;
        *parked = parked.saturating_add_signed(if is_parked { 1 } else { -1 });
        self.meter.full(Instant::now(), *parked > 0, *bound);
    }

    pub(super) fn pulled(&self) {
        self.counts.pulled.fetch_add(1, Ordering::Relaxed);
    }

    /// Consumer: it has taken so many items so far.
    pub(super) fn taken(&self, items: u64) {
        self.counts.taken.store(items, Ordering::Relaxed);
    }

    pub(super) fn meter(&self) -> &Meter {
        &self.meter
    }
}
