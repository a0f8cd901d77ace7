//! The sources of stages, and which thread pulls them.

use crate::runtime::scope::ScopeContext;

/// A source of items: any `Iterator + Send`, another stage, or a [`Local`](crate::stage::Local) one.
/// Sealed: only the crate implements it.
#[diagnostic::on_unimplemented(
    message = "the source `{Self}` is not `Send`, so fanfold's workers cannot pull it",
    label = "this source cannot leave its thread",
    note = "make every part of the source `Send`: `Box<dyn Read + Send>` for `Box<dyn Read>`, `Arc` for `Rc`, `BufReader::new(stdin())` for `stdin().lock()`",
    note = "or put `.local()` before this call: then the consumer's own thread pulls the source"
)]
pub trait Source: Sized {
    /// The type of the items.
    type Item;

    /// The iterator that workers pull.
    #[doc(hidden)]
    type Far: Iterator<Item = Self::Item> + Send;

    /// The iterator that the consumer pulls.
    #[doc(hidden)]
    type Near: Iterator<Item = Self::Item>;

    /// Whether the consumer pulls it, so that a stage omits what only the other kind needs.
    #[doc(hidden)]
    const LOCAL: bool = false;

    /// Becomes one of the two iterators, in the context `cx`. As `ScopeContext` cannot be made outside
    /// the crate, this cannot be called there.
    #[doc(hidden)]
    fn place(self, cx: ScopeContext) -> Result<Self::Far, Self::Near>;

    /// The hint before anything is pulled.
    #[doc(hidden)]
    fn hint(&self) -> (usize, Option<usize>);

    /// How many items may be pulled now. 0: there is nothing now, and that is not the end.
    #[doc(hidden)]
    fn at_hand(_: &Self::Near) -> usize {
        usize::MAX
    }
}

/// The iterator of the kind that a source is not: workers pull it, or the consumer does.
#[allow(unreachable_pub)] // part of the signature of a public trait
pub type Nothing<T> = std::iter::Map<std::iter::Empty<()>, fn(()) -> T>;

#[diagnostic::do_not_recommend]
impl<I: Iterator + Send> Source for I {
    type Item = I::Item;
    type Far = I;
    type Near = Nothing<I::Item>;

    fn place(self, _: ScopeContext) -> Result<I, Self::Near> {
        Ok(self)
    }

    fn hint(&self) -> (usize, Option<usize>) {
        self.size_hint()
    }
}
