//! The site of a run without arguments: a novel on a loopback port, some pages slow and some broken.
//!
//! Written on `std::net`, because `tiny_http` cannot cut a connection in the middle of a body.

use std::collections::{HashMap, HashSet};
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

const BOOK: &str = include_str!("corpus/pride-and-prejudice.txt");
const LIST: &str = include_str!("corpus/urls.txt");

/// Starts the server; it serves until the process ends. Returns its list, one URL a line.
pub(crate) fn start() -> io::Result<String> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let base = format!("http://{}", listener.local_addr()?);
    let site = Arc::new(Site::new());
    thread::Builder::new()
        .name("site".to_owned())
        .spawn(move || {
            for stream in listener.incoming().flatten() {
                let site = Arc::clone(&site);
                // A thread for every connection. What goes wrong ends this connection only.
                let _ = thread::Builder::new().spawn(move || site.serve(&stream));
            }
        })?;
    Ok(LIST.replace("\n/", &format!("\n{base}/")))
}

/// What the server does with a request.
enum Answer {
    Send(&'static str, Vec<u8>),
    /// Promises all of the body, sends half of it and closes.
    Cut(Vec<u8>),
    /// Says nothing until the client has given up.
    Silence,
}

struct Site {
    /// Path to number and text.
    pages: HashMap<&'static str, (usize, &'static str)>,
    /// What has failed once, and is healed now.
    healed: Mutex<HashSet<String>>,
}

impl Site {
    fn new() -> Self {
        let pages = BOOK.split("=== ").skip(1).enumerate();
        let pages = pages.filter_map(|(number, page)| {
            page.split_once('\n')
                .map(|(path, text)| (path, (number, text)))
        });
        Self {
            pages: pages.collect(),
            healed: Mutex::default(),
        }
    }

    /// Answers the requests of a connection, one after the other.
    fn serve(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let (mut requests, mut out) = (BufReader::new(stream), stream);
        while let Some(path) = read_request(&mut requests)? {
            match self.answer(&path) {
                Answer::Send(status, body) => {
                    out.write_all(&response(status, &body, body.len()))?;
                }
                Answer::Cut(body) => {
                    return out.write_all(&response("200 OK", &body, body.len() / 2));
                }
                Answer::Silence => return io::copy(&mut requests, &mut io::sink()).map(drop),
            }
        }
        Ok(())
    }

    fn answer(&self, path: &str) -> Answer {
        if let Some(rest) = path.strip_prefix("/flaky") {
            let mut healed = self.healed.lock().unwrap_or_else(PoisonError::into_inner);
            if healed.insert(rest.to_owned()) {
                return Answer::Send("500 Internal Server Error", b"<p>Try again".to_vec());
            }
            drop(healed);
            return self.answer(rest);
        }
        if let Some(rest) = path.strip_prefix("/cut") {
            return match self.answer(rest) {
                Answer::Send(_, body) => Answer::Cut(body),
                other => other,
            };
        }
        match (path, self.pages.get(path)) {
            (_, Some((number, text))) => {
                thread::sleep(delay(*number));
                Answer::Send("200 OK", html(text).into_bytes())
            }
            ("/silent", _) => Answer::Silence,
            ("/broken", _) => Answer::Send("503 Service Unavailable", b"<p>Never again".to_vec()),
            // In ISO-8859-1, whatever the header says.
            ("/latin-1", _) => Answer::Send("200 OK", b"<p>Se\xf1or Darcy".to_vec()),
            _ => Answer::Send(
                "404 Not Found",
                b"<p>Nobody of that name lives here".to_vec(),
            ),
        }
    }
}

/// Uneven, but the same in every run: most pages take 5 to 20 ms, every ninth takes 300 ms.
fn delay(number: usize) -> Duration {
    Duration::from_millis(if number % 9 == 4 {
        300
    } else {
        5 + (number as u64 * 7) % 16
    })
}

/// The path of the next request, or `None` when the client has closed.
fn read_request(requests: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if requests.read_line(&mut head)? == 0 {
            return Ok(None);
        }
    }
    Ok(head.split(' ').nth(1).map(str::to_owned))
}

/// A response that promises all of the body and sends the first `sent` bytes of it.
fn response(status: &str, body: &[u8], sent: usize) -> Vec<u8> {
    let kind = "Content-Type: text/html; charset=utf-8";
    let head = format!(
        "HTTP/1.1 {status}\r\n{kind}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), &body[..sent]].concat()
}

/// Not to be counted: what is in the title, a style, a script, a comment or an attribute.
const HEAD: &str = r#"<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Pride and Prejudice, a novel by Jane Austen</title>
<style>body { max-width: 40em; margin: auto } .cap { font-size: 200% }</style>
<script>if (1 < 2 && document.title) { console.log("<p>not a word of this</p>"); }</script></head>
<body><!-- nor of this -->
<noscript>Scripts are switched off.</noscript>
<nav><a href="/" title="All the chapters">&uarr;</a>&nbsp;<a href="next" title="The next page">&rarr;</a></nav>
"#;

/// A page of plain text as HTML, with the markup and the entities of a page of its kind.
fn html(text: &str) -> String {
    let mut page = HEAD.to_owned();
    for (number, paragraph) in text.trim_end().split("\n\n").enumerate() {
        let safe = paragraph
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace("--", "&mdash;")
            .replace('\'', "&rsquo;");
        let safe = paired(&safe, '"', "&ldquo;", "&rdquo;");
        let safe = paired(&safe, '_', "<em>", "</em>");
        // Most end tags are left out, as they may be.
        match safe.split_at_checked(1) {
            Some((first, rest)) if number == 0 && first != "&" => {
                page.extend(["<p><span class=\"cap\">", first, "</span>", rest, "</p>\n"]);
            }
            _ => page.extend(["<p>", &safe, "\n"]),
        }
    }
    page + "<script src=\"count-me-not.js\">var visits = 1;</script></body></html>\n"
}

/// Every odd `mark` becomes `open`, every even one `close`.
fn paired(text: &str, mark: char, open: &str, close: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    for (number, piece) in text.split(mark).enumerate() {
        out += match number {
            0 => "",
            n if n % 2 == 1 => open,
            _ => close,
        };
        out += piece;
    }
    out
}
