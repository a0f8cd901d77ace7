use super::*;
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
