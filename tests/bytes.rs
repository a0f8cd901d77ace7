//! What a stage keeps in memory under a bound in bytes, by an allocator that counts. In its own process, so that all
//! that is allocated is the stage's.
#![allow(unsafe_code)]

use fanfold::{Fanfold, Plan, Stage};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// Counts what was asked for, whether its pages are touched or not.
struct Counting;

// SAFETY: all is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        up(layout.size());
        // SAFETY: promised by the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        up(layout.size());
        // SAFETY: promised by the caller.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: promised by the caller.
        unsafe { System.dealloc(place, layout) }
    }
}

fn up(size: usize) {
    PEAK.fetch_max(LIVE.fetch_add(size, Relaxed) + size, Relaxed);
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const MIB: usize = 1 << 20;
const LIMIT: usize = 64 * MIB;
const LARGEST: usize = 10 * MIB;
/// Threads, chunks, the queue of weights.
const CONSTANT: usize = 2 * MIB;

/// 1 B to 10 MB: as many between 1 and 10 as between 1 and 10 million.
fn size(at: u64) -> usize {
    let mut dice = at.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    dice ^= dice >> 29;
    let (digits, digit) = (dice % 7, 1 + (dice >> 8) % 10);
    (digit as usize * 10_usize.pow(digits as u32)).min(LARGEST)
}

/// Who is slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slow {
    Nobody,
    /// One item of a hundred takes long.
    Head,
    Consumer,
    Source,
}

const PAUSE: Duration = Duration::from_millis(2);

fn blocks(len: u64, slow: Slow) -> impl Iterator<Item = Vec<u8>> + Send {
    (0..len).map(move |at| {
        if slow == Slow::Source && at % 20 == 0 {
            std::thread::sleep(PAUSE);
        }
        vec![0; size(at)]
    })
}

fn pause(at: u64, slow: Slow) {
    if slow == Slow::Head && at % 100 == 1 {
        std::thread::sleep(10 * PAUSE);
    }
}

/// The most that lives at a time while the stage is consumed, above what lived before it.
fn peak<P: Plan<Output = Vec<u8>>>(stage: Stage<P>, slow: Slow) -> usize {
    let base = LIVE.load(Relaxed);
    PEAK.store(base, Relaxed);
    let mut at = 0;
    stage.for_each(|block| {
        at += 1;
        drop(block);
        if slow == Slow::Consumer && at % 20 == 0 {
            std::thread::sleep(PAUSE);
        }
    });
    PEAK.load(Relaxed) - base
}

const LEN: u64 = 1_500;
const ALL: [Slow; 4] = [Slow::Nobody, Slow::Head, Slow::Consumer, Slow::Source];

/// One test, as the tests of a program run side by side.
#[test]
fn what_lives_is_the_limit_and_an_item() {
    let f = |slow| {
        move |block: Vec<u8>| {
            pause(block.len() as u64, slow);
            block
        }
    };
    let bytes = |block: &Vec<u8>| block.len();
    for slow in ALL {
        for n in [2, 32] {
            // What is in flight, an item in hand, and the one that the consumer has.
            let most = LIMIT + 2 * LARGEST + CONSTANT;
            let stage = blocks(LEN, slow).par_map_ordered(n, f(slow));
            let ordered = peak(stage.in_flight_weight(LIMIT, bytes), slow);
            let stage = blocks(LEN, slow).par_map_unordered(n, f(slow));
            let unordered = peak(stage.in_flight_weight(LIMIT, bytes), slow);
            println!(
                "{slow:?}, n = {n}: {} and {} MiB",
                ordered / MIB,
                unordered / MIB
            );
            assert!(ordered <= most, "{slow:?}, n = {n}: {ordered}");
            assert!(
                unordered <= most,
                "{slow:?}, n = {n}, unordered: {unordered}"
            );

            // Here the items are numbers, and the results are large: those at the limit, and those of `n + 1`
            // closures; and the one that the consumer has.
            let most = LIMIT + (n + 2) * LARGEST + CONSTANT;
            let unpack = move |at: u64| {
                pause(at, slow);
                vec![0_u8; size(at)]
            };
            let stage = (0..LEN).par_map_ordered(n, unpack);
            let parked = peak(stage.parked_weight(LIMIT, bytes), slow);
            println!("{slow:?}, n = {n}, parked: {} MiB", parked / MIB);
            assert!(parked <= most, "{slow:?}, n = {n}, parked: {parked}");
        }
    }
    // And without a bound it is more, or nothing of this shows anything.
    let unbounded = peak(
        blocks(LEN, Slow::Head).par_map_ordered(32, f(Slow::Head)),
        Slow::Head,
    );
    let stalled = blocks(LEN, Slow::Nobody).par_map_ordered(32, f(Slow::Consumer));
    let stalled = peak(stalled, Slow::Consumer);
    println!(
        "without a bound: {} and {} MiB",
        unbounded / MIB,
        stalled / MIB
    );
    assert!(unbounded.max(stalled) > LIMIT + 2 * LARGEST + CONSTANT);
}
