//! What hedging gains and costs.
//!
//! `cargo bench --bench hedge` prints four tables. The first two are models: latencies are drawn, and no
//! time passes, so they say the same on every machine; the policy that decides is the real one. The last
//! two run: an ordered stage whose items sleep, and a fetch of pages over loopback HTTP. `-- --test`
//! runs all of it small.

use fanfold::{Fanfold, HedgePolicy, hedge::HedgeStats};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

#[allow(dead_code, unreachable_pub)]
#[path = "../examples/wordcount/server.rs"]
mod server;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A generator of numbers that look random (`SplitMix64`: Steele, Lea and Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// From 0, to 1 but not 1.
    fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// The value below which that share of all lies.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = (sorted.len() as f64 * share).ceil() as usize;
    sorted[place.clamp(1, sorted.len()) - 1]
}

fn extra(stats: HedgeStats) -> f64 {
    stats.sent as f64 * 100.0 / stats.requests.max(1) as f64
}

/// A request that would take `first`, hedged by a copy that takes `second`, both in ms.
fn hedged(policy: &HedgePolicy, first: f64, second: impl FnOnce() -> f64) -> f64 {
    let mut request = policy.request();
    let delay = policy.delay().map(|delay| delay.as_secs_f64() * 1e3);
    let mut took = first;
    if let Some(delay) = delay.filter(|delay| *delay < first && request.try_hedge()) {
        took = first.min(delay + second());
    }
    request.record(Duration::from_secs_f64(took / 1e3));
    request.end(took < first);
    took
}

// ---- 1. The Tail at Scale

/// Reading one of 1,000 values from one of 100 servers. Fitted to two figures of Dean and Barroso, *The
/// Tail at Scale* (2013): 2 % of the reads take longer than 10 ms, and 0.1 % of all sets of 1,000 reads
/// take longer than 1,800 ms, so that one read in a million does: a Pareto tail between the two.
fn read(random: &mut Random) -> f64 {
    let u = random.uniform();
    if u < 0.98 {
        return 2.0 + 8.0 * u / 0.98;
    }
    let exponent = (0.02_f64 / 1e-6).ln() / (1_800.0_f64 / 10.0).ln();
    10.0 * (0.02 / (1.0 - u)).powf(1.0 / exponent)
}

fn tail_at_scale(sets: usize) {
    println!("1,000 values from 100 servers ({sets} sets; model)");
    println!("  the set in ms      p50      p99    p99.9   more requests");
    let policies = [
        ("unhedged", HedgePolicy::after(Duration::MAX)),
        (
            "after 10 ms",
            HedgePolicy::after(ms(10)).budget(0.05).reserve(10),
        ),
        (
            "after 10 ms, 1 %",
            HedgePolicy::after(ms(10)).budget(0.01).reserve(10),
        ),
    ];
    for (name, policy) in policies {
        let mut random = Random(1);
        let mut sets: Vec<f64> = (0..sets)
            .map(|_| {
                let reads = (0..1_000).map(|_| {
                    let first = read(&mut random);
                    hedged(&policy, first, || read(&mut random))
                });
                reads.fold(0.0, f64::max)
            })
            .collect();
        sets.sort_unstable_by(f64::total_cmp);
        let at = |share| quantile(&sets, share);
        println!(
            "  {name:16} {:6.0} {:8.0} {:8.0}   {:6.2} %",
            at(0.5),
            at(0.99),
            at(0.999),
            extra(policy.stats())
        );
    }
    println!(
        "  the paper        : p99.9 1,800 unhedged, 74 hedged after 10 ms, 2 % more requests\n"
    );
}

// ---- 2. Stragglers

/// 5 ms, give or take 30 %; one in twenty takes ten times as long.
fn straggling(random: &mut Random) -> f64 {
    let base = 5.0 * (0.7 + 0.6 * random.uniform());
    if random.uniform() < 0.05 {
        base * 10.0
    } else {
        base
    }
}

fn stragglers(requests: usize) {
    println!("5 % of the requests take ten times as long ({requests} requests; model)");
    println!(
        "  in ms                       p50      p95      p99    p99.9   more requests   refused"
    );
    let capped = |policy: HedgePolicy| policy.budget(0.07);
    let policies = [
        ("unhedged", HedgePolicy::after(Duration::MAX)),
        ("after 10 ms", capped(HedgePolicy::after(ms(10)))),
        #[cfg(feature = "percentile")]
        ("p94", capped(HedgePolicy::percentile(94.0))),
        #[cfg(feature = "percentile")]
        (
            "p95, capped at 10 ms",
            capped(HedgePolicy::percentile(95.0).cap(ms(10))),
        ),
        (
            "after 10 ms, budget 2 %",
            HedgePolicy::after(ms(10)).budget(0.02),
        ),
        ("after 1 ms (too early)", capped(HedgePolicy::after(ms(1)))),
    ];
    for (name, policy) in policies {
        let mut random = Random(2);
        let mut all: Vec<f64> = (0..requests)
            .map(|_| {
                let first = straggling(&mut random);
                hedged(&policy, first, || straggling(&mut random))
            })
            .collect();
        all.sort_unstable_by(f64::total_cmp);
        let at = |share| quantile(&all, share);
        let stats = policy.stats();
        println!(
            "  {name:24} {:6.1} {:8.1} {:8.1} {:8.1}   {:6.2} %       {:6.2} %",
            at(0.5),
            at(0.95),
            at(0.99),
            at(0.999),
            extra(stats),
            stats.refused as f64 * 100.0 / requests as f64
        );
    }
    println!();
}

// ---- 3. An ordered stage

/// Items of 2 ms; one in a hundred takes a hundred times as long, by chance: its copy does not.
/// Losers do not heed their tokens, and go on to their ends.
fn stage(items: u32, in_flight: usize, policy: Option<&HedgePolicy>) -> f64 {
    const N: usize = 8;
    let runs: Vec<AtomicU32> = (0..items).map(|_| AtomicU32::new(0)).collect();
    let began = Instant::now();
    let stage = (0..items)
        .par_map_ordered(N, |item| {
            let run = runs[item as usize].fetch_add(1, Ordering::Relaxed);
            let unlucky = Random(u64::from(item) << 8 | u64::from(run)).next() % 100 == 0;
            std::thread::sleep(if unlucky { ms(200) } else { ms(2) });
            item
        })
        .in_flight(in_flight);
    let mut last = began;
    let mut count = 0;
    let yielded = |item| {
        assert_eq!(item, count);
        count += 1;
        last = Instant::now();
    };
    match policy {
        Some(policy) => stage.hedge_slow(policy).for_each(yielded),
        None => stage.for_each(yielded),
    }
    last.duration_since(began).as_secs_f64()
}

fn ordered_stage(items: u32) {
    println!(
        "an ordered stage of 8, 1 % of the items take 100 times as long ({items} items; runs)"
    );
    println!("                         items/s   of the unbounded   more runs");
    let unbounded = stage(items, items as usize, None);
    let row = |name: &str, time: f64, more: f64| {
        println!(
            "  {name:22} {:7.0}          {:6.1} %     {more:6.2} %",
            f64::from(items) / time,
            unbounded / time * 100.0
        );
    };
    row("unbounded", unbounded, 0.0);
    for factor in [2, 4, 8] {
        let bound = 8 * factor;
        row(
            &format!("in_flight({bound})"),
            stage(items, bound, None),
            0.0,
        );
        let policy = HedgePolicy::after(ms(6)).budget(0.1);
        let time = stage(items, bound, Some(&policy));
        row(
            &format!("in_flight({bound}), hedged"),
            time,
            extra(policy.stats()),
        );
    }
    println!();
}

// ---- 4. Pages

fn fetch(agent: &ureq::Agent, url: &str) -> usize {
    let answer = agent.get(url).call();
    answer
        .and_then(|mut answer| answer.body_mut().read_to_string())
        .map_or(0, |page| page.len())
}

/// The embedded site of the wordcount example over loopback HTTP. Its slow pages are slow by
/// themselves, which no copy can help: this is what hedging costs where it gains nothing.
fn pages(limit: usize) {
    let list = server::start().expect("a loopback port");
    let urls: Vec<&str> = list
        .lines()
        .filter(|line| line.starts_with("http"))
        .take(limit)
        .collect();
    let config = ureq::Agent::config_builder().timeout_global(Some(ms(2_000)));
    let agent: ureq::Agent = config.build().into();
    println!(
        "{} pages over HTTP, n = 16, slow ones by themselves (runs)",
        urls.len()
    );
    let run = |policy: Option<&HedgePolicy>| {
        let began = Instant::now();
        let stage = urls.iter().par_map_ordered(16, |url| fetch(&agent, url));
        let bytes: usize = match policy {
            Some(policy) => stage.hedge_slow(policy).sum(),
            None => stage.sum(),
        };
        (bytes, began.elapsed().as_secs_f64())
    };
    let (plain, alone) = run(None);
    let policy = HedgePolicy::after(ms(100));
    let (copied, time) = run(Some(&policy));
    let stats = policy.stats();
    println!(
        "  unhedged {alone:.2} s, {plain} bytes; hedged after 100 ms {time:.2} s, {copied} bytes: \
         {} more requests, {} won, {} refused\n",
        stats.sent, stats.won, stats.refused
    );
}

fn main() {
    // What `cargo test --benches` and `cargo bench -- --test` pass.
    let small = std::env::args().any(|arg| arg == "--test");
    if small {
        tail_at_scale(200);
        stragglers(5_000);
        ordered_stage(200);
        pages(20);
    } else {
        tail_at_scale(100_000);
        stragglers(1_000_000);
        ordered_stage(4_000);
        pages(usize::MAX);
    }
}
