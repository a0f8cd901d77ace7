//! The promises P1 to P12, and what ends early, is lent, or starts inside something else.

mod support;

mod cancel;
mod cut_short;
mod lent;
mod p01_order;
mod p02_bound;
mod p03_width;
mod p04_deliver_first;
mod p04_first_result;
mod p05_errors;
mod p06_panics;
mod p07_drop;
mod p08_no_deadlock;
mod p09_no_loss;
mod p10_no_leak;
mod p11_laziness;
mod p12_bad_input;
mod structured;
