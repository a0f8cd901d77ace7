//! Unit tests of the parts of a keyed stage.

use super::state::{KEPT, KeyLane, KeyedState, Outbox, Results};
use crate::sync::Arc;
use std::collections::VecDeque;

type TestState = KeyedState<(), u32, u32>;

#[test]
fn a_long_lane_gives_its_memory_back_when_it_shrinks() {
    let mut lane = KeyLane::new();
    let mut hand = VecDeque::new();
    lane.queue.extend(0..100_000_u32);
    lane.take(99_990, &mut hand);
    assert_eq!((lane.queue.len(), hand.len()), (10, 99_990));
    assert!(lane.queue.capacity() < 1000);
    hand.clear();
    lane.take(64, &mut hand);
    assert_eq!((lane.queue.len(), hand.len()), (0, 10));
    let before = lane.queue.capacity();
    lane.queue.extend(0..3);
    lane.take(64, &mut hand);
    assert_eq!(lane.queue.capacity(), before.max(3), "what is short stays");
}

#[test]
fn deliver_notifies_once_when_enough_results_are_there() {
    let mut state = TestState::new(None, 2);
    let results = |count: u32| (0..count).map(|x| (0, Ok(x))).collect::<Results<u32>>();
    state.wanted = 3;
    assert!(!state.deliver(&mut results(2)));
    assert!(state.deliver(&mut results(2)));
    assert!(!state.deliver(&mut results(2)), "it has been notified");
    assert_eq!(state.done.len(), 6);
}

#[test]
fn take_done_takes_the_outboxes_last() {
    let mut state = TestState::new(None, 2);
    let outbox = Outbox::default();
    state.outboxes.push((1, Arc::clone(&outbox)));
    assert!(!state.is_any_in_outboxes());
    outbox.lock().push_back((2, Ok(2)));
    assert!(state.is_any_in_outboxes());
    state.done.push_back((1, Ok(1)));
    let mut taken = VecDeque::new();
    state.take_done(&mut taken);
    let taken: Vec<_> = taken
        .into_iter()
        .filter_map(|(_, done)| done.ok())
        .collect();
    assert_eq!(taken, [1, 2]);
    assert!(!state.is_any_in_outboxes());
}

#[test]
fn a_lane_is_listed_once_and_unstarted_items_go_back_in_front() {
    let mut state = TestState::new(None, 2);
    let mut hand = VecDeque::new();
    for item in 0..3 {
        state.admit(0, item);
    }
    state.admit(1, 10);
    assert_eq!(state.ready, [0, 1]);
    assert_eq!(state.start(2, &mut hand), Some(0));
    assert_eq!((hand.len(), state.running), (2, 1));
    state.admit(0, 3);
    assert_eq!(state.ready, [1], "it runs");
    hand.pop_front();
    state.finish(0, &mut hand);
    assert_eq!((&state.ready, state.running), (&VecDeque::from([1, 0]), 0));
    assert_eq!(state.lanes[0].queue, [1, 2, 3]);
    assert_eq!(state.start(2, &mut hand), Some(1));
    hand.clear();
    state.finish(1, &mut hand);
    assert_eq!((&state.idle[..], state.lanes[1].listed), (&[1][..], true));
    state.admit(1, 11);
    state.start(1, &mut hand);
    assert_eq!(state.start(9, &mut hand), Some(1));
    hand.clear();
    state.finish(1, &mut hand);
    assert_eq!(state.idle, [1], "listed once");
}

#[test]
fn only_idle_lanes_are_forgotten_and_only_when_many() {
    let mut state = TestState::new(None, 2);
    let (mut hand, mut forgotten) = (VecDeque::new(), Vec::new());
    for lane in 0..=KEPT {
        state.forget_idle(&mut forgotten);
        assert_eq!(forgotten, []);
        state.admit(lane, 0);
        state.start(1, &mut hand);
        hand.clear();
        state.finish(lane, &mut hand);
    }
    state.admit(3, 1);
    state.admit(5, 1);
    state.start(1, &mut hand);
    state.forget_idle(&mut forgotten);
    let expected = (0..=KEPT).filter(|lane| ![3, 5].contains(lane));
    assert_eq!(forgotten, expected.collect::<Vec<_>>());
    assert!(state.idle.is_empty() && !state.lanes[3].listed);
}
