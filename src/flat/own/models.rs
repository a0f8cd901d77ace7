//! Loom models of the consumer's turn.

use crate::flat::models::{CASE, Case, all_come};

/// Two workers with an item of one output each, and no place but theirs; and one turn.
const TWO: Case = Case {
    workers: 2,
    bound: 2,
    items: 2,
    outputs: 1,
    turns: 1,
    ..CASE
};

/// The consumer gets the turn, and may lose it at any time.
#[test]
fn loom_flat_own() {
    let one = Case {
        workers: 1,
        outputs: 2,
        ..TWO
    };
    for case in [one, TWO] {
        all_come(case);
    }
}

/// A worker leaves an iterator that has filled its places, and the consumer goes on with it, or another worker.
#[test]
fn loom_flat_left() {
    for (workers, bound, items) in [(1, 3, 2), (2, 2, 1)] {
        all_come(Case {
            workers,
            bound,
            items,
            outputs: 3,
            turns: 1,
            ..CASE
        });
    }
}

/// An iterator is left, goes on in a second lane, and is left again before the consumer has come to its first one.
#[test]
fn loom_flat_left_twice() {
    all_come(Case {
        bound: 3,
        outputs: 4,
        turns: 2,
        ..CASE
    });
}

/// The consumer waits for the rest of an item that was handed over. That turns out to be nothing but its end, and what the
/// consumer waits for is then in the next lane, which was there before.
#[test]
fn loom_flat_empty_rest() {
    all_come(Case {
        follows: true,
        ..TWO
    });
}

/// The consumer is inside of an item that ends only when another one has begun.
#[test]
fn loom_flat_guest() {
    all_come(Case {
        ends_late: true,
        ..TWO
    });
}

/// The consumer is away, with an item that is half run, or that was left.
#[test]
fn loom_flat_away() {
    all_come(Case {
        bound: 4,
        items: 2,
        turns: 1,
        away: true,
        ..CASE
    });
}

#[test]
fn loom_flat_own_cancel() {
    all_come(Case {
        outputs: 2,
        cancelled: true,
        turns: 1,
        ..CASE
    });
}
