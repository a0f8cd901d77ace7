//! `merge`: several sources, each on a thread of its own, into one stream in the order of arrival.

use crate::engine::bell::Bell;
use crate::engine::erase::{Seed, Start};
use crate::engine::hub::{Common, Event, Front, Got, LaneOpts, Rule};
use crate::error::Cancelled;
use crate::fed::{Fed, Feed};
use crate::sync::{Arc, AtomicBool, AtomicUsize, Mutex, Ordering};
use std::fmt;
use std::panic::resume_unwind;
use std::time::Duration;

/// Several sources as one; made by [`merge`] and [`Merge::builder`].
///
/// Options, terminal calls and what its drop waits for: see [`Fed`].
pub type Merge<'s, T> = Fed<Merging<'s, T>>;

/// So many items of each source are pulled ahead, if nothing else is said.
const BUFFER: usize = 64;

/// Merges sources of one type: each is pulled on a thread of its own, and the items come as they
/// arrive.
///
/// The items of one source keep their order; between sources there is none but that of arrival,
/// and sources that have something take turns, so that none starves. A source that blocks delays no
/// other, and one that ends or panics leaves the others running. Lazy: nothing is pulled before the
/// first `next()`. Of each source at most [`buffer`](Merge::buffer) items are pulled and not yet taken.
/// Ends when all sources have. For unlike sources and for options of one of them see
/// [`Merge::builder`]. The drop waits for every source that is in its `next()`: one that looks at
/// [`CancelToken::current`](crate::CancelToken::current) comes out at once, an
/// [`mpsc::Receiver`](std::sync::mpsc::Receiver) when its sender sends or hangs up.
///
/// # Panics
///
/// A panic of a source is raised when it arrives, after what the source gave before; the others
/// go on: call `next()` again.
///
/// # Complexity
///
/// One leased thread a source, unless [`at_most`](Merge::at_most) says less. An item costs some
/// 100 ns, however many sources there are.
///
/// # Examples
///
/// ```
/// let mut all: Vec<u32> = fanfold::merge([1..=3, 10..=12]).collect();
/// all.sort();
/// assert_eq!(all, [1, 2, 3, 10, 11, 12]);
/// ```
pub fn merge<'s, I>(sources: impl IntoIterator<Item = I>) -> Merge<'s, I::Item>
where
    I: IntoIterator<Item: Send, IntoIter: Send + 's>,
{
    sources.into_iter().fold(Merge::builder(), Merge::source)
}

/// What is said of one source of a [`Merge`].
///
/// # Examples
///
/// ```
/// use fanfold::{Merge, SourceOptions};
/// use std::time::Duration;
///
/// let patient = SourceOptions::new().named("sensor").timeout(Duration::from_secs(60));
/// let merge = Merge::builder().source_with(1..3, patient);
/// assert_eq!(merge.count(), 2);
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "it does nothing until it is given to a merge"]
pub struct SourceOptions {
    name: Option<String>,
    weight: Option<u32>,
    timeout: Option<Duration>,
    buffer: Option<usize>,
}

impl SourceOptions {
    /// Nothing special.
    pub fn new() -> Self {
        SourceOptions::default()
    }

    /// The name in reports; `source 0`, `source 1`, … by default.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// How many items the source may give in a round; 1 by default.
    ///
    /// A round ends when every source that has something has given its share. So of sources that
    /// always have something each gets its share of every round, and none starves.
    ///
    /// # Panics
    ///
    /// If it is 0.
    #[track_caller]
    pub fn weight(mut self, weight: u32) -> Self {
        assert!(
            weight > 0,
            "the weight of a source must be at least 1: write 1, and more for the others"
        );
        self.weight = Some(weight);
        self
    }

    /// Drops the source when it has been silent for longer than this, and says so in the
    /// [report](MergeReport::timed_out).
    ///
    /// The time runs while the source's `next()` runs, anew for each item; the time in which a full
    /// buffer keeps it waiting does not count. Its thread cannot be taken out of it, and is waited for
    /// when the merge is dropped; [`CancelToken::current`](crate::CancelToken::current) is tripped for
    /// it, so a source that looks at that comes out at once. A channel does not look at it, so the drop
    /// waits for its sender; `docs/operators.md` has a receiver that does.
    ///
    /// # Panics
    ///
    /// If it is zero.
    #[track_caller]
    pub fn timeout(mut self, time: Duration) -> Self {
        assert!(
            !time.is_zero(),
            "the time-out of a source must be more than zero: leave it out for no limit"
        );
        self.timeout = Some(time);
        self
    }

    /// How many items may be pulled and not yet taken; overrides [`Merge::buffer`].
    ///
    /// # Panics
    ///
    /// If it is 0.
    #[track_caller]
    pub fn buffer(mut self, items: usize) -> Self {
        self.buffer = Some(checked(items));
        self
    }
}

#[track_caller]
fn checked(buffer: usize) -> usize {
    assert!(
        buffer > 0,
        "the buffer of a source must be at least 1: write buffer(1) for one item ahead"
    );
    buffer
}

/// How a merge fares; can be asked from any thread, made by [`Merge::report`].
///
/// # Examples
///
/// ```
/// let mut merge = fanfold::merge([0..2, 2..4]);
/// let report = merge.report();
/// assert_eq!(report.live(), 2);
/// assert_eq!(merge.by_ref().count(), 4);
/// assert_eq!(report.live(), 0);
/// assert!(report.timed_out().is_empty());
/// ```
#[derive(Clone, Debug, Default)]
pub struct MergeReport(Arc<Tally>);

#[derive(Debug, Default)]
struct Tally {
    live: AtomicUsize,
    timed_out: Mutex<Vec<String>>,
}

impl MergeReport {
    /// How many sources have neither ended nor timed out. Those that wait for their start count.
    pub fn live(&self) -> usize {
        self.0.live.load(Ordering::Relaxed)
    }

    /// The names of the sources that were dropped for their silence, in the order in which that
    /// happened.
    pub fn timed_out(&self) -> Vec<String> {
        self.0.timed_out.lock().clone()
    }
}

/// Counts a source as live, until it is over for the first reason.
#[derive(Debug)]
struct Life {
    lives: AtomicBool,
    tally: Arc<Tally>,
}

impl Life {
    fn new(tally: &Arc<Tally>) -> Arc<Self> {
        tally.live.fetch_add(1, Ordering::Relaxed);
        Arc::new(Life {
            lives: AtomicBool::new(true),
            tally: Arc::clone(tally),
        })
    }

    fn over(&self) {
        if self.lives.swap(false, Ordering::Relaxed) {
            self.tally.live.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// A source of whatever type. Its drop is the end of its life.
struct Source<'s, T> {
    iter: Box<dyn Iterator<Item = T> + Send + 's>,
    life: Arc<Life>,
}

impl<T> Iterator for Source<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.iter.next()
    }
}

impl<T> Drop for Source<'_, T> {
    fn drop(&mut self) {
        self.life.over();
    }
}

/// A source and what was said of it.
type Entry<'s, T> = (Source<'s, T>, SourceOptions);

/// What a [`Merge`] is before it runs.
pub struct Merging<'s, T> {
    sources: Vec<Entry<'s, T>>,
    buffer: usize,
    at_most: usize,
    rule: Rule,
    report: MergeReport,
    door: Option<Door<'s, T>>,
    common: Common,
}

impl<T> fmt::Debug for Merging<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Merging")
            .field("sources", &self.sources.len())
            .finish_non_exhaustive()
    }
}

impl<'s, T: Send> Merge<'s, T> {
    /// An empty merge, to which sources of any types are added.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::{Merge, SourceOptions};
    ///
    /// let words = ["a", "b"].into_iter().map(str::to_owned);
    /// let numbers = (1..=4).map(|n| n.to_string());
    /// let merge = Merge::builder()
    ///     .source(words)
    ///     .source_with(numbers, SourceOptions::new().weight(2));
    /// assert_eq!(merge.count(), 6);
    /// ```
    pub fn builder() -> Self {
        Fed::new(Merging {
            sources: Vec::new(),
            buffer: BUFFER,
            at_most: usize::MAX,
            rule: Rule::Turns,
            report: MergeReport::default(),
            door: None,
            common: Common::default(),
        })
    }

    /// Adds a source.
    ///
    /// # Panics
    ///
    /// After the first `next()`.
    #[track_caller]
    pub fn source<I>(self, source: I) -> Self
    where
        I: IntoIterator<Item = T, IntoIter: Send + 's>,
    {
        self.source_with(source, SourceOptions::new())
    }

    /// Adds a source with options of its own.
    ///
    /// # Panics
    ///
    /// After the first `next()`.
    #[track_caller]
    pub fn source_with<I>(self, source: I, options: SourceOptions) -> Self
    where
        I: IntoIterator<Item = T, IntoIter: Send + 's>,
    {
        self.set(|plan| {
            let source = Source {
                iter: Box::new(source.into_iter()),
                life: Life::new(&plan.report.0),
            };
            plan.sources.push((source, options));
        })
    }

    /// Yields an item of a source only while none that was added before it has one ready.
    ///
    /// By default sources take turns. Every source is still pulled ahead into its buffer. A source
    /// that always has something ready starves those after it: that is what strict priority means.
    ///
    /// # Panics
    ///
    /// After the first `next()`.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Merge;
    ///
    /// let urgent = ["now"].into_iter();
    /// let merge = Merge::builder().source(urgent).source(["later"; 3]).strict_priority();
    /// assert_eq!(merge.count(), 4);
    /// ```
    #[track_caller]
    pub fn strict_priority(self) -> Self {
        self.set(|plan| plan.rule = Rule::Priority)
    }

    /// How many items of each source may be pulled and not yet taken; 64 by default.
    ///
    /// # Panics
    ///
    /// If it is 0, or after the first `next()`.
    #[track_caller]
    pub fn buffer(self, items: usize) -> Self {
        let items = checked(items);
        self.set(|plan| plan.buffer = items)
    }

    /// Leases no more than `threads` threads, however many sources there are; one a source by
    /// default.
    ///
    /// The threads go from source to source, item by item. The price: as many silent sources as
    /// there are threads hold up all the others until one of them gives something.
    ///
    /// # Panics
    ///
    /// If it is 0, or after the first `next()`.
    ///
    /// # Examples
    ///
    /// ```
    /// let merge = fanfold::merge((0..100).map(|i| i..i + 10)).at_most(4);
    /// assert_eq!(merge.count(), 1_000);
    /// ```
    #[track_caller]
    pub fn at_most(self, threads: usize) -> Self {
        assert!(
            threads > 0,
            "a merge needs at least 1 thread: leave at_most out for one a source"
        );
        self.set(|plan| plan.at_most = threads)
    }

    /// A report that can be read from any thread, for a dashboard.
    ///
    /// # Panics
    ///
    /// After the first `next()`.
    #[track_caller]
    pub fn report(&mut self) -> MergeReport {
        self.plan().report.clone()
    }

    /// A handle that adds sources, also while the merge runs.
    ///
    /// With a handle the merge ends when the last of its handles has been dropped and the last source has
    /// ended.
    ///
    /// # Panics
    ///
    /// After the first `next()`.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut merge = fanfold::merge([0..2]);
    /// let handle = merge.handle();
    /// assert_eq!(merge.next(), Some(0));
    /// handle.add(10..12).unwrap();
    /// drop(handle);
    /// let mut rest: Vec<u32> = merge.collect();
    /// rest.sort();
    /// assert_eq!(rest, [1, 10, 11]);
    /// ```
    #[track_caller]
    pub fn handle(&mut self) -> MergeHandle<'s, T> {
        let plan = self.plan();
        let tally = &plan.report.0;
        let Door(intake) = plan.door.get_or_insert_with(|| {
            Door(Arc::new(Intake {
                tally: Arc::clone(tally),
                news: AtomicBool::new(false),
                state: Mutex::new(Admission {
                    waiting: Vec::new(),
                    handles: 0,
                    closed: false,
                    bell: None,
                }),
            }))
        });
        intake.state.lock().handles += 1;
        MergeHandle(Arc::clone(intake))
    }
}

/// Where sources wait that a handle has added. The merge takes them in when it looks for its next
/// item; the bell calls it to do so.
struct Intake<'s, T> {
    tally: Arc<Tally>,
    /// Something here has changed since the merge looked.
    news: AtomicBool,
    state: Mutex<Admission<'s, T>>,
}

struct Admission<'s, T> {
    waiting: Vec<Entry<'s, T>>,
    handles: usize,
    /// The merge is over.
    closed: bool,
    bell: Option<Arc<Bell>>,
}

impl<T> Intake<'_, T> {
    /// Something has changed under the lock.
    fn tell(&self, bell: Option<Arc<Bell>>) {
        self.news.store(true, Ordering::Release);
        if let Some(bell) = bell {
            bell.ring();
        }
    }
}

/// The merge's end of the intake: its drop closes it.
struct Door<'s, T>(Arc<Intake<'s, T>>);

impl<T> Drop for Door<'_, T> {
    fn drop(&mut self) {
        let waiting = {
            let mut state = self.0.state.lock();
            state.closed = true;
            std::mem::take(&mut state.waiting)
        };
        drop(waiting); // not under the lock: it is user code
    }
}

/// Adds sources to a running merge; made by [`Merge::handle`]. Cheap to clone; works from any thread.
pub struct MergeHandle<'s, T>(Arc<Intake<'s, T>>);

impl<T> fmt::Debug for MergeHandle<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MergeHandle").finish_non_exhaustive()
    }
}

impl<T> Clone for MergeHandle<'_, T> {
    fn clone(&self) -> Self {
        self.0.state.lock().handles += 1;
        MergeHandle(Arc::clone(&self.0))
    }
}

impl<T> Drop for MergeHandle<'_, T> {
    fn drop(&mut self) {
        let bell = {
            let mut state = self.0.state.lock();
            state.handles -= 1;
            state.bell.clone()
        };
        self.0.tell(bell);
    }
}

impl<'s, T> MergeHandle<'s, T> {
    /// Adds a source. It is pulled from the next time on that the merge is asked for an item, or at
    /// once if somebody waits for one.
    ///
    /// # Errors
    ///
    /// Gives the source back if the merge is over or was dropped.
    pub fn add<I>(&self, source: I) -> Result<(), I::IntoIter>
    where
        I: IntoIterator<Item = T, IntoIter: Send + 's>,
    {
        self.add_with(source, SourceOptions::new())
    }

    /// Adds a source with options of its own.
    ///
    /// # Errors
    ///
    /// Gives the source back if the merge is over or was dropped.
    pub fn add_with<I>(&self, source: I, options: SourceOptions) -> Result<(), I::IntoIter>
    where
        I: IntoIterator<Item = T, IntoIter: Send + 's>,
    {
        let iter = source.into_iter();
        let bell = {
            let mut state = self.0.state.lock();
            if state.closed {
                return Err(iter);
            }
            let source = Source {
                iter: Box::new(iter),
                life: Life::new(&self.0.tally),
            };
            state.waiting.push((source, options));
            state.bell.clone()
        };
        self.0.tell(bell);
        Ok(())
    }
}

/// What a [`Merge`] is while it runs.
pub struct MergeIter<'s, T> {
    /// `None`: the scope was over before it began.
    front: Option<Front<Source<'s, T>>>,
    /// Of each lane.
    lanes: Vec<(String, Arc<Life>)>,
    buffer: usize,
    report: MergeReport,
    door: Option<Door<'s, T>>,
    /// Sources may still be added.
    growing: bool,
    left: (usize, Option<usize>),
}

impl<T> fmt::Debug for MergeIter<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MergeIter")
            .field("lanes", &self.lanes.len())
            .finish_non_exhaustive()
    }
}

impl<'s, T: Send> MergeIter<'s, T> {
    fn add(&mut self, (source, options): Entry<'s, T>) {
        let Some(front) = &mut self.front else { return };
        let index = self.lanes.len();
        let name = options.name.unwrap_or_else(|| format!("source {index}"));
        self.lanes.push((name, Arc::clone(&source.life)));
        let opts = LaneOpts {
            weight: options.weight.unwrap_or(1),
            timeout: options.timeout,
            ..LaneOpts::new(options.buffer.unwrap_or(self.buffer))
        };
        front.add(source, opts);
    }

    /// Takes in what the handles have added.
    fn admit(&mut self) {
        let Some(Door(intake)) = &self.door else {
            return;
        };
        if intake.news.swap(false, Ordering::Acquire) {
            let waiting = {
                let mut state = intake.state.lock();
                self.growing = state.handles > 0;
                std::mem::take(&mut state.waiting)
            };
            for entry in waiting {
                self.add(entry);
            }
        }
    }

    fn timed_out(&mut self, index: usize) {
        let (name, life) = &self.lanes[index];
        life.over();
        self.report.0.timed_out.lock().push(name.clone());
    }
}

impl<T: Send> Iterator for MergeIter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        loop {
            self.admit();
            let growing = self.growing;
            let door = self.door.as_ref();
            let news = || door.is_some_and(|door| door.0.news.load(Ordering::Acquire));
            match self.front.as_mut()?.next(None, growing, news) {
                Got::Event(_, Event::Item(item)) => {
                    let (low, high) = self.left;
                    self.left = (
                        low.saturating_sub(1),
                        high.and_then(|high| high.checked_sub(1)),
                    );
                    return Some(item);
                }
                Got::Event(_, Event::Panic(panic)) => {
                    self.left.0 = 0;
                    resume_unwind(panic)
                }
                Got::Event(index, Event::TimedOut) => self.timed_out(index),
                Got::Event(_, Event::End) | Got::Late => {}
                Got::Unwanted => return None,
                Got::Over => {
                    self.door = None;
                    return None;
                }
            }
        }
    }
}

impl<'s, T: Send> Start for Merging<'s, T> {
    type Output = T;
    type Running = MergeIter<'s, T>;

    fn cut(running: &MergeIter<'s, T>) -> Option<Cancelled> {
        running.front.as_ref()?.cut()
    }

    fn tell_cut(running: &MergeIter<'s, T>) {
        if let Some(front) = &running.front {
            front.tell_cut();
        }
    }

    fn start(self: Box<Self>, seed: Seed) -> Box<MergeIter<'s, T>> {
        let left = self.hint();
        let mut running = Box::new(MergeIter {
            front: Front::start(seed, self.common, "merge", self.rule, self.at_most),
            lanes: Vec::with_capacity(self.sources.len()),
            buffer: self.buffer,
            report: self.report,
            growing: self.door.is_some(),
            door: self.door,
            left,
        });
        if let (Some(front), Some(Door(intake))) = (&running.front, &running.door) {
            intake.state.lock().bell = Some(Arc::clone(front.bell()));
            intake.news.store(true, Ordering::Release);
        }
        for entry in self.sources {
            running.add(entry);
        }
        running
    }
}

impl<T: Send> Feed for Merging<'_, T> {
    const NAME: &'static str = "Merge";

    fn common(&self) -> &Common {
        &self.common
    }

    fn common_mut(&mut self) -> &mut Common {
        &mut self.common
    }

    fn hint(&self) -> (usize, Option<usize>) {
        let exact = |(_, options): &Entry<'_, T>| options.timeout.is_none();
        let hints = self.sources.iter().map(|entry| {
            let (low, high) = entry.0.iter.size_hint();
            (if exact(entry) { low } else { 0 }, high)
        });
        let start = (0, self.door.is_none().then_some(0));
        hints.fold(
            start,
            |(low, high): (usize, Option<usize>), (more, most)| {
                let high = high.zip(most).and_then(|(a, b)| a.checked_add(b));
                (low.saturating_add(more), high)
            },
        )
    }

    fn left(running: &MergeIter<'_, T>) -> (usize, Option<usize>) {
        let front = running.front.as_ref();
        front.map_or((0, Some(0)), |front| front.hint(running.left))
    }
}
