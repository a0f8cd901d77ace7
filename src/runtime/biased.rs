//! A value that its borrower visits without a lock and without a read-modify-write, and that can be
//! taken back from it at any time: the fifth hand-shake.
//!
//! A stage whose items cost a few nanoseconds lends its source to the consumer, which pulls item by
//! item. Even a lock that nobody else wants costs more than such an item; so the borrower only says
//! where it is, and whoever takes the value back asks the whole process for a barrier instead.
//!
//! | side | steps |
//! | --- | --- |
//! | borrower, each visit ([`Visits::visit`]) | count `entered`, free barrier, load `called`; if it is set, take that back; else use the value and count `left` |
//! | lender ([`Revoker::revoke`]) | store `called`, heavy barrier, load `entered` and `left` |
//!
//! Whoever revokes and finds the borrower outside has the value from then on: a borrower that comes
//! later sees `called` and stays out. If it is inside (or just about to find that it must not be), the
//! revoker stands, and is to be revoked again later; the borrower gets no further than to its next visit.
//! Whoever does not want to try again sleeps: as the borrower looks at `called` also when it comes out, behind
//! the same barrier ([`Visits::is_called`]), a call that found it inside is heard there, at the latest.
//! `called` is taken back only by who holds the [`Revoker`], so never after a revocation.
//!
//! What the borrower says are three counts of visits: those that it has begun, those from which it came out,
//! and those with whose value it is done. Which of them differ says where it is, and others can see whether
//! it moves; and to say it takes no more than three stores of one number that the loop counts anyway.
//! A borrower may move from thread to thread between two visits; whatever
//! moves it orders them.
#![allow(unsafe_code)]

use crate::runtime::barrier::{Free, heavy};
use crate::sync::{Arc, AtomicBool, AtomicU64, Ordering, UnsafeCell, bug, fence};
use std::mem::MaybeUninit;

/// Where a borrower is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OwnerPlace {
    /// Neither here nor there: yielding, or not even called.
    Away,
    /// With the value.
    Inside,
    /// It runs what it has got.
    Running,
}

/// What the two sides tell one another.
#[derive(Debug)]
pub(crate) struct OwnerWords {
    /// How many visits the borrower has begun, has ended, and is done with.
    entered: AtomicU64,
    left: AtomicU64,
    done: AtomicU64,
    called: AtomicBool,
    /// On its thread: whose consumer that is besides.
    outer: AtomicU64,
}

impl OwnerWords {
    /// Asks the borrower to look up before its next visit, and after the one that it is in.
    pub(crate) fn call(&self) {
        fence(Ordering::SeqCst); // pairs with the one in `Revoker::go_on`
        self.called.store(true, Ordering::Relaxed);
    }

    /// Borrower: stays out. Not computed from the count that it is at, which then is one register in its loop.
    #[inline(always)]
    #[allow(clippy::inline_always)] // to call it would cost registers as well
    fn not_entered(&self) {
        let left = self.left.load(Ordering::Relaxed);
        self.entered.store(left, Ordering::Release);
    }

    /// Borrower: with the values of how many visits it is done.
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

    /// How far the borrower is, and where. While it moves that may be where it has just been; once it has
    /// been called, and cannot get inside any more, it is inside as long as this says so, or knocks in vain.
    pub(crate) fn seen(&self) -> (u64, OwnerPlace) {
        // In the order opposite to the stores, with the releases of which these pair. So who is seen to
        // have entered is not seen to be running something older.
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

#[derive(Debug)]
struct Lent<F> {
    words: Arc<OwnerWords>,
    value: UnsafeCell<MaybeUninit<F>>,
}

// SAFETY: the value is touched by who has revoked the revoker, or by the borrower within a visit that has
// not been revoked: one at a time, by the protocol above. It moves between threads, nothing is shared.
unsafe impl<F: Send> Sync for Lent<F> {}
// SAFETY: it owns the value, which is `Send`, and nothing else that is not.
unsafe impl<F: Send> Send for Lent<F> {}

/// The lender's side. A value whose revoker is dropped is leaked.
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

/// Lends a value to somebody who has been inside `count` times before.
pub(crate) fn lend<F>(value: F, count: u64, free: Free) -> (Revoker<F>, Owner<F>) {
    let words = Arc::new(OwnerWords {
        entered: AtomicU64::new(count),
        left: AtomicU64::new(count),
        done: AtomicU64::new(count),
        called: AtomicBool::new(false),
        outer: AtomicU64::new(0),
    });
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

    /// The borrower may go on. Whoever calls it stores something before that, and the borrower looks
    /// at that after this.
    pub(crate) fn go_on(&mut self) {
        self.lent.words.called.store(false, Ordering::Relaxed);
        // A planted bug, which the models must catch: a call between the two is lost.
        if bug("no_fence_in_go_on") {
            return;
        }
        fence(Ordering::SeqCst); // pairs with the one in `OwnerWords::call`
    }

    /// Takes the value back. `Err`: the borrower is with it just now; it has been called.
    pub(crate) fn revoke(self) -> Result<F, Self> {
        self.lent.words.call();
        heavy(); // pairs with the light one in `visit`
        if self.lent.words.seen().1 == OwnerPlace::Inside {
            return Err(self);
        }
        Ok(self.lent.value.with_mut(|value| {
            // SAFETY: the borrower is outside, and behind the barrier it sees `called` before it
            // touches the value; nobody takes that back, as the revoker is consumed. So the value, which
            // is whole whenever the borrower is outside, is moved out once.
            unsafe { value.cast::<F>().read() }
        }))
    }
}

/// A larger value is used where it lies.
const SMALL: usize = 64;

/// A borrower in a loop of visits: what does not change is in registers, and so is a small value. Only
/// between two visits is it at home, as a copy of its bytes, and the one in the registers is dead until
/// the next visit has begun.
#[derive(Debug)]
pub(crate) struct Visits<'a, F> {
    words: &'a OwnerWords,
    home: &'a UnsafeCell<MaybeUninit<F>>,
    /// If it is small and there has been a visit.
    copy: MaybeUninit<F>,
    copied: bool,
    free: Free,
}

/// Is inside. Its drop, which may be an unwinding, brings the value home and says so.
struct InsideGuard<'a, 'b, F> {
    visits: &'b mut Visits<'a, F>,
    visit: u64,
}

impl<F> Drop for InsideGuard<'_, '_, F> {
    #[inline(always)]
    #[allow(clippy::inline_always)] // some stores
    fn drop(&mut self) {
        if size_of::<F>() <= SMALL {
            let copy = &raw const self.visits.copy;
            self.visits.home.with_mut(|home| {
                // SAFETY: as in `visit`, which made this; bytes are copied, no value.
                unsafe { copy.copy_to_nonoverlapping(home, 1) }
            });
        }
        // Release, for who revokes and loads it with Acquire.
        let left = &self.visits.words.left;
        left.store(self.visit, Ordering::Release);
    }
}

impl<F> Visits<'_, F> {
    /// The `visit`th visit, of which the first is 1; afterwards it runs. `None`: it has been called.
    #[inline(always)]
    #[allow(clippy::inline_always)] // into a loop of a few nanoseconds
    pub(crate) fn visit<R>(&mut self, visit: u64, f: impl FnOnce(&mut F) -> R) -> Option<R> {
        self.words.entered.store(visit, Ordering::Relaxed);
        self.free.pass(); // pairs with the heavy one in `revoke`
        if self.words.called.load(Ordering::Relaxed) {
            self.words.not_entered();
            return None;
        }
        let inside = InsideGuard {
            visits: self,
            visit,
        };
        if size_of::<F>() > SMALL {
            return Some(inside.visits.home.with_mut(|home| {
                // SAFETY: this is the only hand, and the revoker had not been revoked behind the barrier:
                // whoever revokes it from now on sees that it is inside, and stays out. It holds a value then.
                f(unsafe { &mut *home.cast::<F>() })
            }));
        }
        if !inside.visits.copied {
            inside.visits.copied = true;
            let copy = &raw mut inside.visits.copy;
            inside.visits.home.with_mut(|home| {
                // SAFETY: as above; bytes are copied, no value.
                unsafe { copy.copy_from_nonoverlapping(home, 1) }
            });
        }
        // SAFETY: as above; and these are the bytes of the value at home, as only this hand has
        // changed it since they were copied.
        Some(f(unsafe { inside.visits.copy.assume_init_mut() }))
    }

    /// After a visit, which may have been long: whether it has been called meanwhile.
    #[inline(always)]
    #[allow(clippy::inline_always)] // a load
    pub(crate) fn is_called(&self) -> bool {
        if !bug("no_barrier_after_a_visit") {
            self.free.pass(); // pairs with the heavy one in `revoke`
        }
        self.words.called.load(Ordering::Relaxed)
    }

    /// It is done with what it got in the `visit`th visit.
    #[inline(always)]
    #[allow(clippy::inline_always)] // a store
    pub(crate) fn leave(&self, visit: u64) {
        self.words.done.store(visit, Ordering::Release);
    }
}

impl<F> Owner<F> {
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

    /// Ends the revoker from this side. `None`: it is not this hand's revoker.
    pub(crate) fn give_back(self, revoker: Revoker<F>) -> Option<F> {
        let Revoker { lent } = revoker;
        if !Arc::ptr_eq(&self.lent, &lent) {
            return None;
        }
        Some(self.lent.value.with_mut(|value| {
            // SAFETY: both sides end here, so nobody else touches it, and it is whole.
            unsafe { value.cast::<F>().read() }
        }))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::runtime::barrier::{Light, prepare};
    use std::panic::{AssertUnwindSafe, catch_unwind};

    /// With a value of so many bytes and a text.
    fn check<const N: usize>() {
        prepare();
        let Some(free) = Light::new().free() else {
            return; // with fences nothing is lent
        };
        let value = || (String::from("lent"), [7_u8; N]);
        let (revoker, mut hand) = lend(value(), 5, free);
        assert!(Arc::ptr_eq(revoker.words(), hand.words()));
        let words = Arc::clone(revoker.words());
        assert_eq!(words.seen(), (5, OwnerPlace::Away));
        let mut revoker = Some(revoker);

        // Inside it cannot be taken.
        let mut visits = hand.visits();
        let inside = visits.visit(6, |(text, _)| {
            assert_eq!(words.seen(), (5, OwnerPlace::Inside));
            revoker = revoker.take().and_then(|revoker| revoker.revoke().err());
            text.push('!');
            text.len()
        });
        assert_eq!((inside, revoker.is_some()), (Some(5), true));
        assert_eq!(words.seen(), (6, OwnerPlace::Running));
        visits.leave(6);
        assert_eq!(words.seen(), (6, OwnerPlace::Away));

        // It has been called by that, and may go on.
        assert_eq!(visits.visit(7, |_| ()), None);
        assert_eq!(words.seen(), (6, OwnerPlace::Away));
        let mut revoker = revoker.unwrap();
        revoker.go_on();
        let grown = visits.visit(7, |(text, _)| {
            text.push('?');
            text.len()
        });
        assert_eq!(grown, Some(6));
        let second = visits.visit(8, |(text, _)| text.len());
        assert_eq!(second, Some(6));

        // What panics inside is home again, and says so.
        let thrown = catch_unwind(AssertUnwindSafe(|| {
            visits.visit(9, |(text, _)| -> () {
                text.push('.');
                panic!("inside")
            })
        }));
        assert!(thrown.is_err());
        assert_eq!(words.seen(), (9, OwnerPlace::Running));

        // While it runs what it has got the value can be taken.
        let (text, bytes) = revoker.revoke().expect("it is outside");
        assert_eq!((&text[..], bytes), ("lent!?.", [7; N]));
        assert_eq!(visits.visit(10, |_| ()), None);

        let (revoker, hand) = lend(value(), 0, free);
        assert_eq!(hand.give_back(revoker), Some(value()));
    }

    #[test]
    fn what_is_copied_into_registers_is_with_one_of_the_two() {
        check::<8>();
    }

    #[test]
    fn what_is_used_where_it_lies_is_with_one_of_the_two() {
        check::<SMALL>();
    }

    #[test]
    fn nobody_gives_back_another_hands_loan() {
        prepare();
        if let Some(free) = Light::new().free() {
            let ((revoker, mine), (other, others)) = (lend(1, 0, free), lend(2, 0, free));
            assert_eq!(
                (mine.give_back(other), others.give_back(revoker)),
                (None, None)
            );
        }
    }
}
