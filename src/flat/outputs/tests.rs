use super::{FIRST, OutputReader, OutputWriter, outputs};
use quickcheck::quickcheck;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// Counts its drops.
struct Dropped(Arc<AtomicUsize>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
    }
}

fn take_all<T>(reader: &mut OutputReader<T>) -> Vec<T> {
    reader.look();
    std::iter::from_fn(|| reader.take()).collect()
}

quickcheck! {
    /// As a `VecDeque`, over several segments.
    #[cfg_attr(miri, ignore = "so many outputs take minutes there")]
    fn it_is_a_queue(steps: Vec<(u8, u8)>) -> bool {
        let (mut writer, mut reader) = outputs();
        let (mut twin, mut next) = (VecDeque::new(), 0_u32);
        for (pushes, takes) in steps {
            for _ in 0..pushes {
                writer.push(next);
                twin.push_back(next);
                next += 1;
            }
            reader.look();
            assert_eq!(reader.len(), twin.len());
            for _ in 0..takes {
                assert_eq!(reader.take(), twin.pop_front());
            }
        }
        assert_eq!((writer.len(), reader.taken()), (next as usize, next as usize - twin.len()));
        writer.finish();
        take_all(&mut reader).into_iter().eq(twin) && reader.has_end()
    }
}

#[test]
fn nothing_is_taken_before_a_look() {
    let (mut writer, mut reader) = outputs();
    writer.push('a');
    assert_eq!(reader.take(), None);
    reader.look();
    writer.push('b');
    assert_eq!((reader.take(), reader.take()), (Some('a'), None));
    assert!(!reader.has_end());
    writer.finish();
    assert_eq!(take_all(&mut reader), ['b']);
    assert!(reader.has_end());
}

#[test]
fn what_is_not_taken_is_dropped_once() {
    for (pushes, takes) in [
        (0, 0),
        (1, 0),
        (1, 1),
        (FIRST, 3),
        (FIRST + 1, 0),
        (500, FIRST),
    ] {
        let drops = Arc::new(AtomicUsize::new(0));
        let (mut writer, mut reader) = outputs();
        for _ in 0..pushes {
            writer.push(Dropped(Arc::clone(&drops)));
        }
        reader.look();
        for _ in 0..takes {
            drop(reader.take());
        }
        assert_eq!(drops.load(SeqCst), takes);
        // In either order.
        if pushes % 2 == 0 {
            drop(reader);
            drop(writer);
        } else {
            drop(writer);
            drop(reader);
        }
        assert_eq!(drops.load(SeqCst), pushes);
    }
}

#[test]
fn outputs_may_be_larger_than_a_segment() {
    let (mut writer, mut reader) = outputs();
    (0..40_u8).for_each(|i| writer.push([i; 10_000]));
    assert!(take_all(&mut reader).iter().map(|all| all[9_999]).eq(0..40));
    // Or have no size.
    let (mut writer, mut reader) = outputs();
    (0..40).for_each(|_| writer.push(()));
    assert_eq!(take_all(&mut reader).len(), 40);
}

#[test]
fn it_is_used_again_when_it_is_empty_and_nobody_writes() {
    let halves: (OutputWriter<u32>, OutputReader<u32>) = outputs();
    let (mut writer, reader) = halves;
    assert!(reader.reused().is_none(), "there is a writer");
    writer.push(1);
    drop(writer);

    let (mut writer, mut reader) = outputs();
    (0..100).for_each(|i| writer.push(i));
    writer.finish();
    reader.look();
    reader.take();
    assert_eq!(take_all(&mut reader).len(), 99);
    for _ in 0..3 {
        let (mut again, other) = reader.reused().expect("nobody else has it");
        reader = other;
        assert_eq!((again.len(), reader.len(), reader.has_end()), (0, 0, false));
        (0..50).for_each(|i| again.push(i));
        again.finish();
        assert!(take_all(&mut reader).into_iter().eq(0..50));
    }
    // Something is left.
    let (mut writer, reader) = reader.reused().expect("nobody else has it");
    writer.push(7);
    writer.finish();
    assert!(reader.reused().is_none());
}

#[test]
fn two_threads() {
    const MANY: usize = if cfg!(miri) { 300 } else { 100_000 };
    let (mut writer, mut reader) = outputs();
    std::thread::scope(|s| {
        s.spawn(move || {
            (0..MANY).for_each(|i| writer.push(Box::new(i)));
            writer.finish();
        });
        let mut next = 0;
        while !(reader.has_end() && reader.len() == 0) {
            reader.look();
            while let Some(output) = reader.take() {
                assert_eq!(*output, next);
                next += 1;
            }
            std::thread::yield_now();
        }
        assert_eq!(next, MANY);
    });
}
