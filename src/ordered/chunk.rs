//! A chunk: consecutive items that one worker has pulled together, and their results.
//!
//! An item's slot becomes its result's slot, and no tag says what a slot holds: the counters do. Anything
//! other than a plain result (the last result, a panic, a dropped item) is recorded beside the slots, which
//! costs the common case only a load now and then. Three counters say which slots may be touched, each on its
//! own cache line. None of them is changed by a read-modify-write operation while items flow.
//!
//! | counter | written by | meaning |
//! | --- | --- | --- |
//! | `pulled` | the thread that fills the chunk, by a release store after each item | slots `[0, pulled)` hold items |
//! | `published` | the owner, by a release store after each item | slots `[0, published)` hold results, and the owner claims the next item |
//! | `limit` | see below | the owner must not start items at or past it |
//!
//! To publish a result is to claim the next item: one store says both. The first item is claimed by the owner
//! of the chunk when it begins, and recorded in `started`.
//!
//! While the chunk is filled, `limit` is `OPEN`, or `ALONE` if no thread watches over what the puller holds.
//! It is set when the chunk is closed, and after that only a thief lowers it. All of this happens under the
//! scheduler's lock, so these methods require its [`LockProof`].
//!
//! # Who may touch a slot
//!
//! A chunk has at most three handles, each of them unique, so each slot belongs to one thread at any time:
//!
//! - [`ChunkWriter`] (the puller) writes slots at and past `pulled`;
//! - [`ChunkExecutor`] (the worker that runs the chunk) takes the item at `published`, and writes its result
//!   there, if the item is the first one or `ExecCursor::publish` said that it is the owner's;
//! - [`ChunkReader`] (the consumer) takes results from slots below `published`;
//! - a thief, under the lock, takes items from slots in `[limit, old limit)` after it has lowered `limit` and
//!   has seen, behind a heavy barrier, that none of them is claimed.
//!
//! # The handshake claim / steal
//!
//! The owner stores `published = i`, and so claims item `i`, passes the light barrier and loads `limit`. The
//! thief stores a lower `limit`, passes the heavy barrier and loads `published`. Either the thief sees the
//! claim, and raises `limit` above it; or the owner sees the lower limit. An owner that sees a limit at or
//! below its item decides nothing by itself, because the thief may be about to raise it. It asks again under
//! the lock ([`ChunkExecutor::settle`]).
//!
//! # The handshake fill / seal
//!
//! A puller may be stuck in the source while it holds items that no thread has started. A rescuer takes the
//! chunk as it is ([`seal`]): it stores `limit = SEALING`, passes the heavy barrier and loads `pulled`. The
//! puller stores `pulled`, passes the light barrier and loads `limit`. So at most the item that the puller
//! was just storing is missing from what the rescuer has, and the puller takes that item back under the lock
//! ([`ChunkWriter::settle`]).
//!
//! # The slot that two threads may write
//!
//! In a [timed](crate::ordered::timed) stage, the place of the running item may be taken from the owner.
//! `since` says when the item was started. The owner exchanges it for 0 when the closure has returned; a
//! thread that wants the place exchanges it for `GIVEN_UP`. The one that succeeds writes the slot and stores
//! `published`. An owner that fails never touches the chunk again. So before the other thread publishes, it
//! splits off the rest of the chunk, because no thread would start it.

mod executor;
mod reader;
mod slots;
mod steal;
mod writer;

pub(super) use self::executor::{ChunkExecutor, Claim};
pub(super) use self::reader::ChunkReader;
pub(super) use self::slots::{Chunk, LockProof, Special, slot_bytes};
pub(super) use self::steal::{StealAmount, split};
#[cfg(test)]
pub(super) use self::writer::filled;
pub(super) use self::writer::{ChunkWriter, open, seal};
