use super::*;
use crate::runtime::lease::with_crew;
use crate::runtime::pool::threads::Seat;
use crate::sync::{AtomicUsize, Mutex, Ordering};

fn options() -> ThreadOptions {
    Pool::builder().idle_time(Duration::ZERO).options
}

/// Counts how often it is run.
fn task(ran: &Arc<AtomicUsize>) -> LeasedTask {
    let ran = Arc::clone(ran);
    LeasedTask::uncounted(Box::new(move || {
        ran.fetch_add(1, Ordering::Relaxed);
    }))
}

/// Lease / leave: a thread whose idle time is over leaves, or gets the task; a task that was taken is run.
#[test]
fn loom_lease_and_leave() {
    loom::model(|| {
        let seat = Seat::new(0, None);
        let threads = Arc::new(PoolThreads {
            options: options(),
            spins: AtomicUsize::new(0),
            state: Mutex::default(),
        });
        threads.state.lock().idle.push(Arc::clone(&seat));
        let ran = Arc::new(AtomicUsize::new(0));
        let thread = loom::thread::spawn({
            let threads = Arc::clone(&threads);
            move || {
                if let Some(task) = threads.wait(&seat) {
                    task.run();
                }
            }
        });
        let leased = threads.lease_idle(task(&ran)).is_ok();
        thread.join().expect("no panic");
        assert_eq!(ran.load(Ordering::Relaxed), usize::from(leased));
    });
}

/// Start / tell: the task of a thread that does not pass its hook comes back, and the thread does not count.
#[test]
fn loom_start_hook_fails() {
    loom::model(|| {
        let pool = Pool::builder().max_threads(1);
        let pool = pool
            .on_thread_start(|_| std::panic::resume_unwind(Box::new(())))
            .build();
        let ran = Arc::new(AtomicUsize::new(0));
        for _ in 0..2 {
            assert!(pool.lease(task(&ran)).is_err());
            assert_eq!(pool.threads(), 0);
        }
        assert_eq!(ran.load(Ordering::Relaxed), 0);
    });
}

/// List / join: when a stage has been joined, its thread is idle, and the next stage gets it.
#[test]
fn loom_list_before_join() {
    loom::model(|| {
        let pool = Pool::builder().build();
        for _ in 0..2 {
            let leased = with_crew(pool.clone(), |leases| leases.lease(|| ()).is_ok());
            assert!(leased);
            assert_eq!(pool.threads(), 1);
        }
    });
}
