//! Permits: a thread runs closures only while it has one. A stage of width `n` has `n` of them, so never more than `n`
//! closures run at once, although the stage may lease one thread more. A stage that becomes narrower while all are in use
//! is *owed* the rest, which is withdrawn as closures end.
//!
//! | event | permit |
//! | --- | --- |
//! | a thread looks for work ([`take`](WidthPermits::take)) | from the free ones, if there is one |
//! | it idles or leaves ([`give_back`](WidthPermits::give_back)) | back to the free ones |
//! | it is stuck in the source, where it runs nothing, and there is something to run ([`lend`](WidthPermits::lend)) | a spare thread gets another one; that of the stuck thread is void from now on, and it does not know yet |
//! | it comes out of the source ([`repay`](WidthPermits::repay)) | it gives up the void one, and takes a free one if there is one |
//! | the consumer runs items itself | it holds one like a worker |
//! | one worker is to run everything ([`keep_one`](WidthPermits::keep_one)) | all but one are kept back, as soon as they are free |
//! | the stage becomes wider ([`resize`](WidthPermits::resize)) | more are free; what is owed is forgiven first |
//! | it becomes narrower (the same) | fewer are free; the rest is owed |
//! | a thread with a permit comes to the lock while one is owed ([`pay`](WidthPermits::pay), `give_back`, `repay`) | the permit is withdrawn; or rather that of a thread in the source, which is void from now on, as if it had been lent |
//!
//! The invariant: the permits that are free, kept back, or in somebody's hands are `n`, plus what is owed, plus one while
//! one is lent. While something is owed none is free, and none is lent: a closure more would begin. All of it is under the
//! scheduler's lock, and only this file can make a permit.

use crate::sync::bug;

/// The right to run closures.
#[derive(Debug)]
#[must_use = "it is to be given back"]
pub(super) struct WidthPermit(());

/// The permits of a stage.
#[derive(Debug)]
pub(super) struct WidthPermits {
    width: usize,
    free: usize,
    /// How many more than the stage is wide are in use.
    owed: usize,
    /// How many are to be kept back, and how many are.
    keep: usize,
    kept: usize,
    /// The permit of the thread in the source is void, and a spare thread has another one for it.
    lent: bool,
}

impl WidthPermits {
    pub(super) fn new(width: usize) -> Self {
        WidthPermits {
            width,
            free: width,
            owed: 0,
            keep: 0,
            kept: 0,
            lent: false,
        }
    }

    pub(super) fn is_any_free(&self) -> bool {
        self.free > 0
    }

    /// Whether no thread has a permit, so that no closure runs.
    pub(super) fn are_all_free(&self) -> bool {
        self.free == self.width
    }

    /// Whether a thread has a permit and runs nothing, if `running` threads run something.
    pub(super) fn is_any_unused(&self, running: usize) -> bool {
        self.free + self.kept + running < self.width + self.owed
    }

    /// The stage is so wide from now on. Not while all but one are kept back. `in_source`: a thread is in the source,
    /// where it may stay for long and runs nothing. Its permit is the first to go, or a narrow stage would have no other
    /// left. Returns how many closures must end before no more run than the stage is wide.
    pub(super) fn resize(&mut self, width: usize, in_source: bool) -> usize {
        debug_assert!(self.keep == 0, "the stage has one worker");
        let known = self.width + self.owed;
        self.width = width;
        if known <= width {
            self.owed = if bug("never_forgives") { self.owed } else { 0 };
            self.free += width - known;
            return 0;
        }
        let mut less = known - width;
        // Owed before, and not withdrawn any more.
        self.owed = 0;
        if in_source && !self.lent {
            self.lent = true;
            less -= 1;
        }
        let free = less.min(self.free);
        self.free -= free;
        self.owed = less - free;
        self.owed
    }

    /// Whether more are in use than the stage is wide.
    pub(super) fn is_any_owed(&self) -> bool {
        self.owed > 0
    }

    /// A thread that has a permit and no item: pays what is owed, with the permit of the thread in the source if there is
    /// one, or else with its own.
    pub(super) fn pay(&mut self, permit: &mut Option<WidthPermit>, in_source: bool) {
        while self.owed > 0 && permit.is_some() && !bug("never_pays") {
            self.owed -= 1;
            if !in_source || std::mem::replace(&mut self.lent, true) {
                *permit = None;
            }
        }
    }

    pub(super) fn take(&mut self) -> Option<WidthPermit> {
        self.free = self.free.checked_sub(1)?;
        Some(WidthPermit(()))
    }

    #[allow(clippy::needless_pass_by_value)] // with it goes the right
    pub(super) fn give_back(&mut self, permit: Option<WidthPermit>) {
        let mut permit = permit;
        self.pay(&mut permit, false);
        self.free += usize::from(permit.is_some());
        self.settle();
        debug_assert!(
            self.free + self.kept <= self.width + self.owed,
            "a permit was given back twice"
        );
    }

    /// From now on only one thread at a time runs closures; or again as many as the stage is wide.
    pub(super) fn keep_one(&mut self, one: bool) {
        self.keep = if one { self.width - 1 } else { 0 };
        self.settle();
    }

    /// Whether one that is in use is to be given back and kept.
    pub(super) fn is_one_too_many(&self) -> bool {
        self.kept < self.keep
    }

    fn settle(&mut self) {
        let known = self.free + self.kept;
        self.kept = known.min(self.keep);
        self.free = known - self.kept;
    }

    /// Another permit for the one of the thread in the source, which is stuck there. `None`: that one is lent already, or
    /// is owed.
    pub(super) fn lend(&mut self) -> Option<WidthPermit> {
        let may_lend = self.may_lend();
        self.lent |= may_lend;
        may_lend.then_some(WidthPermit(()))
    }

    pub(super) fn may_lend(&self) -> bool {
        !self.lent && self.owed == 0
    }

    /// The thread that was in the source comes out with its permit: if that is void, it takes a free one instead, which
    /// the borrower, or somebody else, may have given back since. A thread without a permit has repaid already, and
    /// gives up nothing: the void one is that of a thread which has entered the source after it. It runs nothing yet, so
    /// what is owed is paid with it.
    pub(super) fn repay(&mut self, permit: &mut Option<WidthPermit>) {
        if permit.is_some() && std::mem::take(&mut self.lent) {
            *permit = self.take();
        }
        self.pay(permit, false);
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
