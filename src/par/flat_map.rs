//! `par_flat_map`: many outputs per item, collected by the worker.

use crate::par::job::{Job, sealed::Sealed};

/// The job of [`par_flat_map`](crate::Fanfold::par_flat_map).
#[derive(Clone, Debug)]
pub struct FlatMap<F> {
    f: F,
}

impl<F> FlatMap<F> {
    pub(crate) fn new(f: F) -> Self {
        FlatMap { f }
    }
}

impl<F> Sealed for FlatMap<F> {}

impl<I, U, F> Job<I> for FlatMap<F>
where
    U: IntoIterator<Item: Send>,
    F: Fn(I) -> U + Send + Sync,
{
    type Output = U::Item;
    type Batch = Vec<U::Item>;
    type State = ();

    fn state(&self) {}

    fn run(&self, (): &mut (), item: I) -> (Vec<U::Item>, bool) {
        (collect((self.f)(item).into_iter()), false)
    }

    fn outputs((_, most): (usize, Option<usize>)) -> (usize, Option<usize>) {
        // No item gives no output; one item may give any number of them.
        (0, most.filter(|most| *most == 0))
    }
}

fn collect<I: Iterator>(outputs: I) -> Vec<I::Item> {
    // `Vec` would trust a hint of more than fits into memory, which must be wrong.
    let most = isize::MAX as usize / size_of::<I::Item>().max(1);
    if outputs.size_hint().0 > most {
        outputs.fold(Vec::new(), |mut all, output| {
            all.push(output);
            all
        })
    } else {
        outputs.collect()
    }
}
