//! The sample configuration, the manual and README name the same keys, and README the same
//! defaults. Whether the sample is what the agent takes, the tests of `config` show.
#![allow(clippy::expect_used, reason = "a test ends by panicking")]

use std::collections::BTreeMap;

const SAMPLE: &str = include_str!("../../packaging/config.toml");
const MANUAL: &str = include_str!("../man/vmconsole-agent.8");
const README: &str = include_str!("../../README.md");

/// What README shows in place of the default of a key that has none.
const NO_DEFAULT: &str = "must be set";

/// Each key of the sample, dotted, with its default.
fn sample() -> BTreeMap<String, String> {
    let mut table = "";
    let mut keys = BTreeMap::new();
    for line in SAMPLE.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|it| it.strip_suffix(']')) {
            table = name;
        } else if let Some((key, value)) = line.split_once(" = ") {
            let bare = key.trim_start_matches('#');
            let is_key = bare.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            let default = if bare == key { NO_DEFAULT } else { value };
            if is_key {
                keys.insert(format!("{table}.{bare}"), default.to_owned());
            }
        }
    }
    keys
}

/// Each key of the manual: an item of a subsection that is named for a table.
fn manual() -> Vec<String> {
    let mut table = None;
    let mut keys = Vec::new();
    for line in MANUAL.lines() {
        if line.starts_with(".Sh ") {
            table = None;
        } else if let Some(name) = line.strip_prefix(".Ss [") {
            table = name.strip_suffix(']');
        } else if let (Some(table), Some(key)) = (table, line.strip_prefix(".It Cm ")) {
            keys.push(format!("{table}.{key}"));
        }
    }
    keys.sort();
    keys
}

/// Each row of the table in README's section on the configuration: key and default.
fn readme() -> BTreeMap<String, String> {
    let (_, section) = README
        .split_once("\n## Configuration\n")
        .expect("README has a section on the configuration");
    let section = section
        .split("\n## ")
        .next()
        .expect("there is a first part");
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let mut cells = row.split('|').skip(1);
        let mut cell = || {
            let text = cells.next().expect("a row has its cells").trim();
            text.trim_matches('`').to_owned()
        };
        (cell(), cell())
    })
    .collect()
}

#[test]
fn the_manual_has_every_key_once_and_no_other() {
    let keys: Vec<String> = sample().into_keys().collect();
    assert!(keys.len() > 10, "the sample was read wrongly: {keys:?}");
    assert_eq!(manual(), keys);
}

#[test]
fn readme_has_every_key_with_its_default_and_no_other() {
    assert_eq!(readme(), sample());
}

#[test]
fn the_manual_tells_each_default() {
    for (key, default) in sample() {
        let (table, name) = key.split_once('.').expect("a key is dotted");
        let (_, section) = MANUAL
            .split_once(&format!("\n.Ss [{table}]\n"))
            .expect("there is a subsection for each table");
        let (_, item) = section
            .split_once(&format!(".It Cm {name}\n"))
            .expect("there is an item for each key");
        let ends = [".It ", ".El"]
            .into_iter()
            .filter_map(|mark| item.find(mark));
        let end = ends.min().expect("it ends");
        let item = item[..end].to_lowercase();
        let told = default.trim_matches('"').to_lowercase();
        assert!(item.contains(&told), "{key}: {told} is not in: {item}");
        let marked = item.contains("default") || default == NO_DEFAULT;
        assert!(marked, "{key}: the manual does not call it the default");
    }
}
