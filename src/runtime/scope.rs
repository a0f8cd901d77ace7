//! Scopes. Within a scope a stage that borrows is an iterator, because the end of the scope joins it.

use crate::runtime::context::{self, Link};
use crate::runtime::lease::{JoinGuard, JoinHandle, Stop};
use crate::runtime::pool::Pool;
use crate::sync::{Arc, Mutex};
use std::marker::PhantomData;

/// The stages that were started within a scope. `None` once the scope is over.
struct Registry(Mutex<Option<Vec<JoinHandle>>>);

impl Registry {
    /// Adds a stage. `false`: the scope is over.
    fn add(&self, member: JoinHandle) -> bool {
        match &mut *self.0.lock() {
            Some(members) => {
                // Stages that have ended by themselves need not be kept until the scope's end.
                members.retain(JoinHandle::is_there);
                members.push(member);
                true
            }
            None => false,
        }
    }

    /// Stops and joins all stages, also those that are started meanwhile, and refuses every later start.
    fn close(&self) {
        loop {
            // Taken out under the lock, and joined without it: a thread that is being joined may start an
            // inner stage, which `add`s itself. So the list stays open until a round finds it empty.
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
            // All are stopped before the first is joined, so that they end side by side, and one that waits
            // for another can leave.
            members.iter().for_each(JoinHandle::join);
        }
    }
}

/// In what context a stage starts: within a scope, or not. Code that has this can start a stage that borrows,
/// so it cannot be made outside the crate: it has no public name and is not `Default`.
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

/// Closes the list when the scope's closure returns or unwinds.
struct Close(Arc<Registry>);

impl Drop for Close {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Runs `f`, and then joins all stages that were started within its scope.
pub(crate) fn scoped<'env, T>(f: impl for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T) -> T {
    let registry = Arc::new(Registry(Mutex::new(Some(Vec::new()))));
    let scope = Scope {
        cx: ScopeContext {
            registry: Some(Arc::clone(&registry)),
        },
        scope: PhantomData,
        env: PhantomData,
    };
    // A guard, so that the scope is joined also if `f` unwinds.
    let _close = Close(registry);
    f(&scope)
}

/// Proof that a stage was put within a scope.
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

/// The right to make one `JoinGuard`. Only the entry points of `Lazy` make it, and code outside the crate
/// cannot get hold of one.
#[allow(unreachable_pub)] // it stands in the signature of `Start`
#[derive(Debug)]
pub struct StartPermit {
    cx: ScopeContext,
    /// The stage is run to its end within one call.
    drains: bool,
}

impl StartPermit {
    pub(crate) fn new(cx: &ScopeContext, drains: bool) -> Self {
        let cx = cx.clone();
        StartPermit { cx, drains }
    }

    /// The link to what this thread is in the middle of, if the stage is to have one.
    pub(crate) fn link(&self) -> Option<Link> {
        // A call that runs to its end cannot live on behind the frame that made it. An iterator can, if it
        // was lent.
        if self.drains {
            context::link()
        } else {
            context::link_of_iterator()
        }
    }

    /// The context in which an inner stage has to start.
    pub(crate) fn cx(&self) -> ScopeContext {
        self.cx.clone()
    }

    /// Makes the [`JoinGuard`]. `None`: the scope is over.
    pub(crate) fn join_guard(self, pool: Pool, stop: Arc<dyn Stop>) -> Option<JoinGuard> {
        let join_guard = JoinGuard::new(pool, stop);
        // Registered before any thread is leased, so the end of the scope joins every thread there ever is.
        // If the scope is over, the guard is dropped here, and has nothing to join.
        match &self.cx.registry {
            Some(registry) if !registry.add(join_guard.member()) => None,
            _ => Some(join_guard),
        }
    }
}
