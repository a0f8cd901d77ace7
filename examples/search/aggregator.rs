//! The aggregator: from a query to the best hits of all shards.

use crate::index::{Hit, Query, TOP};
use fanfold::{CancelToken, Fanfold, HedgePolicy, merge_sorted_by_key};
use std::iter;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use ureq::Agent;

/// A shard that has not answered by then has failed.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(2);

pub(crate) struct Aggregator {
    shards: Vec<Shard>,
    /// Says when a shard is slow, and how often another replica may be asked for that.
    policy: HedgePolicy,
    stop: CancelToken,
    load: Arc<Load>,
}

/// What was sent to the replicas, and what came of it.
#[derive(Default)]
pub(crate) struct Load {
    pub(crate) sent: AtomicU64,
    /// Without an answer, or with half of one; but not those that were told to stop.
    pub(crate) failed: AtomicU64,
}

impl Aggregator {
    /// Of each shard it gets the URLs of its replicas.
    pub(crate) fn new(urls: &[Vec<String>], policy: HedgePolicy, stop: &CancelToken) -> Self {
        let load = Arc::<Load>::default();
        let replica = |url: &String| {
            Arc::new(Replica {
                url: url.clone(),
                idle: Mutex::default(),
                load: Arc::clone(&load),
            })
        };
        let shard = |(number, urls): (usize, &Vec<String>)| Shard {
            number,
            replicas: urls.iter().map(replica).collect(),
        };
        Self {
            shards: urls.iter().enumerate().map(shard).collect(),
            policy,
            stop: stop.clone(),
            load,
        }
    }

    pub(crate) fn load(&self) -> &Load {
        &self.load
    }

    /// The best hits of all shards, or why a shard has no answer.
    ///
    /// The ranked answers of the shards are the sources of a sorted merge. It pulls each on a thread
    /// of its own, so all shards are asked side by side.
    pub(crate) fn search(&self, query: &Arc<Query>) -> Result<Vec<Hit>, String> {
        let answers = self.shards.iter().map(|shard| {
            iter::once_with(|| shard.ask(query, &self.policy, &self.stop)).flat_map(|answer| {
                match answer {
                    Ok(hits) => hits.into_iter().map(Ok).collect(),
                    Err(why) => vec![Err(why)],
                }
            })
        });
        fanfold::scope(|s| {
            // An error comes before all hits, as `None` is the lowest key.
            merge_sorted_by_key(answers, |hit| hit.as_ref().ok().map(Hit::rank))
                .assume_sorted()
                .within(s)
                .take(TOP)
                .collect()
        })
    }
}

struct Shard {
    number: usize,
    replicas: Vec<Arc<Replica>>,
}

impl Shard {
    /// The first complete answer of a replica.
    fn ask(
        &self,
        query: &Arc<Query>,
        policy: &HedgePolicy,
        stop: &CancelToken,
    ) -> Result<Vec<Hit>, String> {
        // Each query begins with another replica.
        let first = query.number as usize + self.number;
        let replicas = (0..self.replicas.len()).map(|next| {
            let replica = Arc::clone(&self.replicas[(first + next) % self.replicas.len()]);
            let query = Arc::clone(query);
            move |token| replica.ask(&query, &token)
        });
        let answer = replicas
            .hedge()
            .policy(policy)
            .timeout(TIMEOUT)
            .cancel_on(stop)
            .run();
        answer.map_err(|why| format!("shard {}: {why}", self.number))
    }
}

struct Replica {
    url: String,
    /// Those that are not in use. Each has one connection, which is kept open, so that to shut an
    /// agent down ends one request and no other.
    idle: Mutex<Vec<Agent>>,
    load: Arc<Load>,
}

impl Replica {
    /// Its answer, if that is complete.
    fn ask(&self, query: &Query, token: &CancelToken) -> Result<Vec<Hit>, String> {
        token.check().map_err(|e| e.to_string())?;
        self.load.sent.fetch_add(1, Ordering::Relaxed);
        let agent = self.agents(Vec::pop).unwrap_or_else(new_agent);
        // The token of a replica that has lost is tripped. That shuts its connection down, so it
        // blocks no thread of ours any longer, and the back end hears of it too.
        let guard = token.on_cancel({
            let agent = agent.clone();
            move || agent.shutdown()
        });
        let answer = get(&agent, &self.url, query);
        drop(guard);
        if token.is_cancelled() {
            return answer; // and the agent is of no more use
        }
        self.agents(|idle| idle.push(agent));
        if answer.is_err() {
            self.load.failed.fetch_add(1, Ordering::Relaxed);
        }
        answer
    }

    fn agents<R>(&self, f: impl FnOnce(&mut Vec<Agent>) -> R) -> R {
        f(&mut self.idle.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn new_agent() -> Agent {
    let config = Agent::config_builder()
        .timeout_global(Some(TIMEOUT))
        .http_status_as_error(false)
        .user_agent("fanfold-search")
        .proxy(None); // the back ends are on this machine
    config.build().into()
}

fn get(agent: &Agent, url: &str, query: &Query) -> Result<Vec<Hit>, String> {
    let request = agent
        .get(url)
        .query("query", query.number.to_string())
        .query("words", &query.words);
    let mut response = request.call().map_err(|e| e.to_string())?;
    let body = response.body_mut().read_to_string();
    let body = body.map_err(|e| e.to_string())?;
    if !response.status().is_success() {
        return Err(response.status().to_string());
    }
    body.lines().map(str::parse).collect()
}
