use super::*;

fn shared(seat: &Arc<Seat>) -> Arc<PoolShared> {
    Arc::new(PoolShared {
        name: String::new(),
        stack_size: None,
        idle_time: Duration::ZERO,
        spins: AtomicUsize::new(0),
        state: Mutex::new(PoolState {
            idle: vec![Arc::clone(seat)],
            threads: Vec::new(),
            started: 1,
            closed: false,
        }),
    })
}

/// Lease / leave: a thread whose idle time is over leaves, or gets the task; a task that was taken is run.
#[test]
fn loom_lease_and_leave() {
    loom::model(|| {
        let seat = Arc::new(Seat {
            slot: Mutex::new(TaskSlot {
                task: None,
                sleeps: false,
            }),
            filled: Condvar::new(),
        });
        let shared = shared(&seat);
        let ran = Arc::new(AtomicUsize::new(0));
        let thread = loom::thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                if let Some(task) = shared.wait(&seat) {
                    task();
                }
            }
        });
        let task = Box::new({
            let ran = Arc::clone(&ran);
            move || {
                ran.fetch_add(1, Ordering::Relaxed);
            }
        });
        let leased = shared.lease_idle(task).is_ok();
        thread.join().expect("no panic");
        assert_eq!(ran.load(Ordering::Relaxed), usize::from(leased));
    });
}
