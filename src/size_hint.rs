//! Arithmetic on size hints, which come from user code and may be wrong.

/// How many items are left: the lower bound, and the upper bound if known.
pub(crate) type Hint = (usize, Option<usize>);

/// A hint that does not contradict itself, and does not make `collect` ask for all memory.
pub(crate) fn honest((low, high): Hint) -> Hint {
    let low = if isize::try_from(low).is_ok() { low } else { 0 };
    (high.map_or(low, |high| low.min(high)), high)
}

/// The hint after one more item has come.
pub(crate) fn one_less((low, high): Hint) -> Hint {
    (
        low.saturating_sub(1),
        high.map(|high| high.saturating_sub(1)),
    )
}

/// The hint for several sources together.
pub(crate) fn sum(hints: impl Iterator<Item = Hint>) -> Hint {
    hints.fold((0, Some(0)), |(low, high), (more, most)| {
        let high = high
            .zip(most)
            .and_then(|(a, b): (usize, usize)| a.checked_add(b));
        (low.saturating_add(more), high)
    })
}

/// How many items are left of those that the source had, or hinted at. Where a `usize` has 32 bits
/// there may be more items than it can count, and a stage may have taken more.
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
mod tests;
