//! P1: outputs are those of the sequential adaptor, in the same order, for every width, bound and timing.

use crate::support::{Lying, SOON, dawdle, mix, within};
use fanfold::Fanfold;
use quickcheck::{Arbitrary, Gen, QuickCheck};
use std::cell::Cell;
use std::sync::Arc;

/// One run: its length, width, bound and delays, and where the consumer stops.
#[derive(Clone, Debug)]
struct Case {
    len: u64,
    n: usize,
    in_flight: Option<usize>,
    seed: u64,
    /// Whether the source tells its length.
    sized: bool,
    take: Option<usize>,
}

impl Arbitrary for Case {
    fn arbitrary(g: &mut Gen) -> Self {
        let below = |g: &mut Gen, end: u64| u64::arbitrary(g) % end;
        let len = match below(g, 4) {
            0 => below(g, 12),
            1 => below(g, 200),
            _ => below(g, 2_000),
        };
        Case {
            len,
            n: 1 + below(g, 9) as usize,
            in_flight: bool::arbitrary(g).then(|| 1 + below(g, 64) as usize),
            seed: u64::arbitrary(g),
            sized: bool::arbitrary(g),
            take: (below(g, 3) == 0).then(|| below(g, len + 2) as usize),
        }
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Self>> {
        let case = self.clone();
        let shorter = case.len.shrink().map({
            let case = case.clone();
            move |len| Case {
                len,
                ..case.clone()
            }
        });
        let narrower = (1..case.n).map({
            let case = case.clone();
            move |n| Case { n, ..case.clone() }
        });
        let whole = case.take.map(|_| Case { take: None, ..case });
        Box::new(shorter.chain(narrower).chain(whole))
    }
}

impl Case {
    fn source(&self) -> Box<dyn Iterator<Item = u64> + Send> {
        let items = (0..self.len).map({
            let seed = self.seed;
            move |i| mix(seed ^ i)
        });
        if self.sized {
            Box::new(items)
        } else {
            Box::new(Lying {
                inner: items,
                hint: (0, None),
            })
        }
    }

    /// Three moods: no delay at all, one long delay now and then, and everything at random.
    fn delay(&self, item: u64) {
        match self.seed % 3 {
            0 => {}
            1 => {
                if item % 512 == 0 {
                    std::thread::sleep(std::time::Duration::from_millis(2));
                }
            }
            _ => dawdle(item),
        }
    }

    fn cut<T>(&self, items: impl Iterator<Item = T>) -> Vec<T> {
        items.take(self.take.unwrap_or(usize::MAX)).collect()
    }
}

/// Runs a stage as the case says: with or without a bound, to its end or dropped early.
macro_rules! outputs {
    ($case:expr, $stage:expr) => {
        match ($case.in_flight, $case.take) {
            (None, None) => $stage.collect::<Vec<_>>(),
            (Some(k), None) => $stage.in_flight(k).collect::<Vec<_>>(),
            (None, Some(take)) => $stage.take(take).collect::<Vec<_>>(),
            (Some(k), Some(take)) => $stage.in_flight(k).take(take).collect::<Vec<_>>(),
        }
    };
}

fn law(holds: fn(Case) -> bool) {
    QuickCheck::new().tests(60).quickcheck(holds);
}

/// A case that hangs is a failure, and is not shrunk: each smaller one would take as long.
fn prompt(case: Case, holds: fn(Arc<Case>) -> bool) -> bool {
    thread_local!(static STUCK: Cell<bool> = const { Cell::new(false) });
    if STUCK.replace(true) {
        return true;
    }
    let good = within(SOON, move || holds(Arc::new(case)));
    STUCK.set(false);
    good
}

#[test]
fn par_map_ordered_is_map() {
    law(|case| {
        prompt(case, |case| {
            let f = |x: u64| x.wrapping_mul(3);
            let ours = outputs!(
                case,
                case.source().par_map_ordered(case.n, {
                    let case = Arc::clone(&case);
                    move |x| {
                        case.delay(x);
                        f(x)
                    }
                })
            );
            ours == case.cut(case.source().map(f))
        })
    });
}

#[test]
fn par_filter_is_filter() {
    law(|case| {
        prompt(case, |case| {
            let keep = |x: &u64| x % 3 != 0;
            let ours = outputs!(
                case,
                case.source().par_filter(case.n, {
                    let case = Arc::clone(&case);
                    move |x| {
                        case.delay(*x);
                        keep(x)
                    }
                })
            );
            ours == case.cut(case.source().filter(keep))
        })
    });
}

#[test]
fn par_filter_map_is_filter_map() {
    law(|case| {
        prompt(case, |case| {
            let f = |x: u64| (x % 2 == 0).then(|| x.to_string());
            let ours = outputs!(
                case,
                case.source().par_filter_map(case.n, {
                    let case = Arc::clone(&case);
                    move |x| {
                        case.delay(x);
                        f(x)
                    }
                })
            );
            ours == case.cut(case.source().filter_map(f))
        })
    });
}

#[test]
fn par_flat_map_is_flat_map() {
    law(|case| {
        prompt(case, |case| {
            let f = |x: u64| (0..x % 4).map(move |i| (x, i));
            let ours = outputs!(
                case,
                case.source().par_flat_map(case.n, {
                    let case = Arc::clone(&case);
                    move |x| {
                        case.delay(x);
                        f(x)
                    }
                })
            );
            ours == case.cut(case.source().flat_map(f))
        })
    });
}

#[test]
fn par_map_ordered_init_is_map() {
    law(|case| {
        prompt(case, |case| {
            let ours = outputs!(
                case,
                case.source().par_map_ordered_init(case.n, String::new, {
                    let case = Arc::clone(&case);
                    move |scratch, x| {
                        case.delay(x);
                        scratch.clear();
                        scratch.push_str(&x.to_string());
                        scratch.clone()
                    }
                })
            );
            ours == case.cut(case.source().map(|x| x.to_string()))
        })
    });
}

#[test]
fn try_par_map_ordered_is_map_up_to_the_first_error() {
    law(|case| {
        prompt(case, |case| {
            let f = |x: u64| if x % 200 == 7 { Err(x) } else { Ok(x / 2) };
            let ours = outputs!(
                case,
                case.source().try_par_map_ordered(case.n, {
                    let case = Arc::clone(&case);
                    move |x| {
                        case.delay(x);
                        f(x)
                    }
                })
            );
            let mut failed = false;
            let twin = case.source().map(f).take_while(move |result| {
                let before = !failed;
                failed |= result.is_err();
                before
            });
            ours == case.cut(twin)
        })
    });
}

/// Without the order: the same items, each as often; with an early drop, some of them.
fn same_items(case: &Case, mut ours: Vec<u64>, mut theirs: Vec<u64>) -> bool {
    ours.sort_unstable();
    theirs.sort_unstable();
    match case.take {
        None => ours == theirs,
        Some(take) => {
            let of_theirs = ours.iter().all(|x| theirs.binary_search(x).is_ok());
            let each_once = ours.windows(2).all(|pair| pair[0] != pair[1]);
            ours.len() == take.min(theirs.len()) && of_theirs && each_once
        }
    }
}

#[test]
fn par_map_is_map_in_some_order() {
    law(|case| {
        prompt(case, |case| {
            let ours = outputs!(
                case,
                case.source().par_map_unordered(case.n, {
                    let case = Arc::clone(&case);
                    move |x| {
                        case.delay(x);
                        !x
                    }
                })
            );
            same_items(&case, ours, case.source().map(|x| !x).collect())
        })
    });
}

#[test]
fn an_unordered_filter_is_filter_in_some_order() {
    law(|case| {
        prompt(case, |case| {
            let keep = |x: &u64| x % 3 != 0;
            let ours = outputs!(
                case,
                case.source()
                    .par_filter(case.n, {
                        let case = Arc::clone(&case);
                        move |x| {
                            case.delay(*x);
                            keep(x)
                        }
                    })
                    .unordered()
            );
            same_items(&case, ours, case.source().filter(keep).collect())
        })
    });
}

#[test]
fn a_chain_is_the_chain_of_the_sequential_adaptors() {
    law(|case| {
        prompt(case, |case| {
            let stage = case
                .source()
                .par_map_ordered(case.n, {
                    let case = Arc::clone(&case);
                    move |x| {
                        case.delay(x);
                        x >> 1
                    }
                })
                .in_flight(case.in_flight.unwrap_or(50))
                .par_filter(1 + case.n / 2, |x| x % 5 != 0)
                .par_flat_map(case.n, |x| [x, x + 1]);
            let ours = outputs!(case, stage);
            let theirs = case.source().map(|x| x >> 1).filter(|x| x % 5 != 0);
            ours == case.cut(theirs.flat_map(|x| [x, x + 1]))
        })
    });
}

#[test]
fn an_infinite_source_is_as_good_as_any() {
    for n in 1..=9 {
        let ours: Vec<u64> = within(SOON, move || {
            (0..).par_map_ordered(n, |x| x * 2).take(3_000).collect()
        });
        assert!(ours.into_iter().eq((0..3_000).map(|x| x * 2)), "n = {n}");
    }
}

#[test]
fn a_long_stream_keeps_its_order() {
    for n in [1, 2, 4] {
        let ours = within(SOON, move || {
            (0..200_000_u64)
                .par_map_ordered(n, |x| x ^ 1)
                .enumerate()
                .all(|(i, x)| x == i as u64 ^ 1)
        });
        assert!(ours, "n = {n}");
    }
}
