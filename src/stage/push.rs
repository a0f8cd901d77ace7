//! What a stage that is pushed into can do besides.

use crate::error::Cancelled;
use crate::ordered::start::Par;
use crate::par::job::Job;
use crate::par::pushed::Pushed;
use crate::runtime::lazy::Lazy;
use crate::runtime::plan::Ending;
use crate::stage::base::Stage;
use crate::stage::scoped::Scoped;
use std::fmt;

type LazyPush<I, J> = Lazy<Par<Pushed<I>, J>>;

/// The outputs that are ready, and the room for an item; made by [`Stage::push`].
///
/// Yields outputs in order. Blocks only while the item that was pushed has found no room; after that it yields what is
/// ready, and ends. May be dropped at any time, as nothing is in it: what it has not yielded stays in the stage.
#[must_use = "the outputs that are ready, and the room for the item: take them with `for output in stage.push(item)`"]
pub struct Ready<'a, I: Send, J: Job<I>> {
    stage: &'a mut LazyPush<I, J>,
    /// Why the item was not taken.
    refused: Option<Cancelled>,
}

impl<I: Send, J: Job<I>> fmt::Debug for Ready<'_, I, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ready")
            .field("refused", &self.refused)
            .finish_non_exhaustive()
    }
}

impl<I: Send, J: Job<I>> Iterator for Ready<'_, I, J> {
    type Item = J::Output;

    fn next(&mut self) -> Option<J::Output> {
        if let Some(why) = self.refused.take() {
            return J::refused(why);
        }
        let running = self.stage.running()?;
        if !running.has_waiting() || running.is_over() {
            return try_next(self.stage);
        }
        // There is no room before an output is taken. Then the item is handed over first: the caller may be long in
        // what it does with the output.
        let output = self.stage.ask(Iterator::next);
        if let Some(running) = self.stage.running() {
            running.hand_over();
        }
        output
    }
}

#[track_caller]
fn push<I: Send, J: Job<I>>(stage: &mut LazyPush<I, J>, item: I) -> Ready<'_, I, J> {
    let refused = match stage.running() {
        Some(running) if !running.is_over() => {
            running.put(item);
            None
        }
        Some(running) => Some(running.why_over()),
        None => Some(Cancelled::default()),
    };
    Ready { stage, refused }
}

pub(super) fn try_push<I: Send, J: Job<I>>(stage: &mut LazyPush<I, J>, item: I) -> Result<(), I> {
    match stage.running() {
        Some(running) if !running.is_over() => {
            running.put(item);
            // It is the last one in there.
            running.take_back().map_or(Ok(()), Err)
        }
        _ => Err(item),
    }
}

fn try_next<I: Send, J: Job<I>>(stage: &mut LazyPush<I, J>) -> Option<J::Output> {
    stage.ask(|running| {
        running.hand_over();
        running.try_next()
    })
}

pub(super) fn close<I: Send, J: Job<I>>(stage: &mut LazyPush<I, J>) {
    if let Some(idle) = stage.idle_mut() {
        idle.plan.source.close();
    } else if let Some(running) = stage.running() {
        running.close();
    }
}

impl<I: Send + 'static, J: Job<I> + 'static> Stage<Par<Pushed<I>, J>> {
    /// Pushes an item, and returns the outputs that are ready, in order.
    ///
    /// The item is handed to the workers at once if there is room: if fewer than [`in_flight`](Self::in_flight) items
    /// have been pushed and not yet yielded. Otherwise the first `next()` of what this returns waits for an output,
    /// which makes room. So take the outputs with a `for` loop. A loop that ends early (`?`, `break`) loses nothing:
    /// the item is in the stage, and outputs that are left come out of the next call. If nobody ever takes them, the
    /// items wait in front of the stage, without a bound.
    ///
    /// A stage that has ended (an error has come out, or a token was tripped) drops the item. Of
    /// [`try_push_map_ordered`](crate::try_push_map_ordered) and an [isolated](Self::isolate) stage, that is told by
    /// an `Err` for each such item.
    ///
    /// # Panics
    ///
    /// After [`finish`](Self::finish). A closure's panic is raised by the call that would have returned its output.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut stage = fanfold::push_map_ordered(2, |x: u32| x * x).in_flight(4);
    /// let mut squares = Vec::new();
    /// for x in 0..100 {
    ///     for square in stage.push(x) {
    ///         squares.push(square);
    ///     }
    /// }
    /// squares.extend(stage.finish());
    /// assert!(squares.into_iter().eq((0..100).map(|x| x * x)));
    /// ```
    #[doc(alias("send", "submit"))]
    #[track_caller]
    pub fn push(&mut self, item: I) -> Ready<'_, I, J> {
        self.lazy.start_owned();
        push(&mut self.lazy, item)
    }

    /// Pushes an item if there is room for it, and never waits.
    ///
    /// Outputs are left to [`try_next`](Self::try_next) and `next()`.
    ///
    /// # Panics
    ///
    /// After [`finish`](Self::finish).
    ///
    /// # Errors
    ///
    /// The item, if there is no room, or if the stage has ended. In the first case `next()` makes room; in the second
    /// it returns `None`, after what was left.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut stage = fanfold::push_map_ordered(2, |x: u32| x + 1).in_flight(1);
    /// assert_eq!(stage.try_push(1), Ok(()));
    /// assert_eq!(stage.try_push(7), Err(7));
    /// assert_eq!(stage.next(), Some(2));
    /// assert_eq!(stage.try_push(7), Ok(()));
    /// assert_eq!(stage.next(), Some(8));
    /// assert_eq!(stage.next(), None); // nothing is in flight
    /// ```
    #[track_caller]
    pub fn try_push(&mut self, item: I) -> Result<(), I> {
        self.lazy.start_owned();
        try_push(&mut self.lazy, item)
    }

    /// The next output if it is ready; never waits.
    ///
    /// `None`: it is not ready, nothing is in flight, or the stage has ended. `next()` waits, as long as something is
    /// in flight, so a loop over `stage.by_ref()` takes everything that was pushed, as a flush does.
    ///
    /// # Panics
    ///
    /// As `next()`.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut stage = fanfold::push_map_ordered(2, |x: u32| x * 10);
    /// assert_eq!(stage.try_next(), None);
    /// let mut tens: Vec<u32> = stage.push(1).collect();
    /// tens.extend(stage.by_ref());
    /// assert_eq!(tens, [10]);
    /// ```
    #[doc(alias("try_recv", "poll"))]
    pub fn try_next(&mut self) -> Option<J::Output> {
        self.lazy.start_owned();
        try_next(&mut self.lazy)
    }

    /// Returns the stage for what is left: an ordinary stage, which ends after the last output.
    ///
    /// Lazy: take the outputs, by a loop or a terminal call. A stage that is dropped without this, or before its end,
    /// is abandoned: items that have not begun are dropped, and so are all outputs that were not taken.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut stage = fanfold::push_map_ordered(4, |line: &str| line.len());
    /// let mut total: usize = stage.push("one two").sum();
    /// total += stage.push("three").sum::<usize>();
    /// total += stage.finish().sum::<usize>();
    /// assert_eq!(total, 12);
    /// ```
    #[doc(alias("close", "join", "into_iter"))]
    pub fn finish(mut self) -> Self {
        close(&mut self.lazy);
        self
    }
}

impl<'scope, I: Send + 'scope, J: Job<I> + 'scope> Scoped<'scope, Par<Pushed<I>, J>> {
    /// Pushes an item, and returns the outputs that are ready; see [`Stage::push`].
    ///
    /// # Panics
    ///
    /// As [`Stage::push`].
    #[track_caller]
    pub fn push(&mut self, item: I) -> Ready<'_, I, J> {
        self.stage.lazy.start_scoped(&self.scope);
        push(&mut self.stage.lazy, item)
    }

    /// Pushes an item if there is room for it; see [`Stage::try_push`].
    ///
    /// # Panics
    ///
    /// As [`Stage::try_push`].
    ///
    /// # Errors
    ///
    /// The item, if there is no room, or if the stage has ended.
    #[track_caller]
    pub fn try_push(&mut self, item: I) -> Result<(), I> {
        self.stage.lazy.start_scoped(&self.scope);
        try_push(&mut self.stage.lazy, item)
    }

    /// The next output if it is ready; see [`Stage::try_next`].
    ///
    /// # Panics
    ///
    /// As `next()`.
    pub fn try_next(&mut self) -> Option<J::Output> {
        self.stage.lazy.start_scoped(&self.scope);
        try_next(&mut self.stage.lazy)
    }

    /// Returns the stage for what is left; see [`Stage::finish`].
    pub fn finish(mut self) -> Self {
        close(&mut self.stage.lazy);
        self
    }
}
