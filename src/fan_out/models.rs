//! Loom models of the fan-out protocol.

use crate::fan_out::dispatch::{Dispatch, sealed};
use crate::fan_out::shared_source::{ReaderOpts, reader_handles};
use crate::overflow::Overflow;

/// Even numbers to one reader and odd ones to the other, as `partition_readers` does.
struct ByParity;

/// Every number to all readers, as `broadcast` does.
struct All;

impl sealed::Sealed for ByParity {}
impl sealed::Sealed for All {}

impl Dispatch<usize> for ByParity {
    const NAME: &'static str = "a model";

    fn deal(&mut self, item: usize, _: &[usize], out: &mut Vec<(usize, usize)>) {
        out.push((item % 2, item));
    }
}

impl Dispatch<usize> for All {
    const NAME: &'static str = "a model";
    const EACH: bool = true;

    fn deal(&mut self, item: usize, readers: &[usize], out: &mut Vec<(usize, usize)>) {
        out.extend(readers.iter().map(|reader| (*reader, item)));
    }
}

const OPTS: ReaderOpts = ReaderOpts {
    name: None,
    overflow: Overflow::Block,
    buffer: 1,
};

/// Put / take, no room, the end, a drop: two readers on two threads. The second one may stop after `stops`
/// items.
fn both_get<D: Dispatch<usize> + Send + 'static>(
    source: &'static [usize],
    deal: fn() -> D,
    wants: [&'static [usize]; 2],
    stops: Option<usize>,
) {
    loom::model(move || {
        let mut reader_handles = reader_handles(source.iter().copied(), deal(), 2, OPTS, None);
        let (second, mut first) = (reader_handles.pop(), reader_handles.pop().expect("two"));
        let reader = loom::thread::spawn(move || {
            let mut second = second.expect("two");
            let mut next = || second.next();
            match stops {
                Some(count) => (0..count).map_while(|_| next()).collect(),
                None => std::iter::from_fn(next).collect::<Vec<_>>(),
            }
        });
        let got: Vec<_> = std::iter::from_fn(|| first.next()).collect();
        assert_eq!(got, wants[0]);
        let got = reader.join().expect("no panic");
        assert_eq!(got, wants[1]);
    });
}

/// A leader that has its item, and is not asked again, wakes the reader that waits.
#[test]
fn loom_fan_out_lead_passes_on() {
    loom::model(|| {
        let mut reader_handles = reader_handles([1, 0].into_iter(), ByParity, 2, OPTS, None);
        let (second, mut first) = (reader_handles.pop(), reader_handles.pop().expect("two"));
        let reader = loom::thread::spawn(move || {
            let mut second = second.expect("two");
            (second.next(), second)
        });
        assert_eq!(first.next(), Some(0));
        let (got, _second) = reader.join().expect("no panic");
        assert_eq!(got, Some(1));
    });
}

#[test]
fn loom_fan_out_partition() {
    both_get(&[0, 1, 2], || ByParity, [&[0, 2], &[1]], None);
}

#[test]
fn loom_fan_out_no_room() {
    both_get(&[1, 3, 0], || ByParity, [&[0], &[1, 3]], None);
}

#[test]
fn loom_fan_out_broadcast() {
    both_get(&[0, 1], || All, [&[0, 1], &[0, 1]], None);
}

#[test]
fn loom_fan_out_drop() {
    both_get(&[1, 3, 0], || ByParity, [&[0], &[]], Some(0));
    both_get(&[0, 1, 2], || All, [&[0, 1, 2], &[0]], Some(1));
}
