//! The source of a stage that is pushed into: what was pushed and not yet pulled.

use crate::par::source::{Nothing, Source};
use crate::runtime::scope::ScopeContext;
use std::collections::VecDeque;
use std::fmt;

/// The source of a stage that items are pushed into; made by
/// [`push_map_ordered`](crate::push_map_ordered()).
pub struct Pushed<T> {
    inbox: Inbox<T>,
}

impl<T> Pushed<T> {
    pub(crate) fn new() -> Self {
        Pushed {
            inbox: Inbox {
                items: VecDeque::new(),
                is_closed: false,
            },
        }
    }

    /// Nothing will be pushed any more.
    pub(crate) fn close(&mut self) {
        self.inbox.is_closed = true;
    }
}

impl<T> fmt::Debug for Pushed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pushed").finish_non_exhaustive()
    }
}

/// What the consumer pulls: a queue that holds one item at most, unless the user ignores what `push` returns.
#[allow(unreachable_pub)] // part of the signature of a public trait
#[derive(Debug)]
pub struct Inbox<T> {
    pub(crate) items: VecDeque<T>,
    pub(crate) is_closed: bool,
}

impl<T> Iterator for Inbox<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.items.pop_front()
    }
}

// Never what somebody means whose source cannot be pulled.
#[diagnostic::do_not_recommend]
impl<T> Source for Pushed<T> {
    type Item = T;
    type Far = Nothing<T>;
    type Near = Inbox<T>;
    const LOCAL: bool = true;

    fn place(self, _: ScopeContext) -> Result<Self::Far, Inbox<T>> {
        Err(self.inbox)
    }

    fn hint(&self) -> (usize, Option<usize>) {
        let most = self.inbox.is_closed.then_some(self.inbox.items.len());
        (self.inbox.items.len(), most)
    }

    fn at_hand(inbox: &Inbox<T>) -> usize {
        match inbox.items.len() {
            0 if inbox.is_closed => usize::MAX,
            items => items,
        }
    }
}
