//! Shared by the tests: gates, counters, a concurrency meter, counted drops, and sources that misbehave.
//!
//! Nothing here judges by the clock. The tests wait for what must happen, and [`within`] turns an event
//! that never happens into a failure that says "stuck".

#![allow(dead_code)] // each test file uses a part

use fanfold::stage::{Job, Par, Pushed, Stage};
use fanfold::{CancelToken, Pool};
use std::any::Any;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc;
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The limit for an event that takes no time if all is well.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// How long a wait inside a closure or a source lasts before it gives up: longer than [`SOON`], so
/// that the test fails first.
const LIMIT: Duration = Duration::from_secs(60);

/// The limit under a tool that makes everything slower by a factor: `FANFOLD_SLOW=30`.
pub(crate) fn slow(limit: Duration) -> Duration {
    static SLOW: LazyLock<u32> = LazyLock::new(|| {
        let times = std::env::var("FANFOLD_SLOW").ok();
        times.map_or(1, |times| {
            times.parse().expect("FANFOLD_SLOW is a whole number")
        })
    });
    limit * *SLOW
}

/// Widths for tests that take long: a lone worker, two, an odd number, and more than small machines have cores.
pub(crate) const WIDTHS: [usize; 4] = [1, 2, 3, 8];

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A condition variable that makes no system call when nobody waits: the counters are used a million times. Its mutex is
/// held, or was, between a change and the notification.
#[derive(Debug, Default)]
struct Notifier {
    condvar: Condvar,
    waiting: AtomicUsize,
}

impl Notifier {
    fn notify(&self) {
        if self.waiting.load(SeqCst) > 0 {
            self.condvar.notify_all();
        }
    }

    /// Waits until `ready`, and reports what it waited for if that takes too long.
    fn wait_until<T: Debug>(
        &self,
        guard: MutexGuard<'_, T>,
        what: &str,
        mut ready: impl FnMut(&T) -> bool,
    ) {
        if ready(&guard) {
            return;
        }
        self.waiting.fetch_add(1, SeqCst);
        let (guard, timeout) = self
            .condvar
            .wait_timeout_while(guard, slow(LIMIT), |value| !ready(value))
            .unwrap_or_else(PoisonError::into_inner);
        self.waiting.fetch_sub(1, SeqCst);
        assert!(!timeout.timed_out(), "stuck: {what}, at {guard:?}");
    }
}

/// Runs `f` on its own thread, and fails if it has not ended in time.
#[track_caller]
pub(crate) fn within<T: Send + 'static>(
    limit: Duration,
    f: impl FnOnce() -> T + Send + 'static,
) -> T {
    let result = Arc::new(Mutex::new(None));
    let place = Arc::clone(&result);
    run_within(limit, Box::new(move || *lock(&place) = Some(f())));
    let value = lock(&result).take();
    value.expect("it has run")
}

/// For hundreds of callers, so that a thread and a channel are compiled once for all of them.
#[track_caller]
fn run_within(limit: Duration, f: Box<dyn FnOnce() + Send>) {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let _ = tell.send(catch_unwind(AssertUnwindSafe(f)));
    });
    let limit = slow(limit);
    match told.recv_timeout(limit) {
        Ok(Ok(())) => {}
        Ok(Err(payload)) => resume_unwind(payload),
        Err(timeout) => panic!("stuck: {timeout} after {limit:?}"),
    }
}

/// Runs a test in which quick closures keep a short limit that a stuck one beside them does not. If the machine stops a
/// thread for a good part of that limit, a failure is not the fault of the code: it does not count, and the test runs once
/// more, but not for ever. For all else there is [`within`].
#[track_caller]
pub(crate) fn timely(limit: Duration, f: impl Fn() + Send + Sync + 'static) {
    const TIMES: usize = 3;
    let f = Arc::new(f);
    for time in 1..=TIMES {
        let (began, stalls, run) = (Instant::now(), Stalls::watch(), Arc::clone(&f));
        let outcome = catch_unwind(AssertUnwindSafe(|| within(SOON, move || run())));
        let stuck = began.elapsed() >= slow(SOON);
        let stalled = stalls.longest() > limit / 4 && !stuck;
        match outcome {
            Ok(()) => return,
            Err(_) if stalled && time < TIMES => {}
            Err(payload) => resume_unwind(payload),
        }
    }
}

/// How long a thread of this process is kept from running.
struct Stalls {
    end: mpsc::Sender<()>,
    thread: std::thread::JoinHandle<Duration>,
}

impl Stalls {
    fn watch() -> Self {
        let (end, ended) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let (mut longest, mut before) = (Duration::ZERO, Instant::now());
            while ended.recv_timeout(Duration::from_millis(1))
                == Err(mpsc::RecvTimeoutError::Timeout)
            {
                longest = longest.max(before.elapsed());
                before = Instant::now();
            }
            longest.max(before.elapsed())
        });
        Stalls { end, thread }
    }

    fn longest(self) -> Duration {
        drop(self.end);
        self.thread.join().expect("no panic")
    }
}

/// Gives an event that must *not* happen a chance to happen: its absence cannot be awaited.
pub(crate) fn settle() {
    std::thread::sleep(Duration::from_millis(6));
}

/// Spins until `ready`, for conditions without a notification.
#[track_caller]
pub(crate) fn eventually(what: &str, mut ready: impl FnMut() -> bool) {
    let start = Instant::now();
    while !ready() {
        assert!(start.elapsed() < slow(SOON), "stuck: {what}");
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// A pool without threads: none can have a stack of three quarters of the address space.
pub(crate) fn barren() -> Pool {
    Pool::builder().stack_size(usize::MAX / 4 * 3).build()
}

/// A gate that is closed until it is opened for good.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate(Arc<(Mutex<bool>, Notifier)>);

impl Gate {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Blocks until the gate is open.
    pub(crate) fn wait(&self) {
        let (open, notifier) = &*self.0;
        notifier.wait_until(lock(open), "a gate", |&open| open);
    }

    pub(crate) fn open(&self) {
        *lock(&self.0.0) = true;
        self.0.1.notify();
    }

    pub(crate) fn is_open(&self) -> bool {
        *lock(&self.0.0)
    }

    /// Opens the gate when dropped: declared after a stage, it lets a failed test end.
    pub(crate) fn opener(&self) -> Opener {
        Opener(self.clone())
    }
}

/// See [`Gate::opener`].
#[derive(Debug)]
pub(crate) struct Opener(Gate);

impl Drop for Opener {
    fn drop(&mut self) {
        self.0.open();
    }
}

/// A count that can be awaited.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counter(Arc<(Mutex<usize>, Notifier)>);

impl Counter {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Counts one more and returns the new count.
    pub(crate) fn add(&self) -> usize {
        let mut count = lock(&self.0.0);
        *count += 1;
        self.0.1.notify();
        *count
    }

    pub(crate) fn get(&self) -> usize {
        *lock(&self.0.0)
    }

    /// Blocks until the count is at least `n`.
    pub(crate) fn wait_for(&self, n: usize) {
        let what = format!("a count of {n}");
        let (count, notifier) = &*self.0;
        notifier.wait_until(lock(count), &what, |&count| count >= n);
    }

    /// A value whose drop is counted.
    pub(crate) fn on_drop(&self) -> OnDrop {
        OnDrop(self.clone())
    }

    /// A value whose drop is counted and then panics with [`Bang`], even while the thread unwinds: if two such
    /// panics meet, the process aborts. The drop of number 0 does neither.
    pub(crate) fn stubborn(&self, id: u64) -> Stubborn {
        Stubborn(id, self.clone())
    }
}

/// See [`Counter::on_drop`].
#[derive(Debug)]
pub(crate) struct OnDrop(Counter);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.add();
    }
}

/// See [`Counter::stubborn`].
#[derive(Debug)]
pub(crate) struct Stubborn(u64, Counter);

impl Stubborn {
    pub(crate) fn id(&self) -> u64 {
        self.0
    }
}

impl Drop for Stubborn {
    fn drop(&mut self) {
        if self.0 > 0 {
            self.1.add();
            bang(self.0);
        }
    }
}

/// Measures how many closures run at once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meter(Arc<(Mutex<Running>, Notifier)>);

#[derive(Debug, Default)]
struct Running {
    now: usize,
    most: usize,
}

impl Meter {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Counts a closure as running until the guard is dropped.
    pub(crate) fn enter(&self) -> Entered {
        let mut running = lock(&self.0.0);
        running.now += 1;
        running.most = running.most.max(running.now);
        self.0.1.notify();
        Entered(self.clone())
    }

    /// Enters, and stays until `n` have been in here at once.
    pub(crate) fn meet(&self, n: usize) {
        let _entered = self.enter();
        let what = format!("{n} at once");
        let (running, notifier) = &*self.0;
        notifier.wait_until(lock(running), &what, |running| running.most >= n);
    }

    /// The largest number that ever ran at once.
    pub(crate) fn most(&self) -> usize {
        lock(&self.0.0).most
    }

    /// Blocks until `n` run at this moment.
    pub(crate) fn wait_for(&self, n: usize) {
        let what = format!("{n} running");
        let (running, notifier) = &*self.0;
        notifier.wait_until(lock(running), &what, |running| running.now >= n);
    }
}

/// See [`Meter::enter`].
#[derive(Debug)]
pub(crate) struct Entered(Meter);

impl Drop for Entered {
    fn drop(&mut self) {
        lock(&(self.0).0.0).now -= 1;
    }
}

/// Counts, id by id, what is created and what is dropped.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger(Arc<Mutex<BTreeMap<u64, Life>>>);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Life {
    created: u32,
    dropped: u32,
}

impl Ledger {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// A value whose drop is counted.
    pub(crate) fn track(&self, id: u64) -> Tracked {
        lock(&self.0).entry(id).or_default().created += 1;
        Tracked {
            id,
            bomb: false,
            stubborn: false,
            ledger: self.clone(),
        }
    }

    /// A value whose drop is counted and then panics with [`Bang`], unless a panic is under way.
    pub(crate) fn bomb(&self, id: u64) -> Tracked {
        let mut value = self.track(id);
        value.bomb = true;
        value
    }

    /// Like [`bomb`](Self::bomb), but its drop panics even while the thread unwinds: if two such panics meet, the
    /// process aborts.
    pub(crate) fn stubborn(&self, id: u64) -> Tracked {
        let mut value = self.track(id);
        value.stubborn = true;
        value
    }

    /// How many values exist.
    pub(crate) fn alive(&self) -> usize {
        let alive = |life: &Life| life.created.saturating_sub(life.dropped) as usize;
        lock(&self.0).values().map(alive).sum()
    }

    /// How many values were ever created.
    pub(crate) fn created(&self) -> usize {
        lock(&self.0)
            .values()
            .map(|life| life.created as usize)
            .sum()
    }

    /// Fails unless every id was created once and dropped once.
    #[track_caller]
    pub(crate) fn assert_dropped_once(&self) {
        let once = Life {
            created: 1,
            dropped: 1,
        };
        let odd: Vec<(u64, Life)> = lock(&self.0)
            .iter()
            .filter(|(_, life)| **life != once)
            .map(|(id, life)| (*id, *life))
            .collect();
        assert!(odd.is_empty(), "not dropped exactly once: {odd:?}");
    }
}

/// See [`Ledger::track`]. It cannot be cloned.
#[derive(Debug)]
pub(crate) struct Tracked {
    pub(crate) id: u64,
    bomb: bool,
    stubborn: bool,
    ledger: Ledger,
}

impl Drop for Tracked {
    fn drop(&mut self) {
        lock(&self.ledger.0).entry(self.id).or_default().dropped += 1;
        if self.stubborn || self.bomb && !std::thread::panicking() {
            bang(self.id);
        }
    }
}

/// Our own panic payload: proof that the original payload arrives.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Bang(pub(crate) u64);

/// Panics with [`Bang`], without output on stderr.
pub(crate) fn bang(id: u64) -> ! {
    resume_unwind(Box::new(Bang(id)))
}

/// Runs `f` and returns its result, or the id of the [`Bang`] it panicked with. Any other payload is
/// raised again.
pub(crate) fn caught<T>(f: impl FnOnce() -> T) -> Result<T, u64> {
    payload(f).map_err(|payload| match payload.downcast::<Bang>() {
        Ok(bang) => bang.0,
        Err(other) => resume_unwind(other),
    })
}

/// Runs `f` and returns its result, or the payload it panicked with.
pub(crate) fn payload<T>(f: impl FnOnce() -> T) -> Result<T, Box<dyn Any + Send>> {
    catch_unwind(AssertUnwindSafe(f))
}

/// The message of a panic.
#[track_caller]
pub(crate) fn message<T>(f: impl FnOnce() -> T) -> String {
    let payload = payload(f).err().expect("a panic");
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => (*payload.downcast::<&str>().expect("a text")).to_owned(),
    }
}

/// A number that looks random, the same for the same seed.
pub(crate) fn mix(seed: u64) -> u64 {
    let mut x = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Keeps the CPU busy for about this long.
pub(crate) fn spin(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        std::hint::spin_loop();
    }
}

/// Takes a random time: mostly none, sometimes a few microseconds of work, sometimes a short sleep.
pub(crate) fn dawdle(seed: u64) {
    let random = mix(seed);
    let micros = Duration::from_micros(random >> 8 & 127);
    match random & 31 {
        0 => std::thread::sleep(micros),
        1..=3 => spin(micros / 4),
        _ => {}
    }
}

/// Counts the items that come out of `inner`.
pub(crate) fn counted<I: Iterator>(inner: I, items: &Counter) -> Counted<I> {
    Counted {
        inner,
        items: items.clone(),
        calls: Counter::new(),
    }
}

/// Counts the calls of `inner.next()`, at their start.
pub(crate) fn calls_counted<I: Iterator>(inner: I, calls: &Counter) -> Counted<I> {
    Counted {
        inner,
        items: Counter::new(),
        calls: calls.clone(),
    }
}

/// See [`counted`] and [`calls_counted`].
#[derive(Debug)]
pub(crate) struct Counted<I> {
    inner: I,
    items: Counter,
    calls: Counter,
}

impl<I: Iterator> Iterator for Counted<I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        self.calls.add();
        let item = self.inner.next()?;
        self.items.add();
        Some(item)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.inner.size_hint()
    }
}

/// No items, but a `next()` that blocks until the gate is open. To be chained after other sources.
pub(crate) fn blocks<T>(gate: &Gate) -> impl Iterator<Item = T> + Send + use<T> {
    let gate = gate.clone();
    std::iter::from_fn(move || {
        gate.wait();
        None
    })
}

/// No items, but a `next()` that blocks until [`CancelToken::current`] is tripped. To be chained after other sources.
pub(crate) fn listens<T>() -> impl Iterator<Item = T> + Send + use<T> {
    std::iter::from_fn(|| {
        CancelToken::current().wait();
        None
    })
}

/// Panics with [`Bang`] in place of item `k`, and counts every call of `next()`.
pub(crate) fn panics_at(k: u64, calls: &Counter) -> impl Iterator<Item = u64> + Send + use<> {
    let calls = calls.clone();
    (0..).inspect(move |&i| {
        calls.add();
        if i == k {
            bang(i);
        }
    })
}

/// An iterator whose `size_hint` is whatever it is told.
#[derive(Clone, Debug)]
pub(crate) struct Lying<I> {
    pub(crate) inner: I,
    pub(crate) hint: (usize, Option<usize>),
}

impl<I: Iterator> Iterator for Lying<I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        self.inner.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.hint
    }
}

/// Pushes what a source gives into a stage, as a loop of the user's would, and yields the outputs: first what is ready,
/// and items only as long as there is room. A panic of the source comes behind all outputs.
pub(crate) fn pushing<I, J>(
    mut source: I,
    stage: Stage<Par<Pushed<I::Item>, J>>,
) -> impl Iterator<Item = J::Output>
where
    I: Iterator<Item: Send + 'static>,
    J: Job<I::Item> + 'static,
{
    let (mut stage, mut waiting, mut raised) = (Some(stage), None, None);
    let mut is_over = false;
    let outputs = std::iter::from_fn(move || {
        loop {
            let pushed = stage.as_mut()?;
            if let Some(output) = pushed.try_next() {
                return Some(output);
            }
            if is_over {
                let output = pushed.next();
                if let Some(raised) = raised.take_if(|_| output.is_none()) {
                    resume_unwind(raised);
                }
                return output;
            }
            let pulled = match waiting.take() {
                None => payload(|| source.next()),
                item => Ok(item),
            };
            match pulled {
                Ok(Some(item)) => {
                    waiting = pushed.try_push(item).err();
                    if waiting.is_some() {
                        return pushed.next();
                    }
                }
                over => {
                    is_over = true;
                    raised = over.err();
                    stage = stage.take().map(|stage| stage.finish());
                }
            }
        }
    });
    Ending {
        inner: outputs,
        is_over: false,
    }
}

/// An iterator that knows its length when it has ended.
struct Ending<I> {
    inner: I,
    is_over: bool,
}

impl<I: Iterator> Iterator for Ending<I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        let item = self.inner.next();
        self.is_over = item.is_none();
        item
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, self.is_over.then_some(0))
    }
}

/// Yields exactly what the script says, then `None`; counts the calls.
#[derive(Debug)]
pub(crate) struct Script<T> {
    lines: std::vec::IntoIter<Option<T>>,
    calls: Counter,
}

impl<T> Script<T> {
    pub(crate) fn new(lines: impl Into<Vec<Option<T>>>, calls: &Counter) -> Self {
        Script {
            lines: lines.into().into_iter(),
            calls: calls.clone(),
        }
    }
}

impl<T> Iterator for Script<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.calls.add();
        self.lines.next().flatten()
    }
}
