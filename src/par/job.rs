//! What a worker does with an item: the only thing in which the adaptors differ.

use crate::error::ItemError;

/// A parallel adaptor's work. Sealed: only the crate implements it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a job for items of type `{I}`",
    note = "the closure of a stage must be `Send + Sync` and take the items of its source"
)]
pub trait Job<I>: Send + Sync + Sized + sealed::Sealed {
    /// What the stage yields.
    type Output: Send;

    /// What one item gives: none, one or many outputs.
    #[doc(hidden)]
    type Batch: IntoIterator<Item = Self::Output, IntoIter: Send> + Send;

    /// What a worker keeps from item to item. It may be `!Send`: it stays on its thread.
    #[doc(hidden)]
    type State;

    /// Whether `State` is the user's, so that there must be one a worker and no more.
    #[doc(hidden)]
    const STATEFUL: bool = false;

    /// Whether a closure's panic is a value.
    #[doc(hidden)]
    const CATCHES: bool = false;

    /// Makes a worker's state, on the worker, before its first item.
    #[doc(hidden)]
    fn state(&self) -> Self::State;

    /// Runs one item. `true`: nothing after this item counts.
    #[doc(hidden)]
    fn run(&self, state: &mut Self::State, item: I) -> (Self::Batch, bool);

    /// What stands at the place of an item whose closure panicked; `Err`: the panic itself.
    #[doc(hidden)]
    fn failed(&self, why: ItemError) -> Result<Self::Batch, ItemError> {
        Err(why)
    }

    /// How many outputs the rest of the input can give, by how many items are left.
    #[doc(hidden)]
    fn outputs(items: (usize, Option<usize>)) -> (usize, Option<usize>) {
        (0, items.1)
    }
}

/// A job that gives exactly one output an item, so that a stage knows its length.
pub trait OneToOne: sealed::Sealed {}

/// The batch of such a job: one output, without a tag.
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
    /// Keeps `Job` and `OneToOne` ours.
    #[allow(unnameable_types)]
    pub trait Sealed {}
}
