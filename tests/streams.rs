//! Several sources into one, one source to several readers, buffers, pace and windows.

mod support;

mod broadcast;
mod max_age;
mod merge;
mod merge_sorted;
mod partition_readers;
mod readahead;
mod round_robin;
mod route;
mod sliding;
mod throttle;
mod window;
mod worklist;
