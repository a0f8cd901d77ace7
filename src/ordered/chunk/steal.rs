//! Stealing: items of a chunk that are not started go to another worker.
#![allow(unsafe_code)]

use crate::ordered::chunk::executor::ChunkExecutor;
use crate::ordered::chunk::reader::ChunkReader;
use crate::ordered::chunk::slots::{Chunk, LockProof, take};
use crate::ordered::chunk::writer::open;
use crate::runtime::barrier::heavy;
use crate::sync::{Arc, Ordering};

/// A new chunk of stolen items.
pub(in crate::ordered) type Stolen<I, B> = (ChunkExecutor<I, B>, ChunkReader<I, B>);

/// How many of the unclaimed items a thief takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ordered) enum StealAmount {
    /// The upper half: the owner makes progress.
    Half,
    /// All of them: the owner is stuck.
    Rest,
}

/// Steals items that the owner has not started, into a new chunk.
///
/// `Err` returns `fresh`: the owner was faster. The first item is never stolen, whether it is claimed or not:
/// an emptied chunk would be in the reorder buffer under the same `seq` as the chunk of its stolen items.
pub(in crate::ordered) fn split<I, B>(
    victim: &Chunk<I, B>,
    fresh: Arc<Chunk<I, B>>,
    share: StealAmount,
    key: &mut LockProof,
) -> Result<Stolen<I, B>, Arc<Chunk<I, B>>> {
    // Only a guess, as the owner goes on meanwhile. The barrier below decides.
    let unclaimed = victim.unclaimed();
    if unclaimed == 0 {
        return Err(fresh);
    }
    // Only thieves change it from now on, and the lock keeps them out.
    let old = victim.limit.load(Ordering::Acquire);
    let wanted = match share {
        StealAmount::Half => unclaimed.div_ceil(2),
        StealAmount::Rest => unclaimed,
    };
    // The slow side of claim / steal: lower `limit`, barrier, load `published`. Behind the barrier, an owner
    // that has claimed one of these items is seen, and one that claims later sees the new limit.
    victim.limit.store(old - wanted, Ordering::Relaxed);
    heavy(); // pairs with the light one in `ExecCursor::publish`
    // The item at `published` is the owner's, claimed or about to be.
    let from = (old - wanted).max(victim.published() + 1);
    // The owner has claimed all of them meanwhile. Raised again under the same lock, so an owner that met the
    // lowered limit finds the right one in `settle`.
    if from >= old {
        victim.limit.store(old, Ordering::Relaxed);
        return Err(fresh);
    }
    // The owner was faster with some of them: the limit goes up to just above its claim.
    victim.limit.store(from, Ordering::Relaxed);

    // The new chunk follows the old one in the order: its `seq` is that of the first stolen item.
    let (mut filling, taking) = open(fresh, victim.first + from as u64, old - from);
    let mut cursor = filling.cursor();
    for slot in &victim.slots[from..old] {
        // SAFETY: the owner starts nothing at or past `limit`, and had claimed none of these
        // behind the barrier; the lock keeps other thieves out.
        let item = unsafe { take(slot) };
        // No other thread knows this chunk, so the answer of `push` does not matter.
        let _ = cursor.push(item);
    }
    match filling.close(key) {
        Ok(owning) => Ok((owning, taking)),
        Err(_) => unreachable!("nobody else knows the chunk, so nobody has sealed it"),
    }
}
