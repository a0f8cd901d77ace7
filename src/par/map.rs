//! `par_map_ordered` and `par_map_unordered`: one output per item.

use crate::par::job::{Job, One, OneToOne, sealed::Sealed};

/// The job of [`par_map_ordered`](crate::Fanfold::par_map_ordered) and
/// [`par_map_unordered`](crate::Fanfold::par_map_unordered).
#[derive(Clone, Debug)]
pub struct Map<F> {
    f: F,
}

impl<F> Map<F> {
    pub(crate) fn new(f: F) -> Self {
        Map { f }
    }
}

impl<F> Sealed for Map<F> {}
impl<F> OneToOne for Map<F> {}

impl<I, O, F> Job<I> for Map<F>
where
    O: Send,
    F: Fn(I) -> O + Send + Sync,
{
    type Output = O;
    type Batch = One<O>;
    type State = ();

    fn state(&self) {}

    #[inline]
    fn run(&self, (): &mut (), item: I) -> (One<O>, bool) {
        (One((self.f)(item)), false)
    }

    fn outputs(items: (usize, Option<usize>)) -> (usize, Option<usize>) {
        items
    }
}
