//! The promises P1 to P12; early ends, lent iterators, and operations inside others.

#[path = "../support/mod.rs"]
mod support;

mod cancel {
    mod cut_short;
    mod structured;
    mod token;
}
mod kinds;
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
