//! `window`: items in groups of a fixed size. It needs no thread.

use crate::batches::sliding::Sliding;
use crate::fan_in::batches_by_age::BatchesByAge;
use crate::runtime::context::is_unwanted;
use std::iter::FusedIterator;
use std::time::Duration;

/// Groups of `size` items, the last one perhaps shorter; made by
/// [`window`](crate::Fanfold::window).
#[derive(Clone, Debug)]
#[must_use = "a window is lazy: nothing is pulled before the first `next()`"]
pub struct Window<S: Iterator> {
    batches: Batches<S>,
    /// The window that is being filled: empty between two calls, but for a panic of the source.
    window: Vec<S::Item>,
}

/// Where the items of windows come from.
#[derive(Clone, Debug)]
struct Batches<S> {
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
            batches: Batches {
                source: Some(source),
                size,
            },
            window: Vec::new(),
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
    #[doc(alias("windows", "array_windows", "tuple_windows", "sliding_windows"))]
    #[track_caller]
    pub fn sliding(self, step: usize) -> Sliding<S>
    where
        S::Item: Clone,
    {
        Sliding::new(self.batches.source, self.batches.size, step)
    }

    /// Closes a window by time as well: when its first item is `age` old.
    ///
    /// The age runs from when the source gave the item. So a window comes out in time although
    /// the source blocks: it is pulled on a thread of its own, ahead of the consumer by `size` items, and
    /// 1,024, at most. Each window holds what the source gave until it closed, however late the consumer
    /// comes; a consumer that is so many items behind holds up the source, whose items may then come too
    /// late for a window that would have been fuller. Lazy; takes the options of [`Stage`](crate::Stage).
    ///
    /// The drop waits for a source that is in its `next()`.
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
    #[doc(alias("max_wait", "chunks_timeout"))]
    #[track_caller]
    pub fn max_age(self, age: Duration) -> BatchesByAge<S>
    where
        S: Send,
        S::Item: Send,
    {
        let Batches { source, size } = self.batches;
        let source = source.unwrap_or_else(|| panic!("max_age goes before the first `next()`"));
        BatchesByAge::aged(source, size, age)
    }

    /// Folds each window into one value, without collecting it.
    ///
    /// `init` makes the first value of each window, `f` adds an item to it. Lazy: pulls one
    /// window's items a `next()`, and holds none of them.
    ///
    /// # Panics
    ///
    /// A panic of the source passes through and loses nothing, as with
    /// [`window`](crate::Fanfold::window). One of `init` or `f` costs what they were given.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    ///
    /// let sums = (1..=7).window(3).aggregate(|| 0, |sum, x| sum + x);
    /// assert!(sums.eq([6, 15, 7]));
    /// ```
    pub fn aggregate<A, N, F>(self, init: N, f: F) -> Aggregate<S, A, N, F>
    where
        N: FnMut() -> A,
        F: FnMut(A, S::Item) -> A,
    {
        Aggregate {
            batches: self.batches,
            value: None,
            held: 0,
            init,
            f,
        }
    }
}

impl<S: Iterator> Batches<S> {
    /// Calls `add` with each item that the window in hand still wants, of which there are `held`.
    ///
    /// The source is not called again after its end. After a panic it is, if the caller goes on: what
    /// is held then is the beginning of the next window. `false`: that is so too, since a wait in the source
    /// has ended that nobody wants.
    fn fill(&mut self, held: &mut usize, mut add: impl FnMut(S::Item)) -> bool {
        let Some(source) = &mut self.source else {
            return true;
        };
        while *held < self.size {
            let Some(item) = source.next() else {
                if is_unwanted() {
                    return false;
                }
                self.source = None;
                return true;
            };
            *held += 1;
            add(item);
        }
        true
    }

    fn hint(&self, held: usize) -> (usize, Option<usize>) {
        let (low, high) = self
            .source
            .as_ref()
            .map_or((0, Some(0)), Iterator::size_hint);
        let windows = |items: usize| items.div_ceil(self.size);
        let high = high.and_then(|high| high.checked_add(held));
        (windows(low.saturating_add(held)), high.map(windows))
    }
}

impl<S: Iterator> Iterator for Window<S> {
    type Item = Vec<S::Item>;

    fn next(&mut self) -> Option<Vec<S::Item>> {
        let Window { batches, window } = self;
        let size = batches.size.min(FIRST);
        let filled = batches.fill(&mut window.len(), |item| {
            if window.capacity() == 0 {
                window.reserve_exact(size);
            }
            window.push(item);
        });
        let window = filled.then(|| std::mem::take(window))?;
        Some(window).filter(|window| !window.is_empty())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.batches.hint(self.window.len())
    }
}

impl<S: ExactSizeIterator> ExactSizeIterator for Window<S> {}
impl<S: Iterator> FusedIterator for Window<S> {}

/// One value a window; made by [`Window::aggregate`].
#[derive(Clone, Debug)]
#[must_use = "a window is lazy: nothing is pulled before the first `next()`"]
pub struct Aggregate<S, A, N, F> {
    batches: Batches<S>,
    /// What the window in hand has come to, and of how many items.
    value: Option<A>,
    held: usize,
    init: N,
    f: F,
}

impl<S, A, N, F> Iterator for Aggregate<S, A, N, F>
where
    S: Iterator,
    N: FnMut() -> A,
    F: FnMut(A, S::Item) -> A,
{
    type Item = A;

    fn next(&mut self) -> Option<A> {
        let Aggregate {
            batches,
            value,
            held,
            init,
            f,
        } = self;
        let filled = batches.fill(held, |item| {
            let so_far = value.take().unwrap_or_else(&mut *init);
            *value = Some(f(so_far, item));
        });
        if !filled {
            return None;
        }
        *held = 0;
        value.take()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.batches.hint(self.held)
    }
}

impl<S, A, N, F> ExactSizeIterator for Aggregate<S, A, N, F>
where
    S: ExactSizeIterator,
    N: FnMut() -> A,
    F: FnMut(A, S::Item) -> A,
{
}

impl<S, A, N, F> FusedIterator for Aggregate<S, A, N, F>
where
    S: Iterator,
    N: FnMut() -> A,
    F: FnMut(A, S::Item) -> A,
{
}
