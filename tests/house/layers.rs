//! The layers of the crate point one way: this test reads the sources and fails on any import that
//! is not in [`FLOORS`].
//!
//! It also holds `std::sync` and loom to one file, system calls to another, and `unsafe` to five places.
//! Modules that are compiled for tests only are left out, and so are comments and literals. Paths
//! that a macro puts together are not seen.

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Which module may import which, floor by floor. A floor is a folder of `src` with all of its files, or a file
/// beside them. Within a floor any module may import any other, but no two each other. Everything may import
/// the [`BOTTOM`].
const FLOORS: &[(&str, &[&str])] = &[
    // The operators that users call.
    (
        "fanfold",
        &[
            "batches", "config", "fan_in", "fan_out", "flat", "hedge", "keyed", "limiter",
            "ordered", "par", "stage",
        ],
    ),
    ("parallel_map", &["cancel", "config", "fanfold"]),
    ("push_map_ordered", &["config", "ordered", "par", "stage"]),
    ("testing", &["limiter", "runtime"]),
    // The schedulers: what threads pull, or run.
    ("batches", &["fan_in", "runtime"]),
    ("fan_in", &["cancel", "overflow", "runtime", "stage"]),
    (
        "from_rayon",
        &["cancel", "config", "ordered", "par", "runtime", "stage"],
    ),
    (
        "stage",
        &[
            "cancel", "config", "flat", "hedge", "keyed", "ordered", "par", "runtime", "stats",
        ],
    ),
    ("stats", &["runtime"]),
    ("keyed", &["cancel", "config", "par", "runtime"]),
    ("flat", &["cancel", "config", "par", "runtime"]),
    ("ordered", &["cancel", "config", "hedge", "par", "runtime"]),
    ("fan_out", &["cancel", "overflow", "runtime", "stats"]),
    ("worklist", &["runtime"]),
    ("recv", &["cancel", "runtime"]),
    ("group", &["cancel", "config", "runtime"]),
    ("hedge", &["cancel", "runtime"]),
    ("limiter", &["cancel", "runtime"]),
    // What the schedulers build on.
    ("par", &["runtime"]),
    ("runtime", &["cancel"]),
    ("cancel", &[]),
    ("config", &[]),
    ("overflow", &[]),
    // The bottom.
    ("error", &[]),
    ("size_hint", &[]),
    ("sync", &[]),
    ("unwind", &[]),
];

const BOTTOM: &[&str] = &["error", "size_hint", "sync", "unwind"];

/// What the jobs may import from their floor: not one another.
const JOBS_KNOW: &[&str] = &["par::job", "par::source"];

/// Files that list the modules of a floor, and have no code of their own.
const LISTS: &[&str] = &[
    "batches",
    "cancel",
    "fan_in",
    "fan_out",
    "flat",
    "from_rayon",
    "keyed",
    "limiter",
    "ordered",
    "par",
    "runtime",
    "stage",
];

/// Names of crates and of parts of `std`, and the only module that may name them.
const FENCED: &[(&str, &str)] = &[
    ("std::sync", "sync"),
    ("core::sync", "sync"),
    ("std::thread", "sync"),
    ("loom", "sync"),
    ("libc", "runtime::barrier"),
    ("crossbeam_channel", "recv"),
    ("tracing", "runtime::trace"),
    ("rayon", "from_rayon"),
    ("metrics", "stats::metrics"),
];

/// Names that every module may use all the same: they share nothing between threads and start none.
const FREE: &[&str] = &[
    "std::thread::available_parallelism",
    "std::thread::current",
    "std::thread::panicking",
    "std::thread::sleep",
    "std::thread::ThreadId",
];

/// Files, or folders with all of their files.
const UNSAFE: &[&str] = &[
    "flat::outputs",
    "ordered::chunk",
    "runtime::barrier",
    "runtime::biased",
    "runtime::lazy",
    "runtime::lease",
];

/// Catch-all names for files, whose contents belong elsewhere.
const DRAWERS: &[&str] = &["util", "utils", "common", "helper", "helpers", "misc"];

// ---- the rules, on the real sources

#[test]
fn no_import_leaves_the_table() {
    let sources = Sources::read();
    let mut wrong = Vec::new();
    for module in &sources.modules {
        for path in &module.paths {
            wrong.extend(judge(&sources, &module.name, path));
        }
    }
    assert!(
        wrong.is_empty(),
        "imports that the floors of tests/house/layers.rs do not allow (move the code, or decide on a \
         new edge and enter it):\n{}",
        wrong.join("\n")
    );
}

#[test]
fn every_floor_has_its_row_and_every_row_its_floor() {
    let sources = Sources::read();
    let modules = sources.modules.iter().map(|module| module.name.as_str());
    let floors: BTreeSet<&str> = modules.map(floor).filter(|floor| *floor != "lib").collect();
    let rows: BTreeSet<&str> = FLOORS.iter().map(|(name, _)| *name).collect();
    assert_eq!(rows.len(), FLOORS.len(), "a floor has two rows");
    let difference: Vec<_> = floors.symmetric_difference(&rows).collect();
    assert!(
        difference.is_empty(),
        "floors without a row, or rows without a floor: {difference:?}"
    );
}

/// So the rows have an order in which each imports only from those below it.
#[test]
fn the_floors_have_no_cycle() {
    let names = |row: &[&str]| row.iter().map(|name| (*name).to_owned()).collect();
    let edges = FLOORS
        .iter()
        .map(|(name, row)| ((*name).to_owned(), names(row)));
    assert_eq!(cycles(&edges.collect()), Vec::<BTreeSet<String>>::new());
}

#[test]
fn no_two_modules_import_one_another() {
    let sources = Sources::read();
    let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for module in &sources.modules {
        let targets = module.paths.iter().filter_map(|path| sources.target(path));
        edges
            .entry(module.name.clone())
            .or_default()
            .extend(targets);
    }
    assert_eq!(cycles(&edges), Vec::<BTreeSet<String>>::new());
}

#[test]
fn lists_of_modules_hold_nothing_else() {
    let sources = Sources::read();
    for module in sources
        .modules
        .iter()
        .filter(|module| LISTS.contains(&module.name.as_str()))
    {
        let mut code = &strs(&module.words)[..];
        while !code.is_empty() {
            code = match code {
                ["#", "[", ..] => {
                    &code[closing(&module.words[module.words.len() - code.len()..], 1) + 1..]
                }
                ["pub", "(", "crate", ")", rest @ ..]
                | ["pub", rest @ ..]
                | ["mod", _, ";", rest @ ..] => rest,
                ["use", ..] => {
                    let end = code.iter().position(|word| *word == ";");
                    &code[end.expect("a `use` ends with `;`") + 1..]
                }
                _ => panic!(
                    "{} lists its modules and has no code of its own: {code:?}",
                    module.name
                ),
            };
        }
    }
}

#[test]
fn unsafe_code_is_in_six_places() {
    let sources = Sources::read();
    let mut unused: BTreeSet<&str> = UNSAFE.iter().copied().collect();
    for module in &sources.modules {
        if module.words.iter().any(|word| word == "unsafe") {
            let place = UNSAFE.iter().find(|place| within(&module.name, place));
            let place = place.unwrap_or_else(|| panic!("unsafe code in {}", module.name));
            unused.remove(place);
        }
    }
    assert!(
        unused.is_empty(),
        "no unsafe code any more, take it off the list: {unused:?}"
    );
}

/// So that a file is as long as what it does.
#[test]
fn unit_tests_and_models_have_files_of_their_own() {
    let mut files = Vec::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    collect(&root.join("src"), "", &mut files);
    for (name, text) in files {
        let words = words(&text);
        let inline = words.windows(3).find(|words| {
            words[0] == "mod" && ["models", "tests"].contains(&&*words[1]) && words[2] == "{"
        });
        assert_eq!(inline, None, "in {name}");
    }
}

#[test]
fn no_file_has_a_catch_all_name() {
    for module in &Sources::read().modules {
        let parts: Vec<&str> = module.name.split("::").collect();
        assert!(
            !parts.iter().any(|part| DRAWERS.contains(part)),
            "{} is a drawer",
            module.name
        );
    }
}

/// The pages that describe the protocols.
const PROTOCOLS: &[(&str, &str)] = &[
    (
        "src/fan_in/README.md",
        include_str!("../../src/fan_in/README.md"),
    ),
    (
        "src/fan_out/README.md",
        include_str!("../../src/fan_out/README.md"),
    ),
    (
        "src/flat/README.md",
        include_str!("../../src/flat/README.md"),
    ),
    (
        "src/from_rayon/README.md",
        include_str!("../../src/from_rayon/README.md"),
    ),
    (
        "src/keyed/README.md",
        include_str!("../../src/keyed/README.md"),
    ),
    (
        "src/ordered/README.md",
        include_str!("../../src/ordered/README.md"),
    ),
];

/// Prose goes stale: every identifier that a protocol page names must be in the code.
#[test]
fn the_protocols_name_what_is_there() {
    let sources = Sources::read();
    let words: BTreeSet<&str> = sources
        .modules
        .iter()
        .flat_map(|module| strs(&module.words))
        .collect();
    for (page, prose) in PROTOCOLS {
        let gone: Vec<&str> = names(prose).filter(|name| !words.contains(name)).collect();
        assert!(
            gone.is_empty(),
            "{page} names what is not in the code: {gone:?}"
        );
    }
}

/// The names between backticks, except those of files and in drawings.
fn names(prose: &str) -> impl Iterator<Item = &str> {
    let unfenced = prose.split("```").step_by(2);
    let code = unfenced.flat_map(|prose| prose.split('`').skip(1).step_by(2));
    code.filter(|code| !code.contains(['.', '/']))
        .flat_map(|code| code.split(|c: char| c != '_' && !c.is_alphanumeric()))
        .filter(|name| name.starts_with(|c: char| c == '_' || c.is_alphabetic()))
}

// ---- judging

/// The fault of this path in this module, if any.
fn judge(sources: &Sources, module: &str, path: &str) -> Option<String> {
    if let Some((fence, owner)) = FENCED.iter().find(|(fence, _)| within(path, fence)) {
        let free = FREE.iter().any(|free| within(path, free));
        return (module != *owner && !free)
            .then(|| format!("  {module} names {path}: {fence} is for {owner} alone"));
    }
    let target = sources.target(path)?;
    if target == module {
        return None;
    }
    let (from, to) = (floor(module), floor(&target));
    let row = FLOORS.iter().find(|(name, _)| *name == from);
    let allowed = from == to && (from != "par" || JOBS_KNOW.contains(&target.as_str()))
        || from == "lib"
        || BOTTOM.contains(&to) && !BOTTOM.contains(&from)
        || row.is_some_and(|(_, allowed)| allowed.contains(&to));
    (!allowed).then(|| format!("  {module} imports {path}"))
}

/// The floor on which a module is.
fn floor(module: &str) -> &str {
    module.split("::").next().unwrap_or(module)
}

/// Whether `path` is `prefix` or something below it.
fn within(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// The sets of more than one module of which each reaches each other.
fn cycles(edges: &BTreeMap<String, BTreeSet<String>>) -> Vec<BTreeSet<String>> {
    let reach = |from: &str| {
        let mut seen = BTreeSet::new();
        let mut todo = vec![from.to_owned()];
        while let Some(module) = todo.pop() {
            for next in edges.get(&module).into_iter().flatten() {
                if seen.insert(next.clone()) {
                    todo.push(next.clone());
                }
            }
        }
        seen
    };
    let reaches: BTreeMap<&String, BTreeSet<String>> =
        edges.keys().map(|module| (module, reach(module))).collect();
    let mut found = BTreeSet::new();
    for (module, reached) in &reaches {
        let both = reached.iter().filter(|other| {
            reaches
                .get(other)
                .is_some_and(|back| back.contains(*module))
        });
        let knot: BTreeSet<String> = both.cloned().chain([(*module).clone()]).collect();
        if knot.len() > 1 {
            found.insert(knot);
        }
    }
    found.into_iter().collect()
}

// ---- reading

struct Module {
    /// `ordered::chunk` for `src/ordered/chunk.rs`; `lib` for the root.
    name: String,
    /// The code without comments, strings and test code.
    words: Vec<String>,
    /// Paths that begin at the crate's root or in another crate.
    paths: Vec<String>,
}

struct Sources {
    modules: Vec<Module>,
}

impl Sources {
    fn read() -> Self {
        let mut files = Vec::new();
        collect(
            &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
            "",
            &mut files,
        );
        let sources = Sources::of(files);
        assert!(sources.modules.len() > 20, "where are the sources?");
        sources
    }

    fn of(files: Vec<(String, String)>) -> Self {
        let mut tests = BTreeSet::new();
        let mut modules = Vec::new();
        for (name, text) in files {
            let (words, for_tests) = without_tests(&words(&text));
            tests.extend(for_tests.iter().map(|inner| below(&name, inner)));
            let paths = paths(&words, &name);
            modules.push(Module { name, words, paths });
        }
        modules.retain(|module| !tests.iter().any(|test| within(&module.name, test)));
        Sources { modules }
    }

    /// The module of ours that a path leads to: the longest one that its beginning names.
    fn target(&self, path: &str) -> Option<String> {
        let path = path.strip_prefix("crate")?;
        let path = path.strip_prefix("::").unwrap_or(path);
        let named = self
            .modules
            .iter()
            .map(|module| module.name.as_str())
            .filter(|name| within(path, name));
        Some(
            named
                .max_by_key(|name| name.len())
                .unwrap_or("lib")
                .to_owned(),
        )
    }
}

fn below(module: &str, inner: &str) -> String {
    if module == "lib" {
        inner.to_owned()
    } else {
        format!("{module}::{inner}")
    }
}

fn collect(folder: &Path, prefix: &str, files: &mut Vec<(String, String)>) {
    let mut entries: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    for path in entries {
        let stem = path.file_stem().unwrap().to_str().unwrap();
        if path.is_dir() {
            collect(&path, &format!("{prefix}{stem}::"), files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push((
                format!("{prefix}{stem}"),
                fs::read_to_string(&path).unwrap(),
            ));
        }
    }
}

/// The words and signs of a source: names, `::`, and single characters. Comments and literals are left out.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    flatten(text.parse().expect("Rust"), &mut words);
    words
}

fn flatten(tokens: TokenStream, words: &mut Vec<String>) {
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                let start = words.len();
                words.push(open.to_owned());
                flatten(group.stream(), words);
                words.push(close.to_owned());
                // A doc comment as the compiler sees it: `#[doc = ".."]` or `#![doc = ".."]`.
                if strs(&words[start..]) == ["[", "doc", "=", "]"] {
                    let inner = start > 0 && words[start - 1] == "!";
                    words.truncate(start - 1 - usize::from(inner));
                }
            }
            TokenTree::Ident(ident) => words.push(ident.to_string()),
            TokenTree::Punct(sign) if sign.as_char() == '\'' => {} // of a lifetime
            TokenTree::Punct(sign) => {
                let next = tokens.next_if(|next| {
                    let two = sign.as_char() == ':' && sign.spacing() == Spacing::Joint;
                    two && matches!(next, TokenTree::Punct(next) if next.as_char() == ':')
                });
                let sign = sign.to_string();
                words.push(if next.is_some() {
                    "::".to_owned()
                } else {
                    sign
                });
            }
            TokenTree::Literal(_) => {}
        }
    }
}

/// Removes modules that are compiled for tests only, and returns the names of those, and of the ones
/// for loom, that lie in files of their own.
fn without_tests(words: &[String]) -> (Vec<String>, Vec<String>) {
    let mut kept: Vec<String> = Vec::new();
    let mut files = Vec::new();
    let mut for_tests = None;
    let mut i = 0;
    while i < words.len() {
        let word = words[i].as_str();
        if word == "#" && words.get(i + 1).is_some_and(|word| word == "[") {
            let end = closing(words, i + 1);
            if let ["cfg", "(", predicate @ .., ")"] = &strs(&words[i + 2..end])[..] {
                for_tests = for_tests.or(condition(predicate));
            }
            kept.extend_from_slice(&words[i..=end]);
            i = end + 1;
        } else if word == "mod" && for_tests.is_some() {
            let inline = words.get(i + 2).is_some_and(|word| word == "{");
            if inline && for_tests == Some(Only::Test) {
                i = closing(words, i + 2) + 1;
            } else {
                if !inline {
                    files.extend(words.get(i + 1).cloned());
                }
                kept.push(words[i].clone());
                i += 1;
            }
            for_tests = None;
        } else {
            // Only a visibility stands between an attribute and its `mod`.
            if !["pub", "(", "crate", "super", ")"].contains(&word) {
                for_tests = None;
            }
            kept.push(words[i].clone());
            i += 1;
        }
    }
    (kept, files)
}

fn strs(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

/// The place of the bracket that closes the one at `open`.
fn closing(words: &[String], open: usize) -> usize {
    let mut depth = 0_usize;
    for (i, word) in words.iter().enumerate().skip(open) {
        match word.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return i;
        }
    }
    words.len()
}

/// The only builds that include an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Only {
    Test,
    Loom,
}

/// Whether a `cfg` predicate holds only in tests, or only under loom.
fn condition(predicate: &[&str]) -> Option<Only> {
    match predicate {
        ["test"] => Some(Only::Test),
        ["loom"] => Some(Only::Loom),
        ["all", "(", inner @ .., ")"] => {
            let parts: Vec<Option<Only>> = split(inner).into_iter().map(condition).collect();
            [Only::Test, Only::Loom]
                .into_iter()
                .find(|only| parts.contains(&Some(*only)))
        }
        ["any", "(", inner @ .., ")"] => {
            let parts: Vec<Option<Only>> = split(inner).into_iter().map(condition).collect();
            parts
                .first()
                .copied()
                .flatten()
                .filter(|first| parts.iter().all(|part| *part == Some(*first)))
        }
        _ => None,
    }
}

fn split<'a>(words: &'a [&'a str]) -> Vec<&'a [&'a str]> {
    let mut depth = 0;
    words
        .split(|word| {
            match *word {
                "(" => depth += 1,
                ")" => depth -= 1,
                _ => {}
            }
            depth == 0 && *word == ","
        })
        .filter(|part| !part.is_empty())
        .collect()
}

/// All paths that begin with `crate`, `super`, `self` or the name of a crate; those of `super` and `self` as seen
/// from the root.
fn paths(words: &[String], module: &str) -> Vec<String> {
    let mut found = Vec::new();
    // The module of this place in the file, and the depths of braces at which the inline ones end.
    let mut here: Vec<String> = if module == "lib" {
        Vec::new()
    } else {
        module.split("::").map(str::to_owned).collect()
    };
    let mut inline = Vec::new();
    let mut depth = 0_usize;
    let mut i = 0;
    while i < words.len() {
        match words[i].as_str() {
            "mod" if words.get(i + 2).is_some_and(|word| word == "{") => {
                here.push(words[i + 1].clone());
                inline.push(depth);
            }
            "{" => depth += 1,
            "}" => {
                depth = depth.saturating_sub(1);
                if inline.last() == Some(&depth) {
                    inline.pop();
                    here.pop();
                }
            }
            // `pub(crate)` and `pub(super)` are no paths; `pub(in crate::x)` is one.
            "crate" | "super" | "self" | "std" | "core" | "loom" | "libc" if is_start(words, i) => {
                let mut here = here.clone();
                let mut from = i;
                let mut root = words[i].clone();
                if root == "self" {
                    here.insert(0, "crate".to_owned());
                    root = here.join("::");
                } else if root == "super" {
                    here.pop();
                    while words.get(from + 1).is_some_and(|w| w == "::")
                        && words.get(from + 2).is_some_and(|w| w == "super")
                    {
                        here.pop();
                        from += 2;
                    }
                    here.insert(0, "crate".to_owned());
                    root = here.join("::");
                }
                expand(words, &mut (from + 1), root, &mut found);
            }
            _ => {}
        }
        i += 1;
    }
    found
}

/// Whether a path begins with this word.
fn is_start(words: &[String], i: usize) -> bool {
    let before = |n: usize| i.checked_sub(n).map_or("", |place| words[place].as_str());
    let continues = before(1) == "::"
        && !matches!(
            before(2),
            "" | ";" | "use" | "(" | "<" | "," | "=" | "{" | "}" | "&" | "!"
        );
    let is_path = words.get(i + 1).is_some_and(|word| word == "::");
    let is_import = matches!(before(1), "use" | "crate") && before(2) != "(" && words[i] != "crate";
    !continues && before(1) != "." && (is_path || is_import)
}

/// Follows a path from the word after its root to its end, and into groups.
fn expand(words: &[String], i: &mut usize, mut path: String, found: &mut Vec<String>) {
    while words.get(*i).is_some_and(|word| word == "::") {
        let next = words.get(*i + 1).map_or("", String::as_str);
        if next == "{" {
            *i += 2;
            while words.get(*i).is_some_and(|word| word != "}") {
                match words[*i].as_str() {
                    "," => *i += 1,
                    "as" => *i += 2,
                    "self" => {
                        found.push(path.clone());
                        *i += 1;
                    }
                    name => {
                        let inner = format!("{path}::{name}");
                        *i += 1;
                        expand(words, i, inner, found);
                    }
                }
            }
            *i += 1;
            return;
        }
        if !next.starts_with(|c: char| c == '_' || c == '*' || c.is_alphabetic()) {
            break;
        }
        path = format!("{path}::{next}");
        *i += 2;
    }
    found.push(path);
}

// ---- the scanner itself

fn scan(text: &str) -> Vec<String> {
    paths(&without_tests(&words(text)).0, "ordered::chunk")
}

#[test]
fn comments_and_literals_are_no_code() {
    assert_eq!(words("a // crate::x\nb /* super::y */ c"), ["a", "b", "c"]);
    assert_eq!(
        words(r#"a("crate::x \" crate::y") b"#),
        ["a", "(", ")", "b"]
    );
    assert_eq!(
        words("&'a str: a::b"),
        ["&", "a", "str", ":", "a", "::", "b"]
    );
    assert!(scan("/// [`x`](crate::stage::Stage)\nuse a::b;").is_empty());
}

#[test]
fn paths_are_found_wherever_they_stand() {
    assert_eq!(scan("use crate::a::b::C;"), ["crate::a::b::C"]);
    assert_eq!(
        scan("fn f() -> crate::a::B { crate::c::d() }"),
        ["crate::a::B", "crate::c::d"]
    );
    assert_eq!(
        scan("use crate::{a::{self, B}, c::*, d as e};"),
        ["crate::a", "crate::a::B", "crate::c::*", "crate::d"]
    );
    assert_eq!(
        scan("let x = crate::a::Vec::<u8>::new();"),
        ["crate::a::Vec"]
    );
    assert_eq!(
        scan("pub(crate) fn f(); pub(super) struct S; pub(in crate::ordered) mod m;"),
        ["crate::ordered"]
    );
    assert_eq!(
        scan("use ::std::sync::Arc; use std::{fmt, sync::Mutex};"),
        ["std::sync::Arc", "std::fmt", "std::sync::Mutex"]
    );
    assert_eq!(
        scan("use loom; extern crate libc; cfg!(loom); let libc = 1;"),
        ["loom", "libc"]
    );
    assert_eq!(scan("a::std::b(); x.crate_of(); my::libc::y"), [""; 0]);
}

#[test]
fn super_and_self_are_resolved_from_where_it_stands() {
    assert_eq!(
        scan("use super::core::Core; use self::parts::Part;"),
        [
            "crate::ordered::core::Core",
            "crate::ordered::chunk::parts::Part"
        ]
    );
    assert_eq!(scan("fn f(&self) { self.x(); Self::y() }"), [""; 0]);
    assert_eq!(
        scan("use super::super::stage::Stage;"),
        ["crate::stage::Stage"]
    );
    assert_eq!(
        scan("mod m { use super::x; fn f() { super::y() } } use super::z;"),
        [
            "crate::ordered::chunk::x",
            "crate::ordered::chunk::y",
            "crate::ordered::z"
        ]
    );
}

#[test]
fn modules_for_tests_are_left_out() {
    assert_eq!(
        scan("#[cfg(test)] mod tests { use crate::a; } use crate::b;"),
        ["crate::b"]
    );
    assert_eq!(
        scan("#[cfg(all(test, not(loom)))] mod tests { use crate::a; }"),
        [""; 0]
    );
    assert_eq!(
        scan("#[cfg(test)]\n#[allow(x)]\npub(crate) mod tests { use crate::a; }"),
        [""; 0]
    );
    // Not for tests only.
    assert_eq!(
        scan("#[cfg(not(test))] mod m { use crate::a; }"),
        ["crate::a"]
    );
    assert_eq!(
        scan("#[cfg(any(test, unix))] mod m { use crate::a; }"),
        ["crate::a"]
    );
    assert_eq!(scan("#[cfg(loom)] mod m { use loom::a; }"), ["loom::a"]);
    assert_eq!(
        scan("#[cfg(test)] use crate::a; mod m { use crate::b; }"),
        ["crate::a", "crate::b"]
    );
    let files = |text: &str| without_tests(&words(text)).1;
    assert_eq!(
        files("#[cfg(loom)] mod models; #[cfg(test)] mod t; mod real; #[cfg(unix)] mod u;"),
        ["models", "t"]
    );
}

#[test]
fn a_wrong_import_is_caught() {
    let file = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    let sources = Sources::of(vec![
        file(
            "lib",
            "pub use crate::stage::Stage; #[cfg(loom)] mod models;",
        ),
        file("models", "use loom::model;"),
        file("stage", "use crate::ordered::chunk::Chunk;"),
        file("ordered::reorder", "use super::core::Core;"),
        file(
            "ordered::chunk",
            "use crate::Stage; use crate::runtime::barrier::light; use std::thread::panicking;",
        ),
        file("runtime::barrier", "use libc::syscall;"),
        file(
            "runtime::lease",
            "use crate::ordered::core::Core; use std::thread::spawn;",
        ),
        file(
            "ordered::core",
            "use crate::stage::Stage; use crate::sync::Arc;",
        ),
        file(
            "sync",
            "use crate::runtime::lease::{Stop, Crew}; use std::sync::Arc;",
        ),
        file(
            "par::map",
            "use crate::par::filter::Filter; use crate::par::job::Job;",
        ),
        file("par::filter", "use std::sync::Arc;"),
        file("par::job", ""),
    ]);
    let wrong: Vec<String> = sources
        .modules
        .iter()
        .flat_map(|module| {
            module
                .paths
                .iter()
                .filter_map(|path| judge(&sources, &module.name, path))
        })
        .map(|wrong| wrong.trim().to_owned())
        .collect();
    assert_eq!(
        wrong,
        [
            "ordered::chunk imports crate::Stage",
            "runtime::lease imports crate::ordered::core::Core",
            "runtime::lease names std::thread::spawn: std::thread is for sync alone",
            "ordered::core imports crate::stage::Stage",
            "sync imports crate::runtime::lease::Stop",
            "sync imports crate::runtime::lease::Crew",
            "par::map imports crate::par::filter::Filter",
            "par::filter names std::sync::Arc: std::sync is for sync alone",
        ]
    );
}

#[test]
fn names_are_taken_out_of_prose() {
    let prose = "a `Desk::wake` b `n` + 1 `run.rs`, `tests/x` and `Slot::<T>::Done(1)`";
    assert_eq!(
        names(prose).collect::<Vec<_>>(),
        ["Desk", "wake", "n", "Slot", "T", "Done"]
    );
}

#[test]
fn a_cycle_is_found() {
    let edges = [("a", "b"), ("b", "c"), ("c", "b"), ("c", "d")];
    let mut map: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (from, to) in edges {
        map.entry(from.to_owned())
            .or_default()
            .insert(to.to_owned());
    }
    assert_eq!(
        cycles(&map),
        [BTreeSet::from(["b".to_owned(), "c".to_owned()])]
    );
}

// ---- the tests themselves

/// cargo does not look for programs in `tests`, so a file that no program names would never run. And the folders of a
/// program are a map: each is called like that of `src` whose behaviour its files are about.
#[test]
fn every_file_of_tests_is_a_program_or_a_module_of_one() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = fs::read_to_string(root.join("Cargo.toml")).expect("Cargo.toml");
    let mut files = Vec::new();
    collect(&root.join("tests"), "", &mut files);
    let mut files: BTreeMap<String, String> = files.into_iter().collect();
    // What all share, and the programs that a compiler is started for.
    files.retain(|name, _| !["support", "ui", "ui_good"].contains(&floor(name)));
    assert!(files.len() > 40, "only {} files are seen", files.len());
    for program in manifest.split("[[test]]\nname = \"").skip(1) {
        let program = program.split('"').next().expect("a name");
        let main = format!("{program}::main");
        if files.remove(program).is_some() {
            continue; // a program of one file
        }
        let source = files.remove(&main);
        let source = source.unwrap_or_else(|| panic!("{program} is not in tests"));
        let mut here = vec![program];
        for line in source.lines().map(str::trim) {
            if let Some(module) = line.strip_prefix("mod ") {
                if let Some(folder) = module.strip_suffix(" {") {
                    assert!(is_floor(folder), "{program} has {folder}, and src has not");
                    here.push(folder);
                } else if module != "support;" {
                    let name = format!("{}::{}", here.join("::"), module.trim_end_matches(';'));
                    assert!(files.remove(&name).is_some(), "there is no {name}");
                }
            } else if line == "}" {
                here.pop();
            }
        }
    }
    let left: Vec<&String> = files.keys().collect();
    assert!(left.is_empty(), "nothing runs {left:?}");
}

fn is_floor(name: &str) -> bool {
    FLOORS.iter().any(|(floor, _)| *floor == name)
}
