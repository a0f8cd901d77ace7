//! `window`: groups of a fixed size, and one value per group.

use crate::support::{Counter, SOON, Script, bang, calls_counted, caught, within};
use fanfold::Fanfold;
use std::rc::Rc;

#[test]
fn windows_are_chunks() {
    for (size, len) in (1..=9).flat_map(|size| (0..40).map(move |len| (size, len))) {
        let items: Vec<u32> = (0..len).collect();
        let ours: Vec<Vec<u32>> = items.iter().copied().window(size).collect();
        assert!(
            ours.iter().map(Vec::as_slice).eq(items.chunks(size)),
            "{size}, {len}"
        );
    }
}

#[test]
fn aggregates_are_folded_chunks() {
    for (size, len) in (1..=9).flat_map(|size| (0..40_u64).map(move |len| (size, len))) {
        let items: Vec<u64> = (0..len).collect();
        let sums = items.iter().window(size).aggregate(|| 0, |sum, x| sum + x);
        assert!(sums.eq(items.chunks(size).map(|chunk| chunk.iter().sum::<u64>())));
        // a fold that depends on the order, with a fresh initial value
        let words = (0..len)
            .window(size)
            .aggregate(String::new, |word, x| format!("{word}{x},"));
        let add = |word: String, x: &u64| format!("{word}{x},");
        let chunk = |chunk: &[u64]| chunk.iter().fold(String::new(), add);
        assert!(words.eq(items.chunks(size).map(chunk)), "{size}, {len}");
    }
}

#[test]
fn aggregates_infer_their_type() {
    let mean = |(n, sum): (u32, u64), x| (n + 1, sum + x);
    let means = (0..10_u64).window(4).aggregate(|| (0, 0), mean);
    assert!(means.eq([(4, 6), (4, 22), (2, 17)]));
    let mut made = 0;
    let init = || {
        made += 1;
        Vec::new()
    };
    let push = |mut v: Vec<u8>, x| {
        v.push(x);
        v
    };
    assert_eq!((0..10).window(3).aggregate(init, push).count(), 4);
    assert_eq!(made, 4, "no value is made for a window that does not come");
}

#[test]
fn nothing_is_pulled_ahead() {
    for size in 1..=9 {
        let calls = Counter::new();
        let mut windows = calls_counted(0_usize.., &calls).window(size);
        let mut sums = calls_counted(0_usize.., &calls)
            .window(size)
            .aggregate(|| 0, |a, x| a + x);
        assert_eq!(calls.get(), 0);
        for n in 1..=5 {
            assert_eq!(windows.next().map(|w| w.len()), Some(size));
            assert!(sums.next().is_some());
            assert_eq!(calls.get(), 2 * n * size);
        }
    }
}

#[test]
fn windows_are_fused_and_pull_nothing_after_the_end() {
    let calls = Counter::new();
    let script = || Script::new([Some(1), Some(2), Some(3), None, Some(4)], &calls);
    let mut windows = script().window(2);
    assert_eq!(windows.next(), Some(vec![1, 2]));
    assert_eq!(windows.next(), Some(vec![3]));
    for _ in 0..3 {
        assert_eq!((windows.next(), windows.size_hint()), (None, (0, Some(0))));
    }
    assert_eq!(calls.get(), 4);
    let mut sums = script().window(2).aggregate(|| 0, |a, x| a + x);
    assert_eq!(
        [sums.next(), sums.next(), sums.next(), sums.next()],
        [Some(3), Some(3), None, None]
    );
    assert_eq!(calls.get(), 8);
    // an end right after a full window
    let mut even = Script::new([Some(1), Some(2), None, Some(3)], &calls).window(2);
    assert_eq!(
        [even.next(), even.next(), even.next()],
        [Some(vec![1, 2]), None, None]
    );
    assert_eq!(calls.get(), 11);
}

#[test]
fn size_hint_is_exact_at_every_step() {
    for (size, len) in (1..=9).flat_map(|size| (0..40_usize).map(move |len| (size, len))) {
        let mut windows = (0..len).window(size);
        let mut sums = (0..len).window(size).aggregate(|| 0, |a, x| a + x);
        for left in (0..=len.div_ceil(size)).rev() {
            assert_eq!(windows.size_hint(), (left, Some(left)));
            assert_eq!((windows.len(), sums.len()), (left, left));
            assert_eq!(
                (windows.next().is_some(), sums.next().is_some()),
                (left > 0, left > 0)
            );
        }
        let (low, high) = (0..len).filter(|i| i % 2 == 0).window(size).size_hint();
        assert_eq!((low, high), (0, Some(len.div_ceil(size))));
    }
}

#[test]
fn a_huge_window_is_no_larger_than_its_items() {
    let windows: Vec<Vec<u8>> = (0..100).window(usize::MAX).collect();
    assert_eq!(windows.len(), 1);
    assert_eq!(windows[0].len(), 100);
    assert!(windows[0].capacity() < 10_000);
    assert_eq!(
        (0..).window(1_000_000).next().map(|w: Vec<u32>| w.len()),
        Some(1_000_000)
    );
}

#[test]
fn windows_borrow_and_stay_on_their_thread() {
    let docs: Vec<String> = (0..20).map(|i| i.to_string()).collect();
    let rc = Rc::new(1);
    let lens = docs
        .iter()
        .map(|d| d.len() + *rc)
        .window(3)
        .aggregate(|| 0, |a, x| a + x);
    assert_eq!(lens.sum::<usize>(), 50);
    let pairs: Vec<&[&String]> = Vec::new();
    assert!(
        docs.iter()
            .window(2)
            .all(|pair| pair.len() == 2 && pairs.is_empty())
    );
}

#[test]
fn windows_and_stages_mix() {
    for n in 1..=9 {
        within(SOON, move || {
            let factor = 3_u64;
            let sums: Vec<u64> = (0..100_u64)
                .window(7)
                .par_map_ordered(n, |w| w.iter().sum::<u64>() * factor)
                .collect();
            let items: Vec<u64> = (0..100).collect();
            let theirs = items.chunks(7).map(|chunk| chunk.iter().sum::<u64>() * 3);
            assert!(sums.into_iter().eq(theirs));
            let windows: Vec<Vec<u64>> = (0..10_u64).par_map_ordered(n, |i| i).window(4).collect();
            assert_eq!(windows, [vec![0, 1, 2, 3], vec![4, 5, 6, 7], vec![8, 9]]);
            let docs: Vec<String> = (0..20).map(|i| i.to_string()).collect();
            let count = docs
                .iter()
                .window(3)
                .par_map_ordered(n, |w| w.len() as u64 + factor);
            assert_eq!(count.sum::<u64>(), 41);
        });
    }
}

#[test]
fn panics_pass_through() {
    let bad = |i: u64| if i == 5 { bang(i) } else { i };
    let mut windows = (0..10).map(bad).window(2);
    assert_eq!(
        [windows.next(), windows.next()],
        [Some(vec![0, 1]), Some(vec![2, 3])]
    );
    assert_eq!(caught(|| windows.next()), Err(5));
    assert_eq!(windows.next(), Some(vec![4, 6])); // 4 came before the panic and is not lost
    assert!(windows.eq([vec![7, 8], vec![9]]));
    let mut sums = (0..10).window(2).aggregate(|| 0, |a, x| a + bad(x));
    assert_eq!([sums.next(), sums.next()], [Some(1), Some(5)]);
    assert_eq!(caught(|| sums.next()), Err(5));
}

/// Whatever the source does, each item it gave is in some window.
#[test]
fn a_panicking_source_loses_no_item() {
    for size in 1..=9 {
        for at in 0..10_u64 {
            let source = || (0..10).map(move |i| if i == at { bang(i) } else { i });
            let mut windows = source().window(size);
            let mut sums = source()
                .window(size)
                .aggregate(|| (0, 0), |a, x| (a.0 + 1, a.1 + x));
            let (mut seen, mut summed, mut panics) = (Vec::new(), (0, 0), 0);
            loop {
                let both = (caught(|| windows.next()), caught(|| sums.next()));
                match both {
                    (Ok(None), Ok(None)) => break,
                    (Ok(Some(window)), Ok(Some(sum))) => {
                        assert_eq!((window.len(), window.iter().sum()), sum);
                        summed = (summed.0 + sum.0, summed.1 + sum.1);
                        seen.extend(window);
                    }
                    (Err(a), Err(b)) => {
                        assert_eq!((a, b), (at, at));
                        panics += 1;
                    }
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!((panics, summed), (1, (9, 45 - at)));
            assert!(seen.into_iter().eq((0..10).filter(|&i| i != at)));
        }
    }
}
