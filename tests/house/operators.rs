//! `docs/operators.md` keeps up with the code: its examples run as doctests, and these tests show that
//! nothing is left out.

const PAGE: &str = include_str!("../../docs/operators.md");

/// Operators without a section of their own; another section describes them.
const TOLD_WITH: &[(&str, &str)] = &[
    ("broadcast_into", "broadcast"),
    ("group_all", "group"),
    ("group_with", "group"),
    ("finish", "push_map_ordered"),
    ("is_cut_short", "cancel_on"),
    ("par_map_by_key_init", "par_map_by_key"),
    ("parallel_map_with", "parallel_map"),
    ("push", "push_map_ordered"),
    ("replica", "hedge"),
    ("route_into", "route"),
    ("scope", "within"),
    ("tee_into", "broadcast"),
    ("partition_into", "partition_readers"),
    ("try_par_filter_map", "try_par_filter"),
    ("try_par_for_each", "par_for_each"),
    ("try_par_map_by_key", "par_map_by_key"),
    ("try_par_map_unordered", "try_par_map_ordered"),
    ("try_next", "push_map_ordered"),
    ("try_push", "push_map_ordered"),
    ("try_push_map_ordered", "push_map_ordered"),
];

/// The pieces between fences, with their language, and the text between those.
fn pieces() -> impl Iterator<Item = (&'static str, &'static str)> {
    let pieces = PAGE.split("```").enumerate();
    pieces.map(|(number, piece)| match number % 2 {
        0 => ("prose", piece),
        _ => piece.split_once('\n').expect("a language and the code"),
    })
}

fn headings() -> Vec<&'static str> {
    let prose = pieces().filter(|(kind, _)| *kind == "prose");
    let lines = prose.flat_map(|(_, text)| text.lines());
    lines.filter(|line| line.starts_with('#')).collect()
}

/// The anchor of this heading.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = |c: &char| c.is_alphanumeric() || "_- ".contains(*c);
    text.chars()
        .filter(kept)
        .collect::<String>()
        .replace(' ', "-")
}

/// From this heading to the next.
fn section(heading: &str) -> Option<&'static str> {
    let (_, rest) = PAGE.split_once(&format!("\n{heading}\n"))?;
    let mut headings = headings().into_iter();
    headings.find(|other| *other == heading)?;
    match headings.next() {
        Some(next) => rest.split_once(&format!("\n{next}\n")).map(|(it, _)| it),
        None => Some(rest),
    }
}

fn name(declared: &'static str) -> &'static str {
    let end = declared.find(|c: char| !c.is_alphanumeric() && c != '_');
    &declared[..end.expect("parameters")]
}

/// The methods on iterators, the options of stages, and the functions.
fn operators() -> Vec<&'static str> {
    let methods = include_str!("../../src/fanfold.rs").lines();
    let methods = methods.filter_map(|line| line.strip_prefix("    fn "));
    let stage = [
        include_str!("../../src/stage/base.rs"),
        include_str!("../../src/stage/options.rs"),
        include_str!("../../src/stage/push.rs"),
        include_str!("../../src/stage/scoped.rs"),
    ];
    let options = stage.into_iter().flat_map(str::lines);
    let options = options.filter_map(|line| line.strip_prefix("    pub fn "));
    let exports = include_str!("../../src/lib.rs").split("pub use ").skip(1);
    let exports = exports.filter_map(|export| export.split_once(';')?.0.rsplit("::").next());
    let words = exports.flat_map(|names| names.split(|c: char| !c.is_alphanumeric() && c != '_'));
    let functions = words.filter(|word| word.starts_with(char::is_lowercase));
    methods.chain(options).map(name).chain(functions).collect()
}

#[test]
fn each_operator_has_a_drawing_and_an_example() {
    let operators = operators();
    for known in [
        "par_map_unordered",
        "throttle",
        "in_flight",
        "within",
        "merge",
        "scope",
    ] {
        assert!(operators.contains(&known), "{known} is not seen");
    }
    for operator in operators {
        let with = TOLD_WITH.iter().find(|(other, _)| *other == operator);
        let owner = with.map_or(operator, |(_, owner)| owner);
        let section = section(&format!("### `{owner}`"))
            .unwrap_or_else(|| panic!("no section for {operator}"));
        assert!(section.contains(operator), "{operator} is not named there");
        let whole = section.contains("```text\n") && section.contains("```rust\n");
        assert!(whole, "{operator} lacks a drawing or an example");
    }
}

#[test]
fn each_replacement_of_a_go_pattern_is_run() {
    fn bare(code: &str) -> String {
        code.chars().filter(|c| !c.is_whitespace()).collect()
    }
    let examples = pieces().filter(|(kind, _)| *kind == "rust");
    let examples: Vec<String> = examples.map(|(_, code)| bare(code)).collect();
    let table = section("## From Go").expect("the table");
    let mut seen = 0;
    for row in table.lines().filter(|line| line.starts_with("| [")) {
        let row = row.replace("\\|", "¦");
        let cells: Vec<&str> = row.split('|').collect();
        let [_, pattern, here, _] = cells[..] else {
            panic!("not two cells: {row}");
        };
        let pattern = pattern.split_inclusive(']').next().expect("a link").trim();
        assert!(
            table.contains(&format!("\n{pattern}: #")),
            "{pattern} leads nowhere"
        );
        for code in here.split('`').skip(1).step_by(2) {
            seen += 1;
            let code = bare(&code.replace('¦', "|"));
            let code = code.split("..").next().expect("a beginning");
            let run = examples.iter().any(|example| example.contains(code));
            assert!(run, "not in an example: {code}");
        }
    }
    assert!(seen >= 15, "only {seen} lines are seen");
}

#[test]
fn every_link_leads_to_a_heading() {
    let anchors: Vec<String> = headings().into_iter().map(anchor).collect();
    let inline = PAGE.split("](#").skip(1).map(|rest| rest.split(')').next());
    let below = PAGE.split("]: #").skip(1).map(|rest| rest.lines().next());
    let links: Vec<&str> = inline.chain(below).flatten().collect();
    assert!(links.len() > 60, "only {} links are seen", links.len());
    for link in links {
        assert!(
            anchors.iter().any(|anchor| anchor == link),
            "#{link} leads nowhere"
        );
    }
}
