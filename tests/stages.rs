//! Stages: options, kinds, places; and whole jobs.

mod support;

mod borrow;
mod by_key;
mod clash;
mod group;
mod hedge;
mod hedge_slow;
mod init;
mod item_timeout;
mod local;
mod odd_places;
mod parallel_map;
mod scope;
