//! What rayon calls a producer, cut into pieces from its front: the items of the stage that runs them.

use crate::par::job::{Job, One, OneToOne, sealed::Sealed};
use rayon::iter::plumbing::Producer;

/// A part of a producer, which nobody has run.
pub(super) struct Piece<P>(P);

/// The source of the stage: pieces of `step` items, in order. The last one may be shorter.
pub(super) struct Pieces<P> {
    /// `None`: everything was cut off.
    rest: Option<P>,
    /// How many items `rest` has. A producer cannot tell.
    left: usize,
    step: usize,
}

impl<P: Producer> Pieces<P> {
    pub(super) fn new(producer: P, len: usize, step: usize) -> Self {
        Pieces {
            rest: Some(producer),
            left: len,
            step,
        }
    }
}

impl<P: Producer> Iterator for Pieces<P> {
    type Item = Piece<P>;

    #[inline]
    fn next(&mut self) -> Option<Piece<P>> {
        if self.left == 0 {
            return None;
        }
        let rest = self.rest.take()?;
        if self.left <= self.step {
            self.left = 0;
            return Some(Piece(rest));
        }
        let (piece, rest) = rest.split_at(self.step);
        self.left -= self.step;
        self.rest = Some(rest);
        Some(Piece(piece))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let pieces = self.left.div_ceil(self.step);
        (pieces, Some(pieces))
    }
}

/// Runs a piece of one item.
#[derive(Clone, Copy, Debug)]
pub(super) struct RunOne;

impl Sealed for RunOne {}
impl OneToOne for RunOne {}

impl<P: Producer> Job<Piece<P>> for RunOne
where
    P::Item: Send,
{
    type Output = P::Item;
    type Batch = One<P::Item>;
    type State = ();

    fn state(&self) {}

    #[inline]
    fn run(&self, (): &mut (), piece: Piece<P>) -> (One<P::Item>, bool) {
        let item = piece.0.into_iter().next();
        (
            One(item.expect("a parallel iterator has as many items as its `len` says")),
            false,
        )
    }

    fn outputs(items: (usize, Option<usize>)) -> (usize, Option<usize>) {
        items
    }
}

/// Runs a piece of several items.
#[derive(Clone, Copy, Debug)]
pub(super) struct RunGroup;

impl Sealed for RunGroup {}

impl<P: Producer> Job<Piece<P>> for RunGroup
where
    P::Item: Send,
{
    type Output = P::Item;
    type Batch = Vec<P::Item>;
    type State = ();

    fn state(&self) {}

    fn run(&self, (): &mut (), piece: Piece<P>) -> (Vec<P::Item>, bool) {
        (piece.0.into_iter().collect(), false)
    }
}
