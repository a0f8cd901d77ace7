//! Runs, for each mutant, the tests that pass by it.

use crate::{Mutant, in_release, is_wanted, rustflags};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

/// They look at the source or at types, or have loops of their own.
const LEFT_OUT: [&str; 4] = ["house", "bad_programs", "stress", "faults"];

/// What is set by `MUTANTS_..`; see `ci/mutants.sh`.
fn setting(name: &str, default: u64) -> u64 {
    let wanted = std::env::var(format!("MUTANTS_{name}")).ok();
    wanted.and_then(|n| n.parse().ok()).unwrap_or(default)
}

fn seconds(name: &str, default: u64) -> Duration {
    Duration::from_secs(setting(name, default))
}

/// How many are tried at once: tests wait more than they work.
fn at_once() -> u64 {
    setting("AT_ONCE", 3)
}

/// How long a test may take by itself that did not end among others.
fn patience() -> Duration {
    seconds("PATIENCE", 25)
}

/// These come first.
const QUICK: Duration = Duration::from_millis(250);

struct Program {
    name: String,
    path: PathBuf,
}

/// A test, and what it passes.
struct Test {
    program: usize,
    name: String,
    takes: Duration,
    passes: BTreeSet<usize>,
}

#[derive(Clone, Debug, PartialEq)]
enum End {
    Passed,
    Failed(String),
    Stuck(String),
}

fn programs(tree: &Path) -> Vec<Program> {
    let release = in_release();
    let args: Vec<String> = match release.as_deref() {
        None => ["--all-features", "--lib", "--tests", "--test=laws"]
            .map(str::to_owned)
            .to_vec(),
        Some("loom") => ["--manifest-path=ci/loom/Cargo.toml", "--lib", "--release"]
            .map(str::to_owned)
            .to_vec(),
        Some(named) => named
            .split(' ')
            .map(|name| format!("--test={name}"))
            .chain(["--all-features".into(), "--release".into()])
            .collect(),
    };
    let build = Command::new("cargo")
        .args(["test", "--no-run", "--message-format=json"])
        .args(args)
        .current_dir(tree)
        .env("RUSTFLAGS", rustflags())
        .output()
        .expect("cargo test");
    assert!(
        build.status.success(),
        "{}",
        String::from_utf8_lossy(&build.stderr)
    );
    let mut all: Vec<Program> = String::from_utf8_lossy(&build.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|message| {
            let name = message["target"]["name"].as_str()?.to_owned();
            let path = message["executable"].as_str()?.into();
            (!LEFT_OUT.contains(&name.as_str())).then_some(Program { name, path })
        })
        .collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

/// Runs these tests, up to the first that fails. No test may take longer than `limit` to end after
/// the one before it.
fn run(
    tree: &Path,
    program: &Program,
    tests: &[&str],
    variable: (&str, &str),
    limit: Duration,
) -> End {
    let mut child = Command::new(&program.path)
        .args(["--exact", "--test-threads=2"])
        .args(tests)
        .current_dir(tree)
        .env(variable.0, variable.1)
        .env("RUST_BACKTRACE", "0")
        .env("QUICKCHECK_TESTS", "15")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .expect("a test program");
    let output = child.stdout.take().expect("piped");
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if tell.send(line).is_err() {
                break;
            }
        }
    });
    let mut left: BTreeSet<&str> = tests.iter().copied().collect();
    let end = loop {
        match told.recv_timeout(limit) {
            Ok(line) => {
                let Some(rest) = line.strip_prefix("test ") else {
                    continue;
                };
                let Some((test, verdict)) = rest.rsplit_once(" ... ") else {
                    continue;
                };
                let test = test.trim_end_matches(" - should panic");
                left.remove(test);
                if verdict == "FAILED" {
                    break End::Failed(test.to_owned());
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                break End::Stuck(left.first().copied().unwrap_or("its end").to_owned());
            }
            Err(RecvTimeoutError::Disconnected) => {
                let status = child.wait().expect("its end");
                return match status.success() {
                    true => End::Passed,
                    false => End::Failed(format!("{status}")),
                };
            }
        }
    };
    // With whatever it has started.
    let _ = Command::new("kill")
        .args(["-9", "--", &format!("-{}", child.id())])
        .stderr(Stdio::null())
        .status();
    let _ = child.wait();
    end
}

fn tests(tree: &Path, out: &Path, programs: &[Program]) -> Vec<Test> {
    let mut all: Vec<(usize, String)> = Vec::new();
    for (index, program) in programs.iter().enumerate() {
        let list = Command::new(&program.path)
            .args(["--list", "--format", "terse"])
            .current_dir(tree)
            .output()
            .expect("a list of tests");
        let list = String::from_utf8_lossy(&list.stdout).into_owned();
        let names = list.lines().filter_map(|line| line.strip_suffix(": test"));
        all.extend(names.map(|name| (index, name.to_owned())));
    }
    eprintln!("mutants: {} tests, each by itself", all.len());
    let next = Mutex::new(all.into_iter().enumerate());
    let done = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..at_once() {
            scope.spawn(|| {
                loop {
                    let Some((index, (program, name))) = next.lock().unwrap().next() else {
                        return;
                    };
                    let log = out.join(format!("pass-{index}"));
                    let _ = fs::remove_file(&log);
                    let start = Instant::now();
                    let end = run(
                        tree,
                        &programs[program],
                        &[&name],
                        ("PLANTED_LOG", log.to_str().expect("a path")),
                        Duration::from_secs(120),
                    );
                    let takes = start.elapsed();
                    let passed = fs::read_to_string(&log).unwrap_or_default();
                    let _ = fs::remove_file(&log);
                    if end != End::Passed {
                        eprintln!("mutants: {name} is left out, {end:?} without a mutant");
                        continue;
                    }
                    done.lock().unwrap().push(Test {
                        program,
                        name,
                        takes,
                        passes: passed.lines().filter_map(|id| id.parse().ok()).collect(),
                    });
                }
            });
        }
    });
    done.into_inner().unwrap()
}

/// What `tests` has found, in a file, so that a run that was ended can go on.
fn remember(path: &Path, programs: &[Program], tests: &[Test]) {
    let mut text = String::new();
    for test in tests {
        let passes: Vec<String> = test.passes.iter().map(|id| id.to_string()).collect();
        let program = &programs[test.program].name;
        let (name, takes) = (&test.name, test.takes.as_micros());
        writeln!(text, "{program}\t{name}\t{takes}\t{}", passes.join(",")).expect("a string");
    }
    fs::write(path, text).expect("written");
}

fn remembered(path: &Path, programs: &[Program]) -> Option<Vec<Test>> {
    let text = fs::read_to_string(path).ok()?;
    text.lines()
        .map(|line| {
            let mut fields = line.split('\t');
            let program = fields.next()?;
            Some(Test {
                program: programs.iter().position(|known| known.name == program)?,
                name: fields.next()?.to_owned(),
                takes: Duration::from_micros(fields.next()?.parse().ok()?),
                passes: fields
                    .next()?
                    .split(',')
                    .filter_map(|id| id.parse().ok())
                    .collect(),
            })
        })
        .collect()
}

/// Tries one; who caught it, and what was run.
fn attempt(
    tree: &Path,
    programs: &[Program],
    tests: &[Test],
    caught: &Mutex<BTreeMap<usize, usize>>,
    budget: Duration,
    id: usize,
) -> (End, String) {
    let mut groups: BTreeMap<(bool, usize), Vec<&Test>> = BTreeMap::new();
    let mut left = budget;
    for test in tests.iter().filter(|test| test.passes.contains(&id)) {
        let Some(less) = left.checked_sub(test.takes) else {
            break;
        };
        left = less;
        let key = (test.takes > QUICK, test.program);
        groups.entry(key).or_default().push(test);
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    // The quick ones; and of those the ones that have caught the most in the least time.
    let caught_by = caught.lock().unwrap().clone();
    groups.sort_by_cached_key(|((slow, program), tests)| {
        let takes: Duration = tests.iter().map(|test| test.takes).sum();
        let caught = caught_by.get(program).copied().unwrap_or(0) + 1;
        (*slow, takes.as_micros() / caught as u128)
    });
    let count: usize = groups.iter().map(|(_, tests)| tests.len()).sum();
    for ((_, program), tests) in groups {
        let longest = tests
            .iter()
            .map(|test| test.takes)
            .max()
            .unwrap_or_default();
        let names: Vec<&str> = tests.iter().map(|test| test.name.as_str()).collect();
        let limit = Duration::from_secs(5) + longest * 5;
        let on = id.to_string();
        let on = ("PLANTED", on.as_str());
        let with = &programs[program];
        let mut end = run(tree, with, &names, on, limit);
        if let End::Stuck(test) = &end {
            // On a busy machine that may have been bad luck.
            let known = names.contains(&test.as_str());
            end = match known.then(|| run(tree, with, &[test], on, patience())) {
                Some(End::Passed) => run(tree, with, &names, on, patience()),
                _ => end,
            };
        }
        if end != End::Passed {
            // Who gets stuck has caught it too, but slowly.
            let quick = matches!(end, End::Failed(_));
            *caught.lock().unwrap().entry(program).or_default() += usize::from(quick);
            return (end, programs[program].name.clone());
        }
    }
    (End::Passed, format!("{count} tests"))
}

pub fn all(
    tree: &Path,
    out: &Path,
    mutants: &[Mutant],
    planted: &BTreeSet<usize>,
    unviable: &BTreeSet<usize>,
    wanted: &[String],
) {
    let programs = programs(tree);
    let passes = out.join("passes.txt");
    let mut tests = remembered(&passes, &programs).unwrap_or_else(|| {
        let tests = tests(tree, out, &programs);
        remember(&passes, &programs, &tests);
        tests
    });
    let longest = seconds("LONGEST", 3);
    tests.retain(|test| test.takes < longest);
    tests.sort_by_key(|test| test.takes);
    let budget = seconds("BUDGET", 600);
    let results = out.join("outcomes.txt");
    let known = fs::read_to_string(&results).unwrap_or_default();
    let known: BTreeSet<&str> = known
        .lines()
        .filter_map(|line| line.split('\t').nth(1))
        .collect();
    let results = Mutex::new(
        File::options()
            .append(true)
            .create(true)
            .open(results)
            .expect("a file for the outcomes"),
    );
    let tell = |verdict: &str, mutant: &Mutant, how: &str| {
        let line = format!("{verdict}\t{}\t{how}\t{}\n", mutant.name, mutant.text);
        let _ = results.lock().unwrap().write_all(line.as_bytes());
    };
    let caught = Mutex::new(BTreeMap::new());
    let mut order: Vec<&Mutant> = mutants
        .iter()
        .filter(|mutant| is_wanted(mutant, wanted))
        .filter(|mutant| !known.contains(mutant.name.as_str()))
        .collect();
    // A fifth of all files first, and so on: whenever it is ended, the sample is an even one.
    order.sort_by_key(|mutant| {
        let file = wanted.iter().position(|file| mutant.file == *file);
        (mutant.id % 5, file)
    });
    let next = Mutex::new(order.into_iter());
    std::thread::scope(|scope| {
        for _ in 0..at_once() {
            scope.spawn(|| {
                loop {
                    let Some(mutant) = next.lock().unwrap().next() else {
                        return;
                    };
                    if unviable.contains(&mutant.id) {
                        tell("unviable", mutant, "");
                    } else if !planted.contains(&mutant.id) {
                        tell("unplanted", mutant, "");
                    } else {
                        let start = Instant::now();
                        let (end, by) =
                            attempt(tree, &programs, &tests, &caught, budget, mutant.id);
                        let after = start.elapsed().as_secs_f64();
                        let (verdict, how) = match end {
                            End::Passed => ("survived", format!("{by}, {after:.1} s")),
                            End::Failed(test) => ("caught", format!("{by}: {test}, {after:.1} s")),
                            End::Stuck(test) => ("stuck", format!("{by}: {test}, {after:.1} s")),
                        };
                        tell(verdict, mutant, &how);
                    }
                }
            });
        }
    });
}
