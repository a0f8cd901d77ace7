//! Tasks that run at the same time, each on a thread of its own.

use crate::runtime::lease::with_crew;
use crate::runtime::pool::Pool;

/// What one thread does. It does not panic.
pub(crate) type Task<'a> = Box<dyn FnOnce() + Send + 'a>;

/// Runs `own` here and the others on leased threads, and waits for all of them. What gets no thread
/// is told to `late`, by its place, before `own` begins, and runs here after it.
pub(crate) fn abreast(pool: Pool, own: impl FnOnce(), others: Vec<Task<'_>>, late: impl Fn(usize)) {
    with_crew(pool, |leases| {
        let mut left = Vec::new();
        for (place, task) in others.into_iter().enumerate() {
            if let Err(task) = leases.lease(task) {
                late(place);
                left.push(task);
            }
        }
        own();
        for task in left {
            task();
        }
    });
}
