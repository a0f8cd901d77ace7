//! The rule that decides which readers an item goes to.

/// Decides which readers an item goes to. Sealed: only this crate implements it.
pub trait Dispatch<T>: sealed::Sealed {
    /// Its name in messages.
    #[doc(hidden)]
    const NAME: &'static str;

    /// Whether every item goes to every reader.
    #[doc(hidden)]
    const EACH: bool = false;

    /// Puts the item into `out`, with the number of its reader. If there are several, puts one into `out` for
    /// each of `readers`; the last of them gets the item itself, the others clones.
    #[doc(hidden)]
    fn deal(&mut self, item: T, readers: &[usize], out: &mut Vec<(usize, T)>);

    /// A reader's name in messages.
    #[doc(hidden)]
    fn reader(number: usize) -> String {
        format!("reader {number}")
    }
}

pub(super) mod sealed {
    #[allow(unreachable_pub)] // what is above the public `Dispatch`
    pub trait Sealed {}
}
