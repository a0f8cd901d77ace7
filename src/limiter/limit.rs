//! The argument of `throttle`.

use crate::limiter::queue::Limiter;
use crate::limiter::rate::Rate;

/// The argument of [`throttle`](crate::Fanfold::throttle): a rate for a new limiter, or a shared
/// limiter. Needs the feature `throttle`.
///
/// Made by `into` from a number of items per second, a [`Rate`], a [`Limiter`] or a reference to one.
#[derive(Clone, Debug)]
pub struct Limit(Of);

#[derive(Clone, Debug)]
enum Of {
    Rate(Rate),
    Limiter(Limiter),
}

impl Limit {
    #[track_caller]
    pub(crate) fn limiter(self) -> Limiter {
        match self.0 {
            Of::Rate(rate) => Limiter::new(rate),
            Of::Limiter(limiter) => limiter,
        }
    }
}

impl From<Rate> for Limit {
    fn from(rate: Rate) -> Self {
        Limit(Of::Rate(rate))
    }
}

impl From<u32> for Limit {
    fn from(items: u32) -> Self {
        Limit(Of::Rate(items.into()))
    }
}

impl From<f64> for Limit {
    fn from(items: f64) -> Self {
        Limit(Of::Rate(items.into()))
    }
}

impl From<Limiter> for Limit {
    fn from(limiter: Limiter) -> Self {
        Limit(Of::Limiter(limiter))
    }
}

impl From<&Limiter> for Limit {
    fn from(limiter: &Limiter) -> Self {
        Limit(Of::Limiter(limiter.clone()))
    }
}
