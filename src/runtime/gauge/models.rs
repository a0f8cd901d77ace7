use super::*;
use crate::sync::{Arc, Parker};

/// Ask / sub: a worker that finds no room and sleeps is woken, even if no other thread looks again.
#[test]
fn loom_gauge_ask_and_sub() {
    loom::model(|| {
        let (gauge, parker) = (Arc::new(Gauge::default()), Parker::new());
        gauge.add();
        let consumer = loom::thread::spawn({
            let (gauge, worker) = (Arc::clone(&gauge), parker.unparker().clone());
            move || {
                if gauge.sub(1).1 {
                    worker.unpark();
                }
            }
        });
        if gauge.count() == 1 && !gauge.ask(1) {
            parker.park();
        }
        assert_eq!(gauge.count(), 0);
        consumer.join().expect("no panic");
    });
}
