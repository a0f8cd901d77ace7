//! `window(size).max_age(d)`: windows that are also closed by time.

use crate::engine::erase::{Seed, Start};
use crate::engine::hub::{Common, Event, Front, Got, LaneOpts, Rule};
use crate::engine::unwind::Payload;
use crate::error::Cancelled;
use crate::fed::{Fed, Feed};
use crate::sync::Instant;
use std::fmt;
use std::panic::resume_unwind;
use std::time::Duration;

/// Windows that are also closed by time; made by [`Window::max_age`](crate::Window::max_age).
///
/// Options, terminal calls and what its drop waits for: see [`Fed`].
pub type Aged<S> = Fed<
    Aging<
        S,
        fn() -> Vec<<S as Iterator>::Item>,
        fn(Vec<<S as Iterator>::Item>, <S as Iterator>::Item) -> Vec<<S as Iterator>::Item>,
    >,
>;

/// The source is pulled so far ahead at most.
const AHEAD: usize = 1_024;

/// What such windows are before they run.
pub struct Aging<S, N, F> {
    source: S,
    size: usize,
    age: Duration,
    init: N,
    f: F,
    common: Common,
}

impl<S, N, F> fmt::Debug for Aging<S, N, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Aging")
            .field("size", &self.size)
            .field("age", &self.age)
            .finish_non_exhaustive()
    }
}

impl<S> Aged<S>
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
        Fed::new(Aging {
            source,
            size,
            age,
            init: Vec::new,
            f: |mut window, item| {
                window.push(item);
                window
            },
            common: Common::default(),
        })
    }

    /// Folds each window into one value, without collecting it; see
    /// [`Window::aggregate`](crate::Window::aggregate).
    ///
    /// `f` runs when an item comes in, on the consumer's thread. If it panics, the value and that item
    /// are lost, and no other.
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
    pub fn aggregate<A, N, F>(self, init: N, f: F) -> Fed<Aging<S, N, F>>
    where
        N: FnMut() -> A,
        F: FnMut(A, S::Item) -> A,
    {
        let plan = self.into_plan();
        Fed::new(Aging {
            source: plan.source,
            size: plan.size,
            age: plan.age,
            init,
            f,
            common: plan.common,
        })
    }
}

/// A source that says when it gave each item.
#[allow(unreachable_pub)] // it stands in the signature of a public trait
#[derive(Debug)]
pub struct Stamped<S>(S);

impl<S: Iterator> Iterator for Stamped<S> {
    type Item = (Instant, S::Item);

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.0.next()?;
        Some((Instant::now(), item))
    }
}

/// What such windows are while they run.
pub struct AgedIter<S: Iterator, A, N, F> {
    /// `None`: the scope was over before it began.
    front: Option<Front<Stamped<S>>>,
    size: usize,
    age: Duration,
    init: N,
    f: F,
    /// The window that is open: what it has come to, how many items, and when it closes.
    open: Option<(A, usize, Option<Instant>)>,
    /// The first item of the window after it.
    first: Option<(Instant, S::Item)>,
    /// What is to be raised after it.
    panic: Option<Payload>,
    left: (usize, Option<usize>),
}

impl<S: Iterator, A, N, F> fmt::Debug for AgedIter<S, A, N, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgedIter").finish_non_exhaustive()
    }
}

impl<S, A, N, F> AgedIter<S, A, N, F>
where
    S: Iterator + Send,
    S::Item: Send,
    N: FnMut() -> A,
    F: FnMut(A, S::Item) -> A,
{
    /// Puts an item into the window that is open, or opens one.
    fn add(&mut self, (stamp, item): (Instant, S::Item)) {
        let open = self.open.take();
        // What is in hand is lost if one of the two panics.
        let (value, count, closes) =
            open.unwrap_or_else(|| ((self.init)(), 0, stamp.checked_add(self.age)));
        self.open = Some(((self.f)(value, item), count + 1, closes));
    }

    fn close(&mut self) -> Option<A> {
        self.open.take().map(|(value, ..)| value)
    }
}

impl<S, A, N, F> Iterator for AgedIter<S, A, N, F>
where
    S: Iterator + Send,
    S::Item: Send,
    N: FnMut() -> A,
    F: FnMut(A, S::Item) -> A,
{
    type Item = A;

    fn next(&mut self) -> Option<A> {
        if let Some(panic) = self.panic.take() {
            resume_unwind(panic);
        }
        if let Some(first) = self.first.take() {
            self.add(first);
        }
        loop {
            let closes = match &self.open {
                Some((_, count, _)) if *count >= self.size => return self.close(),
                Some((_, _, closes)) => *closes,
                None => None,
            };
            match self.front.as_mut()?.next(closes, false, || false) {
                Got::Event(_, Event::Item((stamp, item))) => {
                    let (low, high) = self.left;
                    self.left = (
                        low.saturating_sub(1),
                        high.and_then(|high| high.checked_sub(1)),
                    );
                    if closes.is_some_and(|closes| stamp > closes) {
                        self.first = Some((stamp, item));
                        return self.close();
                    }
                    self.add((stamp, item));
                }
                Got::Event(_, Event::Panic(panic)) => {
                    self.left.0 = 0;
                    if self.open.is_none() {
                        resume_unwind(panic);
                    }
                    self.panic = Some(panic);
                    return self.close();
                }
                Got::Event(_, Event::End | Event::TimedOut) => {}
                Got::Unwanted => return None,
                Got::Late | Got::Over => return self.close(),
            }
        }
    }
}

impl<S, A, N, F> Start for Aging<S, N, F>
where
    S: Iterator + Send,
    S::Item: Send,
    N: FnMut() -> A,
    F: FnMut(A, S::Item) -> A,
{
    type Output = A;
    type Running = AgedIter<S, A, N, F>;

    fn cut(running: &Self::Running) -> Option<Cancelled> {
        running.front.as_ref()?.cut()
    }

    fn tell_cut(running: &Self::Running) {
        if let Some(front) = &running.front {
            front.tell_cut();
        }
    }

    fn start(self: Box<Self>, seed: Seed) -> Box<Self::Running> {
        let left = self.source.size_hint();
        let mut front = Front::start(seed, self.common, "window", Rule::Turns, 1);
        if let Some(front) = &mut front {
            front.add(Stamped(self.source), LaneOpts::new(self.size.min(AHEAD)));
        }
        Box::new(AgedIter {
            front,
            size: self.size,
            age: self.age,
            init: self.init,
            f: self.f,
            open: None,
            first: None,
            panic: None,
            left,
        })
    }
}

impl<S, A, N, F> Feed for Aging<S, N, F>
where
    S: Iterator + Send,
    S::Item: Send,
    N: FnMut() -> A,
    F: FnMut(A, S::Item) -> A,
{
    const NAME: &'static str = "Window";

    fn common(&self) -> &Common {
        &self.common
    }

    fn common_mut(&mut self) -> &mut Common {
        &mut self.common
    }

    fn hint(&self) -> (usize, Option<usize>) {
        let (low, high) = self.source.size_hint();
        // Each item may have a window for itself.
        (low.div_ceil(self.size), high)
    }

    fn left(running: &Self::Running) -> (usize, Option<usize>) {
        let held = usize::from(running.first.is_some()) + usize::from(running.open.is_some());
        match &running.front {
            Some(front) if !front.is_over() => {
                let (low, high) = front.hint(running.left);
                let low = low.saturating_add(held).div_ceil(running.size);
                (low, high.and_then(|high| high.checked_add(held)))
            }
            _ => (held.min(1), Some(held)),
        }
    }
}
