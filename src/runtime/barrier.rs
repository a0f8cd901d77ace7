//! The asymmetric barrier: free for the side that passes it often, expensive for the side that passes it
//! seldom.
//!
//! Nearly every handshake of the ordered scheduler (see `ordered/README.md`) is Dekker's: one side stores A
//! and then loads B, the other side stores B and then loads A, and at least one of them must see the other's
//! store. Each side needs a full barrier between its store and its load. The side that passes once per item
//! cannot pay for one (6 to 10 ns). So it only keeps the *compiler* from reordering ([`Light`]), and the side
//! that is about to sleep or to steal makes the kernel run a full barrier on every core that runs a thread of
//! this process ([`heavy`]). Whatever the fast side was doing at that moment, its store comes either before
//! that barrier, and then the slow side's load sees it; or after it, and then its own load comes after it
//! too, and sees the slow side's store.
//!
//! On Linux the heavy barrier is `membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED)`, on Windows
//! `FlushProcessWriteBuffers`. Where neither exists, or registration fails, and under loom or `--cfg
//! fanfold_fence` (for `ThreadSanitizer`, which does not know the kernel's fences), both sides use
//! `fence(SeqCst)`. A fence on the fast side and a kernel barrier on the slow side are correct together too,
//! so the switch from one form to the other needs no handshake of its own.
#![allow(unsafe_code)]

use crate::sync::{Ordering, bug, compiler_fence, fence, preempt};

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
        // SAFETY: the call takes three integers and touches no memory of this process.
        let answer = unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) };
        answer == 0
    }

    #[inline]
    pub(super) fn asymmetric() -> bool {
        FORM.load(Ordering::Relaxed) == ASYMMETRIC
    }

    pub(super) fn prepare() {
        // Several threads may register at the same time, which is harmless: each gets the same answer.
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
        // The process is registered. A failure now would be a bug in this crate, and it would be unsound to
        // ignore it.
        let done = membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED);
        assert!(done, "membarrier failed after it had been registered");
    }
}

#[cfg(all(windows, not(any(loom, fanfold_fence))))]
mod kernel {
    // Declared by hand. For one function without arguments and without a result, `windows-sys` and
    // `windows-link` would appear in the lock file of each program that uses this crate, on every system.
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

/// Registers the process with the kernel. Must be called before a stage starts.
pub(crate) fn prepare() {
    kernel::prepare();
}

/// The barrier of the side that passes often. A value, so that a loop keeps it in a register: asking for the
/// process's form each time would cost as much as everything else that the loop does per item.
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

    /// The same barrier, if it costs nothing on this machine.
    pub(crate) fn free(self) -> Option<Free> {
        (cfg!(loom) || !self.symmetric).then_some(Free(()))
    }

    #[inline(always)]
    #[allow(clippy::inline_always)] // one instruction at most, between a store and a load
    pub(crate) fn pass(self) {
        preempt(3_000);
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
        preempt(3_000);
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
    preempt(10);
    // A planted bug, which the models must catch.
    if bug("no_heavy_barrier") {
        return;
    }
    if kernel::asymmetric() {
        kernel::barrier();
    } else {
        fence(Ordering::SeqCst);
    }
}
