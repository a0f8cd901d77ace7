//! To which readers an item goes.

/// To which readers an item goes. Sealed: only the crate implements it.
pub trait Dispatch<T>: sealed::Sealed {
    /// What it is called in messages.
    #[doc(hidden)]
    const NAME: &'static str;

    /// Whether every item goes to every reader.
    #[doc(hidden)]
    const EACH: bool = false;

    /// Puts the item, with the number of its reader, into `out`; if there are several, for each of
    /// `readers`, and for the last of them the item itself.
    #[doc(hidden)]
    fn deal(&mut self, item: T, readers: &[usize], out: &mut Vec<(usize, T)>);

    /// How a reader is called in messages.
    #[doc(hidden)]
    fn reader(number: usize) -> String {
        format!("reader {number}")
    }
}

pub(crate) mod sealed {
    #[allow(unreachable_pub)] // what is above the public `Dispatch`
    pub trait Sealed {}
}
