//! A chunk: consecutive items that one worker pulled together, and their results.
//!
//! An item's place becomes its result's place, and no tag says what lies there: the counters do.
//! What is not a plain result (a last one, a panic, a dropped item) is noted beside the chunk, which
//! costs the common case nothing but a load now and then. Three counters say what may be touched, each
//! on a cache line of its own; none is ever changed by a read-modify-write operation while items flow.
//!
//! | counter | written by | meaning |
//! | --- | --- | --- |
//! | `pulled` | the one who fills the chunk, a release store after each item | slots `[0, pulled)` hold items |
//! | `published` | the owner, a release store after each item | slots `[0, published)` hold results, and the owner claims the next |
//! | `limit` | see below | the owner must not start slots at or past it |
//!
//! To publish a result is to claim the next item: one store says both. The first item is claimed by
//! whoever has the chunk, and noted in `started`.
//!
//! `limit` is `OPEN` while the chunk is filled, or `ALONE` if nobody looks after what the puller has in
//! hand. It is set when the chunk is closed, and only ever lowered after that, by a thief. All of this
//! happens under the scheduler's lock, whose [`LockProof`] these methods ask for.
//!
//! # Who may touch a slot
//!
//! A chunk has at most three handles, each unique, so that each slot has one owner at any time:
//!
//! - [`ChunkWriter`] (the puller) writes slots at and past `pulled`;
//! - [`ChunkExecutor`] (the worker that runs it) takes the item at `published`, and writes its result there,
//!   if that is the first or `ExecCursor::publish` said that it is the owner's;
//! - [`ChunkReader`] (the consumer) takes results from slots below `published`;
//! - a thief, under the lock, takes items from slots in `[limit, old limit)` after it lowered
//!   `limit` and saw, behind a heavy barrier, that none of them is claimed.
//!
//! # The claim and steal hand-shake
//!
//! The owner stores `published = i`, and so claims item `i`, passes the light barrier and loads
//! `limit`. The thief stores a lower `limit`, passes the heavy barrier and loads `published`. Either
//! the thief sees the claim and raises `limit` over it, or the owner sees the lower limit. An owner
//! that sees a limit at or below its item decides nothing by itself: the thief may be about to raise
//! it, so the owner asks again under the lock ([`ChunkExecutor::settle`]).
//!
//! # The fill and seal hand-shake
//!
//! A puller may be stuck in the source with items in hand that nobody has started. A rescuer takes
//! the chunk as it is ([`seal`]): it stores `limit = SEALING`, passes the heavy barrier and loads
//! `pulled`. The puller stores `pulled`, passes the light barrier and loads `limit`. So at most the
//! item that the puller was just storing is not part of what the rescuer has, and the puller takes
//! it back under the lock ([`ChunkWriter::settle`]).
//!
//! # The place that two may write
//!
//! In a [timed](crate::ordered::timed) stage the place of the item that runs may be taken from its
//! owner. `since` says when the item was started. The owner exchanges that for 0 when the closure has
//! returned, another who wants the place exchanges it for `GIVEN_UP`: whoever succeeds writes the
//! slot and stores `published`. An owner that fails never touches the chunk again; so before the
//! other publishes, the rest of the chunk is split off, as nobody would start it.

mod executor;
mod reader;
mod slots;
mod steal;
mod writer;

pub(crate) use self::executor::{ChunkExecutor, Claim};
pub(crate) use self::reader::ChunkReader;
pub(crate) use self::slots::{Chunk, LockProof, Special, slot_bytes};
pub(crate) use self::steal::{StealAmount, split};
#[cfg(test)]
pub(crate) use self::writer::filled;
pub(crate) use self::writer::{ChunkWriter, open, seal};
