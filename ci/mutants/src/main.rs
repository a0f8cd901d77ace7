//! Tries the mutants that cargo-mutants lists, all planted in one build and switched on one at a time.
//! `ci/mutants.sh` says how it is used.

mod plant;
mod run;

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// One of cargo-mutants.
pub struct Mutant {
    pub id: usize,
    pub name: String,
    pub file: String,
    pub genre: String,
    pub replacement: String,
    pub line: usize,
    pub column: usize,
    /// What stands in that line.
    pub text: String,
}

/// Which tests are to be built in release, if not all in debug: by their names, or `loom` for the models.
pub fn in_release() -> Option<String> {
    std::env::var("MUTANTS_RELEASE").ok()
}

/// A mutant may be such that the compiler would know better.
pub fn rustflags() -> String {
    let loom = if in_release().as_deref() == Some("loom") {
        "--cfg loom "
    } else {
        ""
    };
    format!("{loom}-Awarnings -Aarithmetic_overflow -Aunconditional_panic")
}

/// What tells this mutant's switch: `PLANTED=7` turns on the seventh, `PLANTED_LOG=path` writes down which
/// are passed.
const SWITCH: &str = r#"
/// Whether this mutant is on.
pub(crate) fn planted(id: usize) -> bool {
    use std::io::Write as _;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
    static ON: AtomicUsize = AtomicUsize::new(usize::MAX);
    static LOG: OnceLock<Option<std::fs::File>> = OnceLock::new();
    static SEEN: [AtomicBool; 8192] = [const { AtomicBool::new(false) }; 8192];
    const UNREAD: usize = usize::MAX;
    const NONE: usize = usize::MAX - 1;
    const LOGGED: usize = usize::MAX - 2;
    let mut on = ON.load(Relaxed);
    if on == UNREAD {
        on = if std::env::var_os("PLANTED_LOG").is_some() {
            LOGGED
        } else {
            std::env::var("PLANTED").ok().and_then(|id| id.parse().ok()).unwrap_or(NONE)
        };
        ON.store(on, Relaxed);
    }
    if on == LOGGED && !SEEN[id].swap(true, Relaxed) {
        let log = LOG.get_or_init(|| {
            let path = std::env::var_os("PLANTED_LOG")?;
            std::fs::OpenOptions::new().append(true).create(true).open(path).ok()
        });
        if let Some(mut log) = log.as_ref() {
            let _ = log.write_all(format!("{id}\n").as_bytes());
        }
    }
    on == id
}
"#;

fn mutants(list: &str, from: &Path) -> Vec<Mutant> {
    let list: Vec<Value> = serde_json::from_str(list).expect("cargo mutants --list --json");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let number = |value: &Value| value.as_u64().unwrap_or_default() as usize;
    let mut sources: BTreeMap<String, String> = BTreeMap::new();
    list.iter()
        .enumerate()
        .map(|(id, mutant)| {
            let start = &mutant["span"]["start"];
            let file = text(&mutant["file"]);
            let source = sources
                .entry(file.clone())
                .or_insert_with(|| fs::read_to_string(from.join(&file)).expect("a source file"));
            let line = number(&start["line"]);
            Mutant {
                text: source
                    .lines()
                    .nth(line - 1)
                    .unwrap_or_default()
                    .trim()
                    .to_owned(),
                id,
                name: text(&mutant["name"]),
                file,
                genre: text(&mutant["genre"]),
                replacement: text(&mutant["replacement"]),
                line,
                column: number(&start["column"]),
            }
        })
        .collect()
}

/// All are, if no file is named.
pub fn is_wanted(mutant: &Mutant, wanted: &[String]) -> bool {
    wanted.is_empty() || wanted.contains(&mutant.file)
}

/// What is written again is built again.
fn write_if_new(path: &Path, text: &str) {
    if fs::read_to_string(path).ok().as_deref() != Some(text) {
        fs::write(path, text).expect("written");
    }
}

/// Plants all that are not among `unviable`; those that were planted.
fn plant_all(
    from: &Path,
    to: &Path,
    mutants: &[Mutant],
    unviable: &BTreeSet<usize>,
) -> BTreeSet<usize> {
    let mut files: BTreeMap<&str, Vec<&Mutant>> = BTreeMap::new();
    for mutant in mutants {
        let file = files.entry(&mutant.file).or_default();
        if !unviable.contains(&mutant.id) {
            file.push(mutant);
        }
    }
    let mut all = BTreeSet::new();
    for (file, mutants) in files {
        let source = fs::read_to_string(from.join(file)).expect("a source file");
        let (text, planted) = plant::plant(&source, &mutants);
        write_if_new(&to.join(file), &text);
        all.extend(planted);
    }
    let lib = fs::read_to_string(from.join("src/lib.rs")).expect("the library");
    write_if_new(&to.join("src/lib.rs"), &(lib + SWITCH));
    // Lints are not the subject.
    let manifest = fs::read_to_string(from.join("Cargo.toml")).expect("the manifest");
    let lints = manifest.find("[lints.rust]").unwrap_or(manifest.len());
    write_if_new(&to.join("Cargo.toml"), &manifest[..lints]);
    all
}

/// The mutants that the compiler names, by the marks around them.
fn refused(tree: &Path) -> BTreeSet<usize> {
    let check = Command::new("cargo")
        .args([
            "check",
            "--lib",
            "--profile=test",
            "--all-features",
            "--message-format=json",
        ])
        .current_dir(tree)
        .env("RUSTFLAGS", rustflags())
        .stderr(Stdio::null())
        .output()
        .expect("cargo check");
    let mut found = BTreeSet::new();
    let mut unplaced = Vec::new();
    for line in String::from_utf8_lossy(&check.stdout).lines() {
        let Ok(message) = serde_json::from_str::<Value>(line) else {
            continue;
        };
        let message = &message["message"];
        if message["level"] != "error" {
            continue;
        }
        let mut hit = BTreeSet::new();
        let mut spans: Vec<&Value> = message["spans"].as_array().into_iter().flatten().collect();
        spans.sort_by_key(|span| span["is_primary"] != true);
        for span in spans {
            let file = tree.join(span["file_name"].as_str().unwrap_or_default());
            let text = fs::read_to_string(file).unwrap_or_default();
            let start = span["byte_start"].as_u64().unwrap_or(0) as usize;
            if let Some(ids) = enclosing(&text, start) {
                hit = ids;
                break;
            }
        }
        if hit.is_empty() && message["spans"].as_array().is_some_and(|s| !s.is_empty()) {
            unplaced.push(message["rendered"].as_str().unwrap_or_default().to_owned());
        }
        found.extend(hit);
    }
    if found.is_empty() && !check.status.success() {
        panic!("errors outside of all mutants:\n{}", unplaced.join("\n"));
    }
    found
}

/// The ids at the innermost pair of marks around this place.
fn enclosing(text: &str, place: usize) -> Option<BTreeSet<usize>> {
    let before = text.get(..place)?;
    let mut open = Vec::new();
    let mut rest = 0;
    while let Some(at) = before[rest..].find("/*") {
        let at = rest + at;
        if before[at..].starts_with("/*<") {
            let end = before[at..].find("*/")?;
            open.push(&before[at + 3..at + end]);
            rest = at + end + 2;
        } else {
            if before[at..].starts_with("/*>*/") {
                open.pop();
            }
            rest = at + 2;
        }
    }
    let ids = open.pop()?;
    Some(ids.split(',').filter_map(|id| id.parse().ok()).collect())
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [from, to, list, out] = args.first_chunk().expect("FROM TREE LIST OUT [FILE..]");
    let (from, to, out) = (Path::new(from), Path::new(to), Path::new(out));
    let list = fs::read_to_string(list).expect("the list");
    let mut mutants = mutants(&list, from);
    let wanted = &args[4..];
    if in_release().is_some() {
        // What is timed there must not pass by more switches than there have to be.
        mutants.retain(|mutant| is_wanted(mutant, wanted));
    }
    let known = out.join("unviable.txt");
    let mut unviable: BTreeSet<usize> = fs::read_to_string(&known)
        .unwrap_or_default()
        .lines()
        .filter_map(|id| id.parse().ok())
        .collect();
    let planted = loop {
        let planted = plant_all(from, to, &mutants, &unviable);
        let refused = refused(to);
        eprintln!(
            "mutants: {} planted, {} refused",
            planted.len(),
            refused.len()
        );
        if refused.is_empty() {
            break planted;
        }
        unviable.extend(refused);
    };
    let ids: Vec<String> = unviable.iter().map(|id| id.to_string()).collect();
    fs::write(known, ids.join("\n")).expect("written");
    run::all(to, out, &mutants, &planted, &unviable, wanted);
}
