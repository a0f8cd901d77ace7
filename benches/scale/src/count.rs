//! Contention, counted: what the threads of a stage cost one another on the cores at hand, with more threads
//! than these. Each run is a process of its own, under `perf stat` where that may count system calls.

use crate::measure::{source, spin, steps_of_100_nanos};
use crate::os;
use fanfold::Fanfold;
use std::hint::black_box;
use std::process::Command;
use std::time::Instant;

/// Widths: as many as there are cores, and more.
const THREADS: [usize; 4] = [2, 4, 8, 16];
/// Nanoseconds of an item, and how many take about a third of a second.
const ITEMS: [(u64, u64); 3] = [(100, 5_000_000), (1_000, 600_000), (10_000, 60_000)];
/// The system calls that are counted.
const CALLS: [&str; 3] = ["futex", "membarrier", "sched_yield"];

/// Prints the table.
pub fn all() {
    println!(
        "| item | n | to the loop | CPU to the loop | switches by waiting | by another thread | moves to another core | futex calls | membarrier | sched_yield |"
    );
    println!("| {}", "--- | ".repeat(10).trim_end());
    let steps = steps_of_100_nanos();
    for (nanos, items) in ITEMS {
        for threads in THREADS {
            let steps = (steps * nanos / 100).to_string();
            let words = [threads.to_string(), steps, items.to_string()];
            match run(&words) {
                Some((own, kernel)) => println!("| {nanos} ns | {threads} | {own} | {kernel} |"),
                None => println!("| {nanos} ns | {threads} | failed |"),
            }
        }
    }
    println!("\nThe counts are per 1,000 items.");
}

/// One run in a process of its own: what that prints, and what the kernel counted.
fn run(words: &[String; 3]) -> Option<(String, String)> {
    let me = std::env::current_exe().ok()?;
    let events = CALLS.map(|call| format!("syscalls:sys_enter_{call}"));
    let events = format!("cpu-migrations,{}", events.join(","));
    let mut perf = Command::new("perf");
    perf.args(["stat", "-x,", "-e", &events, "--"]).arg(&me);
    let counted = perf.arg("count").args(words).output();
    let counted = counted.ok().filter(|output| output.status.success());
    if let Some(output) = counted {
        let items: f64 = words[2].parse().ok()?;
        // "1234,,syscalls:sys_enter_futex,.."; the first column is a text where an event is not supported.
        let text = String::from_utf8_lossy(&output.stderr);
        let counts = text.lines().map(|line| {
            let count = line
                .split(',')
                .next()
                .and_then(|count| count.parse::<f64>().ok());
            count.map_or("–".into(), |count| format!("{:.3}", 1e3 * count / items))
        });
        let counts: Vec<String> = counts.collect();
        return Some((String::from_utf8(output.stdout).ok()?, counts.join(" | ")));
    }
    let output = Command::new(me).arg("count").args(words).output().ok()?;
    Some((
        String::from_utf8(output.stdout).ok()?,
        "– | – | – | –".into(),
    ))
}

/// The run itself: to the loop, in wall time and in CPU time, and the switches per 1,000 items.
pub fn one(threads: &str, steps: &str, items: &str) {
    let parse = |word: &str| word.parse::<u64>().expect("a number");
    let (threads, steps, items) = (parse(threads), parse(steps), parse(items));
    let digest = |sum: u64, x: u64| sum.wrapping_mul(31).wrapping_add(x);
    let (began, cpu) = (Instant::now(), os::process_cpu());
    let sum = source(items).map(|x| spin(steps, x)).fold(0, digest);
    let (plain, plain_cpu) = (began.elapsed(), os::process_cpu() - cpu);
    let (began, cpu, before) = (Instant::now(), os::process_cpu(), os::switches());
    let stage = source(items).par_map_ordered(threads as usize, move |x| spin(steps, x));
    assert_eq!(black_box(stage.fold(0, digest)), sum);
    let (time, cpu, after) = (began.elapsed(), os::process_cpu() - cpu, os::switches());
    let per = |count: u64| 1e3 * count as f64 / items as f64;
    print!(
        "{:.2} | {:.2} | {:.3} | {:.3}",
        plain.as_secs_f64() / time.as_secs_f64(),
        cpu.as_secs_f64() / plain_cpu.as_secs_f64(),
        per(after.0 - before.0),
        per(after.1 - before.1),
    );
}
