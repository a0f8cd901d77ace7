//! `window`: items in groups of a fixed size. Needs no thread.

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
    /// The window being filled: empty between two calls, except after a panic of the source.
    window: Vec<S::Item>,
}

/// Where the items of windows come from.
#[derive(Clone, Debug)]
struct Batches<S> {
    /// `None` after its end.
    source: Option<S>,
    size: usize,
}

/// The largest capacity allocated for a window before its items arrive.
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

    /// Begins a window every `step` items, so that windows overlap, or skip items.
    ///
    /// A step of 1 gives the windows of [`slice::windows`], a step of `size` those of
    /// `window(size)`. With a larger step, the items between two windows are in none. At the end of
    /// the source a shorter window is yielded if it holds an item that no window before it had:
    /// nothing is lost, and no window holds only old items.
    ///
    /// Lazy: a `next()` pulls the items that the window before did not have, on this thread. Where
    /// windows overlap, an item is cloned once for each window that it is in, except the last. (A
    /// full window at the very end clones the items for one more window in vain: the end of the
    /// source is only known when it is asked again.)
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
    /// The age counts from when the source returned the item. A window comes out in time even while
    /// the source blocks, because a separate thread pulls the source, at most `size` and at most
    /// 1,024 items ahead of the consumer. Each window holds what the source returned until the
    /// window closed, however late the consumer comes. A consumer that is that far behind holds up
    /// the source, whose items may then come too late for a window that they would have filled.
    /// Lazy; takes the options of [`Stage`](crate::Stage).
    ///
    /// The drop waits for a source that is in its `next()`.
    ///
    /// # Panics
    ///
    /// If `age` is zero. A panic of the source is raised after the window that it interrupted.
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
    /// let first = windows.next().unwrap(); // although no more items come
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
    /// `init` makes the first value of each window, `f` adds an item to it. Lazy: each `next()`
    /// pulls the items of one window, and holds none of them.
    ///
    /// # Panics
    ///
    /// A panic of the source passes through and loses nothing, as with
    /// [`window`](crate::Fanfold::window). A panic of `init` or `f` loses what that closure was
    /// given.
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
    /// Calls `add` with each item that the current window still needs, of which it has `held`.
    ///
    /// After its end the source is not called again. After a panic it is, if the caller goes on:
    /// what is held begins the next window. The same holds after `false`, which means that a wait
    /// in the source was cut short.
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

/// One value per window; made by [`Window::aggregate`].
#[derive(Clone, Debug)]
#[must_use = "a window is lazy: nothing is pulled before the first `next()`"]
pub struct Aggregate<S, A, N, F> {
    batches: Batches<S>,
    /// The value of the current window so far, and the number of items in it.
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
