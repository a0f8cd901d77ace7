//! `window`: items in groups of a fixed size. It needs no thread.

use crate::adaptors::aged::Aged;
use crate::adaptors::sliding::Sliding;
use std::iter::FusedIterator;
use std::time::Duration;

/// Groups of `size` items, the last one perhaps shorter; made by
/// [`window`](crate::Fanfold::window).
#[derive(Clone, Debug)]
#[must_use = "a window is lazy: nothing is pulled before the first `next()`"]
pub struct Window<S> {
    /// `None` after its end.
    source: Option<S>,
    size: usize,
}

/// No window is allocated larger than this before its items are there.
const FIRST: usize = 1024;

impl<S: Iterator> Window<S> {
    #[track_caller]
    pub(crate) fn new(source: S, size: usize) -> Self {
        assert!(
            size > 0,
            "the size of a window must be at least 1: write 1 for windows of single items"
        );
        Window {
            source: Some(source),
            size,
        }
    }

    /// Begins a window every `step` items, so that windows overlap, or leave items out.
    ///
    /// With a step of 1 they are those of [`slice::windows`], with a step of `size` those of
    /// `window(size)`; with a larger one what lies between two windows is in none. At the end of the
    /// source a shorter window is yielded if it holds an item that no window before it had: nothing
    /// is lost, and no window holds old items alone.
    ///
    /// Lazy: a `next()` pulls what its window has more than the one before, on this thread. Where
    /// windows overlap, the shared items are cloned: an item once for each window that it is in, but
    /// for the last. (Those that a full window at the very end would share with one more are cloned
    /// in vain: that the source has ended is known when it is asked again.)
    ///
    /// # Panics
    ///
    /// If `step` is 0.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    ///
    /// let overlapping = (1..=6).window(3).sliding(2);
    /// assert!(overlapping.eq([vec![1, 2, 3], vec![3, 4, 5], vec![5, 6]]));
    ///
    /// let sparse = (1..=6).window(2).sliding(3);
    /// assert!(sparse.eq([[1, 2], [4, 5]]));
    /// ```
    #[track_caller]
    pub fn sliding(self, step: usize) -> Sliding<S>
    where
        S::Item: Clone,
    {
        Sliding::new(self.source, self.size, step)
    }

    /// Closes a window by time as well: when its first item is `age` old.
    ///
    /// The age runs from when the source gave the item. So a window comes out in time although
    /// the source blocks: it is pulled on a thread of its own, ahead of the consumer by `size` items, and
    /// 1,024, at most. Each window holds what the source gave until it closed, however late the consumer
    /// comes. Lazy; takes the options of [`Fed`](crate::Fed).
    ///
    /// # Panics
    ///
    /// If `age` is zero. A panic of the source is raised after the window that it broke off.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    /// use std::time::Duration;
    ///
    /// let (send, events) = std::sync::mpsc::channel();
    /// let mut windows = events.into_iter().window(100).max_age(Duration::from_millis(10));
    /// send.send(1).unwrap();
    /// send.send(2).unwrap();
    /// let first = windows.next().unwrap(); // though nothing more comes
    /// assert_eq!(first[0], 1);
    /// # drop(send);
    /// ```
    #[track_caller]
    pub fn max_age(self, age: Duration) -> Aged<S>
    where
        S: Send,
        S::Item: Send,
    {
        let Window { source, size } = self;
        let source = source.unwrap_or_else(|| panic!("max_age goes before the first `next()`"));
        Aged::aged(source, size, age)
    }

    /// Folds each window into one value, without collecting it.
    ///
    /// `init` makes the first value of each window, `f` adds an item to it. Lazy: pulls one
    /// window's items a `next()`, and holds none of them.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    ///
    /// let sums = (1..=7).window(3).aggregate(|| 0, |sum, x| sum + x);
    /// assert!(sums.eq([6, 15, 7]));
    /// ```
    pub fn aggregate<A, N, F>(self, init: N, f: F) -> Aggregate<S, N, F>
    where
        N: FnMut() -> A,
        F: FnMut(A, S::Item) -> A,
    {
        Aggregate {
            window: self,
            init,
            f,
        }
    }

    /// Pulls the first item of a window; the source is not called again after its end.
    fn first(&mut self) -> Option<S::Item> {
        let item = self.source.as_mut()?.next();
        if item.is_none() {
            self.source = None;
        }
        item
    }

    /// Calls `add` with each further item of the window.
    fn rest(&mut self, mut add: impl FnMut(S::Item)) {
        for _ in 1..self.size {
            match self.first() {
                Some(item) => add(item),
                None => break,
            }
        }
    }

    fn hint(&self) -> (usize, Option<usize>) {
        let (low, high) = self
            .source
            .as_ref()
            .map_or((0, Some(0)), Iterator::size_hint);
        let windows = |items: usize| items.div_ceil(self.size);
        (windows(low), high.map(windows))
    }
}

impl<S: Iterator> Iterator for Window<S> {
    type Item = Vec<S::Item>;

    fn next(&mut self) -> Option<Vec<S::Item>> {
        let first = self.first()?;
        let mut window = Vec::with_capacity(self.size.min(FIRST));
        window.push(first);
        self.rest(|item| window.push(item));
        Some(window)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.hint()
    }
}

impl<S: ExactSizeIterator> ExactSizeIterator for Window<S> {}
impl<S: Iterator> FusedIterator for Window<S> {}

/// One value a window; made by [`Window::aggregate`].
#[derive(Clone, Debug)]
#[must_use = "a window is lazy: nothing is pulled before the first `next()`"]
pub struct Aggregate<S, N, F> {
    window: Window<S>,
    init: N,
    f: F,
}

impl<S, A, N, F> Iterator for Aggregate<S, N, F>
where
    S: Iterator,
    N: FnMut() -> A,
    F: FnMut(A, S::Item) -> A,
{
    type Item = A;

    fn next(&mut self) -> Option<A> {
        let first = self.window.first()?;
        let f = &mut self.f;
        let mut value = Some(f((self.init)(), first));
        self.window.rest(|item| {
            value = value.take().map(|value| f(value, item));
        });
        value
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.window.hint()
    }
}

impl<S, A, N, F> ExactSizeIterator for Aggregate<S, N, F>
where
    S: ExactSizeIterator,
    N: FnMut() -> A,
    F: FnMut(A, S::Item) -> A,
{
}

impl<S, A, N, F> FusedIterator for Aggregate<S, N, F>
where
    S: Iterator,
    N: FnMut() -> A,
    F: FnMut(A, S::Item) -> A,
{
}
