//! `par_map_ordered_init`: a state per worker.

use crate::par::job::{Job, One, OneToOne, sealed::Sealed};

/// The job of [`par_map_ordered_init`](crate::Fanfold::par_map_ordered_init).
#[derive(Clone, Debug)]
pub struct Init<N, F> {
    init: N,
    f: F,
}

impl<N, F> Init<N, F> {
    pub(crate) fn new(init: N, f: F) -> Self {
        Init { init, f }
    }
}

impl<N, F> Sealed for Init<N, F> {}
impl<N, F> OneToOne for Init<N, F> {}

impl<I, T, O, N, F> Job<I> for Init<N, F>
where
    O: Send,
    N: Fn() -> T + Send + Sync,
    F: Fn(&mut T, I) -> O + Send + Sync,
{
    type Output = O;
    type Batch = One<O>;
    type State = T;

    const STATEFUL: bool = true;

    fn state(&self) -> T {
        (self.init)()
    }

    fn run(&self, state: &mut T, item: I) -> (One<O>, bool) {
        (One((self.f)(state, item)), false)
    }

    fn outputs(items: (usize, Option<usize>)) -> (usize, Option<usize>) {
        items
    }
}
