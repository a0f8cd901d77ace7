//! A value that its borrower visits without a lock and without a read-modify-write operation, and that can be
//! taken back from it at any time: the handshake inline / take over of `ordered/README.md`.
//!
//! A stage whose items cost a few nanoseconds lends its source to the consumer, which pulls item by item.
//! Even an uncontended lock costs more than such an item. So the borrower only records where it is, and the
//! thread that takes the value back asks the kernel for a barrier in the whole process instead.
//!
//! | side | steps |
//! | --- | --- |
//! | borrower, each visit ([`Visits::visit`]) | store `entered`, free barrier, load `called`; if it is set, take the first store back; otherwise use the value, and store `left` if that gave something |
//! | lender ([`Revoker::revoke`]) | store `called`, heavy barrier, load `entered` and `left` |
//!
//! If the lender finds the borrower outside, the lender has the value from then on: a borrower that comes
//! later sees `called` and stays out. If the borrower is inside (or about to find that it may not enter), the
//! lender keeps its [`Revoker`] and must try again later. The borrower gets no further than to its next
//! visit.
//!
//! A lender that does not want to try again may sleep. The borrower also checks `called` when it comes out,
//! behind the same barrier ([`Visits::is_called`]), so it sees a call that found it inside at that point at
//! the latest. Only the holder of the [`Revoker`] clears `called`, so it is never cleared after a successful
//! revocation.
//!
//! A visit that finds nothing, or panics, is the last one: the borrower stays inside, so that nobody else asks
//! the value again before the borrower has recorded what it has learnt. It ends the loan itself
//! ([`Owner::give_back`]).
//!
//! The borrower records three counts of visits: those it has begun, those it has come out of, and those whose
//! value it is done with. Which of them differ says where the borrower is, and other threads can see whether
//! it moves. Recording this takes no more than three stores of one number that the loop counts anyway. A
//! borrower may move from thread to thread between two visits; whatever moves it orders the visits.
#![allow(unsafe_code)]

use crate::runtime::barrier::{Free, heavy};
use crate::sync::{Arc, AtomicBool, AtomicU64, Ordering, UnsafeCell, bug, fence};
use std::mem::MaybeUninit;

/// Where a borrower is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OwnerPlace {
    /// Neither inside nor running: with its user, or not called at all.
    Away,
    /// With the value.
    Inside,
    /// Running what it took out of the value.
    Running,
}

/// What came of a visit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Visit<R> {
    /// Something, and the borrower is outside again.
    Found(R),
    /// Nothing. The borrower is still inside, and ends the loan next.
    Nothing,
    /// The borrower has been called, and has not entered.
    Called,
}

/// What the two sides share.
#[derive(Debug)]
pub(crate) struct OwnerWords {
    /// How many visits the borrower has begun, has come out of, and is done with.
    entered: AtomicU64,
    left: AtomicU64,
    done: AtomicU64,
    /// The lender wants the borrower to stop before its next visit.
    called: AtomicBool,
    /// The number of the stage whose consumer the borrower's thread also is (`context.rs`).
    outer: AtomicU64,
}

impl OwnerWords {
    /// Asks the borrower to stop before its next visit, or after the one it is in.
    pub(crate) fn call(&self) {
        // The caller has stored its reason before this. With the two fences, either the borrower that clears
        // `called` sees the reason afterwards, or this store comes after the clearing and the call stands.
        fence(Ordering::SeqCst); // pairs with the one in `Revoker::go_on`
        self.called.store(true, Ordering::Relaxed);
    }

    /// Borrower: stays outside. The count is loaded again instead of computed from the current one, so that
    /// the loop needs only one register for it.
    #[inline(always)]
    #[allow(clippy::inline_always)] // a call would cost registers as well
    fn not_entered(&self) {
        let left = self.left.load(Ordering::Relaxed);
        self.entered.store(left, Ordering::Release);
    }

    /// Borrower: the number of visits that it is done with.
    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn set_outer(&self, stage: u64) {
        self.outer.store(stage, Ordering::Relaxed);
    }

    pub(crate) fn outer(&self) -> u64 {
        self.outer.load(Ordering::Relaxed)
    }

    /// How far the borrower is, and where. While it moves, this may be where it has just been. Once it has
    /// been called and cannot enter any more, `Inside` means that it is inside, or has just found that it
    /// must stay out.
    pub(crate) fn seen(&self) -> (u64, OwnerPlace) {
        // In the order opposite to the borrower's stores; the loads pair with their releases. So a borrower
        // that is seen as having entered a visit is not seen as running the result of an older one.
        let done = self.done.load(Ordering::Acquire);
        let left = self.left.load(Ordering::Acquire);
        let entered = self.entered.load(Ordering::Acquire);
        let place = if entered != left {
            OwnerPlace::Inside
        } else if left != done {
            OwnerPlace::Running
        } else {
            OwnerPlace::Away
        };
        (left, place)
    }
}

/// A value on loan, and the words of the two sides.
#[derive(Debug)]
struct Lent<F> {
    words: Arc<OwnerWords>,
    value: UnsafeCell<MaybeUninit<F>>,
}

// SAFETY: the value is touched by the lender once it has revoked, or by the borrower within a visit that has
// not been revoked: by one thread at a time, by the protocol above. It moves between threads and is never
// shared.
unsafe impl<F: Send> Sync for Lent<F> {}
// SAFETY: it owns the value, which is `Send`, and nothing else that is not `Send`.
unsafe impl<F: Send> Send for Lent<F> {}

/// The lender's side. If it is dropped without a revocation, the value is leaked.
#[derive(Debug)]
pub(crate) struct Revoker<F> {
    lent: Arc<Lent<F>>,
}

/// The borrower's side.
#[derive(Debug)]
pub(crate) struct Owner<F> {
    lent: Arc<Lent<F>>,
    free: Free,
}

/// Lends a value to a borrower that has made `count` visits before.
pub(crate) fn lend<F>(value: F, count: u64, free: Free) -> (Revoker<F>, Owner<F>) {
    let words = Arc::new(OwnerWords {
        entered: AtomicU64::new(count),
        left: AtomicU64::new(count),
        done: AtomicU64::new(count),
        called: AtomicBool::new(false),
        outer: AtomicU64::new(0),
    });
    // In a `MaybeUninit`, because neither side drops it: the value is moved out once, or leaked.
    let lent = Arc::new(Lent {
        words,
        value: UnsafeCell::new(MaybeUninit::new(value)),
    });
    let revoker = Revoker {
        lent: Arc::clone(&lent),
    };
    (revoker, Owner { lent, free })
}

impl<F> Revoker<F> {
    pub(crate) fn words(&self) -> &Arc<OwnerWords> {
        &self.lent.words
    }

    /// Lets the borrower continue. The caller must check afterwards whether there is still a reason for a
    /// call: a thread that has stored its reason before its call is seen here, or its call is seen by the
    /// borrower.
    pub(crate) fn go_on(&mut self) {
        self.lent.words.called.store(false, Ordering::Relaxed);
        // A planted bug, which the models must catch: a call between the two steps is lost.
        if bug("no_fence_in_go_on") {
            return;
        }
        fence(Ordering::SeqCst); // pairs with the one in `OwnerWords::call`
    }

    /// Takes the value back. `Err`: the borrower is inside just now. It has been called.
    pub(crate) fn revoke(self) -> Result<F, Self> {
        self.lent.words.call();
        heavy(); // pairs with the light one in `visit`
        // Every store that the borrower made before the barrier is visible now, and every load that it makes
        // after the barrier sees `called`.
        if self.lent.words.seen().1 == OwnerPlace::Inside {
            return Err(self);
        }
        Ok(self.lent.value.with_mut(|value| {
            // SAFETY: the borrower is outside, and behind the barrier it sees `called` before it touches the
            // value. Nothing clears `called`, because the revoker is consumed. The value is whole whenever
            // the borrower is outside, so it is moved out whole, and once.
            unsafe { value.cast::<F>().read() }
        }))
    }
}

/// A larger value is used in place.
const SMALL: usize = 64;

/// A borrower in a loop of visits. What does not change is in registers, and so is a small value. Its home
/// then gets a copy of its bytes after each visit, and the bytes in the registers are dead until the next
/// visit has begun.
#[derive(Debug)]
pub(crate) struct Visits<'a, F> {
    words: &'a OwnerWords,
    home: &'a UnsafeCell<MaybeUninit<F>>,
    /// The value, if it is small and there has been a visit.
    copy: MaybeUninit<F>,
    copied: bool,
    free: Free,
}

/// The borrower is inside. The drop, which may be an unwind, brings the value home.
struct InsideGuard<'a, 'b, F> {
    visits: &'b mut Visits<'a, F>,
}

impl<F> Drop for InsideGuard<'_, '_, F> {
    #[inline(always)]
    #[allow(clippy::inline_always)] // some stores
    fn drop(&mut self) {
        if size_of::<F>() <= SMALL {
            let copy = &raw const self.visits.copy;
            self.visits.home.with_mut(|home| {
                // SAFETY: as in `use_value`, which made this; bytes are copied, no value.
                unsafe { copy.copy_to_nonoverlapping(home, 1) }
            });
        }
    }
}

impl<F> Visits<'_, F> {
    /// Makes visit number `visit`, the first of which is 1. Afterwards the borrower counts as running, or, if
    /// `f` has found nothing or has panicked, as still inside.
    #[inline(always)]
    #[allow(clippy::inline_always)] // into a loop of a few nanoseconds
    pub(crate) fn visit<R>(&mut self, visit: u64, f: impl FnOnce(&mut F) -> Option<R>) -> Visit<R> {
        // Relaxed is enough: the barrier orders it before the load of `called`, and `left` publishes what is
        // done inside.
        self.words.entered.store(visit, Ordering::Relaxed);
        self.free.pass(); // pairs with the heavy one in `revoke`
        if self.words.called.load(Ordering::Relaxed) {
            self.words.not_entered();
            return Visit::Called;
        }
        let found = self.use_value(f);
        if found.is_some() || bug("leaves_at_the_end") {
            // The value is at home: a lender that sees the count, which it loads with Acquire, finds it whole.
            self.words.left.store(visit, Ordering::Release);
        }
        found.map_or(Visit::Nothing, Visit::Found)
    }

    /// The borrower is inside.
    #[inline(always)]
    #[allow(clippy::inline_always)] // part of `visit`
    fn use_value<R>(&mut self, f: impl FnOnce(&mut F) -> Option<R>) -> Option<R> {
        let inside = InsideGuard { visits: self };
        if size_of::<F>() > SMALL {
            return inside.visits.home.with_mut(|home| {
                // SAFETY: there is only one borrower, and behind the barrier the value had not been revoked.
                // A thread that revokes from now on sees that the borrower is inside, and leaves the value
                // alone. So the value is there.
                f(unsafe { &mut *home.cast::<F>() })
            });
        }
        // Once per loop, and not before the first visit has begun: until then the lender may take the value.
        if !inside.visits.copied {
            inside.visits.copied = true;
            let copy = &raw mut inside.visits.copy;
            inside.visits.home.with_mut(|home| {
                // SAFETY: as above; bytes are copied, no value.
                unsafe { copy.copy_from_nonoverlapping(home, 1) }
            });
        }
        // SAFETY: as above. These are the bytes of the value at home: only this borrower has changed it since
        // they were copied.
        f(unsafe { inside.visits.copy.assume_init_mut() })
    }

    /// After a visit, which may have been long: whether the borrower has been called meanwhile. This is the
    /// fast side of the handshake inside / sleep.
    #[inline(always)]
    #[allow(clippy::inline_always)] // a load
    pub(crate) fn is_called(&self) -> bool {
        if !bug("no_barrier_after_a_visit") {
            self.free.pass(); // pairs with the heavy one in `revoke`
        }
        self.words.called.load(Ordering::Relaxed)
    }

    /// Records that the borrower is done with what it got in this visit.
    #[inline(always)]
    #[allow(clippy::inline_always)] // a store
    pub(crate) fn leave(&self, visit: u64) {
        self.words.done.store(visit, Ordering::Release);
    }
}

impl<F> Owner<F> {
    /// Begins a loop of visits. `&mut`, so that there is only one at a time.
    #[inline]
    pub(crate) fn visits(&mut self) -> Visits<'_, F> {
        Visits {
            words: &self.lent.words,
            home: &self.lent.value,
            copy: MaybeUninit::uninit(),
            copied: false,
            free: self.free,
        }
    }

    pub(crate) fn words(&self) -> &Arc<OwnerWords> {
        &self.lent.words
    }

    /// Ends the loan from the borrower's side. `None`: `revoker` belongs to another loan.
    pub(crate) fn give_back(self, revoker: Revoker<F>) -> Option<F> {
        let Revoker { lent } = revoker;
        if !Arc::ptr_eq(&self.lent, &lent) {
            return None;
        }
        Some(self.lent.value.with_mut(|value| {
            // SAFETY: both sides end here, so no other thread touches the value, and it is whole.
            unsafe { value.cast::<F>().read() }
        }))
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
