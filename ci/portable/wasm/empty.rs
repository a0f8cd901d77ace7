//! Nothing: see `tests/alone.rs`.
