//! `.parked_weight(..)`: outputs have weights.

use crate::error::{Cancelled, ItemError};
use crate::par::job::{Job, One, OneToOne, sealed::Sealed};

/// The job of a stage with [`parked_weight`](crate::Stage::parked_weight).
#[derive(Clone, Debug)]
pub struct ParkedWeight<J, W> {
    job: J,
    weight: W,
}

impl<J, W> ParkedWeight<J, W> {
    pub(crate) fn new(job: J, weight: W) -> Self {
        ParkedWeight { job, weight }
    }
}

/// The outputs of an item, to be looked at.
#[diagnostic::on_unimplemented(
    message = "the outputs of an isolated stage cannot be weighed",
    label = "this stage is isolated",
    note = "put `.parked_weight(..)` before `.isolate()`: what is weighed is what the closure returns"
)]
pub trait Weighable<O>: Sealed {
    /// What they weigh together.
    #[doc(hidden)]
    fn weigh(&self, weight: impl Fn(&O) -> usize) -> usize;
}

impl<O> Sealed for One<O> {}
impl<O> Sealed for Option<O> {}

impl<O> Weighable<O> for One<O> {
    #[inline]
    fn weigh(&self, weight: impl Fn(&O) -> usize) -> usize {
        weight(&self.0)
    }
}

impl<O> Weighable<O> for Option<O> {
    #[inline]
    fn weigh(&self, weight: impl Fn(&O) -> usize) -> usize {
        self.as_ref().map_or(0, weight)
    }
}

impl<J, W> Sealed for ParkedWeight<J, W> {}
impl<J: OneToOne, W> OneToOne for ParkedWeight<J, W> {}

impl<I, J, W> Job<I> for ParkedWeight<J, W>
where
    J: Job<I, Batch: Weighable<J::Output>>,
    W: Fn(&J::Output) -> usize + Send + Sync,
{
    type Output = J::Output;
    type Batch = J::Batch;
    type State = J::State;

    const STATEFUL: bool = J::STATEFUL;
    const CATCHES: bool = J::CATCHES;
    const PARKS: bool = true;

    fn state(&self) -> J::State {
        self.job.state()
    }

    fn is_usable(state: &J::State) -> bool {
        J::is_usable(state)
    }

    #[inline]
    fn run(&self, state: &mut J::State, item: I) -> (J::Batch, bool) {
        self.job.run(state, item)
    }

    fn failed(&self, why: ItemError) -> Result<J::Batch, ItemError> {
        self.job.failed(why)
    }

    fn refused(why: Cancelled) -> Option<Self::Output> {
        J::refused(why)
    }

    fn outputs(items: (usize, Option<usize>)) -> (usize, Option<usize>) {
        J::outputs(items)
    }

    #[inline]
    fn item_weight(&self, item: &I) -> usize {
        self.job.item_weight(item)
    }

    #[inline]
    fn batch_weight(&self, batch: &J::Batch) -> usize {
        batch.weigh(&self.weight)
    }
}
