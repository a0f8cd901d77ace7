//! `.isolate()`: a panic becomes a value at its item's position.

use crate::error::{Cancelled, ItemError};
use crate::par::job::{Job, OneToOne, sealed::Sealed};

/// The job of an [isolated](crate::Stage::isolate) stage.
#[derive(Clone, Debug)]
pub struct Isolated<J> {
    job: J,
}

impl<J> Isolated<J> {
    pub(crate) fn new(job: J) -> Self {
        Isolated { job }
    }
}

impl<J> Sealed for Isolated<J> {}
impl<J: OneToOne> OneToOne for Isolated<J> {}

impl<I, J: Job<I>> Job<I> for Isolated<J> {
    type Output = Result<J::Output, ItemError>;
    type Batch = IsolatedBatch<J::Batch>;
    type State = J::State;

    const STATEFUL: bool = J::STATEFUL;
    const CATCHES: bool = true;
    const PARKS: bool = J::PARKS;

    fn state(&self) -> J::State {
        self.job.state()
    }

    fn is_usable(state: &J::State) -> bool {
        J::is_usable(state)
    }

    #[inline]
    fn run(&self, state: &mut J::State, item: I) -> (IsolatedBatch<J::Batch>, bool) {
        let (batch, last) = self.job.run(state, item);
        (IsolatedBatch::Good(batch), last)
    }

    fn failed(&self, why: ItemError) -> Result<IsolatedBatch<J::Batch>, ItemError> {
        Ok(IsolatedBatch::Bad(why))
    }

    fn refused(why: Cancelled) -> Option<Self::Output> {
        Some(Err(why.into()))
    }

    fn outputs(items: (usize, Option<usize>)) -> (usize, Option<usize>) {
        J::outputs(items)
    }

    #[inline]
    fn item_weight(&self, item: &I) -> usize {
        self.job.item_weight(item)
    }

    #[inline]
    fn batch_weight(&self, batch: &IsolatedBatch<J::Batch>) -> usize {
        match batch {
            IsolatedBatch::Good(batch) => self.job.batch_weight(batch),
            IsolatedBatch::Bad(_) => 0,
        }
    }
}

/// The result of an item: its outputs, or why there are none.
#[derive(Debug)]
pub enum IsolatedBatch<B> {
    /// Its outputs.
    Good(B),
    /// Its failure.
    Bad(ItemError),
}

/// The outputs of an [`IsolatedBatch`].
#[derive(Debug)]
pub enum IsolatedOutputs<B> {
    /// The outputs of the item.
    Good(B),
    /// Its failure, once.
    Bad(Option<ItemError>),
}

impl<B: IntoIterator> IntoIterator for IsolatedBatch<B> {
    type Item = Result<B::Item, ItemError>;
    type IntoIter = IsolatedOutputs<B::IntoIter>;

    fn into_iter(self) -> Self::IntoIter {
        match self {
            IsolatedBatch::Good(batch) => IsolatedOutputs::Good(batch.into_iter()),
            IsolatedBatch::Bad(why) => IsolatedOutputs::Bad(Some(why)),
        }
    }
}

impl<B: Iterator> Iterator for IsolatedOutputs<B> {
    type Item = Result<B::Item, ItemError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            IsolatedOutputs::Good(batch) => batch.next().map(Ok),
            IsolatedOutputs::Bad(why) => why.take().map(Err),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match self {
            IsolatedOutputs::Good(batch) => batch.size_hint(),
            IsolatedOutputs::Bad(why) => {
                let left = usize::from(why.is_some());
                (left, Some(left))
            }
        }
    }
}
