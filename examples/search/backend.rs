//! The back ends: small HTTP servers on loopback ports, one a replica. All replicas of a shard have
//! the same index, and each request takes as long as the [`Model`] says.
//!
//! Written on `std::net`, because `tiny_http` can neither cut an answer in the middle nor tell that
//! the client has hung up.

use crate::cli::Args;
use crate::index::{Collection, Index};
use fastrand::Rng;
use itertools::Itertools;
use percent_encoding::percent_decode_str;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// How long requests take.
#[derive(Clone)]
pub(crate) struct Model {
    pub(crate) seed: u64,
    /// Which share of the requests is slow.
    pub(crate) slow: f64,
    /// In seconds.
    pub(crate) quick_time: Range<f64>,
    pub(crate) slow_time: Range<f64>,
}

impl Model {
    pub(crate) fn new(slow: f64, seed: u64) -> Self {
        Self {
            seed,
            slow,
            quick_time: 0.004..0.012,
            slow_time: 0.3..0.4,
        }
    }

    /// By chance, but the same in every run, whoever else is asked what: so a query meets the same
    /// slow replicas with hedging and without.
    pub(crate) fn time(&self, shard: usize, replica: usize, query: u64) -> Duration {
        let mut hasher = DefaultHasher::new();
        (self.seed, shard, replica, query).hash(&mut hasher);
        let mut random = Rng::with_seed(hasher.finish());
        let Range { start, end } = if random.f64() < self.slow {
            &self.slow_time
        } else {
            &self.quick_time
        };
        Duration::from_secs_f64(start + (end - start) * random.f64())
    }
}

/// All the back ends; they serve until the process ends.
pub(crate) struct Backends {
    /// Of each shard the URLs of its replicas.
    pub(crate) urls: Vec<Vec<String>>,
    hung_up: Arc<AtomicU64>,
}

impl Backends {
    /// Starts them. The last replica of the first shard is broken, if it is not the only one.
    pub(crate) fn start(collection: &Collection, args: &Args, model: &Model) -> io::Result<Self> {
        let hung_up = Arc::<AtomicU64>::default();
        let shard = |shard| {
            let index = Arc::new(collection.index(shard, args.shards));
            let replica = |number| {
                let replica = Replica {
                    index: Arc::clone(&index),
                    model: model.clone(),
                    shard,
                    number,
                    broken: shard == 0 && number > 0 && number + 1 == args.replicas,
                    hung_up: Arc::clone(&hung_up),
                };
                replica.start()
            };
            (0..args.replicas).map(replica).collect()
        };
        Ok(Self {
            urls: (0..args.shards).map(shard).collect::<io::Result<_>>()?,
            hung_up,
        })
    }

    /// How often a client has hung up before it had its answer, so far.
    pub(crate) fn hung_up(&self) -> u64 {
        self.hung_up.load(Ordering::Relaxed)
    }
}

struct Replica {
    index: Arc<Index>,
    model: Model,
    shard: usize,
    number: usize,
    broken: bool,
    hung_up: Arc<AtomicU64>,
}

impl Replica {
    fn start(self) -> io::Result<String> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let url = format!("http://{}/search", listener.local_addr()?);
        let replica = Arc::new(self);
        let name = format!("replica {}.{}", replica.shard, replica.number);
        thread::Builder::new().name(name).spawn(move || {
            for stream in listener.incoming().flatten() {
                let replica = Arc::clone(&replica);
                // A thread for every connection. What goes wrong ends this connection only.
                let _ = thread::Builder::new().spawn(move || replica.serve(&stream));
            }
        })?;
        Ok(url)
    }

    /// Answers the requests of a connection, one after the other.
    fn serve(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let (mut requests, mut out) = (BufReader::new(stream), stream);
        while let Some(target) = read_request(&mut requests)? {
            let Some((query, words)) = parse(&target) else {
                let why = "ask for /search?query=NUMBER&words=WORDS\n";
                out.write_all(&response("400 Bad Request", why, why.len()))?;
                continue;
            };
            let time = self.model.time(self.shard, self.number, query);
            let hits = self.index.search(&words);
            let body = hits.iter().join("\n");
            if self.broken && query % 2 == 0 {
                let why = "no index\n";
                out.write_all(&response("500 Internal Server Error", why, why.len()))?;
            } else if self.broken {
                return out.write_all(&response("200 OK", &body, body.len() / 2));
            } else if is_wanted_after(time, stream)? {
                out.write_all(&response("200 OK", &body, body.len()))?;
            } else {
                self.hung_up.fetch_add(1, Ordering::Relaxed);
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Takes its time; `false`: the client has hung up meanwhile, and the work is given up.
fn is_wanted_after(time: Duration, stream: &TcpStream) -> io::Result<bool> {
    stream.set_read_timeout(Some(time))?;
    let wanted = match stream.peek(&mut [0]) {
        Ok(bytes) => bytes > 0,
        Err(e) => matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
    };
    stream.set_read_timeout(None)?;
    Ok(wanted)
}

/// The target of the next request, or `None` when the client has closed.
fn read_request(requests: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if requests.read_line(&mut head)? == 0 {
            return Ok(None);
        }
    }
    Ok(head.split(' ').nth(1).map(str::to_owned))
}

/// The number and the words of a query.
fn parse(target: &str) -> Option<(u64, String)> {
    let (_, parameters) = target.split_once('?')?;
    let parameter = |name: &str| {
        let mut all = parameters
            .split('&')
            .filter_map(|each| each.split_once('='));
        all.find(|(key, _)| *key == name).map(|(_, value)| value)
    };
    let words = percent_decode_str(parameter("words")?).decode_utf8().ok()?;
    Some((parameter("query")?.parse().ok()?, words.into_owned()))
}

/// A response that promises all of the body and has the first `sent` bytes of it.
fn response(status: &str, body: &str, sent: usize) -> Vec<u8> {
    let kind = "Content-Type: text/tab-separated-values; charset=utf-8";
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\n{kind}\r\nContent-Length: {length}\r\n\r\n");
    [head.as_bytes(), &body.as_bytes()[..sent]].concat()
}
