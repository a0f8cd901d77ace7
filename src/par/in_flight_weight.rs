//! `.in_flight_weight(..)`: items have weights.

use crate::error::{Cancelled, ItemError};
use crate::par::job::{Job, OneToOne, sealed::Sealed};

/// The job of a stage with [`in_flight_weight`](crate::Stage::in_flight_weight).
#[derive(Clone, Debug)]
pub struct InFlightWeight<J, W> {
    job: J,
    weight: W,
}

impl<J, W> InFlightWeight<J, W> {
    pub(crate) fn new(job: J, weight: W) -> Self {
        InFlightWeight { job, weight }
    }
}

impl<J, W> Sealed for InFlightWeight<J, W> {}
impl<J: OneToOne, W> OneToOne for InFlightWeight<J, W> {}

impl<I, J, W> Job<I> for InFlightWeight<J, W>
where
    J: Job<I>,
    W: Fn(&I) -> usize + Send + Sync,
{
    type Output = J::Output;
    type Batch = J::Batch;
    type State = J::State;

    const STATEFUL: bool = J::STATEFUL;
    const CATCHES: bool = J::CATCHES;
    const PARKS: bool = J::PARKS;

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
        (self.weight)(item)
    }

    #[inline]
    fn batch_weight(&self, batch: &J::Batch) -> usize {
        self.job.batch_weight(batch)
    }
}
