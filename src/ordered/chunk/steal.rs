//! Stealing: a part of a chunk that nobody has started goes to another worker.
#![allow(unsafe_code)]

use crate::ordered::chunk::executor::ChunkExecutor;
use crate::ordered::chunk::reader::ChunkReader;
use crate::ordered::chunk::slots::{Chunk, LockProof, take};
use crate::ordered::chunk::writer::open;
use crate::runtime::barrier::heavy;
use crate::sync::{Arc, Ordering};

/// A new run of stolen items.
pub(crate) type Stolen<I, B> = (ChunkExecutor<I, B>, ChunkReader<I, B>);

/// How much a thief takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StealAmount {
    /// The upper half: the owner moves on.
    Half,
    /// All of it: the owner is stuck.
    Rest,
}

/// Steals from what the owner has not started, into a chunk of its own.
///
/// `Err` gives `fresh` back if the owner was faster. The first item is never stolen, claimed or
/// not: an emptied run would stand in the reorder buffer under the same `seq` as what was taken
/// from it.
pub(crate) fn split<I, B>(
    victim: &Chunk<I, B>,
    fresh: Arc<Chunk<I, B>>,
    share: StealAmount,
    key: &mut LockProof,
) -> Result<Stolen<I, B>, Arc<Chunk<I, B>>> {
    let unclaimed = victim.unclaimed();
    if unclaimed == 0 {
        return Err(fresh);
    }
    let old = victim.limit.load(Ordering::Acquire);
    let wanted = match share {
        StealAmount::Half => unclaimed.div_ceil(2),
        StealAmount::Rest => unclaimed,
    };
    victim.limit.store(old - wanted, Ordering::Relaxed);
    heavy(); // pairs with the light one in `ExecCursor::publish`
    let from = (old - wanted).max(victim.published() + 1);
    if from >= old {
        victim.limit.store(old, Ordering::Relaxed);
        return Err(fresh);
    }
    victim.limit.store(from, Ordering::Relaxed);

    let (mut filling, taking) = open(fresh, victim.first + from as u64, old - from);
    let mut cursor = filling.cursor();
    for slot in &victim.slots[from..old] {
        // SAFETY: the owner starts nothing at or past `limit`, and had claimed none of these
        // behind the barrier; the lock keeps other thieves out.
        let item = unsafe { take(slot) };
        let _ = cursor.push(item);
    }
    match filling.close(key) {
        Ok(owning) => Ok((owning, taking)),
        Err(_) => unreachable!("nobody else knows the chunk, so nobody has sealed it"),
    }
}
