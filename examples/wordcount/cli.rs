//! The command line: what to read, where to write, how patient to be.

use crate::server;
use clap::Parser;
use std::error::Error;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, ErrorKind, IsTerminal, Write, stdin, stdout};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Fetches a list of web pages, counts the words of each, and writes a CSV with one row for every
/// URL, in the order of the list.
///
/// Without a list it starts a web server of its own on a loopback port, with a novel on 360 pages,
/// and counts that.
#[derive(Parser)]
#[command(name = "wordcount", after_help = HELP)]
pub(crate) struct Args {
    /// File with one URL, file:// URL or path a line; `-` reads stdin as it comes
    pub(crate) list: Option<PathBuf>,

    /// Where the CSV goes; `-` is stdout
    #[arg(short, long, value_name = "FILE", default_value = "counts.csv")]
    pub(crate) out: PathBuf,

    /// How many URLs are fetched at once
    #[arg(short, long, value_name = "N", default_value = "32", value_parser = workers)]
    pub(crate) workers: usize,

    /// How long one try may take, as in 500ms, 5s or 2m [default: 5s, or 1s without a list]
    #[arg(short, long, value_name = "TIME", value_parser = duration)]
    timeout: Option<Duration>,

    /// How often a URL is tried again: after a time-out, a broken connection, a status of 429 or 5xx
    #[arg(short, long, value_name = "N", default_value = "2", value_parser = retries)]
    pub(crate) retries: usize,

    /// At the end, tell what each of the three stages did, and which one limits the others
    #[arg(short, long)]
    pub(crate) stats: bool,
}

const HELP: &str = "\
The columns are number, url, status, bytes, words, error. A URL that fails has its error in its own
row and stops nothing. Blank lines and lines that begin with # are skipped. Bodies must be UTF-8,
and at most 10 MiB long.

To fetch a URL takes at most (retries + 1) x timeout, and the pauses between its tries: 0.1 s,
0.2 s, 0.4 s and so on up to 2 s, each made up to twice as long by chance. By default that is 15.6 s.

Ctrl-C starts nothing new and writes what is under way; a second one ends the program at once.

Exit code: 0 when the list was worked through, 1 when the list cannot be read or the CSV cannot be
written, 2 for bad usage, 130 after Ctrl-C.";

/// Stands for a line of the list that is no text.
pub(crate) const NOT_UTF8: &str = "\u{fffd}";

/// The lines to work on.
pub(crate) struct Input {
    pub(crate) lines: Box<dyn Iterator<Item = String> + Send>,
    /// How many there are, where that can be known.
    pub(crate) len: Option<u64>,
    /// Why the list ended too early, if it did.
    pub(crate) broken: Arc<OnceLock<io::Error>>,
}

impl Args {
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
            .unwrap_or(Duration::from_secs(if self.list.is_some() { 5 } else { 1 }))
    }

    pub(crate) fn writes_to_stdout(&self) -> bool {
        self.out == Path::new("-")
    }

    pub(crate) fn input(&self) -> Result<Input, String> {
        let broken = Arc::new(OnceLock::new());
        let (lines, len): (Box<dyn BufRead + Send>, _) = match &self.list {
            None => {
                let list = server::start().map_err(|e| {
                    format!("cannot start the embedded server: {e}; give a list of URLs")
                })?;
                (
                    Box::new(io::Cursor::new(list.clone())),
                    Some(urls(list.as_bytes(), &broken).count()),
                )
            }
            Some(path) if path == Path::new("-") => {
                if stdin().is_terminal() {
                    eprintln!("wordcount: one URL a line, please; Ctrl-D ends the list");
                }
                (Box::new(BufReader::new(stdin())), None)
            }
            Some(path) => {
                let open = || File::open(path).map(BufReader::new);
                let fix = |e: io::Error| {
                    let fix = "give a file with one URL a line, or `-` and the URLs on stdin";
                    format!("cannot read the list {}: {e}; {fix}", path.display())
                };
                // Read twice, for the length of the bar. A pipe can be read once.
                let about = fs::metadata(path).map_err(fix)?;
                if about.is_dir() {
                    return Err(fix(ErrorKind::IsADirectory.into()));
                }
                let len = if about.is_file() {
                    Some(urls(open().map_err(fix)?, &broken).count())
                } else {
                    None
                };
                (Box::new(open().map_err(fix)?), len)
            }
        };
        Ok(Input {
            lines: Box::new(urls(lines, &broken)),
            len: len.map(|len| len as u64),
            broken,
        })
    }

    pub(crate) fn cannot_write(&self, why: &dyn Error) -> String {
        if self.writes_to_stdout() {
            return format!("cannot write to stdout: {why}; choose a file with --out");
        }
        let fix = "choose another file with --out, or stdout with --out -";
        format!("cannot write {}: {why}; {fix}", self.out.display())
    }

    /// The CSV, begun.
    pub(crate) fn output(&self) -> Result<csv::Writer<Box<dyn Write>>, String> {
        let same = |list: &PathBuf| {
            list.canonicalize()
                .is_ok_and(|list| self.out.canonicalize().is_ok_and(|out| out == list))
        };
        if self.list.as_ref().is_some_and(same) {
            let out = self.out.display();
            return Err(format!(
                "{out} is the list itself; choose another file with --out"
            ));
        }
        let out: Box<dyn Write> = if self.writes_to_stdout() {
            Box::new(stdout())
        } else {
            Box::new(File::create(&self.out).map_err(|e| self.cannot_write(&e))?)
        };
        let mut csv = csv::Writer::from_writer(out);
        csv.write_record(["number", "url", "status", "bytes", "words", "error"])
            .and_then(|()| Ok(csv.flush()?))
            .map_err(|e| self.cannot_write(&e))?;
        Ok(csv)
    }
}

/// The lines of a list that ask for something.
fn urls<R: BufRead>(
    list: R,
    broken: &Arc<OnceLock<io::Error>>,
) -> impl Iterator<Item = String> + use<R> {
    let broken = Arc::clone(broken);
    let lines = list.lines().map_while(move |line| match line {
        Err(e) if e.kind() == ErrorKind::InvalidData => Some(NOT_UTF8.to_owned()),
        Err(e) => {
            broken.set(e).ok();
            None
        }
        line => line.ok(),
    });
    // Some editors begin a file with a byte-order mark.
    let lines = lines.map(|line| {
        line.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}')
            .to_owned()
    });
    lines.filter(|line| !line.is_empty() && !line.starts_with('#'))
}

fn workers(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|n| (1..=1024).contains(n))
        .ok_or_else(|| "give a number from 1 to 1024, such as 32".to_owned())
}

fn retries(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|n| *n <= 20)
        .ok_or_else(|| "give a number from 0 (one try is all) to 20".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(
        text.find(|c: char| c.is_ascii_alphabetic())
            .unwrap_or(text.len()),
    );
    let unit = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        _ => return Err("give a number and its unit, such as 500ms, 5s or 2m".to_owned()),
    };
    let seconds = number
        .parse()
        .ok()
        .map(|n: f64| n * unit)
        .filter(|s| (0.001..=3600.0).contains(s));
    seconds
        .map(Duration::from_secs_f64)
        .ok_or_else(|| "give a time from 1ms to 60m, such as 5s".to_owned())
}
