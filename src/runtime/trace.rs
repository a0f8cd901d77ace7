//! The feature `tracing`: a span for each stage, in which its closures and sources run, and a warning for each panic.
//!
//! | what | when |
//! | --- | --- |
//! | [`Made`] | where the stage was made: the parent of its span is the one that is current there and then |
//! | [`StageSpan::open`] | the stage starts; a part of its [`Life`](crate::runtime::life), as all its threads have that |
//! | [`StageSpan::enter`] | a thread is about to run user code: once for a chunk, a turn or a pull, not for each item |
//! | [`StageSpan::item`] | an item is about to run, if the stage was asked for spans of its items |
//! | [`StageSpan::panicked`] | a panic of a closure or of a source was caught |
//! | [`StageSpan::close`] | the threads are joined, or the stage is gone |
//! | [`Subscriber`] | the subscriber of a thread that starts a stage goes to the threads that are leased for it |
//!
//! A subscriber is the user's code, so none of these is called under a lock of a stage, except in the source, whose lock
//! is held in user code anyway.
//!
//! Where no subscriber wants anything of a stage, its `StageSpan` stays empty, and each call is one look at that. Without
//! the feature all types are empty, and all calls are nothing. No other file asks for the feature, apart from the method
//! by which a user asks for the spans of items.

#[cfg(any(not(feature = "tracing"), loom))]
mod off;
#[cfg(all(feature = "tracing", not(loom)))]
mod on;

#[cfg(any(not(feature = "tracing"), loom))]
pub(crate) use self::off::{Entered, Made, StageSpan, Subscriber, reports, resume_unwind};
#[cfg(all(feature = "tracing", not(loom)))]
pub(crate) use self::on::{Entered, Made, StageSpan, Subscriber, reports, resume_unwind};
