//! The asymmetric barrier: free for who passes often, dear for who passes seldom.
//!
//! Each hand-shake of the engine (see `README.md` beside this file) is Dekker's: one side stores A
//! and then loads B, the other stores B and then loads A, and at least one of them must see the
//! other's store. Between its store and its load each side needs a full barrier. The side that
//! passes once an item cannot pay one (6 to 10 ns), so it only keeps the *compiler* from reordering
//! ([`Light`]), and the side that is about to sleep or to steal makes the kernel run a full barrier
//! on every core that runs a thread of this process ([`heavy`]). Whatever the fast side was doing at
//! that moment, its store is either before that barrier, and then visible to the slow side's load,
//! or after it, and then its own load is too and sees the slow side's store.
//!
//! On Linux the heavy barrier is `membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED)`, on Windows
//! `FlushProcessWriteBuffers`. Where neither exists, or registration fails, and under loom or
//! `--cfg fanfold_fence` (for `ThreadSanitizer`, which knows no fences of the kernel), both sides are
//! `fence(SeqCst)`. A fence on the fast side and a kernel barrier on the slow one are correct
//! together too, so the switch from one form to the other needs no hand-shake of its own.
#![allow(unsafe_code)]

use crate::sync::{Ordering, bug, compiler_fence, fence};

#[cfg(any(loom, fanfold_fence, not(any(target_os = "linux", windows))))]
mod kernel {
    pub(super) const fn asymmetric() -> bool {
        false
    }

    pub(super) fn prepare() {}

    pub(super) fn barrier() {
        unreachable!("the symmetric form has no kernel barrier")
    }
}

#[cfg(all(target_os = "linux", not(any(loom, fanfold_fence))))]
mod kernel {
    use crate::sync::{AtomicU8, Ordering};

    const UNKNOWN: u8 = 0;
    const ASYMMETRIC: u8 = 1;
    const SYMMETRIC: u8 = 2;
    static FORM: AtomicU8 = AtomicU8::new(UNKNOWN);

    fn membarrier(command: libc::c_int) -> bool {
        // SAFETY: the call takes three integers and touches no memory of ours.
        let answer = unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) };
        answer == 0
    }

    #[inline]
    pub(super) fn asymmetric() -> bool {
        FORM.load(Ordering::Relaxed) == ASYMMETRIC
    }

    pub(super) fn prepare() {
        if FORM.load(Ordering::Relaxed) == UNKNOWN {
            let form = if membarrier(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) {
                ASYMMETRIC
            } else {
                SYMMETRIC
            };
            FORM.store(form, Ordering::Relaxed);
        }
    }

    pub(super) fn barrier() {
        // Registered once a process; a failure now would be a bug of ours and unsound to ignore.
        let done = membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED);
        assert!(done, "membarrier failed after it had been registered");
    }
}

#[cfg(all(windows, not(any(loom, fanfold_fence))))]
mod kernel {
    // By hand: for one function without arguments and without a result, `windows-sys` and `windows-link` would stand
    // in the lock file of each program that uses this crate, on every system.
    //
    // SAFETY: the signature is that of processthreadsapi.h, and the call has no precondition.
    #[link(name = "kernel32", kind = "raw-dylib")]
    unsafe extern "system" {
        safe fn FlushProcessWriteBuffers();
    }

    pub(super) const fn asymmetric() -> bool {
        true
    }

    pub(super) fn prepare() {}

    pub(super) fn barrier() {
        FlushProcessWriteBuffers();
    }
}

/// Registers the process with the kernel; to be called before a stage starts.
pub(crate) fn prepare() {
    kernel::prepare();
}

/// The barrier of the side that passes often. A value, so that a loop has it in a register: to ask
/// for the process's form each time would cost as much as all else that the loop does for an item.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Light {
    symmetric: bool,
}

impl Light {
    pub(crate) fn new() -> Self {
        Light {
            symmetric: !kernel::asymmetric(),
        }
    }

    /// The same where it costs nothing.
    pub(crate) fn free(self) -> Option<Free> {
        (cfg!(loom) || !self.symmetric).then_some(Free(()))
    }

    #[inline(always)]
    #[allow(clippy::inline_always)] // one instruction at most, between a store and a load
    pub(crate) fn pass(self) {
        if cfg!(loom) || self.symmetric {
            fence(Ordering::SeqCst);
        } else {
            compiler_fence(Ordering::SeqCst);
        }
    }
}

/// A [`Light`] barrier that is known to be no instruction at all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Free(());

impl Free {
    #[inline(always)]
    #[allow(clippy::inline_always)] // no instruction, between a store and a load
    #[allow(clippy::unused_self)] // it is the proof
    pub(crate) fn pass(self) {
        if bug("no_barrier_in_visits") {
            return;
        }
        if cfg!(loom) {
            fence(Ordering::SeqCst);
        } else {
            compiler_fence(Ordering::SeqCst);
        }
    }
}

/// The barrier of the side that is about to sleep or to steal.
pub(crate) fn heavy() {
    // Planted: the models must catch it.
    if bug("no_heavy_barrier") {
        return;
    }
    if kernel::asymmetric() {
        kernel::barrier();
    } else {
        fence(Ordering::SeqCst);
    }
}
