use super::*;
use crate::ordered::item_context::ItemContext;
use crate::runtime::context::Current;

#[test]
fn a_puller_stops_for_a_consumer_that_sleeps_for_what_it_holds() {
    let (signals, _parker) = lone();
    assert!(!signals.is_starving(0) && !signals.is_pull_over(0));
    signals.sleep_for(5);
    assert!(signals.is_starving(5) && signals.is_pull_over(5));
    assert!(signals.is_starving(4), "it has pulled that one too");
    assert!(!signals.is_starving(6) && !signals.is_pull_over(6));
    signals.published(4);
    assert!(signals.is_starving(5), "it was another item");
    signals.published(5);
    assert!(!signals.is_starving(5), "it is on its way");
    signals.awake();
    assert!(!signals.is_starving(0) && !signals.is_pull_over(0));
    signals.sleep_for(ANY);
    assert!(signals.is_starving(1_000_000) && signals.is_pull_over(1_000_000));
    signals.published(1);
    assert!(!signals.is_starving(0));
    signals.awake();
    signals.fail(9);
    assert!(signals.is_pull_over(0), "nothing more is wanted");
}

#[test]
fn the_consumer_is_waited_on_at_the_start_and_while_it_sleeps() {
    let (signals, _parker) = lone();
    assert!(signals.is_consumer_waiting());
    assert!(!signals.set_yielded(START - 1, Light::new()));
    assert!(signals.is_consumer_waiting());
    assert!(!signals.set_yielded(START, Light::new()));
    assert!(!signals.is_consumer_waiting());
    signals.sleep_for(START);
    assert!(signals.is_consumer_waiting());
    signals.published(START);
    assert!(signals.is_consumer_waiting(), "and while it wakes up");
    signals.awake();
    assert!(!signals.is_consumer_waiting());
}

#[test]
fn set_yielded_reports_when_awaited_room_is_there() {
    let (signals, _parker) = lone();
    assert!(!signals.is_room_wanted());
    signals.wait_for_room(7);
    assert!(signals.is_room_wanted());
    assert!(!signals.set_yielded(6, Light::new()));
    assert!(signals.set_yielded(7, Light::new()) && signals.set_yielded(8, Light::new()));
    signals.room_granted();
    assert!(!signals.is_room_wanted() && !signals.set_yielded(9, Light::new()));
}

/// Each of these parks returns, or the test hangs.
#[test]
fn the_consumer_is_woken_from_sleeps_and_naps() {
    let (signals, parker) = lone();
    signals.sleep_for(3);
    signals.published(3);
    parker.park();
    signals.awake();
    signals.sleep_for(4);
    signals.wake_consumer();
    parker.park();
    signals.awake();
    signals.sleep_for(4);
    signals.rouse();
    parker.park();
    signals.awake();
    signals.set_napping(true);
    signals.rouse();
    parker.park();
    signals.wait_for_room(1);
    parker.park();
    signals.cancel(Cancelled::default());
    parker.park();
    assert!(signals.is_cancelled() && !signals.is_stopped());
    signals.stop();
    parker.park();
    assert!(signals.is_stopped());
}

#[test]
fn only_the_tokens_of_items_behind_a_failure_are_tripped() {
    let (signals, _parker) = lone();
    let here = ItemContext::new(Arc::clone(&signals));
    let tokens = [2, 3, 4].map(|seq| {
        here.set_seq(seq);
        let token = here.token();
        here.token.take(); // as if each came from another worker
        token
    });
    signals.fail(3);
    assert_eq!(
        tokens.each_ref().map(CancelToken::is_cancelled),
        [false, false, true]
    );
    here.set_seq(4);
    assert!(here.token().is_cancelled(), "it comes too late");
    here.item_over();
    assert_eq!(signals.items.lock().len(), 3);
    assert!(!signals.token().is_cancelled());
}
