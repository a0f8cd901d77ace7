//! What a stage yields for a panic: nothing, as it raises it, or a value.

use crate::error::ItemError;
use crate::par::isolated::Isolated;
use crate::par::job::{Job, sealed::Sealed};
use std::marker::PhantomData;

/// What the results of a parallel iterator come out as. Sealed: only the crate implements it.
pub trait Outcome<T>: Send + Sealed + 'static {
    /// The type that the stage yields.
    type Output: Send;

    /// The job that gives it.
    #[doc(hidden)]
    type Job<I: Send, J: Job<I, Output = T>>: Job<I, Output = Self::Output>;

    #[doc(hidden)]
    fn job<I: Send, J: Job<I, Output = T>>(job: J) -> Self::Job<I, J>;
}

/// A panic is raised at its place.
#[derive(Debug)]
pub enum Raising {}

/// A panic becomes a value; see [`isolate`](crate::Stage::isolate).
#[derive(Debug)]
pub struct Isolating<W>(PhantomData<fn() -> W>);

impl Sealed for Raising {}
impl<W> Sealed for Isolating<W> {}

impl<T: Send> Outcome<T> for Raising {
    type Output = T;
    type Job<I: Send, J: Job<I, Output = T>> = J;

    fn job<I: Send, J: Job<I, Output = T>>(job: J) -> J {
        job
    }
}

impl<T, W: Outcome<T>> Outcome<T> for Isolating<W> {
    type Output = Result<W::Output, ItemError>;
    type Job<I: Send, J: Job<I, Output = T>> = Isolated<W::Job<I, J>>;

    fn job<I: Send, J: Job<I, Output = T>>(job: J) -> Self::Job<I, J> {
        Isolated::new(W::job(job))
    }
}
