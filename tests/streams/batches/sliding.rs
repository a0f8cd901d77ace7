//! `sliding`: windows that overlap or leave items out, and one value per window.

use crate::support::{Counter, Lying, SOON, Script, bang, calls_counted, caught, message, within};
use fanfold::Fanfold;
use quickcheck::QuickCheck;
use std::cell::Cell;
use std::rc::Rc;

/// The definition, computed slowly: each window by itself, kept if it has an item that none before had.
fn oracle(len: usize, size: usize, step: usize) -> Vec<Vec<usize>> {
    let mut seen = vec![false; len];
    let mut windows = Vec::new();
    for begin in (0..len).step_by(step) {
        let window: Vec<usize> = (begin..len).take(size).collect();
        if window.iter().any(|&i| !seen[i]) {
            for &i in &window {
                seen[i] = true;
            }
            windows.push(window);
        }
    }
    windows
}

/// Sizes and steps from 1 to 9, lengths from 0 to 40.
fn shapes() -> impl Iterator<Item = (usize, usize, usize)> {
    (1..=9).flat_map(|size| (1..=9).flat_map(move |step| (0..40).map(move |len| (size, step, len))))
}

#[allow(clippy::needless_pass_by_value)] // as quickcheck passes them
fn law(items: Vec<u16>, size: u8, step: u8) -> bool {
    let (size, step) = (usize::from(size).max(1), usize::from(step).max(1));
    let values = |at: Vec<usize>| at.into_iter().map(|i| items[i]).collect::<Vec<u16>>();
    let theirs: Vec<_> = oracle(items.len(), size, step)
        .into_iter()
        .map(values)
        .collect();
    let windows = || items.iter().copied().window(size).sliding(step);
    let folded = windows().aggregate(Vec::new, |mut window, x| {
        window.push(x);
        window
    });
    windows().eq(theirs.iter().cloned()) && folded.eq(theirs)
}

#[test]
fn windows_are_those_of_the_oracle() {
    for (size, step, len) in shapes() {
        let ours: Vec<Vec<usize>> = (0..len).window(size).sliding(step).collect();
        assert_eq!(ours, oracle(len, size, step), "{size}, {step}, {len}");
    }
    QuickCheck::new()
        .tests(2_000)
        .quickcheck(law as fn(Vec<u16>, u8, u8) -> bool);
}

#[test]
fn a_step_of_one_is_windows_and_a_step_of_the_size_is_chunks() {
    for (size, len) in (1..=9).flat_map(|size| (0..40).map(move |len| (size, len))) {
        let items: Vec<usize> = (0..len).collect();
        let chunks = items.iter().copied().window(size).sliding(size);
        assert!(chunks.eq(items.chunks(size)), "{size}, {len}");
        let windows = || items.iter().copied().window(size).sliding(1);
        if len >= size {
            assert!(windows().eq(items.windows(size)), "{size}, {len}");
        } else {
            // fewer items than a window: one shorter window, or none if there are no items
            assert_eq!(windows().count(), len.min(1));
            assert!(windows().all(|window| window == items));
        }
    }
}

#[test]
fn aggregates_are_folded_windows() {
    for (size, step, len) in shapes() {
        let add = |word: String, x: usize| format!("{word}{x},");
        let words = (0..len)
            .window(size)
            .sliding(step)
            .aggregate(String::new, add);
        let theirs = oracle(len, size, step)
            .into_iter()
            .map(|window| window.into_iter().fold(String::new(), add));
        assert!(words.eq(theirs), "{size}, {step}, {len}");
    }
    let made = Cell::new(0);
    let init = || {
        made.set(made.get() + 1);
        0
    };
    let sums = (1..=7).window(3).sliding(2).aggregate(init, |a, x| a + x);
    assert!(sums.eq([6, 12, 18]));
    assert_eq!(
        made.get(),
        3,
        "no value is made for a window that does not come"
    );
}

#[test]
fn nothing_is_pulled_ahead() {
    for (size, step, _) in shapes().filter(|shape| shape.2 == 0) {
        let (of_windows, of_sums) = (Counter::new(), Counter::new());
        let mut windows = calls_counted(0_usize.., &of_windows)
            .window(size)
            .sliding(step);
        let mut sums = calls_counted(0_usize.., &of_sums)
            .window(size)
            .sliding(step)
            .aggregate(|| 0, |a, x| a + x);
        assert_eq!((of_windows.get(), of_sums.get()), (0, 0));
        for n in 0..5 {
            assert_eq!(windows.next().map(|w| w.len()), Some(size));
            assert!(sums.next().is_some());
            // not even the items between this window and the next
            let pulled = n * step + size;
            assert_eq!((of_windows.get(), of_sums.get()), (pulled, pulled));
        }
    }
}

#[test]
fn windows_are_fused_and_pull_nothing_after_the_end() {
    // after a short window, right after a full one, without any item, and between two windows
    for (len, size, step, count) in [(3, 2, 1, 2), (4, 2, 2, 2), (0, 3, 1, 0), (3, 2, 5, 1)] {
        let calls = Counter::new();
        let script = || {
            let mut lines: Vec<Option<usize>> = (0..len).map(Some).collect();
            lines.extend([None, Some(8), Some(9)]);
            Script::new(lines, &calls)
        };
        let mut windows = script().window(size).sliding(step);
        let mut sums = script()
            .window(size)
            .sliding(step)
            .aggregate(|| 0, |a, x| a + x);
        assert_eq!(windows.by_ref().count(), count);
        assert_eq!(sums.by_ref().count(), count);
        for _ in 0..3 {
            assert_eq!((windows.next(), windows.size_hint()), (None, (0, Some(0))));
            assert_eq!((sums.next(), sums.size_hint()), (None, (0, Some(0))));
        }
        assert_eq!(calls.get(), 2 * (len + 1));
    }
}

#[test]
fn size_hint_is_exact_at_every_step() {
    for (size, step, len) in shapes() {
        let mut windows = (0..len).window(size).sliding(step);
        let mut sums = (0..len)
            .window(size)
            .sliding(step)
            .aggregate(|| 0, |a, x| a + x);
        for left in (0..=oracle(len, size, step).len()).rev() {
            assert_eq!(windows.size_hint(), (left, Some(left)));
            assert_eq!((windows.len(), sums.len()), (left, left));
            assert_eq!(
                (windows.next().is_some(), sums.next().is_some()),
                (left > 0, left > 0)
            );
        }
    }
    let endless = (0_u64..).window(4).sliding(2);
    assert_eq!(endless.size_hint().1, None);
    assert!(endless.size_hint().0 > usize::MAX / 4);
}

#[test]
fn hints_at_the_edge_do_not_overflow() {
    let lying = |hint| Lying { inner: 0..7, hint };
    for step in [1, 3, 4, usize::MAX] {
        for hint in [
            (usize::MAX, Some(usize::MAX)),
            (usize::MAX, None),
            (0, Some(0)),
        ] {
            let mut windows = lying(hint).window(3).sliding(step);
            let theirs = oracle(7, 3, step);
            for window in theirs {
                let _ = windows.size_hint();
                assert_eq!(windows.next(), Some(window));
            }
            assert_eq!((windows.next(), windows.size_hint()), (None, (0, Some(0))));
        }
    }
}

/// Counts its clones.
#[derive(Debug)]
struct Sheep(usize, Rc<Cell<usize>>);

impl Clone for Sheep {
    fn clone(&self) -> Self {
        self.1.set(self.1.get() + 1);
        Sheep(self.0, Rc::clone(&self.1))
    }
}

#[test]
fn only_items_of_a_further_window_are_cloned() {
    for (size, step, len) in shapes() {
        let clones = Rc::new(Cell::new(0));
        let sheep = || (0..len).map(|i| Sheep(i, Rc::clone(&clones)));
        // A full window clones the items that it would share with the next one, a short one none.
        let full = |window: &Vec<usize>| window.len() == size;
        let shared = size.saturating_sub(step);
        let expected = oracle(len, size, step).iter().filter(|w| full(w)).count() * shared;
        drop(sheep().window(size).sliding(step).collect::<Vec<_>>());
        assert_eq!(clones.replace(0), expected, "{size}, {step}, {len}");
        let folded = sheep().window(size).sliding(step);
        folded
            .aggregate(|| (), |(), sheep| drop(sheep))
            .for_each(drop);
        assert_eq!(clones.replace(0), expected, "{size}, {step}, {len}");
    }
}

#[test]
fn a_huge_window_is_no_larger_than_its_items() {
    let windows: Vec<Vec<u8>> = (0..100).window(usize::MAX).sliding(3).collect();
    assert_eq!(windows.len(), 1);
    assert_eq!(windows[0].len(), 100);
    assert!(windows[0].capacity() < 10_000);
    let sum = (0..100).window(usize::MAX).sliding(1);
    assert!(sum.aggregate(|| 0, |a, x| a + x).eq([4950]));
    let sparse = (0..100).window(2).sliding(usize::MAX);
    assert!(sparse.eq([[0, 1]]));
}

#[test]
fn panics_pass_through_and_lose_no_window() {
    let mut bad = false;
    let mut items = 0..9;
    let source = std::iter::from_fn(|| {
        bad = !bad;
        if bad { bang(7) } else { items.next() }
    });
    let mut windows = source.window(3).sliding(2);
    let mut seen = Vec::new();
    let mut panics = 0;
    loop {
        match caught(|| windows.next()) {
            Ok(Some(window)) => seen.push(window),
            Ok(None) => break,
            Err(id) => panics += usize::from(id == 7),
        }
    }
    assert_eq!(seen, oracle(9, 3, 2));
    assert_eq!(panics, 10);
    // A fold that panics loses its own window, and shifts no other.
    for (size, step, len) in shapes() {
        let theirs = oracle(len, size, step);
        for at in 0..len {
            let mut worse = true;
            let add = |mut window: Vec<usize>, x| {
                if x == at && std::mem::take(&mut worse) {
                    bang(3);
                }
                window.push(x);
                window
            };
            let mut folds = (0..len).window(size).sliding(step).aggregate(Vec::new, add);
            let mut lost = 0;
            for window in &theirs {
                if let Ok(fold) = caught(|| folds.next()) {
                    assert_eq!(fold.as_ref(), Some(window));
                } else {
                    lost += 1;
                }
            }
            assert_eq!(caught(|| folds.next()), Ok(None));
            let hit = theirs.iter().any(|window| window.contains(&at));
            assert_eq!(lost, usize::from(hit), "{size}, {step}, {len}, {at}");
        }
    }
}

#[test]
fn a_step_of_zero_is_refused_with_the_fix() {
    let said = message(|| (0..3).window(2).sliding(0));
    assert!(
        said.contains("at least 1") && said.contains("write 1"),
        "{said}"
    );
}

#[test]
fn sliding_windows_and_stages_mix() {
    for n in 1..=9 {
        within(SOON, move || {
            let sums: Vec<usize> = (0..100_usize)
                .window(7)
                .sliding(3)
                .par_map_ordered(n, |window| window.iter().sum())
                .collect();
            let theirs = oracle(100, 7, 3).into_iter();
            assert!(sums.into_iter().eq(theirs.map(|w| w.iter().sum::<usize>())));
            let stage = (0..10_usize).par_map_ordered(n, |i| i);
            assert!(stage.window(4).sliding(2).eq(oracle(10, 4, 2)));
            // borrowed, and not `Send`
            let words: Vec<Rc<str>> = (0..5).map(|i| i.to_string().into()).collect();
            let pairs = words.iter().window(2).sliding(1);
            assert!(pairs.map(|pair| pair.len()).eq([2, 2, 2, 2]));
        });
    }
}
