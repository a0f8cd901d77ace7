//! A web server with one page, of `std` alone.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

/// A client that says nothing for so long is no scraper.
const PATIENCE: Duration = Duration::from_secs(5);

/// No request for a page is longer.
const LONGEST: u64 = 16 * 1024;

/// Answers each `GET /metrics` with what `page` makes for it, until the program ends.
pub(crate) fn serve(listener: TcpListener, page: impl Fn() -> String + Send + 'static) {
    thread::spawn(move || {
        // A client that has gone away is no reason to stop.
        for client in listener.incoming().flatten() {
            let _ = answer(&client, &page);
        }
    });
}

fn answer(mut client: &TcpStream, page: impl Fn() -> String) -> io::Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    client.set_write_timeout(Some(PATIENCE))?;
    let mut head = BufReader::new(client.take(LONGEST)).lines();
    let request = head.next().transpose()?.unwrap_or_default();
    // To the empty line: a connection that is closed with something unread is reset.
    while head
        .next()
        .transpose()?
        .is_some_and(|line| !line.is_empty())
    {}
    let (status, body) = if request.starts_with("GET /metrics ") {
        ("200 OK", page())
    } else {
        ("404 Not Found", String::from("see /metrics\n"))
    };
    write!(
        client,
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}
