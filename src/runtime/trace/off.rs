//! Without the feature: the same types, with nothing in them.

pub(crate) use std::panic::resume_unwind;

use std::any::Any;
use std::marker::PhantomData;

#[derive(Clone, Debug, Default)]
pub(crate) struct Made(());

#[allow(clippy::unused_self)] // as with the feature
impl Made {
    #[inline]
    pub(crate) fn here() -> Self {
        Made(())
    }

    #[inline]
    pub(crate) fn of(&mut self, _operator: &'static str) {}

    #[inline]
    pub(crate) fn sized(&mut self, _width: usize, _in_flight: Option<usize>) {}
}

#[derive(Debug, Default)]
pub(crate) struct StageSpan(());

/// The thread is in a span: in none.
pub(crate) struct Entered<'a>(PhantomData<&'a ()>);

impl Drop for Entered<'_> {
    // So that a `drop` is not in vain for clippy.
    #[inline]
    fn drop(&mut self) {}
}

#[allow(clippy::unused_self)]
impl StageSpan {
    #[inline]
    pub(crate) fn open(&self, _made: &Made, _name: Option<&str>) {}

    #[inline]
    pub(crate) fn close(&self) {}

    #[inline]
    pub(crate) fn is_watched(&self) -> bool {
        false
    }

    #[inline]
    pub(crate) fn has_items(&self) -> bool {
        false
    }

    #[inline]
    pub(crate) fn enter(&self) -> Entered<'_> {
        Entered(PhantomData)
    }

    #[inline]
    pub(crate) fn item(&self, _seq: u64) -> Entered<'_> {
        Entered(PhantomData)
    }

    #[inline]
    pub(crate) fn panicked(&self, _seq: Option<u64>, _payload: &(dyn Any + Send)) {}
}

#[inline]
pub(crate) fn reports(_message: &str) {}

#[derive(Clone, Debug)]
pub(crate) struct Subscriber(());

#[allow(clippy::unused_self)]
impl Subscriber {
    #[inline]
    pub(crate) fn here() -> Self {
        Subscriber(())
    }

    #[inline]
    pub(crate) fn enter(self) -> Entered<'static> {
        Entered(PhantomData)
    }
}
