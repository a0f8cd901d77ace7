//! From a line of the list to the body of a page, with a time-out and retries.

use crate::cli::{Args, NOT_UTF8};
use backon::{BlockingRetryable, ExponentialBuilder};
use fanfold::{CancelToken, ItemError};
use std::fmt::Display;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};
use ureq::Agent;

/// The longest body that is read, in bytes.
const MAX_BODY: u64 = 10 << 20;

/// The pauses between tries: the first, which doubles from try to try, and the longest. Each is made
/// up to twice as long by chance.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(2)];

/// What came back for a URL.
#[derive(Clone, Copy, Default)]
pub(crate) struct Answer {
    pub(crate) status: Option<u16>,
    pub(crate) bytes: Option<u64>,
}

/// A URL between two stages: what came back, and the `content` that the next stage works on.
pub(crate) struct Page<T> {
    pub(crate) answer: Answer,
    pub(crate) content: Result<T, String>,
    /// The time that its own work took, all stages together.
    pub(crate) took: Duration,
}

impl<T> Page<T> {
    /// One more step; a page that has failed skips it.
    pub(crate) fn then<U>(self, step: impl FnOnce(T) -> U) -> Page<U> {
        let (answer, started) = (self.answer, Instant::now());
        let content = self.content.map(step);
        let took = self.took + started.elapsed();
        Page {
            answer,
            content,
            took,
        }
    }

    /// What an isolated stage yields, as a page: a panic becomes the error of its own row.
    pub(crate) fn or_failed(outcome: Result<Self, ItemError>) -> Self {
        outcome.unwrap_or_else(|failure| Page {
            answer: Answer::default(),
            content: Err(format!("panicked: {}", failure.message())),
            took: Duration::ZERO,
        })
    }
}

/// The text of a page as it came.
pub(crate) struct Body {
    pub(crate) text: String,
    pub(crate) is_html: bool,
}

/// Why there is no page, and whether another try may help.
struct Failed {
    answer: Answer,
    why: String,
    again: bool,
}

impl Failed {
    /// Not even asked.
    fn for_good(why: impl Into<String>) -> Self {
        Self {
            answer: Answer::default(),
            why: why.into(),
            again: false,
        }
    }
}

pub(crate) struct Fetcher {
    agent: Agent,
    timeout: Duration,
    retries: usize,
}

impl Fetcher {
    pub(crate) fn new(args: &Args) -> Self {
        let config = Agent::config_builder()
            .timeout_global(Some(args.timeout()))
            .http_status_as_error(false)
            .max_idle_connections(args.workers)
            .max_idle_connections_per_host(args.workers)
            .user_agent("fanfold-wordcount");
        // The embedded site is on this machine: no proxy knows it.
        let config = if args.list.is_none() {
            config.proxy(None)
        } else {
            config
        };
        Self {
            agent: config.build().into(),
            timeout: args.timeout(),
            retries: args.retries,
        }
    }

    /// Gets what a line names, in as many tries as it takes and the options allow.
    pub(crate) fn page(&self, line: &str) -> Page<Body> {
        let started = Instant::now();
        // The token of the stage that this runs in: Ctrl-C cuts the pauses short and ends the tries.
        let token = CancelToken::current();
        let nap = token.clone();
        let mut tries = 0;
        let pauses = ExponentialBuilder::new()
            .with_min_delay(PAUSES[0])
            .with_max_delay(PAUSES[1])
            .with_max_times(self.retries)
            .with_jitter();
        let try_once = || {
            tries += 1;
            self.get(line)
        };
        let outcome = try_once
            .retry(pauses)
            .sleep(move |pause| {
                let _ = nap.sleep(pause);
            })
            .when(|failed: &Failed| failed.again && !token.is_cancelled())
            .call();
        let took = started.elapsed();
        match outcome {
            Ok((answer, body)) => Page {
                answer,
                content: Ok(body),
                took,
            },
            Err(Failed { answer, why, .. }) if tries == 1 => Page {
                answer,
                content: Err(why),
                took,
            },
            Err(Failed { answer, why, .. }) => Page {
                answer,
                content: Err(format!("{why} ({tries} tries)")),
                took,
            },
        }
    }

    /// One try.
    fn get(&self, line: &str) -> Result<(Answer, Body), Failed> {
        if line == NOT_UTF8 {
            return Err(Failed::for_good("this line of the list is not UTF-8"));
        }
        let Some((scheme, rest)) = line.split_once("://") else {
            return read(Path::new(line));
        };
        match scheme.to_ascii_lowercase().as_str() {
            "http" | "https" => self.download(line),
            "file" => match rest.strip_prefix("localhost").unwrap_or(rest) {
                path if path.starts_with('/') => read(Path::new(&percent_decoded(path)?)),
                _ => Err(Failed::for_good(
                    "a file of another machine: write file:///path",
                )),
            },
            _ => Err(Failed::for_good(format!(
                "cannot fetch {scheme}: use http, https, file or a path"
            ))),
        }
    }

    /// Ends within the time-out.
    fn download(&self, url: &str) -> Result<(Answer, Body), Failed> {
        let mut answer = Answer::default();
        let mut response = self
            .agent
            .get(url)
            .call()
            .map_err(|e| self.failed(answer, &e))?;
        let status = response.status();
        answer.status = Some(status.as_u16());
        let is_html = response
            .body()
            .mime_type()
            .is_none_or(|kind| kind.contains("html"));
        let bytes = response
            .body_mut()
            .with_config()
            .limit(MAX_BODY)
            .read_to_vec();
        let bytes = bytes.map_err(|e| self.failed(answer, &e))?;
        if status.is_success() {
            return body(answer, bytes, is_html);
        }
        answer.bytes = Some(bytes.len() as u64);
        let again = status.is_server_error() || status == 429;
        Err(Failed {
            answer,
            why: status.to_string(),
            again,
        })
    }

    /// Trouble on the way is tried again, a request that cannot be right is not.
    fn failed(&self, answer: Answer, error: &ureq::Error) -> Failed {
        use ureq::Error as E;
        let why = match error {
            E::Timeout(_) => format!("timed out after {:?}", self.timeout),
            E::BodyExceedsLimit(limit) => format!("the body is longer than {limit} bytes"),
            E::TlsRequired => "https needs a build with ureq's feature `rustls`".to_owned(),
            _ => error.to_string(),
        };
        let again = matches!(
            error,
            E::Timeout(_) | E::ConnectionFailed | E::HostNotFound | E::Io(_) | E::Protocol(_)
        );
        Failed { answer, why, again }
    }
}

/// A file of this machine. Only a plain one: a pipe or a device may never end.
fn read(path: &Path) -> Result<(Answer, Body), Failed> {
    let failed =
        |why: &dyn Display| Failed::for_good(format!("cannot read {}: {why}", path.display()));
    let about = fs::metadata(path).map_err(|e| failed(&e))?;
    if !about.is_file() {
        return Err(failed(&"not a file"));
    }
    if about.len() > MAX_BODY {
        return Err(failed(&format_args!("longer than {MAX_BODY} bytes")));
    }
    let bytes = fs::read(path).map_err(|e| failed(&e))?;
    let end = path.extension().unwrap_or_default().to_ascii_lowercase();
    body(
        Answer::default(),
        bytes,
        end == "html" || end == "htm" || end == "xhtml",
    )
}

/// Text in another encoding would be miscounted in silence: it is an error.
fn body(mut answer: Answer, bytes: Vec<u8>, is_html: bool) -> Result<(Answer, Body), Failed> {
    answer.bytes = Some(bytes.len() as u64);
    match String::from_utf8(bytes) {
        Ok(text) => Ok((answer, Body { text, is_html })),
        Err(e) => {
            let place = e.utf8_error().valid_up_to();
            Err(Failed {
                answer,
                why: format!("the body is not UTF-8 (from byte {place} on)"),
                again: false,
            })
        }
    }
}

/// The path of a `file://` URL: `%20` is a space.
fn percent_decoded(path: &str) -> Result<String, Failed> {
    let mut pieces = path.split('%');
    let mut bytes = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        let code = piece
            .get(..2)
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        let code = code.ok_or_else(|| {
            Failed::for_good("a % without two hexadecimal digits after it: write %25")
        })?;
        bytes.push(code);
        bytes.extend(&piece.as_bytes()[2..]);
    }
    String::from_utf8(bytes).map_err(|_| Failed::for_good("the path is not UTF-8"))
}
