//! `sliding`: windows that overlap, or that skip items between them. Needs no thread.

use crate::runtime::context::is_unwanted;
use std::collections::VecDeque;
use std::iter::FusedIterator;

/// Windows of `size` items, one every `step` items; made by
/// [`Window::sliding`](crate::batches::Window::sliding).
#[derive(Clone, Debug)]
#[must_use = "a window is lazy: nothing is pulled before the first `next()`"]
pub struct Sliding<S: Iterator> {
    slide: Slide<S>,
    /// The window being filled. It begins with the items that it shares with the last one.
    window: Vec<S::Item>,
}

/// The positions of the windows, and the source.
#[derive(Clone, Debug)]
struct Slide<S> {
    /// `None` after its end.
    source: Option<S>,
    size: usize,
    step: usize,
    /// How many items to skip before the next one that is in a window.
    skip: usize,
    /// How many items of the window being filled were in an earlier one.
    old: usize,
}

/// The largest capacity allocated for a window before its items arrive.
const FIRST: usize = 1024;

impl<S: Iterator> Slide<S> {
    /// Pulls the next item that is in a window.
    fn pull(&mut self) -> Option<S::Item> {
        match std::mem::take(&mut self.skip) {
            0 => self.ask(S::next),
            skip => self.ask(|source| source.nth(skip)),
        }
    }

    /// Calls the source. After its end the source is not called again, unless that end was only a
    /// wait that was cut short.
    fn ask(&mut self, f: impl FnOnce(&mut S) -> Option<S::Item>) -> Option<S::Item> {
        let item = f(self.source.as_mut()?);
        if item.is_none() && !is_unwanted() {
            self.source = None;
        }
        item
    }

    /// How many items the next window shares with a full one.
    fn overlap(&self) -> usize {
        self.size.saturating_sub(self.step)
    }

    /// The window was full: the next one begins a step further on.
    fn advance(&mut self) {
        self.old = self.overlap();
        self.skip = self.step.saturating_sub(self.size);
    }

    /// How many windows are still to come, if `held` items of the next one are there.
    fn hint(&self, held: usize) -> (usize, Option<usize>) {
        let Some(source) = &self.source else {
            return (0, Some(0));
        };
        let windows = |items: usize| {
            if self.step >= self.size {
                items.saturating_sub(self.skip).div_ceil(self.step)
            } else if items <= self.old {
                0
            } else {
                1 + items.saturating_sub(self.size).div_ceil(self.step)
            }
        };
        let (low, high) = source.size_hint();
        let high = high.and_then(|high| high.checked_add(held));
        (windows(low.saturating_add(held)), high.map(windows))
    }
}

impl<S: Iterator> Sliding<S> {
    #[track_caller]
    pub(crate) fn new(source: Option<S>, size: usize, step: usize) -> Self {
        assert!(
            step > 0,
            "the step of a sliding window must be at least 1: write 1 for a window at each item"
        );
        Sliding {
            slide: Slide {
                source,
                size,
                step,
                skip: 0,
                old: 0,
            },
            window: Vec::new(),
        }
    }

    /// Folds each window into one value, without a `Vec` for each.
    ///
    /// `init` makes the first value of each window, `f` adds an item to it. Lazy: pulls the items
    /// that the window before did not have, then folds. One buffer holds the window; where windows
    /// do not overlap, nothing is held. An item is cloned for each window that it is in, but moved
    /// into the last.
    ///
    /// # Complexity
    ///
    /// `f` is called once per item of each window, so up to `size` times, however many of its items are old.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    ///
    /// let maxima = [3, 1, 4, 1, 5].into_iter().window(3).sliding(1).aggregate(|| 0, i32::max);
    /// assert!(maxima.eq([4, 4, 5]));
    /// ```
    pub fn aggregate<A, N, F>(self, init: N, f: F) -> SlidingAggregate<S, N, F>
    where
        S::Item: Clone,
        N: FnMut() -> A,
        F: FnMut(A, S::Item) -> A,
    {
        SlidingAggregate {
            slide: self.slide,
            window: self.window.into(),
            init,
            f,
        }
    }
}

impl<S> Iterator for Sliding<S>
where
    S: Iterator<Item: Clone>,
{
    type Item = Vec<S::Item>;

    fn next(&mut self) -> Option<Vec<S::Item>> {
        let Sliding { slide, window } = self;
        while window.len() < slide.size {
            let Some(item) = slide.pull() else {
                if slide.source.is_some() {
                    return None; // not the end: the held items begin the next window
                }
                // No window is needed for items that were all in a window already.
                let old = slide.old;
                return Some(std::mem::take(window)).filter(|window| window.len() > old);
            };
            if window.capacity() == 0 {
                window.reserve_exact(slide.size.min(FIRST));
            }
            window.push(item);
        }
        let mut next = Vec::new();
        if slide.overlap() > 0 {
            next.reserve_exact(slide.size);
            next.extend_from_slice(&window[slide.step..]);
        }
        slide.advance();
        Some(std::mem::replace(window, next))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.slide.hint(self.window.len())
    }
}

impl<S> ExactSizeIterator for Sliding<S> where S: ExactSizeIterator<Item: Clone> {}
impl<S> FusedIterator for Sliding<S> where S: Iterator<Item: Clone> {}

/// One value per sliding window; made by [`Sliding::aggregate`].
#[derive(Clone, Debug)]
#[must_use = "a window is lazy: nothing is pulled before the first `next()`"]
pub struct SlidingAggregate<S: Iterator, N, F> {
    slide: Slide<S>,
    /// The window being filled; unused where windows do not overlap.
    window: VecDeque<S::Item>,
    init: N,
    f: F,
}

impl<S, A, N, F> SlidingAggregate<S, N, F>
where
    S: Iterator<Item: Clone>,
    N: FnMut() -> A,
    F: FnMut(A, S::Item) -> A,
{
    /// Folds items as they are pulled, as no item is in two windows.
    fn fold_pulled(&mut self) -> Option<A> {
        let SlidingAggregate { slide, init, f, .. } = self;
        let first = slide.pull()?;
        // Counted down item by item: if `f` panics, the position of the next window does not
        // change.
        slide.skip = slide.step - 1;
        let mut value = f(init(), first);
        for _ in 1..slide.size {
            let Some(item) = slide.ask(S::next) else {
                break;
            };
            slide.skip -= 1;
            value = f(value, item);
        }
        Some(value)
    }
}

impl<S, A, N, F> Iterator for SlidingAggregate<S, N, F>
where
    S: Iterator<Item: Clone>,
    N: FnMut() -> A,
    F: FnMut(A, S::Item) -> A,
{
    type Item = A;

    fn next(&mut self) -> Option<A> {
        if self.slide.overlap() == 0 {
            return self.fold_pulled();
        }
        let SlidingAggregate {
            slide,
            window,
            init,
            f,
        } = self;
        while window.len() < slide.size {
            let Some(item) = slide.pull() else {
                if slide.source.is_some() {
                    return None;
                }
                let last = std::mem::take(window);
                return (last.len() > slide.old).then(|| last.into_iter().fold(init(), f));
            };
            window.push_back(item);
        }
        slide.advance();
        // If `f` panics, the rest of the drain is dropped too, so that the next window is whole.
        let value = window.drain(..slide.step).fold(init(), &mut *f);
        Some(window.iter().cloned().fold(value, f))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.slide.hint(self.window.len())
    }
}

impl<S, A, N, F> ExactSizeIterator for SlidingAggregate<S, N, F>
where
    S: ExactSizeIterator<Item: Clone>,
    N: FnMut() -> A,
    F: FnMut(A, S::Item) -> A,
{
}

impl<S, A, N, F> FusedIterator for SlidingAggregate<S, N, F>
where
    S: Iterator<Item: Clone>,
    N: FnMut() -> A,
    F: FnMut(A, S::Item) -> A,
{
}
