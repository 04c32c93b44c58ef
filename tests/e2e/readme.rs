//! The clients that README shows are the files that other tests run, word for word.

use crate::peers::repository;

/// The first block of README in this language.
fn block(language: &str) -> String {
    let readme = std::fs::read_to_string(repository("README.md")).unwrap();
    let (_, rest) = readme.split_once(&format!("\n```{language}\n")).unwrap();
    rest.split_once("\n```\n").unwrap().0.to_owned() + "\n"
}

/// The file without what README says in its own words: the text at its head, and hints to
/// the formatter.
fn body(path: &str, head_ends: &str) -> String {
    let file = std::fs::read_to_string(repository(path)).unwrap();
    let (_, body) = file.split_once(head_ends).unwrap();
    let lines = body
        .lines()
        .filter(|line| line.trim() != "#[rustfmt::skip]");
    lines.map(|line| format!("{line}\n")).collect()
}

#[test]
fn the_first_clients_of_the_readme_are_those_that_are_tested() {
    let python = body("tests/python/console.py", "proto\n\"\"\"\n");
    assert_eq!(block("python"), python);
    let rust = body("tests/examples/first_client.rs", "VM LINE`\n");
    assert_eq!(block("rust"), rust);
    assert!(python.len() > 1000 && rust.len() > 1000);
}
