//! Stages: options, kinds and places; and whole jobs.

#[path = "../support/mod.rs"]
mod support;

mod flat {
    #[macro_use]
    mod bounded;
    mod inner;
    mod own;
    mod short;
}
mod group;
mod hedge {
    mod hedge_slow;
    mod race;
}
mod keyed {
    mod by_key;
}
mod odd_places;
mod ordered {
    mod item_timeout;
}
mod par {
    mod family;
    mod fold;
    mod for_each;
    mod init;
    mod local;
    mod push;
    mod try_init;
}
mod parallel_map;
mod permits;
mod runtime {
    mod pool;
    mod pool_hooks;
}
mod stage {
    mod auto;
    mod borrow;
    mod clash;
    mod dead_locks;
    mod in_flight_weight;
    mod limited_by;
    mod one_liners;
    mod parked_weight;
    mod scope;
    mod workers_handle;
}
