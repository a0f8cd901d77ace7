//! `try_par_map_ordered_init`: a state per worker that may fail to be made.

use crate::par::job::{Job, sealed::Sealed};

/// The job of [`try_par_map_ordered_init`](crate::Fanfold::try_par_map_ordered_init).
#[derive(Clone, Debug)]
pub struct TryInit<N, F> {
    init: N,
    f: F,
}

impl<N, F> TryInit<N, F> {
    pub(crate) fn new(init: N, f: F) -> Self {
        TryInit { init, f }
    }
}

impl<N, F> Sealed for TryInit<N, F> {}

impl<I, T, O, E, N, F> Job<I> for TryInit<N, F>
where
    O: Send,
    E: Send,
    N: Fn() -> Result<T, E> + Send + Sync,
    F: Fn(&mut T, I) -> Result<O, E> + Send + Sync,
{
    type Output = Result<O, E>;
    type Batch = Option<Result<O, E>>;
    /// `None` until the first item, as an error needs the place of an item.
    type State = Option<T>;

    const STATEFUL: bool = true;

    fn state(&self) -> Option<T> {
        None
    }

    fn is_usable(state: &Option<T>) -> bool {
        state.is_some()
    }

    fn run(&self, state: &mut Option<T>, item: I) -> (Option<Result<O, E>>, bool) {
        let made = match state {
            Some(made) => made,
            None => match (self.init)() {
                Ok(made) => state.insert(made),
                Err(error) => {
                    // Here, and not behind the return: if this drop panics, the error would be leaked there.
                    drop(item);
                    return (Some(Err(error)), true);
                }
            },
        };
        let result = (self.f)(made, item);
        let last = result.is_err();
        (Some(result), last)
    }

    fn outputs((least, most): (usize, Option<usize>)) -> (usize, Option<usize>) {
        // If any items are left, the first one gives an output.
        (least.min(1), most)
    }
}
