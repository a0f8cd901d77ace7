//! `round_robin`: one item of each source in turn, in the same order on every run.

use crate::support::{
    Counter, Gate, Ledger, SOON, blocks, caught, counted, message, panics_at, within,
};
use fanfold::{CancelToken, round_robin};
use itertools::Itertools;
use quickcheck::quickcheck;

type Boxed = Box<dyn Iterator<Item = u64> + Send>;

/// The expected items, computed sequentially.
fn oracle(sources: &[Vec<u16>], stops: bool) -> Vec<u16> {
    let mut iters: Vec<_> = sources
        .iter()
        .map(|source| source.iter().copied())
        .collect();
    let mut out = Vec::new();
    while !iters.is_empty() {
        let mut turn = 0;
        while turn < iters.len() {
            match iters[turn].next() {
                Some(item) => {
                    out.push(item);
                    turn += 1;
                }
                None if stops => return out,
                None => drop(iters.remove(turn)),
            }
        }
    }
    out
}

quickcheck! {
    fn it_takes_turns(sources: Vec<Vec<u16>>, buffer: u8) -> bool {
        let buffer = usize::from(buffer % 8) + 1;
        let all = round_robin(sources.clone()).buffer(buffer);
        let short = round_robin(sources.clone()).buffer(buffer).stop_at_first_end();
        all.eq(oracle(&sources, false)) && short.eq(oracle(&sources, true))
    }

    fn two_of_them_are_itertools_interleave(a: Vec<u16>, b: Vec<u16>) -> bool {
        let ours = round_robin([a.clone(), b.clone()]);
        ours.eq(a.into_iter().interleave(b))
    }
}

#[test]
fn the_others_read_ahead_while_one_is_waited_for() {
    within(SOON, || {
        let (gate, pulled) = (Gate::new(), Counter::new());
        let silent: Boxed = Box::new(blocks(&gate));
        let quick: Boxed = Box::new(counted(0.., &pulled));
        let opener = gate.clone();
        let seen = pulled.clone();
        let watch = std::thread::spawn(move || {
            seen.wait_for(5);
            opener.open();
        });
        let mut robin = round_robin([silent, quick]).buffer(5);
        assert_eq!(robin.next(), Some(0));
        watch.join().expect("no panic");
        drop(robin);
        fanfold::testing::assert_quiescent();
    });
}

#[test]
fn the_end_of_the_first_waits_for_no_source() {
    within(SOON, || {
        let gate = Gate::new();
        let short: Boxed = Box::new(0..1);
        let long: Boxed = Box::new((5..7).chain(blocks(&gate)));
        let mut robin = round_robin([short, long]).stop_at_first_end();
        let _open = gate.opener();
        assert_eq!((robin.next(), robin.next()), (Some(0), Some(5)));
        for _ in 0..3 {
            assert_eq!((robin.next(), robin.size_hint()), (None, (0, Some(0))));
        }
    });
}

/// A source that is stopped counts as one that has ended.
#[test]
fn a_cancelled_round_robin_yields_what_is_buffered() {
    for stops in [false, true] {
        within(SOON, move || {
            let (gate, token, there) = (Gate::new(), CancelToken::new(), Gate::new());
            let silent: Boxed = Box::new(blocks(&gate));
            let ready: Boxed = Box::new((0..10).chain(std::iter::from_fn({
                let (there, gate) = (there.clone(), gate.clone());
                move || {
                    there.open(); // every item before this has been handed over
                    gate.wait();
                    None
                }
            })));
            let robin = round_robin([ready, silent]).cancel_on(&token);
            let mut robin = if stops {
                robin.stop_at_first_end()
            } else {
                robin
            };
            let _open = gate.opener();
            let canceller = std::thread::spawn(move || {
                there.wait();
                token.cancel();
            });
            let (mut got, want) = (Vec::new(), if stops { 1 } else { 10 });
            while let Some(item) = robin.next() {
                got.push(item);
                let most = robin.size_hint().1;
                assert!(most.is_none_or(|most| most >= want - got.len()));
            }
            assert!(got.into_iter().eq(0..want as u64));
            assert_eq!((robin.next(), robin.size_hint()), (None, (0, Some(0))));
            canceller.join().expect("no panic");
        });
    }
}

#[test]
fn a_panic_comes_at_its_turn_and_the_others_go_on() {
    within(SOON, || {
        let sources = (1..=3).map(|k| panics_at(k, &Counter::new()).take(4));
        let mut robin = round_robin(sources);
        let mut got = Vec::new();
        for _ in 0..9 {
            got.push(caught(|| robin.next()));
        }
        let (a, b) = (Ok(Some(0)), Ok(Some(1)));
        assert_eq!(got, [a, a, a, Err(1), b, b, Err(2), Ok(Some(2)), Err(3)]);
        assert_eq!(robin.next(), None);
        fanfold::testing::assert_quiescent();
    });
}

#[test]
fn untaken_items_are_dropped_once() {
    for taken in 0..20 {
        within(SOON, move || {
            let ledger = Ledger::new();
            let sources = (0..3).map(|source| {
                let items = ledger.clone();
                (0..10 - source).map(move |i| items.track(100 * source + i))
            });
            let robin = round_robin(sources).stop_at_first_end();
            assert_eq!(robin.take(taken).count(), taken.min(26));
            ledger.assert_dropped_once();
            fanfold::testing::assert_quiescent();
        });
    }
}

#[test]
fn no_sources_borrowed_sources_and_hints_work() {
    assert_eq!(round_robin(Vec::<Vec<u8>>::new()).next(), None);
    let words = [
        vec![String::from("a"), String::from("b")],
        vec![String::from("1")],
    ];
    let all: Vec<&String> = round_robin(words.iter()).collect();
    assert_eq!(all, ["a", "1", "b"]);
    assert_eq!(round_robin([0..3, 0..5]).size_hint(), (8, Some(8)));
    assert!(message(|| round_robin([[1]]).buffer(0)).contains("buffer(1)"));
}

#[test]
fn a_token_that_is_tripped_before_the_start_promises_nothing() {
    let token = CancelToken::new();
    let turns = round_robin([0..3, 0..4]).cancel_on(&token);
    assert_eq!(turns.size_hint(), (7, Some(7)));
    token.cancel();
    assert_eq!(turns.size_hint().0, 0);
    assert_eq!(turns.count(), 0);
}
