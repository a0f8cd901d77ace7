//! `merge`: several sources, each on a separate thread, into one stream in the order of arrival.

mod handle;
mod options;
mod report;

pub use self::handle::MergeHandle;
pub use self::options::SourceOptions;
pub use self::report::MergeReport;

use self::handle::{Additions, Admission, Door, LiveSource, SourceEntry};
use self::options::checked;
use self::report::LiveMark;
use crate::error::NotReady;
use crate::fan_in::front::{Front, Got};
use crate::fan_in::lane::{LaneOpts, Message};
use crate::fan_in::turns::Rule;
use crate::runtime::plan::{Common, Ending, Plan, Running, unwanted};
use crate::runtime::scope::StartPermit;
use crate::runtime::trace::resume_unwind;
use crate::size_hint::{self, Hint};
use crate::stage::Stage;
use crate::sync::{Arc, AtomicBool, Instant, Mutex, Ordering};
use std::fmt;

/// Several sources as one; made by [`merge`] and [`Merge::new`].
///
/// Options, terminal calls and what its drop waits for: see [`Stage`].
pub type Merge<'s, T> = Stage<MergePlan<'s, T>>;

/// How many items of each source are pulled ahead by default.
const BUFFER: usize = 64;

/// Merges sources of one type: a thread pulls each source, and the items are yielded as they arrive.
///
/// The items of one source keep their order. Across sources there is only the order of arrival;
/// sources that have something take turns, so that none starves. A source that blocks does not
/// delay the others, and one that ends or panics leaves the others running. Lazy: nothing is pulled
/// before the first `next()`. At most [`buffer`](Merge::buffer) items of each source are pulled and
/// not yet taken. Ends when all sources have ended. For sources of different types and for options
/// of a single source see [`Merge::new`]. The drop waits for every source that is in its `next()`:
/// one that checks [`CancelToken::current`](crate::CancelToken::current), as `recv` does, returns at
/// once, an [`mpsc::Receiver`](std::sync::mpsc::Receiver) when its sender sends or hangs up.
///
/// # Panics
///
/// A panic of a source is raised when it arrives, after the source's earlier items. The other
/// sources go on: call `next()` again.
///
/// # Complexity
///
/// One leased thread per source, unless [`max_threads`](Merge::max_threads) lowers it. About 100 ns
/// per item, however many sources there are.
///
/// # Examples
///
/// ```
/// let mut all: Vec<u32> = fanfold::merge([1..=3, 10..=12]).collect();
/// all.sort();
/// assert_eq!(all, [1, 2, 3, 10, 11, 12]);
/// ```
#[doc(alias("select", "select_all", "interleave", "fan_in", "flatten_unordered"))]
pub fn merge<'s, I>(sources: impl IntoIterator<Item = I>) -> Merge<'s, I::Item>
where
    I: IntoIterator<Item: Send, IntoIter: Send + 's>,
{
    sources.into_iter().fold(Merge::new(), Merge::source)
}

/// The plan of a [`Merge`].
pub struct MergePlan<'s, T> {
    sources: Vec<SourceEntry<'s, T>>,
    buffer: usize,
    max_threads: usize,
    rule: Rule,
    report: MergeReport,
    door: Option<Door<'s, T>>,
}

impl<T> fmt::Debug for MergePlan<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MergePlan")
            .field("sources", &self.sources.len())
            .finish_non_exhaustive()
    }
}

/// As [`Merge::new`].
impl<T: Send> Default for Merge<'_, T> {
    fn default() -> Self {
        Merge::new()
    }
}

impl<'s, T: Send> Merge<'s, T> {
    /// Makes an empty merge, to which sources of any types can be added.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::{Merge, SourceOptions};
    ///
    /// let words = ["a", "b"].into_iter().map(str::to_owned);
    /// let numbers = (1..=4).map(|n| n.to_string());
    /// let merge = Merge::new()
    ///     .source(words)
    ///     .source_with(numbers, SourceOptions::new().weight(2));
    /// assert_eq!(merge.count(), 6);
    /// ```
    #[doc(alias = "builder")]
    pub fn new() -> Self {
        Stage::of(MergePlan {
            sources: Vec::new(),
            buffer: BUFFER,
            max_threads: usize::MAX,
            rule: Rule::Turns,
            report: MergeReport::default(),
            door: None,
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

    /// Adds a source with its own options.
    ///
    /// # Panics
    ///
    /// After the first `next()`.
    #[track_caller]
    pub fn source_with<I>(self, source: I, options: SourceOptions) -> Self
    where
        I: IntoIterator<Item = T, IntoIter: Send + 's>,
    {
        self.with(|plan| {
            let source = LiveSource {
                iter: Box::new(source.into_iter()),
                life: LiveMark::new(&plan.report.0),
            };
            plan.sources.push((source, options));
        })
    }

    /// Yields an item of a source only while no source added before it has one ready.
    ///
    /// By default sources take turns. Every source is still pulled ahead into its buffer. A source
    /// that always has something ready starves those after it, as strict priority implies.
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
    /// let merge = Merge::new().source(urgent).source(["later"; 3]).strict_priority();
    /// assert_eq!(merge.count(), 4);
    /// ```
    #[track_caller]
    pub fn strict_priority(self) -> Self {
        self.with(|plan| plan.rule = Rule::Priority)
    }

    /// Sets how many items of each source may be pulled and not yet taken; 64 by default.
    ///
    /// # Panics
    ///
    /// If `items` is 0, or after the first `next()`.
    #[track_caller]
    pub fn buffer(self, items: usize) -> Self {
        let items = checked(items);
        self.with(|plan| plan.buffer = items)
    }

    /// Leases at most `threads` threads, however many sources there are; one per source by default.
    ///
    /// The threads go from source to source, item by item. If as many sources are silent as there
    /// are threads, they hold up all the others until one of them gives something.
    ///
    /// # Panics
    ///
    /// If `threads` is 0, or after the first `next()`.
    ///
    /// # Examples
    ///
    /// ```
    /// let merge = fanfold::merge((0..100).map(|i| i..i + 10)).max_threads(4);
    /// assert_eq!(merge.count(), 1_000);
    /// ```
    #[doc(alias = "at_most")]
    #[track_caller]
    pub fn max_threads(self, threads: usize) -> Self {
        assert!(
            threads > 0,
            "a merge needs at least 1 thread: leave max_threads out for one per source"
        );
        self.with(|plan| plan.max_threads = threads)
    }

    /// Makes a report that can be read from any thread, for example for a dashboard.
    ///
    /// # Panics
    ///
    /// After the first `next()`.
    #[track_caller]
    pub fn report(&mut self) -> MergeReport {
        self.plan().report.clone()
    }

    /// Makes a handle that adds sources, even while the merge runs.
    ///
    /// A merge with handles ends when its last handle has been dropped and the last source has ended, or
    /// by a token of [`drain_on`](Stage::drain_on) or [`cancel_on`](Stage::cancel_on).
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
            Door(Arc::new(Additions {
                tally: Arc::clone(tally),
                news: AtomicBool::new(false),
                state: Mutex::new(Admission {
                    waiting: Vec::new(),
                    handles: 0,
                    closed: false,
                    event: None,
                }),
            }))
        });
        intake.state.lock().handles += 1;
        MergeHandle(Arc::clone(intake))
    }
}

/// The running state of a [`Merge`].
pub struct MergeIter<'s, T> {
    front: Front<LiveSource<'s, T>>,
    /// The name and life of each lane.
    lanes: Vec<(String, Arc<LiveMark>)>,
    buffer: usize,
    report: MergeReport,
    door: Option<Door<'s, T>>,
    /// Sources may still be added.
    growing: bool,
}

impl<T> fmt::Debug for MergeIter<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MergeIter")
            .field("lanes", &self.lanes.len())
            .finish_non_exhaustive()
    }
}

impl<'s, T: Send> MergeIter<'s, T> {
    fn add(&mut self, (source, options): SourceEntry<'s, T>) {
        let index = self.lanes.len();
        let name = options.name.unwrap_or_else(|| format!("source {index}"));
        self.lanes.push((name, Arc::clone(&source.life)));
        let opts = LaneOpts {
            weight: options.weight.unwrap_or(1),
            timeout: options.timeout,
            ..LaneOpts::new(options.buffer.unwrap_or(self.buffer))
        };
        self.front.add(source, opts);
    }

    /// Adds the sources that the handles have passed in.
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
        self.next_until(None).ok()?
    }

    fn size_hint(&self) -> Hint {
        self.front.size_hint()
    }
}

impl<T: Send> Running for MergeIter<'_, T> {
    fn next_until(&mut self, until: Option<Instant>) -> Result<Option<T>, NotReady> {
        loop {
            self.admit();
            let growing = self.growing;
            let door = self.door.as_ref();
            let news = || door.is_some_and(|door| door.0.news.load(Ordering::Acquire));
            match self.front.next(until, growing, news) {
                Got::Message(_, Message::Item(item)) => return Ok(Some(item)),
                Got::Message(_, Message::Panic(panic)) => resume_unwind(panic),
                Got::Message(index, Message::TimedOut) => self.timed_out(index),
                Got::Message(_, Message::End) => {}
                Got::Unwanted => return unwanted(until),
                Got::Late if news() => {}
                Got::Late => return Err(NotReady::new(None)),
                Got::Over => {
                    self.door = None;
                    return Ok(None);
                }
            }
        }
    }

    fn ending(&self) -> &dyn Ending {
        self.front.ending()
    }
}

impl<'s, T: Send> Plan for MergePlan<'s, T> {
    type Output = T;
    type Running = MergeIter<'s, T>;

    const NAME: &'static str = "merge";

    fn size_hint(&self) -> Hint {
        let hints = self.sources.iter().map(|(source, options)| {
            let (low, high) = source.iter.size_hint();
            (if options.timeout.is_some() { 0 } else { low }, high)
        });
        let (low, high) = size_hint::sum(hints);
        (low, high.filter(|_| self.door.is_none()))
    }

    fn start(self, common: Common, start_permit: StartPermit) -> Option<Box<MergeIter<'s, T>>> {
        let hint = self.size_hint();
        let front = Front::start(
            start_permit,
            common,
            Self::NAME,
            self.rule,
            self.max_threads,
            hint,
        )?;
        if let Some(Door(intake)) = &self.door {
            intake.state.lock().event = Some(Arc::clone(front.event()));
            intake.news.store(true, Ordering::Release);
        }
        let mut running = Box::new(MergeIter {
            front,
            lanes: Vec::with_capacity(self.sources.len()),
            buffer: self.buffer,
            report: self.report,
            growing: self.door.is_some(),
            door: self.door,
        });
        for entry in self.sources {
            running.add(entry);
        }
        Some(running)
    }
}
