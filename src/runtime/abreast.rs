//! Tasks that run at the same time, each on its own thread.

use crate::runtime::lease::with_crew;
use crate::runtime::pool::Pool;

/// What one thread does. It must not panic.
pub(crate) type Task<'a> = Box<dyn FnOnce() + Send + 'a>;

/// Runs `own` on this thread and the others on leased threads, and waits for all of them. If a task gets no
/// thread, `late` is called with its index before `own` begins, and the task runs here after `own`.
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
            task.run();
        }
    });
}
