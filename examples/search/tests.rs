//! `cargo test --example search`: checks that a run of the whole program does not make.

use crate::aggregator::Aggregator;
use crate::backend::{Backends, Model};
use crate::cli::Args;
use crate::index::{Collection, Hit, Query, TOP};
use crate::plot;
use crate::report::Run;
use clap::Parser;
use fanfold::{CancelToken, HedgePolicy};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(30);
const HOUR: f64 = 3_600.0;

fn args(line: &[&str]) -> Result<Args, String> {
    Args::try_parse_from([&["search"], line].concat()).map_err(|e| e.to_string())
}

fn backends(collection: &Collection, shards: &str, replicas: &str, model: &Model) -> Backends {
    let args = args(&["--shards", shards, "--replicas", replicas]).unwrap();
    Backends::start(collection, &args, model).unwrap()
}

/// An aggregator that asks no other replica when one is slow.
fn unhedged(backends: &Backends) -> Aggregator {
    let never = HedgePolicy::after(Duration::MAX);
    Aggregator::new(&backends.urls, never, &CancelToken::new())
}

fn query(number: u64, words: &str) -> Arc<Query> {
    let words = words.to_owned();
    Arc::new(Query { number, words })
}

/// Waits for a condition without a notification.
fn eventually(what: &str, mut ready: impl FnMut() -> bool) {
    let began = Instant::now();
    while !ready() {
        assert!(began.elapsed() < SOON, "stuck: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

// ---- the index

#[test]
fn the_best_pages_come_first_and_each_has_a_word() {
    let collection = Collection::embedded();
    let index = collection.index(0, 1);
    let hits = index.search("Netherfield ball");
    assert_eq!(hits.len(), TOP);
    assert!(hits.is_sorted_by_key(Hit::rank));
    // Rare words count for more than a common one.
    let rare = index.search("the meryton");
    let alone: Vec<u32> = index.search("meryton").iter().map(|hit| hit.page).collect();
    assert!(alone.contains(&rare[0].page));
    assert_eq!(index.search("xyzzy"), []);
    assert_eq!(
        index.search("BALL, ball! netherfield"),
        hits,
        "neither case, order nor repetition matters"
    );
}

#[test]
fn the_shards_have_every_page_once_and_the_same_scores() {
    let collection = Collection::embedded();
    let whole = collection.index(0, 1);
    for shards in 1..=7 {
        let parts: Vec<_> = (0..shards)
            .map(|shard| collection.index(shard, shards))
            .collect();
        for query in collection.queries(20, 7) {
            let parts = parts.iter();
            let mut hits: Vec<Hit> = parts.flat_map(|part| part.search(&query.words)).collect();
            hits.sort_by_key(Hit::rank);
            hits.truncate(TOP);
            assert_eq!(hits, whole.search(&query.words), "{}", query.words);
        }
    }
}

#[test]
fn queries_follow_the_seed_and_find_something() {
    let collection = Collection::embedded();
    let words = |seed| {
        let queries = collection.queries(50, seed);
        queries.iter().map(|q| q.words.clone()).collect::<Vec<_>>()
    };
    assert_eq!(words(3), words(3));
    assert_ne!(words(3), words(4));
    let index = collection.index(0, 1);
    assert!(words(3).iter().all(|words| !index.search(words).is_empty()));
}

#[test]
fn a_hit_survives_the_wire() {
    let hit = Hit {
        score: 1_234,
        page: 5,
        path: "/a".to_owned(),
        opening: "It is \u{201c}so\u{201d}".to_owned(),
    };
    assert_eq!(hit.to_string().parse(), Ok(hit));
    for line in ["", "1\t2\t/a", "x\t2\t/a\tb", "1\t-2\t/a\tb"] {
        assert!(line.parse::<Hit>().is_err(), "{line:?}");
    }
}

// ---- the back ends

#[test]
fn service_times_follow_the_seed_and_the_share() {
    let model = Model::new(0.1, 7);
    let times = |model: &Model| (0..2_000).map(|q| model.time(1, 2, q)).collect::<Vec<_>>();
    assert_eq!(times(&model), times(&model.clone()));
    assert_ne!(times(&model), times(&Model::new(0.1, 8)));
    let slow = times(&model)
        .into_iter()
        .filter(|time| *time >= Duration::from_millis(300))
        .count();
    assert!((100..300).contains(&slow), "{slow} of 2,000 are slow");
    let none = times(&Model::new(0.0, 7));
    assert!(none.iter().all(|time| *time < Duration::from_millis(12)));
}

// ---- the aggregator

#[test]
fn all_shards_together_answer_as_one_index() {
    let collection = Collection::embedded();
    let whole = collection.index(0, 1);
    for shards in ["1", "2", "3", "5"] {
        let backends = backends(&collection, shards, "1", &Model::new(0.0, 7));
        let aggregator = unhedged(&backends);
        for query in collection.queries(10, 7) {
            let hits = aggregator.search(&query).unwrap();
            assert_eq!(hits, whole.search(&query.words), "{}", query.words);
        }
        // Not only the letters that a URL has.
        let odd = query(0, "caf\u{e9}&words=pride #netherfield 100% +");
        assert_eq!(aggregator.search(&odd), Ok(whole.search(&odd.words)));
    }
}

#[test]
fn broken_and_truncated_answers_are_passed_over() {
    let collection = Collection::embedded();
    let whole = collection.index(0, 1);
    let backends = backends(&collection, "1", "3", &Model::new(0.0, 7));
    let aggregator = unhedged(&backends);
    for number in 0..12 {
        let query = query(number, "pride prejudice");
        assert_eq!(aggregator.search(&query), Ok(whole.search(&query.words)));
    }
    // The third replica is the first to be asked by queries 2, 5, 8 and 11: it fails for the even ones, and
    // cuts the answers of the others.
    let load = aggregator.load();
    assert_eq!(load.failed.load(Ordering::Relaxed), 4);
    assert_eq!(load.sent.load(Ordering::Relaxed), 16);
}

#[test]
fn a_shard_without_an_answer_is_an_error_that_says_why() {
    let collection = Collection::embedded();
    let mut urls = backends(&collection, "2", "2", &Model::new(0.0, 7)).urls;
    urls[1] = vec!["http://127.0.0.1:1/".to_owned(), urls[0][1].clone()];
    let never = HedgePolicy::after(Duration::MAX);
    let aggregator = Aggregator::new(&urls, never, &CancelToken::new());
    let error = aggregator.search(&query(4, "pride")).unwrap_err();
    assert!(
        error.starts_with("shard 1: no replica has an answer: 0: "),
        "{error}"
    );
    assert!(error.contains("500 Internal Server Error"), "{error}");
    assert!(error.contains("onnection refused"), "{error}");
}

#[test]
fn a_slow_replica_is_hedged_and_hung_up_on() {
    let collection = Collection::embedded();
    let model = Model {
        slow_time: HOUR..HOUR + 1.0,
        ..Model::new(0.5, 7)
    };
    let is_slow = |replica, number| model.time(0, replica, number).as_secs() > 0;
    // A query that asks replica 0, which is slow, and then replica 1, which is not.
    let number = (0..).step_by(3).find(|n| is_slow(0, *n) && !is_slow(1, *n));
    let backends = backends(&collection, "1", "3", &model);
    let policy = HedgePolicy::after(Duration::from_millis(5));
    let aggregator = Aggregator::new(&backends.urls, policy.clone(), &CancelToken::new());
    let hits = aggregator.search(&query(number.unwrap(), "pride")).unwrap();
    assert_eq!(hits, collection.index(0, 1).search("pride"));
    assert!(policy.stats().won == 1, "{:?}", policy.stats());
    eventually("the loser's back end hears of it", || {
        backends.hung_up() >= 1
    });
}

#[test]
fn a_tripped_token_hangs_up_on_all_back_ends() {
    let collection = Collection::embedded();
    let model = Model {
        slow_time: HOUR..HOUR + 1.0,
        ..Model::new(1.0, 7)
    };
    let backends = backends(&collection, "3", "1", &model);
    let stop = CancelToken::new();
    let never = HedgePolicy::after(Duration::MAX);
    let aggregator = Aggregator::new(&backends.urls, never, &stop);
    let error = thread::scope(|s| {
        let search = s.spawn(|| aggregator.search(&query(0, "pride")));
        eventually("all shards are asked", || {
            aggregator.load().sent.load(Ordering::Relaxed) == 3
        });
        stop.cancel();
        search.join().unwrap().unwrap_err()
    });
    assert!(error.contains("cancelled"), "{error}");
    // After the cancellation no further request is sent.
    let again = aggregator.search(&query(0, "pride")).unwrap_err();
    assert!(again.contains("cancelled"), "{again}");
    assert_eq!(aggregator.load().sent.load(Ordering::Relaxed), 3);
}

// ---- the report

fn run_of(millis: impl Iterator<Item = u64>) -> Run {
    let answers = millis.map(|ms| (Duration::from_millis(ms), Vec::new()));
    Run::new(answers.collect(), Duration::from_secs(1))
}

#[test]
fn percentiles_are_those_of_the_queries() {
    let run = run_of(1..=1_000);
    for (quantile, millis) in [(0.5, 500.0), (0.99, 990.0), (0.999, 999.0), (1.0, 1_000.0)] {
        let found = run.millis(quantile);
        assert!(
            (found - millis).abs() <= millis / 500.0,
            "{quantile}: {found}"
        );
    }
}

#[test]
fn the_plot_has_both_lines_for_few_queries_and_many() {
    for queries in [1, 2, 9, 1_000, 10_000] {
        let svg = plot::svg(&run_of(1..=queries), &run_of(1..=queries)).unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        for text in [
            "without hedging",
            "with hedging",
            "percentile",
            "milliseconds",
        ] {
            assert!(svg.contains(text), "{text} for {queries} queries");
        }
        assert_eq!(
            svg.contains("99.9 %"),
            queries >= 1_000,
            "{queries} queries"
        );
    }
}

// ---- the command line

#[test]
fn bad_options_name_the_fix() {
    for (line, fix) in [
        (["--queries", "0"], "from 1 to 100000, such as 1000"),
        (["--clients", "many"], "from 1 to 64, such as 8"),
        (["--shards", "17"], "from 1 to 16"),
        (["--replicas", "0"], "from 1 to 8"),
        (["--slow", "5"], "from 0 to 1, such as 0.03"),
        (["--slow", "nan"], "from 0 to 1"),
        (["--percentile", "0.95"], "from 1 to 99.9, such as 95"),
        (["--budget", "-1"], "from 0 to 1, such as 0.1"),
        (["--percentile", "100"], "from 1 to 99.9"),
        (["--seed", "x"], "seed"),
        (["--query", "?!"], "give some words"),
    ] {
        let error = args(&line).map(drop).unwrap_err();
        assert!(error.contains(fix), "{line:?}: {error}");
    }
}
