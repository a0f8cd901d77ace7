//! `cargo test --example monitor`: checks that a run of the whole program does not make.

use crate::chain::Chain;
use crate::cli::{Args, Part};
use crate::documents::{Checked, check, compress, document};
use crate::layout;
use clap::Parser;
use fanfold::stats::Bottleneck;
use fanfold::{Fanfold, StageStats};
use std::thread;
use std::time::Duration;

fn args(line: &[&str]) -> Result<Args, String> {
    Args::try_parse_from([&["monitor"], line].concat()).map_err(|e| e.to_string())
}

#[test]
fn times_have_units() {
    let every = |text| args(&[&format!("--every={text}")]).map(|args| args.every());
    assert_eq!(every("250ms"), Ok(Duration::from_millis(250)));
    assert_eq!(every("1.5s"), Ok(Duration::from_millis(1500)));
    for wrong in ["5", "s", "ms", "0s", "-1s", "infs", "NaNs", "2h", "1e9s"] {
        assert!(
            every(wrong).is_err_and(|e| e.contains("250ms or 5s")),
            "{wrong}"
        );
    }
}

#[test]
fn the_sum_of_documents_does_not_depend_on_their_order() {
    let all: Vec<_> = (0..50).map(|i| check(&compress(document(i)))).collect();
    let sum = |all: &mut dyn Iterator<Item = &Checked>| {
        let mut sum = Checked::default();
        all.for_each(|one| sum.add(one));
        sum
    };
    let forwards = sum(&mut all.iter());
    assert_eq!(forwards.documents, 50);
    assert_eq!(forwards, sum(&mut all.iter().rev()));
    assert_ne!(forwards, sum(&mut all.iter().skip(1).chain(&all[1..2])));
    assert_ne!(all[0], all[1]);
}

/// Two stages that have ended.
fn ended() -> Vec<StageStats> {
    let mut first = (0..1000).par_map_ordered(2, |x| x).named("first");
    let firsts = first.stats();
    let mut second = first.par_map_ordered(3, |x| x).named("second");
    let seconds = second.stats();
    assert_eq!(second.count(), 1000);
    vec![firsts, seconds]
}

#[test]
fn lines_fit_into_the_terminal() {
    let view = Chain::new(ended()).altogether();
    assert_eq!(view.stages.len(), 2);
    for columns in [1, 20, 76, 80, 200] {
        let lines = layout::lines(&view, 1000, columns);
        let broken_at_words = lines
            .iter()
            .all(|line| line.len() <= columns.max("unknown:".len()));
        assert!(broken_at_words, "{columns}: {lines:#?}");
    }
    let lines = layout::lines(&view, 1000, 80);
    assert_eq!(
        lines[0],
        format!(
            "{:.1} s: 1000 of 1000 documents",
            view.elapsed.as_secs_f64()
        )
    );
    assert!(
        lines[3].starts_with("first ")
            && lines[4].starts_with("second ")
            && lines[5].starts_with("consumer ")
    );
    assert_eq!(lines[2].len(), lines[3].len());
}

#[test]
fn nothing_is_marked_before_it_is_known() {
    let view = Chain::new(ended()).lately();
    assert_eq!(view.limit, (0, Bottleneck::Unknown));
    let lines = layout::lines(&view, 1000, 80);
    assert!(
        lines[3..6].iter().all(|line| !line.contains('<')),
        "{lines:#?}"
    );
}

#[test]
fn what_is_slow_is_what_limits() {
    let parts = [
        (Part::Source, 0),
        (Part::Make, 0),
        (Part::Compress, 1),
        (Part::Check, 2),
        (Part::Consumer, 3),
    ];
    thread::scope(|s| {
        for (slow, place) in parts {
            s.spawn(move || assert_limits(slow, place));
        }
    });
}

/// With bounds that are small, as else a stage whose items cost nothing pulls all of them at once, and is idle then.
fn assert_limits(part: Part, place: usize) {
    let slow = Some(part);
    let source = (0..800).inspect(move |_| Part::Source.dawdle(slow));
    let make = source.par_map_ordered(1, move |x| (Part::Make.dawdle(slow), x).1);
    let mut make = make.in_flight(16);
    let making = make.stats();
    let compress = make.par_map_ordered(1, move |x| (Part::Compress.dawdle(slow), x).1);
    let mut compress = compress.in_flight(16);
    let compressing = compress.stats();
    let check = compress.par_map_unordered(1, move |x| (Part::Check.dawdle(slow), x).1);
    let mut check = check.in_flight(16);
    let chain = Chain::new(vec![making, compressing, check.stats()]);
    check.for_each(|_| Part::Consumer.dawdle(slow));
    let view = chain.altogether();
    let (limits, why) = &view.limit;
    assert_eq!(*limits, place, "{part:?}: {why} {:#?}", view.stages);
}
