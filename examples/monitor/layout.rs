//! The text of what the stages do.

use crate::chain::View;
use fanfold::stats::{Bottleneck, Interval, table};
use std::fmt::Write as _;
use std::io::{self, Write as _, stdout};
use std::time::Duration;

/// The lines for a terminal that is so wide.
pub(crate) fn lines(view: &View, items: u64, columns: usize) -> Vec<String> {
    let mut lines = vec![
        progress(view, items),
        String::new(),
        "stage     items/s   in flight queued running parked   run source room spare".to_owned(),
    ];
    let (limits, verdict) = &view.limit;
    let is_known = *verdict != Bottleneck::Unknown;
    let mark = |place| {
        if is_known && *limits == place {
            " <"
        } else {
            ""
        }
    };
    for (place, stage) in view.stages.iter().enumerate() {
        lines.push(row(stage) + mark(place));
    }
    if let Some(last) = view.stages.last() {
        lines.push(consumer(last) + mark(view.stages.len()));
    }
    for line in &mut lines {
        *line = line.chars().take(columns).collect();
    }
    lines.push(String::new());
    let name = match view.stages.get(*limits) {
        Some(stage) => &*stage.end.name,
        None => "consumer",
    };
    wrap(&format!("limit: {name}: {verdict}"), columns, &mut lines);
    lines
}

/// The line below them.
pub(crate) fn help(is_stopping: bool) -> &'static str {
    if is_stopping {
        "stopping: what is in flight is finished; Ctrl-C ends at once"
    } else {
        "q and Enter ends it"
    }
}

/// The same for a log.
pub(crate) fn text(view: &View, items: u64) -> String {
    format!("{}\n{}\n", progress(view, items), table(&view.stages))
}

fn progress(view: &View, items: u64) -> String {
    let done = view.stages.last().map_or(0, |last| last.end.yielded);
    let rate = view.stages.last().map_or(0.0, Interval::rate);
    let mut line = format!(
        "{:.1} s: {done} of {items} documents",
        view.elapsed.as_secs_f64()
    );
    if rate > 0.0 && done < items {
        let _ = write!(
            line,
            ", {:.0} s left at this rate",
            (items - done) as f64 / rate
        );
    }
    line
}

fn row(stage: &Interval) -> String {
    let (now, time) = (&stage.end, &stage.time);
    let percent = |part: Duration| 100.0 * stage.share_of_workers(part);
    format!(
        "{:<9}{:8.0}{:>12}{:7}{:>8}{:7}{:5.0}%{:6.0}%{:4.0}%{:5.0}%",
        now.name,
        stage.rate(),
        format!("{}/{}", now.in_flight(), now.in_flight_limit),
        now.queued(),
        format!("{}/{}", now.running(), now.width),
        now.parked(),
        percent(time.run),
        percent(time.source),
        percent(time.room),
        percent(time.spare),
    )
}

fn consumer(last: &Interval) -> String {
    let percent = |part: Duration| 100.0 * last.share(part);
    let waits = percent(last.consumer.head + last.consumer.own);
    format!(
        "consumer{:9.0}   in next() {waits:.0}%, away {:.0}%",
        last.rate(),
        percent(last.consumer.away)
    )
}

/// Breaks a text between words.
fn wrap(text: &str, columns: usize, lines: &mut Vec<String>) {
    let mut line = String::new();
    for word in text.split(' ') {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > columns {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
}

/// `println!` panics where this returns an error.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut stdout = stdout().lock();
    writeln!(stdout, "{text}")?;
    stdout.flush()
}

#[allow(clippy::needless_pass_by_value)] // for `map_err`
pub(crate) fn cannot_write(why: io::Error) -> String {
    format!("cannot write to stdout: {why}")
}
