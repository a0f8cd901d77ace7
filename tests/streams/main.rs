//! Merges, fan-outs, buffers, rate limits and windows.

#[path = "../support/mod.rs"]
mod support;

mod batches {
    mod ready_chunks;
    mod sliding;
    mod window;
}
mod fan_in {
    mod batches_by_age;
    mod merge;
    mod merge_sorted;
    mod readahead;
    mod round_robin;
}
mod fan_out {
    mod broadcast;
    mod partition_readers;
    mod route;
    mod tee_into;
}
mod limiter {
    mod throttle;
}
mod progress;
mod recv;
mod worklist;
