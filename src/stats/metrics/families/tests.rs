use super::*;
use std::collections::BTreeSet;

/// The table in the documentation has a row for each name, with its labels and their values.
#[test]
fn the_documentation_has_every_name() {
    let docs = include_str!("../../metrics.rs");
    let rows: Vec<_> = docs
        .lines()
        .filter_map(|line| line.strip_prefix("/// | `fanfold_"))
        .map(|row| row.split('|').map(str::trim).collect::<Vec<_>>())
        .filter(|row| !row[2].starts_with("a histogram"))
        .collect();
    assert_eq!(rows.len(), FAMILIES.len());
    for (row, family) in rows.iter().zip(FAMILIES) {
        let values: Vec<_> = family
            .series
            .iter()
            .map(|(value, _)| format!("`{value}`"))
            .collect();
        let label = family
            .label
            .map(|label| format!("`{label}`: {}", values.join(", ")));
        let name = family.name.strip_prefix("fanfold_").expect("ours");
        assert_eq!(row[0], format!("{name}`"));
        assert_eq!(row[1], label.unwrap_or_default(), "of {name}");
    }
}

#[test]
fn names_are_those_that_prometheus_wants() {
    let names: BTreeSet<_> = FAMILIES.iter().map(|family| family.name).collect();
    assert_eq!(names.len(), FAMILIES.len(), "a name has two families");
    for Family {
        name,
        kind,
        label,
        series,
        ..
    } in FAMILIES
    {
        let is_plain = |c: char| c == '_' || c.is_ascii_lowercase();
        assert!(name.chars().all(is_plain), "{name}");
        match kind {
            Kind::Count => assert!(
                name.ends_with("_total") && !name.contains("seconds"),
                "{name}"
            ),
            Kind::Seconds => assert!(name.ends_with("_seconds_total"), "{name}"),
            Kind::Now => assert!(!name.ends_with("_total"), "{name}"),
        }
        assert!(
            label.is_some() || series.len() == 1,
            "{name}: what tells them apart?"
        );
        assert_ne!(*label, Some(STAGE));
        let values: BTreeSet<_> = series.iter().map(|(value, _)| value).collect();
        assert_eq!(values.len(), series.len(), "{name}: a value is there twice");
        assert!(
            series
                .iter()
                .all(|(value, _)| value.is_empty() == label.is_none())
        );
    }
}
