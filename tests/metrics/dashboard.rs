//! `docs/grafana-fanfold.json` asks for what is published: each name, label and value in its queries is there, and each name
//! is in some panel.

use crate::publish_one;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

const DASHBOARD: &str = include_str!("../../docs/grafana-fanfold.json");

/// The words of `PromQL` that the dashboard may use. Any other one is a name or a label, or a typing error.
const KEYWORDS: &[&str] = &["sum", "max", "rate", "by", "ignoring", "group_left"];

/// Grafana's name for a time that spans a few scrapes.
const RANGE: &str = "[$__rate_interval]";

/// The labels of each name, with their values.
type Families = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// What is published of a stage.
fn families() -> Families {
    let mut families = Families::new();
    for series in publish_one("one").into_keys() {
        let (name, labels) = series.split_once('{').expect("a label");
        let family = families.entry(name.to_owned()).or_default();
        for label in labels.trim_end_matches('}').split(',') {
            let (label, value) = label.split_once('=').expect("a value");
            let values = family.entry(label.to_owned()).or_default();
            values.insert(value.trim_matches('"').to_owned());
        }
    }
    families
}

fn is_word(c: char) -> bool {
    c == '_' || c == ':' || c.is_alphanumeric()
}

/// The words outside of braces.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c| !is_word(c)).filter(|word| !word.is_empty())
}

/// What a query names, of which everything must exist. Gives the names.
fn check(families: &Families, query: &str) -> BTreeSet<String> {
    let query = query.replace(RANGE, "");
    let mut rest = &query[..];
    let mut outside = String::new();
    let mut names = BTreeSet::new();
    while let Some((before, after)) = rest.split_once('{') {
        let (matchers, after) = after.split_once('}').expect("a brace is closed");
        let name = words(before).last().expect("a name");
        let labels = families.get(name);
        let labels = labels.unwrap_or_else(|| panic!("no such metric: {name}"));
        for matcher in matchers.split(", ") {
            check_matcher(labels, matcher);
        }
        names.insert(name.to_owned());
        outside.push_str(before.strip_suffix(name).expect("right before the brace"));
        rest = after;
    }
    outside.push_str(rest);
    assert!(!names.is_empty(), "{query} has no metric in it");
    let brackets = ['(', ')'].map(|bracket| outside.matches(bracket).count());
    assert_eq!(brackets[0], brackets[1], "{query}");
    for word in words(&outside).filter(|word| !KEYWORDS.contains(word)) {
        let has = |name: &String| families[name].contains_key(word);
        assert!(names.iter().any(has), "{word} in {query}");
    }
    names
}

/// `label="value"`, or with another operator.
fn check_matcher(labels: &BTreeMap<String, BTreeSet<String>>, matcher: &str) {
    let (label, value) = matcher.split_once(['=', '!']).expect("an operator");
    let (_, value) = value.split_once('"').expect("a value");
    let value = value.strip_suffix('"').expect("its end");
    if label == "stage" {
        assert_eq!(value, "$stage", "{matcher}");
        return;
    }
    let values = labels.get(label);
    let values = values.unwrap_or_else(|| panic!("no such label: {matcher}"));
    let has = |value: &str| values.contains(value);
    assert!(value.split('|').all(has), "no such value: {matcher}");
}

fn dashboard() -> Value {
    serde_json::from_str(DASHBOARD).expect("it is JSON")
}

fn items(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

#[test]
fn the_dashboard_uses_every_name_and_no_other() {
    let dashboard = dashboard();
    let families = families();
    let mut used = BTreeSet::new();
    for panel in items(&dashboard["panels"]) {
        assert!(!text(&panel["title"]).is_empty());
        for target in items(&panel["targets"]) {
            let query = text(&target["expr"]);
            used.extend(check(&families, query));
            assert!(
                query.contains(r#"stage=~"$stage""#),
                "not of the chosen stages: {query}"
            );
            // Only what the sums keep is there for the legend.
            let (_, by) = query.split_once(" by (").expect("a sum, or the largest");
            let (by, _) = by.split_once(')').expect("its end");
            for label in text(&target["legendFormat"]).split("{{").skip(1) {
                let (label, _) = label.split_once("}}").expect("its end");
                assert!(
                    by.split(", ").any(|kept| kept == label),
                    "{label} for {query}"
                );
            }
        }
    }
    let all: BTreeSet<_> = families.into_keys().collect();
    assert_eq!(used, all, "every metric is to be in some panel");
}

#[test]
fn the_dashboard_can_be_imported() {
    let dashboard = dashboard();
    assert!(dashboard["schemaVersion"].as_u64() >= Some(36));
    assert!(
        dashboard["id"].is_null(),
        "an identity belongs to one server"
    );
    assert_eq!(dashboard["title"], "fanfold");
    let variables = items(&dashboard["templating"]["list"]);
    let [source, stage] = variables else {
        panic!("two variables, and not {}", variables.len());
    };
    let of = |variable: &Value| ["name", "type"].map(|key| text(&variable[key]).to_owned());
    assert_eq!(of(source), ["datasource", "datasource"]);
    assert_eq!(source["query"], "prometheus");
    assert_eq!(of(stage), ["stage", "query"]);
    let query = text(&stage["query"]["query"]);
    assert_eq!(stage["definition"], query);
    let name = query.strip_prefix("label_values(");
    let name = name.and_then(|rest| rest.strip_suffix(", stage)"));
    let name = name.unwrap_or_else(|| panic!("not the values of a label: {query}"));
    assert!(families().contains_key(name), "{query}");

    let mut ids = BTreeSet::new();
    for panel in items(&dashboard["panels"]) {
        assert!(
            ids.insert(panel["id"].as_u64()),
            "two panels have one number"
        );
        assert!(panel["repeat"].is_null() || panel["repeat"] == "stage");
        let place = &panel["gridPos"];
        let [x, w] = ["x", "w"].map(|side| place[side].as_u64().expect("a number"));
        assert!(x + w <= 24, "{place}");
        let targets = items(&panel["targets"])
            .iter()
            .map(|target| &target["datasource"]);
        for source in targets.chain([&panel["datasource"], &stage["datasource"]]) {
            assert_eq!(source["uid"], "${datasource}", "a server's own source");
        }
    }
}

/// What [`check`] would find.
#[test]
fn a_wrong_query_is_found() {
    let right = [
        r#"sum by (stage) (rate(fanfold_stage_items_total{stage=~"$stage", outcome="failed|yielded"}[$__rate_interval]))"#,
        r#"sum by (stage, state) (fanfold_stage_in_flight{stage=~"$stage", state!="parked"})"#,
    ];
    let families = families();
    for query in right {
        check(&families, query);
    }
    for query in [
        r#"fanfold_stage_item_total{stage=~"$stage"}"#,
        r#"fanfold_stage_items_total{stage=~"$stage", state="run"}"#,
        r#"fanfold_stage_items_total{stage=~"$stage", outcome="lost"}"#,
        r#"fanfold_stage_items_total{stage="fetch"}"#,
        r#"sum by (outcome) (fanfold_stage_in_flight{stage=~"$stage"})"#,
        r#"rates(fanfold_stage_items_total{stage=~"$stage"}[$__rate_interval])"#,
        r#"sum(fanfold_stage_workers{stage=~"$stage"}"#,
        r"fanfold_stage_workers",
    ] {
        let is_found = std::panic::catch_unwind(|| check(&families, query)).is_err();
        assert!(is_found, "{query}");
    }
}
