//! Several sources into one, one source to several readers, buffers, pace and windows.

mod support;

mod broadcast;
mod feedback;
mod max_age;
mod merge;
mod merge_sorted;
mod readahead;
mod round_robin;
mod route;
mod sliding;
mod split;
mod throttle;
mod window;
