//! What a worker does with an item: the only difference between the adaptors.

use crate::error::{Cancelled, ItemError};

/// A parallel adaptor's work. Sealed: only the crate implements it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a job for items of type `{I}`",
    note = "the closure of a stage must be `Send + Sync` and take the items of its source"
)]
pub trait Job<I>: Send + Sync + Sized + sealed::Sealed {
    /// The type that the stage yields.
    type Output: Send;

    /// The outputs of one item: none, one or many.
    #[doc(hidden)]
    type Batch: IntoIterator<Item = Self::Output, IntoIter: Send> + Send;

    /// The state that a worker keeps between items. It may be `!Send`: it stays on its thread.
    #[doc(hidden)]
    type State;

    /// Whether `State` is the user's, so that there must be exactly one per worker.
    #[doc(hidden)]
    const STATEFUL: bool = false;

    /// Whether a closure's panic becomes a value.
    #[doc(hidden)]
    const CATCHES: bool = false;

    /// Whether items give no outputs, except one after which nothing counts.
    #[doc(hidden)]
    const IS_SILENT: bool = false;

    /// Whether outputs have weights.
    #[doc(hidden)]
    const PARKS: bool = false;

    /// Makes a worker's state, on the worker, before its first item.
    #[doc(hidden)]
    fn state(&self) -> Self::State;

    /// Whether items can be run with this state. It was used for one item at least.
    #[doc(hidden)]
    fn is_usable(_: &Self::State) -> bool {
        true
    }

    /// Runs one item. The flag is `true` if nothing after this item counts.
    #[doc(hidden)]
    fn run(&self, state: &mut Self::State, item: I) -> (Self::Batch, bool);

    /// The batch in place of an item whose closure panicked; `Err` raises the panic itself.
    #[doc(hidden)]
    fn failed(&self, why: ItemError) -> Result<Self::Batch, ItemError> {
        Err(why)
    }

    /// What a stage that has ended gives for an item that is pushed into it.
    #[doc(hidden)]
    fn refused(_: Cancelled) -> Option<Self::Output> {
        None
    }

    /// What an item weighs, in a stage that bounds that.
    #[doc(hidden)]
    fn item_weight(&self, _: &I) -> usize {
        0
    }

    /// What the outputs of an item weigh together, in a stage that bounds that.
    #[doc(hidden)]
    fn batch_weight(&self, _: &Self::Batch) -> usize {
        0
    }

    /// How many outputs the remaining `items` can give.
    #[doc(hidden)]
    fn outputs(items: (usize, Option<usize>)) -> (usize, Option<usize>) {
        (0, items.1)
    }
}

/// A job that gives exactly one output per item, so that a stage knows its length.
pub trait OneToOne: sealed::Sealed {}

/// The batch of a one-to-one job: one output, without a tag.
#[derive(Debug)]
pub struct One<O>(pub(crate) O);

impl<O> IntoIterator for One<O> {
    type Item = O;
    type IntoIter = std::option::IntoIter<O>;

    #[inline]
    fn into_iter(self) -> Self::IntoIter {
        Some(self.0).into_iter()
    }
}

pub(crate) mod sealed {
    /// Seals `Job` and `OneToOne`.
    #[allow(unnameable_types)]
    pub trait Sealed {}
}
