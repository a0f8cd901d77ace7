//! A bound that may be none.

/// `$stage` with at most `$k` items in flight, or with the bound it has.
macro_rules! bounded {
    ($stage:expr, $k:expr) => {{
        let stage = $stage;
        match $k {
            None => stage,
            Some(k) => stage.in_flight(k),
        }
    }};
}
