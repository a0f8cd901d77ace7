//! `window(size).max_age(d)`: windows that are also closed by time.

use crate::error::NotReady;
use crate::fan_in::front::{Front, Got};
use crate::fan_in::lane::{LaneOpts, Message};
use crate::fan_in::turns::Rule;
use crate::runtime::plan::{Common, Ending, Plan, Running, unwanted};
use crate::runtime::scope::StartPermit;
use crate::runtime::trace::resume_unwind;
use crate::size_hint::{self, Hint};
use crate::stage::Stage;
use crate::sync::Instant;
use crate::unwind::Payload;
use std::fmt;
use std::time::Duration;

/// Windows that are also closed by time; made by [`Window::max_age`](crate::batches::Window::max_age).
///
/// Options, terminal calls and what its drop waits for: see [`Stage`].
pub type BatchesByAge<S> = Stage<
    BatchesByAgePlan<
        S,
        fn() -> Vec<<S as Iterator>::Item>,
        fn(Vec<<S as Iterator>::Item>, <S as Iterator>::Item) -> Vec<<S as Iterator>::Item>,
    >,
>;

/// The most items that the source is pulled ahead.
const AHEAD: usize = 1_024;

/// The plan of such windows.
pub struct BatchesByAgePlan<S, N, F> {
    source: S,
    size: usize,
    age: Duration,
    init: N,
    f: F,
}

impl<S, N, F> fmt::Debug for BatchesByAgePlan<S, N, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchesByAgePlan")
            .field("size", &self.size)
            .field("age", &self.age)
            .finish_non_exhaustive()
    }
}

impl<S> BatchesByAge<S>
where
    S: Iterator + Send,
    S::Item: Send,
{
    #[track_caller]
    pub(crate) fn aged(source: S, size: usize, age: Duration) -> Self {
        assert!(
            !age.is_zero(),
            "the max_age of a window must be more than zero: leave it out to close by size alone"
        );
        Stage::of(BatchesByAgePlan {
            source,
            size,
            age,
            init: Vec::new,
            f: |mut window, item| {
                window.push(item);
                window
            },
        })
    }

    /// Folds each window into one value, without collecting it; see
    /// [`Window::aggregate`](crate::batches::Window::aggregate).
    ///
    /// `f` runs on the consumer's thread when an item arrives. If it panics, only the value and
    /// that item are lost.
    ///
    /// # Panics
    ///
    /// After the first `next()`.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    /// use std::time::Duration;
    ///
    /// let sums = (1..=5).window(2).max_age(Duration::from_secs(60)).aggregate(|| 0, |a, x| a + x);
    /// assert!(sums.eq([3, 7, 5]));
    /// ```
    #[track_caller]
    pub fn aggregate<A, N, F>(self, init: N, f: F) -> Stage<BatchesByAgePlan<S, N, F>>
    where
        N: FnMut() -> A,
        F: FnMut(A, S::Item) -> A,
    {
        let aggregated = |plan: BatchesByAgePlan<S, _, _>| BatchesByAgePlan {
            source: plan.source,
            size: plan.size,
            age: plan.age,
            init,
            f,
        };
        self.map_plan(aggregated, None)
    }
}

/// A source that stamps each item with the time at which it was returned.
#[allow(unreachable_pub)] // part of the signature of a public trait
#[derive(Debug)]
pub struct Stamped<S>(S);

impl<S: Iterator> Iterator for Stamped<S> {
    type Item = (Instant, S::Item);

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.0.next()?;
        Some((Instant::now(), item))
    }
}

/// The running state of such windows.
pub struct BatchesByAgeIter<S: Iterator, A, N, F> {
    front: Front<Stamped<S>>,
    size: usize,
    age: Duration,
    init: N,
    f: F,
    /// The open window: its value so far, how many items it has, and when it closes.
    open: Option<(A, usize, Option<Instant>)>,
    /// The first item of the next window.
    first: Option<(Instant, S::Item)>,
    /// The panic to raise after the open window.
    panic: Option<Payload>,
}

impl<S: Iterator, A, N, F> fmt::Debug for BatchesByAgeIter<S, A, N, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchesByAgeIter").finish_non_exhaustive()
    }
}

impl<S, A, N, F> BatchesByAgeIter<S, A, N, F>
where
    S: Iterator + Send,
    S::Item: Send,
    N: FnMut() -> A,
    F: FnMut(A, S::Item) -> A,
{
    /// Adds an item to the open window, or opens one.
    fn add(&mut self, (stamp, item): (Instant, S::Item)) {
        let open = self.open.take();
        let _stage = self.front.span().enter();
        // The value and the item are lost if `init` or `f` panics.
        let (value, count, closes) =
            open.unwrap_or_else(|| ((self.init)(), 0, stamp.checked_add(self.age)));
        self.open = Some(((self.f)(value, item), count + 1, closes));
    }

    fn close(&mut self) -> Option<A> {
        self.open.take().map(|(value, ..)| value)
    }
}

impl<S, A, N, F> Iterator for BatchesByAgeIter<S, A, N, F>
where
    S: Iterator + Send,
    S::Item: Send,
    N: FnMut() -> A,
    F: FnMut(A, S::Item) -> A,
{
    type Item = A;

    fn next(&mut self) -> Option<A> {
        self.next_until(None).ok()?
    }

    fn size_hint(&self) -> Hint {
        let held = usize::from(self.first.is_some()) + usize::from(self.open.is_some());
        let (low, high) = size_hint::sum([self.front.size_hint(), (held, Some(held))].into_iter());
        (low.div_ceil(self.size), high)
    }
}

impl<S, A, N, F> Running for BatchesByAgeIter<S, A, N, F>
where
    S: Iterator + Send,
    S::Item: Send,
    N: FnMut() -> A,
    F: FnMut(A, S::Item) -> A,
{
    fn next_until(&mut self, until: Option<Instant>) -> Result<Option<A>, NotReady> {
        if let Some(panic) = self.panic.take() {
            resume_unwind(panic);
        }
        if let Some(first) = self.first.take() {
            self.add(first);
        }
        loop {
            let closes = match &self.open {
                Some((_, count, _)) if *count >= self.size => return Ok(self.close()),
                Some((_, _, closes)) => *closes,
                None => None,
            };
            let limit = closes.into_iter().chain(until).min();
            match self.front.next(limit, false, || false) {
                Got::Message(_, Message::Item((stamp, item))) => {
                    if closes.is_some_and(|closes| stamp > closes) {
                        self.first = Some((stamp, item));
                        return Ok(self.close());
                    }
                    self.add((stamp, item));
                }
                Got::Message(_, Message::Panic(panic)) => {
                    if self.open.is_none() {
                        resume_unwind(panic);
                    }
                    self.panic = Some(panic);
                    return Ok(self.close());
                }
                Got::Message(_, Message::End | Message::TimedOut) => {}
                Got::Unwanted => return unwanted(until),
                Got::Late if limit != closes => return Err(NotReady::new(None)),
                Got::Late | Got::Over => return Ok(self.close()),
            }
        }
    }

    fn ending(&self) -> &dyn Ending {
        self.front.ending()
    }
}

impl<S, A, N, F> Plan for BatchesByAgePlan<S, N, F>
where
    S: Iterator + Send,
    S::Item: Send,
    N: FnMut() -> A,
    F: FnMut(A, S::Item) -> A,
{
    type Output = A;
    type Running = BatchesByAgeIter<S, A, N, F>;

    const NAME: &'static str = "window";

    fn size_hint(&self) -> Hint {
        let (low, high) = size_hint::honest(self.source.size_hint());
        // Each item may get its own window.
        (low.div_ceil(self.size), high)
    }

    fn start(self, common: Common, start_permit: StartPermit) -> Option<Box<Self::Running>> {
        let hint = self.source.size_hint();
        let mut front = Front::start(start_permit, common, Self::NAME, Rule::Turns, 1, hint)?;
        front.add(Stamped(self.source), LaneOpts::new(self.size.min(AHEAD)));
        Some(Box::new(BatchesByAgeIter {
            front,
            size: self.size,
            age: self.age,
            init: self.init,
            f: self.f,
            open: None,
            first: None,
            panic: None,
        }))
    }
}
