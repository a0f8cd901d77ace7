//! Scopes: in them a stage that borrows is an iterator, because the end of the scope joins it.

use crate::runtime::context::{self, Link};
use crate::runtime::lease::{JoinGuard, JoinHandle, Stop};
use crate::runtime::pool::Pool;
use crate::sync::{Arc, Mutex};
use std::marker::PhantomData;

/// The stages that were started within a scope; `None` once the scope is over.
struct Registry(Mutex<Option<Vec<JoinHandle>>>);

impl Registry {
    /// `false`: the scope is over.
    fn add(&self, member: JoinHandle) -> bool {
        match &mut *self.0.lock() {
            Some(members) => {
                // What has ended on its own need not be kept until the scope's end.
                members.retain(JoinHandle::is_there);
                members.push(member);
                true
            }
            None => false,
        }
    }

    /// Stops and joins all, and those that were started meanwhile, and refuses any later start.
    fn close(&self) {
        loop {
            let members = {
                let mut registry = self.0.lock();
                match registry.take() {
                    None => return,
                    Some(members) if members.is_empty() => return,
                    Some(members) => {
                        *registry = Some(Vec::new());
                        members
                    }
                }
            };
            members.iter().for_each(JoinHandle::stop);
            members.iter().for_each(JoinHandle::join);
        }
    }
}

/// In what context a stage starts: within a scope, or not. Who has one can start a stage that
/// borrows, so it cannot be made outside the crate: it has no public name and is not `Default`.
#[derive(Clone)]
pub struct ScopeContext {
    registry: Option<Arc<Registry>>,
}

impl ScopeContext {
    /// Not within a scope.
    pub(crate) const NONE: ScopeContext = ScopeContext { registry: None };
}

impl std::fmt::Debug for ScopeContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScopeContext").finish_non_exhaustive()
    }
}

/// A scope in which stages that borrow may be used as iterators; see [`scope`](crate::scope()).
#[derive(Debug)]
pub struct Scope<'scope, 'env: 'scope> {
    cx: ScopeContext,
    // Invariant in both, as in `std::thread::Scope`.
    scope: PhantomData<&'scope mut &'scope ()>,
    env: PhantomData<&'env mut &'env ()>,
}

/// Closes the registry when the scope's closure returns or unwinds.
struct Close(Arc<Registry>);

impl Drop for Close {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Runs `f`, then joins all stages that it started within its scope.
pub(crate) fn scoped<'env, T>(f: impl for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T) -> T {
    let registry = Arc::new(Registry(Mutex::new(Some(Vec::new()))));
    let scope = Scope {
        cx: ScopeContext {
            registry: Some(Arc::clone(&registry)),
        },
        scope: PhantomData,
        env: PhantomData,
    };
    let _close = Close(registry);
    f(&scope)
}

/// That a stage was put within a scope.
#[derive(Clone, Debug)]
pub(crate) struct InScope<'scope> {
    cx: ScopeContext,
    scope: PhantomData<&'scope mut &'scope ()>,
}

impl<'scope> InScope<'scope> {
    pub(crate) fn cx(&self) -> &ScopeContext {
        &self.cx
    }

    pub(crate) fn new(scope: &'scope Scope<'scope, '_>) -> Self {
        InScope {
            cx: scope.cx.clone(),
            scope: PhantomData,
        }
    }
}

/// The right to make one team of threads, given by a door. Nobody outside the crate can get hold of one.
#[allow(unreachable_pub)] // it stands in the signature of `Start`
#[derive(Debug)]
pub struct StartPermit {
    cx: ScopeContext,
    /// It is run to its end here and now.
    drains: bool,
}

impl StartPermit {
    pub(crate) fn new(cx: &ScopeContext, drains: bool) -> Self {
        let cx = cx.clone();
        StartPermit { cx, drains }
    }

    /// The link to what this thread is in the middle of, if the stage is to have one.
    pub(crate) fn link(&self) -> Option<Link> {
        if self.drains {
            context::link()
        } else {
            context::link_of_iterator()
        }
    }

    /// In what context an inner stage has to start.
    pub(crate) fn cx(&self) -> ScopeContext {
        self.cx.clone()
    }

    /// Makes the team of threads. `None`: the scope is over.
    pub(crate) fn join_guard(self, pool: Pool, stop: Arc<dyn Stop>) -> Option<JoinGuard> {
        let join_guard = JoinGuard::new(pool, stop);
        match &self.cx.registry {
            Some(registry) if !registry.add(join_guard.member()) => None,
            _ => Some(join_guard),
        }
    }
}
