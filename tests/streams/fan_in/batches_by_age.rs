//! `window(size).max_age(d)`: windows that are also closed by time.

use crate::support::{
    Counter, Gate, Ledger, Lying, SOON, bang, blocks, caught, counted, message, panics_at, settle,
    within,
};
use fanfold::Fanfold;
use quickcheck::quickcheck;
use std::time::Duration;

/// Longer than any test takes.
const NEVER: Duration = Duration::from_secs(3_600);
/// The longest time that a window stays open where it is to be closed by age.
const SHORT: Duration = Duration::from_millis(5);

quickcheck! {
    fn those_that_do_not_age_are_plain_windows(items: Vec<u16>, size: u8) -> bool {
        let size = usize::from(size % 12) + 1;
        let aged = items.clone().into_iter().window(size).max_age(NEVER);
        aged.eq(items.into_iter().window(size))
    }

    fn whatever_the_time_nothing_is_lost(items: Vec<u16>, size: u8, micros: u8) -> bool {
        let size = usize::from(size % 12) + 1;
        let age = Duration::from_micros(u64::from(micros) + 1);
        let windows: Vec<_> = items.clone().into_iter().window(size).max_age(age).collect();
        windows.iter().all(|window| (1..=size).contains(&window.len()))
            && windows.concat() == items
    }
}

#[test]
fn a_window_comes_out_at_its_age_although_the_source_blocks() {
    within(SOON, || {
        let gate = Gate::new();
        let source = (0..3).chain(blocks(&gate)).chain(3..5);
        let mut windows = source.window(100).max_age(SHORT);
        let _open = gate.opener();
        let mut got = Vec::new();
        while got.len() < 3 {
            got.extend(windows.next().expect("a window"));
        }
        assert_eq!(got, [0, 1, 2]);
        gate.open();
        assert!(windows.flatten().eq(3..5));
    });
}

#[test]
fn a_window_closed_by_age_has_the_items_up_to_then() {
    within(SOON, || {
        let (gate, pulled) = (Gate::new(), Counter::new());
        let wait = gate.clone();
        let source = (0..10).inspect(move |i| {
            if *i == 5 {
                wait.wait();
                // Every earlier item is older by now.
                std::thread::sleep(4 * SHORT);
            }
        });
        let mut windows = counted(source, &pulled).window(10).max_age(2 * SHORT);
        // The consumer is late, but the items arrived in time.
        let opener = gate.clone();
        assert_eq!(windows.next().map(|w| w[0]), Some(0));
        opener.open();
        pulled.wait_for(10);
        let rest: Vec<_> = windows.collect();
        assert!(rest.iter().any(|window| window[0] == 5), "{rest:?}");
    });
}

/// The same if the consumer looks only after all items have come: their arrival times count.
#[test]
fn a_late_item_opens_a_new_window_even_if_next_was_not_called() {
    within(SOON, || {
        let (gate, pulled) = (Gate::new(), Counter::new());
        let wait = gate.clone();
        let source = (0..12).inspect(move |i| match i {
            6 => wait.wait(),
            9 => std::thread::sleep(4 * SHORT),
            _ => {}
        });
        let mut windows = counted(source, &pulled).window(6).max_age(2 * SHORT);
        let _open = gate.opener();
        let mut taken = 0;
        while taken < 6 {
            taken += windows.next().expect("a window").len();
        }
        gate.open();
        pulled.wait_for(12);
        let rest: Vec<_> = windows.collect();
        assert!(rest.iter().any(|window| window[0] == 9), "{rest:?}");
        assert_eq!(rest.concat(), [6, 7, 8, 9, 10, 11]);
    });
}

#[test]
fn a_full_window_does_not_wait_for_its_time() {
    within(SOON, || {
        let gate = Gate::new();
        let mut windows = (0..6).chain(blocks(&gate)).window(3).max_age(NEVER);
        let _open = gate.opener();
        assert_eq!(windows.next(), Some(vec![0, 1, 2]));
        assert_eq!(windows.next(), Some(vec![3, 4, 5]));
        gate.open();
        assert_eq!(windows.next(), None);
        assert_eq!(windows.next(), None);
        fanfold::testing::assert_quiescent();
    });
}

#[test]
fn a_source_panic_comes_after_the_window_it_cut_short() {
    within(SOON, || {
        let mut windows = panics_at(5, &Counter::new()).window(3).max_age(NEVER);
        assert_eq!(windows.next(), Some(vec![0, 1, 2]));
        assert_eq!(windows.next(), Some(vec![3, 4]));
        assert_eq!(caught(|| windows.next()), Err(5));
        assert_eq!(windows.next(), None);
        let mut windows = panics_at(3, &Counter::new()).window(3).max_age(NEVER);
        assert_eq!(windows.next(), Some(vec![0, 1, 2]));
        assert_eq!(caught(|| windows.next()), Err(3));
        assert_eq!(windows.next(), None);
    });
}

#[test]
fn aggregate_gives_one_value_per_window() {
    let sums = (1..=7)
        .window(3)
        .max_age(NEVER)
        .aggregate(|| 0, |sum, x| sum + x);
    assert!(sums.eq([6, 15, 7]));
    let add = |sum, x| if x == 5 { bang(5) } else { sum + x };
    let mut sums = (1..=7).window(3).max_age(NEVER).aggregate(|| 0, add);
    assert_eq!(sums.next(), Some(6));
    assert_eq!(caught(|| sums.next()), Err(5));
    assert_eq!(sums.next(), Some(13), "4 went with 5");
    assert_eq!(sums.next(), None);
}

#[test]
fn untaken_items_are_dropped_once() {
    for taken in 0..6 {
        within(SOON, move || {
            let ledger = Ledger::new();
            let items = ledger.clone();
            let windows = (0..14)
                .map(move |i| items.track(i))
                .window(3)
                .max_age(SHORT);
            assert!(windows.take(taken).count() <= taken);
            ledger.assert_dropped_once();
            fanfold::testing::assert_quiescent();
        });
    }
}

#[test]
fn windows_with_an_age_are_lazy_bounded_and_counted() {
    within(SOON, || {
        let pulled = Counter::new();
        let mut windows = counted(0..100, &pulled).window(4).max_age(NEVER);
        settle();
        assert_eq!(pulled.get(), 0);
        assert_eq!(windows.size_hint(), (25, Some(100)));
        assert_eq!(windows.next(), Some(vec![0, 1, 2, 3]));
        pulled.wait_for(8);
        settle();
        assert_eq!(pulled.get(), 8);
        let (low, high) = windows.size_hint();
        assert!(low <= 24 && high >= Some(24));
        assert_eq!(windows.by_ref().count(), 24);
        assert_eq!(windows.size_hint(), (0, Some(0)));
    });
}

#[test]
fn batches_by_size_or_time_go_to_a_stage() {
    within(SOON, || {
        let gate = Gate::new();
        let rows = (0..25).chain(blocks(&gate));
        let insert = |rows: Vec<u32>| rows.len();
        let mut stage = rows.window(10).max_age(SHORT).par_map_ordered(2, insert);
        let _open = gate.opener();
        let mut inserted = 0;
        while inserted < 25 {
            inserted += stage.next().expect("a batch");
        }
        gate.open();
        assert_eq!(stage.next(), None);
    });
}

#[test]
fn windows_of_windows_and_borrowed_items() {
    let words = ["to", "be", "or", "not"].map(String::from);
    let windows = words.iter().window(3).max_age(NEVER);
    assert_eq!(
        windows.collect::<Vec<_>>(),
        [vec!["to", "be", "or"], vec!["not"]]
    );
    let nested = (0..7).window(2).max_age(NEVER).window(2);
    assert_eq!(nested.last(), Some(vec![vec![4, 5], vec![6]]));
}

#[test]
fn zero_panics_with_the_fix() {
    assert!(message(|| (0..3).window(2).max_age(Duration::ZERO)).contains("leave it out"));
}

/// A lie that could be true of no memory stays one when it is divided.
#[test]
fn a_hint_that_lies_does_not_break_collect() {
    for size in 1..=9 {
        within(SOON, move || {
            for low in [usize::MAX, usize::MAX / 2 + 1] {
                let (inner, hint) = (0..20, (low, None));
                let mut windows = Lying { inner, hint }.window(size).max_age(NEVER);
                assert_eq!(windows.size_hint(), (0, None));
                let first = windows.next().expect("a window");
                assert_eq!(windows.size_hint(), (0, None));
                let rest = Iterator::collect::<Vec<_>>(windows);
                assert!(first.into_iter().chain(rest.concat()).eq(0..20));
            }
        });
    }
}
