//! Two stages whose statistics Prometheus can scrape while they run.
//!
//! ```text
//! cargo run --release --features metrics --example prometheus                    # some minutes
//! cargo run --release --features metrics --example prometheus -- 127.0.0.1:9184 1000
//! curl http://127.0.0.1:9184/metrics
//! ```
//!
//! What is to be seen of `fanfold` is in [`run`]: each stage is given a name and added to [`METRICS`]. The server publishes
//! when it is asked, so that each answer shows the state at that time. `docs/grafana-fanfold.json` is a dashboard for it.

mod server;

use fanfold::Fanfold;
use fanfold::stats::MetricsPublisher;
use metrics_exporter_prometheus::PrometheusBuilder;
use std::error::Error;
use std::net::TcpListener;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

static METRICS: MetricsPublisher = MetricsPublisher::new();

/// As long as an answer from far away: most in 20 ms, one of a hundred in half a second.
fn fetch(page: u64) -> String {
    let wait = if page % 100 == 99 { 500 } else { 20 };
    sleep(Duration::from_millis(wait));
    format!("page {page} of some text, ").repeat(200)
}

/// Keeps a core busy for a moment.
fn hash(text: &str) -> u64 {
    (0..100).fold(0xcbf2_9ce4_8422_2325, |hash, _| {
        let step = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        text.bytes().fold(hash, step)
    })
}

fn run(pages: u64) -> u64 {
    let mut texts = (0..pages).par_map_ordered(16, fetch).named("fetch");
    METRICS.add(&texts.stats());
    let mut hashes = texts.par_map_ordered(2, |text| hash(&text)).named("hash");
    METRICS.add(&hashes.stats());
    hashes.fold(0, |sum, hash| sum ^ hash)
}

fn start() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let address = args.next().unwrap_or_else(|| "127.0.0.1:9184".to_owned());
    let pages = args.next().map_or(Ok(100_000), |pages| pages.parse())?;

    let exporter = PrometheusBuilder::new().install_recorder()?;
    let listener = TcpListener::bind(address)?;
    eprintln!("http://{}/metrics", listener.local_addr()?);
    server::serve(listener, move || {
        METRICS.publish();
        exporter.render()
    });

    println!("{:016x}", run(pages));
    Ok(())
}

fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("prometheus: {error}");
            ExitCode::FAILURE
        }
    }
}
