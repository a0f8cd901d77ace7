use super::*;
use crate::runtime::sleeper::models::Woken;
use crate::sync::Injector;

/// Notify / wait: each of two pushed values is found, and ends a sleep.
#[test]
fn loom_event_notify_and_wait() {
    loom::model(|| {
        let mut listener = Listener::new();
        let queue = Arc::new(Injector::new());
        let bringer = loom::thread::spawn({
            let (queue, event) = (Arc::clone(&queue), Arc::clone(listener.event()));
            move || {
                for thing in 0..2 {
                    queue.push(thing);
                    event.notify();
                }
            }
        });
        for _ in 0..2 {
            assert_eq!(listener.wait(|| !queue.is_empty(), None), WaitResult::Ready);
            queue.steal();
        }
        bringer.join().expect("no panic");
    });
}

/// The same for a consumer that is polled: it finds the value, or its task is woken.
#[test]
fn loom_event_notify_and_poll() {
    loom::model(|| {
        let mut listener = Listener::new();
        let queue = Arc::new(Injector::new());
        let bringer = loom::thread::spawn({
            let (queue, event) = (Arc::clone(&queue), Arc::clone(listener.event()));
            move || {
                queue.push(1);
                event.notify();
            }
        });
        let task = Arc::new(Woken::default());
        listener.sleeper.begin_poll(&Arc::clone(&task).into());
        let heard = listener.wait(|| !queue.is_empty(), Some(Instant::now()));
        listener.sleeper.end_poll();
        bringer.join().expect("no panic");
        assert!(heard == WaitResult::Ready || task.is_woken());
    });
}
