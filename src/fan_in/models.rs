//! Loom models of the protocol, in every order of its steps.

use crate::cancel::CancelToken;
use crate::fan_in::alarm::Alarm;
use crate::fan_in::lane::{LaneOpts, Message, SourceLane, SourceTask};
use crate::overflow::Overflow;
use crate::runtime::event::{Listener, WaitResult};
use crate::runtime::gauge::Gauge;
use crate::runtime::spin::SpinPolicy;
use crate::sync::{Arc, AtomicU64, Injector, Mutex, Parker, steal};
use std::ops::Range;
use std::time::Duration;

type Numbers = SourceLane<Range<usize>>;

fn lane(overflow: Overflow) -> Arc<Numbers> {
    Arc::new(SourceLane {
        index: 0,
        opts: LaneOpts {
            overflow,
            ..LaneOpts::new(1)
        },
        queue: Injector::new(),
        len: Gauge::default(),
        parked: Mutex::new(None),
        token: CancelToken::new(),
        inside: Arc::default(),
        since: AtomicU64::new(0),
    })
}

/// Push / take, park / room, notify / wait: a lane that holds one item, a worker (here a thread that
/// sleeps while its task is parked) and the consumer.
fn all_come(
    overflow: Overflow,
    items: usize,
    want: impl Fn(&[usize]) -> bool + Send + Sync + 'static,
) {
    loom::model(move || {
        let mut listener = Listener::new();
        let (lane, listed) = (lane(overflow), Arc::new(Injector::new()));
        let served = Parker::new();
        let call = served.unparker().clone();
        let work = loom::thread::spawn({
            let (lane, listed, event) = (
                Arc::clone(&lane),
                Arc::clone(&listed),
                Arc::clone(listener.event()),
            );
            move || {
                let push = |message| {
                    let before = lane.push(message);
                    if before == 0 {
                        listed.push(0);
                        event.notify();
                    }
                    before
                };
                for item in 0..items {
                    if overflow == Overflow::Block && !lane.has_room() {
                        let task = SourceTask {
                            source: 0..0,
                            lane: Arc::clone(&lane),
                            patience: SpinPolicy::new(),
                        };
                        if lane.park(task, 1).is_none() {
                            served.park();
                        }
                    }
                    assert!(overflow != Overflow::Block || lane.has_room());
                    if overflow == Overflow::DropOldest && !lane.has_room() {
                        drop(lane.take());
                    }
                    push(Message::Item(item));
                }
                push(Message::End);
            }
        });
        let (mut got, mut ready) = (Vec::new(), false);
        loop {
            ready |= steal(&listed).is_some();
            if !ready {
                assert_eq!(
                    listener.wait(|| !listed.is_empty(), None),
                    WaitResult::Ready
                );
                continue;
            }
            let Some((event, left, parked)) = lane.take() else {
                ready = false;
                continue;
            };
            assert!(left <= items, "nothing is taken that was not counted");
            ready = left > 0;
            if parked && lane.unpark(u64::MAX).is_some() {
                call.unpark();
            }
            match event {
                Message::Item(item) => got.push(item),
                _ => break,
            }
        }
        work.join().expect("no panic");
        assert!(want(&got), "{got:?}");
    });
}

/// Enter / arm: a consumer that goes to sleep while two sources are entered has a timer for the one
/// that is due first, or is notified and finds it in the alarm. (The models of `event` show what a
/// notification does.)
#[test]
fn loom_fan_in_enter_and_arm() {
    loom::model(|| {
        let alarm = Arc::new(Alarm::new());
        let lanes = [8, 4].map(|limit| {
            let mut lane = lane(Overflow::Block);
            let opts = &mut Arc::get_mut(&mut lane).expect("a new one").opts;
            opts.timeout = Some(Duration::from_nanos(limit));
            lane
        });
        let workers = [8, 4].map(|limit| {
            let (lane, alarm) = (
                Arc::clone(&lanes[usize::from(limit == 4)]),
                Arc::clone(&alarm),
            );
            loom::thread::spawn(move || lane.enter(1, limit, &alarm))
        });
        let due = alarm.look(lanes.iter().filter_map(|lane| lane.due()));
        let notifies = workers.map(|work| work.join().expect("no panic"));
        assert!(due == 5 || notifies[1] && alarm.is_before(due));
    });
}

#[test]
fn loom_fan_in_back_pressure() {
    all_come(Overflow::Block, 2, |got| got == [0, 1]);
}

#[test]
fn loom_fan_in_drop_oldest() {
    all_come(Overflow::DropOldest, 2, |got| matches!(got, [0, 1] | [1]));
}
