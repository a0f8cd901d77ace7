//! Arithmetic on size hints, which others give and which may lie.

/// How many items are left: at least, and at most if that is known.
pub(crate) type Hint = (usize, Option<usize>);

/// A hint that does not contradict itself, nor make a `collect` ask for all memory.
pub(crate) fn honest((low, high): Hint) -> Hint {
    let low = if isize::try_from(low).is_ok() { low } else { 0 };
    (high.map_or(low, |high| low.min(high)), high)
}

/// What is left when one more item has come.
pub(crate) fn one_less((low, high): Hint) -> Hint {
    (
        low.saturating_sub(1),
        high.map(|high| high.saturating_sub(1)),
    )
}

/// What several sources have together.
pub(crate) fn sum(hints: impl Iterator<Item = Hint>) -> Hint {
    hints.fold((0, Some(0)), |(low, high), (more, most)| {
        let high = high
            .zip(most)
            .and_then(|(a, b): (usize, usize)| a.checked_add(b));
        (low.saturating_add(more), high)
    })
}

/// How many items are left of those that the source had, or hinted at. Where a `usize` has 32 bits there may
/// be more than it holds, and a stage may have taken more.
pub(crate) fn left((low, high): Hint, items: Option<u64>, taken: u64) -> Hint {
    if let Some(items) = items {
        let left = usize::try_from(items.saturating_sub(taken));
        return (left.unwrap_or(usize::MAX), left.ok());
    }
    let taken = usize::try_from(taken).unwrap_or(usize::MAX);
    let high = high.map(|high| high.saturating_sub(taken));
    (low.saturating_sub(taken), high)
}

#[cfg(test)]
mod tests {
    use super::left;

    #[test]
    fn what_is_left_after_more_than_32_bits() {
        let many = (1 << 32) + 9;
        assert_eq!(left((0, None), Some(many), many - 3), (3, Some(3)));
        assert_eq!(left((9, None), None, 4), (5, None));
        assert_eq!(left((9, Some(20)), None, many), (0, Some(0)));
        let all = usize::try_from(many);
        let want = (all.unwrap_or(usize::MAX), all.ok());
        assert_eq!(left((0, None), Some(many), 0), want);
    }
}
