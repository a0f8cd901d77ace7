//! The only file that names `std::sync`, or loom instead of it.
//!
//! Everything that threads share goes through here, so that `--cfg loom` can put a model checker underneath.
//! Locks never poison: no lock is held while user code runs, except the source's lock during its own
//! `next()`, whose panic is caught inside, and the one under which statistics are published, which guards no data.

/// How many cores the process may use, or 1 if that is unknown. Read from several files.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[cfg(not(loom))]
mod imp {
    pub(crate) use crossbeam_deque::{Injector, Steal};
    #[cfg(not(target_family = "wasm"))]
    pub(crate) use crossbeam_utils::sync::{Parker, Unparker};
    #[cfg(all(target_os = "linux", not(fanfold_fence)))]
    pub(crate) use std::sync::atomic::AtomicU8;
    pub(crate) use std::sync::atomic::{
        AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, compiler_fence, fence,
    };
    pub(crate) use std::sync::{Arc, MutexGuard, Weak};
    use std::sync::{PoisonError, TryLockError};
    pub(crate) use std::thread::{JoinHandle, yield_now};
    pub(crate) use std::thread_local;
    use std::time::Duration;
    pub(crate) use std::time::Instant;

    /// Starts a thread: the only place that does, and one that may fail.
    pub(crate) fn spawn(
        name: &str,
        stack_size: Option<usize>,
        f: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<JoinHandle<()>> {
        let builder = std::thread::Builder::new().name(name.to_owned());
        match stack_size {
            Some(bytes) => builder.stack_size(bytes),
            None => builder,
        }
        .spawn(f)
    }

    pub(crate) fn is_this_thread(handle: &JoinHandle<()>) -> bool {
        handle.thread().id() == std::thread::current().id()
    }

    /// A cell that is accessed by raw pointers, as in loom.
    #[derive(Debug)]
    pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(crate) const fn new(value: T) -> Self {
            UnsafeCell(std::cell::UnsafeCell::new(value))
        }

        #[inline]
        pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
            f(self.0.get())
        }
    }

    /// A mutex that ignores poison.
    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(std::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) const fn new(value: T) -> Self {
            Mutex(std::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            super::preempt(20);
            let guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            super::preempt(60);
            guard
        }

        pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            super::preempt(20);
            match self.0.try_lock() {
                Ok(guard) => Some(guard),
                Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => None,
            }
        }

        #[inline]
        pub(crate) fn get_mut(&mut self) -> &mut T {
            self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
        }

        pub(crate) fn into_inner(self) -> T {
            self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
        }
    }

    /// A condition variable for [`Mutex`].
    #[derive(Debug, Default)]
    pub(crate) struct Condvar(std::sync::Condvar);

    impl Condvar {
        pub(crate) const fn new() -> Self {
            Condvar(std::sync::Condvar::new())
        }

        pub(crate) fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
            self.0.wait(guard).unwrap_or_else(PoisonError::into_inner)
        }

        pub(crate) fn wait_timeout<'a, T>(
            &self,
            guard: MutexGuard<'a, T>,
            limit: Duration,
        ) -> MutexGuard<'a, T> {
            #[cfg(target_family = "wasm")]
            if super::alone::is_alone() {
                super::alone::sleep(limit);
                return guard; // no other thread is there to take the lock
            }
            self.0
                .wait_timeout(guard, limit)
                .unwrap_or_else(PoisonError::into_inner)
                .0
        }

        pub(crate) fn notify_one(&self) {
            self.0.notify_one();
        }

        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }
    }
}

#[cfg(loom)]
mod imp {
    use std::collections::VecDeque;
    use std::time::Duration;

    pub(crate) use loom::sync::MutexGuard;
    pub(crate) use loom::sync::atomic::{
        AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
    };
    pub(crate) use std::sync::atomic::compiler_fence;
    // loom's `Arc` has no `Weak`. What the models check does not depend on the counts.
    pub(crate) use loom::thread::yield_now;
    pub(crate) use std::sync::{Arc, Weak};
    pub(crate) use std::time::Instant;

    /// The threads of a model are one thread of the system.
    macro_rules! of_a_thread {
        ($(#[$doc:meta])* static $name:ident: $type:ty = const { $value:expr };) => {
            loom::thread_local! { $(#[$doc])* static $name: $type = $value; }
        };
    }
    pub(crate) use of_a_thread as thread_local;

    pub(crate) type JoinHandle<T> = loom::thread::JoinHandle<T>;

    pub(crate) fn spawn(
        _: &str,
        _: Option<usize>,
        f: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<JoinHandle<()>> {
        Ok(loom::thread::spawn(f))
    }

    pub(crate) fn is_this_thread(handle: &JoinHandle<()>) -> bool {
        handle.thread().id() == loom::thread::current().id()
    }

    #[derive(Debug)]
    pub(crate) struct UnsafeCell<T>(loom::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(crate) fn new(value: T) -> Self {
            UnsafeCell(loom::cell::UnsafeCell::new(value))
        }

        pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
            self.0.with_mut(f)
        }
    }

    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Mutex(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
        }

        pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            self.0.try_lock().ok()
        }

        pub(crate) fn get_mut(&mut self) -> &mut T {
            self.0
                .get_mut()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
        }

        pub(crate) fn into_inner(self) -> T {
            self.0
                .into_inner()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
        }
    }

    #[derive(Debug, Default)]
    pub(crate) struct Condvar(loom::sync::Condvar);

    impl Condvar {
        pub(crate) fn new() -> Self {
            Condvar(loom::sync::Condvar::new())
        }

        pub(crate) fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
            self.0
                .wait(guard)
                .unwrap_or_else(std::sync::PoisonError::into_inner)
        }

        /// Time does not pass in a model, so this is a wait without a limit.
        pub(crate) fn wait_timeout<'a, T>(
            &self,
            guard: MutexGuard<'a, T>,
            _: Duration,
        ) -> MutexGuard<'a, T> {
            self.wait(guard)
        }

        pub(crate) fn notify_one(&self) {
            self.0.notify_one();
        }

        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }
    }

    /// Replaces crossbeam's queue, whose atomics loom cannot see.
    #[derive(Debug)]
    pub(crate) struct Injector<T>(Mutex<VecDeque<T>>);

    pub(crate) enum Steal<T> {
        Success(T),
        Empty,
        #[allow(dead_code)] // the third answer of the real queue
        Retry,
    }

    impl<T> Injector<T> {
        pub(crate) fn new() -> Self {
            Injector(Mutex::new(VecDeque::new()))
        }

        pub(crate) fn push(&self, value: T) {
            self.0.lock().push_back(value);
        }

        pub(crate) fn steal(&self) -> Steal<T> {
            self.0
                .lock()
                .pop_front()
                .map_or(Steal::Empty, Steal::Success)
        }

        pub(crate) fn is_empty(&self) -> bool {
            self.0.lock().is_empty()
        }
    }
}

pub(crate) use imp::*;

#[cfg(any(loom, target_family = "wasm"))]
pub(crate) use parker::{Parker, Unparker};

/// The same as crossbeam's parker, with this file's mutex and condition variable.
#[cfg(any(loom, target_family = "wasm"))]
mod parker {
    use super::imp::{Arc, Condvar, Mutex, yield_now};
    use std::time::Duration;

    #[derive(Debug)]
    pub(crate) struct Parker(Unparker);

    #[derive(Clone, Debug)]
    pub(crate) struct Unparker(Arc<(Mutex<bool>, Condvar)>);

    impl Parker {
        pub(crate) fn new() -> Self {
            Parker(Unparker(Arc::new((Mutex::new(false), Condvar::new()))))
        }

        pub(crate) fn unparker(&self) -> &Unparker {
            &self.0
        }

        pub(crate) fn park(&self) {
            let (token, there) = &*self.0.0;
            let mut token = token.lock();
            while !std::mem::take(&mut *token) {
                token = there.wait(token);
            }
        }

        pub(crate) fn park_timeout(&self, limit: Duration) {
            let (token, there) = &*self.0.0;
            let mut token = token.lock();
            if !cfg!(loom) && !*token {
                token = there.wait_timeout(token, limit);
            }
            *token = false;
            drop(token);
            yield_now(); // in a model, where no time passes, this is all that is left of a nap
        }
    }

    impl Unparker {
        pub(crate) fn unpark(&self) {
            *self.0.0.lock() = true;
            self.0.1.notify_one();
        }
    }
}

/// Closed until it is opened: for what one thread of a model waits for in another.
#[cfg(all(test, loom))]
#[derive(Debug, Default)]
pub(crate) struct Gate(Mutex<bool>, Condvar);

#[cfg(all(test, loom))]
impl Gate {
    pub(crate) fn open(&self) {
        *self.0.lock() = true;
        self.1.notify_all();
    }

    pub(crate) fn wait(&self) {
        let mut open = self.0.lock();
        while !*open {
            open = self.1.wait(open);
        }
    }
}

/// Waits on targets without threads, where the waits of `std` panic, even with a limit.
#[cfg(all(target_family = "wasm", not(loom)))]
mod alone {
    use super::fixed::OnceLock;
    use std::time::Duration;

    /// Whether no thread can be started here. Found out at run time, because a stable compiler cannot see
    /// what says so at compile time (`atomics`).
    pub(super) fn is_alone() -> bool {
        static ALONE: OnceLock<bool> = OnceLock::new();
        *ALONE.get_or_init(|| super::spawn("fanfold-probe", None, || ()).is_err())
    }

    /// At most an hour: a wait may end early, and a sleep of more nanoseconds than fit into a `u64` panics.
    pub(super) fn sleep(limit: Duration) {
        std::thread::sleep(limit.min(Duration::from_secs(3600)));
    }
}

/// For the few process-wide tables, which are in no model: the types of `std`, under loom too.
pub(crate) mod fixed {
    pub(crate) use std::sync::OnceLock;
    pub(crate) use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    use std::sync::{MutexGuard, PoisonError};

    /// Which process this is. A forked child has its parent's statics, and none of its threads.
    pub(crate) fn process() -> u32 {
        if cfg!(unix) { std::process::id() } else { 0 }
    }

    /// A mutex that ignores poison and can be a `static`.
    #[derive(Debug)]
    pub(crate) struct Mutex<T>(std::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) const fn new(value: T) -> Self {
            Mutex(std::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }
}

/// Whether this bug is planted. Only under loom, where `ci/loom.sh` names one bug after another: models that
/// pass with a bug prove nothing.
#[cfg(loom)]
pub(crate) fn bug(name: &str) -> bool {
    static PLANTED: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    let planted = PLANTED.get_or_init(|| std::env::var("FANFOLD_BUG").ok());
    planted.as_deref() == Some(name)
}

/// Whether this bug is planted on this thread, for a litmus test on the real machine.
#[cfg(all(test, not(loom)))]
pub(crate) fn bug(name: &str) -> bool {
    PLANTED.get() == Some(name)
}

#[cfg(all(test, not(loom)))]
std::thread_local! {
    static PLANTED: std::cell::Cell<Option<&'static str>> = const { std::cell::Cell::new(None) };
}

#[cfg(all(test, not(loom)))]
pub(crate) fn planted(bug: Option<&'static str>) {
    PLANTED.set(bug);
}

/// No bug is planted.
#[cfg(not(any(loom, test)))]
#[inline(always)]
#[allow(clippy::inline_always)] // nothing is left of it, even without optimization
pub(crate) const fn bug(_: &str) -> bool {
    false
}

/// The next of 2^64 - 1 numbers, in an order that nothing here keeps step with. `last` is not 0. (Marsaglia, "Xorshift RNGs",
/// 2003.)
pub(crate) const fn xorshift(last: u64) -> u64 {
    let mut next = last;
    next ^= next << 13;
    next ^= next >> 7;
    next ^= next << 17;
    next
}

/// With `--cfg fanfold_preempt` the calling thread sleeps here in one of so many calls, or of as many times as many as
/// `FANFOLD_PREEMPT` says (5 by default): as if another program had its core, for up to 3 ms. It happens at each lock and
/// at each barrier, so that every step of a handshake is torn apart from the next one sooner or later. Where a busy machine
/// does that once in hours, this takes minutes.
#[cfg(all(fanfold_preempt, not(loom)))]
pub(crate) fn preempt(one_in: u64) {
    use std::hash::{BuildHasher, RandomState};
    std::thread_local!(static RANDOM: std::cell::Cell<u64> = std::cell::Cell::new(RandomState::new().hash_one(0) | 1));
    static TIMES: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    let times = TIMES.get_or_init(|| {
        let times = std::env::var("FANFOLD_PREEMPT").ok();
        times.and_then(|times| times.parse().ok()).unwrap_or(5)
    });
    // A thread that is on its way out has none any more.
    let Ok(random) = RANDOM.try_with(|random| {
        let next = xorshift(random.get());
        random.replace(next)
    }) else {
        return;
    };
    if (random >> 16) % (one_in * times) == 0 {
        let micros = [1, 1, 50, 50, 200, 200, 1_000, 3_000][random as usize % 8];
        std::thread::sleep(std::time::Duration::from_micros(micros));
    }
}

#[cfg(not(all(fanfold_preempt, not(loom))))]
#[inline(always)]
#[allow(clippy::inline_always)] // nothing is left of it, even without optimization
pub(crate) const fn preempt(_: u64) {}

/// Takes the oldest entry of a queue.
pub(crate) fn steal<T>(queue: &Injector<T>) -> Option<T> {
    loop {
        match queue.steal() {
            Steal::Success(value) => return Some(value),
            Steal::Empty => return None,
            Steal::Retry => {}
        }
    }
}
